"""PlaceIndex from several threads at once."""

import threading
import time

import numpy as np

from sdk._core import PlaceIndex


def filled(rows):
    index = PlaceIndex(rows.shape[1])
    index.add(np.arange(len(rows)), rows)
    return index


class Searchers:
    """Threads that call `search` until the block ends. The block then raises their first exception."""

    def __init__(self, search, count=4):
        self.over, self.errors = threading.Event(), []
        self.threads = [threading.Thread(target=self.run, args=(search,)) for _ in range(count)]

    def run(self, search):
        state = {}
        try:
            while not self.over.is_set():
                search(state)
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
        if self.errors:
            raise self.errors[0]


def test_searches_run_beside_an_add_and_a_build(drive):
    rows, queries = drive
    index = filled(rows[:1000])
    index.remove(np.arange(100))

    def search(state):
        size = len(index)
        ids, similarities = index.search(queries[:20], 5)
        np.testing.assert_allclose(similarities, np.einsum("qd,qkd->qk", queries[:20], rows[ids]), atol=3e-4)
        assert (np.diff(similarities) <= 0).all()
        assert all(len(set(found)) == 5 for found in ids.tolist())
        assert ids.min() >= 100
        assert size >= state.get("size", 900)
        assert ids.max() < 100 + len(index)
        state["size"] = size

    def add():
        for first in range(1000, 1800, 20):
            index.add(np.arange(first, first + 20), rows[first : first + 20])
            time.sleep(0.001)

    with Searchers(search):
        adder = threading.Thread(target=add)
        adder.start()
        while adder.is_alive():
            index.build_graph(m=8, ef_construction=16)
        adder.join()
    assert len(index) == 1700
    cosines = queries.astype(np.float64) @ rows[100:1800].astype(np.float16).T.astype(np.float64)
    expected = 100 + np.argsort(-cosines, axis=1)[:, :5]
    np.testing.assert_array_equal(index.search(queries, 5, exact=True)[0], expected)


def test_searches_that_keep_coming_do_not_keep_an_add_waiting(drive):
    rows, queries = drive
    index = filled(rows[:3900])
    many = np.tile(queries, (3, 1))  # long searches, which always overlap
    with Searchers(lambda _: index.search(many, 5)):
        adder = threading.Thread(target=index.add, args=(np.arange(3900, 4000), rows[3900:]))
        adder.start()
        adder.join(timeout=5)
        assert not adder.is_alive()
    assert len(index) == 4000


def test_python_runs_on_during_a_search(drive):
    rows, queries = drive
    index = filled(rows)
    many, ticks = np.tile(queries, (15, 1)), []
    with Searchers(lambda _: (ticks.append(time.perf_counter()), time.sleep(0.001)), count=1):
        start = time.perf_counter()
        index.search(many, 1)
        end = time.perf_counter()
    quarter = (end - start) / 4
    assert any(start + quarter < tick < end - quarter for tick in ticks)
