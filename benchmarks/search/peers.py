"""Our index and its peers behind one interface: a row in, ids out.

Every graph has M = 16 (32 links at the base) and efConstruction = 200, every system searches with one thread. The
three faiss graphs share their links, built with float32, at least as good as the links that each would build. One
thread builds each graph: with two, graphs of a few thousand places had lower recall in all libraries. The graphs are
kept beside the data set, because building them takes longer than everything else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from data import DataSet, Ids, Rows

K = 10
M, EF_CONSTRUCTION = 16, 200
# Small steps at small ef, where one more candidate costs several percent of the time.
EFS = (10, 11, 12, 13, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256, 384, 512, 700)
WIDTHS = (10, 20, 30, 50, 100, 200, 400)  # candidates re-ranked after a scan of codes
MODULES = ("hnswlib", "faiss-cpu", "usearch", "numpy")
CONTRACT = bytes(32)

Search = Callable[[Rows], Any]


@dataclass(frozen=True)
class Contestant:
    """A search method with one parameter, tuned on `grid`.

    Attributes:
        family: variants of one library share it; the best variant is compared.
        start: sets the parameter and returns a fresh search.
        matrix: the search takes float32 (1, D), not (D,).
        sequential: answers depend on the previous query, so it is tuned and timed in frame order.
    """

    name: str
    family: str
    start: Callable[[int], Search]
    grid: tuple[int, ...] = (0,)
    matrix: bool = False
    sequential: bool = False

    def rows(self, queries: Rows) -> list[Rows]:
        return [queries[i : i + 1] if self.matrix else queries[i] for i in range(len(queries))]

    def answers(self, parameter: int, queries: Rows) -> Ids:
        """Ids (queries, K); -1 for a missing answer."""
        search = self.start(parameter)
        ids = np.full((len(queries), K), -1, np.int64)
        for i, row in enumerate(self.rows(queries)):
            found = np.asarray(search(row)).reshape(-1)
            ids[i, : len(found)] = found
        return ids


def our_index(rows: Rows) -> Any:
    """Our index without a graph."""
    from sdk._core import PlaceIndex

    index = PlaceIndex(rows.shape[1], precision="float16")
    index.add(np.arange(len(rows)), rows)
    return index


class Ours:
    def __init__(self, index: Any) -> None:
        self.index = index
        self.graph = Contestant("ours, graph", "ours", self.start_graph, EFS)
        self.cursor = Contestant("ours, cursor", "ours", self.start_cursor, EFS, sequential=True)
        self.auto = Contestant("ours, method chosen", "ours", self.start_auto, EFS)
        self.sketch = Contestant("ours, sketch", "ours", self.start_sketch)
        self.exact = Contestant("ours, exact", "ours", self.start_exact)

    def start_graph(self, ef: int) -> Search:
        search = self.index.search
        return lambda row: search(row, K, ef=ef, method="graph")[0]

    def start_auto(self, ef: int) -> Search:
        search = self.index.search
        return lambda row: search(row, K, ef=ef)[0]

    def start_sketch(self, _: int) -> Search:
        search = self.index.search
        return lambda row: search(row, K, method="sketch")[0]

    def start_exact(self, _: int) -> Search:
        search = self.index.search
        return lambda row: search(row, K, exact=True)[0]

    def start_cursor(self, ef: int) -> Search:
        search = self.index.cursor().search
        return lambda row: search(row, K, ef=ef)[0]


def empty_hnswlib(dim: int, places: int) -> Any:
    import hnswlib

    index = hnswlib.Index("ip", dim)
    index.init_index(places, M=M, ef_construction=EF_CONSTRUCTION)
    index.set_num_threads(1)
    return index


def empty_usearch(dim: int, dtype: str) -> Any:
    from usearch.index import Index

    return Index(ndim=dim, metric="ip", dtype=dtype, connectivity=M, expansion_add=EF_CONSTRUCTION)


class Peers:
    """The peers' indexes of a data set, each built or read on first use."""

    def __init__(self, data: DataSet, folder: Path, tell: Callable[[str], None]) -> None:
        self.data, self.folder, self.tell = data, folder, tell
        folder.mkdir(parents=True, exist_ok=True)

    def file(self, module: str, what: str) -> Path:
        return self.folder / f"{module}-{version(module)}-{what}.index"

    def once(self, file: Path, build: Callable[[], Any], save: Callable[[Any, str], Any]) -> None:
        """Build and save the file if it is missing. An existing file is complete."""
        if not file.exists():
            self.tell(f"{self.data.name}: building {file.stem}")
            making = file.with_suffix(".part")
            save(build(), str(making))
            making.rename(file)

    @cached_property
    def hnswlib_file(self) -> Path:
        def build() -> Any:
            index = empty_hnswlib(self.data.dim, len(self.data.base))
            index.add_items(self.data.base, np.arange(len(self.data.base)))
            return index

        file = self.file("hnswlib", "f32")
        self.once(file, build, lambda index, path: index.save_index(path))
        return file

    @cached_property
    def faiss_file(self) -> Path:
        import faiss

        def build() -> Any:
            index = faiss.IndexHNSWFlat(self.data.dim, M, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = EF_CONSTRUCTION
            faiss.omp_set_num_threads(1)  # of this thread
            index.add(self.data.base)
            return index

        file = self.file("faiss-cpu", "f32")
        self.once(file, build, faiss.write_index)
        return file

    def usearch_file(self, dtype: str) -> Path:
        def build() -> Any:
            index = empty_usearch(self.data.dim, dtype)
            index.add(np.arange(len(self.data.base)), self.data.base, threads=1)
            return index

        file = self.file("usearch", dtype)
        self.once(file, build, lambda index, path: index.save(path))
        return file

    def prepare(self) -> None:
        """Build the missing graphs, one per core."""
        builds = [lambda: self.hnswlib_file, lambda: self.faiss_file]
        builds += [lambda dtype=dtype: self.usearch_file(dtype) for dtype in ("f32", "bf16")]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for built in [pool.submit(build) for build in builds]:
                built.result()

    @cached_property
    def hnswlib(self) -> list[Contestant]:
        import hnswlib

        index = hnswlib.Index("ip", self.data.dim)
        index.load_index(str(self.hnswlib_file))
        index.set_num_threads(1)

        def start(ef: int) -> Search:
            index.set_ef(ef)
            return lambda row: index.knn_query(row, K)[0]

        return [Contestant("hnswlib f32", "hnswlib", start, EFS)]

    @cached_property
    def faiss(self) -> list[Contestant]:
        import faiss

        faiss.omp_set_num_threads(1)
        flat = faiss.read_index(str(self.faiss_file))
        quantizer = faiss.ScalarQuantizer
        kept: dict[str, Any] = {"f32": flat}
        for name, kind in (("sq8", quantizer.QT_8bit), ("fp16", quantizer.QT_fp16)):
            index = faiss.IndexHNSWSQ(self.data.dim, kind, M, faiss.METRIC_INNER_PRODUCT)
            index.train(self.data.base)
            index.storage.add(self.data.base)
            index.hnsw = flat.hnsw  # a copy
            index.ntotal = flat.ntotal
            kept[name] = index

        def contestant(name: str, refine: int) -> Contestant:
            graph = kept[name]
            index = faiss.IndexRefine(graph, flat.storage) if refine else graph
            if refine:
                index.k_factor = refine

            def start(ef: int) -> Search:
                graph.hnsw.efSearch = ef
                return lambda row: index.search(row, K)[1]

            label = f"faiss HNSW {name}" + (f"+refine {refine * K}" if refine else "")
            return Contestant(label, "faiss", start, EFS, matrix=True)

        self.keep_faiss = kept  # a refining index does not own its two parts
        return [contestant("f32", 0), contestant("sq8", 1), contestant("sq8", 2), contestant("fp16", 0)]

    @cached_property
    def usearch(self) -> list[Contestant]:
        made = []
        for dtype in ("f32", "bf16"):
            index = empty_usearch(self.data.dim, dtype)
            index.load(str(self.usearch_file(dtype)))
            made += self.usearch_contestants(index, dtype)
        return made

    def usearch_contestants(self, index: Any, dtype: str) -> Iterator[Contestant]:
        base = self.data.base

        def start(ef: int) -> Search:
            index.expansion_search = ef
            return lambda row: index.search(row, K, threads=1).keys

        def start_ranking(width: int) -> Search:
            index.expansion_search = width

            def search(row: Rows) -> npt.NDArray[Any]:
                keys = index.search(row, width, threads=1).keys
                return keys[np.argsort(-(base[keys] @ row))[:K]]

            return search

        yield Contestant(f"usearch {dtype}", "usearch", start, EFS)
        if dtype != "f32":
            yield Contestant(f"usearch {dtype} + numpy re-rank", "usearch", start_ranking, EFS)

    @cached_property
    def flat(self) -> list[Contestant]:
        import faiss

        faiss.omp_set_num_threads(1)
        index = faiss.IndexFlatIP(self.data.dim)
        index.add(self.data.base)
        return [Contestant("faiss Flat", "faiss Flat", lambda _: lambda row: index.search(row, K)[1], matrix=True)]

    @cached_property
    def fast_scan(self) -> list[Contestant]:
        """4-bit product quantisation with several code widths, and a float32 re-rank of the best."""
        import faiss

        faiss.omp_set_num_threads(1)
        divisors = [parts for parts in range(1, self.data.dim // 2 + 1) if self.data.dim % parts == 0]
        widths = {min(divisors, key=lambda parts: abs(parts - near)) for near in (64, 128, self.data.dim // 8)}
        made = []
        self.keep_codes = flat = faiss.IndexFlatIP(self.data.dim)
        flat.add(self.data.base)
        for parts in sorted(widths):
            scan = faiss.IndexPQFastScan(self.data.dim, parts, 4, faiss.METRIC_INNER_PRODUCT)
            scan.train(self.data.base[:: max(1, len(self.data.base) // 20_000)])
            scan.add(self.data.base)
            made.append(self.fast_scan_contestant(scan, faiss.IndexRefine(scan, flat), parts))
        return made

    def fast_scan_contestant(self, scan: Any, index: Any, parts: int) -> Contestant:
        def start(width: int, scan: Any = scan) -> Search:  # scan: kept, the refining index does not own it
            index.k_factor = width / K
            return lambda row: index.search(row, K)[1]

        return Contestant(f"faiss PQ{parts}x4fs+refine", "faiss PQ4FastScan", start, WIDTHS, matrix=True)

    @cached_property
    def numpy(self) -> list[Contestant]:
        base = self.data.base

        def search(row: Rows) -> npt.NDArray[Any]:
            similarities = base @ row
            best = np.argpartition(similarities, -K)[-K:]
            return best[np.argsort(-similarities[best])]

        return [Contestant("numpy f32", "numpy", lambda _: search)]
