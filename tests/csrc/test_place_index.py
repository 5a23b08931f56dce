"""PlaceIndex: exact search equals numpy bit for bit; sketches, the graph and int8 are compared with exact search."""

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sdk._core import PlaceIndex, instruction_sets, l2_normalize, measure_costs

PRECISIONS = ["float16", "float32", "int8"]


def gaussian(n, dim, seed=0):
    return l2_normalize(np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32))


def alike(n, dim, seed=0):
    """Rows like those of networks: any two have a cosine of about 0.94."""
    rng = np.random.default_rng(seed)
    return l2_normalize((np.ones(dim) + 0.25 * rng.normal(size=(n, dim))).astype(np.float32))


def lattice(n, dim, seed=0):
    """Unit rows of a few values 0 and +-1/2 (or one +-1): float32 dots are exact, and many are equal."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((n, dim), np.float32)
    count = 4 if dim >= 4 else 1
    for row in rows:
        row[rng.choice(dim, count, replace=False)] = rng.choice([-1, 1], count) / np.sqrt(count)
    return rows


def filled(rows, first_id=0, graph=None, **kwargs):
    index = PlaceIndex(rows.shape[1], **kwargs)
    index.add(np.arange(first_id, first_id + len(rows)), rows)
    if graph is not None:
        index.build_graph(**graph)
    return index


def as_stored(rows, precision="float16"):
    return rows.astype(np.float16).astype(np.float32) if precision == "float16" else rows


def scores(queries, rows, precision="float16"):
    """float32 (queries, rows), added in the order of csrc/kernels/kernels.hpp: 32 lanes, then halves of them."""
    padding = [(0, 0), (0, -rows.shape[1] % 32)]
    blocks = np.pad(as_stored(rows, precision), padding).reshape(len(rows), -1, 32)
    found = np.empty((len(queries), len(rows)), np.float32)
    for answer, query in zip(found, np.pad(queries, padding).reshape(len(queries), -1, 32), strict=True):
        lanes = np.zeros((len(rows), 32), np.float32)
        for block, part in zip(blocks.swapaxes(0, 1), query, strict=True):
            lanes += block * part
        for width in (16, 8, 4, 2, 1):
            lanes = lanes[:, :width] + lanes[:, width : 2 * width]
        answer[:] = lanes[:, 0]
    return found


def cosines(queries, rows, precision="float16"):
    return queries.astype(np.float64) @ as_stored(rows, precision).astype(np.float64).T


def ranked(queries, rows, k, precision="float16"):
    return np.argsort(-scores(queries, rows, precision), axis=1, kind="stable")[:, :k]


def check_answer(queries, ids, similarities, rows, precision="float16"):
    """Checks that ids are distinct rows, similarities are theirs, and the order is best first."""
    assert ids.shape == similarities.shape
    assert ids.min(initial=0) >= 0
    for query, found, reported in zip(queries, ids, similarities, strict=True):
        assert len(set(found.tolist())) == len(found)
        truth = (as_stored(rows[found], precision).astype(np.float64) @ query).clip(-1, 1)
        np.testing.assert_allclose(reported, truth, atol=1e-6)
        assert (np.diff(reported) <= 0).all()


def recall(ids, expected):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(ids.tolist(), expected.tolist(), strict=True)])


def same_bits(answer, expected):
    assert answer[0].dtype == np.int64
    assert answer[1].dtype == np.float32
    np.testing.assert_array_equal(answer[0], expected[0])
    np.testing.assert_array_equal(answer[1].view(np.uint32), expected[1].view(np.uint32))


# Batches of rows to add, and queries.
def parked_first(dim):
    """A parked robot gives the middle and the spread. Later rows lie far outside the range of its codes."""
    return [np.repeat(gaussian(1, dim, seed=5), 64, axis=0), gaussian(150, dim, seed=6)], gaussian(4, dim, seed=6)


def mixed_copies(dim):
    rows = np.concatenate([gaussian(200, dim), np.repeat(gaussian(1, dim, seed=3), 300, axis=0)])
    return [rows[np.random.default_rng(4).permutation(500)]], np.concatenate([gaussian(2, dim, seed=1), rows[-2:]])


ADVERSARIES = {
    "random": lambda dim: ([gaussian(600, dim)], gaussian(6, dim, seed=1)),
    "a common mean": lambda dim: ([alike(600, dim)], alike(6, dim, seed=1)),
    "against the mean": lambda dim: ([alike(300, dim)], -alike(4, dim, seed=1)),
    "one-hot": lambda dim: ([np.eye(dim, dtype="f4")[np.arange(300) % dim]], np.eye(dim, dtype="f4")[:5]),
    "orthogonal": lambda dim: (
        [np.eye(dim, dtype="f4")[:-1]] if dim > 1 else [-np.eye(1, dtype="f4")],
        np.eye(dim, dtype="f4")[-1:],
    ),
    "few values": lambda dim: ([lattice(400, dim)], lattice(6, dim, seed=1)),
    "all the same": lambda dim: ([np.repeat(gaussian(1, dim), 400, axis=0)], gaussian(4, dim, seed=1)),
    "many the same": mixed_copies,
    "near the same": lambda dim: (
        [l2_normalize(gaussian(1, dim) + np.float32(1e-4) * gaussian(500, dim, seed=2))],
        gaussian(1, dim),
    ),
    "parked first": parked_first,
    "small numbers": lambda dim: ([gaussian(30, dim)], gaussian(3, dim, seed=1)),
    "two sides": lambda dim: ([np.concatenate([gaussian(1, dim)] * 90 + [-gaussian(1, dim)] * 10)], gaussian(1, dim)),
}


@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 17, 64, 130, 472])
@pytest.mark.parametrize("kind", ADVERSARIES)
def test_exact_search_is_a_stable_sort_of_what_is_stored(kind, dim, precision):
    batches, queries = ADVERSARIES[kind](dim)
    index, count = PlaceIndex(dim, precision=precision), 0
    for batch in batches:
        index.add(np.arange(count, count + len(batch)) + 1000, batch)
        count += len(batch)
    rows = np.concatenate(batches)
    expected, order = scores(queries, rows, precision), ranked(queries, rows, count, precision)
    np.testing.assert_allclose(expected, cosines(queries, rows, precision), atol=1e-6)
    for k in (1, 3, 10, count, count + 5):
        best = np.take_along_axis(expected, order[:, :k], axis=1).clip(-1, 1)
        same_bits(index.search(queries, k, exact=True), (order[:, :k] + 1000, best))
    gone = np.random.default_rng(7).permutation(count)[: count // 3]
    index.remove(gone + 1000)
    left = np.setdiff1d(np.arange(count), gone)
    for k in (1, 10, count):
        best = left[ranked(queries, rows[left], k, precision)]
        answer = np.take_along_axis(expected, best, axis=1).clip(-1, 1)
        same_bits(index.search(queries, k, method="scan"), (best + 1000, answer))


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_every_instruction_set_scans_exactly(drive, precision, instruction_set):
    rows, queries = drive
    queries = queries[:30]
    index = filled(rows, precision=precision, instruction_set=instruction_set)
    assert (index.precision, index.instruction_set, index.dim) == (precision, instruction_set, 64)
    order = ranked(queries, rows, 10, precision)
    expected = np.take_along_axis(scores(queries, rows, precision), order, axis=1)
    same_bits(index.search(queries, 10, exact=True), (order, expected))


@pytest.mark.parametrize("dim", [3, 100, 472])
@pytest.mark.parametrize("kind", ADVERSARIES)
def test_a_scan_of_int8_codes_is_their_whole_order_cut_short(kind, dim):
    batches, queries = ADVERSARIES[kind](dim)
    rows = np.concatenate(batches)
    index = filled(rows, precision="int8")
    ids, similarities = index.search(queries, len(rows), exact=True)
    assert (np.sort(ids, axis=1) == np.arange(len(rows))).all()
    assert (np.diff(similarities) <= 0).all()
    for a, b in zip(ids, similarities, strict=True):
        assert (np.diff(a)[(np.diff(b) == 0) & (np.abs(b[1:]) < 1)] > 0).all()
    for k in (1, 3, 10):
        same_bits(index.search(queries, k, exact=True), (ids[:, :k], similarities[:, :k]))


@pytest.mark.parametrize("dim", [64, 472])
def test_int8_is_close_to_the_truth(drive, dim):
    rows, queries = drive if dim == 64 else (alike(3000, dim), alike(3000, dim)[::15])
    index = filled(rows, precision="int8")
    ids, similarities = index.search(queries, 10, exact=True)
    truth = cosines(queries, rows, "float32")
    assert (ids[:, 0] == truth.argmax(axis=1)).mean() >= 0.97
    off = np.abs(similarities - np.take_along_axis(truth, ids, axis=1))
    assert np.median(off) < 0.002
    assert off.max() < 0.03
    index.build_graph(m=16, ef_construction=100)
    assert (index.search(queries, 1, method="graph", ef=128)[0][:, 0] == ids[:, 0]).mean() >= 0.97
    same_bits(index.search(queries, 10, method="sketch"), (ids, similarities))  # it has no sketches


def test_int8_codes_hold_what_comes_after_a_parked_robot():
    # The first batch is all alike. Codes of its spread cannot represent any other place.
    (parked, others), _ = parked_first(472)
    index = filled(parked, precision="int8")
    index.add(np.arange(64, 64 + len(others)), others)
    ids, similarities = index.search(others, 1, exact=True)
    assert (ids[:, 0] == np.arange(64, 64 + len(others))).mean() >= 0.97
    np.testing.assert_allclose(similarities, 1, atol=0.03)  # a value in 16,000 is clipped


def test_the_widest_rows_opposite_to_their_middle_are_all_found():
    # The integer bound must hold where a similarity of -2 has more steps than int32.
    pole = np.eye(1, 65536, dtype=np.float32)
    index = filled(np.repeat(pole, 64, axis=0))
    index.add(np.arange(64, 74), np.repeat(-pole, 10, axis=0))
    ids, similarities = index.search(pole[0], 74, exact=True)
    np.testing.assert_array_equal(ids, np.arange(74))
    np.testing.assert_array_equal(similarities, np.repeat([1, -1], [64, 10]))


def test_the_index_takes_a_new_middle_as_it_grows_and_stays_exact():
    # The mean moves while rows are added one by one, past 64, 256 and 1024 rows.
    rng = np.random.default_rng(0)
    drift = gaussian(1, 72)[0] * np.linspace(1, -1, 1100)[:, None] + 0.5 * gaussian(1, 72, seed=1)
    rows = l2_normalize((drift + rng.normal(size=(1100, 72)) * 0.02).astype(np.float32))
    queries = rows[[0, 500, 1099]]
    for precision in ("float16", "float32"):
        index = PlaceIndex(72, precision=precision)
        for count, row in enumerate(rows, 1):
            index.add([count - 1], row)
            if count == 100:
                index.remove([50])
            if count == 200:
                index.build_graph(m=8, ef_construction=32)
            if count in (63, 64, 65, 99, 255, 256, 257, 600, 1023, 1024, 1025, 1100):
                left = np.delete(np.arange(count), 50) if count >= 100 else np.arange(count)
                order = left[ranked(queries, rows[left], 20, precision)]
                expected = np.take_along_axis(scores(queries, rows[:count], precision), order, axis=1).clip(-1, 1)
                same_bits(index.search(queries, 20, exact=True), (order, expected))
                if count in (64, 65, 256, 257, 1024, 1025, 1100):
                    assert recall(index.search(queries, 20, method="sketch")[0], order) >= 0.95


@pytest.mark.parametrize("method", ["sketch", "graph"])
def test_a_parked_robot_that_drives_on_is_found(method):
    # 1030 frames of one place, then 3000 of others. The middle and the spread must follow.
    dim, parked = 128, np.repeat(gaussian(1, 128, seed=3), 1030, axis=0)
    places = np.repeat(gaussian(150, dim, seed=4), 20, axis=0)
    driven = l2_normalize(places + np.float32(0.6) * gaussian(3000, dim, seed=8))
    queries = l2_normalize(driven[::15] + np.float32(0.5) * gaussian(200, dim, seed=12))
    index = filled(parked)
    for first in range(0, 3000, 100):
        index.add(np.arange(1030 + first, 1130 + first), driven[first : first + 100])
    index.build_graph(m=16, ef_construction=100)
    expected = index.search(queries, 5, exact=True)[0]
    assert recall(index.search(queries, 5, method=method)[0], expected) >= 0.95


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [8, 64, 100, 472, 512, 700])
def test_every_instruction_set_gives_the_same_bits(tmp_path, dim, precision):
    rows = np.concatenate([alike(400, dim), gaussian(50, dim), np.repeat(gaussian(1, dim, seed=1), 30, axis=0)])
    queries = np.concatenate([alike(5, dim, seed=1), gaussian(5, dim, seed=1)])
    answers = []
    for name in instruction_sets():
        index = filled(rows[:460], graph={"m": 6, "ef_construction": 24}, precision=precision, instruction_set=name)
        index.add(np.arange(460, 480), rows[460:])
        index.remove([3, 99, 460])
        answers.append([index.search(queries, 7, method=method) for method in ("scan", "sketch", "graph")])
        cursor = index.cursor()
        answers[-1] += [cursor.search(query, 7, method="graph") for query in queries]
        index.save(str(tmp_path / name), contract=bytes(32), state=bytes(32))
        assert (tmp_path / name).read_bytes() == (tmp_path / "scalar").read_bytes()
    for others in answers[1:]:
        for answer, expected in zip(others, answers[0], strict=True):
            same_bits(answer, expected)


@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_sketches_find_what_the_scan_finds(drive, precision, instruction_set):
    rows, queries = drive
    index = filled(rows, precision=precision, instruction_set=instruction_set)
    ids, similarities = index.search(queries, 10, method="sketch")
    check_answer(queries, ids, similarities, rows, precision)
    order = ranked(queries, rows, 10, precision)
    assert recall(ids, order) >= 0.99
    index.remove(np.arange(0, 4000, 2))
    left = np.arange(1, 4000, 2)
    ids, _ = index.search(queries, 10, method="sketch")
    assert recall(ids, left[ranked(queries, rows[left], 10, precision)]) >= 0.99
    np.testing.assert_array_equal(
        index.search(queries[:9], 2000, method="sketch"), index.search(queries[:9], 2000, exact=True)
    )


@pytest.mark.parametrize("dim", [100, 472])
def test_sketches_see_through_a_common_mean(dim):
    centres = np.repeat(alike(150, dim, seed=3), 20, axis=0)
    rows = l2_normalize(centres + np.float32(0.05) * gaussian(3000, dim, seed=4))
    queries = l2_normalize(rows[::20] + np.float32(0.03) * gaussian(150, dim, seed=5))
    index = filled(rows, graph={"m": 16, "ef_construction": 100})
    order = ranked(queries, rows, 10)
    for method in ("sketch", "graph"):
        assert recall(index.search(queries, 10, method=method)[0], order) >= 0.97


# Ten stops of a robot that gives 300 identical frames at each, between 5000 other places.
@pytest.fixture(scope="module")
def stops():
    rng = np.random.default_rng(8)
    moving, parked = gaussian(5000, 64, seed=9), gaussian(10, 64, seed=10)
    rows = np.concatenate(
        [part for i in range(10) for part in (moving[500 * i : 500 * i + 500], np.repeat(parked[i : i + 1], 300, 0))]
    )
    others = np.concatenate([np.arange(800 * i, 800 * i + 500) for i in range(10)])
    chosen = rng.choice(others, 300, replace=False)
    queries = l2_normalize(rows[chosen] + np.float32(0.3) * gaussian(300, 64, seed=11))
    return parked, queries, filled(rows, graph={"m": 16, "ef_construction": 80})


def test_identical_frames_do_not_hide_places(stops):
    parked, queries, index = stops
    expected = index.search(queries, 1, exact=True)[0]
    assert (index.search(queries, 1, method="graph", ef=128)[0] == expected).mean() >= 0.97
    ids, similarities = index.search(parked, 300, method="graph")  # every stop with all its frames
    for stop, found in enumerate(ids):
        np.testing.assert_array_equal(found, np.arange(800 * stop + 500, 800 * stop + 800))
    np.testing.assert_allclose(similarities, 1, atol=1e-3)
    near = l2_normalize(parked + np.float32(0.1) * gaussian(10, 64, seed=12))
    same_bits(index.search(near, 5, method="graph"), index.search(near, 5, exact=True))


def test_identical_frames_survive_a_file_removals_and_adds(stops, tmp_path):
    parked, queries, built = stops
    built.save(str(tmp_path / "index"), contract=bytes(32), state=bytes(32))
    index, _ = PlaceIndex.load(str(tmp_path / "index"), dim=64, contract=bytes(32))
    for method in ("scan", "sketch", "graph"):
        same_bits(index.search(queries, 5, method=method), built.search(queries, 5, method=method))
        same_bits(index.search(parked, 300, method=method), built.search(parked, 300, method=method))
    index.remove([500])  # the linked row of the first stop
    ids, _ = index.search(parked[0], 299, method="graph")
    np.testing.assert_array_equal(ids, np.arange(501, 800))
    index.add([9000, 9001], parked[:2])
    np.testing.assert_array_equal(index.search(parked[0], 300, method="graph")[0], [*range(501, 800), 9000])
    assert index.search(parked[1], 301, method="graph")[0].tolist() == [*range(1300, 1600), 9001]
    new = gaussian(50, 64, seed=13)
    index.add(np.arange(9100, 9150), new)
    assert (index.search(new, 1, method="graph")[0][:, 0] == np.arange(9100, 9150)).mean() >= 0.96
    index.remove([*range(501, 800), 9000])
    ids, _ = index.search(parked[0], 5, method="graph")
    assert not set(ids.tolist()) & {9000, *range(500, 800)}
    expected = index.search(queries, 1, exact=True)[0]
    assert (index.search(queries, 1, method="graph", ef=128)[0] == expected).mean() >= 0.97


def test_explain_names_the_method_and_counts_its_work(drive):
    rows, queries = drive
    index = filled(rows, graph={"m": 8, "ef_construction": 40})
    assert index.explain(queries[0], 5, exact=True)["method"] == "scan"
    by = {method: index.explain(queries[0], 5, method=method) for method in ("scan", "sketch", "graph")}
    for method, said in by.items():
        assert set(said) == {"method", "compared", "scored"}
        assert said["method"] == method
        assert 5 <= said["scored"] <= 4000
    assert by["scan"]["compared"] == by["sketch"]["compared"] == 4000
    assert by["graph"]["compared"] < 1500
    assert index.explain(queries[:1], 5)["method"] in by
    wide = index.explain(queries[0], 5, method="graph", ef=400)
    assert wide["compared"] > by["graph"]["compared"]
    assert PlaceIndex(8).explain(gaussian(1, 8)[0], 1)["scored"] == 0


def test_the_method_follows_the_costs(drive):
    rows, queries = drive
    index = filled(rows, graph={"m": 8, "ef_construction": 40})
    measured = measure_costs()
    assert set(measured) == {"scan_byte", "sketch_byte", "gather_line"}
    assert all(0 < value < 1e9 for value in measured.values())
    index.set_costs(measured)
    same_bits(index.search(queries, 3), index.search(queries, 3, method=index.explain(queries[0], 3)["method"]))
    for wrong in (0, -1, np.nan, np.inf, 1e9):
        with pytest.raises(ValueError, match=r"costs\['sketch_byte'\] is "):
            index.set_costs({**measured, "sketch_byte": wrong})
    with pytest.raises(KeyError):
        index.set_costs({"scan_byte": 1.0})
    assert len(index.search(queries[0], 3)[0]) == 3


@pytest.mark.parametrize("ef", [2**40, 2**62, sys.maxsize])
@pytest.mark.parametrize("gone", [[], [0]])
def test_a_walk_may_keep_more_rows_than_there_are(ef, gone):
    index = filled(gaussian(4, 8), graph={"m": 4})
    index.remove(gone)
    query = gaussian(1, 8, seed=1)
    same_bits(index.search(query, 3, ef=ef, method="graph"), index.search(query, 3, exact=True))
    same_bits(index.cursor().search(query, 3, ef=ef, method="graph"), index.search(query, 3, exact=True))


@pytest.mark.parametrize("graph", [False, True])
def test_an_empty_index_answers_with_nothing(graph):
    index = PlaceIndex(4)
    if graph:
        assert index.build_graph() is None
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
        (lambda index: index.search(gaussian(2, 8), 1, method="graph"), "the method is 'graph' and there is no graph"),
        (lambda index: index.search(gaussian(2, 8), 1, method="tree"), "method is 'tree', expected one of '', 'scan'"),
        (lambda index: index.search(gaussian(2, 8), 1, exact=True, method="sketch"), "method is 'sketch' and exact"),
        (lambda index: index.search(gaussian(2, 8), 1, exact=True, method="graph"), "method is 'graph' and exact"),
        (lambda index: index.explain(gaussian(2, 8), 1), "query has 2 rows, expected one"),
        (lambda index: index.cursor().search(gaussian(2, 8), 1), "query has 2 rows, expected one"),
        (lambda index: PlaceIndex(8, precision="float64"), "precision is 'float64', expected one of 'float16'"),
        (lambda index: PlaceIndex(8, instruction_set="mmx"), "instruction set is 'mmx', expected .* has: scalar"),
        (lambda index: PlaceIndex(0), "dim is 0, expected 1 or more"),
        (lambda index: PlaceIndex(65537), "dim is 65537, expected 1 to 65536"),
    ],
)
def test_a_value_out_of_range_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(filled(gaussian(5, 8)))


@pytest.mark.parametrize("graph", [None, {"m": 8}])
def test_removed_places_are_gone_until_they_are_added_again(graph):
    rows = gaussian(50, 8)
    index = filled(rows, graph=graph)
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


def test_the_graph_finds_what_the_scan_finds_and_grows_with_adds_and_removals(drive):
    rows, queries = drive
    index = filled(rows[:3600], graph={"m": 16, "ef_construction": 100})
    ids, similarities = index.search(queries, 10, method="graph")
    check_answer(queries, ids, similarities, rows)
    assert recall(ids, ranked(queries, rows[:3600], 10)) >= 0.95
    index.add(np.arange(3600, 4000), rows[3600:])
    ids, _ = index.search(rows[3600:], 1, method="graph")
    assert (ids[:, 0] == np.arange(3600, 4000)).mean() >= 0.99
    gone = np.random.default_rng(3).permutation(4000)[:2000]
    index.remove(gone)
    left = np.setdiff1d(np.arange(4000), gone)
    ids, similarities = index.search(queries, 10, method="graph")
    check_answer(queries, ids, similarities, rows)
    assert np.isin(ids, left).all()
    assert recall(ids, left[ranked(queries, rows[left], 10)]) >= 0.95
    np.testing.assert_array_equal(index.search(queries, 10, exact=True)[0], left[ranked(queries, rows[left], 10)])


@pytest.mark.parametrize("dim", [8, 16, 32, 64, 100])
def test_the_graph_finds_the_best_in_few_dimensions(dim):
    rows, queries = gaussian(1500, dim), gaussian(300, dim, seed=3)
    index = filled(rows, graph={"m": 16, "ef_construction": 100})
    expected = ranked(queries, rows, 1)
    for method in ("sketch", "graph"):
        assert (index.search(queries, 1, method=method, ef=256)[0] == expected).mean() >= 0.97


def test_what_the_graph_cannot_reach_is_scanned():
    rows = np.repeat(lattice(20, 8), 30, axis=0)  # twenty places with two links each
    index = filled(rows, graph={"m": 2, "ef_construction": 2})
    index.remove(np.arange(0, 600, 3))
    queries = lattice(5, 8, seed=1)
    for answer, expected in zip(
        index.search(queries, 400, method="graph"), index.search(queries, 400, exact=True), strict=True
    ):
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize("seed", range(20))
def test_a_graph_of_mostly_removed_places_can_grow(seed):
    rng = np.random.default_rng(seed)
    dim, count = int(rng.choice([2, 3, 8])), int(rng.integers(20, 300))
    rows = l2_normalize(rng.normal(size=(2 * count + 400, dim)).astype(np.float32))
    index, alive, end = filled(rows[:count], graph={"m": 2, "ef_construction": 2}), np.arange(count), count
    for _ in range(6):
        gone = rng.permutation(alive)[: int(len(alive) * rng.choice([0.5, 0.9, 0.99]))]
        index.remove(gone)
        new = np.arange(end, end + int(rng.integers(1, 60)))
        index.add(new, rows[new])
        alive, end = np.concatenate([np.setdiff1d(alive, gone), new]), int(new[-1]) + 1
        ids, similarities = index.search(rows[:5], 3, method="graph")
        assert ids.shape == (5, min(3, len(alive)))
        assert np.isin(ids, alive).all()
        check_answer(rows[:5], ids, similarities, rows)


def test_a_build_reports_its_progress():
    reports = []
    index = filled(gaussian(1600, 8))
    assert index.build_graph(m=4, ef_construction=8, progress=lambda *numbers: reports.append(numbers)) is None
    done = [done for done, total in reports]
    assert done == sorted(set(done))
    assert reports[-1] == (1600, 1600)
    assert {total for _, total in reports} == {1600}
    assert np.diff([0, *done]).max() <= 320


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
@pytest.mark.parametrize("graph", [None, {"m": 4}])
@pytest.mark.parametrize("when", [1, 600])
def test_what_progress_raises_cancels_the_build(tmp_path, error, graph, when):
    rows = gaussian(600, 8)
    index = filled(rows, graph=graph)
    before = [index.search(rows[:50], 5, method=method) for method in ("scan", "sketch", "graph")[: 2 + bool(graph)]]
    index.save(str(tmp_path / "before"), contract=bytes(32), state=bytes(32))

    def cancel(done, total):
        if done >= when:
            raise error("enough")

    with pytest.raises(error, match="enough"):
        index.build_graph(m=7, progress=cancel)
    assert index.has_graph == bool(graph)
    for method, answer in zip(("scan", "sketch", "graph"), before, strict=False):
        same_bits(index.search(rows[:50], 5, method=method), answer)
    index.save(str(tmp_path / "after"), contract=bytes(32), state=bytes(32))
    assert (tmp_path / "after").read_bytes() == (tmp_path / "before").read_bytes()
    index.add([600], rows[0])
    index.build_graph()
    assert index.has_graph


def test_progress_may_use_and_change_the_index(tmp_path):
    rows = gaussian(1000, 16)
    index = filled(rows[:700])
    reports = []

    def busy(done, total):
        reports.append((done, total))
        count = len(reports)
        if count <= 3:
            index.add(np.arange(700 + 100 * (count - 1), 700 + 100 * count), rows[600 + 100 * count :][:100])
            index.remove([count])
        index.save(str(tmp_path / "index"), contract=bytes(32), state=bytes(32))
        assert (index.search(rows[500:505], 1)[0][:, 0] == np.arange(500, 505)).all()
        assert not index.has_graph

    thread = threading.Thread(target=index.build_graph, kwargs={"progress": busy, "m": 8}, daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert reports[-1] == (1000, 1000)
    assert index.has_graph
    assert (len(index), index.removed) == (997, 3)
    found = index.search(rows, 1, method="graph")[0][:, 0]
    assert (found == np.arange(1000))[4:].mean() >= 0.99  # including rows added during the build
    assert not np.isin(found, [1, 2, 3]).any()
    index.add([5000], rows[1])
    assert index.search(rows[1], 1, method="graph")[0].tolist() == [5000]


def test_rows_added_by_another_thread_during_a_build_are_in_the_graph():
    rows = gaussian(2500, 32)
    index, more, errors = filled(rows[:2000]), threading.Event(), []

    def add():
        try:
            more.wait(30)
            for i in range(2000, 2500, 10):
                index.add(np.arange(i, i + 10), rows[i : i + 10])
        except BaseException as error:
            errors.append(error)

    adder = threading.Thread(target=add)
    adder.start()
    index.build_graph(m=8, ef_construction=60, progress=lambda done, total: more.set())
    adder.join()
    assert not errors
    assert (index.search(rows, 1, method="graph", ef=100)[0][:, 0] == np.arange(2500)).mean() >= 0.98


def test_ctrl_c_ends_a_build_without_progress():
    index = filled(gaussian(4000, 256))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            index.build_graph(m=32, ef_construction=400)  # takes seconds if not interrupted
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not index.has_graph
    assert len(index) == 4000


def test_rows_near_the_middle_and_far_from_it_are_found():
    # If rows were linked by products without the middle, rows far from it would be neighbours of all others.
    rng = np.random.default_rng(0)
    middle = gaussian(1, 128)
    directions = rng.normal(size=(4000, 16)) @ rng.normal(size=(16, 128))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    radius = np.where(rng.random(4000) < 0.5, 0.3, 0.7)
    rows = l2_normalize((middle + radius[:, None] * directions).astype(np.float32))
    index = filled(rows, graph={"m": 16, "ef_construction": 100})
    near = np.flatnonzero(radius == 0.3)[::10]
    queries = l2_normalize(rows[near] + np.float32(0.01) * gaussian(len(near), 128, seed=2))
    expected = index.search(queries, 10, exact=True)[0]
    found = index.search(queries, 10, method="graph")[0]
    assert (found[:, 0] == expected[:, 0]).mean() >= 0.97
    assert recall(found, expected) >= 0.85


def test_exact_search_of_codes_misses_none_that_rounding_made_longer():
    # Rows whose codes all round up: the scored rows are longer than the given ones.
    rng = np.random.default_rng(3)
    for seed in range(40):
        rows = l2_normalize(gaussian(1, 128, seed=seed) + np.float32(0.02) * rng.normal(size=(17, 128)).astype("f4"))
        index = filled(rows, precision="int8")
        query = rows[0]
        same_bits(index.search(query, 1, exact=True), [part[:1] for part in index.search(query, 17, exact=True)])


def test_two_saves_to_one_path_leave_a_whole_file(tmp_path):
    path = tmp_path / "index"
    indexes = [filled(gaussian(2000 + 500 * i, 64)) for i in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            saves = [pool.submit(i.save, str(path), contract=bytes(32), state=bytes(32)) for i in indexes]
            assert all(save.result() is None for save in saves)
            loaded, _ = PlaceIndex.load(str(path), dim=64, contract=bytes(32))
            loaded.verify()
            assert len(loaded) in (2000, 2500)
    assert list(tmp_path.iterdir()) == [path]


def test_a_build_that_its_own_progress_starts_is_refused():
    index = filled(gaussian(100, 8))
    with pytest.raises(RuntimeError, match="called by its own progress callback"):
        index.build_graph(progress=lambda done, total: index.build_graph())
    assert not index.has_graph


def test_explain_names_the_way_that_was_taken():
    small, codes = filled(gaussian(500, 8)), filled(gaussian(3000, 8), precision="int8")
    assert small.explain(gaussian(1, 8)[0], 3, method="sketch")["method"] == "scan"  # sketches would select all rows
    assert codes.explain(gaussian(1, 8)[0], 3, method="sketch")["method"] == "scan"
    index = filled(gaussian(3000, 32), graph={"m": 8})
    index.remove(np.arange(2990))
    assert index.explain(gaussian(1, 32)[0], 3)["method"] == "scan"  # a walk would have to keep nearly all rows


def test_what_is_no_number_is_refused_by_name():
    index = filled(gaussian(5, 8))
    with pytest.raises(TypeError, match=r"costs\['scan_byte'\] is not a number"):
        index.set_costs({**measure_costs(), "scan_byte": "much"})
    with pytest.raises(ValueError, match="place id 9223372036854775813 is too large"):
        index.add(np.array([2**63 + 5], np.uint64), gaussian(1, 8))
