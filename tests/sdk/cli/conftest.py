"""What the tests of the command share: photographs, a map of them by the real model, and ways to run it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_runs import NUM_PHOTOS, Done, Refused, Run
from pictures import write_pictures

import sdk
from sdk.cli import main

MODEL_PATH = Path(__file__).parents[3] / "models" / "efficientnet-lite0-gem.onnx"


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process; captures what native code prints, too."""

    def call(*words: object) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        code = caught.value.code
        assert isinstance(code, int)
        return Done(code, *capfd.readouterr())

    return call


@pytest.fixture
def refused(run: Run) -> Refused:
    """Run a command that must end in one sentence and exit code 2; gives the sentence."""

    def call(*words: object) -> str:
        done = run(*words)
        assert done.code == 2, done
        assert done.err.startswith("structvpr: "), done.err
        assert done.err.count("\n") == 1, done.err
        assert "Traceback" not in done.err
        assert re.search("expected|; ", done.err)  # what is allowed, or what to do
        return done.err

    return call


@pytest.fixture(scope="session")
def model() -> Path:
    return MODEL_PATH


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs, 100 m apart along x, with a places.csv. Not to be changed."""
    folder = tmp_path_factory.mktemp("photos")
    names = [f"{i}.png" for i in range(NUM_PHOTOS)]
    write_pictures(folder, names)
    rows = "".join(f"{name},{100 * i},0\n" for i, name in enumerate(names))
    (folder / "places.csv").write_text("image,x_m,y_m\n" + rows)
    return folder


@pytest.fixture(scope="session")
def session_map(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("map") / "campus.places"
    with sdk.Localizer(model, path, create=True) as localizer:
        assert localizer.build(sdk.open_source(photos)) == NUM_PHOTOS
    return path


@pytest.fixture
def campus(session_map: Path, tmp_path: Path) -> Path:
    """A map of the photographs, of this test's own, in an otherwise empty folder."""
    folder = tmp_path / "map"
    folder.mkdir()
    for file in session_map.parent.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder / session_map.name
