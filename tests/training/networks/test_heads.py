"""The head that keeps a little layout: against OpenCV and numpy, through a checkpoint, through ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the network needs PyTorch (extra: training)")

from sdk import ContractError, UsageError  # noqa: E402
from training.networks.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from training.networks.descriptor_net import DeployedNet, DescriptorNet, l2_normalize, make_contract, weights_sha256  # noqa: E402
from training.networks.heads import GridHead, average_cells, fit_grid_head, fit_projection  # noqa: E402


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def draw():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return DescriptorNet("mobilenet_v2", head="grid").eval()


# --- cells ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "grid"), [((15, 20), (6, 2)), ((8, 10), (4, 3)), ((6, 4), (6, 4)), ((7, 5), (1, 1))])
def test_cells_are_means_over_areas_as_opencv_has_them(draw, size, grid):
    maps = draw.standard_normal((2, 3, *size)).astype(np.float32)
    found = average_cells(torch.from_numpy(maps), *grid).numpy()
    expected = [[cv2.resize(m, grid[::-1], interpolation=cv2.INTER_AREA) for m in one] for one in maps]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.mean(axis=(2, 3)), maps.mean(axis=(2, 3)), atol=1e-5)  # no feature is lost


def test_descriptor_is_what_its_equation_says(draw):
    torch.manual_seed(1)
    head = GridHead(5, 7, rows=3, columns=2, grid_dim=8, global_dim=4, global_weight=0.5)
    middle, pools = draw.standard_normal((3, 5, 6, 4)), draw.standard_normal((3, 7))
    found = head.double()(torch.from_numpy(middle), torch.from_numpy(pools)).detach().numpy()
    cells = unit(middle.reshape(3, 5, 3, 2, 2, 2).mean(axis=(3, 5)).reshape(3, 30))
    w1, b1, w2, b2 = (p.detach().numpy() for p in head.parameters())
    expected = np.hstack([unit(cells @ w1.T + b1), 0.5 * unit(pools @ w2.T + b2)])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.sqrt(1.25), rtol=1e-6)
    assert head.descriptor_dim == found.shape[1] == 12


def test_a_shift_to_the_side_costs_less_than_one_upwards(draw):
    """What wide, low cells are for."""
    scene = cv2.GaussianBlur(draw.standard_normal((23, 28, 16)).astype(np.float32), (0, 0), 1.5).transpose(2, 0, 1)
    view, aside, above = (torch.from_numpy(scene[None, :, y : y + 15, x : x + 20]) for y, x in ((4, 4), (4, 7), (7, 4)))
    here, sideways, upwards = (unit(average_cells(m, 6, 2).flatten(1).numpy()) for m in (view, aside, above))
    assert (here @ sideways.T).item() > (here @ upwards.T).item() + 0.1


# --- training -------------------------------------------------------------------------------------------


def test_all_is_float32_and_gradients_reach_both_projections_and_the_trunk(net):
    net.zero_grad()
    descriptors = l2_normalize(net(torch.rand(2, 3, 96, 128)))
    (descriptors[0] @ descriptors[1]).backward()
    gradients = {}
    for name, parameter in net.named_parameters():
        assert parameter.dtype == torch.float32, name
        assert torch.isfinite(parameter.grad).all(), name
        gradients[name] = parameter.grad.abs().max().item()
    heads = [f"head.{part}_projection.{kind}" for part in ("grid", "global") for kind in ("weight", "bias")]
    assert all(gradients[name] > 0 for name in ["backbone.features.0.0.weight", *heads])
    net.zero_grad()


def test_sizes(net):
    assert net.descriptor_dim == 512
    for name in ("efficientnet_lite0", "mobilenet_v2"):
        assert sum(p.numel() for p in DescriptorNet(name, head="grid").parameters()) < 4_000_000
    with torch.no_grad():
        for channels, size in ((3, (240, 320)), (6, (120, 160))):
            described = DescriptorNet("mobilenet_v2", channels, "grid").eval()(torch.rand(2, channels, *size))
            assert described.shape == (2, 512)


def test_the_papers_head_is_untouched():
    plain = DescriptorNet("mobilenet_v2")
    assert plain.head is None
    assert not any(name.startswith("head") for name in plain.state_dict())
    with pytest.raises(ContractError, match=r"head 'vlad' found, expected gem or grid$"):
        DescriptorNet("mobilenet_v2", head="vlad")


# --- where the projections start ------------------------------------------------------------------------


def test_without_shared_places_the_start_is_pca_with_power_whitening(draw):
    features = draw.standard_normal((300, 12)) * np.linspace(3.0, 0.2, 12)
    weight, bias = fit_projection(torch.from_numpy(features).float(), torch.full((300,), -1), 5)
    found = features @ weight.numpy().T + bias.numpy()
    centred = features - features.mean(axis=0)
    _, length, axes = np.linalg.svd(centred, full_matrices=False)
    variance = (length**2 / 300)[:5]
    expected = centred @ axes[:5].T * variance**-0.25
    np.testing.assert_allclose(unit(found) @ unit(found).T, unit(expected) @ unit(expected).T, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1).mean(), 1.0, rtol=1e-4)


def test_shared_places_teach_what_changes_at_one_place(draw):
    """Light shifts every image along few directions, far more than places differ: PCA keeps just those."""
    places, lights, features = np.repeat(np.arange(200), 3), draw.standard_normal((600, 2)), 40
    directions, _ = np.linalg.qr(draw.standard_normal((features, features)))
    scenes = draw.standard_normal((200, features)) @ directions
    seen = scenes[places] + 6.0 * lights @ directions[:2] + 0.2 * draw.standard_normal((600, features))

    def recall(places):
        weight, bias = fit_projection(torch.from_numpy(seen[:300]).float(), torch.from_numpy(places[:300]), 16)
        found = unit(seen[300:] @ weight.numpy().T + bias.numpy()).reshape(100, 3, -1)  # of places not fitted
        return ((found[:, 0] @ found[:, 1].T).argmax(axis=1) == np.arange(100)).mean()

    assert recall(places) > 0.95 > recall(np.full(600, -1)) + 0.2  # 1.0, and 0.36 to 0.48, over eight seeds


def test_images_without_a_place_are_not_taken_for_one_place(draw):
    features = torch.from_numpy(draw.standard_normal((90, 6))).float()
    apart = torch.arange(90)
    unknown = torch.where(apart < 60, apart // 2, -1)
    numbered = torch.where(apart < 60, apart // 2, apart)
    for one, other in zip(fit_projection(features, unknown, 4), fit_projection(features, numbered, 4), strict=True):
        assert torch.equal(one, other)


def test_too_few_or_broken_features_are_refused():
    with pytest.raises(ContractError, match=r"4 images of 9 features found, expected more than 5"):
        fit_projection(torch.rand(4, 9), torch.arange(4), 5)
    with pytest.raises(ContractError, match=r"20 images differ in 2 directions, expected at least 5"):
        fit_projection(torch.rand(20, 2) @ torch.rand(2, 9), torch.arange(20), 5)
    with pytest.raises(ContractError, match="NaN or infinity"):
        fit_projection(torch.full((20, 9), float("nan")), torch.arange(20), 5)
    with pytest.raises(ContractError, match="no image"):
        fit_grid_head(GridHead(2, 3, grid_dim=4, global_dim=2), [])


def test_a_fitted_head_gives_what_the_projections_give(draw):
    head = GridHead(4, 6, rows=2, columns=2, grid_dim=5, global_dim=3)
    middle = torch.from_numpy(draw.standard_normal((60, 4, 6, 8))).float()
    pools, places = torch.from_numpy(draw.standard_normal((60, 6))).float(), torch.arange(60) // 2
    batches = [(middle[i : i + 20], pools[i : i + 20], places[i : i + 20]) for i in range(0, 60, 20)]
    fit_grid_head(head, iter(batches))
    for projection, features in ((head.grid_projection, head.cells(middle)), (head.global_projection, pools)):
        weight, bias = fit_projection(features, places, projection.out_features)
        np.testing.assert_allclose(projection.weight.detach(), weight, atol=1e-5)
        np.testing.assert_allclose(projection.bias.detach(), bias, atol=1e-5)
        assert projection.weight.requires_grad


# --- checkpoint and export ------------------------------------------------------------------------------


def test_checkpoint_keeps_the_head_and_old_ones_still_load(net, tmp_path):
    path = tmp_path / "grid.pt"
    save_checkpoint(path, net, make_contract(net, "m"))
    loaded, contract = load_checkpoint(path)
    assert (loaded.head_name, contract.descriptor_dim) == ("grid", 512)
    assert weights_sha256(loaded) == weights_sha256(net)
    record = torch.load(path, weights_only=True)
    record["config"]["head_config"]["rows"] = 4
    torch.save(record, path)
    with pytest.raises(ContractError, match="its config is"):
        load_checkpoint(path)
    torch.save({**record, "config": {**record["config"], "head": "vlad"}}, path)
    with pytest.raises(ContractError, match="head 'vlad' found"):
        load_checkpoint(path)

    plain = DescriptorNet("mobilenet_v2").eval()
    save_checkpoint(path, plain, make_contract(plain, "m"))
    record = torch.load(path, weights_only=True)
    del record["config"]["head"], record["config"]["head_config"]  # as before there was a choice
    torch.save(record, path)
    loaded, _ = load_checkpoint(path)
    assert (loaded.head_name, weights_sha256(loaded)) == ("gem", weights_sha256(plain))


def test_export_agrees_with_onnx_runtime(net, tmp_path):
    pytest.importorskip("onnxsim", reason="the export needs the extra: export")
    onnxruntime = pytest.importorskip("onnxruntime")
    from export.from_checkpoint.to_onnx import export_onnx

    save_checkpoint(tmp_path / "grid.pt", net, make_contract(net, "m", 96, 128))
    frame = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    report = export_onnx(tmp_path / "grid.pt", tmp_path / "grid.onnx", [frame])
    assert (report.contract.descriptor_dim, report.simplified) == (512, True)
    session = onnxruntime.InferenceSession(tmp_path / "grid.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"frame": frame[None]})
    with torch.no_grad():
        expected = DeployedNet(net, report.contract)(torch.from_numpy(frame[None]))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # What TensorRT 8.5 and quantisers want: constants are folded, nothing depends on a shape.
    assert not {"Shape", "Range", "Resize", "Einsum", "ReduceL2", "If", "Loop"} & report.operators.keys()


def test_a_students_head_starts_from_pairs_of_the_training_set() -> None:
    """What `train student` does before its first step: same place, nearer than before; the same for the same seed."""
    from training.datasets.training_set import set_from_places
    from training.inputs.batches import BranchSet
    from training.loop.branches import make_rgb_branch, start_head
    from training.loop.describing import describe

    torch.set_num_threads(1)
    torch.manual_seed(0)
    places, side = 270, 64
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.normal(size=(places, 3, 6, 6)).astype(np.float32))
    light = torch.from_numpy(rng.normal(size=(2 * places, 3, 1, 1)).astype(np.float32))
    images = torch.nn.functional.interpolate(coarse, (side, side)).repeat_interleave(2, 0) + 2.0 * light

    class Views:
        def batch(self, indices: np.ndarray, generator: torch.Generator | None) -> torch.Tensor:
            return images[torch.from_numpy(indices)]

    data = set_from_places("views", [Path(f"{i}.png") for i in range(2 * places)], np.arange(2 * places) // 2)
    weights = DescriptorNet("mobilenet_v2").backbone.state_dict()

    def share_right(net: DescriptorNet) -> float:
        rows = describe(net, Views(), np.arange(2 * places))
        similarity = rows @ rows.T - 2.0 * np.eye(2 * places)
        return float((similarity.argmax(1) // 2 == np.arange(2 * places) // 2).mean())

    nets = []
    before = share_right(make_rgb_branch("mobilenet_v2", weights, "grid"))
    for _ in range(2):
        net = make_rgb_branch("mobilenet_v2", weights, "grid")
        start_head(net, BranchSet(data, Views()), seed=3, images=2 * places)
        nets.append(net)
    assert nets[0].head is not None
    assert nets[1].head is not None
    assert torch.equal(nets[0].head.grid_projection.weight, nets[1].head.grid_projection.weight)
    assert share_right(nets[0]) > before + 0.25  # 0.66 for 0.11
    with pytest.raises(UsageError, match="expected 'grid'"):
        start_head(make_rgb_branch("mobilenet_v2", weights), BranchSet(data, Views()), seed=0)
