"""From files to a student and to the ablation's table, by the commands that a user has; and the table's statistics."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from datasets_on_disk import write_csv, write_msls_city

torch = pytest.importorskip("torch", reason="training needs torch: pip install structvpr[training]")

from sdk.cli import main  # noqa: E402
from training.datasets.msls import CITIES  # noqa: E402
from training.networks.checkpoint import load_checkpoint  # noqa: E402
from training.networks.descriptor_net import DescriptorNet  # noqa: E402
from training.studies.ablation_report import compare_paired, read_rows, write_report  # noqa: E402

PLACES, TRAVERSES, SIDE = 24, 3, 32
SMALL = [
    *("--set", "height=32", "--set", "width=32", "--set", "export_height=32", "--set", "export_width=32"),
    *("--set", "backbone=mobilenet_v2", "--set", "passes=24", "--set", "tuples=2", "--set", "negatives=2"),
    *("--set", "cache_pool=8", "--set", "validate_every=3"),
]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Places as coloured blocks; label maps that know where the blocks are, the first in train, the last in test."""
    folder = tmp_path_factory.mktemp("city")
    rng = np.random.default_rng(0)
    lines = ["image,x_m,y_m,z_m,heading_deg,timestamp_s,name,traverse,region,split"]
    for place in range(PLACES):
        split = ("train", "val", "test")[place // 8]
        blocks = rng.integers(0, 19, (4, 4)).astype(np.uint8)
        for t in range(TRAVERSES):
            labels = cv2.resize(blocks, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
            colours = rng.integers(0, 40, (SIDE, SIDE, 3)) + labels[..., None] * 10
            name = f"t{t}/{place:02d}.png"
            for root, pixels in (("images", colours.astype(np.uint8)), ("labels", labels)):
                (folder / root / f"t{t}").mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(folder / root / name), pixels)
            traverse = "reference" if t == 0 else f"night-{t}"
            lines.append(f"images/{name},{100 * place},0,0,0,0,p{place},{traverse},{split},{split}")
    (folder / "places.csv").write_text("\n".join(lines) + "\n")
    (folder / "labels" / "labels.json").write_text('{"label_set": "cityscapes19"}')
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like the published one, of random values."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2.pth"
    torch.save(DescriptorNet("mobilenet_v2").backbone.state_dict(), path)
    return path


def run(*words: Any) -> None:
    torch.set_num_threads(1)
    main([str(word) for word in words], exit_when_done=False)


def test_a_student_from_files(city: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", "student", tmp_path, "--data", f"world:{city}", "--weights", weights, *SMALL, "--json")
    run(*words)
    told = json.loads(capsys.readouterr().out)
    assert set(told["runs"]) == {"seg_branch", "rgb_branch", "student"}
    assert sum(told["pairs_percent"].values()) == pytest.approx(100.0)
    assert {run["passes"] for run in told["runs"].values()} == {24}
    net, contract = load_checkpoint(tmp_path / "student.pt")
    assert (contract.height, contract.descriptor_dim, net.in_channels) == (32, 448, 3)
    other, _ = load_checkpoint(tmp_path / "rgb.pt")
    assert any(not torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    before = (tmp_path / "student.pt").read_bytes()
    run(*words)  # everything is there already
    assert (tmp_path / "student.pt").read_bytes() == before


def test_the_ablation_from_files(city: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", "ablation", tmp_path, "--data", f"world:{city}", "--weights", weights, *SMALL)
    run(*words, "--seeds", "0", "--rows", "none,ours")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "rows").iterdir()}
    assert set(kept) == {"none-0.json", "ours-0.json"}
    run(*words, "--seeds", "0,1", "--rows", "none,seg,ours,d4,shuffled")
    for name, content in kept.items():
        assert (tmp_path / "rows" / name).read_bytes() == content  # not run again
    rows = read_rows(tmp_path)
    assert set(rows) == {"none", "seg", "ours", "d4", "shuffled"}
    assert all(sorted(runs) == [0, 1] for runs in rows.values())
    assert {run["passes"] for runs in rows.values() for run in runs.values()} == {24}
    text = (tmp_path / "ablation.md").read_text()
    assert "| None (RGB branch alone) | 2 |" in text
    assert "75.8 / 85.3 / 87.3" in text  # the paper's
    assert "image passes per run: 24" in text
    assert text.strip() in capsys.readouterr().out
    record = json.loads((tmp_path / "ablation.json").read_text())
    assert [claim["verdict"] for claim in record["orderings"] if claim["claim"] == "a1 > all"] == ["not run"]
    assert (tmp_path / "ablation.svg").read_text().startswith("<svg")
    assert rows["d4"][0]["recipe"]["pairs"] == "d4"
    with pytest.raises(SystemExit):
        run(*words, "--seeds", "0", "--rows", "none,ours", "--set", "distil=9")
    assert "another recipe" in capsys.readouterr().err  # a table of two recipes would be none


def test_the_full_recipe_takes_msls_as_it_is_unpacked(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/training.md's command, on 24 cities of nine images; what is set is only what would take a GPU."""
    rng = np.random.default_rng(0)
    for city in (*CITIES["train"], *CITIES["val"]):
        for side, eastings in (("query", (0.0,)), ("database", (5.0, *range(100, 800, 100)))):
            rows = [{"key": f"{city}-{e:.0f}", "easting": 5e5 + e, "northing": 6e6} for e in eastings]
            write_msls_city(tmp_path / "msls", city, side, rows)
            for row in rows:
                name = f"train_val/{city}/{side}/images/{row['key']}"
                labels = rng.integers(0, 150, (SIDE, SIDE)).astype(np.uint8)
                assert cv2.imwrite(str(tmp_path / "msls" / f"{name}.jpg"), labels)
                at = tmp_path / "labels" / Path(*Path(name).parts[1:]).with_suffix(".png")
                at.parent.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(at), labels)
    (tmp_path / "labels" / "labels.json").write_text('{"label_set": "ade20k150"}')
    recipe = Path(__file__).parents[3] / "training" / "recipes" / "msls.json"
    run(
        *("train", "student", tmp_path / "run", "--data", f"msls:{tmp_path}/msls/train_val", "--weights", weights),
        *("--labels", tmp_path / "labels", "--cache", "-", "--recipe", recipe, *SMALL, "--json"),
    )
    told = json.loads(capsys.readouterr().out)
    assert set(told["runs"]["student"]) >= {"R@1", "R@5"}
    pairs = (tmp_path / "run" / "pairs-a1-log_rank.csv").read_text().splitlines()
    assert len(pairs) == 1 + len(CITIES["train"]), "one positive within 10 m in each training city"
    assert not any("cph" in line or "/sf/" in line for line in pairs)


def test_sets_of_one_purpose_are_used_whole(city: Path, weights: Path, tmp_path: Path) -> None:
    """A world trains by its own split beside a set without one, and neither loses what others validate on."""
    folder = tmp_path / "city"
    shutil.copytree(city, folder)
    shutil.copytree(city / "labels", folder / "named" / "images")
    (folder / "named" / "labels.json").write_text('{"label_set": "cityscapes19"}')
    rows = [(path.relative_to(folder), path.stem) for path in sorted(folder.glob("images/*/*.png"))]
    write_csv(folder / "named.csv", ("image", "name"), rows)  # without a column split
    data = ("--data", f"world:{folder}", "--data", f"csv:{folder}?csv=named.csv")
    labels = ("--labels", folder / "labels", "--labels", folder / "named")
    words = ("train", "student", tmp_path, "--weights", weights, *data)
    run(*words, *labels, "--validation", f"world:{folder}", *SMALL)
    pairs = (tmp_path / "pairs-a1-log_rank.csv").read_text().splitlines()[1:]
    assert len(pairs) == PLACES // 3 * (TRAVERSES - 1) + PLACES * TRAVERSES * (TRAVERSES - 1)


def test_a_missing_label_map_is_named(
    city: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "city"
    shutil.copytree(city, broken)
    (broken / "labels" / "t1" / "03.png").unlink()
    with pytest.raises(SystemExit) as stopped:
        run("train", "student", tmp_path / "run", "--data", f"world:{broken}", "--weights", weights, *SMALL)
    assert stopped.value.code == 2
    assert re.search(r"1 of 24 label maps are missing.*03\.png", capsys.readouterr().err)
    assert not (tmp_path / "run" / "student.pt").exists()


def test_an_image_that_does_not_decode_is_named(
    city: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "city"
    shutil.copytree(city, broken)
    (broken / "images" / "t1" / "03.png").write_bytes(b"no image")
    with pytest.raises(SystemExit):
        run("train", "student", tmp_path / "run", "--data", f"world:{broken}", "--weights", weights, *SMALL)
    assert re.search(r"03\.png.*cannot be decoded", capsys.readouterr().err)
    assert not list((tmp_path / "run").rglob("*.npy"))  # no half of a cache


def test_a_bootstrap_interval_against_theory() -> None:
    """One seed: R@1 differences are a mean of Q independent values; the normal interval must come out."""
    rng = np.random.default_rng(0)
    queries = 4000
    first = np.where(rng.random(queries) < 0.6, 1, 5)
    second = np.where(rng.random(queries) < 0.5, 1, 5)
    found = compare_paired([first], [second])
    gains = (first == 1).astype(float) - (second == 1)
    half = 1.96 * gains.std() / np.sqrt(queries)
    assert found.difference == pytest.approx(100 * gains.mean())
    assert found.low == pytest.approx(100 * (gains.mean() - half), abs=0.25)
    assert found.high == pytest.approx(100 * (gains.mean() + half), abs=0.25)
    assert found.verdict == "holds, one seed"
    assert compare_paired([second], [first]).verdict == "reversed, one seed"
    assert compare_paired([first], [first]).verdict == "undecided"


def test_seeds_that_disagree_leave_it_undecided() -> None:
    better, worse = np.ones(500, np.int64), np.full(500, 9)
    assert compare_paired([better, worse, better], [worse, better, worse]).verdict == "undecided"


def test_three_seeds_of_one_sign_are_not_yet_certain() -> None:
    worse = np.full(500, 9)
    gains = [np.where(np.arange(500) < n, 1, 9) for n in (20, 40, 300)]
    found = compare_paired(gains, [worse] * 3)
    shares = np.array([20, 40, 300]) / 5
    assert found.seeds_high - found.difference == pytest.approx(4.303 * shares.std(ddof=1) / 3**0.5, rel=1e-3)
    assert found.verdict == "holds, not beyond the seeds' spread"
    assert compare_paired(gains[:1], [worse]).verdict == "holds, one seed"
    alike = [np.where(np.arange(500) < n, 1, 9) for n in (98, 100, 102)]
    assert compare_paired(alike, [worse] * 3).verdict == "holds"


def test_a_folder_without_runs_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finished run"):
        write_report(tmp_path, {})
