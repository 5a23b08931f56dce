"""Builds an engine from a typed ONNX graph, with TensorRT 8.5 to 11 or TensorRT-RTX.

The graph alone says which precision is used, by its float16 tensors and its Q/DQ pairs:

    TensorRT 10 and later, RTX   a strongly typed network takes the graph's types as they are
    TensorRT 8, and 10 for DLA   no strongly typed networks: flags allow float16 and int8, and `_pin_float32` pins the
                                 layers that must stay float32

Names that some versions lack are read by getattr, here and in `sdk.backends`. A test checks all other names against
the API of each version.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from sdk import EngineError, UsageError
from sdk.backends.engine_sidecar import RUNTIMES
from sdk.progress import Progress

from ..graph.value_types import float32_tensors, graph_precision, has_half
from .monitor import build_monitor, interrupt_later, ticking

__all__ = ["BuildSettings", "EngineBuilder"]

NAMED_ERRORS = 3
GPU = re.compile(r"\d+\.\d")
MAX_WORKSPACE_MIB = 1 << 20  # far beyond any GPU; its bytes still fit the bindings' integers


@dataclass(frozen=True)
class BuildSettings:
    """The settings of a build.

    Attributes:
        workspace_mib: memory that a kernel may use beside its tensors, MiB, 1 to 2^20.
        timing_cache: folder for TensorRT's timings; None for structvpr below $XDG_CACHE_HOME, or below ~/.cache.
            TensorRT-RTX has no timings.
        dla_core: DLA that runs what it can, with the GPU for the rest; None for the GPU alone.
        compute_capabilities: TensorRT-RTX only: GPUs to compile for, such as "8.6", without one at hand. Empty for the
            GPU of this machine.
        runtime: "tensorrt" or "tensorrt_rtx"; None for the first that is installed.
        optimization_level: 0 (fast build) to 5 (fast engine); None for TensorRT's default, 3.

    Raises:
        UsageError: a value is out of its range or has no effect.
    """

    workspace_mib: int = 1024
    timing_cache: Path | None = None
    dla_core: int | None = None
    compute_capabilities: tuple[str, ...] = ()
    runtime: str | None = None
    optimization_level: int | None = None

    def __post_init__(self) -> None:
        workspace, level, ahead = self.workspace_mib, self.optimization_level, self.compute_capabilities
        wrong = [f"a compute capability is {c!r}, expected one such as 8.6" for c in ahead if not GPU.fullmatch(c)]
        if not 1 <= workspace <= MAX_WORKSPACE_MIB:
            wrong.append(f"the workspace is {workspace} MiB, expected 1 to {MAX_WORKSPACE_MIB}")
        if level is not None and not 0 <= level <= 5:
            wrong.append(f"the optimization level is {level}, expected 0 to 5")
        if self.runtime not in (None, *RUNTIMES):
            wrong.append(f"the runtime is {self.runtime!r}, expected {' or '.join(RUNTIMES)}")
        if ahead and self.runtime == "tensorrt":
            wrong.append("tensorrt builds only for the GPU that is present; leave out --for, or use tensorrt_rtx")
        if ahead and self.timing_cache is not None:
            wrong.append("TensorRT-RTX has no timings to keep; leave out --timing-cache or --for")
        if wrong:
            raise UsageError(wrong[0])


class EngineBuilder:
    """One build with one version of TensorRT. The caller has checked CUDA, unless TensorRT-RTX compiles ahead."""

    def __init__(self, trt: Any, runtime: str, model: onnx.ModelProto, precision: str, name: str) -> None:
        """Start TensorRT's builder.

        Args:
            trt: the module `tensorrt` or `tensorrt_rtx`.
            runtime: its name.
            model: the graph, in `precision`.
            precision: "fp32", "fp16" or "int8".
            name: of the model, for messages.

        Raises:
            EngineError: TensorRT does not start.
        """
        self._trt, self._model, self._precision, self._name = trt, model, precision, name
        self._label = f"{'TensorRT-RTX' if runtime == 'tensorrt_rtx' else 'TensorRT'} {trt.__version__}"
        self._said: deque[str] = deque(maxlen=8)
        self._logger = _make_logger(trt, self._said)
        with self._refusals("cannot start its builder", "check the installation with `structvpr doctor`"):
            self._builder = trt.Builder(self._logger)

    def build(self, settings: BuildSettings, cache: bytes | None, progress: Progress | None) -> tuple[bytes, bytes]:
        """Build the engine.

        Args:
            settings: of the build.
            cache: a timing cache, which may be empty; None to use none.
            progress: see `Progress`.

        Returns:
            The engine and the new timing cache; the cache is empty if none was used.

        Raises:
            EngineError: TensorRT or the machine lacks a setting, does not accept the graph, or fails to build; the
                message quotes TensorRT.
        """
        trt = self._trt
        with self._refusals("cannot prepare its build", "check the installation with `structvpr doctor`"):
            config = self._builder.create_builder_config()
            # TensorFloat-32 is on by default and keeps 10 bits of mantissa. What the graph leaves in float32 needs
            # full float32.
            config.clear_flag(trt.BuilderFlag.TF32)
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
            self._set_optimization_level(config, settings.optimization_level)
            self._set_dla(config, settings.dla_core)
            self._set_compute_capabilities(config, settings.compute_capabilities)
            network = self._parse(config, weakly_typed=settings.dla_core is not None)
            if cache is not None:
                self._set_cache(config, cache)
        plan = self._build(network, config, progress)
        timings = b""
        with suppress(Exception):  # timings are not worth losing the engine for
            used = config.get_timing_cache() if cache is not None else None
            timings = bytes(used.serialize()) if used is not None else b""
        return plan, timings

    def _set_optimization_level(self, config: Any, level: int | None) -> None:
        if level is None:
            return
        if not hasattr(config, "builder_optimization_level"):
            raise EngineError(
                f"{self._label} has no optimization level, which needs 8.6 or later; leave out level {level}"
            )
        config.builder_optimization_level = level

    def _set_dla(self, config: Any, core: int | None) -> None:
        if core is None:
            return
        trt, cores = self._trt, self._builder.num_DLA_cores
        if not 0 <= core < cores:
            raise EngineError(
                f"{self._label} finds {cores} DLA cores here, without core {core}; build for the GPU alone"
            )
        # The DLA computes in float16 and int8. Before TensorRT 11 it knows no Q/DQ, so everything would run on the GPU.
        if self._precision == "fp32" or (self._precision == "int8" and hasattr(trt.BuilderFlag, "INT8")):
            raise EngineError(
                f"{self._name}: is {self._precision}, which a DLA does not compute with {self._label}, expected fp16; "
                "make it with `structvpr export precision --precision fp16`"
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = core
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)

    def _set_compute_capabilities(self, config: Any, capabilities: Sequence[str]) -> None:
        known = getattr(self._trt, "ComputeCapability", None)
        if known is None:
            return  # TensorRT builds for the GPU of this machine
        wanted = []
        for capability in capabilities:
            value = getattr(known, "SM" + capability.replace(".", ""), None)
            if value is None:
                have = [found for name in dir(known) if (found := re.fullmatch(r"SM(\d+)(\d)", name))]
                names = ", ".join(f"{found[1]}.{found[2]}" for found in sorted(have, key=lambda f: int(f[1] + f[2])))
                raise EngineError(
                    f"{self._label} does not compile for compute capability {capability}, expected one of {names}; "
                    "build with TensorRT on a GPU of that kind"
                )
            wanted.append(value)
        wanted = wanted or [known.CURRENT]
        config.num_compute_capabilities = len(wanted)
        for index, value in enumerate(wanted):
            config.set_compute_capability(value, index)

    def _parse(self, config: Any, weakly_typed: bool) -> Any:
        trt = self._trt
        half = getattr(trt.BuilderFlag, "FP16", None)  # absent where all networks are strongly typed
        typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        if weakly_typed and half is not None:
            typed = None  # before TensorRT 11 a DLA takes its precision from flags
        flags = [typed, getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)]
        network = self._builder.create_network(sum(1 << int(flag) for flag in flags if flag is not None))
        # The network reads weights from the parser's memory until the engine is built.
        self._parser = parser = trt.OnnxParser(network, self._logger)
        with self._refusals("cannot read it", "export the model again with `structvpr export onnx`"):
            accepted = parser.parse(self._model.SerializeToString())
        if not accepted or parser.num_errors:
            errors = [self._describe(parser.get_error(index)) for index in range(parser.num_errors)]
            more = f", and {len(errors) - NAMED_ERRORS} more" if len(errors) > NAMED_ERRORS else ""
            found = "; ".join(errors[:NAMED_ERRORS]) or self._last_word()
            raise EngineError(
                f"{self._name}: {self._label} does not take its graph ({found}{more}); export the model again with "
                "`structvpr export onnx`, or use a newer TensorRT"
            )
        if typed is None:
            self._allow_precisions(network, config)
        return network

    def _describe(self, error: Any) -> str:
        """One of the parser's errors, with its node: TensorRT 8 gives the number, later versions the name."""
        nodes, index = self._model.graph.node, error.node()
        name = error.node_name() if hasattr(error, "node_name") else ""
        if not name and 0 <= index < len(nodes):
            name = nodes[index].name or f"number {index}"
        said = _one_line(error.desc())
        return f"node {name}: {said}" if name and name not in said else said

    def _allow_precisions(self, network: Any, config: Any) -> None:
        flags = self._trt.BuilderFlag
        if graph_precision(self._model) == "int8":
            config.set_flag(getattr(flags, "INT8", None))
        if has_half(self._model):
            config.set_flag(getattr(flags, "FP16", None))
            # OBEY fails if a constraint cannot be met. PREFER would silently compute the head in float16.
            config.set_flag(getattr(flags, "OBEY_PRECISION_CONSTRAINTS", None))
            _pin_float32(self._trt, network, self._model)

    def _set_cache(self, config: Any, cache: bytes) -> None:
        """Give TensorRT our cache, or an empty one if it does not accept ours."""
        for blob in [cache, b""] if cache else [b""]:
            made = config.create_timing_cache(blob)
            if made is not None and config.set_timing_cache(made, False):
                return

    def _build(self, network: Any, config: Any, progress: Progress | None) -> bytes:
        self._said.clear()
        remedy = "try a smaller --workspace, or another version of TensorRT"
        with interrupt_later() as interrupted, self._refusals("cannot build its engine", remedy):
            monitor = build_monitor(self._trt, progress, interrupted)
            if monitor is not None:
                config.progress_monitor = monitor
            with ticking(progress if monitor is None else None):
                plan = self._builder.build_serialized_network(network, config)
        if monitor is not None and monitor.stopped_by is not None:
            raise monitor.stopped_by
        if plan is None:
            raise EngineError(f"{self._name}: {self._label} built no engine ({self._last_word()}); {self._remedy()}")
        if monitor is not None:
            monitor.finish()
        return bytes(plan)

    @contextmanager
    def _refusals(self, what: str, remedy: str) -> Iterator[None]:
        """Turn any exception of the bindings, which document no kinds, into one sentence."""
        try:
            yield
        except EngineError:
            raise
        except Exception as error:
            said = self._said[-1] if self._said else _one_line(str(error)) or type(error).__name__
            raise EngineError(f"{self._name}: {self._label} {what} ({said}); {remedy}") from None

    def _last_word(self) -> str:
        return self._said[-1] if self._said else "it gave no reason"

    def _remedy(self) -> str:
        said = " ".join(self._said).lower()
        if "insufficient workspace" in said:
            return "give it more with --workspace"
        if "memory" in said or "alloc" in said:
            return "close other programs, or give it less with --workspace"
        return "export the model again with `structvpr export onnx`, or use another version of TensorRT"


