"""structvpr doctor: which runtimes this machine has, and how to install the others."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import typer

from sdk.index.search_costs import costs_path, search_costs
from sdk.machine.device import cuda_driver, describe_device, system_tensorrt

from .console import print_json

__all__ = ["doctor"]

Status = Literal["ok", "missing", "broken"]
MARK: dict[Status, str] = {"ok": "+", "missing": "-", "broken": "!"}


@dataclass(frozen=True)
class Finding:
    """One part of the machine: its status, what was found, and the remedy."""

    part: str
    status: Status
    found: str
    remedy: str = ""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show which runtimes work on this machine, and how to install the others.

    The exit code is 1 if it cannot localise.

    \b
    Example
      structvpr doctor
    """
    device = describe_device()
    findings = _examine(device)
    if as_json:
        print_json({"device": device, "findings": [asdict(finding) for finding in findings]})
    else:
        identity = device["model"] or device["cpu"] or device["machine"]
        memory = f", {device['memory_bytes'] / 2**30:.0f} GiB" if device["memory_bytes"] else ""
        typer.echo(f"{identity}, {device['cores']} cores{memory}, {device['system']}, Python {device['python']}")
        for finding in findings:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            typer.echo(f"  {MARK[finding.status]} {finding.part}: {finding.found}{remedy}")
    if any(finding.status == "broken" for finding in findings):
        raise typer.Exit(1)


def _examine(device: dict[str, Any]) -> list[Finding]:
    sets = device["instruction_sets"]
    driver = _driver(device)
    return [
        _kernel(),
        _search(),
        Finding("instruction sets", "ok", ", ".join(sets) or "none beyond the baseline"),
        _onnxruntime(driver),
        _openvino(device),
        driver,
        _tensorrt(device, driver),
        Finding("SQLite", "ok", device["sqlite"]),
        _extra("export", ("torch", "onnx", "onnxsim", "onnxscript")),
        _extra("training", ("torch",)),
    ]


def _kernel() -> Finding:
    import sdk._core

    return Finding("kernel", "ok", f"sdk._core, index file version {sdk._core.INDEX_FILE_VERSION}")


def _search() -> Finding:
    from sdk._core import PlaceIndex

    costs = ", ".join(f"{name} {float(f'{nanoseconds:.3g}'):g}" for name, nanoseconds in search_costs().items())
    path = costs_path()
    kept = "measured now; no folder can keep them"
    if path is not None and path.exists():
        kept = f"measured once, kept in {path} (remove it to measure again)"
    return Finding("search", "ok", f"{PlaceIndex(1).instruction_set}, costs in ns: {costs}; {kept}")


def _onnxruntime(driver: Finding) -> Finding:
    try:
        import onnxruntime
    except ImportError as error:
        return Finding("ONNX Runtime", "broken", str(error), "run `pip install onnxruntime`")
    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    found = f"{onnxruntime.__version__}, providers {', '.join(providers)}"
    if "CUDA" in providers and driver.status != "ok":
        found += "; the GPU providers cannot start without a driver"
    return Finding("ONNX Runtime", "ok", found)


def _openvino(device: dict[str, Any]) -> Finding:
    # Not imported: the import takes longer than all other checks.
    if importlib.util.find_spec("openvino") is None:
        remedy = 'for the CPU alone, and optional: `pip install "structvpr[openvino]"`'
        return Finding("OpenVINO", "missing", "no package openvino", remedy)
    return Finding("OpenVINO", "ok", device["packages"]["openvino"] or "of unknown version")


def _driver(device: dict[str, Any]) -> Finding:
    driver = cuda_driver()
    if driver is None:
        remedy = (
            "JetPack brings it; elsewhere install NVIDIA's driver" if device["l4t"] is None else "reinstall JetPack"
        )
        return Finding("CUDA driver", "missing", "no libcuda.so.1; the CPU is used", remedy)
    if driver["code"] is None:
        found = "it does not answer: the process that asked it crashed or hung; the CPU is used"
        return Finding("CUDA driver", "missing", found, "run `nvidia-smi`, and restart the machine")
    if driver["devices"] == 0:
        found = f"{driver['version']}, no usable GPU (cuInit returned {driver['code']})"
        return Finding("CUDA driver", "missing", found, "run `nvidia-smi`, and check CUDA_VISIBLE_DEVICES")
    return Finding("CUDA driver", "ok", f"CUDA {driver['version']}, {driver['devices']} GPU")


def _tensorrt(device: dict[str, Any], driver: Finding) -> Finding:
    # Not imported: some builds of TensorRT end the process on a machine without a driver.
    name = next((name for name in ("tensorrt", "tensorrt_rtx") if importlib.util.find_spec(name)), None)
    by_apt = system_tensorrt()
    if name is None and by_apt is not None:
        return Finding(
            "TensorRT",
            "missing",
            f"{by_apt} is installed, but this environment does not see it",
            "recreate the environment with `python3 -m venv --system-site-packages` and the Python of that folder",
        )
    if name is None:
        remedy = "on a Jetson `sudo apt install python3-libnvinfer`"
        if device["l4t"] is None:
            remedy = '`pip install "structvpr[tensorrt]"`'
        return Finding("TensorRT", "missing", "no package tensorrt", remedy)
    found = " ".join(filter(None, (name, device["packages"][name.replace("_", "-")])))
    if driver.status != "ok":
        return Finding(
            "TensorRT", "missing", f"{found} is installed, but there is no GPU for it", "see CUDA driver, above"
        )
    if not any(map(_is_installed, ("cuda.bindings", "cuda.cuda", "pycuda"))):
        remedy = "`pip install cuda-bindings` with the major version of the driver's CUDA"
        return Finding("TensorRT", "missing", f"{found} is installed, but neither cuda-bindings nor pycuda is", remedy)
    return Finding("TensorRT", "ok", found)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


def _extra(name: str, packages: tuple[str, ...]) -> Finding:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        return Finding(
            f"extra {name}",
            "missing",
            f"no {', '.join(missing)}",
            f'run `pip install "structvpr[{name}]"`, or `pip install ".[{name}]"` in a checkout',
        )
    return Finding(f"extra {name}", "ok", ", ".join(packages))
