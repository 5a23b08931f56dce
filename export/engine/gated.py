"""Builds an engine, and keeps it only if it passes the gate."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from sdk import ContractError, ModelContract, UsageError, open_backend
from sdk.backends.engine_sidecar import EngineSidecar

from ..gate.comparison import require_same_network
from ..gate.decision import Verdict, gate
from ..gate.frames import require_readable
from ..gate.options import GateOptions
from ..graph.model_file import require_new
from ..progress import Progress
from .build import BuildSettings
from .from_onnx import export_engine

__all__ = ["GatedEngine", "build_gated"]


class GatedEngine(NamedTuple):
    """The sidecar as written, None if the engine did not pass; and the verdict, None if it was not judged."""

    sidecar: EngineSidecar | None
    verdict: Verdict | None


class _NotPassedError(Exception):
    """Leaves the build before anything is written."""


def build_gated(
    model: Path,
    output: Path,
    settings: BuildSettings,
    options: GateOptions,
    *,
    reference: Path | None = None,
    keep: bool = False,
    progress: Progress,
) -> GatedEngine:
    """Call `export_engine`, judge the engine, and write it if it passes. An engine built ahead is not judged.

    Args:
        model, output, settings: see `export_engine`.
        options: what to judge on.
        reference: model in fp32 to judge against; None for `model`.
        keep: write the engine even if it does not pass.
        progress: see `Progress`.

    Raises:
        UsageError: options contradict each other or have no effect.
        ContractError: the reference is not in fp32, or is of another network.
        Error: see `GateOptions.read`, `export_engine` and `gate`.
    """
    if reference is not None:
        require_new(output, reference, "also --reference")
    if settings.compute_capabilities:
        if options.names_frames() or reference is not None or keep:
            raise UsageError(
                "--for builds for other machines, where the engine cannot be judged: --frames, --dataset, the folders, "
                "--reference and --keep have no effect; leave them out, and run `structvpr export verify` where the "
                "GPU is"
            )
        options.refuse_thresholds("with --for, which does not judge")
        return GatedEngine(export_engine(model, output, settings, progress=progress), None)
    if options.no_gate and (keep or reference is not None):
        raise UsageError("--keep and --reference have no effect with --no-gate; leave out one of the two")
    frames = None if options.no_gate else options.read()
    if frames is None:
        return GatedEngine(export_engine(model, output, settings, progress=progress), None)

    against, precision = reference or model, _require_reference(model, reference)
    thresholds = options.thresholds(precision)
    verdict: Verdict | None = None

    def judge(engine: Path) -> dict[str, Any]:
        nonlocal verdict
        verdict = gate(against, engine, frames, thresholds, progress)
        if not verdict.passed and not keep:
            raise _NotPassedError
        return verdict.to_record()

    require_readable(frames, progress)
    sidecar = None
    with suppress(_NotPassedError):
        sidecar = export_engine(model, output, settings, judge=judge, progress=progress)
    return GatedEngine(sidecar, verdict)


def _require_reference(model: Path, reference: Path | None) -> str:
    """Check, before the build, that the gate will accept the reference. Gives the precision of `model`."""
    contract = _contract(model)
    against = contract if reference is None else _contract(reference)
    require_same_network(model, contract, reference or model, against)
    if against.precision != "fp32":
        raise ContractError(
            f"{reference or model}: is in {against.precision}, expected the model in fp32 to judge the engine against; "
            "name the file of `structvpr export onnx` by --reference, or skip the gate by --no-gate"
        )
    return contract.precision


def _contract(model: Path) -> ModelContract:
    backend = open_backend(model)
    backend.close()
    return backend.contract
