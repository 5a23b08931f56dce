"""structvpr train world: render a data set with exact positions and label maps."""

from __future__ import annotations

import time
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Annotated

import typer

import sdk
from sdk.cli.console import print_json, progress_bars

from ..world.towns import Plan, PlanError, write_towns

__all__ = ["world_command"]


def world_command(
    folder: Annotated[Path, typer.Argument(help="Folder to write. Created if missing.", show_default=False)],
    frames: Annotated[
        int, typer.Option(min=1, help="Minimum number of frames. Towns are complete, so there may be more.")
    ] = 20000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the towns.")] = 0,
    height: Annotated[int, typer.Option(min=32, help="Height of a frame, px.")] = 240,
    width: Annotated[int, typer.Option(min=32, help="Width of a frame, px.")] = 320,
    streets_per_town: Annotated[
        int, typer.Option(min=1, help="Streets per town. A query is searched within its town.")
    ] = 4,
    street_length_m: Annotated[float, typer.Option(help="Length of a street, m.")] = 150.0,
    queries_per_street: Annotated[
        int, typer.Option(min=1, help="Query drives per street, besides the reference drive.")
    ] = 4,
    spacing_m: Annotated[float, typer.Option(help="Distance between two frames of a drive, m.")] = 3.0,
    processes: Annotated[int | None, typer.Option(min=1, help="Rendering processes; default: one per core.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Render a data set of towns: frames, label maps, and a places.csv with regions and splits.

    Run the same command again to continue an interrupted run. On one machine the same options give the same files.

    \b
    Example
      structvpr train world towns --frames 20000
    """
    started = time.perf_counter()
    try:
        plan = Plan(
            frames=frames,
            seed=seed,
            height=height,
            width=width,
            streets_per_town=streets_per_town,
            street_length_m=street_length_m,
            queries_per_street=queries_per_street,
            spacing_m=spacing_m,
        )
        with progress_bars() as tell:
            write_towns(folder, plan, processes=processes, progress=lambda done, of: tell("frames", done, of))
    except PlanError as error:
        raise sdk.UsageError(str(error)) from None
    except (BrokenExecutor, MemoryError):
        raise sdk.EngineError(
            f"a process that rendered {folder} was killed, probably because memory ran out; run it again with fewer "
            "--processes (finished frames are kept)"
        ) from None
    except OSError as error:
        raise sdk.WriteError(f"cannot write {folder}: {error.strerror or error}") from None
    seconds = time.perf_counter() - started
    splits = plan.splits()
    towns = {name: splits.count(name) for name in ("train", "val", "test")}
    if as_json:
        record = {"folder": str(folder), "frames": plan.total_frames, "towns": towns, "seconds": round(seconds, 1)}
        print_json(record)
        return
    shares = ", ".join(f"{count} to {name}" for name, count in towns.items())
    typer.echo(f"written {folder}: {plan.total_frames} frames of {plan.towns} towns ({shares}) in {seconds:.0f} s")
