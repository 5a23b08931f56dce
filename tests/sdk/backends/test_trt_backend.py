"""Engines: what a query costs, what loading refuses, and that nothing is left, with a fake TensorRT and a fake CUDA.

What only a GPU can show is in test_gpu.py.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import CONTRACT, PLAN, TABLES, FakeCuda, feature_map, make_tensorrt, network, write_engine
from four_threads import wrong_answers

from sdk import ContractError, EngineError
from sdk.backends import cuda as cuda_module
from sdk.backends import trt as trt_module
from sdk.backends.engine_sidecar import sidecar_path
from sdk.backends.trt import TrtBackend
from sdk.contract import FeatureMap

ROOT = Path(__file__).parents[3]
DRIVER = {"version": "13.0", "devices": 1, "code": 0}
SHAPE = (1, CONTRACT.height, CONTRACT.width, 3)


class Bench:
    """A machine with a GPU, as far as the backend can tell."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "model.engine"
        self.monkeypatch = monkeypatch
        self.driver: dict[str, Any] | None = DRIVER
        self.cuda = FakeCuda()

    def install(self, version: str = "10.3.0", cuda: FakeCuda | None = None, **faults: Any) -> None:
        self.cuda = cuda or self.cuda
        module = make_tensorrt(version, self.cuda, **faults)
        self.monkeypatch.setitem(sys.modules, module.__name__, module)
        self.monkeypatch.setattr(cuda_module, "cuda_driver", lambda: self.driver)
        self.monkeypatch.setattr(trt_module, "open_cuda", lambda: self.cuda)
        # Packages that happen to be installed where the tests run say nothing of the machine that is played here.
        self.monkeypatch.setattr(cuda_module, "_cuda_major", lambda runtime: None)

    def load(self, version: str = "10.3.0", **options: Any) -> TrtBackend:
        write_engine(self.path, version)
        return TrtBackend(self.path, **options)

    def refuse(self, kind: type[Exception] = EngineError) -> str:
        """Loading fails with one sentence that names the engine: what was found; what to do."""
        with pytest.raises(kind) as caught:
            TrtBackend(self.path)
        message = str(caught.value)
        assert str(self.path) in message
        assert "\n" not in message
        assert re.search(r"[^;]; [^;]+$", message), message
        return message


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench(tmp_path, monkeypatch)
    bench.install()
    return bench


def picture(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)


# ---------------------------------------------------------------- answers, in every version


@pytest.mark.parametrize("version", TABLES)
@pytest.mark.parametrize("cuda_graph", [True, False])
def test_every_version_answers_and_leaves_nothing(bench: Bench, version: str, cuda_graph: bool) -> None:
    bench.install(version)
    backend = bench.load(version, cuda_graph=cuda_graph)
    assert backend.contract == CONTRACT
    assert backend.uses_cuda_graph is cuda_graph
    for seed in range(3):
        found = backend.infer(picture(seed))["raw_descriptor"]
        assert found.dtype == np.float32
        assert np.array_equal(found, network(picture(seed))[0])
    backend.close()
    bench.cuda.assert_nothing_is_left()
    assert ("validity" in bench.cuda.journal) is version.startswith("rtx")


@pytest.mark.parametrize("version", TABLES)
@pytest.mark.parametrize("cuda_graph", [True, False])
def test_an_engine_gives_every_output_by_name(bench: Bench, version: str, cuda_graph: bool) -> None:
    cells = FeatureMap("cells", height=4, width=2, depth=3, stride_px=8)
    contract = dataclasses.replace(CONTRACT, feature_maps=(cells,))
    bench.install(version, contract=contract)
    write_engine(bench.path, version, contract=contract)
    backend = TrtBackend(bench.path, cuda_graph=cuda_graph)
    outputs = [backend.infer(picture(seed)) for seed in range(3)]
    for seed, found in enumerate(outputs):  # each answer has memory of its own
        assert found.keys() == {"raw_descriptor", "cells"}
        assert np.array_equal(found["raw_descriptor"], network(picture(seed))[0])
        assert np.array_equal(found["cells"], feature_map(picture(seed), cells.shape)[0])
    backend.close()
    bench.cuda.assert_nothing_is_left()


