"""Engines on a real GPU: built there, compared with ONNX Runtime, timed, and run for long beside torch.

    python -m pytest tests/sdk/test_gpu.py -s     prints the figures; STRUCTVPR_REQUIRE_GPU=1: no engine is a failure

Wants a CUDA device, `tensorrt` or `tensorrt_rtx`, `cuda-bindings` or pycuda, and the extra export.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from four_threads import wrong_answers
from pictures import picture

from sdk import EngineError, open_backend, prepare
from sdk.backends import trt as trt_module
from sdk.backends.cuda import open_cuda
from sdk.backends.engine_sidecar import RUNTIMES, read_sidecar, sidecar_path
from sdk.backends.trt import TrtBackend
from sdk.evaluation.latency import memory_bytes
from sdk.machine.device import cuda_driver, describe_device

MODEL = Path(__file__).parents[2] / "models" / "efficientnet-lite0-gem.onnx"
REQUIRED = os.environ.get("STRUCTVPR_REQUIRE_GPU") == "1"
DRIVER = cuda_driver()
NO_GPU = DRIVER is None or DRIVER["devices"] == 0

pytestmark = pytest.mark.skipif(NO_GPU and not REQUIRED, reason="no CUDA device: run this on one")

WARM_UP = 50
ROUNDS = 500
LONG = 10_000
MEBIBYTE = 1 << 20


def give_up(reason: str) -> NoReturn:
    if REQUIRED:
        pytest.fail(reason)
    pytest.skip(reason)


def show(what: str, figures: dict[str, Any]) -> None:
    print(f"\n{what}: {json.dumps(figures)}")


def percentiles_us(times_s: list[float]) -> dict[str, float]:
    shares = {"min": 0, "p50": 50, "p90": 90, "p99": 99, "max": 100}
    return {name: round(1e6 * float(np.percentile(times_s, share)), 1) for name, share in shares.items()}


def timed(work: Callable[[], Any], rounds: int = ROUNDS) -> list[float]:
    for _ in range(WARM_UP):
        work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return times


@pytest.fixture(scope="module", params=RUNTIMES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed model in float32, built here by each TensorRT that is installed."""
    try:
        importlib.import_module(request.param)
    except (ImportError, OSError) as error:
        if not any(importlib.util.find_spec(name) for name in RUNTIMES):
            give_up("neither tensorrt nor tensorrt_rtx is installed")
        pytest.skip(f"{request.param} cannot be imported: {error}")
    if importlib.util.find_spec("onnx") is None:
        give_up("the extra export is not installed")
    from export.engine.build import BuildSettings
    from export.engine.from_onnx import export_engine

    folder = tmp_path_factory.mktemp(request.param)
    path = folder / "model.engine"
    try:
        sidecar = export_engine(MODEL, path, BuildSettings(runtime=request.param, timing_cache=folder))
        TrtBackend(path).close()
    except EngineError as error:
        give_up(f"{request.param} does not take this GPU: {error}")
    show("engine", {**json.loads(sidecar.to_json()), "driver": DRIVER, "device": describe_device()["model"]})
    return path


@pytest.fixture(params=["cuda-bindings", "pycuda"])
def provider(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    try:
        open_cuda(request.param).close()
    except EngineError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(trt_module, "open_cuda", lambda: open_cuda(request.param))
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["graph", "no graph"])
def backend(request: pytest.FixtureRequest, engine: Path, provider: str) -> Iterator[TrtBackend]:
    if request.param and provider == "pycuda":
        pytest.skip("pycuda has no graphs")
    backend = TrtBackend(engine, cuda_graph=request.param)
    assert backend.uses_cuda_graph is request.param
    yield backend
    backend.close()


def label(backend: TrtBackend) -> str:
    loaded = backend._loaded
    return f"{loaded._sidecar.runtime}, {loaded._cuda.provider}, {'graph' if backend.uses_cuda_graph else 'no graph'}"


