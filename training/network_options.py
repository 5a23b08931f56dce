"""What a user says of a segmentation network, where its file and its shapes leave something open."""

from __future__ import annotations

from dataclasses import dataclass

from sdk import ContractError

__all__ = ["NetworkOptions", "Triple"]

Triple = tuple[float, float, float]

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
