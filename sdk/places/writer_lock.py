"""The lock that allows one writer per map. The system releases it even if the process is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from pathlib import Path

from ..errors import MapError

__all__ = ["WriterLock"]


class WriterLock:
    """The right to change a map, held from construction to `release`.

    The lock is on a separate file beside the map. Closing any descriptor of the database itself would drop SQLite's
    locks on it, because POSIX record locks belong to the process and not to the descriptor.

    Raises:
        MapError: another process or another Localizer holds it, or the folder is read-only.
    """

    def __init__(self, map_path: Path) -> None:
        self._path = map_path.with_name(map_path.name + ".lock")
        while True:
            try:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise MapError(
                    f"{map_path}: the folder cannot be written ({error.strerror}); copy the map to a writable "
                    "folder to change it"
                ) from None
            try:
                self._lock(descriptor, map_path)
                # The last holder may have removed the file between our open and our lock.
                if self._still_in_place(descriptor):
                    break
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        # A Localizer that is dropped without closing releases its map too.
        self._release = weakref.finalize(self, _release, descriptor, self._path, os.getpid())
        with contextlib.suppress(OSError):  # naming the holder is optional: a full disk cannot store it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)

    def _lock(self, descriptor: int, map_path: Path) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            holder = f"{holder} (this one, through another Localizer)" if holder == str(os.getpid()) else holder
            raise MapError(
                f"{map_path}: process {holder} is writing this map; close that one first (reading needs no lock)"
            ) from None
        except OSError as error:
            raise MapError(
                f"{map_path}: its file system cannot lock files ({error.strerror}); copy the map to a local disk"
            ) from None

    def _still_in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Release the lock and remove its file, so that a closed map is one file. May be called twice."""
        self._release()


def _release(descriptor: int, path: Path, owner: int) -> None:
    if os.getpid() != owner:  # a forked child inherits the object, not the lock
        return
    with contextlib.suppress(OSError):
        path.unlink()
    os.close(descriptor)
