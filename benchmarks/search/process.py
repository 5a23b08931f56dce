"""Measurements that need a fresh process: time from a file to the first answer, and memory.

Called as `python process.py load SYSTEM FILE QUERY` and `... weigh SYSTEM SET`. It prints JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from data import PARTS, DataSet, Ids, Rows
from peers import CONTRACT, EF_CONSTRUCTION, M, Ours, empty_hnswlib, empty_usearch
from peers import K as ANSWERS
from timing import COMPACT_GATE, GATE, tune

EF = 64
READ_ROWS = 2000


def in_process(*arguments: str | Path) -> dict[str, Any]:
    """The output of a fresh process."""
    run = subprocess.run([sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, arguments))}\n{run.stderr}")
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def load(system: str, file: str, query_file: str) -> dict[str, float]:
    """Milliseconds from file to first answer, without the import of the library."""
    query: Rows = np.load(query_file)  # (D,)
    dim = len(query)
    if system == "ours":
        from sdk._core import PlaceIndex

        def read() -> Any:
            return PlaceIndex.load(file, dim=dim, contract=CONTRACT)[0]

        def ask(index: Any) -> Any:
            return index.search(query, ANSWERS, ef=EF)
    elif system == "hnswlib":
        import hnswlib

        def read() -> Any:
            index = hnswlib.Index("ip", dim)
            index.load_index(file)
            index.set_ef(EF)
            return index

        def ask(index: Any) -> Any:
            return index.knn_query(query, ANSWERS, num_threads=1)
    elif system == "usearch":
        empty_usearch(dim, "bf16")  # imports

        def read() -> Any:
            index = empty_usearch(dim, "bf16")
            index.view(file)
            index.expansion_search = EF
            return index

        def ask(index: Any) -> Any:
            return index.search(query, ANSWERS, threads=1)
    else:
        import faiss

        def read() -> Any:
            index = faiss.read_index(file, faiss.IO_FLAG_MMAP_IFC)
            index.hnsw.efSearch = EF
            return index

        def ask(index: Any) -> Any:
            return index.search(query[None], ANSWERS)

    started = time.perf_counter()
    index = read()
    loaded = time.perf_counter()
    ask(index)
    answered = time.perf_counter()
    return {"load_ms": (loaded - started) * 1e3, "answer_ms": (answered - loaded) * 1e3}


def resident_bytes() -> int:
    """Resident bytes of this process, after the allocator released free memory."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def weigh(system: str, folder: str) -> dict[str, Any]:
    """Resident and file bytes per place of an index built here; for ours, also the recall."""
    base = np.load(Path(folder) / "base.npy", mmap_mode="r")
    places, dim = base.shape
    start_of_rows = int(base.offset)
    del base

    def blocks() -> Iterator[tuple[Ids, Rows]]:  # read, not mapped: mapped pages would count as resident
        for first in range(0, places, READ_ROWS):
            count = min(READ_ROWS, places - first)
            offset = start_of_rows + first * dim * 4
            rows = np.fromfile(Path(folder) / "base.npy", np.float32, count * dim, offset=offset)
            yield np.arange(first, first + count), rows.reshape(count, dim)

    precision = {"ours": "float16", "ours compact": "int8"}.get(system)
    make: Callable[[], Any] = lambda: empty_hnswlib(dim, places)  # noqa: E731
    if precision is not None:
        from sdk._core import PlaceIndex

        make = lambda: PlaceIndex(dim, precision=precision)  # noqa: E731

    def put(index: Any, ids: Ids, rows: Rows) -> None:
        index.add(ids, rows) if precision else index.add_items(rows, ids)

    small = make()  # the library's one-time allocations
    put(small, *next(blocks()))
    del small
    before = resident_bytes()
    index = make()
    for ids, rows in blocks():
        put(index, ids, rows)
        del ids, rows
    if precision:
        index.build_graph(m=M, ef_construction=EF_CONSTRUCTION)
    bytes_held = resident_bytes() - before
    with tempfile.TemporaryDirectory() as saved:
        file = Path(saved) / "index"
        index.save(str(file), contract=CONTRACT, state=bytes(32)) if precision else index.save_index(str(file))
        file_bytes = file.stat().st_size
    answer: dict[str, Any] = {"resident": bytes_held / places, "file": file_bytes / places}
    if precision:
        gate = COMPACT_GATE if precision == "int8" else GATE
        parts = {name: np.load(Path(folder) / f"{name}.npy") for name in PARTS}
        tuned = tune(Ours(index).graph, DataSet("", **parts, in_frame_order=True), gate)
        answer |= {"ef": tuned.parameter, "reached": tuned.reached, "tuning": tuned.tuning, "timing": tuned.timing}
    return answer


if __name__ == "__main__":
    print(json.dumps({"load": load, "weigh": weigh}[sys.argv[1]](*sys.argv[2:])))
