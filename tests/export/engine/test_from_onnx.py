"""Building engines: what each TensorRT is told, what is written, and what is refused.

The builder is a fake, whose surfaces are those of the versions; the tests at the end build with the real
TensorRT-RTX, which needs no GPU:

    pip install tensorrt-rtx-cu13==1.7.1.116
    STRUCTVPR_REQUIRE_RTX=1 pytest tests/export/engine/test_from_onnx.py     a missing package is a failure
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import os
import signal
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("onnx", reason="exporting needs onnx (extra: export)")

import onnx
from fake_builder import fake_tensorrt
from onnx import TensorProto, helper, numpy_helper

from export.engine import build as engine_build
from export.engine import from_onnx as to_engine
from export.engine import monitor, timing_cache
from export.engine.build import BuildSettings
from export.engine.from_onnx import export_engine
from sdk import ContractError, EngineError, ModelContract, UsageError, WriteError, atomic_file
from sdk.backends.engine_sidecar import read_sidecar, require_intact

MODEL = Path(__file__).parents[3] / "models" / "efficientnet-lite0-gem.onnx"
SURFACES = Path(__file__).parents[2] / "data" / "tensorrt_api"
HEIGHT, WIDTH, DIM = 32, 48, 8
VERSIONS = ("8.5.2", "8.6.2", "10.3.0", "10.13.3", "11.4.0.106")


@functools.cache
def make_model(graph_precision, **changes):
    """frame, mean taken off, a convolution and GeM: the types of each precision as an export has them."""
    half, quantized = "fp16" in graph_precision, "int8" in graph_precision
    dtype = np.float16 if half and not quantized else np.float32
    contract = {"name": "small", "weights": "0" * 64, "height": HEIGHT, "width": WIDTH, "descriptor_dim": DIM}
    contract |= {"mean": (127.0,) * 3, "std": (1.0,) * 3, "precision": graph_precision.split()[0]}
    weight = np.random.default_rng(0).standard_normal((DIM, 3, 3, 3))
    weights = {
        "mean": np.full(3, 127, np.float32),
        "weight": weight.astype(dtype),
        "three": np.float32(3),
        "third": np.float32(1 / 3),
        "scale": np.float32(0.1),
        "zero": np.int8(0),
    }
    nodes = [("Cast", "frame", "pixels", {"to": TensorProto.FLOAT}), ("Sub", "pixels mean", "centred", {})]
    nodes += [("Cast", "centred", "cast", {"to": TensorProto.FLOAT16})] if dtype is np.float16 else []
    nodes += [("Transpose", nodes[-1][2], "planes", {"perm": [0, 3, 1, 2]})]
    if quantized:
        for name in ("planes", "weight"):
            nodes += [("QuantizeLinear", f"{name} scale zero", f"{name}_q", {})]
            nodes += [("DequantizeLinear", f"{name}_q scale zero", f"{name}_dq", {})]
        nodes += [("Conv", "planes_dq weight_dq", "features", {})]
    else:
        nodes += [("Conv", "planes weight", "features", {})]
    # Before opset 19 a Q/DQ pair is float32 outside.
    nodes += [("Cast", "features", "halves", {"to": TensorProto.FLOAT16})] if half and quantized else []
    nodes += [("Relu", nodes[-1][2], "positive", {})]
    nodes += [("Cast", "positive", "full", {"to": TensorProto.FLOAT})] if half else []
    nodes += [("Pow", f"{nodes[-1][2]} three", "cubes", {}), ("ReduceMean", "cubes", "mean_cube", {"axes": [2, 3]})]
    nodes += [("Pow", "mean_cube third", "gem", {}), ("Flatten", "gem", "raw_descriptor", {})]
    graph = helper.make_graph(
        [helper.make_node(op, i.split(), [o], name=f"/{o}", **attributes) for op, i, o, attributes in nodes],
        "small",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info("raw_descriptor", TensorProto.FLOAT, [1, DIM])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    helper.set_model_props(model, {"contract": ModelContract(**{**contract, **changes}).to_json()})
    return model


@pytest.fixture
def model(tmp_path):
    def write(graph_precision="fp32", **changes):
        path = tmp_path / f"{graph_precision}.onnx"
        path.write_bytes(make_model(graph_precision, **changes).SerializeToString())
        return path

    return write


def put_gpu(monkeypatch, multiprocessors):
    gpu = SimpleNamespace(gpu_name="Orin (nvgpu)", compute_capability="8.7", close=lambda: None)
    gpu.multiprocessors = multiprocessors
    monkeypatch.setattr(to_engine, "open_cuda", lambda: gpu)


@pytest.fixture
def tensorrt(tmp_path, monkeypatch):
    """Installs a fake TensorRT beside a fake GPU, and returns it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    put_gpu(monkeypatch, 16)
    driver = {"version": "12.6", "devices": 1, "code": 0}
    monkeypatch.setattr(to_engine, "require_driver", lambda needed_by, runtime=None: driver)

    def install(version, **options):
        trt = fake_tensorrt(version, **options)
        name = "tensorrt_rtx" if options.get("rtx") else "tensorrt"
        other = "tensorrt" if options.get("rtx") else "tensorrt_rtx"
        monkeypatch.setitem(sys.modules, name, trt)
        monkeypatch.setitem(sys.modules, other, None)
        return trt

    return install


