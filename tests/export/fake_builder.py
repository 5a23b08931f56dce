"""A TensorRT whose builder records what it is told, with what a version has and nothing that it lacks.

Its parser reads the graph with onnx and lays it out as the real one does: a constant that a node takes is a layer of
its own, and so is the reshaping of it, and neither has a name of the graph. Rules that the real builder enforces are
enforced: no precision flags or layer precisions in a strongly typed network, float16 only where a flag allows it.
"""

from __future__ import annotations

import enum
import threading
from types import SimpleNamespace

import onnx

KINDS = {1: "FLOAT", 10: "HALF", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL"}
FLAGS = ["DEBUG", "GPU_FALLBACK", "REFIT", "TF32"]
WEAK_FLAGS = ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"]
PLAN = b"a plan for "


def fake_tensorrt(version, *, dla_cores=0, rtx=False):
    """A module like TensorRT 8.5, 8.6, 10.3, 10.13 or 11.4, or TensorRT-RTX. What it was told is in `told`."""
    major, minor = map(int, version.split(".")[:2])
    typed_only = rtx or major >= 11
    creation = ["STRONGLY_TYPED"] if typed_only else ["EXPLICIT_BATCH", "STRONGLY_TYPED"][: 1 if major < 10 else 2]
    trt = SimpleNamespace(
        __version__=version,
        BuilderFlag=enum.Enum("BuilderFlag", FLAGS + ([] if typed_only else WEAK_FLAGS)),
        NetworkDefinitionCreationFlag=enum.IntEnum("NetworkDefinitionCreationFlag", creation, start=0),
        DataType=enum.Enum("DataType", list(KINDS.values())),
        DeviceType=enum.Enum("DeviceType", ["GPU", "DLA"]),
        LayerType=enum.Enum("LayerType", ["CAST", "IDENTITY", "CONSTANT", "SHUFFLE", "ELEMENTWISE", "OTHER"]),
        MemoryPoolType=enum.Enum("MemoryPoolType", ["WORKSPACE"]),
    )
    told = trt.told = SimpleNamespace(
        creation=set(), flags={"TF32"}, cache=None, network=None, config=None, plan=PLAN + version.encode(), fail=None
    )
    trt.parse_errors = []  # of (node number, sentence)
    trt.says = []  # errors that the builder logs while it builds
    trt.reads_cache = lambda blob: blob == b"" or blob.startswith(version.encode())

    class ILogger:
        Severity = enum.Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

    class IProgressMonitor:
        pass

    class TimingCache:
        def __init__(self, blob):
            self.blob = blob

        def serialize(self):
            return memoryview(self.blob + version.encode() + b" timings ")

    class Config:
        def __init__(self):
            self.limits, self.capabilities = {}, {}
            self.default_device_type, self.DLA_core = trt.DeviceType.GPU, -1
            if major > 8 or minor >= 6:
                self.builder_optimization_level = 3
            if major >= 10 or rtx:
                self.progress_monitor = None
            if rtx:
                self.num_compute_capabilities = 0

        def set_flag(self, flag):
            told.flags.add(trt.BuilderFlag(flag).name)

        def clear_flag(self, flag):
            told.flags.discard(trt.BuilderFlag(flag).name)

        def set_memory_pool_limit(self, pool, size):
            self.limits[pool.name] = size

        def create_timing_cache(self, blob):
            assert not rtx
            return TimingCache(blob)

        def set_timing_cache(self, cache, ignore_mismatch):
            if ignore_mismatch or not trt.reads_cache(cache.blob):
                return False
            told.cache = cache.blob
            self._cache = cache
            return True

        def get_timing_cache(self):
            return self._cache

        if rtx:

            def set_compute_capability(self, capability, index):
                self.capabilities[index] = capability.name

    class Tensor:
        def __init__(self, name, dtype):
            self.name, self.dtype = name, dtype

    class Layer:
        def __init__(self, name, kind, inputs, outputs, strong):
            self.name, self.type, self.inputs, self.outputs, self._strong = name, kind, inputs, outputs, strong
            self.num_inputs, self.num_outputs = len(inputs), len(outputs)
            self.pinned, self.output_types = None, {}

        def get_input(self, index):
            return self.inputs[index]

        def get_output(self, index):
            return self.outputs[index]

        @property
        def precision(self):
            return self.pinned

        @precision.setter
        def precision(self, value):
            assert not self._strong, "a strongly typed network has no layer precisions"
            self.pinned = value

        def set_output_type(self, index, dtype):
            assert not self._strong, "a strongly typed network has no output types"
            self.output_types[index] = dtype

    class Network:
        def __init__(self, creation):
            self.creation, self.layers, self.tensors = creation, [], {}
            self.strong = typed_only or "STRONGLY_TYPED" in creation

        @property
        def num_layers(self):
            return len(self.layers)

        def get_layer(self, index):
            return self.layers[index]

        def add(self, name, kind, inputs, outputs):
            self.layers.append(Layer(name, kind, inputs, outputs, self.strong))
            return outputs[0]

    class ParserError:
        def __init__(self, number, sentence, name):
            self.node, self.desc = lambda: number, lambda: sentence
            if major >= 10 or rtx:
                self.node_name = lambda: name

    class OnnxParser:
        def __init__(self, network, logger):
            self._network, self._errors = network, []

        @property
        def num_errors(self):
            return len(self._errors)

        def get_error(self, index):
            return self._errors[index]

        def parse(self, data):
            model = onnx.load_model_from_string(data)
            nodes = model.graph.node
            self._errors = [ParserError(n, text, nodes[n].name) for n, text in trt.parse_errors]
            inferred = onnx.shape_inference.infer_shapes(model).graph
            values = [*inferred.input, *inferred.value_info, *inferred.output]
            kinds = {value.name: trt.DataType[KINDS[value.type.tensor_type.elem_type]] for value in values}
            weights = {weight.name: trt.DataType[KINDS[weight.data_type]] for weight in model.graph.initializer}
            network, types = self._network, trt.LayerType
            tensors = {port.name: Tensor(port.name, kinds[port.name]) for port in inferred.input}
            for node in nodes:
                inputs = []
                for name in node.input:
                    if name in weights:
                        constant = Tensor(f"{name}_output", weights[name])
                        network.add(name, types.CONSTANT, [], [constant])
                        shuffled = Tensor(f"(Unnamed Layer* {network.num_layers}) [Shuffle]_output", weights[name])
                        inputs.append(network.add("ONNXTRT_Broadcast", types.SHUFFLE, [constant, None], [shuffled]))
                    else:
                        inputs.append(tensors[name])
                outputs = [Tensor(name, kinds[name]) for name in node.output]
                kind = types.CAST if node.op_type == "Cast" and version != "8.5.2" else types.IDENTITY
                kind = kind if node.op_type == "Cast" else types.OTHER
                network.add(node.name, kind, inputs, outputs)
                tensors.update({tensor.name: tensor for tensor in outputs})
            return not self._errors

    class Builder:
        num_DLA_cores = dla_cores

        def __init__(self, logger):
            self._logger = logger

        def create_network(self, flags):
            told.creation = {flag.name for flag in trt.NetworkDefinitionCreationFlag if flags & 1 << flag}
            assert flags == sum(1 << flag for flag in trt.NetworkDefinitionCreationFlag if flags & 1 << flag)
            told.network = Network(told.creation)
            return told.network

        def create_builder_config(self):
            told.config, told.flags = Config(), {"TF32"}
            return told.config

        def build_serialized_network(self, network, config):
            if network.strong:
                assert told.flags.isdisjoint(WEAK_FLAGS)
            else:
                types = {tensor.dtype for layer in network.layers for tensor in layer.outputs}
                assert ("FP16" in told.flags) == (trt.DataType.HALF in types)
            monitor = getattr(config, "progress_monitor", None)
            if monitor is not None and not run_phases(monitor):
                return None
            for sentence in trt.says:
                self._logger.log(ILogger.Severity.WARNING, "of no interest")
                self._logger.log(ILogger.Severity.ERROR, sentence)
                self._logger.log(ILogger.Severity.INFO, "of no interest")
            if isinstance(told.fail, Exception):
                raise told.fail
            return None if told.fail or trt.says else memoryview(told.plan)

    trt.ILogger, trt.OnnxParser, trt.ParserError, trt.Builder = ILogger, OnnxParser, ParserError, Builder
    if major >= 10 or rtx:
        trt.IProgressMonitor = IProgressMonitor
    if rtx:
        trt.ComputeCapability = enum.Enum("ComputeCapability", ["CURRENT", "SM75", "SM86", "SM120"])
    return trt


def run_phases(monitor):
    """Two steps, the first with a part of four, called as TensorRT does: by name, and from a thread of its own."""
    results = []

    def run():
        monitor.phase_start("Building", None, 2)
        monitor.phase_start("Timing", "Building", 4)
        results.extend(monitor.step_complete("Timing", step) for step in range(4))
        monitor.phase_finish("Timing")
        results.extend(monitor.step_complete("Building", step) for step in range(2))
        monitor.phase_finish("Building")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return all(results)
