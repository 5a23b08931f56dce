"""The gate: decides whether a file of reduced precision may replace the fp32 model that it was made from.

It judges queries that the candidate was not calibrated on. Frames of the map may be calibration frames.

    mean cosine        over the queries: >= 0.999 for fp16, >= 0.98 for int8
    loss of R@1        int8 with known true places: at most 1 point, one-sided at 95 % (`paired_loss`)
    top-1 agreement    in all other cases: >= 0.90 for fp16, >= 0.80 for int8

There are two kinds of maps: the workstation builds one with the reference, the robot builds one with the candidate. The
candidate must pass with both. Testing both does not raise the risk of 5 %, because each must pass by itself (Berger,
Multiparameter hypothesis testing and acceptance sampling, Technometrics 1982).

If there are too few queries to exclude a loss of R@1, or none has a true place, the gate does not pass and says what is
missing. Mean cosine and agreement have no confidence limits: they describe the given frames only. At least ten queries
are required, so 80 % are 8 first answers of 10. R@1 is the stronger test where places are known.

The cosine alone is a weak test. Descriptors of the untrained EfficientNet-Lite0 have a similarity of 0.92 to 0.96
between frames of different places (DNIM, CMU Seasons), so a file that gives the same descriptor for every frame has a
mean cosine of 0.96 to 0.98. The limits of agreement come from adding noise: at a mean cosine of 0.98 half of the first
answers stay the same, at 0.995 80 %, at 0.999 90 %, at 0.9999 97 %. Consecutive video frames agree less often, because
neighbours are equally good answers: use every n-th frame.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdk import ContractError, DataError, UsageError
from sdk.evaluation.sets import PlaceSet

from ..progress import Progress
from .comparison import Comparison, MapFigures, compare
from .paired_loss import enough_queries

__all__ = ["DEFAULT_THRESHOLDS", "Thresholds", "Verdict", "gate", "judge", "require_enough"]

MIN_QUERIES = 10  # with fewer, a single frame decides


@dataclass(frozen=True)
class Thresholds:
    """What a candidate must reach.

    Attributes:
        min_mean_cosine: over the queries, in [0, 1].
        min_top1_agreement: share of queries with the reference's first answer, with each map, in [0, 1]; judged where
            the loss of R@1 is not.
        max_recall_drop: loss of R@1 with each map, in points, in (0, 100); judged where true places are known. None to
            leave it out.

    Raises:
        UsageError: a value is out of its range.
    """

    min_mean_cosine: float
    min_top1_agreement: float
    max_recall_drop: float | None

    def __post_init__(self) -> None:
        for name in ("min_mean_cosine", "min_top1_agreement"):
            if not 0 <= getattr(self, name) <= 1:
                option = name.replace("mean_", "").replace("_", "-")
                raise UsageError(f"--{option} is {getattr(self, name)}, expected 0 to 1")
        if self.max_recall_drop is not None and not 0 < self.max_recall_drop < 100:
            raise UsageError(f"--max-recall-drop is {self.max_recall_drop}, expected points above 0 and below 100")


# An engine in float32 may use TF32 with its 10 bits of mantissa; 1 - cosine is then around 1e-6.
DEFAULT_THRESHOLDS = {
    "fp32": Thresholds(0.9999, 0.95, None),
    "fp16": Thresholds(0.999, 0.90, None),
    "int8": Thresholds(0.98, 0.80, 1.0),
}


@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Attributes:
        passed: whether the candidate may replace the reference.
        reasons: why it may not, one sentence each; empty if it passed.
        judged: the figures that were judged: "mean cosine", and "top-1 agreement" or "loss of R@1".
        thresholds: applied.
        comparison: all figures.
    """

    passed: bool
    reasons: tuple[str, ...]
    judged: tuple[str, ...]
    thresholds: Thresholds
    comparison: Comparison

    def to_record(self) -> dict[str, Any]:
        """The verdict as plain values, for JSON and an engine's sidecar."""
        return {
            "passed": self.passed,
            "reasons": list(self.reasons),
            "judged": list(self.judged),
            "thresholds": asdict(self.thresholds),
            "figures": self.comparison.to_record(),
        }


