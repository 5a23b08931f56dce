"""The network that describes a frame: a trunk, pooled at three depths, and a head.

This is the branch that is deployed (StructVPR's RGB branch) and, with another number of input channels,
the branch that reads label maps during training.
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
MIDDLE = 1  # the tap that "grid" takes cells of: stride 16, what best survives night and season


def normalize_pixels(frames: Tensor, mean: Triple, std: Triple) -> Tensor:
    """Turn prepared frames into the trunk's input: the one place where mean and std are applied.

    Args:
        frames: uint8 (N, h, w, 3), RGB, as `sdk.prepare` makes them; or float32 of the same range.
        mean, std: pixel values (0 to 255) of `ModelContract`.

    Returns:
        float32 (N, 3, h, w), (pixel - mean) / std.
    """
    pixels = frames.to(torch.float32)
    pixels = (pixels - pixels.new_tensor(mean)) / pixels.new_tensor(std)
    return pixels.permute(0, 3, 1, 2)  # (N, 3, h, w)


class GeM(nn.Module):
    """Generalised-mean pooling of a feature map, ( mean over cells of max(x, eps)^p )^(1/p).

    p = 1 is the mean, p -> infinity the maximum. Values below eps, which the linear bottlenecks of the
    trunks do produce, count as eps. Float16 overflows from x = 40.3 on at p = 3, and such features occur:
    keep this block in float32.

    Args:
        p: where the learnable exponent starts.
        eps: lower bound of the features, > 0.

    Source: Radenović et al., Fine-tuning CNN Image Retrieval with No Human Annotation (TPAMI 2019), eq. 3.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Pool float32 (N, C, h, w) to float32 (N, C)."""
        if x.dtype in (torch.float16, torch.bfloat16):  # under autocast; asked, so that a graph gets no idle cast
            x = x.float()
        return x.clamp(min=self.eps).pow(self.p).mean(dim=(2, 3)).pow(1.0 / self.p)  # (N, C)


class DescriptorNet(nn.Module):
    """Trunk, then GeM and L2 norm at each tap, concatenated: F = concat_k L2( GeM(f_k) ).

    That is the head "gem", the paper's. The head "grid" gives a descriptor of F and of the cells of the middle
    map, see `GridHead`. The paper's outer norm, L2(F), is left out on purpose: on the device it is done by the kernel
    (`sdk._core`), its only home there; training calls `l2_normalize` on the result.

    Args:
        backbone: a name in `BACKBONES`.
        in_channels: channels of the input; 3 for frames, the number of clusters for label maps.
        head: a name in `HEADS`.

    Attributes:
        backbone: the trunk.
        in_channels: as given.
        head_name: as given.
        head: the module of that name; None for "gem", which is the pools.
        descriptor_dim: D; for "gem" the sum of the taps' channels (472 for EfficientNet-Lite0, 448 for MobileNetV2),
            512 for "grid".

    Raises:
        ContractError: no backbone or no head has that name.

    Source: StructVPR (CVPR 2023), figure 2, "MC" block; that the inner boxes are GeM and L2 is a
    reconstruction from the authors' poster and from their later code.
    """

    def __init__(self, backbone: str = "efficientnet_lite0", in_channels: int = 3, head: str = "gem") -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ContractError(
                f"backbone {backbone!r} found, expected {' or '.join(sorted(BACKBONES))}; choose one of these"
            )
        if head not in HEADS:
            raise ContractError(f"head {head!r} found, expected {' or '.join(HEADS)}; choose one of these")
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
            the head "grid"; the caller normalises.
        """
        middle, pools = self.features(x)
        return pools if self.head is None else self.head(middle, pools)  # (N, D)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What a head makes its descriptor of.

        Args:
            x: as for `forward`.

        Returns:
            The middle tap's map, float32 (N, C, h/16, w/16), and the pools of all taps, float32 (N, sum of channels).
        """
        maps = self.backbone(x)
        levels = [l2_normalize(pool(m)) for pool, m in zip(self.pools, maps, strict=True)]
        return maps[MIDDLE], torch.cat(levels, dim=1)


class DeployedNet(nn.Module):
    """A descriptor net with its preprocessing: what the device runs, less the final norm.

    Mean and std stay two operators (Sub, Div) and are not folded into the first convolution: that
    convolution pads with zeros after the normalisation, which would become zeros before it, and every
    descriptor would feel the border. They cost two passes over one frame.
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
    """A network whose trunk has public ImageNet weights and whose pools and head are at their start.

    Args:
        backbone: a name in `BACKBONES`.
        state_dict: the publisher's weights, see `load_pretrained`.
        head: a name in `HEADS`.

    Raises:
        ContractError: no such backbone or head, or the weights are of another network.
    """
    net = DescriptorNet(backbone, head=head)
    load_pretrained(net.backbone, state_dict)
    return net.eval()


def weights_sha256(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """Identity of a network's weights: sha256 over its float32 tensors.

    The hashed bytes are, for each float32 tensor in the order of its name (by code point):

        name as UTF-8 | NUL | "float32" | NUL | shape, decimal, comma-separated | NUL | values, little-endian

    with nothing between tensors; the shape of a scalar is the empty text. Batch-norm means and variances
    are included. Integer buffers (`num_batches_tracked`) are not: no descriptor depends on them.

    Args:
        weights: the exported branch, or its state dict.

    Returns:
        64 lower-case hex digits.

    Raises:
        ContractError: a floating-point tensor is not float32, so two precisions could pass for one.
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
    """The contract of a network as it is now; make it again after each change of the weights.

    Args:
        net: takes frames, so `in_channels` is 3.
        name: what people call the model.
        height, width: of the network's input, px; frames are stretched to it.

    Raises:
        ContractError: the network does not take three channels, or a value is out of the contract's range.
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
