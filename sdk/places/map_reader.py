"""The reading half of a map: what is in it, whether that has changed, whether it is sound, a copy of it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar, cast, get_args

from ..answers import Place
from ..contract import ModelContract
from ..errors import ContractError, MapError
from ..geography import Geography
from .database import (
    DTYPES,
    IDS_A_STATEMENT,
    Access,
    MapState,
    Pair,
    connect,
    damaged,
    has_log,
    place_new_map,
    read_meta,
    require_new,
    require_unicode,
    scratch,
    translated,
)
from .journal import Snapshot, snapshot
from .rows import COLUMNS, DescriptorFormat, Descriptors, place_from

__all__ = ["MapReader"]

Map = TypeVar("Map", bound="MapReader")


class MapReader:
    """What `PlaceMap` can do without being the writer. Safe to use from several threads."""

    def __init__(self, path: Path, file: Path, connection: sqlite3.Connection, access: Access) -> None:
        """Private: use `create` or `open`.

        Args:
            path: as its user names it, for messages.
            file: where it lies, links followed: a map has one lock and one index, by whatever name it is opened.
            connection: for reading.
            access: what `connection` may do.
        """
        self.path = path
        self.file = file
        self.read_only = access != "rw"
        # Readers have a connection of their own, so that a query never waits for an add to reach the medium.
        self._reader = connection
        self._access = access
        self._reading = threading.RLock()
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
            raise MapError(
                f"{path}: its table meta is damaged ({error}), expected what `structvpr map build` writes; "
                "restore the map from a copy"
            ) from None
        if self.descriptor_dtype not in DTYPES or self.geography not in get_args(Geography):
            raise MapError(
                f"{path}: its descriptors are {self.descriptor_dtype!r} and its geography {self.geography!r}, "
                f"expected one of {DTYPES} and one of {get_args(Geography)}; restore the map from a copy"
            )
        self._format = DescriptorFormat(path, self.contract.descriptor_dim, self.descriptor_dtype)
        self.changed()

    @classmethod
    def open(cls: type[Map], path: str | os.PathLike[str]) -> Map:
        """Open a map that `create` made.

        Raises:
            MapError: missing, not a map, damaged, or made by a newer version.
            ContractError: the contract in it cannot be read.
        """
        path = Path(path)
        require_unicode(path)
        if not path.is_file():
            raise MapError(
                f"{path}: there is no such file, expected a map; make one with `structvpr map build` or "
                "Localizer(..., create=True)"
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

    def __len__(self) -> int:
        return self.state.count

    def changed(self) -> bool:
        """Whether another connection has changed the map since the last call; `state` is then up to date."""
        with self._reading, translated(self.path):
            if self._access == "immutable" and self._file_signature() != self._seen_file:
                self._reopen()
            self.require_in_place()
            version = self._reader.execute("PRAGMA data_version").fetchone()[0]
            if version == self._seen_version:
                return False
            # The version was read before the state: a commit in between is seen once more, never missed.
            self.state = MapState.from_meta(read_meta(self._reader))
            self._seen_version = version
            return True

    def places(self, ids: Sequence[int]) -> list[Place]:
        """The places with these ids, in their order; ids that are not in the map are left out."""
        found: dict[int, Place] = {}
        with self._reading, translated(self.path):
            for start in range(0, len(ids), IDS_A_STATEMENT):
                chunk = [int(place_id) for place_id in ids[start : start + IDS_A_STATEMENT]]
                marks = ",".join("?" * len(chunk))
                rows = self._reader.execute(f"SELECT id, {COLUMNS} FROM places WHERE id IN ({marks})", chunk)
                found.update((row[0], place_from(row)) for row in rows)
        return [found[place_id] for place_id in map(int, ids) if place_id in found]

    def all_places(self) -> list[Place]:
        """Every place, by id."""
        with self._reading, translated(self.path):
            return [place_from(row) for row in self._reader.execute(f"SELECT id, {COLUMNS} FROM places ORDER BY id")]

    def snapshot(self, after_id: int = -1) -> contextlib.AbstractContextManager[Snapshot]:
        """The state and the descriptors of one moment, whatever is written meanwhile; see `map_snapshot.snapshot`."""
        return snapshot(self.path, self.file, after_id)

    def stored(self, after_id: int = -1) -> Iterator[list[Pair]]:
        """(id, descriptor bytes) pairs with an id above `after_id`, by id, in batches."""
        with self.snapshot(after_id) as moment:
            yield from moment.batches()

    def decode(self, pairs: Sequence[Pair]) -> Descriptors:
        """The descriptors behind `stored` pairs: float32 (n, D), unit length again after their rounding.

        Raises:
            MapError: a descriptor has the wrong length, or is zero or not finite.
        """
        return self._format.decode(pairs)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Copy the map, also while it is written: a consistent single file, compacted.

        Raises:
            MapError: something is at `path` already, or it cannot be written.
        """
        path = Path(path)
        require_unicode(path)
        require_new(path)
        try:
            with scratch(path) as temporary:
                # A connection of its own: queries go on meanwhile.
                with contextlib.closing(connect(self.file)[0]) as connection:
                    connection.execute("VACUUM INTO ?", (str(temporary),))
                with contextlib.closing(sqlite3.connect(temporary)) as copy:
                    copy.execute("PRAGMA journal_mode=WAL")  # the one thing that VACUUM INTO leaves behind
                place_new_map(temporary, path)
        except (sqlite3.Error, OSError) as error:
            raise MapError(
                f"{path}: the copy cannot be written ({error}), expected a writable folder with room"
            ) from None

    def check(self) -> list[str]:
        """Read everything and say what is wrong, one sentence each; empty if all is well."""
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
                f"{contract.name!r} (identity {contract.identity[:12]}), whose descriptors cannot be compared with "
                "them; build the map again with this model: `structvpr map build`"
            )

    def require_geography(self, geography: Geography | None) -> None:
        """Refuse positions of another kind; None has none.

        Raises:
            MapError: the kinds differ.
        """
        if geography is not None and geography != self.geography:
            raise MapError(
                f"the positions are {geography}, expected {self.geography} as {self.path} declares; make a map of its "
                "own for them"
            )

    def require_in_place(self) -> None:
        """Refuse to go on when another file, or none, has the map's name: what is written here would be lost."""
        try:
            status = self.file.stat()
            in_place = (status.st_dev, status.st_ino) == self._identity
        except FileNotFoundError:
            in_place = False
        if not in_place:
            raise MapError(
                f"{self.path}: was replaced or removed while it was open, expected the file that was opened; open it "
                "again"
            )

    # ---------------------------------------------------------------- private

    def _file_signature(self) -> tuple[int, int, bool]:
        status = self.file.stat()
        return status.st_mtime_ns, status.st_size, has_log(self.file)

    def _reopen(self) -> None:
        # Somebody who may write has begun to, and promised nothing.
        self._seen_file = self._file_signature()
        old = self._reader
        self._reader, self._access = connect(self.file)
        self._seen_version = -1
        old.close()
