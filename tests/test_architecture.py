"""Who may import whom (ARCHITECTURE.md), and the house rules that a machine can check."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("sdk", "training", "export")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

STANDARD = set(sys.stdlib_module_names)

# By the longest prefix that fits: packages from elsewhere that a folder may import at all, and those of them that
# may be imported only inside a function.
ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    "sdk.contract": (set(), set()),
    "sdk.errors": (set(), set()),
    "sdk": ({"numpy", "cv2"}, set()),
    "sdk.backends": ({"numpy"}, {"onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cuda", "pycuda"}),
    "sdk.cli": ({"typer", "rich", "numpy"}, {"onnxruntime"}),
    "training": ({"torch", "numpy", "cv2", "sdk"}, set()),
    "training.cli": ({"typer", "sdk"}, set()),
    "training.datasets": ({"numpy", "sdk"}, set()),
    "training.labels": ({"torch", "numpy", "cv2", "sdk"}, {"onnxruntime"}),
    "training.loop.metrics": ({"sdk"}, {"torch"}),
    "training.networks.espnetv2_export": ({"torch", "sdk"}, {"onnx"}),
    "training.world": ({"numpy", "cv2"}, set()),
    "export": ({"sdk"}, set()),
    "export.cli": ({"typer", "sdk"}, set()),
    "export.engine": ({"onnx", "numpy", "sdk"}, {"tensorrt", "tensorrt_rtx"}),
    "export.from_checkpoint": ({"torch", "onnx", "numpy", "sdk", "training"}, {"onnxsim"}),
    "export.gate": ({"numpy", "sdk"}, set()),
    "export.graph": ({"onnx", "numpy", "sdk"}, {"onnxruntime"}),
    "export.precision": ({"onnx", "numpy", "sdk"}, set()),
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> list[tuple[str, bool]]:
    """(absolute module, whether it is imported at the top level) of every import that runs."""
    tree = ast.parse(path.read_text())
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (parent, node.module or "") if part)
            # Both `from sdk import places` and `from sdk.places.place_map import PlaceMap` name sdk.places.place_map.
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)] if node.module or node.level else []
        else:
            continue
        found += [(name, id(node) not in inside) for name in names]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_follow_the_rules(path: Path) -> None:
    module = module_name(path)
    rule = max((prefix for prefix in ALLOWED if module == prefix or module.startswith(prefix + ".")), key=len)
    allowed, on_use_only = ALLOWED[rule]
    for name, top_level in imports(path):
        top = name.split(".")[0]
        if top in STANDARD or top == module.split(".")[0]:
            continue
        assert top in allowed | on_use_only, f"{module} imports {name}"
        if top_level:
            assert top in allowed, f"{module} imports {name} before it is used"


# What the folders of training and export may know of the SDK beside the names that `sdk` exports: modules, with all
# that is in them. Export writes engines as the device reads them and judges descriptors as the device compares them.
PUBLIC = {
    *("sdk.arrays", "sdk.atomic_file", "sdk.cli", "sdk.describer", "sdk.errors", "sdk.evaluation", "sdk.frames"),
    *("sdk.geography", "sdk.progress"),
}
KNOWN_TO: dict[str, set[str]] = {
    "training": PUBLIC,
    "training.cli": PUBLIC | {"sdk.cli"},
    "export": PUBLIC,
    "export.cli": PUBLIC | {"sdk.cli"},
    "export.engine": PUBLIC | {"sdk.backends", "sdk.machine"},
    "export.gate": PUBLIC | {"sdk._core.l2_normalize"},
    "export.graph": PUBLIC | {"sdk.backends.onnx_file"},
}


@pytest.mark.parametrize("package", ["training", "export"])
def test_the_workstation_uses_the_public_sdk(package: str) -> None:
    import sdk

    for path in (ROOT / package).rglob("*.py"):
        module = module_name(path)
        rule = max((prefix for prefix in KNOWN_TO if module == prefix or module.startswith(prefix + ".")), key=len)
        public = KNOWN_TO[rule] | {f"sdk.{name}" for name in sdk.__all__}
        for name, _ in imports(path):
            within = any(name == each or name.startswith(each + ".") for each in public)
            outer = any(each.startswith(name + ".") for each in public)  # `sdk` of `from sdk import …`
            assert within or outer or name.split(".")[0] != "sdk", f"{module} imports {name}"


# From the ground up: a room may import the rooms before it, never those after it or beside it in one set.
FLOORS: dict[str, list[set[str]]] = {
    "sdk": [
        {"errors", "_core"},
        {"arrays", "progress", "stopwatch", "atomic_file", "machine", "contract"},
        {"geography"},
        {"frames"},
        {"answers", "backends"},
        {"describer"},
        {"places"},
        {"index"},
        {"stores"},
        {"localizer"},
        {"evaluation", "pages"},
        {"cli"},
    ],
    "export": [{"progress"}, {"graph", "gate"}, {"from_checkpoint", "precision", "engine"}, {"cli"}],
    "training": [
        {"world", "processes", "datasets", "json_files", "recipe"},
        {"labels"},
        {"networks"},
        {"inputs", "objective"},
        {"loop"},
        {"studies"},
        {"cli"},
    ],
}


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_import_downwards_only(package: str) -> None:
    floor = {room: level for level, rooms in enumerate(FLOORS[package]) for room in rooms}
    for path in (ROOT / package).rglob("*.py"):
        room = [*module_name(path).split("."), "__init__"][1]
        if room in ("__init__", "__main__"):
            continue
        assert room in floor, f"{path} is in no room of FLOORS"
        for name, _ in imports(path):
            parts = name.split(".")
            if parts[0] == package and len(parts) > 1 and parts[1] != room and parts[1] in floor:
                assert floor[parts[1]] < floor[room], f"{module_name(path)} imports {name}"


def test_the_world_needs_no_network() -> None:
    for path in (ROOT / "training" / "world").glob("*.py"):
        for name, _ in imports(path):
            assert not name.startswith("training.") or name.startswith("training.world"), f"{path} imports {name}"


def test_contract_and_errors_need_nothing() -> None:
    for module in ("contract", "errors"):
        for name, _ in imports(ROOT / "sdk" / f"{module}.py"):
            assert name.split(".")[0] in STANDARD or name.startswith("sdk.errors")


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["sdk", "training.world", "training", "export"])
def test_import_is_light(module: str) -> None:
    heavy = {"torch", "onnx", "tensorrt", "typer", "rich", "onnxruntime"}
    loaded = run_python(f"import {module}, sys; print(*sorted({heavy!r} & set(sys.modules)))")
    assert loaded == ""


ON_THE_DEVICE = ("precision.gated", "gate.options", "engine.gated", "graph.rules", "cli")


@pytest.mark.parametrize("module", ON_THE_DEVICE)
def test_what_exports_on_the_device_needs_no_torch(module: str) -> None:
    """It is imported where torch is not installed: a Jetson builds engines and judges them."""
    pytest.importorskip("onnx", reason="exporting needs onnx (extra: export)")
    code = f"import sys; sys.modules['torch'] = None; import export.{module}; print('tensorrt' in sys.modules)"
    assert run_python(code) == "False"


KERNEL = ROOT / "csrc"
# The folders of the kernel by floor, from the ground up. A file may include its own folder and lower floors.
KERNEL_FLOORS = (("memory", "kernels"), ("rows",), ("graph",), ("search", "file"), ("index",), ("bindings.cpp",))


def kernel_files() -> dict[str, str]:
    """The text of each file of the kernel, by its path from csrc, without what we did not write."""
    files = [path for path in KERNEL.rglob("*") if path.suffix in (".cpp", ".hpp", ".inl")]
    files = [path for path in files if KERNEL / "third_party" not in path.parents]
    return {path.relative_to(KERNEL).as_posix(): path.read_text() for path in files}


def test_only_one_file_includes_each_library() -> None:
    files = kernel_files()
    assert [path for path, text in files.items() if "<hnswlib/" in text] == ["graph/builder.cpp"]
    assert {path for path, text in files.items() if "<pybind11/" in text} == {"bindings.cpp"}


def test_the_kernel_includes_downwards_only() -> None:
    """No arrow points upwards or across a floor, so folders have no circle; nor have the files of a folder."""
    floors = {folder: floor for floor, folders in enumerate(KERNEL_FLOORS) for folder in folders}
    files = kernel_files()
    assert {path.split("/")[0] for path in files} == set(floors)
    includes = {path: re.findall(r'#include "(.+)"', text) for path, text in files.items()}
    for path, included in includes.items():
        folder = path.split("/")[0]
        for other in included:
            assert other in files, f"{path} includes {other}, which is not a path from csrc"
            below = other.split("/")[0]
            assert below == folder or floors[below] < floors[folder], f"{path} includes {other}"
    list(graphlib.TopologicalSorter(includes).static_order())  # raises CycleError


def test_vendored_headers_are_those_of_the_archive() -> None:
    """Sizes and a digest taken from hnswlib-0.8.0.tar.gz, whose sha256 stands beside the headers."""
    import hashlib

    folder = ROOT / "csrc" / "third_party" / "hnswlib"
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.h")):
        digest.update(path.name.encode() + path.read_bytes())
    assert digest.hexdigest() == "ecca289fb7b99fc2c2644f4bda0e44a6c5dda5e819adcda066987c038b01ae6d"


def test_house_rules() -> None:
    for path in SOURCES:
        assert path.stem not in {"utils", "util", "common", "helpers", "helper", "misc"}, path
        tree = ast.parse(path.read_text())
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Assert)], f"{path} asserts"
        calls = [
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        assert "print" not in calls, f"{path} prints"


def test_exported_names_have_docstrings() -> None:
    for path in (ROOT / "sdk").glob("*.py"):
        tree = ast.parse(path.read_text())
        exported = {
            element.value
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
            for element in node.value.elts  # type: ignore[attr-defined]
        }
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in exported:
                assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"
