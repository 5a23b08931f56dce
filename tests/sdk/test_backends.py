"""Networks from files: the committed model, and files that are none."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import picture

from sdk import Backend, ContractError, EngineError, ModelContract, open_backend, prepare

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "efficientnet-lite0-gem.onnx"
CONTRACT = ModelContract("tiny", "0" * 64, 32, 32, 3, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


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


def test_descriptor(backend: Backend) -> None:
    batch = prepare(picture(1, 480, 640), backend.contract)
    descriptor = backend.infer(batch)
    assert descriptor.shape == (472,)
    assert descriptor.dtype == np.float32
    assert np.isfinite(descriptor).all()
    # Three levels, each of unit length (StructVPR's head); the final norm is the kernel's.
    assert float(np.linalg.norm(descriptor)) == pytest.approx(3**0.5, rel=1e-4)
    assert np.array_equal(backend.infer(batch), descriptor)


def test_frames_differ_and_channels_matter(backend: Backend) -> None:
    one, other = (backend.infer(prepare(picture(seed, 480, 640), backend.contract)) for seed in (1, 2))
    swapped = backend.infer(prepare(picture(1, 480, 640)[..., ::-1], backend.contract))
    for different in (other, swapped):
        assert float(one @ different) / 3 < 0.999


def test_four_threads_at_once_get_the_same(backend: Backend) -> None:
    batches = [prepare(picture(seed, 240, 320), backend.contract) for seed in range(4)]
    expected = [backend.infer(batch) for batch in batches]
    wrong: list[Any] = []
    start = threading.Barrier(4)

    def ask(first: int) -> None:
        start.wait()
        for i in range(first, first + 8):
            try:
                if not np.array_equal(backend.infer(batches[i % 4]), expected[i % 4]):
                    wrong.append(i)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("threads", [1, 2, None])
def test_the_number_of_threads_changes_nothing_that_matters(threads: int | None, backend: Backend) -> None:
    batch = prepare(picture(5), backend.contract)
    other = open_backend(str(MODEL), threads=threads)
    try:
        assert np.allclose(other.infer(batch), backend.infer(batch), atol=1e-5)
    finally:
        other.close()


@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (1, 240, 320, 1), (2, 240, 320, 3), (240, 320, 3)])
def test_a_wrong_batch_is_an_engine_error(shape: tuple[int, ...], backend: Backend) -> None:
    with pytest.raises(EngineError, match="ONNX Runtime failed") as caught:
        backend.infer(np.zeros(shape, np.uint8))
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- files that are no network


def refuse(path: Path, kind: type[Exception], capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(kind) as caught:
        open_backend(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert re.search("expected .*; ", message)
    assert capfd.readouterr() == ("", "")  # what goes wrong is raised, not printed
    return message


@pytest.mark.parametrize("name", ["model.onnx", "model.txt", "model"])
@pytest.mark.parametrize("data", [b"", b"I am a text, no network.\n" * 20, b"\0" * 1000], ids=["empty", "text", "zero"])
def test_what_is_no_network(name: str, data: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    message = refuse(path, EngineError, capfd)
    assert "cannot load it" in message
    assert "structvpr export onnx" in message


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_cut_model(share: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut.onnx"
    data = MODEL.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refuse(path, EngineError, capfd)


def test_missing_and_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "there is no such file" in refuse(tmp_path / "nope.onnx", EngineError, capfd)
    assert "there is no such file" in refuse(tmp_path, EngineError, capfd)


@pytest.mark.parametrize("name", ["model.engine", "model.plan"])
def test_an_engine_says_what_to_pass_instead(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(b"engine")
    assert "pass the .onnx" in refuse(tmp_path / name, EngineError, capfd)


def tiny(path: Path, contract: str | None, shape: tuple[int, ...] = (1, 32, 32, 3), kind: str = "UINT8") -> Path:
    """A network that averages each channel, with this contract in its metadata."""
    onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["frame"], ["pixels"], to=types.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["raw_descriptor"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frame", getattr(types, kind), shape)],
        [helper.make_tensor_value_info("raw_descriptor", types.FLOAT, (1, shape[-1]))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if contract is not None:
        helper.set_model_props(model, {"contract": contract})
    onnx.save(model, str(path))
    return path


def test_a_tiny_network_runs(tmp_path: Path) -> None:
    backend = open_backend(tiny(tmp_path / "tiny.onnx", CONTRACT.to_json()))
    assert backend.contract == CONTRACT
    batch = prepare(picture(1), CONTRACT)
    assert np.allclose(backend.infer(batch), batch.mean(axis=(0, 1, 2)), atol=1e-3)
    backend.close()


def test_a_network_without_contract(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    message = refuse(tiny(tmp_path / "bare.onnx", None), ContractError, capfd)
    assert "carries no model contract" in message
    assert "structvpr export onnx" in message


@pytest.mark.parametrize("text", ["", "no JSON", "{}", CONTRACT.to_json().replace('"height": 32', '"height": 3')])
def test_a_network_with_a_damaged_contract(text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "contract" in refuse(tiny(tmp_path / "damaged.onnx", text), ContractError, capfd)


@pytest.mark.parametrize("change", [{"descriptor_dim": 4}, {"height": 48}, {"width": 48}])
def test_a_network_that_is_not_what_its_contract_says(
    change: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = dataclasses.replace(CONTRACT, **change)
    message = refuse(tiny(tmp_path / "other.onnx", other.to_json()), ContractError, capfd)
    assert "[1, 32, 32, 3]" in message  # found
    assert str([1, other.height, other.width, 3]) in message  # expected
    assert str([1, other.descriptor_dim]) in message


def test_a_network_that_takes_floats(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    message = refuse(tiny(tmp_path / "float.onnx", CONTRACT.to_json(), kind="FLOAT"), ContractError, capfd)
    assert "tensor(float)" in message
    assert "tensor(uint8)" in message


def test_only_a_network_loads_its_runtime() -> None:
    code = "import sys, sdk; assert 'onnxruntime' not in sys.modules; sdk.open_backend(sys.argv[1]);"
    code += "print(*sorted({'onnxruntime', 'torch', 'onnx', 'tensorrt'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, str(MODEL)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["onnxruntime"]
    assert done.stderr == ""
