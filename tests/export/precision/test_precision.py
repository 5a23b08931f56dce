"""fp16 and int8 files: what stays in float32, what int8 is made of, and where a careless conversion fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

for package in ("onnx", "onnxruntime"):
    pytest.importorskip(package, reason=f"converting needs {package} (extra: export)")

import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from export.graph.parts import split  # noqa: E402
from export.graph.synthetic_frames import synthetic_frames  # noqa: E402
from export.precision.calibration import evenly, read_frames  # noqa: E402
from export.precision.conversion import convert  # noqa: E402
from sdk import (  # noqa: E402
    ContractError,
    DataError,
    EngineError,
    FrameError,
    ModelContract,
    UsageError,
    WriteError,
    open_backend,
    prepare,
)

MODEL = Path(__file__).parents[3] / "models" / "efficientnet-lite0-gem.onnx"
SIDE, CELLS, CHANNELS = 32, 256, 24
FLAVOURS = ("tensorrt", "onnxruntime")
POWERS = {"Pow", "ReduceMean", "ReduceSum", "Sqrt", "Div"}


# --- a small network with the parts of ours --------------------------------------------------------------


def small_model(path, gain=30.0, head_power=3.0, **weights):
    """Brightness and colour filters, a residual block with a depthwise convolution, GeM and L2 norm at the end.

    Two channels in front of GeM are far from zero at white spots alone, where they reach 2 * gain: the others are of
    the order of 1.
    """
    rng = np.random.default_rng(7)
    brightness = np.full((1, 3, 1, 1), 2.0 / 3.0)  # of pixels in units of 85: 6 at white
    mixed = rng.normal(0.0, 0.7, (7, 3, 1, 1))
    last = np.abs(rng.normal(0.0, 0.6, (CHANNELS, 8, 1, 1)))
    last[:2] = 0.0
    last[:2, 0] = gain
    offset = np.zeros(CHANNELS)
    offset[:2] = -4.0 * gain
    values = {
        "mean": np.zeros(3),
        "std": np.full(3, 85.0),
        "first": np.concatenate([brightness, mixed]),
        "first_bias": np.concatenate([[0.0], rng.uniform(0.0, 1.0, 7)]),
        "depthwise": np.concatenate([np.zeros((1, 1, 3, 3)), rng.normal(0.0, 0.3, (7, 1, 3, 3))]),
        "depthwise_bias": np.zeros(8),
        "last": last,
        "last_bias": offset,
        "low": np.array(0.0),
        "high": np.array(6.0),
        "least": np.array(1e-6),
        "power": np.array(head_power),
        "root": np.array(1.0 / head_power),
        "one": np.array(1.0),
        "tiny": np.array(1e-12),
        **weights,
    }
    constants = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in values.items()]
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    make = helper.make_node
    nodes = [
        make("Cast", ["frame"], ["pixels"], to=TensorProto.FLOAT),
        make("Sub", ["pixels", "mean"], ["centred"]),
        make("Div", ["centred", "std"], ["scaled"]),
        make("Transpose", ["scaled"], ["image"], perm=[0, 3, 1, 2]),
        make("Conv", ["image", "first", "first_bias"], ["a"], strides=[2, 2], kernel_shape=[1, 1]),
        make("Clip", ["a", "low", "high"], ["b"]),
        make("Conv", ["b", "depthwise", "depthwise_bias"], ["c"], group=8, pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        make("Add", ["b", "c"], ["d"]),
        make("Conv", ["d", "last", "last_bias"], ["e"], kernel_shape=[1, 1]),
        make("Clip", ["e", "least", ""], ["f"]),
        make("Pow", ["f", "power"], ["g"]),
        make("ReduceMean", ["g"], ["h"], axes=[2, 3], keepdims=0),
        make("Pow", ["h", "root"], ["i"]),
        make("Mul", ["i", "i"], ["j"]),
        make("ReduceSum", ["j", "axis"], ["k"], keepdims=1),
        make("Add", ["k", "tiny"], ["l"]),
        make("Sqrt", ["l"], ["m"]),
        make("Div", ["one", "m"], ["n"]),
        make("Mul", ["i", "n"], ["raw_descriptor"]),
    ]
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, SIDE, SIDE, 3])
    raw = helper.make_tensor_value_info("raw_descriptor", TensorProto.FLOAT, [1, CHANNELS])
    graph = helper.make_graph(nodes, "structvpr", [frame], [raw], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"contract": small_contract().to_json()})
    onnx.save(model, path)
    return path


def small_contract():
    return ModelContract("small", "0" * 64, SIDE, SIDE, CHANNELS, (0.0, 0.0, 0.0), (85.0, 85.0, 85.0))


def small_frames(count, seed=0):
    """Dim textures of four pixels a patch, with a white spot each: uint8 (32, 32, 3)."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        coarse = rng.integers(0, 110, (8, 8, 3)) + rng.integers(0, 40, (1, 1, 3))
        frame = coarse.repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
        row, column = 2 * rng.integers(0, 15, 2)
        frame[row : row + 2, column : column + 2] = 255
        frames.append(frame)
    return frames


