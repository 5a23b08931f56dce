"""A network that needs no runtime, frames that it tells apart, and children that do what a test must survive."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

import sdk

Frame = npt.NDArray[np.uint8]


class FakeBackend:
    """A fixed random projection of the frame at 8 x 8 px: the same frame always has the same descriptor."""

    def __init__(self, weights: str = "a" * 64, dim: int = 32) -> None:
        black, white = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        self._contract = sdk.ModelContract("fake", weights, 48, 64, dim, black, white)
        self._projection = np.random.default_rng(0).normal(size=(8 * 8 * 3, dim)).astype(np.float32)
        self.closed = False

    @property
    def contract(self) -> sdk.ModelContract:
        return self._contract

    def infer(self, batch: Frame) -> dict[str, npt.NDArray[np.float32]]:
        small = cv2.resize(batch[0], (8, 8), interpolation=cv2.INTER_AREA)  # (8, 8, 3)
        return {"raw_descriptor": (small.reshape(-1).astype(np.float32) - 127.5) @ self._projection}  # (D,)

    def close(self) -> None:
        self.closed = True


def make_frames(count: int, seed: int = 0) -> list[Frame]:
    """Different frames, 48 x 64 px."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    return [cv2.resize(image, (64, 48), interpolation=cv2.INTER_NEAREST) for image in coarse]


def unit_rows(count: int, seed: int = 0, dim: int = 32) -> npt.NDArray[np.float32]:
    """Different descriptors, float32 (count, dim)."""
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def localizer_with(path: Path, frames: list[Frame], **options: object) -> sdk.Localizer:
    """A Localizer whose map holds these frames, named by their number; at (number, 0, 0)."""
    localizer = sdk.Localizer(FakeBackend(), path, create=True, **options)  # type: ignore[arg-type]
    localizer.add_many([(frame, sdk.Place(str(i), (i, 0))) for i, frame in enumerate(frames)])
    return localizer


def assert_finds(localizer: sdk.Localizer, frames: dict[str, Frame]) -> None:
    """Each frame is answered with the place of its name."""
    for name, frame in frames.items():
        best = localizer.query(frame, k=1).matches[0]
        assert best.place.name == name
        assert best.similarity > 0.999


def neighbours(path: Path) -> set[str]:
    """What lies beside a map, its own name included, without the folder's other maps."""
    return {entry.name for entry in path.parent.iterdir() if entry.name.startswith(path.name)}


class Child:
    """A Python process that runs `code` with this file's names and says lines that a test waits for."""

    def __init__(self, code: str, *arguments: object) -> None:
        head = "import os, signal, sys, time\nimport sdk\nfrom map_fakes import *\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", head + textwrap.dedent(code), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def says(self) -> str:
        """Its next line; waits for it."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise AssertionError(f"the child ended: {self.process.communicate()[1]}")
        return line

    def tell(self, line: str = "") -> None:
        """Give it a line to read."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.kill()
        self.process.wait(timeout=20)

    def end(self) -> str:
        """Wait for its end, which must be a good one; what it had still to say."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdin.close()
        out, err = self.process.stdout.read(), self.process.stderr.read()  # communicate would miss what is buffered
        assert self.process.wait(timeout=20) == 0, err
        return out
