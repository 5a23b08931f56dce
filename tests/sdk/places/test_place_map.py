"""The map: what is added is there, what is removed is not, whoever asks and whatever happens meanwhile."""

from __future__ import annotations

import gc
import os
import random
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from map_fakes import FakeBackend, neighbours, unit_rows

import sdk
from sdk.places.database import connect as connect_map
from sdk.places.database import create_file, place_new_map
from sdk.places.state import MapState

CONTRACT = FakeBackend().contract


def make_map(path: Path, count: int = 0, **options: str) -> sdk.PlaceMap:
    place_map = sdk.PlaceMap.create(path, CONTRACT, **options)  # type: ignore[arg-type]
    if count:
        place_map.add_many([sdk.Place(str(i), (i, 0)) for i in range(count)], unit_rows(count))
    return place_map


def test_a_place_comes_back_as_it_went_in(map_path: Path) -> None:
    full = sdk.Place("Ein Schloß 城", (1.5, -2.0, 3.25), -90.0, 1.7e9, "a/ü.jpg", "monday")
    bare = sdk.Place()
    place_map = make_map(map_path)
    pairs = place_map.add_many([full, bare], unit_rows(2))
    for opened in (place_map, sdk.PlaceMap.open(map_path)):
        first, second = opened.places([pair[0] for pair in pairs])
        assert (first.name, first.position, first.heading_deg) == (full.name, full.position, full.heading_deg)
        assert (first.timestamp_s, first.image, first.traverse) == (full.timestamp_s, full.image, full.traverse)
        assert second == sdk.Place(id=pairs[1][0])
        assert opened.all_places() == [first, second]
        opened.close()


def test_two_values_are_a_position_and_one_is_not(map_path: Path) -> None:
    assert sdk.Place(position=(1, 2)).position == (1.0, 2.0, 0.0)
    with pytest.raises(sdk.MapError, match="position has 1 values"):
        sdk.Place(position=(1,))
    with pytest.raises(sdk.MapError, match="expected a finite number"):
        sdk.Place(position=(1, float("nan")))


def test_ids_are_never_used_again(map_path: Path) -> None:
    place_map = make_map(map_path, 3)
    last = place_map.all_places()[-1].id
    assert last is not None
    place_map.remove([last])
    place_map.close()
    place_map = sdk.PlaceMap.open(map_path)
    assert place_map.add_many([sdk.Place("new")], unit_rows(1))[0][0] > last
    place_map.export(map_path.with_name("copy.places"))
    place_map.remove([place.id or 0 for place in place_map.all_places()])
    place_map.close()
    with_copy = sdk.PlaceMap.open(map_path.with_name("copy.places"))
    assert with_copy.add_many([sdk.Place("newer")], unit_rows(1))[0][0] > last + 1
    with_copy.close()


def test_the_digest_knows_no_order_and_gives_prefixes_back() -> None:
    pairs = [(i, bytes([i]) * 4) for i in range(20)]
    shuffled = random.Random(0).sample(pairs, len(pairs))
    whole = MapState(0, 0).plus(pairs)
    assert MapState(0, 0).plus(shuffled) == whole
    assert whole.plus(pairs[12:], sign=-1) == MapState(0, 0).plus(pairs[:12])
    assert whole.plus(pairs[11:], sign=-1) != MapState(0, 0).plus(pairs[:12])
    assert MapState(0, 0).plus([(1, b"a"), (2, b"b")]) != MapState(0, 0).plus([(1, b"b"), (2, b"a")])
    assert MapState.from_meta(whole.to_meta()) == whole


