"""NVIDIA's own parser and compiler take what we export: built by TensorRT-RTX, which needs no GPU.

    pip install tensorrt-rtx-cu13==1.7.1.116 polygraphy==0.53.6
    STRUCTVPR_REQUIRE_RTX=1 pytest tests/export/graph/test_rtx.py      all of it; a missing package is a failure

Without that variable only the committed model is built, if the package is there. A pass does not prove that TensorRT
8.6 or 10.3 takes a graph: for these there are the rules of `export.graph.rules`, which are held here against RTX.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

REQUIRED = os.environ.get("STRUCTVPR_REQUIRE_RTX") == "1"
if not REQUIRED:
    pytest.importorskip("onnx", reason="the graphs are made with onnx (extra: export)")

import trap_graphs  # noqa: E402
from test_rules import REFUSED  # noqa: E402

MODEL = Path(__file__).parents[3] / "models" / "efficientnet-lite0-gem.onnx"
RTX, POLYGRAPHY = "tensorrt-rtx-cu13==1.7.1.116", "polygraphy==0.53.6"

# Head, precision and descriptor length of what is built; the weights of "grid" are random.
GRAPHS = [
    (head, precision, dim) for head, dim in (("gem", 472), ("grid", 512)) for precision in ("fp32", "fp16", "int8")
]
DESKTOP = ("SM86", "SM89", "SM120")  # the GPUs that TensorRT-RTX is made for: Ampere, Ada, Blackwell


def importable(name, requirement):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if REQUIRED:
            pytest.fail(f"STRUCTVPR_REQUIRE_RTX=1, but {name} cannot be imported: {error}")
        pytest.skip(f"{name} is not installed: pip install {requirement}")


@pytest.fixture(scope="module")
def trt():
    return importable("tensorrt_rtx", RTX)


class Rtx:
    """TensorRT-RTX and the errors that it logged. Made once: it knows one logger a process."""

    def __init__(self, trt):
        class Log(trt.ILogger):
            def __init__(self):
                trt.ILogger.__init__(self)
                self.errors = []

            def log(self, severity, message):
                if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                    self.errors.append(message)

        self.trt, self.log = trt, Log()
        self.builder = trt.Builder(self.log)

    def parse(self, data):
        """The network, None if the graph is refused; and the parser's errors."""
        self.log.errors.clear()
        network = self.builder.create_network(0)
        parser = self.trt.OnnxParser(network, self.log)
        accepted = parser.parse(data)
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        return (network if accepted else None), errors

    def build(self, network, capability):
        """The engine, None if it cannot be built for that architecture."""
        config = self.builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(self.trt.ComputeCapability, capability), 0)
        return self.builder.build_serialized_network(network, config)


@pytest.fixture(scope="module")
def rtx(trt):
    return Rtx(trt)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The ONNX file of a head in a precision, made on first use."""
    folder = tmp_path_factory.mktemp("graphs")
    made = {("gem", "fp32"): MODEL}

    def grid_from_checkpoint():
        torch = importable("torch", "'structvpr[export]'")
        from export.from_checkpoint.to_onnx import export_onnx
        from training.networks.checkpoint import save_checkpoint
        from training.networks.descriptor_net import DescriptorNet, make_contract

        torch.manual_seed(0)
        net = DescriptorNet("efficientnet_lite0", head="grid").eval()
        save_checkpoint(folder / "grid.pt", net, make_contract(net, "random grid"))
        report = export_onnx(folder / "grid.pt", folder / "grid-fp32.onnx")
        assert report.simplified, report.note
        return folder / "grid-fp32.onnx"

    def make(head, precision):
        if (head, precision) not in made:
            if not REQUIRED:
                pytest.skip("only the committed model is built unless STRUCTVPR_REQUIRE_RTX=1 (make ci-rtx)")
            if precision == "fp32":
                made[head, precision] = grid_from_checkpoint()
            else:
                from export.graph.synthetic_frames import synthetic_frames
                from export.precision.conversion import convert

                path = folder / f"{head}-{precision}.onnx"
                frames = synthetic_frames()[:4] if precision == "int8" else None
                convert(make(head, "fp32"), path, precision, calibration=frames)
                made[head, precision] = path
        return made[head, precision]

    return make


# --- what we export -------------------------------------------------------------------------------------


@pytest.mark.parametrize("capability", DESKTOP)
@pytest.mark.parametrize(("head", "precision", "dim"), GRAPHS)
def test_an_exported_graph_is_parsed_and_built(trt, rtx, exported, head, precision, dim, capability):
    path = exported(head, precision)
    network, errors = rtx.parse(path.read_bytes())
    assert network is not None, errors
    assert errors == []
    frame, raw = network.get_input(0), network.get_output(0)
    assert (network.num_inputs, network.num_outputs) == (1, 1)
    assert (frame.name, frame.dtype, tuple(frame.shape)) == ("frame", trt.DataType.UINT8, (1, 240, 320, 3))
    assert (raw.name, raw.dtype, tuple(raw.shape)) == ("raw_descriptor", trt.DataType.FLOAT, (1, dim))

    engine = rtx.build(network, capability)
    assert engine is not None, rtx.log.errors
    assert rtx.log.errors == []
    assert engine.nbytes > path.stat().st_size / 2  # the weights are in it


@pytest.mark.parametrize(("head", "precision", "dim"), GRAPHS)
def test_a_graph_computes_in_its_precision(trt, rtx, exported, head, precision, dim):
    """Strong typing: what the parser types as half or int8 is computed so, and nothing else is."""
    network, errors = rtx.parse(exported(head, precision).read_bytes())
    assert network is not None, errors
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    made = {(layer.get_output(0).dtype, layer.type) for layer in layers}
    kinds = {kind for kind, _ in made}
    assert (trt.DataType.INT8 in kinds) is (precision == "int8")
    if precision != "int8":
        assert ((trt.DataType.HALF, trt.LayerType.CONVOLUTION) in made) is (precision == "fp16")
        assert ((trt.DataType.FLOAT, trt.LayerType.CONVOLUTION) in made) is (precision == "fp32")
    # GeM's mean and the norms after it stay in float32, in every precision.
    assert {kind for kind, layer in made if layer == trt.LayerType.REDUCE} == {trt.DataType.FLOAT}


@pytest.mark.parametrize(("head", "precision", "dim"), GRAPHS)
def test_polygraphy_says_fully_supported(exported, tmp_path, head, precision, dim):
    said = polygraphy_says(exported(head, precision), tmp_path)
    assert "Graph is fully supported by TensorRT" in said, said


@pytest.mark.parametrize(("head", "precision", "dim"), GRAPHS)
def test_the_rules_let_every_target_take_it(exported, head, precision, dim):
    import onnx

    from export.graph.rules import TARGETS, targets_that_take

    assert targets_that_take(onnx.load(exported(head, precision))) == TARGETS


# --- where else -----------------------------------------------------------------------------------------


def test_the_architectures_that_rtx_knows(trt):
    """No Jetson: Orin is 8.7 and Thor 11.0; nor the data centre's 9.0 and 10.0. True of 1.7.1."""
    known = {name for name in dir(trt.ComputeCapability) if name.startswith("SM")}
    assert known == {"SM75", "SM80", "SM86", "SM89", "SM120", "SM121"}


