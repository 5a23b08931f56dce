"""The settings of a build."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sdk import UsageError
from sdk.backends.engine_sidecar import RUNTIMES

__all__ = ["BuildSettings"]

MOST_WORKSPACE_MIB = 1 << 20  # far beyond any GPU; its bytes still fit the bindings' integers


@dataclass(frozen=True)
class BuildSettings:
    """The settings of a build.

    Attributes:
        workspace_mib: memory that a kernel may use beside its tensors, MiB, 1 to 2^20.
        timing_cache: folder for TensorRT's timings; None for structvpr below $XDG_CACHE_HOME, or below ~/.cache.
            TensorRT-RTX has no timings.
        dla_core: DLA that runs what it can, with the GPU for the rest; None for the GPU alone.
        compute_capabilities: TensorRT-RTX only: GPUs to compile for, such as "8.6", without one at hand. Empty for the
            GPU of this machine.
        runtime: "tensorrt" or "tensorrt_rtx"; None for the first that is installed.
        optimization_level: 0 (fast build) to 5 (fast engine); None for TensorRT's default, 3.

    Raises:
        UsageError: a value is out of its range or has no effect.
    """

    workspace_mib: int = 1024
    timing_cache: Path | None = None
    dla_core: int | None = None
    compute_capabilities: tuple[str, ...] = ()
    runtime: str | None = None
    optimization_level: int | None = None

    def __post_init__(self) -> None:
        workspace, level = self.workspace_mib, self.optimization_level
        if not 1 <= workspace <= MOST_WORKSPACE_MIB:
            raise UsageError(f"the workspace is {workspace} MiB, expected 1 to {MOST_WORKSPACE_MIB}")
        if level is not None and not 0 <= level <= 5:
            raise UsageError(f"the optimization level is {level}, expected 0 to 5")
        if self.runtime not in (None, *RUNTIMES):
            raise UsageError(f"the runtime is {self.runtime!r}, expected {' or '.join(RUNTIMES)}")
        for capability in self.compute_capabilities:
            if re.fullmatch(r"\d+\.\d", capability) is None:
                raise UsageError(f"a compute capability is {capability!r}, expected one such as 8.6")
        if self.compute_capabilities and self.runtime == "tensorrt":
            raise UsageError(
                "compute capabilities need tensorrt_rtx, because tensorrt builds only for the GPU that is present; "
                "leave out one of the two"
            )
        if self.compute_capabilities and self.timing_cache is not None:
            raise UsageError("TensorRT-RTX has no timings to keep; leave out --timing-cache or --for")
