"""Our index and its peers behind one interface."""

from __future__ import annotations

from typing import Any

import faiss
import hnswlib
import numpy as np
import numpy.typing as npt
from damaged_files import CONTRACT
from usearch.index import Index as UsearchIndex

from sdk._core import PlaceIndex

Rows = npt.NDArray[np.float32]
M, EF_CONSTRUCTION, EF = 16, 100, 64


class NotOffered(Exception):
    """The library has no such call."""


class Ours:
    name = "ours"

    def __init__(self, dim: int, room: int, graph: bool = True) -> None:
        self.index: Any = PlaceIndex(dim)
        if graph:
            self.index.build_graph(M, EF_CONSTRUCTION)

    def add(self, ids: Any, rows: Any) -> None:
        self.index.add(ids, rows)

    def search(self, queries: Any, k: Any, ef: int = EF) -> tuple[Any, Any]:
        return self.index.search(queries, k, ef=ef, method="graph" if self.index.has_graph else "")

    def remove(self, ids: Any) -> None:
        self.index.remove(ids)

    def save(self, path: str) -> None:
        self.index.save(path, contract=CONTRACT, state=bytes(32))

    def load(self, path: str, dim: int) -> None:
        self.index = PlaceIndex.load(path, dim=dim, contract=CONTRACT)[0]


class Hnswlib:
    name = "hnswlib"

    def __init__(self, dim: int, room: int) -> None:
        self.index = hnswlib.Index("ip", dim)
        self.index.init_index(room, M=M, ef_construction=EF_CONSTRUCTION)
        self.index.set_num_threads(1)

    def add(self, ids: Any, rows: Any) -> None:
        self.index.add_items(rows, ids)

    def search(self, queries: Any, k: Any, ef: int = EF) -> tuple[Any, Any]:
        self.index.set_ef(ef)
        ids, distances = self.index.knn_query(queries, k)
        return ids, 1 - distances

    def remove(self, ids: Any) -> None:
        for one in ids:
            self.index.mark_deleted(one)

    def save(self, path: str) -> None:
        self.index.save_index(path)

    def load(self, path: str, dim: int) -> None:
        self.index = hnswlib.Index("ip", dim)
        self.index.load_index(path)
        self.index.set_num_threads(1)


class Faiss:
    name = "faiss"

    def __init__(self, dim: int, room: int, ids: bool = False) -> None:
        self.graph = faiss.IndexHNSWFlat(dim, M, faiss.METRIC_INNER_PRODUCT)
        self.graph.hnsw.efConstruction = EF_CONSTRUCTION
        self.index: Any = faiss.IndexIDMap(self.graph) if ids else self.graph
        self.ids = ids

    def add(self, ids: Any, rows: Any) -> None:
        self.index.add_with_ids(rows, np.asarray(ids)) if self.ids else self.index.add(rows)

    def search(self, queries: Any, k: Any, ef: int = EF) -> tuple[Any, Any]:
        faiss.omp_set_num_threads(1)  # of this thread
        self.graph.hnsw.efSearch = ef
        single = isinstance(queries, np.ndarray) and queries.ndim == 1
        similarities, ids = self.index.search(queries[None] if single else queries, k)
        return ids, similarities

    def remove(self, ids: Any) -> None:
        raise NotOffered

    def save(self, path: str) -> None:
        faiss.write_index(self.index, path)

    def load(self, path: str, dim: int) -> None:
        self.index = faiss.read_index(path)
        self.graph = self.index if hasattr(self.index, "hnsw") else faiss.downcast_index(self.index.index)


class Usearch:
    name = "usearch"

    def __init__(self, dim: int, room: int) -> None:
        self.index = UsearchIndex(
            ndim=dim, metric="ip", dtype="f32", connectivity=M, expansion_add=EF_CONSTRUCTION, expansion_search=EF
        )

    def add(self, ids: Any, rows: Any) -> None:
        self.index.add(ids, rows, threads=1)

    def search(self, queries: Any, k: Any, ef: int = EF) -> tuple[Any, Any]:
        self.index.expansion_search = ef
        found = self.index.search(queries, k, threads=1)
        return found.keys, 1 - found.distances

    def remove(self, ids: Any) -> None:
        self.index.remove(np.asarray(ids))

    def save(self, path: str) -> None:
        self.index.save(path)

    def load(self, path: str, dim: int) -> None:
        self.index = UsearchIndex(ndim=dim, metric="ip", dtype="f32")
        self.index.load(path)


PEERS: dict[str, Any] = {"hnswlib": Hnswlib, "faiss": Faiss, "usearch": Usearch}
LIBRARIES: dict[str, Any] = {**PEERS, "ours": Ours}


def filled(name: str, rows: Rows, ids: Any = None, room: int = 0) -> Any:
    room = room or len(rows)
    library = Faiss(rows.shape[1], room, True) if name == "faiss" else LIBRARIES[name](rows.shape[1], room)
    library.add(np.arange(len(rows)) if ids is None else ids, rows)
    return library
