"""The gate: whether a file of reduced precision may replace the one in float32 that it was made from.

What is judged, by queries that nothing was chosen or calibrated on (frames of the map may have been):

    cosine             mean over the queries: >= 0.999 for fp16, >= 0.98 for int8
    loss of R@1        int8, where true places are known: no more than 1 point, one-sided at 95 % (`paired_loss`)
    top-1 agreement    in its place where they are not, or the precision has no limit of loss: >= 0.90, >= 0.80

Maps are of two kinds: built by the reference, on a workstation, or by the candidate, on the robot. Both count: a loss
is excluded, or an agreement reached, only if it is with each of them. As each must be shown by itself, doing it twice
does not raise the risk of 5 % (Berger, Multiparameter hypothesis testing and acceptance sampling, Technometrics 1982).

Where queries are too few to exclude the loss of R@1, or none has a true place, the gate does not pass, and says what
would do. Cosine and agreement are figures of the frames that were given and no more: they have no such limits, 8 first
answers of 10 are 80 %, and ten queries are the least that is taken. Where places are known, R@1 shows more.

The cosine alone is weak. Descriptors of the untrained EfficientNet-Lite0 are 0.92 to 0.96 similar between frames of
unlike places (DNIM, CMU Seasons), so a file that says the same of every frame has a mean cosine of 0.96 to 0.98. With
noise added to a cosine of 0.98 half of the first answers stay, of 0.995 eight in ten, of 0.999 nine in ten, and of
0.9999 97 in a hundred: the limits of agreement are from there. Frames that follow each other closely agree less often,
and mean less by it, as neighbours are as good as each other: thin them out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdk import ContractError, FrameError
from sdk.evaluation.sets import PlaceSet

from .comparison import Comparison, MapFigures, Progress, compare
from .paired_loss import enough_queries

__all__ = ["DEFAULT_THRESHOLDS", "Thresholds", "Verdict", "gate", "judge", "require_enough"]

MIN_QUERIES = 10  # below, one frame more or less decides


@dataclass(frozen=True)
class Thresholds:
    """What a candidate must reach.

    Attributes:
        min_mean_cosine: over the queries, in [0, 1].
        min_top1_agreement: with either map, in [0, 1]; judged where the loss of R@1 is not.
        max_recall_drop: of R@1 with either map, in points, where true places are known; None to not judge it.

    Raises:
        ContractError: a value is out of its range.
    """

    min_mean_cosine: float
    min_top1_agreement: float
    max_recall_drop: float | None

    def __post_init__(self) -> None:
        for name in ("min_mean_cosine", "min_top1_agreement"):
            if not 0 <= getattr(self, name) <= 1:
                option = name.replace("mean_", "").replace("_", "-")
                raise ContractError(f"--{option} is {getattr(self, name)}, expected 0 to 1; correct it")
        if self.max_recall_drop is not None and not 0 < self.max_recall_drop < 100:
            raise ContractError(
                f"--max-recall-drop is {self.max_recall_drop}, expected points above 0 and below 100; correct it"
            )


# An engine in float32 may use TF32, which has 10 bits of mantissa: 1 - cosine is then around 1e-6.
DEFAULT_THRESHOLDS = {
    "fp32": Thresholds(0.9999, 0.95, None),
    "fp16": Thresholds(0.999, 0.90, None),
    "int8": Thresholds(0.98, 0.80, 1.0),
}


@dataclass(frozen=True)
class Verdict:
    """What the gate says.

    Attributes:
        passed: the candidate may replace the reference.
        reasons: why not, a sentence each; empty if it passed.
        judged: what was looked at, of "mean cosine", "top-1 agreement" and "loss of R@1".
        thresholds: that it was held against.
        comparison: the figures.
    """

    passed: bool
    reasons: tuple[str, ...]
    judged: tuple[str, ...]
    thresholds: Thresholds
    comparison: Comparison

    def to_record(self) -> dict[str, Any]:
        """Plain values, as an engine's sidecar and JSON have them."""
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
    """Measure a candidate against the reference in float32, and judge it.

    Args:
        reference_path: a model.onnx or an engine whose contract says fp32.
        candidate_path: a model.onnx or an engine of the same network.
        frames: to measure on; none of them may have served to calibrate the candidate.
        thresholds: None for those of the candidate's precision.
        progress: told (what, done, total).

    Raises:
        ContractError: the files are not of one network, carry no contract, or the reference is not in float32.
        EngineError: a file cannot be loaded or run, or the reference itself is broken.
        FrameError: a frame cannot be read, or there are fewer than ten queries.
    """
    require_enough(frames)
    comparison = compare(reference_path, candidate_path, frames, progress)
    if comparison.reference_precision != "fp32":
        raise ContractError(
            f"{reference_path}: is in {comparison.reference_precision}, expected the model in fp32 to judge against; "
            "give the file that `structvpr export onnx` wrote"
        )
    return judge(comparison, thresholds)


def require_enough(frames: PlaceSet) -> None:
    """Raise FrameError if there are fewer than ten queries."""
    if len(frames.queries) < MIN_QUERIES:
        raise FrameError(
            f"{len(frames.queries)} frames to judge on were given, expected at least {MIN_QUERIES}; give more, of the "
            "places and the light that the robot will see"
        )


def judge(comparison: Comparison, thresholds: Thresholds | None = None) -> Verdict:
    """Hold figures against thresholds; None for those of the candidate's precision."""
    limits = thresholds or DEFAULT_THRESHOLDS[comparison.candidate_precision]
    judged, reasons = ["mean cosine"], []
    if comparison.unusable:
        reasons.append(
            f"{comparison.unusable} of {comparison.frames} frames are described by zeros or by numbers that are not "
            "finite, expected none: values overflow, or the engine is broken"
        )
    mean = comparison.mean_cosine
    if mean is not None and not mean >= limits.min_mean_cosine:  # so that a NaN fails
        reasons.append(
            f"the mean cosine is {mean:.5f}, expected at least {limits.min_mean_cosine:g} for "
            f"{comparison.candidate_precision}"
        )
    with_recall = limits.max_recall_drop is not None and bool(comparison.right or comparison.matched)
    judged.append("loss of R@1" if with_recall else "top-1 agreement")
    if with_recall and not comparison.matched:
        reasons.append(
            f"no query has a true place ({comparison.right}), expected some to judge R@1 by; give queries of "
            "places in the database"
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
        return found + f"expected to lose no more than {most:g}: it loses {100 * loss.lower:.2f} at least"
    wanted = enough_queries(loss, most / 100)
    if wanted is None:
        return found + f"expected to lose no more than {most:g}: it may lose {100 * loss.upper:.2f}"
    return (
        f"undecided: {found}which cannot show a loss of no more than {most:g}, it may be {100 * loss.upper:.2f}; give "
        f"about {wanted} queries, or allow more by --max-recall-drop"
    )
