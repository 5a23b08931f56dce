"""Time to open and query a large map, and the cost of adding to it.

    python benchmarks/maps/scale.py                                  100,000 places, no network
    python benchmarks/maps/scale.py --model models/<name>.onnx       with the network's share
    python benchmarks/maps/scale.py --quick                          5,000 places

It makes a map of random unit descriptors in clusters, as frames of one spot resemble each other. It opens the map once,
which builds and saves the index and the graph. Then fresh processes open it, and it measures the time from the start of
the process to the first answer. "warm": the files are in the page cache, as on a robot that restarts its software.
"cold": posix_fadvise dropped their pages first, as far as the operating system complies. The libraries stay warm in
both, so the first start after a boot takes longer.

Then it adds places one by one, and 256 at a time. Each `add` is flushed to the medium before it returns
(synchronous=FULL), so the cost depends on the medium. Choose a folder on yours with --folder.

It does not measure recall on real places.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DIM = 472
CLUSTERS = 2000
BATCH = 5000
STAGES = ("interpreter", "import", "network", "map and index", "first query", "total")


def contract_of(model: Path | None):  # type: ignore[no-untyped-def]
    """The model's contract, or a made-up one without a model."""
    import sdk

    if model is None:
        return sdk.ModelContract("none", "0" * 64, 240, 320, DIM, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    backend = sdk.open_backend(model)
    backend.close()
    return backend.contract


def rows_of(generator, centres, count: int):  # type: ignore[no-untyped-def]
    """Unit descriptors around random centres: cosine about 0.8 within a cluster, about 0 between clusters."""
    import numpy as np

    noise = generator.standard_normal((count, centres.shape[1]), dtype=np.float32) * 0.5
    rows = centres[generator.integers(len(centres), size=count)] + noise
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def open_and_ask(path: Path, model: Path | None, spawned: float) -> None:
    """The measured process. It prints milliseconds by stage as JSON."""
    marks = [spawned, time.time()]
    import numpy as np

    import sdk
    from sdk.index.map_index import MapIndex

    generator = np.random.default_rng(1)
    marks.append(time.time())
    if model is not None:
        backend = sdk.open_backend(model)
        marks.append(time.time())
        localizer = sdk.Localizer(backend, path)  # includes the network's first inference
        index = localizer.store.index
        frame = generator.integers(0, 256, (480, 640, 3), dtype=np.uint8)
        marks.append(time.time())
        matches = localizer.query(frame).matches
    else:
        marks.append(time.time())
        place_map = sdk.PlaceMap.open(path)
        index = MapIndex(place_map)
        row = generator.standard_normal(place_map.contract.descriptor_dim, dtype=np.float32)
        marks.append(time.time())
        matches = place_map.places(index.search(row / np.linalg.norm(row), 5)[0].tolist())
    marks.append(time.time())
    if len(matches) != 5 or index.origin != "read":
        raise SystemExit(f"{len(matches)} answers from an index that was {index.origin}, expected 5 from one read")
    took = [(later - earlier) * 1e3 for earlier, later in itertools.pairwise(marks)]
    print(json.dumps(dict(zip(STAGES, [*took, (marks[-1] - marks[0]) * 1e3], strict=True))))
    sys.stdout.flush()
    os._exit(0)  # closing is not measured


def measure_opening(path: Path, model: Path | None, runs: int, cold: bool) -> dict[str, float]:
    """Medians over `runs` fresh processes, ms."""
    taken = []
    for i in range(runs):
        if cold:
            for file in (path, path.with_name(path.name + ".index")):
                descriptor = os.open(file, os.O_RDONLY)
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)
        command = [sys.executable, __file__, "--child", path, "--spawned", repr(time.time())]
        command += ["--model", model] if model else []
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            raise SystemExit(run.stderr)
        taken.append(json.loads(run.stdout))
        print(f"{'cold' if cold else 'warm'} opening: {i + 1} of {runs}", file=sys.stderr)
    return {stage: statistics.median(each[stage] for each in taken) for stage in STAGES}


