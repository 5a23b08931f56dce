"""What TensorRT learned by timing kernels, kept so that the next build on this machine takes a fraction of the time.

One file for each version of TensorRT and kind of GPU: the sha256 of the rest (32 bytes), then TensorRT's own bytes,
which are given to it only if they are what was written. A cache is worth minutes and never an error: one that is
damaged, or that TensorRT does not want, is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from pathlib import Path

from sdk import EngineError
from sdk.atomic_file import replace_when_done

__all__ = ["cache_file", "load_cache", "save_cache"]

DIGEST_BYTES = 32


def cache_file(folder: Path | None, runtime: str, version: str, gpu_name: str, multiprocessors: int) -> Path:
    """Where the cache of this TensorRT on this GPU lies, in a folder that is there and can be written.

    Args:
        folder: to keep it in; None for structvpr below $XDG_CACHE_HOME, or below ~/.cache.
        runtime: "tensorrt".
        version: of that.
        gpu_name: as CUDA says it, which is the same for all sizes of a Jetson's family.
        multiprocessors: of the GPU, which tells them apart.

    Raises:
        EngineError: the folder cannot be written, or there is none by default, for want of a home: without this, every
            build would silently start from nothing.
    """
    folder = folder or _default_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise EngineError(
            f"the timing cache cannot be kept in {folder} ({error.strerror}), expected a folder that can be written; "
            "name another with --timing-cache, or set XDG_CACHE_HOME"
        ) from None
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{runtime} {version} {gpu_name} {multiprocessors} SM").strip("-")
    return folder / f"{name}.timing"


def _default_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or Path("~/.cache").expanduser()) / "structvpr"
    except RuntimeError:  # of a user number without an entry, as in a container
        raise EngineError(
            "the timing cache has no folder (this user has no home), expected one that can be written; name one with "
            "--timing-cache, or set XDG_CACHE_HOME"
        ) from None


def load_cache(path: Path) -> bytes:
    """TensorRT's bytes; none if there is no file, or if it is not what was written."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    digest, blob = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    return blob if hashlib.sha256(blob).digest() == digest else b""


def save_cache(path: Path, blob: bytes) -> None:
    """Keep TensorRT's bytes, if it can be done: a finished engine is not lost for a disk that is full by now."""
    with contextlib.suppress(EngineError), replace_when_done(path) as temporary:
        temporary.write_bytes(hashlib.sha256(blob).digest() + blob)
