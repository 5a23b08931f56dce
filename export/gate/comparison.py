"""How far two files of one network describe the same frames alike, and whether a robot would answer alike with them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sdk import Backend, ContractError, EngineError, FrameError, open_backend, prepare, read_image
from sdk._core import l2_normalize
from sdk.evaluation.recall import rank
from sdk.evaluation.sets import PlaceSet

from .paired_loss import PairedLoss

__all__ = ["Comparison", "MapFigures", "compare"]

Progress = Callable[[str, int, int], None]
Rows = npt.NDArray[np.float32]

RECALL_VALUES = (1, 5)


@dataclass(frozen=True)
class MapFigures:
    """What the candidate answers with one map, beside what the reference answers with a map of its own.

    Attributes:
        described_by: whose descriptors the map holds: "reference", as when the workstation built it, or "candidate",
            as when the robot did.
        top1_agreement: share of queries whose first answer is the reference's, in [0, 1].
        recall: of the candidate: "R@1" -> share in [0, 1]; None if no true places are known.
        loss: of R@1 against the reference; None likewise.
    """

    described_by: str
    top1_agreement: float
    recall: dict[str, float] | None
    loss: PairedLoss | None


@dataclass(frozen=True)
class Comparison:
    """Figures of a candidate beside a reference, on the same frames. Descriptors are of unit length.

    Attributes:
        reference: the file's name.
        candidate: the file's name.
        reference_precision: by its contract.
        candidate_precision: by its contract.
        frames: described by both, database and queries.
        unusable: of those, how many the candidate gives no direction for: all zero, or not finite.
        mean_cosine: over the queries that are usable, as all of the following; None if none is. The database is left
            out, as it may hold frames that were calibrated on.
        p1_cosine: the first percentile.
        min_cosine: the smallest.
        centred_cosine: the mean after the mean of the reference's queries was taken off both. All descriptors of a
            network share most of their length: one that says the same of every frame may have a cosine of 0.98, and has
            a centred one of about 0.
        max_abs_difference: the largest, of one value.
        queries: asked. Without a database, each against all the others.
        database: frames in the map.
        matched: queries that have a true place; 0 if none are known.
        right: what counts as a true place.
        reference_recall: as `MapFigures.recall`, of the reference with its own map.
        maps: figures with the reference's map, then with the candidate's own; empty if a descriptor was unusable.
        reference_ms: median time of one inference.
        candidate_ms: likewise, frame by frame in turn with the reference.
    """

    reference: str
    candidate: str
    reference_precision: str
    candidate_precision: str
    frames: int
    unusable: int
    mean_cosine: float | None
    p1_cosine: float | None
    min_cosine: float | None
    centred_cosine: float | None
    max_abs_difference: float | None
    queries: int
    database: int
    matched: int
    right: str
    reference_recall: dict[str, float] | None
    maps: tuple[MapFigures, ...]
    reference_ms: float
    candidate_ms: float

    def to_record(self) -> dict[str, Any]:
        """Plain values, as JSON has them. Losses are shares, with both limits."""
        record = asdict(self)
        record["maps"] = [
            {**asdict(figures), "loss": None if figures.loss is None else figures.loss.to_record()}
            for figures in self.maps
        ]
        return record


def compare(
    reference_path: str | Path, candidate_path: str | Path, frames: PlaceSet, progress: Progress | None = None
) -> Comparison:
    """Describe the same frames with both files, and compare.

    Args:
        reference_path: model.onnx or model.engine, as `sdk.open_backend` takes it.
        candidate_path: likewise.
        frames: what to describe.
        progress: told (what, done, total).

    Raises:
        ContractError: the files are not of one network, or carry no contract.
        EngineError: a file cannot be loaded or run, or the reference gives a descriptor without a direction.
        FrameError: a frame cannot be read.
    """
    reference = open_backend(reference_path)
    try:
        candidate = open_backend(candidate_path)
        try:
            _require_same_network(reference_path, reference, candidate_path, candidate)
            pair = _Pair(reference, candidate, Path(reference_path).name, progress or (lambda what, done, total: None))
            asked = pair.describe(frames.queries, "queries")
            known = None if frames.database is None else pair.describe(frames.database, "database")
        finally:
            candidate.close()
    finally:
        reference.close()
    ours, theirs = asked
    usable = theirs.any(axis=1)
    described = theirs if known is None else np.concatenate([theirs, known[1]])
    unusable = int((~described.any(axis=1)).sum())
    maps: tuple[MapFigures, ...] = ()
    recall = None
    if not unusable:
        recall, maps = _with_maps(asked, known, frames.positives)
    return Comparison(
        reference=Path(reference_path).name,
        candidate=Path(candidate_path).name,
        reference_precision=reference.contract.precision,
        candidate_precision=candidate.contract.precision,
        frames=len(described),
        unusable=unusable,
        **_cosines(ours[usable], theirs[usable], ours.mean(axis=0)),
        queries=len(frames.queries),
        database=len(frames.queries) - 1 if frames.database is None else len(frames.database),
        matched=sum(len(true) > 0 for true in frames.positives or ()),
        right=frames.right,
        reference_recall=recall,
        maps=maps,
        reference_ms=statistics.median(pair.times_ms[0]),
        candidate_ms=statistics.median(pair.times_ms[1]),
    )


def _require_same_network(reference_path: Any, reference: Backend, candidate_path: Any, candidate: Backend) -> None:
    ours, theirs = reference.contract, candidate.contract
    if ours.identity != theirs.identity:
        raise ContractError(
            f"{candidate_path} is of another network than {reference_path} ({theirs.name}, identity "
            f"{theirs.identity[:12]}…, and {ours.name}, {ours.identity[:12]}…), expected two files of the same weights "
            "and preprocessing; give the model that it was made from"
        )


class _Pair:
    """Two networks that look at the same frames in turn."""

    def __init__(self, reference: Backend, candidate: Backend, name: str, tell: Progress) -> None:
        self._backends = (reference, candidate)
        self._name = name
        self._tell = tell
        self.times_ms: tuple[list[float], list[float]] = ([], [])

    def describe(self, files: Sequence[Path], what: str) -> tuple[Rows, Rows]:
        """Unit descriptors by both, float32 (n, D) each; rows of zeros where the candidate gives no direction."""
        ours, theirs = [], []
        for done, path in enumerate(files, start=1):
            try:
                batch = prepare(read_image(path), self._backends[0].contract.size)
            except FrameError as error:
                sentence = str(error)
                raise FrameError(sentence if str(path) in sentence else f"{path}: {sentence}") from None
            raw = []
            for backend, times_ms in zip(self._backends, self.times_ms, strict=True):
                started = time.perf_counter()
                raw.append(backend.infer(batch)["raw_descriptor"])
                times_ms.append((time.perf_counter() - started) * 1e3)
            try:
                ours.append(l2_normalize(raw[0]))
            except ValueError:
                raise EngineError(
                    f"{self._name}: describes {path} by zeros or by numbers that are not finite, expected a reference "
                    "that works; export it again"
                ) from None
            try:
                theirs.append(l2_normalize(raw[1]))
            except ValueError:
                theirs.append(np.zeros_like(raw[1]))
            self._tell(what, done, len(files))
        return np.stack(ours), np.stack(theirs)


def _cosines(ours: Rows, theirs: Rows, middle: Rows) -> dict[str, float | None]:
    names = ("mean_cosine", "p1_cosine", "min_cosine", "centred_cosine", "max_abs_difference")
    if len(ours) == 0:
        return dict.fromkeys(names)
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    cosines = (a * b).sum(axis=1)
    differences = np.abs(a - b).max()
    a, b = a - middle, b - middle
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    centred = np.divide((a * b).sum(axis=1), lengths, out=np.zeros(len(a)), where=lengths > 0)
    figures = (cosines.mean(), np.percentile(cosines, 1), cosines.min(), centred.mean(), differences)
    return {name: float(figure) for name, figure in zip(names, figures, strict=True)}


def _with_maps(
    asked: tuple[Rows, Rows], known: tuple[Rows, Rows] | None, positives: Sequence[npt.NDArray[np.int64]] | None
) -> tuple[dict[str, float] | None, tuple[MapFigures, ...]]:
    """The reference's recall, and the figures of the candidate with each map."""
    first = _answers(asked[0], None if known is None else known[0], asked[0])
    right = None if positives is None else _hits(first, positives)
    figures = []
    for i, described_by in enumerate(("reference", "candidate")):
        found = _answers(asked[1], None if known is None else known[i], asked[i])
        hits = None if positives is None else _hits(found, positives)
        loss = None
        if hits is not None and right is not None and len(hits["R@1"]):
            lost, gained = right["R@1"] & ~hits["R@1"], hits["R@1"] & ~right["R@1"]
            loss = PairedLoss(len(lost), int(lost.sum()), int(gained.sum()))
        agreement = float((found[:, 0] == first[:, 0]).mean())
        figures.append(MapFigures(described_by, agreement, _shares(hits), loss))
    return _shares(right), tuple(figures)


def _answers(queries: Rows, database: Rows | None, others: Rows) -> npt.NDArray[np.int64]:
    """Database indices, best first, int64 (n, k); without a database, of the other queries."""
    most = max(RECALL_VALUES)
    if database is not None:
        return rank(queries, database, most)
    found = rank(queries, others, most + 1)
    return np.stack([row[row != i][: len(row) - 1] for i, row in enumerate(found)])


def _hits(
    answers: npt.NDArray[np.int64], positives: Sequence[npt.NDArray[np.int64]]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Of each query that has a true place, whether one is among its first K."""
    matched = [(row, true) for row, true in zip(answers, positives, strict=True) if len(true)]
    return {
        f"R@{k}": np.array([np.isin(row[:k], true).any() for row, true in matched], dtype=np.bool_)
        for k in RECALL_VALUES
    }


def _shares(hits: dict[str, npt.NDArray[np.bool_]] | None) -> dict[str, float] | None:
    if hits is None or len(hits["R@1"]) == 0:
        return None
    return {name: float(hit.mean()) for name, hit in hits.items()}
