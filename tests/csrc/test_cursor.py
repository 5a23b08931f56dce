"""Cursor: finds as much as a graph search on a drive, also after the robot is carried elsewhere."""

import gc
import threading

import numpy as np
import pytest

from sdk._core import PlaceIndex, instruction_sets, l2_normalize

DIM, PLACES = 96, 6000
EF = 48


def gaussian(n, dim, seed):
    return l2_normalize(np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32))


def mixed(rows, noise, seed):
    return l2_normalize(rows + np.float32(noise) * gaussian(len(rows), rows.shape[1], seed))


@pytest.fixture(scope="module")
def route():
    """Places along a road, each similar to the one before, and two drives with frames near places 0, 4, 8, ..."""
    rng = np.random.default_rng(1)
    view, rows = rng.normal(size=DIM), []
    for _ in range(PLACES):
        view = 0.95 * view + np.sqrt(1 - 0.95**2) * rng.normal(size=DIM)
        rows.append(view)
    rows = l2_normalize(np.array(rows, np.float32))
    index = PlaceIndex(DIM)
    index.add(np.arange(PLACES), rows)
    index.build_graph(m=12, ef_construction=80)
    frames = mixed(rows[::4], 0.5, seed=2)
    return index, rows, frames


def run(cursor, frames, k=5, **kwargs):
    return np.array([cursor.search(frame, k, method="graph", **kwargs)[0] for frame in frames])


def recall(ids, expected):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(ids.tolist(), expected.tolist(), strict=True)])


def compare(index, frames, ids, least, k=5):
    """The cursor finds at least as many right ids as a graph search, or at most `least` fewer."""
    expected = index.search(frames, k, exact=True)[0]
    alone = index.search(frames, k, ef=EF, method="graph")[0]
    assert recall(alone, expected) >= 0.97
    assert recall(ids, expected) >= recall(alone, expected) - least
    assert (ids[:, 0] == expected[:, 0]).mean() >= (alone[:, 0] == expected[:, 0]).mean() - least


def test_frames_in_order_are_found_as_by_the_graph(route):
    index, _, frames = route
    cursor = index.cursor()
    followed, answers = [], []
    for frame in frames:
        ids, similarities = cursor.search(frame, 5, ef=EF, method="graph")
        assert ids.shape == similarities.shape == (5,)
        assert (ids.dtype, similarities.dtype) == (np.int64, np.float32)
        assert (np.diff(similarities) <= 0).all()
        answers.append(ids)
        followed.append(cursor.followed)
    compare(index, frames, np.array(answers), 0.02)
    assert not followed[0]
    assert np.mean(followed) >= 0.8


def test_a_frame_may_be_one_row_of_a_matrix(route):
    index, _, frames = route
    one, row = index.cursor(), index.cursor()
    for frame in frames[:5]:
        ids, similarities = one.search(frame, 3, ef=EF)
        ids_of_row, similarities_of_row = row.search(frame[None], 3, ef=EF)
        assert ids_of_row.shape == (1, 3)
        np.testing.assert_array_equal(ids_of_row[0], ids)
        np.testing.assert_array_equal(similarities_of_row[0], similarities)


