"""Tuning, timing and the tables of the search benchmark."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from data import RUN_FRAMES, DataSet, Ids, Rows
from peers import Contestant, K, Search

GATE = (0.99, 0.95)  # recall@1 and recall@10
COMPACT_GATE = (0.97, 0.95)
STREAM_BYTES = 48 << 20  # more than the caches hold

Recall = tuple[float, float]


def recall_of(answers: Ids, truth: Ids) -> Recall:
    """recall@1 and recall@10: queries with the nearest first, and the ten nearest found."""
    nearest = truth[:, :K]
    found = (answers[:, :, None] == nearest[:, None, :]).any(axis=1)
    return float((answers[:, 0] == truth[:, 0]).mean()), float(found.mean())


def reaches(recall: Recall, gate: Recall = GATE) -> bool:
    return all(value >= least - 1e-9 for value, least in zip(recall, gate, strict=True))


def nearly_reaches(recall: Recall, queries: int, gate: Recall = GATE) -> bool:
    """Whether recall is within three standard errors of the gate, for a parameter tuned on other queries."""
    return all(r >= g - 3 * (g * (1 - g) / queries) ** 0.5 for r, g in zip(recall, gate, strict=True))


@dataclass(frozen=True)
class Tuned:
    contestant: Contestant
    parameter: int
    reached: bool
    tuning: Recall
    timing: Recall


def tune(contestant: Contestant, data: DataSet, gate: Recall = GATE) -> Tuned:
    """The smallest parameter of the grid that reaches the gate on the tuning queries, else the largest."""

    def tuning(parameter: int) -> Recall:
        return recall_of(contestant.answers(parameter, data.tune), data.tune_truth)

    parameter = contestant.grid[-1]
    recall = tuning(parameter)
    reached = reaches(recall, gate)
    for smaller in contestant.grid[:-1] if reached else ():
        attempt = tuning(smaller)
        if reaches(attempt, gate):
            parameter, recall = smaller, attempt
            break
    timing = recall_of(contestant.answers(parameter, data.time), data.time_truth)
    return Tuned(contestant, parameter, reached, recall, timing)


@dataclass
class Times:
    """Microseconds per round."""

    cpu_p50: list[float] = field(default_factory=list)
    wall_p50: list[float] = field(default_factory=list)
    wall_p99: list[float] = field(default_factory=list)


def time_calls(
    search: Search, rows: Sequence[Rows], stream: npt.NDArray[np.float32] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Nanoseconds per call: thread CPU time and wall time."""
    cpu, wall = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for row in rows[-3:]:
        search(row)
    for i, row in enumerate(rows):
        if stream is not None:
            stream.max()
        wall_start, cpu_start = time.perf_counter_ns(), time.thread_time_ns()
        search(row)
        cpu_end, wall_end = time.thread_time_ns(), time.perf_counter_ns()
        cpu[i], wall[i] = cpu_end - cpu_start, wall_end - wall_start
    return cpu, wall


