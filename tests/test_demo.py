"""The main job on the demo's street: hard enough, and won by looking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sdk
from sdk.cli import main
from sdk.evaluation.recall import positives_within_m, rank, recall_at_k
from sdk.frames.places_csv import read_places_csv
from training.cli.demo import LENGTH_M, RIGHT_WITHIN_M, render_drives

MODEL = Path(__file__).parent.parent / "models" / "efficientnet-lite0-gem.onnx"


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drives")
    render_drives(folder / "day", folder / "dusk", folder / "dusk.csv", seed=0, length_m=LENGTH_M)
    return folder


def test_queries_know_no_pose(drives: Path) -> None:
    assert {path.suffix for path in (drives / "dusk").iterdir()} == {".png"}
    source = sdk.open_source(drives / "dusk", positions=False)
    assert all(sighting.info.position is None for sighting in source)


def test_dusk_is_hard_and_shuffling_the_map_brings_chance(drives: Path) -> None:
    day, dusk = read_places_csv(drives / "day" / "places.csv"), read_places_csv(drives / "dusk.csv")
    map_positions = np.array([place.position for _, place in day.files])
    positives = positives_within_m(
        "local", [place.position or () for _, place in dusk.files], map_positions.tolist(), RIGHT_WITHIN_M
    )
    with sdk.Localizer(MODEL, drives / "shuffle.places", create=True) as localizer:
        database = np.stack([localizer.describe(sighting.frame) for sighting in day])
        queries = np.stack([localizer.describe(s.frame) for s in sdk.open_source(drives / "dusk", positions=False)])
    ranked = rank(queries, database, 5)
    recall = recall_at_k(ranked, positives, 1)
    assert 0.40 <= recall <= 0.95  # 0.73 of 60 queries
    assert recall_at_k(ranked, positives, 5) > recall

    # The same descriptors under places drawn at random: what is left is luck.
    rng = np.random.default_rng(0)
    shuffled = [recall_at_k(rng.permutation(len(database))[ranked], positives, 1) for _ in range(50)]
    chance = np.mean([len(true) / len(database) for true in positives])
    assert np.mean(shuffled) == pytest.approx(chance, abs=0.02)
    assert max(shuffled) < 0.2


def test_demo_writes_its_answers_and_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.cli.demo.LENGTH_M", 40.0)
    for _ in range(2):  # what a demo leaves behind does not stop the next
        main(["demo", str(tmp_path)], exit_when_done=False)
    out = capsys.readouterr().out
    assert "R@1" in out
    assert "R@5" in out
    assert out.count("$ structvpr map build") == 2
    page = (tmp_path / "report.html").read_text()
    assert page.count("<tr>") == 1 + 8
    assert "right" in page
    assert "http" not in page


def test_positions_are_read_after_the_last_answer(
    drives: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["map", "build", str(MODEL), str(drives / "day"), str(drives / "day.places")], exit_when_done=False)
    answered: list[object] = []
    read_when: list[int] = []
    ask, read = sdk.Localizer.query, read_places_csv

    def asking(*arguments: object, **options: object) -> sdk.Localization:
        answered.append(answer := ask(*arguments, **options))  # type: ignore[arg-type]
        return answer

    def reading(path: Path) -> object:
        read_when.append(len(answered))
        return read(path)

    monkeypatch.setattr(sdk.Localizer, "query", asking)
    monkeypatch.setattr("sdk.cli.query.read_places_csv", reading)
    main(
        [
            *("query", str(MODEL), str(drives / "dusk"), "--map", str(drives / "day.places")),
            *("--truth", str(drives / "dusk.csv"), "--positive_dist_threshold", "5"),
        ],
        exit_when_done=False,
    )
    num_queries = len(list((drives / "dusk").iterdir()))
    assert read_when == [num_queries]
    recall = float(capsys.readouterr().out.split("R@1")[1].split("%")[0])
    assert 40 <= recall <= 95