def build(path, judge=None, progress=None, compute_capabilities=(), **settings):
    engine = path.with_suffix(".engine")
    settings = BuildSettings(compute_capabilities=tuple(compute_capabilities), **settings)
    return engine, export_engine(path, engine, settings, judge=judge, progress=progress)


def refused(error, path, expected, **options):
    with pytest.raises(error, match=expected) as caught:
        build(path, **options)
    sentence = str(caught.value)
    assert "; " in sentence or ", expected " in sentence
    assert "\n" not in sentence
    assert not [p for p in path.parent.iterdir() if p.name.startswith(f".{path.stem}")], "a temporary folder is left"
    return sentence


# --- what is written ------------------------------------------------------------------------------------


def test_engine_and_sidecar(model, tensorrt):
    trt = tensorrt("10.3.0")
    path = model("fp16")
    engine, sidecar = build(path, workspace_mib=300)
    assert engine.read_bytes() == trt.told.plan  # a pure plan
    assert read_sidecar(engine) == sidecar
    assert require_intact(engine, sidecar) == trt.told.plan
    assert (sidecar.contract.precision, sidecar.contract.descriptor_dim) == ("fp16", DIM)
    assert (sidecar.runtime, sidecar.runtime_version) == ("tensorrt", "10.3.0")
    assert (sidecar.gpu_name, sidecar.compute_capabilities) == ("Orin (nvgpu)", ("8.7",))
    assert sidecar.multiprocessors == 16
    assert (sidecar.cuda_version, sidecar.dla_core, sidecar.gate) == ("12.6", None, None)
    assert (sidecar.onnx_name, sidecar.engine_bytes) == ("fp16.onnx", len(trt.told.plan))
    assert sidecar.onnx_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    built_at = datetime.fromisoformat(sidecar.built_at)
    assert built_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(timezone.utc) - built_at) < timedelta(minutes=1)
    assert 0 <= sidecar.build_s < 60
    assert trt.told.config.limits == {"WORKSPACE": 300 * 1024 * 1024}
    assert sorted(p.name for p in path.parent.iterdir()) == ["cache", "fp16.engine", "fp16.engine.json", "fp16.onnx"]


def test_first_line_of_the_release_stands_for_the_jetpack(model, tensorrt, monkeypatch):
    tensorrt("10.3.0")
    monkeypatch.setattr(to_engine, "describe_device", lambda: {"l4t": "# R36 (release), REVISION: 4.3"})
    assert build(model())[1].l4t == "# R36 (release), REVISION: 4.3"


def test_judge_sees_the_finished_engine_and_its_verdict_is_kept(model, tensorrt):
    trt = tensorrt("10.3.0")
    path, seen = model(), []

    def judge(engine):
        seen.append(engine)
        assert require_intact(engine, read_sidecar(engine)) == trt.told.plan
        assert not path.with_suffix(".engine").exists()
        return {"passed": True, "mean_cosine": 0.9999}

    engine, sidecar = build(path, judge=judge)
    assert sidecar.gate == {"passed": True, "mean_cosine": 0.9999}
    assert read_sidecar(engine) == sidecar
    assert len(seen) == 1
    assert not seen[0].exists()
    assert build(path, judge=lambda _: None)[1].gate is None


class Refused(Exception):
    pass


@pytest.mark.parametrize("error", [Refused("no"), KeyboardInterrupt(), OSError(5, "from the judge")])
def test_judge_that_raises_leaves_the_old_engine(model, tensorrt, error):
    trt = tensorrt("10.3.0")
    path = model()
    engine, old = build(path)
    trt.told.plan = b"another"

    def judge(_):
        raise error

    with pytest.raises(type(error)) as caught:
        build(path, judge=judge)
    assert caught.value is error
    assert require_intact(engine, read_sidecar(engine)) == b"a plan for 10.3.0"
    assert read_sidecar(engine) == old
    assert len(list(path.parent.iterdir())) == 4


@pytest.mark.parametrize("failing", ["write_bytes", "write_text"])
def test_full_disk_leaves_the_old_engine(model, tensorrt, monkeypatch, failing):
    trt = tensorrt("10.3.0")
    path = model()
    engine, old = build(path)
    trt.told.plan = b"another"

    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, failing, full)
        refused(WriteError, path, "fp32.engine: No space left on device")
    assert require_intact(engine, read_sidecar(engine)) == b"a plan for 10.3.0"
    assert read_sidecar(engine) == old


def test_power_cut_between_the_two_is_found(model, tensorrt, monkeypatch):
    """The engine has its name, the sidecar not yet: the old one does not fit, and says so."""
    trt = tensorrt("10.3.0")
    path = model()
    engine, _ = build(path)
    trt.told.plan = b"A plan for 10.3.0"
    moved = []

    def move(source, target):
        if moved:
            raise KeyboardInterrupt
        if target.suffix != ".timing":
            moved.append(target)
        source.rename(target)

    monkeypatch.setattr(atomic_file, "move_into_place", move)
    with pytest.raises(KeyboardInterrupt):
        build(path)
    assert moved == [engine]
    with pytest.raises(EngineError, match="sidecar describes"):
        require_intact(engine, read_sidecar(engine))