def contest(
    contestants: Iterable[Tuned],
    queries: Rows,
    rng: np.random.Generator,
    *,
    rounds: int,
    count: int,
    in_frame_order: bool = False,
    cold: bool = False,
) -> dict[str, Times]:
    """Time each at its parameter on the same queries, in a new random order each round. Keys are names."""
    entered = list(contestants)
    times = {each.contestant.name: Times() for each in entered}
    stream = np.ones(STREAM_BYTES // 4, np.float32) if cold else None
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            if in_frame_order:  # whole runs; each round starts at another run
                first = int(rng.integers(max(1, len(queries) // RUN_FRAMES))) * RUN_FRAMES
                asked = np.roll(np.arange(len(queries)), -first)[:count]
            else:
                asked = rng.permutation(len(queries))[:count]
            for place in rng.permutation(len(entered)):
                each = entered[place]
                rows = each.contestant.rows(np.ascontiguousarray(queries[asked]))
                cpu, wall = time_calls(each.contestant.start(each.parameter), rows, stream)
                taken = times[each.contestant.name]
                taken.cpu_p50.append(float(np.median(cpu)) / 1e3)
                taken.wall_p50.append(float(np.median(wall)) / 1e3)
                taken.wall_p99.append(float(np.percentile(wall, 99)) / 1e3)
    finally:
        gc.enable()
    return times


def ratio_of(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Median over rounds of theirs / ours."""
    return statistics.median(t / o for t, o in zip(theirs, ours, strict=True))


@dataclass
class Line:
    """A line of a table: a system's measurements, and how ours compares."""

    row: str
    measure: str
    system: str
    parameter: str = "-"
    recall_at_1: str = "-"
    recall_at_10: str = "-"
    values: dict[str, str] = field(default_factory=dict)
    ratio: float | None = None
    target: float | None = None
    at_most: bool = False
    kept: bool | None = None  # for targets that are not ratios
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        if self.target is None or self.ratio is None:
            return self.kept
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target

    def record(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}

    def cells(self) -> dict[str, str]:
        sign = "<=" if self.at_most else ">="
        return {
            "measure": self.measure,
            "system": self.system,
            "parameter": self.parameter,
            "R@1": self.recall_at_1,
            "R@10": self.recall_at_10,
            **self.values,
            "ratio": "-" if self.ratio is None else f"{self.ratio:.{3 if self.at_most else 2}f}x",
            "target": "-" if self.target is None else f"{sign} {self.target:g}x",
            "met": {None: "-", True: "yes", False: "NO"}[self.met],
        }


def line_of(row: str, measure: str, tuned: Tuned, times: Times | None, gate: Recall = GATE) -> Line:
    def told(place: int) -> str:
        below = "!" if tuned.timing[place] < gate[place] - 1e-9 else ""
        return f"{tuned.timing[place]:.3f}{below} ({tuned.tuning[place]:.3f})"

    parameter = "-" if len(tuned.contestant.grid) == 1 else str(tuned.parameter)
    line = Line(row, measure, tuned.contestant.name, parameter, told(0), told(1))
    if not tuned.reached:
        line.parameter += ", not reached"
    line.figures = {"tuning_recall": tuned.tuning, "timing_recall": tuned.timing, "reached": tuned.reached}
    middle = statistics.median
    line.values = {
        "cpu p50 us": "-" if times is None else f"{middle(times.cpu_p50):.1f}",
        "wall p50": "-" if times is None else f"{middle(times.wall_p50):.1f}",
        "wall p99": "-" if times is None else f"{middle(times.wall_p99):.1f}",
    }
    if times is not None:
        line.figures |= asdict(times)
    return line


def compare(
    row: str,
    measure: str,
    ours: Tuned,
    others: Sequence[Tuned],
    targets: Mapping[str, float],
    time_them: Callable[[Sequence[Tuned]], dict[str, Times]],
) -> list[Line]:
    """Lines of ours and the others. The target is on the best of each family that reached the recall."""
    entered = [ours, *(each for each in others if each.reached)]
    times = time_them(entered)
    best: dict[str, Line] = {}
    lines = [line_of(row, measure, ours, times[ours.contestant.name])]
    for each in others:
        line = line_of(row, measure, each, times.get(each.contestant.name))
        if each.reached:
            line.ratio = ratio_of(times[each.contestant.name].cpu_p50, times[ours.contestant.name].cpu_p50)
            family = each.contestant.family
            if family not in best or line.ratio < (best[family].ratio or 0):
                best[family] = line
        lines.append(line)
    for family, line in best.items():
        line.target = targets.get(family)
    return lines


def print_tables(lines: Sequence[Line], titles: Mapping[str, str]) -> None:
    for row, title in titles.items():
        table = [line.cells() for line in lines if line.row == row]
        if not table:
            continue
        names = dict.fromkeys(name for cells in table for name in cells)
        widths = {name: max(len(name), *(len(cells.get(name, "-")) for cells in table)) for name in names}
        print(f"\n### {row}: {title}\n")
        print("| " + " | ".join(name.ljust(width) for name, width in widths.items()) + " |")
        print("|" + "|".join("-" * (width + 2) for width in widths.values()) + "|")
        for cells in table:
            print("| " + " | ".join(cells.get(name, "-").ljust(width) for name, width in widths.items()) + " |")


def print_summary(lines: Sequence[Line]) -> None:
    judged = [line for line in lines if line.met is not None]
    for line in judged:
        cells, met = line.cells(), "met" if line.met else "MISSED"
        what = f"{line.measure}: {cells['ratio']} {'' if line.at_most else 'against '}{line.system} ({cells['target']})"
        print(f"{line.row:7} {line.measure if line.ratio is None else what}: {met}")
    print(f"\n{sum(bool(line.met) for line in judged)} of {len(judged)} targets met")
