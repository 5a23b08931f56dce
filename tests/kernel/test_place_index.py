"""PlaceIndex: exact search against numpy, the graph against the exact search."""

import signal

import numpy as np
import pytest

from sdk._core import PlaceIndex, l2_normalize


def gaussian(n, dim, seed=0):
    return l2_normalize(np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32))


def lattice(n, dim, seed=0):
    """Unit rows of a few values 0 and +-1/2 (or one +-1): float32 dots are exact, and many are equal."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((n, dim), np.float32)
    count = 4 if dim >= 4 else 1
    for row in rows:
        row[rng.choice(dim, count, replace=False)] = rng.choice([-1, 1], count) / np.sqrt(count)
    return rows


def filled(rows, first_id=0, **graph):
    index = PlaceIndex(rows.shape[1])
    index.add(np.arange(first_id, first_id + len(rows)), rows)
    if graph:
        index.build_graph(**graph)
    return index


def cosines(queries, rows):
    # Row by row, not a matrix product: equal rows must have equal cosines.
    return np.array([(rows.astype(np.float64) * query).sum(axis=1) for query in queries.astype(np.float64)])


def ranked(queries, rows, k):
    return np.argsort(-cosines(queries, rows), axis=1, kind="stable")[:, :k]


def check_answer(queries, ids, similarities, rows):
    """Ids are distinct rows, similarities are theirs, best first."""
    assert ids.shape == similarities.shape
    assert ids.min(initial=0) >= 0
    for query, found, reported in zip(queries, ids, similarities, strict=True):
        assert len(set(found.tolist())) == len(found)
        np.testing.assert_allclose(reported, rows[found].astype(np.float64) @ query, atol=1e-5)
        assert (np.diff(reported) <= 0).all()


@pytest.mark.parametrize("dim", [1, 3, 16, 17, 472])
@pytest.mark.parametrize("k", [1, 5, 99])
def test_exact_search_is_a_stable_sort(dim, k):
    rows, queries = lattice(60, dim), lattice(7, dim, seed=1)
    ids, similarities = filled(rows, first_id=1000).search(queries, k)
    expected = ranked(queries, rows, k)
    np.testing.assert_array_equal(ids, expected + 1000)
    np.testing.assert_array_equal(similarities, np.take_along_axis(cosines(queries, rows), expected, axis=1))
    assert ids.shape == (7, min(k, 60))
    assert (ids.dtype, similarities.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("dim", [3, 17, 472])
def test_exact_search_of_real_numbers(dim):
    rows, queries = gaussian(2500, dim), gaussian(5, dim, seed=1)  # three blocks of rows
    ids, similarities = filled(rows).search(queries, 10)
    check_answer(queries, ids, similarities, rows)
    expected = cosines(queries, rows)
    np.testing.assert_allclose(similarities, -np.sort(-expected, axis=1)[:, :10], atol=1e-6)


@pytest.mark.parametrize("dim", [1, 15, 16, 40, 472])
def test_similarities_are_summed_in_the_same_order_on_every_machine(dim):
    rows, query = gaussian(50, dim), gaussian(1, dim, seed=1)[0]
    products = rows * query  # float32
    lanes, tail, end = np.zeros((50, 16), np.float32), np.zeros(50, np.float32), dim - dim % 16
    for start in range(0, end, 16):
        lanes += products[:, start : start + 16]
    for width in (8, 4, 2, 1):
        lanes = lanes[:, :width] + lanes[:, width : 2 * width]
    for column in range(end, dim):
        tail += products[:, column]
    ids, similarities = filled(rows).search(query, 50)
    np.testing.assert_array_equal(similarities, np.clip(lanes[:, 0] + tail, -1, 1)[ids])


@pytest.mark.parametrize("graph", [False, True])
def test_an_empty_index_answers_with_nothing(graph):
    index = PlaceIndex(4)
    if graph:
        assert index.build_graph() is True
    for queries, shape in [(gaussian(3, 4), (3, 0)), (gaussian(3, 4)[0], (0,)), (np.empty((0, 4), "f4"), (0, 0))]:
        ids, similarities = index.search(queries, 5)
        assert ids.shape == similarities.shape == shape
    assert (len(index), index.removed, index.last_id, index.has_graph) == (0, 0, -1, graph)
    index.add([7], gaussian(1, 4)[0])
    assert index.search(gaussian(1, 4)[0], 5)[0].tolist() == [7]


def bad_rows(row, value):
    rows = gaussian(3, 8)
    rows[row] = value
    return rows


@pytest.mark.parametrize(
    ("ids", "rows", "error", "message"),
    [
        ([10, 11, 3], gaussian(3, 8), ValueError, "place id 3 is in the index already"),
        ([10, 11, 10], gaussian(3, 8), ValueError, "place id 10 occurs twice"),
        ([10, 11, -2], gaussian(3, 8), ValueError, "place id -2 is negative"),
        ([10, 11], gaussian(3, 8), ValueError, r"ids have shape \(2,\), expected \(3,\)"),
        ([10.0, 11.0, 12.0], gaussian(3, 8), TypeError, "ids have dtype float64, expected int64"),
        ([[10], [11, 12]], gaussian(3, 8), ValueError, "inhomogeneous"),
        ([10, 11, 12], gaussian(3, 9), ValueError, r"descriptors has shape \(3, 9\), expected \(n, 8\)"),
        ([10, 11, 12], gaussian(3, 8).astype("f8"), TypeError, "descriptors has dtype float64, expected float32"),
        ([10, 11, 12], bad_rows(2, 0.5), ValueError, "descriptor 2 has length 1.41421, expected 1"),
        ([10, 11, 12], bad_rows(1, np.nan), ValueError, "descriptor 1 has a value that is not finite"),
    ],
)
def test_a_bad_add_changes_nothing(ids, rows, error, message):
    index = filled(gaussian(5, 8))
    with pytest.raises(error, match=message):
        index.add(ids, rows)
    assert (len(index), index.last_id) == (5, 4)
    assert sorted(index.search(gaussian(1, 8)[0], 99)[0].tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index: index.search(gaussian(2, 9), 1), r"queries has shape \(2, 9\), expected \(n, 8\) or \(8,\)"),
        (lambda index: index.search(bad_rows(1, 1.0), 1), "query 1 has length 2.82"),
        (lambda index: index.search(gaussian(2, 8), 0), "k is 0, expected 1 or more"),
        (lambda index: index.search(gaussian(2, 8), 1, ef=0), "ef is 0, expected 1 or more"),
        (lambda index: index.build_graph(m=1), "m is 1, expected 2 to 128"),
        (lambda index: index.build_graph(m=129), "m is 129, expected 2 to 128"),
        (lambda index: index.build_graph(m=16, ef_construction=15), "ef_construction is 15, expected 16 to 4096"),
        (lambda index: PlaceIndex(0), "dim is 0, expected 1 or more"),
        (lambda index: PlaceIndex(65537), "dim is 65537, expected 1 to 65536"),
    ],
)
def test_a_value_out_of_range_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(filled(gaussian(5, 8)))


@pytest.mark.parametrize("graph", [{}, {"m": 8}])
def test_removed_places_are_gone_until_they_are_added_again(graph):
    rows = gaussian(50, 8)
    index = filled(rows, **graph)
    for ids in ([1, 50], [1, 1], [-1]):
        with pytest.raises(ValueError, match=f"place id {ids[-1]}"):
            index.remove(ids)
    assert len(index) == 50
    index.remove(np.arange(0, 50, 2))
    assert (len(index), index.removed, index.last_id) == (25, 25, 49)
    assert sorted(index.search(rows[0], 99)[0].tolist()) == list(range(1, 50, 2))
    with pytest.raises(ValueError, match="place id 4 is not in the index"):
        index.remove([4])
    index.add([4], rows[10])
    ids, similarities = index.search(rows[10], 1)
    assert (ids[0], len(index), index.removed) == (4, 26, 25)
    assert similarities[0] == pytest.approx(1)
    index.remove(index.search(rows[0], 99)[0])
    assert index.search(rows[:3], 5)[0].shape == (3, 0)


def recall(ids, expected):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(ids.tolist(), expected.tolist(), strict=True)])


def test_the_graph_finds_what_the_scan_finds_and_grows_with_adds_and_removals(drive):
    rows, queries = drive
    index = filled(rows[:3600], m=16, ef_construction=100)
    ids, similarities = index.search(queries, 10)
    check_answer(queries, ids, similarities, rows)
    assert recall(ids, ranked(queries, rows[:3600], 10)) >= 0.95
    index.add(np.arange(3600, 4000), rows[3600:])
    ids, _ = index.search(rows[3600:], 1)
    assert (ids[:, 0] == np.arange(3600, 4000)).mean() >= 0.99
    gone = np.random.default_rng(3).permutation(4000)[:2000]
    index.remove(gone)
    left = np.setdiff1d(np.arange(4000), gone)
    ids, similarities = index.search(queries, 10)
    check_answer(queries, ids, similarities, rows)
    assert np.isin(ids, left).all()
    assert recall(ids, left[ranked(queries, rows[left], 10)]) >= 0.95
    np.testing.assert_array_equal(index.search(queries, 10, exact=True)[0], left[ranked(queries, rows[left], 10)])


def test_what_the_graph_cannot_reach_is_scanned():
    rows = np.repeat(lattice(20, 8), 30, axis=0)  # copies are linked to copies alone
    index = filled(rows, m=2, ef_construction=2)
    index.remove(np.arange(0, 600, 3))
    queries = lattice(5, 8, seed=1)
    for answer, expected in zip(index.search(queries, 400), index.search(queries, 400, exact=True), strict=True):
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize("seed", range(20))
def test_a_graph_of_mostly_removed_places_can_grow(seed):
    # Seed 3 makes hnswlib's own deletion marks read out of bounds; only the address sanitizer sees it.
    rng = np.random.default_rng(seed)
    dim, count = int(rng.choice([2, 3, 8])), int(rng.integers(20, 300))
    rows = l2_normalize(rng.normal(size=(2 * count + 400, dim)).astype(np.float32))
    index, alive, end = filled(rows[:count], m=2, ef_construction=2), np.arange(count), count
    for _ in range(6):
        gone = rng.permutation(alive)[: int(len(alive) * rng.choice([0.5, 0.9, 0.99]))]
        index.remove(gone)
        new = np.arange(end, end + int(rng.integers(1, 60)))
        index.add(new, rows[new])
        alive, end = np.concatenate([np.setdiff1d(alive, gone), new]), int(new[-1]) + 1
        ids, similarities = index.search(rows[:5], 3)
        assert ids.shape == (5, min(3, len(alive)))
        assert np.isin(ids, alive).all()
        check_answer(rows[:5], ids, similarities, rows)


def test_a_build_tells_how_far_it_is():
    told = []
    assert filled(gaussian(600, 8)).build_graph(progress=lambda done, total: told.append((done, total))) is True
    assert told == [(256, 600), (512, 600), (600, 600)]


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
@pytest.mark.parametrize("graph", [{}, {"m": 4}])
def test_what_progress_raises_cancels_the_build(error, graph):
    rows = gaussian(600, 8)
    index = filled(rows, **graph)
    before = index.search(rows[:50], 5)

    def cancel(done, total):
        raise error("enough")

    with pytest.raises(error, match="enough"):
        index.build_graph(progress=cancel)
    assert index.has_graph == bool(graph)
    np.testing.assert_array_equal(index.search(rows[:50], 5), before)
    index.add([600], rows[0])
    assert index.build_graph() is True
    assert index.has_graph


def test_ctrl_c_ends_a_build_that_tells_nobody():
    index = filled(gaussian(4000, 256))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            index.build_graph(m=32, ef_construction=400)  # seconds, left alone
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not index.has_graph
    assert len(index) == 4000
