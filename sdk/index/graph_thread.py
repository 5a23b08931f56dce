"""A thread that builds the graph while searches and changes continue."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable

from .._core import PlaceIndex
from ..progress import StepProgress

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
        """Private to `MapIndex`.

        Args:
            index: the index to build the graph of.
            when_ended: called in this thread after the build, unless it was cancelled. The build is cancelled when the
                object of this method is gone.
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
        """Build the graph."""
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
            self._index = None  # free an index that was replaced meanwhile
            RUNNING.discard(self)

    def cancel(self) -> None:
        """Ask the build to stop. It does so within a few hundred rows; this call does not wait."""
        self._cancelled = True

    def wait(self, progress: StepProgress) -> None:
        """Wait for the end; `error` then says what ended the build. Ctrl-C cancels it.

        Args:
            progress: called with (rows done, rows in all). An exception that it raises cancels the build.
        """
        try:
            while self.is_alive():
                progress(*self.progress)
                self.join(timeout=0.1)
            progress(*self.progress)
        except BaseException:
            self.cancel()
            self.leave()
            raise

    def leave(self) -> None:
        """Wait for the end."""
        if self.is_alive() and self is not threading.current_thread():
            self.join()

    def _follow(self, done: int, total: int) -> None:
        self.progress = (done, total)
        if self._cancelled or self._when_ended() is None:
            raise _Cancelled


class _Cancelled(Exception):
    """Stops a build that was cancelled."""


RUNNING: set[GraphThread] = set()


@atexit.register
def _end_all() -> None:
    for thread in tuple(RUNNING):
        thread.cancel()
    for thread in tuple(RUNNING):
        thread.leave()
