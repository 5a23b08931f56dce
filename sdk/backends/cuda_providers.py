"""Two providers of CUDA's driver API: cuda-bindings and pycuda.

Both use the device's primary context, which torch and TensorRT use too. It is current in a thread only within a
`with cuda:` block, and the previous context is restored afterwards, so other users of CUDA are not affected.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError

__all__ = ["BindingsCuda", "PycudaCuda"]

STREAM_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING in cuda.h


class BindingsCuda:
    """NVIDIA's own cuda-bindings. See `Cuda`."""

    provider = "cuda-bindings"

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._device_memory: list[int] = []
        self._host_memory: list[int] = []
        self._call("cuInit", 0)
        self._device = self._call("cuDeviceGet", 0)
        self.gpu_name = self._call("cuDeviceGetName", 256, self._device).split(b"\0")[0].decode(errors="replace")
        kinds = driver.CUdevice_attribute
        major = kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
        minor = kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
        count = kinds.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
        *parts, self.multiprocessors = [
            int(self._call("cuDeviceGetAttribute", kind, self._device)) for kind in (major, minor, count)
        ]
        self.compute_capability = ".".join(map(str, parts))
        self._context = self._call("cuDevicePrimaryCtxRetain", self._device)
        try:
            with self:
                # Non-blocking: otherwise work on the default stream, such as torch's, would wait for ours.
                self._stream = self._call("cuStreamCreate", STREAM_NON_BLOCKING)
        except EngineError:
            driver.cuDevicePrimaryCtxRelease(self._device)
            raise
        self.stream = int(self._stream)
        self._open = True

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            code, *results = getattr(self._driver, name)(*arguments)
        except RuntimeError as error:  # the driver lacks the function
            raise _failure(name, " ".join(str(error).split())) from None
        if int(code) != 0:
            raise _failure(name, getattr(code, "name", str(code)))
        return results[0] if results else None

    def __enter__(self) -> BindingsCuda:
        self._call("cuCtxPushCurrent", self._context)
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.cuCtxPopCurrent()

    def allocate(self, size_bytes: int) -> int:
        address = int(self._call("cuMemAlloc", size_bytes))
        self._device_memory.append(address)
        return address

    def allocate_pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = int(self._call("cuMemHostAlloc", size_bytes, 0))
        self._host_memory.append(address)
        buffer = (ctypes.c_uint8 * size_bytes).from_address(address)
        return np.ctypeslib.as_array(buffer).view(dtype).reshape(shape)

    def copy_to_device(self, address: int, pinned: npt.NDArray[Any]) -> None:
        self._call("cuMemcpyHtoDAsync", address, pinned.ctypes.data, pinned.nbytes, self._stream)

    def copy_to_host(self, pinned: npt.NDArray[Any], address: int) -> None:
        self._call("cuMemcpyDtoHAsync", pinned.ctypes.data, address, pinned.nbytes, self._stream)

    def synchronize(self) -> None:
        self._call("cuStreamSynchronize", self._stream)

    def capture(self, enqueue: Callable[[], None]) -> Any:
        # Thread-local: torch may allocate in another thread meanwhile.
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", self._stream, mode)
        try:
            enqueue()
        except BaseException:
            code, graph = self._driver.cuStreamEndCapture(self._stream)
            if int(code) == 0:
                self._driver.cuGraphDestroy(graph)
            raise
        graph = self._call("cuStreamEndCapture", self._stream)
        try:
            return self._call("cuGraphInstantiate", graph, 0)
        finally:
            self._driver.cuGraphDestroy(graph)

    def launch(self, graph: Any) -> None:
        self._call("cuGraphLaunch", graph, self._stream)

    def destroy(self, graph: Any) -> None:
        self._driver.cuGraphExecDestroy(graph)

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        # After an error the driver may refuse to free memory. The end of the process frees it.
        with suppress(EngineError), self:
            self._driver.cuStreamSynchronize(self._stream)
            self._driver.cuStreamDestroy(self._stream)
            for address in self._device_memory:
                self._driver.cuMemFree(address)
            for address in self._host_memory:
                self._driver.cuMemFreeHost(address)
        self._driver.cuDevicePrimaryCtxRelease(self._device)


class PycudaCuda:
    """pycuda. It has no CUDA graphs. See `Cuda`."""

    provider = "pycuda"

    def __init__(self, pycuda: Any) -> None:
        self._pycuda = pycuda
        self._device_memory: list[Any] = []
        self._host_memory: list[Any] = []
        device, self._context = self._call(_pycuda_primary_context, pycuda)
        self.gpu_name = self._call(device.name)
        self.compute_capability = ".".join(map(str, self._call(device.compute_capability)))
        count = pycuda.device_attribute.MULTIPROCESSOR_COUNT
        self.multiprocessors = int(self._call(device.get_attribute, count))
        with self:
            self._stream = self._call(pycuda.Stream, STREAM_NON_BLOCKING)
        self.stream = int(self._stream.handle)

    def _call(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._pycuda.Error as error:
            raise _failure("pycuda", " ".join(str(error).split()) or type(error).__name__) from None

    def __enter__(self) -> PycudaCuda:
        self._call(self._context.push)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(self._pycuda.Error):
            self._pycuda.Context.pop()

    def allocate(self, size_bytes: int) -> int:
        allocation = self._call(self._pycuda.mem_alloc, size_bytes)
        self._device_memory.append(allocation)
        return int(allocation)

    def allocate_pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = self._call(self._pycuda.pagelocked_empty, shape, dtype)
        self._host_memory.append(array.base)
        return array

    def copy_to_device(self, address: int, pinned: npt.NDArray[Any]) -> None:
        self._call(self._pycuda.memcpy_htod_async, address, pinned, self._stream)

    def copy_to_host(self, pinned: npt.NDArray[Any], address: int) -> None:
        self._call(self._pycuda.memcpy_dtoh_async, pinned, address, self._stream)

    def synchronize(self) -> None:
        self._call(self._stream.synchronize)

    def capture(self, enqueue: Callable[[], None]) -> Any:
        raise EngineError("pycuda has no CUDA graphs; install cuda-bindings instead")

    def launch(self, graph: Any) -> None:
        raise EngineError("pycuda has no CUDA graphs; install cuda-bindings instead")

    def destroy(self, graph: Any) -> None:
        pass

    def close(self) -> None:
        if self._stream is None:
            return
        with suppress(EngineError), self:
            with suppress(self._pycuda.Error):
                self._stream.synchronize()
            self._stream = None  # pycuda destroys it with its last reference
            for allocation in (*self._device_memory, *self._host_memory):
                with suppress(self._pycuda.Error):
                    allocation.free()
        self._stream = None


@cache
def _pycuda_primary_context(pycuda: Any) -> tuple[Any, Any]:
    """The device and its primary context, retained once for the whole process.

    pycuda 2026.1 leaves a context pushed when it releases one that is not current (context::detach in cuda.hpp). So we
    never release it. The end of the process does.
    """
    pycuda.init()
    device = pycuda.Device(0)
    return device, device.retain_primary_context()


def _failure(call: str, code: str) -> EngineError:
    if "OUT_OF_MEMORY" in code or "out of memory" in code:
        return EngineError(
            f"the GPU has no memory left ({call}: {code}); end other programs that use it, or take a smaller model"
        )
    return EngineError(
        f"CUDA failed ({call}: {code}); load the model again, and if that fails too, restart the program"
    )
