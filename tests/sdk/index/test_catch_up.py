"""An index follows removals and updates that it did not see, by the map's journal; and believes nothing else."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from map_fakes import FakeBackend, Frame, assert_finds, localizer_with, make_frames, unit_rows

import sdk
from sdk.index.file import index_path
from sdk.index.map_index import MapIndex

PLACES = 2500


def change(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


def same_as_new(index: MapIndex, place_map: sdk.PlaceMap) -> None:
    """Every answer is that of an index that was built from the map alone."""
    index_path(place_map.file).unlink(missing_ok=True)
    new = MapIndex(place_map)
    queries = unit_rows(40, seed=99)
    for got, expected in zip(index.search(queries, 9), new.search(queries, 9), strict=True):
        assert np.array_equal(got, expected)


def test_a_reader_follows_what_another_process_changes(map_path: Path, frames: list[Frame]) -> None:
    writer = localizer_with(map_path, frames)
    reader = sdk.Localizer(FakeBackend(), map_path)
    writer.remove([2, 12])
    writer.update(sdk.Place("new", id=5), frames[1])
    writer.update(sdk.Place("SIX", id=7))  # not its descriptor
    gone = writer.add(frames[4], sdk.Place("came and went"))
    writer.remove(gone.id or 0)
    writer.add(frames[11], sdk.Place("back"))
    expected = {str(i): frames[i] for i in (0, 2, 3, 5, 7, 8, 9, 10)}
    assert_finds(reader, {**expected, "SIX": frames[6], "new": frames[1], "back": frames[11]})
    assert reader.query(frames[4]).matches[0].similarity < 0.99
    assert reader.store.index.origin == "extended by 2 places, 3 taken out"
    writer.update(sdk.Place("newer", id=5), frames[4])
    writer.remove(5)
    assert reader.query(frames[4]).matches[0].similarity < 0.99
    assert reader.store.index.origin == "extended by 0 places, 1 taken out"
    writer.close()
    reader.close()


def test_an_index_from_before_a_removal_is_mended(map_path: Path, frames: list[Frame]) -> None:
    localizer_with(map_path, frames).close()
    kept = index_path(map_path).read_bytes()
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        localizer.remove(3)
    index_path(map_path).write_bytes(kept)
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        assert localizer.store.index.origin == "extended by 0 places, 1 taken out"
        assert localizer.query(frames[2]).matches[0].similarity < 0.99
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        assert localizer.store.index.origin == "read"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 3)),
        st.tuples(st.just("remove"), st.integers(0, 10**6)),
        st.tuples(st.just("update"), st.integers(0, 10**6)),
        st.tuples(st.just("look"), st.just(0)),
        st.tuples(st.just("mine"), st.integers(0, 10**6)),
    ),
    max_size=25,
)


@given(STEPS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_elsewhere_the_answers_are_the_map_s(tmp_path: Path, steps: list[tuple[str, int]]) -> None:
    path = tmp_path / "steps.places"
    for entry in tmp_path.iterdir():
        entry.unlink()
    writer = sdk.PlaceMap.create(path, FakeBackend().contract)
    ids = [pair[0] for pair in writer.add_many([sdk.Place()] * 20, unit_rows(20))]
    index, seed = MapIndex(writer), 100
    for what, number in steps:
        seed += 1
        if what == "add":
            ids += [pair[0] for pair in writer.add_many([sdk.Place()] * number, unit_rows(number, seed))]
        elif what == "remove" and ids:
            writer.remove([ids.pop(number % len(ids))])
        elif what == "update" and ids:
            writer.update(sdk.Place(id=ids[number % len(ids)]), unit_rows(1, seed)[0])
        elif what == "look":
            index.refresh()
        elif what == "mine" and ids:  # a change that the index is told of, at once
            index.refresh()
            index.remove(writer.remove([ids.pop(number % len(ids))]))
    index.refresh()
    assert "rebuilt: its index" not in index.origin
    assert len(index) == len(ids)
    if ids:
        same_as_new(index, writer)
    writer.close()


DOUBTS: dict[str, Callable[[Path], object]] = {
    "no journal": lambda path: change(path, "DROP TABLE losses"),
    "an empty journal": lambda path: change(path, "DELETE FROM losses"),
    "an entry lacks": lambda path: change(path, "DELETE FROM losses WHERE seq = 1"),
    "an entry too many": lambda path: change(path, "INSERT INTO losses SELECT 9, 7, digest FROM losses WHERE seq = 1"),
    "another id": lambda path: change(path, "UPDATE losses SET id = 8 WHERE seq = 1"),
    "another digest": lambda path: change(path, "UPDATE losses SET digest = randomblob(16) WHERE seq = 1"),
    "a text for a digest": lambda path: change(path, "UPDATE losses SET digest = 'text' WHERE seq = 1"),
    "a text for an id": lambda path: change(path, "UPDATE losses SET id = 'text' WHERE seq = 1"),
}


@pytest.mark.parametrize("kind", DOUBTS)
def test_a_journal_that_does_not_lead_to_the_map_is_not_believed(
    map_path: Path, frames: list[Frame], kind: str
) -> None:
    localizer_with(map_path, frames).close()
    kept = index_path(map_path).read_bytes()
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        localizer.remove([3, 4])
        localizer.update(sdk.Place("new", id=6), frames[2])
    index_path(map_path).write_bytes(kept)
    DOUBTS[kind](map_path)
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        assert localizer.store.index.origin == "rebuilt: its index is of another state of the map"
        assert_finds(localizer, {"new": frames[2], "0": frames[0], "11": frames[11]})
        assert localizer.query(frames[3]).matches[0].similarity < 0.99
        localizer.remove(12)  # and it is begun anew where it was lost
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        assert localizer.store.index.origin == "read"


def test_copies_that_lost_different_places_do_not_believe_each_other(map_path: Path, frames: list[Frame]) -> None:
    localizer_with(map_path, frames).close()
    copy = map_path.with_name("copy.places")
    shutil.copy(map_path, copy)
    shutil.copy(index_path(map_path), index_path(copy))
    for path, place_id in ((map_path, 4), (copy, 8)):
        with sdk.Localizer(FakeBackend(), path) as localizer:
            localizer.remove(place_id)
    shutil.copy(index_path(map_path), index_path(copy))
    with sdk.Localizer(FakeBackend(), copy) as localizer:
        assert localizer.store.index.origin == "rebuilt: its index is of another state of the map"
        assert_finds(localizer, {"3": frames[3]})


def test_a_map_of_before_the_journal_gets_one(map_path: Path, frames: list[Frame]) -> None:
    localizer_with(map_path, frames).close()
    connection = sqlite3.connect(map_path)
    assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'losses'").fetchall()
    connection.close()
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        localizer.remove(1)
    connection = sqlite3.connect(map_path)
    assert connection.execute("SELECT seq, id, length(digest) FROM losses").fetchall() == [(1, 1, 16)]
    connection.close()


def test_the_journal_does_not_grow_for_ever(
    map_path: Path, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdk.places.journal.JOURNAL_ROWS", 5)
    writer = localizer_with(map_path, frames)
    reader = sdk.Localizer(FakeBackend(), map_path)
    for i in range(9):
        writer.update(sdk.Place(str(i), id=1), frames[i])
    with writer.store.map.snapshot() as moment:
        assert (moment.losses, len(moment.lost_since(0)), len(moment.lost_since(8))) == (9, 1, 1)
        assert moment.connection.execute("SELECT min(seq), count(*) FROM losses").fetchone() == (5, 5)
    assert reader.query(frames[8]).matches[0].similarity > 0.999
    assert reader.store.index.origin == "rebuilt: its index is of another state of the map"
    writer.update(sdk.Place("last", id=1), frames[9])
    assert_finds(reader, {"last": frames[9]})
    assert reader.store.index.origin == "extended by 1 places, 1 taken out"
    writer.close()
    reader.close()


# ------------------------------------------------------------------ damage that is met later


@pytest.fixture
def late(map_path: Path) -> sdk.PlaceMap:
    """A map with an index of which a stored descriptor's block is damaged; nothing of that shows at opening."""
    place_map = sdk.PlaceMap.create(map_path, FakeBackend().contract)
    place_map.add_many([sdk.Place(str(i)) for i in range(PLACES)], unit_rows(PLACES))
    MapIndex(place_map).close()
    content = bytearray(index_path(map_path).read_bytes())
    content[-100_000] ^= 1
    index_path(map_path).write_bytes(content)
    return place_map