def _make_logger(trt: Any, said: deque[str]) -> Any:
    """A logger that keeps the last errors and prints nothing."""
    serious = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the bindings refuse super().__init__ in some versions

        def log(self, severity: Any, message: str) -> None:
            if severity in serious:
                said.append(_one_line(message))

    return Logger()


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400]


def _pin_float32(trt: Any, network: Any, model: onnx.ModelProto) -> None:
    """Pin to float32, in a weakly typed network, each layer whose tensor is float32 in the graph.

    In such a network a Cast to float32 gives the tensor's type, but not the precision of the layers that read it: with
    float16 allowed, TensorRT may remove the Cast and compute GeM's power in float16, where 41 cubed is infinite. So
    each layer that makes a float32 tensor of the graph gets its precision and its output type set.

    The parser makes several layers of one node, and only the last output has the node's name in the graph. The unnamed
    tensors before it belong to the same node, and are followed backwards.
    """
    float32, layers = float32_tensors(model), [network.get_layer(index) for index in range(network.num_layers)]
    named = {name for node in model.graph.node for name in node.output} | {port.name for port in model.graph.input}
    outputs = [(layer, layer.get_output(i)) for layer in layers for i in range(layer.num_outputs)]
    producers = {tensor.name: layer for layer, tensor in outputs}
    waiting = [tensor.name for _, tensor in outputs if tensor.name in float32]
    seen = set(waiting)
    floats = (trt.DataType.FLOAT, trt.DataType.HALF)
    # A Cast has its output type already. TensorRT 8.5 makes it an identity layer.
    casts = (getattr(trt.LayerType, "CAST", None), trt.LayerType.IDENTITY)
    while waiting:
        layer = producers[waiting.pop()]
        indices = [i for i in range(layer.num_outputs) if layer.get_output(i).dtype in floats]
        if indices and layer.type not in casts:
            layer.precision = trt.DataType.FLOAT
            for index in indices:
                layer.set_output_type(index, trt.DataType.FLOAT)
        inputs = [tensor for i in range(layer.num_inputs) if (tensor := layer.get_input(i)) is not None]
        behind = {tensor.name for tensor in inputs if tensor.name in producers} - named - seen
        seen |= behind
        waiting += behind
