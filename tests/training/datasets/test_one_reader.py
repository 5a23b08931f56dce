"""Evaluation and training see the same queries and the same true places in one folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets_on_disk import write_csv, write_images

from sdk.evaluation.sets import PlaceSet, read_frame_sets, read_position_set
from training.datasets import TrainingSet, open_training_set, summary

Truth = dict[str, list[str]]


def seen_by_evaluation(one: PlaceSet, protocol: str) -> Truth:
    assert one.database is not None
    return {
        query.name: sorted(one.database[i].name for i in true)
        for query, true in zip(one.queries, one.protocols[protocol], strict=True)
        if len(true)
    }


def seen_by_training(made: TrainingSet) -> Truth:
    return {
        made.images[query].name: sorted(made.images[i].name for i in near)
        for query, near in zip(made.queries, made.near, strict=True)
    }


def test_frame_ranges_with_a_row_that_is_not_trusted(tmp_path: Path) -> None:
    write_images(tmp_path / "database" / f"d{i}.jpg" for i in range(5))
    write_images(tmp_path / "query" / f"q{i}.jpg" for i in range(5))  # q4 is in no row
    write_csv(
        tmp_path / "ground_truth.csv",
        ("query_set", "query", "db", "db_first_ok", "db_last_ok", "trusted"),
        [
            ("query", "q0.jpg", "d0.jpg", "d0.jpg", "d1.jpg", 1),
            ("query", "q1.jpg", "d1.jpg", "d0.jpg", "d2.jpg", 1),
            ("query", "q2.jpg", "", "", "", 0),
            ("query", "q3.jpg", "d4.jpg", "d3.jpg", "d4.jpg", 1),
        ],
    )
    (one,) = read_frame_sets(tmp_path, [1])
    made = open_training_set(f"frames:{tmp_path}", "all")
    expected = {
        "q0.jpg": ["d0.jpg", "d1.jpg"],
        "q1.jpg": ["d0.jpg", "d1.jpg", "d2.jpg"],
        "q3.jpg": ["d3.jpg", "d4.jpg"],
    }
    assert seen_by_evaluation(one, "the set's own") == seen_by_training(made) == expected
    assert [query.name for query in one.queries] == ["q0.jpg", "q1.jpg", "q3.jpg", "q4.jpg"]
    assert len(one.queries) == len(made.queries) + made.unmatched
    assert (one.untrusted, made.untrusted, summary(made)["queries_not_trusted"]) == (1, 1, 1)


def deep_vg(folder: Path, rng: np.random.Generator, zones: tuple[int, ...]) -> str:
    for side in ("database", "queries"):
        for i in range(60):
            zone = zones[i % len(zones)]
            # Zones 32 and 33 meet at 12 degrees east; an easting says nothing beside one of the other zone.
            lat, lon = 48 + rng.uniform(0, 1e-3), (12 if zone == 33 else 11.999) + rng.uniform(0, 1e-3)
            name = (
                f"@{500_000 + rng.uniform(0, 80):.2f}@{5e6 + rng.uniform(0, 80):.2f}@{zone}@U@{lat:.7f}@{lon:.7f}@{i}@"
            )
            write_images([folder / "test" / side / f"{name}@@@@@@@@.jpg"])
    return f"deep-vg:{folder}"


def places(folder: Path, rng: np.random.Generator, columns: tuple[str, str, str], scale: float) -> str:
    rows = []
    for side in ("database", "queries"):
        here = []
        for i in range(60):
            # Altitudes differ by up to 40 m: floors of a car park count as distance in both readers.
            x, y, z = (48 if scale < 1 else 0) + rng.uniform(0, 80 * scale), rng.uniform(0, 80 * scale), 20 * (i % 3)
            here.append((f"{side[0]}{i}.jpg", x, y, z))
        write_images(folder / "test" / side / row[0] for row in here)
        write_csv(folder / "test" / side / "places.csv", ("image", *columns), here)
        rows += [(f"test/{side}/{row[0]}", *row[1:], "reference" if side == "database" else "drive") for row in here]
    write_csv(folder / "places.csv", ("image", *columns, "traverse"), rows)
    return f"csv:{folder}"


LAYOUTS: dict[str, Callable[[Path, np.random.Generator], str]] = {
    "names in one UTM zone": lambda folder, rng: deep_vg(folder, rng, (32,)),
    "names in two UTM zones": lambda folder, rng: deep_vg(folder, rng, (32, 33)),
    "places.csv in metres": lambda folder, rng: places(folder, rng, ("x_m", "y_m", "z_m"), 1.0),
    "places.csv in degrees": lambda folder, rng: places(folder, rng, ("lat_deg", "lon_deg", "alt_m"), 1e-5),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_positions(layout: str, tmp_path: Path) -> None:
    data = LAYOUTS[layout](tmp_path, np.random.default_rng(0))
    one = read_position_set(tmp_path / "test" / "database", tmp_path / "test" / "queries", 25.0)
    made = open_training_set(f"{data}?positive_radius_m=25", "test" if data.startswith("deep") else "all")
    truth = seen_by_evaluation(one, "25 m")
    assert truth == seen_by_training(made)
    assert len(truth) > 20
    assert len(one.queries) == len(made.queries) + made.unmatched


def test_folders_in_one_zone_each_are_not_compared_by_easting(tmp_path: Path) -> None:
    for side, zone, where in (("database", 33, "48.0@12.1"), ("queries", 32, "48.0@11.9")):
        write_images([tmp_path / side / f"@500000.00@5300000.00@{zone}@U@{where}@@@@@@@@@.jpg"])
    one = read_position_set(tmp_path / "database", tmp_path / "queries", 25.0)
    assert [true.tolist() for true in one.protocols["25 m"]] == [[]], "equal eastings, 15 km apart"
