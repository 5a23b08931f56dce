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
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE in cuda.h: cuInit returns it if CUDA_VISIBLE_DEVICES hides every GPU


class Cuda(Protocol):
    """The first CUDA device with a private stream. Not thread-safe.

    Everything but the attributes and `close` is used within a `with` block. Failures raise EngineError.
    """

    provider: str
    gpu_name: str
    compute_capability: str
    multiprocessors: int
    stream: int

    def __enter__(self) -> Cuda:
        """Make the device's primary context current in this thread."""

    def __exit__(self, *_: object) -> None:
        """Restore the context that was current before."""

    def allocate(self, size_bytes: int) -> int:
        """Allocate device memory. Returns its address."""

    def allocate_pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An uninitialised array in page-locked host memory. Do not use it after `close`."""

    def copy_to_device(self, address: int, pinned: npt.NDArray[Any]) -> None:
        """Enqueue a copy of a whole pinned array to the device."""

    def copy_to_host(self, pinned: npt.NDArray[Any], address: int) -> None:
        """Enqueue a copy from the device that fills a pinned array."""

    def synchronize(self) -> None:
        """Wait for all enqueued work."""

    def capture(self, enqueue: Callable[[], None]) -> Any:
        """Call `enqueue`, and return a graph of the enqueued work instead of running it.

        The stream stays usable after a failure.
        """

    def launch(self, graph: Any) -> None:
        """Enqueue a graph."""

    def destroy(self, graph: Any) -> None:
        """Release a graph."""

    def close(self) -> None:
        """Release memory, stream and context. Never raises; may be called twice."""


def require_driver(needed_by: str, runtime: str | None = None) -> dict[str, Any]:
    """Check the driver before CUDA or TensorRT is touched: some of their builds end the process without a driver.

    Args:
        needed_by: start of the message, such as the engine's path.
        runtime: "tensorrt" or "tensorrt_rtx", whose CUDA must not be newer than the driver's; None if neither is used.

    Returns:
        The result of `sdk.machine.device.cuda_driver`.

    Raises:
        EngineError: the driver is missing, does not answer or start, is too old, or finds no GPU.
    """
    driver = cuda_driver()
    if driver is None:
        raise EngineError(
            f"{needed_by}: there is no NVIDIA driver here (libcuda.so.1); install it, or run the model.onnx, which "
            "needs no GPU"
        )
    if driver["code"] is None:
        raise EngineError(
            f"{needed_by}: the NVIDIA driver does not answer (the process that asked it crashed or hung); "
            "run `nvidia-smi`, and restart the machine"
        )
    if driver["code"] not in (0, NO_DEVICE):
        raise EngineError(
            f"{needed_by}: the NVIDIA driver does not start (cuInit returns {driver['code']}); run `nvidia-smi`, and "
            "restart the machine if the driver was updated"
        )
    if driver["devices"] < 1:
        raise EngineError(
            f"{needed_by}: the NVIDIA driver finds no GPU; check the environment variable CUDA_VISIBLE_DEVICES, or run "
            "the model.onnx, which needs no GPU"
        )
    needed = _cuda_major(runtime) if runtime else None
    # Any driver of the same CUDA major version is enough (NVIDIA, CUDA Compatibility, minor version compatibility).
    if needed is not None and int(driver["version"].split(".")[0]) < needed:
        raise EngineError(
            f"{needed_by}: the NVIDIA driver supports CUDA {driver['version']}, expected CUDA {needed} or newer; "
            f"update the driver, or install {runtime} for an older CUDA"
        )
    return driver


def _cuda_major(runtime: str) -> int | None:
    """The CUDA major version that TensorRT was built for, from its package's name; None if pip did not install it."""
    for major in CUDA_MAJORS:
        with suppress(PackageNotFoundError):
            version(f"{runtime.replace('_', '-')}-cu{major}")
            return major
    return None


def open_cuda(provider: str | None = None) -> Cuda:
    """Open the first device. Call `require_driver` before.

    Args:
        provider: "pycuda" or "cuda-bindings"; None prefers pycuda if it is installed. pycuda has no graphs.

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
        f"{wanted} cannot be imported, and memory on the GPU needs it; run `pip install cuda-bindings` with the major "
        "version of the driver's CUDA"
    )


def _import_first(*names: str) -> ModuleType | None:
    for name in names:
        # A pycuda that was built against another driver may raise any of these.
        with suppress(ImportError, OSError, RuntimeError):
            return importlib.import_module(name)
    return None
