"""The command as a whole: its help, its version, its manners."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import Run, run_process

import sdk

VERBS = ["map build", "map info", "map verify", "map export", "query", "eval", "bench", "doctor"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_teaches_with_an_example(verb: str, run: Run) -> None:
    done = run(*verb.split(), "--help")
    assert done.code == 0
    assert done.err == ""
    lines = [line.strip() for line in done.out.splitlines()]
    at = lines.index("Example")
    examples = [line for line in lines[at + 1 :] if line.startswith("structvpr ")]
    assert examples
    assert examples[0].startswith(f"structvpr {verb}")


@pytest.mark.parametrize("verb", VERBS)
def test_examples_use_options_that_exist(verb: str, run: Run) -> None:
    text = run(*verb.split(), "--help").out
    examples, _, options = text.partition("Options:")
    for option in re.findall(r"(?<=\s)--?[a-z][\w-]*", examples.partition("Example")[2]):
        assert option in options, option


def test_help_names_every_verb(run: Run) -> None:
    text = run("--help").out
    for verb in ("map", "query", "eval", "bench", "doctor"):
        assert re.search(rf"^  {verb} ", text, re.MULTILINE)
    assert "structvpr map build model.onnx photos/ campus.places" in text
    text = run("map", "--help").out
    for verb in ("build", "info", "verify", "export"):
        assert re.search(rf"^  {verb} ", text, re.MULTILINE)


def test_version(run: Run) -> None:
    done = run("--version")
    assert (done.code, done.out, done.err) == (0, f"{sdk.__version__}\n", "")


@pytest.mark.parametrize("words", [["nope"], ["map", "nope"], ["query"], ["query", "--nope"], ["map", "build", "m"]])
def test_wrong_usage(words: list[str], run: Run) -> None:
    done = run(*words)
    assert done.code == 2
    assert done.out == ""
    assert "Error" in done.err
    assert "Traceback" not in done.err


def test_a_path_that_the_system_refuses(model: Path, run: Run) -> None:
    done = run("query", model, "x" * 300)
    assert done.code == 2
    assert done.err.startswith("structvpr: x")
    assert done.err.count("\n") == 1
    assert "File name too long" in done.err


def test_in_a_process_of_its_own(model: Path, photos: Path, session_map: Path) -> None:
    done = run_process("query", model, photos / "2.png", "--map", session_map)
    assert done.code == 0
    assert done.out.splitlines()[2].split()[:2] == ["2.png", "1.000"]
    assert done.err == ""
    done = run_process("query", model, photos / "2.png", "--map", photos / "nope.places")
    assert done.code == 2
    assert done.out == ""
    assert re.fullmatch(r"structvpr: .*nope\.places: there is no such file; make a map [^\n]*\n", done.err)


def test_the_installed_script() -> None:
    script = Path(sys.executable).parent / "structvpr"
    assert os.access(script, os.X_OK), "structvpr is not installed in this environment"


def test_device_verbs_never_load_the_workstation(model: Path, photos: Path, session_map: Path) -> None:
    code = """
import sys
from sdk.cli import main
heavy = {"torch", "onnx", "onnxsim", "tensorrt", "training", "export"}
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0, end.code
print("LOADED", *sorted(heavy & set(sys.modules)))
"""
    for words in (
        ["query", model, photos / "0.png", "--map", session_map],
        ["map", "info", session_map],
        ["--version"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "LOADED"


def test_importing_the_sdk_is_light() -> None:
    code = "import sys, sdk; print(*sorted({'torch', 'onnx', 'onnxruntime', 'typer', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
