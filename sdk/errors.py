"""The exceptions of the SDK, by kind of fault.

    Error
     ├── FrameError(ValueError)      an image or a video cannot be used
     ├── DataError(ValueError)       a data set, a list of places or a label file is wrong
     ├── UsageError(ValueError)      an argument or an option is out of range
     ├── ContractError(ValueError)   two artefacts do not belong together
     ├── MapError(ValueError)        the map, or what was asked of it, cannot be used
     ├── WriteError(OSError)         a file cannot be written
     └── EngineError(RuntimeError)   the network cannot be loaded or run

Every message is one sentence: what was found, and what to do.
"""

from __future__ import annotations

__all__ = [
    "ContractError",
    "DataError",
    "EngineError",
    "Error",
    "FrameError",
    "MapError",
    "UsageError",
    "WriteError",
    "first_line",
]


class Error(Exception):
    """Base class of every exception that the SDK raises on purpose."""


class FrameError(Error, ValueError):
    """A frame, an image file or a video cannot be used."""


class DataError(Error, ValueError):
    """A data set, a CSV of places or a label file is missing or wrong."""


class UsageError(Error, ValueError):
    """An argument, an option or a setting is out of its range."""


class ContractError(Error, ValueError):
    """A model, an engine or a map belongs to another model, or carries no readable contract."""


class MapError(Error, ValueError):
    """A map file cannot be opened, or a request to it cannot be met."""


class WriteError(Error, OSError):
    """A file cannot be written."""


class EngineError(Error, RuntimeError):
    """A network cannot be loaded, or did not produce a usable descriptor."""


def first_line(error: Exception) -> str:
    """What an exception says, as one line for a message; its class if it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
