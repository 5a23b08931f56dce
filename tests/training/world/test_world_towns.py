"""The data set of towns on disk: the same bytes however it came to be, whole or not there, splits by town."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import subprocess
import sys
from collections import Counter, defaultdict
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import sdk
from training.cli.world import world_command
from training.world import Pose, View, towns
from training.world.conditions import Conditions
from training.world.drives import CONDITIONS, draw_queries
from training.world.towns import COLUMNS, Plan, PlanError, write_towns

ROOT = Path(__file__).parents[3]
SMALL = Plan(
    frames=1, seed=3, height=48, width=64, streets_per_town=1, street_length_m=6.0, queries_per_street=2, spacing_m=3.0
)
TWO_STREETS = replace(SMALL, streets_per_town=2, street_length_m=30.0)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "places.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Painted:
    """In place of a `World` where it matters that files are written, and not what is on them."""

    def __init__(self, seed: int, length_m: float, kind: str):
        self.seed = seed

    def render(self, pose: Pose, conditions: Conditions, *, height: int, width: int, **figures: float) -> View:
        tone = (self.seed + round(100.0 * pose.x_m) + len(conditions.name)) % 251
        return View(np.full((height, width, 3), tone, np.uint8), np.full((height, width), tone % 19, np.uint8))


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A set of `TWO_STREETS`, written by a world that costs nothing; further sets of the test come from it too."""
    monkeypatch.setattr(towns, "World", Painted)
    write_towns(tmp_path / "painted", TWO_STREETS, processes=1)
    return tmp_path / "painted"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towns") / "set"
    calls: list[tuple[int, int]] = []
    write_towns(folder, SMALL, processes=1, progress=lambda done, of: calls.append((done, of)))
    assert calls[-1] == (SMALL.total_frames, SMALL.total_frames)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    return folder


