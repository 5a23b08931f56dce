"""Training material: data sets with their frames and label maps, opened by name."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdk import DataError
from sdk.arrays import Floats
from sdk.progress import Progress

from ..datasets import TrainingSet, find_label_maps, has_own_split, join_sets, open_training_set, parse_data
from ..labels.segmentation import confidence_of
from ..processes import Processes
from .image_store import FrameStore, LabelStore

__all__ = ["Material", "NamedSets", "open_material"]

LABELS_FILE = "labels.json"  # in a folder of label maps, names their label set
CONFIDENCE = ".confidence.png"


@dataclass(frozen=True)
class NamedSets:
    """Names of data sets, as the user gives them.

    Attributes:
        sets: KIND:FOLDER each, see `training.datasets.open_training_set`.
        labels: folder of label maps of each set, in their order; () for none. Sets of our renderer include theirs.
    """

    sets: Sequence[str]
    labels: Sequence[Path] = ()

    def splits(self, split: str) -> list[str]:
        """The split to read of each set: `split`, or "all" for a set without its own splits."""
        return [split if has_own_split(one) else "all" for one in self.sets]


@dataclass(frozen=True)
class Material:
    """A set with its frames and, for the segmentation branch, its label maps.

    Attributes:
        data: which images show the same place.
        frames: by image number.
        labels: label maps by image number.
        confidence: float32 (N,), mean confidence of each label map, [0, 1].
    """

    data: TrainingSet
    frames: FrameStore
    labels: LabelStore | None = None
    confidence: Floats | None = None

    def label_store(self) -> LabelStore:
        """The label maps. Raises DataError if there are none."""
        if self.labels is None:
            raise DataError(f"{self.data.name}: there are no label maps; make them with `structvpr train labels`")
        return self.labels

    @functools.cached_property
    def digest(self) -> str:
        """sha256, in hex, of the set's images, queries, regions and positive pairs.

        It covers only the last three parts of each image's path, so a set may be moved. It does not cover pixels.
        """
        return self._digest(["/".join(path.parts[-3:]) for path in self.data.images])

    @functools.cached_property
    def labels_digest(self) -> str:
        """Like `digest`, with the label map of each image."""
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
    named: NamedSets,
    splits: Sequence[str],
    height: int,
    width: int,
    *,
    with_confidence: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
    processes: Processes | None = None,
) -> Material:
    """Open data sets and join them.

    Args:
        named: one or more sets, and their label maps.
        splits: one per set, in their order.
        height, width: of the network's input, px.
        with_confidence: also read the confidence of each label map.
        cache: folder for prepared images; None decodes on every read.
        progress: called while images are prepared.
        processes: that open the same sets. The first fills the cache; the others wait.

    Raises:
        DataError: a set cannot be read, label maps are missing, or their label sets differ.
    """
    sets, labels = named.sets, named.labels
    if processes is not None and not processes.is_first:
        processes.wait()
    opened = [open_training_set(one, split) for one, split in zip(sets, splits, strict=True)]
    data = opened[0] if len(opened) == 1 else join_sets(opened)
    frames = FrameStore(data.images, height, width, cache=cache, progress=progress)
    folders = [*labels] or [folder for folder in map(_own_labels, sets) if folder is not None]
    if folders and len(folders) != len(sets):
        raise DataError(
            f"{len(sets)} data sets and {len(folders)} folders of label maps found; name one folder per set, in order"
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
    progress: Progress | None,
) -> tuple[LabelStore, Floats | None]:
    maps = [path for one, folder in zip(opened, folders, strict=True) for path in find_label_maps(one, None, folder)]
    kinds = {_label_set_of(folder) for folder in folders}
    if len(kinds) > 1:
        raise DataError(
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
        raise DataError(
            f'{path}: does not name the label set, expected {{"label_set": "cityscapes19"}} or another; write it, or '
            "make the maps with `structvpr train labels`"
        ) from None
