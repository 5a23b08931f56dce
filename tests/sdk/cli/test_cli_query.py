"""structvpr query: answers, verdicts, the page, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_runs import NUM_PHOTOS, Refused, Run, contents
from map_fakes import FakeBackend
from pictures import encode, picture, write_pictures

import sdk


def answers(run: Run, *words: object) -> list[dict[str, Any]]:
    done = run("query", *words, "--json")
    assert done.code == 0, done
    assert done.err == ""
    return [json.loads(line) for line in done.out.splitlines()]


def test_one_image(model: Path, photos: Path, campus: Path, run: Run) -> None:
    before = contents(campus.parent)
    done = run("query", model, photos / "3.png", "--map", campus)
    assert done.code == 0
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[0].startswith("3.png: the map is uncalibrated")
    assert lines[2].split() == ["3.png", "1.000", "(300,", "0,", "0)"]
    assert len(lines) == 2 + NUM_PHOTOS + 1
    assert re.search(r"time a query +\d+\.\d ms \(median\)", lines[-1])
    assert contents(campus.parent) == before


def test_a_folder_gives_a_line_each(model: Path, photos: Path, campus: Path, run: Run) -> None:
    lines = run("query", model, photos, "--map", campus).out.splitlines()
    assert [line.split()[0] for line in lines[:NUM_PHOTOS]] == [f"{i}.png" for i in range(NUM_PHOTOS)]
    assert all(line.split()[0] == line.split()[2] for line in lines[:NUM_PHOTOS])


def test_json_lines(model: Path, photos: Path, campus: Path, run: Run) -> None:
    found = answers(run, model, photos, "--map", campus, "-k", 2)
    assert [a["query"] for a in found] == [f"{i}.png" for i in range(NUM_PHOTOS)]
    for i, answer in enumerate(found):
        # Never a made-up number while the map is uncalibrated.
        assert (answer["known"], answer["probability"], answer["reason"]) == (None, None, "uncalibrated")
        best, second = answer["matches"]
        assert best["name"] == f"{i}.png"
        assert best["position"] == [100.0 * i, 0.0, 0.0]
        assert best["id"] == i + 1
        assert 1.001 > best["similarity"] > second["similarity"] >= -1
        stages = answer["timings_ms"]
        assert stages["total"] >= stages["infer"] > 0


def test_k_and_distance_apart(model: Path, photos: Path, campus: Path, run: Run) -> None:
    (answer,) = answers(run, model, photos / "2.png", "--map", campus, "-k", 100)
    assert len(answer["matches"]) == NUM_PHOTOS
    (answer,) = answers(run, model, photos / "2.png", "--map", campus, "--apart-m", "150")
    xs = [match["position"][0] for match in answer["matches"]]
    assert xs[0] == 200.0
    assert all(abs(a - b) > 150 for a in xs for b in xs if a != b)
    assert len(xs) < NUM_PHOTOS


def test_positions_of_queries_are_not_read(model: Path, campus: Path, tmp_path: Path, run: Run) -> None:
    write_pictures(tmp_path / "q", ["@1@2@.png", "plain.png"])  # as a source of a map, it would be refused
    (tmp_path / "q" / "places.csv").write_text("never,read\n")
    assert len(answers(run, model, tmp_path / "q", "--map", campus)) == 2


def test_truth(model: Path, photos: Path, campus: Path, tmp_path: Path, run: Run) -> None:
    write_pictures(tmp_path / "q", ["a.png", "b.png", "c.png", "d.png"])  # the pictures 0 to 3 of the map
    truth = tmp_path / "truth.csv"
    # a: right; b: 30 m off; c: its first answer is wrong, a later one is right; d: not in the file.
    truth.write_text("image,x_m,y_m\na.png,0,0\nb.png,130,0\nc.png,0,0\n")
    done = run("query", model, tmp_path / "q", "--map", campus, "--truth", truth)
    assert done.code == 0
    words = {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in done.out.splitlines()[4:]}
    assert words["right within"] == "25 m"
    assert words["judged"] == "3 of 4 frames"
    assert words["R@1"] == "33.3 %"
    assert words["R@5"] == "66.7 %"
    done = run("query", model, tmp_path / "q", "--map", campus, "--truth", truth, "--positive_dist_threshold", 30)
    assert [line.split()[-2] for line in done.out.splitlines() if line.startswith("R@")] == ["66.7", "100.0"]


def test_report(model: Path, photos: Path, campus: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "truth.csv").write_text("image,x_m,y_m\n0.png,0,0\n1.png,9000,0\n")
    page = tmp_path / "report.html"
    done = run(
        "query",
        model,
        photos,
        "--map",
        campus,
        "--truth",
        tmp_path / "truth.csv",
        "--report",
        page,
        "--map-images",
        photos,
    )
    assert done.code == 0
    assert str(page) in done.out
    text = page.read_text()
    assert text.count("<img") == 2 * NUM_PHOTOS
    assert text.count('class="right"') == 1
    assert text.count('class="wrong"') == 1
    assert text.count('class="open"') == NUM_PHOTOS - 2
    assert "9000" not in text.replace("8900.0 m off", "")  # the error, and no position
    # Without the map's images the page shows the names alone.
    assert run("query", model, photos, "--map", campus, "--report", page).code == 0
    assert page.read_text().count("<img") == NUM_PHOTOS
    assert "report.html.new" not in " ".join(contents(tmp_path))


# ---------------------------------------------------------------- refused


def test_empty_map(model: Path, photos: Path, tmp_path: Path, refused: Refused) -> None:
    sdk.Localizer(model, tmp_path / "m.places", create=True).close()
    sentence = refused("query", model, photos, "--map", tmp_path / "m.places")
    assert "the map is empty" in sentence
    assert "structvpr map build" in sentence


def test_map_of_another_model(model: Path, photos: Path, tmp_path: Path, refused: Refused) -> None:
    sdk.PlaceMap.create(tmp_path / "m.places", FakeBackend().contract).close()
    sentence = refused("query", model, photos, "--map", tmp_path / "m.places")
    assert "was made with model 'fake'" in sentence
    assert "structvpr map build" in sentence


@pytest.mark.parametrize("which", ["model", "source", "map", "truth"])
def test_missing(which: str, model: Path, photos: Path, campus: Path, tmp_path: Path, refused: Refused) -> None:
    paths = {"model": model, "source": photos, "map": campus, "truth": photos / "places.csv"}
    paths[which] = tmp_path / "nope.csv"
    before = contents(tmp_path)
    sentence = refused("query", paths["model"], paths["source"], "--map", paths["map"], "--truth", paths["truth"])
    assert "nope.csv: there is no such file" in sentence
    assert contents(tmp_path) == before


def test_bad_images(model: Path, campus: Path, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "text.jpg").write_text("I am a text")
    (tmp_path / "cut.jpg").write_bytes(encode(picture(1), ".jpg")[:-50])
    (tmp_path / "small.png").write_bytes(encode(picture(1, 200, 31)))
    (tmp_path / "text.mp4").write_text("I am a text " * 100)
    assert "cannot be decoded" in refused("query", model, tmp_path / "text.jpg", "--map", campus)
    assert "is cut short" in refused("query", model, tmp_path / "cut.jpg", "--map", campus)
    assert "200 x 31 px" in refused("query", model, tmp_path / "small.png", "--map", campus)
    assert "cannot be opened as a video" in refused("query", model, tmp_path / "text.mp4", "--map", campus)


def test_text_as_model(photos: Path, campus: Path, refused: Refused) -> None:
    assert "places.csv: ONNX Runtime cannot load it" in refused("query", photos / "places.csv", photos, "--map", campus)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("image,lat_deg,lon_deg\n0.png,48,11\n", "its positions are wgs84, expected local"),
        ("image,x_m,y_m\nother.png,1,2\n", "names none of the queried frames"),
        ("image,x_m,y_m\n0.png,1,here\n", "line 2: y_m is 'here'"),
    ],
)
def test_bad_truth(
    text: str, found: str, model: Path, photos: Path, campus: Path, tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "truth.csv").write_text(text)
    assert found in refused("query", model, photos, "--map", campus, "--truth", tmp_path / "truth.csv")


def test_apart_without_positions(model: Path, photos: Path, tmp_path: Path, run: Run, refused: Refused) -> None:
    assert run("map", "build", model, photos / "0.png", tmp_path / "m.places").code == 0
    sentence = refused("query", model, photos / "0.png", "--map", tmp_path / "m.places", "--apart-m", 5)
    assert "apart_m needs positions, and 0.png has none" in sentence


def test_report_that_cannot_be_written(
    model: Path, photos: Path, campus: Path, tmp_path: Path, refused: Refused
) -> None:
    before = contents(tmp_path)
    sentence = refused("query", model, photos / "0.png", "--map", campus, "--report", tmp_path / "nope" / "r.html")
    assert f"cannot write {tmp_path / 'nope' / 'r.html'}" in sentence
    assert contents(tmp_path) == before


def test_file_names_that_are_no_unicode(model: Path, photos: Path, campus: Path, tmp_path: Path, run: Run) -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    (tmp_path / name).write_bytes((photos / "0.png").read_bytes())
    done = run("query", model, tmp_path / name, "--map", campus, "--report", tmp_path / "r.html")
    assert done.code == 0
    assert "caf" in done.out
    (answer,) = answers(run, model, tmp_path / name, "--map", campus)
    assert answer["query"] == name
