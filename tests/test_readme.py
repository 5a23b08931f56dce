"""What the documents say is true: snippets run, links lead somewhere, make targets exist."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from pathlib import Path

import cv2
import pytest
import typer

from sdk.cli import app, main
from training.world import DAY, DUSK, World, traverse, write_traverse

ROOT = Path(__file__).parent.parent
NAMES = ("search", "datasets", "training", "ablation", "engines", "jetson", "photographs", "precision", "runtimes")
PAGES = [f"docs/{name}.md" for name in NAMES]
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "models/README.md", *PAGES]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, with the file names that the README uses."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copy(ROOT / "models" / "efficientnet-lite0-gem.onnx", folder / "model.onnx")
    world = World(seed=3, length_m=40.0)
    write_traverse(folder / "photos", world, traverse(40.0, 5.0, seed=0), DAY, traverse_seed=0)
    frames = [cv2.imread(str(path)) for path in sorted((folder / "photos").glob("*.png"))]
    cv2.imwrite(str(folder / "frame.jpg"), frames[2])
    video = cv2.VideoWriter(str(folder / "drive.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 2.0, (320, 240))
    for frame in frames:
        video.write(frame)
    video.release()

    for name, conditions in (("database", DAY), ("queries", DUSK)):
        write_traverse(folder / "test" / name, world, traverse(40.0, 5.0, seed=1), conditions, traverse_seed=1)
    data = folder / "data" / "gardens_point"
    shutil.copytree(folder / "test" / "database", data / "database", ignore=shutil.ignore_patterns("*.csv"))
    shutil.copytree(folder / "test" / "queries", data / "query_dusk", ignore=shutil.ignore_patterns("*.csv"))
    with (data / "ground_truth.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["query_set", "query", "db", "db_first_ok", "db_last_ok"])
        rows.writerows(["query_dusk", f"{i:04d}.png", f"{i:04d}.png", f"{i:04d}.png", f"{i:04d}.png"] for i in range(8))
    return folder


def test_commands_of_the_readme_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("STRUCTVPR_DATA", str(folder / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    commands = [
        shlex.split(line, comments=True)
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("structvpr ")
    ]
    assert len(commands) >= 10
    for _, *words in commands:
        if ">" in words:
            words = words[: words.index(">")]
        main(words, exit_when_done=False)
        assert capsys.readouterr().out.strip(), words
    assert (folder / "copy.places").is_file()


def test_python_of_the_readme_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    if not (folder / "campus.places").exists():
        main(["map", "build", "model.onnx", "photos", "campus.places"], exit_when_done=False)
        capsys.readouterr()
    first, second = blocks("python")
    exec(compile(first, "README.md", "exec"), {})
    assert re.match(r"\S+ m \(10\.0, .*\) (0\.99|1\.0)", capsys.readouterr().out)  # frame.jpg is the third, at 10 m
    exec(compile(second, "README.md", "exec"), {})
    assert capsys.readouterr().out == "1 gate\n"


def test_six_lines_are_six() -> None:
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 6


@pytest.mark.parametrize("document", ["README.md", "docs/training.md", "docs/ablation.md", "docs/jetson.md"])
def test_commands_are_understood(document: str) -> None:
    """Those that take long, too: their verbs and options exist."""
    text = (ROOT / document).read_text()
    code = "\n".join(re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    commands = [line for line in code.splitlines() if re.match(r"structvpr |torchrun .* -m training ", line)]
    assert len(commands) >= 3
    for line in commands:
        words = shlex.split(re.sub(r"^torchrun .* -m training", "structvpr train", line), comments=True)[1:]
        words = words[: words.index(">")] if ">" in words else words
        command, context = typer.main.get_command(app), None
        while hasattr(command, "resolve_command"):
            context = command.context_class(command, parent=context)
            _, command, words = command.resolve_command(context, words)
            assert command is not None
        command.make_context(line, list(words), parent=context)  # raises at an option that there is not


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_targets_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / document).parent.joinpath(link).exists(), link
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"`((?:csrc|sdk|training|export|benchmarks|tests)/[\w/]+(?:\.\w+)?)/?`", text):
        assert list(ROOT.glob(f"{path}*")), path
