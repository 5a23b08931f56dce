"""The descriptors to search: three synthetic kinds, and a network's.

    traj    a drive through a city, repeated under moderate change: few directions matter, so search is easy
    trajh   the same under harsh change: the nearest are barely nearer than the rest, so search is hard
    gauss   isotropic clusters of 50, without a road

Each set is cached as a folder `KIND-PLACES-DIM-QUERIES-SEED` of .npy files, little-endian, C order, unit rows:

    base.npy         float32 (places, dim), the map; the id of a place is its row, and neighbours in a row are 1 m apart
    tune.npy         float32 (queries, dim), one traverse in runs of 100 frames: parameters are chosen on it
    time.npy         float32 (queries, dim), another traverse, other runs, other light: times are measured on it
    tune_truth.npy   int64 (queries, 100), ids of the nearest by float32 scalar product, most similar first
    time_truth.npy   the same for time.npy
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

RUN_FRAMES = 100
TRUTHS = 100
PARTS = ("base", "tune", "time", "tune_truth", "time_truth")
STALE_RUNS, PIECE_FRAMES = 5, 10  # of a paused cursor: 500 frames, then so many queries
BLOCK = 20_000  # rows made or compared at a time


@dataclass(frozen=True)
class Conditions:
    """Change that is not the place: drifting factors (light, weather, leaves) and noise."""

    factors: int
    drift_frames: float
    strength: float
    map_noise: float
    query_noise: float


KINDS = {"traj": Conditions(12, 40, 0.5, 0.30, 0.45), "trajh": Conditions(48, 2, 1.1, 0.5, 0.7), "gauss": None}


@dataclass(frozen=True)
class DataSet:
    name: str
    base: Rows
    tune: Rows
    time: Rows
    tune_truth: Ids
    time_truth: Ids
    in_frame_order: bool

    @property
    def dim(self) -> int:
        return int(self.base.shape[1])


def unit(rows: Rows) -> Rows:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-30
    return rows


def low_pass(series: npt.NDArray[np.float64], frames: float) -> npt.NDArray[np.float64]:
    """Each column circularly convolved with a Gaussian of `frames` standard deviation."""
    frequency = np.fft.rfftfreq(len(series))[:, None]
    spectrum = np.fft.rfft(series, axis=0) * np.exp(-2 * (np.pi * frequency * frames) ** 2)
    return np.fft.irfft(spectrum, len(series), axis=0)


class City:
    """Roads, and the descriptor of a camera at a pose under given factors.

    Random cosines with length scales of 6 to 60 m map a pose, so neighbours resemble each other. Two random layers then
    spread pose and factors over the dimensions of the descriptor.
    """

    def __init__(self, places: int, dim: int, conditions: Conditions, rng: np.random.Generator) -> None:
        waves, hidden = 96, 384
        self.conditions, self.dim = conditions, dim
        metres = np.exp(rng.uniform(np.log(6), np.log(60), (waves, 1)))
        self.over_position = (rng.standard_normal((waves, 2)) / metres).astype(np.float32).T
        self.over_heading = rng.standard_normal((2, waves)).astype(np.float32) * np.float32(0.5)
        self.phase = rng.uniform(0, 2 * np.pi, waves).astype(np.float32)
        self.first = rng.standard_normal((waves + conditions.factors, hidden), dtype=np.float32)
        self.first *= np.float32(1.8 / np.sqrt(waves))
        self.second = rng.standard_normal((hidden, dim), dtype=np.float32)

        side_m = np.sqrt(40.0 * places)  # one place per 40 m2
        self.road_frames = min(places, 5000 if places >= 50_000 else 1000)
        roads = -(-places // self.road_frames)
        turn = low_pass(rng.standard_normal((self.road_frames, roads)), 15) * 0.25
        heading = np.cumsum(turn, axis=0) + rng.uniform(0, 2 * np.pi, roads)
        steps = np.stack([np.cos(heading), np.sin(heading)], axis=-1)  # (frames, roads, 2), 1 m each
        position = (np.cumsum(steps, axis=0) + rng.uniform(0, side_m, (roads, 2))) % side_m
        self.heading = heading.T.reshape(-1)[:places].astype(np.float32)
        self.position = position.transpose(1, 0, 2).reshape(-1, 2)[:places].astype(np.float32)

    def drift(self, frames: int, mean: npt.ArrayLike, rng: np.random.Generator) -> Rows:
        """The factors along a traverse, float32 (frames, factors)."""
        drift = low_pass(rng.standard_normal((frames, self.conditions.factors)), self.conditions.drift_frames)
        return (drift / drift.std(axis=0) * self.conditions.strength + mean).astype(np.float32)

    def describe(self, position: Rows, heading: Rows, factors: Rows, noise: float, rng: np.random.Generator) -> Rows:
        rows = np.empty((len(position), self.dim), np.float32)
        for first in range(0, len(rows), BLOCK):
            part = slice(first, first + BLOCK)
            facing = np.stack([np.sin(heading[part]), np.cos(heading[part])], axis=1) @ self.over_heading
            seen = np.sqrt(np.float32(2)) * np.cos(position[part] @ self.over_position + facing + self.phase)
            block = unit(np.tanh(np.concatenate([seen, factors[part]], axis=1) @ self.first) @ self.second)
            block += rng.standard_normal(block.shape, dtype=np.float32) * np.float32(noise / np.sqrt(self.dim))
            rows[part] = unit(block)
        return rows

    def map_rows(self, rng: np.random.Generator) -> Rows:
        factors = self.drift(len(self.heading), 0.0, rng)
        return self.describe(self.position, self.heading, factors, self.conditions.map_noise, rng)

    def traverse(self, frames: int, rng: np.random.Generator) -> Rows:
        """Runs of frames on the map's roads, 1.5 m and 0.08 rad off its poses, under other conditions."""
        last = max(1, min(self.road_frames, len(self.heading)) - RUN_FRAMES)
        roads = max(1, len(self.heading) // self.road_frames)
        runs = frames // RUN_FRAMES
        starts = rng.integers(roads, size=runs) * self.road_frames + rng.integers(last, size=runs)
        near = (starts[:, None] + np.arange(RUN_FRAMES)).reshape(-1)
        position = self.position[near] + rng.normal(0, 1.5, (len(near), 2)).astype(np.float32)
        heading = self.heading[near] + rng.normal(0, 0.08, len(near)).astype(np.float32)
        factors = self.drift(len(near), rng.normal(0, 0.35, self.conditions.factors), rng)
        return self.describe(position, heading, factors, self.conditions.query_noise, rng)


def clusters(places: int, dim: int, queries: int, rng: np.random.Generator) -> tuple[Rows, Rows, Rows]:
    centres = rng.standard_normal((max(20, places // 50), dim), dtype=np.float32) / np.float32(np.sqrt(dim))

    def around(count: int) -> Rows:
        rows = centres[rng.integers(len(centres), size=count)]
        for first in range(0, count, BLOCK):
            part = rows[first : first + BLOCK]
            part += rng.standard_normal(part.shape, dtype=np.float32) * np.float32(0.6 / np.sqrt(dim))
        return unit(rows)

    return around(places), around(queries), around(queries)


def nearest(base: Rows, queries: Rows, count: int = TRUTHS) -> tuple[Ids, Rows]:
    """Ids and similarities of the nearest by float32 scalar product, most similar first, ties by id."""
    ids = np.empty((len(queries), 0), np.int64)
    similarities = np.empty((len(queries), 0), np.float32)
    for first in range(0, len(base), BLOCK):
        block = queries @ base[first : first + BLOCK].T  # (queries, BLOCK)
        keep = min(count, block.shape[1])
        best = np.argpartition(-block, keep - 1, axis=1)[:, :keep]
        ids = np.concatenate([ids, best + first], axis=1)
        similarities = np.concatenate([similarities, np.take_along_axis(block, best, axis=1)], axis=1)
        order = np.lexsort((ids, -similarities), axis=1)[:, :count]
        ids = np.take_along_axis(ids, order, axis=1)
        similarities = np.take_along_axis(similarities, order, axis=1)
    return ids, similarities


def make(kind: str, places: int, dim: int, queries: int, seed: int) -> dict[str, npt.NDArray[np.generic]]:
    rng, tune_rng, time_rng = (np.random.default_rng((seed, part)) for part in range(3))
    conditions = KINDS[kind]
    if conditions is None:
        base, tune, time = clusters(places, dim, queries, rng)
    else:
        city = City(places, dim, conditions, rng)
        base, tune, time = city.map_rows(rng), city.traverse(queries, tune_rng), city.traverse(queries, time_rng)
    truths = {f"{name}_truth": nearest(base, rows)[0] for name, rows in (("tune", tune), ("time", time))}
    return {"base": base, "tune": tune, "time": time, **truths}


def folder_of(cache: Path, kind: str, places: int, dim: int, queries: int, seed: int) -> Path:
    return cache / f"{kind}-{places}-{dim}-{queries}-{seed}"


def open_set(cache: Path, kind: str, places: int, dim: int, queries: int, seed: int) -> DataSet:
    """A synthetic set, made if the cache lacks it. A folder in the cache is always complete."""
    folder = folder_of(cache, kind, places, dim, queries, seed)
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=cache))
        try:
            for name, values in make(kind, places, dim, queries, seed).items():
                np.save(making / f"{name}.npy", values)
            making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    parts = {name: np.load(folder / f"{name}.npy") for name in PARTS}
    return DataSet(f"{kind} {places:,} x {dim}", **parts, in_frame_order=KINDS[kind] is not None)


def broken_orders(queries: int, rng: np.random.Generator) -> dict[str, tuple[Ids, Ids]]:
    """Frame orders in which the robot is moved elsewhere, and the answers of each that count."""
    runs = np.arange(queries - queries % RUN_FRAMES).reshape(-1, RUN_FRAMES)
    orders = {}
    for every in (7, 20, 50):
        # A piece of each run in turn. The runs have a new random order each time, never the same run twice in a row.
        pieces, last = [], -1
        for first in range(0, RUN_FRAMES, every):
            drawn = rng.permutation(len(runs))
            if drawn[0] == last:
                drawn = np.roll(drawn, 1)
            last = int(drawn[-1])
            pieces += [runs[run, first : first + every] for run in drawn]
        order = np.concatenate(pieces)
        orders[f"elsewhere every {every}th frame"] = (order, np.arange(len(order)))
    pairs = [np.concatenate([runs[i - 1], runs[i], runs[i - 1]]) for i in range(len(runs))]
    order = np.concatenate(pairs)
    orders["back to the run before"] = (order, np.arange(len(order)))
    pieces, counted, at = [], [], 0
    for first in range(0, RUN_FRAMES - PIECE_FRAMES, PIECE_FRAMES):
        for run in range(len(runs)):
            other = (run + min(STALE_RUNS, len(runs) - 1)) % len(runs)
            pieces += [runs[run, first : first + PIECE_FRAMES], runs[other, first : first + PIECE_FRAMES]]
            counted.append(np.arange(at + PIECE_FRAMES, at + 2 * PIECE_FRAMES))
            at += 2 * PIECE_FRAMES
    orders["stale, another route 500 frames on"] = (np.concatenate(pieces), np.concatenate(counted))
    return orders


def with_truth(name: str, base: Rows, tune: Rows, time: Rows) -> DataSet:
    base, tune, time = (unit(np.array(rows, np.float32, order="C")) for rows in (base, tune, time))
    return DataSet(name, base, tune, time, nearest(base, tune)[0], nearest(base, time)[0], in_frame_order=True)


def halves(queries: Rows) -> tuple[Rows, Rows]:
    """Alternate runs of 10 frames, so both halves cover the route and share few neighbouring frames."""
    run = np.arange(len(queries)) // 10 % 2
    return queries[run == 0], queries[run == 1]


def read_real(file: Path) -> DataSet:
    """Descriptors from a file: .npz with `base` and `queries` (or `tune` and `time`), or .npy, every tenth a query."""
    loaded = np.load(file)
    if isinstance(loaded, np.ndarray):
        asked = np.arange(len(loaded)) % 10 == 9
        base, (tune, time) = loaded[~asked], halves(loaded[asked])
    else:
        base = loaded["base"]
        tune, time = (loaded["tune"], loaded["time"]) if "tune" in loaded else halves(loaded["queries"])
    return with_truth(f"{file.stem} {len(base):,} x {base.shape[1]}", base, tune, time)


def describe_real(model: Path, database: Path, queries: Sequence[Path]) -> DataSet:
    """A network's descriptors of photographs. Of two query folders, the first tunes and the second is timed."""
    import sdk
    from sdk._core import l2_normalize

    backend = sdk.open_backend(model)

    def describe(folder: Path) -> Rows:
        rows = []
        for sighting in sdk.open_source(folder, positions=False):
            rows.append(l2_normalize(backend.infer(sdk.prepare(sighting.frame, backend.contract.size))))
        return np.stack(rows)

    try:
        base, *asked = [describe(folder) for folder in (database, *queries)]
    finally:
        backend.close()
    tune, time = asked if len(asked) == 2 else halves(np.concatenate(asked))
    return with_truth(f"{database.parent.name} {len(base):,} x {base.shape[1]}", base, tune, time)
