"""structvpr eval: recall at K of a network on a data set."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from typer.core import TyperCommand

from sdk import Backend, FrameError, MapError, open_backend, prepare
from sdk._core import PlaceIndex, l2_normalize
from sdk.evaluation.recall import recall_at_k
from sdk.evaluation.sets import EvaluationSet, find_dataset, read_frame_sets, read_position_set
from sdk.frames.image_file import read_image

from .console import print_json, print_table, progress_bars

__all__ = ["ManyValues", "evaluate"]

MANY = ("--recall_values", "--tolerance_frames")


class ManyValues(TyperCommand):
    """Takes `--recall_values 1 5 10`, as the field's tools do: an option's further values follow it."""

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
    database_folder: Annotated[Path | None, typer.Option("--database_folder", help="Images with positions.")] = None,
    queries_folder: Annotated[Path | None, typer.Option("--queries_folder", help="Images with positions.")] = None,
    positive_dist_threshold: Annotated[
        float, typer.Option("--positive_dist_threshold", help="With folders: an answer this near is right, m.")
    ] = 25.0,
    tolerance_frames: Annotated[
        list[int] | None,
        typer.Option("--tolerance_frames", help="With a data set: frames to either side of the counterpart.  [1 3 8]"),
    ] = None,
    recall_values: Annotated[
        list[int] | None, typer.Option("--recall_values", help="The K of R@K.  [1 5 10 20]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Measure recall at K on a data set.

    Recall at K is the share of queries with a true place among their first K answers, by exact search. What is
    right is stated with each row. "all" counts a query without a true place as a miss (VPR-methods-evaluation),
    "matched" leaves it out (MSLS).

    \b
    Example
      structvpr eval model.onnx gardens_point --tolerance_frames 1 3 8
      structvpr eval model.onnx --database_folder test/database --queries_folder test/queries \\
          --positive_dist_threshold 25 --recall_values 1 5 10 20
    """
    ks = sorted(set(recall_values or (1, 5, 10, 20)))
    if min(ks) < 1 or min(tolerance_frames or [0]) < 0 or not 0 <= positive_dist_threshold < float("inf"):
        raise MapError(
            f"--recall_values {ks} --tolerance_frames {tolerance_frames} --positive_dist_threshold "
            f"{positive_dist_threshold} were given, expected K >= 1, frames >= 0 and metres >= 0; correct them"
        )
    if dataset is not None:
        sets = read_frame_sets(find_dataset(dataset), tolerance_frames or (1, 3, 8))
    elif database_folder is not None and queries_folder is not None:
        sets = [read_position_set(database_folder, queries_folder, positive_dist_threshold)]
    else:
        raise MapError("no data was named, expected a data set, or --database_folder and --queries_folder; see --help")
    backend = open_backend(model)
    try:
        with progress_bars() as tell:
            database, _ = _describe(backend, sets[0].database, "database", tell)
            results = [_evaluate(backend, a_set, database, ks, tell) for a_set in sets]
    finally:
        backend.close()
    if as_json:
        contract = backend.contract
        print_json(
            {"model": contract.name, "identity": contract.identity, "precision": contract.precision, "sets": results}
        )
        return
    for result in results:
        _print(result)


def _describe(
    backend: Backend, files: Sequence[Path], what: str, tell: Any
) -> tuple[npt.NDArray[np.float32], list[float]]:
    """Descriptors of image files, float32 (n, D) of unit length, and milliseconds of each without the decoding."""
    rows, times_ms = [], []
    for done, path in enumerate(files, start=1):
        frame = read_image(path)
        started = time.perf_counter()
        try:
            batch = prepare(frame, backend.contract)
        except FrameError as error:
            raise FrameError(f"{path}: {error}") from None
        rows.append(l2_normalize(backend.infer(batch)))
        times_ms.append((time.perf_counter() - started) * 1e3)
        tell(what, done, len(files))
    return np.stack(rows), times_ms


def _evaluate(
    backend: Backend, a_set: EvaluationSet, database: npt.NDArray[np.float32], ks: Sequence[int], tell: Any
) -> dict[str, Any]:
    queries, describe_ms = _describe(backend, a_set.queries, a_set.name, tell)
    index = PlaceIndex(database.shape[1], precision="float32")  # recall of the network's figures, not of rounded ones
    index.add(np.arange(len(database)), database)
    ranked, search_ms = [], []
    for row in queries:  # one by one, as a robot asks
        started = time.perf_counter()
        ranked.append(index.search(row, max(ks), exact=True)[0])
        search_ms.append((time.perf_counter() - started) * 1e3)
    answers = np.stack(ranked)
    ks = [k for k in ks if k <= answers.shape[1]]
    if not ks:
        raise MapError(f"no K of --recall_values is at most {len(database)}, the images of the database; ask for less")
    protocols = []
    for protocol, positives in a_set.positives.items():
        protocols.append(
            {
                "right": protocol,
                "queries": len(positives),
                "matched": sum(len(true) > 0 for true in positives),
                "recall_all": {f"R@{k}": recall_at_k(answers, positives, k, count_unmatched=True) for k in ks},
                "recall_matched": {
                    # None and not nan, which JSON does not have
                    f"R@{k}": recall_at_k(answers, positives, k) if any(map(len, positives)) else None
                    for k in ks
                },
            }
        )
    return {
        "queries": a_set.name,
        "database": len(database),
        "protocols": protocols,
        "describe_ms": statistics.median(describe_ms),
        "search_ms": statistics.median(search_ms),
    }


def _print(result: dict[str, Any]) -> None:
    rows = []
    for protocol in result["protocols"]:
        every = protocol["queries"] == protocol["matched"]
        for counted, recalls in [("all" if not every else "all matched", "recall_all"), ("matched", "recall_matched")]:
            if every and counted == "matched":
                continue  # the same figures
            number = protocol["queries"] if recalls == "recall_all" else protocol["matched"]
            figures = ["-" if value is None else f"{100 * value:.1f}" for value in protocol[recalls].values()]
            rows.append((f"{result['queries']}, {protocol['right']}", f"{number} {counted}", *figures))
    names = list(result["protocols"][0]["recall_all"])
    print_table((f"right within (database {result['database']})", "queries", *names), rows)
    typer.echo(
        f"{result['describe_ms'] + result['search_ms']:.2f} ms a query (median): describe {result['describe_ms']:.2f}, "
        f"search {result['search_ms']:.3f}; images decoded beforehand\n"
    )