def test_loading_allocates_once_and_warms_up(bench: Bench) -> None:
    backend = bench.load()
    journal = [what for what in bench.cuda.journal if what not in ("push", "pop")]
    assert journal == [
        *("make runtime", "make engine"),
        *("allocate_pinned", "allocate_pinned", "allocate", "allocate", "make context"),
        *("h2d", "execute", "d2h", "synchronize"),
        *("begin capture", "h2d", "execute", "d2h", "end capture", "launch", "synchronize"),
    ]
    backend.close()


def test_a_query_is_one_launch_and_nothing_else(bench: Bench) -> None:
    backend = bench.load()
    for seed in range(3):
        bench.cuda.journal.clear()
        backend.infer(picture(seed))
        assert bench.cuda.journal == ["push", "launch", "synchronize", "pop"]
    assert len(bench.cuda.graphs) == 1
    assert len(bench.cuda.graphs[0]) == 3  # one copy in, one execution, one copy out


def test_a_query_without_a_graph_is_three_pieces_of_work(bench: Bench) -> None:
    backend = bench.load(cuda_graph=False)
    for seed in range(3):
        bench.cuda.journal.clear()
        backend.infer(picture(seed))
        assert bench.cuda.journal == ["push", "h2d", "execute", "d2h", "synchronize", "pop"]


def test_an_answer_is_the_callers_own(bench: Bench) -> None:
    backend = bench.load()
    first = backend.infer(picture(1))["raw_descriptor"]
    kept = first.copy()
    backend.infer(picture(2))
    assert np.array_equal(first, kept)
    assert first.base is None
    backend.close()
    assert np.array_equal(first, kept)


def test_a_frame_need_not_be_contiguous_and_is_left_alone(bench: Bench) -> None:
    backend = bench.load()
    plain = picture(3)
    turned = np.asfortranarray(plain)
    mirrored = plain[:, ::-1, ::-1, ::-1]
    mirrored.flags.writeable = False
    assert np.array_equal(backend.infer(turned)["raw_descriptor"], network(plain)[0])
    assert np.allclose(backend.infer(mirrored)["raw_descriptor"], network(plain)[0][::-1], atol=1e-3)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 48, 32, 3), np.uint8),
        np.zeros((2, 32, 48, 3), np.uint8),
        np.zeros((32, 48, 3), np.uint8),
        np.zeros((1, 3, 32, 48), np.uint8),
        np.zeros((0, 32, 48, 3), np.uint8),
        np.zeros(SHAPE, np.float32),
        np.zeros(SHAPE, np.int8),
        np.zeros(SHAPE, bool),
        [[1, 2, 3]],
        None,
    ],
    ids=lambda batch: f"{batch.dtype} {batch.shape}" if isinstance(batch, np.ndarray) else str(batch),
)
def test_another_input_is_refused_before_the_gpu_sees_it(bench: Bench, batch: Any) -> None:
    backend = bench.load()
    bench.cuda.journal.clear()
    with pytest.raises(
        EngineError, match=r"was called with .*, expected an array of uint8 \(1, 32, 48, 3\); pass what"
    ):
        backend.infer(batch)
    assert bench.cuda.journal == []
    assert np.array_equal(backend.infer(picture(1))["raw_descriptor"], network(picture(1))[0])


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_threads_do_not_mix_their_frames(bench: Bench, cuda_graph: bool) -> None:
    backend = bench.load(cuda_graph=cuda_graph)
    plain = bench.cuda.synchronize

    def slow() -> None:
        time.sleep(1e-4)  # the others run meanwhile
        plain()

    bench.monkeypatch.setattr(bench.cuda, "synchronize", slow)
    frames = [picture(seed) for seed in range(4)]
    assert wrong_answers(backend, frames, [network(frame)[0] for frame in frames], 25) == []
    backend.close()
    bench.cuda.assert_nothing_is_left()


