"""What a search costs is measured once a machine; nothing that is wrong with the cache is anybody's trouble."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from map_fakes import FakeBackend, unit_rows

import sdk
from sdk._core import PlaceIndex
from sdk.index import search_costs as module
from sdk.index.map_index import MapIndex
from sdk.index.search_costs import COSTS_FROM, costs_path, search_costs
from sdk.machine.cpu import cpu_model

COSTS = {"scan_byte": 0.1, "sketch_byte": 0.2, "gather_line": 3.0}


@pytest.fixture(autouse=True)
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How often it was measured, with a cache of the test's own."""
    calls: list[int] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "measure_costs", lambda: calls.append(1) or dict(COSTS))
    module._search_costs.cache_clear()
    yield calls
    module._search_costs.cache_clear()


def next_process() -> dict[str, float]:
    module._search_costs.cache_clear()
    return search_costs()


def test_they_are_measured_once_and_kept(tmp_path: Path, measured: list[int]) -> None:
    assert search_costs() == search_costs() == next_process() == COSTS
    assert len(measured) == 1
    path = costs_path()
    assert path is not None
    assert path.parent == tmp_path / "cache" / "structvpr"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    record = json.loads(path.read_text())
    assert record["instruction_set"] == PlaceIndex(1).instruction_set
    assert record["cpu"]
    search_costs()["gather_line"] = 0.0
    assert search_costs() == COSTS


DAMAGES = {
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "no costs": "{}",
    "costs no object": '{"costs_ns": 3}',
    "a cost lacks": '{"costs_ns": {"gather_line": 1}}',
    "deep": "[" * 100_000,
    "not a number": json.dumps({"costs_ns": {**COSTS, "gather_line": "many"}}),
    "zero": json.dumps({"costs_ns": {**COSTS, "gather_line": 0}}),
    "nan": '{"costs_ns": {"scan_byte": NaN, "sketch_byte": 1, "gather_line": 1}}',
    "another machine": json.dumps({"cpu": "Z80", "costs_ns": COSTS}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_measured_again(measured: list[int], damage: str) -> None:
    search_costs()
    path = costs_path()
    assert path is not None
    path.write_text(DAMAGES[damage])
    assert next_process() == COSTS
    assert len(measured) == 2
    assert next_process() == COSTS
    assert len(measured) == 2


@pytest.mark.parametrize("kind", ["a file for a folder", "a folder for a file", "no home", "not absolute"])
def test_where_nothing_can_be_kept_each_process_measures(
    tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = costs_path()
    assert path is not None
    if kind == "a file for a folder":
        (tmp_path / "cache").touch()
    elif kind == "a folder for a file":
        path.mkdir(parents=True)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "" if kind == "no home" else "relative")

        def no_home() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", no_home)
        assert costs_path() is None
    assert next_process() == next_process() == COSTS
    assert len(measured) == 2
    assert not list(tmp_path.rglob("*.json.*"))


def test_only_an_index_that_has_a_choice_is_measured_for(map_path: Path, measured: list[int]) -> None:
    place_map = sdk.PlaceMap.create(map_path, FakeBackend().contract)
    place_map.add_many([sdk.Place()] * (COSTS_FROM - 1), unit_rows(COSTS_FROM - 1))
    index = MapIndex(place_map)
    assert measured == []
    index.add(place_map.add_many([sdk.Place()], unit_rows(1, seed=1)))
    assert len(measured) == 1
    index.close()
    MapIndex(place_map)
    assert len(measured) == 1
    place_map.close()


def test_the_measured_ones_are_what_an_index_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    from sdk._core import measure_costs

    costs = measure_costs()
    assert set(costs) == set(COSTS)
    PlaceIndex(8).set_costs(costs)


CPUS = {
    "x86": ({"/proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC\n" * 2}, "AMD EPYC"),
    "Jetson": (
        {
            "/proc/cpuinfo": "CPU implementer\t: 0x41\nCPU part\t: 0xd42\n" * 6,
            "/proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
        },
        f"{os.uname().machine} NVIDIA Jetson Orin Nano 0x41 0xd42",
    ),
    "unknown": ({}, os.uname().machine),
}


@pytest.mark.parametrize("kind", CPUS)
def test_a_machine_is_told_by_its_cpu(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    files, expected = CPUS[kind]
    monkeypatch.setattr("sdk.machine.cpu._read", lambda path: files.get(path, ""))
    assert cpu_model() == expected
