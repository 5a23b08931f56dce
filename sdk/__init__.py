"""structvpr: visual place recognition on the device."""
from .contract import ModelContract
from .errors import ContractError, EngineError, Error, FrameError, MapError
from .preprocess import prepare