def test_two_engines_in_one_process(bench: Bench) -> None:
    first, first_cuda = bench.load(), bench.cuda
    bench.install(cuda=FakeCuda())
    second = bench.load()
    first.close()
    first_cuda.assert_nothing_is_left()
    assert np.array_equal(second.infer(picture(1))["raw_descriptor"], network(picture(1))[0])


# ---------------------------------------------------------------- graphs that cannot be recorded


@pytest.mark.parametrize(
    "fault",
    [
        {"begin capture": 1},
        {"h2d": 2},
        {"d2h": 2},
        {"end capture": 1},
        {"launch": 1},
        {"synchronize": 2},
    ],
    ids=lambda fault: " ".join(fault),
)
def test_without_a_graph_it_works_as_well(bench: Bench, fault: dict[str, int]) -> None:
    bench.install(cuda=FakeCuda(fail=fault))
    backend = bench.load()
    assert not backend.uses_cuda_graph
    assert bench.cuda.graphs == []
    before = len(bench.cuda.journal)
    assert np.array_equal(backend.infer(picture(1))["raw_descriptor"], network(picture(1))[0])
    assert bench.cuda.journal[before:] == ["push", "h2d", "execute", "d2h", "synchronize", "pop"]
    backend.close()
    bench.cuda.assert_nothing_is_left()


def test_tensorrt_that_refuses_to_be_recorded(bench: Bench) -> None:
    bench.install(execute=2)
    backend = bench.load()
    assert not backend.uses_cuda_graph
    assert np.array_equal(backend.infer(picture(1))["raw_descriptor"], network(picture(1))[0])


# ---------------------------------------------------------------- closing


def test_close_gives_all_back_and_may_be_called_again(bench: Bench) -> None:
    backend = bench.load()
    bench.cuda.journal.clear()
    backend.close()
    order = [what for what in bench.cuda.journal if what not in ("push", "pop")]
    assert order == ["destroy graph", "release context", "release engine", "release runtime", "close"]
    backend.close()
    assert bench.cuda.journal.count("close") == 1
    with pytest.raises(EngineError, match="was closed; load it again"):
        backend.infer(picture(1))
    assert not backend.uses_cuda_graph


def test_who_forgets_to_close(bench: Bench) -> None:
    backend = bench.load()
    del backend
    gc.collect()
    assert bench.cuda.closed
    assert bench.cuda.graphs == []


def test_closing_when_cuda_can_do_no_more(bench: Bench) -> None:
    backend = bench.load()
    bench.cuda.fail["push"] = 1
    backend.close()
    assert bench.cuda.closed
    assert "release context without a context" in bench.cuda.journal


def test_closing_waits_for_a_query(bench: Bench) -> None:
    backend = bench.load()
    inside, go_on = threading.Event(), threading.Event()
    plain = bench.cuda.synchronize

    def slow() -> None:
        inside.set()
        go_on.wait(10)
        plain()

    bench.monkeypatch.setattr(bench.cuda, "synchronize", slow)
    answers: list[Any] = []
    query = threading.Thread(target=lambda: answers.append(backend.infer(picture(1))["raw_descriptor"]))
    query.start()
    inside.wait(10)
    closing = threading.Thread(target=backend.close)
    closing.start()
    assert not bench.cuda.closed
    go_on.set()
    query.join()
    closing.join()
    assert np.array_equal(answers[0], network(picture(1))[0])
    bench.cuda.assert_nothing_is_left()


# ---------------------------------------------------------------- failures half-way


@pytest.mark.parametrize(
    "fault",
    [
        {"allocate_pinned": 1},
        {"allocate_pinned": 2},
        {"allocate": 1},
        {"allocate": 2},
        {"h2d": 1},
        {"d2h": 1},
        {"synchronize": 1},
    ],
    ids=lambda fault: " ".join(f"{what} {count}" for what, count in fault.items()),
)
def test_cuda_that_fails_while_loading(bench: Bench, fault: dict[str, int]) -> None:
    bench.install(cuda=FakeCuda(fail=fault))
    with pytest.raises(EngineError, match="CUDA failed"):
        bench.load()
    bench.cuda.assert_nothing_is_left()