def test_the_digest_in_the_file_is_that_of_its_places(map_path: Path) -> None:
    place_map = make_map(map_path, 5)
    ids = [place.id or 0 for place in place_map.all_places()]
    place_map.remove([ids[1], ids[4]])
    place_map.update(sdk.Place("moved", id=ids[0]), unit_rows(1, seed=9)[0])
    pairs = [pair for batch in place_map.stored() for pair in batch]
    assert [pair[0] for pair in pairs] == [ids[0], ids[2], ids[3]]
    assert MapState(0, 0).plus(pairs) == place_map.state
    assert place_map.check() == []
    assert [pair[0] for batch in place_map.stored(after_id=ids[2]) for pair in batch] == [ids[3]]
    place_map.close()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-3), ("float32", 1e-6)])
def test_descriptors_keep_what_their_dtype_can(map_path: Path, dtype: str, tolerance: float) -> None:
    rows = unit_rows(50)
    place_map = make_map(map_path, descriptor_dtype=dtype)
    pairs = place_map.add_many([sdk.Place()] * 50, rows)
    assert len(pairs[0][1]) == 32 * np.dtype(dtype).itemsize
    place_map.close()
    place_map = sdk.PlaceMap.open(map_path)
    decoded = np.concatenate([place_map.decode(batch) for batch in place_map.stored()])
    assert np.abs(decoded - rows).max() < tolerance
    assert np.allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-6)
    place_map.close()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (unit_rows(1).astype(np.float64), "float64"),
        (unit_rows(1, dim=31), r"\(1, 31\)"),
        (2 * unit_rows(1), "length 2"),
        (np.full((1, 32), np.nan, np.float32), "length nan"),
        (unit_rows(2), "1 places came with 2"),
    ],
)
def test_what_does_not_fit_is_refused_whole(map_path: Path, rows: np.ndarray, words: str) -> None:  # type: ignore[type-arg]
    place_map = make_map(map_path, 2)
    with pytest.raises(sdk.MapError, match=words):
        place_map.add_many([sdk.Place()], rows)
    with pytest.raises(sdk.MapError, match="its image is"):
        place_map.add_many([sdk.Place(), sdk.Place(image="caf\udce9.jpg")], unit_rows(2))
    assert len(place_map) == 2
    assert place_map.check() == []
    place_map.close()


def test_an_unknown_place_cannot_be_removed_or_updated(map_path: Path) -> None:
    place_map = make_map(map_path, 2)
    known = place_map.all_places()[0].id or 0
    for unknown in (known + 99, -1, 1 << 70):
        with pytest.raises(sdk.MapError, match=f"no place {unknown}"):
            place_map.remove([known, unknown])
        with pytest.raises(sdk.MapError, match=f"no place {unknown}"):
            place_map.update(sdk.Place(id=unknown))
    for wrong in (None, "1", 1.0, b"1"):
        with pytest.raises(sdk.MapError, match=r"a place id is .*expected a whole number"):
            place_map.update(sdk.Place("wrong id", id=wrong))  # type: ignore[arg-type]
        with pytest.raises(sdk.MapError, match=r"a place id is .*expected a whole number"):
            place_map.remove([known, wrong])  # type: ignore[list-item]
    assert len(place_map.all_places()) == 2
    place_map.remove([np.int64(known)])  # type: ignore[list-item]
    assert len(place_map.all_places()) == 1
    place_map.close()


def test_both_sides_see_a_change_at_once(map_path: Path) -> None:
    writer = make_map(map_path, 1)
    reader = sdk.PlaceMap.open(map_path)
    writer.add_many([sdk.Place("second")], unit_rows(1, seed=1))
    assert reader.changed()
    assert reader.state == writer.state
    assert not reader.changed()
    assert reader.all_places()[-1].name == "second"
    writer.close()
    reader.close()


def test_a_second_writer_is_told_who_the_first_is(map_path: Path) -> None:
    first = make_map(map_path, 1)
    link = map_path.with_name("link.places")
    link.symlink_to(map_path)
    for name in (map_path, link):
        second = sdk.PlaceMap.open(name)
        with pytest.raises(sdk.MapError, match=rf"process {os.getpid()} \(this one, .*\) is writing"):
            second.add_many([sdk.Place()], unit_rows(1))
        assert len(second.all_places()) == 1
        second.close()
    first.close()
    third = sdk.PlaceMap.open(link)
    third.add_many([sdk.Place()], unit_rows(1))
    third.close()
    assert neighbours(map_path) == {map_path.name}


