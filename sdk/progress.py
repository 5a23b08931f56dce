"""How long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "StepProgress"]

Progress = Callable[[str, int, int], object]  # called with (what, done, total); a total of 0 is unknown
StepProgress = Callable[[int, int], object]  # called with (done, total)
