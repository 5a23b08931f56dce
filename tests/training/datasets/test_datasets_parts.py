"""Training sets themselves: what is near by a search that we did not write, sets in parts and together, label maps."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest

from sdk import DataError, UsageError
from sdk.frames.folder import list_images
from training.datasets import TrainingSet, find_label_maps, hold_out, join_sets, set_from_places, set_from_positions


def files(count: int, root: Path = Path("images")) -> list[Path]:
    return [root / f"{i:06d}.jpg" for i in range(count)]


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("scale_m", [1.0, 60.0, 1e5])
def test_near_and_positives_are_those_of_all_distances(dimensions: int, scale_m: float) -> None:
    rng = np.random.default_rng(dimensions)
    count = 400
    # Whole metres, so that many pairs are exactly a radius apart, around a UTM northing.
    positions_m = np.round(rng.normal(0.0, scale_m, (count, dimensions))) + 4_476_993.0
    positions_m[:40] = positions_m[40:80]  # and some at one point
    heading_deg = np.where(rng.random(count) < 0.2, np.nan, rng.uniform(0, 360, count))
    region = rng.integers(0, 3, count).astype(np.int32)
    queries, database = np.flatnonzero(rng.random(count) < 0.6), np.flatnonzero(rng.random(count) < 0.6)
    made = set_from_positions(
        "some", files(count), positions_m, queries=queries, database=database, positive_radius_m=10, near_radius_m=25,
        region=region, heading_deg=heading_deg, most_turned_deg=60,
    )  # fmt: skip

    apart_m = np.linalg.norm(positions_m[:, None] - positions_m[None], axis=2)
    turned_deg = np.abs(np.angle(np.exp(1j * np.radians(heading_deg[:, None] - heading_deg[None])), deg=True))
    candidate = (region[:, None] == region[None]) & ~np.eye(count, dtype=bool)
    candidate[:, np.setdiff1d(np.arange(count), database)] = False
    near = candidate & (apart_m <= 25)
    positive = candidate & (apart_m <= 10) & ~(turned_deg > 60)
    matched = [query for query in queries if positive[query].any()]
    assert made.queries.tolist() == matched
    assert made.unmatched == len(queries) - len(matched)
    for row, query in enumerate(matched):
        assert made.near[row].tolist() == np.flatnonzero(near[query]).tolist()
        assert made.positives[row].tolist() == np.flatnonzero(positive[query]).tolist()


def test_a_city_of_sixty_thousand_images_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    count = 60_000
    positions_m = rng.uniform(0, 10_000, (count, 2))
    every = np.arange(count)
    began_s = time.process_time()  # others' load does not count
    made = set_from_positions("city", files(count), positions_m, queries=every[::2], database=every[1::2])
    assert time.process_time() - began_s < 10.0  # all distances would be 9e8
    expected = count / 2 * (1 - np.exp(-np.pi * 10**2 * 30_000 / 10_000**2))  # Poisson, 10 m
    assert len(made.queries) == pytest.approx(expected, rel=0.05)


def test_places_of_one_number_in_two_regions_are_two() -> None:
    made = set_from_places(
        "towns", files(6), np.array([7, 7, 7, 7, 1, 7]), region=np.array([0, 0, 1, 1, 1, 2], np.int32)
    )
    assert made.queries.tolist() == [0, 1, 2, 3]
    assert [near.tolist() for near in made.near] == [[1], [0], [3], [2]]
    assert made.unmatched == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"near": (np.array([2]), np.array([3]))}, "not near"),
        ({"positives": (np.array([], int), np.array([3]))}, "no positive"),
        ({"near": (np.array([0, 1]), np.array([3]))}, r"000000\.jpg counts itself"),
        ({"region": np.array([0, 0, 1, 0], np.int32)}, r"000002\.jpg counts .* another region"),
        ({"database": np.array([1])}, "not in the database"),
        ({"queries": np.array([0])}, "different lengths"),
        ({"query_weight": np.ones(3, np.float32)}, "different lengths"),
    ],
)
def test_contradictions_are_refused(change: dict[str, object], message: str) -> None:
    good = TrainingSet(
        "set", tuple(files(4)), np.array([0, 2]), np.array([0, 1, 3]), (np.array([1]), np.array([3])),
        (np.array([1]), np.array([3])), np.zeros(4, np.int32),
    )  # fmt: skip
    with pytest.raises(DataError, match=message):
        dataclasses.replace(good, **change)


def street(count: int, spacing_m: float, gap_after: int | None = None) -> TrainingSet:
    """Two drives along one street; with a gap, two streets."""
    along = np.arange(count) * spacing_m
    if gap_after is not None:
        along[gap_after:] += 1000.0
    positions_m = np.column_stack([np.tile(along, 2), np.repeat([0.0, 1.0], count)])
    return set_from_positions(
        "street", files(2 * count), positions_m, queries=np.arange(count), database=np.arange(count, 2 * count)
    )


def positions_of(made: TrainingSet, images: np.ndarray) -> np.ndarray:
    assert made.positions_m is not None
    return made.positions_m[images]


@pytest.mark.parametrize("seed", range(5))
def test_no_place_held_out_is_seen_in_training(seed: int) -> None:
    whole = street(200, 5.0)
    train, val = hold_out(whole, 0.2, seed)
    assert 0.15 < len(val.queries) / 200 < 0.25
    assert len(train.queries) > 140, "one cut costs the queries beside it, not more"
    seen = np.concatenate([positions_of(train, train.queries), positions_of(train, train.database)])
    asked = positions_of(val, val.queries)
    apart_m = np.abs(asked[:, None, 0] - seen[None, :, 0])
    assert apart_m.min() > 24.0, "no image in training is near a query that validates"
    assert len(train.images) == len(train.queries) + len(train.database), "and none of them is listed"
    assert len(val.database) == 200, "all of the database is searched"
    extent = np.ptp(asked[:, 0])
    assert extent == pytest.approx((len(asked) - 1) * 5.0), "one stretch"


def test_parts_keep_what_was_known_of_their_queries() -> None:
    whole = dataclasses.replace(street(60, 5.0), query_weight=np.arange(1, 61, dtype=np.float32), root=Path("images"))
    known = {
        whole.images[query]: (float(weight), {whole.images[i] for i in near})
        for query, weight, near in zip(whole.queries, whole.query_weight, whole.near, strict=True)
    }
    for part in hold_out(whole, 0.3):
        assert part.root == Path("images")
        for query, weight, near in zip(part.queries, part.query_weight, part.near, strict=True):
            assert known[part.images[query]] == (weight, {part.images[i] for i in near})


def test_whole_places_and_streets_are_held_out_uncut() -> None:
    places = np.repeat(np.arange(10), 12)
    train, val = hold_out(set_from_places("months", files(120), places), 0.2, seed=1)
    held = {int(image.stem) // 12 for image in (val.images[i] for i in val.queries)}
    assert len(held) == 2
    assert len(val.queries) == 24
    assert {int(image.stem) // 12 for image in train.images} == set(range(10)) - held

    drawn = 0
    for seed in range(10):
        train, val = hold_out(street(100, 5.0, gap_after=80), 0.2, seed)
        assert len(val.queries) == 20
        if positions_of(val, val.queries)[:, 0].min() > 1000:  # the short street, which touches no other
            drawn += 1
            assert len(train.queries) == 80
    assert drawn > 0


def test_division_is_the_same_for_one_seed_and_needs_two_places() -> None:
    whole = street(200, 5.0)
    parts = [hold_out(whole, 0.2, seed)[1] for seed in (3, 3, 4, 5)]
    draws = [[part.images[i] for i in part.queries] for part in parts]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2] or draws[0] != draws[3]
    with pytest.raises(DataError, match="cannot be divided"):
        hold_out(set_from_places("webcam", files(5), np.zeros(5, np.int64)), 0.5)
    with pytest.raises(UsageError, match="share is 1, expected"):
        hold_out(whole, 1.0)
    with pytest.raises(UsageError, match="seed is -1, expected 0 or more"):
        hold_out(whole, 0.2, -1)


def test_joined_sets_keep_their_pairs_and_stay_apart() -> None:
    one = street(20, 5.0)
    other = set_from_places("months", files(6, Path("months")), np.array([0, 0, 1, 1, 0, 0]),
                            region=np.array([4, 4, 4, 4, 9, 9], np.int32))  # fmt: skip
    other = dataclasses.replace(other, query_weight=np.full(6, 2.0, np.float32))
    both = join_sets([one, other])
    assert len(both.images) == 46
    assert both.query_weight is not None
    assert both.query_weight.tolist() == [1.0] * 20 + [2.0] * 6
    assert [len(both.database_of(region)) for region in range(3)] == [20, 4, 2]
    for made, first in ((one, 0), (other, 20)):
        for row, query in enumerate(made.queries):
            assert both.images[both.queries[first + row]] == made.images[query]
            assert [both.images[i] for i in both.near[first + row]] == [made.images[i] for i in made.near[row]]


def test_label_maps_mirror_the_images(tmp_path: Path) -> None:
    images = [tmp_path / "images" / drive / f"{i}.jpg" for drive in ("day", "night") for i in range(2)]
    made = set_from_places("set", images, np.zeros(4, np.int64), root=tmp_path / "images")
    for image in images:
        label = tmp_path / "labels" / image.relative_to(tmp_path / "images").with_suffix(".png")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.touch()
    maps = find_label_maps(made, None, tmp_path / "labels")
    assert [path.relative_to(tmp_path).as_posix() for path in maps] == [
        "labels/day/0.png", "labels/day/1.png", "labels/night/0.png", "labels/night/1.png",
    ]  # fmt: skip
    maps[3].unlink()
    maps[2].unlink()
    with pytest.raises(
        DataError, match=r"2 of 4 label maps are missing, the first is .*night/0\.png.*structvpr train lab"
    ):
        find_label_maps(made, None, tmp_path / "labels")
    with pytest.raises(DataError, match=r"night/0\.jpg lies outside of|day/0\.jpg lies outside of"):
        find_label_maps(made, tmp_path / "other", tmp_path / "labels")
    with pytest.raises(DataError, match="is made of several folders"):
        find_label_maps(dataclasses.replace(made, root=None), None, tmp_path / "labels")


def test_two_images_never_share_a_label_map(tmp_path: Path) -> None:
    images = [tmp_path / "a.jpg", tmp_path / "a.png"]
    made = set_from_places("set", images, np.zeros(2, np.int64), root=tmp_path)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.png").touch()
    with pytest.raises(DataError, match=r"a\.jpg and .*a\.png would share one label map"):
        find_label_maps(made, None, tmp_path / "labels")


def test_an_image_is_never_its_own_positive_under_another_number() -> None:
    twice = [Path("a.jpg"), Path("b.jpg"), Path("a.jpg")]
    with pytest.raises(DataError, match=r"a\.jpg is listed twice and would be its own positive; remove one row"):
        set_from_places("set", twice, np.zeros(3, np.int64))
    apart = set_from_places("set", twice, np.array([0, 0, 1]))  # nothing pairs the two
    assert apart.queries.tolist() == [0, 1]


def test_an_angle_that_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match="most_turned_deg is nan, expected degrees"):
        set_from_positions(
            "set", files(2), np.zeros((2, 2)), queries=np.arange(2), database=np.arange(2), most_turned_deg=np.nan
        )


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for name in ("set/a/0.jpg", "other/1.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "set" / "a" / "up").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "a" / "self").symlink_to(tmp_path / "set" / "a")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "set" / "again").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "back").symlink_to(tmp_path / "set")
    found = [path.relative_to(tmp_path / "set").as_posix() for path in list_images(tmp_path / "set")]
    assert found == ["a/0.jpg", "again/1.jpg", "linked/1.jpg"]


def test_an_image_outside_the_tree_by_way_of_dots_has_no_label_map(tmp_path: Path) -> None:
    (tmp_path / "images" / "day").mkdir(parents=True)
    (tmp_path / "labels").mkdir()
    for name in ("labels/0.png", "labels/1.png"):
        (tmp_path / name).touch()
    inside = [tmp_path / "images" / "day" / ".." / f"{i}.jpg" for i in range(2)]
    made = set_from_places("set", inside, np.zeros(2, np.int64), root=tmp_path / "images")
    maps = find_label_maps(made, None, tmp_path / "labels")
    assert [path.relative_to(tmp_path).as_posix() for path in maps] == ["labels/0.png", "labels/1.png"]
    outside = dataclasses.replace(made, images=(inside[0], tmp_path / "images" / ".." / "labels" / "1.jpg"))
    with pytest.raises(DataError, match=r"labels/1\.jpg lies outside of .*images, whose tree"):
        find_label_maps(outside, None, tmp_path / "labels")
