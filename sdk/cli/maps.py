"""structvpr map build | info | verify | export."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from sdk import Localizer, MapError, PlaceMap, open_backend, open_source
from sdk._core import IndexFileError
from sdk.index.file import WAYS, index_path, load_index, method_of
from sdk.index.map_index import GRAPH_FROM, MapIndex
from sdk.index.search_costs import COSTS_FROM, search_costs
from sdk.places.database import place_new_map, sweep

from .console import print_json, print_table, progress_bars

__all__ = ["app"]

LEAST_GRAPH_RECALL = 0.95

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

MapArgument = Annotated[Path, typer.Argument(help="The map, a .places file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


@app.callback()
def maps() -> None:
    """Make maps and look after them."""


@app.command()
def build(
    model: Annotated[Path, typer.Argument(help="The network: a model.onnx or a model.engine.", show_default=False)],
    source: Annotated[
        Path, typer.Argument(help="A folder of images, a CSV of places, or a video.", show_default=False)
    ],
    map_path: Annotated[
        Path | None, typer.Argument(metavar="[MAP]", help="The map to write; default: beside the model.")
    ] = None,
    append: Annotated[bool, typer.Option(help="Add to a map that exists.")] = False,
    every_s: Annotated[float | None, typer.Option(help="Of a video: seconds between the frames taken.")] = None,
    as_json: Json = False,
) -> None:
    """Make a map from images or a video.

    A folder may hold a places.csv (image,x_m,y_m[,z_m,heading_deg,timestamp_s,name,traverse] or
    image,lat_deg,lon_deg,…), or images named @UTM_east@UTM_north@…@.jpg, or plain images without positions.
    The map appears when it is complete; if an image cannot be read, nothing is written.

    \b
    Example
      structvpr map build model.onnx photos/ campus.places
      structvpr map build model.onnx drive.mp4 campus.places --append --every-s 1
    """
    map_path = map_path or model.parent / f"{model.stem}.places"
    frames = open_source(source, every_s=every_s)
    if map_path.exists() != append:
        found, remedy = (
            ("exists already", "add to it with --append") if not append else ("does not exist", "drop --append")
        )
        raise MapError(
            f"{map_path}: {found}, expected {'a map' if append else 'a new file'}; {remedy}, or name another"
        )
    started = time.perf_counter()
    # A map of its own even for --append: what cannot be read is found before the map is touched.
    working = map_path.with_name(f"{map_path.name}.new-{os.getpid()}")
    with contextlib.ExitStack() as stack:
        tell = stack.enter_context(progress_bars())
        backend = stack.enter_context(contextlib.closing(open_backend(model)))
        # Opened first: that it is the map of another model is said before the long work.
        old = stack.enter_context(Localizer(backend, map_path, progress=tell)) if append else None
        if old is not None:
            old.map.claim()  # and that another process is writing it
        geography = old.map.geography if old is not None else frames.geography or "local"
        # Before too: a killed build may have had our process id, in a container at each start.
        sweep(map_path, "new", mine=True)
        stack.callback(sweep, map_path, "new", mine=True)
        PlaceMap.create(working, backend.contract, geography=geography).close()
        with Localizer(backend, working, progress=tell) as new:
            if old is not None and frames.geography not in (None, geography):
                raise MapError(
                    f"{source}: its positions are {frames.geography}, expected {geography} as {map_path} declares; "
                    "build a map of its own for them"
                )
            added = new.build(frames, progress=tell)
            if added == 0:
                raise MapError(f"{source}: gave no frame, expected at least one; check the file")
            if old is None:
                no_graph = _build_graph(new.index)
            else:
                pairs = [pair for batch in new.map.stored() for pair in batch]
                old.add_described(new.map.all_places(), new.map.decode(pairs))
                no_graph = _build_graph(old.index)
        if old is None:
            place_new_map(working, map_path)
            with contextlib.suppress(FileNotFoundError):  # where there was no room for it
                index_path(working).replace(index_path(map_path))
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"map": str(map_path), "places": added, "seconds": seconds, "graph_error": no_graph})
    else:
        typer.echo(f"{map_path}: {added} places in {seconds:.1f} s ({seconds / added * 1e3:.1f} ms a place)")
        if no_graph is not None:
            typer.echo(f"{map_path}: {no_graph}")


def _build_graph(index: MapIndex) -> str | None:
    """Wait for the graph; what to say if there is none, for a map without it is a map all the same."""
    try:
        index.build_graph()
    except Exception as error:
        found = f"{type(error).__name__}: {error}".rstrip(": ")
        return f"its graph could not be built ({found}), expected memory for it; until the next opening it is scanned"
    return None


@app.command()
def info(map_path: MapArgument, as_json: Json = False) -> None:
    """Say what a map holds, and which model made it.

    \b
    Example
      structvpr map info campus.places
    """
    place_map = PlaceMap.open(map_path)
    try:
        index_file = index_path(place_map.file)
        places = place_map.all_places()
        contract = place_map.contract
        record = {
            "map": str(map_path),
            "places": len(places),
            "with position": sum(place.position is not None for place in places),
            "traverses": sorted({place.traverse for place in places if place.traverse}),
            "geography": place_map.geography,
            "created": place_map.created,
            "model": contract.name,
            "model identity": contract.identity,
            "descriptor": f"{contract.descriptor_dim} x {place_map.descriptor_dtype}",
            "map bytes": map_path.stat().st_size,
            "index bytes": index_file.stat().st_size if index_file.exists() else None,
            "search": _way(place_map),
            "calibrated": False,
        }
    finally:
        place_map.close()
    if as_json:
        print_json(record)
        return
    print_table(("", ""), [(key, _text(value)) for key, value in record.items()])


def _way(place_map: PlaceMap) -> str | None:
    """How the map's index is searched, None if it has none that can be."""
    try:
        index, _, _ = load_index(place_map)
        if len(index) >= COSTS_FROM:
            index.set_costs(search_costs())
        return WAYS[method_of(index)]
    except IndexFileError:
        return None


