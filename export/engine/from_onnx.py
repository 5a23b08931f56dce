"""Builds `model.engine` and its sidecar `model.engine.json` from a model.onnx, on the device that will run them.

The engine is a pure TensorRT plan; the sidecar says what it is for. Two builds of one model differ in their bytes,
because TensorRT chooses kernels by their measured time.
"""

from __future__ import annotations

import hashlib
import importlib
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import onnx

from sdk import EngineError, UsageError
from sdk.atomic_file import replace_together, writing
from sdk.backends.cuda import open_cuda, require_driver
from sdk.backends.engine_sidecar import RUNTIMES, EngineSidecar, sidecar_path
from sdk.errors import first_line
from sdk.machine.device import describe_device

from ..graph.model_file import read_model, require_new
from ..graph.rules import check_graph
from ..graph.targets import KNOWN
from ..progress import Progress
from .build import BuildSettings, EngineBuilder
from .timing_cache import cache_file, load_cache, save_cache

__all__ = ["export_engine"]

Judge = Callable[[Path], "dict[str, Any] | None"]


def export_engine(
    onnx_path: str | Path,
    engine_path: str | Path,
    settings: BuildSettings | None = None,
    *,
    judge: Judge | None = None,
    progress: Progress | None = None,
) -> EngineSidecar:
    """Build an engine with the installed TensorRT, for the GPU of this machine.

    Both files are complete before either is moved into place. The engine is moved first: after a power cut between the
    two, the old sidecar does not fit the new engine, and loading refuses the pair.

    Args:
        onnx_path: file of `structvpr export onnx` or `structvpr export precision`.
        engine_path: engine to write, *.engine or *.plan; an existing one and its sidecar are replaced.
        settings: of the build; None for the defaults.
        judge: called with the path of the finished engine in a temporary folder, its sidecar beside it. Its result
            becomes the sidecar's `gate`; if it raises, nothing is written. Not called when compiling ahead.
        progress: see `Progress`.

    Returns:
        The sidecar as written.

    Raises:
        UsageError: the engine's path is the model or has another suffix.
        EngineError: there is no TensorRT, driver or GPU, they lack a setting, the model cannot be read or is not
            accepted, or the build fails. The files at `engine_path` are unchanged.
        ContractError: the model carries no contract, or differs from it.
        WriteError: a file cannot be written.
    """
    settings = settings or BuildSettings()
    onnx_path, engine_path = Path(onnx_path), Path(engine_path)
    data, model, contract = read_model(onnx_path)
    _check_paths(onnx_path, engine_path)
    runtime, trt = _load_runtime(settings)
    _refuse_traps(onnx_path, model, runtime, trt.__version__)
    # Without a working driver, TensorRT may end the process. So the driver is checked first, in another process.
    driver = None if settings.compute_capabilities else require_driver(str(onnx_path), runtime)
    gpu_name, capability, multiprocessors = (None, None, None) if driver is None else _describe_gpu()
    cache_path = None
    if gpu_name is not None and multiprocessors is not None and runtime == "tensorrt":
        cache_path = cache_file(settings.timing_cache, runtime, trt.__version__, gpu_name, multiprocessors)

    with replace_together(engine_path, sidecar_path(engine_path)) as folder:
        unfinished = folder / engine_path.name
        began, built_at = time.monotonic(), datetime.now(timezone.utc)
        cache = None if cache_path is None else load_cache(cache_path)
        builder = EngineBuilder(trt, runtime, model, contract.precision, str(onnx_path))
        plan, timings = builder.build(settings, cache, progress)
        del builder  # frees memory for the judge
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
            dla_core=settings.dla_core,
            onnx_name=onnx_path.name,
            onnx_sha256=hashlib.sha256(data).hexdigest(),
            engine_sha256=hashlib.sha256(plan).hexdigest(),
            engine_bytes=len(plan),
            built_at=built_at.isoformat(timespec="seconds"),
            build_s=round(build_s, 3),
            gate=None,
        )
        with writing(engine_path):
            unfinished.write_bytes(plan)
            sidecar_path(unfinished).write_text(sidecar.to_json(), encoding="utf-8")
        if judge is not None and driver is not None:
            sidecar = replace(sidecar, gate=judge(unfinished))
            with writing(engine_path):
                sidecar_path(unfinished).write_text(sidecar.to_json(), encoding="utf-8")
    return sidecar


def _check_paths(onnx_path: Path, engine_path: Path) -> None:
    """Refuse, before the build, a path that could not be written afterwards or that is the model."""
    if not onnx_path.name.isprintable():  # the sidecar holds the name
        raise UsageError(f"the model's name {onnx_path.name!r} cannot be printed; rename it")
    for place in (engine_path, sidecar_path(engine_path)) if engine_path.name else (engine_path,):
        require_new(place, onnx_path)
    if engine_path.suffix not in (".engine", ".plan"):  # `sdk.open_backend` recognises an engine by it
        raise UsageError(f"{engine_path}: is to be the engine, expected a name in .engine or .plan; choose another")


def _load_runtime(settings: BuildSettings) -> tuple[str, Any]:
    """The name and module of the runtime that is asked for, or of the first that is installed."""
    ahead = bool(settings.compute_capabilities)
    names = [settings.runtime] if settings.runtime else ["tensorrt_rtx"] if ahead else list(RUNTIMES)
    failures = []
    for name in names:
        try:
            return name, importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: a shared library is missing
            failures.append(f"{name}: {first_line(error)}")
    raise EngineError(
        f"no TensorRT can be imported ({'; '.join(failures)}); install {' or '.join(names)} (on a Jetson it is part of "
        "JetPack: make the virtual environment with --system-site-packages)"
    )


def _describe_gpu() -> tuple[str, str, int]:
    """The GPU's name, compute capability, such as "8.7", and multiprocessors, as the backend reads them."""
    with closing(open_cuda()) as cuda:
        return cuda.gpu_name, cuda.compute_capability, cuda.multiprocessors


def _refuse_traps(path: Path, model: onnx.ModelProto, runtime: str, version: str) -> None:
    """Refuse a graph that this TensorRT is known to refuse or to misread."""
    target = "rtx" if runtime == "tensorrt_rtx" else _target_of(version)
    traps = [str(finding) for finding in check_graph(model, [target]) if finding.refused]
    if traps:
        more = f" (and {len(traps) - 1} more like it)" if len(traps) > 1 else ""
        raise EngineError(f"{path}: {traps[0]}{more}")


def _target_of(version: str) -> str:
    """The release whose rules apply: the newest that is not newer, of the same major version if there is one."""
    major, minor = map(int, version.split(".")[:2])
    names = {target.version: name for name, target in KNOWN.items() if name != "rtx"}
    candidates = sorted(number for number in names if number[0] == major) or sorted(names)
    older = [number for number in candidates if number <= (major, minor)]
    return names[older[-1] if older else candidates[0]]
