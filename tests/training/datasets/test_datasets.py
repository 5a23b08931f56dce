"""Readers of sets of one's own, CSV files, worlds and ranges of frames, and how a set is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from datasets_on_disk import asked, found, write_csv, write_images

from sdk import DataError, UsageError
from training.datasets import has_own_split, open_training_set, parse_data

DATA = os.environ.get("STRUCTVPR_DATA")


def test_csv_with_positions_divides_traverses(tmp_path: Path) -> None:
    rows = [
        (f"images/{drive}/{i}.jpg", 8.0 * i, 0.0, drive, "train" if i < 3 else "val")
        for drive in ("reference", "dusk")
        for i in range(5)
    ]
    write_images(tmp_path / row[0] for row in rows)
    write_csv(tmp_path / "places.csv", ("image", "x_m", "y_m", "traverse", "split"), rows)
    made = open_training_set(f"csv:{tmp_path}", "train")
    assert {made.images[i].parent.name for i in made.queries} == {"dusk"}
    assert {made.images[i].parent.name for i in made.database} == {"reference"}
    assert found(made, "0.jpg") == ["0.jpg", "1.jpg"]
    assert found(made, "0.jpg", "near") == ["0.jpg", "1.jpg", "2.jpg"]
    swapped = open_training_set(f"csv:{tmp_path}?reference=dusk", "train")
    assert {swapped.images[i].parent.name for i in swapped.database} == {"dusk"}
    with pytest.raises(UsageError, match="no row of split 'test', has train, val"):
        open_training_set(f"csv:{tmp_path}", "test")
    assert has_own_split(f"csv:{tmp_path}")
    assert not has_own_split(f"csv:{tmp_path}?split_column=part")


def test_csv_on_earth_counts_metres_at_any_latitude(tmp_path: Path) -> None:
    # A degree of longitude is 111.3 km at the equator and 55.8 km at 60 degrees north.
    rows = [("a.jpg", 60.0, 10.0), ("b.jpg", 60.0, 10.00015), ("c.jpg", 0.0, 10.0), ("d.jpg", 0.0, 10.00015)]
    write_images(tmp_path / row[0] for row in rows)
    write_csv(tmp_path / "places.csv", ("image", "lat_deg", "lon_deg"), rows)
    made = open_training_set(f"csv:{tmp_path}", "all")
    assert asked(made) == ["a.jpg", "b.jpg"], "8.4 m apart; the others are 16.7 m apart"


def test_csv_without_positions_takes_names_as_places(tmp_path: Path) -> None:
    rows = [(f"michigan_loc{place:02d}", f"session{i:02d}") for place in range(1, 11) for i in range(1, 5)]
    files = [f"images/{place}/{session}.jpg" for place, session in rows]
    write_images(tmp_path / file for file in files)
    write_csv(
        tmp_path / "places.csv",
        ("place", "session", "path"),
        [(*row, file) for row, file in zip(rows, files, strict=True)],
    )
    made = open_training_set(f"csv:{tmp_path}", "all")
    for query, positives in zip(made.queries, made.positives, strict=True):
        assert {made.images[i].parent for i in positives} == {made.images[query].parent}
        assert len(positives) == 3
    by_session = open_training_set(f"csv:{tmp_path}?place=session", "all")
    assert len(by_session.positives[0]) == 9
    with pytest.raises(DataError, match="lacks the column file"):
        open_training_set(f"csv:{tmp_path}?image=file", "all")
    with pytest.raises(DataError, match=r"has the columns place, session, path; add x_m,y_m .* column camera"):
        open_training_set(f"csv:{tmp_path}?place=camera", "all")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"places\.csv: cannot be read \(No such file"),
        ("image,x_m,y_m\n", "has no rows"),
        ("image,x_m,y_m\na.jpg,1,2\nb.jpg,1,north\n", "line 3: y_m is 'north'; write a finite number"),
        ("image,x_m,y_m\na.jpg,1,2\nb.jpg,1\n", "line 3: has 2 values, expected 3"),
        ("image,x_m,y_m\na.jpg,1,2\nb.jpg,1,nan\n", "line 3: y_m is 'nan'; write a finite number"),
        ("image,x_m,y_m\na.jpg,1,2\nb.jpg,99,2\n", "2 images and no query that has a positive"),
        ("image,name\na.jpg,one\nb.jpg,two\n", "2 images and no query that has a positive"),
        ("image,x_m,y_m\na.jpg,1,2\n,1,2\n", "line 3: image is empty; fill it in"),
        ("image,x_m,y_m\na.jpg,1,2\nb.jpg,1,2\na.jpg,1,2\n", r"a\.jpg is listed twice .*remove one row"),
        ("image,x_m,x_m\na.jpg,1,2\n", "has the column x_m more than once"),
        ('image,x_m,y_m,name\na.jpg,1,2,"two\nlines"\n\nb.jpg,1,north,\n', "line 5: y_m is 'north'"),
        ("image,x_m,y_m\na.jpg,1\nb.jpg,1,2\n", "line 2: has 2 values, expected 3"),
        ("image,lat_deg,lon_deg\na.jpg,48,11\nb.jpg,151.2,-33.9\n", "line 3: latitude 151.2, .* columns swapped"),
        ("image,x_m,y_m\na.jpg,1,2\nc.jpg,1,2\n", r"1 of 2 images are missing, the first is .*c\.jpg"),
    ],
)
def test_csv_refuses(tmp_path: Path, text: str | None, message: str) -> None:
    write_images([tmp_path / "a.jpg", tmp_path / "b.jpg"])
    if text is not None:
        (tmp_path / "places.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        open_training_set(f"csv:{tmp_path}", "all")


def test_world_searches_each_town_and_looks_one_way(tmp_path: Path) -> None:
    rows = []
    for town in ("town0", "town1"):
        for drive, at, heading in (("reference", 0.0, 0.0), ("reference", 4.0, 90.0), ("snow", 1.0, 350.0)):
            file = f"images/{town}/{drive}/{at:03.0f}.png"
            rows.append((file, at, 0.0, 1.5, heading, at, "", drive, town, "train"))
    write_images(tmp_path / row[0] for row in rows)
    header = ("image", "x_m", "y_m", "z_m", "heading_deg", "timestamp_s", "name", "traverse", "region", "split")
    write_csv(tmp_path / "places.csv", header, rows)
    made = open_training_set(f"world:{tmp_path}", "train")
    assert len(made.queries) == 2
    for query, positives, near in zip(made.queries, made.positives, made.near, strict=True):
        town = tmp_path / "images" / made.images[query].relative_to(tmp_path / "images").parts[0]
        assert [made.images[i] for i in positives] == [town / "reference" / "000.png"], "the other looks across"
        assert len(near) == 2
    assert made.root == tmp_path / "images"


def test_frame_ranges_are_of_one_camera_and_of_trusted_rows(tmp_path: Path) -> None:
    database = [f"img_{6111 + i // 2:05d}_c{i % 2}_130339901{i:07d}us_rect.jpg" for i in range(8)]
    query = "img_04847_c0_1287504239028014us_rect.jpg"
    write_images(tmp_path / "database_2011-04-21" / name for name in database)
    write_images(tmp_path / "query_2010-10-19" / name for name in (query, "img_04848_c1_1us_rect.jpg"))
    write_csv(
        tmp_path / "pseudo_ground_truth.csv",
        ("query_set", "query", "db", "db_first_ok", "db_last_ok", "camera", "similarity", "trusted"),
        [
            ("query_2010-10-19", query, database[2], database[0], database[5], 0, 0.291, 1),
            ("query_2010-10-19", "img_04848_c1_1us_rect.jpg", database[3], database[0], database[5], 1, 0.3, 0),
        ],
    )
    made = open_training_set(f"frames:{tmp_path}", "all")
    assert asked(made) == [query]
    assert found(made, query) == [database[0], database[2], database[4]]
    assert found(made, query, "near") == database[:6]
    assert len(open_training_set(f"frames:{tmp_path}?trusted_only=false", "all").queries) == 2
    nearest = open_training_set(f"frames:{tmp_path}?positive_frames=0", "all")
    assert found(nearest, query) == [database[2]]
    write_csv(
        tmp_path / "ground_truth.csv",
        ("query_set", "query", "db", "db_first_ok", "db_last_ok"),
        [("query_2010-10-19", query, database[2], database[5], database[0])],
    )
    with pytest.raises(DataError, match="ends before it begins"):
        open_training_set(f"frames:{tmp_path}", "all")
    row = ("query_2010-10-19", "", database[2], database[0], database[5])
    write_csv(tmp_path / "ground_truth.csv", ("query_set", "query", "db", "db_first_ok", "db_last_ok"), [row])
    with pytest.raises(DataError, match="line 2: query is empty"):
        open_training_set(f"frames:{tmp_path}", "all")
    write_csv(
        tmp_path / "ground_truth.csv", ("query_set", "query", "db", "db_first_ok", "db_last_ok"),
        [(row[0], query, *row[2:])],
    )  # fmt: skip
    write_images([tmp_path / "database_2011-04-21" / "more" / database[3]])
    with pytest.raises(DataError, match=r"have one name; rename one of them"):
        open_training_set(f"frames:{tmp_path}", "all")


# Naming a data set


def test_an_unknown_kind_lists_the_kinds(tmp_path: Path) -> None:
    for wrong in (f"mapillary:{tmp_path}", str(tmp_path), "msls"):
        with pytest.raises(
            UsageError, match=r"expected KIND:FOLDER .*msls: .*deep-vg: .*gsv-cities: .*nordland: .*csv: "
        ):
            open_training_set(wrong, "train")
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        open_training_set("msls:nowhere", "train")


def test_options_are_read_as_their_reader_takes_them(tmp_path: Path) -> None:
    folder = tmp_path / "what?"
    folder.mkdir()
    assert parse_data(f"msls:{folder}") == ("msls", folder, {})
    kind, _, options = parse_data(f"msls:{tmp_path}?cities=london,tokyo&near_radius_m=30&by_city=no&subtask=d2n")
    assert kind == "msls"
    assert options == {"cities": ("london", "tokyo"), "near_radius_m": 30.0, "by_city": False, "subtask": "d2n"}
    assert parse_data(f"gsv-cities:{tmp_path}?least_images=8")[2] == {"least_images": 8}
    assert parse_data(f"nordland:{tmp_path}?tolerance=3")[2] == {"tolerance": 3}
    for wrong, message in {
        "radius=3": "radius is no option of msls",
        "by_city=maybe": "expected true or false",
    }.items():
        with pytest.raises(UsageError, match=message):
            parse_data(f"msls:{tmp_path}?{wrong}")


@pytest.mark.skipif(DATA is None, reason="STRUCTVPR_DATA names no folder of data sets")
def test_real_sets_are_read() -> None:
    sets = Path(DATA or "") / "sets"
    counts = {}
    for data in (
        f"csv:{sets / 'months_10places'}",
        f"csv:{sets / 'dnim_webcams'}?place=place_camera",
        f"frames:{sets / 'cmu_seasons_park'}",
        f"frames:{sets / 'sped_thumbs_607'}",
    ):
        made = open_training_set(data, "all")
        counts[parse_data(data)[1].name] = (len(made.queries), len(made.database), made.unmatched)
    # 118 images of 10 places, 510 of 17 cameras, 134 trusted queries of 176, 607 pairs: what their READMEs say.
    assert counts == {
        "months_10places": (118, 118, 0),
        "dnim_webcams": (510, 510, 0),
        "cmu_seasons_park": (134, 176, 0),
        "sped_thumbs_607": (607, 607, 0),
    }
