"""TensorRT and TensorRT-RTX: run an engine on the GPU that it was built for.

The code uses only names that every TensorRT from 8.5 on has (tests/sdk/backends/test_tensorrt_api.py).
"""

from __future__ import annotations

import importlib
import threading
import weakref
from collections import deque
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract import ModelContract
from ..errors import ContractError, EngineError, first_line
from .batch import require_batch
from .cuda import Cuda, open_cuda, require_driver
from .engine_sidecar import EngineSidecar, read_sidecar, rebuild_command, require_fit, require_intact

__all__ = ["TrtBackend"]

FRAME = "frame"
INSTALL = {
    "tensorrt": "on a Jetson `apt install python3-libnvinfer` and make the environment with `--system-site-packages`, "
    "elsewhere `pip install tensorrt=={version}`",
    "tensorrt_rtx": "`pip install tensorrt-rtx=={version}`",
}


class TrtBackend:
    """A model.engine with its sidecar. See `Backend`.

    Loading allocates all device and page-locked memory, and runs the engine once. A query only copies the frame in,
    runs the engine, and copies the outputs out.
    """

    def __init__(self, path: Path, *, cuda_graph: bool = True) -> None:
        """Load the engine.

        Args:
            path: the file, with its sidecar beside it.
            cuda_graph: record the work of a query as a CUDA graph if possible, and launch it as one.

        Raises:
            ContractError: the sidecar is missing or altered, or the engine does not match its contract.
            EngineError: the engine was altered, cannot be loaded, or was built for another GPU or TensorRT; or GPU,
                driver or TensorRT are missing.
        """
        sidecar = read_sidecar(path)
        data = require_intact(path, sidecar)
        require_driver(str(path), sidecar.runtime)
        trt = _import_runtime(path, sidecar)
        self._path = path
        self._contract = sidecar.contract
        cuda = open_cuda()
        try:
            require_fit(
                path,
                sidecar,
                runtime=sidecar.runtime,
                version=trt.__version__,
                gpu_name=cuda.gpu_name,
                compute_capability=cuda.compute_capability,
                multiprocessors=cuda.multiprocessors,
            )
            self._loaded = _LoadedEngine(path, sidecar, data, trt, cuda, cuda_graph)
        except BaseException:
            cuda.close()
            raise
        # If the user forgets to close: before the interpreter unloads the modules that TensorRT depends on.
        self._finalizer = weakref.finalize(self, self._loaded.close)

    @property
    def contract(self) -> ModelContract:
        return self._contract

    @property
    def uses_cuda_graph(self) -> bool:
        """Whether a query launches a recorded CUDA graph."""
        return self._loaded.graph is not None

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        require_batch(self._path, self._contract, batch)
        return self._loaded.run(batch)

    def close(self) -> None:
        self._finalizer()


