"""The names that users rely on, and how they are called. A change here is a change for them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import sdk

ROOT = Path(__file__).parent.parent


def test_exported_names_are_documented_and_cover_what_documents_use() -> None:
    assert len(set(sdk.__all__)) == len(sdk.__all__)
    for name in sdk.__all__:
        assert inspect.getdoc(getattr(sdk, name)), name
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    used = {name for page in pages for name in re.findall(r"\bsdk\.([a-zA-Z_]+)\(", page.read_text())}
    assert {"Localizer", "Place"} <= used
    assert used <= set(sdk.__all__)


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (sdk.Localizer.__init__, "self engine map *colour *create *geography *threads *progress"),
        (sdk.Localizer.query, "self frame k *apart_m *colour"),
        (sdk.Localizer.describe, "self frame *colour"),
        (sdk.Localizer.add, "self frame place *colour"),
        (sdk.Localizer.add_many, "self sightings *colour"),
        (sdk.Localizer.build, "self source *progress"),
        (sdk.Localizer.remove, "self place_ids"),
        (sdk.Localizer.update, "self place frame *colour"),
        (sdk.prepare, "frame size colour"),
        (sdk.open_backend, "path *threads *runtime"),
        (sdk.open_source, "path *every_s *positions"),
    ],
)
def test_signatures(function: object, parameters: str) -> None:
    found = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    assert " ".join(("*" if p.kind is p.KEYWORD_ONLY else "") + p.name for p in found) == parameters


def test_error_tree() -> None:
    for error, base in (
        (sdk.FrameError, ValueError),
        (sdk.ContractError, ValueError),
        (sdk.MapError, ValueError),
        (sdk.DataError, ValueError),
        (sdk.UsageError, ValueError),
        (sdk.WriteError, OSError),
        (sdk.EngineError, RuntimeError),
    ):
        assert issubclass(error, sdk.Error)
        assert issubclass(error, base)


def test_answers_are_values() -> None:
    place = sdk.Place("gate", (1, 2))
    answer = sdk.Localization((sdk.Match(place, 0.9),))
    assert answer.place is place
    assert place.position == (1.0, 2.0, 0.0)
    assert (answer.known, answer.probability, answer.reason) == (None, None, "uncalibrated")
    assert sdk.Localization(()).place is None
    with pytest.raises(AttributeError):
        answer.known = True  # type: ignore[misc]
    with pytest.raises(sdk.MapError, match="position has 4 values"):
        sdk.Place("gate", (1, 2, 3, 4))
    with pytest.raises(sdk.MapError, match="finite"):
        sdk.Place("gate", (1, float("nan")))
