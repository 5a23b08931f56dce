"""The label map of each image: a second tree of folders beside the images' own."""

from __future__ import annotations

from pathlib import Path

from sdk import DataError
from sdk.frames.folder import find_missing

from .training_set import TrainingSet

__all__ = ["find_label_maps"]


def find_label_maps(training_set: TrainingSet, image_root: Path | None, labels_folder: Path) -> tuple[Path, ...]:
    """The label map of every image of a set: its path below `image_root`, ending in .png, below `labels_folder`.

    Args:
        training_set: whose images.
        image_root: folder whose tree the label maps have too; None for the set's own root.
        labels_folder: folder of the label maps.

    Returns:
        One file for each image, in the order of `images`. The files are not opened.

    Raises:
        DataError: label maps are missing, an image lies outside of `image_root`, or two images would share one map.
    """
    root = image_root or training_set.root
    if root is None:
        raise DataError(
            f"{training_set.name}: is made of several folders, whose label maps have a tree each; find the label maps "
            "of each set before joining the sets"
        )
    try:
        maps = tuple((labels_folder / _below(root, image)).with_suffix(".png") for image in training_set.images)
    except ValueError as error:
        raise DataError(
            f"{training_set.name}: {error}, whose tree the label maps have; name a folder that holds all images"
        ) from None
    if missing := find_missing(maps):
        raise DataError(
            f"{training_set.name}: {len(missing)} of {len(maps)} label maps are missing, the first is {missing[0]}; "
            "make them with structvpr train labels"
        )
    if len(set(maps)) < len(set(training_set.images)):
        by_map: dict[Path, Path] = {}
        one, other = next(
            (by_map[label], image)
            for label, image in zip(maps, training_set.images, strict=True)
            if by_map.setdefault(label, image) != image
        )
        raise DataError(f"{training_set.name}: {one} and {other} would share one label map; rename one of them")
    return maps


def _below(root: Path, image: Path) -> Path:
    """An image's path below a folder. Raises ValueError if the image lies elsewhere, also by way of ".."."""
    if image.is_relative_to(root) and ".." not in (below := image.relative_to(root)).parts:
        return below
    if image.resolve().is_relative_to(root.resolve()):
        return image.resolve().relative_to(root.resolve())
    raise ValueError(f"{image} lies outside of {root}")
