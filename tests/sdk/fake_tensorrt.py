"""A TensorRT and a CUDA that need no GPU, and are strict where the real ones end the process or give stale answers.

Work enqueued on the stream is done when the stream is synchronised and not before. What is used after it was given
back, or without a current context, fails. A class has just the names that its version has by tests/data/tensorrt_api.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from sdk import EngineError, ModelContract
from sdk.backends.engine_sidecar import EngineSidecar, sidecar_path

TABLES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parents[1] / "data" / "tensorrt_api").glob("*.json"))
}
CONTRACT = ModelContract("fake", "0" * 64, 32, 48, 3, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), precision="fp16")
GPU = "Orin"
CAPABILITY = "8.7"
MULTIPROCESSORS = 16  # of a Jetson AGX Orin
PLAN = b"an engine of the fake TensorRT"

Pixels = npt.NDArray[np.uint8]


def network(frame: Pixels) -> npt.NDArray[np.float32]:
    """What the fake engine computes: the mean of each channel, uint8 (1, h, w, 3) -> float32 (1, 3)."""
    return frame.mean(axis=(1, 2), dtype=np.float32)


def feature_map(frame: Pixels, shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """What the fake engine gives as a feature map: a pixel of each cell, channel by channel, float32 (1, h, w, c)."""
    height, width, depth = shape
    rows, columns = frame.shape[1] // height, frame.shape[2] // width
    cells: npt.NDArray[np.float32] = frame[:, ::rows, ::columns, :][:, :height, :width, :depth].astype(np.float32)
    return cells


class Diagnostics(IntEnum):
    """Why TensorRT-RTX calls an engine invalid."""

    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2


class FakeCuda:
    """See `sdk.backends.cuda.Cuda`. `journal` is all that was asked of it and of TensorRT, in order."""

    provider = "fake"
    _streams = itertools.count(0x5000)
    by_stream: dict[int, FakeCuda] = {}  # noqa: RUF012

    def __init__(
        self,
        gpu_name: str = GPU,
        capability: str = CAPABILITY,
        fail: dict[str, int] | None = None,
        multiprocessors: int = MULTIPROCESSORS,
    ) -> None:
        self.gpu_name, self.compute_capability, self.multiprocessors = gpu_name, capability, multiprocessors
        self.stream = next(self._streams)
        self.by_stream[self.stream] = self
        self.journal: list[str] = []
        self.fail = dict(fail or {})  # operation -> its how manieth call fails, from 1
        self.device: dict[int, Any] = {}  # address -> array or None
        self.pinned: dict[int, int] = {}  # address of the array -> its bytes
        self.graphs: list[list[Callable[[], None]]] = []
        self.queue: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        self.depth = threading.local()
        self.balance = 0
        self.closed = False

    def note(self, what: str) -> None:
        self.journal.append(what)
        if what in self.fail:
            self.fail[what] -= 1
            if self.fail[what] == 0:
                raise EngineError(f"CUDA failed ({what}); start the program again")

    def require_current(self) -> None:
        assert getattr(self.depth, "value", 0) > 0, "called without a current context"
        assert not self.closed, "called after close"

    def __enter__(self) -> FakeCuda:
        self.note("push")
        self.depth.value = getattr(self.depth, "value", 0) + 1
        self.balance += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.append("pop")
        self.depth.value -= 1
        self.balance -= 1

    def allocate(self, size_bytes: int) -> int:
        self.require_current()
        self.note("allocate")
        address = 0x10000 * (len(self.device) + 1)
        self.device[address] = None
        return address

    def allocate_pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        self.require_current()
        self.note("allocate_pinned")
        array = np.empty(shape, dtype)
        self.pinned[array.ctypes.data] = array.nbytes
        return array

    def enqueue(self, what: str, work: Callable[[], None]) -> None:
        self.require_current()
        self.note(what)
        (self.queue if self.recording is None else self.recording).append(work)

    def copy_to_device(self, address: int, pinned: npt.NDArray[Any]) -> None:
        assert self.pinned[pinned.ctypes.data] == pinned.nbytes, "not pinned"
        assert address in self.device
        self.enqueue("h2d", lambda: self.device.__setitem__(address, pinned.copy()))

    def copy_to_host(self, pinned: npt.NDArray[Any], address: int) -> None:
        assert self.pinned[pinned.ctypes.data] == pinned.nbytes, "not pinned"
        assert address in self.device
        self.enqueue("d2h", lambda: np.copyto(pinned, self.device[address]))

    def synchronize(self) -> None:
        self.require_current()
        self.note("synchronize")
        assert self.recording is None, "a stream that records cannot be waited for"
        queue, self.queue = self.queue, []
        for work in queue:
            work()

    def capture(self, enqueue: Callable[[], None]) -> Any:
        self.require_current()
        self.note("begin capture")
        self.recording = graph = []
        try:
            enqueue()
            self.note("end capture")
        finally:
            self.recording = None
        self.graphs.append(graph)
        return graph

    def launch(self, graph: list[Callable[[], None]]) -> None:
        self.require_current()
        assert graph in self.graphs, "not a graph, or given back"
        self.note("launch")
        self.queue.extend(graph)

    def destroy(self, graph: list[Callable[[], None]]) -> None:
        self.require_current()
        self.graphs.remove(graph)
        self.journal.append("destroy graph")

    def close(self) -> None:
        if not self.closed:
            self.journal.append("close")
        self.closed = True
        self.device.clear()
        self.pinned.clear()

    def assert_nothing_is_left(self) -> None:
        """All was given back, TensorRT's objects before the memory, and each before what it depends on."""
        assert self.closed
        assert self.balance == 0
        assert self.graphs == []
        made = [what.removeprefix("make ") for what in self.journal if what.startswith("make ")]
        gone = [what.removeprefix("release ") for what in self.journal if what.startswith("release ")]
        assert gone == made[::-1]
        assert self.journal[-1] == "close"


