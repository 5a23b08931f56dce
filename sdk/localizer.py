"""A frame in, a place out."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ._core import l2_normalize
from .answers import Localization, Match, Place, keep_apart
from .backends import Backend, open_backend
from .contract import ModelContract
from .errors import EngineError, FrameError, MapError
from .frames.preprocess import prepare
from .frames.source import Source
from .geography import Geography
from .index.map_index import MapIndex, Progress
from .places.place_map import PlaceMap, to_id

__all__ = ["Localizer"]

PLACES_A_TRANSACTION = 256


class Localizer:
    """Recognises places: a network, and a map of descriptors that it made.

        with sdk.Localizer("model.onnx", "campus.places") as localizer:
            answer = localizer.query(frame)

    Safe to use from several threads. Any number of processes may query one map; one at a time may change it, and
    the others see its changes at their next query.

    A large map that has no graph yet answers without it while a thread builds it; `index.build_graph()` waits for that.
    """

    def __init__(
        self,
        engine: str | os.PathLike[str] | Backend,
        map: str | os.PathLike[str] | None = None,
        *,
        colour: str = "rgb",
        create: bool = False,
        geography: Geography | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Load the network, open the map, and warm both up.

        Args:
            engine: a model file, or a loaded `Backend`, which then is yours to close.
            map: the map file; None for `<model stem>.places` beside the model.
            colour: channel order of the frames that you will pass, "rgb" or "bgr".
            create: make the map if it is not there.
            geography: what the map's positions are: "local" (x, y, z in metres) or "wgs84" (latitude, longitude,
                altitude). None for what the map says, or "local" for one that is made.
            threads: CPU threads of one inference; None for the runtime's choice.
            progress: told of long work, as (what, done, total).

        Raises:
            EngineError: the network cannot be loaded.
            ContractError: the map was made with another model.
            MapError: the map is missing, damaged or newer than this library.
        """
        if colour not in ("rgb", "bgr"):
            raise ValueError(f"colour is {colour!r}, expected 'rgb' or 'bgr'")
        self._colour = colour
        self._sync = threading.Lock()
        self._closed = False
        with contextlib.ExitStack() as on_failure:
            self._owns_backend = isinstance(engine, (str, os.PathLike))
            if isinstance(engine, (str, os.PathLike)):
                self._backend = open_backend(engine, threads=threads)
                on_failure.callback(self._backend.close)
                map = Path(engine).with_suffix(".places") if map is None else map
            else:
                self._backend = engine
            if map is None:
                raise MapError("no map was named, expected its path: a Backend that is passed in has no default map")
            map = Path(map)
            if create and not map.exists():
                try:
                    PlaceMap.create(map, self.contract, geography=geography or "local").close()
                except MapError:
                    if not map.exists():  # else another process was faster
                        raise
            self.map = PlaceMap.open(map)
            on_failure.callback(self.map.close)
            self.map.require_model(self.contract)
            self.map.require_geography(geography)
            self.index = MapIndex(self.map, progress)
            on_failure.callback(self.index.stop)
            # The first inference of any runtime allocates; it should not be the robot's first frame.
            self._backend.infer(np.full((1, self.contract.height, self.contract.width, 3), 128, np.uint8))
            on_failure.pop_all()

    @property
    def contract(self) -> ModelContract:
        """The model that describes frames here."""
        return self._backend.contract

    def __len__(self) -> int:
        """Places in the map."""
        return len(self.map)

    # ---------------------------------------------------------------- asking

    def query(
        self, frame: npt.NDArray[np.uint8], k: int = 5, *, apart_m: float | None = None, colour: str | None = None
    ) -> Localization:
        """Say where a frame was taken.

        Args:
            frame: uint8 (H, W, 3), both sides >= 32 px.
            k: matches wanted, at least 1; fewer come if the map, or `apart_m`, has no more.
            apart_m: leave out each match within this many metres of a better one, so that the matches are
                different places and not neighbouring frames of one.
            colour: channel order of this frame, if it differs from the constructor's.

        Returns:
            The answer. On an empty map it has no matches.

        Raises:
            FrameError: the frame cannot be described.
            MapError: k is below 1, apart_m is negative, or with `apart_m` a place has no position.
            EngineError: the network failed.
        """
        if not (is_whole(k) and k >= 1) or not (apart_m is None or (is_real(apart_m) and apart_m >= 0)):
            raise MapError(
                f"k is {k!r} and apart_m is {apart_m!r}, expected a whole number >= 1, and metres >= 0 or None; "
                "correct them"
            )
        timings: dict[str, float] = {}
        started = time.perf_counter()
        descriptor = self._describe(frame, colour, timings)
        with _timed(timings, "search"):
            self._follow()
            found = self.index.search(descriptor, k)
        with _timed(timings, "lookup"):
            matches = self._matches(*found)
            if len(matches) < len(found[0]):  # a place was removed between search and look-up: once more
                self._follow()
                matches = self._matches(*self.index.search(descriptor, k))
            wanted = k
            while apart_m is not None:
                matches = keep_apart(matches, self.map.geography, apart_m)
                if len(matches) >= k or wanted >= len(self.index):
                    break
                # Neighbours crowd the front: look further back until there are k places, or no more.
                wanted *= 4
                matches = self._matches(*self.index.search(descriptor, wanted))
        timings["total"] = (time.perf_counter() - started) * 1e3
        reason = "uncalibrated" if len(self.index) else "empty map"
        return Localization(tuple(matches[:k]), reason=reason, timings_ms=timings)

    def describe(self, frame: npt.NDArray[np.uint8], *, colour: str | None = None) -> npt.NDArray[np.float32]:
        """The descriptor of a frame: float32 (D,), unit length. Raises as `query` does."""
        return self._describe(frame, colour, {})

    # ---------------------------------------------------------------- changing

    def add(self, frame: npt.NDArray[np.uint8], place: Place, *, colour: str | None = None) -> Place:
        """Add a place to the map; it is on the medium when this returns.

        Returns:
            The place with its id.

        Raises:
            FrameError: the frame cannot be described.
            MapError: another process is changing the map, or it cannot be written.
        """
        return self.add_many([(frame, place)], colour=colour)[0]

    def add_many(
        self, sightings: Iterable[tuple[npt.NDArray[np.uint8], Place]], *, colour: str | None = None
    ) -> list[Place]:
        """Add places in one transaction: all of them, or none if an exception is raised.

        Args:
            sightings: (frame, place) pairs; a generator is read frame by frame.

        Returns:
            The places with their ids.
        """
        places, descriptors = [], []
        for frame, place in sightings:
            if not isinstance(place, Place):
                raise MapError(f"the place is a {type(place).__name__}, expected sdk.Place(name=…); make one of it")
            descriptors.append(self._describe(frame, colour, {}))
            places.append(place)
        return self.add_described(places, np.stack(descriptors)) if places else []

    def add_described(self, places: Sequence[Place], descriptors: npt.NDArray[np.float32]) -> list[Place]:
        """Add places that were described before with this model, in one transaction.

        Args:
            places: their `id` is ignored.
            descriptors: float32 (n, D), unit length, as `describe` returns them.

        Returns:
            The places with their ids.

        Raises:
            MapError: a descriptor does not fit, or the map cannot be changed.
        """
        with self._changing():
            pairs = self.map.add_many(places, descriptors)
            self.index.add(pairs)
        return [replace(place, id=place_id) for place, (place_id, _) in zip(places, pairs, strict=True)]

    def build(self, source: Source, *, progress: Progress | None = None) -> int:
        """Add everything that a source has, in transactions of a few hundred places.

        Args:
            source: see `sdk.open_source`.
            progress: told as (what, done, total).

        Returns:
            How many places were added.

        Raises:
            FrameError: a frame cannot be read or described; the message names it.
            MapError: the source's positions are of another geography than the map's.
        """
        self.map.require_geography(source.geography)
        total, done = source.num_frames or 0, 0
        places: list[Place] = []
        descriptors: list[npt.NDArray[np.float32]] = []
        for sighting in source:
            try:
                descriptors.append(self._describe(sighting.frame, "rgb", {}))
            except FrameError as error:
                raise FrameError(f"{sighting.info.image or sighting.info.label}: {error}") from None
            places.append(Place.from_frame(sighting.info))
            done += 1
            if len(places) == PLACES_A_TRANSACTION:
                self.add_described(places, np.stack(descriptors))
                places.clear()
                descriptors.clear()
            if progress is not None:
                progress("frames", done, max(total, done))
        if places:
            self.add_described(places, np.stack(descriptors))
        return done

    def remove(self, place_ids: int | Sequence[int]) -> None:
        """Remove places by id, durably: all of them or none.

        Raises:
            MapError: an id is not in the map, or the map cannot be changed.
        """
        one = isinstance(place_ids, (str, bytes)) or not isinstance(place_ids, Iterable)
        ids = list(dict.fromkeys(map(to_id, [place_ids] if one else place_ids)))  # type: ignore[arg-type]
        with self._changing():
            self.index.remove(self.map.remove(ids))

    def update(self, place: Place, frame: npt.NDArray[np.uint8] | None = None, *, colour: str | None = None) -> None:
        """Replace the place with `place.id`, durably; with a frame, its descriptor too.

        Raises:
            FrameError: the frame cannot be described.
            MapError: there is no such place, or the map cannot be changed.
        """
        descriptor = None if frame is None else self._describe(frame, colour, {})
        with self._changing():
            old, new = self.map.update(place, descriptor)
            if descriptor is not None:
                self.index.replace(old, new)

    # ---------------------------------------------------------------- closing

    def close(self) -> None:
        """Save the index, close the map and, if it was loaded here, the network. May be called twice."""
        with self._sync:
            if self._closed:
                return
            self._closed = True
            try:
                self.index.close()
            finally:
                self.map.close()
                if self._owns_backend:
                    self._backend.close()

    def __enter__(self) -> Localizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---------------------------------------------------------------- private

    def _describe(self, frame: Any, colour: str | None, timings: dict[str, float]) -> npt.NDArray[np.float32]:
        if self._closed:
            raise EngineError("the Localizer is closed, expected an open one; make a new one")
        with _timed(timings, "prepare"):
            batch = prepare(frame, self.contract.size, self._colour if colour is None else colour)
        with _timed(timings, "infer"):
            raw = self._backend.infer(batch)
        if raw.shape != (self.contract.descriptor_dim,) or raw.dtype != np.float32:
            raise EngineError(
                f"the network {self.contract.name!r} gave {raw.dtype} {raw.shape}, expected float32 "
                f"({self.contract.descriptor_dim},) by its contract; export it again"
            )
        with _timed(timings, "normalize"):
            try:
                return l2_normalize(raw)
            except ValueError as error:
                raise EngineError(
                    f"the network {self.contract.name!r} gave no usable descriptor ({error}); export it again and "
                    "verify it with `structvpr export onnx`"
                ) from None

    def _follow(self) -> None:
        """See what another process has written since the last look."""
        # While this process is itself adding, there is no other writer, and no reason to wait for the medium.
        if self._sync.acquire(blocking=False):
            try:
                self.map.changed()
                self.index.refresh(wait=False)
            finally:
                self._sync.release()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with self._sync:
            self.map.claim()
            self.map.changed()
            self.index.refresh()
            yield

    def _matches(self, ids: npt.NDArray[np.int64], similarities: npt.NDArray[np.float32]) -> list[Match]:
        similarity_of = dict(zip(ids.tolist(), similarities.tolist(), strict=True))
        # A place that was removed between the search and now is left out, not reported.
        return [
            Match(place, similarity_of[place.id]) for place in self.map.places(ids.tolist()) if place.id is not None
        ]


def is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    return is_whole(value) or isinstance(value, (float, np.floating))


@contextlib.contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timings[stage] = (time.perf_counter() - started) * 1e3