def test_folder_that_cannot_be_written_is_found_before_the_build(model, tensorrt, tmp_path):
    trt = tensorrt("10.3.0")
    with pytest.raises(WriteError, match=r"cannot write .*; name a file in a writable folder"):
        export_engine(model(), tmp_path / "nowhere" / "a.engine")
    assert trt.told.config is None


# --- what each version is told --------------------------------------------------------------------------

WEAK = {"8.5.2", "8.6.2"}
CREATION = {
    "8.5.2": {"EXPLICIT_BATCH"},
    "8.6.2": {"EXPLICIT_BATCH"},
    "10.3.0": {"EXPLICIT_BATCH", "STRONGLY_TYPED"},
    "10.13.3": {"EXPLICIT_BATCH", "STRONGLY_TYPED"},
    "11.4.0.106": {"STRONGLY_TYPED"},
}
WEAK_FLAGS = {
    "fp32": set(),
    "fp16": {"FP16", "OBEY_PRECISION_CONSTRAINTS"},
    "int8": {"INT8"},
    "int8 and fp16": {"INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS"},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", WEAK_FLAGS)
def test_flags(model, tensorrt, version, precision):
    """Strong typing wherever it is; flags only where it is not. Never TF32, which float32 does not mean."""
    trt = tensorrt(version)
    build(model(precision))
    assert trt.told.creation == CREATION[version]
    assert trt.told.flags == (WEAK_FLAGS[precision] if version in WEAK else set())
    assert trt.told.config.limits == {"WORKSPACE": 1 << 30}
    assert trt.told.config.default_device_type.name == "GPU"


def pinned(trt):
    """Names of the layers pinned to float32, all of whose outputs must be, too."""
    layers = [layer for layer in trt.told.network.layers if layer.pinned is not None]
    for layer in layers:
        assert layer.pinned is trt.DataType.FLOAT
        assert layer.output_types == dict.fromkeys(range(layer.num_outputs), trt.DataType.FLOAT)
    free = [layer for layer in trt.told.network.layers if layer.pinned is None]
    assert all(layer.output_types == {} for layer in free)
    return [layer.name for layer in layers]


@pytest.mark.parametrize("version", sorted(WEAK))
def test_head_is_pinned_to_float32_where_types_are_hints(model, tensorrt, version):
    trt = tensorrt(version)
    build(model("fp16"))
    aids = ["ONNXTRT_Broadcast"]
    head = ["three", *aids, "/cubes", "/mean_cube", "third", *aids, "/gem", "/raw_descriptor"]
    assert pinned(trt) == ["mean", *aids, "/centred", *head]  # neither Casts nor convolution


def test_quantized_layers_are_not_pinned(model, tensorrt):
    trt = tensorrt("8.6.2")
    build(model("int8 and fp16"))
    names = pinned(trt)
    assert {"/cubes", "/mean_cube", "/gem", "/raw_descriptor"} <= set(names)
    assert not [name for name in names if "planes" in name or "weight" in name or "features" in name]
    build(model("int8"))  # without float16 nothing may leave float32 but what Q/DQ says
    assert pinned(trt) == []


def test_optimization_level(model, tensorrt):
    trt = tensorrt("8.6.2")
    build(model())
    assert trt.told.config.builder_optimization_level == 3
    build(model(), optimization_level=5)
    assert trt.told.config.builder_optimization_level == 5
    tensorrt("8.5.2")
    refused(EngineError, model(), "TensorRT 8.5.2 has no optimization level", optimization_level=5)


@pytest.mark.parametrize("version", ["8.6.2", "10.3.0"])
def test_dla_before_11_is_told_by_flags(model, tensorrt, version):
    trt = tensorrt(version, dla_cores=2)
    _, sidecar = build(model("fp16"), dla_core=1)
    assert sidecar.dla_core == 1
    assert (trt.told.config.default_device_type.name, trt.told.config.DLA_core) == ("DLA", 1)
    assert trt.told.creation == {"EXPLICIT_BATCH"}
    assert trt.told.flags == {"GPU_FALLBACK", "FP16", "OBEY_PRECISION_CONSTRAINTS"}
    assert "/gem" in pinned(trt)
    refused(EngineError, model("int8"), "is int8, which a DLA does not compute", dla_core=1)


def test_dla_since_11_is_strongly_typed(model, tensorrt):
    trt = tensorrt("11.4.0.106", dla_cores=2)
    for precision in ("fp16", "int8"):
        build(model(precision), dla_core=0)
        assert (trt.told.creation, trt.told.flags) == ({"STRONGLY_TYPED"}, {"GPU_FALLBACK"})
    refused(EngineError, model("fp32"), "is fp32, which a DLA does not compute", dla_core=0)


@pytest.mark.parametrize(("cores", "core"), [(0, 0), (2, 2), (2, -1)])
def test_dla_that_is_not_there(model, tensorrt, cores, core):
    tensorrt("10.3.0", dla_cores=cores)
    refused(EngineError, model("fp16"), f"^TensorRT 10.3.0 finds {cores} DLA cores .*core {core}; ", dla_core=core)


def test_rtx_builds_for_the_gpu_that_is_there(model, tensorrt):
    trt = tensorrt("1.7.1.116", rtx=True)
    _, sidecar = build(model("fp16"), judge=lambda _: {"passed": True})
    assert trt.told.config.num_compute_capabilities == 1
    assert trt.told.config.capabilities == {0: "CURRENT"}
    assert (sidecar.runtime, sidecar.compute_capabilities) == ("tensorrt_rtx", ("8.7",))
    assert sidecar.gpu_name == "Orin (nvgpu)"
    assert sidecar.gate == {"passed": True}


def test_rtx_compiles_ahead_without_asking_for_a_driver(model, tensorrt, monkeypatch):
    trt = tensorrt("1.7.1.116", rtx=True)
    for name in ("require_driver", "open_cuda"):
        monkeypatch.setattr(to_engine, name, lambda *_: pytest.fail("CUDA was touched"))
    judge = lambda _: pytest.fail("judged without a GPU")  # noqa: E731
    _, sidecar = build(model(), compute_capabilities=["8.6", "12.0"], judge=judge)
    assert trt.told.config.num_compute_capabilities == 2
    assert trt.told.config.capabilities == {0: "SM86", 1: "SM120"}
    assert sidecar.compute_capabilities == ("8.6", "12.0")
    assert (sidecar.gpu_name, sidecar.cuda_version, sidecar.gate) == (None, None, None)
    assert sidecar.multiprocessors is None
    sentence = refused(EngineError, model(), "compute capability 9.0", compute_capabilities=["9.0"])
    assert "one of 7.5, 8.6, 12.0" in sentence


def test_tensorrt_comes_first(model, tensorrt, monkeypatch):
    tensorrt("10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", fake_tensorrt("1.7.1.116", rtx=True))
    assert build(model())[1].runtime == "tensorrt"
    assert build(model(), runtime="tensorrt_rtx")[1].runtime == "tensorrt_rtx"
    assert build(model(), compute_capabilities=["8.6"])[1].runtime == "tensorrt_rtx"


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "10.13.0.35", "11.4.0.106", "rtx_1.7.1.116"])
def test_the_fake_has_what_the_version_has(version):
    """Against the names in NVIDIA's own bindings."""
    real = json.loads((SURFACES / f"{version}.json").read_text())
    trt = fake_tensorrt(version.removeprefix("rtx_"), rtx=version.startswith("rtx"))
    for enumeration, telling in {
        "NetworkDefinitionCreationFlag": {"EXPLICIT_BATCH", "STRONGLY_TYPED"},
        "BuilderFlag": {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS", "TF32", "GPU_FALLBACK"},
        "LayerType": {"CAST", "IDENTITY"},
    }.items():
        assert {name for name in telling if hasattr(getattr(trt, enumeration), name)} == telling & set(
            real[enumeration]
        )
    for name in ("IProgressMonitor", "ComputeCapability"):
        assert hasattr(trt, name) == (name in real)
    config = trt.Builder(None).create_builder_config()
    names = {name for name in dir(config) if not name.startswith("_")} - {"limits", "capabilities"}
    assert names <= set(real["IBuilderConfig"])
    for name in ("progress_monitor", "builder_optimization_level", "set_compute_capability"):
        assert (name in names) == (name in real["IBuilderConfig"])
    assert hasattr(trt.ParserError(0, "", ""), "node_name") == ("node_name" in real["ParserError"])


# --- the timing cache -----------------------------------------------------------------------------------


def cached(folder):
    (path,) = folder.iterdir()
    return path


def test_timings_are_kept_by_version_and_gpu(model, tensorrt, tmp_path):
    trt, folder = tensorrt("8.6.2"), tmp_path / "cache" / "structvpr"
    build(model())
    assert trt.told.cache == b""
    assert cached(folder).name == "tensorrt-8.6.2-Orin-nvgpu-16-SM.timing"
    build(model())
    assert trt.told.cache == b"8.6.2 timings "
    other = tensorrt("10.3.0")
    build(model())
    assert other.told.cache == b""
    assert len(list(folder.iterdir())) == 2


def test_timings_of_a_gpu_of_the_same_name_and_another_size_are_others(model, tensorrt, tmp_path, monkeypatch):
    """An AGX Orin, an Orin NX and an Orin Nano have one name and one compute capability."""
    trt = tensorrt("10.3.0")
    build(model())
    put_gpu(monkeypatch, 8)
    assert build(model())[1].multiprocessors == 8
    assert trt.told.cache == b""
    names = {path.name for path in (tmp_path / "cache" / "structvpr").iterdir()}
    assert names == {f"tensorrt-10.3.0-Orin-nvgpu-{count}-SM.timing" for count in (16, 8)}


def test_timings_in_a_folder_of_choice(model, tensorrt, tmp_path):
    tensorrt("10.3.0")
    build(model(), timing_cache=tmp_path / "a" / "b")
    assert cached(tmp_path / "a" / "b").name == "tensorrt-10.3.0-Orin-nvgpu-16-SM.timing"
    assert not (tmp_path / "cache").exists()


def test_home_is_the_last_resort(model, tensorrt, tmp_path, monkeypatch):
    tensorrt("10.3.0")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    build(model())
    assert cached(tmp_path / "home" / ".cache" / "structvpr").exists()


def test_user_without_a_home(model, tensorrt, tmp_path, monkeypatch):
    """Such as a container's `--user 12345`."""
    trt = tensorrt("10.3.0")
    monkeypatch.delenv("XDG_CACHE_HOME")

    def no_home(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    sentence = refused(WriteError, model(), "timing cache has no folder, because this user has no home")
    assert "--timing-cache" in sentence
    assert trt.told.config is None
    build(model(), timing_cache=tmp_path / "cache")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "folder"])
