"""The index is read, extended or built anew: whatever lies beside the map, the answers are the map's."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from map_fakes import FakeBackend, Frame, assert_finds, localizer_with, make_frames, neighbours, unit_rows

import sdk
from sdk._core import INDEX_FILE_VERSION
from sdk.index.file import index_path
from sdk.index.map_index import UNKNOWN, MapIndex


@pytest.fixture(params=["scan", "graph"])
def search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With a graph from the first place on, or without."""
    monkeypatch.setattr("sdk.index.map_index.GRAPH_FROM", 1 if request.param == "graph" else 50_000)
    return str(request.param)


def named(frames: list[Frame]) -> dict[str, Frame]:
    return {str(i): frame for i, frame in enumerate(frames)}


def opened(path: Path, expected: dict[str, Frame], gone: list[Frame] | None = None) -> str:
    """Open the map, require that it finds what it should and equals a new index; where its index came from."""
    with sdk.Localizer(FakeBackend(), path) as localizer:
        localizer.store.index.build_graph()
        assert len(localizer.store.index) == len(localizer)
        assert_finds(localizer, expected)
        origin = localizer.store.index.origin  # some damage is found when it is met
        for frame in gone or []:
            assert localizer.query(frame, k=1).matches[0].similarity < 0.99
    return origin


def zero(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(length))


def invert(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0xFF]))


def future_version(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8)
        file.write((INDEX_FILE_VERSION + 1).to_bytes(4, "little"))


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.unlink(), "it had no index"),
        (lambda path: path.write_bytes(b""), "has 0 bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "has 1000 bytes"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes, expected"),
        (lambda path: path.write_text("no index" * 1000), "is not an index file"),
        (lambda path: zero(path, 0, 64), "is not an index file"),
        (lambda path: zero(path, 64, 32), "damaged header"),
        (lambda path: zero(path, 4096, 4), "damaged checksums"),
        (lambda path: invert(path, 8192), "is damaged in block 0"),
        (future_version, f"has version {INDEX_FILE_VERSION + 1}"),
    ],
)
def test_a_damaged_index_is_built_anew(
    map_path: Path, frames: list[Frame], search: str, damage: Callable[[Path], object], why: str
) -> None:
    localizer_with(map_path, frames).close()
    damage(index_path(map_path))
    origin = opened(map_path, named(frames))
    assert origin.startswith("rebuilt: ")
    assert why in origin
    assert str(map_path) not in origin
    assert opened(map_path, named(frames)) == "read"


def test_an_index_that_cannot_be_written_costs_only_time(map_path: Path, frames: list[Frame]) -> None:
    localizer_with(map_path, frames).close()
    replaced_by_a_folder(index_path(map_path))
    for _ in range(2):
        assert opened(map_path, named(frames)).startswith("rebuilt: ")


def test_an_index_of_another_model_is_built_anew(map_path: Path, frames: list[Frame], search: str) -> None:
    localizer_with(map_path, frames).close()
    other = map_path.with_name("other.places")
    with sdk.Localizer(FakeBackend(weights="b" * 64), other, create=True) as localizer:
        localizer.add(frames[0], sdk.Place())
    shutil.copy(index_path(other), index_path(map_path))
    assert opened(map_path, named(frames)) == "rebuilt: its index was made with another model"


def test_an_index_of_an_earlier_state_is_extended(map_path: Path, frames: list[Frame], search: str) -> None:
    localizer_with(map_path, frames[:5]).close()
    kept = index_path(map_path).read_bytes()
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        localizer.add_many([(frames[i], sdk.Place(str(i))) for i in range(5, 12)])
    index_path(map_path).write_bytes(kept)
    assert opened(map_path, named(frames)) == "extended by 7 places"
    assert opened(map_path, named(frames)) == "read"


def test_the_newest_places_removed_again_leave_an_earlier_state(map_path: Path, frames: list[Frame]) -> None:
    localizer_with(map_path, frames[:5]).close()
    kept = index_path(map_path).read_bytes()
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        place = localizer.add(frames[5], sdk.Place("5"))
        localizer.remove(place.id or 0)
    index_path(map_path).write_bytes(kept)
    assert opened(map_path, named(frames[:5]), gone=[frames[5]]) == "read"