def test_the_table_names_every_file_and_no_other(written: Path) -> None:
    rows = read_rows(written)
    assert (written / "places.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    assert ",".join(COLUMNS) == ("image,x_m,y_m,z_m,heading_deg,timestamp_s,name,traverse,region,split")
    assert len(rows) == SMALL.total_frames == 3 * 1 * 3 * 2
    images = {row["image"] for row in rows}
    labels = {image.replace("images/", "labels/", 1).replace(".jpg", ".png") for image in images}
    assert set(contents(written)) == images | labels | {"places.csv", "world.json", "labels/labels.json"}
    assert json.loads((written / "labels" / "labels.json").read_text()) == {"label_set": "cityscapes19"}
    for image in sorted(images)[::7]:
        assert cv2.imread(str(written / image)).shape == (48, 64, 3)
        path = written / image.replace("images/", "labels/", 1).replace(".jpg", ".png")
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert (ids.shape, ids.dtype) == ((48, 64), np.uint8)
        assert set(np.unique(ids).tolist()) <= {*range(19), 255}


def test_a_split_has_whole_towns_and_a_town_one_split(written: Path) -> None:
    split_of = defaultdict(set)
    for row in read_rows(written):
        split_of[row["region"]].add(row["split"])
    assert sorted(next(iter(splits)) for splits in split_of.values()) == ["test", "train", "val"]
    assert all(len(splits) == 1 for splits in split_of.values())
    many = Plan(frames=20000)
    assert (many.towns, many.total_frames) == (20, 20000)
    assert Counter(many.splits()) == {"train": 16, "val": 2, "test": 2}
    assert many.splits() != Plan(frames=20000, seed=1).splits()


def test_streets_of_a_town_are_far_apart_and_drives_of_a_street_meet(painted: Path) -> None:
    places = defaultdict(list)
    for row in read_rows(painted):
        street = row["image"].split("/")[2]
        places[row["region"], street, row["traverse"]].append((float(row["x_m"]), float(row["y_m"])))
    for (region, street, traverse), points in places.items():
        assert len(points) == 10
        reference = np.array(places[region, street, "reference"])
        apart = np.linalg.norm(np.array(points)[:, np.newaxis] - reference, axis=2)
        assert apart.min(axis=1).max() < 5.0, traverse
        for (other_region, other_street, _), others in places.items():
            if other_region == region and other_street != street:
                assert np.linalg.norm(np.array(points)[:, np.newaxis] - others, axis=2).min() > 200.0
    names = Counter(traverse for _, _, traverse in places)
    assert names["reference"] == 6
    assert {name.rpartition("-")[0] for name in names if name != "reference"} <= set(CONDITIONS)


def test_processes_make_no_difference(written: Path, tmp_path: Path) -> None:
    # A process of its own, as the command is one, and as `spawn` wants it.
    figures = {name: getattr(SMALL, name) for name in SMALL.__dataclass_fields__}
    code = (
        "from pathlib import Path\n"
        "from training.world.towns import Plan, write_towns\n"
        "if __name__ == '__main__':\n"
        f"    write_towns(Path({str(tmp_path / 'set')!r}), Plan(**{figures!r}), processes=2)\n"
    )
    script = tmp_path / "write.py"
    script.write_text(code)
    subprocess.run([sys.executable, script], cwd=ROOT, check=True, timeout=300, env={"PYTHONPATH": str(ROOT)})
    assert contents(tmp_path / "set") == contents(written)


def test_an_interrupted_set_goes_on_and_comes_out_the_same(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, total = tmp_path / "set", TWO_STREETS.total_frames

    def interrupt(done: int, of: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_towns(folder, TWO_STREETS, processes=1, progress=interrupt)
    assert not (folder / "places.csv").exists()
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    assert total // 2 < len(kept) < total
    sacrificed = sorted(kept)[4]
    sacrificed.write_bytes(b"")  # as a power cut may leave it
    written_again = []
    whole = towns._write_whole
    monkeypatch.setattr(towns, "_write_whole", lambda path, data: (written_again.append(path), whole(path, data))[1])
    write_towns(folder, TWO_STREETS, processes=1)
    assert contents(folder) == contents(painted)
    rewritten = [path for path in written_again if path in kept]
    assert rewritten == [sacrificed]


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(towns, "World", Painted)
    folder, real = tmp_path / "set", Path.write_bytes
    count = 0

    def write_bytes(path: Path, data: bytes) -> int:
        nonlocal count
        count += 1
        if count > 9:
            real(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OSError, match=r"No space left on device; .*free disk space, and run it again") as raised:
        write_towns(folder, SMALL, processes=1)
    assert raised.value.errno == errno.ENOSPC
    assert not (folder / "places.csv").exists()
    assert not list(folder.rglob("*.partial"))
    monkeypatch.undo()
    for path in folder.rglob("*.jpg"):
        assert cv2.imread(str(path)) is not None


def test_a_folder_of_something_else_is_left_alone(written: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"holds files and no world\.json, expected an empty folder"):
        write_towns(tmp_path, SMALL, processes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    before = contents(written)
    with pytest.raises(ValueError, match=r"world\.json has the figures .*choose another folder"):
        write_towns(written, Plan(seed=99), processes=1)
    assert contents(written) == before
    (tmp_path / "world.json").write_bytes(b"\xff")
    with pytest.raises(PlanError, match=r"world\.json is not readable"):
        write_towns(tmp_path, SMALL, processes=1)


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("a file")
    with pytest.raises(OSError, match=r"is not whole: .*name a folder that can be written"):
        write_towns(tmp_path / "set", SMALL, processes=1)


def test_figures_out_of_range_are_refused(tmp_path: Path) -> None:
    for name, value in (("frames", 0), ("seed", -1), ("height", 8), ("streets_per_town", 0), ("queries_per_street", 0)):
        with pytest.raises(ValueError, match=f"{name} is .*expected"):
            Plan(**{name: value})
    for spacing_m in (200.0, 0.01, float("nan")):
        with pytest.raises(PlanError, match="spacing_m"):
            Plan(spacing_m=spacing_m)
    with pytest.raises(PlanError, match="frames is 10000001, expected 10000000 or fewer"):
        Plan(frames=10_000_001)
    with pytest.raises(ValueError, match="val_share"):
        Plan(val_share=0.7, test_share=0.5)
    with pytest.raises(ValueError, match="processes"):
        write_towns(tmp_path, SMALL, processes=0)


def test_queries_of_a_street_differ_in_their_conditions() -> None:
    drives = draw_queries(np.random.default_rng(0), len(CONDITIONS), 3.0)
    assert {drive.name.rpartition("-")[0] for drive in drives} == set(CONDITIONS)
    assert len({drive.traverse_seed for drive in drives}) == len(drives)
    nights = [drive.conditions for drive in drives if "night" in drive.name]
    assert all(isinstance(night, Conditions) and night.sun_elevation_deg < -14.0 for night in nights)
    again = draw_queries(np.random.default_rng(0), len(CONDITIONS), 3.0)
    assert again == drives
    assert len(draw_queries(np.random.default_rng(0), 3 * len(CONDITIONS), 3.0)) == 3 * len(CONDITIONS)


def test_the_verb_writes_a_set_and_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(towns, "World", Painted)
    app = typer.Typer()
    app.command()(world_command)
    figures = ["--frames", "1", "--streets-per-town", "1", "--street-length-m", "6", "--processes", "1"]
    done = CliRunner().invoke(app, [str(tmp_path / "set"), *figures, "--json"])
    record = json.loads(done.stdout)
    assert record["frames"] == len(read_rows(tmp_path / "set")) == 3 * 1 * 5 * 2
    assert record["towns"] == {"train": 1, "val": 1, "test": 1}
    again = CliRunner().invoke(app, [str(tmp_path / "set"), *figures, "--seed", "5"])
    assert isinstance(again.exception, sdk.UsageError)
    assert "choose another folder" in str(again.exception)
    (tmp_path / "file").write_text("")
    blocked = CliRunner().invoke(app, [str(tmp_path / "file"), *figures])
    assert isinstance(blocked.exception, sdk.WriteError)
    assert "name a folder that can be written" in str(blocked.exception)


@pytest.mark.parametrize("error", [BrokenProcessPool("abruptly"), MemoryError()])
def test_the_verb_says_that_a_process_was_ended(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render_all(*figures: object) -> None:
        raise error

    monkeypatch.setattr(towns, "_render_all", render_all)
    app = typer.Typer()
    app.command()(world_command)
    ended = CliRunner().invoke(app, [str(tmp_path / "set"), "--frames", "1"])
    assert isinstance(ended.exception, sdk.EngineError)
    assert "run it again with fewer --processes (finished frames are kept)" in str(ended.exception)


def test_the_verb_takes_no_mistake_of_ours_for_a_mistake_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render_all(*figures: object) -> None:
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(towns, "_render_all", render_all)
    app = typer.Typer()
    app.command()(world_command)
    assert type(CliRunner().invoke(app, [str(tmp_path / "set"), "--frames", "1"]).exception) is ValueError
