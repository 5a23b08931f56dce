"""What branches learn from: a set with its frames and its label maps, found from what a user types."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sdk import MapError

from ..datasets import TrainingSet, find_label_maps, join_sets, open_training_set, parse_data
from ..labels.segmentation import confidence_of
from ..processes import Processes
from .image_store import FrameStore, LabelStore

__all__ = ["Material", "open_material"]

LABELS_FILE = "labels.json"  # beside label maps: says whose ids they hold
CONFIDENCE = ".confidence.png"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Material:
    """A set with its images and, where the segmentation branch is to see it, its label maps.

    Attributes:
        data: which images show the same place.
        frames: its images, by number.
        labels: its label maps, by number.
        confidence: float32 (N,), mean confidence of each label map, [0, 1].
    """

    data: TrainingSet
    frames: FrameStore
    labels: LabelStore | None = None
    confidence: Floats | None = None

    def label_store(self) -> LabelStore:
        """The label maps.

        Raises:
            MapError: there are none.
        """
        if self.labels is None:
            raise MapError(
                f"{self.data.name}: no label maps found, expected one an image for the segmentation branch; make them "
                "with `structvpr train labels`"
            )
        return self.labels

    @functools.cached_property
    def digest(self) -> str:
        """A sha256 of what the set asks and knows, and which images it is made of: hex digits.

        The folders far above do not count, so that a set may move; nor do pixels.
        """
        return self._digest(["/".join(path.parts[-3:]) for path in self.data.images])

    @functools.cached_property
    def labels_digest(self) -> str:
        """The same, and which label map each image has."""
        maps = [str(path) for path in self.label_store().given_maps]
        return self._digest(["/".join(path.parts[-3:]) for path in self.data.images] + maps)

    def _digest(self, names: list[str]) -> str:
        data, known = self.data, hashlib.sha256()
        for name in names:
            known.update(name.encode("utf-8", "surrogateescape") + b"\0")
        counts = [np.array([len(rows) for rows in lists], np.int64) for lists in (data.positives, data.near)]
        for column in (data.queries, data.database, data.region, *counts, *data.positives, *data.near):
            known.update(np.ascontiguousarray(column).data)
        return known.hexdigest()


def open_material(
    sets: Sequence[str],
    splits: Sequence[str],
    height: int,
    width: int,
    *,
    labels: Sequence[Path] = (),
    with_confidence: bool = False,
    cache: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    processes: Processes | None = None,
) -> Material:
    """Read data sets and join them.

    Args:
        sets: one or more, KIND:FOLDER, see `training.datasets.open_training_set`.
        splits: one for each set, in their order.
        height, width: of the network's input, px.
        labels: the folder of label maps of each set, in their order; () for none. Where a set of our renderer brings
            its own, it need not be named.
        with_confidence: also read the confidence of each label map.
        cache: folder for prepared images; None decodes them each time.
        progress: told (what, done, total).
        processes: those that open the same set; the first one fills the cache and the others wait.

    Raises:
        MapError: a set cannot be read, label maps are missing, or sets have label maps of different label sets.
    """
    if processes is not None and not processes.is_first:
        processes.wait()
    opened = [open_training_set(one, split) for one, split in zip(sets, splits, strict=True)]
    data = opened[0] if len(opened) == 1 else join_sets(opened)
    frames = FrameStore(data.images, height, width, cache=cache, progress=progress)
    folders = [*labels] or [folder for folder in map(_own_labels, sets) if folder is not None]
    if folders and len(folders) != len(sets):
        raise MapError(
            f"{len(sets)} data sets and {len(folders)} folders of label maps found, expected one each; "
            "name them in the same order"
        )
    store, confidence = None, None
    if folders:
        store, confidence = _open_labels(opened, folders, height, width, with_confidence, cache, progress)
    if processes is not None and processes.is_first:
        processes.wait()
    return Material(data, frames, store, confidence)


def _open_labels(
    opened: Sequence[TrainingSet],
    folders: Sequence[Path],
    height: int,
    width: int,
    with_confidence: bool,
    cache: Path | None,
    progress: Callable[[str, int, int], None] | None,
) -> tuple[LabelStore, Floats | None]:
    maps = [path for one, folder in zip(opened, folders, strict=True) for path in find_label_maps(one, None, folder)]
    kinds = {_label_set_of(folder) for folder in folders}
    if len(kinds) > 1:
        raise MapError(
            f"label maps of {' and '.join(sorted(kinds))} found, expected one label set; make them with one network"
        )
    store = LabelStore(maps, kinds.pop(), height, width, cache=cache, progress=progress)
    confidence = None
    if with_confidence:
        confidence = np.empty(len(maps), np.float32)
        for i, path in enumerate(maps):
            confidence[i] = confidence_of(path.with_suffix(CONFIDENCE))
            if progress is not None:
                progress("confidences", i + 1, len(maps))
    return store, confidence


def _own_labels(data: str) -> Path | None:
    kind, folder, _ = parse_data(data)
    return folder / "labels" if kind == "world" else None


def _label_set_of(folder: Path) -> str:
    path = folder / LABELS_FILE
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["label_set"])
    except (OSError, ValueError, KeyError, TypeError):
        raise MapError(
            f'{path}: does not say whose ids the label maps hold, expected {{"label_set": "cityscapes19"}} or another; '
            "write it, or make the maps with `structvpr train labels`"
        ) from None
