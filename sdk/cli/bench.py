"""structvpr bench: time queries on this machine."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from sdk import Localizer, MapError, PlaceMap, open_backend, open_source
from sdk.evaluation.latency import fill_with_noise, measure_cold_start, measure_steady_state, memory_bytes
from sdk.machine.device import describe_device

from .console import print_json, print_table, progress_bars

__all__ = ["bench"]

MAX_FRAMES = 64  # kept in memory, queried in turn


def bench(
    model: Annotated[Path, typer.Argument(help="The network, a model.onnx or a model.engine.", show_default=False)],
    map_path: Annotated[
        Path | None, typer.Option("--map", help="The map. Without it, a map of --places random descriptors is made.")
    ] = None,
    places: Annotated[int, typer.Option(min=1, help="Without --map: number of places.")] = 10_000,
    frames: Annotated[Path | None, typer.Option(help="Images or a video to query; default: 640x480 noise.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Duration of the steady-state measurement, s.")] = 5.0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads per inference; default: one per core, at most four.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time queries on this machine, stage by stage.

    Queries run one at a time. Cold start and steady state are measured separately.

    \b
    Example
      structvpr bench model.onnx --map campus.places --frames photos/ --seconds 10 --json > bench.json
    """
    with tempfile.TemporaryDirectory() as folder, progress_bars() as tell:
        if map_path is None:
            map_path = Path(folder) / "noise.places"
            _make_map(model, map_path, places)
        images = _read_frames(frames)
        with Localizer(model, map_path, threads=threads, progress=tell) as localizer:
            if len(localizer) == 0:
                raise MapError(f"{map_path}: the map is empty; add places with `structvpr map build`")
            localizer.store.wait_until_ready()  # else the graph's thread would slow the queries
            steady = measure_steady_state(localizer, images, seconds, tell)
            contract = localizer.contract
            memory = memory_bytes()
        cold = measure_cold_start(model, map_path, threads)  # after the index was saved
        record: dict[str, Any] = {
            "model": contract.name,
            "identity": contract.identity,
            "precision": contract.precision,
            "input": [contract.height, contract.width],
            "frame": list(images[0].shape),
            "threads": threads,
            "cold_start_ms": cold,
            "steady_state": steady,
            "memory_bytes": memory,
            "file_bytes": {"model": model.stat().st_size, "map": map_path.stat().st_size},
            "device": describe_device(),
        }
    if as_json:
        print_json(record)
    else:
        _print(record)


def _make_map(model: Path, map_path: Path, places: int) -> None:
    backend = open_backend(model)
    contract = backend.contract
    backend.close()
    place_map = PlaceMap.create(map_path, contract)
    fill_with_noise(place_map, places)
    place_map.close()


def _read_frames(source: Path | None) -> list[Any]:
    if source is None:
        rng = np.random.default_rng(0)
        return [rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(8)]
    with open_source(source, positions=False) as sightings:
        return [sighting.frame for sighting in islice(sightings, MAX_FRAMES)]


def _print(record: dict[str, Any]) -> None:
    device, steady, memory = record["device"], record["steady_state"], record["memory_bytes"]
    mode = f", power mode {device['power_mode']}" if device["power_mode"] else ""
    typer.echo(
        f"{device['model'] or device['cpu'] or device['machine']}, {device['cores']} cores{mode}\n"
        f"onnxruntime {device['packages']['onnxruntime']}, {record['model']} {record['precision']}, input "
        f"{record['input'][0]} x {record['input'][1]}, map of {steady['map_places']:,} places, {steady['search']}\n"
    )
    headers = ["steady state, ms", *next(iter(steady["stages_ms"].values()))]
    print_table(headers, [(stage, *(f"{v:.3f}" for v in row.values())) for stage, row in steady["stages_ms"].items()])
    typer.echo(f"{steady['queries']} queries, {steady['queries_per_s']:.1f} a second\n")
    cold = record["cold_start_ms"]
    print_table(["cold start, ms (fresh process)", "median of 3"], [(stage, f"{ms:.1f}") for stage, ms in cold.items()])
    if memory["peak"]:
        typer.echo(f"\nmemory {memory['resident'] / 1e6:.0f} MB resident, {memory['peak'] / 1e6:.0f} MB at its peak")
