"""Which points lie within a radius of which, for millions of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["expand_ranges", "pairs_within"]

Indices = npt.NDArray[np.int64]
MOST_CANDIDATES = 1 << 22  # pairs whose distances are in memory at once
MOST_CELLS = 1 << 19  # along an axis, so that a cell's number fits into 63 bits in three dimensions


def pairs_within(
    asked_m: npt.NDArray[np.float64], points_m: npt.NDArray[np.float64], radius_m: float
) -> Iterator[tuple[Indices, Indices, npt.NDArray[np.float64]]]:
    """All pairs no farther apart than a radius, by cells of that size: time grows with the pairs that there are.

    Args:
        asked_m: float64 (Q, d), finite, d = 2 or 3.
        points_m: float64 (M, d), finite.
        radius_m: inclusive, > 0.

    Yields:
        For consecutive blocks of the asked: which is asked, int64 (n,), ascending; which point is found, int64 (n,),
        ascending for each that is asked; how far apart they are, float64 (n,).
    """
    if len(asked_m) == 0 or len(points_m) == 0:
        return
    low, span = points_m.min(axis=0), np.ptp(points_m, axis=0)
    # A little wider than the radius: rounding must not put two points that are a radius apart two cells apart.
    cell_m = np.maximum(radius_m * (1.0 + 1e-6), span / MOST_CELLS)  # (d,)
    last = np.floor(span / cell_m).astype(np.int64)
    padded = last + 5  # two cells to either side, so that a step over the edge meets none of the points
    stride = np.concatenate([[1], np.cumprod(padded[:-1])])

    # (M, d) -> (M,)
    key = (np.floor((points_m - low) / cell_m).astype(np.int64) + 2) @ stride
    order = np.argsort(key, kind="stable")
    key = key[order]
    # (Q, d) -> (Q,)
    home = (np.clip(np.floor((asked_m - low) / cell_m), -2, last + 2).astype(np.int64) + 2) @ stride
    # Three cells in a row of the first axis are consecutive keys, so one range; the other axes give 3 or 9 of them.
    steps = np.array([0])
    for axis_stride in stride[1:]:
        steps = (steps[:, None] + np.array([-1, 0, 1]) * axis_stride).ravel()
    first = np.stack([np.searchsorted(key, home + step - 1, "left") for step in steps], axis=1)  # (Q, 3 or 9)
    end = np.stack([np.searchsorted(key, home + step + 1, "right") for step in steps], axis=1)

    candidates = np.cumsum((end - first).sum(axis=1))
    start = 0
    while start < len(asked_m):
        before = candidates[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(candidates, before + MOST_CANDIDATES, "right")))
        of_range, found = expand_ranges(first[start:stop].ravel(), (end - first)[start:stop].ravel())
        row, found = start + of_range // len(steps), order[found]
        apart_m = np.sqrt(np.square(asked_m[row] - points_m[found]).sum(axis=1))
        kept = apart_m <= radius_m
        row, found, apart_m = row[kept], found[kept], apart_m[kept]
        by_row = np.lexsort((found, row))
        yield row[by_row], found[by_row], apart_m[by_row]
        start = stop


def expand_ranges(first: Indices, count: Indices) -> tuple[Indices, Indices]:
    """Write out ranges of numbers: (range that it is of, number), both int64 (count.sum(),)."""
    of_range = np.repeat(np.arange(len(first), dtype=np.int64), count)
    offset = np.arange(len(of_range), dtype=np.int64) - np.repeat(np.cumsum(count) - count, count)
    return of_range, first[of_range] + offset
