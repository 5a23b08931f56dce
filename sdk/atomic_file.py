"""Files that are whole or not there: written beside their name, flushed, and renamed."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import WriteError

__all__ = [
    "flush_folder",
    "move_into_place",
    "replace_together",
    "replace_when_done",
    "require_replaceable",
    "writing",
]


@contextmanager
def replace_when_done(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move that file to `path` if the block ends without an error.

    A reader of `path` sees the whole old file or the whole new one. An error leaves the old file.

    Raises:
        WriteError: the folder cannot be written, or `path` is a folder, a device or a pipe.
    """
    path = Path(path)
    require_replaceable(path)
    with writing(path):
        handle, temporary_name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(temporary_name)
        try:
            yield temporary
            temporary.chmod(0o644)  # mkstemp makes files that only their owner can read
            move_into_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def require_replaceable(path: Path) -> None:
    """Refuse a path that is not a regular file: renaming would replace a device by a file.

    Raises:
        WriteError: `path` exists and is not a regular file.
    """
    try:
        kind = path.stat().st_mode
    except OSError:
        return  # missing, or the write reports a better error
    if not stat.S_ISREG(kind):
        what = "a folder" if stat.S_ISDIR(kind) else "a device or a pipe"
        raise WriteError(f"cannot write {path}: it is {what}; name a file")


def move_into_place(temporary: Path, path: Path) -> None:
    """Rename a finished file so that a power cut leaves the whole file or none."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.rename(path)
    flush_folder(path.parent)


def flush_folder(path: Path) -> None:
    """Flush the names in a folder to the disk."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def replace_together(*paths: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `paths`, and move its files to `paths`, in order, after the block.

    All files are complete before the first is moved, so a full disk or an error in the block leaves the old ones. A
    file that the block does not write stays as it was.

    Raises:
        WriteError: the folder cannot be written, or a file cannot be replaced.
    """
    with writing(paths[0]):
        folder = Path(tempfile.mkdtemp(prefix=f".{paths[0].name}.", dir=paths[0].parent))
    try:
        yield folder
        with writing(paths[0]):
            for path in paths:
                if (folder / path.name).exists():
                    move_into_place(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a WriteError that names `path`."""
    try:
        yield
    except WriteError:
        raise  # an inner block has named its own file
    except OSError as error:
        raise WriteError(
            f"cannot write {path}: {error.strerror}; name a file in a writable folder, on a disk with room"
        ) from None
