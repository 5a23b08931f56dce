"""Files that are whole or not there: written beside their name, flushed, renamed, and the folder flushed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import EngineError

__all__ = ["flush_folder", "move_into_place", "replace_when_done"]


@contextmanager
def replace_when_done(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`, and move it there when the block ends without an error.

    A reader of `path` sees the old file or the new one, never half of one; an error leaves the old one.

    Raises:
        EngineError: the folder cannot be written.
    """
    path = Path(path)
    try:
        handle, temporary_name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise EngineError(
            f"cannot write {path}: {error.strerror}, expected a folder that exists and can be written; "
            "choose another path"
        ) from None
    temporary = Path(temporary_name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes files that only their owner can read
        move_into_place(temporary, path)
    except OSError as error:
        raise EngineError(
            f"cannot write {path}: {error.strerror}, expected a file that can be replaced on a disk with "
            "room; choose another path"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def move_into_place(temporary: Path, path: Path) -> None:
    """Give a finished file its name so that a power cut leaves the whole file or none."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.rename(path)
    flush_folder(path.parent)


def flush_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