def test_cuda_that_fails_in_the_fallback_too(bench: Bench) -> None:
    bench.install(cuda=FakeCuda(fail={"begin capture": 1, "synchronize": 2}))
    with pytest.raises(EngineError, match="CUDA failed"):
        bench.load()
    bench.cuda.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("refuse", "says"),
    [
        ("runtime", "CUDA initialization failure with error: 35"),
        ("engine", "magicTag failed, really"),
        ("context", "out of memory, really"),
        ("address", "does not take its memory"),
    ],
)
def test_tensorrt_that_refuses(bench: Bench, refuse: str, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    write_engine(bench.path)
    bench.install(refuse=refuse)
    message = bench.refuse()
    assert says in message
    assert "not of interest" not in message
    bench.cuda.assert_nothing_is_left()
    assert capfd.readouterr() == ("", "")


def test_an_engine_that_fails_to_warm_up(bench: Bench) -> None:
    write_engine(bench.path)
    bench.install(execute=1)
    assert "failed in TensorRT ([fake.cpp::line::1] Error Code 1: enqueue refused, really)" in bench.refuse()
    bench.cuda.assert_nothing_is_left()


def test_what_tensorrt_said_before_is_not_said_again(bench: Bench) -> None:
    write_engine(bench.path)
    bench.install(refuse="engine")
    assert "magicTag" in bench.refuse()
    bench.install(cuda=FakeCuda(), refuse="address")
    assert "magicTag" not in bench.refuse()


def test_rtx_that_calls_the_engine_invalid(bench: Bench) -> None:
    version = "rtx_1.7.1.116"
    write_engine(bench.path, version)
    bench.install(version, refuse="validity")
    message = bench.refuse()
    assert "not valid on this GPU (UNSUPPORTED_CC)" in message
    assert "structvpr export engine" in message
    assert "make engine" not in bench.cuda.journal
    bench.cuda.assert_nothing_is_left()


def test_a_query_that_fails(bench: Bench) -> None:
    bench.install(execute=3)
    backend = bench.load(cuda_graph=False)
    backend.infer(picture(0))
    with pytest.raises(EngineError, match=r"failed in TensorRT \(.*enqueue refused, really\); load"):
        backend.infer(picture(1))
    assert bench.cuda.balance == 0
    assert np.array_equal(backend.infer(picture(2))["raw_descriptor"], network(picture(2))[0])
    bench.cuda.fail["synchronize"] = 1
    with pytest.raises(EngineError, match="CUDA failed"):
        backend.infer(picture(1))
    assert bench.cuda.balance == 0


@pytest.mark.parametrize(
    "change",
    [
        {"frame": ("INPUT", "UINT8", (1, 48, 32, 3))},
        {"frame": ("INPUT", "UINT8", (-1, 32, 48, 3))},
        {"frame": ("INPUT", "FLOAT", (1, 32, 48, 3))},
        {"raw_descriptor": ("OUTPUT", "FLOAT", (1, 4))},
        {"raw_descriptor": ("OUTPUT", "HALF", (1, 3))},
        {"another": ("OUTPUT", "FLOAT", (1, 3))},
    ],
    ids=str,
)
def test_ports_that_are_not_the_contracts(bench: Bench, change: dict[str, Any]) -> None:
    ports = {"frame": ("INPUT", "UINT8", SHAPE), "raw_descriptor": ("OUTPUT", "FLOAT", (1, 3)), **change}
    write_engine(bench.path)
    bench.install(ports=ports)
    message = bench.refuse(ContractError)
    assert all(str(port) in message for port in change.values())
    assert "allocate" not in bench.cuda.journal
    bench.cuda.assert_nothing_is_left()


def test_dla_core_is_set_before_loading(bench: Bench) -> None:
    write_engine(bench.path, dla_core=1)
    backend = TrtBackend(bench.path)
    assert backend._loaded._runtime.DLA_core == 1


# ---------------------------------------------------------------- refused before CUDA or TensorRT is touched


@pytest.fixture
def untouched(bench: Bench) -> Any:
    """Neither may be reached."""

    def reached() -> Any:
        pytest.fail("CUDA was opened")

    bench.monkeypatch.setattr(trt_module, "open_cuda", reached)
    bench.monkeypatch.setitem(sys.modules, "tensorrt", None)
    return bench


def test_without_a_sidecar(untouched: Bench) -> None:
    untouched.path.write_bytes(PLAN)
    assert "has no model.engine.json beside it" in untouched.refuse(ContractError)


def test_with_an_altered_sidecar(untouched: Bench) -> None:
    write_engine(untouched.path)
    path = sidecar_path(untouched.path)
    path.write_text(path.read_text().replace('"8.7"', '"8.9"'))
    assert "was altered" in untouched.refuse(ContractError)


@pytest.mark.parametrize("size", [0, 1, len(PLAN) - 1, len(PLAN) + 1])
def test_a_truncated_engine(untouched: Bench, size: int) -> None:
    write_engine(untouched.path)
    untouched.path.write_bytes((PLAN + b"x")[:size])
    message = untouched.refuse()
    assert f"has {size} bytes" in message
    assert "structvpr export engine" in message


def test_another_engine(untouched: Bench) -> None:
    write_engine(untouched.path)
    untouched.path.write_bytes(PLAN[::-1])
    assert "differs from the engine that its sidecar describes" in untouched.refuse()


@pytest.mark.parametrize(
    ("driver", "says"),
    [
        (None, "there is no NVIDIA driver here"),
        ({"version": None, "devices": 0, "code": None}, "does not answer"),
        ({"version": "13.0", "devices": 0, "code": 803}, "does not start (cuInit returns 803)"),
        ({"version": "13.0", "devices": 0, "code": 0}, "finds no GPU"),
        ({"version": "13.0", "devices": 0, "code": 100}, "finds no GPU"),
    ],
)
def test_a_driver_that_is_not_there(untouched: Bench, driver: dict[str, Any] | None, says: str) -> None:
    write_engine(untouched.path)
    untouched.driver = driver
    assert says in untouched.refuse()


@pytest.mark.parametrize(("version", "fits"), [("12.8", False), ("13.0", True), ("14.1", True)])
def test_a_driver_that_is_too_old(bench: Bench, version: str, fits: bool) -> None:
    bench.monkeypatch.setattr(cuda_module, "_cuda_major", lambda runtime: 13)
    bench.driver = {"version": version, "devices": 1, "code": 0}
    write_engine(bench.path)
    if fits:
        TrtBackend(bench.path).close()
    else:
        assert "supports CUDA 12.8, expected CUDA 13 or newer" in bench.refuse()
        assert bench.cuda.journal == []


@pytest.mark.parametrize(
    ("version", "module", "remedy"),
    [("10.3.0", "tensorrt", "--system-site-packages"), ("rtx_1.7.1.116", "tensorrt_rtx", "tensorrt-rtx==1.7.1.116")],
)
def test_tensorrt_that_is_not_installed(untouched: Bench, version: str, module: str, remedy: str) -> None:
    untouched.monkeypatch.setitem(sys.modules, module, None)
    write_engine(untouched.path, version)
    message = untouched.refuse()
    assert f"the Python module {module} cannot be imported" in message
    assert remedy in message


def test_tensorrt_that_says_much_about_why_it_cannot_be_imported(untouched: Bench) -> None:
    (untouched.path.parent / "tensorrt.py").write_text("raise ImportError('no libnvinfer.so\\nand so on\\n')\n")
    untouched.monkeypatch.delitem(sys.modules, "tensorrt")
    untouched.monkeypatch.syspath_prepend(str(untouched.path.parent))
    write_engine(untouched.path)
    assert "cannot be imported (no libnvinfer.so), expected version 10.3.0" in untouched.refuse()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gpu_name": "Thor"}, "10.3.0 on Thor"),
        ({"compute_capabilities": ("8.9",)}, "compute capability 8.9"),
        ({"runtime_version": "10.7.0"}, "tensorrt 10.7.0"),
        ({"multiprocessors": 8}, "8.7, 8 multiprocessors)"),
    ],
)
def test_another_gpu_or_version(bench: Bench, change: dict[str, Any], says: str) -> None:
    write_engine(bench.path, **change)
    message = bench.refuse()
    assert says in message
    assert "tensorrt 10.3.0 on Orin (compute capability 8.7, 16 multiprocessors)" in message
    assert f"structvpr export engine model.onnx -o {bench.path}" in message
    assert bench.cuda.journal == ["close"]


