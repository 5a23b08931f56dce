"""The losses: their values against torch's own, and where no gradient may go."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install structvpr[training]")

from training.objective.losses import distillation_loss, triplet_loss  # noqa: E402

B, J, D = 3, 4, 8


def unit(*shape: int, seed: int) -> torch.Tensor:
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1).requires_grad_()


def test_triplet_loss_is_torchs() -> None:
    query, positive, negatives = unit(B, D, seed=0), unit(B, D, seed=1), unit(B, J, D, seed=2)
    theirs = torch.nn.TripletMarginLoss(margin=0.1, p=2, eps=0.0, reduction="sum")
    expected = sum(theirs(query, positive, negatives[:, j]) for j in range(J)) / B
    torch.testing.assert_close(triplet_loss(query, positive, negatives, 0.1), expected)


def test_identical_frames_give_a_finite_gradient() -> None:
    query = unit(1, D, seed=0)
    triplet_loss(query, query.detach().clone(), query.detach().clone()[:, None], 0.1).backward()
    assert query.grad is not None
    assert torch.isfinite(query.grad).all()


def test_distillation_loss_is_the_weighted_squared_error() -> None:
    q, p, tq, tp = (unit(B, D, seed=i) for i in range(4))
    weight = torch.tensor([0.5, 0.0, 2.0])
    both = ((q - tq) ** 2).sum(1) + ((p - tp) ** 2).sum(1)
    torch.testing.assert_close(distillation_loss(q, p, tq, tp, weight), (weight * both).sum() / B)
    alone = (weight * ((q - tq) ** 2).sum(1)).sum() / B
    torch.testing.assert_close(distillation_loss(q, None, tq, tp, weight), alone)


def test_pairs_of_weight_zero_and_the_teacher_get_no_gradient() -> None:
    q, p, tq, tp = (unit(B, D, seed=i) for i in range(4))
    distillation_loss(q, p, tq, tp, torch.tensor([1.0, 0.0, 1.0])).backward()
    assert tq.grad is None
    assert tp.grad is None
    for student in (q, p):
        assert student.grad is not None
        assert (student.grad[1] == 0).all()
        assert (student.grad[[0, 2]].abs().sum(1) > 0).all()


def test_a_pair_of_weight_zero_cannot_spoil_the_loss() -> None:
    q, tq = unit(2, D, seed=0), unit(2, D, seed=1).detach()
    broken = torch.stack([q[0], torch.full((D,), float("inf"))])
    loss = distillation_loss(broken, None, tq, tq, torch.tensor([1.0, 0.0]))
    assert torch.isfinite(loss)
