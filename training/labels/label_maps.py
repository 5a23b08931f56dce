"""Write the label maps of a data set with a segmentation network, once, before training.

    IMAGES/a/0001.jpg  ->  OUTPUT/a/0001.png              palette PNG, the ids of a label set
                           OUTPUT/a/0001.confidence.png   grey PNG, 0 to 255 for 0 to 1, if the network gives it
                           OUTPUT/labels.json             the network and its settings

Files are written atomically, the confidence before its map. So an existing map is complete.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from sdk import DataError, FrameError, read_image
from sdk.atomic_file import replace_when_done, writing
from sdk.frames.folder import list_images
from sdk.progress import StepProgress

from ..json_files import write_json
from .label_png import encode_palette_png, palette_of
from .segmentation_network import SegmentationNetwork

__all__ = ["LABELS_JSON", "LabelReport", "confidence_path", "label_images", "label_map_path"]

LABELS_JSON = "labels.json"
SCHEMA = 1


@dataclass(frozen=True)
class LabelReport:
    """Result of `label_images`.

    Attributes:
        made: label maps written in this run.
        kept: label maps that already existed.
        failed: one error message for each image without a label map.
        mean_confidence: of the maps written in this run, [0, 1]; None without confidence or without maps.
    """

    made: int
    kept: int
    failed: tuple[str, ...]
    mean_confidence: float | None


def label_map_path(output_folder: Path, image: Path) -> Path:
    """Path of an image's label map; `image` is relative to the folder of images."""
    return output_folder / image.with_suffix(".png")


def confidence_path(output_folder: Path, image: Path) -> Path:
    """Path of the confidence of an image's label map."""
    return output_folder / image.with_suffix(".confidence.png")


def label_images(
    images_folder: Path, output_folder: Path, network: SegmentationNetwork, progress: StepProgress | None = None
) -> LabelReport:
    """Write a label map for every image below a folder, or continue an interrupted run.

    The report names images that cannot be decoded.

    Args:
        images_folder: searched with all its subfolders.
        output_folder: created if missing; empty, or from a run with the same network and settings.
        network: labels the images.
        progress: called after each image with the number done and the total.

    Raises:
        DataError: there are no images, two images would share a label map, or `output_folder` holds something else.
        EngineError: the network failed.
        WriteError: a file cannot be written.
    """
    images = plan(images_folder, output_folder)
    settings = {"schema": SCHEMA, **network.settings}
    claim(output_folder, settings)
    palette = palette_of(network.label_set)
    made, kept, failed, confidences = 0, 0, list[str](), list[float]()
    for done, image in enumerate(images, start=1):
        target = label_map_path(output_folder, image)
        if target.exists():
            kept += 1
        else:
            try:
                frame = read_image(images_folder / image)
            except FrameError as error:
                failed.append(str(error))
            else:
                found = network.segment(frame)
                with writing(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                if found.confidence is not None:
                    confidences.append(float(found.confidence.mean()) / 255.0)
                    _, encoded = cv2.imencode(".png", found.confidence)
                    write(confidence_path(output_folder, image), encoded.tobytes())
                write(target, encode_palette_png(found.labels, palette))
                made += 1
        if progress is not None:
            progress(done, len(images))
    record = {**settings, "images": len(images), "without_label_map": failed}
    write_json(output_folder / LABELS_JSON, record, indent=2)
    mean = sum(confidences) / len(confidences) if confidences else None
    return LabelReport(made, kept, tuple(failed), mean)


def plan(images_folder: Path, output_folder: Path) -> list[Path]:
    """The images to label, relative to their folder. Each has its own label map."""
    inside, root = output_folder.resolve(), images_folder.resolve()
    if inside == root:
        raise DataError(f"{output_folder}: is the folder of the images; name another one for the label maps")
    files = [file for file in list_images(images_folder) if inside not in file.resolve().parents]
    if not files:
        raise DataError(f"{images_folder}: holds no image outside {output_folder}; check both paths")
    images = [file.relative_to(images_folder) for file in files]
    taken: dict[Path, Path] = {}
    for image in images:
        for target in (label_map_path(output_folder, image), confidence_path(output_folder, image)):
            if (other := taken.setdefault(target, image)) != image:
                raise DataError(
                    f"{images_folder}: the label maps of {other} and {image} would both be {target.name}; "
                    "rename one, so that the names differ before their suffix"
                )
    folders = {folder: target for target in taken for folder in target.parents}
    if clash := next((target for target in taken if target in folders), None):
        raise DataError(
            f"{images_folder}: the label map of {taken[clash]} would be {clash.name}, which is the folder of "
            f"{taken[folders[clash]]}'s too; rename one"
        )
    return images


def claim(output_folder: Path, settings: dict[str, Any]) -> None:
    """Create the folder, or check that it was made with the same network and settings."""
    path = output_folder / LABELS_JSON
    if output_folder.exists() and not output_folder.is_dir():
        raise DataError(f"{output_folder}: is a file, expected a folder for the label maps")
    if not path.exists():
        if output_folder.exists() and any(output_folder.iterdir()):
            raise DataError(
                f"{output_folder}: is not empty and has no {LABELS_JSON}, expected a new folder or one of an earlier "
                "run"
            )
        write_json(path, settings, indent=2)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise DataError(f"{path}: is no JSON object, so no earlier run wrote it; name another folder")
    # Compare as JSON, where a tuple is a list.
    for key, value in json.loads(json.dumps(settings)).items():
        if key != "network" and found.get(key) != value:  # network_sha256 identifies the network
            raise DataError(
                f"{output_folder}: its label maps were made with {key} {json.dumps(found.get(key))}, this run has "
                f"{json.dumps(value)}; name another folder or remove this one"
            )


def write(path: Path, data: bytes) -> None:
    with replace_when_done(path) as temporary:
        temporary.write_bytes(data)
