"""CUDA's two providers, over fakes of NVIDIA's bindings and of pycuda that keep a context stack for each thread.

Their names are held against the real bindings where these are installed. That they work is for test_gpu.py.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import re
import threading
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sdk import EngineError
from sdk.backends import cuda as cuda_module
from sdk.backends import cuda_providers
from sdk.backends.cuda import open_cuda, require_driver
from sdk.backends.cuda_providers import BindingsCuda, PycudaCuda

THEIRS = "the context of another"


class Code(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


class Machine:
    """A driver with one GPU. What is live is counted; whatever needs a context fails without it."""

    def __init__(self) -> None:
        self.contexts = threading.local()
        self.thread = threading.get_ident()
        self.live: dict[Any, str] = {}
        self.retained = 0
        self.fail: set[str] = set()
        self.journal: list[str] = []
        self.numbers = itertools.count(1)
        self.host: dict[int, Any] = {}

    @property
    def stack(self) -> list[Any]:
        if not hasattr(self.contexts, "stack"):
            self.contexts.stack = [THEIRS]  # torch's, or nobody's
        return self.contexts.stack  # type: ignore[no-any-return]

    def in_context(self) -> None:
        assert self.stack[-1] == "primary", "called without the primary context"

    def make(self, kind: str) -> int:
        self.in_context()
        number = next(self.numbers)
        self.live[number] = kind
        return number

    def make_host(self, size: int) -> int:
        self.in_context()
        array = np.zeros(size, np.uint8)
        address = array.ctypes.data
        self.host[address], self.live[address] = array, "host"
        return address

    def unmake(self, number: Any, kind: str) -> None:
        self.in_context()
        assert self.live.pop(number) == kind
        self.host.pop(number, None)


class FakeDriver(ModuleType):
    """`cuda.bindings.driver`, as far as we use it."""

    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT=16,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=75,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=76,
    )
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)

    def __init__(self, machine: Machine) -> None:
        super().__init__("driver")
        self.machine = machine
        self.recording = False

    def _answer(self, name: str, *results: Any) -> tuple[Any, ...]:
        self.machine.journal.append(name)
        if name in self.machine.fail:
            return (Code.CUDA_ERROR_OUT_OF_MEMORY, *[None] * len(results))
        return (Code.CUDA_SUCCESS, *[result() if callable(result) else result for result in results])

    def cuInit(self, flags: int) -> Any:
        return self._answer("cuInit")

    def cuDeviceGet(self, ordinal: int) -> Any:
        return self._answer("cuDeviceGet", "device 0")

    def cuDeviceGetName(self, length: int, device: Any) -> Any:
        return self._answer("cuDeviceGetName", b"Orin".ljust(length, b"\0"))

    def cuDeviceGetAttribute(self, kind: Any, device: Any) -> Any:
        return self._answer("cuDeviceGetAttribute", {16: 14, 75: 8, 76: 7}[kind])

    def cuDevicePrimaryCtxRetain(self, device: Any) -> Any:
        answer = self._answer("cuDevicePrimaryCtxRetain", "primary")
        self.machine.retained += answer[0] == 0
        return answer

    def cuDevicePrimaryCtxRelease(self, device: Any) -> Any:
        self.machine.retained -= 1
        return self._answer("cuDevicePrimaryCtxRelease")

    def cuCtxPushCurrent(self, context: Any) -> Any:
        answer = self._answer("cuCtxPushCurrent")
        if answer[0] == 0:
            self.machine.stack.append(context)
        return answer

    def cuCtxPopCurrent(self) -> Any:
        return self._answer("cuCtxPopCurrent", self.machine.stack.pop())

    def cuMemAlloc(self, size: int) -> Any:
        return self._answer("cuMemAlloc", lambda: self.machine.make("device"))

    def cuMemFree(self, address: int) -> Any:
        self.machine.unmake(address, "device")
        return self._answer("cuMemFree")

    def cuMemHostAlloc(self, size: int, flags: int) -> Any:
        return self._answer("cuMemHostAlloc", lambda: self.machine.make_host(size))

    def cuMemFreeHost(self, address: int) -> Any:
        self.machine.unmake(address, "host")
        return self._answer("cuMemFreeHost")

    def cuStreamCreate(self, flags: int) -> Any:
        assert flags == 1
        return self._answer("cuStreamCreate", lambda: self.machine.make("stream"))

    def cuStreamDestroy(self, stream: Any) -> Any:
        self.machine.unmake(stream, "stream")
        return self._answer("cuStreamDestroy")

    def cuStreamSynchronize(self, stream: Any) -> Any:
        self.machine.in_context()
        return self._answer("cuStreamSynchronize")

    def cuMemcpyHtoDAsync(self, address: int, host: int, size: int, stream: Any) -> Any:
        assert self.machine.live[address] == "device"
        assert self.machine.host[host].nbytes == size
        return self._answer("cuMemcpyHtoDAsync")

    def cuMemcpyDtoHAsync(self, host: int, address: int, size: int, stream: Any) -> Any:
        assert self.machine.live[address] == "device"
        assert self.machine.host[host].nbytes == size
        return self._answer("cuMemcpyDtoHAsync")

    def cuStreamBeginCapture(self, stream: Any, mode: Any) -> Any:
        assert not self.recording
        self.recording = True
        return self._answer("cuStreamBeginCapture")

    def cuStreamEndCapture(self, stream: Any) -> Any:
        assert self.recording
        self.recording = False
        return self._answer("cuStreamEndCapture", lambda: self.machine.make("graph"))

    def cuGraphInstantiate(self, graph: Any, flags: int) -> Any:
        assert self.machine.live[graph] == "graph"
        return self._answer("cuGraphInstantiate", lambda: self.machine.make("executable"))

    def cuGraphDestroy(self, graph: Any) -> Any:
        self.machine.unmake(graph, "graph")
        return self._answer("cuGraphDestroy")

    def cuGraphExecDestroy(self, graph: Any) -> Any:
        self.machine.unmake(graph, "executable")
        return self._answer("cuGraphExecDestroy")

    def cuGraphLaunch(self, graph: Any, stream: Any) -> Any:
        assert self.machine.live[graph] == "executable"
        return self._answer("cuGraphLaunch")


class FakePycuda(ModuleType):
    """`pycuda.driver`, as far as we use it, by its own source (src/wrapper/wrap_cudadrv.cpp, src/cpp/cuda.hpp)."""

    device_attribute = SimpleNamespace(MULTIPROCESSOR_COUNT="MULTIPROCESSOR_COUNT")

    class Error(Exception):
        """What all of pycuda's exceptions are."""

    def __init__(self, machine: Machine) -> None:
        super().__init__("pycuda.driver")
        fake = self

        class Owned:
            def __init__(self, number: int, kind: str) -> None:
                self.number, self.kind = number, kind

            def free(self) -> None:
                machine.unmake(self.number, self.kind)

            def __int__(self) -> int:
                return self.number

        class Stream:
            def __init__(self, flags: int = 0) -> None:
                assert flags == 1
                fake._check("Stream")
                self.handle = machine.make("stream")

            def synchronize(self) -> None:
                machine.in_context()
                fake._check("synchronize")

            def __del__(self) -> None:
                if hasattr(self, "handle"):
                    if machine.stack[-1] != "primary" and threading.get_ident() != machine.thread:
                        return  # leaked: "cannot activate out-of-thread context"
                    machine.stack.append("primary")
                    machine.unmake(self.handle, "stream")
                    machine.stack.pop()

        class Context:
            def push(self) -> None:
                fake._check("push")
                machine.stack.append("primary")

            @staticmethod
            def pop() -> None:
                machine.stack.pop()

        class Device:
            def __init__(self, number: int) -> None:
                assert number == 0

            def name(self) -> str:
                return "Orin"

            def compute_capability(self) -> tuple[int, int]:
                return 8, 7

            def get_attribute(self, attribute: Any) -> int:
                return {"MULTIPROCESSOR_COUNT": 14}[attribute]

            def retain_primary_context(self) -> Any:
                fake._check("retain")
                machine.retained += 1
                return Context()

        class Pinned(np.ndarray):
            """Its base is the allocation, as that of pycuda's arrays is."""

            base = None  # type: ignore[assignment]

        def pagelocked_empty(shape: Any, dtype: Any) -> Any:
            fake._check("pagelocked_empty")
            address = machine.make_host(int(np.prod(shape)) * np.dtype(dtype).itemsize)
            array = machine.host[address].view(dtype).reshape(shape).view(Pinned)
            array.base = Owned(address, "host")
            return array

        def mem_alloc(size: int) -> Any:
            fake._check("mem_alloc")
            return Owned(machine.make("device"), "device")

        def copy(device: Any, array: Any, stream: Any) -> None:
            fake._check("copy")
            assert machine.live[device] == "device"
            assert array.ctypes.data in machine.host
            assert machine.live[stream.handle] == "stream"

        self.machine, self.Stream, self.Context, self.Device = machine, Stream, Context, Device
        self.pagelocked_empty, self.mem_alloc, self.memcpy_htod_async = pagelocked_empty, mem_alloc, copy
        self.memcpy_dtoh_async = lambda array, device, stream: copy(device, array, stream)

    def init(self) -> None:
        self._check("init")

    def _check(self, what: str) -> None:
        self.machine.journal.append(what)
        if what in self.machine.fail:
            raise self.Error(f"{what} failed: out of memory")


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture(params=["cuda-bindings", "pycuda"])
def opened(request: pytest.FixtureRequest, machine: Machine) -> Any:
    """A function that opens the provider."""
    if request.param == "pycuda":
        module = FakePycuda(machine)
        return lambda: PycudaCuda(module)
    return lambda: BindingsCuda(FakeDriver(machine))


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    cuda_providers._pycuda_primary_context.cache_clear()


