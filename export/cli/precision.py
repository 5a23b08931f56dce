"""`structvpr export precision`: fp16 and int8, and whether they may be trusted."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdk import EngineError, FrameError, MapError, open_source
from sdk.atomic_file import move_into_place
from sdk.cli.console import print_json, progress_bars

from .gate_options import (
    BELOW_THRESHOLDS,
    DatabaseFolder,
    Dataset,
    Frames,
    Json,
    MaxRecallDrop,
    MinCosine,
    MinTop1Agreement,
    PositiveDistThreshold,
    QueriesFolder,
    choose_thresholds,
    print_verdict,
    require_places,
)

if TYPE_CHECKING:
    from ..gate.decision import Verdict
    from ..precision.conversion import ConversionReport

__all__ = ["precision_command"]

PRECISIONS = ("fp16", "int8")
LEAST_CALIBRATION = 10  # frames: fewer see too little of what activations reach


def precision_command(
    model: Annotated[Path, typer.Argument(help="File of `structvpr export onnx`, in fp32.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="ONNX file to write.", show_default=False)],
    precision: Annotated[str, typer.Option("--precision", help="fp16 or int8.", show_default=False)],
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="int8: images or a video of what the robot sees, some 100 frames or more."),
    ] = None,
    flavour: Annotated[
        str, typer.Option("--flavour", help="Who will run int8: tensorrt, or onnxruntime (and OpenVINO) on x86.")
    ] = "tensorrt",
    frames: Frames = None,
    dataset: Dataset = None,
    database_folder: DatabaseFolder = None,
    queries_folder: QueriesFolder = None,
    positive_dist_threshold: PositiveDistThreshold = 25.0,
    min_cosine: MinCosine = None,
    min_top1_agreement: MinTop1Agreement = None,
    max_recall_drop: MaxRecallDrop = None,
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Write the file without judging it.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Write the file even if it does not pass.")] = False,
    as_json: Json = False,
) -> None:
    """Convert a model to fp16 or int8, and judge it against fp32.

    The result takes and gives what the model does, and answers to the same map. Both are asked about the same frames by
    ONNX Runtime; unless the result passes, nothing is written and the exit code is 1. Judged are the mean cosine of the
    descriptors and, where true places are known, the R@1 that int8 may lose; else, how many first answers stay. To show
    that no more than 1 point is lost takes 299 queries if no answer changes, and more if some do. Queries must not be
    calibrated on; only files that are the same are noticed, so take them from another drive.

    \b
    Example: fp16, judged on photographs alone
      structvpr export precision model.onnx -o model.fp16.onnx --precision fp16 --frames photos/
    \b
    Example: int8 for TensorRT, calibrated on one drive, judged by the R@1 of another
      structvpr export precision model.onnx -o model.int8.onnx --precision int8 --calibration drive1/ \\
          --database_folder campus/database --queries_folder campus/queries --positive_dist_threshold 25
    """
    from ..gate.decision import gate, require_enough
    from ..gate.frames import read_gate_frames, require_apart, require_readable

    if precision not in PRECISIONS:
        raise EngineError(f"--precision is {precision!r}, expected fp16 or int8; correct it")
    thresholds = choose_thresholds(precision, min_cosine, min_top1_agreement, max_recall_drop)
    data = read_gate_frames(frames, dataset, database_folder, queries_folder, positive_dist_threshold)
    if data is None and not no_gate:
        raise MapError(
            "no frames to judge the result on were named, expected --frames, --dataset, or --database_folder and "
            "--queries_folder; add them, or --no-gate to take the result untested"
        )
    if no_gate:
        data = None
    require_places(data, max_recall_drop)
    if data is not None:
        require_enough(data)
    if data is not None and calibration is not None:
        require_apart(calibration, data)
    from ..precision.conversion import check_output, convert

    check_output(model, output)
    if precision == "int8" and calibration is not None:
        _require_enough_to_calibrate(calibration)
    verdict = None
    with _folder_beside(output) as folder, progress_bars() as tell:
        if data is not None:
            require_readable(data, tell)
        made = Path(folder) / output.name
        report = convert(model, made, precision, calibration=calibration, flavour=flavour, progress=tell)
        if data is not None:
            verdict = gate(model, made, data, thresholds, tell)
        written = verdict is None or verdict.passed or keep
        if written:
            _move(made, output)
    report = replace(report, path=str(output))
    if as_json:
        record = asdict(report) | {"identity": report.contract.identity, "written": written}
        print_json(record | {"gate": None if verdict is None else verdict.to_record()})
    else:
        _print(report, written, model, verdict)
    if verdict is not None and not verdict.passed:
        raise typer.Exit(BELOW_THRESHOLDS)


def _require_enough_to_calibrate(calibration: Path) -> None:
    count = open_source(calibration, positions=False).num_frames or 0
    if count < LEAST_CALIBRATION:
        raise FrameError(
            f"{calibration}: holds {count} frames, expected at least {LEAST_CALIBRATION} to calibrate on, better "
            "100 that show what the robot sees; give more"
        )


def _folder_beside(output: Path) -> tempfile.TemporaryDirectory[str]:
    """On the same file system, so that the file can be moved into place in one step."""
    try:
        return tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise EngineError(
            f"cannot write {output}: {error.strerror}, expected a folder that exists and can be written; choose "
            "another path"
        ) from None


def _move(made: Path, output: Path) -> None:
    try:
        move_into_place(made, output)
    except OSError as error:
        raise EngineError(
            f"cannot write {output}: {error.strerror}, expected a file or no file there; choose another path"
        ) from None


def _print(report: ConversionReport, written: bool, model: Path, verdict: Verdict | None) -> None:
    contract = report.contract
    size = f"{report.size_bytes / 1e6:.1f} MB ({model.name} has {model.stat().st_size / 1e6:.1f} MB)"
    lines = {
        "written": f"{report.path}, {size}, sha256 {report.sha256[:12]}…" if written else "no; --keep writes it anyway",
        "model": f"{contract.name}, {contract.precision}" + (f" for {report.flavour}" if report.flavour else ""),
        "identity": contract.identity,
        "measured on": f"{report.num_frames} frames",
        "operators": ", ".join(f"{count} {name}" for name, count in report.operators.items()),
    }
    if report.flushed_weights:
        lines["too small for fp16"] = f"{report.flushed_weights:,} weights, which became zero"
    for label, text in lines.items():
        typer.echo(f"{label:<20}{text}")
    if verdict is not None:
        typer.echo("")
        print_verdict(verdict)
