"""Compares two files of one network on the same frames: their descriptors, and the answers found with them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sdk import Backend, ContractError, EngineError, FrameError, ModelContract, open_backend, prepare, read_image
from sdk._core import l2_normalize
from sdk.evaluation.recall import rank
from sdk.evaluation.sets import PlaceSet

from ..progress import Progress
from .paired_loss import PairedLoss

__all__ = ["Comparison", "MapFigures", "compare", "require_same_network"]

Rows = npt.NDArray[np.float32]

RECALL_VALUES = (1, 5)


@dataclass(frozen=True)
class MapFigures:
    """The candidate's answers with one map, compared with the reference's answers in its own map.

    Attributes:
        described_by: whose descriptors the map holds: "reference" (built on the workstation) or "candidate" (built on
            the robot).
        top1_agreement: share of queries with the reference's first answer, in [0, 1].
        recall: of the candidate: "R@1" -> share in [0, 1]; None if no true places are known.
        loss: of R@1 against the reference; None if no true places are known.
    """

    described_by: str
    top1_agreement: float
    recall: dict[str, float] | None
    loss: PairedLoss | None


@dataclass(frozen=True)
class Comparison:
    """Figures of a candidate and a reference on the same frames. Descriptors have unit length.

    Attributes:
        reference: the file's name.
        candidate: the file's name.
        reference_precision: by its contract.
        candidate_precision: by its contract.
        frames: frames described by both, database and queries.
        unusable: frames that the candidate describes by zeros or by values that are not finite.
        mean_cosine: mean over the usable queries; None if there are none. The database is left out, because the
            candidate may be calibrated on it.
        p1_cosine: first percentile, likewise.
        min_cosine: smallest, likewise.
        centred_cosine: mean, likewise, after the mean descriptor of the reference's queries is subtracted from both.
            The descriptors of a network share a large common part: a file that gives one descriptor for every frame
            can have a cosine of 0.98, but its centred cosine is about 0.
        max_abs_difference: largest difference of one element, likewise.
        queries: number of queries. Without a database, each is searched among all the others.
        database: number of frames in the map.
        matched: queries that have a true place; 0 if none are known.
        right: what counts as a true place.
        reference_recall: as `MapFigures.recall`, of the reference with its own map.
        maps: figures with the reference's map, then with the candidate's; empty if a descriptor is unusable.
        reference_ms: median time of an inference.
        candidate_ms: likewise. The two files take turns, frame by frame.
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
        """The figures as plain values. Losses are shares, with both limits."""
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
        reference_path: model.onnx or model.engine, for `sdk.open_backend`.
        candidate_path: likewise.
        frames: to describe.
        progress: see `Progress`.

    Raises:
        ContractError: a file has no contract, or the files are of different networks.
        EngineError: a file cannot be loaded or run, or the reference's descriptor is zero or not finite.
        FrameError: a frame cannot be read.
    """
    with closing(open_backend(reference_path)) as reference, closing(open_backend(candidate_path)) as candidate:
        require_same_network(reference_path, reference.contract, candidate_path, candidate.contract)
        pair = _Pair(reference, candidate, Path(reference_path).name, progress or (lambda what, done, total: None))
        asked = pair.describe(frames.queries, "queries")
        known = None if frames.database is None else pair.describe(frames.database, "database")
    ours, theirs = asked
    usable = theirs.any(axis=1)
    described = theirs if known is None else np.concatenate([theirs, known[1]])
    unusable = int((~described.any(axis=1)).sum())
    recall, maps = (None, ()) if unusable else _with_maps(asked, known, frames.positives)
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


def require_same_network(
    path: str | Path, contract: ModelContract, other_path: str | Path, other: ModelContract
) -> None:
    """Raise ContractError, about `other_path`, if two contracts have different identities."""
    if contract.identity != other.identity:
        raise ContractError(
            f"{other_path}: is of another network than {path} ({other.name}, identity {other.identity[:12]}…, and "
            f"{contract.name}, {contract.identity[:12]}…); give two files with the same weights and preprocessing"
        )


def _infer(backend: Backend, batch: npt.NDArray[np.uint8]) -> Rows:
    """The raw descriptor of a prepared frame, float32 (D,)."""
    return backend.infer(batch)["raw_descriptor"]


class _Pair:
    """Two networks that describe the same frames in turn."""

    def __init__(self, reference: Backend, candidate: Backend, name: str, tell: Progress) -> None:
        self._backends = (reference, candidate)
        self._name = name
        self._tell = tell
        self.times_ms: tuple[list[float], list[float]] = ([], [])

    def describe(self, files: Sequence[Path], what: str) -> tuple[Rows, Rows]:
        """Unit descriptors by both, float32 (n, D) each; a row of zeros where the candidate's is unusable."""
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
                raw.append(_infer(backend, batch))
                times_ms.append((time.perf_counter() - started) * 1e3)
            try:
                ours.append(l2_normalize(raw[0]))
            except ValueError:
                raise EngineError(
                    f"{self._name}: describes {path} by zeros or by numbers that are not finite; export the reference "
                    "again"
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
    """The reference's recall, and the candidate's figures with each map."""
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
    """Database indices, best first, int64 (n, k); without a database, indices of the other queries."""
    most = max(RECALL_VALUES)
    if database is not None:
        return rank(queries, database, most)
    found = rank(queries, others, most + 1)
    return np.stack([row[row != i][: len(row) - 1] for i, row in enumerate(found)])


def _hits(
    answers: npt.NDArray[np.int64], positives: Sequence[npt.NDArray[np.int64]]
) -> dict[str, npt.NDArray[np.bool_]]:
    """For each query with a true place: whether one is among its first K answers."""
    matched = [(row, true) for row, true in zip(answers, positives, strict=True) if len(true)]
    return {
        f"R@{k}": np.array([np.isin(row[:k], true).any() for row, true in matched], dtype=np.bool_)
        for k in RECALL_VALUES
    }


def _shares(hits: dict[str, npt.NDArray[np.bool_]] | None) -> dict[str, float] | None:
    if hits is None or len(hits["R@1"]) == 0:
        return None
    return {name: float(hit.mean()) for name, hit in hits.items()}
