"""The options by which verbs are told what to judge on, and what they print of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdk import MapError
from sdk.cli.console import print_table

if TYPE_CHECKING:
    from sdk.evaluation.sets import PlaceSet

    from ..gate.comparison import Comparison
    from ..gate.decision import Thresholds, Verdict

__all__ = [
    "DatabaseFolder",
    "Dataset",
    "Frames",
    "Json",
    "MaxRecallDrop",
    "MinCosine",
    "MinTop1Agreement",
    "PositiveDistThreshold",
    "QueriesFolder",
    "choose_thresholds",
    "print_comparison",
    "print_verdict",
    "require_places",
]

BELOW_THRESHOLDS = 1  # exit code, as diff's when files differ

Frames = Annotated[
    Path | None,
    typer.Option("--frames", help="Folder of images to judge on, 10 or more; each is asked against all the others."),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Judge R@1 too, on a folder with database/, query*/ and ground_truth.csv, or its name below "
        "$STRUCTVPR_DATA.",
    ),
]
DatabaseFolder = Annotated[Path | None, typer.Option("--database_folder", help="Judge R@1 too: images with positions.")]
QueriesFolder = Annotated[Path | None, typer.Option("--queries_folder", help="Images with positions.")]
PositiveDistThreshold = Annotated[
    float, typer.Option("--positive_dist_threshold", help="With folders: an answer this near is right, m.")
]
MinCosine = Annotated[
    float | None,
    typer.Option("--min-cosine", help="Least mean cosine of the queries.  [fp32 0.9999, fp16 0.999, int8 0.98]"),
]
MinTop1Agreement = Annotated[
    float | None,
    typer.Option(
        "--min-top1-agreement",
        help="Least share of first answers that stay, where R@1 is not judged.  [fp32 0.95, fp16 0.9, int8 0.8]",
    ),
]
MaxRecallDrop = Annotated[
    float | None,
    typer.Option(
        "--max-recall-drop",
        help="Most points of R@1 that may be lost, excluded one-sided at 95 %; where true places are known.  [int8 1, "
        "others not judged]",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def choose_thresholds(
    precision: str, min_cosine: float | None, min_top1_agreement: float | None, max_recall_drop: float | None
) -> Thresholds:
    """The defaults of a precision, with what the options say in their place."""
    from ..gate.decision import DEFAULT_THRESHOLDS

    given = {
        "min_mean_cosine": min_cosine,
        "min_top1_agreement": min_top1_agreement,
        "max_recall_drop": max_recall_drop,
    }
    return replace(DEFAULT_THRESHOLDS[precision], **{name: value for name, value in given.items() if value is not None})


def require_places(data: PlaceSet | None, max_recall_drop: float | None) -> None:
    """Raise MapError if a loss of R@1 is to be judged, and no frames are named that have places."""
    if data is not None and data.positives is None and max_recall_drop is not None:
        raise MapError(
            "--max-recall-drop was given with frames whose true places are not known, expected --dataset, or "
            "--database_folder and --queries_folder; give those, or leave it out"
        )


def print_comparison(comparison: Comparison) -> None:
    """The figures as tables."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    rows = [
        ("cosine: mean", number(comparison.mean_cosine, ".6f")),
        ("cosine: 1st percentile", number(comparison.p1_cosine, ".6f")),
        ("cosine: smallest", number(comparison.min_cosine, ".6f")),
        ("cosine without what all share", number(comparison.centred_cosine, ".6f")),
        ("largest difference of a value", number(comparison.max_abs_difference, ".1e")),
    ]
    if comparison.unusable:
        rows.append(("frames without a usable descriptor", str(comparison.unusable)))
    for figures in comparison.maps:
        rows.append((f"same first answer, {figures.described_by}'s map", f"{100 * figures.top1_agreement:.1f} %"))
    print_table(
        (
            f"{comparison.candidate} ({comparison.candidate_precision}) beside {comparison.reference} "
            f"({comparison.reference_precision})",
            f"{comparison.queries} queries",
        ),
        rows,
    )
    typer.echo("")
    if comparison.reference_recall is not None:
        _print_recalls(comparison)
    typer.echo(
        f"{comparison.queries} queries, each against {comparison.database} frames; ms an inference (median): "
        f"reference {comparison.reference_ms:.2f}, candidate {comparison.candidate_ms:.2f}"
    )


def _print_recalls(comparison: Comparison) -> None:
    reference = comparison.reference_recall or {}
    rows = [("reference, its own map", *(f"{100 * value:.1f}" for value in reference.values()), "", "")]
    for figures in comparison.maps:
        if figures.recall is None or figures.loss is None:
            continue
        loss = figures.loss
        rows.append(
            (
                f"candidate, {figures.described_by}'s map",
                *(f"{100 * value:.1f}" for value in figures.recall.values()),
                f"{100 * loss.loss:+.2f} (-{loss.lost} +{loss.gained})",
                f"{100 * loss.lower:+.2f} to {100 * loss.upper:+.2f}",
            )
        )
    print_table(
        (
            f"within {comparison.right}, {comparison.matched} queries",
            *reference,
            "R@1 lost, points",
            "95 % limits",
        ),
        rows,
    )
    typer.echo("")


def print_verdict(verdict: Verdict) -> None:
    """The figures, and what the gate says of them."""
    print_comparison(verdict.comparison)
    passed = "passed" if verdict.passed else "not passed"
    typer.echo(f"the gate: {passed}, judged by {' and '.join(verdict.judged)}")
    for reason in verdict.reasons:
        typer.echo(f"  {reason}")