def test_damaged_timings_never_reach_tensorrt(model, tensorrt, tmp_path, damage):
    trt = tensorrt("10.3.0")
    build(model())
    path = cached(tmp_path / "cache" / "structvpr")
    data = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"cut": data[:-1], "flipped": data[:-1] + b"!", "empty": b""}[damage])
    build(model())
    assert trt.told.cache == b""
    if damage != "folder":
        build(model())
        assert trt.told.cache == b"10.3.0 timings "  # mended


def test_foreign_timings_are_ignored(model, tensorrt):
    trt = tensorrt("10.3.0")
    build(model())
    trt.reads_cache = lambda blob: blob == b""  # another GPU of this name, as TensorRT finds
    trt.told.cache = None
    build(model())
    assert trt.told.cache == b""


def test_unwritable_cache_is_found_before_the_build(model, tensorrt, tmp_path):
    trt = tensorrt("10.3.0")
    (tmp_path / "file").write_text("")
    sentence = refused(WriteError, model(), "timing cache cannot be kept in", timing_cache=tmp_path / "file" / "in")
    assert "--timing-cache" in sentence
    assert trt.told.config is None


def test_cache_that_fills_the_disk_costs_no_engine(model, tensorrt, monkeypatch):
    tensorrt("10.3.0")

    def full(path):
        raise WriteError("disk full")

    monkeypatch.setattr(timing_cache, "replace_when_done", full)
    engine, sidecar = build(model())
    assert require_intact(engine, sidecar)


