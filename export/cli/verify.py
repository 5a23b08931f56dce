"""`structvpr export verify`: two files of one network, on the same frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdk import ContractError, MapError
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
    print_comparison,
    print_verdict,
    require_places,
)

__all__ = ["verify_command"]


def verify_command(
    model_a: Annotated[Path, typer.Argument(help="The reference: .onnx or .engine.", show_default=False)],
    model_b: Annotated[Path, typer.Argument(help="The candidate: .onnx or .engine.", show_default=False)],
    frames: Frames = None,
    dataset: Dataset = None,
    database_folder: DatabaseFolder = None,
    queries_folder: QueriesFolder = None,
    positive_dist_threshold: PositiveDistThreshold = 25.0,
    min_cosine: MinCosine = None,
    min_top1_agreement: MinTop1Agreement = None,
    max_recall_drop: MaxRecallDrop = None,
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Print the figures alone, and exit with 0.")] = False,
    as_json: Json = False,
) -> None:
    """Compare two files of one network: an engine and the ONNX file that it was built from, fp32 and int8.

    Both describe the same frames. Printed are the cosines of the descriptors, how many first answers stay, and R@1 and
    R@5 where true places are known: of queries by A to a map by A, and of queries by B to maps by either. The exit code
    is 1 if B is below the thresholds of its precision; files of different networks are refused.

    \b
    Example: on the device, the engine beside its model
      structvpr export verify model.onnx model.engine --frames photos/
    \b
    Example: what int8 costs in R@1
      structvpr export verify model.onnx model.int8.engine --database_folder campus/database \\
          --queries_folder campus/queries --json > verify.json
    """
    from ..gate.comparison import compare
    from ..gate.decision import judge, require_enough
    from ..gate.frames import read_gate_frames

    data = read_gate_frames(frames, dataset, database_folder, queries_folder, positive_dist_threshold)
    if data is None:
        raise MapError(
            "no frames to compare on were named, expected --frames, --dataset, or --database_folder and "
            "--queries_folder; see --help"
        )
    require_places(data, max_recall_drop)
    if not no_gate:
        require_enough(data)
    choose_thresholds("fp32", min_cosine, min_top1_agreement, max_recall_drop)  # says now what is out of range
    with progress_bars() as tell:
        comparison = compare(model_a, model_b, data, tell)
    if not no_gate and comparison.reference_precision != "fp32":
        raise ContractError(
            f"{model_a}: is {comparison.reference_precision}, expected fp32, which the other is judged against; put "
            "the fp32 file first, or compare without judging by --no-gate"
        )
    thresholds = choose_thresholds(comparison.candidate_precision, min_cosine, min_top1_agreement, max_recall_drop)
    verdict = None if no_gate else judge(comparison, thresholds)
    if as_json:
        print_json({"figures": comparison.to_record()} if verdict is None else verdict.to_record())
    elif verdict is None:
        print_comparison(comparison)
    else:
        print_verdict(verdict)
    if verdict is not None and not verdict.passed:
        raise typer.Exit(BELOW_THRESHOLDS)