def test_copies_that_went_apart_do_not_believe_each_other(map_path: Path, frames: list[Frame], search: str) -> None:
    localizer_with(map_path, frames[:4]).close()
    copy = map_path.with_name("copy.places")
    shutil.copy(map_path, copy)
    shutil.copy(index_path(map_path), index_path(copy))
    for path, first in ((map_path, 4), (copy, 8)):  # the same ids for other places
        with sdk.Localizer(FakeBackend(), path) as localizer:
            for i in range(first, first + 4):
                localizer.add(frames[i], sdk.Place(str(i)))
    spare = map_path.with_name("spare")
    index_path(map_path).rename(spare)
    index_path(copy).rename(index_path(map_path))
    spare.rename(index_path(copy))
    mine, theirs = named(frames[:8]), {**named(frames[:4]), **{str(i): frames[i] for i in range(8, 12)}}
    assert opened(map_path, mine, gone=frames[8:]) == "rebuilt: its index is of another state of the map"
    assert opened(copy, theirs, gone=frames[4:8]) == "rebuilt: its index is of another state of the map"


def test_an_index_that_is_newer_than_the_map_is_built_anew(map_path: Path, frames: list[Frame], search: str) -> None:
    localizer_with(map_path, frames[:6]).close()
    backup = map_path.read_bytes()
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        localizer.add_many([(frame, sdk.Place("lost")) for frame in frames[6:]])
    map_path.write_bytes(backup)
    assert opened(map_path, named(frames[:6]), gone=frames[6:]).startswith("rebuilt: its index is of another state")


def test_an_index_of_mostly_removed_rows_is_built_anew(map_path: Path, frames: list[Frame]) -> None:
    with localizer_with(map_path, frames) as localizer:
        localizer.remove(range(1, 8))
    assert opened(map_path, {"11": frames[11]}, gone=frames[:7]) == "rebuilt: most rows of its index were removed"


CRASHES = {
    "remove": "localizer.remove(2)",
    "update": "localizer.update(sdk.Place('new', id=2), make_frames(1, seed=5)[0])",
    "add": "localizer.add(make_frames(1, seed=5)[0], sdk.Place('new'))",
}


@pytest.mark.parametrize("change", CRASHES)
def test_a_change_outlives_a_kill_that_the_index_did_not_see(
    map_path: Path,
    frames: list[Frame],
    search: str,
    change: str,
    child,  # type: ignore[no-untyped-def]
) -> None:
    localizer_with(map_path, frames).close()
    code = f"""
        localizer = sdk.Localizer(FakeBackend(), sys.argv[1])
        {CRASHES[change]}
        print("done", flush=True)
        sys.stdin.readline()
        """
    crashed = child(code, map_path)
    assert crashed.says() == "done"
    crashed.kill()
    expected = named(frames)
    if change != "add":
        del expected["1"]
    if change != "remove":
        expected["new"] = make_frames(1, seed=5)[0]
    origin = opened(map_path, expected, gone=[] if change == "add" else [frames[1]])
    assert origin == f"extended by {0 if change == 'remove' else 1} places" + (
        "" if change == "add" else ", 1 taken out"
    )
    left = {map_path.name, map_path.name + ".index", map_path.name + ".lock"}  # the next writer takes that one over
    assert neighbours(map_path) == left


def test_an_interrupted_change_leaves_an_index_that_nobody_believes(map_path: Path, frames: list[Frame]) -> None:
    localizer = localizer_with(map_path, frames)
    add = localizer.store.index._index.add

    class Interrupted:
        def __getattr__(self, name: str) -> object:
            return getattr(index, name)

        def __len__(self) -> int:
            return len(index)

        def add(self, *arguments: object) -> None:
            add(*arguments)  # type: ignore[arg-type]
            raise KeyboardInterrupt

    index = localizer.store.index._index
    localizer.store.index._index = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        localizer.update(sdk.Place("new", id=1), frames[0][::-1].copy())
    assert localizer.store.index._follows == UNKNOWN
    assert not localizer.store.index.save()
    assert_finds(localizer, {**{str(i): frames[i] for i in range(1, 12)}, "new": frames[0][::-1].copy()})
    assert localizer.store.index.origin.startswith("rebuilt")
    localizer.close()


