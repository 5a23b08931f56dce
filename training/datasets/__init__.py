"""Training sets, read from data sets in the layouts that they have on disk.

    training_set = open_training_set("msls:/data/msls", "train")
    training_set = open_training_set("csv:/data/campus?place=door&held_out=0.3", "train")

docs/datasets.md shows each layout as a tree of folders.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from sdk import DataError, UsageError

from .csv_places import has_split_column, read_csv_places, read_world
from .deep_vg import read_deep_vg
from .frame_ranges import read_frame_ranges
from .gsv_cities import read_gsv_cities
from .hold_out import hold_out, join_sets
from .label_lookup import find_label_maps
from .msls import read_msls
from .nordland import read_nordland
from .training_set import TrainingSet, set_from_pairs, set_from_places, set_from_positions, summary

__all__ = [
    "LAYOUTS",
    "Layout",
    "TrainingSet",
    "find_label_maps",
    "has_own_split",
    "hold_out",
    "join_sets",
    "open_training_set",
    "parse_data",
    "set_from_pairs",
    "set_from_places",
    "set_from_positions",
    "summary",
]


@dataclass(frozen=True)
class Layout:
    """A layout of data sets on disk.

    Attributes:
        read: the reader, (folder, split, **options).
        splits: the splits that it knows.
        has_own_split: whether the data set itself says what is for training and what for validation. If not, "all" is
            the whole set, and "train" and "val" divide it.
        about: one line for people.
    """

    read: Callable[..., TrainingSet]
    splits: tuple[str, ...]
    has_own_split: bool
    about: str


LAYOUTS = {
    "msls": Layout(read_msls, ("train", "val"), True, "Mapillary Street-Level Sequences, as unpacked"),
    "deep-vg": Layout(read_deep_vg, ("train", "val", "test"), True, "Pittsburgh 30k and others with @UTM names"),
    "gsv-cities": Layout(read_gsv_cities, ("all", "train", "val"), False, "GSV-Cities, as unpacked"),
    "nordland": Layout(read_nordland, ("train", "test"), True, "Nordland under one of four protocols"),
    "world": Layout(read_world, ("train", "val", "test"), True, "a world of our renderer"),
    "csv": Layout(read_csv_places, ("all", "train", "val"), False, "places.csv: positions or names of places"),
    "frames": Layout(read_frame_ranges, ("all", "train", "val"), False, "database/, query*/ and ground_truth.csv"),
}


def open_training_set(data: str, split: str, **options: Any) -> TrainingSet:
    """Read a data set.

    Args:
        data: KIND:FOLDER or KIND:FOLDER?option=value&option=value, with a kind of `LAYOUTS` and options of its reader.
            Commas separate several values of one option.
        split: "train", "val" or another split of the layout.
        options: of the reader; they override those in `data`.

    Raises:
        UsageError: the kind or an option is unknown, or an option is out of range.
        DataError: there is no such folder, or the data set is not as its layout says.
    """
    kind, folder, named = parse_data(data)
    return LAYOUTS[kind].read(folder, split, **{**named, **options})


def has_own_split(data: str) -> bool:
    """Whether the layout or the CSV of a data set says what is for training and what for validation.

    Raises:
        UsageError, DataError: see `open_training_set`.
    """
    kind, folder, options = parse_data(data)
    return LAYOUTS[kind].has_own_split or (kind == "csv" and has_split_column(folder, **options))


def parse_data(data: str) -> tuple[str, Path, dict[str, Any]]:
    """Split KIND:FOLDER?option=value into the kind, the folder, and the options with the types of the kind's reader.

    Raises:
        UsageError: the kind or an option is unknown, or a value does not fit its option.
        DataError: there is no such folder.
    """
    kind, colon, rest = data.partition(":")
    if not colon or kind not in LAYOUTS:
        kinds = "; ".join(f"{kind}: {layout.about}" for kind, layout in LAYOUTS.items())
        raise UsageError(f"data is {data!r}, expected KIND:FOLDER with one of the kinds {kinds}")
    # A folder's name may have a question mark.
    path, _, query = (rest, "", "") if Path(rest).is_dir() else rest.partition("?")
    folder = Path(path)
    if not path or not folder.is_dir():
        raise DataError(f"{path or data}: there is no such folder; name the folder of a data set of kind {kind}")
    known = get_type_hints(LAYOUTS[kind].read)
    names = [name for name in inspect.signature(LAYOUTS[kind].read).parameters if name not in ("folder", "split")]
    options = {}
    for option in filter(None, query.split("&")):
        name, _, value = option.partition("=")
        if name not in names:
            raise UsageError(f"{data}: {name} is no option of {kind}; its options are {', '.join(names)}")
        options[name] = _convert(data, name, value, str(known[name]))
    return kind, folder, options


def _convert(data: str, name: str, value: str, hint: str) -> Any:
    """Convert a value's text to its option's type: bool, int, float, str or tuple[str, ...]."""
    try:
        if "tuple" in hint:
            return tuple(filter(None, value.split(",")))
        if "bool" in hint:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
        return float(value) if "float" in hint else int(value) if "int" in hint else value
    except (KeyError, ValueError):
        expected = "true or false" if "bool" in hint else "a number"
        raise UsageError(f"{data}: {name} is {value!r}, expected {expected}") from None
