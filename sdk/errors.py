"""The exceptions of the SDK.

    Error
     ├── FrameError(ValueError)      the image cannot be used
     ├── ContractError(ValueError)   two artefacts do not belong together
     ├── MapError(ValueError)        the map, or what was asked of it, cannot be used
     └── EngineError(RuntimeError)   the network cannot be loaded or run

Every message is one sentence that says what was found, what was expected and what to do.
"""

from __future__ import annotations

__all__ = ["ContractError", "EngineError", "Error", "FrameError", "MapError"]


class Error(Exception):
    """Base of everything that the SDK raises on purpose."""


class FrameError(Error, ValueError):
    """A frame or an image file is not something that can be described."""


class ContractError(Error, ValueError):
    """A model, an engine or a map says that it belongs to another model, or says nothing."""


class MapError(Error, ValueError):
    """A map file, a source of places or a request to a map cannot be honoured."""


class EngineError(Error, RuntimeError):
    """A network cannot be loaded or did not produce a usable descriptor."""