def run(model, frames):
    """Unit descriptors (n, D) by the SDK's backend for ONNX Runtime; a row that is not finite stays so."""
    backend = open_backend(model, threads=1)
    rows = np.stack(
        [backend.infer(prepare(frame, backend.contract.size))["raw_descriptor"] for frame in frames]
    ).astype(np.float64)
    backend.close()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cosines(model, reference, frames):
    return (run(model, frames) * run(reference, frames)).sum(axis=1)


def types_of(model):
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.graph.value_info, *inferred.graph.output)}
    return types | {t.name: t.data_type for t in model.graph.initializer}


@pytest.fixture
def small(tmp_path):
    return small_model(tmp_path / "small.onnx")


@pytest.fixture(scope="module")
def frames():
    return synthetic_frames()[:5]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    torch = pytest.importorskip("torch", reason="a model with the head grid is made by PyTorch")
    from export.from_checkpoint.to_onnx import export_onnx
    from training.networks.checkpoint import save_checkpoint
    from training.networks.descriptor_net import DescriptorNet, make_contract

    folder = tmp_path_factory.mktemp("grid")
    torch.manual_seed(0)
    net = DescriptorNet("mobilenet_v2", head="grid")
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    save_checkpoint(folder / "a.pt", net.eval(), make_contract(net, "random grid", 96, 128))
    export_onnx(folder / "a.pt", folder / "a.onnx", synthetic_frames()[:1], simplify=False)
    return folder / "a.onnx"


@pytest.fixture(params=["gem", "grid"])
def network(request):
    return MODEL if request.param == "gem" else request.getfixturevalue("grid")


def check_promises(path, before, precision):
    """What a reader of any precision may rely on."""
    model, original = onnx.load(path), onnx.load(before)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert list(model.graph.input) == list(original.graph.input)
    assert list(model.graph.output) == list(original.graph.output)
    contract, old = (
        ModelContract.from_json(next(p.value for p in m.metadata_props if p.key == "contract"), "model")
        for m in (model, original)
    )
    assert contract.precision == precision
    assert contract.identity == old.identity
    used = {name for node in model.graph.node for name in node.input}
    assert {t.name for t in model.graph.initializer} <= used
    return model


# --- fp16 -----------------------------------------------------------------------------------------------


