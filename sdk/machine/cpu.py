"""The name of this CPU. Separate from `device`, whose imports would slow the start of a Localizer."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["cpu_model", "cpu_name"]


def cpu_name() -> str | None:
    """The CPU's name in /proc/cpuinfo. None on ARM, which has none there."""
    name = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return name[1] if name else None


def cpu_model() -> str:
    """Text that identifies the kind of CPU: its name, or the board's name and the numbers of its core types."""
    if name := cpu_name():
        return name
    board = _read("/proc/device-tree/model").strip("\0\n")
    numbers = re.findall(r"^CPU (?:implementer|part)\s*:\s*(\S+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return " ".join([os.uname().machine, board, *dict.fromkeys(numbers)]).strip()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
