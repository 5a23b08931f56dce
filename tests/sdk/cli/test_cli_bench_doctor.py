"""structvpr bench and doctor: every figure that the design names, on stdout alone."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from cli_runs import NUM_PHOTOS, Refused, Run, contents
from map_fakes import FakeBackend

import sdk


def test_bench_json(model: Path, photos: Path, campus: Path, run: Run) -> None:
    done = run("bench", model, "--map", campus, "--frames", photos, "--seconds", 0.2, "--threads", 1, "--json")
    assert done.code == 0
    assert done.err == ""
    record = json.loads(done.out)
    assert record["model"] == "efficientnet-lite0-gem"
    assert record["precision"] == "fp32"
    assert record["input"] == [240, 320]
    assert record["frame"] == [96, 128, 3]
    assert record["threads"] == 1
    assert record["steady_state"]["map_places"] == NUM_PHOTOS
    for stage in ("prepare", "infer", "normalize", "search", "lookup", "total"):
        assert list(record["steady_state"]["stages_ms"][stage]) == ["min", "p50", "p90", "p99", "max"]
    assert {"import", "first inference", "first query"} <= set(record["cold_start_ms"])
    assert record["memory_bytes"]["peak"] > 1e6
    assert record["file_bytes"] == {"model": model.stat().st_size, "map": campus.stat().st_size}
    assert record["device"]["packages"]["onnxruntime"]


def test_bench_table_without_a_map(model: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("bench", model, "--places", 50, "--seconds", 0.1)
    assert done.code == 0
    assert done.err == ""
    for part in ("map of 50 places", "exact scan", "p99", "infer", "cold start", "first query", "memory"):
        assert part in done.out
    assert contents(tmp_path) == {}


def test_bench_refused(model: Path, photos: Path, tmp_path: Path, refused: Refused) -> None:
    sdk.Localizer(model, tmp_path / "empty.places", create=True).close()
    sdk.PlaceMap.create(tmp_path / "other.places", FakeBackend().contract).close()
    before = contents(tmp_path)
    assert "the map is empty" in refused("bench", model, "--map", tmp_path / "empty.places")
    assert "was made with model 'fake'" in refused("bench", model, "--map", tmp_path / "other.places")
    assert "nope.places: there is no such file" in refused("bench", model, "--map", tmp_path / "nope.places")
    assert "nope.onnx: there is no such file" in refused("bench", tmp_path / "nope.onnx")
    assert "cannot load it" in refused("bench", photos / "places.csv")
    assert "no such file or folder" in refused("bench", model, "--frames", tmp_path / "nope")
    assert contents(tmp_path) == before


def test_doctor(run: Run) -> None:
    done = run("doctor")
    assert done.code == 0
    assert done.err == ""
    lines = done.out.splitlines()
    parts = ("kernel", "search", "instruction sets", "ONNX Runtime", "CUDA driver", "TensorRT", "SQLite")
    for part in (*parts, "extra export"):
        assert [line for line in lines if line[2:].startswith(("+", "-", "!")) and f" {part}: " in line], part
    for line in lines[1:]:
        if line.startswith("  -"):
            assert ";" in line, "what is missing comes with what to do"


def test_doctor_json(run: Run) -> None:
    done = run("doctor", "--json")
    record = json.loads(done.out)
    assert done.err == ""
    parts = {finding["part"]: finding for finding in record["findings"]}
    assert parts["kernel"]["status"] == parts["ONNX Runtime"]["status"] == "ok"
    missing = importlib.util.find_spec("torch") is None
    assert parts["extra training"]["status"] == ("missing" if missing else "ok")
    for finding in record["findings"]:
        assert finding["status"] in ("ok", "missing", "broken")
        assert finding["found"]
    assert record["device"]["cores"] >= 1


def test_doctor_says_when_it_cannot_localise(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # importing it fails
    done = run("doctor", "--json")
    assert done.code == 1
    parts = {finding["part"]: finding for finding in json.loads(done.out)["findings"]}
    assert parts["ONNX Runtime"]["status"] == "broken"
    assert parts["ONNX Runtime"]["remedy"] == "run `pip install onnxruntime`"
