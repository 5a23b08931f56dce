"""The part of CUDA that engines need: memory, one private stream, and CUDA graphs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, Protocol

import numpy.typing as npt

from ..errors import EngineError
from ..machine.device import cuda_driver

__all__ = ["Cuda", "open_cuda", "require_driver"]

CUDA_MAJORS = range(11, 20)  # of packages such as tensorrt-cu13
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE in cuda.h: what cuInit gives if CUDA_VISIBLE_DEVICES hides all


class Cuda(Protocol):
    """The first CUDA device, with a stream of our own. Not for several threads at once.

    All but the attributes and `close` is called within a `with` block. What fails raises EngineError.
    """

    provider: str
    gpu_name: str
    compute_capability: str
    multiprocessors: int
    stream: int

    def __enter__(self) -> Cuda:
        """Make the device's primary context current in this thread."""

    def __exit__(self, *_: object) -> None:
        """Make current again what was so before."""

    def allocate(self, size_bytes: int) -> int:
        """Memory of the device: its address."""

    def allocate_pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array in page-locked memory of the host, with undefined values. Never look at it after `close`."""

    def copy_to_device(self, address: int, pinned: npt.NDArray[Any]) -> None:
        """Enqueue a copy of a whole pinned array to the device."""

    def copy_to_host(self, pinned: npt.NDArray[Any], address: int) -> None:
        """Enqueue a copy from the device that fills a pinned array."""

    def synchronize(self) -> None:
        """Wait for all that is enqueued."""

    def capture(self, enqueue: Callable[[], None]) -> Any:
        """Call `enqueue`, and give the graph of what it enqueued instead of running that.

        The stream can be used as before whatever goes wrong.
        """

    def launch(self, graph: Any) -> None:
        """Enqueue a graph."""

    def destroy(self, graph: Any) -> None:
        """Give back a graph."""

    def close(self) -> None:
        """Give back memory, stream and context. Never raises; may be called again."""


def require_driver(needed_by: str, runtime: str | None = None) -> dict[str, Any]:
    """Refuse to go on where no driver can be started, before CUDA or TensorRT is touched: some would end the process.

    Args:
        needed_by: what the message begins with, such as the engine's path.
        runtime: "tensorrt" or "tensorrt_rtx", whose CUDA must not be newer than the driver's; None if none is used.

    Returns:
        What `sdk.machine.device.cuda_driver` found.

    Raises:
        EngineError: no driver, none that answers or starts, no GPU, or one that is too old.
    """
    driver = cuda_driver()
    if driver is None:
        raise EngineError(
            f"{needed_by}: there is no NVIDIA driver here (libcuda.so.1), expected one and a GPU; install it, or run "
            "the model.onnx, which needs neither"
        )
    if driver["code"] is None:
        raise EngineError(
            f"{needed_by}: the NVIDIA driver does not answer (the process that asked it crashed or hung), expected its "
            "version and a GPU; see what `nvidia-smi` says, and start the machine again"
        )
    if driver["code"] not in (0, NO_DEVICE):
        raise EngineError(
            f"{needed_by}: the NVIDIA driver does not start (cuInit gives {driver['code']}), expected 0; see what "
            "`nvidia-smi` says, and start the machine again after an update of the driver"
        )
    if driver["devices"] < 1:
        raise EngineError(
            f"{needed_by}: the NVIDIA driver finds no GPU, expected one; look at the environment variable "
            "CUDA_VISIBLE_DEVICES, or run the model.onnx, which needs none"
        )
    needed = _cuda_major(runtime) if runtime else None
    # Within a major version of CUDA any driver does (NVIDIA, CUDA Compatibility, minor version compatibility).
    if needed is not None and int(driver["version"].split(".")[0]) < needed:
        raise EngineError(
            f"{needed_by}: the NVIDIA driver is too old, for CUDA {driver['version']}, expected one for CUDA {needed} "
            f"or newer; update it, or install {runtime} for an older CUDA"
        )
    return driver


def _cuda_major(runtime: str) -> int | None:
    """The CUDA that TensorRT was built for, by its package's name; None if pip did not install it."""
    for major in CUDA_MAJORS:
        with suppress(PackageNotFoundError):
            version(f"{runtime.replace('_', '-')}-cu{major}")
            return major
    return None


def open_cuda(provider: str | None = None) -> Cuda:
    """Open the first device; the driver must have been asked for by `require_driver`.

    Args:
        provider: "pycuda" or "cuda-bindings"; None for pycuda if it is installed, else the other. pycuda has no graphs.

    Raises:
        EngineError: neither is installed, or the device cannot be used.
    """
    from .cuda_providers import BindingsCuda, PycudaCuda

    if provider in (None, "pycuda"):
        pycuda = _import_first("pycuda.driver")
        if pycuda is not None:
            return PycudaCuda(pycuda)
    if provider in (None, "cuda-bindings"):
        driver = _import_first("cuda.bindings.driver", "cuda.cuda")  # the latter in cuda-python before 12.8
        if driver is not None:
            return BindingsCuda(driver)
    wanted = provider or "pycuda or cuda-bindings"
    raise EngineError(
        f"{wanted} cannot be imported, expected it for memory on the GPU; `pip install cuda-bindings` with the major "
        "version of the driver's CUDA"
    )


def _import_first(*names: str) -> ModuleType | None:
    for name in names:
        # pycuda that was built against another driver fails in ways of its own.
        with suppress(ImportError, OSError, RuntimeError):
            return importlib.import_module(name)
    return None