# ---------------------------------------------------------------- both


def test_what_is_made_is_given_back_in_the_context(opened: Any, machine: Machine) -> None:
    cuda = opened()
    assert (cuda.gpu_name, cuda.compute_capability, cuda.multiprocessors) == ("Orin", "8.7", 14)
    assert machine.stack == [THEIRS]
    with cuda:
        assert machine.stack == [THEIRS, "primary"]
        address = cuda.allocate(96)
        pinned = cuda.allocate_pinned((1, 4, 8, 3), np.uint8)
        floats = cuda.allocate_pinned((1, 24), np.float32)
        assert (pinned.shape, pinned.dtype, floats.shape, floats.dtype) == ((1, 4, 8, 3), np.uint8, (1, 24), np.float32)
        pinned.fill(7)
        cuda.copy_to_device(address, pinned)
        cuda.copy_to_host(floats, address)
        cuda.synchronize()
    assert machine.stack == [THEIRS]
    assert sorted(machine.live.values()) == ["device", "host", "host", "stream"]
    assert machine.live[cuda.stream] == "stream"
    del pinned, floats
    cuda.close()
    cuda.close()
    assert machine.live == {}
    assert machine.stack == [THEIRS]


def test_another_thread_may_use_and_close_it(opened: Any, machine: Machine) -> None:
    cuda = opened()
    left: list[Any] = []

    def work() -> None:
        with cuda:
            cuda.allocate(8)
            left.append(list(machine.stack))
        cuda.close()
        left.append(list(machine.stack))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert left == [[THEIRS, "primary"], [THEIRS]]
    assert machine.live == {}


