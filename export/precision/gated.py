"""Converts a model, and keeps the file only if it passes the gate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from sdk import DataError, UsageError, open_source
from sdk.atomic_file import replace_together
from sdk.progress import Progress

from ..gate.decision import Verdict, gate
from ..gate.frames import require_apart, require_readable
from ..gate.options import GateOptions
from .conversion import ConversionReport, check_choices, check_output, convert

__all__ = ["GatedConversion", "convert_gated"]

MIN_CALIBRATION = 10  # frames; fewer do not show the range of the activations


class GatedConversion(NamedTuple):
    """The report, the verdict (None if the gate was switched off), and whether the file was written."""

    report: ConversionReport
    verdict: Verdict | None
    written: bool


def convert_gated(
    model: Path,
    output: Path,
    precision: str,
    options: GateOptions,
    *,
    calibration: Path | None = None,
    flavour: str | None = None,
    keep: bool = False,
    progress: Progress,
) -> GatedConversion:
    """Call `convert`, judge the result against `model`, and write it if it passes.

    Args:
        model, output, precision, calibration, flavour: see `convert`.
        options: what to judge on.
        keep: write the file even if it does not pass.
        progress: see `Progress`.

    Raises:
        UsageError: `keep` has no effect.
        DataError: there are fewer than ten calibration frames, or a query is one of them.
        Error: see `GateOptions.read`, `convert` and `gate`.
    """
    check_choices(precision, flavour, calibration)
    if keep and options.no_gate:
        raise UsageError("--keep has no effect with --no-gate, which writes the file anyway; leave out one of the two")
    frames = None if options.no_gate else options.read()
    check_output(model, output)
    if calibration is not None:
        if frames is not None:
            require_apart(calibration, frames)
        count = open_source(calibration, positions=False).num_frames if precision == "int8" else MIN_CALIBRATION
        if (count or 0) < MIN_CALIBRATION:
            raise DataError(
                f"{calibration}: holds {count or 0} frames, expected at least {MIN_CALIBRATION} to calibrate on; "
                "give about 100 that show what the robot sees"
            )
    verdict = None
    with replace_together(output) as folder:
        if frames is not None:
            require_readable(frames, progress)
        made = folder / output.name
        report = convert(model, made, precision, calibration=calibration, flavour=flavour, progress=progress)
        if frames is not None:
            verdict = gate(model, made, frames, options.thresholds(precision), progress)
        written = verdict is None or verdict.passed or keep
        if not written:
            made.unlink()
    return GatedConversion(replace(report, path=str(output)), verdict, written)
