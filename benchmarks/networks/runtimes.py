"""Measure the settings of the CPU runtimes: the figures behind sdk/backends/ort.py and ov.py.

    python benchmarks/networks/runtimes.py models/efficientnet-lite0-gem.onnx --threads 1
    python benchmarks/networks/runtimes.py models/efficientnet-lite0-gem.onnx --threads 2

Each setting runs in its own process, which waits while the others are measured. A round measures all settings in random
order, first alone and then beside one busy process per core, so that other load affects all alike. A figure is the
median over rounds of the ratio to the first setting in the same round. `cpu` is the processor time of all threads;
trust it on a shared machine. `rss` is the process's resident memory at the end (512 frames in 32 rounds), with Python.
Ctrl-C prints the rounds so far.

The second table compares the first frame's descriptor with that of the first setting.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

FRAMES_A_ROUND = 8


@dataclass(frozen=True)
class Setting:
    """Options of a runtime, under the runtime's own names."""

    runtime: str = "onnxruntime"
    options: dict[str, Any] = field(default_factory=dict)
    entries: dict[str, str] = field(default_factory=dict)
    run_entries: dict[str, str] = field(default_factory=dict)
    way: str = "run"
    parallel: bool = False


# The entries of sdk/backends/ort.py. Without VNNI, int8 products saturate on x86 unless x64quantprecision is 1.
EXACT = {"session.x64quantprecision": "1"}
QUIET = {"session.intra_op.allow_spinning": "0", **EXACT}
BASELINE = Setting(entries=QUIET)

SETTINGS = {
    "no spinning, else defaults": BASELINE,
    "spinning": Setting(entries=EXACT),
    "parallel operators": Setting(entries=QUIET, parallel=True),
    "no arena": Setting(entries=QUIET, options={"enable_cpu_mem_arena": False}),
    "no arena, no pattern": Setting(
        entries=QUIET, options={"enable_cpu_mem_arena": False, "enable_mem_pattern": False}
    ),
    "no memory pattern": Setting(entries=QUIET, options={"enable_mem_pattern": False}),
    "arena shrunk each frame": Setting(entries=QUIET, run_entries={"memory.enable_memory_arena_shrinkage": "cpu:0"}),
    "weights outside the arena": Setting(entries={**QUIET, "session.use_device_allocator_for_initializers": "1"}),
    "no prepacked weights": Setting(entries={**QUIET, "session.disable_prepacking": "1"}),
    "denormals are zero": Setting(entries={**QUIET, "session.set_denormal_as_zero": "1"}),
    "dynamic block 4": Setting(entries={**QUIET, "session.dynamic_block_base": "4"}),
    "optimised: extended": Setting(entries=QUIET, options={"graph_optimization_level": "ORT_ENABLE_EXTENDED"}),
    "optimised: basic": Setting(entries=QUIET, options={"graph_optimization_level": "ORT_ENABLE_BASIC"}),
    "I/O binding": Setting(entries=QUIET, way="binding"),
    "OrtValues": Setting(entries=QUIET, way="values"),
    "OpenVINO f32": Setting("openvino", {"INFERENCE_PRECISION_HINT": "f32"}),
    "OpenVINO f32, not pinned": Setting("openvino", {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}),
    "OpenVINO f32, its array shared": Setting("openvino", {"INFERENCE_PRECISION_HINT": "f32"}, way="shared"),
    "OpenVINO, its own precision": Setting("openvino"),
}

Run = Callable[[np.ndarray], np.ndarray]


def load(setting: Setting, model: Path, threads: int) -> Run:
    if setting.runtime == "openvino":
        return load_openvino(setting, model, threads)
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 2 if setting.parallel else 1
    if setting.parallel:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.log_severity_level = 4
    for name, value in setting.options.items():
        is_level = name == "graph_optimization_level"
        setattr(options, name, getattr(ort.GraphOptimizationLevel, value) if is_level else value)
    for name, value in setting.entries.items():
        options.add_session_config_entry(name, value)
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    how = None
    if setting.run_entries:
        how = ort.RunOptions()
        for name, value in setting.run_entries.items():
            how.add_run_config_entry(name, value)
    source, target = session.get_inputs()[0].name, session.get_outputs()[0].name

    def run(batch: np.ndarray) -> np.ndarray:
        return session.run(None, {source: batch}, how)[0][0]

    def run_values(batch: np.ndarray) -> np.ndarray:
        value = ort.OrtValue.ortvalue_from_numpy(batch)
        return session.run_with_ort_values([target], {source: value})[0].numpy()[0]

    binding = session.io_binding()
    binding.bind_output(target, "cpu")

    def run_bound(batch: np.ndarray) -> np.ndarray:
        binding.bind_cpu_input(source, batch)
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0][0]

    return {"run": run, "values": run_values, "binding": run_bound}[setting.way]


