"""OpenVINO gives ONNX Runtime's descriptors, and refuses what that refuses.

pip install "structvpr[openvino]"
STRUCTVPR_REQUIRE_OPENVINO=1 pytest tests/sdk/backends/test_ov_backend.py      a missing package is a failure
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from four_threads import wrong_answers
from pictures import picture
from tiny_models import CONTRACT, MODEL, NO_NETWORKS, refuse, tiny, tiny_in

from sdk import Backend, ContractError, EngineError, Localizer, Place, open_backend, prepare

open_it = partial(open_backend, runtime="openvino")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # importing it fails
    message = r'openvino cannot be imported .*; run `pip install "structvpr\[openvino\]"`'
    with pytest.raises(EngineError, match=message):
        open_it(MODEL)


@pytest.fixture(scope="module")
def backend() -> Any:
    if importlib.util.find_spec("openvino") is None:
        if os.environ.get("STRUCTVPR_REQUIRE_OPENVINO") == "1":
            pytest.fail("STRUCTVPR_REQUIRE_OPENVINO=1, but there is no package openvino")
        pytest.skip('openvino is not installed: pip install "structvpr[openvino]"')
    loaded = open_it(MODEL, threads=1)
    yield loaded
    loaded.close()


def test_the_contract_is_the_same(backend: Backend) -> None:
    other = open_backend(MODEL, threads=1)
    assert backend.contract == other.contract
    other.close()


def test_descriptors_are_those_of_onnxruntime(backend: Backend) -> None:
    """In bfloat16, OpenVINO's own choice where the CPU has it, the gap is above 1e-5."""
    other = open_backend(MODEL, threads=1)
    for seed in range(6):
        batch = prepare(picture(seed, 480, 640), backend.contract.size)
        found, expected = backend.infer(batch)["raw_descriptor"], other.infer(batch)["raw_descriptor"]
        assert (found.dtype, found.shape) == (np.float32, (472,))
        one, two = found.astype(np.float64), expected.astype(np.float64)
        assert 1 - one @ two / np.linalg.norm(one) / np.linalg.norm(two) < 1e-9
        assert np.abs(one - two).max() < 1e-5
        assert np.array_equal(backend.infer(batch)["raw_descriptor"], found)
    other.close()


def test_an_answer_is_the_callers_own(backend: Backend) -> None:
    batches = [prepare(picture(seed), backend.contract.size) for seed in (1, 2)]
    first = backend.infer(batches[0])["raw_descriptor"]
    kept = first.copy()
    backend.infer(batches[1])
    assert np.array_equal(first, kept)
    batches[0][...] = 0  # nor does it look at the frame later
    assert np.array_equal(first, kept)


def test_a_batch_that_lies_apart_in_memory(backend: Backend) -> None:
    batch = prepare(picture(1), backend.contract.size)
    apart = np.repeat(batch, 2, axis=2)[:, :, ::2]
    assert not apart.flags.c_contiguous
    assert np.array_equal(backend.infer(apart)["raw_descriptor"], backend.infer(batch)["raw_descriptor"])


def test_four_threads_at_once_get_the_same(backend: Backend) -> None:
    batches = [prepare(picture(seed, 240, 320), backend.contract.size) for seed in range(4)]
    expected = [backend.infer(batch)["raw_descriptor"] for batch in batches]
    assert wrong_answers(backend, batches, expected, 8) == []


@pytest.mark.parametrize("threads", [2, None])
def test_the_number_of_threads_changes_nothing_that_matters(threads: int | None, backend: Backend) -> None:
    batch = prepare(picture(5), backend.contract.size)
    other = open_it(str(MODEL), threads=threads)
    assert np.allclose(other.infer(batch)["raw_descriptor"], backend.infer(batch)["raw_descriptor"], atol=1e-5)
    other.close()


