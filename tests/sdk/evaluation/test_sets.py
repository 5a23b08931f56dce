"""Data sets on disk: what is read, and each way in which one can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from pictures import write_pictures

from sdk import DataError
from sdk.evaluation.sets import find_dataset, read_frame_sets, read_position_set

HEADER = "query_set,query,db,db_first_ok,db_last_ok\n"
DATABASE = [f"d{i}.png" for i in range(6)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "database", DATABASE)
    write_pictures(tmp_path / "query_day", ["a.png", "b.png", "c.png"])
    write_pictures(tmp_path / "query_night", ["a.png"])
    return tmp_path


def write_truth(folder: Path, text: str | bytes) -> Path:
    (folder / "ground_truth.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


TRUTH = f"""{HEADER}query_day,a.png,d0.png,d0.png,d1.png
query_night,a.png,d4.png,d2.png,d5.png
query_day,c.png,d3.png,d3.png,d3.png
"""


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_frame_sets(bom: str, folder: Path) -> None:
    day, night = read_frame_sets(write_truth(folder, bom + TRUTH), [1, 2])
    assert (day.name, night.name) == ("query_day", "query_night")
    assert [path.name for path in day.database] == DATABASE
    assert [path.name for path in day.queries] == ["a.png", "b.png", "c.png"]
    assert list(day.protocols) == ["±1 frames", "±2 frames", "the set's own"]
    # b.png is in no row: it has no true place.
    assert [p.tolist() for p in day.protocols["±1 frames"]] == [[0, 1], [], [2, 3, 4]]
    assert [p.tolist() for p in day.protocols["±2 frames"]] == [[0, 1, 2], [], [1, 2, 3, 4, 5]]
    assert [p.tolist() for p in day.protocols["the set's own"]] == [[0, 1], [], [3]]
    assert [p.tolist() for p in night.protocols["the set's own"]] == [[2, 3, 4, 5]]
    assert day.database is night.database  # described once


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, "has no ground_truth.csv or pseudo_ground_truth.csv"),
        ("", "is empty"),
        (HEADER, "has no rows"),
        ("query_set,query,db\nquery_day,a.png,d0.png\n", "lacks the column db_first_ok, db_last_ok"),
        (HEADER + "query_day,zz.png,d0.png,d0.png,d0.png\n", "'zz.png'"),
        (HEADER + "query_day,a.png,d9.png,d0.png,d0.png\n", "'d9.png'"),
        (HEADER + "query_day,a.png,d0.png,d0.png,d9.png\n", "'d9.png'"),
        (HEADER + "query_day,a.png\n", "line 2: has 2 values, expected 5"),
        (HEADER + "query_fog,a.png,d0.png,d0.png,d0.png\n", "query_fog: there is no such folder"),
        (TRUTH.encode("utf-16"), "cannot be read"),
    ],
)
def test_bad_ground_truth(text: str | bytes | None, found: str, folder: Path) -> None:
    if text is not None:
        write_truth(folder, text)
    with pytest.raises(DataError) as caught:
        read_frame_sets(folder, [1])
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_database_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="database: there is no such folder"):
        read_frame_sets(write_truth(tmp_path, TRUTH), [1])


# ---------------------------------------------------------------- positions


def test_position_set_of_names(tmp_path: Path) -> None:
    write_pictures(tmp_path / "database", ["@0@0@.png", "@20@0@.png", "@60@0@.png"])
    write_pictures(tmp_path / "queries", ["@10@0@.png", "@100@0@.png", "@36@0@.png"])
    found = read_position_set(tmp_path / "database", tmp_path / "queries", 25.0)
    assert found.name == "queries"
    assert [path.name for path in found.database] == ["@0@0@.png", "@20@0@.png", "@60@0@.png"]
    ((protocol, positives),) = found.protocols.items()
    assert protocol == "25 m"
    right = {path.name: p.tolist() for path, p in zip(found.queries, positives, strict=True)}
    assert right == {"@10@0@.png": [0, 1], "@100@0@.png": [], "@36@0@.png": [1, 2]}


def csv_folder(folder: Path, text: str) -> Path:
    write_pictures(folder, ["a.png", "b.png"])
    (folder / "places.csv").write_text(text)
    return folder


LOCAL = "image,x_m,y_m\na.png,0,0\nb.png,100,0\n"
WGS84 = "image,lat_deg,lon_deg\na.png,48,11\nb.png,48.0001,11\n"


def test_position_set_of_wgs84(tmp_path: Path) -> None:
    database, queries = csv_folder(tmp_path / "d", WGS84), csv_folder(tmp_path / "q", WGS84)
    assert [p.tolist() for p in read_position_set(database, queries, 5.0).protocols["5 m"]] == [[0], [1]]
    assert [p.tolist() for p in read_position_set(database, queries, 12.5).protocols["12.5 m"]] == [[0, 1], [0, 1]]


def test_position_set_of_two_geographies(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is local and .* is wgs84; give both positions of one kind"):
        read_position_set(csv_folder(tmp_path / "d", LOCAL), csv_folder(tmp_path / "q", WGS84), 5.0)


def test_position_set_without_positions(tmp_path: Path) -> None:
    database = csv_folder(tmp_path / "d", LOCAL)
    write_pictures(tmp_path / "plain", ["a.png"])
    with pytest.raises(DataError, match=r"plain: its images have no positions; add a places\.csv, or rename"):
        read_position_set(database, tmp_path / "plain", 5.0)
    partly = csv_folder(tmp_path / "partly", "image,x_m,y_m\na.png,0,0\nb.png,,\n")
    with pytest.raises(DataError, match=r"b\.png has no position"):
        read_position_set(database, partly, 5.0)
    with pytest.raises(DataError, match="there is no such file or folder"):
        read_position_set(database, tmp_path / "nope", 5.0)


# ---------------------------------------------------------------- finding


def test_find_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "sets" / "gardens").mkdir(parents=True)
    (tmp_path / "data" / "direct").mkdir()
    monkeypatch.delenv("STRUCTVPR_DATA", raising=False)
    assert find_dataset(str(tmp_path / "data" / "direct")) == tmp_path / "data" / "direct"
    with pytest.raises(
        DataError, match=r"gardens: there is no such folder; give the path of a data set, or set STRUCTVPR_DATA"
    ):
        find_dataset("gardens")
    monkeypatch.setenv("STRUCTVPR_DATA", str(tmp_path / "data"))
    assert find_dataset("gardens") == tmp_path / "data" / "sets" / "gardens"
    assert find_dataset("direct") == tmp_path / "data" / "direct"
    with pytest.raises(DataError, match="nope: there is no such folder, nor below STRUCTVPR_DATA="):
        find_dataset("nope")