def test_an_error_within_leaves_the_thread_as_it_was(opened: Any, machine: Machine) -> None:
    cuda = opened()
    with pytest.raises(ZeroDivisionError), cuda:
        _ = 1 / 0
    assert machine.stack == [THEIRS]


@pytest.mark.parametrize("what", ["cuMemAlloc mem_alloc", "cuMemHostAlloc pagelocked_empty"])
def test_no_memory_left(opened: Any, machine: Machine, what: str) -> None:
    cuda = opened()
    machine.fail = set(what.split())
    with (
        cuda,
        pytest.raises(EngineError, match=r"the GPU has no memory left \(.*\); end other programs"),
    ):
        cuda.allocate(8) if "mem_alloc" in what else cuda.allocate_pinned((8,), np.uint8)
    machine.fail = set()
    cuda.close()
    assert machine.live == {}


@pytest.mark.parametrize("what", ["cuInit", "cuDeviceGetName", "cuDevicePrimaryCtxRetain", "cuStreamCreate"])
def test_bindings_that_fail_while_opening_leave_nothing(machine: Machine, what: str) -> None:
    machine.fail = {what}
    with pytest.raises(EngineError, match=what):
        BindingsCuda(FakeDriver(machine))
    assert machine.live == {}
    assert machine.retained == 0
    assert machine.stack == [THEIRS]


