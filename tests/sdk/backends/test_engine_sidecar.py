"""The record beside an engine: what is written is read; what was altered, cut or forged is refused in a sentence."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import CONTRACT, PLAN, write_engine

from sdk import ContractError, EngineError
from sdk.backends.engine_sidecar import (
    EngineSidecar,
    read_sidecar,
    rebuild_command,
    require_fit,
    require_intact,
    sidecar_path,
)

HERE: dict[str, Any] = {
    **{"runtime": "tensorrt", "version": "10.3.0", "gpu_name": "Orin"},
    **{"compute_capability": "8.7", "multiprocessors": 16},
}


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "model.engine"
    write_engine(path)
    return path


def refusal(engine: Path) -> str:
    with pytest.raises(ContractError) as caught:
        read_sidecar(engine)
    message = str(caught.value)
    assert str(engine) in message
    assert "\n" not in message
    assert len(message) < 600
    assert re.search("[^;]; [^;]+", message), message  # what was found; what to do
    return message


def record_of(engine: Path) -> Any:
    return json.loads(sidecar_path(engine).read_text())


def forge(engine: Path, record: Any) -> None:
    """Write a record with a seal that is right, as who alters one on purpose would: by the format's description."""
    record = {key: value for key, value in record.items() if key != "seal"}
    seal = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    sidecar_path(engine).write_text(json.dumps({**record, "seal": seal}))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {
            "gpu_name": None,
            "multiprocessors": None,
            "cuda_version": None,
            "compute_capabilities": ("8.6", "8.9", "12.0"),
        },
        {"dla_core": 0, "l4t": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64"},
        {"gate": {"cosine_mean": 0.99987, "thresholds": {"fp16": [0.999, 1]}, "passed": True, "note": None}},
        {"gate": {"levels": (1, 2), 10: "ten", 9: "nine"}},  # tuples and number keys become JSON's own
        {"gpu_name": "NVIDIA GeForce RTX™ 4090", "onnx_name": "größer kleiner.onnx", "build_s": 3},
    ],
    ids=str,
)
def test_what_is_written_is_read(engine: Path, change: dict[str, Any]) -> None:
    written = write_engine(engine, **change)
    read = read_sidecar(engine)
    assert dataclasses.replace(read, gate=None) == dataclasses.replace(written, gate=None)
    assert read.gate == json.loads(json.dumps(written.gate))
    assert read.to_json() == sidecar_path(engine).read_text()
    assert read.contract == CONTRACT
    assert require_intact(engine, read) == PLAN


def test_it_lies_beside_with_the_whole_name() -> None:
    assert sidecar_path(Path("a/model.engine")) == Path("a/model.engine.json")
    assert sidecar_path(Path("a/model.plan")) == Path("a/model.plan.json")


def test_it_is_plain_json_for_others(engine: Path) -> None:
    record = record_of(engine)
    assert record["contract"]["precision"] == "fp16"
    assert record["runtime_version"] == "10.3.0"
    assert record["compute_capabilities"] == ["8.7"]
    forge(engine, record)  # the seal is what the docstring says: the sha256 of the rest
    assert read_sidecar(engine) == read_sidecar(engine)


# ---------------------------------------------------------------- files that are none


def test_none(engine: Path) -> None:
    sidecar_path(engine).unlink()
    assert "has no model.engine.json beside it" in refusal(engine)


def test_a_folder_or_a_pipe(engine: Path) -> None:
    path = sidecar_path(engine)
    path.unlink()
    path.mkdir()
    assert "has no model.engine.json beside it" in refusal(engine)
    path.rmdir()
    os.mkfifo(path)
    assert "has no model.engine.json beside it" in refusal(engine)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no JSON",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 900 + b"]" * 900,
        b"9" * 100_000,
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b"NaN",
        b'{"seal": null}',
        b" " * (1 << 21),
        b'{"schema": [1]}',
        b'{"schema": 0}',
        b'{"schema": -1e999}',
    ],
    ids=lambda data: data[:12].decode(errors="replace") + f" {len(data)}",
)
def test_what_is_no_sidecar(engine: Path, data: bytes) -> None:
    sidecar_path(engine).write_bytes(data)
    refusal(engine)


def test_a_huge_one_is_not_read(engine: Path) -> None:
    with sidecar_path(engine).open("wb") as file:
        file.truncate(1 << 40)
    assert "more than 1048576 bytes" in refusal(engine)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_cut_one(engine: Path, share: float) -> None:
    data = sidecar_path(engine).read_bytes()
    sidecar_path(engine).write_bytes(data[: int(len(data) * share)])
    refusal(engine)


def test_a_newer_one_is_named_so(engine: Path) -> None:
    forge(engine, {**record_of(engine), "schema": 2, "something": "new"})
    assert "has schema version 2, this structvpr reads up to 1; update structvpr" in refusal(engine)


def test_every_altered_value_is_found(engine: Path) -> None:
    record = record_of(engine)
    for key in record:
        for value in (None, "x", 0, 7.5, [], {}, True):
            if value != record[key] or type(value) is not type(record[key]):
                sidecar_path(engine).write_text(json.dumps({**record, key: value}))
                refusal(engine)
        sidecar_path(engine).write_text(json.dumps({k: v for k, v in record.items() if k != key}))
        refusal(engine)
    sidecar_path(engine).write_text(json.dumps({**record, "another": 1}))
    assert "was altered or is incomplete" in refusal(engine)


