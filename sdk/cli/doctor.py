"""structvpr doctor: what this machine has, and what to install for the rest."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import typer

from sdk.device import cuda_driver, describe_device
from sdk.search_costs import costs_path, search_costs

from .console import print_json

__all__ = ["doctor"]

Status = Literal["ok", "missing", "broken"]
MARK: dict[Status, str] = {"ok": "+", "missing": "-", "broken": "!"}


@dataclass(frozen=True)
class Finding:
    """One part of the machine: whether it is there, what it is, and what to do if it is not."""

    part: str
    status: Status
    found: str
    remedy: str = ""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False) -> None:
    """Say what this machine can run.

    And what to install for the rest; exit code 1 if it cannot localise.

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
    return [
        _kernel(),
        _search(),
        Finding("instruction sets", "ok", ", ".join(sets) or "none beyond the baseline"),
        _onnxruntime(),
        _driver(device),
        _tensorrt(),
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
    kept = "measured now, for there is nowhere to keep them"
    if path is not None and path.exists():
        kept = f"measured once, kept in {path} (remove it to measure again)"
    return Finding("search", "ok", f"{PlaceIndex(1).instruction_set}, costs in ns: {costs}; {kept}")


def _onnxruntime() -> Finding:
    try:
        import onnxruntime
    except ImportError as error:
        return Finding("ONNX Runtime", "broken", str(error), "run `pip install onnxruntime`")
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())
    return Finding("ONNX Runtime", "ok", f"{onnxruntime.__version__}, providers {providers}")


def _driver(device: dict[str, Any]) -> Finding:
    driver = cuda_driver()
    if driver is None:
        remedy = (
            "JetPack brings it; elsewhere install NVIDIA's driver" if device["l4t"] is None else "reinstall JetPack"
        )
        return Finding("CUDA driver", "missing", "no libcuda.so.1; the CPU is used", remedy)
    if driver["devices"] == 0:
        return Finding("CUDA driver", "missing", f"{driver['version']}, no usable GPU (cuInit gave {driver['code']})")
    return Finding("CUDA driver", "ok", f"CUDA {driver['version']}, {driver['devices']} GPU")


def _tensorrt() -> Finding:
    # Looked for, not imported: some builds of it end the process on a machine without a driver.
    for name in ("tensorrt", "tensorrt_rtx"):
        if importlib.util.find_spec(name) is not None:
            return Finding(
                "TensorRT", "ok", f"the package {name} is there; this version of structvpr runs ONNX Runtime"
            )
    remedy = (
        'on a Jetson make the environment with --system-site-packages; elsewhere `pip install "structvpr[tensorrt]"`'
    )
    return Finding("TensorRT", "missing", "no package tensorrt", remedy)


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