def test_rtx_has_no_timings(model, tensorrt, tmp_path):
    tensorrt("1.7.1.116", rtx=True)  # whose fake fails if it is asked for one
    build(model())
    assert not (tmp_path / "cache").exists()


# --- progress -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0.106"])
def test_progress_is_tensorrts_own(model, tensorrt, version):
    tensorrt(version)
    told = []
    build(model(), progress=lambda *step: told.append(step))
    # Two steps, the first of which has four parts: its eighths, then the whole.
    assert told == [("building the engine", done, 1000) for done in (125, 250, 375, 500, 1000)]


def test_progress_ticks_without_a_monitor(model, tensorrt, monkeypatch):
    trt = tensorrt("8.6.2")
    told = []
    monkeypatch.setattr(monitor, "TICK_S", 0.01)
    build_once = trt.Builder.build_serialized_network

    def slowly(self, network, config):
        while len(told) < 4:
            pass
        return build_once(self, network, config)

    trt.Builder.build_serialized_network = slowly
    build(model(), progress=lambda *step: told.append(step))
    assert {(what, total) for what, _, total in told} == {("building the engine", 0)}
    assert told[0][1] == 0
    count = len(told)
    assert build(model()) is not None
    assert len(told) == count  # no thread lives on


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Refused("the bar broke")])
def test_progress_that_raises_stops_the_build_and_comes_out(model, tensorrt, error):
    """An exception must not travel through C++: the monitor stops the build, and the exception is raised after."""
    tensorrt("10.3.0")
    path = model()

    def progress(what, done, total):
        raise error

    with pytest.raises(type(error)) as caught:
        build(path, progress=progress)
    assert caught.value is error
    assert not path.with_suffix(".engine").exists()
    assert len(list(path.parent.glob(".*"))) == 0


def signalled(trt, number, returned):
    """Has the builder be sent a signal when it begins."""
    build_once = trt.Builder.build_serialized_network

    def interrupted(self, network, config):
        os.kill(os.getpid(), number)
        returned.append(build_once(self, network, config))
        return returned[0]

    trt.Builder.build_serialized_network = interrupted


class Signalled(BaseException):
    pass


