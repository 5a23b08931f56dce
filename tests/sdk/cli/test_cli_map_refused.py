"""structvpr map, when something is wrong: one sentence, exit code 2, and nothing half-written."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from cli_runs import Refused, Run, contents, run_process, start
from map_fakes import FakeBackend
from pictures import encode, picture, write_pictures

import sdk
from sdk.cli import main


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "source", ["a.png", "b.png", "c.png"], first_seed=20)
    return tmp_path / "source"


def damage(folder: Path, kind: str) -> str:
    """Make one of a folder's images unusable; gives what the sentence must say."""
    if kind == "cut":
        (folder / "b.jpg").write_bytes(encode(picture(1), ".jpg")[:-100])
        return "b.jpg: is cut short"
    if kind == "zeroed":  # what a bad sector leaves: every marker in its place
        whole = bytearray(encode(picture(1, 240, 320), ".jpg"))
        middle = len(whole) // 2
        whole[middle : middle + 400] = bytes(400)
        (folder / "b.jpg").write_bytes(whole)
        return "b.jpg: is damaged inside"
    if kind == "text":
        (folder / "b.jpg").write_text("I am a text")
        return "b.jpg: cannot be decoded"
    if kind == "tiff":
        (folder / "b.tif").write_bytes(encode(picture(1), ".tif")[:2000])
        return "b.tif: cannot be decoded"
    if kind == "small":
        (folder / "b.png").write_bytes(encode(picture(1, 31, 200)))
        return "b.png: the frame is 31 x 200 px, expected both sides >= 32 px"
    assert kind == "missing"
    (folder / "places.csv").write_text("image,x_m,y_m\na.png,1,2\nnope.png,1,2\n")
    return "nope.png: cannot be read"


DAMAGES = ["cut", "zeroed", "text", "tiff", "small", "missing"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_bad_image_leaves_no_map(kind: str, model: Path, source: Path, tmp_path: Path, refused: Refused) -> None:
    expected = damage(source, kind)
    before = contents(tmp_path)
    assert expected in refused("map", "build", model, source, tmp_path / "new.places")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_bad_image_leaves_the_old_map(kind: str, model: Path, source: Path, campus: Path, refused: Refused) -> None:
    expected = damage(source, kind)
    before = contents(campus.parent)
    assert expected in refused("map", "build", model, source, campus, "--append")
    assert contents(campus.parent) == before


def test_a_bad_image_in_a_process_of_its_own(model: Path, source: Path, tmp_path: Path) -> None:
    damage(source, "cut")
    done = run_process("map", "build", model, source, tmp_path / "new.places")
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err


def test_the_map_exists(model: Path, source: Path, campus: Path, refused: Refused) -> None:
    before = contents(campus.parent)
    sentence = refused("map", "build", model, source, campus)
    assert f"{campus}: exists already" in sentence
    assert "--append" in sentence
    assert contents(campus.parent) == before


def test_append_to_nothing(model: Path, source: Path, tmp_path: Path, refused: Refused) -> None:
    before = contents(tmp_path)
    assert "does not exist" in refused("map", "build", model, source, tmp_path / "no.places", "--append")
    assert contents(tmp_path) == before


def test_append_of_another_geography(model: Path, source: Path, campus: Path, refused: Refused) -> None:
    (source / "places.csv").write_text("image,lat_deg,lon_deg\na.png,48,11\n")
    before = contents(campus.parent)
    sentence = refused("map", "build", model, source, campus, "--append")
    assert "wgs84" in sentence
    assert "local" in sentence
    assert contents(campus.parent) == before


def test_append_to_the_map_of_another_model(model: Path, source: Path, tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "other.places"
    sdk.PlaceMap.create(path, FakeBackend().contract).close()
    damage(source, "cut")  # is not reached: the map is looked at first
    before = contents(tmp_path)
    sentence = refused("map", "build", model, source, path, "--append")
    assert "was made with model 'fake'" in sentence
    assert "structvpr map build" in sentence
    assert contents(tmp_path) == before


def test_a_log_of_an_earlier_map(model: Path, source: Path, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "new.places-wal").write_bytes(b"the newest places")
    before = contents(tmp_path)
    assert "new.places-wal" in refused("map", "build", model, source, tmp_path / "new.places")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["nope.onnx", ".", "text.onnx", "empty.onnx", "net.engine"])
@pytest.mark.parametrize("named", [True, False])
def test_a_bad_model(name: str, named: bool, source: Path, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "text.onnx").write_text("I am a text")
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "net.engine").write_bytes(b"engine")
    before = contents(tmp_path)
    refused("map", "build", tmp_path / name, source, *([tmp_path / "m.places"] if named else []))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["nope", "empty", "text.mp4", "notes.txt", "bad.csv"])
