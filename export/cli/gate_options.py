"""The gate's options as options of a verb."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import typer

from ..gate.options import GateOptions

__all__ = ["BELOW_THRESHOLDS", "Json", "Keep", "with_gate_options"]

BELOW_THRESHOLDS = 1  # exit code, as diff's when files differ

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Keep = Annotated[bool, typer.Option("--keep", help="Write the file even if it does not pass.")]

OPTIONS = {
    "frames": typer.Option("--frames", help="Folder of 10 or more images; each is searched among all the others."),
    "dataset": typer.Option(
        "--dataset", help="Folder with database/, query*/ and ground_truth.csv, or its name below $STRUCTVPR_DATA."
    ),
    "database_folder": typer.Option("--database_folder", help="Images with positions, for --queries_folder."),
    "queries_folder": typer.Option("--queries_folder", help="Images with positions, searched in --database_folder."),
    "positive_dist_threshold": typer.Option(
        "--positive_dist_threshold", help="With the two folders: radius within which an answer is right, m.  [25]"
    ),
    "min_cosine": typer.Option(
        "--min-cosine", help="Least mean cosine of the queries.  [fp32 0.9999, fp16 0.999, int8 0.98]"
    ),
    "min_top1_agreement": typer.Option(
        "--min-top1-agreement",
        help="Least share of first answers that stay; judged where R@1 is not.  [fp32 0.95, fp16 0.9, int8 0.8]",
    ),
    "max_recall_drop": typer.Option(
        "--max-recall-drop",
        help="Largest loss of R@1, in points, one-sided at 95 %; needs known places.  [int8 1, others not judged]",
    ),
    "no_gate": typer.Option("--no-gate", help="Do not judge; the exit code is 0."),
}


def with_gate_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `gate` of a verb by one option for each field of `GateOptions`."""
    signature, hints = inspect.signature(verb, eval_str=True), get_type_hints(GateOptions)
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(f.name, keyword, default=f.default, annotation=Annotated[hints[f.name], OPTIONS[f.name]])
        for f in fields(GateOptions)
    ]
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += shared if parameter.name == "gate" else [parameter.replace(kind=keyword)]

    @functools.wraps(verb)
    def command(**given: Any) -> None:
        verb(gate=GateOptions(**{f.name: given.pop(f.name) for f in fields(GateOptions)}), **given)

    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command