def _text(value: object) -> str:
    if value is None:
        return "none; it is built at the next opening"
    if isinstance(value, list):
        return ", ".join(value) or "none named"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


@app.command()
def verify(map_path: MapArgument, as_json: Json = False) -> None:
    """Read every byte of a map and of its index.

    Exit code 1 if something is wrong.

    \b
    Example
      structvpr map verify campus.places
    """
    place_map = PlaceMap.open(map_path)
    try:
        findings = place_map.check()
        notes = []
        if not findings:
            with progress_bars() as tell:
                index = MapIndex(place_map, tell)
                index.verify()
                no_graph = _build_graph(index)
            search = WAYS[index.method()]
            if not index.has_graph:
                search += f" (a graph from {GRAPH_FROM:,} places on)"
            else:
                recall = index.graph_recall()
                search += f"; the graph finds {100 * recall:.1f} % of a sample of the map's own places"
                if recall < LEAST_GRAPH_RECALL:
                    findings = [
                        f"the graph finds only {100 * recall:.1f} % of a sample of the map's own places, expected "
                        f"{100 * LEAST_GRAPH_RECALL:g} %; remove identical frames (a covered lens, a parked robot)"
                    ]
            notes = [f"{len(place_map):,} places read, all sound", f"index {index.origin}; search by {search}"]
            notes += [no_graph] if no_graph is not None else []
            index.close()
    finally:
        place_map.close()
    if as_json:
        print_json({"map": str(map_path), "ok": not findings, "findings": findings, "notes": notes})
    else:
        for line in findings + notes:
            typer.echo(f"{map_path}: {line.removeprefix(f'{map_path}: ')}")
    if findings:
        raise typer.Exit(1)


@app.command()
def export(
    map_path: MapArgument,
    copy: Annotated[Path, typer.Argument(help="The new file.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Copy a map, also while it is written.

    The copy is one consistent, compacted file.

    \b
    Example
      structvpr map export campus.places backup/campus.places
    """
    place_map = PlaceMap.open(map_path)
    try:
        place_map.export(copy)
    finally:
        place_map.close()
    if as_json:
        print_json({"map": str(map_path), "copy": str(copy), "bytes": copy.stat().st_size})
    else:
        typer.echo(f"{copy}: {copy.stat().st_size:,} bytes")
