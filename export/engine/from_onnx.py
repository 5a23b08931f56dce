"""From an ONNX file to the engine that a device loads, on that device: `model.engine` and `model.engine.json`.

The engine is TensorRT's plan and nothing else; what must be known of it is in the sidecar. Two
builds of one model are not the same bytes: TensorRT chooses kernels by their time.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import onnx
from onnx.shape_inference import infer_shapes

from sdk import ContractError, EngineError, ModelContract
from sdk.atomic_file import move_into_place, require_replaceable
from sdk.backends.cuda import open_cuda, require_driver
from sdk.backends.engine_sidecar import RUNTIMES, EngineSidecar, sidecar_path
from sdk.backends.onnx_file import contract_in
from sdk.machine.device import describe_device

from ..graph.model_file import type_name
from ..graph.rules import check_graph
from ..graph.targets import KNOWN
from ..graph.value_types import graph_precision
from .build import BuildSettings, EngineBuilder
from .progress import Progress
from .timing_cache import cache_file, load_cache, save_cache

__all__ = ["export_engine"]

Judge = Callable[[Path], "dict[str, Any] | None"]


def export_engine(
    onnx_path: str | Path,
    engine_path: str | Path,
    *,
    workspace_mib: int = 1024,
    timing_cache: Path | None = None,
    dla_core: int | None = None,
    compute_capabilities: Sequence[str] = (),
    runtime: str | None = None,
    optimization_level: int | None = None,
    judge: Judge | None = None,
    progress: Progress | None = None,
) -> EngineSidecar:
    """Build an engine with the TensorRT that is installed, for the GPU that is there.

    The engine and its sidecar are written when both are complete, and the engine first: after a power cut between the
    two, the old sidecar does not fit the new engine, and is refused.

    Args:
        onnx_path: what `structvpr export onnx` or `structvpr export precision` wrote.
        engine_path: the engine to write, *.engine or *.plan; an existing one and its sidecar are replaced.
        workspace_mib: memory that TensorRT's kernels may use beside their tensors, MiB, 1 to 2^20.
        timing_cache: folder to keep timings in, so that the next build is fast; None for structvpr below
            $XDG_CACHE_HOME, or below ~/.cache. TensorRT-RTX has no timings.
        dla_core: DLA to run on, with the GPU for what it cannot; None for the GPU alone.
        compute_capabilities: TensorRT-RTX alone: compile for these, such as "8.6", without a GPU.
        runtime: "tensorrt" or "tensorrt_rtx"; None for the first of them that is installed.
        optimization_level: 0 (built fast) to 5 (runs fast); None for TensorRT's own, 3.
        judge: given the path of the finished engine, in a folder that is temporary, its sidecar beside it; what it
            returns is the sidecar's `gate`. Not asked when compiling ahead. If it raises, nothing is written.
        progress: told (what, done, total); a total of 0 is unknown, and done are then seconds.

    Returns:
        The sidecar as written.

    Raises:
        EngineError: no TensorRT, no driver or GPU, a setting that they do not have, a graph that is not accepted, a
            build that failed, or a file that cannot be read or written. What was at `engine_path` is as before.
        ContractError: the model carries no contract, or is not what that says.
    """
    onnx_path, engine_path = Path(onnx_path), Path(engine_path)
    settings = BuildSettings(workspace_mib, dla_core, tuple(compute_capabilities), optimization_level)
    _check_settings(settings, runtime)
    data, model, contract = _read_model(onnx_path)
    _check_paths(onnx_path, engine_path)
    runtime, trt = _load_runtime(runtime, bool(compute_capabilities))
    _refuse_traps(onnx_path, model, runtime, trt.__version__)
    # Without a driver, or with a broken one, TensorRT may end the process: it is asked first, in one of its own.
    driver = None if compute_capabilities else require_driver(str(onnx_path), runtime)
    gpu_name, capability, multiprocessors = (None, None, None) if driver is None else _describe_gpu()
    cache_path = None
    if gpu_name is not None and multiprocessors is not None and runtime == "tensorrt":
        cache_path = cache_file(timing_cache, runtime, trt.__version__, gpu_name, multiprocessors)

    with _unfinished(engine_path) as unfinished:
        began, built_at = time.monotonic(), datetime.now(timezone.utc)
        cache = None if cache_path is None else load_cache(cache_path)
        builder = EngineBuilder(trt, runtime, model, contract.precision, str(onnx_path))
        plan, timings = builder.build(settings, cache, progress)
        del builder  # its memory may be what the judge needs
        build_s = time.monotonic() - began
        if cache_path is not None and timings:
            save_cache(cache_path, timings)
        sidecar = EngineSidecar(
            contract=contract,
            runtime=runtime,
            runtime_version=trt.__version__,
            compute_capabilities=settings.compute_capabilities or (str(capability),),
            gpu_name=gpu_name,
            multiprocessors=multiprocessors,
            cuda_version=driver["version"] if driver is not None else None,
            l4t=describe_device()["l4t"],
            dla_core=dla_core,
            onnx_name=onnx_path.name,
            onnx_sha256=hashlib.sha256(data).hexdigest(),
            engine_sha256=hashlib.sha256(plan).hexdigest(),
            engine_bytes=len(plan),
            built_at=built_at.isoformat(timespec="seconds"),
            build_s=round(build_s, 3),
            gate=None,
        )
        with _writing(engine_path):
            unfinished.write_bytes(plan)
            sidecar_path(unfinished).write_text(sidecar.to_json(), encoding="utf-8")
        if judge is not None and driver is not None:
            sidecar = replace(sidecar, gate=judge(unfinished))
            with _writing(engine_path):
                sidecar_path(unfinished).write_text(sidecar.to_json(), encoding="utf-8")
    return sidecar


def _check_settings(settings: BuildSettings, runtime: str | None) -> None:
    def require(ok: bool, found: str, expected: str, remedy: str) -> None:
        if not ok:
            raise EngineError(f"{found}, expected {expected}; {remedy}")

    workspace, level = settings.workspace_mib, settings.optimization_level
    most = 1 << 20  # a tebibyte: far beyond any GPU, and far below where its bytes overflow the bindings' integers
    require(1 <= workspace <= most, f"the workspace is {workspace} MiB", f"1 to {most}", "leave it at 1024")
    require(level is None or 0 <= level <= 5, f"the optimization level is {level}", "0 to 5", "leave it to TensorRT")
    require(runtime in (None, *RUNTIMES), f"the runtime is {runtime!r}", " or ".join(RUNTIMES), "leave it out")
    for capability in settings.compute_capabilities:
        ok = re.fullmatch(r"\d+\.\d", capability) is not None
        require(ok, f"a compute capability is {capability!r}", "one such as 8.6", "see the GPU's data sheet")
    require(
        not settings.compute_capabilities or runtime != "tensorrt",
        "compute capabilities are given for tensorrt",
        "tensorrt_rtx, which alone compiles ahead",
        "leave them out, and build on the device",
    )


def _check_paths(onnx_path: Path, engine_path: Path) -> None:
    """Refuse now what the end of the build could not write, or would write over the model."""
    if not onnx_path.name.isprintable():  # as the sidecar wants it
        raise EngineError(f"{onnx_path.name!r}: is the model's name, expected one that can be printed; rename it")
    places = (engine_path, sidecar_path(engine_path)) if engine_path.name else (engine_path,)
    with _writing(engine_path):
        for place in places:
            if place.exists() and place.samefile(onnx_path):
                raise EngineError(f"{place}: is the model itself, expected another file to write; choose another path")
            if place.is_dir():
                raise EngineError(f"{place}: is a folder, expected a file to write; choose another path")
            require_replaceable(place)
    if engine_path.suffix not in (".engine", ".plan"):  # by which `sdk.open_backend` knows it
        raise EngineError(f"{engine_path}: is to be the engine, expected a name in .engine or .plan; choose another")


def _read_model(path: Path) -> tuple[bytes, onnx.ModelProto, ModelContract]:
    """The file's bytes, its graph, which is valid, and its contract, which its inputs, outputs and types agree with."""
    found = "it is no ONNX"
    try:
        data = path.read_bytes()
        model = onnx.load_model_from_string(data)
        found = "its graph is not valid"
        onnx.checker.check_model(model)
        infer_shapes(model)
        for weight in model.graph.initializer:
            onnx.TensorProto.DataType.Name(weight.data_type)  # of which the checker takes unknown ones
    except Exception as error:  # what protobuf raises depends on its version
        found = getattr(error, "strerror", None) or found
        raise EngineError(
            f"{path}: cannot be read ({found}), expected a model.onnx; make one with `structvpr export onnx`"
        ) from None
    carried = (entry.value for entry in model.metadata_props if entry.key == "contract")
    contract = contract_in(path, next(carried, None))
    expected = [
        (onnx.TensorProto.UINT8, [1, contract.height, contract.width, 3]),
        (onnx.TensorProto.FLOAT, [1, contract.descriptor_dim]),
    ]
    ports = [port.type.tensor_type for port in (*model.graph.input, *model.graph.output)]
    found_ports = [(port.elem_type, [size.dim_value for size in port.shape.dim]) for port in ports]
    if found_ports != expected:
        raise ContractError(
            f"{path}: has the inputs and outputs {_names(found_ports)}, expected {_names(expected)} by its contract; "
            "export the model again with `structvpr export onnx`"
        )
    _check_precision(path, model, contract.precision)
    return data, model, contract


