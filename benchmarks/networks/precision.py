"""Measure what fp16 and int8 change in recall and time, on real photographs.

    python benchmarks/networks/precision.py models/efficientnet-lite0-gem.onnx --calibration FOLDER \\
        --sets sped_thumbs_607 essex3in1_thumbs_210

It compares the files of `structvpr export precision` with those of ONNX Runtime's `quantize_static` at its defaults,
calibrated on the same frames. It prints, for each file: the cosine to fp32's descriptors (queries and database), the
share of queries that keep their first answer on the map that fp32 made, and R@1 and R@5 on that map, as on a robot.
Then it prints the CPU time of a frame on ONNX Runtime and OpenVINO, one thread, as a share of fp32's: medians over
rounds in which all files take turns.

Sets are folders that `structvpr eval` reads, or names below $STRUCTVPR_DATA; each set's own rule gives the positives.
The calibration frames must not be in any set. --cache keeps descriptors by the file's sha256.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.graph.model_file import read_model
from export.graph.parts import split
from export.precision.calibration import read_frames
from export.precision.conversion import convert
from sdk import open_source, prepare, read_image
from sdk._core import l2_normalize
from sdk.cli.console import print_table, progress_bars
from sdk.evaluation.recall import rank, recall_at_k
from sdk.evaluation.sets import PlaceSet, find_dataset, read_frame_sets

VALUES = (1, 5)
REFERENCE = "fp32"

Floats = npt.NDArray[np.float32]
Tell = Callable[[str, int, int], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="fp32 ONNX file")
    parser.add_argument("--calibration", required=True, help="folder of frames, or its name below $STRUCTVPR_DATA")
    parser.add_argument("--sets", nargs="+", required=True, help="folders, or names below $STRUCTVPR_DATA")
    parser.add_argument("--leave-out", nargs="*", default=[], help="file names of images to leave out of the sets")
    parser.add_argument("--calibration-frames", type=int, default=256, help="maximum (default: 256)")
    parser.add_argument("--only", nargs="+", help="rows to print besides fp32")
    parser.add_argument("--cache", type=Path, help="folder that keeps descriptors")
    parser.add_argument("--rounds", type=int, default=30, help="timing rounds; 0 for no timing (default: 30)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sets = [
        without(one, set(arguments.leave_out))
        for name in arguments.sets
        for one in read_frame_sets(find_dataset(name), [])
    ]
    with tempfile.TemporaryDirectory() as folder, progress_bars() as tell:
        frames = calibration_frames(arguments.calibration, arguments.calibration_frames)
        files = make_files(arguments.model, frames, Path(folder), arguments.only, tell)
        rows = compare(files, sets, arguments.cache, tell)
        times = time_all(files, sets[0].queries[0], arguments.rounds, tell)
        for name, row in rows.items():
            row |= {"bytes": files[name].stat().st_size, **{runtime: times[runtime][name] for runtime in times}}
    queries = sum(len(one.queries) for one in sets)
    if arguments.json:
        print(json.dumps({"command": " ".join(sys.argv), "queries": queries, "results": rows}, indent=2))
        return
    print(f"{arguments.model.name}, {queries} queries, {len(frames)} frames to calibrate on\n")
    print_rows(rows, sets, list(times))


def without(one: PlaceSet, names: set[str]) -> PlaceSet:
    """The set without some images. The remaining database images are renumbered."""
    database = one.database or ()
    asked = [i for i, path in enumerate(one.queries) if path.name not in names]
    kept = [i for i, path in enumerate(database) if path.name not in names]
    number = {old: new for new, old in enumerate(kept)}
    protocols = {
        right: [np.array([number[i] for i in true[query] if i in number], np.int64) for query in asked]
        for right, true in one.protocols.items()
    }
    return PlaceSet(one.name, [one.queries[i] for i in asked], [database[i] for i in kept], protocols)


def calibration_frames(name: str, most: int) -> list[npt.NDArray[np.uint8]]:
    source = open_source(find_dataset(name), positions=False)
    step = max(1, -(-(source.num_frames or 1) // most))
    return [sighting.frame for i, sighting in enumerate(source) if i % step == 0]


# --- the files ------------------------------------------------------------------------------------------


def make_files(
    model: Path, frames: list[npt.NDArray[np.uint8]], folder: Path, only: Sequence[str] | None, tell: Tell
) -> dict[str, Path]:
    """One file per row of the table, fp32 first."""
    makers: dict[str, Callable[[Path], object]] = {
        "fp16": lambda path: convert(model, path, "fp16", progress=tell),
        "int8 tensorrt": lambda path: convert(model, path, "int8", calibration=frames, progress=tell),
        "int8 onnxruntime": lambda path: convert(
            model, path, "int8", calibration=frames, flavour="onnxruntime", progress=tell
        ),
        "naive: defaults": lambda path: quantize_naively(model, path, frames),
        "naive: every operator": lambda path: quantize_naively(model, path, frames, every_operator=True),
        "naive: head alone": lambda path: quantize_naively(model, path, frames, every_operator=True, part="head"),
        "naive: trunk alone": lambda path: quantize_naively(model, path, frames, every_operator=True, part="trunk"),
    }
    files = {REFERENCE: model}
    for name in only or makers:
        files[name] = folder / f"{name.replace(' ', '_').replace(':', '')}.onnx"
        makers[name](files[name])
    return files


def quantize_naively(
    model: Path,
    output: Path,
    frames: list[npt.NDArray[np.uint8]],
    every_operator: bool = False,
    part: str | None = None,
) -> None:
    """Quantize with `quantize_static`, without the rules of `structvpr export precision`.

    Args:
        model: fp32.
        output: the file to write.
        frames: to calibrate on.
        every_operator: quantise every operator after the first convolution, not only the default ones, as a compiler
            does with a range for every tensor; int8, symmetric, one scale per tensor.
        part: quantise only this part of the graph, "trunk" or "head"; None for both.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    _, proto, contract = read_model(model)
    _, prepared = read_frames(frames, contract)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            frame = next(prepared, None)
            return None if frame is None else {proto.graph.input[0].name: frame}

    # quantize_static selects nodes by name.
    for i, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{i}"
    parts = split(proto.graph)
    chosen = {"trunk": parts.trunk, "head": parts.head, None: parts.trunk + parts.head}[part]
    named = output.with_suffix(".named.onnx")
    onnx.save(proto, named)
    options: dict[str, Any] = {}
    if every_operator:
        options = {
            "activation_type": QuantType.QInt8,
            "weight_type": QuantType.QInt8,
            "op_types_to_quantize": sorted({node.op_type for node in chosen}),
            "nodes_to_quantize": [node.name for node in chosen],
            "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True},
        }
    quantize_static(str(named), str(output), Reader(), quant_format=QuantFormat.QDQ, **options)


