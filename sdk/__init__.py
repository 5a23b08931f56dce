"""structvpr: visual place recognition on the device.

    import sdk

    localizer = sdk.Localizer("model.onnx", "campus.places")
    answer = localizer.query(frame)                    # uint8 (H, W, 3) RGB
    print(answer.place, answer.matches[0].similarity)

Importing this package loads numpy, OpenCV and the compiled kernel; a runtime is loaded with the first network.
"""

from .backends import Backend, open_backend
from .contract import ModelContract
from .errors import ContractError, EngineError, Error, FrameError, MapError
from .images import read_image
from .localization import Localization, Match, Place
from .localizer import Localizer
from .places import PlaceMap
from .preprocess import prepare
from .sources import Sighting, Source, open_source

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "ContractError",
    "EngineError",
    "Error",
    "FrameError",
    "Localization",
    "Localizer",
    "MapError",
    "Match",
    "ModelContract",
    "Place",
    "PlaceMap",
    "Sighting",
    "Source",
    "open_backend",
    "open_source",
    "prepare",
    "read_image",
]
