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

# Where apt, and with it JetPack, puts TensorRT's Python module.
SYSTEM_PACKAGES = Path("/usr/lib")

# The instruction sets that matter to a search kernel, as /proc/cpuinfo names them.
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

# cuInit in a process of its own: a broken driver may end the process that asks.
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
    """Identity of the machine and of the software that figures depend on. Fields that are unknown are None."""
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
    """Installed versions of what a localiser may use; None where a package is not installed."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def cuda_driver() -> dict[str, Any] | None:
    """The CUDA driver: {"version": "13.0", "devices": 1, "code": 0}, or None if there is none.

    `code` is cuInit's. One that crashes, or gives no answer within 30 s, has no version, no devices, and None for it.
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
    """TensorRT's Python module that apt installed, as JetPack does; this environment need not see it."""
    return next(iter(sorted(SYSTEM_PACKAGES.glob("python3*/dist-packages/tensorrt"))), None)


def _power_mode() -> str | None:
    """A Jetson's power mode, without which its figures mean little."""
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
