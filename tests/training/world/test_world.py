"""The synthetic street: the same bytes from the same seeds, exact labels, and a dusk that is not the day."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.world import DAY, DUSK, LABELS, Conditions, Pose, View, World, traverse, write_traverse

ROOT = Path(__file__).parents[3]
MOVING = [LABELS["car"], LABELS["person"]]


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=3, length_m=60.0)


def digest(view: View) -> str:
    return hashlib.sha256(view.frame.tobytes() + view.labels.tobytes()).hexdigest()


def difference(one: View, other: View) -> float:
    """Mean absolute difference of two frames, blurred so that noise and edges weigh little."""
    one_smooth, other_smooth = (cv2.GaussianBlur(view.frame.astype(np.float32), (0, 0), 3.0) for view in (one, other))
    return float(np.abs(one_smooth - other_smooth).mean())


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_same_seeds_give_same_bytes_in_another_process_and_another_order(world: World) -> None:
    pose = Pose(12.5, -0.7, 2.0)
    world.render(Pose(30.0, 0.0), DAY, traverse_seed=9)  # must leave nothing behind
    here = [digest(world.render(pose, conditions, traverse_seed=5)) for conditions in (DAY, DUSK)]
    there = run_python(
        "import hashlib, json\n"
        "from training.world import *\n"
        "world = World(seed=3, length_m=60.0)\n"
        "views = [world.render(Pose(12.5, -0.7, 2.0), c, traverse_seed=5) for c in (DAY, DUSK)]\n"
        "print(json.dumps([hashlib.sha256(v.frame.tobytes() + v.labels.tobytes()).hexdigest() for v in views]))"
    )
    assert json.loads(there) == here


def test_other_seeds_give_another_street(world: World) -> None:
    pose = Pose(10.0, 0.0)
    here, elsewhere = world.render(pose, DAY), World(seed=4, length_m=60.0).render(pose, DAY)
    assert (here.labels != elsewhere.labels).mean() > 0.05
    assert difference(here, elsewhere) > 5.0


def test_frame_and_labels_have_the_size_that_was_asked_for(world: World) -> None:
    for height, width in ((240, 320), (97, 133)):
        view = world.render(Pose(5.0, 0.0), DUSK, height=height, width=width)
        assert (view.frame.shape, view.frame.dtype) == ((height, width, 3), np.uint8)
        assert (view.labels.shape, view.labels.dtype) == ((height, width), np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "pitch_deg"),
    [(32, 320, 10.0), (32, 320, -10.0), (60, 640, 4.5), (60, 640, -4.5)],
)
def test_a_low_frame_may_see_no_horizon(world: World, height: int, width: int, pitch_deg: float) -> None:
    for conditions in (DAY, dataclasses.replace(DAY, rain=1.0), dataclasses.replace(DAY, snow=1.0)):
        view = world.render(Pose(10.0, 0.0, pitch_deg=pitch_deg), conditions, height=height, width=width)
        assert view.frame.shape == (height, width, 3)
        assert view.labels.shape == (height, width)
        hidden = "road" if pitch_deg > 0.0 else "sky"
        assert not (view.labels == LABELS[hidden]).any()


def test_labels_are_those_of_cityscapes_and_where_a_street_has_them(world: World) -> None:
    views = [world.render(Pose(x, 0.0), DAY) for x in range(0, 60, 6)]
    seen = set(np.unique([view.labels for view in views]).tolist())
    assert seen <= set(LABELS.values())
    expected = ("road", "sidewalk", "building", "pole", "traffic light", "traffic sign")
    assert {LABELS[name] for name in (*expected, "vegetation", "sky", "person", "car")} <= seen
    assert (LABELS["road"], LABELS["building"], LABELS["sky"], LABELS["car"]) == (0, 2, 10, 13)
    for view in views:
        assert (view.labels[200:, 140:180] == LABELS["road"]).all()  # ahead of the wheels
        assert (view.labels[:5, 155:165] == LABELS["sky"]).all()  # between the eaves
        assert not (view.labels[125:] == LABELS["sky"]).any()  # none below the horizon


def test_labels_agree_with_pixels(world: World) -> None:
    view = world.render(Pose(5.0, 0.0), dataclasses.replace(DAY, noise_levels=0.0))
    frame = view.frame.astype(int)
    # Away from edges, where a pixel is a mixture: sky is bluish and bright, road is grey, leaves are green.
    inner = {
        name: cv2.erode((view.labels == LABELS[name]).astype(np.uint8), np.ones((3, 3))) > 0
        for name in ("sky", "road", "vegetation")
    }
    assert (frame[inner["sky"]].min(axis=1) > 80).all()
    assert (frame[inner["sky"]][:, 2] >= frame[inner["sky"]][:, 0] - 3).all()
    assert np.ptp(frame[inner["road"]], axis=1).max() < 25
    leaves = frame[inner["vegetation"]]
    assert len(leaves) > 100
    assert (leaves[:, 1] > leaves[:, 2]).mean() > 0.8


def test_label_edges_are_colour_edges(world: World) -> None:
    view = world.render(Pose(5.0, 0.0), dataclasses.replace(DAY, noise_levels=0.0))
    is_sky = view.labels == LABELS["sky"]
    jump = np.abs(np.diff(view.frame.astype(int), axis=0)).sum(axis=2)  # between a pixel and the one below
    edge = is_sky[:-1] & ~is_sky[1:]
    # Exact labels sit on the strongest change in brightness; labels that are off by a few pixels do not.
    shifted = np.roll(edge, 4, axis=0)
    assert jump[edge].mean() > 4.0 * jump[shifted].mean()


@pytest.mark.parametrize("pose", [Pose(3.0, 0.0), Pose(41.0, 1.4, -6.0)])
def test_light_weather_and_noise_leave_labels_alone(world: World, pose: Pose) -> None:
    fog = Conditions("fog", hour=8.0, haze_per_m=0.04, cloud_cover=1.0, noise_levels=20.0, blur_px=2.0)
    day, dusk, foggy = (world.render(pose, conditions, traverse_seed=2) for conditions in (DAY, DUSK, fog))
    assert np.array_equal(day.labels, dusk.labels)
    assert np.array_equal(day.labels, foggy.labels)
    assert day.frame.mean() > 1.5 * dusk.frame.mean()


def test_windows_are_lit_at_dusk_and_not_by_day(world: World) -> None:
    day, dusk = (world.render(Pose(20.0, 0.0), conditions) for conditions in (DAY, DUSK))
    house = day.labels == LABELS["building"]
    brighter = (dusk.frame.astype(int).min(axis=2) > day.frame.astype(int).max(axis=2) + 15) & house
    assert brighter.sum() > 50
    assert (dusk.frame[house].mean()) < day.frame[house].mean()


def test_fog_takes_contrast_from_what_is_far_and_leaves_what_is_near(world: World) -> None:
    clear, foggy = (
        world.render(Pose(20.0, 0.0), dataclasses.replace(DAY, haze_per_m=haze, noise_levels=0.0))
        for haze in (0.0, 0.03)
    )
    houses = clear.labels == LABELS["building"]
    far, near = houses[:, 130:190], houses[:, :40]
    assert foggy.frame[:, 130:190][far].std() < 0.6 * clear.frame[:, 130:190][far].std()
    assert foggy.frame[:, :40][near].std() > 0.6 * clear.frame[:, :40][near].std()


def test_the_nearer_the_pose_the_more_alike_the_view(world: World) -> None:
    here, near, farther, far = (world.render(Pose(x, 0.0), DAY, traverse_seed=1) for x in (10.0, 10.2, 11.0, 30.0))
    assert difference(here, near) < 0.6 * difference(here, farther)
    assert difference(here, farther) < 0.8 * difference(here, far)


def test_what_one_drives_up_to_grows_as_a_pinhole_camera_says(world: World) -> None:
    # A traffic light: look for one that is 20 m to 30 m ahead, then halve the distance to it.
    light, focal_px, lamp_height_m = LABELS["traffic light"], 80.0 / np.tan(np.radians(37.5)), 1.0

    def tallest(x_m: float) -> int:
        return int((world.render(Pose(x_m, 0.0), DAY, height=120, width=160).labels == light).sum(axis=0).max())

    heights = {x: tallest(x) for x in np.arange(0.0, 90.0, 2.0)}
    last = next(x for x in sorted(heights) if heights[x] > 10 and heights[x + 2.0] < heights[x])  # then out of view
    expected_m = focal_px * lamp_height_m / heights[last]
    for back_m in (8.0, 16.0):
        assert tallest(last - back_m) == pytest.approx(focal_px * lamp_height_m / (expected_m + back_m), abs=1.6)


def test_turning_left_moves_the_scene_to_the_right(world: World) -> None:
    straight, turned = (world.render(Pose(10.0, 0.0, heading), DAY) for heading in (0.0, 5.0))
    sky = [(view.labels[:110] == LABELS["sky"]).sum(axis=0).astype(float) for view in (straight, turned)]
    shifts = np.arange(-40, 41)
    errors = [np.abs(sky[0][60:260] - sky[1][60 + shift : 260 + shift]).mean() for shift in shifts]
    assert shifts[int(np.argmin(errors))] == pytest.approx(208.5 * np.tan(np.radians(5.0)), abs=4.0)


def test_cars_and_people_change_between_traverses_and_the_rest_stays(world: World) -> None:
    pose = Pose(8.0, 0.0)
    first, second = (world.render(pose, DAY, traverse_seed=seed).labels for seed in (1, 2))
    moved = np.isin(first, MOVING) | np.isin(second, MOVING)
    assert (first != second)[moved].mean() > 0.2
    # A car's shadow is road on road; far away it may touch a pixel of the kerb.
    assert (first != second)[~moved].mean() < 0.0005


def test_conditions_outside_their_range_are_refused() -> None:
    for name, value in (("hour", 24.0), ("haze_per_m", -0.1), ("noise_levels", float("nan")), ("cloud_cover", 1.5)):
        with pytest.raises(ValueError, match=f"{name} is .*expected"):
            Conditions("broken", **{name: value})


def test_figures_out_of_range_are_refused(world: World) -> None:
    with pytest.raises(ValueError, match="seed"):
        World(seed=-1)
    with pytest.raises(ValueError, match="length_m"):
        World(length_m=0.0)
    with pytest.raises(ValueError, match="finite"):
        world.render(Pose(float("nan"), 0.0), DAY)
    with pytest.raises(ValueError, match="traverse_seed"):
        world.render(Pose(0.0, 0.0), DAY, traverse_seed=-1)
    with pytest.raises(ValueError, match="px"):
        world.render(Pose(0.0, 0.0), DAY, height=8)
    with pytest.raises(ValueError, match="spacing_m"):
        traverse(10.0, 0.0, seed=0)


def test_traverse_keeps_its_spacing_and_wanders_slowly() -> None:
    poses = traverse(300.0, 2.5, seed=1, lateral_m=1.2, lateral_jitter_m=0.3, heading_jitter_deg=2.0, start_m=1.25)
    assert len(poses) == 120
    assert [pose.x_m for pose in poses] == [1.25 + 2.5 * index for index in range(120)]
    lateral, heading = np.array([pose.y_m for pose in poses]), np.array([pose.heading_deg for pose in poses])
    assert lateral.mean() == pytest.approx(1.2, abs=0.2)
    assert 0.1 < lateral.std() < 0.5
    assert 0.7 < heading.std() < 3.5
    assert np.abs(np.diff(lateral)).max() < 0.4  # over 2.5 m
    assert poses == traverse(
        300.0, 2.5, seed=1, lateral_m=1.2, lateral_jitter_m=0.3, heading_jitter_deg=2.0, start_m=1.25
    )
    assert poses != traverse(
        300.0, 2.5, seed=2, lateral_m=1.2, lateral_jitter_m=0.3, heading_jitter_deg=2.0, start_m=1.25
    )


def test_written_traverse_reads_back(world: World, tmp_path: Path) -> None:
    poses = traverse(10.0, 2.5, seed=1, lateral_m=-0.5)
    calls: list[tuple[int, int]] = []
    write_traverse(
        tmp_path / "map",
        world,
        poses,
        DAY,
        traverse_seed=7,
        labels=True,
        progress=lambda done, total: calls.append((done, total)),
    )
    with (tmp_path / "map" / "places.csv").open(newline="") as file:
        assert file.readline().strip() == "image,x_m,y_m,z_m,heading_deg,timestamp_s,name,traverse"
        file.seek(0)
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["0000.png", "0001.png", "0002.png", "0003.png"]
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert {row["traverse"] for row in rows} == {"day"}
    seconds = [float(row["timestamp_s"]) for row in rows]
    assert seconds[0] == 0.0
    assert all(0.1 < later - earlier < 1.0 for earlier, later in itertools.pairwise(seconds))
    for row, pose in zip(rows, poses, strict=True):
        assert (float(row["x_m"]), float(row["y_m"])) == pytest.approx((pose.x_m, pose.y_m), abs=1e-3)
        assert float(row["heading_deg"]) == pytest.approx(pose.heading_deg, abs=1e-3)
        view = world.render(pose, DAY, traverse_seed=7)
        frame = cv2.cvtColor(cv2.imread(str(tmp_path / "map" / row["image"])), cv2.COLOR_BGR2RGB)
        assert np.array_equal(frame, view.frame)
        labels = cv2.imread(str(tmp_path / "map" / "labels" / row["image"]), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(labels, view.labels)


def test_poses_can_be_kept_away_from_the_images(world: World, tmp_path: Path) -> None:
    table = tmp_path / "truth" / "queries.csv"
    write_traverse(tmp_path / "queries", world, [Pose(1.0, 0.0)], DUSK, traverse_seed=1, poses_csv=table)
    assert [path.name for path in (tmp_path / "queries").iterdir()] == ["0000.png"]
    assert table.read_text().splitlines()[1].startswith("0000.png,1.000,0.000,")
    assert [path.name for path in table.parent.iterdir()] == ["queries.csv"]


def test_interrupted_writing_leaves_no_table(world: World, tmp_path: Path) -> None:
    poses = traverse(10.0, 2.5, seed=1)
    write_traverse(tmp_path, world, poses[:2], DAY, traverse_seed=1)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_traverse(tmp_path, world, poses, DUSK, traverse_seed=1, progress=interrupt)
    assert not (tmp_path / "places.csv").exists()


def test_importing_the_world_loads_no_network() -> None:
    loaded = run_python("import sys, training.world; print(*sys.modules)").split()
    assert "cv2" in loaded
    assert not {"torch", "onnx", "onnxruntime", "sdk"} & set(loaded)