def test_an_engine_compiled_ahead_for_several_gpus(bench: Bench) -> None:
    write_engine(bench.path, gpu_name=None, multiprocessors=None, compute_capabilities=("8.6", "8.7"))
    TrtBackend(bench.path).close()


def test_a_file_that_is_no_engine_with_a_forged_sidecar(bench: Bench) -> None:
    write_engine(bench.path, data=b"no engine" * 100)
    message = bench.refuse()
    assert "cannot be loaded" in message
    assert "magicTag" in message
    bench.cuda.assert_nothing_is_left()


# ---------------------------------------------------------------- NVIDIA's own TensorRT-RTX, up to the driver call

# One sentence for each path. Beyond the probe, where nobody should be without a driver, with a fake CUDA.
RTX_PROGRAM = """
import sys
from pathlib import Path
from sdk import EngineError
from sdk.backends import trt
from fake_tensorrt import FakeCuda

def load(path):
    try:
        trt.TrtBackend(Path(path))
    except EngineError as error:
        print(error)

load(sys.argv[1])
trt.require_driver = lambda *_: None
for path in sys.argv[1:]:
    cuda = FakeCuda("a GPU", "8.6")
    trt.open_cuda = lambda: cuda
    load(path)
    assert cuda.balance == 0 and cuda.closed
"""


