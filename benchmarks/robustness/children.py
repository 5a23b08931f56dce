"""Run work in child processes that may die."""

from __future__ import annotations

import json
import mmap
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOM = 2 << 30  # memory limit of a child, bytes
STAGES = ("make", "load", "search", "verify", "change", "save", "read again")

stage_byte = mmap.mmap(-1, 1)


def stage(name: str) -> None:
    stage_byte[0] = STAGES.index(name)


def stage_now() -> str:
    return STAGES[stage_byte[0]]


def peak_bytes(reset: bool = False) -> int:
    """The most memory touched since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def in_children(
    work: Callable[[int], tuple[str, str]], numbers: list[int], batch: int, limit_s: float
) -> Iterator[tuple[int, str, str]]:
    """The result of each work(number), or how its child died. A new child continues after each death."""
    done = 0
    while done < len(numbers):
        todo = numbers[done : done + batch]
        hear, say = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(hear)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (virtual + ROOM, virtual + ROOM))
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                for number in todo:
                    os.write(say, json.dumps(work(number)).encode() + b"\n")
            finally:
                os._exit(0)
        os.close(say)
        heard, rest, hung = 0, b"", False
        while True:
            if not select.select([hear], [], [], limit_s)[0]:
                hung = True
                os.kill(child, signal.SIGKILL)
                break
            part = os.read(hear, 65536)
            if not part:
                break
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                yield todo[heard], *json.loads(line)
                heard += 1
        os.close(hear)
        status = os.waitpid(child, 0)[1]
        if heard < len(todo):
            how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
            yield todo[heard], "HANG" if hung else "CRASH", f"{how} in {stage_now()}"
            heard += 1
        done += heard


class Bar:
    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done, self.bad, self.shown = what, total, 0, 0, 0.0

    def step(self, bad: bool) -> None:
        self.done += 1
        self.bad += bad
        if time.monotonic() - self.shown > 0.5 or self.done == self.total:
            self.shown = time.monotonic()
            width = 30 * self.done // self.total
            bar = f"{self.what:14} [{'#' * width}{' ' * (30 - width)}] {self.done}/{self.total}, {self.bad} bad"
            print(f"\r{bar}", end="\n" if self.done == self.total else "", file=sys.stderr, flush=True)
