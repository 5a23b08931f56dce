"""Options of a segmentation network: from its file's metadata, completed by the user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdk import ContractError
from sdk.arrays import Triple

__all__ = ["NetworkOptions", "check_metadata"]

WORDS = {"input_layout": ("nchw", "nhwc"), "output": ("nchw", "nhwc", "ids"), "colour": ("rgb", "bgr")}


@dataclass(frozen=True)
class NetworkOptions:
    """What a user says of a network; None for what its file says or its shapes show.

    Attributes:
        label_set: name in `LABEL_SETS` of the ids that it gives.
        height, width: of its input, px.
        input_layout: "nchw" or "nhwc".
        scale, mean, std: the input is (pixel * scale - mean) / std, pixel 0 to 255, channels in the order of `colour`.
        colour: order of its input channels, "rgb" or "bgr".
        output_name: which output holds the classes.
        output: "nchw" or "nhwc" for logits or probabilities (1, C, h, w) or (1, h, w, C), "ids" for class numbers.

    Raises:
        ContractError: `input_layout`, `output` or `colour` is another word.
    """

    label_set: str | None = None
    height: int | None = None
    width: int | None = None
    input_layout: str | None = None
    scale: float | None = None
    mean: Triple | None = None
    std: Triple | None = None
    colour: str | None = None
    output_name: str | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        for name, known in WORDS.items():
            if getattr(self, name) not in (None, *known):
                raise ContractError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)!r}, expected {' or '.join(known)}; choose one"
                )


def check_metadata(path: Path, said: dict[str, Any]) -> None:
    """Raise ContractError, naming the file and what it says, unless each key that we read has a value of its kind."""
    for key, (fits, expected) in METADATA.items():
        if key in said and not fits(said[key]):
            raise ContractError(
                f'{path}: its metadata "segmentation" says that {key} is {said[key]!r}, expected {expected}; mend it'
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST  # no nan either


def _is_triple(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


MOST = 3e38  # of float32
METADATA: dict[str, tuple[Callable[[Any], bool], str]] = {
    "label_set": (lambda value: isinstance(value, str), "the name of one"),
    "scale": (_is_number, "a number"),
    "mean": (_is_triple, "three numbers"),
    "std": (_is_triple, "three numbers"),
    "colour": (lambda value: value in ("rgb", "bgr"), "rgb or bgr"),
}
