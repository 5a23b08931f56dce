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
from ..machine.cpu import cpu_model

__all__ = ["COSTS_FROM", "costs_path", "search_costs"]

# Places. Of fewer an index takes the same way whatever it costs, and opening it should not cost a measurement.
COSTS_FROM = 2000


def search_costs() -> dict[str, float]:
    """Nanoseconds by kind of reading, for `PlaceIndex.set_costs`.

    Read from `costs_path`; measured, in some 50 ms, and written there if that is absent, damaged or another machine's.
    Where it cannot be written it is measured once a process.
    """
    return dict(_search_costs(costs_path()))


def costs_path() -> Path | None:
    """Where the costs are kept: below $XDG_CACHE_HOME, else ~/.cache; None for a user without a home.

    A home may be shared by several machines: the name tells CPU, kernel and its version apart.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not folder.is_absolute():  # unset, or what the XDG specification says to ignore
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
        PlaceIndex(1).set_costs(costs)  # the kernel knows which it needs, and what they can be
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return costs if record == _identity() else None


def _write(path: Path, record: dict[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(record, indent=2) + "\n")
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
