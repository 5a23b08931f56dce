"""The descriptor network: a trunk, pools at three depths, and a head.

It is the deployed RGB branch of StructVPR and, with other input channels, the segmentation branch of training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sdk import ContractError, ModelContract
from sdk.arrays import Triple

from .backbones import BACKBONES, load_pretrained
from .heads import GridHead, l2_normalize

__all__ = [
    "HEADS",
    "DeployedNet",
    "DescriptorNet",
    "GeM",
    "l2_normalize",
    "make_contract",
    "normalize_pixels",
    "pretrained_net",
    "weights_sha256",
]

HEIGHT, WIDTH = 240, 320  # of the network's input, px
HEADS = ("gem", "grid")
MIDDLE = 1  # the tap whose cells "grid" uses: stride 16, the most robust to night and season


def normalize_pixels(frames: Tensor, mean: Triple, std: Triple) -> Tensor:
    """Turn prepared frames into the trunk's input. Only this function applies mean and std.

    Args:
        frames: uint8 (N, h, w, 3), RGB, from `sdk.prepare`; or float32 of the same range.
        mean, std: pixel values (0 to 255) of `ModelContract`.

    Returns:
        float32 (N, 3, h, w), (pixel - mean) / std.
    """
    pixels = frames.to(torch.float32)
    pixels = (pixels - pixels.new_tensor(mean)) / pixels.new_tensor(std)
    return pixels.permute(0, 3, 1, 2)  # (N, 3, h, w)


class GeM(nn.Module):
    """Generalised-mean pooling of a feature map, ( mean over cells of max(x, eps)^p )^(1/p).

    p = 1 is the mean, p -> infinity the maximum. Values below eps count as eps; the trunks' linear bottlenecks produce
    such values. Keep this block in float32: at p = 3, float16 overflows from x = 40.3 on, and such features occur.

    Args:
        p: initial value of the learnable exponent.
        eps: lower bound of the features, > 0.

    Source: Radenović et al., Fine-tuning CNN Image Retrieval with No Human Annotation (TPAMI 2019), eq. 3.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Pool float32 (N, C, h, w) to float32 (N, C)."""
        if x.dtype in (
            torch.float16,
            torch.bfloat16,
        ):  # under autocast; the condition keeps a useless cast out of exported graphs
            x = x.float()
        return x.clamp(min=self.eps).pow(self.p).mean(dim=(2, 3)).pow(1.0 / self.p)  # (N, C)


class DescriptorNet(nn.Module):
    """Trunk, then GeM and L2 norm at each tap, concatenated: F = concat_k L2( GeM(f_k) ).

    This is the paper's head, "gem". The head "grid" combines F with the cells of the middle map, see `GridHead`. The
    network does not apply the paper's outer norm, L2(F): on the device the kernel (`sdk._core`) applies it, and in
    training the caller applies `l2_normalize`.

    Args:
        backbone: a name in `BACKBONES`.
        in_channels: channels of the input; 3 for frames, the number of clusters for label maps.
        head: a name in `HEADS`.

    Attributes:
        backbone: the trunk.
        in_channels: as given.
        head_name: as given.
        head: the head's module; None for "gem", which has only the pools.
        descriptor_dim: D; for "gem" the sum of the taps' channels (472 for EfficientNet-Lite0, 448 for MobileNetV2),
            512 for "grid".

    Raises:
        ContractError: no backbone or head has that name.

    Source: StructVPR (CVPR 2023), figure 2, "MC" block. Reconstruction from the authors' poster and later code: the
    inner boxes are GeM and L2.
    """

    def __init__(self, backbone: str = "efficientnet_lite0", in_channels: int = 3, head: str = "gem") -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ContractError(f"backbone {backbone!r} found, expected {' or '.join(sorted(BACKBONES))}")
        if head not in HEADS:
            raise ContractError(f"head {head!r} found, expected {' or '.join(HEADS)}")
        self.backbone = BACKBONES[backbone](in_channels=in_channels)
        self.in_channels, self.head_name = in_channels, head
        self.pools = nn.ModuleList(GeM() for _ in self.backbone.taps)
        channels = self.backbone.tap_channels
        self.head = GridHead(channels[MIDDLE], sum(channels)) if head == "grid" else None
        self.descriptor_dim = sum(channels) if self.head is None else self.head.descriptor_dim

    def forward(self, x: Tensor) -> Tensor:
        """Describe a batch.

        Args:
            x: float32 (N, in_channels, h, w), normalised (see `normalize_pixels`).

        Returns:
            The raw descriptors, float32 (N, D), of length sqrt(number of taps), or sqrt(1 + global_weight^2) with
            the head "grid". The caller normalises.
        """
        middle, pools = self.features(x)
        return pools if self.head is None else self.head(middle, pools)  # (N, D)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the inputs of a head.

        Args:
            x: as for `forward`.

        Returns:
            The middle tap's map, float32 (N, C, h/16, w/16), and the pools of all taps, float32 (N, sum of channels).
        """
        maps = self.backbone(x)
        levels = [l2_normalize(pool(m)) for pool, m in zip(self.pools, maps, strict=True)]
        return maps[MIDDLE], torch.cat(levels, dim=1)


