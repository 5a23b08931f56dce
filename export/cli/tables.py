"""Prints what the verbs report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from sdk.cli.console import print_table

if TYPE_CHECKING:
    from ..gate.comparison import Comparison
    from ..gate.decision import Verdict

__all__ = ["print_comparison", "print_facts", "print_verdict"]


def print_facts(facts: Mapping[str, str]) -> None:
    """Print one line for each fact: its label and its text."""
    for label, text in facts.items():
        typer.echo(f"{label:<20}{text}")


def print_comparison(comparison: Comparison) -> None:
    """Print the figures of a comparison as tables."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    rows = [
        ("cosine: mean", number(comparison.mean_cosine, ".6f")),
        ("cosine: 1st percentile", number(comparison.p1_cosine, ".6f")),
        ("cosine: smallest", number(comparison.min_cosine, ".6f")),
        ("cosine, mean descriptor removed", number(comparison.centred_cosine, ".6f")),
        ("largest difference of a value", number(comparison.max_abs_difference, ".1e")),
    ]
    if comparison.unusable:
        rows.append(("frames without a usable descriptor", str(comparison.unusable)))
    for figures in comparison.maps:
        rows.append((f"same first answer, {figures.described_by}'s map", f"{100 * figures.top1_agreement:.1f} %"))
    candidate = f"{comparison.candidate} ({comparison.candidate_precision})"
    reference = f"{comparison.reference} ({comparison.reference_precision})"
    print_table((f"{candidate} beside {reference}", f"{comparison.queries} queries"), rows)
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
    title = f"within {comparison.right}, {comparison.matched} queries"
    print_table((title, *reference, "R@1 lost, points", "95 % limits"), rows)
    typer.echo("")


def print_verdict(verdict: Verdict) -> None:
    """Print the figures and the verdict of the gate."""
    print_comparison(verdict.comparison)
    passed = "passed" if verdict.passed else "not passed"
    typer.echo(f"the gate: {passed}, judged by {' and '.join(verdict.judged)}")
    for reason in verdict.reasons:
        typer.echo(f"  {reason}")
