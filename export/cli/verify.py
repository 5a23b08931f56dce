"""`structvpr export verify`: two files of one network, on the same frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdk.cli.console import print_json, progress_bars

from ..gate.options import GateOptions
from .gate_options import BELOW_THRESHOLDS, Json, with_gate_options
from .tables import print_comparison, print_verdict

__all__ = ["verify_command"]


@with_gate_options
def verify_command(
    model_a: Annotated[Path, typer.Argument(help="The reference: .onnx or .engine.", show_default=False)],
    model_b: Annotated[Path, typer.Argument(help="The candidate: .onnx or .engine.", show_default=False)],
    gate: GateOptions,
    as_json: Json = False,
) -> None:
    """Compare two files of one network, such as an engine and its ONNX file, or int8 and fp32.

    Both describe the same frames. Printed are the cosines of the descriptors and the share of first answers that stay
    the same. Where true places are known, R@1 and R@5 are printed too: A's queries in a map of A, and B's queries in a
    map of A and in one of B. The exit code is 1 if B misses the thresholds of its precision. Files of different
    networks are refused.

    \b
    Example: on the device, an engine and its model
      structvpr export verify model.onnx model.engine --frames photos/
    \b
    Example: what int8 costs in R@1
      structvpr export verify model.onnx model.int8.engine --database_folder campus/database \\
          --queries_folder campus/queries --json > verify.json
    """
    from ..gate.comparison import compare
    from ..gate.decision import judge

    with progress_bars() as tell:
        comparison = compare(model_a, model_b, gate.read(), tell)
    verdict = None if gate.no_gate else judge(comparison, gate.thresholds(comparison.candidate_precision))
    if as_json:
        print_json({"figures": comparison.to_record()} if verdict is None else verdict.to_record())
    elif verdict is None:
        print_comparison(comparison)
    else:
        print_verdict(verdict)
    if verdict is not None and not verdict.passed:
        raise typer.Exit(BELOW_THRESHOLDS)
