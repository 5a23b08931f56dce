"""structvpr demo: build a map of a rendered street and localise in it, with the user's own verbs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

import sdk
from sdk.cli import main
from sdk.cli.console import progress_bars

from ..world import DAY, DUSK, World, traverse, write_traverse

__all__ = ["app", "render_drives"]

MODEL = "efficientnet-lite0-structvpr.onnx"
LENGTH_M = 300.0
MAP_SPACING_M = 2.5
QUERY_SPACING_M = 5.0
RIGHT_WITHIN_M = 5.0

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to write. Created if missing.")] = Path("demo"),
    model: Annotated[Path | None, typer.Option(help="The network; default: the one in this package.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the street.")] = 0,
) -> None:
    """Map a rendered street by day, and localise in it at dusk.

    Renders both drives, builds a map, queries it, judges the answers and writes report.html. The dusk drive is 1.2 m
    to the side and has other cars and people. Its positions lie outside its folder and are read after every frame has
    been answered. Each step prints the command that does the same with your own images.

    \b
    Example
      structvpr demo && xdg-open demo/report.html
    """
    model = model or _shipped_model()
    day, dusk, truth = folder / "day", folder / "dusk", folder / "dusk.csv"
    map_path = folder / "day.places"
    typer.echo(f"rendering a street of {LENGTH_M:g} m into {folder}/")
    render_drives(day, dusk, truth, seed, LENGTH_M)
    for previous in (map_path, map_path.with_name(map_path.name + ".index")):
        previous.unlink(missing_ok=True)
    _run("map", "build", model, day, map_path)
    _run(
        *("query", model, dusk, "--map", map_path, "--truth", truth),
        *("--positive_dist_threshold", f"{RIGHT_WITHIN_M:g}", "--report", folder / "report.html", "--map-images", day),
    )


def render_drives(day: Path, dusk: Path, truth: Path, seed: int, length_m: float) -> None:
    """Render the demo's two drives.

    Args:
        day: folder of the map's images, with their places.csv.
        dusk: folder of the queries' images, with no positions.
        truth: CSV of the queries' positions.
        seed: of the street.
        length_m: of the street.
    """
    world = World(seed, length_m)
    mapped = traverse(length_m, MAP_SPACING_M, seed=2 * seed)
    asked = traverse(
        length_m,
        QUERY_SPACING_M,
        seed=2 * seed + 1,
        start_m=MAP_SPACING_M / 2,  # between two places of the map
        lateral_m=1.2,
        lateral_jitter_m=0.3,
        heading_jitter_deg=3.0,
    )
    with progress_bars() as tell:
        write_traverse(day, world, mapped, DAY, traverse_seed=1, progress=lambda done, of: tell("day", done, of))
        write_traverse(
            dusk, world, asked, DUSK, traverse_seed=2, poses_csv=truth, progress=lambda done, of: tell("dusk", done, of)
        )


def _run(*arguments: str | Path) -> None:
    words = [str(argument) for argument in arguments]
    typer.echo(f"\n$ structvpr {shlex.join(words)}")
    main(words, exit_when_done=False)


def _shipped_model() -> Path:
    package = Path(sdk.__file__).parent
    for folder in (package / "models", package.parent / "models"):  # an installed wheel, a checkout
        if (folder / MODEL).is_file():
            return folder / MODEL
    raise sdk.EngineError(f"{MODEL}: is neither in the package nor in a checkout; pass --model")