@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (1, 240, 320, 1), (2, 240, 320, 3), (240, 320, 3)])
def test_a_batch_of_another_shape(shape: tuple[int, ...], backend: Backend) -> None:
    with pytest.raises(EngineError, match=rf"was called with uint8 {re.escape(str(shape))}, expected .*; pass what"):
        backend.infer(np.zeros(shape, np.uint8))


def test_a_batch_of_another_type(backend: Backend) -> None:
    """OpenVINO itself would convert it without a word."""
    for batch in (np.zeros((1, 240, 320, 3), np.float32), [[0]]):
        with pytest.raises(EngineError, match=r"was called with .*, expected an array of uint8"):
            backend.infer(batch)["raw_descriptor"]  # type: ignore[arg-type]


def test_closing(backend: Backend) -> None:
    other = open_it(MODEL, threads=1)
    other.close()
    other.close()
    with pytest.raises(EngineError, match=r"was closed; load it again"):
        other.infer(prepare(picture(1), backend.contract.size))
    backend.infer(prepare(picture(1), backend.contract.size))["raw_descriptor"]  # others live on


def test_a_localizer_takes_it(backend: Backend, tmp_path: Path) -> None:
    with Localizer(backend, tmp_path / "one.places", create=True) as localizer:
        gate = localizer.add(picture(1, 480, 640), Place("gate"))
        assert localizer.query(picture(1, 480, 640)).place == gate
    with Localizer(MODEL, tmp_path / "one.places") as localizer:  # the map of one runtime is the other's too
        # A float16 map may move a similarity by 1e-3; measured 1.3e-5, with either runtime alone too.
        assert localizer.query(picture(1, 480, 640)).matches[0].similarity > 1 - 1e-3


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_precisions(precision: str, backend: Backend, tmp_path: Path) -> None:
    tiny_backend = open_it(tiny_in(precision, tmp_path))
    assert tiny_backend.contract == dataclasses.replace(CONTRACT, precision=precision)
    batch = prepare(picture(1), CONTRACT.size)
    assert np.allclose(tiny_backend.infer(batch)["raw_descriptor"], batch.mean(axis=(0, 1, 2)), rtol=0.01)
    tiny_backend.close()


# ---------------------------------------------------------------- files that are no network


@pytest.mark.parametrize("data", NO_NETWORKS.values(), ids=NO_NETWORKS)
def test_what_is_no_network(data: bytes, backend: Backend, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    message = refuse(open_it, path, EngineError, capfd)
    assert "OpenVINO cannot load it" in message
    assert "structvpr export onnx" in message


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_cut_model(share: float, backend: Backend, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut.onnx"
    data = MODEL.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refuse(open_it, path, EngineError, capfd)


@pytest.mark.parametrize(
    ("contract", "more", "said"),
    [
        (None, {}, "carries no model contract"),
        ("{}", {}, "model contract lacks"),
        (dataclasses.replace(CONTRACT, height=48).to_json(), {}, str([1, 48, 32, 3])),
        (dataclasses.replace(CONTRACT, descriptor_dim=4).to_json(), {}, str([1, 4])),
        (CONTRACT.to_json(), {"kind": "FLOAT"}, "takes [('f32', [1, 32, 32, 3])]"),
        (CONTRACT.to_json(), {"shape": ("n", 32, 32, 3)}, "expected [('u8', [1, 32, 32, 3])]"),
    ],
)
def test_a_network_of_another_contract(
    contract: str | None,
    more: dict[str, Any],
    said: str,
    backend: Backend,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert said in refuse(open_it, tiny(tmp_path / "tiny.onnx", contract, **more), ContractError, capfd)


def test_only_its_runtime_is_loaded(backend: Backend) -> None:
    code = "import sys, sdk; sdk.open_backend(sys.argv[1], runtime='openvino');"
    code += "print(*sorted({'onnxruntime', 'openvino', 'torch', 'onnx', 'tensorrt'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, str(MODEL)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino"]
    assert done.stderr == ""
