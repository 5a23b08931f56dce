"""Readers of published sets, each on a small fixture in the layout and with the names that the real one has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets_on_disk import asked, found, write_csv, write_images, write_msls_city

from sdk import DataError, UsageError
from training.datasets import TrainingSet, nordland, open_training_set, summary

# Mapillary Street-Level Sequences


@pytest.fixture
def msls(tmp_path: Path) -> Path:
    """Four cities whose eastings and northings are the same, as those of different zones may be."""
    for city in ("london", "tokyo", "cph", "sf"):
        write_msls_city(
            tmp_path,
            city,
            "query",
            [
                {"key": f"{city}-GBAWsZbi5dj3vR2m", "easting": 500000.0, "northing": 6000000.0,
                 "night": city == "tokyo"},
                {"key": f"{city}-query_panorama_", "easting": 500001.0, "northing": 6000000.0, "pano": True},
                {"key": f"{city}-sideways_far_of", "easting": 500040.0, "northing": 6000000.0,
                 "view_direction": "Sideways", "all": False},
            ],
        )  # fmt: skip
        write_msls_city(
            tmp_path,
            city,
            "database",
            [
                {"key": f"{city}-9_m", "easting": 500009.0, "northing": 6000000.0, "ca": 260.0},
                {"key": f"{city}-11_m", "easting": 500011.0, "northing": 6000000.0},
                {"key": f"{city}-26_m", "easting": 500026.0, "northing": 6000000.0},
                {"key": f"{city}-45_m", "easting": 500045.0, "northing": 6000000.0},
                {"key": f"{city}-pano", "easting": 500000.0, "northing": 6000000.0, "pano": True},
            ],
        )
    return tmp_path


def test_msls_train_has_positives_to_10_m_and_no_negatives_to_25_m_in_its_own_city(msls: Path) -> None:
    made = open_training_set(f"msls:{msls}?cities=london,tokyo", "train")
    query = "london-GBAWsZbi5dj3vR2m.jpg"
    assert found(made, query) == ["london-9_m.jpg"]
    assert found(made, query, "near") == ["london-11_m.jpg", "london-9_m.jpg"]
    assert len(made.images) == 12, "panoramas are left out, of queries and of the database"
    assert not any("pano" in image.name for image in made.images)
    assert set(made.region[made.database]) == {0, 1}
    assert open_training_set(f"msls:{msls}?cities=london,tokyo,london", "train").images == made.images
    with pytest.raises(DataError, match="lacks 20 of 22 cities"):  # none named are all
        open_training_set(f"msls:{msls}?cities=", "train")


def test_msls_cities_are_not_mixed_though_searched_together(msls: Path) -> None:
    apart = open_training_set(f"msls:{msls}?cities=london,tokyo", "train")
    together = open_training_set(f"msls:{msls}?cities=london,tokyo&by_city=false", "train")
    assert set(together.region) == {0}
    for one, other in zip(apart.near, together.near, strict=True):
        assert one.tolist() == other.tolist()


def test_msls_val_takes_the_subtask_and_25_m(msls: Path) -> None:
    made = open_training_set(f"msls:{msls}/train_val", "val")
    assert asked(made) == ["cph-GBAWsZbi5dj3vR2m.jpg", "sf-GBAWsZbi5dj3vR2m.jpg"], "subtask all leaves one out"
    assert found(made, "sf-GBAWsZbi5dj3vR2m.jpg") == ["sf-11_m.jpg", "sf-9_m.jpg"]
    assert made.query_weight is None


def test_msls_draws_night_and_sideways_more_often(msls: Path) -> None:
    made = open_training_set(f"msls:{msls}?cities=london,tokyo", "train")
    weight = {made.images[i].name: float(w) for i, w in zip(made.queries, made.query_weight, strict=True)}
    # Four queries, one at night, two sideways: 1 + 4 / 1 and 1 + 4 / 2, as in mapillary_sls.
    assert weight["london-GBAWsZbi5dj3vR2m.jpg"] == 1.0
    assert weight["tokyo-GBAWsZbi5dj3vR2m.jpg"] == 5.0
    assert weight["tokyo-sideways_far_of.jpg"] == 3.0


def test_msls_compass_leaves_out_positives_that_look_elsewhere(msls: Path) -> None:
    made = open_training_set(f"msls:{msls}?cities=london&most_turned_deg=40", "train")
    assert asked(made) == ["london-sideways_far_of.jpg"], "the one at 9 m looks to the west"
    assert made.unmatched == 1


@pytest.mark.parametrize(
    ("change", "split", "message"),
    [
        ("", "train", r"lacks 20 of 22 cities, the first is amman.*metadata\.zip"),
        ("", "test", r"expected train or val; .*athens.* hidden"),
        ("?cities=miami", "train", r"miami is none of its cities"),
        ("?cities=cph", "train", r"cph is none of its cities"),
    ],
)
def test_msls_refuses(msls: Path, change: str, split: str, message: str) -> None:
    with pytest.raises(DataError if "lacks" in message else UsageError, match=message):
        open_training_set(f"msls:{msls}{change}", split)


def test_msls_counts_missing_images_and_names_a_missing_column(msls: Path) -> None:
    database = msls / "train_val" / "sf" / "database"
    (database / "images" / "sf-9_m.jpg").unlink()
    (database / "images" / "sf-26_m.jpg").unlink()
    with pytest.raises(DataError, match=r"2 of 10 images are missing, the first is .*sf-9_m\.jpg"):
        open_training_set(f"msls:{msls}", "val")
    (database / "raw.csv").write_text(",key,lon,lat\n0,sf-9_m,0,0\n")
    with pytest.raises(DataError, match=r"database/raw\.csv: lacks the column pano"):
        open_training_set(f"msls:{msls}", "val")
    (database / "raw.csv").unlink()
    with pytest.raises(DataError, match=r"raw\.csv: cannot be read \(No such file"):
        open_training_set(f"msls:{msls}", "val")


# Deep visual geo-localization benchmark


def utm_name(east: float, north: float, zone: str = "17", letter: str = "T", where: str = "@", note: str = "") -> str:
    return f"@{east:010.2f}@{north:010.2f}@{zone}@{letter}@{where}@fb8mi2T@00@@@@@@{note}@.jpg"


def test_deep_vg_reads_positions_from_base_names_under_folders_with_an_at_sign(tmp_path: Path) -> None:
    root = tmp_path / "me@home" / "pitts30k"
    query = utm_name(585001.23, 4476993.5, note="query")
    for split in ("train", "test"):
        write_images(
            root / "images" / split / folder / name
            for folder, name in [
                ("queries", query),
                ("database", utm_name(585010.23, 4476993.5)),
                ("database", utm_name(585020.23, 4476993.5)),
                ("database", utm_name(585027.23, 4476993.5)),
            ]
        )
    train, test = (open_training_set(f"deep-vg:{root}", split) for split in ("train", "test"))
    near = [utm_name(585010.23, 4476993.5), utm_name(585020.23, 4476993.5)]
    assert found(train, query) == near[:1]
    assert found(train, query, "near") == near
    assert found(test, query) == near


def test_deep_vg_never_compares_eastings_of_two_zones(tmp_path: Path) -> None:
    # Copenhagen and San Francisco with one easting and northing.
    copenhagen, san_francisco = "055.67610@0012.56830", "037.77490@-122.4194"
    query = utm_name(347000, 6172000, "33", "U", copenhagen, "query")
    twin = utm_name(347000, 6172000, "10", "S", san_francisco)
    # 55.6762 is 11 m to the north of 55.6761.
    neighbour = utm_name(347000, 6172011, "33", "U", "055.67620@0012.56830")
    across = utm_name(980000, 6172011, "32", "U", "055.67610@0012.56840")
    write_images(tmp_path / "images" / "val" / "database" / name for name in (twin, neighbour, across))
    write_images([tmp_path / "images" / "val" / "queries" / query])
    made = open_training_set(f"deep-vg:{tmp_path}", "val")
    assert found(made, query) == sorted([neighbour, across])
    for image in (tmp_path / "images").rglob("*.jpg"):
        image.rename(image.with_name("@".join((*image.name.split("@")[:5], "", "", "", ".jpg"))))
    with pytest.raises(DataError, match=r"no latitude and longitude .* 3 UTM zones \(10S, 32U, 33U\)"):
        open_training_set(f"deep-vg:{tmp_path}", "val")


def test_deep_vg_bands_of_one_zone_are_comparable(tmp_path: Path) -> None:
    query, answer = utm_name(500000, 5316300, "32", "T", note="q"), utm_name(500000, 5316310, "32", "U")
    write_images([tmp_path / "test" / "queries" / query, tmp_path / "test" / "database" / answer])
    assert found(open_training_set(f"deep-vg:{tmp_path}", "test"), query) == [answer]


def test_deep_vg_reads_nordland_with_its_dummy_coordinates(tmp_path: Path) -> None:
    names = [f"@0@{i * 25 / 10.5:07.1f}@@@@@{i}@@@@@@@@.jpg" for i in range(30)]
    write_images(tmp_path / "images" / "test" / folder / name for folder in ("database", "queries") for name in names)
    made = open_training_set(f"deep-vg:{tmp_path}", "test")
    assert len(made.positives[15]) == 21, "10 frames to either side, as the downloader means it"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plain.jpg", r"plain\.jpg: has no position in its name"),
        ("@east@north@17@T@.jpg", "the position in its name is not two finite numbers"),
        (None, "there is no such folder"),
    ],
)
def test_deep_vg_refuses(tmp_path: Path, name: str | None, message: str) -> None:
    write_images([tmp_path / "images" / "val" / "queries" / utm_name(1, 2)])
    if name:
        write_images([tmp_path / "images" / "val" / "database" / name])
    with pytest.raises(DataError, match=message):
        open_training_set(f"deep-vg:{tmp_path}", "val")


# GSV-Cities

GSV_COLUMNS = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")


@pytest.fixture
def gsv(tmp_path: Path) -> Path:
    for city, lat, lon in (("London", "51.4861", "-0.0895151"), ("OSL", "59.9100", "10.75")):
        rows = [
            (130 + (i > 3), 2015 + i % 4, 4, 15, city, lat, lon, f"{city}_{i}-t-xc_saz") for i in range(7)
        ]  # four images of place 130, three of 131
        write_csv(tmp_path / "Dataframes" / f"{city}.csv", GSV_COLUMNS, rows)
        write_images(
            tmp_path
            / "Images"
            / city
            # The name has the digits that pandas prints, the CSV here has a 0 more.
            / f"{city}_{place:07d}_{year}_{month:02d}_{bearing:03d}_{float(lat)}_{float(lon)}_{panorama}.JPG"
            for place, year, month, bearing, _, lat, lon, panorama in rows
        )
    return tmp_path


def test_gsv_places_of_two_cities_are_different_though_their_ids_are_equal(gsv: Path) -> None:
    made = open_training_set(f"gsv-cities:{gsv}", "all")
    assert summary(made) | {"name": ""} == {
        "name": "", "images": 8, "queries": 8, "queries_without_positive": 0, "queries_not_trusted": 0, "database": 8,
        "positives_per_query": 3.0, "near_per_query": 3.0, "regions": 2,
    }  # fmt: skip
    for query, positives in zip(made.queries, made.positives, strict=True):
        city = made.images[query].parent.name
        assert {made.images[i].parent.name for i in positives} == {city}
        assert {made.images[i].name.split("_")[1] for i in positives} == {"0000130"}, "131 has three images, not four"


def test_gsv_options_and_missing_images(gsv: Path) -> None:
    made = open_training_set(f"gsv-cities:{gsv}?cities=OSL&least_images=3", "all")
    assert len(made.images) == 7
    assert open_training_set(f"gsv-cities:{gsv}?cities=OSL,OSL&least_images=3", "all").images == made.images
    assert len(open_training_set(f"gsv-cities:{gsv}?cities=&least_images=3", "all").images) == 14
    train, val = (
        open_training_set(f"gsv-cities:{gsv}?least_images=3&held_out=0.3", split) for split in ("train", "val")
    )
    assert not {made.images[i] for made in (train,) for i in made.queries} & {val.images[i] for i in val.queries}
    next((gsv / "Images" / "OSL").iterdir()).unlink()
    with pytest.raises(DataError, match=r"1 of 14 images are missing, the first is .*OSL_000013\d_20"):
        open_training_set(f"gsv-cities:{gsv}?least_images=3", "all")
    with pytest.raises(UsageError, match=r"lacks Paris\.csv, has London, OSL"):
        open_training_set(f"gsv-cities:{gsv}?cities=Paris", "all")


# Nordland


@pytest.fixture
def seasons(tmp_path: Path) -> Path:
    """45 frames of which 40 are without tunnels and stops."""
    frames = [f"images-{i:05d}.png" for i in range(200, 245)]
    write_images(tmp_path / season / name for season in ("summer", "winter") for name in frames)
    (tmp_path / "cleanImageNames.txt").write_text("\n".join(frames[2:-3]) + "\n")
    return tmp_path


def frames_found(made: TrainingSet, row: int) -> list[int]:
    """Which of the database in its order are positives of the query in this row."""
    return sorted(int(np.searchsorted(made.database, i)) for i in made.positives[row])


def test_nordland_of_patch_netvlad_is_7_frames_not_10(seasons: Path) -> None:
    made = open_training_set(f"nordland:{seasons}", "test")
    assert len(made.queries) == len(made.database) == 40
    points = np.stack([np.arange(40), np.arange(40)], axis=1)  # utmQ and utmDb of its nordland.npz
    within = np.linalg.norm(points[:, None] - points[None], axis=2) <= 10
    for row in range(40):
        assert frames_found(made, row) == np.flatnonzero(within[row]).tolist()
    assert len(made.positives[20]) == 15
    assert {made.images[i].parent.name for i in made.queries} == {"winter"}
    assert {made.images[i].parent.name for i in made.database} == {"summer"}


def test_nordland_with_ten_frames_has_21_positives(seasons: Path) -> None:
    made = open_training_set(f"nordland:{seasons}?protocol=ten-frames", "test")
    assert frames_found(made, 20) == list(range(10, 31))


def test_nordland_takes_a_tolerance_of_0(seasons: Path) -> None:
    made = open_training_set(f"nordland:{seasons}?tolerance=0", "test")
    assert [frames_found(made, row) for row in (0, 20, 39)] == [[0], [20], [39]]
    with pytest.raises(UsageError, match="expected 0 < positives"):
        open_training_set(f"nordland:{seasons}?tolerance=-1", "test")


def test_nordland_refuses_seasons_of_other_names_and_one_season_for_both(seasons: Path) -> None:
    with pytest.raises(DataError, match=r"images-00202\.png is listed twice and would be its own positive"):
        open_training_set(f"nordland:{seasons}?queries=summer&database=summer", "test")
    (seasons / "winter" / "images-00210.png").rename(seasons / "winter" / "images-00201.png")
    (seasons / "cleanImageNames.txt").unlink()
    (seasons / "summer" / "images-00244.png").unlink()
    (seasons / "winter" / "images-00244.png").unlink()
    (seasons / "winter" / "images-00200.png").rename(seasons / "winter" / "images-00999.png")
    (seasons / "summer" / "images-00243.png").unlink()
    with pytest.raises(DataError, match=r"images-00201\.png and .*images-00200\.png have the same number in the order"):
        open_training_set(f"nordland:{seasons}", "test")
    (seasons / "cleanImageNames.txt").write_bytes(b"images-\xff.png")
    with pytest.raises(DataError, match=r"cleanImageNames\.txt: cannot be read .*; replace it"):
        open_training_set(f"nordland:{seasons}", "test")


def test_nordland_of_gsv_cities_asks_every_tenth_frame(tmp_path: Path) -> None:
    write_images(tmp_path / "ref" / f"{i:07d}.jpg" for i in range(41))
    write_images(tmp_path / "query" / f"{i:07d}.jpg" for i in range(5))
    made = open_training_set(f"nordland:{tmp_path}?protocol=gsv-cities", "test")
    assert [frames_found(made, row) for row in range(5)] == [  # the first rows of its Nordland_gt.npy, and its end
        [0, 1], [9, 10, 11], [19, 20, 21], [29, 30, 31], [39, 40],
    ]  # fmt: skip
    write_images([tmp_path / "query" / "0000005.jpg"])
    with pytest.raises(DataError, match="6 queries and 41 images of the database found, expected every 10th frame"):
        open_training_set(f"nordland:{tmp_path}?protocol=gsv-cities", "test")


def test_partitioned_nordland_sorts_by_number_and_keeps_sections_apart(tmp_path: Path) -> None:
    for season in ("summer", "winter"):
        for section, count in (("section1", 12), ("section2", 3)):
            folder = tmp_path / "test" / f"{season}_images_test" / section
            write_images(folder / f"{i}.png" for i in range(count))
    made = open_training_set(f"nordland:{tmp_path}?protocol=partitioned", "test")
    row = {f"{made.images[i].parent.name}/{made.images[i].name}": r for r, i in enumerate(made.queries)}
    names = {key: [made.images[i].name for i in made.positives[r]] for key, r in row.items()}
    assert sorted(names["section1/10.png"]) == ["10.png", "11.png", "9.png"]
    assert sorted(names["section1/11.png"]) == ["10.png", "11.png"], "the next section is elsewhere"
    assert sorted(names["section2/0.png"]) == ["0.png", "1.png"]


def test_nordland_refuses_frames_that_the_protocol_leaves_out(seasons: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(nordland.PROTOCOLS, "patch-netvlad", nordland.Protocol(7, 40))
    assert len(open_training_set(f"nordland:{seasons}", "test").database) == 40
    (seasons / "cleanImageNames.txt").unlink()
    with pytest.raises(
        DataError, match=r"has 45 images, the protocol patch-netvlad is on 40 .*put cleanImageNames\.txt"
    ):
        open_training_set(f"nordland:{seasons}", "test")
    with pytest.raises(UsageError, match="split is 'train', expected test"):
        open_training_set(f"nordland:{seasons}", "train")
    with pytest.raises(UsageError, match="protocol is '27592'"):
        open_training_set(f"nordland:{seasons}?protocol=27592", "test")
