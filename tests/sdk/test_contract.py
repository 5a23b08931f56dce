"""The model contract: what makes two descriptors comparable, and how little of a damaged one is believed."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk import ContractError, ModelContract

FIELDS: dict[str, Any] = {
    "name": "lite0",
    "weights": "0123456789abcdef" * 4,
    "height": 240,
    "width": 320,
    "descriptor_dim": 472,
    "mean": (127.0, 127.5, 128.0),
    "std": (128.0, 64.0, 32.0),
}
CONTRACT = ModelContract(**FIELDS)


def test_size_is_height_and_width() -> None:
    contract = ModelContract("m", "0" * 64, 48, 64, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert contract.size == (48, 64)


def test_json_round_trip() -> None:
    text = CONTRACT.to_json()
    assert ModelContract.from_json(text, "a file") == CONTRACT
    assert "\n" not in text
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONTRACT.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "change",
    [{"name": "Ein anderer Name"}, {"precision": "fp16"}, {"precision": "int8"}, {"mean": (127, 127.5, 128)}],
)
def test_identity_ignores(change: dict[str, Any]) -> None:
    assert dataclasses.replace(CONTRACT, **change).identity == CONTRACT.identity


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "f" * 64},
        {"height": 241},
        {"width": 321},
        {"descriptor_dim": 473},
        {"mean": (127.0, 127.5, 128.5)},
        {"mean": (128.0, 127.5, 127.0)},
        {"std": (128.0, 64.0, 32.5)},
    ],
)
def test_identity_depends_on(change: dict[str, Any]) -> None:
    assert dataclasses.replace(CONTRACT, **change).identity != CONTRACT.identity


def test_identity_is_64_hex_digits_and_survives_json() -> None:
    assert len(bytes.fromhex(CONTRACT.identity)) == 32
    assert ModelContract.from_json(CONTRACT.to_json(), "a file").identity == CONTRACT.identity


def test_identity_does_not_move() -> None:
    # Maps in the field carry it: a change of this value makes every one of them unreadable.
    assert CONTRACT.identity == "ae8d2d7c8e38b2fa4277e0e07c2dcb8178ebd325eff77e541d388fe03a193452"


BAD_VALUES = [
    ("name", ""),
    ("name", 7),
    ("name", "two\nlines"),
    ("weights", "F" * 64),
    ("weights", "0" * 63),
    ("weights", "0" * 64 + "\n"),
    ("weights", None),
    ("height", 31),
    ("height", 4097),
    ("height", 240.0),
    ("height", "240"),
    ("width", 31),
    ("width", True),
    ("descriptor_dim", 0),
    ("descriptor_dim", 65537),
    ("descriptor_dim", True),
    ("mean", (1.0, 2.0)),
    ("mean", [1.0, 2.0, 3.0]),
    ("mean", (1.0, 2.0, 256.0)),
    ("mean", (1.0, 2.0, -1.0)),
    ("mean", (1.0, 2.0, float("nan"))),
    ("mean", (1.0, 2.0, "3")),
    ("mean", None),
    ("std", (1.0, 0.0, 1.0)),
    ("std", (1.0, float("inf"), 1.0)),
    ("std", (True, True, True)),
    ("colour", "bgr"),
    ("resize", "bilinear"),
    ("precision", "fp8"),
    ("precision", ["fp32"]),
    ("schema", 0),
    ("schema", "1"),
    ("schema", True),
]


@pytest.mark.parametrize(("field", "value"), BAD_VALUES, ids=[f"{f}={v!r}" for f, v in BAD_VALUES])
def test_each_bad_value_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ContractError) as caught:
        ModelContract(**{**FIELDS, field: value})
    message = str(caught.value)
    assert field in message
    assert repr(value) in message  # found
    assert "expected" in message
    assert "structvpr export onnx" in message  # remedy
    assert "\n" not in message


def test_a_future_schema_asks_for_an_update() -> None:
    with pytest.raises(ContractError, match=r"schema version 3 found.*reads up to 2; update structvpr"):
        ModelContract(**FIELDS, schema=3)
    # Fields that this version does not know are no reason to blame the file.
    future = {**json.loads(CONTRACT.to_json()), "schema": 3, "from_the_future": 1}
    with pytest.raises(ContractError, match=r"m\.onnx: .*schema version 3.*update structvpr"):
        ModelContract.from_json(json.dumps(future), "m.onnx")


def test_unknown_and_missing_keys_are_named() -> None:
    record = json.loads(CONTRACT.to_json())
    del record["std"]
    with pytest.raises(ContractError, match=r"m\.onnx: its model contract lacks \['std'\], expected"):
        ModelContract.from_json(json.dumps(record), "m.onnx")
    record["flavour"] = "mint"
    with pytest.raises(ContractError, match=r"lacks \['std'\] and has the unknown \['flavour'\], expected"):
        ModelContract.from_json(json.dumps(record), "m.onnx")


@pytest.mark.parametrize("text", ["", "hello", "{", "[]", "null", "1", '"text"', "[" * 100_000, "1" * 5000, "NaN"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ContractError, match=r"^m\.onnx: its model contract is .*structvpr export onnx"):
        ModelContract.from_json(text, "m.onnx")


def test_a_bad_value_in_a_file_names_the_file() -> None:
    record = {**json.loads(CONTRACT.to_json()), "height": 10}
    with pytest.raises(ContractError, match=r"^m\.onnx: .*height is 10"):
        ModelContract.from_json(json.dumps(record), "m.onnx")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)


@given(st.text())
def test_fuzz_any_text(text: str) -> None:
    with pytest.raises(ContractError):
        ModelContract.from_json(text, "a file")


@given(st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(ModelContract)]), JSON_VALUES, min_size=1))
def test_fuzz_any_values(values: dict[str, Any]) -> None:
    record = {**json.loads(CONTRACT.to_json()), **values}
    try:
        contract = ModelContract.from_json(json.dumps(record), "a file")
    except ContractError:
        return
    # What was accepted can be used and written again.
    assert len(contract.identity) == 64
    assert ModelContract.from_json(contract.to_json(), "a file") == contract


@given(st.data())
def test_fuzz_flipped_characters(data: st.DataObject) -> None:
    text = CONTRACT.to_json()
    at = data.draw(st.integers(0, len(text) - 1))
    mangled = text[:at] + data.draw(st.characters()) + text[at + 1 :]
    try:
        contract = ModelContract.from_json(mangled, "a file")
    except ContractError:
        return
    assert isinstance(contract, ModelContract)