MEETINGS: dict[str, Callable[[MapIndex, sdk.PlaceMap], object]] = {
    "search": lambda index, place_map: index.search(unit_rows(PLACES), 5),
    "add": lambda index, place_map: index.add(place_map.add_many([sdk.Place()], unit_rows(1, seed=7))),
    "remove": lambda index, place_map: index.remove(place_map.remove([5])),
    "update": lambda index, place_map: index.replace(*place_map.update(sdk.Place(id=5), unit_rows(1, seed=7)[0])),
    "verify": lambda index, place_map: index.verify(),
    "follow an add": lambda index, place_map: (
        place_map.add_many([sdk.Place()], unit_rows(1, seed=7)),
        index.refresh(),
    ),
    "follow a removal": lambda index, place_map: (place_map.remove([5]), index.refresh()),
    "save": lambda index, place_map: (setattr(index, "_unsaved", 1), index.save()),
}


@pytest.mark.parametrize("meeting", MEETINGS)
def test_damage_that_is_met_later_is_mended_where_it_is_met(late: sdk.PlaceMap, meeting: str) -> None:
    index = MapIndex(late)
    assert index.origin == "read"
    MEETINGS[meeting](index, late)
    assert index.origin.startswith("rebuilt: its index is damaged in block ")
    assert str(late.file) not in index.origin
    assert len(index) == len(late)
    index.close()
    assert MapIndex(late).origin == "read"
    same_as_new(index, late)
    late.close()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_an_index_is_as_precise_as_its_map(tmp_path: Path, dtype: str) -> None:
    place_map = sdk.PlaceMap.create(tmp_path / "a.places", FakeBackend().contract, descriptor_dtype=dtype)
    rows = unit_rows(300)
    place_map.add_many([sdk.Place()] * 300, rows)
    index = MapIndex(place_map)
    assert index._index.precision == dtype
    similarities = index.search(rows, 1)[1]
    assert np.abs(similarities - 1).max() < (1e-6 if dtype == "float32" else 2e-3)
    index.close()
    other = "float32" if dtype == "float16" else "float16"
    place_map.descriptor_dtype = other
    assert MapIndex(place_map).origin == f"rebuilt: its index holds {dtype} descriptors, expected {other}"
    place_map.close()


def test_many_ask_while_damage_is_mended(late: sdk.PlaceMap) -> None:
    import threading

    index, wrong = MapIndex(late), []
    rows = unit_rows(PLACES)

    def ask(first: int) -> None:
        try:
            found = index.search(rows[first : first + 200], 1)[0][:, 0]
            wrong.extend(np.flatnonzero(found != np.arange(first, first + 200) + 1).tolist())
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(0, 2400, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert wrong == []
    assert index.origin.startswith("rebuilt")
    late.close()


def test_frames_are_found_after_a_reader_followed_many_changes(map_path: Path) -> None:
    frames = make_frames(60)
    with localizer_with(map_path, frames[:40]) as writer:
        reader = sdk.Localizer(FakeBackend(), map_path)
        for i in range(20):
            writer.remove(i + 1)
            writer.add(frames[40 + i], sdk.Place(str(40 + i)))
            assert_finds(reader, {str(40 + i): frames[40 + i], str(39): frames[39]})
        assert "rebuilt" not in reader.store.index.origin
        reader.close()