def _check_precision(path: Path, model: onnx.ModelProto, precision: str) -> None:
    """Refuse a graph whose types are not its contract's: no flag makes float16 or int8 of a float32 graph here."""
    found = graph_precision(model)
    if found != precision:
        raise ContractError(
            f"{path}: has a graph in {found}, expected {precision} by its contract; make it again with "
            "`structvpr export precision`"
        )


def _names(ports: list[tuple[int, list[int]]]) -> str:
    return ", ".join(f"{type_name(kind)} {shape}" for kind, shape in ports)


def _load_runtime(runtime: str | None, ahead: bool) -> tuple[str, Any]:
    """The module to build with, and its name: the one asked for, or the first that is installed."""
    names = [runtime] if runtime else ["tensorrt_rtx"] if ahead else list(RUNTIMES)
    failures = []
    for name in names:
        try:
            return name, importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: a library that it loads is missing
            failures.append(f"{name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    raise EngineError(
        f"no TensorRT can be imported ({'; '.join(failures)}), expected {' or '.join(names)}; on a Jetson it is part "
        "of JetPack and seen by an environment made with --system-site-packages"
    )


def _describe_gpu() -> tuple[str, str, int]:
    """Name, compute capability, such as "8.7", and multiprocessors, as the backend will find them when it loads it."""
    with closing(open_cuda()) as cuda:
        return cuda.gpu_name, cuda.compute_capability, cuda.multiprocessors


