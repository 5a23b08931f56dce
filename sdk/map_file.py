"""The map's file: one SQLite database, how it is made, opened, named, and how its contents are identified."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import get_args

from .contract import ModelContract
from .errors import MapError
from .localization import Geography

__all__ = ["MapState", "connect", "create_file", "damaged", "move_into_place"]

APPLICATION_ID = 0x53565052  # "SVPR", at offset 68 of the file: what `file` and SQLite tell it by
SCHEMA_VERSION = 1  # PRAGMA user_version
DTYPES = ("float16", "float32")

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE places (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice: the derived index relies on it
    name TEXT NOT NULL,
    p0 REAL, p1 REAL, p2 REAL,             -- x, y, z in metres, or latitude, longitude, altitude
    heading_deg REAL,
    timestamp_s REAL,
    image TEXT NOT NULL,
    traverse TEXT NOT NULL,
    descriptor BLOB NOT NULL               -- little-endian, meta.descriptor_dtype
);
"""


@dataclass(frozen=True)
class MapState:
    """Identity of the set of (id, descriptor) pairs in a map.

    `digest` is the sum over all pairs, modulo 2**128, of a 128-bit BLAKE2b of each: adding, removing and
    changing a place update it in constant time whatever their order, and taking the newest places off again
    gives the state before them. That is how an index proves that it is a prefix of a map.
    """

    digest: int
    count: int

    def plus(self, pairs: Iterable[tuple[int, bytes]], sign: int = 1) -> MapState:
        """The state with (id, descriptor bytes) pairs added, or with sign -1 taken off."""
        digest, count = self.digest, self.count
        for place_id, blob in pairs:
            hashed = hashlib.blake2b(place_id.to_bytes(8, "little") + blob, digest_size=16).digest()
            digest = (digest + sign * int.from_bytes(hashed, "little")) % (1 << 128)
            count += sign
        return MapState(digest, count)

    @classmethod
    def from_meta(cls, meta: Mapping[str, str]) -> MapState:
        """The state as table `meta` holds it."""
        return cls(int(meta["digest"], 16), int(meta["count"]))

    def to_meta(self) -> dict[str, str]:
        """Keys and values for table `meta`."""
        return {"digest": f"{self.digest:032x}", "count": str(self.count)}


def create_file(path: Path, contract: ModelContract, geography: Geography, descriptor_dtype: str) -> None:
    """Make an empty map at `path`; see `PlaceMap.create`."""
    if geography not in get_args(Geography) or descriptor_dtype not in DTYPES:
        raise MapError(
            f"{path}: geography {geography!r} and descriptor_dtype {descriptor_dtype!r} were asked for, expected "
            f"one of {get_args(Geography)} and one of {DTYPES}"
        )
    if path.exists():
        raise MapError(f"{path}: exists already, expected a new file; open it, or remove it first")
    # Complete before it has its name: a process killed in here leaves no half a map behind.
    temporary = path.with_name(f"{path.name}.new-{os.getpid()}")
    meta = {
        "contract": contract.to_json(),
        "descriptor_dtype": descriptor_dtype,
        "geography": geography,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **MapState(0, 0).to_meta(),
    }
    try:
        with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            connection.executescript(SCHEMA)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            connection.execute("PRAGMA journal_mode=WAL")
        move_into_place(temporary, path)
    except (sqlite3.Error, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise MapError(
            f"{path}: the map cannot be created ({error}), expected a writable folder; name one that is"
        ) from None


def move_into_place(temporary: Path, path: Path) -> None:
    """Give a finished file its name so that a power cut leaves the whole file or none."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def connect(path: Path) -> tuple[sqlite3.Connection, bool]:
    """Open the file and check that it is a map: the connection, and whether its medium is read-only."""
    quoted = urllib.parse.quote(str(path.absolute()))
    # A database in WAL mode wants files beside it even to be read. On a read-only medium there can be none,
    # and nobody can write either, which is what immutable=1 promises.
    modes = ["mode=rw"]
    if not os.access(path.parent, os.W_OK) or not os.access(path, os.W_OK):
        wal = path.with_name(path.name + "-wal")
        left_open = wal.exists() and wal.stat().st_size > 0
        modes = ["mode=ro"] if left_open else ["mode=ro", "mode=ro&immutable=1"]
    for mode in modes:
        connection = None
        try:
            connection = sqlite3.connect(
                f"file:{quoted}?{mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=10
            )
            application_id = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if application_id != APPLICATION_ID:
                raise MapError(
                    f"{path}: is another program's database, expected a map of structvpr; name a .places file"
                )
            if version > SCHEMA_VERSION:
                raise MapError(
                    f"{path}: has schema version {version}, this structvpr reads up to {SCHEMA_VERSION}; update it"
                )
            connection.execute("PRAGMA synchronous=FULL")
            return connection, mode != "mode=rw"
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.OperationalError) and mode != modes[-1]:
                continue
            if isinstance(error, sqlite3.Error):
                raise damaged(path, error) from None
            raise
    raise AssertionError("every mode returns or raises")


def damaged(path: Path, error: Exception) -> MapError:
    """What a database error means to whoever asked for the map."""
    return MapError(f"{path}: cannot be read ({error}), expected a map of structvpr; restore it from a copy")