def test_long_work_is_saved_at_once_and_told(map_path: Path) -> None:
    place_map = sdk.PlaceMap.create(map_path, FakeBackend().contract)
    place_map.add_many([sdk.Place()] * 1500, unit_rows(1500))
    told: list[tuple[str, int, int]] = []
    MapIndex(place_map, lambda *progress: told.append(progress))  # and no close: a robot is switched off
    assert ("index", 1500, 1500) in told
    assert MapIndex(place_map).origin == "read"
    place_map.close()


def test_a_reader_extends_and_never_rebuilds_while_another_process_adds(
    map_path: Path, frames: list[Frame], child
) -> None:  # type: ignore[no-untyped-def]
    localizer_with(map_path, frames).close()
    adding = child(
        """
        place_map = sdk.PlaceMap.open(sys.argv[1])
        print("adding", flush=True)
        for i in range(100_000):
            place_map.add_many([sdk.Place(f"new {i}")], unit_rows(1, seed=i))
        """,
        map_path,
    )
    with sdk.Localizer(FakeBackend(), map_path) as localizer:
        adding.says()
        deadline = time.monotonic() + 20
        while len(localizer) < 60:
            localizer.query(frames[0])
            assert not localizer.store.index.origin.startswith("rebuilt")
            assert adding.process.poll() is None
            assert time.monotonic() < deadline, len(localizer)


def test_a_killed_saver_s_file_is_swept_and_a_living_one_s_is_not(map_path: Path, frames: list[Frame]) -> None:
    localizer = localizer_with(map_path, frames)
    dead, living = (index_path(map_path).with_name(f"{map_path.name}.index.tmp-{pid}") for pid in (2**30, 1))
    dead.touch()
    living.touch()
    localizer.close()
    assert not dead.exists()
    assert living.exists()


def test_the_map_is_the_truth_without_its_index(map_path: Path, frames: list[Frame]) -> None:
    localizer_with(map_path, frames).close()
    index_path(map_path).unlink()
    connection = sqlite3.connect(map_path)
    assert connection.execute("SELECT count(*) FROM places").fetchone() == (12,)
    connection.close()
    assert opened(map_path, named(frames)) == "rebuilt: it had no index"


def test_a_change_that_went_past_the_index_shows_at_the_next_look(map_path: Path, frames: list[Frame]) -> None:
    localizer = localizer_with(map_path, frames[:5])
    backend = FakeBackend()
    moved = sdk.Localizer(backend, map_path).describe(frames[9])
    place = localizer.store.map.all_places()[0]
    add_many = localizer.store.map.add_many

    def add_and_change(*arguments: object) -> object:
        pairs = add_many(*arguments)  # type: ignore[arg-type]
        localizer.store.map.update(place, moved)  # between the map's change and the index's
        return pairs

    localizer.store.map.add_many = add_and_change  # type: ignore[method-assign, assignment]
    localizer.add(frames[5], sdk.Place("5", (5, 0)))
    answer = localizer.query(frames[9])
    assert answer.place is not None
    assert answer.place.id == place.id
    assert answer.matches[0].similarity > 0.99
    localizer.close()


def test_opening_reads_no_descriptor_when_the_index_is_there(map_path: Path, frames: list[Frame]) -> None:
    localizer_with(map_path, frames[:5]).close()
    with sqlite3.connect(map_path) as database:
        database.execute("UPDATE places SET descriptor = zeroblob(length(descriptor))")
    database.close()
    assert opened(map_path, named(frames[:5])) == "read"
    place_map = sdk.PlaceMap.open(map_path)
    assert place_map.check() != [], "that they are gone is found by who reads them"
    place_map.close()


def test_an_index_does_not_grow_with_updates(
    map_path: Path, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdk.index.map_index.WORTH_SAVING", 10)
    with localizer_with(map_path, frames[:5]) as localizer:
        place = localizer.store.map.all_places()[2]
        for i in range(60):
            localizer.update(place, frames[5 + i % 2])
        assert localizer.store.index.num_rows <= 2 * 10
        assert localizer.query(frames[6]).matches[0].place.id == place.id
