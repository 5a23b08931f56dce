"""structvpr doctor: which runtimes can be used here, and why others cannot."""

from __future__ import annotations

import importlib.util
import json
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Run

import sdk.cli.doctor
import sdk.machine.device

GPU = {"version": "12.6", "devices": 1, "code": 0}
SILENT = {"version": None, "devices": 0, "code": None}
NO_GPU = {"version": "12.6", "devices": 0, "code": 100}


@pytest.fixture
def examine(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """What doctor says of a machine with these packages, this driver and this system folder."""
    real = importlib.util.find_spec
    ours = {"tensorrt", "tensorrt_rtx", "openvino", "cuda.bindings", "cuda.cuda", "pycuda"}
    monkeypatch.setattr(sdk.machine.device, "SYSTEM_PACKAGES", tmp_path)

    def examine(packages: set[str], driver: dict[str, Any] | None) -> dict[str, dict[str, str]]:
        def find(name: str) -> ModuleSpec | None:
            if name not in ours:
                return real(name)
            if "." in name and name not in packages:
                raise ModuleNotFoundError(name)  # as for a package that is not there
            return ModuleSpec(name, None) if name in packages else None

        monkeypatch.setattr(importlib.util, "find_spec", find)
        monkeypatch.setattr(sdk.cli.doctor, "cuda_driver", lambda: driver)
        done = run("doctor", "--json")
        assert done.code == 0
        return {finding["part"]: finding for finding in json.loads(done.out)["findings"]}

    return examine


def test_an_engine_can_be_run(examine: Any) -> None:
    for memory in ("cuda.bindings", "cuda.cuda", "pycuda"):
        assert examine({"tensorrt", memory}, GPU)["TensorRT"]["status"] == "ok"
    assert examine({"tensorrt_rtx", "cuda.bindings"}, GPU)["TensorRT"]["found"].startswith("tensorrt_rtx")


@pytest.mark.parametrize(
    ("packages", "driver", "said"),
    [
        (set(), GPU, "no package tensorrt"),
        ({"tensorrt", "cuda.bindings"}, None, "no GPU for it"),
        ({"tensorrt", "cuda.bindings"}, NO_GPU, "no GPU for it"),
        ({"tensorrt", "cuda.bindings"}, SILENT, "no GPU for it"),
        ({"tensorrt"}, GPU, "neither cuda-bindings nor pycuda"),
    ],
)
def test_why_no_engine_can_be_run(examine: Any, packages: set[str], driver: Any, said: str) -> None:
    finding = examine(packages, driver)["TensorRT"]
    assert finding["status"] == "missing"
    assert said in finding["found"]
    assert finding["remedy"]


def test_tensorrt_of_the_system_that_the_environment_does_not_see(examine: Any, tmp_path: Path) -> None:
    module = tmp_path / "python3.10" / "dist-packages" / "tensorrt"
    module.mkdir(parents=True)
    finding = examine({"cuda.bindings"}, GPU)["TensorRT"]
    assert str(module) in finding["found"]
    assert "--system-site-packages" in finding["remedy"]
    assert examine({"tensorrt", "cuda.bindings"}, GPU)["TensorRT"]["status"] == "ok"


def test_a_driver_that_does_not_answer(examine: Any) -> None:
    finding = examine(set(), SILENT)["CUDA driver"]
    assert "does not answer" in finding["found"]
    assert "nvidia-smi" in finding["remedy"]
    assert "no libcuda" in examine(set(), None)["CUDA driver"]["found"]


def test_openvino(examine: Any) -> None:
    assert examine({"openvino"}, None)["OpenVINO"]["status"] == "ok"
    assert 'pip install "structvpr[openvino]"' in examine(set(), None)["OpenVINO"]["remedy"]


def test_providers_that_want_a_driver(examine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    assert "cannot start without a driver" in examine(set(), None)["ONNX Runtime"]["found"]
    assert "cannot start" not in examine(set(), GPU)["ONNX Runtime"]["found"]