@pytest.mark.parametrize("version", ["8.6.2", "10.3.0"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_taken_when_the_builder_has_stopped(model, tensorrt, version, number):
    trt = tensorrt(version)
    path, returned = model(), []
    signalled(trt, number, returned)

    def handler(received, _):
        raise Signalled(received)

    before = signal.signal(number, handler)
    try:
        with pytest.raises(Signalled) as caught:
            build(path)
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert caught.value.args == (number,)
    assert (returned == [None]) == (version == "10.3.0")  # stopped by the monitor, where there is one
    assert not path.with_suffix(".engine").exists()
    assert len(list(path.parent.glob(".*"))) == 0


def test_ctrl_c_interrupts(model, tensorrt):
    trt, path = tensorrt("10.3.0"), model()
    signalled(trt, signal.SIGINT, [])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            build(path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not path.with_suffix(".engine").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_that_is_ignored_stays_so(model, tensorrt, number):
    """As under nohup, or of a job in the background of a script."""
    trt, path = tensorrt("10.3.0"), model()
    signalled(trt, number, [])
    before = signal.signal(number, signal.SIG_IGN)
    try:
        engine, sidecar = build(path)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert require_intact(engine, sidecar)


def test_signal_that_ends_the_process_is_left_alone():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with monitor.interrupt_later():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


# --- what is refused ------------------------------------------------------------------------------------


def test_file_that_is_no_model(tmp_path, tensorrt):
    tensorrt("10.3.0")
    refused(EngineError, tmp_path / "none.onnx", r"none.onnx: cannot be read \(No such file")
    (tmp_path / "noise.onnx").write_bytes(b"\xff" * 64)
    refused(EngineError, tmp_path / "noise.onnx", r"noise.onnx: cannot be read \(it is no ONNX: ")


def rewrite(path, change):
    loaded = onnx.load(path)
    change(loaded)
    path.write_bytes(loaded.SerializeToString())
    return path


def no_opset(loaded):
    del loaded.opset_import[:]


def foreign_node(loaded):
    loaded.graph.node.append(helper.make_node("Foo", ["pixels"], ["z"], domain="foo"))


def bare_node(loaded):
    loaded.graph.node.add()


def relu_of_nothing(loaded):
    loaded.graph.node.append(helper.make_node("Relu", [], []))


def weight_of_no_type(loaded):
    loaded.graph.initializer[0].data_type = 99


@pytest.mark.parametrize("change", [no_opset, foreign_node, bare_node, relu_of_nothing, weight_of_no_type])
def test_graph_that_is_not_valid(model, tensorrt, change):
    trt = tensorrt("10.3.0")
    path = rewrite(model(), change)
    refused(EngineError, path, r"fp32.onnx: cannot be read \(its graph is not valid: ")
    assert trt.told.config is None


def test_frame_of_no_type(model, tensorrt):
    def change(loaded):
        loaded.graph.input[0].type.tensor_type.elem_type = 99

    tensorrt("10.3.0")
    refused(EngineError, rewrite(model(), change), r"cannot be read \(its graph is not valid: .* data type 99")


def test_operator_of_another_domain(model, tensorrt):
    def add(loaded):
        foreign_node(loaded)
        loaded.opset_import.append(helper.make_opsetid("foo", 1))

    tensorrt("10.3.0")
    refused(EngineError, rewrite(model(), add), "operator foo.Foo found")


@pytest.mark.parametrize("name", ["a\tb.onnx", "a\nb.onnx"])
def test_name_that_the_sidecar_cannot_have_is_found_before_the_build(model, tensorrt, name):
    trt, path = tensorrt("10.3.0"), model()
    renamed = path.rename(path.with_name(name))
    with pytest.raises(UsageError, match="cannot be printed; rename it") as caught:
        export_engine(renamed, path.with_name("a.engine"))
    assert str(caught.value).isprintable()
    assert trt.told.config is None


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ("fp32.onnx", "fp32.onnx: is the model itself, which would be replaced; choose another path"),
        ("link.engine", "link.engine: is the model itself"),
        ("a.onnx", r"a.onnx: is to be the engine, expected a name in .engine or .plan"),
        ("a.ENGINE", "expected a name in .engine or .plan"),
        ("a", "expected a name in .engine or .plan"),
        ("folder.engine", "folder.engine: it is a folder; name a file"),
        ("beside.engine", "beside.engine.json: it is a folder; name a file"),
        ("a" * 246 + ".engine", "cannot write .*: File name too long"),  # its sidecar's is
        ("", "is a folder; name a file"),
    ],
)
def test_place_that_cannot_have_the_engine_is_found_before_the_build(model, tensorrt, tmp_path, output, found):
    trt, path = tensorrt("10.3.0"), model()
    data = path.read_bytes()
    for folder in ("folder.engine", "beside.engine.json"):
        (tmp_path / folder).mkdir()
    (tmp_path / "link.engine").symlink_to(path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises((UsageError, WriteError), match=found) as caught:
        export_engine(path, tmp_path / output)
    assert "; " in str(caught.value) or ", expected " in str(caught.value)
    assert trt.told.config is None
    assert path.read_bytes() == data
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("suffix", [".engine", ".plan"])
def test_engine_may_be_called_a_plan(model, tensorrt, tmp_path, suffix):
    tensorrt("10.3.0")
    sidecar = export_engine(model(), tmp_path / f"a{suffix}")
    assert read_sidecar(tmp_path / f"a{suffix}") == sidecar


def test_model_without_contract(model, tensorrt):
    tensorrt("10.3.0")
    path = rewrite(model(), lambda m: m.metadata_props.pop())
    refused(ContractError, path, "carries no model contract")
    helper_path = rewrite(model(), lambda m: helper.set_model_props(m, {"contract": "{}"}))
    refused(ContractError, helper_path, "lacks")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"height": 64}, r"uint8\W+\[1, 32, 48, 3\].*expected .*uint8\W+\[1, 64, 48, 3\]"),
        ({"descriptor_dim": 9}, r"float\W+\[1, 8\].*expected .*float\W+\[1, 9\]"),
    ],
)
def test_model_that_is_not_its_contracts(model, tensorrt, changes, found):
    tensorrt("10.3.0")
    refused(ContractError, model("fp32", **changes), found)