def build(path: Path, model: Path | None, places: int) -> tuple[dict[str, float], object, str]:
    """Make the map and its index. Returns seconds by step, cluster centres, and the search method."""
    import numpy as np

    import sdk
    from sdk.index.file import WAYS
    from sdk.index.map_index import MapIndex

    generator = np.random.default_rng(0)
    contract = contract_of(model)
    centres = rows_of(generator, np.zeros((1, contract.descriptor_dim), np.float32), CLUSTERS)
    place_map = sdk.PlaceMap.create(path, contract)
    seconds, started = {}, time.perf_counter()
    centres = centres.astype(np.float32) * np.float32(contract.descriptor_dim**0.5)  # noise is per value
    for first in range(0, places, BATCH):
        count = min(BATCH, places - first)
        names = [sdk.Place(f"{first + i}", (float(first + i), 0.0, 0.0)) for i in range(count)]
        place_map.add_many(names, rows_of(generator, centres, count))
        tell("places", first + count, places)
    seconds["add places"] = time.perf_counter() - started
    started = time.perf_counter()
    index = MapIndex(place_map, tell)
    seconds["build and save the index"] = time.perf_counter() - started
    started = time.perf_counter()
    index.build_graph()
    seconds["build and save the graph, while it answers"] = time.perf_counter() - started
    index.close()
    place_map.close()
    return seconds, centres, WAYS[index.method()]


def measure_adding(path: Path, centres: object, singles: int, batches: int) -> dict[str, float]:
    """Milliseconds per place for durable adds, one by one and 256 at a time, without the network."""
    import numpy as np

    import sdk
    from sdk.index.map_index import MapIndex

    generator = np.random.default_rng(2)
    place_map = sdk.PlaceMap.open(path)
    index = MapIndex(place_map)
    flushed, indexed, together = [], [], []
    for size, count in ((1, singles), (256, batches)):
        for _ in range(count):
            rows = rows_of(generator, centres, size)
            started = time.perf_counter()
            pairs = place_map.add_many([sdk.Place("added")] * size, rows)
            written = time.perf_counter()
            index.add(pairs)
            ended = time.perf_counter()
            if size == 1:
                flushed.append((written - started) * 1e3)
                indexed.append((ended - written) * 1e3)
            else:
                together.append((ended - started) * 1e3 / size)
    index.stop()
    place_map.close()
    return {
        "add, median": statistics.median(flushed),
        "add, p99": float(np.percentile(flushed, 99)),
        "and into the index, median": statistics.median(indexed),
        "256 at a time with index, each": statistics.median(together),
    }


def tell(what: str, done: int, total: int) -> None:
    if done == total or done % max(1, total // 10) < 256:
        print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)


def medium_of(folder: Path) -> str:
    """The file system type of a folder."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, fs_type = line.split()[:3]
        if str(folder).startswith(mount) and len(mount) >= len(best):
            best, kind = mount, fs_type
    return kind


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=100_000, help="size of the map (default: 100000)")
    parser.add_argument("--model", type=Path, help="a model.onnx; default: no network")
    parser.add_argument("--runs", type=int, default=7, help="processes for each median (default: 7)")
    parser.add_argument("--folder", type=Path, help="where to make the map (default: a temporary folder)")
    parser.add_argument("--quick", action="store_true", help="5,000 places, 3 runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--spawned", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        open_and_ask(arguments.child, arguments.model, arguments.spawned)
    if arguments.quick:
        arguments.places, arguments.runs = 5_000, 3
    folder = Path(tempfile.mkdtemp(prefix="map_scale-", dir=arguments.folder)).resolve()
    try:
        path = folder / "scale.places"
        seconds, centres, way = build(path, arguments.model, arguments.places)
        sizes = {file.name.replace("scale", "map"): file.stat().st_size for file in sorted(folder.iterdir())}
        warm = measure_opening(path, arguments.model, arguments.runs, cold=False)
        cold = measure_opening(path, arguments.model, arguments.runs, cold=True)
        adding = measure_adding(path, centres, singles=200, batches=20)
        medium = medium_of(folder)
    finally:
        shutil.rmtree(folder)
    record = {
        "places": arguments.places,
        "model": arguments.model.name if arguments.model else None,
        "search": way,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "file system": medium,
        "build_s": seconds,
        "bytes": sizes,
        "open_warm_ms": warm,
        "open_cold_ms": cold,
        "add_ms": adding,
    }
    network = f"network {record['model'] or 'none'}"
    print(f"{arguments.places:,} places, {record['search']}, {network}; {os.cpu_count()} cores, {medium}\n")
    for name, value in seconds.items():
        print(f"{name:42} {value:10.1f} s")
    for name, value in sizes.items():
        print(f"{name:32} {value / 1e6:10.1f} MB")
    print(f"\n{'to the first answer':32} {'warm':>10} {'cold':>10}   median of {arguments.runs} processes")
    for stage in STAGES:
        print(f"{stage:32} {warm[stage]:10.1f} {cold[stage]:10.1f} ms")
    print("\ndurable (synchronous=FULL), a place")
    for name, value in adding.items():
        print(f"{name:32} {value:10.3f} ms")
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
