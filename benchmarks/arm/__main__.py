"""Estimate the cycles of distance computations on ARM, for our index and for hnswlib.

    sudo apt install g++ g++-aarch64-linux-gnu llvm-19      and: pip install hnswlib
    python benchmarks/arm --quick                 3,000 places, under a minute
    python benchmarks/arm                         20,000 places

No ARM machine is needed. llvm-mca's model of a core gives the cycles of the loops that compare a query with a row,
compiled for aarch64. This benchmark multiplies them by the loop counts of a query, measured here on x86-64. Each graph
uses the smallest ef of a grid with recall@1 of 0.99 and recall@10 of 0.95. hnswlib 0.8.0 has no NEON code: its loop
adds single floats to one sum. The models are the nearest cores in LLVM: Neoverse N1 for the Cortex-A78AE of Jetson
Orin, and Cortex-A57 for Jetson Nano and TX2.

The result is not a time. The model assumes that every load hits the L1 cache and every branch is predicted. It leaves
out the links, the candidate list and the visited set of both systems. Our query encoding counts as 14 cycles per
dimension, estimated from its loops. If memory limits a query, use the ratio of bytes. The N1's model makes a sum wait
four cycles for the previous sum; the core's manual says two. "forwarded" counts hnswlib's loop with two, and the target
of 10 applies to it.

Exit code 1: a tool is missing, the compiler made other loops than expected, or the recall was not reached.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from loops import BOARDS, COMPILER, SOURCES, Cycles, plane_bytes, run

sys.path.append(str(Path(__file__).parents[1] / "search"))  # data, peers and tuning

import data as search_data
from peers import EF_CONSTRUCTION, K, M, Ours, Peers, our_index
from timing import tune

TARGET = 10
DIMS = (256, 512, 2048)
ENCODING = 14  # cycles per dimension on the N1: 4 for the rotation, 6 for the rounding, 4 for the sums
MCAS = ("llvm-mca-22", "llvm-mca-19")  # LLVM 14 models the Neoverse N1 as an A57
TOOLS = {"g++": "g++", COMPILER: "g++-aarch64-linux-gnu"}

COUNTER = """#include <hnswlib/hnswlib.h>
#include <cstdio>
#include <cstdlib>
static std::size_t calls;
static float counted(const void* a, const void* b, const void* dim) {
    ++calls;
    return hnswlib::InnerProductDistance(a, b, dim);
}
struct Space : hnswlib::SpaceInterface<float> {
    std::size_t dim;
    explicit Space(std::size_t of) : dim(of) {}
    std::size_t get_data_size() override { return dim * sizeof(float); }
    hnswlib::DISTFUNC<float> get_dist_func() override { return counted; }
    void* get_dist_func_param() override { return &dim; }
};
int main(int, char** arguments) {  // index, queries, dim, ef, k
    Space space(std::strtoul(arguments[3], nullptr, 10));
    hnswlib::HierarchicalNSW<float> index(&space, arguments[1]);
    index.setEf(std::strtoul(arguments[4], nullptr, 10));
    std::FILE* const file = std::fopen(arguments[2], "rb");
    std::vector<float> query(space.dim);
    std::size_t queries = 0;
    for (; std::fread(query.data(), sizeof(float), space.dim, file) == space.dim; ++queries) {
        index.searchKnn(query.data(), std::strtoul(arguments[5], nullptr, 10));
    }
    std::printf("%.2f", static_cast<double>(calls) / static_cast<double>(queries));
}
"""


def count(cache: Path, places: int, dim: int, queries: int, counter: Path, folder: Path) -> dict[str, Any]:
    """Comparisons per query, each system at its tuned ef."""
    wanted = (cache, "traj", places, dim, queries, 0)
    data = search_data.open_set(*wanted)
    peers = Peers(data, search_data.folder_of(*wanted) / "peers", lambda text: print(text, file=sys.stderr))
    index = our_index(data.base)
    index.build_graph(m=M, ef_construction=EF_CONSTRUCTION)
    ours, theirs = tune(Ours(index).graph, data), tune(peers.hnswlib[0], data)
    asked = [index.explain(row, K, ef=ours.parameter, method="graph") for row in data.time]
    data.time.tofile(folder / "queries")
    distances = run(counter, peers.hnswlib_file, folder / "queries", dim, theirs.parameter, K)
    return {
        "set": data.name,
        "reached": ours.reached and theirs.reached,
        "ours": {"ef": ours.parameter, "recall": ours.timing},
        "hnswlib": {"ef": theirs.parameter, "recall": theirs.timing, "distances": float(distances)},
        "compared": float(np.mean([each["compared"] for each in asked])),
        "scored": float(np.mean([each["scored"] for each in asked])),
    }


def line_of(counted: dict[str, Any], dim: int, cycles: Cycles) -> dict[str, Any]:
    distances, compared, scored = counted["hnswlib"]["distances"], counted["compared"], counted["scored"]
    each = {"hnswlib": cycles.hnswlib(dim), "compare": cycles.compare(dim), "score": cycles.score(dim)}
    ours, theirs = ENCODING * dim + compared * each["compare"] + scored * each["score"], distances * each["hnswlib"]
    forwarded = distances * dim * cycles.board.forwarded if cycles.board.forwarded else theirs
    our_bytes, their_bytes = compared * plane_bytes(dim) + scored * 2 * (-(-dim // 32) * 32), distances * 4 * dim
    ratios = {"modelled": theirs / ours, "forwarded": forwarded / ours, "bytes": their_bytes / our_bytes}
    totals = {"ours": ours, "hnswlib": theirs, "our_bytes": our_bytes, "hnswlib_bytes": their_bytes}
    return {
        **counted,
        "board": cycles.board.name,
        "cycles": each,
        "encoding": ENCODING * dim,
        "a_query": totals,
        "ratios": ratios,
    }


def cells(line: dict[str, Any]) -> list[str]:
    each, query, ratios = line["cycles"], line["a_query"], line["ratios"]
    efs = [f"{line[who]['ef']} ({line[who]['recall'][0]:.3f}, {line[who]['recall'][1]:.3f})" for who in WHO]
    return [
        line["board"],
        line["set"],
        *efs,
        f"{each['hnswlib']:.0f} x {line['hnswlib']['distances']:.0f}",
        f"{line['encoding']} + {each['compare']:.1f} x {line['compared']:.0f}"
        f" + {each['score']:.0f} x {line['scored']:.1f}",
        *(f"{ratios[name]:.1f}" for name in ("modelled", "forwarded")),
        f"{query['hnswlib_bytes'] / 1024:.0f} / {query['our_bytes'] / 1024:.0f}",
        f"{ratios['bytes']:.1f}",
    ]


WHO = ("hnswlib", "ours")
HEAD = (
    "board",
    "set",
    "hnswlib ef (recall@1, @10)",
    "ours",
    "hnswlib: cycles x distances",
    "ours: encode + compare + re-rank",
)
HEAD += ("ratio, modelled", "forwarded", "KiB a query, theirs / ours", "ratio of bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3,000 places and 300 queries")
    cache = Path(tempfile.gettempdir()) / "structvpr-search"
    parser.add_argument("--cache", type=Path, default=cache, metavar="DIR", help=f"data and graphs (default: {cache})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    arguments = parser.parse_args()
    mca = next((name for name in MCAS if shutil.which(name)), None)
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)] + ([] if mca else ["llvm-19"])
    if mca is None or missing:
        raise SystemExit(f"tools are missing: sudo apt install {' '.join(missing)}")
    places, queries = (3000, 300) if arguments.quick else (20_000, 1000)
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        boards = [Cycles(board, mca, folder) for board in BOARDS]
        (folder / "counter.cpp").write_text(COUNTER)
        run("g++", "-O3", f"-I{SOURCES / 'third_party'}", folder / "counter.cpp", "-o", folder / "counter")
        for dim in DIMS:
            counted = count(arguments.cache, places, dim, queries, folder / "counter", folder)
            lines += [line_of(counted, dim, cycles) for cycles in boards]
    print(f"A PROXY, not a time, from {mca}: no ARM machine, no cache misses, no branch misses; see --help.\n")
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for line in lines:
        print(f"| {' | '.join(cells(line))} |")
    cycles, memory = (min(line["ratios"][name] for line in lines) for name in ("forwarded", "bytes"))
    print(f"\ntarget: {TARGET}x; least: {cycles:.1f}x in cycles, {memory:.1f}x in bytes")
    if arguments.json:
        arguments.json.write_text(json.dumps({"model": mca, "quick": arguments.quick, "lines": lines}, indent=1) + "\n")
    failed = [line["set"] for line in lines if not line["reached"]]
    if failed:
        print(f"FAILED: the recall was not reached on {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
