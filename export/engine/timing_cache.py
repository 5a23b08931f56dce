"""Keeps TensorRT's timings of kernels, so that the next build on this machine is faster.

Each version of TensorRT and kind of GPU has its file: the sha256 of the rest (32 bytes), then TensorRT's bytes. A cache
that is damaged, or that TensorRT does not accept, is ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from pathlib import Path

from sdk import WriteError
from sdk.atomic_file import replace_when_done

__all__ = ["cache_file", "load_cache", "save_cache"]

DIGEST_BYTES = 32


def cache_file(folder: Path | None, runtime: str, version: str, gpu_name: str, multiprocessors: int) -> Path:
    """The cache file of this TensorRT on this GPU. Its folder is made, and can be written.

    Args:
        folder: to keep it in; None for structvpr below $XDG_CACHE_HOME, or below ~/.cache.
        runtime: "tensorrt".
        version: of the runtime.
        gpu_name: from CUDA; the same for all modules of a Jetson family.
        multiprocessors: of the GPU; differs between those modules.

    Raises:
        WriteError: the folder cannot be written, or there is no default folder because the user has no home.
    """
    folder = folder or _default_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WriteError(
            f"the timing cache cannot be kept in {folder} ({error.strerror}); name another folder with --timing-cache, "
            "or set XDG_CACHE_HOME"
        ) from None
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{runtime} {version} {gpu_name} {multiprocessors} SM").strip("-")
    return folder / f"{name}.timing"


def _default_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or Path("~/.cache").expanduser()) / "structvpr"
    except RuntimeError:  # the user has no entry, as in some containers
        raise WriteError(
            "the timing cache has no folder, because this user has no home; name one with --timing-cache, or set "
            "XDG_CACHE_HOME"
        ) from None


def load_cache(path: Path) -> bytes:
    """TensorRT's bytes; empty if there is no file or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    digest, blob = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    return blob if hashlib.sha256(blob).digest() == digest else b""


def save_cache(path: Path, blob: bytes) -> None:
    """Write TensorRT's bytes. A failure is ignored, so that a full disk does not lose the finished engine."""
    with contextlib.suppress(WriteError), replace_when_done(path) as temporary:
        temporary.write_bytes(hashlib.sha256(blob).digest() + blob)