def test_fp16_keeps_the_head_and_the_pixels_in_float32(network, tmp_path, frames):
    report = convert(network, tmp_path / "half.onnx", "fp16", calibration=frames)
    model = check_promises(tmp_path / "half.onnx", network, "fp16")
    types = types_of(model)
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    assert all(types[name] == TensorProto.FLOAT16 for n in convolutions for name in (*n.input, *n.output))
    kept = [n for n in model.graph.node if n.op_type in POWERS | {"Gemm", "MatMul", "Sub"}]
    assert len([n for n in kept if n.op_type == "Pow"]) == 6
    assert all(types.get(name, TensorProto.FLOAT) == TensorProto.FLOAT for n in kept for name in n.output)
    for node in (n for n in split(model.graph).head if n.op_type != "Cast"):
        assert types[node.output[0]] == TensorProto.FLOAT
    assert cosines(tmp_path / "half.onnx", network, frames).min() >= 0.9999
    assert report.size_bytes == (tmp_path / "half.onnx").stat().st_size < 0.75 * network.stat().st_size
    assert report.flavour == ""
    assert report.num_frames == len(frames)


def ending_at(model, name):
    """The network up to one of its tensors."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info(name))
    return result


def all_half(model):
    """What a conversion of every tensor gives: float16 from the pixels to the descriptor."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    result.graph.node[0].attribute[0].i = TensorProto.FLOAT16
    result.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return result


def test_fp16_survives_features_whose_cubes_do_not_fit(small, tmp_path):
    """ONNX's own reference evaluator computes float16 in float16, where ONNX Runtime on x86 may not."""
    frame = small_frames(1)[0][np.newaxis]
    model = onnx.load(small)
    expected, features = (
        ReferenceEvaluator(ending_at(model, name)).run(None, {"frame": frame})[0] for name in ("raw_descriptor", "e")
    )
    assert 40.3 < features.max() < 100.0
    with np.errstate(all="ignore"):
        careless = ReferenceEvaluator(all_half(model)).run(None, {"frame": frame})[0]
    assert not (np.isfinite(careless).all() and careless.astype(np.float32) @ expected.T > 0.9)
    convert(small, tmp_path / "half.onnx", "fp16", calibration=small_frames(1))
    found = ReferenceEvaluator(str(tmp_path / "half.onnx")).run(None, {"frame": frame})[0]
    assert found.dtype == np.float32
    assert found @ expected.T == pytest.approx(1.0, abs=1e-4)


def test_fp16_refuses_what_it_cannot_hold(tmp_path):
    heavy = small_model(tmp_path / "a.onnx", last_bias=np.full(CHANNELS, 7e4))
    with pytest.raises(EngineError, match=r"values of 70\d\d\d found at e, expected at most 32752.* keep this network"):
        convert(heavy, tmp_path / "b.onnx", "fp16", calibration=small_frames(2))
    # A weight that no frame brings to bear: nothing is red and nothing else.
    unused = np.zeros((8, 1, 3, 3))
    unused[3, 0, 1, 1] = 7e4
    never = small_model(tmp_path / "c.onnx", depthwise=unused, first=np.zeros((8, 3, 1, 1)), first_bias=np.zeros(8))
    with pytest.raises(EngineError, match=r"weight depthwise holds 7e\+04, expected at most 65504"):
        convert(never, tmp_path / "b.onnx", "fp16", calibration=small_frames(2))
    assert not (tmp_path / "b.onnx").exists()


def test_fp16_says_how_many_weights_are_too_small(tmp_path):
    few = np.abs(np.random.default_rng(0).normal(0.0, 0.5, (CHANNELS, 8, 1, 1))) + 0.01
    few[4, :5] = 1e-9
    path = small_model(tmp_path / "a.onnx", last=few, last_bias=np.zeros(CHANNELS), high=np.array(3e38))
    report = convert(path, tmp_path / "b.onnx", "fp16", calibration=small_frames(2))
    assert report.flushed_weights == 5
    bound = next(t for t in onnx.load(tmp_path / "b.onnx").graph.initializer if t.name == "high_half")
    assert numpy_helper.to_array(bound) == np.float16(65504)
    assert cosines(tmp_path / "b.onnx", path, small_frames(4)).min() >= 0.9999


