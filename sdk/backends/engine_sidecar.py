"""The sidecar of a TensorRT engine, `model.engine.json`: readable without a GPU, before TensorRT sees the engine.

An engine runs only on the GPU model and the TensorRT version that built it, and names neither. Its file stays a pure
plan, which trtexec and C++ can load. The sidecar holds the rest:

    {"schema": 1, "contract": {…}, "runtime": "tensorrt", "runtime_version": "10.3.0", …, "seal": "sha256 of the rest"}

The seal detects accidental edits and lost blocks. It is no protection: whoever can write the file can seal it again, so
every value is checked anyway.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..contract import ModelContract
from ..errors import ContractError, EngineError

__all__ = ["EngineSidecar", "read_sidecar", "rebuild_command", "require_fit", "require_intact", "sidecar_path"]

SCHEMA = 1
RUNTIMES = ("tensorrt", "tensorrt_rtx")
MAX_BYTES = 1 << 20  # of a sidecar: a real one has two thousand
REMEDY = "build the engine again with `structvpr export engine`"


@dataclass(frozen=True)
class EngineSidecar:
    """An engine's origin, and where it runs.

    Attributes:
        contract: the model's, with the engine's `precision`.
        runtime: "tensorrt" or "tensorrt_rtx".
        runtime_version: version of the library that built it, such as "10.3.0".
        compute_capabilities: of the GPUs that it runs on, such as ("8.7",). More than one only if compiled ahead.
        gpu_name: of the GPU that built it; None if compiled ahead without one.
        multiprocessors: of that GPU. They tell apart an Orin Nano, NX and AGX, which share name and compute
            capability. None if compiled ahead.
        cuda_version: of the driver, such as "12.6"; None without a driver.
        l4t: first line of a Jetson's /etc/nv_tegra_release, which identifies the JetPack; None elsewhere.
        dla_core: the DLA that it was built for; None for the GPU alone.
        onnx_name: file name of the model that it was built from.
        onnx_sha256: of that file, 64 hex digits.
        engine_sha256: of the engine, 64 hex digits.
        engine_bytes: its size.
        built_at: UTC, ISO 8601.
        build_s: how long it took.
        gate: the gate's measurements against the float32 model, plain values; None if the gate did not run.
        schema: version of this record.

    Raises:
        ContractError: a value is out of its range.
    """

    contract: ModelContract
    runtime: str
    runtime_version: str
    compute_capabilities: tuple[str, ...]
    gpu_name: str | None
    multiprocessors: int | None
    cuda_version: str | None
    l4t: str | None
    dla_core: int | None
    onnx_name: str
    onnx_sha256: str
    engine_sha256: str
    engine_bytes: int
    built_at: str
    build_s: float
    gate: dict[str, Any] | None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for name, (fits, expected) in RULES.items():
            value = getattr(self, name)
            if not fits(value):
                found = repr(value) if len(repr(value)) <= 80 else f"a {type(value).__name__}"
                raise ContractError(f"engine sidecar: {name} is {found}, expected {expected}; {REMEDY}")

    def to_json(self) -> str:
        """The record with its seal, as indented JSON."""
        record = json.loads(json.dumps({**asdict(self), "contract": self.contract.to_record()}))  # as read back
        return json.dumps({**record, "seal": _seal(record)}, indent=2, sort_keys=True) + "\n"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 1024 and value.isprintable()


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and _is_text(value) and value not in (".", "..") and "/" not in value


def _are_capabilities(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) > 0
        and all(isinstance(each, str) and re.fullmatch("[0-9]{1,3}[.][0-9]{1,3}", each) for each in value)
    )


def _is_plain(value: object) -> bool:
    """Whether it can be written as JSON: finite, and not nested too deep."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return value is None or isinstance(value, dict)


# For each field a test, and the text for its error.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "contract": (lambda value: isinstance(value, ModelContract), "a model contract"),
    "runtime": (lambda value: isinstance(value, str) and value in RUNTIMES, " or ".join(map(repr, RUNTIMES))),
    "runtime_version": (_is_text, "a version"),
    "compute_capabilities": (_are_capabilities, "at least one such as '8.7'"),
    "gpu_name": (lambda value: value is None or _is_text(value), "a name or null"),
    "multiprocessors": (
        lambda value: value is None or (_is_whole(value) and value > 0),
        "a whole number >= 1 or null",
    ),
    "cuda_version": (lambda value: value is None or _is_text(value), "a version or null"),
    "l4t": (lambda value: value is None or _is_text(value), "a line of text or null"),
    "dla_core": (lambda value: value is None or _is_whole(value), "a whole number >= 0 or null"),
    "onnx_name": (_is_file_name, "a file name"),
    "onnx_sha256": (_is_sha256, "64 lower-case hex digits"),
    "engine_sha256": (_is_sha256, "64 lower-case hex digits"),
    "engine_bytes": (_is_whole, "a whole number >= 0"),
    "built_at": (_is_text, "a time"),
    "build_s": (
        lambda value: _is_whole(value) or (isinstance(value, float) and math.isfinite(value) and value >= 0),
        "a number of seconds >= 0",
    ),
    "gate": (_is_plain, "an object of finite, plain values or null"),
    "schema": (lambda value: _is_whole(value) and value == SCHEMA, str(SCHEMA)),
}


