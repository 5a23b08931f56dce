"""Recall at K and what counts as right, against references that are slow and plain."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sdk.evaluation.recall import positives_within_frames, positives_within_m, rank, recall_at_k
from sdk.geography import distance_m

# Geodesics on the WGS-84 ellipsoid by geographiclib 2.1 (Karney, Algorithms for geodesics, 2013), m.
LATITUDE_0_M, LATITUDE_47_M, LONGITUDE_0_M = 110_574.3886, 111_180.5865, 111_319.4908  # one degree at 0 or 47 degrees


@st.composite
def rankings(draw: st.DrawFn) -> tuple[np.ndarray, list[np.ndarray], int]:
    n = draw(st.integers(1, 8))
    queries = draw(st.integers(0, 8))
    ranked = np.array([draw(st.permutations(range(n))) for _ in range(queries)], np.int64).reshape(queries, n)
    positives = [np.array(sorted(draw(st.sets(st.integers(0, n - 1)))), np.int64) for _ in range(queries)]
    return ranked, positives, draw(st.integers(1, n))


@given(rankings(), st.booleans())
def test_recall_is_what_counting_gives(case: tuple[np.ndarray, list[np.ndarray], int], count_unmatched: bool) -> None:
    ranked, positives, k = case
    hits = total = 0
    for answers, true in zip(ranked.tolist(), positives, strict=True):
        if len(true) == 0 and not count_unmatched:
            continue
        total += 1
        hits += any(answer in set(true.tolist()) for answer in answers[:k])
    recall = recall_at_k(ranked, positives, k, count_unmatched=count_unmatched)
    assert math.isnan(recall) if total == 0 else recall == pytest.approx(hits / total)


def test_unmatched_queries_are_counted_or_dropped() -> None:
    ranked = np.array([[0, 1], [1, 0], [0, 1]])
    positives = [np.array([0]), np.array([0]), np.array([], np.int64)]
    assert recall_at_k(ranked, positives, 1) == 0.5
    assert recall_at_k(ranked, positives, 1, count_unmatched=True) == pytest.approx(1 / 3)
    assert recall_at_k(ranked, positives, 2) == 1.0
    assert recall_at_k(ranked, positives, 2, count_unmatched=True) == pytest.approx(2 / 3)


def test_nothing_left_to_count_is_nan() -> None:
    nobody = [np.array([], np.int64)]
    assert math.isnan(recall_at_k(np.array([[0]]), nobody, 1))
    assert recall_at_k(np.array([[0]]), nobody, 1, count_unmatched=True) == 0.0
    assert math.isnan(recall_at_k(np.empty((0, 3), np.int64), [], 1))


@pytest.mark.parametrize(
    ("ranked", "positives", "k"),
    [
        (np.array([[0, 1]]), [np.array([0])], 3),
        (np.array([[0, 1]]), [np.array([0])], 0),
        (np.array([[0, 1]]), [np.array([0])], -1),
        (np.array([[0, 1]]), [np.array([0])] * 2, 1),
        (np.array([0, 1]), [np.array([0])] * 2, 1),
    ],
)
def test_wrong_shapes(ranked: np.ndarray, positives: list[np.ndarray], k: int) -> None:
    with pytest.raises(ValueError, match=r"ranked has shape .*expected"):
        recall_at_k(ranked, positives, k)


def unit_rows(seed: int, n: int, dim: int = 24) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (50, 5), (50, 50), (50, 80), (700, 20)])
def test_rank_equals_numpy(n: int, k: int) -> None:
    database, queries = unit_rows(1, n), unit_rows(2, 30)
    ranked = rank(queries, database, k)
    expected = np.argsort(-(queries.astype(np.float64) @ database.T.astype(np.float64)), axis=1, kind="stable")
    assert ranked.shape == (30, min(k, n))
    assert ranked.dtype == np.int64
    assert np.array_equal(ranked, expected[:, :k])


def test_rank_breaks_ties_by_index() -> None:
    database = np.repeat(unit_rows(3, 2), 4, axis=0)
    assert rank(database[4:5], database, 8).tolist() == [[4, 5, 6, 7, 0, 1, 2, 3]]


def test_rank_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"24|25"):
        rank(unit_rows(1, 3, 25), unit_rows(1, 3, 24), 1)


# ---------------------------------------------------------------- positives


@given(
    arrays(np.float64, (6, 3), elements=st.floats(-50, 50)),
    arrays(np.float64, (4, 3), elements=st.floats(-50, 50)),
    st.floats(0, 100),
)
def test_local_positives(database: np.ndarray, queries: np.ndarray, radius_m: float) -> None:
    found = positives_within_m("local", queries.tolist(), database.tolist(), radius_m)
    distances = np.sqrt(((queries[:, None] - database[None]) ** 2).sum(axis=2))
    for row, indices in zip(distances, found, strict=True):
        inside, nearly = set(np.flatnonzero(row <= radius_m - 1e-9)), set(np.flatnonzero(row <= radius_m + 1e-9))
        assert inside <= set(indices.tolist()) <= nearly
        assert indices.dtype == np.int64
        assert sorted(indices.tolist()) == indices.tolist()


def test_the_radius_is_inclusive() -> None:
    database = [(3.0, 4.0, 0.0), (3.0, 4.0, 0.1)]
    assert [p.tolist() for p in positives_within_m("local", [(0.0, 0.0, 0.0)], database, 5.0)] == [[0]]
    assert [p.tolist() for p in positives_within_m("local", [(0.0, 0.0, 0.0)], [], 5.0)] == [[]]


def chord_m(arc_m: float, radius_m: float = 6_371_008.8) -> float:
    """Straight line between the ends of an arc, which differs from the arc by 1 part in 10,000 at 300 km."""
    return 2 * radius_m * math.sin(arc_m / (2 * radius_m))


@pytest.mark.parametrize(
    ("a", "b", "metres"),
    [
        ((0, 0, 0), (1, 0, 0), LATITUDE_0_M),
        ((47, 8, 0), (48, 8, 0), LATITUDE_47_M),
        ((0, 0, 0), (0, 1, 0), LONGITUDE_0_M),
        ((60, 0, 0), (60, 0.001, 0), 55.8000),
        ((0, 179.5, 0), (0, -179.5, 0), LONGITUDE_0_M),  # across the date line
        ((90, 0, 0), (90, 123, 0), 0.0),
        ((90, 0, 0), (-90, 0, 0), 2 * 6_356_752.3142),
        ((48, 11, 500), (48, 11, 530), 30.0),
        # Paris to London, and the airports of Nashville and Los Angeles: the straight line below the geodesic.
        ((48.8566, 2.3522, 0), (51.5074, -0.1278, 0), chord_m(343_923.120)),
        ((36.12, -86.67, 0), (33.94, -118.40, 0), chord_m(2_892_776.957)),
    ],
)
def test_known_distances(a: tuple[float, ...], b: tuple[float, ...], metres: float) -> None:
    for start, end in ((a, b), (b, a)):
        assert distance_m("wgs84", start, end) == pytest.approx(metres, rel=1e-4, abs=1e-3)


def test_a_degree_of_latitude() -> None:
    assert distance_m("wgs84", (0, 0, 0), (1, 0, 0)) == pytest.approx(LATITUDE_0_M - 1.4, abs=0.1)  # 1.4 m: the chord
    assert distance_m("wgs84", (0, 0, 0), (0, 0.00025, 0)) == pytest.approx(27.82987, abs=1e-5)
    assert distance_m("local", (0, 0, 0), (1, 0, 0)) == 1.0  # metres are metres


def test_wgs84_positives() -> None:
    step = 10 / LATITUDE_47_M  # ten metres to the north
    database = [(48 + i * step, 11.0, 0.0) for i in range(6)]
    (found,) = positives_within_m("wgs84", [(48.0, 11.0, 0.0)], database, 25.0)
    assert found.tolist() == [0, 1, 2]
    assert found.dtype == np.int64
    # 25 m to the east are more degrees than to the north.
    east = 24 / LONGITUDE_0_M / math.cos(math.radians(48))
    assert len(positives_within_m("wgs84", [(48.0, 11.0 + east, 0.0)], [(48.0, 11.0, 0.0)], 25.0)[0]) == 1
    assert len(positives_within_m("wgs84", [(48.0, 11.0 + east * 1.1, 0.0)], [(48.0, 11.0, 0.0)], 25.0)[0]) == 0


@pytest.mark.parametrize("radius_m", [0.0, 25.0, 2e4])
def test_wgs84_positives_are_those_of_distance_m(radius_m: float) -> None:
    rng = np.random.default_rng(0)
    points = np.column_stack([48 + rng.normal(0, 3e-3, 60), 179.999 + rng.normal(0, 3e-3, 60), rng.normal(500, 10, 60)])
    points[:, 1] = (points[:, 1] + 180) % 360 - 180  # across the date line
    found = positives_within_m("wgs84", points.tolist(), points.tolist(), radius_m)
    for point, indices in zip(points, found, strict=True):
        expected = [i for i, other in enumerate(points) if distance_m("wgs84", point, other) <= radius_m]
        assert indices.tolist() == expected


def test_ten_thousand_against_ten_thousand_take_seconds() -> None:
    points = np.random.default_rng(0).uniform((48.0, 11.0, 0.0), (48.05, 11.05, 1.0), (10_000, 3))
    began_s = time.process_time()  # others' load does not count
    found = positives_within_m("wgs84", points.tolist(), points.tolist(), 25.0)
    assert time.process_time() - began_s < 5.0
    assert all(i in near for i, near in enumerate(found))


def test_frames_are_clipped_at_the_ends() -> None:
    found = positives_within_frames([0, 4, 9, None, 1], 10, 2)
    assert [p.tolist() for p in found] == [[0, 1, 2], [2, 3, 4, 5, 6], [7, 8, 9], [], [0, 1, 2, 3]]
    assert all(p.dtype == np.int64 for p in found)
    assert [p.tolist() for p in positives_within_frames([3], 10, 0)] == [[3]]
