"""Stores of places: one protocol, `PlaceStore`, with one implementation for each kind of storage."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Protocol

from ..answers import Match, Place
from ..arrays import Descriptors
from ..contract import ModelContract
from ..errors import UsageError
from ..geography import Geography
from ..progress import Progress
from .local import LocalStore

__all__ = ["PlaceStore", "open_store"]


class PlaceStore(Protocol):
    """Places and their descriptors, searched by descriptor. Safe to use from several threads.

    Every method raises MapError if the store cannot be read or written.
    """

    @property
    def location(self) -> str:
        """The address of the store, for messages."""

    @property
    def geography(self) -> Geography:
        """The kind of its positions."""

    def __len__(self) -> int:
        """Number of places."""

    def search(
        self, descriptor: Descriptors, k: int, *, timings_ms: MutableMapping[str, float] | None = None
    ) -> list[Match]:
        """The k most similar places, best first. Fewer if the store has fewer.

        Args:
            descriptor: float32 (D,), unit length.
            k: number of matches, >= 1.
            timings_ms: receives the milliseconds of "search" and "lookup"; repeated searches add up.
        """

    def places(self, ids: Sequence[int]) -> list[Place]:
        """The places with these ids, in their order. Unknown ids are left out."""

    def add(self, places: Sequence[Place], descriptors: Descriptors) -> list[Place]:
        """Add places durably: all of them or none.

        Args:
            places: their `id` is ignored.
            descriptors: float32 (n, D), unit length.

        Returns:
            The places with their ids.
        """

    def remove(self, ids: Sequence[int]) -> None:
        """Remove places durably: all of them or none."""

    def update(self, place: Place, descriptor: Descriptors | None = None) -> None:
        """Replace the place with `place.id` durably, and its descriptor if one is given."""

    def search_method(self, k: int = 5) -> str:
        """The method of a search for k places, in words."""

    def wait_until_ready(self) -> None:
        """Wait until everything that makes searches faster is built."""

    def follow(self) -> None:
        """Apply what other processes wrote since the last call. Never waits for them."""

    def close(self) -> None:
        """Save derived data and release everything. May be called twice."""


def open_store(
    uri: str | os.PathLike[str],
    contract: ModelContract,
    *,
    create: bool = False,
    geography: Geography | None = None,
    progress: Progress | None = None,
) -> PlaceStore:
    """Open a store by its address.

    Args:
        uri: a path of a map file.
        contract: of the model whose descriptors will be stored and searched.
        create: create the store if it does not exist.
        geography: kind of the positions. None: as the store says, or "local" for a new one.
        progress: called with (what, done, total) during long work.

    Raises:
        UsageError: no store has this scheme.
        ContractError: the store was made with another model.
        MapError: the store is missing, damaged, newer than this library, or has another geography.
    """
    if isinstance(uri, str) and (scheme := re.match(r"([a-z][a-z0-9+.-]*)://", uri)):
        raise UsageError(f"{uri}: no store has the scheme {scheme[1]}; name the path of a map file")
    return LocalStore(Path(uri), contract, create=create, geography=geography, progress=progress)
