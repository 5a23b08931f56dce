"""`structvpr export engine` and the backend together: an engine that runs, and says something else, is not written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import PLAN, FakeCuda, Pixels, make_tensorrt, network
from tiny_models import CONTRACT, tiny

from sdk.backends import cuda as cuda_module
from sdk.backends import trt as trt_module
from sdk.cli import main

Describe = Callable[[Pixels], Any]


class Builder:
    """Makes an engine of any model at once."""

    def __init__(self, *_: Any) -> None:
        pass

    def build(self, *_: Any) -> tuple[bytes, bytes]:
        return PLAN, b""


@pytest.fixture
def export_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Describe], int]:
    """Exports model.onnx to a GPU that computes this, and gives the exit code."""
    import cv2

    model = tiny(tmp_path / "model.onnx", CONTRACT.to_json())
    to_engine = pytest.importorskip("export.engine.from_onnx", reason="the extra export is not installed")
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, colour in enumerate(np.random.default_rng(0).integers(0, 256, (20, 3), np.uint8)):
        cv2.imwrite(str(photos / f"{number:02}.png"), np.broadcast_to(colour, (32, 32, 3)))

    def export(describe: Describe) -> int:
        cuda = FakeCuda()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt("10.3.0", cuda, CONTRACT))
        monkeypatch.setattr(cuda_module, "cuda_driver", lambda: {"version": "12.6", "devices": 1, "code": 0})
        monkeypatch.setattr(cuda_module, "_cuda_major", lambda runtime: None)
        monkeypatch.setattr(trt_module, "open_cuda", lambda: cuda)
        monkeypatch.setattr(to_engine, "open_cuda", FakeCuda)
        monkeypatch.setattr(to_engine, "EngineBuilder", Builder)
        monkeypatch.setattr("fake_tensorrt.network", describe)
        with pytest.raises(SystemExit) as left:
            main(["export", "engine", str(model), "-o", str(tmp_path / "model.engine"), "--frames", str(photos)])
        cuda.assert_nothing_is_left()
        return int(left.value.code or 0)

    return export


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("cache", "photos"))


def test_an_engine_that_says_the_same_is_written(export_engine: Any, tmp_path: Path) -> None:
    assert export_engine(network) == 0
    assert names(tmp_path) == ["model.engine", "model.engine.json", "model.onnx"]
    assert (tmp_path / "model.engine").read_bytes() == PLAN


@pytest.mark.parametrize(
    "broken",
    [
        lambda frame: network(frame)[:, ::-1],
        lambda frame: np.ones((1, 3), np.float32),
        lambda frame: np.zeros((1, 3), np.float32),
        lambda frame: network(frame) * np.float32("nan"),
        lambda frame: network(frame // 64 * 64),
    ],
    ids=["channels swapped", "always the same", "zeros", "not finite", "coarse"],
)
def test_a_broken_engine_leaves_nothing(
    export_engine: Any, broken: Describe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert export_engine(broken) == 1
    assert names(tmp_path) == ["model.onnx"]
    out, err = capfd.readouterr()
    assert "the gate: not passed" in out
    assert err == ""


def test_the_one_that_was_there_stays(export_engine: Any, tmp_path: Path) -> None:
    assert export_engine(network) == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("model.*")}
    assert export_engine(lambda frame: network(frame)[:, ::-1]) == 1
    assert {path: path.read_bytes() for path in tmp_path.glob("model.*")} == before
