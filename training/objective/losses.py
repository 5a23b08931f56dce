"""The triplet loss and the distillation loss."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["distillation_loss", "triplet_loss"]


def triplet_loss(query: Tensor, positive: Tensor, negatives: Tensor, margin: float) -> Tensor:
    """L_VPR = mean over tuples of sum_j max(0, d(q, p) - d(q, n_j) + margin).

    Args:
        query: float32 (B, D), unit rows.
        positive: float32 (B, D), unit rows.
        negatives: float32 (B, J, D), unit rows.
        margin: on the Euclidean distance d.

    Returns:
        A scalar.

    Source: the form in the code of Patch-NetVLAD and ForestLPR. Reconstruction: the paper only names a triplet loss.
    """
    to_positive = _distance(query - positive)  # (B,)
    to_negatives = _distance(query[:, None] - negatives)  # (B, J)
    return torch.relu(to_positive[:, None] - to_negatives + margin).sum(dim=1).mean()


def distillation_loss(
    projected_query: Tensor,
    projected_positive: Tensor | None,
    teacher_query: Tensor,
    teacher_positive: Tensor,
    weight: Tensor,
) -> Tensor:
    """L_KD = mean over pairs of phi(q, p) * ( |FC(F_q) - T_q|^2 + |FC(F_p) - T_p|^2 ).

    A pair of weight 0 gives no loss and no gradient, even if its descriptors are not finite.

    Args:
        projected_query: float32 (B, D_t), FC of the student's descriptors.
        projected_positive: float32 (B, D_t), or None to distil only the query.
        teacher_query, teacher_positive: float32 (B, D_t), the teacher's unit descriptors; constants.
        weight: float32 (B,), phi, >= 0.

    Returns:
        A scalar.

    Source: StructVPR (CVPR 2023): feature-based distillation, weighted by sample, through an FC of the student.
    Reconstructions: the squared error, and its part for the positive.
    """
    error = (projected_query - teacher_query.detach()).square().sum(dim=1)  # (B,)
    if projected_positive is not None:
        error = error + (projected_positive - teacher_positive.detach()).square().sum(dim=1)
    # weight * error alone would give nan for 0 * inf.
    return torch.where(weight > 0, weight * error, torch.zeros_like(error)).mean()


def _distance(difference: Tensor) -> Tensor:
    # The derivative of the root is infinite at 0, and identical frames occur.
    return (difference.square().sum(dim=-1) + 1e-12).sqrt()
