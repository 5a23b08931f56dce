"""Latency of queries on this machine, stage by stage, cold and warm."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import l2_normalize
from ..answers import Place
from ..errors import EngineError
from ..localizer import Localizer
from ..places.place_map import PlaceMap

__all__ = ["fill_with_noise", "measure_cold_start", "measure_steady_state", "memory_bytes"]

WARM_UP_QUERIES = 20
PERCENTILES = {"min": 0, "p50": 50, "p90": 90, "p99": 99, "max": 100}

# Runs in a process of its own, so that nothing is loaded and no allocator is warm.
COLD_START = """
import json, sys, time
marks = {}
last = started = time.perf_counter()

def mark(stage):
    global last
    now = time.perf_counter()
    marks[stage], last = now - last, now

import sdk, numpy
mark("import")
backend = sdk.open_backend(sys.argv[1], threads=int(sys.argv[3]) or None)
mark("load the network")
frame = numpy.zeros((480, 640, 3), numpy.uint8) + numpy.arange(640, dtype=numpy.uint8)[:, None]
backend.infer(sdk.prepare(frame, backend.contract.size))
mark("first inference")
localizer = sdk.Localizer(backend, sys.argv[2])
mark("open the map, warm up")
localizer.query(frame)
mark("first query")
marks["import to first answer"] = last - started
localizer.query(frame)
mark("second query")
print(json.dumps(marks))
"""


def fill_with_noise(place_map: PlaceMap, places: int, seed: int = 0) -> None:
    """Add places with random descriptors: a map of a given size, for timing only.

    Args:
        place_map: an open map.
        places: how many to add.
        seed: of the generator.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, places, 4096):
        count = min(4096, places - start)
        rows = rng.standard_normal((count, place_map.contract.descriptor_dim), dtype=np.float32)
        place_map.add_many([Place(f"noise {start + i}") for i in range(count)], l2_normalize(rows))


def measure_cold_start(model: Path, map_path: Path, threads: int | None = None, runs: int = 3) -> dict[str, float]:
    """Milliseconds from a fresh process to its first answer, medians of several processes; files are in the cache.

    Args:
        model: the network's file.
        map_path: the map, with its index beside it.
        threads: CPU threads of one inference; None for the runtime's choice.
        runs: processes.

    Returns:
        By stage: "import", "load the network", "first inference", "open the map, warm up", "first query", "import to
        first answer" (all of these), "second query", and "process" (the interpreter's start to its end).

    Raises:
        EngineError: the process failed.
    """
    command = [sys.executable, "-c", COLD_START, str(model.resolve()), str(map_path.resolve()), str(threads or 0)]
    results: list[dict[str, float]] = []
    for _ in range(runs):
        started = time.perf_counter()
        # From the root: the folder that it starts in comes first on the path, and may hold an `sdk` of its own.
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or ["no output"]
            raise EngineError(f"a fresh process could not answer a query ({last[0]}), expected an answer; run it alone")
        results.append({**json.loads(done.stdout), "process": seconds})
    return {stage: float(np.median([result[stage] for result in results])) * 1e3 for stage in results[0]}


def measure_steady_state(
    localizer: Localizer,
    frames: Sequence[npt.NDArray[np.uint8]],
    seconds: float,
    progress: Callable[[str, int, int], object] | None = None,
) -> dict[str, Any]:
    """Ask one frame after the other, as a camera does, batch 1, nothing averaged away.

    Args:
        localizer: open, its map of the size that matters.
        frames: asked in turn.
        seconds: how long, after a warm-up that is not counted.
        progress: called with (what, done, total), in hundredths of the time.

    Returns:
        "queries", "queries_per_s", "map_places", "search" (how, in words), and "stages_ms": min, p50,
        p90, p99 and max of each stage and of the whole query.
    """
    for i in range(WARM_UP_QUERIES):
        localizer.query(frames[i % len(frames)])
    times: dict[str, list[float]] = {}
    started = time.perf_counter()
    queries = 0
    while (elapsed := time.perf_counter() - started) < seconds or queries < WARM_UP_QUERIES:
        answer = localizer.query(frames[queries % len(frames)])
        for stage, ms in answer.timings_ms.items():
            times.setdefault(stage, []).append(ms)
        queries += 1
        if progress is not None and queries % 10 == 0:
            progress("queries", min(100, int(100 * elapsed / seconds)), 100)
    return {
        "queries": queries,
        "queries_per_s": queries / elapsed,
        "map_places": len(localizer),
        "search": localizer.store.search_method(),
        "stages_ms": {
            stage: dict(zip(PERCENTILES, np.percentile(ms, list(PERCENTILES.values())).tolist(), strict=True))
            for stage, ms in times.items()
        },
    }


def memory_bytes() -> dict[str, int | None]:
    """This process's memory: now and at its peak, as the kernel counts resident pages."""
    try:
        status = Path(f"/proc/{os.getpid()}/status").read_text()
    except OSError:
        status = ""
    found = {name: re.search(rf"^{name}:\s*(\d+) kB", status, re.MULTILINE) for name in ("VmRSS", "VmHWM")}
    now, peak = (int(match[1]) * 1024 if match else None for match in found.values())
    return {"resident": now, "peak": peak}