def sidecar_path(engine: Path) -> Path:
    """The path of an engine's sidecar: the engine's path with .json appended."""
    return engine.with_name(engine.name + ".json")


def read_sidecar(engine: Path) -> EngineSidecar:
    """Read the sidecar of an engine.

    Raises:
        ContractError: there is no sidecar, it is not what `EngineSidecar.to_json` wrote, or it was altered.
    """
    path = sidecar_path(engine)
    record = _read_record(engine, path)
    schema = record.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise ContractError(
            f"{path}: has schema version {schema}, this structvpr reads up to {SCHEMA}; update structvpr"
        )
    seal = record.pop("seal", None)
    if record.keys() != {field.name for field in fields(EngineSidecar)} or seal != _seal(record):
        raise ContractError(f"{path}: was altered or is incomplete; {REMEDY}")
    record["contract"] = ModelContract.from_json(json.dumps(record["contract"]), str(path))
    if isinstance(record["compute_capabilities"], list):
        record["compute_capabilities"] = tuple(record["compute_capabilities"])
    try:
        return EngineSidecar(**record)
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from None


def _read_record(engine: Path, path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():  # reading a pipe would block
            raise ContractError(f"{engine}: has no {path.name} beside it; copy both files, or {REMEDY}")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        record: Any = json.loads(data.decode())
        json.dumps(record)  # refuses records that are nested too deep to be sealed
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ContractError(f"{path}: cannot be read as an engine's sidecar ({reason}); {REMEDY}") from None
    if not isinstance(record, dict):
        raise ContractError(f"{path}: is a JSON {type(record).__name__}, expected an object; {REMEDY}")
    return record


def require_intact(engine: Path, sidecar: EngineSidecar) -> bytes:
    """Read an engine, and refuse it if its sidecar describes another one.

    Returns:
        The engine's bytes.

    Raises:
        EngineError: unreadable, cut short, or another file.
    """
    remedy = rebuild_command(engine, sidecar)
    try:
        size = engine.stat().st_size  # checked first: a wrong file may be larger than the memory
        data = engine.read_bytes() if size == sidecar.engine_bytes else b""
    except OSError as error:
        raise EngineError(f"{engine}: cannot be read ({error.strerror}); {remedy}") from None
    if size != sidecar.engine_bytes:
        raise EngineError(
            f"{engine}: has {size} bytes, expected {sidecar.engine_bytes} by its sidecar; copy it again, or {remedy}"
        )
    if hashlib.sha256(data).hexdigest() != sidecar.engine_sha256:
        raise EngineError(f"{engine}: differs from the engine that its sidecar describes; copy both again, or {remedy}")
    return data


def require_fit(
    engine: Path,
    sidecar: EngineSidecar,
    *,
    runtime: str,
    version: str,
    gpu_name: str,
    compute_capability: str,
    multiprocessors: int,
) -> None:
    """Refuse an engine that was built for another GPU or TensorRT, before TensorRT loads it.

    Args:
        engine: for the message.
        sidecar: of the engine.
        runtime: "tensorrt" or "tensorrt_rtx", the one installed here.
        version: of the runtime.
        gpu_name: of the GPU here.
        compute_capability: of the GPU here, such as "8.7".
        multiprocessors: of the GPU here.

    Raises:
        EngineError: it does not fit; the message has the command that rebuilds it.
    """
    fits = (
        (runtime, version) == (sidecar.runtime, sidecar.runtime_version)
        and compute_capability in sidecar.compute_capabilities
        and sidecar.gpu_name in (None, gpu_name)
        and sidecar.multiprocessors in (None, multiprocessors)
    )
    if not fits:
        here = f"{runtime} {version} on {gpu_name} (compute capability {compute_capability}, "
        here += f"{multiprocessors} multiprocessors)"
        built = f"{sidecar.runtime} {sidecar.runtime_version} on {sidecar.gpu_name or 'no GPU'}"
        built += f" (compute capability {', '.join(sidecar.compute_capabilities)}"
        built += ")" if sidecar.multiprocessors is None else f", {sidecar.multiprocessors} multiprocessors)"
        raise EngineError(f"{engine}: was built for {built}, expected {here}; {rebuild_command(engine, sidecar)}")


def rebuild_command(engine: Path, sidecar: EngineSidecar) -> str:
    """The command that rebuilds the engine here. It skips the gate, because the gate needs the user's frames."""
    model, output = shlex.quote(sidecar.onnx_name), shlex.quote(str(engine))
    return (
        f"build it here with `structvpr export engine {model} -o {output} --no-gate` (it was "
        f"{sidecar.contract.precision}), and judge it with `structvpr export verify`"
    )


def _seal(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
