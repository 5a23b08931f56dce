"""The options of the gate that the verbs share: frames and thresholds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sdk import UsageError
from sdk.evaluation.sets import PlaceSet

from .decision import DEFAULT_THRESHOLDS, Thresholds, require_enough
from .frames import read_gate_frames

__all__ = ["GateOptions"]


@dataclass(frozen=True)
class GateOptions:
    """The gate's options, as the verbs share them. None stands for the default.

    Attributes:
        frames, dataset, database_folder, queries_folder: see `read_gate_frames`.
        positive_dist_threshold: with the two folders: radius within which an answer is right, m; 25 by default.
        min_cosine, min_top1_agreement, max_recall_drop: see `Thresholds`.
        no_gate: do not judge.

    Raises:
        UsageError: a threshold is out of its range, or an option has no effect.
    """

    frames: Path | None = None
    dataset: str | None = None
    database_folder: Path | None = None
    queries_folder: Path | None = None
    positive_dist_threshold: float | None = None
    min_cosine: float | None = None
    min_top1_agreement: float | None = None
    max_recall_drop: float | None = None
    no_gate: bool = False

    def __post_init__(self) -> None:
        self.thresholds("fp32")  # refuses what is out of range
        if self.no_gate:
            self.refuse_thresholds("with --no-gate")
        if self.min_top1_agreement is not None and self.max_recall_drop is not None:
            raise UsageError("--min-top1-agreement has no effect with --max-recall-drop; leave out one of the two")
        if self.positive_dist_threshold is not None and self.database_folder is self.queries_folder is None:
            raise UsageError("--positive_dist_threshold needs --database_folder and --queries_folder; leave it out")

    def thresholds(self, precision: str) -> Thresholds:
        """The defaults of a precision, replaced by the options that are given."""
        given = {
            "min_mean_cosine": self.min_cosine,
            "min_top1_agreement": self.min_top1_agreement,
            "max_recall_drop": self.max_recall_drop,
        }
        return replace(DEFAULT_THRESHOLDS[precision], **{name: v for name, v in given.items() if v is not None})

    def refuse_thresholds(self, because: str) -> None:
        """Raise UsageError if a threshold is given, which would have no effect."""
        for name in ("min_cosine", "min_top1_agreement", "max_recall_drop"):
            if getattr(self, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} has no effect {because}; leave out one of the two")

    def names_frames(self) -> bool:
        """Whether any frames to judge on are given."""
        return any((self.frames, self.dataset, self.database_folder, self.queries_folder))

    def read(self) -> PlaceSet:
        """Read the lists of frames, and check that they can be judged on.

        Raises:
            UsageError: options contradict each other, name no frames, or the radius is out of range.
            DataError: the frames cannot be judged on, see `read_gate_frames`; without `no_gate`, they are too few.
        """
        radius_m = 25.0 if self.positive_dist_threshold is None else self.positive_dist_threshold
        found = read_gate_frames(self.frames, self.dataset, self.database_folder, self.queries_folder, radius_m)
        if found is None:
            raise UsageError(
                "no frames to judge on were named; give --frames, --dataset, or --database_folder and --queries_folder"
                " (export precision and engine: or --no-gate, to write the file unjudged)"
            )
        if found.positives is None and self.max_recall_drop is not None:
            raise UsageError("--max-recall-drop needs known true places; give --dataset or the folders, not --frames")
        if not self.no_gate:
            require_enough(found)
        return found
