"""Milliseconds by stage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, MutableMapping

__all__ = ["timed"]


@contextlib.contextmanager
def timed(timings_ms: MutableMapping[str, float], stage: str) -> Iterator[None]:
    """Add the time that the block takes to `timings_ms[stage]`."""
    started = time.perf_counter()
    yield
    timings_ms[stage] = timings_ms.get(stage, 0.0) + (time.perf_counter() - started) * 1e3
