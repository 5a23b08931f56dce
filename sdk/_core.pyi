from collections.abc import Callable, Sequence

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

class PlaceIndex:
    """Unit descriptors by place id, searched by cosine: exact scan, or HNSW once a graph is built.

    Safe to use from several threads: searches run beside each other and beside one writer, with the GIL
    released. float32 C-contiguous arrays are read where they lie; other strides are copied.

    Source: Malkov and Yashunin (TPAMI 2018) for the graph, built by hnswlib 0.8.0.
    """

    def __init__(self, dim: int) -> None:
        """Make an empty index for descriptors of `dim` values, 1 to 65536."""

    def __len__(self) -> int:
        """Places that a search can return."""

    @property
    def dim(self) -> int: ...
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
        """

    def remove(self, ids: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Forget places: all of them, or none when an exception is raised.

        Raises:
            ValueError: an id is not in the index.
        """

    def build_graph(
        self, m: int = 16, ef_construction: int = 200, progress: Callable[[int, int], object] | None = None
    ) -> bool:
        """Build the HNSW graph over all rows; later adds extend it. Searches go on meanwhile by exact scan.

        Args:
            m: links a row and level, 2 to 128 (twice that on the lowest level).
            ef_construction: candidates looked at for each row, m to 4096.
            progress: called with (rows done, rows in all). What it raises, and Ctrl-C, cancels the build and
                leaves the index as it was. It must not change or save this index, which waits for the build.
        """

    def search(
        self, queries: npt.NDArray[np.float32], k: int, *, exact: bool = False, ef: int = 64
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The min(k, len(self)) most similar places of each query, best first.

        Args:
            queries: float32 (n, dim) or (dim,), unit length.
            k: at least 1.
            exact: scan every row even if there is a graph.
            ef: candidates that the graph search keeps, at least 1; more finds more.

        Returns:
            ids int64 and similarities float32 in [-1, 1], each (n, min(k, size)) or (min(k, size),).

        Raises:
            TypeError: not a numpy array of float32.
            ValueError: another shape; a query not finite or not of unit length; k or ef below 1.
        """

    def save(self, path: str, *, contract: bytes, state: bytes) -> None:
        """Write the index to `path`: temporary file, fsync, rename, fsync of the folder.

        Args:
            path: the file; what stands there stays until the new one is complete.
            contract: 32 bytes, identity of the model.
            state: 32 bytes, identity of the set of places.

        Raises:
            IndexFileError: the file cannot be written.
        """

    @staticmethod
    def load(path: str, *, dim: int, contract: bytes) -> tuple[PlaceIndex, bytes]:
        """Read what `save` wrote, every byte checked; returns the index and its `state`.

        Raises:
            IndexFileError: missing, short, damaged, of another version, dimension or model.
        """