def _refuse_traps(path: Path, model: onnx.ModelProto, runtime: str, version: str) -> None:
    """Refuse a graph that this TensorRT is known to refuse, or to read another function from without a word."""
    target = "rtx" if runtime == "tensorrt_rtx" else _target_of(version)
    traps = [str(finding) for finding in check_graph(model, [target]) if finding.refused]
    if traps:
        more = f" (and {len(traps) - 1} more like it)" if len(traps) > 1 else ""
        raise EngineError(f"{path}: {traps[0]}{more}")


def _target_of(version: str) -> str:
    """The release that is checked for: the newest that is not newer, but of the same major version if one is."""
    major, minor = map(int, version.split(".")[:2])
    names = {target.version: name for name, target in KNOWN.items() if name != "rtx"}
    candidates = sorted(number for number in names if number[0] == major) or sorted(names)
    older = [number for number in candidates if number <= (major, minor)]
    return names[older[-1] if older else candidates[0]]


@contextmanager
def _unfinished(engine_path: Path) -> Iterator[Path]:
    """A path for the engine in a temporary folder beside its own; moved there, then its sidecar, if all went well.

    Both are written before either is moved, so a full disk leaves what was there.
    """
    with _writing(engine_path):
        folder = Path(tempfile.mkdtemp(prefix=f".{engine_path.name}.", dir=engine_path.parent))
    path = folder / engine_path.name
    try:
        yield path
        with _writing(engine_path):
            move_into_place(path, engine_path)
            move_into_place(sidecar_path(path), sidecar_path(engine_path))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _writing(engine_path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EngineError(
            f"cannot write {engine_path}: {error.strerror}, expected a folder that can be written on a disk with room; "
            "choose another path"
        ) from None
