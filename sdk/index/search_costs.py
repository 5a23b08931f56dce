"""The cost of searching on this machine, measured once and cached. Failures are never errors."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .._core import INDEX_FILE_VERSION, PlaceIndex, measure_costs
from ..atomic_file import replace_when_done
from ..machine.cpu import cpu_model

__all__ = ["COSTS_FROM", "costs_path", "search_costs"]

# Rows. A smaller index always uses the same method, so a measurement would only slow its opening.
COSTS_FROM = 2000


def search_costs() -> dict[str, float]:
    """Nanoseconds by kind of memory access, for `PlaceIndex.set_costs`.

    The cache is `costs_path`. If it is missing, damaged or from another machine, this measures for about 50 ms and
    writes it. If it cannot be written, each process measures once.
    """
    return dict(_search_costs(costs_path()))


def costs_path() -> Path | None:
    """The cache file below $XDG_CACHE_HOME, or below ~/.cache. None if the user has no home.

    Several machines may share a home, so the name depends on the CPU, its instruction set and the file version.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not folder.is_absolute():  # unset, or relative: the XDG specification says to ignore it
        try:
            folder = Path.home() / ".cache"
        except RuntimeError:
            return None
    digest = hashlib.blake2b(json.dumps(_identity()).encode(), digest_size=8).hexdigest()
    return folder / "structvpr" / f"search-costs-{digest}.json"


@functools.lru_cache(maxsize=4)
def _search_costs(path: Path | None) -> dict[str, float]:
    costs = _read(path) if path is not None else None
    if costs is None:
        costs = measure_costs()
        if path is not None:
            _write(path, {**_identity(), "costs_ns": costs})
    return costs


@functools.cache
def _identity() -> dict[str, Any]:
    return {
        "cpu": cpu_model(),
        "instruction_set": PlaceIndex(1).instruction_set,
        "index_file_version": INDEX_FILE_VERSION,
    }


def _read(path: Path) -> dict[str, float] | None:
    try:
        record = json.loads(path.read_bytes())
        costs = {str(name): float(value) for name, value in record.pop("costs_ns").items()}
        PlaceIndex(1).set_costs(costs)  # raises if a cost is missing or out of range
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return costs if record == _identity() else None


def _write(path: Path, record: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_when_done(path) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n")
