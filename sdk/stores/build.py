"""Build a map from a whole source, or leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..answers import Place
from ..arrays import Descriptors
from ..backends import Backend
from ..describer import Describer
from ..errors import FrameError, MapError
from ..frames.source import Source
from ..geography import require_same_geography
from ..index.file import index_path
from ..index.map_index import MapIndex
from ..places.database import place_new_map, sweep
from ..places.place_map import PlaceMap
from ..progress import Progress
from . import PlaceStore
from .local import LocalStore

__all__ = ["BuiltMap", "build_map", "fill_store", "wait_for_graph"]

PLACES_PER_TRANSACTION = 256


@dataclass(frozen=True)
class BuiltMap:
    """The result of `build_map`.

    Attributes:
        places: number of places added.
        seconds: duration, s.
        graph_error: why a large map has no graph; None if nothing failed.
    """

    places: int
    seconds: float
    graph_error: str | None


def build_map(
    backend: Backend,
    source: Source,
    path: Path,
    *,
    name: str,
    append: bool = False,
    progress: Progress | None = None,
) -> BuiltMap:
    """Build a map from a source, or add the source to a map. If a frame cannot be read, nothing is written.

    Args:
        backend: the network.
        source: see `sdk.open_source`.
        path: the map file.
        name: of the source, for messages.
        append: add to an existing map instead of creating one.
        progress: called with (what, done, total).

    Raises:
        FrameError: a frame cannot be read or described; the message names it.
        MapError: the map exists and `append` is False, or the reverse; the map cannot be written; or the source has
            another geography.
        ContractError: `path` is the map of another model.
    """
    if path.exists() != append:
        raise MapError(
            f"{path}: does not exist; drop --append, or name another map"
            if append
            else f"{path}: exists already; add to it with --append, or name another map"
        )
    started = time.perf_counter()
    # Even with `append`, frames first go into a separate map, so an unreadable frame leaves the map unchanged.
    working = path.with_name(f"{path.name}.new-{os.getpid()}")
    with contextlib.ExitStack() as stack:
        # Opened first: a map of another model, or one that another process writes, is refused before the long work.
        old = None
        if append:
            old = stack.enter_context(contextlib.closing(LocalStore(path, backend.contract, progress=progress)))
            old.map.claim()
            old.map.require_geography(source.geography)
        # A killed build may have had our process id. In a container this happens at each start.
        sweep(path, "new", mine=True)
        stack.callback(sweep, path, "new", mine=True)
        geography = old.geography if old is not None else source.geography or "local"
        PlaceMap.create(working, backend.contract, geography=geography).close()
        with contextlib.closing(LocalStore(working, backend.contract, progress=progress)) as new:
            added = fill_store(new, Describer(backend), source, progress)
            if added == 0:
                raise MapError(f"{name}: gave no frame; check the file")
            if old is not None:
                pairs = [pair for batch in new.map.stored() for pair in batch]
                old.add(new.map.all_places(), new.map.decode(pairs))
            graph_error = wait_for_graph((old or new).index)
        if old is None:
            place_new_map(working, path)
            with contextlib.suppress(FileNotFoundError):  # the disk had no room for the index
                index_path(working).replace(index_path(path))
    return BuiltMap(added, time.perf_counter() - started, graph_error)


def fill_store(store: PlaceStore, describer: Describer, source: Source, progress: Progress | None = None) -> int:
    """Add every frame of a source, in transactions of a few hundred places.

    Args:
        store: receives the places.
        describer: describes the frames, which are RGB.
        source: see `sdk.open_source`.
        progress: called with (what, done, total).

    Returns:
        Number of places added.

    Raises:
        FrameError: a frame cannot be read or described; the message names it.
        MapError: the source and the store have different geographies.
    """
    require_same_geography(source.geography, store.geography, store.location)
    total, done = source.num_frames or 0, 0
    places: list[Place] = []
    descriptors: list[Descriptors] = []
    for sighting in source:
        try:
            descriptors.append(describer.describe(sighting.frame, colour="rgb").descriptor)
        except FrameError as error:
            raise FrameError(f"{sighting.info.image or sighting.info.label}: {error}") from None
        places.append(Place.from_frame(sighting.info))
        done += 1
        if len(places) == PLACES_PER_TRANSACTION:
            store.add(places, np.stack(descriptors))
            places, descriptors = [], []
        if progress is not None:
            progress("frames", done, max(total, done))
    if places:
        store.add(places, np.stack(descriptors))
    return done


def wait_for_graph(index: MapIndex) -> str | None:
    """Wait until the graph is built. Returns the reason if it failed; a map without a graph is still complete."""
    try:
        index.build_graph()
    except Exception as error:
        found = f"{type(error).__name__}: {error}".rstrip(": ")
        return f"its graph could not be built ({found}); searches scan until the next opening. It needs more memory"
    return None
