"""The map: places and their descriptors in one SQLite database, the single source of truth."""

from __future__ import annotations

import contextlib
import operator
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..answers import Place
from ..contract import ModelContract
from ..errors import MapError
from ..geography import Geography
from .database import Access, MapState, Pair, connect, create_file, read_meta, translated
from .journal import record_losses
from .map_reader import MapReader
from .rows import COLUMNS, Descriptors, to_columns
from .writer_lock import WriterLock

__all__ = ["PlaceMap", "to_id"]


class PlaceMap(MapReader):
    """A map on disk: made by `create` or `open`. Each change is durable when its call returns (synchronous=FULL).

    Readers are as many as they like, in any process, and see a change as soon as its call has returned; the
    writer is one, see `WriterLock`. Safe to use from several threads.
    """

    def __init__(self, path: Path, file: Path, connection: sqlite3.Connection, access: Access) -> None:
        super().__init__(path, file, connection, access)
        self._connection: sqlite3.Connection | None = None
        self._writing = threading.RLock()
        self._writer: WriterLock | None = None
        self._closed = False

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        contract: ModelContract,
        *,
        geography: Geography = "local",
        descriptor_dtype: str = "float16",
    ) -> PlaceMap:
        """Make an empty map.

        Args:
            path: the new file.
            contract: of the model that will describe its frames.
            geography: "local" (x, y, z in metres) or "wgs84" (latitude, longitude in degrees, altitude).
            descriptor_dtype: "float16" (half the room, moves a similarity by at most 1e-3) or "float32".

        Raises:
            MapError: something is at `path` already, or the folder cannot be written.
        """
        create_file(Path(path), contract, geography, descriptor_dtype)
        return cls.open(path)

    # ---------------------------------------------------------------- writing

    def add_many(self, places: Sequence[Place], descriptors: Descriptors) -> list[Pair]:
        """Add places, durably: all of them or none.

        Args:
            places: their `id` is ignored.
            descriptors: float32 (n, D), unit length.

        Returns:
            The new places' (id, stored descriptor) pairs, ids ascending.

        Raises:
            MapError: the numbers of places and descriptors differ, a descriptor does not fit, or the map
                cannot be written.
        """
        blobs = self._format.encode(descriptors)
        if len(places) != len(blobs):
            raise MapError(f"{len(places)} places came with {len(blobs)} descriptors, expected one for each")
        rows = [(*to_columns(place), blob) for place, blob in zip(places, blobs, strict=True)]
        with self._transaction() as change:
            pairs = []
            for row in rows:
                cursor = change.connection.execute(
                    f"INSERT INTO places ({COLUMNS}, descriptor) VALUES (?,?,?,?,?,?,?,?,?)", row
                )
                pairs.append((int(cursor.lastrowid or 0), row[-1]))
            change.state = change.state.plus(pairs)
        return pairs

    def remove(self, ids: Sequence[int]) -> list[Pair]:
        """Remove places, durably: all of them or none.

        Returns:
            What was removed, as (id, stored descriptor) pairs.

        Raises:
            MapError: an id is not in the map, or the map cannot be written.
        """
        ids = [to_id(place_id) for place_id in ids]
        with self._transaction() as change:
            pairs = []
            for place_id in ids:
                pairs.append(self._pair(change, place_id))
                change.connection.execute("DELETE FROM places WHERE id = ?", (place_id,))
            change.state = change.state.plus(pairs, sign=-1)
            record_losses(change.connection, pairs)
        return pairs

    def update(self, place: Place, descriptor: Descriptors | None = None) -> tuple[Pair, Pair]:
        """Replace the place with `place.id`, durably; its descriptor too if one is given.

        Returns:
            The place's (id, stored descriptor) pair before and after.

        Raises:
            MapError: the id is not in the map, the descriptor does not fit, or the map cannot be written.
        """
        blobs = self._format.encode(descriptor) if descriptor is not None else []
        columns, place_id = to_columns(place), to_id(place.id)
        with self._transaction() as change:
            old = self._pair(change, place_id)
            new = (old[0], blobs[0] if blobs else old[1])
            marks = COLUMNS.replace(",", " = ?,") + " = ?"
            change.connection.execute(
                f"UPDATE places SET {marks}, descriptor = ? WHERE id = ?", (*columns, new[1], new[0])
            )
            change.state = change.state.plus([old], sign=-1).plus([new])
            record_losses(change.connection, [old] if blobs else [])
        return old, new

    def close(self) -> None:
        """Close the map; once nobody has it open, it is one file."""
        with self._writing, self._reading:
            self._closed = True
            self._reader.close()
            if self._connection is not None:
                with contextlib.suppress(sqlite3.Error):  # a reader elsewhere may still need the log
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._connection.close()
                self._connection = None
            if self._writer is not None:
                self._writer.release()
                self._writer = None

    # ---------------------------------------------------------------- private

    def claim(self) -> sqlite3.Connection:
        """Become the writer, until `close`. Called by every change; see `WriterLock` for what it raises."""
        with self._writing:
            if self._closed:
                raise MapError(f"{self.path}: the map is closed, expected an open one; open it again")
            if self.read_only:
                raise MapError(
                    f"{self.path}: cannot be written (read-only, or no room beside it), expected a writable file and "
                    "folder with room; make it so, or copy the map to one"
                )
            if self._connection is None:
                writer = WriterLock(self.file)
                try:
                    self._connection = connect(self.file)[0]
                except BaseException:
                    writer.release()
                    raise
                self._writer = writer
            return self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[_Change]:
        with self._writing, translated(self.path):
            connection = self.claim()
            self.require_in_place()
            try:
                connection.execute("BEGIN IMMEDIATE")
                # Read in here, where nobody else can write: a digest taken from anything older stays wrong for ever.
                change = _Change(connection, MapState.from_meta(read_meta(connection)))
                yield change
                rows = [(value, key) for key, value in change.state.to_meta().items()]
                connection.executemany("UPDATE meta SET value = ? WHERE key = ?", rows)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            with self._reading:
                self.state = change.state

    def _pair(self, change: _Change, place_id: int) -> Pair:
        query = "SELECT id, descriptor FROM places WHERE id = ?"
        known = 0 <= place_id < 1 << 63
        pair = change.connection.execute(query, (place_id,)).fetchone() if known else None
        if pair is None:
            raise MapError(
                f"{self.path}: there is no place {place_id}, expected the id of one of its {change.state.count} places"
            )
        return int(pair[0]), bytes(pair[1])


def to_id(value: object) -> int:
    """A place id as a Python int: no text, no rounding, so that none is ever taken for another."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise MapError(f"a place id is {value!r}, expected a whole number as `Place.id` holds it; pass that") from None


@dataclass
class _Change:
    """A transaction that is under way, and the state that the map will be in after it."""

    connection: sqlite3.Connection
    state: MapState