class DeployedNet(nn.Module):
    """A descriptor net with its preprocessing, as the device runs it before the final norm.

    Mean and std stay two operators (Sub, Div), which cost two passes over one frame. They are not folded into the first
    convolution: its zero padding would then apply before the normalisation and change every descriptor.
    """

    def __init__(self, net: DescriptorNet, contract: ModelContract) -> None:
        super().__init__()
        self.net = net
        self.mean, self.std = contract.mean, contract.std

    def forward(self, frame: Tensor) -> Tensor:
        """Describe uint8 (1, h, w, 3) as float32 (1, D)."""
        raw: Tensor = self.net(normalize_pixels(frame, self.mean, self.std))  # (1, 3, h, w) -> (1, D)
        return raw


def pretrained_net(backbone: str, state_dict: Mapping[str, Tensor], head: str = "gem") -> DescriptorNet:
    """A network with public ImageNet weights in its trunk and initial pools and head.

    Args:
        backbone: a name in `BACKBONES`.
        state_dict: published weights, see `load_pretrained`.
        head: a name in `HEADS`.

    Raises:
        ContractError: the name is unknown, or the weights belong to another network.
    """
    net = DescriptorNet(backbone, head=head)
    load_pretrained(net.backbone, state_dict)
    return net.eval()


def weights_sha256(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """Identity of a network's weights: sha256 over its float32 tensors.

    The hashed bytes of each tensor, in the order of the names (by code point):

        name as UTF-8 | NUL | "float32" | NUL | shape, decimal, comma-separated | NUL | values, little-endian

    Nothing separates tensors. The shape of a scalar is the empty text. Batch-norm means and variances are included.
    Integer buffers (`num_batches_tracked`) are left out: no descriptor depends on them.

    Args:
        weights: the exported branch, or its state dict.

    Returns:
        64 lower-case hex digits.

    Raises:
        ContractError: a floating-point tensor is not float32.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        if not tensor.is_floating_point():
            continue
        if tensor.dtype != torch.float32:
            raise ContractError(
                f"weight {name} is {str(tensor.dtype).removeprefix('torch.')}, expected float32; "
                "convert the network with .float()"
            )
        shape = ",".join(map(str, tensor.shape))
        digest.update(f"{name}\0float32\0{shape}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def make_contract(net: DescriptorNet, name: str, height: int = HEIGHT, width: int = WIDTH) -> ModelContract:
    """Make the contract of a network. Make it again after each change of the weights.

    Args:
        net: an RGB branch (`in_channels` 3).
        name: of the model.
        height, width: of the network's input, px; frames are stretched to it.

    Raises:
        ContractError: `in_channels` is not 3, or a value is out of the contract's range.
    """
    if net.in_channels != 3:
        raise ContractError(
            f"a network of {net.in_channels} input channels found, expected 3 (RGB); "
            "make the contract of the RGB branch"
        )
    return ModelContract(
        name=name,
        weights=weights_sha256(net),
        height=height,
        width=width,
        descriptor_dim=net.descriptor_dim,
        mean=net.backbone.mean,
        std=net.backbone.std,
    )
