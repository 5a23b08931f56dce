"""structvpr eval: its figures, its protocols, and the way in which the field writes its options."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Refused, Run
from pictures import encode, picture, write_pictures

NUM_DATABASE = 6
TRUTH = """query_set,query,db,db_first_ok,db_last_ok
query,q0.png,d0.png,d0.png,d0.png
query,q1.png,d3.png,d3.png,d5.png
query,q2.png,d5.png,d5.png,d5.png
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """q0 shows what d0 shows, q1 what d1 shows (but d3 is said to be right), q2 what d2 shows; q3 has no true place."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "sets" / "tiny"
    write_pictures(folder / "database", [f"d{i}.png" for i in range(NUM_DATABASE)])
    write_pictures(folder / "query", [f"q{i}.png" for i in range(4)])
    (folder / "ground_truth.csv").write_text(TRUTH)
    return root


@pytest.fixture
def tiny(data: Path) -> Path:
    return data / "sets" / "tiny"


def evaluate(run: Run, *words: object) -> dict[str, Any]:
    done = run("eval", *words, "--json")
    assert done.code == 0, done
    assert done.err == ""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    record: dict[str, Any] = json.loads(done.out, parse_constant=refuse)
    return record


def test_figures(model: Path, tiny: Path, run: Run) -> None:
    record = evaluate(run, model, tiny, "--tolerance_frames", 0, 2, "--recall_values", 1, 6)
    assert record["model"] == "efficientnet-lite0-gem"
    (found,) = record["sets"]
    assert found["queries"] == "query"
    assert found["database"] == NUM_DATABASE
    assert found["describe_ms"] > 0
    assert found["search_ms"] > 0
    exact, near, own = found["protocols"]
    assert [p["right"] for p in (exact, near, own)] == ["±0 frames", "±2 frames", "the set's own"]
    for protocol in (exact, near, own):
        assert (protocol["queries"], protocol["matched"]) == (4, 3)
        assert protocol["recall_all"]["R@6"] == pytest.approx(3 / 4)
        assert protocol["recall_matched"]["R@6"] == pytest.approx(1.0)
    # Answers are d0, d1, d2 and d3; right are d0, d3 and d5, by themselves or with two frames to either side.
    assert exact["recall_matched"]["R@1"] == pytest.approx(1 / 3)
    assert exact["recall_all"]["R@1"] == pytest.approx(1 / 4)
    assert near["recall_matched"]["R@1"] == pytest.approx(2 / 3)
    assert near["recall_all"]["R@1"] == pytest.approx(2 / 4)
    assert own["recall_matched"]["R@1"] == pytest.approx(1 / 3)


def test_queries_that_are_not_trusted_are_left_out_and_counted(
    model: Path, tiny: Path, tmp_path: Path, run: Run
) -> None:
    shutil.copytree(tiny, tmp_path / "tiny")
    header, *rows = TRUTH.splitlines()
    lines = [f"{header},trusted", *(f"{row},{int('q1' not in row)}" for row in rows)]
    (tmp_path / "tiny" / "ground_truth.csv").write_text("\n".join(lines))
    (found,) = evaluate(run, model, tmp_path / "tiny", "--recall_values", 1)["sets"]
    assert found["untrusted"] == 1
    for protocol in found["protocols"]:
        assert (protocol["queries"], protocol["matched"]) == (3, 2)
    done = run("eval", model, tmp_path / "tiny")
    assert "query: 1 queries left out, whose ground truth is not trusted" in done.out


def test_table(model: Path, tiny: Path, run: Run) -> None:
    done = run("eval", model, tiny, "--tolerance_frames", "2", "--recall_values", "1", "5")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split()[-2:] == ["R@1", "R@5"]
    assert lines[1].split()[-4:-1] == ["4", "all", "50.0"]
    assert lines[2].split()[-4:-1] == ["3", "matched", "66.7"]
    assert "ms per query (median)" in done.out


def test_defaults(model: Path, tiny: Path, run: Run) -> None:
    (found,) = evaluate(run, model, tiny)["sets"]
    assert [p["right"] for p in found["protocols"]] == ["±1 frames", "±3 frames", "±8 frames", "the set's own"]
    # More answers than the database has cannot be asked for.
    assert list(found["protocols"][0]["recall_all"]) == ["R@1", "R@5"]


@pytest.mark.parametrize(
    "words",
    [
        ["MODEL", "DATA", "--recall_values", "1", "2", "6"],
        ["--recall_values", "1", "2", "6", "MODEL", "DATA"],
        ["MODEL", "--recall_values", "1", "2", "6", "DATA"],
        ["MODEL", "--recall_values", "6", "2", "1", "--tolerance_frames", "1", "DATA"],
        ["MODEL", "DATA", "--recall_values=1", "--recall_values=2", "--recall_values=6"],
        ["MODEL", "DATA", "--recall_values", "1", "--recall_values", "2", "6"],
    ],
)
def test_many_values_after_one_option(words: list[str], model: Path, tiny: Path, run: Run) -> None:
    given = {"MODEL": str(model), "DATA": str(tiny)}
    (found,) = evaluate(run, *[given.get(word, word) for word in words])["sets"]
    assert list(found["protocols"][0]["recall_all"]) == ["R@1", "R@2", "R@6"]


def test_a_single_value(model: Path, tiny: Path, run: Run) -> None:
    for words in (["--recall_values=5"], ["--recall_values", "5"]):
        (found,) = evaluate(run, *words, model, tiny)["sets"]
        assert list(found["protocols"][0]["recall_all"]) == ["R@5"]


def test_folders_with_positions(model: Path, tmp_path: Path, run: Run) -> None:
    write_pictures(tmp_path / "database", [f"@{100 * i}@0@.png" for i in range(4)])
    for i, (x, seed) in enumerate([(10, 0), (130, 1), (5000, 2)]):  # 10 m off, 30 m off, nowhere near
        path = tmp_path / "queries" / f"@{x}@{i}@.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(picture(seed)))
    folders = ["--database_folder", tmp_path / "database", "--queries_folder", tmp_path / "queries"]
    for radius, all_, matched in ((25, 1 / 3, 1.0), (31, 2 / 3, 1.0)):
        words = [*folders, "--positive_dist_threshold", radius, "--recall_values", 1]
        ((protocol,),) = [s["protocols"] for s in evaluate(run, model, *words)["sets"]]
        assert protocol["right"] == f"{radius} m"
        assert protocol["recall_all"]["R@1"] == pytest.approx(all_)
        assert protocol["recall_matched"]["R@1"] == pytest.approx(matched)


def test_no_query_has_a_true_place(model: Path, tmp_path: Path, run: Run) -> None:
    write_pictures(tmp_path / "database", ["@0@0@.png"])
    write_pictures(tmp_path / "queries", ["@9000@0@.png"])
    words = [model, "--database_folder", tmp_path / "database", "--queries_folder", tmp_path / "queries"]
    (found,) = evaluate(run, *words)["sets"]
    (protocol,) = found["protocols"]
    assert protocol["recall_all"] == {"R@1": 0.0}
    assert protocol["recall_matched"] == {"R@1": None}  # and not a nan, which JSON does not have
    done = run("eval", *words)
    assert done.code == 0
    assert "nan" not in done.out


def test_a_name_below_the_data_folder(
    model: Path, data: Path, run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRUCTVPR_DATA", str(data))
    assert evaluate(run, model, "tiny")["sets"][0]["database"] == NUM_DATABASE
    assert "nope: there is no such folder, nor below STRUCTVPR_DATA=" in refused("eval", model, "nope")
    monkeypatch.delenv("STRUCTVPR_DATA")
    assert "set STRUCTVPR_DATA" in refused("eval", model, "tiny-and-unknown")


def test_refused(model: Path, tiny: Path, tmp_path: Path, refused: Refused) -> None:
    assert "no data was named" in refused("eval", model)
    assert "no data was named" in refused("eval", model, "--database_folder", tmp_path)
    assert "nope.onnx" in refused("eval", tmp_path / "nope.onnx", tiny)
    assert "give K >= 1" in refused("eval", model, tiny, "--recall_values", 0)
    assert "no such file or folder" in refused(
        "eval", model, "--database_folder", tmp_path / "nope", "--queries_folder", tmp_path
    )


def test_a_damaged_image(model: Path, tmp_path: Path, refused: Refused) -> None:
    write_pictures(tmp_path / "database", ["@0@0@.png", "@1@0@.png"])
    (tmp_path / "database" / "@1@0@.png").write_bytes(b"")
    write_pictures(tmp_path / "queries", ["@0@0@.png"])
    sentence = refused(
        "eval", model, "--database_folder", tmp_path / "database", "--queries_folder", tmp_path / "queries"
    )
    assert "@1@0@.png: cannot be decoded (0 bytes)" in sentence
