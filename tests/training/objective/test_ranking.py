"""Ranks of pairs and recall, against counting written out and against sdk.evaluation.recall."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install structvpr[training]")

import sdk  # noqa: E402
from sdk.evaluation.recall import rank, recall_at_k  # noqa: E402
from training.datasets.training_set import TrainingSet, set_from_positions  # noqa: E402
from training.objective.mining import mine, queries_in_turn  # noqa: E402
from training.objective.ranking import first_right_ranks, pairs_of, ranks_of_pairs, recall_percent  # noqa: E402


def two_towns(count: int = 40, seed: int = 0) -> tuple[TrainingSet, np.ndarray]:
    """Two regions; in each a database and queries beside it; descriptors that know their place a little."""
    rng = np.random.default_rng(seed)
    x = np.tile(np.arange(count) * 4.0, 4)
    region = np.repeat([0, 0, 1, 1], count).astype(np.int32)
    database, queries = np.r_[0:count, 2 * count : 3 * count], np.r_[count : 2 * count, 3 * count : 4 * count]
    data = set_from_positions(
        "towns",
        [Path(f"{i}.png") for i in range(4 * count)],
        np.stack([x, np.zeros_like(x)], axis=1),
        queries=queries,
        database=database,
        positive_radius_m=5.0,
        near_radius_m=9.0,
        region=region,
    )
    place = rng.normal(size=(count, 16))
    rows = place[np.tile(np.arange(count), 4)] + rng.normal(size=(4 * count, 16)) * 0.8
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return data, rows.astype(np.float32)


@pytest.mark.parametrize("few", [0, 32])
def test_a_positives_rank_is_one_more_than_the_negatives_before_it(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.objective.ranking.FEW", few)  # both ways of counting
    data, rows = two_towns()
    ranks = ranks_of_pairs(data, rows)
    which, positive = pairs_of(data)
    assert len(ranks) == len(which) == sum(map(len, data.positives))
    for i, p, found in zip(which, positive, ranks, strict=True):
        query = data.queries[i]
        negatives = set(data.database_of(int(data.region[query])).tolist()) - set(data.near[i].tolist()) - {int(query)}
        before = sum(float(rows[n] @ rows[query]) >= float(rows[p] @ rows[query]) for n in negatives)
        assert found == 1 + before


def test_recall_is_that_of_the_evaluation() -> None:
    data, rows = two_towns()
    found = recall_percent(first_right_ranks(data, rows), (1, 5, 10))
    shares = []
    for region in (0, 1):
        asked = np.flatnonzero(data.region[data.queries] == region)
        answers = data.database_of(region)
        ranked = rank(rows[data.queries[asked]], rows[answers], 10)
        right = [np.flatnonzero(np.isin(answers, data.near[i])) for i in asked]
        shares.append([recall_at_k(ranked, right, k) for k in (1, 5, 10)])
    np.testing.assert_allclose([found[f"R@{k}"] for k in (1, 5, 10)], 100 * np.mean(shares, axis=0))
    assert 0 < found["R@1"] < 100


def test_a_network_that_describes_all_images_alike_is_wrong_everywhere() -> None:
    data, rows = two_towns(20)
    alike = np.ones_like(rows) / 4
    assert (ranks_of_pairs(data, alike) > 10).all()
    assert recall_percent(first_right_ranks(data, alike))["R@10"] == 0.0


def test_a_network_that_fails_is_no_network_that_finds() -> None:
    """NaN is larger than nothing: counted naively, every query would be answered at rank 1."""
    from training.loop.describing import describe
    from training.networks.descriptor_net import DescriptorNet

    net = DescriptorNet("mobilenet_v2").train()
    with torch.no_grad():
        next(net.parameters()).fill_(float("nan"))

    class Noise:
        def batch(self, indices: np.ndarray, generator: object) -> torch.Tensor:
            return torch.zeros((len(indices), 3, 32, 32))

    with pytest.raises(sdk.EngineError, match="not finite"):
        describe(net, Noise(), np.arange(3))
    assert net.training  # its mode is put back
    assert describe(net.eval(), Noise(), np.arange(0)).shape == (0, net.descriptor_dim)


def test_mined_negatives_are_the_most_similar_of_other_places() -> None:
    data, rows = two_towns()
    asked: list[np.ndarray] = []

    def describe(images: np.ndarray) -> np.ndarray:
        asked.append(images)
        return rows[images]

    queries = np.arange(0, 80, 7)
    tuples = mine(data, queries, describe, negatives=5, pool=1000, positive="nearest", seed=[1])
    assert len(asked) == 1  # the network sees each image once
    for i, p, negatives in zip(queries, tuples.positive, tuples.negatives, strict=True):
        query = data.queries[i]
        others = np.setdiff1d(data.database_of(int(data.region[query])), data.near[i])
        hardest = others[np.argsort(-(rows[others] @ rows[query]))[:5]]
        assert set(negatives) == set(hardest)
        assert p == data.positives[i][np.argmax(rows[data.positives[i]] @ rows[query])]


def test_a_region_without_enough_other_places_is_said() -> None:
    data, rows = two_towns(5)
    with pytest.raises(ValueError, match="expected at least 5"):
        mine(data, np.arange(10), lambda images: rows[images], negatives=5, pool=1000, positive="nearest", seed=[0])


def test_every_query_comes_once_before_any_comes_twice() -> None:
    drawn = queries_in_turn(7, 0, 21, seed=3)
    for turn in range(3):
        assert sorted(drawn[7 * turn : 7 * turn + 7]) == list(range(7))
    assert (queries_in_turn(7, 5, 9, seed=3) == drawn[5:14]).all()  # a run can go on from anywhere
    assert (queries_in_turn(7, 0, 21, seed=4) != drawn).any()
    weight = np.array([1, 1, 1, 1, 1, 1, 6], np.float32)
    often = queries_in_turn(7, 0, 7000, seed=0, weight=weight)
    assert np.bincount(often)[6] / 7000 == pytest.approx(0.5, abs=0.03)
