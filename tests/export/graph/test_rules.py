"""Each known trap is found, for the releases that have it and no others; the committed model holds none.

What TensorRT-RTX itself says of the same graphs is asked in test_rtx.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the rules read graphs with onnx (extra: export)")

import onnx
import trap_graphs as graphs
from onnx import TensorProto

from export.graph.rules import TARGETS, check_graph, targets_that_take
from sdk import UsageError

MODEL = Path(__file__).parents[3] / "models" / "efficientnet-lite0-gem.onnx"

OLD = ("8.5", "8.6")
TEN = ("10.3", "10.7", "10.13", "10.16")
ALL = TARGETS
DOUBLE, HALF, BRAIN, INT32 = TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT32

# rule, a graph with the trap, the same without, who refuses the first, a word of the finding
REFUSED = [
    ("opset", graphs.reduction("ReduceSum", 18), graphs.reduction("ReduceSum", 17), OLD, "opset 18"),
    ("opset", graphs.reduction("ReduceSum", 24), graphs.reduction("ReduceSum", 17), (*OLD, *TEN[:3]), "opset 24"),
    ("operator", graphs.simple("Det"), graphs.simple("Relu"), ALL, "operator Det"),
    ("operator", graphs.simple("Hardmax"), graphs.simple("Softmax"), OLD, "operator Hardmax"),
    ("operator", graphs.simple("IsInf"), graphs.simple("IsNaN"), ("8.5",), "operator IsInf"),
    ("operator", graphs.simple("Foo", "a.b"), graphs.simple("Relu"), ALL, "operator a.b.Foo"),
    ("operator", graphs.branch(), graphs.simple("Relu"), ALL, "a graph inside If"),
    ("static_shape", graphs.shape_of("n"), graphs.shape_of(1), ALL, "dynamic shape"),
    ("reduce_axes", graphs.reduction("ReduceMean", 18), graphs.reduction("ReduceMean", 17), OLD, "as an input"),
    (
        "reduce_axes",
        graphs.reduction("ReduceSum", constant=False),
        graphs.reduction("ReduceSum"),
        ALL,
        "computed axes",
    ),
    ("constant_input", graphs.inverse("Unsqueeze", False), graphs.inverse("Unsqueeze"), (*OLD, "10.3"), "computed"),
    ("constant_input", graphs.inverse("Squeeze", False), graphs.inverse("Squeeze"), (*OLD, "10.3"), "computed"),
    ("uint8", graphs.transpose_first(), graphs.cast_first(), ALL, "Transpose of the uint8 input frame"),
    ("uint8", graphs.cast_first(INT32), graphs.cast_first(HALF), (*OLD, "10.3"), "to int32"),
    ("uint8", graphs.through(TensorProto.UINT8), graphs.through(INT32), ALL, "inside the graph"),
    ("wide_type", graphs.through(BRAIN), graphs.through(HALF), OLD, "bfloat16"),
    ("wide_type", graphs.added(2**31), graphs.added(2**31 - 1), OLD, "beyond int32"),
    ("quantized_type", graphs.quantized(np.uint8(0)), graphs.quantized(), ALL, "uint8"),
    ("quantized_type", graphs.quantized(None), graphs.quantized(), ALL, "uint8"),
    ("quantized_type", graphs.quantized(np.int8(3)), graphs.quantized(), ALL, "zero point 3 found"),
    ("quantized_type", graphs.quantized_convolution(bias=np.int32), graphs.quantized_convolution(), ALL, "of int32"),
    ("quantized_scale", graphs.quantized(scale=np.float32(-0.1)), graphs.quantized(), ALL, "not positive"),
    ("quantized_scale", graphs.quantized(scale=np.float32(np.nan)), graphs.quantized(), ALL, "not positive"),
    ("quantized_axis", graphs.quantized_by_channel(), graphs.quantized(), (*OLD, *TEN), "4 scales"),
    (
        "quantized_axis",
        graphs.quantized_convolution(axis=1),
        graphs.quantized_convolution(axis=0),
        (*OLD, *TEN),
        "axis 1 found, expected axis 0",
    ),
]

# rule, a graph that is taken but of which something is said, the same without, by whom, a word of the finding
TAKEN = [
    ("typing", graphs.through(HALF), graphs.simple("Relu"), OLD, "OBEY_PRECISION_CONSTRAINTS"),
    ("typing", graphs.quantized(), graphs.simple("Relu"), OLD, "build with INT8"),
    ("quantized_weight", graphs.quantized_convolution(), graphs.quantized(), (*OLD, *TEN[:2]), "stored as int8"),
    ("constant_input", graphs.clip(constant=False), graphs.clip(), OLD, "computed bounds"),
    ("wide_type", graphs.through(DOUBLE), graphs.through(HALF), ALL, "float64"),
]


def of_rule(model, rule):
    return [finding for finding in check_graph(model) if finding.rule == rule]


def words(value):
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("rule", "trap", "twin", "refusing", "word"), REFUSED, ids=words)
def test_a_trap_is_refused_by_those_that_have_it(rule, trap, twin, refusing, word):
    findings = of_rule(trap, rule)
    assert tuple(dict.fromkeys(f.target for f in findings)) == refusing
    assert all(f.refused and f.remedy and word in f.found for f in findings), findings
    assert set(targets_that_take(trap)).isdisjoint(refusing)
    assert set(refusing) <= set(targets_that_take(twin))
    assert of_rule(twin, rule) == [f for f in of_rule(twin, rule) if not f.refused]


@pytest.mark.parametrize(("rule", "trap", "twin", "saying", "word"), TAKEN, ids=words)
def test_what_the_build_must_know_is_said_and_nothing_refused(rule, trap, twin, saying, word):
    findings = of_rule(trap, rule)
    assert tuple(f.target for f in findings) == saying
    assert all(not f.refused and word in str(f) for f in findings), findings
    assert targets_that_take(trap) == TARGETS
    assert of_rule(twin, rule) == []


def test_a_computed_k_is_refused_by_8_5_alone():
    values = onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    inputs = [
        onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 9]),
        onnx.helper.make_tensor_value_info("k", TensorProto.INT64, [1]),
    ]
    graph = onnx.helper.make_graph([onnx.helper.make_node("TopK", ["x", "k"], ["y", "i"])], "g", inputs, [values])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    assert targets_that_take(model) == tuple(t for t in TARGETS if t != "8.5")


def test_scales_of_float16_are_refused_where_their_bytes_are_read_as_float32():
    quantized = graphs.quantized(scale=np.float16(0.1))  # valid from opset 19 on
    assert {f.target for f in of_rule(quantized, "quantized_scale")} == set(OLD)


def test_a_constant_node_is_as_good_as_an_initializer():
    model = graphs.reduction("ReduceSum")
    (axes,) = model.graph.initializer
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["a"], value=axes))
    del model.graph.initializer[:]
    onnx.checker.check_model(model)
    assert targets_that_take(model) == TARGETS


def test_weights_quantised_in_the_graph_count_as_weights():
    """A quantiser may leave the float weights, then QuantizeLinear, then DequantizeLinear."""
    model = graphs.quantized_convolution()
    weights = next(i for i in model.graph.initializer if i.name == "w")
    weights.CopyFrom(onnx.numpy_helper.from_array(np.ones((6, 4, 1, 1), np.float32), "wf"))
    model.graph.node.insert(2, onnx.helper.make_node("QuantizeLinear", ["wf", "ws", "wz"], ["w"], axis=0))
    onnx.checker.check_model(model)
    assert targets_that_take(model) == TARGETS
    assert of_rule(model, "quantized_weight") == []  # the whole pair


def test_weights_stored_as_int8_are_said_once():
    (finding,) = (f for f in check_graph(graphs.quantized_convolution(), ["10.7"]))
    assert str(finding) == (
        "TensorRT 10.7 at DequantizeLinear wd: weights stored as int8 found (1 tensors), not shown to build here; "
        "if it is refused, build the fp16 model"
    )


@pytest.mark.parametrize("op", ["Foo", "QuantizeLinear", "DequantizeLinear", "Clip", "Constant"])
@pytest.mark.parametrize("outputs", [["z"], []])
def test_a_node_of_another_domain_may_be_anything(op, outputs):
    """Which inputs and outputs it has, the checker does not know; nor is it ONNX's operator of the same name."""
    model = graphs.simple("Relu")
    model.graph.node.append(onnx.helper.make_node(op, [] if outputs else ["x"], outputs, domain="a.b"))
    model.opset_import.append(onnx.helper.make_opsetid("a.b", 1))
    onnx.checker.check_model(model)
    assert {(f.rule, f.found) for f in check_graph(model) if f.refused} == {
        ("operator", f"operator a.b.{op} found, expected one of ONNX")
    }


