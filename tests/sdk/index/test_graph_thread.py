"""The graph of a large map is built beside the answers, and whoever leaves does not wait for it."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from map_fakes import FakeBackend, Frame, assert_finds, localizer_with, unit_rows

import sdk
from sdk._core import IndexFileError, PlaceIndex
from sdk.index.file import index_path
from sdk.index.graph_thread import RUNNING
from sdk.index.map_index import MapIndex

PLACES = 3000


@pytest.fixture(autouse=True)
def graph_from(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setattr("sdk.index.map_index.GRAPH_FROM", 1000)
    yield monkeypatch
    for thread in tuple(RUNNING):
        thread.cancel()
        thread.join(timeout=20)
    assert not RUNNING


@pytest.fixture
def large(map_path: Path) -> Iterator[sdk.PlaceMap]:
    """A map of so many places that it gets a graph, and no index yet."""
    place_map = sdk.PlaceMap.create(map_path, FakeBackend().contract)
    place_map.add_many([sdk.Place(str(i)) for i in range(PLACES)], unit_rows(PLACES))
    yield place_map
    place_map.close()


class Gate:
    """A graph build that stands still until it is let on, or for ever."""

    def __init__(self, patch: pytest.MonkeyPatch, error: BaseException | None = None) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        build_graph = PlaceIndex.build_graph

        def slow(index: PlaceIndex, progress) -> None:  # type: ignore[no-untyped-def]
            self.reached.set()
            while not self.opened.wait(0.01):
                progress(0, len(index))
            if error is not None:
                raise error
            build_graph(index, progress=progress)

        patch.setattr(PlaceIndex, "build_graph", slow)


def assert_answers(index: MapIndex, rows: range = range(0, PLACES, 250)) -> None:
    ids, similarities = index.search(unit_rows(PLACES)[list(rows)], 1)
    assert ids[:, 0].tolist() == [row + 1 for row in rows]
    assert (similarities > 0.999).all()


def wait_for_the_end(index: MapIndex) -> None:
    assert index._graph is not None
    index._graph.join(timeout=20)
    assert not index._graph.is_alive()


def test_an_opened_map_answers_at_once_and_is_saved_with_its_graph(
    large: sdk.PlaceMap, graph_from: pytest.MonkeyPatch
) -> None:
    gate = Gate(graph_from)
    told: list[str] = []
    index = MapIndex(large, lambda what, *numbers: told.append(what))
    gate.reached.wait(20)
    assert not index.has_graph
    assert_answers(index)
    assert MapIndex(large).origin == "read", "the index is saved before the graph is begun"
    gate.opened.set()
    wait_for_the_end(index)
    assert (index.has_graph, index.graph_error) == (True, None)
    assert_answers(index)
    assert set(told) == {"index"}, "nobody waits for the graph, so nobody is told"
    again = MapIndex(large)
    assert (again.origin, again.has_graph, again._graph) == ("read", True, None)


def test_who_waits_for_the_graph_is_told(large: sdk.PlaceMap) -> None:
    told: list[tuple[str, int, int]] = []
    threads = set()

    def tell(*progress: object) -> None:
        told.append(progress)  # type: ignore[arg-type]
        threads.add(threading.current_thread())

    index = MapIndex(large, tell)
    index.build_graph()
    assert index.has_graph
    assert told[-1] == ("graph", PLACES, PLACES)
    assert threads == {threading.main_thread()}
    index.build_graph()
    index.close()


def test_ctrl_c_and_what_progress_raises_cancel_the_build(large: sdk.PlaceMap, graph_from: pytest.MonkeyPatch) -> None:
    gate = Gate(graph_from)

    def tell(what: str, done: int, total: int) -> None:
        if what == "graph":
            raise KeyboardInterrupt

    index = MapIndex(large, tell)
    with pytest.raises(KeyboardInterrupt):
        index.build_graph()
    assert not RUNNING
    assert not index.has_graph
    assert_answers(index)
    gate.opened.set()
    index._progress = None
    index.build_graph()
    assert index.has_graph


@pytest.mark.parametrize("leave", ["close", "forget", "rebuild"])
def test_who_leaves_does_not_wait_for_the_graph(
    large: sdk.PlaceMap, graph_from: pytest.MonkeyPatch, leave: str
) -> None:
    gate = Gate(graph_from)
    index = MapIndex(large)
    thread = index._graph
    assert thread is not None
    assert gate.reached.wait(20)
    started = time.monotonic()
    if leave == "close":
        index.close()
        assert not thread.is_alive()
    elif leave == "forget":
        del index
        gc.collect()
    else:
        index._rebuild("a test")
    thread.join(timeout=20)
    assert time.monotonic() - started < 5
    assert not thread.is_alive()
    assert thread.error is None
    if leave == "rebuild":
        index.refresh()
        assert_answers(index)
        index.stop()
    assert MapIndex(large).origin == "read"


def test_a_process_that_ends_does_not_wait_for_the_graph(map_path: Path, child) -> None:  # type: ignore[no-untyped-def]
    leaving = child(
        """
        from sdk.index import map_index
        map_index.GRAPH_FROM = 1000
        place_map = sdk.PlaceMap.create(sys.argv[1], FakeBackend(dim=512).contract)
        place_map.add_many([sdk.Place()] * 20_000, unit_rows(20_000, dim=512))
        index = map_index.MapIndex(place_map)  # its graph takes much longer than the 20 s that a child has to end
        time.sleep(0.5)
        print(index._graph.is_alive(), index._graph.progress[0] > 0, time.time(), flush=True)
        """,
        map_path,
    )
    alive, begun, ended = leaving.says().split()
    assert (alive, begun) == ("True", "True")
    leaving.end()
    assert time.time() - float(ended) < 5


@pytest.mark.parametrize("error", [MemoryError("no room"), OSError("no medium"), ValueError("a surprise")])
def test_what_ends_the_build_is_kept_and_answers_go_on(
    large: sdk.PlaceMap, graph_from: pytest.MonkeyPatch, error: Exception
) -> None:
    gate = Gate(graph_from, error)
    index = MapIndex(large)
    gate.opened.set()
    wait_for_the_end(index)
    assert index.graph_error is error
    assert_answers(index)
    index.add(large.add_many([sdk.Place("new")], unit_rows(1, seed=1)))
    assert index.graph_error is error, "it is not begun again with each place"
    with pytest.raises(type(error), match=str(error)):
        index.build_graph()
    index.close()


def test_a_thread_that_cannot_be_had_costs_only_the_graph(large: sdk.PlaceMap, graph_from: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    graph_from.setattr(threading.Thread, "start", start)
    index = MapIndex(large)
    assert isinstance(index.graph_error, RuntimeError)
    assert_answers(index)
    index.close()


def test_a_graph_that_cannot_be_saved_is_used(large: sdk.PlaceMap, graph_from: pytest.MonkeyPatch) -> None:
    def save(*arguments: object, **options: object) -> None:
        raise IndexFileError("no room")

    graph_from.setattr(PlaceIndex, "save", save)
    index = MapIndex(large)
    wait_for_the_end(index)
    assert (index.has_graph, index.graph_error) == (True, None)
    assert not index.save()
    assert not index_path(large.file).exists()


def test_places_come_and_go_while_the_graph_is_built(map_path: Path, frames: list[Frame]) -> None:
    rows = unit_rows(PLACES)
    localizer = localizer_with(map_path, frames)
    localizer.store.add([sdk.Place(f"row {i}") for i in range(PLACES)], rows)
    begun = localizer.store.index._graph
    assert begun is not None, "it is begun when there are places enough"
    for i in range(200):
        place = localizer.store.add([sdk.Place(f"more {i}")], unit_rows(1, seed=10 + i))[0]
        if i % 3 == 0:
            localizer.remove(place.id or 0)
        assert_finds(localizer, {str(i % 12): frames[i % 12]})
    localizer.store.index.build_graph()
    assert localizer.store.index._graph is begun
    assert localizer.store.index.graph_recall() > 0.95
    size = len(localizer)
    localizer.close()
    with sdk.Localizer(FakeBackend(), map_path) as again:
        assert (again.store.index.origin, again.store.index.has_graph, len(again.store.index)) == ("read", True, size)
        assert_finds(again, {str(i): frame for i, frame in enumerate(frames)})


def test_a_query_does_not_wait_while_the_index_is_saved(
    map_path: Path, frames: list[Frame], graph_from: pytest.MonkeyPatch
) -> None:
    localizer_with(map_path, frames).close()
    reader = sdk.Localizer(FakeBackend(), map_path)
    with sdk.Localizer(FakeBackend(), map_path) as writer:
        with reader.store.index._lock:  # as while it is saved, by its own thread
            writer.add(frames[0][::-1].copy(), sdk.Place("new"))
            answers: list[sdk.Localization] = []
            asking = threading.Thread(target=lambda: answers.append(reader.query(frames[1])))
            asking.start()
            asking.join(timeout=20)
            assert answers[0].place is not None
            assert answers[0].place.name == "1"
        assert_finds(reader, {"new": frames[0][::-1].copy()})
    reader.close()


def test_a_reader_without_the_graph_leaves_the_saved_one(large: sdk.PlaceMap, graph_from: pytest.MonkeyPatch) -> None:
    first = MapIndex(large)
    first.build_graph()
    first.close()
    gate = Gate(graph_from)
    reader = MapIndex(large)
    assert reader.has_graph
    reader._rebuild("a test")
    assert not reader.save()
    reader.close()
    assert MapIndex(large).has_graph
    index_path(large.file).write_bytes(index_path(large.file).read_bytes()[:-1])
    without = MapIndex(large)
    assert gate.reached.wait(20)
    without.close()
    assert (MapIndex(large).origin, MapIndex(large).has_graph) == ("read", False)


def test_a_file_that_is_damaged_while_the_graph_is_built(large: sdk.PlaceMap, graph_from: pytest.MonkeyPatch) -> None:
    with graph_from.context() as patch:
        patch.setattr("sdk.index.map_index.GRAPH_FROM", 10**9)
        MapIndex(large).close()
    content = bytearray(index_path(large.file).read_bytes())
    content[-100_000] ^= 1  # of a stored descriptor, in a block that is not looked at when it is opened
    index_path(large.file).write_bytes(content)
    told: list[str] = []
    index = MapIndex(large, lambda what, *numbers: told.append(what))
    assert index.origin == "read"
    index.build_graph()
    assert "is damaged in block" in index.origin
    assert (index.has_graph, index.graph_error) == (True, None)
    assert set(told) == {"graph"}, "what the thread does is told to nobody"
    assert np.isclose(index.graph_recall(), 1.0)
    assert MapIndex(large).origin == "read"