@pytest.mark.parametrize("period", [2, 7, 20, 50])
def test_a_robot_that_is_carried_elsewhere_is_found_there(route, period):
    index, _, frames = route
    rng = np.random.default_rng(period)
    starts = rng.integers(0, len(frames) - period, 700 // period)
    order = np.concatenate([np.arange(start, start + period) for start in starts])
    ids = run(index.cursor(), frames[order], ef=EF)
    compare(index, frames[order], ids, 0.02)
    landings = np.arange(0, len(order), period)
    expected = index.search(frames[order[landings]], 1, exact=True)[0][:, 0]
    assert (ids[landings, 0] == expected).mean() >= 0.95


def test_places_that_are_visited_again_are_found_again(route):
    index, rows, _ = route
    order = np.concatenate([np.arange(0, 800, 4), np.arange(800, 0, -4), np.arange(0, 800, 4)])
    frames = mixed(rows[order], 0.5, seed=5)
    compare(index, frames, run(index.cursor(), frames, ef=EF), 0.02)


def test_frames_of_no_place_do_not_spoil_those_after_them(route):
    index, _, frames = route
    cursor = index.cursor()
    run(cursor, frames[:100], ef=EF)
    nowhere = gaussian(50, DIM, seed=6)
    run(cursor, nowhere, ef=EF)
    compare(index, frames[100:300], run(cursor, frames[100:300], ef=EF), 0.02)


def test_a_cursor_that_was_left_alone_starts_where_it_was_and_finds_the_robot(route):
    index, _, frames = route
    cursor = index.cursor()
    run(cursor, frames[:50], ef=EF)
    for start in (1200, 400, 900):
        compare(index, frames[start : start + 60], run(cursor, frames[start : start + 60], ef=EF), 0.02)


def test_reset_makes_a_cursor_a_new_one(route):
    index, _, frames = route
    used, new = index.cursor(), index.cursor()
    run(used, frames[:80], ef=EF)
    assert used.followed
    used.reset()
    assert not used.followed
    for frame in frames[700:740]:
        answer, expected = used.search(frame, 5, ef=EF), new.search(frame, 5, ef=EF)
        np.testing.assert_array_equal(answer[0], expected[0])
        np.testing.assert_array_equal(answer[1], expected[1])
        assert used.followed == new.followed


def test_the_first_search_is_the_index_own(route):
    index, _, frames = route
    for frame in frames[::100]:
        answer = index.cursor().search(frame, 7, ef=EF, method="graph")
        for part, expected in zip(answer, index.search(frame, 7, ef=EF, method="graph"), strict=True):
            np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("method", ["", "scan", "sketch"])
def test_without_a_graph_a_cursor_searches_as_the_index_does(route, method):
    _, rows, frames = route
    index = PlaceIndex(DIM)
    cursor = index.cursor()
    assert cursor.search(frames[0], 5, method=method)[0].shape == (0,)
    index.add(np.arange(2000), rows[:2000])
    for frame in frames[:100]:
        answer, expected = cursor.search(frame, 5, method=method), index.search(frame, 5, method=method)
        np.testing.assert_array_equal(answer[0], expected[0])
        np.testing.assert_array_equal(answer[1], expected[1])
        assert not cursor.followed
    with pytest.raises(ValueError, match="there is no graph"):
        cursor.search(frames[0], 5, method="graph")
    index.build_graph(m=12, ef_construction=80)
    compare(index, frames[:400], run(cursor, frames[:400], ef=EF), 0.02)


def test_an_exact_frame_between_others(route):
    index, _, frames = route
    cursor = index.cursor()
    run(cursor, frames[:20], ef=EF)
    ids, similarities = cursor.search(frames[900], 10, exact=True)
    expected = index.search(frames[900], 10, exact=True)
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_array_equal(similarities, expected[1])
    assert not cursor.followed


@pytest.mark.parametrize(
    ("query", "kwargs", "error", "message"),
    [
        (np.zeros(DIM, "f4"), {}, ValueError, "query 0 has length 0, expected 1|query 0"),
        (np.full(DIM, np.nan, "f4"), {}, ValueError, "query 0 has a value that is not finite"),
        (np.ones(3, "f4"), {}, ValueError, r"query has shape \(3,\), expected"),
        (np.ones(DIM), {}, TypeError, "query has dtype float64, expected float32"),
        (np.eye(2, DIM, dtype="f4"), {}, ValueError, "query has 2 rows, expected one"),
        (np.eye(1, DIM, dtype="f4"), {"k": 0}, ValueError, "k is 0, expected 1 or more"),
        (np.eye(1, DIM, dtype="f4"), {"ef": 0}, ValueError, "ef is 0, expected 1 or more"),
    ],
)
def test_a_frame_that_is_refused_leaves_the_cursor_as_it_was(route, query, kwargs, error, message):
    index, _, frames = route
    cursor, other = index.cursor(), index.cursor()
    for each in (cursor, other):
        run(each, frames[:30], ef=EF)
    with pytest.raises(error, match=message):
        cursor.search(query, **{"k": 5, **kwargs})
    for frame in frames[30:40]:
        np.testing.assert_array_equal(cursor.search(frame, 5, ef=EF), other.search(frame, 5, ef=EF))


def small(rows, count):
    index = PlaceIndex(DIM)
    index.add(np.arange(count), rows[:count])
    index.build_graph(m=8, ef_construction=60)
    return index


def test_what_a_cursor_found_may_be_removed(route):
    _, rows, frames = route
    index = small(rows, 1500)
    cursor = index.cursor()
    gone = set()
    for frame in frames[:60]:
        found = cursor.search(frame, 5, ef=EF)[0].tolist()
        assert not gone & set(found)
        index.remove(found[:3])
        gone |= set(found[:3])
    index.remove(np.setdiff1d(np.arange(1500), [*gone, 700]))
    ids, _ = cursor.search(frames[60], 5, ef=EF)
    assert ids.tolist() == [700]
    index.remove([700])
    assert cursor.search(frames[61], 5, ef=EF)[0].shape == (0,)
    assert not cursor.followed
    index.add([8000], rows[5])
    assert cursor.search(rows[5], 5, ef=EF)[0].tolist() == [8000]


def test_the_index_may_grow_while_a_cursor_lives(route):
    _, rows, frames = route
    index = small(rows, 200)
    cursor = index.cursor()
    for count in range(200, 1600, 40):
        index.add(np.arange(count, count + 40), rows[count : count + 40])
        part = frames[count // 4 : count // 4 + 10]
        np.testing.assert_array_equal(run(cursor, part, ef=EF, k=1), index.search(part, 1, exact=True)[0])
    index.build_graph(m=16, ef_construction=80)  # another graph over the same rows
    compare(index, frames[:400], run(cursor, frames[:400], ef=EF), 0.02)


def test_a_cursor_keeps_its_index(route):
    _, rows, frames = route
    index = small(rows, 1000)
    expected = index.search(frames[:50], 5, exact=True)[0]
    cursor = index.cursor()
    del index
    gc.collect()
    garbage = [np.full(100_000, 7.0) for _ in range(50)]  # reuses the memory if it was freed
    np.testing.assert_array_equal([cursor.search(frame, 5, exact=True)[0] for frame in frames[:50]], expected)
    assert recall(run(cursor, frames[:50], ef=EF), expected) >= 0.95
    assert len(garbage) == 50


def test_a_cursor_of_a_loaded_index(route, tmp_path):
    index, _, frames = route
    index.save(str(tmp_path / "index"), contract=bytes(32), state=bytes(32))
    loaded, _ = PlaceIndex.load(str(tmp_path / "index"), dim=DIM, contract=bytes(32))
    cursor = loaded.cursor()
    del loaded
    np.testing.assert_array_equal(run(cursor, frames[:200], ef=EF), run(index.cursor(), frames[:200], ef=EF))


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("precision", ["float16", "float32", "int8"])
def test_every_instruction_set_follows_alike(route, precision, instruction_set):
    _, rows, frames = route
    answers = []
    for name in ("scalar", instruction_set):
        index = PlaceIndex(DIM, precision=precision, instruction_set=name)
        index.add(np.arange(800), rows[:800])
        index.build_graph(m=6, ef_construction=24)
        cursor = index.cursor()
        answers.append([(*cursor.search(frame, 3, ef=24, method="graph"), cursor.followed) for frame in frames[:200]])
    for (ids, similarities, followed), expected in zip(*answers, strict=True):
        np.testing.assert_array_equal(ids, expected[0])
        np.testing.assert_array_equal(similarities.view(np.uint32), expected[1].view(np.uint32))
        assert followed == expected[2]


def test_two_threads_may_use_one_cursor(route):
    index, _, frames = route
    cursor, errors, right = index.cursor(), [], []
    expected = index.search(frames, 1, exact=True)[0][:, 0]

    def drive(first):
        try:
            part = slice(first, first + 500)
            right.append((run(cursor, frames[part], ef=EF)[:, 0] == expected[part]).mean())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=drive, args=(first,)) for first in (0, 900)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert min(right) >= 0.95


def test_frames_among_identical_ones_give_each_place_once(drive):
    rows = drive[0][:2000].copy()
    rows[100:120] = rows[100]
    index = PlaceIndex(64)
    index.add(np.arange(2000), rows)
    index.build_graph(m=8, ef_construction=40)
    index.remove([100])  # the linked row of the twins
    cursor = index.cursor()
    for row in (110, 110, 111, 119, 130):
        ids, _ = cursor.search(rows[row], 10, method="graph")
        assert len(set(ids.tolist())) == 10
        np.testing.assert_array_equal(ids, index.search(rows[row], 10, exact=True)[0])
