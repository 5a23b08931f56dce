"""Cycles of the inner loops of an aarch64 build, as llvm-mca estimates them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parents[2] / "csrc"
COMPILER, TRIPLE = "aarch64-linux-gnu-g++", "aarch64-linux-gnu"
ROWS, LINE = 4, 64  # rows compared at once, and bytes of each row per pass
REPEATS = 100

HNSWLIB = """#include <hnswlib/hnswlib.h>
float distance(const void* a, const void* b, const void* dim) { return hnswlib::InnerProductDistance(a, b, dim); }
"""


@dataclass(frozen=True)
class Board:
    """A board's source, compiler flags and model."""

    name: str
    model: str
    source: str
    flags: tuple[str, ...]  # as in CMakeLists.txt
    multiply: str
    multiplies: int  # per pass
    hnswlib_flag: str
    forwarded: float  # cycles from sum to sum if the model is wrong; 0 if it is right


BOARDS = (
    Board("Orin", "neoverse-n1", "kernels/dotprod", ("-march=armv8.2-a+dotprod",), "sdot", 32, "-mcpu=cortex-a78", 2),
    Board("Nano, TX2", "cortex-a57", "kernels/neon", (), "sm(?:ul|la)l2?", 64, "-mcpu=cortex-a57", 0),
)


def run(*command: Any, text: str | None = None) -> str:
    done = subprocess.run([str(part) for part in command], input=text, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


class Loop:
    """A function's innermost loop with the most multiplies, and the loops around it."""

    def __init__(self, assembly: str, function: str, multiply: str) -> None:
        body = re.search(rf"^_Z\S*{function}\S*:\n(.*?)\.cfi_endproc", assembly, re.S | re.M)
        if body is None:
            raise SystemExit(f"the compiler made no function {function}")
        self.multiply = re.compile(rf"\t{multiply}\t")
        self.lines = [line for line in body[1].splitlines() if not line.startswith("\t.")]
        labels = {line[:-1]: at for at, line in enumerate(self.lines) if line.endswith(":")}
        goals = [(labels.get(re.split(r"\s", line)[-1], end), end) for end, line in enumerate(self.lines)]
        loops = sorted((pair for pair in goals if pair[0] < pair[1]), key=lambda pair: pair[1] - pair[0])
        leaves = [one for one in loops if not any(one[0] < other[0] and other[1] < one[1] for other in loops)]
        self.nest = [max(leaves, key=lambda pair: self.count(self.lines[slice(*pair)]))]
        for first, last in loops:
            if first < self.nest[-1][0] and self.nest[-1][1] < last:
                self.nest.append((first, last))

    def count(self, lines: list[str]) -> int:
        return sum(bool(self.multiply.search(line)) for line in lines)

    def unrolled(self, per_pass: int, passes: int, around: bool) -> str:
        """So many passes one after the other, and perhaps what the loop around them does once.

        A pass has `per_pass` of the instruction. Where the innermost loop has fewer, it runs several times in a pass.
        """
        first, last = self.nest[0]
        inner = self.count(self.lines[first:last])
        times = [passes] if inner == per_pass else [per_pass // max(inner, 1), passes]
        if len(times) + around > len(self.nest):
            raise SystemExit("the compiler made other loops than expected")
        block = self.lines[first : last + 1] * times[0]
        for repeat, (begin, end) in zip([*times[1:], *[1] * around], self.nest[1:], strict=False):
            block = (self.lines[begin:first] + block + self.lines[last + 1 : end + 1]) * repeat
            first, last = begin, end
        if self.count(block) != per_pass * passes:
            raise SystemExit(f"the compiler made another loop than expected:\n{chr(10).join(block)}")
        return "\n".join(line for line in block if not line.endswith(":"))


class Cycles:
    """Cycles of one distance on a board, by the number of dimensions."""

    def __init__(self, board: Board, mca: str, folder: Path) -> None:
        self.board, self.mca = board, mca
        theirs, ours = folder / "hnswlib.cpp", SOURCES / f"{board.source}.cpp"
        theirs.write_text(HNSWLIB)
        options = (COMPILER, "-std=c++17", "-O3", "-S", "-o", "-")
        self.hnswlib_loop = Loop(
            run(*options, board.hnswlib_flag, f"-I{SOURCES / 'third_party'}", theirs), "distance", "fmadd"
        )
        kernels = run(*options, "-ffp-contract=off", "-fno-trapping-math", *board.flags, f"-I{SOURCES}", ours)
        self.planes = Loop(kernels, "plane_products", board.multiply)
        self.values = Loop(kernels, "dot_f16", "fmul")

    def model(self, block: str) -> float:
        """Steady-state cycles of the block, from many repeats."""
        options = (f"-mtriple={TRIPLE}", f"-mcpu={self.board.model}", "-mattr=+dotprod", f"-iterations={REPEATS}")
        report = run(self.mca, *options, "-", text=block)
        return int(re.search(r"Total Cycles:\s+(\d+)", report)[1]) / REPEATS

    def hnswlib(self, dim: int) -> float:
        return self.model(self.hnswlib_loop.unrolled(1, 1, False)) * dim

    def compare(self, dim: int) -> float:
        passes = plane_bytes(dim) // LINE
        return self.model(self.planes.unrolled(self.board.multiplies, passes, True)) / ROWS

    def score(self, dim: int) -> float:
        return self.model(self.values.unrolled(8, 1, False)) * -(-dim // 32)


def plane_bytes(dim: int) -> int:
    return -(-dim // 128) * 64
