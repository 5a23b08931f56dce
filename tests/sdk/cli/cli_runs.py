"""The command run for a test: in this process or in one of its own, and what lies in a folder before and after."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NUM_PHOTOS = 5


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]
Refused = Callable[..., str]


def start(*words: object) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    code = "from sdk.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests may ignore Ctrl-C (nohup does), and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run_process(*words: object) -> Done:
    """The command as a process of its own, to its end."""
    process = start(*words)
    out, err = process.communicate(timeout=60)
    return Done(process.returncode, out, err)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, to compare before and after."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
