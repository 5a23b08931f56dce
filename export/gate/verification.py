"""Compares two files that already exist, and judges the second."""

from __future__ import annotations

from pathlib import Path

from ..progress import Progress
from .comparison import Comparison, compare
from .decision import Verdict, judge
from .options import GateOptions

__all__ = ["verify"]


def verify(
    reference: Path, candidate: Path, options: GateOptions, progress: Progress
) -> tuple[Comparison, Verdict | None]:
    """Compare two files of one network, and judge the candidate unless `options.no_gate` is set.

    Raises:
        Error: see `GateOptions.read`, `compare` and `judge`.
    """
    comparison = compare(reference, candidate, options.read(), progress)
    if options.no_gate:
        return comparison, None
    return comparison, judge(comparison, options.thresholds(comparison.candidate_precision))
