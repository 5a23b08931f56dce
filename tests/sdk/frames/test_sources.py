"""Folders, CSV files and names of image files: which frames, in which order, and what is known of their places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pictures import picture, write_pictures

from sdk import DataError, FrameError, FrameInfo, Place, Sighting, Source, open_source
from sdk.frames.folder import ImageSource, list_images

NAMES = ["a.png", "b.png", "c.png"]


def infos(path: Path, **options: bool) -> list[FrameInfo]:
    return [sighting.info for sighting in open_source(path, **options)]  # type: ignore[arg-type]


def csv_folder(folder: Path, text: str | bytes) -> Path:
    write_pictures(folder, NAMES)
    (folder / "places.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def message_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_source(path)
    message = str(caught.value)
    assert "; " in message  # what was found, and what to do
    assert "\n" not in message
    return message


# ---------------------------------------------------------------- plain folders


def test_plain_folder(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["b/2.png", "b/1.png", "a.png", "c.PNG", "b.png"])
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "._a.png").write_bytes(b"what macOS leaves beside an image")
    write_pictures(tmp_path / ".thumbnails", ["a.png"])
    source = open_source(tmp_path)
    found = list(source)
    assert [s.info.image for s in found] == ["a.png", "b/1.png", "b/2.png", "b.png", "c.PNG"]
    assert source.num_frames == 5
    assert source.geography is None
    assert all(s.info.position is None for s in found)
    assert np.array_equal(found[1].frame, picture(1))
    assert [s.info for s in source] == [s.info for s in found]  # it can be read twice


def test_one_image(tmp_path: Path) -> None:
    (path,) = write_pictures(tmp_path, ["@584123.00@4477123.00@.png"])
    (sighting,) = open_source(path)
    assert sighting.info == FrameInfo(image=path.name)
    assert np.array_equal(sighting.frame, picture(0))


def test_a_damaged_image_is_met_on_iteration(tmp_path: Path) -> None:
    write_pictures(tmp_path, NAMES)
    (tmp_path / "b.png").write_bytes(b"damaged")
    source = iter(open_source(tmp_path))
    assert next(source).info.image == "a.png"
    with pytest.raises(FrameError, match=r"b\.png"):
        next(source)


@pytest.mark.parametrize("name", ["nope", "nope.csv", "nope.jpg", "nope.mp4", "nope/deeper"])
def test_missing_path(name: str, tmp_path: Path) -> None:
    assert f"{name}: there is no such file or folder" in message_of(tmp_path / name)


def test_other_kinds_of_file(tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_text("hello")
    assert "map.txt: is of an unknown kind; name a folder of images, a CSV, an image or a video" in message_of(path)


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    assert "holds no image" in message_of(tmp_path)
    with pytest.raises(DataError, match="there is no such folder"):
        list_images(tmp_path / "notes.txt")


def test_symlinks_that_loop(tmp_path: Path) -> None:
    write_pictures(tmp_path, NAMES)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nope.png")
    assert [place.image for place in infos(tmp_path)] == NAMES


# ---------------------------------------------------------------- CSV

LOCAL_CSV = """image,x_m,y_m,z_m,heading_deg,timestamp_s,name,traverse
c.png,1,2,3,90,100.5,Tor,2024-05-01
a.png,-1.5,2e1,,,,,
b.png,,,,,,ohne Ort,
"""
LOCAL_PLACES = [
    Place("Tor", (1.0, 2.0, 3.0), 90.0, 100.5, "c.png", "2024-05-01"),
    Place("", (-1.5, 20.0, 0.0), None, None, "a.png"),
    Place("ohne Ort", None, None, None, "b.png"),
]
WGS84_CSV = "lon_deg,lat_deg,alt_m,image\n11.5,48.1,519,a.png\n-180,-90,,b.png\n"


@pytest.mark.parametrize("named", [True, False], ids=["by the file", "by the folder"])
def test_local_csv(named: bool, tmp_path: Path) -> None:
    folder = csv_folder(tmp_path, LOCAL_CSV)
    source = open_source(folder / "places.csv" if named else folder)
    assert source.geography == "local"
    found = list(source)
    assert [Place.from_frame(s.info) for s in found] == LOCAL_PLACES  # in the CSV's order
    assert np.array_equal(found[0].frame, picture(2))


def test_wgs84_csv(tmp_path: Path) -> None:
    source = open_source(csv_folder(tmp_path, WGS84_CSV))
    assert source.geography == "wgs84"
    assert [s.info.position for s in source] == [(48.1, 11.5, 519.0), (-90.0, -180.0, 0.0)]


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfimage,x_m,y_m\na.png,1,2\n",
        b"image,x_m,y_m\r\na.png,1,2\r\n",
        b'"image","x_m","y_m"\n"a.png","1","2"',
        b"image,x_m,y_m\n\na.png, 1 ,2\n\n",
        b"y_m,image,x_m\n2,a.png,1\n",
    ],
    ids=["BOM", "CRLF", "quoted", "blank lines", "other order"],
)
def test_dialects(text: bytes, tmp_path: Path) -> None:
    assert infos(csv_folder(tmp_path, text)) == [FrameInfo("a.png", position=(1.0, 2.0, 0.0))]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("image,x_m\na.png,1\n", ["has the columns ['image', 'x_m']", "rename them"]),
        ("x_m,y_m\n1,2\n", ["has the columns ['x_m', 'y_m']"]),
        ("image,x_m,y_m,colour\na.png,1,2,red\n", ["'colour'", "at most z_m"]),
        ("image,x_m,y_m,lat_deg,lon_deg\na.png,1,2,3,4\n", ["'lat_deg'"]),
        ("image,x_m,y_m,alt_m\na.png,1,2,3\n", ["'alt_m'"]),
        ("image,lat_deg,lon_deg,z_m\na.png,1,2,3\n", ["'z_m'"]),
        ("image,x_m,x_m,y_m\na.png,1,2,3\n", ["has the column x_m more than once"]),
        ("image;x_m;y_m\na.png;1;2\n", ["image;x_m;y_m"]),
        ("", ["is empty", "write a header"]),
        ("image,x_m,y_m\n", ["has no rows", "add one"]),
        ("image,x_m,y_m\na.png,1,2\nb.png,here,3\n", ["line 3", "x_m is 'here'", "a finite number"]),
        ("image,x_m,y_m\na.png,1,nan\n", ["line 2", "finite"]),
        ("image,x_m,y_m\na.png,inf,1\n", ["line 2", "finite"]),
        ("image,x_m,y_m,heading_deg\na.png,1,2,north\n", ["line 2", "heading_deg is 'north'"]),
        ("image,x_m,y_m\na.png,1\n", ["line 2", "has 2 values, expected 3"]),
        ("image,x_m,y_m\na.png,1,\n", ["line 2", "one of x_m and y_m"]),
        ("image,x_m,y_m\na.png,1,2,3\n", ["line 2", "has 4 values, expected 3"]),
        ("image,x_m,y_m\n,1,2\n", ["line 2", "image is empty"]),
        ("image,lat_deg,lon_deg\na.png,48,11\nb.png,151.2,-33.9\n", ["line 3", "151.2", "are the columns swapped?"]),
        ("image,lat_deg,lon_deg\na.png,48,181\n", ["line 2", "not on Earth"]),
        (b"\xff\xfei\0m\0a\0g\0e\0", ["cannot be read as CSV", "UTF-8"]),
        ("image,x_m,y_m,name\na.png,1,2,Caf\xe9\n".encode("latin-1"), ["cannot be read as CSV", "UTF-8", "save it"]),
        ('image,x_m,y_m\na.png,1,"' + "2" * 200_000 + '"\n', ["cannot be read as CSV"]),
    ],
)
def test_bad_csv(text: str | bytes, parts: list[str], tmp_path: Path) -> None:
    message = message_of(csv_folder(tmp_path, text))
    assert "places.csv" in message
    for part in parts:
        assert part in message


def test_csv_names_a_missing_image(tmp_path: Path) -> None:
    source = open_source(csv_folder(tmp_path, "image,x_m,y_m\na.png,1,2\nnope.png,1,2\n"))
    with pytest.raises(FrameError, match=r"nope\.png: cannot be read"):
        list(source)


# ---------------------------------------------------------------- deep-VG names


def deep_vg_name(east: float, north: float, zone: str = "10", letter: str = "S", rest: str = "37.7@-122.4") -> str:
    return f"@{east:.2f}@{north:.2f}@{zone}@{letter}@{rest}@pano@@30@@@@20240101@@.png"


def test_deep_vg_names(tmp_path: Path) -> None:
    folder = tmp_path / "@1@2@ a folder" / "x@y"
    write_pictures(folder, ["@551.25@4179.50@.png", deep_vg_name(553, 4180)])
    source = open_source(tmp_path)
    assert source.geography == "local"
    short, long = sorted((s.info for s in source), key=lambda place: place.position or ())
    assert short.position == (551.25, 4179.5, 0.0)
    assert short.heading_deg is None
    assert long.position == (553.0, 4180.0, 0.0)
    assert long.heading_deg == 60.0  # 30 degrees clockwise from north, counter-clockwise from east
    assert long.image.endswith("20240101@@.png")


def test_two_zones_are_wgs84(tmp_path: Path) -> None:
    write_pictures(tmp_path, [deep_vg_name(1, 2), deep_vg_name(3, 4, zone="11", rest="37.8@-119.9")])
    source = open_source(tmp_path)
    assert source.geography == "wgs84"
    assert [s.info.position for s in source] == [(37.7, -122.4, 0.0), (37.8, -119.9, 0.0)]
    assert {s.info.heading_deg for s in source} == {30.0}  # clockwise from north already


def test_two_zones_without_latitude(tmp_path: Path) -> None:
    write_pictures(tmp_path, [deep_vg_name(1, 2, rest="@"), deep_vg_name(3, 4, zone="11", rest="@")])
    message = message_of(tmp_path)
    assert "2 UTM zones (10S, 11S)" in message
    assert "no latitude" in message


@pytest.mark.parametrize(
    "names",
    [
        ["@1@2@.png", "plain.png"],
        ["@1@2@.png", "@home.png"],
        ["@1@two@.png", "@1@2@.png"],
        ["@1@nan@.png", "@1@2@.png"],
        ["@@@.png"],
    ],
)
def test_names_that_are_mixed_or_wrong(names: list[str], tmp_path: Path) -> None:
    write_pictures(tmp_path, names)
    with pytest.raises(DataError) as caught:
        open_source(tmp_path)
    assert any(name in str(caught.value) for name in names)  # it says which file


# ---------------------------------------------------------------- positions are not for queries


@pytest.mark.parametrize("kind", ["csv folder", "csv", "names"])
def test_positions_can_be_left_unread(kind: str, tmp_path: Path) -> None:
    if kind == "names":
        write_pictures(tmp_path, [deep_vg_name(1, 2), "plain.png"])
        path = tmp_path
    else:
        path = csv_folder(tmp_path, LOCAL_CSV if kind == "csv" else "not,even\nread,it\n")
        path = path / "places.csv" if kind == "csv" else path
    source = open_source(path, positions=False)
    assert isinstance(source, ImageSource)
    assert source.geography is None
    found = [sighting.info for sighting in source]
    assert len(found) == (2 if kind == "names" else 3)
    assert all(place.position is None and place.heading_deg is None for place in found)
    assert all(place.image for place in found)


# ---------------------------------------------------------------- sets to train with


def test_a_set_of_one_region_is_a_source_and_of_two_is_none(tmp_path: Path) -> None:
    rows = ["a.png,1,2,reference,town-0,train", "b.png,1,2,snow,town-0,train", "c.png,1,2,reference,town-1,val"]
    text = "\n".join(["image,x_m,y_m,traverse,region,split", *rows])
    folder = csv_folder(tmp_path, text)
    assert "has places of 2 regions, whose metres cannot be compared; write the rows of one" in (message_of(folder))
    assert len(infos(folder / "places.csv", positions=False)) == 3
    (folder / "town-0.csv").write_text("\n".join(text.splitlines()[:3]))
    assert [place.traverse for place in infos(folder / "town-0.csv")] == ["reference", "snow"]
    on_earth = "image,lat_deg,lon_deg,region\na.png,48,11,munich\nb.png,60,10,oslo\n"
    assert len(infos(csv_folder(tmp_path, on_earth))) == 2


# ---------------------------------------------------------------- sources of one's own


class Camera(Source):
    """A live source: it does not know how many frames will come, and holds a device."""

    closed = 0

    def __iter__(self) -> Iterator[Sighting]:
        yield Sighting(picture(0), FrameInfo(name="now", timestamp_s=1.5))

    def close(self) -> None:
        self.closed += 1


def test_a_live_source_needs_no_length_and_is_closed() -> None:
    with Camera() as camera:
        assert (camera.num_frames, camera.geography) == (None, None)
        (sighting,) = camera
    assert camera.closed == 1
    assert Place.from_frame(sighting.info) == Place("now", timestamp_s=1.5)


def test_files_and_videos_are_sources_too(tmp_path: Path) -> None:
    (path,) = write_pictures(tmp_path, ["a.png"])
    with open_source(path) as source:
        assert source.num_frames == len(list(source)) == 1
    source.close()  # twice


def test_a_place_takes_every_fact_of_a_frame() -> None:
    info = FrameInfo("a.png", "gate", (1.0, 2.0, 3.0), 90.0, 100.5, "dusk")
    place = Place.from_frame(info)
    assert place.id is None
    assert {name: getattr(place, name) for name in vars(info)} == vars(info)
    assert (info.label, FrameInfo("a.png").label) == ("gate", "a.png")
