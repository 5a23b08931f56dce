"""How a long step reports its progress."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress"]

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total). A total of 0 is unknown; `done` then counts seconds."""
