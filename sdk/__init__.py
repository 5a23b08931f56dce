"""structvpr: visual place recognition on the device.

    import sdk

    localizer = sdk.Localizer("model.onnx", "campus.places")
    answer = localizer.query(frame)                    # uint8 (H, W, 3) RGB
    print(answer.place, answer.matches[0].similarity)

Importing this package loads numpy, OpenCV and the compiled kernel; a runtime is loaded with the first network.
"""

from .answers import Localization, Match, Place
from .backends import Backend, open_backend
from .contract import ModelContract
from .errors import (
    ContractError,
    DataError,
    EngineError,
    Error,
    FrameError,
    MapError,
    UsageError,
    WriteError,
)
from .frames.image_file import read_image
from .frames.open import open_source
from .frames.preprocess import prepare
from .frames.source import FrameInfo, Sighting, Source
from .localizer import Localizer
from .places.place_map import PlaceMap

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "ContractError",
    "DataError",
    "EngineError",
    "Error",
    "FrameError",
    "FrameInfo",
    "Localization",
    "Localizer",
    "MapError",
    "Match",
    "ModelContract",
    "Place",
    "PlaceMap",
    "Sighting",
    "Source",
    "UsageError",
    "WriteError",
    "open_backend",
    "open_source",
    "prepare",
    "read_image",
]