def test_a_bad_source(name: str, model: Path, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("I am a text\n" * 100)
    (tmp_path / "notes.txt").write_text("I am a text")
    (tmp_path / "bad.csv").write_text("image,x_m,y_m\na.png,1,here\n")
    before = contents(tmp_path)
    assert name in refused("map", "build", model, tmp_path / name, tmp_path / "m.places")
    assert contents(tmp_path) == before


def test_a_folder_that_is_not_there(model: Path, source: Path, tmp_path: Path, refused: Refused) -> None:
    before = contents(tmp_path)
    refused("map", "build", model, source, tmp_path / "nope" / "m.places")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("verb", ["info", "verify", "export"])
@pytest.mark.parametrize("kind", ["missing", "text", "empty", "folder"])
def test_what_is_no_map(verb: str, kind: str, tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "m.places"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_text("I am a text, no map. " * 100 if kind == "text" else "")
    before = contents(tmp_path)
    assert "m.places" in refused("map", verb, path, *([tmp_path / "copy"] if verb == "export" else []))
    assert contents(tmp_path) == before


def test_export_onto_something(campus: Path, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "precious").write_text("keep me")
    assert "exists already" in refused("map", "export", campus, tmp_path / "precious")
    assert (tmp_path / "precious").read_text() == "keep me"


def test_ctrl_c_leaves_nothing(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    write_pictures(folder, [f"{i:04}.png" for i in range(3)])
    for i in range(3, 1500):  # more than it can describe before it is interrupted
        (folder / f"{i:04}.png").symlink_to(folder / "0000.png")
    process = start("map", "build", model, folder, tmp_path / "map" / "m.places")
    (tmp_path / "map").mkdir()
    deadline = time.monotonic() + 30
    while not list((tmp_path / "map").glob("m.places.new-*")) and process.poll() is None:
        assert time.monotonic() < deadline, "the build never began"
        time.sleep(0.01)
    time.sleep(0.3)  # in the middle of it
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    assert "Traceback" not in err
    assert out == ""
    assert list((tmp_path / "map").iterdir()) == []


def test_ctrl_c_while_appending_leaves_the_map(model: Path, campus: Path, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "source"
    write_pictures(folder, ["0000.png"])
    for i in range(1, 1500):
        (folder / f"{i:04}.png").symlink_to(folder / "0000.png")
    before = contents(campus.parent)
    process = start("map", "build", model, folder, campus, "--append")
    deadline = time.monotonic() + 30
    while not list(campus.parent.glob("*.new-*")) and process.poll() is None:
        assert time.monotonic() < deadline, "the build never began"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    assert "Traceback" not in err
    assert contents(campus.parent) == before


@pytest.mark.parametrize("process", ["this one", "a dead one"])
def test_what_a_killed_build_left_is_not_built_upon(process: str, model: Path, source: Path, tmp_path: Path) -> None:
    number = os.getpid() if process == "this one" else 99_999_999
    left = tmp_path / f"campus.places.new-{number}"
    backend = sdk.open_backend(model)
    with sdk.Localizer(backend, left, create=True) as localizer:
        localizer.build(sdk.open_source(source))
    backend.close()
    left.with_name(left.name + ".lock").touch()
    main(["map", "build", str(model), str(source), str(tmp_path / "campus.places")], exit_when_done=False)
    place_map = sdk.PlaceMap.open(tmp_path / "campus.places")
    assert len(place_map) == 3
    place_map.close()
    assert {path.name for path in tmp_path.iterdir()} == {"source", "campus.places", "campus.places.index"}


def test_being_stopped_by_a_service_manager_leaves_nothing(model: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "many", [f"{i:04d}.png" for i in range(400)])
    before = contents(tmp_path)
    process = start("map", "build", model, tmp_path / "many", tmp_path / "new.places")
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("new.places.new-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "Traceback" not in err
    assert contents(tmp_path) == before