def gate(
    reference_path: str | Path,
    candidate_path: str | Path,
    frames: PlaceSet,
    thresholds: Thresholds | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Compare a candidate with the reference in fp32, and judge it.

    Args:
        reference_path: a model.onnx or an engine whose contract says fp32.
        candidate_path: a model.onnx or an engine of the same network.
        frames: to measure on; the queries must not be the candidate's calibration frames.
        thresholds: None for the defaults of the candidate's precision.
        progress: see `Progress`.

    Raises:
        ContractError: a file has no contract, the files are of different networks, or the reference is not fp32.
        EngineError: a file cannot be loaded or run, or the reference gives a descriptor of zeros.
        FrameError: a frame cannot be read.
        DataError: there are fewer than ten queries.
    """
    require_enough(frames)
    return judge(compare(reference_path, candidate_path, frames, progress), thresholds)


def require_enough(frames: PlaceSet) -> None:
    """Raise DataError if there are fewer than ten queries."""
    if len(frames.queries) < MIN_QUERIES:
        raise DataError(
            f"{len(frames.queries)} frames to judge on were given, expected at least {MIN_QUERIES}; give more, of the "
            "places and in the light that the robot will see"
        )


def judge(comparison: Comparison, thresholds: Thresholds | None = None) -> Verdict:
    """Judge figures by thresholds; None for the defaults of the candidate's precision.

    Raises:
        ContractError: the reference is not in fp32.
    """
    if comparison.reference_precision != "fp32":
        raise ContractError(
            f"{comparison.reference}: is in {comparison.reference_precision}, expected the model in fp32 to judge "
            "against; give the file that `structvpr export onnx` wrote as the first"
        )
    limits = thresholds or DEFAULT_THRESHOLDS[comparison.candidate_precision]
    judged, reasons = ["mean cosine"], []
    if comparison.unusable:
        reasons.append(
            f"{comparison.unusable} of {comparison.frames} frames are described by zeros or by numbers that are not "
            "finite: values overflow, or the file is broken"
        )
    mean = comparison.mean_cosine
    if mean is not None and not mean >= limits.min_mean_cosine:  # a NaN fails
        reasons.append(
            f"the mean cosine is {mean:.5f}, expected at least {limits.min_mean_cosine:g} for "
            f"{comparison.candidate_precision}"
        )
    with_recall = limits.max_recall_drop is not None and bool(comparison.right or comparison.matched)
    judged.append("loss of R@1" if with_recall else "top-1 agreement")
    if with_recall and not comparison.matched:
        reasons.append(
            f"no query has a true place ({comparison.right}), so R@1 cannot be judged; give queries of places in the "
            "database"
        )
    for figures in comparison.maps:
        sentence = _judge_recall(figures, limits) if with_recall else _judge_agreement(figures, limits)
        reasons += [sentence] if sentence else []
    return Verdict(not reasons, tuple(reasons), tuple(judged), limits, comparison)


def _judge_agreement(figures: MapFigures, limits: Thresholds) -> str:
    if figures.top1_agreement >= limits.min_top1_agreement:
        return ""
    return (
        f"with the {figures.described_by}'s map {100 * figures.top1_agreement:.1f} % of the first answers are the "
        f"reference's, expected at least {100 * limits.min_top1_agreement:g} %"
    )


def _judge_recall(figures: MapFigures, limits: Thresholds) -> str:
    loss, most = figures.loss, limits.max_recall_drop
    if loss is None or most is None or 100 * loss.upper <= most:
        return ""
    counts = f"{loss.queries} queries, {loss.lost} lost and {loss.gained} gained"
    found = f"with the {figures.described_by}'s map R@1 changes by {0.0 - 100 * loss.loss:+.2f} points ({counts}), "
    if 100 * loss.lower > most:
        return found + f"expected a loss of at most {most:g}: it loses at least {100 * loss.lower:.2f}"
    wanted = enough_queries(loss, most / 100)
    if wanted is None:
        return found + f"expected a loss of at most {most:g}: it may lose {100 * loss.upper:.2f}"
    return (
        f"undecided: {found}so the loss may be {100 * loss.upper:.2f}, and at most {most:g} is not shown; give about "
        f"{wanted} queries, or allow more by --max-recall-drop"
    )