class _LoadedEngine:
    """Everything that must be released in the right order, even if loading fails half-way.

    No local variable holds an object of TensorRT where an error may be raised: the traceback would keep the object
    alive until after its memory is freed.
    """

    def __init__(self, path: Path, sidecar: EngineSidecar, data: bytes, trt: Any, cuda: Cuda, cuda_graph: bool) -> None:
        self._path = path
        self._sidecar = sidecar
        self._lock = threading.Lock()
        self._cuda: Cuda | None = cuda
        self._log = _error_log(trt)
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self.graph: Any = None
        try:
            with cuda:
                self._deserialize(trt, data)
                self._check_ports()
                self._allocate(cuda)
                self._warm_up(cuda, cuda_graph)
        except BaseException:
            self.close()
            raise

    def _deserialize(self, trt: Any, data: bytes) -> None:
        self._log.lines.clear()
        try:
            self._runtime = trt.Runtime(self._log)
        except (RuntimeError, TypeError):  # pybind11's errors for a null pointer
            raise self._failure("cannot be loaded, as TensorRT does not start", "see what `nvidia-smi` says") from None
        if self._sidecar.dla_core is not None:
            self._runtime.DLA_core = self._sidecar.dla_core
        self._log.lines.extend(reasons := self._invalid_for(trt, data))
        if reasons:
            raise self._failure("is not valid on this GPU", rebuild_command(self._path, self._sidecar))
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise self._failure("cannot be loaded", rebuild_command(self._path, self._sidecar))

    def _invalid_for(self, trt: Any, data: bytes) -> list[str]:
        """Why TensorRT-RTX would refuse the engine; empty if it accepts it, and for TensorRT (no such check)."""
        ask = getattr(self._runtime, "get_engine_validity", None)
        if ask is None:
            return []
        verdict, diagnostics = ask(data)
        if verdict.name != "INVALID":
            return []
        kinds = getattr(trt, "EngineInvalidityDiagnostics", None)
        members = {} if kinds is None else kinds.__members__
        return [name for name, bit in members.items() if int(diagnostics) & int(bit)] or ["INVALID"]

    def _ports(self) -> dict[str, tuple[str, str, tuple[int, ...]]]:
        engine, ports = self._engine, {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            mode, dtype = engine.get_tensor_mode(name).name, engine.get_tensor_dtype(name).name
            ports[name] = (mode, dtype, tuple(engine.get_tensor_shape(name)))
        return ports

    def _check_ports(self) -> None:
        contract, found = self._sidecar.contract, self._ports()
        expected = {
            FRAME: ("INPUT", "UINT8", (1, *contract.size, 3)),
            **{name: ("OUTPUT", "FLOAT", (1, *shape)) for name, shape in contract.output_shapes.items()},
        }
        if found != expected:
            raise ContractError(
                f"{self._path}: has the ports {found}, expected {expected} by its contract; "
                f"{rebuild_command(self._path, self._sidecar)}"
            )

    def _allocate(self, cuda: Cuda) -> None:
        contract = self._sidecar.contract
        self._frame = cuda.allocate_pinned((1, *contract.size, 3), np.uint8)
        self._outputs = {
            name: cuda.allocate_pinned((1, *shape), np.float32) for name, shape in contract.output_shapes.items()
        }
        self._frame_address = cuda.allocate(self._frame.nbytes)
        self._addresses = {name: cuda.allocate(pinned.nbytes) for name, pinned in self._outputs.items()}
        self._log.lines.clear()
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._failure("cannot be run, as its context cannot be made", "free memory of the GPU")
        for name, address in {FRAME: self._frame_address, **self._addresses}.items():
            if not self._context.set_tensor_address(name, address):
                raise self._failure("does not take its memory", rebuild_command(self._path, self._sidecar))

    def _warm_up(self, cuda: Cuda, cuda_graph: bool) -> None:
        """Run the engine once, as TensorRT needs before recording; then record a graph and run it."""
        self._frame.fill(128)
        self._enqueue(cuda)
        cuda.synchronize()
        if not cuda_graph:
            return
        try:
            self.graph = cuda.capture(lambda: self._enqueue(cuda))
            cuda.launch(self.graph)
            cuda.synchronize()
        except EngineError:
            # Enqueue each step separately instead, which must still work.
            graph, self.graph = self.graph, None
            if graph is not None:
                cuda.destroy(graph)
            self._enqueue(cuda)
            cuda.synchronize()

    def _enqueue(self, cuda: Cuda) -> None:
        """Frame in, network, outputs out, all on the private stream."""
        cuda.copy_to_device(self._frame_address, self._frame)
        if not self._context.execute_async_v3(cuda.stream):
            raise self._failure("failed in TensorRT", "load the model again")
        for name, pinned in self._outputs.items():
            cuda.copy_to_host(pinned, self._addresses[name])

    def run(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """uint8 (1, h, w, 3) -> each output without the batch axis; the arrays are the caller's own."""
        with self._lock:
            cuda = self._cuda
            if cuda is None:
                raise EngineError(f"{self._path}: was closed; load it again")
            np.copyto(self._frame, batch)  # contiguous afterwards, whatever it was
            with cuda:
                if self.graph is None:
                    self._log.lines.clear()
                    self._enqueue(cuda)
                else:
                    cuda.launch(self.graph)
                cuda.synchronize()
            return {name: pinned[0].copy() for name, pinned in self._outputs.items()}

    def close(self) -> None:
        """Release graph, context, engine, runtime, memory and stream, each before what it depends on."""
        with self._lock:
            cuda, self._cuda = self._cuda, None
            if cuda is None:
                return
            with suppress(EngineError), cuda:
                if self.graph is not None:
                    cuda.destroy(self.graph)
                self._drop()
            self._drop()  # even if CUDA fails
            cuda.close()

    def _drop(self) -> None:
        self.graph = None
        self._context = None
        self._engine = None
        self._runtime = None
        self._frame = np.empty(0)
        self._outputs = {}

    def _failure(self, what: str, remedy: str) -> EngineError:
        said = ", ".join(self._log.lines).replace(";", ",")
        self._log.lines.clear()
        return EngineError(f"{self._path}: {what} ({said or 'no reason given'}); {remedy}")


@cache
def _error_log(trt: Any) -> Any:
    """Keeps TensorRT's last errors for our messages, and prints nothing.

    One for the whole process, because TensorRT keeps using the first logger that it gets.
    """
    serious = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class ErrorLog(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: deque[str] = deque(maxlen=3)

        def log(self, severity: Any, msg: str) -> None:
            if severity in serious:
                self.lines.append(" ".join(msg.split())[:300])

    return ErrorLog()


def _import_runtime(path: Path, sidecar: EngineSidecar) -> Any:
    try:
        return importlib.import_module(sidecar.runtime)
    except (ImportError, OSError) as error:
        remedy = INSTALL[sidecar.runtime].format(version=sidecar.runtime_version)
        raise EngineError(
            f"{path}: the Python module {sidecar.runtime} cannot be imported ({first_line(error)}), expected "
            f"version {sidecar.runtime_version}; {remedy}"
        ) from None
