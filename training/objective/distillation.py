"""Distillation: the stored teacher, and a branch with the FC of the distillation loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sdk import UsageError
from sdk.arrays import Floats, Indices

from ..networks.descriptor_net import DescriptorNet, l2_normalize
from .losses import distillation_loss
from .mining import Tuples
from .pair_table import PairTable

__all__ = ["Branch", "Teacher"]

RIDGE = 0.1  # of the mean variance of a descriptor's values


@dataclass(frozen=True)
class Teacher:
    """The segmentation branch in stage 2, as stored descriptors.

    Attributes:
        descriptors: float32 (N, D_t), unit descriptors of all images of the training set.
        pairs: the weight of each pair.
    """

    descriptors: Floats
    pairs: PairTable

    def loss(self, projected: Tensor, rows: Tuples, asked: Indices, *, distil_positive: bool) -> Tensor:
        """Compute L_KD of a batch of tuples. Negatives are not distilled.

        Args:
            projected: float32 (B (2 + J), D_t), FC of the queries, then of the positives, then of the negatives.
            rows: the B tuples.
            asked: int64 (B,), their queries' images.
            distil_positive: whether positives are distilled too.
        """
        count, device = len(asked), projected.device
        return distillation_loss(
            projected[:count].float(),
            projected[count : 2 * count].float() if distil_positive else None,
            torch.from_numpy(self.descriptors[asked]).to(device),
            torch.from_numpy(self.descriptors[rows.positive]).to(device),
            torch.from_numpy(self.pairs.phi_of(rows.query, rows.positive)).to(device),
        )


class Branch(nn.Module):
    """A branch in training: its network and, in stage 2, the FC of the distillation loss (not exported).

    Args:
        net: the branch.
        teacher_dim: D_t, length of the teacher's descriptors; None for stage 1.
    """

    def __init__(self, net: DescriptorNet, teacher_dim: int | None = None) -> None:
        super().__init__()
        self.net = net
        self.projection = None if teacher_dim is None else nn.Linear(net.descriptor_dim, teacher_dim)

    def fit_projection(self, descriptors: Floats, taught: Floats) -> None:
        """Initialise the FC by ridge regression of the teacher's descriptors on the student's.

        Args:
            descriptors: float32 (n, D), of the initial student, unit rows.
            taught: float32 (n, D_t), of the teacher for the same images, unit rows.

        Raises:
            UsageError: the branch has no FC.
        """
        if self.projection is None:
            raise UsageError("the branch has no projection; make it with teacher_dim")
        x, y = descriptors.astype(np.float64), taught.astype(np.float64)
        x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
        x = x - x_mean
        gram = x.T @ x / len(x)  # (D, D)
        gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
        weight = np.linalg.solve(gram, x.T @ (y - y_mean) / len(x)).T  # (D_t, D)
        with torch.no_grad():
            self.projection.weight.copy_(torch.from_numpy(weight))
            self.projection.bias.copy_(torch.from_numpy(y_mean - weight @ x_mean))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """float32 (N, C, h, w) to unit descriptors (N, D) and their projections (N, D_t)."""
        descriptors = l2_normalize(self.net(x).float())
        return descriptors, None if self.projection is None else self.projection(descriptors)
