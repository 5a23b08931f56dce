from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

INDEX_FILE_VERSION: int

class IndexFileError(RuntimeError):
    """An index file is missing, damaged, of another model, dimension or version; the message says which."""

def l2_normalize(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scale each row to unit Euclidean length: the only home of the descriptor's final L2 norm.

    Args:
        rows: float32 (n, D) or (D,). Not copied when C-contiguous.

    Returns:
        float32, a new array of the same shape.

    Raises:
        TypeError: not a numpy array of float32.
        ValueError: another shape; a row that is zero or not finite, by its number.
    """

def instruction_sets() -> list[str]:
    """The kernels that this machine can run, slowest first: "scalar", "avx2", "avx512", "neon", "dotprod".

    All give the same bits. An index takes the last one unless it is told another.
    """

class PlaceIndex:
    """Unit descriptors by place id, searched by cosine.

    Three ways lead to an answer. "scan" looks at every descriptor's code and proves which can be among the answers;
    "sketch" looks at 32 to 64 bytes of each and then at the best; "graph" walks an HNSW graph, once one is built. The
    last step of each scores the stored descriptors themselves. Without a word about it the cheapest is taken.

    Safe to use from several threads: searches run beside each other and beside one writer, with the GIL
    released. float32 C-contiguous arrays are read where they lie; other strides are copied.

    Source: Malkov and Yashunin (TPAMI 2018) for the graph, linked by hnswlib 0.8.0; Gao and Long, RaBitQ (SIGMOD 2024)
    for sketches; csrc/search/cascade.hpp says how they are put together.
    """

    def __init__(
        self,
        dim: int,
        *,
        precision: Literal["float16", "float32", "int8"] = "float16",
        instruction_set: str = "",
    ) -> None:
        """Make an empty index.

        Args:
            dim: values of a descriptor, 1 to 65536.
            precision: how descriptors are stored, and so what answers are scored with. "float16" ranks as float32
                does; "int8" keeps 8-bit codes alone, in a third of the memory, and has no sketches.
            instruction_set: see `instruction_sets`; "" for the fastest.

        Raises:
            ValueError: a dim out of range; a precision, or an instruction set, that is not one of those.
        """

    def __len__(self) -> int:
        """Places that a search can return."""

    @property
    def dim(self) -> int: ...
    @property
    def precision(self) -> str: ...
    @property
    def instruction_set(self) -> str: ...
    @property
    def removed(self) -> int:
        """Rows that were removed and still take room."""

    @property
    def last_id(self) -> int:
        """Largest id ever added, -1 if none."""

    @property
    def has_graph(self) -> bool: ...
    def add(self, ids: Sequence[int] | npt.NDArray[np.int64], descriptors: npt.NDArray[np.float32]) -> None:
        """Append places: all of them, or none when an exception is raised.

        Args:
            ids: (n,), each >= 0 and not in the index.
            descriptors: float32 (n, dim) or, with one id, (dim,); unit length.

        Raises:
            TypeError: wrong type or dtype.
            ValueError: wrong shape; a row not finite or not of unit length, by its number; an id twice.
            IndexFileError: the index was loaded from a file, and that is damaged.

        If memory runs out while a place is linked, the places are there and the graph is not: see `has_graph`.
        """

    def remove(self, ids: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Forget places: all of them, or none when an exception is raised.

        Raises:
            ValueError: an id is not in the index.
            IndexFileError: as for `add`.
        """

    def build_graph(
        self, m: int = 16, ef_construction: int = 200, progress: Callable[[int, int], object] | None = None
    ) -> None:
        """Build the HNSW graph over all rows; later adds extend it. Searches and changes go on meanwhile.

        Args:
            m: links a row and level, 2 to 128 (twice that on the lowest level).
            ef_construction: candidates looked at for each row, m to 4096.
            progress: called with (rows done, rows in all). What it raises, and Ctrl-C, cancels the build and
                leaves the index as it was. It may use this index, but not build its graph.

        Raises:
            ValueError: m or ef_construction out of range.
            IndexFileError: as for `add`.
        """

    def search(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        *,
        exact: bool = False,
        ef: int = 64,
        method: Literal["", "scan", "sketch", "graph"] = "",
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The min(k, len(self)) most similar places of each query, best first, ties by id.

        Args:
            queries: float32 (n, dim) or (dim,), unit length.
            k: at least 1.
            exact: provably the k most similar of the descriptors as stored, scored in float32: method "scan".
            ef: rows that a walk keeps, at least 1; more finds more.
            method: the way to search; "" for the one that is expected to be done first, see `explain`.

        Returns:
            ids int64 and similarities float32 in [-1, 1], each (n, min(k, size)) or (min(k, size),).

        Raises:
            TypeError: not a numpy array of float32.
            ValueError: another shape; a query not finite or not of unit length; k or ef below 1; method "graph"
                without a graph, or one that is not "scan" with `exact`.
            IndexFileError: a part of the file that was not read before is damaged.
        """

    def explain(
        self,
        query: npt.NDArray[np.float32],
        k: int,
        *,
        exact: bool = False,
        ef: int = 64,
        method: Literal["", "scan", "sketch", "graph"] = "",
    ) -> dict[str, Any]:
        """Search, and say how instead of what was found.

        Returns:
            "method": the one that was taken. "compared": rows of which a code or a sketch was looked at. "scored": rows
            of which the stored descriptor was.
        """

    def cursor(self) -> Cursor:
        """Searches for one camera, frame after frame; see `Cursor`."""

    def set_costs(self, costs: Mapping[str, float]) -> None:
        """Choose methods by what reading costs on this machine.

        Args:
            costs: as `measure_costs` returns them.

        Raises:
            KeyError: one of them is missing.
            TypeError: one is not a number.
            ValueError: one is not above 0.
        """

    def save(self, path: str, *, contract: bytes, state: bytes) -> None:
        """Write the index to `path`: temporary file, fsync, rename, fsync of the folder.

        Args:
            path: the file; what stands there stays until the new one is complete.
            contract: 32 bytes, identity of the model.
            state: 32 bytes, identity of the set of places.

        Raises:
            IndexFileError: the file cannot be written; or the index was loaded from one that is damaged.
            ValueError: contract or state has another length.
        """

    @staticmethod
    def load(path: str, *, dim: int, contract: bytes, instruction_set: str = "") -> tuple[PlaceIndex, bytes]:
        """Open what `save` wrote; returns the index and its `state`.

        The file is mapped. All that tells where to read is checked now, every other block before its first use. The
        file must not be cut or written in place while the index is in use; `save` puts a new one in its place.

        Raises:
            IndexFileError: missing, short, damaged, of another version, dimension or model.
        """

    def verify(self) -> None:
        """Check every byte of the file that the index was loaded from; nothing if it was not.

        Raises:
            IndexFileError: it is damaged.
        """

class Cursor:
    """Searches one camera's frames in order, each starting from what the last one found.

    Half the effort then finds as much. When the best similarity drops out of the range of the last frames (the
    robot was carried elsewhere, or is lost), and for the first frame, the search is made with all its effort. Without
    a graph each search is as `PlaceIndex.search`. Made by `PlaceIndex.cursor`; one for each camera.
    """

    def search(
        self,
        query: npt.NDArray[np.float32],
        k: int,
        *,
        exact: bool = False,
        ef: int = 64,
        method: Literal["", "scan", "sketch", "graph"] = "",
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """As `PlaceIndex.search`, of one query: (dim,) or (1, dim)."""

    def reset(self) -> None:
        """Forget the last frames."""

    @property
    def followed(self) -> bool:
        """Whether the last search was content with the neighbourhood of the frame before."""

def measure_costs() -> dict[str, float]:
    """Measure what reading costs on this machine, in about 10 ms, for `PlaceIndex.set_costs`.

    Returns:
        Nanoseconds by kind of reading: "scan_byte", "sketch_byte", "gather_line".
    """
