"""Networks from files: the committed model, and files that are none."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from four_threads import wrong_answers
from pictures import picture
from tiny_models import CONTRACT, MODEL, NO_NETWORKS, refuse, tiny, tiny_in

from sdk import Backend, ContractError, EngineError, UsageError, open_backend, prepare


@pytest.fixture(scope="module")
def backend() -> Any:
    with_threads = open_backend(MODEL, threads=1)
    yield with_threads
    with_threads.close()


def test_the_model_is_what_its_card_says(backend: Backend) -> None:
    contract = backend.contract
    card = (MODEL.parent / "README.md").read_text()
    assert contract.identity in card
    assert contract.weights in card
    assert (contract.height, contract.width, contract.descriptor_dim) == (240, 320, 472)
    assert contract.precision == "fp32"
    assert MODEL.stat().st_size < 15e6


def test_the_trained_model_is_what_its_card_says() -> None:
    path = MODEL.parent / "efficientnet-lite0-structvpr.onnx"
    card = (path.parent / "README.md").read_text()
    trained = open_backend(path, threads=1)
    contract = trained.contract
    assert contract.identity in card
    assert contract.weights in card
    assert hashlib.sha256(path.read_bytes()).hexdigest() in card
    assert (contract.height, contract.width, contract.descriptor_dim) == (120, 160, 512)
    descriptor = trained.infer(prepare(picture(1, 480, 640), contract.size))["raw_descriptor"]
    # Two unit vectors side by side, the second weighted by 0.6; the final norm is the kernel's.
    assert float(np.linalg.norm(descriptor)) == pytest.approx(1.36**0.5, rel=1e-4)
    trained.close()


def test_descriptor(backend: Backend) -> None:
    batch = prepare(picture(1, 480, 640), backend.contract.size)
    descriptor = backend.infer(batch)["raw_descriptor"]
    assert descriptor.shape == (472,)
    assert descriptor.dtype == np.float32
    assert np.isfinite(descriptor).all()
    # Three levels, each of unit length (StructVPR's head); the final norm is the kernel's.
    assert float(np.linalg.norm(descriptor)) == pytest.approx(3**0.5, rel=1e-4)
    assert np.array_equal(backend.infer(batch)["raw_descriptor"], descriptor)


def test_frames_differ_and_channels_matter(backend: Backend) -> None:
    one, other = (
        backend.infer(prepare(picture(seed, 480, 640), backend.contract.size))["raw_descriptor"] for seed in (1, 2)
    )
    swapped = backend.infer(prepare(picture(1, 480, 640)[..., ::-1], backend.contract.size))["raw_descriptor"]
    for different in (other, swapped):
        assert float(one @ different) / 3 < 0.999


def test_four_threads_at_once_get_the_same(backend: Backend) -> None:
    batches = [prepare(picture(seed, 240, 320), backend.contract.size) for seed in range(4)]
    expected = [backend.infer(batch)["raw_descriptor"] for batch in batches]
    assert wrong_answers(backend, batches, expected, 8) == []


@pytest.mark.parametrize("threads", [1, 2, None])
def test_the_number_of_threads_changes_nothing_that_matters(threads: int | None, backend: Backend) -> None:
    batch = prepare(picture(5), backend.contract.size)
    other = open_backend(str(MODEL), threads=threads)
    try:
        assert np.allclose(other.infer(batch)["raw_descriptor"], backend.infer(batch)["raw_descriptor"], atol=1e-5)
    finally:
        other.close()


@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (1, 240, 320, 1), (2, 240, 320, 3), (240, 320, 3)])
def test_a_wrong_batch_is_an_engine_error(shape: tuple[int, ...], backend: Backend) -> None:
    with pytest.raises(EngineError, match="ONNX Runtime failed") as caught:
        backend.infer(np.zeros(shape, np.uint8))
    assert "\n" not in str(caught.value)


def test_closing(tmp_path: Path) -> None:
    backend = open_backend(tiny(tmp_path / "tiny.onnx", CONTRACT.to_json()))
    backend.close()
    backend.close()
    with pytest.raises(EngineError, match=r"was closed; load it again"):
        backend.infer(prepare(picture(1), CONTRACT.size))


# ---------------------------------------------------------------- files that are no network


@pytest.mark.parametrize("name", ["model.onnx", "model.txt", "model"])
@pytest.mark.parametrize("data", NO_NETWORKS.values(), ids=NO_NETWORKS)
def test_what_is_no_network(name: str, data: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    message = refuse(open_backend, path, EngineError, capfd)
    assert "cannot load it" in message
    assert "structvpr export onnx" in message


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_cut_model(share: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut.onnx"
    data = MODEL.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refuse(open_backend, path, EngineError, capfd)


def test_missing_and_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "nope.onnx", tmp_path / "nope.engine", tmp_path):
        assert "there is no such file" in refuse(open_backend, path, EngineError, capfd)


def test_a_name_or_a_folder_that_cannot_be_looked_at(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a" * 300 + ".onnx", "a" * 300 + ".engine"):
        refuse(open_backend, tmp_path / name, EngineError, capfd)
    longest = tmp_path / ("a" * 245 + ".engine")  # which leaves no room for .json
    longest.write_bytes(b"engine")
    refuse(open_backend, longest, ContractError, capfd)

    def forbid(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", forbid)  # as for a folder that may not be entered; root may enter any
    assert "cannot be read (Permission denied); check the name" in refuse(
        open_backend, tmp_path / "model.onnx", EngineError, capfd
    )


@pytest.mark.parametrize("name", ["model.engine", "model.plan"])
def test_an_engine_is_for_tensorrt(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    path.write_bytes(b"engine")
    assert f"has no {name}.json beside it" in refuse(open_backend, path, ContractError, capfd)
    with pytest.raises(EngineError, match=r"is a TensorRT engine, which openvino does not run; pass the "):
        open_backend(path, runtime="openvino")


def test_a_tiny_network_runs(tmp_path: Path) -> None:
    backend = open_backend(tiny(tmp_path / "tiny.onnx", CONTRACT.to_json()))
    assert backend.contract == CONTRACT
    batch = prepare(picture(1), CONTRACT.size)
    assert np.allclose(backend.infer(batch)["raw_descriptor"], batch.mean(axis=(0, 1, 2)), atol=1e-3)
    backend.close()


def test_a_network_without_contract(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    message = refuse(open_backend, tiny(tmp_path / "bare.onnx", None), ContractError, capfd)
    assert "carries no model contract" in message
    assert "structvpr export onnx" in message


@pytest.mark.parametrize("text", ["", "no JSON", "{}", CONTRACT.to_json().replace('"height": 32', '"height": 3')])
def test_a_network_with_a_damaged_contract(text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "contract" in refuse(open_backend, tiny(tmp_path / "damaged.onnx", text), ContractError, capfd)


@pytest.mark.parametrize("change", [{"descriptor_dim": 4}, {"height": 48}, {"width": 48}])
def test_a_network_that_is_not_what_its_contract_says(
    change: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = dataclasses.replace(CONTRACT, **change)
    message = refuse(open_backend, tiny(tmp_path / "other.onnx", other.to_json()), ContractError, capfd)
    assert "[1, 32, 32, 3]" in message  # found
    assert str([1, other.height, other.width, 3]) in message  # expected
    assert str([1, other.descriptor_dim]) in message


def test_a_network_that_takes_floats(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    message = refuse(
        open_backend, tiny(tmp_path / "float.onnx", CONTRACT.to_json(), kind="FLOAT"), ContractError, capfd
    )
    assert "tensor(float)" in message
    assert "tensor(uint8)" in message


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_run_as_they_are(precision: str, tmp_path: Path) -> None:
    backend = open_backend(tiny_in(precision, tmp_path))
    assert backend.contract.precision == precision
    assert backend.contract.identity == CONTRACT.identity
    batch = prepare(picture(1), CONTRACT.size)
    found = backend.infer(batch)["raw_descriptor"]
    assert found.dtype == np.float32
    # On a CPU, ONNX Runtime computes fp16 in fp32, between roundings; the file has int8 in steps of 2, up to 254.
    expected = batch if precision == "fp16" else 2 * np.minimum(np.rint(batch / 2), 127)
    assert np.allclose(found, expected.mean(axis=(0, 1, 2)), rtol=1e-3)
    backend.close()


# ---------------------------------------------------------------- which runtime, and on what


def test_an_unknown_runtime() -> None:
    with pytest.raises(UsageError, match=r"runtime is 'cuda', expected one of onnxruntime, .*openvino"):
        open_backend(MODEL, runtime="cuda")


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_that_are_none(threads: int) -> None:
    with pytest.raises(UsageError, match=f"threads is {threads}, expected at least 1"):
        open_backend(MODEL, threads=threads)


def test_the_runtime_by_name_is_the_default(backend: Backend) -> None:
    named = open_backend(MODEL, threads=1, runtime="onnxruntime")
    batch = prepare(picture(3), named.contract.size)
    assert np.array_equal(named.infer(batch)["raw_descriptor"], backend.infer(batch)["raw_descriptor"])
    named.close()


CPU = "CPUExecutionProvider"


class GpuRuntime(types.ModuleType):
    """ONNX Runtime as the package onnxruntime-gpu: it knows the GPU, whether or not that starts."""

    def __init__(self, starts: set[str]) -> None:
        super().__init__("onnxruntime")
        import onnxruntime

        self._real = onnxruntime
        self._starts = starts
        self.asked: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_available_providers(self) -> list[str]:
        return [f"{name}ExecutionProvider" for name in ("Tensorrt", "CUDA", "CPU")]

    def InferenceSession(self, path: str, options: Any, providers: list[Any], **more: Any) -> Any:
        self.asked = providers
        self.more = more
        names = [name if isinstance(name, str) else name[0] for name in providers]
        used = [name for name in names if name in self._starts or name == "CPUExecutionProvider"]
        # Of those that start, the first is said to run what the CPU runs; where none does, ONNX Runtime itself decides.
        session = self._real.InferenceSession(path, None if used else options, providers=used and [CPU])
        session.get_providers = lambda: used
        return session


@pytest.mark.parametrize(
    ("runtime", "first"),
    [("onnxruntime-cuda", "CUDAExecutionProvider"), ("onnxruntime-tensorrt", "TensorrtExecutionProvider")],
)
def test_a_gpu_is_used_if_asked_for(runtime: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = GpuRuntime({"CUDAExecutionProvider", "TensorrtExecutionProvider"})
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    backend = open_backend(MODEL, runtime=runtime)
    names = [name if isinstance(name, str) else name[0] for name in fake.asked]
    assert names[0] == first
    assert CPU not in names
    assert dict(each for each in fake.asked if not isinstance(each, str))["CUDAExecutionProvider"]["use_tf32"] == "0"
    assert fake.more == {"enable_fallback": 0}  # neither now nor in the middle of a run
    backend.close()
    open_backend(MODEL).close()
    assert fake.asked == ["CPUExecutionProvider"]  # also with a GPU: it is used if asked for


@pytest.mark.parametrize(
    ("runtime", "starts", "said"),
    [
        ("onnxruntime-cuda", set(), "some or all operators on the CPU, expected only CUDA; "),
        ("onnxruntime-tensorrt", set(), "some or all operators on the CPU, expected only Tensorrt and CUDA; "),
        ("onnxruntime-tensorrt", {"CUDAExecutionProvider"}, "it on CUDA, because Tensorrt did not start; "),
    ],
)
def test_falling_back_is_an_error(runtime: str, starts: set[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", GpuRuntime(starts))
    with pytest.raises(EngineError, match=f"would run {said}check the driver") as caught:
        open_backend(MODEL, runtime=runtime)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("runtime", "wanted"), [("onnxruntime-cuda", "CUDA"), ("onnxruntime-tensorrt", "Tensorrt")])
def test_a_runtime_without_the_gpu_says_so(runtime: str, wanted: str, capfd: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    if f"{wanted}ExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has the provider {wanted}")
    with pytest.raises(EngineError, match=f"this ONNX Runtime has .*CPU.*, expected {wanted}; .*onnxruntime-gpu"):
        open_backend(MODEL, runtime=runtime)
    assert capfd.readouterr() == ("", "")


def test_only_a_network_loads_its_runtime() -> None:
    code = "import sys, sdk; assert 'onnxruntime' not in sys.modules; sdk.open_backend(sys.argv[1]);"
    code += "print(*sorted({'onnxruntime', 'openvino', 'torch', 'onnx', 'tensorrt'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, str(MODEL)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["onnxruntime"]
    assert done.stderr == ""
