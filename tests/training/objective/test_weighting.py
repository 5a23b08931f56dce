"""The partition and the weights of StructVPR, against what the paper says of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.objective.weighting import Group, group_shares, pair_weights, partition, selected
from training.recipe import SELECTIONS

THRESHOLD = 10
RANKS = st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), min_size=1, max_size=60)
FORMS = ["log_rank", "linear"]


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.array(pairs, np.int64).T
    return x, y


@given(RANKS, st.integers(1, 50))
def test_each_pair_is_in_the_group_that_the_paper_says(pairs: list[tuple[int, int]], threshold: int) -> None:
    x, y = columns(pairs)
    groups = partition(x, y, threshold)
    for xi, yi, group in zip(x, y, groups, strict=True):
        said = {
            Group.D1: xi <= threshold < yi,
            Group.D2: xi <= yi <= threshold,
            Group.D3: yi < xi <= threshold,
            Group.D4: xi > threshold,
        }
        assert [g for g, holds in said.items() if holds] == [group]  # disjoint and covering
    assert sum(group_shares(groups).values()) == pytest.approx(100.0)


@given(RANKS, st.integers(1, 50))
def test_selections_are_unions_of_groups(pairs: list[tuple[int, int]], threshold: int) -> None:
    x, y = columns(pairs)
    chosen = {name: selected(x, y, threshold, name) for name in SELECTIONS}
    assert (chosen["a1"] == chosen["d1"] | chosen["d2"] | chosen["d3"]).all()
    assert (chosen["d4"] == ~chosen["a1"]).all()
    assert (chosen["b1"] == ~chosen["b2"]).all()
    assert (chosen["b1"] == (y > threshold)).all()
    assert chosen["all"].all()
    assert not chosen["none"].any()


@pytest.mark.parametrize("form", FORMS)
@given(pairs=RANKS, threshold=st.integers(1, 50))
def test_phi_is_zero_exactly_on_d4(form: str, pairs: list[tuple[int, int]], threshold: int) -> None:
    x, y = columns(pairs)
    phi = pair_weights(x, y, threshold, form=form)
    assert phi.dtype == np.float32
    assert ((phi == 0) == (x > threshold)).all()
    assert (phi >= 0).all()
    if (x <= threshold).any():
        assert phi[x <= threshold].mean() == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_phi_falls_with_the_teachers_rank_and_rises_with_its_lead(form: str) -> None:
    x, y = (a.ravel() for a in np.meshgrid(np.arange(1, 15), np.arange(1, 200), indexing="ij"))
    phi = pair_weights(x, y, THRESHOLD, form=form).reshape(14, 199)
    assert (np.diff(phi, axis=0) <= 0).all()  # a better teacher weighs more
    assert (np.diff(phi, axis=1) >= 0).all()  # a worse student weighs more
    # The same lead, a better teacher: more. The same teacher, a greater lead: more.
    assert phi[0, 5] > phi[3, 8]
    assert phi[2, 30] > phi[2, 3] or form == "linear"
    assert phi.argmax() // 199 == 0  # the largest is where the teacher is first


def test_phi_by_hand() -> None:
    x, y = np.array([1, 10, 1, 11]), np.array([10, 1, 1, 1])
    raw = np.array([2 / (1 + 0.1), (1 - np.log(10) / np.log(11)) * 2 / (1 + 10), 1.0, 0.0])
    np.testing.assert_allclose(pair_weights(x, y, 10), raw / raw[:3].mean(), rtol=1e-6)
    linear = np.array([1.9, 0.1 * 0.1, 1.0, 0.0])
    np.testing.assert_allclose(pair_weights(x, y, 10, form="linear"), linear / linear[:3].mean(), rtol=1e-6)


def test_ranks_beyond_the_most_count_alike() -> None:
    x, y = np.array([1, 1, 1]), np.array([50, 500, 5000])
    phi = pair_weights(x, y, THRESHOLD, most=500)
    assert phi[0] < phi[1] == phi[2]


def test_a_teacher_that_is_never_right_weighs_nothing() -> None:
    assert (pair_weights(np.array([11, 12]), np.array([1, 1]), THRESHOLD) == 0).all()


def test_bad_input_is_said() -> None:
    one = np.array([1])
    with pytest.raises(ValueError, match="counted from 1"):
        partition(np.array([0]), one, 10)
    with pytest.raises(ValueError, match="one of each per pair"):
        partition(np.array([1, 2]), one, 10)
    with pytest.raises(ValueError, match="expected log_rank or linear"):
        pair_weights(one, one, 10, form="flat")
    with pytest.raises(ValueError, match="expected one of none, all"):
        selected(one, one, 10, "c1")
