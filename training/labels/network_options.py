"""Options of a segmentation network, from the user or from its file's metadata."""

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
    """Options that a user gives; None takes the value from the file's metadata or its shapes.

    Attributes:
        label_set: of the network's ids, a name in `LABEL_SETS`.
        height, width: of its input, px.
        input_layout: "nchw" or "nhwc".
        scale, mean, std: the input is (pixel * scale - mean) / std, pixel 0 to 255, channels in the order of `colour`.
        colour: order of its input channels, "rgb" or "bgr".
        output_name: the output with the classes.
        output: "nchw" or "nhwc" for logits or probabilities (1, C, h, w) or (1, h, w, C), "ids" for class numbers.

    Raises:
        ContractError: `input_layout`, `output` or `colour` is none of these words.
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
                    f"--{name.replace('_', '-')} is {getattr(self, name)!r}, expected {' or '.join(known)}"
                )


def check_metadata(path: Path, said: dict[str, Any]) -> None:
    """Raise ContractError unless each known key of the metadata has a value of the right type."""
    for key, (fits, expected) in METADATA.items():
        if key in said and not fits(said[key]):
            raise ContractError(f'{path}: its metadata "segmentation" has {key} {said[key]!r}, expected {expected}')


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST  # no nan either


def _is_triple(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


MOST = 3e38  # of float32
METADATA: dict[str, tuple[Callable[[Any], bool], str]] = {
    "label_set": (lambda value: isinstance(value, str), "the name of a label set"),
    "scale": (_is_number, "a number"),
    "mean": (_is_triple, "three numbers"),
    "std": (_is_triple, "three numbers"),
    "colour": (lambda value: value in ("rgb", "bgr"), "rgb or bgr"),
}
