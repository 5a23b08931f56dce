"""Shows the progress of a TensorRT build, and stops it. A build takes minutes on a Jetson."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..progress import Progress

__all__ = ["build_monitor", "interrupt_later", "ticking"]

WHAT = "building the engine"
TOTAL = 1000
TICK_S = 1.0


def build_monitor(trt: Any, progress: Progress | None, interrupted: threading.Event) -> Any:
    """A progress monitor for TensorRT 10.0 and later, which reports out of 1000; None for older versions.

    It stops the build when `interrupted` is set or `progress` raises. An exception must not pass through C++, so it is
    kept in `stopped_by` for the caller to raise.
    """
    base = getattr(trt, "IProgressMonitor", None)
    if base is None:
        return None

    class Monitor(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.stopped_by: BaseException | None = None
            self._phases: dict[str, list[Any]] = {}  # name -> [parent or None, steps done, steps]
            self._told = 0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            try:
                self._phases[phase_name] = [parent_phase, 0, max(num_steps, 1)]
            except BaseException as error:
                self.stopped_by = error

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                self._phases[phase_name][1] = step + 1
                self._tell(phase_name)
            except BaseException as error:
                self.stopped_by = error
            return self.stopped_by is None and not interrupted.is_set()

        def phase_finish(self, phase_name: str) -> None:
            try:
                self._phases.pop(phase_name, None)
            except BaseException as error:
                self.stopped_by = error

        def finish(self) -> None:
            """Report the end: TensorRT skips the steps that a graph does not need."""
            self._tell(None, 1.0)

        def _tell(self, name: str | None, share: float = 0.0) -> None:
            """Report a phase as part of one step of its parent. The total never decreases."""
            while name is not None and name in self._phases:
                name, done, steps = self._phases[name]
                share = min((done + share) / steps, 1.0)
            if progress is not None and int(share * TOTAL) > self._told:
                self._told = int(share * TOTAL)
                progress(WHAT, self._told, TOTAL)

    return Monitor()


@contextmanager
def interrupt_later() -> Iterator[threading.Event]:
    """Set an event at Ctrl-C or SIGTERM, and raise that signal again when the block ends.

    Without this, the handler's exception would be raised inside the Python code that TensorRT calls next, such as its
    logger, where the bindings print it and continue. Signals that are ignored or end the process keep their effect.
    """
    interrupted = threading.Event()
    received: list[int] = []

    def keep(number: int, _: object) -> None:
        received.append(number)
        interrupted.set()

    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # only the main thread receives signals and may set handlers
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if callable(handler)}
    for number in before:
        signal.signal(number, keep)
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


@contextmanager
def ticking(progress: Progress | None) -> Iterator[None]:
    """Report the seconds once a second, where TensorRT reports nothing."""
    if progress is None:
        yield
        return
    began, done = time.monotonic(), threading.Event()

    def tick() -> None:
        while not done.wait(TICK_S):
            progress(WHAT, int(time.monotonic() - began), 0)

    progress(WHAT, 0, 0)
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