@pytest.mark.parametrize("what", ["init", "retain", "push", "Stream"])
def test_pycuda_that_fails_while_opening_leaves_nothing(machine: Machine, what: str) -> None:
    machine.fail = {what}
    with pytest.raises(EngineError, match=what):
        PycudaCuda(FakePycuda(machine))
    assert machine.live == {}
    assert machine.stack == [THEIRS]


def test_closing_when_the_driver_can_do_no_more(opened: Any, machine: Machine) -> None:
    cuda = opened()
    machine.fail = {"cuCtxPushCurrent", "push"}
    if cuda.provider == "cuda-bindings":
        cuda.close()
        assert machine.retained == 0
    assert machine.stack == [THEIRS]
    machine.fail = set()


# ---------------------------------------------------------------- graphs, contexts


def test_a_graph_is_recorded_launched_and_given_back(machine: Machine) -> None:
    cuda = BindingsCuda(FakeDriver(machine))
    with cuda:
        graph = cuda.capture(lambda: None)
        assert list(machine.live.values()) == ["stream", "executable"]
        cuda.launch(graph)
        cuda.destroy(graph)
    cuda.close()
    assert machine.live == {}
    assert machine.retained == 0


@pytest.mark.parametrize("what", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "enqueue"])
def test_recording_that_fails_leaves_the_stream_usable(machine: Machine, what: str) -> None:
    driver = FakeDriver(machine)
    cuda = BindingsCuda(driver)
    machine.fail = {what}

    def enqueue() -> None:
        if what == "enqueue":
            raise EngineError("refused")

    with cuda:
        with pytest.raises(EngineError):
            cuda.capture(enqueue)
        if what != "cuStreamBeginCapture":
            assert not driver.recording
        driver.recording = False
        machine.fail = set()
        assert list(machine.live.values()) == ["stream"]
        cuda.destroy(cuda.capture(lambda: None))
    cuda.close()
    assert machine.live == {}


def test_a_driver_that_lacks_a_function(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver(machine)

    def missing(*_: Any) -> Any:
        raise RuntimeError('Function "cuMemAlloc_v2" not found')

    cuda = BindingsCuda(driver)
    monkeypatch.setattr(driver, "cuMemAlloc", missing)
    with pytest.raises(EngineError, match=r"CUDA failed \(cuMemAlloc: Function .*\); load"), cuda:
        cuda.allocate(8)


def test_pycuda_retains_its_context_once(machine: Machine) -> None:
    pycuda = FakePycuda(machine)
    for _ in range(3):
        PycudaCuda(pycuda).close()
    assert machine.retained == 1
    assert machine.live == {}


def test_pycuda_has_no_graphs(machine: Machine) -> None:
    cuda = PycudaCuda(FakePycuda(machine))
    with pytest.raises(EngineError, match="pycuda has no CUDA graphs"), cuda:
        cuda.capture(lambda: pytest.fail("nothing may be enqueued"))


def test_names_are_those_of_the_real_bindings() -> None:
    driver = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    for name in vars(FakeDriver):
        if name.startswith("cu") or name.startswith("CU"):
            assert hasattr(driver, name), name
    for kind in ("CUdevice_attribute", "CUstreamCaptureMode"):
        for name in vars(getattr(FakeDriver, kind)):
            assert hasattr(getattr(driver, kind), name), name
    assert int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING) == cuda_providers.STREAM_NON_BLOCKING
    used = set(re.findall(r"\bcu[A-Z]\w+", Path(cuda_providers.__file__).read_text()))
    assert {name for name in used if not hasattr(driver, name)} == set()


