"""The callbacks through which long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "StepProgress"]

Progress = Callable[[str, int, int], None]  # called with (what is done, steps done, all steps)
StepProgress = Callable[[int, int], None]  # called with (steps done, all steps)