# --- answers --------------------------------------------------------------------------------------------


def compare(files: dict[str, Path], sets: list[PlaceSet], cache: Path | None, tell: Tell) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    right = "the set's own"
    first: dict[str, tuple[Floats, Floats, npt.NDArray[np.int64]]] = {}
    for name, path in files.items():
        cosines, kept, recalls = [], [], {}
        for one in sets:
            title = f"{one.queries[0].parent.parent.name} {one.name}"
            database = describe_all(path, one.database, cache, f"{name}: database", tell)
            queries = describe_all(path, one.queries, cache, f"{name}: {title}", tell)
            if name == REFERENCE:
                first[title] = queries, database, rank(queries, database, max(VALUES))
            fp32_queries, fp32_database, fp32_ranked = first[title]
            cosines += [(queries * fp32_queries).sum(axis=1), (database * fp32_database).sum(axis=1)]
            ranked = rank(queries, fp32_database, max(VALUES))
            kept.append(ranked[:, 0] == fp32_ranked[:, 0])
            own = rank(queries, database, max(VALUES))
            recalls[title] = {
                **{f"R@{k}": 100.0 * recall_at_k(ranked, one.protocols[right], k) for k in VALUES},
                **{f"R@{k} own map": 100.0 * recall_at_k(own, one.protocols[right], k) for k in VALUES},
            }
        cosine = np.concatenate(cosines)
        rows[name] = {
            "cosine_min": float(cosine.min()),
            "cosine_mean": float(cosine.mean()),
            "top1_agreement": 100.0 * float(np.concatenate(kept).mean()),
            "recalls": recalls,
        }
    return rows