@pytest.fixture
def real_driver() -> Any:
    """The real bindings, where they reach no driver."""
    driver = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    if cuda_module.cuda_driver() is not None:
        pytest.skip("there is a driver here, which must not be given these")
    return driver


def test_the_real_bindings_take_what_we_give_them(real_driver: Any) -> None:
    """Arguments of a wrong kind would be a TypeError before the driver is looked for."""
    device, context, stream = real_driver.CUdevice(0), real_driver.CUcontext(0), real_driver.CUstream(0)
    graph, executable = real_driver.CUgraph(0), real_driver.CUgraphExec(0)
    kind = real_driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    mode = real_driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    host, address = np.zeros(8, np.uint8).ctypes.data, 4096
    calls: dict[str, tuple[Any, ...]] = {
        "cuInit": (0,),
        "cuDeviceGet": (0,),
        "cuDeviceGetName": (256, device),
        "cuDeviceGetAttribute": (kind, device),
        "cuDevicePrimaryCtxRetain": (device,),
        "cuDevicePrimaryCtxRelease": (device,),
        "cuCtxPushCurrent": (context,),
        "cuCtxPopCurrent": (),
        "cuMemAlloc": (8,),
        "cuMemFree": (address,),
        "cuMemHostAlloc": (8, 0),
        "cuMemFreeHost": (host,),
        "cuStreamCreate": (cuda_providers.STREAM_NON_BLOCKING,),
        "cuStreamDestroy": (stream,),
        "cuStreamSynchronize": (stream,),
        "cuMemcpyHtoDAsync": (address, host, 8, stream),
        "cuMemcpyDtoHAsync": (host, address, 8, stream),
        "cuStreamBeginCapture": (stream, mode),
        "cuStreamEndCapture": (stream,),
        "cuGraphInstantiate": (graph, 0),
        "cuGraphDestroy": (graph,),
        "cuGraphExecDestroy": (executable,),
        "cuGraphLaunch": (executable, stream),
    }
    assert calls.keys() == {name for name in vars(FakeDriver) if name.startswith("cu")}
    for name, arguments in calls.items():
        with pytest.raises(RuntimeError, match="driver"):
            getattr(real_driver, name)(*arguments)


def test_the_real_bindings_without_a_driver_raise_our_error(real_driver: Any) -> None:
    with pytest.raises(EngineError, match=r"CUDA failed \(cuInit"):
        BindingsCuda(real_driver)


# ---------------------------------------------------------------- which provider, which driver


def test_pycuda_comes_first_and_a_broken_one_is_passed_over(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    modules: dict[str, Any] = {"pycuda.driver": FakePycuda(machine), "cuda.bindings.driver": FakeDriver(machine)}

    def load(name: str) -> Any:
        if isinstance(modules.get(name), ModuleType):
            return modules[name]
        raise modules.get(name) or ImportError(name)

    monkeypatch.setattr(cuda_module.importlib, "import_module", load)
    assert open_cuda().provider == "pycuda"
    assert open_cuda("cuda-bindings").provider == "cuda-bindings"
    modules["pycuda.driver"] = ImportError("undefined symbol: cuArrayCreate_v2")
    assert open_cuda().provider == "cuda-bindings"
    modules["cuda.cuda"] = modules.pop("cuda.bindings.driver")  # cuda-python before 12.8
    assert open_cuda().provider == "cuda-bindings"
    del modules["cuda.cuda"]
    with pytest.raises(EngineError, match="cannot be imported, and memory on the GPU needs it; run `pip install cuda-"):
        open_cuda()
    with pytest.raises(EngineError, match=r"^pycuda cannot be imported"):
        open_cuda("pycuda")


@pytest.mark.parametrize(
    ("installed", "major"),
    [({"tensorrt-rtx-cu13": "1.7.1.116"}, 13), ({"tensorrt-cu12": "10.3.0"}, None), ({}, None)],
)
def test_the_cuda_that_tensorrt_was_built_for(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], major: int | None
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(cuda_module, "version", version)
    assert cuda_module._cuda_major("tensorrt_rtx") == major


def test_a_good_driver_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_module, "cuda_driver", lambda: {"version": "12.6", "devices": 1, "code": 0})
    assert require_driver("model.engine")["version"] == "12.6"
