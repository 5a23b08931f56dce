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
from typing import cast, get_args

from ..answers import Place
from ..arrays import Descriptors
from ..contract import ModelContract
from ..errors import ContractError, MapError
from ..geography import Geography, require_same_geography
from .database import (
    DTYPES,
    IDS_PER_STATEMENT,
    Access,
    connect,
    create_file,
    damaged,
    has_log,
    place_new_map,
    read_meta,
    require_new,
    require_unicode,
    scratch,
    translated,
)
from .journal import Snapshot, record_losses, snapshot
from .rows import COLUMNS, DescriptorFormat, place_from, to_columns
from .state import MapState, Pair
from .writer_lock import WriterLock

__all__ = ["PlaceMap", "to_id"]


class PlaceMap:
    """A map on disk. `create` makes one, `open` opens one. Safe to use from several threads.

    When a change returns, it is durable (synchronous=FULL), and any number of readers in any process see it. There is
    one writer at a time, see `WriterLock`.
    """

    def __init__(self, path: Path, file: Path, connection: sqlite3.Connection, access: Access) -> None:
        """Private: use `create` or `open`.

        Args:
            path: as the user names it, for messages.
            file: the same with links resolved: a map has one lock and one index, whatever name opens it.
            connection: for reading.
            access: what `connection` may do.
        """
        self.path = path
        self.file = file
        self.read_only = access != "rw"
        # Reads have their own connection, so that a query never waits for an add to reach the disk.
        self._reader = connection
        self._access = access
        self._reading = threading.RLock()
        self._writing = threading.RLock()
        self._connection: sqlite3.Connection | None = None  # the writer's
        self._writer: WriterLock | None = None
        self._closed = False
        status = file.stat()
        self._identity = (status.st_dev, status.st_ino)
        self._seen_file = self._file_signature()
        self._seen_version = -1
        meta = read_meta(connection)
        try:
            self.contract = ModelContract.from_json(meta["contract"], str(path))
            self.descriptor_dtype: str = meta["descriptor_dtype"]
            self.geography: Geography = cast(Geography, meta["geography"])
            self.created: str = meta["created"]
            self.state = MapState.from_meta(meta)
        except (KeyError, ValueError) as error:
            if isinstance(error, ContractError):
                raise
            raise MapError(f"{path}: its table meta is damaged ({error}); restore the map from a copy") from None
        if self.descriptor_dtype not in DTYPES or self.geography not in get_args(Geography):
            raise MapError(
                f"{path}: its descriptors are {self.descriptor_dtype!r} and its geography {self.geography!r}, "
                f"expected one of {DTYPES} and one of {get_args(Geography)}; restore the map from a copy"
            )
        self._format = DescriptorFormat(path, self.contract.descriptor_dim, self.descriptor_dtype)
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
            descriptor_dtype: "float16" (half the size, changes a similarity by at most 1e-3) or "float32".

        Raises:
            MapError: `path` exists, or the folder cannot be written.
        """
        create_file(Path(path), contract, geography, descriptor_dtype)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> PlaceMap:
        """Open a map that `create` made.

        Raises:
            MapError: the file is missing, not a map, damaged, or made by a newer version.
            ContractError: the contract in it cannot be read.
        """
        path = Path(path)
        require_unicode(path)
        if not path.is_file():
            raise MapError(
                f"{path}: there is no such file; make a map with `structvpr map build` or Localizer(create=True)"
            )
        file = path.resolve()
        connection, access = connect(file)
        try:
            return cls(path, file, connection, access)
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
        """Whether another connection changed the map since the last call. `state` is up to date afterwards."""
        with self._reading, translated(self.path):
            if self._access == "immutable" and self._file_signature() != self._seen_file:
                self._reopen()
            self.require_in_place()
            version = self._reader.execute("PRAGMA data_version").fetchone()[0]
            if version == self._seen_version:
                return False
            # The version is read before the state, so a commit in between is seen twice and never missed.
            self.state = MapState.from_meta(read_meta(self._reader))
            self._seen_version = version
            return True

    def places(self, ids: Sequence[int]) -> list[Place]:
        """The places with these ids, in their order. Unknown ids are left out."""
        found: dict[int, Place] = {}
        with self._reading, translated(self.path):
            for start in range(0, len(ids), IDS_PER_STATEMENT):
                chunk = [int(place_id) for place_id in ids[start : start + IDS_PER_STATEMENT]]
                marks = ",".join("?" * len(chunk))
                rows = self._reader.execute(f"SELECT id, {COLUMNS} FROM places WHERE id IN ({marks})", chunk)
                found.update((row[0], place_from(row)) for row in rows)
        return [found[place_id] for place_id in map(int, ids) if place_id in found]

    def all_places(self) -> list[Place]:
        """Every place, by id."""
        with self._reading, translated(self.path):
            return [place_from(row) for row in self._reader.execute(f"SELECT id, {COLUMNS} FROM places ORDER BY id")]

    def snapshot(self, after_id: int = -1) -> contextlib.AbstractContextManager[Snapshot]:
        """The state and descriptors at one moment; see `journal.snapshot`."""
        return snapshot(self.path, self.file, after_id)

    def stored(self, after_id: int = -1) -> Iterator[list[Pair]]:
        """(id, descriptor bytes) pairs with an id above `after_id`, by id, in batches."""
        with self.snapshot(after_id) as moment:
            yield from moment.batches()

    def decode(self, pairs: Sequence[Pair]) -> Descriptors:
        """Decode `stored` pairs: float32 (n, D), normalised again after the rounding.

        Raises:
            MapError: a descriptor has the wrong length, or is zero or not finite.
        """
        return self._format.decode(pairs)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Copy the map to one consistent, compacted file, also while it is written.

        Raises:
            MapError: `path` exists, or it cannot be written.
        """
        path = Path(path)
        require_unicode(path)
        require_new(path)
        try:
            with scratch(path) as temporary:
                # Its own connection, so that queries continue.
                with contextlib.closing(connect(self.file)[0]) as connection:
                    connection.execute("VACUUM INTO ?", (str(temporary),))
                with contextlib.closing(sqlite3.connect(temporary)) as copy:
                    copy.execute("PRAGMA journal_mode=WAL")  # the one setting that VACUUM INTO does not copy
                place_new_map(temporary, path)
        except (sqlite3.Error, OSError) as error:
            raise MapError(
                f"{path}: the copy cannot be written ({error}); name a file in a writable folder with room"
            ) from None

    def check(self) -> list[str]:
        """Read everything. Returns one sentence per problem; empty if the map is sound."""
        findings: list[str] = []
        state = MapState(0, 0)
        try:
            with self.snapshot() as moment:
                rows = moment.connection.execute("PRAGMA integrity_check").fetchall()
                findings += [f"SQLite: {row[0]}" for row in rows if row[0] != "ok"]
                for batch in moment.batches():
                    self.decode(batch)
                    state = state.plus(batch)
                for row in moment.connection.execute(f"SELECT id, {COLUMNS} FROM places"):
                    place_from(row)
        except MapError as error:
            return [*findings, str(error)]
        if state != moment.state:
            findings.append(
                f"the places ({state.count}) are not those that were written ({moment.state.count}); restore the "
                "map from a copy"
            )
        return findings

    def require_model(self, contract: ModelContract) -> None:
        """Refuse descriptors of another model.

        Raises:
            ContractError: the identities differ.
        """
        mine = self.contract
        if mine.identity != contract.identity:
            raise ContractError(
                f"{self.path}: was made with model {mine.name!r} (identity {mine.identity[:12]}), expected "
                f"{contract.name!r} (identity {contract.identity[:12]}); their descriptors cannot be compared, so "
                "build the map again with this model: `structvpr map build`"
            )

    def require_geography(self, geography: Geography | None) -> None:
        """Refuse positions of another kind; None is accepted.

        Raises:
            MapError: the kinds differ.
        """
        require_same_geography(geography, self.geography, str(self.path))

    def require_in_place(self) -> None:
        """Refuse to continue if the map's name belongs to another file, or to none: changes would be lost."""
        try:
            status = self.file.stat()
            in_place = (status.st_dev, status.st_ino) == self._identity
        except FileNotFoundError:
            in_place = False
        if not in_place:
            raise MapError(f"{self.path}: was replaced or removed while it was open; open it again")

    # ---------------------------------------------------------------- writing

    def add_many(self, places: Sequence[Place], descriptors: Descriptors) -> list[Pair]:
        """Add places durably: all of them or none.

        Args:
            places: their `id` is ignored.
            descriptors: float32 (n, D), unit length.

        Returns:
            The new places' (id, stored descriptor) pairs, ids ascending.

        Raises:
            MapError: the numbers differ, a descriptor has another shape or dtype or is not of unit length, or the map
                cannot be written.
        """
        blobs = self._format.encode(descriptors)
        if len(places) != len(blobs):
            raise MapError(f"{len(places)} places came with {len(blobs)} descriptors; pass one for each")
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
        """Remove places durably: all of them or none.

        Returns:
            The removed (id, stored descriptor) pairs.

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
        """Replace the place with `place.id` durably, and its descriptor if one is given.

        Returns:
            The place's (id, stored descriptor) pair before and after.

        Raises:
            MapError: the id is not in the map, `add_many` would refuse the descriptor, or the map cannot be written.
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

    def claim(self) -> sqlite3.Connection:
        """Become the writer until `close`. Every change calls it; `WriterLock` says what it raises."""
        with self._writing:
            if self._closed:
                raise MapError(f"{self.path}: the map is closed; open it again")
            if self.read_only:
                raise MapError(
                    f"{self.path}: cannot be written (read-only, or no room beside it); copy the map to a "
                    "writable folder with room"
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

    def close(self) -> None:
        """Close the map. When nobody has it open, it is one file."""
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

    def _file_signature(self) -> tuple[int, int, bool]:
        status = self.file.stat()
        return status.st_mtime_ns, status.st_size, has_log(self.file)

    def _reopen(self) -> None:
        # A writer has appeared, so immutable=1 no longer holds.
        self._seen_file = self._file_signature()
        old = self._reader
        self._reader, self._access = connect(self.file)
        self._seen_version = -1
        old.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[_Change]:
        with self._writing, translated(self.path):
            connection = self.claim()
            self.require_in_place()
            try:
                connection.execute("BEGIN IMMEDIATE")
                # Read inside the transaction: a digest that starts from an older state would stay wrong for ever.
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
            found = f"there is no place {place_id} among {change.state.count}"
            raise MapError(f"{self.path}: {found}; pass the id of a stored place")
        return int(pair[0]), bytes(pair[1])


def to_id(value: object) -> int:
    """A place id as a Python int. Text and floats are refused."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise MapError(f"a place id is {value!r}, expected a whole number such as `Place.id`") from None


@dataclass
class _Change:
    """A running transaction, and the map's state after it."""

    connection: sqlite3.Connection
    state: MapState
