"""Write many towns as a data set: frames, exact label maps and positions.

    FOLDER/places.csv                                    one row per frame, written last: it marks a complete set
    FOLDER/world.json                                    the parameters that give the same set again
    FOLDER/images/TOWN/STREET/TRAVERSE/0000.jpg
    FOLDER/labels/TOWN/STREET/TRAVERSE/0000.png          train ids of Cityscapes, one byte per pixel
    FOLDER/labels/labels.json

A town is a region. Its streets are `STREET_APART_M` apart and give each other hard negatives. A split has whole towns.
Each street has one drive named reference and several drives in other conditions.
"""

from __future__ import annotations

import csv
import io
import json
import math
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from . import SPEED_M_PER_S, World
from .plan import Plan, PlanError, jobs_of_street

__all__ = ["COLUMNS", "VERSION", "Plan", "PlanError", "write_towns"]

VERSION = 1  # raised when the same parameters give other frames
COLUMNS = (
    *("image", "x_m", "y_m", "z_m", "heading_deg", "timestamp_s", "name", "traverse"),
    *("region", "split"),
)
STREET_APART_M = 500.0  # a street is 35 m wide, and its visible objects are within 100 m
TELL_EVERY = 5  # frames
JPEG_QUALITY = 90
PNG_LEVEL = 1


def write_towns(
    folder: Path,
    plan: Plan,
    *,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a set, or complete an interrupted one.

    Each file is written atomically, and existing files are kept. The bytes do not depend on the number of processes
    or on interruptions.

    Args:
        folder: created if missing.
        plan: the set's parameters.
        processes: that render, by default one per core. With more than one, a calling script needs the guard
            `if __name__ == "__main__":` for `multiprocessing`.
        progress: called with the number of written frames and the total.

    Raises:
        PlanError: the folder holds something else or a set with other parameters, or `processes` is below 1.
        OSError: the folder cannot be written, or the disk is full. Written files are kept; run it again.
    """
    processes = os.cpu_count() or 1 if processes is None else processes
    if processes < 1:
        raise PlanError(f"processes is {processes}, expected 1 or more")
    try:
        _write_plan(folder, plan)
        done = 0
        for count in _render_all(folder, plan, processes):
            done += count
            if progress is not None:
                progress(done, plan.total_frames)
        _write_table(folder, plan)
    except OSError as error:
        raise OSError(
            error.errno,
            f"the set in {folder} is not whole: {error.strerror or error}; name a folder that can be written or free "
            "disk space, and run it again to complete the set",
        ) from error


def _write_plan(folder: Path, plan: Plan) -> None:
    figures = {"version": VERSION, **asdict(plan)}
    path = folder / "world.json"
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != figures:
            other = "is not readable" if found is None else f"has the figures {found}"
            raise PlanError(f"{path} {other}, expected {figures}; choose another folder, or continue with its figures")
    elif folder.is_dir() and any(folder.iterdir()):
        raise PlanError(f"{folder} holds files and no world.json, expected an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    # Written first, so that an interrupted set can be continued.
    _write_whole(path, (json.dumps(figures, indent=2) + "\n").encode())
    (folder / "labels").mkdir(exist_ok=True)
    _write_whole(folder / "labels" / "labels.json", b'{"label_set": "cityscapes19"}\n')


def _render_all(folder: Path, plan: Plan, processes: int) -> Iterator[int]:
    """Render the set; yield numbers of newly finished frames."""
    streets = [(town, street) for town in range(plan.towns) for street in range(plan.streets_per_town)]
    if processes == 1:
        for town, street in streets:
            yield from _render_street(folder, plan, town, street)
        return
    # Spawn: a fork of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    queue: Any = context.SimpleQueue()
    with ProcessPoolExecutor(processes, context, initializer=_start_worker, initargs=(queue,)) as pool:
        pending: set[Future[None]] = {pool.submit(_render_in_pool, folder, plan, *street) for street in streets}
        try:
            while pending:
                finished, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                while not queue.empty():
                    yield queue.get()
                for future in finished:
                    future.result()
        finally:
            for future in pending:
                future.cancel()
        while not queue.empty():
            yield queue.get()


def _start_worker(queue: Any) -> None:
    global _told
    _told = queue
    cv2.setNumThreads(1)  # the processes are the parallelism
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Workers of a killed parent would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


_told: Any = None


def _render_in_pool(folder: Path, plan: Plan, town: int, street: int) -> None:
    for count in _render_street(folder, plan, town, street):
        _told.put(count)


def _render_street(folder: Path, plan: Plan, town: int, street: int) -> Iterator[int]:
    """Render all drives along one street. The street is built only if a frame is missing."""
    world: World | None = None
    for job in jobs_of_street(plan, town, street):
        images, labels = folder / "images" / job.path, folder / "labels" / job.path
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        # A power cut may leave empty files.
        there = {entry.name for half in (images, labels) for entry in os.scandir(half) if entry.stat().st_size > 0}
        untold = 0
        for index, pose in enumerate(job.poses):
            untold += 1
            if not {f"{index:04d}.jpg", f"{index:04d}.png"} <= there:
                world = _build(plan, town, street) if world is None else world
                drive = job.drive
                view = world.render(
                    pose,
                    drive.conditions,
                    height=plan.height,
                    width=plan.width,
                    traverse_seed=drive.traverse_seed,
                    moving_per_100m=drive.moving_per_100m,
                )
                bgr = cv2.cvtColor(view.frame, cv2.COLOR_RGB2BGR)
                jpeg, png = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY], [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL]
                _write_whole(labels / f"{index:04d}.png", cv2.imencode(".png", view.labels, png)[1].tobytes())
                _write_whole(images / f"{index:04d}.jpg", cv2.imencode(".jpg", bgr, jpeg)[1].tobytes())
            if untold == TELL_EVERY:
                yield untold
                untold = 0
        if untold:
            yield untold


def _build(plan: Plan, town: int, street: int) -> World:
    seed = int(np.random.default_rng([plan.seed, town, street, 0x707]).integers(1 << 30))
    return World(seed, plan.street_length_m, "any")


def _write_table(folder: Path, plan: Plan) -> None:
    splits = plan.splits()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for town in range(plan.towns):
        for street in range(plan.streets_per_town):
            for job in jobs_of_street(plan, town, street):
                driven_m, previous = 0.0, job.poses[0]
                for index, pose in enumerate(job.poses):
                    driven_m += math.hypot(pose.x_m - previous.x_m, pose.y_m - previous.y_m)
                    previous = pose
                    y = pose.y_m + street * STREET_APART_M
                    writer.writerow(
                        (
                            f"images/{job.path}/{index:04d}.jpg",
                            *(f"{pose.x_m:.3f}", f"{y:.3f}", "0.000", f"{pose.heading_deg:.3f}"),
                            f"{driven_m / SPEED_M_PER_S:.3f}",
                            f"street {street}, {pose.x_m:.1f} m",
                            job.drive.name,
                            f"town-{town:03d}",
                            splits[town],
                        )
                    )
    _write_whole(folder / "places.csv", text.getvalue().encode())


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # differs between runs in one folder
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