# --- int8 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_int8_is_what_its_runtime_takes(network, tmp_path, frames, flavour):
    report = convert(network, tmp_path / "q.onnx", "int8", calibration=frames, flavour=flavour)
    model = check_promises(tmp_path / "q.onnx", network, "int8")
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    maker = {name: node for node in model.graph.node for name in node.output}
    pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    kinds = {constants[n.input[2]].dtype for n in pairs}
    if flavour == "tensorrt":
        assert kinds == {np.dtype(np.int8)}
        assert all(not constants[n.input[2]].any() for n in pairs)
    else:
        assert kinds == {np.dtype(kind) for kind in (np.uint8, np.int8, np.int32)}
    for pair in pairs:
        assert (constants[pair.input[1]] > 0).all()
    for node in convolutions:
        source, weight = maker[node.input[0]], maker[node.input[1]]
        assert source.op_type == weight.op_type == "DequantizeLinear"
        assert constants[source.input[1]].shape == ()
        stored, scales = constants[weight.input[0]], constants[weight.input[1]]
        assert stored.dtype == np.int8
        assert stored.min() >= -127
        assert scales.shape == (len(stored),)
        assert [a.i for a in weight.attribute if a.name == "axis"] == [0]
        assert not constants[weight.input[2]].any()
        if flavour == "tensorrt":
            assert constants[node.input[2]].dtype == np.float32
        else:
            assert constants[maker[node.input[2]].input[0]].dtype == np.int32
    # The head takes its taps as the trunk computes them, before any pair.
    behind = {name for n in pairs for name in n.output}
    head = split(model.graph).head
    assert len([n for n in head if n.op_type == "Pow"]) == 6
    assert all(behind.isdisjoint(n.input) for n in head if n not in pairs)
    assert report.flavour == flavour
    # 0.9995 and 0.9997 for "gem", 0.987 and more for "grid"; 0.865 and 0.986 where sums saturate.
    assert cosines(tmp_path / "q.onnx", network, frames).min() >= (0.99 if network == MODEL else 0.95)
    assert report.size_bytes < 0.75 * network.stat().st_size


def test_int8_bias_makes_up_for_rounded_weights(tmp_path):
    """All weights of a channel are rounded the same way, so that its map is shifted: the bias takes it back."""
    weight = np.full((8, 1, 3, 3), 0.1)
    weight[:, 0, 1, 1] = 12.7  # the unit is 0.1004 for 12.75: nine times 0.0004 are lost
    weight[:, 0, 1, 1] += 0.05
    path = small_model(tmp_path / "a.onnx", depthwise=weight, gain=0.1)
    convert(path, tmp_path / "q.onnx", "int8", calibration=small_frames(8))
    model, original = onnx.load(tmp_path / "q.onnx"), onnx.load(path)
    node = next(n for n in model.graph.node if n.op_type == "Conv" and n.input[1].startswith("depthwise"))
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    stored = constants["depthwise_quantized"] * constants["depthwise_scale"].reshape(-1, 1, 1, 1)
    run_feature = ReferenceEvaluator(ending_at(original, "b")).run
    means = np.mean([run_feature(None, {"frame": f[None]})[0].mean(axis=(0, 2, 3)) for f in small_frames(8)], axis=0)
    shift = ((weight - stored).sum(axis=(1, 2, 3))) * means
    assert np.abs(shift).max() > 1e-3
    np.testing.assert_allclose(constants[node.input[2]], shift, atol=1e-5)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_int8_of_dead_channels(tmp_path, flavour):
    """Channels without weights, or with next to none and a bias, occur in trained networks."""
    dead = np.random.default_rng(1).normal(0.0, 0.7, (8, 3, 1, 1))
    dead[2], dead[3] = 0.0, 1e-12
    bias = np.full(8, 1.0)
    bias[2] = 0.0
    path = small_model(tmp_path / "a.onnx", first=dead, first_bias=bias)
    convert(path, tmp_path / "q.onnx", "int8", calibration=small_frames(8), flavour=flavour)
    # 0.9927 to 0.9933, and 1.0, over eight draws of frames.
    assert cosines(tmp_path / "q.onnx", path, small_frames(8, seed=1)).min() >= 0.99
    # All of a tensor may be zero.
    path = small_model(tmp_path / "a.onnx", first=np.zeros((8, 3, 1, 1)), first_bias=np.full(8, -1.0))
    convert(path, tmp_path / "q.onnx", "int8", calibration=small_frames(2), flavour=flavour)
    assert np.isfinite(run(tmp_path / "q.onnx", small_frames(1))).all()


