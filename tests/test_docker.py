"""What can be held of docker/ and docs/jetson.md without a Jetson: names, files, extras, instructions, sentences."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted((ROOT / "docker").iterdir())
PAGE = ROOT / "docs" / "jetson.md"
PYPROJECT = (ROOT / "pyproject.toml").read_text()
EXTRAS = set(
    re.findall(r"^(\w+) = \[", PYPROJECT.split("[project.optional-dependencies]")[1].split("[project.")[0], re.M)
)
INSTRUCTIONS = {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "ENTRYPOINT"}


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, what follows), lines joined, comments left out."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines()]


def test_both_jetpacks_have_one() -> None:
    assert {path.suffix.removeprefix(".") for path in DOCKERFILES} == {e for e in EXTRAS if e.startswith("jetpack")}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfile(path: Path) -> None:
    extra = path.suffix.removeprefix(".")
    text = path.read_text()
    assert f"docker build -f docker/{path.name} " in text
    found = instructions(path)
    assert {name for name, _ in found} <= INSTRUCTIONS
    assert found[0][0] == "ARG"
    assert re.fullmatch(r"BASE=nvcr\.io/nvidia/[\w-]+:[\w.-]+", found[0][1])
    assert [rest for name, rest in found if name == "FROM"] == ["${BASE} AS build", "${BASE}"]
    assert ("ENTRYPOINT", '["structvpr"]') in found
    assert 'structvpr = "sdk.cli:main"' in PYPROJECT
    assert extra in EXTRAS
    assert f".whl)[{extra}]" in text
    runs = " ".join(rest for name, rest in found if name == "RUN")
    assert "--system-site-packages" in runs
    shlex.split(runs)  # quotes are closed


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_is_what_the_wheel_is_made_of(path: Path) -> None:
    copied = [
        name
        for instruction, rest in instructions(path)
        if instruction == "COPY" and not rest.startswith("--from=build ")
        for name in rest.split()[:-1]
    ]
    for name in copied:
        assert (ROOT / name).exists(), name
    packages = re.search(r"^wheel\.packages = \[(.*)\]", PYPROJECT, re.M)
    assert packages
    needed = set(re.findall(r'"([^"]+)"', packages[1]))
    needed |= set(re.findall(r"^install\(DIRECTORY (\w+)/", (ROOT / "CMakeLists.txt").read_text(), re.M))
    needed |= {"pyproject.toml", "CMakeLists.txt", "csrc"}
    needed |= {Path(name).parts[0] for name in re.findall(r'"([^"]*LICENSE)"', PYPROJECT)}
    readme = re.search(r'^readme = "(.*)"', PYPROJECT, re.M)
    assert readme
    assert set(copied) == needed | {readme[1]}


def test_the_extras_of_a_jetson_take_tensorrt_from_the_system() -> None:
    for extra, cuda in (("jetpack6", "12"), ("jetpack7", "13")):
        line = re.search(rf"^{extra} = \[(.*)\]", PYPROJECT, re.M)
        assert line
        assert "tensorrt" not in line[1]
        assert f"cuda-bindings>={cuda},<{int(cuda) + 1}" in line[1]


def sentences() -> list[str]:
    """Every text of the SDK and of export, with … for what is filled in."""
    found = []
    for path in [*(ROOT / "sdk").rglob("*.py"), *(ROOT / "export").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_the_page_quotes_errors_as_they_are() -> None:
    table = PAGE.read_text().split("| it says |")[1].split("\n\n")[0]
    quoted = re.findall(r"^\| `([^`]+)` \|", table, re.M)
    assert len(quoted) > 10
    known = sentences()
    for sentence in quoted:
        assert any(sentence in text for text in known), sentence


def test_the_page_names_what_is_there() -> None:
    text = PAGE.read_text()
    for extra in re.findall(r"\[(jetpack\d)\]", text):
        assert extra in EXTRAS
    for name in re.findall(r"docker/Dockerfile\.\w+", text):
        assert (ROOT / name).is_file()
    for name in re.findall(r"\]\(([^)#]+)\)", text):
        assert (PAGE.parent / name).exists(), name
