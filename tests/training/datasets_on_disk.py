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


def found(made: TrainingSet, query: str, column: str = "positives") -> list[str]:
    """Names of a query's positives, or of what is near it."""
    rows = [i for i, image in enumerate(made.queries) if made.images[image].name == query]
    assert len(rows) == 1, f"{query} is a query {len(rows)} times"
    return sorted(made.images[i].name for i in getattr(made, column)[rows[0]])


def asked(made: TrainingSet) -> list[str]:
    return sorted(made.images[i].name for i in made.queries)