def quantize_head_naively(source, output, frames):
    """ONNX Runtime's quantiser over the head: every operator, symmetric, one scale a tensor."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    model = onnx.load(source)
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    head = split(model.graph).head
    named = output.with_suffix(".named.onnx")
    onnx.save(model, named)
    waiting = [frame[np.newaxis] for frame in frames]

    class Reader(CalibrationDataReader):
        def get_next(self):
            return {"frame": waiting.pop()} if waiting else None

    quantize_static(
        str(named),
        str(output),
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=sorted({node.op_type for node in head}),
        nodes_to_quantize=[node.name for node in head],
        extra_options={"ActivationSymmetric": True},
    )
    return output


@pytest.mark.filterwarnings("ignore")  # of onnxruntime's quantiser, which is here to fail
def test_int8_in_the_head_destroys_descriptors_and_the_recipe_does_not(small, tmp_path):
    """Finding of published tables: GeM in int8. One scale for cubes of 60 and of 2 leaves nothing of the latter."""
    seen, asked = small_frames(32), small_frames(48, seed=1)
    naive = quantize_head_naively(small, tmp_path / "naive.onnx", seen)
    assert cosines(naive, small, asked).mean() < 0.95  # 0.929
    database = run(small, asked)
    for flavour in FLAVOURS:
        convert(small, tmp_path / "q.onnx", "int8", calibration=seen, flavour=flavour)
        assert cosines(tmp_path / "q.onnx", small, asked).min() >= 0.995  # 0.99999
        assert first_answers(tmp_path / "q.onnx", database, asked) >= 0.95
    assert first_answers(naive, database, asked) <= 0.5  # 0.02, which is chance


def first_answers(model, database, frames):
    """Share of frames that find themselves in a map made by fp32."""
    found = (np.nan_to_num(run(model, frames)) @ database.T).argmax(axis=1)
    return (found == np.arange(len(frames))).mean()


# --- both -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "flavour"), [("fp16", None), *(("int8", f) for f in FLAVOURS)])
def test_same_model_and_frames_give_the_same_file(small, tmp_path, precision, flavour):
    told = []
    reports = [
        convert(
            small,
            tmp_path / name,
            precision,
            calibration=small_frames(5),
            flavour=flavour,
            progress=lambda *what: told.append(what),
        )
        for name in ("a.onnx", "b.onnx")
    ]
    assert reports[0].sha256 == reports[1].sha256
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert told[:5] == [("calibrating", done, 5) for done in range(1, 6)]
    assert reports[0].contract.identity in reports[0].to_json()


def test_frames_are_spread_evenly_and_come_from_a_folder_too(small, tmp_path):
    cv2 = pytest.importorskip("cv2")
    frames = small_frames(10)
    (tmp_path / "frames").mkdir()
    for index, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / "frames" / f"{index}.png"), frame[..., ::-1])
    assert evenly(10, 4) == [0, 3, 6, 9]
    assert evenly(3, 256) == [0, 1, 2]
    for given in (frames, tmp_path / "frames", str(tmp_path / "frames")):
        total, taken = read_frames(given, small_contract(), most=4)
        assert total == 4
        for found, index in zip(taken, (0, 3, 6, 9), strict=True):
            np.testing.assert_array_equal(found[0], frames[index])
    first, second = (
        convert(small, tmp_path / "q.onnx", "int8", calibration=given).sha256 for given in (frames, tmp_path / "frames")
    )
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"precision": "int4"}, UsageError, "precision is 'int4', expected fp16 or int8"),
        ({"flavour": "cpu"}, UsageError, "flavour is 'cpu', expected tensorrt or onnxruntime"),
        ({"precision": "fp16", "flavour": "tensorrt"}, UsageError, "flavour 'tensorrt' applies to int8 only"),
        ({"calibration": None}, UsageError, "int8 needs calibration frames"),
        ({"calibration": []}, DataError, "no frames to calibrate on found"),
        ({"calibration": "nowhere"}, DataError, "nowhere: there is no such file or folder"),
        ({"calibration": [np.zeros((40, 40, 3), np.float32)]}, FrameError, "the frame has dtype float32"),
        ({"calibration": [np.zeros((40, 40), np.uint8)]}, FrameError, "expected \\(H, W, 3\\)"),
        ({"onnx_path": "missing.onnx"}, EngineError, r"missing.onnx: cannot be read \(No such file"),
        ({"onnx_path": "garbage.onnx"}, EngineError, r"garbage.onnx: cannot be read \(it is no ONNX: "),
        ({"onnx_path": "bare.onnx"}, ContractError, "bare.onnx: carries no model contract"),
        ({"onnx_path": "done.onnx"}, EngineError, "done.onnx: is int8 already, expected fp32"),
        ({"onnx_path": "half.onnx"}, EngineError, "half.onnx: is fp16 already, expected fp32"),
        ({"onnx_path": "headless.onnx"}, EngineError, "expected a convolutional trunk and a head"),
        ({"onnx_path": "nan.onnx"}, EngineError, "d is not finite on frame 0|weight depthwise is not finite"),
        ({"output_path": "no/folder/q.onnx"}, WriteError, "cannot write no/folder/q.onnx"),
        ({"output_path": "."}, WriteError, "cannot write .: it is a folder; name a file"),
        ({"output_path": "q.engine"}, UsageError, "q.engine: ends like a TensorRT engine, expected .onnx"),
        ({"output_path": "q.plan"}, UsageError, "q.plan: ends like a TensorRT engine, expected .onnx"),
        ({"output_path": "./small.onnx"}, UsageError, "small.onnx: is the model itself, .*; choose another path"),
    ],
)
def test_bad_input_is_said_in_one_sentence_and_writes_nothing(tmp_path, monkeypatch, arguments, error, message):
    monkeypatch.chdir(tmp_path)
    small_model("small.onnx")
    convert("small.onnx", "done.onnx", "int8", calibration=small_frames(1))
    convert("small.onnx", "half.onnx", "fp16", calibration=small_frames(1))
    small_model("nan.onnx", depthwise=np.full((8, 1, 3, 3), np.nan))
    Path("garbage.onnx").write_bytes(b"garbage")
    bare = onnx.load("small.onnx")
    del bare.metadata_props[:]
    onnx.save(bare, "bare.onnx")
    headless = onnx.load("small.onnx")
    for node in headless.graph.node:
        if node.op_type == "Conv":
            node.op_type = "Sub"
            node.input[1:] = [node.input[0]]
            del node.attribute[:]
    headless.graph.node[8].output[0] = "unused"
    headless.graph.node[9].input[0] = "image"
    headless.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    helper.set_model_props(headless, {"contract": replace(small_contract(), descriptor_dim=3).to_json()})
    onnx.save(headless, "headless.onnx")
    before = sorted(tmp_path.iterdir())
    given = {"onnx_path": "small.onnx", "output_path": "q.onnx", "precision": "int8", "calibration": small_frames(2)}
    with pytest.raises(error, match=message) as raised:
        convert(**{**given, **arguments})
    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.iterdir()) == before
