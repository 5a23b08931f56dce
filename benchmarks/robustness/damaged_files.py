"""Damaged index files: the valid originals and the kinds of damage.

"flip", "cut", "splice" and "zero" are accidents: the checksums no longer fit. "header", "links", "values" and "grown"
are crafted: bytes are changed and every checksum is corrected, as an attacker would do. "both" is links and values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from index_format import (
    BLOCK,
    FIELDS,
    GRAPH_SECTIONS,
    NONE,
    PAGE,
    ZERO_BLOCK,
    Bytes,
    block_checksum,
    header,
    seal,
    seal_header,
    sections,
    set_header,
)

from sdk._core import PlaceIndex, l2_normalize

Random = np.random.Generator
CONTRACT = bytes(range(32))
GROWN_BYTES = 64 << 20

# ------------------------------------------------------------------ valid files


class Shape(NamedTuple):
    rows: int
    dim: int
    precision: Any
    m: int
    twins: bool
    removed: int


SHAPES = {
    Shape(0, 8, "float16", 0, False, 0): 1,
    Shape(0, 8, "float32", 16, False, 0): 1,
    Shape(1, 5, "float32", 2, False, 0): 1,
    Shape(40, 17, "float16", 2, True, 3): 4,
    Shape(40, 5, "int8", 0, False, 0): 2,
    Shape(250, 33, "float32", 2, True, 20): 4,
    Shape(700, 32, "float16", 16, True, 100): 5,
    Shape(700, 64, "int8", 2, True, 0): 3,
    Shape(700, 24, "float32", 0, False, 5): 3,
    Shape(3000, 64, "float16", 16, True, 20): 2,
    Shape(3000, 16, "float32", 2, False, 0): 2,
}  # with the weight of each


@dataclass
class Base:
    """A valid file."""

    shape: Shape
    content: Bytes
    places: dict[str, tuple[int, int]]


def unit_rows(choose: Random, count: int, dim: int) -> npt.NDArray[np.float32]:
    rows = choose.normal(size=(count, dim)).astype(np.float32)
    rows[:, 0] += 1.5  # a common offset, as networks have
    return l2_normalize(rows) if count else rows


def make_index(shape: Shape, seed: int) -> PlaceIndex:
    choose = np.random.default_rng((seed, *shape[:2]))
    rows = unit_rows(choose, shape.rows, shape.dim)
    if shape.twins:
        rows[choose.choice(shape.rows, shape.rows // 10, replace=False)] = rows[0]
    index = PlaceIndex(shape.dim, precision=shape.precision)
    index.add(2 * np.arange(shape.rows) + 5, rows)
    if shape.m:
        index.build_graph(shape.m, max(20, shape.m))
    index.remove(2 * choose.choice(shape.rows, shape.removed, replace=False) + 5)
    return index


def make_bases(folder: Path, seed: int) -> list[tuple[Base, Base]]:
    """Two files per shape, with different contents."""
    bases = []
    for shape in SHAPES:
        pair = []
        for edition in range(2):
            path = folder / "base"
            make_index(shape, 2 * seed + edition).save(str(path), contract=CONTRACT, state=bytes([edition]) * 32)
            content = np.frombuffer(path.read_bytes(), np.uint8)
            places, _, end = sections(content)
            again = content.copy()
            seal(again)
            if end != len(content) or not np.array_equal(again, content):
                raise SystemExit("the index file differs from index_format.py; update that from csrc/file/format.hpp")
            pair.append(Base(shape, content, places))
        bases.append((pair[0], pair[1]))
    return bases


# ------------------------------------------------------------------ accidents


def flip(base: Bytes, other: Bytes, choose: Random) -> Bytes:
    """One to eight bits, half of the time at the start of the file."""
    content = base.copy()
    end = len(base) if choose.random() < 0.5 else min(len(base), int(choose.choice((160, 4 * PAGE))))
    for at in choose.integers(0, end, choose.choice((1, 1, 1, 2, 8))):
        content[at] ^= 1 << choose.integers(8)
    return content


def cut(base: Bytes, other: Bytes, choose: Random) -> Bytes:
    """Cut anywhere or at a page, or with bytes after the end."""
    at = int(choose.integers(len(base)))
    way = choose.integers(4)
    if way == 0:
        return np.concatenate([base, choose.integers(0, 256, 1 + at % PAGE).astype(np.uint8)])
    return base[: at // PAGE * PAGE if way == 1 else len(base) - 1 - at % 64 if way == 2 else at]


def splice(base: Bytes, other: Bytes, choose: Random) -> Bytes:
    """The start of one valid file and the end of another, or some of its pages."""
    content = other
    while np.array_equal(content, other):
        content = mixed(base, other, choose)
    return content


def mixed(base: Bytes, other: Bytes, choose: Random) -> Bytes:
    if choose.random() < 0.5:
        at = int(choose.integers(min(len(base), len(other)) + 1))
        return np.concatenate([base[:at], other[at:]])
    content, unit = base.copy(), int(choose.choice((1, 64, PAGE, PAGE, BLOCK)))
    for at in choose.integers(0, min(len(base), len(other)) // unit + 1, 3) * unit:
        part = other[at : at + unit][: len(content) - at]
        content[at : at + len(part)] = part
    return content


def zero(base: Bytes, other: Bytes, choose: Random) -> Bytes:
    """A run of zeros or ones, as after a lost block of the medium; or one block copied over another."""
    content, unit = base.copy(), int(choose.choice((1, 8, 512, PAGE, PAGE, BLOCK)))
    at, source = (int(choose.integers(len(base))) // unit * unit for _ in range(2))
    part = content[at : at + unit]
    way = choose.integers(4)
    part[:] = 255 if way == 0 else 0
    if way == 1:
        moved = base[source : source + len(part)]
        part[: len(moved)] = moved
    return content


ACCIDENTS: dict[str, Callable[[Bytes, Bytes, Random], Bytes]] = {
    "flip": flip,
    "cut": cut,
    "splice": splice,
    "zero": zero,
}

# ------------------------------------------------------------------ crafted files

NUMBERS = (0, 1, 2, 3, 5, 16, 31, 128, 129, 255, 4096, 4097, 65535, 65537, 2**31 - 2, 2**31 - 1, 2**31, NONE - 1, NONE)
WIDE = (2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
FLOATS = (0.0, -0.0, 1e-30, 0.02, 0.5, 1.0, 2.1, 3.0, -1.0, 65504.0, 3e38, float("nan"), float("inf"), float("-inf"))


def number(choose: Random, near: int, limit: int) -> int:
    """A number that breaks a careless reader."""
    known = (near, near - 1, near + 1, 2 * near, *NUMBERS, *(WIDE if limit > 2**32 else ()))
    return known[choose.integers(len(known))] % limit


def craft_header(base: Base, choose: Random) -> Bytes:
    content = base.content.copy()
    for _ in range(choose.integers(1, 3)):
        field = list(FIELDS)[choose.integers(len(FIELDS))]
        kind = FIELDS[field][1]
        if kind == "f":
            set_header(content, field, FLOATS[choose.integers(len(FLOATS))])
        else:
            set_header(content, field, number(choose, header(content, field), 2**32 if kind == "I" else 2**64))
    seal_header(content, sections(base.content)[1])
    return content


def change_links(base: Base, content: Bytes, choose: Random) -> None:
    part = {name: content[at : at + size].view("<u4") for name, (at, size) in base.places.items() if size % 4 == 0}
    rows, upper = base.shape.rows, part["upper"].reshape(-1, 3)
    for _ in range(choose.integers(1, 4)):
        way = choose.integers(8)
        if way < 4:
            words = part[GRAPH_SECTIONS[way]]
            for at in choose.integers(0, len(words), choose.choice((1, 4, 64))) if len(words) else ():
                near = rows if way in (0, 3) else len(upper)
                words[at] = choose.integers(max(near, 1)) if choose.random() < 0.5 else number(choose, near, 2**32)
        elif way == 4:
            part["links"][:] = choose.choice((NONE, 0, max(rows - 1, 0)))
        elif way == 5:
            set_header(content, "entry", number(choose, len(upper), 2**32))
        elif way == 6 and len(upper) > 1:  # duplicate rows, or levels with the same sum
            for _ in range(choose.choice((1, 4, 32))):
                a, b = sorted(choose.choice(len(upper), 2, replace=False))
                if choose.random() < 0.7:
                    upper[b, 0] = upper[a, 0]
                elif upper[a, 1] > 1:
                    upper[a, 1] -= 1
                    upper[b, 1] += 1
            upper[:, 2] = np.cumsum(upper[:, 1]) - upper[:, 1]
        elif way == 7 and len(part["twins"]):
            twins = part["twins"].reshape(-1, 2)
            twins[:, choose.integers(2)] = twins[choose.integers(len(twins)), choose.integers(2)]


def change_values(base: Base, content: Bytes, choose: Random) -> None:
    names = [name for name, (_, size) in base.places.items() if size > 0 and name not in GRAPH_SECTIONS]
    for _ in range(choose.integers(1, 4)):
        name = names[choose.integers(len(names))]
        at, size = base.places[name]
        part = content[at : at + size]
        kind = {"middle": "<f4", "ids": "<i8", "values": "<f2" if base.shape.precision == "float16" else "<f4"}
        words = part.view(kind.get(name, "u1"))
        some = choose.integers(0, len(words), choose.choice((1, 8, len(words))))
        if name == "ids":
            wanted = (0, -1, 2**63 - 1, -(2**63), words[0], int(choose.integers(2**62)))
            words[some] = wanted[choose.integers(len(wanted))] if choose.random() < 0.5 else words[some[::-1]]
        elif name == "removed":
            words[some] = choose.choice((0, 1, 1, 2, 255))
        elif name in kind and choose.random() < 0.7:
            with np.errstate(over="ignore"):
                words[some] = FLOATS[choose.integers(len(FLOATS))]
        else:
            words.view(np.uint8)[some] = choose.choice((0, 255, int(choose.integers(256))))
        if choose.random() < 0.3:
            set_header(content, str(choose.choice(("spread", "farthest"))), FLOATS[choose.integers(len(FLOATS))])


def crafted(*changes: Callable[[Base, Bytes, Random], None]) -> Callable[[Base, Random], Bytes]:
    def craft(base: Base, choose: Random) -> Bytes:
        content = base.content.copy()
        for change in changes:
            change(base, content, choose)
        seal(content, base.content)
        return content

    return craft


def craft_grown(base: Base, choose: Random) -> Bytes:
    """A header that asks for much memory, and a sparse file of that size. Returns only the bytes before the holes."""
    content = base.content[:PAGE].copy()
    while True:
        for field in ("rows", "upper_nodes", "upper_lists", "twins"):
            if choose.random() < 0.5:
                set_header(content, field, int(2 ** choose.uniform(0, 22)))
        set_header(content, "m", int(choose.choice((0, 2, 16, 128))))
        _, first, end = sections(content)
        if end < GROWN_BYTES:
            break
    set_header(content, "ef_construction", header(content, "m"))
    set_header(content, "file_bytes", end)
    content = np.concatenate([content, np.zeros(first - PAGE, np.uint8)])
    table, blocks = content[PAGE:].view("<u4"), (end - first) // BLOCK
    table[:blocks] = ZERO_BLOCK
    if (end - first) % BLOCK:
        table[blocks] = block_checksum(np.zeros((end - first) % BLOCK, np.uint8))
    seal_header(content, first)
    return content


CRAFTED: dict[str, Callable[[Base, Random], Bytes]] = {
    "header": craft_header,
    "links": crafted(change_links),
    "values": crafted(change_values),
    "both": crafted(change_links, change_values),
    "grown": craft_grown,
}