@pytest.mark.parametrize("capability", ["SM75", "SM80", "SM121"])
def test_the_committed_model_is_built_for_the_rest_of_them(rtx, capability):
    network, errors = rtx.parse(MODEL.read_bytes())
    assert rtx.build(network, capability) is not None, [*errors, *rtx.log.errors]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_turing_has_no_float32_product_for_the_grid_head(rtx, exported, precision):
    """The head is float32 in every precision."""
    network, _ = rtx.parse(exported("grid", precision).read_bytes())
    assert rtx.build(network, "SM75") is None
    assert "FP32 GEMM is not supported" in " ".join(rtx.log.errors)


# --- what must be refused -------------------------------------------------------------------------------


def test_a_damaged_model_is_refused(rtx):
    data = MODEL.read_bytes()
    network, _ = rtx.parse(data[: len(data) // 2])
    assert network is None


def test_int8_for_onnx_runtime_is_not_for_tensorrt(rtx, exported, tmp_path):
    import onnx

    from export.graph.rules import targets_that_take
    from export.graph.synthetic_frames import synthetic_frames
    from export.precision.conversion import convert

    exported("gem", "fp16")  # skips where not all is built
    convert(MODEL, tmp_path / "x86.onnx", "int8", calibration=synthetic_frames()[:1], flavour="onnxruntime")
    assert targets_that_take(onnx.load(tmp_path / "x86.onnx")) == ()
    network, errors = rtx.parse((tmp_path / "x86.onnx").read_bytes())
    assert network is None
    assert "input has type Int32" in errors[0]


# Where the rules are stricter: RTX looks into branches, which they do not; and it takes a Q/DQ that means uint8, by its
# zero point or for want of one, for int8, which saturates elsewhere.
STRICTER = ("a graph inside If", "uint8")
SHARED = [
    pytest.param(trap, twin, id=word)
    for _, trap, twin, refusing, word in REFUSED
    if "rtx" in refusing and word not in STRICTER
]


@pytest.mark.parametrize(("trap", "twin"), SHARED)
def test_what_the_rules_refuse_for_rtx_it_refuses_itself(rtx, trap, twin):
    network, _ = rtx.parse(trap.SerializeToString())
    assert network is None or rtx.build(network, "SM86") is None
    network, errors = rtx.parse(twin.SerializeToString())
    assert network is not None, errors


def test_polygraphy_would_say_that_a_graph_is_not_supported(tmp_path):
    """It leaves with 0 all the same, so its words are what is asserted above."""
    (tmp_path / "det.onnx").write_bytes(trap_graphs.simple("Det").SerializeToString())
    said = polygraphy_says(tmp_path / "det.onnx", tmp_path)
    assert "fully supported" not in said
    assert "Det" in said


def polygraphy_says(path, folder):
    importable("tensorrt_rtx", RTX)
    importable("polygraphy", POLYGRAPHY)
    result = subprocess.run(
        [Path(sys.executable).with_name("polygraphy"), "inspect", "capability", path],
        cwd=folder,
        env={**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout + result.stderr