def test_a_closed_map_is_one_file_whoever_closes_last(map_path: Path) -> None:
    writer = make_map(map_path, 3)
    reader = sdk.PlaceMap.open(map_path)
    assert map_path.name + ".lock" in neighbours(map_path)
    writer.close()
    assert map_path.name + ".lock" not in neighbours(map_path)
    assert len(reader.all_places()) == 3
    reader.close()
    reader.close()
    assert neighbours(map_path) == {map_path.name}


def test_a_closed_map_takes_nothing_and_leaves_no_lock(map_path: Path) -> None:
    place_map = make_map(map_path, 1)
    place_map.close()
    for use in (lambda: place_map.remove([1]), place_map.all_places, place_map.claim):
        with pytest.raises(sdk.MapError, match="the map is closed"):
            use()
    assert neighbours(map_path) == {map_path.name}


def test_each_change_is_flushed_before_it_returns(map_path: Path) -> None:
    place_map = make_map(map_path, 1)
    assert place_map.claim().execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert place_map.claim().execute("PRAGMA journal_mode").fetchone() == ("wal",)
    place_map.close()


def test_a_map_is_not_put_over_another(map_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_map(map_path, 3).close()
    with pytest.raises(sdk.MapError, match="exists already"):
        sdk.PlaceMap.create(map_path, CONTRACT)
    # Two processes that create one map at a time: the second finds the name free, and then taken.
    other = map_path.with_name("other.places")
    create_file(other, CONTRACT, "local", "float16")
    monkeypatch.setattr("sdk.places.database.require_new", lambda path: None)
    with pytest.raises(FileExistsError):
        place_new_map(other, map_path)
    assert len(sdk.PlaceMap.open(map_path)) == 3


def test_a_map_that_was_deleted_after_a_crash_does_not_rise_again(map_path: Path, child) -> None:  # type: ignore[no-untyped-def]
    crashed = child(
        """
        place_map = sdk.PlaceMap.create(sys.argv[1], FakeBackend().contract)
        place_map.add_many([sdk.Place("old")] * 9, unit_rows(9))
        print("added", flush=True)
        sys.stdin.readline()
        """,
        map_path,
    )
    assert crashed.says() == "added"
    crashed.kill()
    map_path.unlink()
    with pytest.raises(sdk.MapError, match="is the log of an earlier map"):
        sdk.PlaceMap.create(map_path, CONTRACT)
    map_path.with_name(map_path.name + "-wal").unlink()
    place_map = sdk.PlaceMap.create(map_path, CONTRACT)
    assert place_map.all_places() == []
    place_map.close()


def test_what_a_killed_creation_left_is_swept(map_path: Path) -> None:
    for left in (2**30, os.getpid()):  # process ids return, in a container at each start
        for suffix in ("", "-journal"):
            map_path.with_name(f"{map_path.name}.new-{left}{suffix}").write_bytes(b"half a map" * 999)
    place_map = make_map(map_path, 2)
    map_path.with_name(f"copy.places.new-{os.getpid()}").touch()
    place_map.export(map_path.with_name("copy.places"))
    place_map.close()
    assert neighbours(map_path) == {map_path.name}
    assert neighbours(map_path.with_name("copy.places")) == {"copy.places"}


def test_a_map_can_be_created_only_as_it_can_be_read(map_path: Path) -> None:
    with pytest.raises(sdk.MapError, match="geography is 'mars'"):
        sdk.PlaceMap.create(map_path, CONTRACT, geography="mars")  # type: ignore[arg-type]
    with pytest.raises(sdk.MapError, match="'int8'"):
        sdk.PlaceMap.create(map_path, CONTRACT, descriptor_dtype="int8")
    with pytest.raises(sdk.MapError, match="cannot be created"):
        sdk.PlaceMap.create(map_path.parent / "no such folder" / "a.places", CONTRACT)
    assert list(map_path.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["a b.places", "50%?mode=ro#.places", "città.places", "'; --.places"])
def test_any_name_will_do(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place_map = make_map(Path(name), 2)
    monkeypatch.chdir("/")  # as a daemon does
    place_map.add_many([sdk.Place()], unit_rows(1))
    place_map.export(tmp_path / f"copy of {name}")
    place_map.close()
    assert len(sdk.PlaceMap.open(tmp_path / f"copy of {name}")) == 3
    assert neighbours(tmp_path / name) == {name}


def test_an_exported_map_is_a_map(map_path: Path) -> None:
    place_map = make_map(map_path, 4, geography="wgs84", descriptor_dtype="float32")
    target = map_path.with_name("copy.places")
    place_map.export(target)
    with pytest.raises(sdk.MapError, match="exists already"):
        place_map.export(target)
    with pytest.raises(sdk.MapError, match="copy cannot be written"):
        place_map.export(map_path.parent / "no such folder" / "copy.places")
    copy = sdk.PlaceMap.open(target)
    assert (copy.state, copy.geography, copy.all_places()) == (place_map.state, "wgs84", place_map.all_places())
    assert connect_map(target)[0].execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert copy.check() == []
    place_map.close()
    copy.close()


def test_a_live_map_is_exported_and_checked_while_another_process_adds(map_path: Path, child) -> None:  # type: ignore[no-untyped-def]
    make_map(map_path, 5).close()
    adding = child(
        """
        place_map = sdk.PlaceMap.open(sys.argv[1])
        for i in range(100_000):
            place_map.add_many([sdk.Place(str(i))], unit_rows(1, seed=i))
            if i == 0:
                print("adding", flush=True)
        """,
        map_path,
    )
    adding.says()
    place_map = sdk.PlaceMap.open(map_path)
    counts: list[int] = []
    deadline = time.monotonic() + 20
    for i in range(1000):
        if len(counts) >= 10 and counts[-1] > counts[0]:
            break
        assert time.monotonic() < deadline, counts
        target = map_path.with_name(f"{i}.places")
        place_map.export(target)
        copy = sdk.PlaceMap.open(target)
        assert copy.check() == []
        assert place_map.check() == []
        counts.append(len(copy))
        copy.close()
    assert adding.process.poll() is None, "the writer ended before the test did"
    assert counts == sorted(counts)
    assert counts[-1] > counts[0] > 5
    place_map.close()


def test_any_sqlite_client_can_read_it(map_path: Path) -> None:
    make_map(map_path, 3).close()
    connection = sqlite3.connect(map_path)
    rows = connection.execute("SELECT name, p0, length(descriptor) FROM places ORDER BY id").fetchall()
    assert rows == [("0", 0.0, 64), ("1", 1.0, 64), ("2", 2.0, 64)]
    connection.close()


def test_a_forgotten_writer_gives_its_map_back(map_path: Path) -> None:
    forgotten = make_map(map_path, 1)
    forgotten.add_many([sdk.Place()], unit_rows(1))
    del forgotten
    gc.collect()
    second = sdk.PlaceMap.open(map_path)
    second.add_many([sdk.Place()], unit_rows(1))
    assert len(second.all_places()) == 3
    second.close()
    assert neighbours(map_path) == {map_path.name}


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_map_that_was_taken_away_is_noticed(how: str, map_path: Path) -> None:
    place_map = make_map(map_path, 2)
    if how == "replaced":
        other = map_path.with_name("other.places")
        make_map(other, 1).close()
        other.replace(map_path)
    else:
        map_path.unlink()
    with pytest.raises(sdk.MapError, match="was replaced or removed while it was open"):
        place_map.add_many([sdk.Place()], unit_rows(1))
    with pytest.raises(sdk.MapError, match="was replaced or removed while it was open"):
        place_map.changed()
    place_map.close()
