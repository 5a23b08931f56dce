"""`structvpr export precision`: a model becomes fp16 or int8, and is judged."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdk.cli.console import print_json, progress_bars

from ..gate.options import GateOptions
from .gate_options import BELOW_THRESHOLDS, Json, Keep, with_gate_options
from .tables import print_facts, print_verdict

if TYPE_CHECKING:
    from ..precision.gated import GatedConversion

__all__ = ["precision_command"]


@with_gate_options
def precision_command(
    model: Annotated[Path, typer.Argument(help="File of `structvpr export onnx`, in fp32.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="ONNX file to write.", show_default=False)],
    precision: Annotated[str, typer.Option("--precision", help="fp16 or int8.", show_default=False)],
    gate: GateOptions,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="Images or a video that show what the robot sees, 100 frames or more."),
    ] = None,
    flavour: Annotated[
        str | None,
        typer.Option("--flavour", help="int8 only: tensorrt, or onnxruntime (and OpenVINO) on x86.  [tensorrt]"),
    ] = None,
    keep: Keep = False,
    as_json: Json = False,
) -> None:
    """Convert a model to fp16 or int8, and judge the result against fp32.

    The result has the model's inputs and outputs, and works with the model's map. ONNX Runtime runs both files on the
    same frames. If the result does not pass, nothing is written and the exit code is 1.

    The gate judges the mean cosine of the descriptors, and the loss of R@1 for int8 where true places are known, or
    else the share of first answers that stay the same. Showing a loss of at most 1 point takes 299 queries if no
    answer changes, and more if some do.

    int8 needs --calibration. Queries must not be calibration frames; only identical files are noticed, so take the
    queries from another drive.

    \b
    Example: fp16, judged on photographs alone
      structvpr export precision model.onnx -o model.fp16.onnx --precision fp16 --frames photos/
    \b
    Example: int8 for TensorRT, calibrated on one drive, judged by the R@1 of another
      structvpr export precision model.onnx -o model.int8.onnx --precision int8 --calibration drive1/ \\
          --database_folder campus/database --queries_folder campus/queries --positive_dist_threshold 25
    """
    from ..precision.gated import convert_gated

    with progress_bars() as tell:
        result = convert_gated(
            model, output, precision, gate, calibration=calibration, flavour=flavour, keep=keep, progress=tell
        )
    report, verdict = result.report, result.verdict
    if as_json:
        record = asdict(report) | {"identity": report.contract.identity, "written": result.written}
        print_json(record | {"gate": None if verdict is None else verdict.to_record()})
    else:
        _print(result, model)
    if verdict is not None and not verdict.passed:
        raise typer.Exit(BELOW_THRESHOLDS)


def _print(result: GatedConversion, model: Path) -> None:
    report, contract = result.report, result.report.contract
    size = f"{report.size_bytes / 1e6:.1f} MB ({model.name} has {model.stat().st_size / 1e6:.1f} MB)"
    written = f"{report.path}, {size}, sha256 {report.sha256[:12]}…"
    facts = {
        "written": written if result.written else "no; --keep writes it anyway",
        "model": f"{contract.name}, {contract.precision}" + (f" for {report.flavour}" if report.flavour else ""),
        "identity": contract.identity,
        "measured on": f"{report.num_frames} frames",
        "operators": ", ".join(f"{count} {name}" for name, count in report.operators.items()),
    }
    if report.flushed_weights:
        facts["too small for fp16"] = f"{report.flushed_weights:,} weights, which became zero"
    print_facts(facts)
    if result.verdict is not None:
        typer.echo("")
        print_verdict(result.verdict)
