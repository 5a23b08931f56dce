"""Which pairs the teacher may teach, and how much: the partition and the weights of StructVPR.

A pair is a query q and a positive p of it. Its rank under a branch is the place that p takes among the database
images of the query's region when they are ordered by similarity to q.

    x   rank under the segmentation branch, the teacher
    y   rank under the RGB branch, the student
    N   rank up to which a branch counts as right

    D1  x <= N < y       the teacher is right and the student is not
    D2  x <= y <= N      both are right, the teacher at least as much
    D3  y < x <= N       both are right, the student more
    D4  x > N            the teacher is wrong: never distilled

Source: StructVPR (CVPR 2023), section on group partition, as the authors' poster gives it; that D2 holds x = y
follows from its sample ratios, which sum to 100 %.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

__all__ = ["SELECTIONS", "Group", "group_shares", "pair_weights", "partition", "selected"]

Ranks = npt.NDArray[np.int64]
SELECTIONS = ("none", "all", "d1", "d2", "d3", "d4", "a1", "b1", "b2")


class Group(IntEnum):
    """What the two branches make of a pair, see above."""

    D1 = 1
    D2 = 2
    D3 = 3
    D4 = 4


def partition(teacher_rank: Ranks, student_rank: Ranks, threshold: int) -> npt.NDArray[np.int8]:
    """The group of each pair.

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


def selected(teacher_rank: Ranks, student_rank: Ranks, threshold: int, pairs: str) -> npt.NDArray[np.bool_]:
    """Which pairs a row of the paper's ablation distils.

    Args:
        teacher_rank: int64 (n,), x, >= 1.
        student_rank: int64 (n,), y, >= 1.
        threshold: N, >= 1.
        pairs: a name in `SELECTIONS`: "none", "all", "d1" to "d4", "a1" (x <= N, which is D1 to D3), "b1" (y > N) or
            "b2" (y <= N). The paper's A2 is D4.

    Returns:
        bool (n,).

    Raises:
        ValueError: as `partition`, or there is no such selection.
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
    teacher_rank: Ranks,
    student_rank: Ranks,
    threshold: int,
    *,
    form: str = "log_rank",
    tau: float = 1.0,
    most: int = 1000,
) -> npt.NDArray[np.float32]:
    """phi(x, y): how much each pair is distilled.

    The paper asks of phi: the higher the teacher's knowledge (small x), the greater; the greater its lead over the
    student (y - x), the greater; zero for D4. Its formula was not published where we could read it, so these are
    reconstructions. Ranks are heavy-tailed, hence the logarithms:

        log_rank   level = 1 - ln(x) / ln(N + 1),  gap = ln(min(y, most) / x),  phi = level * 2 sigmoid(gap / tau)
        linear     phi = (1 - (x - 1) / N) * (1 + clip((y - x) / N, -1, 1))

    and 0 for x > N. Both are divided by their mean over the pairs with x <= N, so that the loss has the same scale as
    when all of those weigh 1.

    Args:
        teacher_rank: int64 (n,), x, >= 1.
        student_rank: int64 (n,), y, >= 1.
        threshold: N, >= 1.
        form: "log_rank" or "linear".
        tau: temperature of the gap, > 0; "log_rank" alone has one.
        most: larger student ranks count as this one, >= 1.

    Returns:
        float32 (n,): positive where x <= N, and exactly 0 elsewhere.

    Raises:
        ValueError: shapes differ, a rank or the threshold is below 1, or there is no such form.
    """
    x, y = _checked(teacher_rank, student_rank, threshold)
    right = x <= threshold
    teacher = np.minimum(x, threshold).astype(np.float64)
    student = np.minimum(y, max(most, threshold)).astype(np.float64)
    if form == "log_rank":
        level = 1.0 - np.log(teacher) / np.log(threshold + 1.0)
        phi = (
            level * 2.0 / (1.0 + (teacher / student) ** (1.0 / tau))
        )  # sigmoid(ln(y / x) / tau), which cannot overflow
    elif form == "linear":
        phi = (1.0 - (teacher - 1.0) / threshold) * (1.0 + np.clip((student - teacher) / threshold, -1.0, 1.0))
    else:
        raise ValueError(f"the form of the weights is {form!r}, expected log_rank or linear")
    phi = np.where(right, phi, 0.0)
    if right.any():
        phi /= phi[right].mean()
    return phi.astype(np.float32)


def group_shares(groups: npt.NDArray[np.int8]) -> dict[str, float]:
    """Share of the pairs in each group, percent, by "D1" to "D4"."""
    return {group.name: 100.0 * float((groups == group).mean()) for group in Group}


def _checked(teacher_rank: Ranks, student_rank: Ranks, threshold: int) -> tuple[Ranks, Ranks]:
    x, y = np.asarray(teacher_rank), np.asarray(student_rank)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"ranks have shapes {x.shape} and {y.shape}, expected one of each per pair")
    if threshold < 1 or (len(x) and min(x.min(), y.min()) < 1):
        raise ValueError(f"a rank or the threshold ({threshold}) is below 1, expected ranks counted from 1")
    return x, y
