from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

INDEX_FILE_VERSION: int

class IndexFileError(RuntimeError):
    """An index file is missing or damaged, or of another model, dimension or version. The message says which."""

def l2_normalize(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scale each row to unit Euclidean length. This is the only place of the descriptor's final L2 norm.

    Args:
        rows: float32 (n, D) or (D,). Not copied when C-contiguous.

    Returns:
        float32, a new array of the same shape.

    Raises:
        TypeError: not a numpy array of float32.
        ValueError: another shape; a row is zero or not finite. The message gives its number.
    """

def instruction_sets() -> list[str]:
    """The kernels that this machine can run, slowest first: "scalar", "avx2", "avx512", "neon", "dotprod".

    All give the same bits. An index uses the last one by default.
    """

class PlaceIndex:
    """Unit descriptors by place id, searched by cosine.

    There are three methods. "scan" compares the code of every descriptor and proves which can be among the answers.
    "sketch" compares 32 to 64 bytes of each descriptor, then the codes of the best. "graph" walks an HNSW graph, if one
    was built. Each method scores its last candidates with the stored descriptors. By default a search uses the method
    that is expected to be the fastest.

    Thread-safe: searches run beside each other and beside one writer, with the GIL released. float32 C-contiguous
    arrays are not copied; other strides are.

    Source: Malkov and Yashunin (TPAMI 2018) for the graph, linked by hnswlib 0.8.0; Gao and Long, RaBitQ (SIGMOD 2024)
    for sketches; csrc/search/cascade.hpp says how they are combined.
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
            precision: how descriptors are stored. Answers are scored with the stored values. "float16" ranks as
                float32 does. "int8" stores only 8-bit codes, in a third of the memory, and has no sketches.
            instruction_set: see `instruction_sets`; "" for the fastest.

        Raises:
            ValueError: dim is out of range; precision or instruction_set is unknown.
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
        """Removed rows, which still take memory."""

    @property
    def last_id(self) -> int:
        """Largest id ever added; -1 if none."""

    @property
    def has_graph(self) -> bool: ...
    def add(self, ids: Sequence[int] | npt.NDArray[np.int64], descriptors: npt.NDArray[np.float32]) -> None:
        """Add places: all of them, or none if an exception is raised.

        Args:
            ids: (n,), each >= 0 and not in the index.
            descriptors: float32 (n, dim) or, with one id, (dim,); unit length.

        Raises:
            TypeError: wrong type or dtype.
            ValueError: wrong shape; a row is not finite or not of unit length; an id is negative or occurs twice.
                The message gives the row or the id.
            IndexFileError: the index was loaded from a file that is damaged.

        If memory runs out while a place is linked, the places are added and the graph is dropped: see `has_graph`.
        """

    def remove(self, ids: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Remove places: all of them, or none if an exception is raised.

        Raises:
            ValueError: an id is not in the index.
            IndexFileError: as for `add`.
        """

    def build_graph(
        self, m: int = 16, ef_construction: int = 200, progress: Callable[[int, int], object] | None = None
    ) -> None:
        """Build the HNSW graph over all rows; later adds extend it. Searches and changes go on meanwhile.

        Args:
            m: links for each row and level, 2 to 128 (twice that on the lowest level).
            ef_construction: candidates compared for each row, m to 4096.
            progress: called with (rows done, all rows). It may use this index, but not build its graph. An exception
                from it, or Ctrl-C, cancels the build and leaves the index as it was.

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
            exact: return provably the k most similar stored descriptors, scored in float32: method "scan".
            ef: rows that a walk through the graph keeps, at least 1; more rows find more.
            method: how to search; "" for the method that is expected to be the fastest, see `explain`.

        Returns:
            ids int64 and similarities float32 in [-1, 1], each (n, min(k, size)) or (min(k, size),).

        Raises:
            TypeError: not a numpy array of float32.
            ValueError: wrong shape; a query is not finite or not of unit length; k or ef is below 1; method is
                "graph" without a graph, or is not "scan" with `exact`.
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
        """Search, and return how the search was done instead of its answer.

        Returns:
            "method": the method that was used. "compared": rows whose code or sketch was read. "scored": rows whose
            stored descriptor was read.
        """

    def cursor(self) -> Cursor:
        """A new `Cursor`, which searches for one camera, frame after frame."""

    def set_costs(self, costs: Mapping[str, float]) -> None:
        """Set the costs of reading, by which searches choose a method.

        Args:
            costs: as `measure_costs` returns them.

        Raises:
            KeyError: a cost is missing.
            TypeError: a cost is not a number.
            ValueError: a cost is not above 0.
        """

    def save(self, path: str, *, contract: bytes, state: bytes) -> None:
        """Write the index to `path`: temporary file, fsync, rename, fsync of the folder.

        Args:
            path: the file. An old file stays in place until the new one is complete.
            contract: 32 bytes, identity of the model.
            state: 32 bytes, identity of the set of places.

        Raises:
            IndexFileError: the file cannot be written; or the index was loaded from a file that is damaged.
            ValueError: contract or state is not 32 bytes long.
        """

    @staticmethod
    def load(path: str, *, dim: int, contract: bytes, instruction_set: str = "") -> tuple[PlaceIndex, bytes]:
        """Open a file that `save` wrote. Returns the index and its `state`.

        The file is memory-mapped. Everything that says where to read is checked now, every other block before its first
        use. The file must not be truncated or written in place while the index is in use; `save` replaces it by a new
        file.

        Raises:
            IndexFileError: the file is missing, too short or damaged, or of another version, dimension or model.
        """

    def verify(self) -> None:
        """Check every byte of the file that the index was loaded from. Does nothing for other indexes.

        Raises:
            IndexFileError: the file is damaged.
        """

class Cursor:
    """Searches one camera's frames in order. Each search starts from what the last one found.

    Half the effort then finds as much. The first frame is searched with full effort. So is a frame whose best
    similarity is below the range of the last frames, because the robot was carried elsewhere or is lost. Without a
    graph each search is as `PlaceIndex.search`. Use one cursor, from `PlaceIndex.cursor`, for each camera.
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
        """As `PlaceIndex.search`, for one query: (dim,) or (1, dim)."""

    def reset(self) -> None:
        """Forget the last frames."""

    @property
    def followed(self) -> bool:
        """Whether the last search started from the frame before, and its answer was accepted."""

def measure_costs() -> dict[str, float]:
    """Measure what reading costs on this machine, for `PlaceIndex.set_costs`. Takes about 10 ms.

    Returns:
        Nanoseconds for each kind of reading: "scan_byte", "sketch_byte", "gather_line".
    """
