"""The main job on published photographs, for those who have them: STRUCTVPR_DATA names the folder above `sets/`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import pytest

from sdk.cli import main
from sdk.evaluation.sets import find_dataset
from sdk.frames.folder import list_images

MODEL = str(Path(__file__).parent.parent / "models" / "efficientnet-lite0-gem.onnx")

pytestmark = pytest.mark.skipif(
    "STRUCTVPR_DATA" not in os.environ, reason="STRUCTVPR_DATA does not name a folder of data sets"
)


def recalls(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, float]]:
    main(["eval", MODEL, *arguments, "--json"], exit_when_done=False)
    sets = json.loads(capsys.readouterr().out)["sets"]
    return {f"{s['queries']} {p['right']}": p["recall_all"] for s in sets for p in s["protocols"]}


def test_gardens_point_and_corridor_reach_the_untrained_floor(capsys: pytest.CaptureFixture[str]) -> None:
    """Within two standard deviations (7 points on 200 queries) of the published descriptor of this shape."""
    gardens = recalls(capsys, "gardens_point")
    assert gardens["query_day_left ±8 frames"]["R@1"] >= 0.92
    assert gardens["query_night_right ±8 frames"]["R@1"] >= 0.79
    assert gardens["query_night_right ±1 frames"]["R@1"] >= 0.54
    assert recalls(capsys, "corridor")["query the set's own"]["R@1"] >= 0.54


def test_folder_and_video_of_photographs_are_mapped_and_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = find_dataset("corridor")
    main(["map", "build", MODEL, str(folder / "database"), str(tmp_path / "corridor.places")], exit_when_done=False)
    files = list_images(folder / "database")
    frames = [cv2.imread(str(path)) for path in files]
    height, width = frames[0].shape[:2]
    video = cv2.VideoWriter(str(tmp_path / "drive.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (width, height))
    for frame in frames:
        video.write(frame)
    video.release()
    capsys.readouterr()
    asked = ["query", MODEL, str(tmp_path / "drive.mp4"), "--map", str(tmp_path / "corridor.places"), "--json"]
    main(asked, exit_when_done=False)
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == len(files)
    # The video is lossy, so a frame may look most like its neighbour; nearly all find themselves.
    right = [answer["matches"][0]["name"] == file.name for answer, file in zip(answers, files, strict=True)]
    assert sum(right) >= 0.95 * len(files)
