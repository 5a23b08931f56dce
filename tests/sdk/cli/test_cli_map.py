"""structvpr map build | info | verify | export, when all is well."""

from __future__ import annotations

import json
import sqlite3
import stat
from pathlib import Path

import pytest
from cli_runs import NUM_PHOTOS, Run, contents
from pictures import encode, picture, write_pictures, write_video

import sdk
from sdk.index.file import index_path, load_index


def places_of(path: Path) -> list[sdk.Place]:
    place_map = sdk.PlaceMap.open(path)
    try:
        return place_map.all_places()
    finally:
        place_map.close()


def test_build(model: Path, photos: Path, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "campus.places"
    done = run("map", "build", model, photos, path)
    assert done.code == 0
    assert done.err == ""
    assert f"{path}: {NUM_PHOTOS} places in " in done.out
    assert sorted(contents(tmp_path)) == ["campus.places", "campus.places.index"]
    assert [(p.image, p.position) for p in places_of(path)] == [
        (f"{i}.png", (100.0 * i, 0.0, 0.0)) for i in range(NUM_PHOTOS)
    ]
    with sdk.Localizer(model, path) as localizer:
        assert localizer.store.index.origin == "read"
        answer = localizer.query(picture(3))
        assert answer.place is not None
        assert answer.place.image == "3.png"
        assert answer.matches[0].similarity == pytest.approx(1.0, abs=1e-3)


def test_build_says_json(model: Path, photos: Path, tmp_path: Path, run: Run) -> None:
    done = run("map", "build", model, photos, tmp_path / "m.places", "--json")
    record = json.loads(done.out)
    assert record["map"] == str(tmp_path / "m.places")
    assert record["places"] == NUM_PHOTOS
    assert record["seconds"] > 0
    assert done.err == ""


def test_the_map_is_beside_the_model_by_default(model: Path, photos: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "net.v2.onnx").write_bytes(model.read_bytes())
    assert run("map", "build", tmp_path / "net.v2.onnx", photos).code == 0
    assert (tmp_path / "net.v2.places").is_file()
    done = run("query", tmp_path / "net.v2.onnx", photos / "1.png")
    assert done.code == 0
    assert "1.png" in done.out.splitlines()[2]


def test_append(model: Path, photos: Path, campus: Path, tmp_path: Path, run: Run) -> None:
    write_pictures(tmp_path / "more", ["x.png", "y.png"], first_seed=50)
    done = run("map", "build", model, tmp_path / "more", campus, "--append")
    assert done.code == 0
    assert "2 places" in done.out
    places = places_of(campus)
    assert [p.image for p in places] == [f"{i}.png" for i in range(NUM_PHOTOS)] + ["x.png", "y.png"]
    assert places[-1].position is None
    assert sorted(contents(campus.parent)) == ["campus.places", "campus.places.index"]
    best = json.loads(run("query", model, tmp_path / "more" / "y.png", "--map", campus, "--json").out)["matches"][0]
    assert best["name"] == "y.png"


def test_append_keeps_the_permissions_of_the_map(model: Path, photos: Path, campus: Path, run: Run) -> None:
    campus.chmod(0o640)
    assert run("map", "build", model, photos, campus, "--append").code == 0
    assert stat.S_IMODE(campus.stat().st_mode) == 0o640


def test_wgs84(model: Path, tmp_path: Path, run: Run) -> None:
    write_pictures(tmp_path / "p", ["a.png"])
    (tmp_path / "p" / "places.csv").write_text("image,lat_deg,lon_deg\na.png,48.1,11.5\n")
    assert run("map", "build", model, tmp_path / "p", tmp_path / "m.places").code == 0
    record = json.loads(run("map", "info", tmp_path / "m.places", "--json").out)
    assert record["geography"] == "wgs84"
    assert places_of(tmp_path / "m.places")[0].position == (48.1, 11.5, 0.0)


def test_a_video_is_a_source(model: Path, tmp_path: Path, run: Run) -> None:
    write_video(tmp_path / "drive.avi", [picture(i // 5) for i in range(20)], fps=10.0)
    path = tmp_path / "drive.places"
    assert run("map", "build", model, tmp_path / "drive.avi", path, "--every-s", "0.5").code == 0
    assert [p.timestamp_s for p in places_of(path)] == [0.0, 0.5, 1.0, 1.5]
    done = run("query", model, tmp_path / "drive.avi", "--map", path, "--every-s", "0.5", "--json")
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert [a["matches"][0]["name"] for a in answers] == [f"drive.avi {t:.3f} s" for t in (0.0, 0.5, 1.0, 1.5)]
    assert [a["timestamp_s"] for a in answers] == [0.0, 0.5, 1.0, 1.5]
    assert done.err == ""


def test_grayscale_files_are_converted(model: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "grey.png").write_bytes(encode(picture(1)[..., 0]))
    assert run("map", "build", model, tmp_path / "p", tmp_path / "m.places").code == 0
    assert run("query", model, tmp_path / "p" / "grey.png", "--map", tmp_path / "m.places").code == 0


def test_info(model: Path, campus: Path, run: Run) -> None:
    before = contents(campus.parent)
    done = run("map", "info", campus, "--json")
    record = json.loads(done.out)
    contract = sdk.open_backend(model).contract
    assert record["places"] == record["with position"] == NUM_PHOTOS
    assert record["geography"] == "local"
    assert record["model"] == contract.name
    assert record["model identity"] == contract.identity
    assert record["descriptor"] == "472 x float16"
    assert record["map bytes"] == campus.stat().st_size
    assert record["calibrated"] is False
    text = run("map", "info", campus).out
    for word in ("places", str(NUM_PHOTOS), contract.identity, "472 x float16", "none named"):
        assert word in text
    assert contents(campus.parent) == before


def test_verify(campus: Path, run: Run) -> None:
    done = run("map", "verify", campus)
    assert done.code == 0
    assert f"{NUM_PHOTOS} places read, all sound" in done.out
    assert done.err == ""
    record = json.loads(run("map", "verify", campus, "--json").out)
    assert record["ok"] is True
    assert record["findings"] == []


def test_verify_finds_a_changed_descriptor(campus: Path, run: Run) -> None:
    with sqlite3.connect(campus) as connection:
        (blob,) = connection.execute("SELECT descriptor FROM places WHERE id = 2").fetchone()
        connection.execute("UPDATE places SET descriptor = ? WHERE id = 2", (blob[2:] + blob[:2],))
    connection.close()
    done = run("map", "verify", campus)
    assert done.code == 1
    assert "not those that were written" in done.out
    done = run("map", "verify", campus, "--json")
    assert done.code == 1
    assert json.loads(done.out)["ok"] is False
    assert json.loads(done.out)["findings"]


def test_verify_mends_the_index(campus: Path, run: Run) -> None:
    index = campus.with_name("campus.places.index")
    index.write_bytes(index.read_bytes()[:100])
    assert "index rebuilt" in run("map", "verify", campus).out
    assert "index read" in run("map", "verify", campus).out


def test_verify_finds_damage_that_no_search_has_met(campus: Path, run: Run) -> None:
    index = campus.with_name("campus.places.index")
    content = bytearray(index.read_bytes())
    content[-1] ^= 1
    index.write_bytes(content)
    assert "index rebuilt: its index is damaged in block" in run("map", "verify", campus).out
    assert "index read; search by exact scan (a graph from 50,000 places on)" in run("map", "verify", campus).out


def test_build_and_verify_wait_for_the_graph(
    model: Path, photos: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdk.index.map_index.GRAPH_FROM", 3)
    path = tmp_path / "m.places"
    assert run("map", "build", model, photos, path).code == 0
    assert load_index(sdk.PlaceMap.open(path))[0].has_graph
    index_path(path).unlink()
    assert "the graph finds 100.0 % of a sample" in run("map", "verify", path).out
    assert load_index(sdk.PlaceMap.open(path))[0].has_graph
    assert run("map", "build", model, photos, path, "--append").code == 0
    saved = load_index(sdk.PlaceMap.open(path))[0]
    assert (saved.has_graph, len(saved)) == (True, 2 * NUM_PHOTOS)


def test_a_graph_that_cannot_be_built_costs_no_map(
    model: Path, photos: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("sdk.index.map_index.GRAPH_FROM", 3)
    monkeypatch.setattr("sdk._core.PlaceIndex.build_graph", fail)
    path = tmp_path / "m.places"
    done = run("map", "build", model, photos, path)
    assert (done.code, done.err) == (0, "")
    assert "its graph could not be built (MemoryError)" in done.out
    assert len(places_of(path)) == NUM_PHOTOS
    assert "its graph could not be built (MemoryError)" in run("map", "verify", path).out
    done = run("map", "build", model, photos, path, "--append", "--json")
    assert "MemoryError" in json.loads(done.out)["graph_error"]


def test_info_says_how_it_is_searched(campus: Path, run: Run) -> None:
    assert json.loads(run("map", "info", campus, "--json").out)["search"] == "exact scan"
    campus.with_name("campus.places.index").unlink()
    assert json.loads(run("map", "info", campus, "--json").out)["search"] is None
    assert run("map", "info", campus).out.count("none; the next opening builds it") == 2


def test_export(model: Path, photos: Path, campus: Path, tmp_path: Path, run: Run) -> None:
    copy = tmp_path / "copy" / "campus.places"
    copy.parent.mkdir()
    done = run("map", "export", campus, copy)
    assert done.code == 0
    assert str(copy) in done.out
    assert sorted(contents(copy.parent)) == ["campus.places"]
    assert places_of(copy) == places_of(campus)
    assert run("map", "verify", copy).code == 0