def test_a_finding_says_where_what_and_what_to_do():
    (finding,) = (f for f in check_graph(graphs.transpose_first(), ["8.6"]) if f.refused)
    assert str(finding) == (
        "TensorRT 8.6 at Transpose t: Transpose of the uint8 input frame found, expected a Cast; "
        "cast the input to float32 first"
    )


def test_only_the_targets_asked_for_are_looked_at():
    assert targets_that_take(graphs.simple("IsInf"), ["8.5", "11"]) == ("11",)
    with pytest.raises(UsageError, match=r"TensorRT '9.0' is not known, expected one of 8.5, .*, rtx"):
        check_graph(graphs.clip(), ["9.0"])


def test_the_committed_model_holds_no_trap():
    model = onnx.load(MODEL)
    assert check_graph(model) == []
    assert targets_that_take(model) == TARGETS


# --- against a quantiser that we did not write ----------------------------------------------------------


def quantize(path, **options):
    """ONNX Runtime's Q/DQ graph of a convolution with a bias, calibrated on noise."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((6, 4, 3, 3)).astype(np.float32), "b": np.ones(6, np.float32)}
    onnx.save(graphs.model([("Conv", "x w b", "c", {}), ("Relu", "c", "y", {})], **weights), path / "float.onnx")

    class Noise(CalibrationDataReader):
        frames = iter([{"x": rng.random((1, 4, 8, 8), np.float32)} for _ in range(4)])

        def get_next(self):
            return next(self.frames, None)

    quantize_static(path / "float.onnx", path / "int8.onnx", Noise(), quant_format=QuantFormat.QDQ, **options)
    return onnx.load(path / "int8.onnx")


def test_what_onnx_runtime_quantises_by_default_is_refused(tmp_path):
    model = quantize(tmp_path)
    assert targets_that_take(model) == ()
    found = " ".join(f.found for f in of_rule(model, "quantized_type"))
    assert "DequantizeLinear of int32" in found


@pytest.mark.parametrize("per_channel", [False, True])
def test_what_onnx_runtime_quantises_symmetrically_is_taken(tmp_path, per_channel):
    from onnxruntime.quantization import QuantType

    symmetric = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    types = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8}
    model = quantize(tmp_path, **types, per_channel=per_channel, extra_options=symmetric)
    assert targets_that_take(model) == TARGETS
    assert {finding.rule for finding in check_graph(model)} == {"typing", "quantized_weight"}
