"""structvpr query: localise frames in a map."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from sdk import (
    DataError,
    Error,
    FrameError,
    FrameInfo,
    Localization,
    Localizer,
    MapError,
    Match,
    Place,
    UsageError,
    open_source,
)
from sdk.frames.image_file import read_image
from sdk.frames.places_csv import read_places_csv
from sdk.geography import Geography, distance_m
from sdk.pages.report import ReportRow, thumbnail, write_report

from .console import print_table

__all__ = ["query"]

RECALLS = (1, 5)


@dataclass(frozen=True)
class Answer:
    """One answered query: a thumbnail for the page, the frame's name as a place without position, and the answer."""

    picture: npt.NDArray[np.uint8] | None
    asked: FrameInfo
    localization: Localization


def query(
    model: Annotated[Path, typer.Argument(help="The network, a model.onnx or a model.engine.", show_default=False)],
    source: Annotated[Path, typer.Argument(help="An image, a folder of images, or a video.", show_default=False)],
    map_path: Annotated[
        Path | None,
        typer.Option("--map", help="The map.  [default: <model>.places beside the model]", show_default=False),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of matches per frame.")] = 5,
    apart_m: Annotated[
        float | None, typer.Option(help="Keep only matches that are at least this many metres apart.")
    ] = None,
    every_s: Annotated[
        float | None, typer.Option(help="Take one frame every so many seconds of a video; default: every frame.")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="CSV with the true positions of the frames. It is read after all queries are answered."),
    ] = None,
    radius_m: Annotated[
        float, typer.Option("--positive_dist_threshold", help="With --truth: a match within this many metres is right.")
    ] = 25.0,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML page that shows each query beside its best match.")
    ] = None,
    map_images: Annotated[
        Path | None, typer.Option(help="With --report: the folder that holds the map's images.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON Lines, one object per frame.")] = False,
) -> None:
    """Localise frames: print the most similar places of a map.

    The frames' own positions are never used to answer.

    \b
    Example
      structvpr query model.onnx frame.jpg --map campus.places
      structvpr query model.onnx drive.mp4 --map campus.places --every-s 1 --json > answers.jsonl
      structvpr query model.onnx dusk/ --map day.places --truth dusk.csv --report report.html --map-images day/
    """
    if not (math.isfinite(radius_m) and radius_m >= 0):
        raise UsageError(f"--positive_dist_threshold is {radius_m}, expected metres >= 0")
    if truth is not None and not truth.is_file():
        raise DataError(f"{truth}: there is no such file; pass a CSV of places")
    frames = open_source(source, every_s=every_s, positions=False)
    answers = []
    with Localizer(model, map_path) as localizer:
        if len(localizer) == 0:
            raise MapError(f"{localizer.store.location}: the map is empty; add places with `structvpr map build`")
        for sighting in frames:
            try:
                localization = localizer.query(sighting.frame, k, apart_m=apart_m)
            except FrameError as error:
                raise FrameError(f"{sighting.info.label}: {error}") from None
            # Only a thumbnail is kept: the frames of a drive would fill the memory.
            answer = Answer(thumbnail(sighting.frame) if report else None, sighting.info, localization)
            if as_json:
                asked = {"query": answer.asked.label, "timestamp_s": answer.asked.timestamp_s}
                typer.echo(json.dumps({**asked, **localization.to_record()}, ensure_ascii=False))
            else:
                _print_answer(answer, frames.num_frames)
            answers.append(answer)
        geography = localizer.store.geography
    verdicts = _judge(answers, truth, geography, radius_m) if truth else [[] for _ in answers]
    summary = _summary(answers, verdicts, k, radius_m) if truth else _timing(answers)
    if not as_json:
        print_table(("", ""), list(summary.items()))
    if report:
        _write_report(report, answers, verdicts, summary, map_images, radius_m)
        if not as_json:
            typer.echo(f"{report}: {len(answers)} answers, open it in a browser")


def _print_answer(answer: Answer, num_frames: int | None) -> None:
    matches = answer.localization.matches
    if num_frames != 1:
        best = matches[0]
        typer.echo(f"{answer.asked.label}  ->  {best.place.label}  {best.similarity:.3f}{_where(best.place)}")
        return
    verdict = answer.localization.reason
    if verdict == "uncalibrated":
        verdict = "the map is uncalibrated: similarities, and no verdict whether the place is known"
    typer.echo(f"{answer.asked.label}: {verdict}")
    print_table(
        ("match", "similarity", "position"),
        [(match.place.label, f"{match.similarity:.3f}", _where(match.place).strip()) for match in matches],
    )


def _where(place: Place) -> str:
    if place.position is None:
        return ""
    return "  (" + ", ".join(f"{value:.6g}" for value in place.position) + ")"


def _judge(answers: Sequence[Answer], truth: Path, geography: Geography, radius_m: float) -> list[list[float | None]]:
    """Metres between the true position and each match's, per answer; None where one is not known."""
    source = read_places_csv(truth)
    if source.geography != geography:
        raise DataError(f"{truth}: its positions are {source.geography}, expected {geography} as in the map")
    positions = {info.image: info.position for _, info in source.files}
    if not any(answer.asked.image in positions for answer in answers):
        raise DataError(f"{truth}: names none of the queried frames; its column image must hold their file names")

    def error_m(answer: Answer, match: Match) -> float | None:
        true, found = positions.get(answer.asked.image), match.place.position
        return None if true is None or found is None else distance_m(geography, true, found)

    return [[error_m(answer, match) for match in answer.localization.matches] for answer in answers]


def _hit(errors_m: Sequence[float | None], radius_m: float) -> bool:
    return any(error is not None and error <= radius_m for error in errors_m)


def _summary(
    answers: Sequence[Answer], verdicts: Sequence[Sequence[float | None]], k: int, radius_m: float
) -> dict[str, str]:
    judged = [errors for errors in verdicts if errors and errors[0] is not None]
    lines = {"right within": f"{radius_m:g} m", "judged": f"{len(judged)} of {len(answers)} frames"}
    for recall in RECALLS:
        if recall <= k and judged:
            lines[f"R@{recall}"] = (
                f"{100 * statistics.fmean(_hit(errors[:recall], radius_m) for errors in judged):.1f} %"
            )
    return lines | _timing(answers)


def _timing(answers: Sequence[Answer]) -> dict[str, str]:
    total = statistics.median(answer.localization.timings_ms["total"] for answer in answers)
    return {"time a query": f"{total:.1f} ms (median)"}


def _write_report(
    path: Path,
    answers: Sequence[Answer],
    verdicts: Sequence[Sequence[float | None]],
    summary: dict[str, str],
    map_images: Path | None,
    radius_m: float,
) -> None:
    rows = []
    for answer, errors_m in zip(answers, verdicts, strict=True):
        if answer.picture is None:
            continue
        best = answer.localization.matches[0]
        error_m = errors_m[0] if errors_m else None
        rows.append(
            ReportRow(
                query=answer.picture,
                name=answer.asked.label,
                match=best,
                match_frame=_map_frame(best.place, map_images),
                right=None if error_m is None else error_m <= radius_m,
                error_m=error_m,
            )
        )
    write_report(path, "Where were these frames taken?", summary, rows)


def _map_frame(place: Place, folder: Path | None) -> npt.NDArray[np.uint8] | None:
    if folder is None:
        return None
    try:
        return thumbnail(read_image(folder / place.image))
    except Error:
        return None  # the page shows only the name: a map outlives its photographs
