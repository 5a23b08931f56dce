"""Figures of a machine: complete, ordered, and of the work that they name."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from map_fakes import FakeBackend
from pictures import picture

from sdk import EngineError, Localization, Localizer, PlaceMap
from sdk.evaluation.latency import PERCENTILES, fill_with_noise, measure_cold_start, measure_steady_state, memory_bytes
from sdk.machine import device as device_module
from sdk.machine.device import cuda_driver, describe_device, package_versions

MODEL = Path(__file__).parents[3] / "models" / "efficientnet-lite0-gem.onnx"
STAGES = {"prepare", "infer", "normalize", "search", "lookup", "total"}


def noise_map(path: Path, places: int, seed: int = 0) -> PlaceMap:
    place_map = PlaceMap.create(path, FakeBackend().contract)
    fill_with_noise(place_map, places, seed)
    return place_map


def descriptors(place_map: PlaceMap) -> np.ndarray:
    return place_map.decode([pair for batch in place_map.stored() for pair in batch])


@pytest.mark.parametrize("places", [1, 4096, 5000])
def test_noise(places: int, tmp_path: Path) -> None:
    place_map = noise_map(tmp_path / "noise.places", places)
    rows = descriptors(place_map)
    assert len(place_map) == len(rows) == places
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
    assert len(np.unique(rows, axis=0)) == places
    assert len({place.name for place in place_map.all_places()}) == places
    place_map.close()


def test_noise_is_the_same_from_the_same_seed(tmp_path: Path) -> None:
    maps = [noise_map(tmp_path / f"{i}.places", 20, seed) for i, seed in enumerate((1, 1, 2))]
    one, same, other = map(descriptors, maps)
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)
    for place_map in maps:
        place_map.close()


def test_steady_state(tmp_path: Path) -> None:
    noise_map(tmp_path / "noise.places", 30).close()
    backend = FakeBackend()
    told: list[tuple[str, int, int]] = []
    with Localizer(backend, tmp_path / "noise.places") as localizer:
        frames = [picture(i) for i in range(3)]
        found = measure_steady_state(localizer, frames, 0.2, lambda *args: told.append(args))
    assert found["map_places"] == 30
    assert found["search"] == "exact scan"
    assert found["queries"] >= 20
    assert found["queries_per_s"] == pytest.approx(found["queries"] / 0.2, rel=0.5)
    assert set(found["stages_ms"]) == STAGES
    for row in found["stages_ms"].values():
        assert list(row) == list(PERCENTILES)
        values = list(row.values())
        assert values == sorted(values)
        assert values[0] >= 0
    stages = found["stages_ms"]
    assert stages["total"]["p50"] >= max(stages[stage]["min"] for stage in STAGES - {"total"})
    assert told
    assert all(what == "queries" and 0 <= done <= total == 100 for what, done, total in told)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    json.dumps(found, allow_nan=False)


class Metronome:
    """A Localizer whose queries take 1, 2, 3, … ms by its own account."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.store = SimpleNamespace(search_method=lambda: "graph")

    def __len__(self) -> int:
        return 7

    def query(self, frame: int) -> Localization:
        self.asked.append(frame)
        return Localization((), timings_ms={"total": float(len(self.asked))})


def test_percentiles_are_of_every_query_after_the_warm_up() -> None:
    metronome = Metronome()
    found = measure_steady_state(metronome, [0, 1, 2], 0.0)  # type: ignore[arg-type, list-item]
    assert metronome.asked == [0, 1, 2] * 6 + [0, 1] + [0, 1, 2] * 6 + [0, 1]
    assert found["stages_ms"] == {
        "total": pytest.approx({"min": 21, "p50": 30.5, "p90": 38.1, "p99": 39.81, "max": 40})
    }
    assert found["queries"] == 20
    assert found["search"] == "graph"


def test_cold_start(tmp_path: Path) -> None:
    with Localizer(MODEL, tmp_path / "m.places", create=True) as localizer:
        fill_with_noise(localizer.store.map, 5)
    found = measure_cold_start(MODEL, tmp_path / "m.places", runs=1)
    parts = ("import", "load the network", "first inference", "open the map, warm up", "first query")
    assert set(found) == {*parts, "second query", "import to first answer", "process"}
    assert all(ms > 0 for ms in found.values())
    assert found["import to first answer"] == pytest.approx(sum(found[part] for part in parts), rel=1e-6)
    assert found["process"] > found["import to first answer"]


def test_cold_start_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"could not answer.*there is no such file") as caught:
        measure_cold_start(MODEL, tmp_path / "nope.places", runs=1)
    assert "\n" not in str(caught.value)


def test_memory() -> None:
    found = memory_bytes()
    assert found["resident"] is not None
    assert found["peak"] is not None
    assert 10e6 < found["resident"] <= found["peak"] < 64e9


def test_device() -> None:
    device = describe_device()
    json.dumps(device, allow_nan=False)
    assert device["cores"] >= 1
    assert device["memory_bytes"] > 100e6
    assert device["packages"] == package_versions()
    assert device["packages"]["numpy"] == np.__version__
    assert device["machine"]
    assert device["instruction_sets"] == [*dict.fromkeys(device["instruction_sets"])]


def test_driver_is_asked_in_a_process_of_its_own() -> None:
    driver = cuda_driver()
    assert driver is None or set(driver) == {"version", "devices", "code"}


@pytest.mark.parametrize(
    "ends", ["import os; os.abort()", "import time; time.sleep(60)", "raise AttributeError('cuInit')"]
)
def test_a_driver_that_does_not_answer_is_not_a_missing_one(monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    monkeypatch.setattr(device_module, "PROBE", ends)
    monkeypatch.setattr(device_module, "PROBE_TIMEOUT_S", 1)
    assert cuda_driver() == {"version": None, "devices": 0, "code": None}


def test_a_driver_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "PROBE", device_module.PROBE.replace("libcuda.so.1", "libcuda.so.none"))
    assert cuda_driver() is None
