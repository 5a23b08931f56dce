"""The metrics of a run: JSON Lines, and TensorBoard's event files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from sdk import UsageError
from sdk.atomic_file import replace_when_done, writing

__all__ = ["MetricsLog"]


class MetricsLog:
    """Appends to `metrics.jsonl` in a folder; a context manager.

    Removes the lines after the step that a run resumes from, so each step occurs once.

    Args:
        folder: None writes nothing.
        step: the step that the run resumes from, 0 for a new run.
        tensorboard: also write event files; needs the package `tensorboard`.

    Raises:
        WriteError: the folder cannot be written.
        UsageError: `tensorboard` is true and the package is not installed.
    """

    def __init__(self, folder: Path | None, step: int, *, tensorboard: bool = False) -> None:
        self._file: IO[str] | None = None
        self._events: Any = None
        if folder is None:
            return
        path = folder / "metrics.jsonl"
        with writing(path):
            if path.exists():
                kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
                with replace_when_done(path) as temporary:
                    temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            self._file = path.open("a", encoding="utf-8")
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise UsageError(
                    "--tensorboard needs the package tensorboard; pip install tensorboard, or leave the option out: "
                    "metrics.jsonl holds the same values"
                ) from None
            self._events = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Write one line: the step and its metrics."""
        if self._file is not None:
            # JSON has no NaN.
            finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
            self._file.write(json.dumps({"step": step, **finite}) + "\n")
            self._file.flush()
        if self._events is not None:
            for name, value in figures.items():
                self._events.add_scalar(name, value, step)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._events is not None:
            self._events.close()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # a run was cut off while it wrote its last line
        return float("inf")
