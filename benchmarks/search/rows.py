"""The rows of the search benchmark. Each takes a data set and returns lines and failures."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from data import DataSet, Ids, Rows, broken_orders, nearest
from peers import CONTRACT, EF_CONSTRUCTION, Contestant, K, M, Ours, Peers, empty_hnswlib, our_index
from process import in_process
from timing import Line, Times, Tuned, compare, contest, nearly_reaches, ratio_of, recall_of, tune

Measured = tuple[list[Line], list[str]]

DROPS = (0.002, 0.005)  # allowed loss of the cursor's recall@1 and @10 after jumps, against the graph search
BUILD_EF = 32
ROUNDING = 5e-7  # of a similarity summed in float32


@dataclass(frozen=True)
class Scale:
    queries: int = 1000  # per traverse, in runs of 100
    rounds: int = 5
    scans: int = 100  # queries per round of slow scans (milliseconds each)
    colds: int = 200
    builds: int = 3
    processes: int = 9

    @staticmethod
    def quick() -> Scale:
        return Scale(queries=300, rounds=3, scans=50, colds=50, builds=1, processes=3)


class Field:
    """A data set, its indexes (built on first use), and the parameters tuned on it."""

    def __init__(self, data: DataSet, folder: Path, scale: Scale, seed: int, tell: Callable[[str], None]) -> None:
        self.data, self.folder, self.scale, self.tell = data, folder, scale, tell
        self.rng = np.random.default_rng(seed)
        self.peers = Peers(data, folder / "peers", tell)
        self.known: dict[str, Tuned] = {}

    @cached_property
    def ours(self) -> Ours:
        return Ours(our_index(self.data.base))

    @cached_property
    def ours_graph(self) -> Ours:
        """The same index, with its graph."""
        self.tell(f"{self.data.name}: building ours")
        self.ours.index.build_graph(m=M, ef_construction=EF_CONSTRUCTION)
        return self.ours

    @cached_property
    def graph_peers(self) -> list[Contestant]:
        self.peers.prepare()
        return [*self.peers.hnswlib, *self.peers.faiss, *self.peers.usearch]

    def tuned(self, contestants: Sequence[Contestant]) -> list[Tuned]:
        for each in contestants:
            if each.name not in self.known:
                self.tell(f"{self.data.name}: tuning {each.name}")
                self.known[each.name] = tune(each, self.data)
        return [self.known[each.name] for each in contestants]

    def contest(self, count: int, in_frame_order: bool = False, cold: bool = False) -> Callable[..., dict[str, Times]]:
        count = min(count, len(self.data.time))
        rounds = self.scale.rounds

        def run(entered: Sequence[Tuned]) -> dict[str, Times]:
            return contest(
                entered,
                self.data.time,
                self.rng,
                rounds=rounds,
                count=count,
                in_frame_order=in_frame_order,
                cold=cold,
            )

        return run

    def compared(
        self,
        row: str,
        ours: Contestant,
        others: Sequence[Contestant],
        targets: Mapping[str, float],
        time_them: Callable[[Sequence[Tuned]], dict[str, Times]],
        measure: str = "",
    ) -> Measured:
        our, *their = self.tuned([ours, *others])
        lines = compare(row, self.data.name + measure, our, their, targets, time_them)
        ok = our.reached and nearly_reaches(our.timing, len(self.data.time))
        failed = f"{row}, {self.data.name}: {ours.name} has recalls {our.timing}, and {our.tuning} when tuned"
        return lines, [] if ok else [failed]


def measure_query(field: Field) -> Measured:
    targets = {"hnswlib": 4.0 if field.data.dim >= 2048 else 3.0, "faiss": 2.0, "usearch": 5.0}
    run = field.contest(field.scale.queries)
    return field.compared("query", field.ours_graph.graph, field.graph_peers, targets, run)


def measure_frames(field: Field) -> Measured:
    peers = [field.ours_graph.graph, *field.graph_peers]
    targets = {"hnswlib": 5.0, "faiss": 3.0, "usearch": 8.0}
    run = field.contest(field.scale.queries, in_frame_order=True)
    return field.compared("frames", field.ours_graph.cursor, peers, targets, run)


def measure_cold(field: Field) -> Measured:
    ours, count = field.ours_graph, field.scale.colds
    lines, failed = field.compared(
        "cold", ours.graph, field.peers.hnswlib, {"hnswlib": 2.5}, field.contest(count, cold=True), ", any order"
    )
    if field.data.in_frame_order:
        run = field.contest(count, in_frame_order=True, cold=True)
        more, also = field.compared("cold", ours.cursor, field.peers.hnswlib, {"hnswlib": 4.0}, run, ", frame order")
        lines, failed = lines + more, failed + also
    return lines, failed


def measure_jumps(field: Field) -> Measured:
    """The cursor at its tuned ef, which is enough only within a run, and at the ef of the graph search.

    Each ef also gets a line for the method that the index chooses by itself.
    """
    ours = field.ours_graph
    cursor, graph = field.tuned([ours.cursor, ours.graph])
    lines, failed = [], []
    for ef in sorted({cursor.parameter, graph.parameter}):
        method = ours.index.explain(field.data.time[0], K, ef=ef)["method"]
        plain = ours.graph.answers(ef, field.data.time)
        for name, (order, counted) in broken_orders(len(field.data.time), field.rng).items():
            truth = field.data.time_truth[order[counted]]
            warm = recall_of(ours.cursor.answers(ef, field.data.time[order])[counted], truth)
            alone = recall_of(plain[order[counted]], truth)
            gained = [warm[i] - alone[i] for i in range(2)]
            kept = gained[0] >= -max(DROPS[0], 1.5 / len(field.data.time)) and gained[1] >= -DROPS[1]
            line = Line("jumps", f"{field.data.name}, {name}", "ours, cursor", f"ef {ef}, {method}")
            line.recall_at_1, line.recall_at_10 = f"{warm[0]:.4f}", f"{warm[1]:.4f}"
            line.values = {
                "graph R@1": f"{alone[0]:.4f}",
                "graph R@10": f"{alone[1]:.4f}",
                "difference": f"{gained[0]:+.4f} {gained[1]:+.4f}",
            }
            line.figures, line.kept = {"cursor": warm, "graph": alone}, kept
            lines.append(line)
            if not kept:
                failed.append(f"jumps, {line.measure}, ef {ef}: recalls {warm}, of the graph search {alone}")
    return lines, failed


def measure_scan(field: Field) -> Measured:
    targets = {"faiss Flat": 100.0 if field.data.dim >= 2048 else 60.0, "faiss PQ4FastScan": 1.2}
    peers = [*field.peers.flat, *field.peers.fast_scan]
    return field.compared("scan", field.ours.sketch, peers, targets, field.contest(field.scale.scans))


def ids_by_rounded_rows(base: Rows, queries: Rows) -> tuple[Ids, Rows]:
    """The float64 top K of the float16-rounded rows, ties by id, out of the float32 top 2 K."""
    rounded = base.astype(np.float16).astype(np.float32)
    ids = nearest(rounded, queries, 2 * K)[0]
    similarities = np.einsum("qkd,qd->qk", rounded[ids].astype(np.float64), queries.astype(np.float64))
    order = np.lexsort((ids, -similarities), axis=1)[:, : K + 1]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(similarities, order, axis=1)


def measure_exact(field: Field) -> Measured:
    run = field.contest(field.scale.scans)
    lines, failed = field.compared("exact", field.ours.exact, field.peers.flat, {"faiss Flat": 4.0}, run)
    queries = field.data.time
    ids, similarities = ids_by_rounded_rows(field.data.base, queries)
    answers = field.ours.exact.answers(0, queries)
    differing = np.argwhere(answers != ids[:, :K])
    wrong = 0
    for query, place in differing:  # answers within float32's rounding may be in either order
        rounded = field.data.base[answers[query, place]].astype(np.float16).astype(np.float64)
        wrong += abs(rounded @ queries[query].astype(np.float64) - similarities[query, place]) > ROUNDING
    line = Line("exact", f"{field.data.name}, ids of the brute force", "ours, exact")
    same, total = answers.size - len(differing), answers.size
    line.values, line.kept = {"ids equal": f"{same} of {total}", "wrong": str(wrong)}, not wrong
    line.figures = {"same": same, "within_rounding": len(differing) - int(wrong), "wrong": int(wrong)}
    if wrong:
        failed.append(f"exact, {field.data.name}: {wrong} of {total} ids are not those of the brute force")
    return [*lines, line], failed


def measure_build(field: Field) -> Measured:
    data = field.data
    seconds: dict[str, list[float]] = {"ours": [], "hnswlib": []}
    built: dict[str, Any] = {}

    def build_hnswlib() -> Any:
        index = empty_hnswlib(data.dim, len(data.base))
        index.add_items(data.base, np.arange(len(data.base)))
        index.set_ef(BUILD_EF)
        return index

    def build_ours() -> Any:
        index = our_index(data.base)
        index.build_graph(m=M, ef_construction=EF_CONSTRUCTION)
        return index

    makers = {"ours": build_ours, "hnswlib": build_hnswlib}
    for _ in range(field.scale.builds):
        for name in field.rng.permutation(list(makers)):
            field.tell(f"{data.name}: building {name}")
            built.pop(name, None)
            started = time.process_time()
            built[name] = makers[name]()
            seconds[name].append(time.process_time() - started)
    ours = Ours(built["ours"]).graph
    theirs = Contestant("hnswlib f32", "hnswlib", lambda _: lambda row: built["hnswlib"].knn_query(row, K)[0])
    lines = []
    for name, contestant in (("ours", ours), ("hnswlib", theirs)):
        recall = recall_of(contestant.answers(BUILD_EF, data.time), data.time_truth)
        line = Line("build", data.name, contestant.name, f"ef {BUILD_EF}", f"{recall[0]:.3f}", f"{recall[1]:.3f}")
        line.values = {"cpu s": f"{statistics.median(seconds[name]):.2f}"}
        line.figures = {"cpu_s": seconds[name], "timing_recall": recall}
        lines.append(line)
    lines[1].ratio = ratio_of(seconds["hnswlib"], seconds["ours"])
    lines[1].target = 3.0 if data.dim >= 2048 else 2.0
    return lines, []


def measure_load(field: Field) -> Measured:
    peers = field.peers
    peers.prepare()
    with tempfile.TemporaryDirectory() as folder:
        query = Path(folder) / "query.npy"
        np.save(query, field.data.time[0])
        saved = Path(folder) / "ours.index"
        field.ours_graph.index.save(str(saved), contract=CONTRACT, state=bytes(32))
        files = {
            "ours": saved,
            "hnswlib": peers.hnswlib_file,
            "usearch": peers.usearch_file("bf16"),
            "faiss": peers.faiss_file,
        }
        for file in files.values():
            file.read_bytes()  # into the page cache
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in files}
        for done in range(field.scale.processes):
            field.tell(f"{field.data.name}: loading, {done + 1} of {field.scale.processes}")
            for name in field.rng.permutation(list(files)):
                taken[name].append(in_process("load", name, files[name], query))
    names = {"ours": "ours", "hnswlib": "hnswlib f32", "usearch": "usearch bf16, view", "faiss": "faiss HNSW f32, mmap"}
    targets = {"hnswlib": 50.0, "usearch": 3.0, "faiss": 1.0}
    sums = {name: [run["load_ms"] + run["answer_ms"] for run in runs] for name, runs in taken.items()}
    lines = []
    for name, runs in taken.items():
        line = Line("load", field.data.name, names[name], "ef 64")
        line.values = {
            "load ms": f"{statistics.median(run['load_ms'] for run in runs):.2f}",
            "answer ms": f"{statistics.median(run['answer_ms'] for run in runs):.2f}",
            "both ms": f"{statistics.median(sums[name]):.2f}",
        }
        line.figures = {"runs": runs}
        if name != "ours":
            line.ratio, line.target = ratio_of(sums[name], sums["ours"]), targets[name]
        lines.append(line)
    return lines, []


def measure_memory(field: Field) -> Measured:
    weights = {}
    for name in ("hnswlib", "ours compact", "ours"):
        field.tell(f"{field.data.name}: weighing {name}")
        weights[name] = in_process("weigh", name, field.folder)
    lines, failed = [], []
    for name, weight in weights.items():
        line = Line("memory", field.data.name, name)
        line.values = {"resident B": f"{weight['resident']:.0f}", "file B": f"{weight['file']:.0f}"}
        line.figures = weight
        if name != "hnswlib":
            line.parameter = f"ef {weight['ef']}" + ("" if weight["reached"] else ", not reached")
            line.recall_at_1, line.recall_at_10 = (
                f"{timed:.3f} ({tuned:.3f})" for timed, tuned in zip(weight["timing"], weight["tuning"], strict=True)
            )
            line.ratio = weight["resident"] / weights["hnswlib"]["resident"]
            line.target, line.at_most = (0.75 if name == "ours" else 0.3), True
            if not weight["reached"]:
                failed.append(f"memory, {field.data.name}: {name} has recalls {weight['tuning']}")
        lines.append(line)
    return lines, failed


def measure_small(field: Field) -> Measured:
    targets = {"hnswlib": 1.0, "numpy": 1.0}
    peers = [*field.peers.hnswlib, *field.peers.numpy]
    ours = field.ours_graph
    lines, failed = field.compared("small", ours.auto, peers, targets, field.contest(field.scale.queries))
    method = ours.index.explain(field.data.time[0], K, ef=field.known[ours.auto.name].parameter)["method"]
    lines[0].parameter += f", {method}"
    return lines, failed
