"""A thread that builds the graph while searches and changes continue."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable

from .._core import PlaceIndex

__all__ = ["GraphThread"]


class GraphThread(threading.Thread):
    """Builds the graph of an index.

    It is a daemon thread, so the end of the process does not wait for minutes of work. It is cancelled and joined at
    exit: a daemon thread that the interpreter stops inside the kernel would abort the process.

    Attributes:
        progress: rows done, rows in all.
        error: the error that ended the build, or None. A cancelled build has no error.
    """

    def __init__(self, index: PlaceIndex, when_ended: weakref.WeakMethod[Callable[[GraphThread], object]]) -> None:
        """Private to `MapIndex`. Start it with `start`.

        Args:
            index: the index to build the graph of.
            when_ended: called in this thread after the build, unless it was cancelled. When its object is gone, the
                build is cancelled.
        """
        super().__init__(name="structvpr graph", daemon=True)
        self.progress = (0, len(index))
        self.error: Exception | None = None
        self._index: PlaceIndex | None = index
        self._when_ended = when_ended
        self._cancelled = False

    def start(self) -> None:
        """Start building. If no thread can be started, `error` says so."""
        RUNNING.add(self)
        try:
            super().start()
        except (RuntimeError, MemoryError) as error:
            RUNNING.discard(self)
            self.error = error

    def run(self) -> None:
        """The thread's work."""
        try:
            try:
                if self._index is not None:
                    self._index.build_graph(progress=self._follow)
            except _Cancelled:
                return
            except Exception as error:  # such as too little memory; searches work without a graph
                self.error = error
            if (when_ended := self._when_ended()) is not None:
                when_ended(self)
        except Exception as error:
            self.error = error
        finally:
            self._index = None  # an index that was replaced meanwhile goes now
            RUNNING.discard(self)

    def cancel(self) -> None:
        """End the build at its next row but a few hundred; does not wait for that."""
        self._cancelled = True

    def wait(self, tell: Callable[[int, int], object]) -> None:
        """Wait for the end, telling (rows done, rows in all). What `tell` raises, and Ctrl-C, cancels the build.

        What ended the build is in `error`.
        """
        try:
            while self.is_alive():
                tell(*self.progress)
                self.join(timeout=0.1)
            tell(*self.progress)
        except BaseException:
            self.cancel()
            self.leave()
            raise

    def leave(self) -> None:
        """Wait for the end, without a word."""
        if self.is_alive() and self is not threading.current_thread():
            self.join()

    def _follow(self, done: int, total: int) -> None:
        self.progress = (done, total)
        if self._cancelled or self._when_ended() is None:
            raise _Cancelled


class _Cancelled(Exception):
    """Nobody wants the graph any more."""


RUNNING: set[GraphThread] = set()


@atexit.register
def _end_all() -> None:
    for thread in tuple(RUNNING):
        thread.cancel()
    for thread in tuple(RUNNING):
        thread.leave()