@pytest.mark.parametrize(
    ("graph", "said"),
    [("fp32", "fp16"), ("fp32", "int8"), ("fp16", "fp32"), ("int8", "fp16"), ("int8 and fp16", "fp16")],
)
def test_precision_lives_in_the_graph(model, tensorrt, graph, said):
    tensorrt("8.6.2")
    found = graph.split()[0]
    refused(ContractError, model(graph, precision=said), f"has a graph in {found}, expected {said} by its contract")


def test_graph_that_is_misread_without_a_word(model, tensorrt):
    """TensorRT 8 reduces over all axes where they are an input, as from opset 18 on."""

    def use_opset_18(loaded):
        (node,) = (node for node in loaded.graph.node if node.op_type == "ReduceMean")
        del node.attribute[:]
        node.input.append("axes")
        loaded.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
        loaded.opset_import[0].version = 18

    path = rewrite(model(), use_opset_18)
    trt = tensorrt("8.6.2")
    refused(EngineError, path, "TensorRT 8.6: opset 18 found, expected at most 17; .*and 1 more")
    assert trt.told.config is None
    tensorrt("10.3.0")
    assert build(path)[1].runtime_version == "10.3.0"


@pytest.mark.parametrize(
    ("version", "target"),
    [
        *(("8.4.1", "8.5"), ("8.5.2", "8.5"), ("8.6.2.3", "8.6"), ("9.3.0", "8.6"), ("10.0.1", "10.3")),
        *(("10.3.0", "10.3"), ("10.12.0", "10.7"), ("10.16.2", "10.16"), ("11.4.0.106", "11"), ("12.0.0", "11")),
    ],
)
def test_release_whose_rules_are_asked(version, target):
    assert to_engine._target_of(version) == target


@pytest.mark.parametrize("version", ["8.6.2", "10.3.0"])
def test_graph_that_the_parser_refuses(model, tensorrt, version):
    trt = tensorrt(version)
    trt.parse_errors = [(3, "In node 3 (importConv):\n  UNSUPPORTED_NODE"), (0, "b"), (1, "c"), (2, "d")]
    sentence = refused(EngineError, model(), f"TensorRT {version} does not take its graph")
    found = "(node /features: In node 3 (importConv): UNSUPPORTED_NODE; node /pixels: b; node /centred: c, and 1 more)"
    assert found in sentence


@pytest.mark.parametrize(
    ("says", "remedy"),
    [
        (["Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)"], "give it less with --workspace"),
        (["a", "Could not find any implementation due to insufficient workspace."], "give it more with --workspace"),
        (["Could not find any implementation for node /features."], "another version of TensorRT"),
    ],
)
def test_build_without_an_engine(model, tensorrt, says, remedy):
    trt = tensorrt("10.3.0")
    path = model()
    engine, old = build(path)
    trt.says = says
    sentence = refused(EngineError, path, "built no engine")
    assert f"({says[-1]})" in sentence
    assert sentence.endswith(remedy)
    assert read_sidecar(engine) == old


def test_build_that_gives_no_reason(model, tensorrt):
    tensorrt("8.6.2").told.fail = True
    refused(EngineError, model(), "built no engine .it gave no reason.")


def test_exceptions_of_the_bindings(model, tensorrt, monkeypatch):
    trt = tensorrt("10.3.0")
    trt.told.fail = MemoryError("std::bad_alloc")
    refused(EngineError, model(), r"cannot build its engine \(std::bad_alloc\)")

    def no_builder(logger):
        logger.log(trt.ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    trt.Builder = no_builder
    refused(EngineError, model(), "cannot start its builder .CUDA initialization failure with error: 35.")


@pytest.mark.parametrize("method", ["create_builder_config", "create_network"])
def test_exceptions_of_the_bindings_before_the_build(model, tensorrt, method):
    trt = tensorrt("10.3.0")

    def fail(*_):
        raise TypeError("incompatible function arguments:\n    1. (self)")

    setattr(trt.Builder, method, fail)
    refused(EngineError, model(), r"cannot prepare its build \(incompatible function arguments: 1. \(self\)\)")


def test_timings_that_cannot_be_had_cost_no_engine(model, tensorrt, monkeypatch):
    trt = tensorrt("10.3.0")
    make_config = trt.Builder.create_builder_config

    def config_without_timings(self):
        config = make_config(self)
        config.get_timing_cache = lambda: 1 / 0
        return config

    trt.Builder.create_builder_config = config_without_timings
    engine, sidecar = build(model())
    assert require_intact(engine, sidecar)


def test_no_tensorrt(model, tensorrt, monkeypatch):
    tensorrt("10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    sentence = refused(EngineError, model(), "no TensorRT can be imported")
    assert "--system-site-packages" in sentence
    refused(EngineError, model(), "install tensorrt_rtx", compute_capabilities=["8.6"])


def test_driver_is_asked_before_tensorrt(model, tensorrt, monkeypatch):
    trt = tensorrt("10.3.0")

    def no_driver(needed_by, runtime):
        assert runtime == "tensorrt"
        raise EngineError(f"{needed_by}: there is no driver, expected one; install it")

    monkeypatch.setattr(to_engine, "require_driver", no_driver)
    trt.Builder = lambda _: pytest.fail("TensorRT was touched")
    refused(EngineError, model(), "there is no driver")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"workspace_mib": 0}, "the workspace is 0 MiB, expected 1 to 1048576"),
        ({"workspace_mib": 1 << 44}, "the workspace is 17592186044416 MiB"),
        ({"optimization_level": 6}, "the optimization level is 6"),
        ({"runtime": "cudnn"}, "the runtime is 'cudnn'"),
        ({"compute_capabilities": ["sm_86"]}, "a compute capability is 'sm_86'"),
        ({"compute_capabilities": ["8.6"], "runtime": "tensorrt"}, "or use tensorrt_rtx"),
    ],
)
def test_settings_out_of_range(model, tensorrt, options, found):
    tensorrt("10.3.0")
    refused(UsageError, model(), found, **options)


