"""JSON files that are written whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdk.atomic_file import replace_when_done, writing

__all__ = ["write_json"]


def write_json(path: Path, record: Any, *, indent: int | None = None) -> None:
    """Write a record, and its folder if that is missing; a reader sees the old file or the new one.

    Raises:
        WriteError: the file cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replace_when_done(path) as temporary:
        # File names in a record may be no UTF-8: JSON's escapes hold them.
        temporary.write_text(json.dumps(record, indent=indent) + "\n", encoding="utf-8")
