"""Snapshots of a map, and the journal of the descriptors that it lost."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .database import IDS_PER_STATEMENT, connect, read_meta, translated
from .state import MapState, Pair

__all__ = ["Snapshot", "record_losses", "snapshot"]

# Number of losses that a map remembers, about 40 bytes each. An index that missed more is rebuilt.
JOURNAL_ROWS = 10_000
ROWS_PER_BATCH = 4096

# The first loss creates the table, so older maps get it too. Missing losses only cause a rebuild of the index.
JOURNAL = """
CREATE TABLE IF NOT EXISTS losses (
    seq INTEGER PRIMARY KEY,  -- rising by one
    id INTEGER NOT NULL,      -- of a place that was removed or got another descriptor
    digest BLOB NOT NULL      -- of the pair that was lost, see MapState
)
"""


@contextlib.contextmanager
def snapshot(path: Path, file: Path, after_id: int = -1) -> Iterator[Snapshot]:
    """The map at one moment, whatever is written while it is read.

    Args:
        path: the map as the user names it, for messages.
        file: the same with links resolved.
        after_id: skip the places up to this id.
    """
    with translated(path):
        connection, _ = connect(file)
        with contextlib.closing(connection):
            connection.execute("BEGIN")
            yield Snapshot(connection, MapState.from_meta(read_meta(connection)), after_id)


@dataclass(frozen=True)
class Snapshot:
    """One moment of a map: its `state`, and a connection that sees only this moment."""

    connection: sqlite3.Connection
    state: MapState
    after_id: int

    def batches(self) -> Iterator[list[Pair]]:
        """(id, descriptor bytes) pairs by id, a few thousand at a time."""
        cursor = self.connection.execute("SELECT id, descriptor FROM places WHERE id > ? ORDER BY id", (self.after_id,))
        while batch := cursor.fetchmany(ROWS_PER_BATCH):
            yield batch

    def pairs_of(self, ids: Sequence[int]) -> list[Pair]:
        """The (id, descriptor bytes) pairs of these places, by id. Unknown ids are left out."""
        pairs: list[Pair] = []
        for start in range(0, len(ids), IDS_PER_STATEMENT):
            chunk = list(ids[start : start + IDS_PER_STATEMENT])
            marks = ",".join("?" * len(chunk))
            pairs += self.connection.execute(f"SELECT id, descriptor FROM places WHERE id IN ({marks})", chunk)
        return sorted(pairs)

    @property
    def losses(self) -> int:
        """Number of pairs removed or replaced since the map was created, as far as the journal knows."""
        if not self._has_journal():
            return 0
        return int(self.connection.execute("SELECT coalesce(max(seq), 0) FROM losses").fetchone()[0])

    def lost_since(self, losses: int) -> dict[int, bytes]:
        """The digest of each id's first pair that was lost after the first `losses`; see `MapState.without`."""
        lost: dict[int, bytes] = {}
        if self._has_journal():
            rows = self.connection.execute("SELECT id, digest FROM losses WHERE seq > ? ORDER BY seq", (losses,))
            for place_id, digest in rows:
                if isinstance(place_id, int) and isinstance(digest, bytes):  # a damaged row accounts for nothing
                    lost.setdefault(place_id, digest)
        return lost

    def _has_journal(self) -> bool:
        query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'losses'"
        return self.connection.execute(query).fetchone() is not None


def record_losses(connection: sqlite3.Connection, pairs: Sequence[Pair]) -> None:
    """Record pairs in the journal, within the transaction that removes or replaces them."""
    if not pairs:
        return
    connection.execute(JOURNAL)
    rows = [(place_id, MapState.digest_of((place_id, blob))) for place_id, blob in pairs]
    connection.executemany("INSERT INTO losses (id, digest) VALUES (?, ?)", rows)
    connection.execute("DELETE FROM losses WHERE seq <= (SELECT max(seq) FROM losses) - ?", (JOURNAL_ROWS,))
