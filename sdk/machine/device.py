"""Facts about this machine, for reports and for `structvpr doctor`."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .cpu import cpu_name

__all__ = ["cuda_driver", "describe_device", "package_versions", "system_tensorrt"]

PACKAGES = (
    *("structvpr", "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt"),
    *("tensorrt-rtx", "cuda-bindings", "pycuda", "torch", "onnx"),
)

# apt and JetPack install TensorRT's Python module here.
SYSTEM_PACKAGES = Path("/usr/lib")

# Instruction sets that the search kernels use, by their names in /proc/cpuinfo.
INSTRUCTION_SETS = {
    "avx2": "AVX2",
    "fma": "FMA",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "asimd": "NEON",
    "asimddp": "NEON dot product",
    "asimdhp": "NEON fp16",
}

# Runs cuInit in a separate process, because a broken driver may end the process that calls it.
PROBE = """
import ctypes
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError:
    raise SystemExit("no driver")
version, count = ctypes.c_int(), ctypes.c_int()
code = cuda.cuInit(0)
cuda.cuDriverGetVersion(ctypes.byref(version))
cuda.cuDeviceGetCount(ctypes.byref(count))
print(code, version.value, count.value)
"""
PROBE_TIMEOUT_S = 30


def describe_device() -> dict[str, Any]:
    """The machine and the software that figures depend on. Unknown fields are None."""
    cpuinfo = _read("/proc/cpuinfo") or ""
    flags = set(re.findall(r"\S+", " ".join(re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)[:1])))
    model = _read("/proc/device-tree/model")
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo") or "", re.MULTILINE)
    return {
        "model": model.strip("\0\n") if model else None,
        "cpu": cpu_name(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": int(memory[1]) * 1024 if memory else None,
        "instruction_sets": [label for flag, label in INSTRUCTION_SETS.items() if flag in flags],
        "l4t": (_read("/etc/nv_tegra_release") or "").split("\n")[0] or None,
        "power_mode": _power_mode(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "packages": package_versions(),
    }


def package_versions() -> dict[str, str | None]:
    """Installed versions of the packages that a Localizer may use; None if not installed."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def cuda_driver() -> dict[str, Any] | None:
    """The CUDA driver: {"version": "13.0", "devices": 1, "code": 0}, or None if there is none.

    `code` is the return value of cuInit. If cuInit crashes or takes over 30 s, version and code are None, devices is 0.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
        if done.stderr.strip() == "no driver":
            return None
        code, number, devices = map(int, done.stdout.split())
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {"version": None, "devices": 0, "code": None}
    return {"version": f"{number // 1000}.{number % 1000 // 10}", "devices": devices if code == 0 else 0, "code": code}


def system_tensorrt() -> Path | None:
    """TensorRT's Python module from apt or JetPack. This environment may be unable to import it."""
    return next(iter(sorted(SYSTEM_PACKAGES.glob("python3*/dist-packages/tensorrt"))), None)


def _power_mode() -> str | None:
    """The power mode of a Jetson, which its figures depend on."""
    if shutil.which("nvpmodel") is None:
        return None
    try:
        done = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"NV Power Mode:\s*(\S+)", done.stdout)
    return found[1] if found else None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None
