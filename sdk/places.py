"""The map: places and their descriptors in one SQLite database, the single source of truth."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from ._core import l2_normalize
from .contract import ModelContract
from .errors import ContractError, MapError
from .localization import Geography, Place
from .map_file import DTYPES, MapState, connect, create_file, damaged, move_into_place
from .writer_lock import WriterLock

__all__ = ["PlaceMap"]

IDS_A_STATEMENT = 500  # SQLite before 3.32 takes at most 999 parameters
ROWS_A_BATCH = 4096

COLUMNS = "name, p0, p1, p2, heading_deg, timestamp_s, image, traverse"

Descriptors = npt.NDArray[np.float32]


class PlaceMap:
    """A map on disk. Each change is durable when its call returns (WAL, synchronous=FULL).

    Readers are as many as they like, in any process, and see a change as soon as its call has returned; the
    writer is one, see `WriterLock`. Safe to use from several threads.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, read_only: bool) -> None:
        """Private: use `create` or `open`."""
        self.path = path
        self.read_only = read_only
        # Readers have a connection of their own, so that a query never waits for an add to reach the medium.
        self._reader = connection
        self._reading = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._writing = threading.RLock()
        self._writer: WriterLock | None = None
        self._seen_version = -1
        meta = dict(connection.execute("SELECT key, value FROM meta"))
        try:
            self.contract = ModelContract.from_json(meta["contract"], str(path))
            self.descriptor_dtype: str = meta["descriptor_dtype"]
            self.geography: Geography = meta["geography"]
            self.created: str = meta["created"]
            self.state = MapState.from_meta(meta)
        except (KeyError, ValueError) as error:
            if isinstance(error, ContractError):
                raise
            raise MapError(
                f"{path}: its table meta is damaged ({error}), expected what `structvpr map build` writes; "
                "restore the map from a copy"
            ) from None
        if self.descriptor_dtype not in DTYPES or self.geography not in get_args(Geography):
            raise MapError(
                f"{path}: its descriptors are {self.descriptor_dtype!r} and its geography {self.geography!r}, "
                f"expected one of {DTYPES} and one of {get_args(Geography)}; restore the map from a copy"
            )
        self.changed()

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

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> PlaceMap:
        """Open a map that `create` made.

        Raises:
            MapError: missing, not a map, damaged, or made by a newer version.
            ContractError: the contract in it cannot be read.
        """
        path = Path(path)
        if not path.is_file():
            raise MapError(
                f"{path}: there is no such file, expected a map; make one with `structvpr map build` or "
                "Localizer(..., create=True)"
            )
        connection, read_only = connect(path)
        try:
            return cls(path, connection, read_only)
        except sqlite3.Error as error:
            connection.close()
            raise damaged(path, error) from None
        except BaseException:
            connection.close()
            raise

    # ---------------------------------------------------------------- reading

    def __len__(self) -> int:
        return self.state.count

    def changed(self) -> bool:
        """Whether another connection has changed the map since the last call; `state` is then up to date."""
        with self._reading, self._translated():
            version = self._reader.execute("PRAGMA data_version").fetchone()[0]
            if version == self._seen_version:
                return False
            # The version was read before the state: a commit in between is seen once more, never missed.
            self.state = MapState.from_meta(dict(self._reader.execute("SELECT key, value FROM meta")))
            self._seen_version = version
            return True

    def places(self, ids: Sequence[int]) -> list[Place]:
        """The places with these ids, in their order; ids that are not in the map are left out."""
        found: dict[int, Place] = {}
        with self._reading, self._translated():
            for start in range(0, len(ids), IDS_A_STATEMENT):
                chunk = [int(place_id) for place_id in ids[start : start + IDS_A_STATEMENT]]
                marks = ",".join("?" * len(chunk))
                rows = self._reader.execute(f"SELECT id, {COLUMNS} FROM places WHERE id IN ({marks})", chunk)
                found.update((row[0], _place_from(row)) for row in rows)
        return [found[place_id] for place_id in map(int, ids) if place_id in found]

    def all_places(self) -> list[Place]:
        """Every place, by id."""
        with self._reading, self._translated():
            return [_place_from(row) for row in self._reader.execute(f"SELECT id, {COLUMNS} FROM places ORDER BY id")]

    def stored(self, after_id: int = -1) -> Iterator[list[tuple[int, bytes]]]:
        """(id, descriptor bytes) pairs with an id above `after_id`, by id, in batches."""
        while True:
            with self._reading, self._translated():
                batch = self._reader.execute(
                    "SELECT id, descriptor FROM places WHERE id > ? ORDER BY id LIMIT ?",
                    (after_id, ROWS_A_BATCH),
                ).fetchall()
            if not batch:
                return
            yield batch
            after_id = batch[-1][0]

    def decode(self, pairs: Sequence[tuple[int, bytes]]) -> Descriptors:
        """The descriptors behind `stored` pairs: float32 (n, D), unit length again after their rounding.

        Raises:
            MapError: a descriptor has the wrong length, or is zero or not finite.
        """
        dim, dtype = self.contract.descriptor_dim, np.dtype(self.descriptor_dtype).newbyteorder("<")
        for place_id, blob in pairs:
            if not isinstance(blob, bytes) or len(blob) != dim * dtype.itemsize:
                size = len(blob) if isinstance(blob, bytes) else 0
                raise MapError(
                    f"{self.path}: the descriptor of place {place_id} has {size} bytes, expected "
                    f"{dim * dtype.itemsize}; restore the map from a copy"
                )
        rows = np.frombuffer(b"".join(blob for _, blob in pairs), dtype).reshape(len(pairs), dim).astype(np.float32)
        if len(rows) == 0:
            return rows
        try:
            return l2_normalize(rows)
        except ValueError as error:
            first, last = pairs[0][0], pairs[-1][0]
            raise MapError(
                f"{self.path}: a descriptor of places {first} to {last} is damaged ({error}); restore the map "
                "from a copy"
            ) from None

    # ---------------------------------------------------------------- writing

    def add_many(self, places: Sequence[Place], descriptors: Descriptors) -> list[tuple[int, bytes]]:
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
        blobs = self._encode(descriptors)
        if len(places) != len(blobs):
            raise MapError(f"{len(places)} places came with {len(blobs)} descriptors, expected one for each")
        with self._transaction() as connection:
            pairs = []
            for place, blob in zip(places, blobs, strict=True):
                cursor = connection.execute(
                    f"INSERT INTO places ({COLUMNS}, descriptor) VALUES (?,?,?,?,?,?,?,?,?)",
                    (*_columns_of(place), blob),
                )
                pairs.append((int(cursor.lastrowid or 0), blob))
            self._set_state(connection, self.state.plus(pairs))
        return pairs

    def remove(self, ids: Sequence[int]) -> None:
        """Remove places, durably: all of them or none.

        Raises:
            MapError: an id is not in the map, or the map cannot be written.
        """
        with self._transaction() as connection:
            state = self.state
            for place_id in ids:
                state = state.plus([self._pair(connection, place_id)], sign=-1)
                connection.execute("DELETE FROM places WHERE id = ?", (place_id,))
            self._set_state(connection, state)

    def update(self, place: Place, descriptor: Descriptors | None = None) -> tuple[int, bytes]:
        """Replace the place with `place.id`, durably; its descriptor too if one is given.

        Returns:
            The place's (id, stored descriptor) pair.

        Raises:
            MapError: the id is not in the map, the descriptor does not fit, or the map cannot be written.
        """
        blobs = self._encode(descriptor) if descriptor is not None else []
        with self._transaction() as connection:
            old = self._pair(connection, -1 if place.id is None else place.id)
            new = (old[0], blobs[0] if blobs else old[1])
            marks = COLUMNS.replace(",", " = ?,") + " = ?"
            connection.execute(
                f"UPDATE places SET {marks}, descriptor = ? WHERE id = ?",
                (*_columns_of(place), new[1], new[0]),
            )
            self._set_state(connection, self.state.plus([old], sign=-1).plus([new]))
        return new

    def export(self, path: str | os.PathLike[str]) -> None:
        """Copy the map, also while it is written: a consistent single file, compacted.

        Raises:
            MapError: something is at `path` already, or it cannot be written.
        """
        path = Path(path)
        if path.exists():
            raise MapError(f"{path}: exists already, expected a new file; remove it first or name another")
        temporary = path.with_name(f"{path.name}.new-{os.getpid()}")
        try:
            with self._reading:
                self._reader.execute("VACUUM INTO ?", (str(temporary),))
            move_into_place(temporary, path)
        except (sqlite3.Error, OSError) as error:
            temporary.unlink(missing_ok=True)
            raise MapError(
                f"{path}: the copy cannot be written ({error}), expected a writable folder with room"
            ) from None

    def close(self) -> None:
        """Close the map; once nobody has it open, it is one file."""
        with self._writing, self._reading:
            self._reader.close()
            if self._connection is not None:
                with contextlib.suppress(sqlite3.Error):  # a reader elsewhere may still need the log
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._connection.close()
                self._connection = None
            if self._writer is not None:
                self._writer.release()
                self._writer = None

    def check(self) -> list[str]:
        """Read everything and say what is wrong, one sentence each; empty if all is well."""
        findings = []
        with self._reading:
            try:
                rows = self._reader.execute("PRAGMA integrity_check").fetchall()
                findings += [f"SQLite: {row[0]}" for row in rows if row[0] != "ok"]
            except sqlite3.Error as error:
                return [f"SQLite: {error}"]
        state = MapState(0, 0)
        try:
            for batch in self.stored():
                state = state.plus(batch)
                self.decode(batch)
            self.all_places()
        except MapError as error:
            findings.append(str(error))
        else:
            if state != self.state:
                findings.append(
                    f"the places ({state.count}) are not those that were written ({self.state.count}); restore the "
                    "map from a copy"
                )
        return findings

    # ---------------------------------------------------------------- private

    def claim(self) -> sqlite3.Connection:
        """Become the writer, until `close`. Called by every change; see `WriterLock` for what it raises."""
        with self._writing:
            if self.read_only:
                raise MapError(f"{self.path}: lies on a read-only medium, expected a writable one; copy the map there")
            if self._connection is None:
                self._writer = WriterLock(self.path)
                self._connection = connect(self.path)[0]
            return self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._writing, self._translated():
            connection = self.claim()
            self.changed()
            before = self.state
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self.state = before
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise MapError(f"{self.path}: the map is closed, expected an open one ({error}); open it again") from None
        except sqlite3.OperationalError as error:
            raise MapError(
                f"{self.path}: the map cannot be read or written ({error}), expected room on a working medium"
            ) from None
        except sqlite3.Error as error:
            raise damaged(self.path, error) from None

    def _set_state(self, connection: sqlite3.Connection, state: MapState) -> None:
        connection.executemany("UPDATE meta SET value = ? WHERE key = ?", [(v, k) for k, v in state.to_meta().items()])
        self.state = state

    def _pair(self, connection: sqlite3.Connection, place_id: int) -> tuple[int, bytes]:
        pair = connection.execute("SELECT id, descriptor FROM places WHERE id = ?", (int(place_id),)).fetchone()
        if pair is None:
            raise MapError(
                f"{self.path}: there is no place {place_id}, expected the id of one of its {len(self)} places"
            )
        return int(pair[0]), bytes(pair[1])

    def _encode(self, descriptors: Descriptors) -> list[bytes]:
        rows = np.atleast_2d(np.asarray(descriptors))
        dim = self.contract.descriptor_dim
        if rows.ndim != 2 or rows.shape[1] != dim or rows.dtype != np.float32:
            raise MapError(f"descriptors are {rows.dtype} {rows.shape}, expected float32 (n, {dim})")
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
        bad = np.flatnonzero(~(np.abs(lengths - 1) < 1e-3))
        if len(bad):
            raise MapError(f"descriptor {bad[0]} has length {lengths[bad[0]]:.4g}, expected 1; normalise it first")
        stored = rows.astype(np.dtype(self.descriptor_dtype).newbyteorder("<"))
        return [row.tobytes() for row in stored]


def _columns_of(place: Place) -> tuple[Any, ...]:
    position = place.position or (None, None, None)
    return (place.name, *position, place.heading_deg, place.timestamp_s, place.image, place.traverse)


def _place_from(row: tuple[Any, ...]) -> Place:
    place_id, name, p0, p1, p2, heading_deg, timestamp_s, image, traverse = row
    position = None if p0 is None or p1 is None else (p0, p1, p2 or 0.0)
    return Place(name, position, heading_deg, timestamp_s, image, traverse, place_id)