def load_openvino(setting: Setting, model: Path, threads: int) -> Run:
    import openvino

    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **setting.options}
    request = openvino.Core().compile_model(str(model), "CPU", hints).create_infer_request()
    shared = setting.way == "shared"

    def run(batch: np.ndarray) -> np.ndarray:
        return np.array(request.infer([batch], share_inputs=shared, share_outputs=shared)[0][0])

    return run


def work(name: str, model: Path, threads: int, shape: tuple[int, ...]) -> None:
    """The process of one setting: each line on stdin is a number of frames to run."""
    run = load(SETTINGS[name], model, threads)
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(4)]
    first = run(batches[0]).astype(np.float64).tolist()
    print(json.dumps({"first": first}), flush=True)
    for line in sys.stdin:
        times = []
        cpu = time.process_time()
        for at in range(int(line)):
            started = time.perf_counter()
            run(batches[at % 4])
            times.append(time.perf_counter() - started)
        cpu = (time.process_time() - cpu) / int(line)
        print(json.dumps({"latency": median(times), "cpu": cpu, "rss": resident()}), flush=True)


def input_shape(model: Path) -> tuple[int, ...]:
    import sdk

    backend = sdk.open_backend(model, threads=1)
    try:
        return (1, backend.contract.height, backend.contract.width, 3)
    finally:
        backend.close()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Worker:
    def __init__(self, name: str, model: Path, threads: int, shape: tuple[int, ...]) -> None:
        command = [sys.executable, __file__, str(model), "--threads", str(threads), "--work", name]
        command += ["--shape", *map(str, shape)]
        # A new session: Ctrl-C must reach only the parent, which prints the table.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.first = np.array(self._answer()["first"])

    def ask(self, frames: int) -> dict[str, float]:
        assert self.process.stdin
        self.process.stdin.write(f"{frames}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a worker ended early; see its output above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self.process.communicate()


Rows = dict[str, list[dict[str, float]]]


def measure(workers: dict[str, Worker], rounds: int) -> tuple[Rows, Rows]:
    """Measure every setting in rounds, alone and beside busy processes."""
    alone: Rows = {name: [] for name in workers}
    beside: Rows = {name: [] for name in workers}
    order = list(workers)
    try:
        for done in range(rounds):
            random.Random(done).shuffle(order)
            for name in order:
                alone[name].append(workers[name].ask(FRAMES_A_ROUND))
            with neighbours():
                for name in order:
                    beside[name].append(workers[name].ask(FRAMES_A_ROUND))
            print(f"\r{done + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        if not beside[order[-1]]:
            raise
    print(file=sys.stderr)
    return alone, beside


@contextmanager
def neighbours() -> Iterator[None]:
    command = [sys.executable, "-c", "while True: sum(range(10000))"]
    busy = [subprocess.Popen(command) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def ratio(results: Rows, name: str, what: str) -> float:
    base = results[next(iter(results))]  # an interrupted round lacks some settings
    return median(own[what] / other[what] for own, other in zip(results[name], base, strict=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--rounds",
        type=int,
        default=32,
        help="rounds of 8 frames per setting, alone and again beside busy processes (default: 32)",
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="settings whose names contain one of these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=int, nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.model, arguments.threads, tuple(arguments.shape))
        return
    names = [
        name
        for at, name in enumerate(SETTINGS)
        if at == 0 or not arguments.only or any(part in name for part in arguments.only)
    ]
    shape = input_shape(arguments.model)
    workers = {name: Worker(name, arguments.model, arguments.threads, shape) for name in names}
    try:
        alone, beside = measure(workers, arguments.rounds)
    finally:
        for worker in workers.values():
            worker.close()
    base = names[0]
    rss = {name: rows[-1]["rss"] for name, rows in beside.items()}
    print(f"{arguments.model.name}, {arguments.threads} threads; ratios to: {base}")
    of_base = {what: median(row[what] for row in alone[base]) * 1e3 for what in ("latency", "cpu")}
    print(f"there: {of_base['latency']:.1f} ms, {of_base['cpu']:.1f} ms of CPU, {rss[base] / 1e6:.0f} MB")
    print(f"{len(beside[base])} rounds of twice {FRAMES_A_ROUND} frames\n")
    print("| setting | latency | cpu | latency beside neighbours | cpu beside neighbours | rss |\n" + "|---" * 6 + "|")
    table = {}
    for name in names:
        row = {f"{what} alone": ratio(alone, name, what) for what in ("latency", "cpu")}
        row |= {f"{what} beside": ratio(beside, name, what) for what in ("latency", "cpu")}
        row["rss"] = rss[name] / rss[base]
        table[name] = row
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in row.values())} |")
    print("\n| setting | 1 - cosine | largest difference |\n|---|---|---|")
    first = workers[base].first
    for name, worker in workers.items():
        gap = 1 - float(first @ worker.first) / float(np.linalg.norm(first) * np.linalg.norm(worker.first))
        print(f"| {name} | {gap:.1e} | {np.abs(first - worker.first).max():.1e} |")
    if arguments.json:
        arguments.json.write_text(json.dumps({"base": of_base, "ratios": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