def describe_all(path: Path, images: Sequence[Path], cache: Path | None, what: str, tell: Tell) -> Floats:
    """Unit descriptors, float32 (n, D). A zero or non-finite descriptor becomes a row of zeros."""
    key = hashlib.sha256(path.read_bytes() + "\n".join(map(str, images)).encode()).hexdigest()[:32]
    kept = cache / f"{key}.npy" if cache else None
    if kept and kept.is_file():
        return np.asarray(np.load(kept))
    run, contract = open_onnxruntime(path), read_contract(path)
    rows = []
    for done, image in enumerate(images, start=1):
        raw = run(prepare(read_image(image), contract.size))
        usable = np.isfinite(raw).all() and raw.any()
        rows.append(l2_normalize(raw) if usable else np.zeros_like(raw))
        tell(what, done, len(images))
    found = np.stack(rows)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, found)
    return found


def read_contract(path: Path) -> Any:
    from sdk import ModelContract

    texts = [entry.value for entry in onnx.load(path).metadata_props if entry.key == "contract"]
    return ModelContract.from_json(texts[0], str(path))


# --- time -----------------------------------------------------------------------------------------------


def open_onnxruntime(path: Path) -> Callable[[npt.NDArray[np.uint8]], Floats]:
    """A session with one thread. The SDK's backend refuses the naive files, because they have no contract."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # As sdk/backends/ort.py sets it: without VNNI, int8 products saturate on x86.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0].name
    return lambda frame: np.asarray(session.run(None, {taken: frame})[0][0])


def open_openvino(path: Path) -> Callable[[npt.NDArray[np.uint8]], Floats]:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return lambda frame: np.asarray(request.infer([frame])[0][0])


def time_all(files: dict[str, Path], image: Path, rounds: int, tell: Tell) -> dict[str, dict[str, float | None]]:
    """Runtime -> row -> CPU time per frame, ms; None if the runtime refuses the file."""
    runtimes = {"ms_onnxruntime": open_onnxruntime}
    if importlib.util.find_spec("openvino"):
        runtimes["ms_openvino"] = open_openvino
    if rounds == 0:
        return {}
    frame = prepare(read_image(image), read_contract(next(iter(files.values()))).size)
    found: dict[str, dict[str, float | None]] = {}
    for runtime, open_file in runtimes.items():
        networks = dict(opened(files, open_file))
        taken: dict[str, list[float]] = {name: [] for name in networks}
        for done in range(rounds + 3):  # the first three warm up
            for name, run in networks.items():
                start = time.process_time()
                run(frame)
                if done >= 3:
                    taken[name].append(1e3 * (time.process_time() - start))
            tell(runtime, done + 1, rounds + 3)
        found[runtime] = {name: float(np.median(taken[name])) if name in taken else None for name in files}
    return found


def opened(
    files: dict[str, Path], open_file: Callable[[Path], Callable[[npt.NDArray[np.uint8]], Floats]]
) -> Iterator[tuple[str, Callable[[npt.NDArray[np.uint8]], Floats]]]:
    for name, path in files.items():
        try:
            yield name, open_file(path)
        except Exception as error:  # a runtime may refuse a naive file
            print(f"{name}: {str(error).splitlines()[0][:200]}", file=sys.stderr)


# --- the table ------------------------------------------------------------------------------------------


def print_rows(rows: dict[str, Any], sets: list[PlaceSet], runtimes: list[str]) -> None:
    titles = list(next(iter(rows.values()))["recalls"])
    headers = ["", "cosine min", "mean", "top-1 kept %", *(f"{title} R@1/R@5" for title in titles), "MB"]
    headers += [runtime.removeprefix("ms_") for runtime in runtimes]
    print_table(headers, [shown(name, row, rows[REFERENCE], titles, runtimes) for name, row in rows.items()])
    print("\nRecall is measured on the map that fp32 made. Times are shares of fp32's:")
    for runtime in runtimes:
        print(f"  {runtime.removeprefix('ms_')}: fp32 {rows[REFERENCE][runtime]:.1f} ms a frame")


def shown(name: str, row: Any, reference: Any, titles: list[str], runtimes: list[str]) -> list[str]:
    cells = [name, f"{row['cosine_min']:.4f}", f"{row['cosine_mean']:.5f}", f"{row['top1_agreement']:.1f}"]
    cells += [f"{row['recalls'][title]['R@1']:.1f} / {row['recalls'][title]['R@5']:.1f}" for title in titles]
    cells.append(f"{row['bytes'] / 1e6:.1f}")
    return cells + ["-" if row[r] is None else f"{row[r] / reference[r]:.2f}" for r in runtimes]


if __name__ == "__main__":
    main()
