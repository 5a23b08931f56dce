"""Speed and recall of the index, next to hnswlib, faiss, usearch and numpy on the same data.

    pip install hnswlib faiss-cpu usearch
    python benchmarks/search --quick                     small sets, under a minute
    python benchmarks/search                             100,000 and 1,000,000 places
    python benchmarks/search --only query frames         some rows only
    python benchmarks/search --real-model models/<name>.onnx --real-database FOLDER --real-queries FOLDER

Everything runs in one process and one thread, one query at a time, k = 10. Each round takes the systems in random order
on the same queries. Each system's parameter (ef, or the number of re-ranked candidates) is the smallest of a grid with
recall@1 of 0.99 and recall@10 of 0.95 against exact float32, tuned on one traverse and timed on another. Recalls are
printed as "timed (tuned)", with "!" if the timed one is too low. A peer that misses the recall with every parameter is
not timed. Of a library's variants (float32, 8 bits, re-ranked, ...) the fastest is compared.

A ratio is the median over rounds of (theirs / ours) in thread-CPU time per call, p50. Both times include the reading of
the clock, about 0.3 us. The targets are for the default sizes. The first run makes and caches the data and the peers'
graphs, which takes over an hour and 15 GB at the default sizes. Later runs take 20 to 30 minutes.

Exit code 1: ours missed its recall, lost recall after jumps, or its exact search was not exact. A missed target for
speed exits with 0.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy loads

import argparse  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import platform  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from importlib.metadata import PackageNotFoundError, version  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import data as search_data  # noqa: E402
import rows as search_rows  # noqa: E402
from peers import MODULES  # noqa: E402
from rows import Field, Scale  # noqa: E402
from timing import Line, print_summary, print_tables  # noqa: E402

from sdk._core import PlaceIndex  # noqa: E402

ROWS = {
    "query": "independent queries, graph",
    "frames": "queries in camera order, 100-frame runs; ours starts from its previous answer",
    "jumps": "the cursor carried elsewhere: recall less that of the graph search at the same ef",
    "cold": "48 MB streamed through the caches before each query",
    "scan": "exhaustive, by sketches",
    "exact": "the provable top 10",
    "build": "graph construction, one thread",
    "load": "from the file to the first answer, process by process, pages cached",
    "memory": "bytes a place, built in a process of its own",
    "small": "small maps, method chosen by the index",
}
QUERIED = ("query", "frames", "jumps", "cold")
SCANNED = ("scan", "exact")
DEFAULT_SETS: dict[tuple[str, int, int], tuple[str, ...]] = {
    ("traj", 100_000, 512): (*QUERIED, *SCANNED, "load", "memory"),
    ("trajh", 100_000, 512): (*QUERIED, *SCANNED),
    ("gauss", 100_000, 512): ("query", "cold"),
    ("traj", 100_000, 2048): (*QUERIED, *SCANNED),
    ("trajh", 100_000, 2048): SCANNED,
    ("traj", 1_000, 512): ("small",),
    ("traj", 10_000, 512): ("small",),
    ("traj", 30_000, 512): ("build",),
    ("traj", 20_000, 2048): ("build",),
    ("traj", 1_000_000, 256): QUERIED,
}
FULL_SETS = {
    wanted: (*rows, "build") if wanted in (("traj", 100_000, 512), ("traj", 100_000, 2048)) else rows
    for wanted, rows in DEFAULT_SETS.items()
    if "build" not in rows
}
QUICK_SETS: dict[tuple[str, int, int], tuple[str, ...]] = {
    ("traj", 5_000, 512): (*QUERIED, *SCANNED, "build", "load", "memory"),
    ("trajh", 3_000, 512): (*QUERIED, *SCANNED),
    ("gauss", 3_000, 512): ("query", "cold"),
    ("traj", 2_000, 2048): (*QUERIED, *SCANNED, "build"),
    ("trajh", 2_000, 2048): SCANNED,
    ("traj", 1_000, 512): ("small",),
    ("traj", 5_000, 256): QUERIED,
}
REAL_ROWS = ("query", "scan", "small")


def machine() -> str:
    model, sets = platform.processor() or platform.machine(), set()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for text in information.read_text().splitlines():
            name, _, value = text.partition(":")
            if name.strip() == "model name":
                model = value.strip()
            elif name.strip() in ("flags", "Features"):
                sets = set(value.split())
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "asimd", "asimddp", "asimdhp")
    instructions = " ".join(name for name in known if name in sets) or platform.machine()
    versions = []
    for module in ("structvpr", *MODULES):
        try:
            versions.append(f"{module} {version(module)}")
        except PackageNotFoundError:
            raise SystemExit(f"{module} is not installed; run `pip install hnswlib faiss-cpu usearch`") from None
    ours = PlaceIndex(8).instruction_set
    versions.append(f"Python {platform.python_version()}")
    return f"{model}, {os.cpu_count()} cores, {instructions} (ours: {ours}); {', '.join(versions)}"


def tell(text: str) -> None:
    print(f"{time.monotonic() - STARTED:7.1f} s  {text}", file=sys.stderr, flush=True)


STARTED = time.monotonic()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sets and few rounds, with every peer and recall")
    parser.add_argument("--full", action="store_true", help="also build graphs of 100,000 places")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=" ".join(ROWS))
    parser.add_argument("--sets", nargs="+", metavar="SET", help="sets to run, such as traj-100000-512 (default: all)")
    cache = Path(tempfile.gettempdir()) / "structvpr-search"
    parser.add_argument("--cache", type=Path, default=cache, metavar="DIR", help=f"data and graphs (default: {cache})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write each round's figures to FILE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", type=Path, metavar="FILE", help="your own descriptors: .npz (base, queries) or .npy")
    parser.add_argument("--real-model", type=Path, metavar="MODEL", help="a network, instead of --real")
    parser.add_argument("--real-database", type=Path, metavar="FOLDER", help="photographs of the map")
    parser.add_argument(
        "--real-queries", type=Path, nargs="+", metavar="FOLDER", help="photographs of one or two traverses"
    )
    arguments = parser.parse_args()
    real = (arguments.real_model, arguments.real_database, arguments.real_queries)
    if any(real) and not all(real):
        parser.error("--real-model, --real-database and --real-queries go together")
    return arguments


def measure(field: Field, rows: tuple[str, ...], lines: list[Line], failures: list[str]) -> None:
    for row in rows:
        tell(f"{field.data.name}: {row}")
        made, failed = getattr(search_rows, f"measure_{row}")(field)
        lines += made
        gc.collect()
        failures += failed
        for line in made:
            tell("    " + "  ".join(text for text in line.cells().values() if text != "-"))


def main() -> int:
    arguments = parse()
    scale = Scale.quick() if arguments.quick else Scale()
    lines: list[Line] = []
    failures: list[str] = []

    def write() -> None:
        if arguments.json:
            record: dict[str, Any] = {
                "machine": machine(),
                "quick": arguments.quick,
                "seed": arguments.seed,
                "lines": [line.record() for line in lines],
                "failures": failures,
            }
            arguments.json.write_text(json.dumps(record, indent=1) + "\n")

    print(machine())
    if arguments.real or arguments.real_model:
        if arguments.real:
            data = search_data.read_real(arguments.real)
        else:
            data = search_data.describe_real(arguments.real_model, arguments.real_database, arguments.real_queries)
        with tempfile.TemporaryDirectory() as folder:
            field = Field(data, Path(folder), scale, arguments.seed, tell)
            measure(field, tuple(row for row in REAL_ROWS if row in arguments.only), lines, failures)
        write()
    else:
        sets = QUICK_SETS if arguments.quick else FULL_SETS if arguments.full else DEFAULT_SETS
        named = {f"{kind}-{places}-{dim}" for kind, places, dim in sets}
        if not set(arguments.sets or named) <= named:
            raise SystemExit(f"--sets {' '.join(arguments.sets)}: expected some of {' '.join(sorted(named))}")
        for (kind, places, dim), its_rows in sets.items():
            rows = tuple(row for row in its_rows if row in arguments.only)
            if not rows or (arguments.sets and f"{kind}-{places}-{dim}" not in arguments.sets):
                continue
            wanted = (arguments.cache, kind, places, dim, scale.queries, arguments.seed)
            tell(f"{kind} {places:,} x {dim}")
            data = search_data.open_set(*wanted)
            measure(Field(data, search_data.folder_of(*wanted), scale, arguments.seed, tell), rows, lines, failures)
            write()
    print_tables(lines, ROWS)
    print()
    print_summary(lines)
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
