"""The SQLite database of a map: creating, naming and opening it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
import urllib.parse
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, get_args

from ..atomic_file import flush_folder, move_into_place
from ..contract import ModelContract
from ..errors import MapError
from ..geography import Geography
from .state import MapState

__all__ = [
    "connect",
    "create_file",
    "place_new_map",
    "read_meta",
    "require_new",
    "require_unicode",
    "scratch",
    "sweep",
    "translated",
]

APPLICATION_ID = 0x53565052  # "SVPR", at offset 68 of the file: identifies the format
SCHEMA_VERSION = 1  # PRAGMA user_version
DTYPES = ("float16", "float32")
IDS_PER_STATEMENT = 500  # SQLite before 3.32 takes at most 999 parameters

# SQLite's messages when it cannot create or fill the files beside a database (Python has its codes from 3.11 on).
NO_ROOM = {
    "unable to open database file",
    "attempt to write a readonly database",
    "disk I/O error",
    "database or disk is full",
}

Access = Literal["rw", "ro", "immutable"]

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE places (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused: the derived index relies on it
    name TEXT NOT NULL,
    p0 REAL, p1 REAL, p2 REAL,             -- x, y, z in metres, or latitude, longitude, altitude
    heading_deg REAL,
    timestamp_s REAL,
    image TEXT NOT NULL,
    traverse TEXT NOT NULL,
    descriptor BLOB NOT NULL               -- little-endian, meta.descriptor_dtype
);
"""


def create_file(path: Path, contract: ModelContract, geography: Geography, descriptor_dtype: str) -> None:
    """Create an empty map at `path`; see `PlaceMap.create`."""
    if geography not in get_args(Geography) or descriptor_dtype not in DTYPES:
        raise MapError(
            f"{path}: geography is {geography!r} and descriptor_dtype {descriptor_dtype!r}, expected one of "
            f"{get_args(Geography)} and one of {DTYPES}"
        )
    require_unicode(path)
    require_new(path)
    meta = {
        "contract": contract.to_json(),
        "descriptor_dtype": descriptor_dtype,
        "geography": geography,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **MapState(0, 0).to_meta(),
    }
    # The file is complete before it gets its name, so a killed process leaves no half-written map.
    try:
        with scratch(path) as temporary:
            with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
                connection.executescript(SCHEMA)
                connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
                connection.execute("PRAGMA journal_mode=WAL")
            place_new_map(temporary, path)
    except (sqlite3.Error, OSError) as error:
        raise MapError(f"{path}: the map cannot be created ({error}); name a file in a writable folder") from None


@contextlib.contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`. No file has it before or after the block."""
    # A killed process may have had our process id, and SQLite would replay its journal into our file.
    sweep(path, "new", mine=True)
    try:
        yield path.with_name(f"{path.name}.new-{os.getpid()}")
    finally:
        sweep(path, "new", mine=True)


def sweep(path: Path, kind: str, *, mine: bool) -> None:
    """Remove the files `<path>.<kind>-<process>*` of dead processes, or of this one if `mine`."""
    pattern = re.compile(rf"{re.escape(path.name)}\.{kind}-(\d+)([-.].*)?")
    with contextlib.suppress(OSError):
        for entry in path.parent.iterdir():
            match = pattern.fullmatch(entry.name)
            if match and (mine if int(match[1]) == os.getpid() else not Path(f"/proc/{match[1]}").exists()):
                entry.unlink(missing_ok=True)


def require_new(path: Path) -> None:
    """Refuse a name for a new map if a file has it, or if the log of an earlier map lies beside it."""
    if os.path.lexists(path):
        raise MapError(f"{path}: exists already; open it, remove it first, or name another file")
    # SQLite would replay it into the new map, and a map that was deleted after a crash would reappear.
    if has_log(path):
        raise MapError(
            f"{path}-wal: is the log of an earlier map of that name and may hold its newest places; put it back "
            "beside its map, or remove it"
        )


def require_unicode(path: Path) -> None:
    """Refuse a name that SQLite and the kernel cannot take."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise MapError(f"{str(path)!r}: is not a UTF-8 name; rename the file") from None


def has_log(path: Path) -> bool:
    """Whether the write-ahead log holds changes: the map is open, or was not closed."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def place_new_map(temporary: Path, path: Path) -> None:
    """Give a finished map its name unless a file has it. If two processes create one map, one succeeds."""
    require_new(path)
    try:
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike a rename, it replaces nothing
    except FileExistsError:
        require_new(path)
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        move_into_place(temporary, path)  # a file system without links (FAT)
        return
    temporary.unlink()
    flush_folder(path.parent)


def connect(path: Path) -> tuple[sqlite3.Connection, Access]:
    """Open the file and check that it is a map. Returns the connection and its access mode."""
    quoted = urllib.parse.quote(os.fsencode(path.absolute()))
    # Reading a database in WAL mode needs files beside it. If we cannot create them and they do not exist, nobody is
    # writing now, which is what immutable=1 promises. `PlaceMap.changed` notices when that ends.
    writable = os.access(path.parent, os.W_OK) and os.access(path, os.W_OK)
    modes: dict[Access, str] = {"rw": "mode=rw"} if writable else {"ro": "mode=ro"}
    if not has_log(path):
        modes["immutable"] = "mode=ro&immutable=1"
    for access, mode in modes.items():
        connection = None
        try:
            connection = sqlite3.connect(
                f"file:{quoted}?{mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=10
            )
            application_id = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            size = path.stat().st_size
            if application_id != APPLICATION_ID and size < 512:  # SQLite takes it for a database without tables
                raise MapError(f"{path}: has {size} bytes and is no map; restore it from a copy")
            if application_id != APPLICATION_ID:
                raise MapError(f"{path}: is another program's database; name a .places file")
            if version > SCHEMA_VERSION:
                raise MapError(
                    f"{path}: has schema version {version}, this structvpr reads up to {SCHEMA_VERSION}; update it"
                )
            connection.execute("PRAGMA synchronous=FULL")
            return connection, access
        except BaseException as error:
            if connection is not None:
                connection.close()
            # A full disk has no room for files beside the map either. A lock is no reason to try the next mode.
            if isinstance(error, sqlite3.OperationalError) and access != "immutable" and str(error) in NO_ROOM:
                if "immutable" in modes:
                    continue
                raise MapError(
                    f"{path}: was not closed, and the files needed to read its log cannot be written here ({error}); "
                    "make room, or copy the map and its -wal file to a writable folder"
                ) from None
            if isinstance(error, sqlite3.Error):
                raise damaged(path, error) from None
            raise
    raise AssertionError("every mode returns or raises")


def read_meta(connection: sqlite3.Connection) -> dict[str, str]:
    """Table `meta`."""
    return dict(connection.execute("SELECT key, value FROM meta"))


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into MapError."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise MapError(f"{path}: the map is closed ({error}); open it again") from None
    except sqlite3.OperationalError as error:
        raise MapError(f"{path}: the map cannot be read or written ({error}); make room, or check the disk") from None
    except sqlite3.Error as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> MapError:
    """The MapError for a database that cannot be read."""
    return MapError(f"{path}: cannot be read as a map ({error}); restore it from a copy")