# --- the real TensorRT-RTX ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rtx():
    try:
        return importlib.import_module("tensorrt_rtx")
    except ImportError as error:
        if os.environ.get("STRUCTVPR_REQUIRE_RTX") == "1":
            pytest.fail(f"STRUCTVPR_REQUIRE_RTX=1, but tensorrt_rtx cannot be imported: {error}")
        pytest.skip("tensorrt_rtx is not installed: pip install tensorrt-rtx-cu13==1.7.1.116")


def is_a_plan(rtx, data):
    """Whether TensorRT-RTX, asked on a machine without a GPU, finds fault with the file itself."""
    logger = rtx.Logger(rtx.Logger.INTERNAL_ERROR)
    _, diagnostics = rtx.Runtime(logger).get_engine_validity(data)
    return not diagnostics & int(rtx.EngineInvalidityDiagnostics.MALFORMED_ENGINE)


def test_committed_model_is_really_built(rtx, tmp_path):
    engine, told = tmp_path / "a.engine", []
    settings = BuildSettings(compute_capabilities=("8.6",))
    sidecar = export_engine(MODEL, engine, settings, progress=lambda what, done, total: told.append((done, total)))
    assert read_sidecar(engine) == sidecar
    data = require_intact(engine, sidecar)
    assert len(data) > MODEL.stat().st_size / 2  # the weights are in it
    assert (sidecar.runtime, sidecar.runtime_version) == ("tensorrt_rtx", rtx.__version__)
    assert (sidecar.compute_capabilities, sidecar.gpu_name, sidecar.cuda_version) == (("8.6",), None, None)
    assert sidecar.onnx_sha256 == hashlib.sha256(MODEL.read_bytes()).hexdigest()
    assert json.loads((tmp_path / "a.engine.json").read_text())["contract"]["name"] == "efficientnet-lite0-gem"
    assert told == sorted(told)
    assert told[-1] == (1000, 1000)
    assert is_a_plan(rtx, data)
    assert not is_a_plan(rtx, b"{}" + data)


def test_ctrl_c_really_stops_the_build(rtx, model):
    path = model()
    with pytest.raises(KeyboardInterrupt):
        build(path, compute_capabilities=("8.6",), progress=lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert [p.name for p in path.parent.iterdir()] == ["fp32.onnx"]


@pytest.mark.parametrize("precision", WEAK_FLAGS)
def test_each_precision_is_really_built(rtx, model, precision):
    engine, sidecar = build(model(precision), compute_capabilities=("8.9",), runtime="tensorrt_rtx")
    assert is_a_plan(rtx, require_intact(engine, sidecar))


def test_real_parser_names_what_is_pinned(rtx, model):
    """The rule by which layers are pinned for TensorRT 8 finds the head among the layers of a real parser."""
    proto = make_model("fp16")
    logger = rtx.Logger(rtx.Logger.ERROR)
    network = rtx.Builder(logger).create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert rtx.OnnxParser(network, logger).parse(proto.SerializeToString())
    layers = [Recorder(network.get_layer(index)) for index in range(network.num_layers)]
    recorded = SimpleNamespace(num_layers=len(layers), get_layer=lambda index: layers[index])
    engine_build._pin_float32(rtx, recorded, proto)
    names = [layer.name for layer in layers if layer.pinned]
    assert {"/centred", "/cubes", "/mean_cube", "/gem", "/raw_descriptor", "three", "third", "mean"} <= set(names)
    assert {"/features", "/positive", "/planes"}.isdisjoint(names)
    assert not [layer.name for layer in layers if layer.pinned and layer.get_output(0).dtype != rtx.DataType.FLOAT]


class Recorder:
    """A real layer with the two setters that this TensorRT no longer has."""

    def __init__(self, layer):
        self._layer, self.pinned = layer, False

    def __getattr__(self, name):
        return getattr(self._layer, name)

    def set_output_type(self, index, dtype):
        self.pinned = True
