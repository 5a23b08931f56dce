"""The report of an ablation: a table beside the paper's, the paper's orderings, and a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from sdk import DataError
from sdk.arrays import Indices
from sdk.atomic_file import replace_when_done

from ..json_files import write_json
from .ablation import ROWS

__all__ = ["Comparison", "compare_paired", "read_rows", "write_report"]

VALUES = ("R@1", "R@5", "R@10")
RESAMPLES = 10_000
STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)  # 97.5 % points, 1 to 10 degrees of freedom

# The paper's claims, as (better, worse), and our control, which should not be better.
ORDERINGS = (
    *(("ours", "a1"), ("a1", "all"), ("all", "none"), ("none", "d4"), ("ours", "none")),
    *(("none", "shuffled"), ("all", "shuffled"), ("ours", "shuffled")),
)

Rows = dict[str, dict[int, dict[str, Any]]]


@dataclass(frozen=True)
class Comparison:
    """Two rows, compared query by query.

    Attributes:
        difference: of R@1, percentage points; positive if the first row is better.
        low, high: 95 % bootstrap interval of the difference, over queries and seeds.
        seeds: of both rows.
        seeds_low, seeds_high: 95 % t-interval of the difference over the seeds alone; infinite for one seed.
    """

    difference: float
    low: float
    high: float
    seeds: tuple[int, ...]
    seeds_low: float = -math.inf
    seeds_high: float = math.inf

    @property
    def verdict(self) -> str:
        """Whether the difference is positive: "holds", "reversed", or "undecided" if the interval contains 0.

        With three seeds, 1 bootstrap sample in 9 draws one seed three times. So the interval is narrow as soon as all
        seeds agree in sign, and the verdict also says if the t-interval over the seeds contains 0.
        """
        word = "holds" if self.low > 0.0 else "reversed" if self.high < 0.0 else "undecided"
        if word == "undecided" or self.seeds_low > 0.0 or self.seeds_high < 0.0:
            return word
        return f"{word}, not beyond the seeds' spread" if math.isfinite(self.seeds_low) else f"{word}, one seed"


def compare_paired(first: Sequence[Indices], second: Sequence[Indices], seeds: tuple[int, ...] = ()) -> Comparison:
    """R@1 of two rows on the same queries, with a bootstrap interval over queries and seeds.

    Each resample draws queries, the same for all seeds and both rows, and seeds. If both rows have equally many seeds,
    seed i is compared with seed i; otherwise the seeds of each row are drawn separately. Queries are drawn as if they
    were independent. Neighbours along a street are not, so the interval is somewhat too narrow.

    Args:
        first, second: for each seed, int64 (Q,), the rank of each query's first right answer.
        seeds: recorded in the result.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), percentile interval.
    """
    ours, theirs = ((np.stack(list(ranks)) <= 1).astype(np.float64) for ranks in (first, second))  # (S, Q), (T, Q)
    rng = np.random.default_rng(0)
    (count, queries), paired = ours.shape, len(ours) == len(theirs)
    drawn = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        share = _drawn_shares(rng, count)
        other = share if paired else _drawn_shares(rng, len(theirs))
        drawn[i] = (share @ ours - other @ theirs)[rng.integers(0, queries, queries)].mean()
    low, high = np.percentile(drawn, [2.5, 97.5])
    mean = 100.0 * float(ours.mean() - theirs.mean())
    half = math.inf
    if paired and count > 1:
        degrees = min(count - 1, len(STUDENT_T))
        spread = (ours - theirs).mean(axis=1).std(ddof=1)
        half = STUDENT_T[degrees - 1] * 100.0 * float(spread) / math.sqrt(count)
    return Comparison(mean, 100.0 * float(low), 100.0 * float(high), seeds, mean - half, mean + half)


def _drawn_shares(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """The share of each seed in a resampled row."""
    return np.bincount(rng.integers(0, count, count), minlength=count) / count


def read_rows(folder: Path) -> Rows:
    """Finished runs, by row and seed.

    Raises:
        DataError: there are none, or one cannot be read.
    """
    rows: Rows = {}
    for path in sorted((folder / "rows").glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            rows.setdefault(record["row"], {})[record["seed"]] = record
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path}: cannot read this finished run ({error}); remove it") from None
    if not rows:
        raise DataError(f"{folder}: holds no finished run in rows/; run the ablation first")
    return rows


def write_report(folder: Path, about: dict[str, Any]) -> str:
    """Write ablation.json, ablation.md and ablation.svg from the finished runs. Returns the text of ablation.md.

    Args:
        folder: of the ablation.
        about: more facts for the report, such as the sets and the command.
    """
    rows = read_rows(folder)
    orderings = [(better, worse, _compare(rows, better, worse)) for better, worse in ORDERINGS]
    passes = sorted({run["passes"] for runs in rows.values() for run in runs.values()})
    record = {
        **about,
        "image_passes_per_run": passes,
        "rows": {name: {str(seed): _without_ranks(run) for seed, run in runs.items()} for name, runs in rows.items()},
        "orderings": [
            {
                "claim": f"{better} > {worse}",
                "verdict": found.verdict if found else "not run",
                **({} if found is None else {"difference": found.difference, "interval": [found.low, found.high]}),
                **(
                    {} if found is None or len(found.seeds) < 2 else {"over_seeds": [found.seeds_low, found.seeds_high]}
                ),
                "seeds": [] if found is None else list(found.seeds),
            }
            for better, worse, found in orderings
        ],
    }
    text = _markdown(rows, orderings, passes, about)
    write_json(folder / "ablation.json", record, indent=2)
    for name, content in (("ablation.md", text), ("ablation.svg", _plot(rows))):
        with replace_when_done(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return text


def _compare(rows: Rows, better: str, worse: str) -> Comparison | None:
    seeds = tuple(sorted(rows.get(better, {}).keys() & rows.get(worse, {}).keys()))
    if not seeds:
        return None
    first, second = ([np.array(rows[name][seed]["test_ranks"]) for seed in seeds] for name in (better, worse))
    return compare_paired(first, second, seeds)


def _figures(runs: dict[int, dict[str, Any]], value: str) -> tuple[float, float | None]:
    """Mean over seeds and their standard deviation, percent."""
    found = [run["test"][value] for run in runs.values()]
    return float(np.mean(found)), float(np.std(found, ddof=1)) if len(found) > 1 else None


def _markdown(
    rows: Rows, orderings: Sequence[tuple[str, str, Comparison | None]], passes: list[int], about: dict[str, Any]
) -> str:
    lines = [f"{name}: {value}  " for name, value in about.items()]
    lines.append(f"image passes per run: {', '.join(f'{p:,}' for p in passes)}")
    lines += ["", "| row | seeds | R@1 | R@5 | R@10 | R@1 - None | paper (MSLS val) |", "|---|---|---|---|---|---|---|"]
    for row in ROWS:
        if row.name not in rows:
            continue
        runs = rows[row.name]
        cells = []
        for value in VALUES:
            mean, deviation = _figures(runs, value)
            cells.append(f"{mean:.1f}" + (f" ± {deviation:.1f}" if deviation is not None else ""))
        gain = _compare(rows, row.name, "none") if row.name != "none" else None
        gained = f"{gain.difference:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]" if gain else ""
        paper = " / ".join(f"{figure:.1f}" for figure in row.paper) if row.paper else ""
        lines.append(f"| {row.title} | {len(runs)} | {' | '.join(cells)} | {gained} | {paper} |")
    lines += [
        "",
        "| claim | R@1 difference, 95 % interval | over the seeds alone | verdict | seeds |",
        "|---|---|---|---|---|",
    ]
    for better, worse, found in orderings:
        if found is None:
            lines.append(f"| {better} > {worse} | | | not run | |")
            continue
        seeds = " ".join(map(str, found.seeds))
        interval = f"{found.difference:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
        spread = f"[{found.seeds_low:+.2f}, {found.seeds_high:+.2f}]" if math.isfinite(found.seeds_low) else ""
        claim = f"{better} > {worse}" + (" (expected: not reversed)" if (better, worse) == ("none", "shuffled") else "")
        lines.append(f"| {claim} | {interval} | {spread} | {found.verdict} | {seeds} |")
    for title, chosen in (("Pairs of the training set", False), ("With the shuffled teacher", True)):
        shares = [
            run["pairs_percent"]
            for name, runs in rows.items()
            if (name == "shuffled") == chosen
            for run in runs.values()
            if run["pairs_percent"]
        ]
        if shares:
            means = {group: np.mean([found[group] for found in shares]) for group in shares[0]}
            told = ", ".join(f"{group} {mean:.1f} %" for group, mean in means.items())
            paper = "" if chosen else " (paper: D1 4.1 %, D2 50.7 %, D3 14.8 %, D4 30.4 %)"
            lines += ["", f"{title}: {told}{paper}."]
    return "\n".join(lines) + "\n"


def _plot(rows: Rows) -> str:
    """An SVG of R@1: per row a dot for each seed and a line at the mean."""
    shown = [row for row in ROWS if row.name in rows]
    points: dict[str, list[float]] = {
        row.name: [run["test"]["R@1"] for run in rows[row.name].values()] for row in shown
    }
    every = [value for values in points.values() for value in values]
    low, high = math.floor(min(every) / 5.0) * 5.0, math.ceil(max(every) / 5.0) * 5.0 + 1e-9
    left, width, line = 270, 420, 24

    def x(value: float) -> float:
        return left + width * (value - low) / max(high - low, 1e-9)

    height = line * (len(shown) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 40}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{left + width + 40}" height="{height}" fill="white"/>',
    ]
    for tick in np.arange(low, high + 1.0, 5.0):
        parts.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="8" y2="{height - 34}" stroke="#ddd"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{height - 16}" text-anchor="middle" fill="#555">{tick:g}</text>')
    for i, row in enumerate(shown):
        y = line * (i + 1)
        mean = float(np.mean(points[row.name]))
        parts.append(f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{escape(row.title)}</text>')
        parts.append(
            f'<line x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="{y - 8}" y2="{y + 8}" stroke="#1f5fa8" stroke-width="3"/>'
        )
        parts += [f'<circle cx="{x(v):.1f}" cy="{y}" r="3.5" fill="#1f5fa8" opacity="0.5"/>' for v in points[row.name]]
    parts.append(f'<text x="{left + width / 2}" y="{height - 2}" text-anchor="middle" fill="#555">R@1, percent</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _without_ranks(run: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name != "test_ranks"}
