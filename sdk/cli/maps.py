"""structvpr map build | info | verify | export."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from sdk import PlaceMap, open_backend, open_source
from sdk._core import IndexFileError
from sdk.index.file import WAYS, index_path, load_index, method_of
from sdk.index.map_index import GRAPH_FROM, MapIndex
from sdk.index.search_costs import COSTS_FROM, search_costs
from sdk.stores.build import build_map, wait_for_graph

from .console import print_json, print_table, progress_bars

__all__ = ["app"]

MIN_GRAPH_RECALL = 0.95

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

MapArgument = Annotated[Path, typer.Argument(help="The map, a .places file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def maps() -> None:
    """Build, inspect, check and copy maps."""


@app.command()
def build(
    model: Annotated[Path, typer.Argument(help="The network, a model.onnx or a model.engine.", show_default=False)],
    source: Annotated[
        Path, typer.Argument(help="A folder of images, a CSV of places, or a video.", show_default=False)
    ],
    map_path: Annotated[
        Path | None,
        typer.Argument(metavar="[MAP]", help="The map to write.  [default: <model>.places beside the model]"),
    ] = None,
    append: Annotated[bool, typer.Option(help="Add to an existing map.")] = False,
    every_s: Annotated[
        float | None, typer.Option(help="Take one frame every so many seconds of a video; default: every frame.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a map from images or a video.

    A folder may hold a places.csv (image,x_m,y_m[,z_m,heading_deg,timestamp_s,name,traverse] or
    image,lat_deg,lon_deg,…), or images named @UTM_east@UTM_north@…@.jpg, or plain images without positions.
    The map appears when it is complete. If an image cannot be read, nothing is written.

    \b
    Example
      structvpr map build model.onnx photos/ campus.places
      structvpr map build model.onnx drive.mp4 campus.places --append --every-s 1
    """
    map_path = map_path or model.parent / f"{model.stem}.places"
    with (
        open_source(source, every_s=every_s) as frames,
        progress_bars() as tell,
        contextlib.closing(open_backend(model)) as backend,
    ):
        built = build_map(backend, frames, map_path, name=str(source), append=append, progress=tell)
    if as_json:
        print_json(
            {
                "map": str(map_path),
                "places": built.places,
                "seconds": built.seconds,
                "graph_error": built.graph_error,
            }
        )
        return
    ms = built.seconds / built.places * 1e3
    typer.echo(f"{map_path}: {built.places} places in {built.seconds:.1f} s ({ms:.1f} ms a place)")
    if built.graph_error is not None:
        typer.echo(f"{map_path}: {built.graph_error}")


@app.command()
def info(map_path: MapArgument, as_json: Json = False) -> None:
    """Show what a map holds and which model made it.

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
    """How the map's index is searched; None if it has no usable index."""
    try:
        index, _ = load_index(place_map)
        if len(index) >= COSTS_FROM:
            index.set_costs(search_costs())
        return WAYS[method_of(index)]
    except IndexFileError:
        return None


def _text(value: object) -> str:
    if value is None:
        return "none; the next opening builds it"
    if isinstance(value, list):
        return ", ".join(value) or "none named"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


@app.command()
def verify(map_path: MapArgument, as_json: Json = False) -> None:
    """Check every byte of a map and of its index.

    The exit code is 1 if something is wrong.

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
                no_graph = wait_for_graph(index)
            search = WAYS[index.method()]
            if not index.has_graph:
                search += f" (a graph from {GRAPH_FROM:,} places on)"
            else:
                recall = index.graph_recall()
                search += f"; the graph finds {100 * recall:.1f} % of a sample of the map's own places"
                if recall < MIN_GRAPH_RECALL:
                    findings = [
                        f"the graph finds only {100 * recall:.1f} % of a sample of the map's own places, expected "
                        f"{100 * MIN_GRAPH_RECALL:g} %; remove identical frames (a covered lens, a parked robot)"
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
    """Copy a map. It works while another process writes the map.

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