def test_parity_with_onnx_runtime(backend: TrtBackend) -> None:
    reference = open_backend(MODEL)
    gaps, differences = [], []
    for seed in range(16):
        batch = prepare(picture(seed, 480, 640), backend.contract.size)
        expected, found = reference.infer(batch)["raw_descriptor"], backend.infer(batch)["raw_descriptor"]
        assert np.array_equal(backend.infer(batch)["raw_descriptor"], found)
        gaps.append(1 - float(expected @ found / np.linalg.norm(expected) / np.linalg.norm(found)))
        differences.append(float(np.abs(expected - found).max()))
    reference.close()
    show(f"parity, {label(backend)}", {"1 - cosine": max(gaps), "largest difference": max(differences)})
    assert max(gaps) <= 1e-5
    assert max(differences) <= 1e-3


def test_latency_by_stage(backend: TrtBackend) -> None:
    """Each stage waited for by itself, so their sum is more than a query."""
    loaded, batch = backend._loaded, prepare(picture(1, 480, 640), backend.contract.size)
    cuda = loaded._cuda
    assert cuda is not None
    stages = {
        "copy into pinned memory": lambda: np.copyto(loaded._frame, batch),
        "to the device": lambda: cuda.copy_to_device(loaded._frame_address, loaded._frame),
        "network": lambda: loaded._context.execute_async_v3(cuda.stream),
        "to the host": lambda: cuda.copy_to_host(loaded._descriptor, loaded._descriptor_address),
        "copy out of pinned memory": lambda: loaded._descriptor[0].copy(),
        "nothing": lambda: None,
    }
    figures = {"query": percentiles_us(timed(lambda: backend.infer(batch)["raw_descriptor"]))}
    with cuda:
        for name, work in stages.items():
            figures[name] = percentiles_us(timed(lambda work=work: (work(), cuda.synchronize())))  # type: ignore[misc]
    show(f"µs, {label(backend)}", figures)


def test_overhead_over_enqueue_and_synchronize(backend: TrtBackend) -> None:
    """Both in turn, so that a clock that changes changes both."""
    loaded, batch = backend._loaded, prepare(picture(1, 480, 640), backend.contract.size)
    cuda = loaded._cuda
    assert cuda is not None

    def bare() -> None:
        if loaded.graph is not None:
            cuda.launch(loaded.graph)
        else:
            loaded._enqueue(cuda)
        cuda.synchronize()

    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(20):
        ours += timed(lambda: backend.infer(batch)["raw_descriptor"], 100)
        with cuda:
            theirs += timed(bare, 100)
    median, least = float(np.median(ours)), float(np.median(theirs))
    figures = {"query": percentiles_us(ours), "bare": percentiles_us(theirs), "overhead_us": 1e6 * (median - least)}
    show(f"overhead in µs, {label(backend)}", figures)
    assert median - least <= max(0.05 * least, 20e-6)


def device_bytes_used(provider: str) -> int:
    if provider == "pycuda":
        free, total = importlib.import_module("pycuda.driver").mem_get_info()
    else:
        _, free, total = importlib.import_module("cuda.bindings.driver").cuMemGetInfo()
    return int(total) - int(free)


def memory(backend: TrtBackend) -> dict[str, int]:
    gc.collect()
    cuda = backend._loaded._cuda
    assert cuda is not None
    with cuda:
        return {"host": memory_bytes()["resident"] or 0, "device": device_bytes_used(cuda.provider)}


def test_ten_thousand_queries_do_not_grow(backend: TrtBackend) -> None:
    batches = [prepare(picture(seed, 480, 640), backend.contract.size) for seed in range(4)]
    expected = [backend.infer(batch)["raw_descriptor"] for batch in batches]
    for i in range(1000):
        backend.infer(batches[i % 4])
    before = memory(backend)
    for i in range(LONG):
        found = backend.infer(batches[i % 4])["raw_descriptor"]
        if i % 100 == 0:
            assert np.array_equal(found, expected[i % 4])
    after = memory(backend)
    grown = {name: after[name] - before[name] for name in before}
    show(f"bytes grown in {LONG} queries, {label(backend)}", grown)
    assert grown["host"] <= 2 * MEBIBYTE
    assert grown["device"] <= 2 * MEBIBYTE


