"""StructVPR's partition of pairs into groups, and the distillation weight of each pair.

A pair is a query q and one of its positives p. The rank of the pair under a branch is the rank of p among the database
images of the query's region, ordered by similarity to q.

    x   rank under the segmentation branch, the teacher
    y   rank under the RGB branch, the student
    N   rank up to which a branch counts as right

    D1  x <= N < y       the teacher is right and the student is wrong
    D2  x <= y <= N      both are right, the teacher is at least as good
    D3  y < x <= N       both are right, the student is better
    D4  x > N            the teacher is wrong: weight 0

Source: StructVPR (CVPR 2023), group partition, from the authors' poster. D2 includes x = y, because the poster's
sample ratios sum to 100 %.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from sdk.arrays import Floats, Indices

from ..recipe import SELECTIONS, WEIGHT_FORMS

__all__ = ["Group", "group_shares", "pair_weights", "partition", "selected"]


class Group(IntEnum):
    """Group of a pair, see the module."""

    D1 = 1
    D2 = 2
    D3 = 3
    D4 = 4


def partition(teacher_rank: Indices, student_rank: Indices, threshold: int) -> npt.NDArray[np.int8]:
    """Find the group of each pair.

    Args:
        teacher_rank: int64 (n,), x, >= 1.
        student_rank: int64 (n,), y, >= 1.
        threshold: N, >= 1.

    Returns:
        int8 (n,), values of `Group`.

    Raises:
        ValueError: shapes differ, or a rank or the threshold is below 1.
    """
    x, y = _checked(teacher_rank, student_rank, threshold)
    groups = np.full(len(x), Group.D4, np.int8)
    right = x <= threshold
    groups[right & (y > threshold)] = Group.D1
    groups[right & (y <= threshold) & (x <= y)] = Group.D2
    groups[right & (y < x)] = Group.D3
    return groups


def selected(teacher_rank: Indices, student_rank: Indices, threshold: int, pairs: str) -> npt.NDArray[np.bool_]:
    """Select the pairs that a row of the paper's ablation distils.

    Args:
        teacher_rank: int64 (n,), x, >= 1.
        student_rank: int64 (n,), y, >= 1.
        threshold: N, >= 1.
        pairs: a name in `SELECTIONS`: "none", "all", "d1" to "d4", "a1" (x <= N, which is D1 to D3), "b1" (y > N) or
            "b2" (y <= N). The paper's A2 is D4.

    Returns:
        bool (n,).

    Raises:
        ValueError: as `partition`, or the selection is unknown.
    """
    x, y = _checked(teacher_rank, student_rank, threshold)
    groups = partition(x, y, threshold)
    masks: dict[str, npt.NDArray[np.bool_]] = {
        "none": np.zeros(len(x), bool),
        "all": np.ones(len(x), bool),
        **{group.name.lower(): groups == group for group in Group},
        "a1": x <= threshold,
        "b1": y > threshold,
        "b2": y <= threshold,
    }
    if pairs not in masks:
        raise ValueError(f"pairs {pairs!r} found, expected one of {', '.join(SELECTIONS)}")
    return masks[pairs]


def pair_weights(
    teacher_rank: Indices,
    student_rank: Indices,
    threshold: int,
    *,
    form: str = "log_rank",
    tau: float = 1.0,
    most: int = 1000,
) -> Floats:
    """phi(x, y): the weight of each pair in the distillation loss.

    In the paper, phi grows with the teacher's knowledge (small x) and with its lead over the student (y - x), and is 0
    for D4. We found no published formula, so both forms are reconstructions. The logarithms are for heavy-tailed ranks:

        log_rank   level = 1 - ln(x) / ln(N + 1),  gap = ln(min(y, most) / x),  phi = level * 2 sigmoid(gap / tau)
        linear     phi = (1 - (x - 1) / N) * (1 + clip((y - x) / N, -1, 1))

    Both are 0 for x > N. They are divided by their mean over the pairs with x <= N, so the loss has the same scale as
    with weight 1 for all these pairs.

    Args:
        teacher_rank: int64 (n,), x, >= 1.
        student_rank: int64 (n,), y, >= 1.
        threshold: N, >= 1.
        form: "log_rank" or "linear".
        tau: temperature of the gap, > 0; only for "log_rank".
        most: larger student ranks are clipped to this, >= 1; a `most` below N counts as N.

    Returns:
        float32 (n,): positive where x <= N, and exactly 0 elsewhere.

    Raises:
        ValueError: as `partition`, or the form is unknown.
    """
    x, y = _checked(teacher_rank, student_rank, threshold)
    right = x <= threshold
    teacher = np.minimum(x, threshold).astype(np.float64)
    student = np.minimum(y, max(most, threshold)).astype(np.float64)
    if form == "log_rank":
        level = 1.0 - np.log(teacher) / np.log(threshold + 1.0)
        # This form of 2 sigmoid(ln(y / x) / tau) cannot overflow.
        phi = level * 2.0 / (1.0 + (teacher / student) ** (1.0 / tau))
    elif form == "linear":
        phi = (1.0 - (teacher - 1.0) / threshold) * (1.0 + np.clip((student - teacher) / threshold, -1.0, 1.0))
    else:
        raise ValueError(f"the form of the weights is {form!r}, expected {' or '.join(WEIGHT_FORMS)}")
    phi = np.where(right, phi, 0.0)
    if right.any():
        phi /= phi[right].mean()
    return phi.astype(np.float32)


def group_shares(groups: npt.NDArray[np.int8]) -> dict[str, float]:
    """Share of the pairs in each group, percent, by "D1" to "D4"."""
    return {group.name: 100.0 * float((groups == group).mean()) for group in Group}


def _checked(teacher_rank: Indices, student_rank: Indices, threshold: int) -> tuple[Indices, Indices]:
    x, y = np.asarray(teacher_rank), np.asarray(student_rank)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"ranks have shapes {x.shape} and {y.shape}, expected one of each per pair")
    if threshold < 1 or (len(x) and min(x.min(), y.min()) < 1):
        raise ValueError(f"a rank or the threshold ({threshold}) is below 1, expected ranks counted from 1")
    return x, y