def per_version(table: dict[str, list[str]]) -> Callable[[type], type]:
    """Make a class refuse the names that this version does not have."""

    def restrict(cls: type) -> type:
        plain = cls.__getattribute__

        def look_up(self: Any, name: str) -> Any:
            if not name.startswith("_") and name not in table[cls.__name__]:
                raise AttributeError(f"{cls.__name__} has no {name}")
            return plain(self, name)

        def assign(self: Any, name: str, value: Any) -> None:
            if not name.startswith("_") and name not in table[cls.__name__]:
                raise AttributeError(f"{cls.__name__} has no {name}")
            object.__setattr__(self, name, value)

        cls.__getattribute__ = look_up  # type: ignore[method-assign, assignment]
        cls.__setattr__ = assign  # type: ignore[method-assign, assignment]
        return cls

    return restrict


def make_tensorrt(version: str, cuda: FakeCuda, contract: ModelContract = CONTRACT, **faults: Any) -> ModuleType:
    """The module `tensorrt`, or `tensorrt_rtx` for a version that begins with rtx.

    Args:
        version: a name of tests/data/tensorrt_api.
        cuda: what its objects work on.
        contract: of the engine that it takes for one.
        faults: `ports` (what the engine has instead of the contract's); `refuse` ("runtime", "engine", "context",
            "address", "validity"); `execute` (which call of execute_async_v3 fails, from 1; in a capture as well).
    """
    table = TABLES[version]
    ports = faults.get("ports") or {
        "frame": ("INPUT", "UINT8", (1, contract.height, contract.width, 3)),
        **{name: ("OUTPUT", "FLOAT", (1, *shape)) for name, shape in contract.output_shapes.items()},
    }
    refuse, calls = faults.get("refuse"), itertools.count(1)

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

        def __init__(self) -> None:
            self._complete = True

    def say(logger: Any, line: str) -> None:
        logger.log(ILogger.ERROR, f"[fake.cpp::line::1] Error Code 1:\n {line}; really")
        logger.log(ILogger.INFO, "not of interest")

    class Owned:
        """Notes when it comes and when it goes, with a current context."""

        def __init__(self, what: str, keeps: Any) -> None:
            self._what, self._keeps = what, keeps
            cuda.require_current()
            cuda.journal.append(f"make {what}")

        def __del__(self) -> None:
            if getattr(self, "_what", None):
                current = getattr(cuda.depth, "value", 0) > 0
                cuda.journal.append(f"release {self._what}" + " without a context" * (not current))

    @per_version(table)
    class IExecutionContext(Owned):
        def __init__(self, engine: Any) -> None:
            super().__init__("context", engine)
            self._addresses: dict[str, int] = {}

        def set_tensor_address(self, name: str, memory: int) -> bool:
            assert memory in cuda.device
            self._addresses[name] = memory
            return refuse != "address"

        def execute_async_v3(self, stream_handle: int) -> bool:
            own = FakeCuda.by_stream[stream_handle]
            assert own is cuda
            if next(calls) == faults.get("execute"):
                say(self._keeps._keeps._logger, "enqueue refused")
                return False
            frame, descriptor = self._addresses["frame"], self._addresses["raw_descriptor"]
            maps = {self._addresses[each.name]: each.shape for each in contract.feature_maps}

            def work() -> None:
                cuda.device[descriptor] = network(cuda.device[frame])
                for address, shape in maps.items():
                    cuda.device[address] = feature_map(cuda.device[frame], shape)

            own.enqueue("execute", work)
            return True

    @per_version(table)
    class ICudaEngine(Owned):
        def __init__(self, runtime: Any) -> None:
            super().__init__("engine", runtime)

        @property
        def num_io_tensors(self) -> int:
            return len(ports)

        def get_tensor_name(self, index: int) -> str:
            return list(ports)[index]

        def get_tensor_mode(self, name: str) -> Any:
            return SimpleNamespace(name=ports[name][0])

        def get_tensor_dtype(self, name: str) -> Any:
            return SimpleNamespace(name=ports[name][1])

        def get_tensor_shape(self, name: str) -> Any:
            return list(ports[name][2])

        def create_execution_context(self) -> Any:
            if refuse == "context":
                say(self._keeps._logger, "out of memory")
                return None
            return IExecutionContext(self)

    @per_version(table)
    class Runtime(Owned):
        def __init__(self, logger: Any) -> None:
            assert logger._complete, "ILogger.__init__ was not called"
            if refuse == "runtime":
                say(logger, "CUDA initialization failure with error: 35")
                raise TypeError("pybind11::init(): factory function returned nullptr")
            super().__init__("runtime", None)
            self._logger = logger

        def get_engine_validity(self, buffer: bytes) -> Any:
            cuda.journal.append("validity")
            return SimpleNamespace(name="INVALID" if refuse == "validity" else "VALID"), 2 * (refuse == "validity")

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
            if refuse == "engine" or serialized_engine != PLAN:
                say(self._logger, "magicTag failed")
                return None
            return ICudaEngine(self)

    module = ModuleType("tensorrt_rtx" if version.startswith("rtx") else "tensorrt")
    names = {"ILogger": ILogger, "Runtime": Runtime, "ICudaEngine": ICudaEngine, "IExecutionContext": IExecutionContext}
    if "EngineInvalidityDiagnostics" in table["module"]:
        names["EngineInvalidityDiagnostics"] = Diagnostics
    module.__dict__.update(names, __version__=version.removeprefix("rtx_"))
    return module


def write_engine(path: Path, version: str = "10.3.0", data: bytes = PLAN, **changes: Any) -> EngineSidecar:
    """An engine and its sidecar, as `structvpr export engine` leaves them."""
    values: dict[str, Any] = {
        "contract": CONTRACT,
        "runtime": "tensorrt_rtx" if version.startswith("rtx") else "tensorrt",
        "runtime_version": version.removeprefix("rtx_"),
        "compute_capabilities": (CAPABILITY,),
        "gpu_name": GPU,
        "multiprocessors": MULTIPROCESSORS,
        "cuda_version": "12.6",
        "l4t": None,
        "dla_core": None,
        "onnx_name": "model.onnx",
        "onnx_sha256": "1" * 64,
        "engine_sha256": hashlib.sha256(data).hexdigest(),
        "engine_bytes": len(data),
        "built_at": "2026-11-23T12:00:00+00:00",
        "build_s": 61.5,
        "gate": None,
    }
    sidecar = EngineSidecar(**{**values, **changes})
    path.write_bytes(data)
    sidecar_path(path).write_text(sidecar.to_json())
    return sidecar
