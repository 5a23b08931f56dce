"""A second description of the index file, independent of csrc/file/format.hpp."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
PAGE, BLOCK, NONE = 4096, 65536, 2**32 - 1

# ------------------------------------------------------------------ checksums

POLYNOMIAL, LANE_BYTES, LEVELS = 0x82F63B78, 64, 20


def _tables() -> npt.NDArray[np.uint32]:
    """[i][byte]: contribution of a byte to a checksum i bytes later."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> 1 ^ np.where(table & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    rows = [table]
    for _ in range(3):
        rows.append(rows[-1] >> 8 ^ table[rows[-1] & 255])
    return np.array(rows)


TABLES = _tables()


def _move(tables: npt.NDArray[np.uint32], crcs: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    return (
        tables[3][crcs & 255] ^ tables[2][crcs >> 8 & 255] ^ tables[1][crcs >> 16 & 255] ^ tables[0][crcs >> 24]
    )  # fmt: skip


def _shifts() -> list[npt.NDArray[np.uint32]]:
    """[i]: tables that move a checksum over LANE_BYTES * 2^i zeros."""
    shift, levels = TABLES, []
    for doubling in range(LEVELS):
        if 4 << doubling >= LANE_BYTES:
            levels.append(shift)
        shift = _move(shift, shift)
    return levels


SHIFTS = _shifts()


def crc32c(rows: Bytes) -> npt.NDArray[np.uint32]:
    """CRC-32C of each row of (n, >= 4) bytes. Computed in lanes and joined, because the checksum is linear."""
    lanes = 1
    while lanes * LANE_BYTES < rows.shape[1]:
        lanes *= 2
    padded = np.zeros((len(rows), lanes * LANE_BYTES), np.uint8)  # leading zeros do not change the checksum
    padded[:, -rows.shape[1] :] = rows
    first = lanes * LANE_BYTES - rows.shape[1]
    padded[:, first : first + 4] ^= 255
    words = padded.view("<u4").reshape(len(rows), lanes, -1)
    crcs = np.zeros((len(rows), lanes), np.uint32)
    for i in range(words.shape[2]):
        crcs = _move(TABLES, crcs ^ words[:, :, i])
    for shift in SHIFTS:
        if crcs.shape[1] == 1:
            return ~crcs[:, 0]
        crcs = _move(shift, crcs[:, 0::2]) ^ crcs[:, 1::2]
    raise ValueError(f"rows of {rows.shape[1]} bytes, expected fewer")


def block_checksum(block: Bytes) -> int:
    return int(crc32c(crc32c(block.reshape(4, -1))[None].view(np.uint8))[0])


ZERO_BLOCK = block_checksum(np.zeros(BLOCK, np.uint8))

# ------------------------------------------------------------------ layout

FIELDS = {
    "version": (8, "I"), "dim": (12, "I"), "metric": (16, "I"), "precision": (20, "I"), "rows": (24, "Q"),
    "file_bytes": (32, "Q"), "contract": (40, "Q"), "state": (72, "Q"), "m": (104, "I"), "ef_construction": (108, "I"),
    "entry": (112, "I"), "upper_nodes": (116, "I"), "upper_lists": (120, "I"), "twins": (124, "I"),
    "spread": (128, "f"), "farthest": (132, "f"), "reserved": (140, "I"),
}  # fmt: skip
GRAPH_SECTIONS = ("links", "upper", "upper_links", "twins")


def header(content: Bytes, field: str) -> Any:
    at, kind = FIELDS[field]
    return struct.unpack_from("<" + kind, content, at)[0]


def set_header(content: Bytes, field: str, value: Any) -> None:
    at, kind = FIELDS[field]
    struct.pack_into("<" + kind, content, at, value)


def up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def sections(content: Bytes) -> tuple[dict[str, tuple[int, int]], int, int]:
    """The header's sections (start, bytes), the start of the first block, and the end of the file."""
    rows, dim, m, precision = (header(content, name) for name in ("rows", "dim", "m", "precision"))
    plane, lists = up(dim, 128) // 2, header(content, "upper_lists")
    groups = 0 if precision == 2 else min(2 * plane, 512) // 4
    sizes = {
        "middle": 4 * dim,
        "links": 4 * rows * up(2 * m, 16) if m else 0,
        "upper": 12 * header(content, "upper_nodes"),
        "upper_links": 4 * lists * m,
        "twins": 8 * header(content, "twins"),
        "ids": 8 * rows,
        "removed": rows,
        "high_bounds": rows,
        "bounds": rows,
        "high": rows * plane,
        "low": rows * plane,
        "values": rows * up(dim, 32) * {0: 2, 1: 4}.get(precision, 0),
        "sketches": -(-rows // 32) * groups * 16,
    }
    covered = sum(up(size, PAGE) for size in sizes.values())
    at = first = PAGE + up(-(-covered // BLOCK) * 4, PAGE)
    places = {}
    for name, size in sizes.items():
        places[name] = (at, size)
        at += up(size, PAGE)
    return places, first, at


def seal(content: Bytes, before: Bytes | None = None) -> None:
    """Correct the checksums. Blocks that equal `before` keep theirs."""
    _, first, end = sections(content)
    table = content[PAGE:first].view("<u4")
    for block, at in enumerate(range(first, end, BLOCK)):
        part = content[at : min(at + BLOCK, end)]
        if before is None or not np.array_equal(part, before[at : at + len(part)]):
            table[block] = block_checksum(part)
    seal_header(content, first)


def seal_header(content: Bytes, first: int) -> None:
    struct.pack_into("<I", content, 136, int(crc32c(content[None, PAGE:first])[0]))
    struct.pack_into("<I", content, 4092, int(crc32c(content[None, :4092])[0]))
