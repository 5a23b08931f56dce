"""What we use of TensorRT is in every version from 8.6 to 11.4 and in TensorRT-RTX 1.7, or is asked for first.

The surfaces are those of NVIDIA's own bindings (tests/data/README.md). Uses are read from the source: attributes of the
module, which is always called `trt`, and of objects by the names that they have in each file.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fake_tensorrt import TABLES

ROOT = Path(__file__).parents[3]
VERSIONS = ("8.6.1", "10.0.1", "10.3.0", "10.7.0", "10.13.0.35", "10.16.1.11", "11.0.0.114", "11.4.0.106")
MODULE = ("trt", "self._trt")

# What an expression is, by file. An object that is not named here may not be used with a word of TensorRT's.
OBJECTS: dict[str, dict[str, str]] = {
    "sdk/backends/trt.py": {
        "self._runtime": "Runtime",
        "self._engine": "ICudaEngine",
        "engine": "ICudaEngine",
        "self._context": "IExecutionContext",
        "engine.get_tensor_mode(name)": "TensorIOMode",
        "engine.get_tensor_dtype(name)": "DataType",
        "verdict": "EngineValidity",
    },
    "export/engine/from_onnx.py": {},
    "export/engine/build.py": {
        "self._builder": "Builder",
        "config": "IBuilderConfig",
        "network": "INetworkDefinition",
        "parser": "OnnxParser",
        "error": "ParserError",
        "used": "ITimingCache",
        "layer": "ILayer",
        "layer.get_output(i)": "ITensor",
        "tensor": "ITensor",
        "flags": "BuilderFlag",
        "known": "ComputeCapability",
    },
    "export/engine/monitor.py": {"base": "IProgressMonitor"},
}

# Asked for with getattr or hasattr, and done without where it is missing.
OPTIONAL = {
    "Runtime.get_engine_validity",
    "module.EngineInvalidityDiagnostics",
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
    "BuilderFlag.FP16",
    "BuilderFlag.INT8",
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS",
    "IBuilderConfig.builder_optimization_level",  # not in 8.5
    "ParserError.node_name",
    "LayerType.CAST",  # not in 8.5
    "module.ComputeCapability",
    "module.IProgressMonitor",
}

# Used as they are, but only where another name is there: where that is, they must be too.
BEHIND = {
    "EngineValidity.name": "Runtime.get_engine_validity",
    "ComputeCapability.CURRENT": "module.ComputeCapability",
    "IBuilderConfig.num_compute_capabilities": "module.ComputeCapability",
    "IBuilderConfig.set_compute_capability": "module.ComputeCapability",
    "IBuilderConfig.progress_monitor": "module.IProgressMonitor",
    "ILayer.precision": "BuilderFlag.FP16",
    "ILayer.set_output_type": "BuilderFlag.FP16",
}

# Of the package, not of its bindings: `tensorrt/__init__.py` has it in every version.
OF_THE_PACKAGE = {"module.__version__"}


def has(table: dict[str, list[str]], name: str) -> bool:
    owner, _, attribute = name.partition(".")
    return attribute in table.get(owner, [])


COMMON = {
    f"{owner}.{attribute}"
    for owner in set.intersection(*[set(table) for table in TABLES.values()])
    for attribute in set.intersection(*[set(table[owner]) for table in TABLES.values()])
}
# Words with which TensorRT's own objects are used, in any version, and hardly any other.
WORDS = {
    name
    for table in TABLES.values()
    for owner in ("Runtime", "ICudaEngine", "IExecutionContext", "Builder", "IBuilderConfig", "OnnxParser")
    for name in table[owner]
    if "_" in name
}


@dataclass
class Uses:
    """Names as OWNER.ATTRIBUTE."""

    plain: set[str] = field(default_factory=set)
    asked_for: set[str] = field(default_factory=set)
    made_sure_of: set[str] = field(default_factory=set)  # with hasattr
    unknown: set[str] = field(default_factory=set)


def uses_of(source: str, objects: dict[str, str]) -> Uses:
    uses = Uses()

    def owner_of(node: ast.expr) -> str | None:
        text = ast.unparse(node)
        if text in MODULE:
            return "module"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in MODULE:
            return node.attr  # a class of the module
        if isinstance(node, ast.Attribute) and node.attr == "Severity":
            return owner_of(node.value)  # its members are also those of the logger
        return objects.get(text)

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = owner_of(node.value)
            if owner is not None and (owner == "module" or not node.attr.startswith("__")):
                uses.plain.add(f"{owner}.{node.attr}")
            elif owner is None and node.attr in WORDS:
                uses.unknown.add(ast.unparse(node))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            owner, name = owner_of(node.args[0]), node.args[1]
            if owner is not None and isinstance(name, ast.Constant):
                uses.asked_for.add(f"{owner}.{name.value}")
                if ast.unparse(node.func) == "hasattr":
                    uses.made_sure_of.add(f"{owner}.{name.value}")
            elif isinstance(name, ast.Constant) and name.value in WORDS:
                uses.unknown.add(ast.unparse(node))
    return uses


def faults(source: str, objects: dict[str, str]) -> list[str]:
    """What a source uses that some version lacks."""
    uses = uses_of(source, objects)
    allowed = COMMON | BEHIND.keys() | OF_THE_PACKAGE | uses.made_sure_of
    found = [f"{name} is not in all versions" for name in uses.plain - allowed]
    found += [f"{name} is asked for, but not in OPTIONAL" for name in uses.asked_for - OPTIONAL]
    found += [f"{text}: not known what it belongs to" for text in uses.unknown]
    return sorted(found)


def test_the_tables_are_those_of_the_issue() -> None:
    assert set(TABLES) == {*VERSIONS, "rtx_1.7.1.116"}


@pytest.mark.parametrize("path", OBJECTS)
def test_we_use_what_every_version_has(path: str) -> None:
    if not (ROOT / path).is_file():
        pytest.skip(f"{path} is not there")
    assert faults((ROOT / path).read_text(), OBJECTS[path]) == []


def test_no_other_file_uses_tensorrt() -> None:
    for package in ("sdk", "export", "training"):
        for path in (ROOT / package).rglob("*.py"):
            name, source = str(path.relative_to(ROOT)), path.read_text()
            if name not in OBJECTS and any(module in source for module in MODULE):
                uses = uses_of(source, {})
                assert (uses.plain, uses.asked_for) == (set(), set()), name


@pytest.mark.parametrize("version", TABLES)
def test_names_behind_another_are_where_that_is(version: str) -> None:
    for name, guard in BEHIND.items():
        if has(TABLES[version], guard):
            assert has(TABLES[version], name), f"{version} has {guard}, but not {name}"


def test_what_is_asked_for_exists_somewhere() -> None:
    for name in (*OPTIONAL, *BEHIND):
        assert any(has(table, name) for table in TABLES.values()), name


def test_a_network_without_strong_types_has_the_flags() -> None:
    """The builder takes flags for precisions where STRONGLY_TYPED is missing."""
    for version, table in TABLES.items():
        if not has(table, "NetworkDefinitionCreationFlag.STRONGLY_TYPED"):
            for flag in ("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"):
                assert has(table, f"BuilderFlag.{flag}"), version


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self._context.execute_async_v3", "self._context.execute_async_v2"),  # gone in 10
        ("self._context.execute_async_v3", "context.execute_async_v2"),  # under another name
        ("engine.num_io_tensors", "engine.num_bindings"),
        ("engine.get_tensor_shape(name)", "engine.get_tensor_shape_v2(name)"),  # in no version
        ("trt.ILogger.ERROR", "trt.ILogger.Severity.FATAL"),
        ("trt.Runtime(", "trt.LeanRuntime("),
        ("trt.Runtime(", "trt.IProgressMonitor("),  # from 10 on
        ("trt.ILogger.INTERNAL_ERROR", "trt.BuilderFlag.FP16"),  # gone in 11
        ("self._runtime.DLA_core", "self._runtime.dla_core"),
        ('"get_engine_validity"', '"get_engine_stat"'),
        ('getattr(self._runtime, "get_engine_validity"', 'getattr(runtime, "get_engine_validity"'),
    ],
)
def test_a_name_that_some_version_lacks_is_found(old: str, new: str) -> None:
    path = "sdk/backends/trt.py"
    source = (ROOT / path).read_text()
    assert old in source
    assert faults(source, OBJECTS[path]) == []
    assert len(faults(source.replace(old, new), OBJECTS[path])) >= 1


def test_the_table_of_rtx_is_what_is_installed() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    if trt.__version__ != "1.7.1.116":
        pytest.skip(f"the table is of 1.7.1.116, installed is {trt.__version__}")
    table = TABLES["rtx_1.7.1.116"]
    for owner, names in table.items():
        there = trt if owner == "module" else getattr(trt, owner)
        assert [name for name in names if not hasattr(there, name)] == [], owner
