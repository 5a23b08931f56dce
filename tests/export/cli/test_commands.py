"""`structvpr export precision|engine|verify`: what is written, what is printed, and how they end.

The conversion and the build have tests of their own; here each is a copy with something changed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="exporting needs onnx (extra: export)")

sys.path.append(str(Path(__file__).parents[2] / "sdk"))

import fake_tensorrt  # noqa: E402
from fake_builder import fake_tensorrt as fake_builder  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402
from tiny_networks import DIM, change_weights, contract, ended_by, network, rounded, save, write_pictures  # noqa: E402

from export.engine import from_onnx as to_engine  # noqa: E402
from export.precision.conversion import ConversionReport  # noqa: E402
from sdk.backends import cuda as cuda_module  # noqa: E402
from sdk.backends import trt as trt_module  # noqa: E402
from sdk.backends.engine_sidecar import EngineSidecar  # noqa: E402
from sdk.cli import main  # noqa: E402


@pytest.fixture
def run(capfd):
    """Run a verb of `structvpr export`; gives exit code, stdout and stderr."""

    def call(*words):
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main(["export", *map(str, words)])
        return left.value.code, *capfd.readouterr()

    return call


@pytest.fixture
def refused(run):
    """Run a verb that must end in one sentence; gives it."""

    def call(*words):
        code, out, err = run(*words)
        assert (code, out) == (2, ""), err
        assert err.startswith("structvpr: ")
        assert err.count("\n") == 1
        assert "; " in err or ", expected " in err
        return err

    return call


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_pictures(folder, [f"{i:02}.png" for i in range(15)])
    return folder


@pytest.fixture(scope="module")
def campus(tmp_path_factory):
    root = tmp_path_factory.mktemp("campus")
    write_pictures(root / "database", [f"@{1000 + 100 * i}@0@.png" for i in range(12)])
    write_pictures(root / "queries", [f"@{1000 + 100 * i + 5}@0@.png" for i in range(12)], noise=20.0)
    return ["--database_folder", root / "database", "--queries_folder", root / "queries"]


@pytest.fixture
def model(tmp_path):
    (tmp_path / "work").mkdir()
    return save(tmp_path / "work" / "model.onnx", network())


def good(model):
    return change_weights(model, lambda kernel: rounded(kernel, 12))


def bad(model):
    return ended_by(model, "Mul", np.arange(DIM) % 2)


@pytest.fixture
def converting(monkeypatch):
    """Install a conversion; gives the arguments that it was called with."""
    calls = []

    def install(change):
        def convert(onnx_path, output_path, precision, *, calibration=None, flavour=None, progress=None):
            calls.append({"precision": precision, "calibration": calibration, "flavour": flavour})
            save(Path(output_path), change(onnx.load(onnx_path)), precision=precision)
            progress("converting", 1, 1)
            made = contract(precision=precision)
            return ConversionReport(str(output_path), 1_500_000, "0" * 64, made, {"Conv": 1}, flavour or "", 7, 0)

        monkeypatch.setattr("export.precision.gated.convert", convert)
        return calls

    return install


@pytest.fixture
def building(monkeypatch):
    """Install a build whose engine is an ONNX file; it judges before it writes, as the true one does."""
    calls = []

    def install(change):
        def export_engine(onnx_path, engine_path, settings, *, judge=None, progress=None):
            calls.append(asdict(settings))
            precision = json.loads(onnx.load(onnx_path).metadata_props[0].value)["precision"]
            engine_path = Path(engine_path)
            unfinished = engine_path.with_name("unfinished.onnx")
            save(unfinished, change(onnx.load(onnx_path)), precision=precision)
            try:
                verdict = judge(unfinished) if judge else None
                unfinished.rename(engine_path)
            finally:
                unfinished.unlink(missing_ok=True)
            return EngineSidecar(
                contract=contract(precision=precision),
                runtime="tensorrt",
                runtime_version="10.3.0",
                compute_capabilities=("8.7",),
                gpu_name="Orin",
                multiprocessors=16,
                cuda_version="12.6",
                l4t=None,
                dla_core=None,
                onnx_name=Path(onnx_path).name,
                onnx_sha256="0" * 64,
                engine_sha256="1" * 64,
                engine_bytes=1_500_000,
                built_at="2026-11-23T12:00:00+00:00",
                build_s=12.3,
                gate=verdict,
            )

        monkeypatch.setattr("export.engine.gated.export_engine", export_engine)
        return calls

    return install


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- precision -------------------------------------------------------------------------------------------


def test_precision_writes_what_passes(model, photos, run, converting):
    calls = converting(good)
    output = model.with_name("half.onnx")
    code, out, err = run("precision", model, "-o", output, "--precision", "fp16", "--frames", photos)
    assert (code, err) == (0, "")
    assert calls == [{"precision": "fp16", "calibration": None, "flavour": None}]
    assert names(model.parent) == ["half.onnx", "model.onnx"]
    assert "the gate: passed, judged by mean cosine and top-1 agreement" in out
    assert "half.onnx (fp16) beside model.onnx (fp32)" in out
    assert re.search(f"written +{output}, 1.5 MB", out)
    assert "1 Conv" in out  # what the conversion says of itself


def test_precision_writes_nothing_that_does_not_pass(model, photos, run, converting):
    converting(bad)
    words = ["precision", model, "-o", model.with_name("half.onnx"), "--precision", "fp16", "--frames", photos]
    code, out, err = run(*words)
    assert (code, err) == (1, "")
    assert names(model.parent) == ["model.onnx"]
    assert "the gate: not passed" in out
    assert "the mean cosine is 0." in out
    assert "--keep writes it" in out
    code, out, _ = run(*words, "--keep")
    assert code == 1
    assert names(model.parent) == ["half.onnx", "model.onnx"]
    model.with_name("half.onnx").unlink()
    code, out, _ = run(*words, "--no-gate")
    assert code == 0
    assert "the gate" not in out
    assert names(model.parent) == ["half.onnx", "model.onnx"]


def test_precision_as_json(model, photos, run, converting):
    converting(bad)
    output = model.with_name("half.onnx")
    code, out, err = run("precision", model, "-o", output, "--precision", "fp16", "--frames", photos, "--json")
    record = json.loads(out)
    assert (code, err) == (1, "")
    assert record["written"] is False
    assert record["path"] == str(output)
    assert record["contract"]["precision"] == "fp16"
    assert record["gate"]["passed"] is False
    assert record["gate"]["figures"]["frames"] == 15


def test_int8_is_held_against_the_recall(model, campus, photos, run, converting):
    calls = converting(good)
    output = model.with_name("int8.onnx")
    words = ["precision", model, "-o", output, "--precision", "int8", "--calibration", photos, *campus]
    words += ["--positive_dist_threshold", 25, "--flavour", "onnxruntime"]
    # Queries and photographs are other pictures here: the first seeds are the same, but the noise is not.
    code, out, _ = run(*words)
    assert code == 1
    assert calls == [{"precision": "int8", "calibration": photos, "flavour": "onnxruntime"}]
    assert "undecided: " in out
    assert "about 299 queries" in out
    code, out, _ = run(*words, "--max-recall-drop", 30)
    assert code == 0
    assert "passed, judged by mean cosine and loss of R@1" in out
    assert "within 25 m, 12 queries" in out
    code, out, _ = run(*words, "--max-recall-drop", 30, "--min-cosine", 1)
    assert code == 1


def test_precision_is_refused(model, photos, campus, tmp_path, refused, converting):
    calls = converting(good)
    output = ["-o", model.with_name("out.onnx")]
    fp16, int8 = ["--precision", "fp16"], ["--precision", "int8"]
    assert "'bf16', expected fp16 or int8" in refused("precision", model, *output, "--precision", "bf16")
    assert "no frames to judge on were named" in refused("precision", model, *output, *fp16)
    assert "expected 0 to 1" in refused("precision", model, *output, *fp16, "--frames", photos, "--min-cosine", 2)
    queries = campus[-1]
    assert "one to calibrate on" in refused("precision", model, *output, *int8, "--calibration", queries, *campus)
    assert "one to calibrate on" in refused(
        "precision", model, *output, *int8, "--calibration", photos, "--frames", photos
    )
    assert "cannot write" in refused(
        "precision", model, "-o", tmp_path / "nope" / "out.onnx", *fp16, "--frames", photos
    )
    (model.parent / "folder").mkdir()
    assert "cannot write" in refused("precision", model, "-o", model.parent / "folder", *fp16, "--frames", photos)
    assert "--max-recall-drop needs known true places; give --dataset or" in refused(
        "precision", model, *output, *fp16, "--frames", photos, "--max-recall-drop", 1
    )
    before = model.read_bytes()
    (model.parent / "link.onnx").symlink_to(model)
    for path in (model, model.parent / "link.onnx", model.parent / "folder" / ".." / "model.onnx"):
        assert "is the model itself" in refused("precision", model, "-o", path, *fp16, "--no-gate")
    assert "cannot write" in refused("precision", model, "-o", model.with_name(300 * "a" + ".onnx"), *fp16, "--no-gate")
    for suffix in (".engine", ".plan"):
        sentence = refused("precision", model, "-o", model.with_suffix(suffix), *fp16, "--no-gate")
        assert "ends like a TensorRT engine, expected .onnx" in sentence
    assert calls == []
    assert model.read_bytes() == before
    assert names(model.parent) == ["folder", "link.onnx", "model.onnx"]


def test_frames_that_cannot_be_judged_by_are_refused_before_the_work(model, tmp_path, refused, converting, building):
    conversions, builds = converting(good), building(good)
    few = tmp_path / "few"
    write_pictures(few, [f"{i}.png" for i in range(9)])
    damaged = tmp_path / "damaged"
    write_pictures(damaged, [f"{i:02}.png" for i in range(12)])
    (damaged / "11.png").write_bytes(b"")
    for words in (
        ["precision", model, "-o", model.with_name("b.onnx"), "--precision", "fp16"],
        ["engine", model, "-o", model.with_name("b.engine")],
    ):
        assert "9 frames to judge on were given, expected at least 10" in refused(*words, "--frames", few)
        assert "11.png: cannot be decoded (0 bytes)" in refused(*words, "--frames", damaged)
    assert conversions == builds == []
    assert names(model.parent) == ["model.onnx"]


# --- engine ----------------------------------------------------------------------------------------------


def test_engine_is_built_and_judged(model, photos, run, building):
    calls = building(good)
    output = model.with_name("engine.onnx")
    words = ["--workspace", 512, "--dla", 1, "--timing-cache", model.parent, "--optimization-level", 5]
    code, out, err = run("engine", model, "-o", output, "--frames", photos, *words)
    assert (code, err) == (0, "")
    assert calls == [
        {
            "workspace_mib": 512,
            "timing_cache": model.parent,
            "dla_core": 1,
            "compute_capabilities": (),
            "runtime": None,
            "optimization_level": 5,
        }
    ]
    assert "the gate: passed" in out
    assert "Orin of compute capability 8.7" in out
    assert names(model.parent) == ["engine.onnx", "model.onnx"]


def test_an_engine_that_does_not_pass_is_not_written(model, photos, run, building):
    building(bad)
    words = ["engine", model, "-o", model.with_name("engine.onnx"), "--frames", photos]
    code, out, err = run(*words)
    assert (code, err) == (1, "")
    assert "is not written" in out
    assert names(model.parent) == ["model.onnx"]
    code, out, _ = run(*words, "--keep", "--json")
    assert code == 1
    record = json.loads(out)
    assert record["gate"]["passed"] is False
    assert record["sidecar"]["gate"] == record["gate"]
    assert names(model.parent) == ["engine.onnx", "model.onnx"]


@pytest.mark.parametrize("words", [["--no-gate"], ["--frames", "PHOTOS", "--no-gate"]])
def test_an_engine_that_is_not_judged_says_so(model, photos, run, building, words):
    building(bad)
    words = [photos if word == "PHOTOS" else word for word in words]
    code, out, _ = run("engine", model, "-o", model.with_name("engine.onnx"), *words)
    assert code == 0
    assert "not judged: run `structvpr export verify" in out


def test_an_engine_of_reduced_precision_is_held_against_fp32(model, photos, run, refused, building):
    building(good)
    half = save(model.with_name("half.onnx"), network(), precision="fp16")
    output = model.with_name("engine.onnx")
    sentence = refused("engine", half, "-o", output, "--frames", photos)
    assert "is in fp16, expected the model in fp32 to judge the engine against" in sentence
    code, out, _ = run("engine", half, "-o", output, "--frames", photos, "--reference", model)
    assert code == 0
    assert "(fp16) beside model.onnx (fp32)" in out


def test_engine_is_refused(model, photos, refused, building):
    """What the gate would refuse, before the build."""
    calls = building(good)
    words = ["engine", model, "-o", model.with_name("b.engine")]
    assert "no frames to judge on were named" in refused(*words)
    words += ["--frames", photos]
    assert "--max-recall-drop needs known true places; give --dataset or" in refused(*words, "--max-recall-drop", 1)
    other = save(model.with_name("other.onnx"), network(), weights="b" * 64)
    assert "other.onnx: is of another network than" in refused(*words, "--reference", other)
    half = save(model.with_name("half.onnx"), network(), precision="fp16")
    assert "half.onnx: is in fp16, expected the model in fp32" in refused(*words, "--reference", half)
    before = model.read_bytes()
    for last in (["--frames", photos], ["--no-gate"]):
        sentence = refused("engine", half, "-o", model, "--reference", model, *last)
        assert "model.onnx: is also --reference, which would be replaced; choose another path" in sentence
    assert calls == []
    assert model.read_bytes() == before
    assert names(model.parent) == ["half.onnx", "model.onnx", "other.onnx"]


@pytest.fixture
def mean_model(tmp_path):
    """In ONNX and fp32 what the fake TensorRT computes: the mean of each channel."""
    made = replace(fake_tensorrt.CONTRACT, precision="fp32")
    nodes = [
        helper.make_node("Cast", ["frame"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["raw_descriptor"], axes=[1, 2], keepdims=0),
    ]
    ports = [("frame", TensorProto.UINT8, [1, made.height, made.width, 3])]
    ports += [("raw_descriptor", TensorProto.FLOAT, [1, made.descriptor_dim])]
    before, after = (helper.make_tensor_value_info(*port) for port in ports)
    graph = helper.make_graph(nodes, "means", [before], [after])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"contract": made.to_json()})
    (tmp_path / "built").mkdir()
    onnx.save(model, tmp_path / "built" / "model.onnx")
    return tmp_path / "built" / "model.onnx"


@pytest.fixture
def jetson(monkeypatch, tmp_path):
    """TensorRT and CUDA to build with and to run, both fake."""
    cuda, trt = fake_tensorrt.FakeCuda(), fake_builder("10.3.0")
    trt.told.plan = fake_tensorrt.PLAN
    runtime = fake_tensorrt.make_tensorrt("10.3.0", cuda, replace(fake_tensorrt.CONTRACT, precision="fp32"))
    severity, trt.ILogger = trt.ILogger.Severity, runtime.ILogger
    trt.ILogger.Severity = severity
    for name in ("Runtime", "ICudaEngine", "IExecutionContext"):
        setattr(trt, name, getattr(runtime, name))
    driver = {"version": "12.6", "devices": 1, "code": 0}
    module = types.ModuleType("tensorrt")
    module.__dict__.update(vars(trt))
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(cuda_module, "cuda_driver", lambda: driver)
    monkeypatch.setattr(cuda_module, "_cuda_major", lambda runtime: None)
    monkeypatch.setattr(to_engine, "open_cuda", fake_tensorrt.FakeCuda)  # asked what GPU it is, and closed
    monkeypatch.setattr(trt_module, "open_cuda", lambda: cuda)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


BROKEN_ENGINES = {
    "zeros": lambda frame: np.zeros((1, 3), np.float32),
    "constant": lambda frame: np.ones((1, 3), np.float32),
    "channels swapped": lambda frame: frame.mean(axis=(1, 2), dtype=np.float32)[:, ::-1],
}


@pytest.mark.parametrize("how", BROKEN_ENGINES)
def test_a_broken_engine_of_tensorrt_is_not_written(mean_model, photos, run, jetson, monkeypatch, how):
    """The whole way but for the GPU: built, loaded by the backend that a robot loads it by, asked, and thrown away."""
    output = mean_model.with_name("model.engine")
    words = ["engine", mean_model, "-o", output, "--frames", photos, "--runtime", "tensorrt"]
    monkeypatch.setattr(fake_tensorrt, "network", BROKEN_ENGINES[how])
    code, out, _ = run(*words)
    assert code == 1, out
    assert "the gate: not passed" in out
    assert names(mean_model.parent) == ["model.onnx"]


def test_a_faithful_engine_of_tensorrt_is_written_with_what_the_gate_found(mean_model, photos, run, jetson):
    output = mean_model.with_name("model.engine")
    code, out, err = run("engine", mean_model, "-o", output, "--frames", photos, "--runtime", "tensorrt")
    assert (code, err) == (0, ""), out
    assert names(mean_model.parent) == ["model.engine", "model.engine.json", "model.onnx"]
    assert json.loads(Path(f"{output}.json").read_text())["gate"]["passed"] is True


def test_engines_for_other_machines(model, photos, run, refused, building):
    calls = building(good)
    words = ["engine", model, "-o", model.with_name("engine.onnx"), "--for", "8.6, 8.9"]
    assert "where the GPU is" in refused(*words, "--frames", photos)
    assert calls == []
    assert run(*words)[0] == 0
    assert calls[0]["compute_capabilities"] == ("8.6", "8.9")


# --- verify ----------------------------------------------------------------------------------------------


def test_verify(model, photos, run):
    other = save(model.with_name("b.onnx"), good(network()), precision="fp16")
    code, out, err = run("verify", model, other, "--frames", photos)
    assert (code, err) == (0, "")
    assert "cosine: mean" in out
    assert "the gate: passed" in out
    record = json.loads(run("verify", model, other, "--frames", photos, "--json")[1])
    assert record["passed"] is True
    assert record["figures"]["mean_cosine"] > 0.999


def test_verify_ends_with_1_below_the_thresholds(model, photos, campus, run):
    other = save(model.with_name("b.onnx"), bad(network()), precision="int8")
    assert run("verify", model, other, "--frames", photos)[0] == 1
    code, out, _ = run("verify", model, other, "--frames", photos, "--no-gate")
    assert code == 0
    assert "the gate" not in out
    code, out, _ = run("verify", model, other, *campus, "--no-gate", "--json")
    assert code == 0
    assert set(json.loads(out)["figures"]["reference_recall"]) == {"R@1", "R@5"}
    code, out, _ = run("verify", model, model, *campus)
    assert code == 0
    assert "candidate, reference's map" in out
    assert run("verify", model, model, "--frames", photos, "--min-cosine", 0.99999, "--min-top1-agreement", 1)[0] == 0


def test_verify_is_refused(model, photos, tmp_path, refused):
    other = save(model.with_name("b.onnx"), network(), weights="b" * 64)
    assert "is of another network" in refused("verify", model, other, "--frames", photos)
    assert "no frames to judge on were named" in refused("verify", model, model)
    assert "nope.onnx" in refused("verify", model, model.with_name("nope.onnx"), "--frames", photos)
    damaged = tmp_path / "damaged"
    write_pictures(damaged, ["0.png", "1.png"])
    assert "2 frames to judge on were given, expected at least 10" in refused(
        "verify", model, model, "--frames", damaged
    )
    (damaged / "1.png").write_bytes(b"")
    assert "1.png: cannot be decoded (0 bytes)" in refused("verify", model, model, "--frames", damaged, "--no-gate")
    half = save(model.with_name("half.onnx"), network(), precision="fp16")
    assert "half.onnx: is in fp16, expected the model in fp32" in refused("verify", half, model, "--frames", photos)
    few = ["--precision", "int8", "--calibration", damaged, "--no-gate"]
    assert "holds 2 frames, expected at least 10 to calibrate on" in refused(
        "precision", model, "-o", tmp_path / "q.onnx", *few
    )
    assert not (tmp_path / "q.onnx").exists()


# --- all of them -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "words", "named"),
    [
        ("engine", ["--for", "8.6", "--min-cosine", 0.9], "--min-cosine has no effect with --for"),
        ("engine", ["--for", "8.6", "--max-recall-drop", 1], "--max-recall-drop has no effect with --for"),
        ("engine", ["--for", "8.6", "--keep"], "--keep have no effect"),
        ("engine", ["--for", "8.6", "--reference", "MODEL"], "--reference and --keep have no effect"),
        ("engine", ["--for", "8.6", "--timing-cache", "."], "--timing-cache or --for"),
        ("engine", ["--no-gate", "--min-cosine", 0.9], "--min-cosine has no effect with --no-gate"),
        ("engine", ["--no-gate", "--reference", "MODEL"], "--reference have no effect with --no-gate"),
        ("precision", ["--precision", "fp16", "--flavour", "tensorrt"], "flavour 'tensorrt' applies to int8 only"),
        ("precision", ["--precision", "fp16", "--no-gate", "--keep"], "--keep has no effect with --no-gate"),
        ("precision", ["--precision", "fp16", "--frames", "PHOTOS", "--positive_dist_threshold", 9], "leave it out"),
        ("verify", ["--min-top1-agreement", 1, "--max-recall-drop", 1], "no effect with --max-recall-drop"),
        ("verify", ["--frames", "PHOTOS", "--no-gate", "--min-top1-agreement", 1], "has no effect with --no-gate"),
    ],
)
def test_options_that_do_nothing_are_refused(verb, words, named, model, photos, refused, converting, building):
    conversions, builds = converting(good), building(good)
    files = [model, model] if verb == "verify" else [model, "-o", model.with_name("b.out")]
    words = [{"MODEL": model, "PHOTOS": photos}.get(word, word) for word in words]
    assert named in refused(verb, *files, *words)
    assert conversions == builds == []


@pytest.mark.parametrize("verb", ["onnx", "precision", "engine", "verify"])
def test_help_teaches(verb, run):
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert f"structvpr export {verb} " in out  # an example
    assert "--json" in out


def test_verify_needs_no_torch_and_no_onnx(model, photos):
    """It runs on the device, where the extra may be missing."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxsim'): sys.modules[name] = None\n"
        "from sdk.cli import main; main()"
    )
    words = ["export", "verify", str(model), str(model), "--frames", str(photos)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the gate: passed" in done.stdout