@pytest.fixture(scope="module")
def rtx_engine() -> bytes:
    """A tiny network, compiled for compute capability 8.6 by TensorRT-RTX, which needs no GPU."""
    if os.environ.get("STRUCTVPR_REQUIRE_RTX") == "1":
        import tensorrt_rtx as trt
    else:
        trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["frame"], ["pixels"], to=types.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["raw_descriptor"], axes=[1, 2], keepdims=0),
    ]
    ports = [helper.make_tensor_value_info("frame", types.UINT8, SHAPE)]
    ports += [helper.make_tensor_value_info("raw_descriptor", types.FLOAT, (1, 3))]
    graph = helper.make_graph(nodes, "tiny", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    made = builder.create_network(0)
    parser = trt.OnnxParser(made, logger)
    assert parser.parse(model.SerializeToString())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    return bytes(builder.build_serialized_network(made, config))


def test_real_tensorrt_rtx_ends_in_sentences_without_a_driver(tmp_path: Path, rtx_engine: bytes) -> None:
    driver = cuda_module.cuda_driver()
    if driver is not None and driver["devices"] > 0:
        pytest.skip("there is a GPU here; test_gpu.py goes on from there")
    files = {"whole": rtx_engine, "cut": rtx_engine[: len(rtx_engine) // 2], "garbage": b"x" * 4096}
    paths = [tmp_path / f"{name}.engine" for name in files]
    for path, data in zip(paths, files.values(), strict=True):
        write_engine(path, "rtx_1.7.1.116", data, gpu_name=None, compute_capabilities=("8.6",))
    done = subprocess.run(
        [sys.executable, "-c", RTX_PROGRAM, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parents[1])])},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    probed, whole, cut, garbage = done.stdout.splitlines()
    assert "NVIDIA driver" in probed
    for path, said in zip(paths, (whole, cut, garbage), strict=True):
        assert f"{path}: is not valid on this GPU" in said
    assert "MALFORMED_ENGINE" in garbage