# ---------------------------------------------------------------- well sealed, and wrong all the same

WRONG: dict[str, list[Any]] = {
    "contract": [None, 7, "text", {}, [], {"name": 1}],
    "runtime": [None, 1, "cudnn", ["tensorrt"], {"tensorrt": 1}],
    "runtime_version": [None, 10.3, "", "10\n3", "\ud800", "1" * 5000],
    "compute_capabilities": [None, "8.7", [], [8.7], ["8,7"], ["8.7", None], {"8.7": 1}, ["8.7\n"]],
    "gpu_name": [0, "", ["Orin"], "a\0b", True],
    "multiprocessors": [0, -1, 16.0, "16", True, []],
    "cuda_version": [12.6, "", {}],
    "l4t": [36, "", "two\nlines"],
    "dla_core": [-1, 0.0, "0", True, []],
    "onnx_name": [None, "", "../model.onnx", "/model.onnx", "..", 1],
    "onnx_sha256": [None, "1" * 63, "G" * 64, "A" * 64, 1],
    "engine_sha256": [None, "", "1" * 65],
    "engine_bytes": [None, -1, 1.5, "29", True, float("nan")],
    "built_at": [None, 1700000000, ""],
    "build_s": [None, "61", -1, float("nan"), float("inf"), True],
    "gate": [[], "passed", 1, {"cosine": float("nan")}, {"deep": {"er": float("-inf")}}],
    "schema": [None, "1", 1.0, True, 0, -1],
}


def test_every_field_has_its_wrong_values() -> None:
    assert WRONG.keys() == {field.name for field in dataclasses.fields(EngineSidecar)}


@pytest.mark.parametrize("name", WRONG)
def test_a_forged_value_is_named(engine: Path, name: str) -> None:
    record = record_of(engine)
    for value in WRONG[name]:
        forge(engine, {**record, name: value})
        assert name.replace("_", " ") in refusal(engine).replace("_", " ")


def test_a_contract_that_is_out_of_range(engine: Path) -> None:
    record = record_of(engine)
    forge(engine, {**record, "contract": {**record["contract"], "height": 3}})
    assert "height is 3" in refusal(engine)


@pytest.mark.parametrize("change", [{"gate": {"x": float("nan")}}, {"build_s": -1.0}, {"gate": {"x": object()}}])
def test_nonsense_is_not_written(engine: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match=f"engine sidecar: {next(iter(change))} is .*, expected .*; build"):
        dataclasses.replace(read_sidecar(engine), **change)


# ---------------------------------------------------------------- the engine itself


@pytest.mark.parametrize("data", [b"", PLAN[:-1], PLAN + b"x", PLAN[::-1], b"x" * len(PLAN)])
def test_another_engine_is_refused(engine: Path, data: bytes) -> None:
    engine.write_bytes(data)
    with pytest.raises(
        EngineError,
        match=r"(expected \d+ by its sidecar|differs from the engine .*); copy (it|both) again, or build it here with",
    ):
        require_intact(engine, read_sidecar(engine))


def test_a_huge_engine_is_not_read(engine: Path) -> None:
    with engine.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(EngineError, match=f"has {1 << 40} bytes, expected {len(PLAN)}"):
        require_intact(engine, read_sidecar(engine))


def test_no_engine(engine: Path) -> None:
    engine.unlink()
    with pytest.raises(EngineError, match=r"cannot be read \(No such file or directory\); build"):
        require_intact(engine, read_sidecar(engine))


@pytest.mark.parametrize(
    ("built", "here", "fits"),
    [
        ({}, {}, True),
        ({}, {"version": "10.3.1"}, False),
        ({}, {"runtime": "tensorrt_rtx"}, False),
        ({}, {"gpu_name": "Thor"}, False),
        ({}, {"compute_capability": "8.9"}, False),
        ({}, {"multiprocessors": 8}, False),  # an Orin Nano, which has the AGX's name and capability
        ({"multiprocessors": None, "gpu_name": None}, {"multiprocessors": 8}, True),
        ({"gpu_name": None}, {"gpu_name": "Thor"}, True),  # compiled ahead: for any of its capability
        ({"gpu_name": None, "compute_capabilities": ("8.6", "12.0")}, {"compute_capability": "12.0"}, True),
        ({"gpu_name": None, "compute_capabilities": ("8.6", "12.0")}, {"compute_capability": "2.0"}, False),
    ],
)
def test_where_it_runs(engine: Path, built: dict[str, Any], here: dict[str, Any], fits: bool) -> None:
    sidecar = write_engine(engine, **built)
    if fits:
        require_fit(engine, sidecar, **{**HERE, **here})
        return
    with pytest.raises(
        EngineError, match=r"was built for .*, expected .*; build it here with `structvpr export"
    ) as caught:
        require_fit(engine, sidecar, **{**HERE, **here})
    assert str(engine) in str(caught.value)
    assert str(next(iter(here.values()))) in str(caught.value).split(", expected ")[1]


def test_the_command_can_be_pasted(tmp_path: Path) -> None:
    engine = tmp_path / "my model; rm -rf.engine"
    sidecar = write_engine(engine, onnx_name="my model.onnx")
    command = re.search("`([^`]*)`", rebuild_command(engine, sidecar))
    assert command is not None
    assert shlex.split(command[1]) == ["structvpr", "export", "engine", "my model.onnx", "-o", str(engine), "--no-gate"]