def test_loading_again_and_again_does_not_grow(engine: Path, provider: str) -> None:
    kept = TrtBackend(engine)  # so that the context stays
    for _ in range(3):
        TrtBackend(engine).close()
    before = memory(kept)
    for _ in range(10):
        TrtBackend(engine).close()
    after = memory(kept)
    kept.close()
    grown = {name: after[name] - before[name] for name in before}
    show("bytes grown in 10 loads", {"provider": provider, **grown})
    assert grown["device"] <= 2 * MEBIBYTE
    assert grown["host"] <= 32 * MEBIBYTE


def test_four_threads_at_once(backend: TrtBackend) -> None:
    batches = [prepare(picture(seed, 480, 640), backend.contract.size) for seed in range(4)]
    expected = [backend.infer(batch)["raw_descriptor"] for batch in batches]
    assert wrong_answers(backend, batches, expected, 200) == []


def test_beside_torch(engine: Path, provider: str) -> None:
    """torch computes before, in another thread meanwhile, and after; neither changes what the other gives."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    matrix = torch.arange(256 * 256, dtype=torch.float64, device="cuda").reshape(256, 256) / 65536
    product = (matrix @ matrix).cpu()
    backend = TrtBackend(engine)
    batch = prepare(picture(1, 480, 640), backend.contract.size)
    expected = backend.infer(batch)["raw_descriptor"]
    stream, device = torch.cuda.current_stream().cuda_stream, torch.cuda.current_device()
    wrong: list[Any] = []
    done = threading.Event()

    def multiply() -> None:
        while not done.is_set():
            fresh = torch.empty(1 << 20, device="cuda").fill_(1)  # allocates, which a recording must survive
            if not torch.equal((matrix @ matrix).cpu(), product) or float(fresh.sum()) != 1 << 20:
                wrong.append("torch")

    thread = threading.Thread(target=multiply)
    thread.start()
    again = TrtBackend(engine)
    for _ in range(500):
        if not (
            np.array_equal(backend.infer(batch)["raw_descriptor"], expected)
            and np.array_equal(again.infer(batch)["raw_descriptor"], expected)
        ):
            wrong.append("engine")
    done.set()
    thread.join()
    again.close()
    backend.close()
    assert wrong == []
    assert (torch.cuda.current_stream().cuda_stream, torch.cuda.current_device()) == (stream, device)
    assert torch.equal((matrix @ matrix).cpu(), product)
    show("beside torch", {"provider": provider, "wrong": 0})


PROGRAM = """
import sys
from pathlib import Path
from sdk import EngineError, ContractError
from sdk.backends.trt import TrtBackend
try:
    TrtBackend(Path(sys.argv[1]))
except (EngineError, ContractError) as error:
    print(error)
"""


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_cut_engine_with_a_forged_sidecar_does_not_end_the_process(
    share: float, engine: Path, tmp_path: Path
) -> None:
    data = engine.read_bytes()
    data = data[: int(len(data) * share)]
    path = tmp_path / "cut.engine"
    path.write_bytes(data)
    sidecar = replace(read_sidecar(engine), engine_sha256=hashlib.sha256(data).hexdigest(), engine_bytes=len(data))
    sidecar_path(path).write_text(sidecar.to_json())
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=False)
    show("a cut engine", {"share": share, "said": done.stdout.strip()})
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stdout
    assert done.stdout.count("\n") == 1


def test_who_does_not_close_ends_in_peace(engine: Path) -> None:
    code = "import sys; from pathlib import Path; from sdk.backends.trt import TrtBackend\n"
    code += "backend = TrtBackend(Path(sys.argv[1])); print(backend.contract.name)"
    done = subprocess.run([sys.executable, "-c", code, str(engine)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
