"""What tests of readers share: files of a fixture, and which images a set says belong together."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from training.datasets import TrainingSet

JPEG = cv2.imencode(".jpg", np.zeros((4, 6, 3), np.uint8))[1].tobytes()


def write_images(files: Iterable[Path]) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(JPEG)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_msls_city(root: Path, city: str, side: str, rows: Sequence[dict[str, object]]) -> None:
    """One side of a city of Mapillary Street-Level Sequences, with the names and columns of the real one."""
    folder = root / "train_val" / city / side
    write_images(folder / "images" / f"{row['key']}.jpg" for row in rows)
    for name, columns in {
        "postprocessed": ("easting", "northing", "unique_cluster", "control_panel", "night", "view_direction"),
        "raw": ("lon", "lat", "ca", "captured_at", "pano"),
        "seq_info": ("sequence_key", "frame_number"),
        "subtask_index": ("all", "s2w", "w2s", "o2n", "n2o", "d2n", "n2d"),
    }.items():
        known = {
            "unique_cluster": 0, "control_panel": False, "night": False, "view_direction": "Forward", "lon": 12.57,
            "lat": 55.68, "ca": 90.0, "captured_at": "2015-06-12", "pano": False, "sequence_key": "s", "all": True,
        }  # fmt: skip
        write_csv(
            folder / f"{name}.csv",
            ("", "key", *columns),
            [[i, row["key"], *(row.get(c, known.get(c, False)) for c in columns)] for i, row in enumerate(rows)],
        )


def found(made: TrainingSet, query: str, column: str = "positives") -> list[str]:
    """Names of a query's positives, or of what is near it."""
    rows = [i for i, image in enumerate(made.queries) if made.images[image].name == query]
    assert len(rows) == 1, f"{query} is a query {len(rows)} times"
    return sorted(made.images[i].name for i in getattr(made, column)[rows[0]])


def asked(made: TrainingSet) -> list[str]:
    return sorted(made.images[i].name for i in made.queries)
