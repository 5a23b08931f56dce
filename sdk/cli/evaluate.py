"""structvpr eval: recall at K of a network on a data set."""

from __future__ import annotations

import contextlib
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sdk import UsageError, open_backend
from sdk.describer import Describer
from sdk.evaluation.evaluator import SetRecall, measure_recall
from sdk.evaluation.sets import find_dataset, read_frame_sets, read_position_set

from .console import print_json, print_table, progress_bars

__all__ = ["ManyValues", "evaluate"]

MANY = ("--recall_values", "--tolerance_frames")


class ManyValues(TyperCommand):
    """Accepts several values after one option (`--recall_values 1 5 10`), as other VPR tools do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        option = None
        for i, arg in enumerate(args):
            if arg.startswith("-"):
                option = arg if arg in MANY else None
            elif option is not None and arg.isdigit() and args[i - 1] != option:
                spread.append(option)
            elif option is not None and not arg.isdigit():
                option = None
            spread.append(arg)
        return super().parse_args(ctx, spread)


def evaluate(
    model: Annotated[Path, typer.Argument(help="The network: a model.onnx or a model.engine.", show_default=False)],
    dataset: Annotated[
        str | None,
        typer.Argument(
            help="A folder with database/, query*/ and ground_truth.csv, or its name below $STRUCTVPR_DATA.",
            show_default=False,
        ),
    ] = None,
    database_folder: Annotated[
        Path | None, typer.Option("--database_folder", help="The database: images with positions.")
    ] = None,
    queries_folder: Annotated[
        Path | None, typer.Option("--queries_folder", help="The queries: images with positions.")
    ] = None,
    positive_dist_threshold: Annotated[
        float, typer.Option("--positive_dist_threshold", help="With folders: radius of right answers, m.")
    ] = 25.0,
    tolerance_frames: Annotated[
        list[int] | None,
        typer.Option("--tolerance_frames", help="With a data set: frames an answer may be off.  [1 3 8]"),
    ] = None,
    recall_values: Annotated[
        list[int] | None, typer.Option("--recall_values", help="The values of K in R@K.  [1 5 10 20]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure recall at K on a data set.

    Recall at K is the share of queries with a true place among their first K answers, by exact search. Each row says
    what counts as right. "all" counts a query without a true place as a miss (VPR-methods-evaluation), "matched" leaves
    it out (MSLS). Queries whose ground truth is marked as not trusted are always left out.

    \b
    Example
      structvpr eval model.onnx gardens_point --tolerance_frames 1 3 8
      structvpr eval model.onnx --database_folder test/database --queries_folder test/queries \\
          --positive_dist_threshold 25 --recall_values 1 5 10 20
    """
    ks = sorted(set(recall_values or (1, 5, 10, 20)))
    if min(ks) < 1:
        raise UsageError(f"--recall_values has {min(ks)}; give K >= 1")
    if min(tolerance_frames or [0]) < 0:
        raise UsageError(f"--tolerance_frames has {min(tolerance_frames or [0])}; give frames >= 0")
    if not (math.isfinite(positive_dist_threshold) and positive_dist_threshold >= 0):
        raise UsageError(f"--positive_dist_threshold is {positive_dist_threshold}; give metres >= 0")
    if dataset is not None:
        sets = read_frame_sets(find_dataset(dataset), tolerance_frames or (1, 3, 8))
    elif database_folder is not None and queries_folder is not None:
        sets = [read_position_set(database_folder, queries_folder, positive_dist_threshold)]
    else:
        raise UsageError("no data was named; give a data set, or --database_folder and --queries_folder")
    with contextlib.closing(open_backend(model)) as backend, progress_bars() as tell:
        results = measure_recall(Describer(backend), sets, ks, tell)
    contract = backend.contract
    if as_json:
        head = {"model": contract.name, "identity": contract.identity, "precision": contract.precision}
        print_json({**head, "sets": [asdict(result) for result in results]})
        return
    for result in results:
        _print(result)


def _print(result: SetRecall) -> None:
    rows = []
    for protocol in result.protocols:
        title = f"{result.queries}, {protocol.right}"
        if protocol.queries == protocol.matched:
            counted: list[tuple[str, Any]] = [(f"{protocol.queries} all matched", protocol.recall_all)]
        else:
            counted = [
                (f"{protocol.queries} all", protocol.recall_all),
                (f"{protocol.matched} matched", protocol.recall_matched),
            ]
        for queries, recalls in counted:
            figures = ["-" if value is None else f"{100 * value:.1f}" for value in recalls.values()]
            rows.append((title, queries, *figures))
    print_table((f"right within (database {result.database})", "queries", *result.protocols[0].recall_all), rows)
    if result.untrusted:
        typer.echo(f"{result.queries}: {result.untrusted} queries left out, whose ground truth is not trusted")
    typer.echo(
        f"{result.describe_ms + result.search_ms:.2f} ms per query (median): describe {result.describe_ms:.2f}, "
        f"search {result.search_ms:.3f}; decoding not included\n"
    )
