"""Wrong calls of our index and its peers."""

from __future__ import annotations

import os
import re
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from damaged_files import unit_rows
from libraries import LIBRARIES, NotOffered, Rows, filled

from sdk._core import IndexFileError, PlaceIndex, measure_costs

TYPED = (TypeError, ValueError, IndexFileError)

ROWS, DIM, SPOILED = 2000, 32, 7
NOBODY = 65534
NAN, INF = float("nan"), float("inf")


class Case(NamedTuple):
    """A call that is or looks wrong. Ours must raise a typed error if `refused`, else accept it."""

    name: str
    call: Callable[[Any, Rows], Any]
    refused: bool = True
    says: str = ""  # part of our error's message
    only_ours: bool = False


def more(count: int = 20) -> npt.NDArray[np.int64]:
    return np.arange(ROWS, ROWS + count)


def spoil(rows: Rows, value: Any, at: int = SPOILED, count: int = 20) -> Rows:
    """New rows, one of them with a bad value or length."""
    result = rows[::-1][:count].copy()
    if value is NAN or value is INF:
        result[at, 3] = value
    else:
        result[at] *= value
    return result


def rebuilt(value: Any, at: int = 500) -> Callable[[Any, Rows], Any]:
    """Rebuild from rows, one of them bad."""

    def call(library: Any, rows: Rows) -> str:
        spoiled = spoil(rows, value, at, ROWS)
        return f"recall@1 {self_recall(filled(library.name, spoiled), spoiled):.3f}"

    return call


def self_recall(library: Any, rows: Rows) -> float:
    good = np.flatnonzero(np.isfinite(rows).all(axis=1) & (np.abs(np.linalg.norm(rows, axis=1) - 1) < 1e-3))
    return float((np.asarray(library.search(rows[good], 1)[0])[:, 0] == good).mean())


def saved(where: str, limit: int = 0) -> Callable[[Any, Rows], Any]:
    """Save over an existing file. If refused, the file must be unchanged, with no other file beside it."""

    def call(library: Any, rows: Rows) -> str:
        with tempfile.TemporaryDirectory() as name:
            folder, path = Path(name), Path(name, where)
            library.save(str(folder / "index"))
            before = (folder / "index").read_bytes()
            most = limit
            if where == "full" and library.name == "ours":
                # It writes a file of another name each time, so none can lead to the full disk: a limit does as well.
                most = 4096
            elif where == "full":
                path = folder / "full"
                path.symlink_to("/dev/full")
            if most:
                path = folder / "index"
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            if where == "read-only":
                path = folder / "index"
                (folder / "index").chmod(0o444)
                folder.chmod(0o555)
                if os.getuid() == 0:  # permissions do not bind root
                    for one in (folder, folder / "index"):
                        os.chown(one, NOBODY, NOBODY)
                    os.setuid(NOBODY)
            if where == "folder":
                path.mkdir()
            try:
                library.save(str(path))
            except Exception as error:
                left = sorted(entry.name for entry in folder.iterdir() if ".tmp" in entry.name)
                if library.name == "ours" and ((folder / "index").read_bytes() != before or left):
                    raise AssertionError(f"the old file was touched, or {left} left behind") from error
                if (folder / "index").read_bytes() != before:
                    raise type(error)(f"{error} AND THE OLD FILE IS GONE") from error
                raise
            return "SILENT"

    return call


def loaded(what: str, dim: int = DIM) -> Callable[[Any, Rows], Any]:
    def call(library: Any, rows: Rows) -> str:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, "index")
            if what == "folder":
                path.mkdir()
            elif what == "text":
                path.write_text("places\n" * 3000)
            elif what == "empty":
                path.touch()
            elif what == "index":
                library.save(str(path))
            fresh = LIBRARIES[library.name](dim, ROWS)
            fresh.load(str(path), dim)
            return f"answers {np.asarray(fresh.search(unit_rows(np.random.default_rng(0), 1, dim), 3)[0]).tolist()}"

    return call


def agrees(queries: Callable[[Rows], Any]) -> Callable[[Any, Rows], Any]:
    def call(library: Any, rows: Rows) -> str:
        asked = queries(rows)
        same = np.array_equal(library.search(asked, 3)[0], library.search(np.ascontiguousarray(asked), 3)[0])
        return "same answers" if same else "OTHER ANSWERS"

    return call


def found(queries: Callable[[Rows], Any], k: Any = 3, **options: Any) -> Callable[[Any, Rows], Any]:
    return lambda library, rows: shown(library.search(queries(rows), k, **options))


def shown(answer: tuple[Any, Any]) -> str:
    ids, similarities = (np.asarray(part) for part in answer)
    if ids.size == 0:
        return f"shape {ids.shape}"
    row = SPOILED if ids.ndim == 2 and len(ids) > SPOILED else 0
    best = np.atleast_2d(ids)[row][:3].tolist(), np.atleast_2d(similarities)[row][:2].tolist()
    return f"{ids.shape}: ids {best[0]}, similarities " + " ".join(f"{value:.3g}" for value in best[1])


def added(ids: Any, rows: Callable[[Rows], Any] = lambda rows: rows[:20]) -> Callable[[Any, Rows], Any]:
    return lambda library, all_rows: library.add(ids() if callable(ids) else ids, rows(all_rows))


def ours(call: Callable[[Any, Rows], Any]) -> Callable[[Any, Rows], Any]:
    return lambda library, rows: call(library.index, rows)


def wide(rows: Rows) -> Rows:
    return np.repeat(rows, 2, axis=1)  # every second value is the row's


ROW, HERE = rf"\b{SPOILED}\b", 5
CASES = (
    Case("built with NaN in row 500 of 2000", rebuilt(NAN), says=r"\b500\b"),
    Case("built with NaN in the first row of 2000", rebuilt(NAN, 0), says=r"\b0\b"),
    Case("built with infinity in row 500 of 2000", rebuilt(INF), says=r"\b500\b"),
    Case("built with row 500 of 2000 zero", rebuilt(0), says=r"\b500\b"),
    Case("add NaN in row 7", added(more, lambda r: spoil(r, NAN)), says=ROW),
    Case("add infinity in row 7", added(more, lambda r: spoil(r, INF)), says=ROW),
    Case("add a zero row", added(more, lambda r: spoil(r, 0)), says=ROW),
    Case("add a row of length 2", added(more, lambda r: spoil(r, 2)), says=ROW),
    Case("add a row of length 1e30", added(more, lambda r: spoil(r, 1e30)), says=ROW),
    Case("query NaN in row 7", found(lambda r: spoil(r, NAN)), says=ROW),
    Case("query infinity", found(lambda r: spoil(r, INF)), says=ROW),
    Case("query zero", found(lambda r: spoil(r, 0)), says=ROW),
    Case("query of length 2", found(lambda r: spoil(r, 2)), says=ROW),
    Case("add of dim 16", added(more, lambda r: r[:20, :16].copy()), says="32"),
    Case("add of dim 64", added(more, lambda r: wide(r[:20])), says="32"),
    Case("query of dim 16", found(lambda r: r[:2, :16].copy()), says="32"),
    Case("query of dim 64", found(lambda r: wide(r[:2])), says="32"),
    Case("query of dim 0", found(lambda r: r[:2, :0]), says="32"),
    Case("query float64", found(lambda r: r[:2].astype(np.float64)), says="float32"),
    Case("query float16", found(lambda r: r[:2].astype(np.float16)), says="float32"),
    Case("query int64", found(lambda r: (r[:2] * 9).astype(np.int64)), says="float32"),
    Case("query of big-endian float32", found(lambda r: r[:2].astype(">f4")), says="float32"),
    Case("query of objects", found(lambda r: r[:2].astype(object)), says="float32"),
    Case("query is a list", found(lambda r: r[:2].tolist()), says="list"),
    Case("query is None", found(lambda r: None), says="None"),
    Case("add float64", added(more, lambda r: r[:20].astype(np.float64)), says="float32"),
    Case("query with strides", agrees(lambda r: wide(r[:5])[:, ::2]), refused=False),
    Case("query in Fortran order", agrees(lambda r: np.asfortranarray(r[:5])), refused=False),
    Case("query backwards", agrees(lambda r: r[4::-1]), refused=False),
    Case("add with strides", added(more, lambda r: wide(r[:20])[:, ::2]), refused=False),
    Case("query 0-d", found(lambda r: r[0, 0]), says=r"32|array"),
    Case("query 0-d array", found(lambda r: np.asarray(r[0, 0])), says="shape"),
    Case("query 3-d", found(lambda r: r[:4].reshape(2, 2, DIM)), says="shape"),
    Case("add 3-d", added(more, lambda r: r[:20].reshape(2, 10, DIM)), says="shape"),
    Case("k = 0", found(lambda r: r[:2], 0), says="k is 0"),
    Case("k = -1", found(lambda r: r[:2], -1), says="k is -1"),
    Case("k = 2.5", found(lambda r: r[:2], 2.5)),
    Case("k > rows", found(lambda r: r[:2], ROWS + 5), refused=False),
    Case("k = 2^62", found(lambda r: r[:2], 2**62), refused=False),
    Case("k = 2^64", found(lambda r: r[:2], 2**64)),
    Case("ef = 0", found(lambda r: r[:2], 3, ef=0), says="ef is 0"),
    Case("ef = -1", found(lambda r: r[:2], 3, ef=-1), says="ef is -1"),
    Case("ef = 2^62", found(lambda r: r[:2], 3, ef=2**62), refused=False),
    Case("ef = 10^10", found(lambda r: r[:2], 3, ef=10**10), refused=False),
    Case("id twice in a batch", added([*range(2000, 2019), 2003]), says="2003"),
    Case("id that is there", added([HERE, *range(2000, 2019)]), says=str(HERE)),
    Case("id -1", added([*range(2000, 2019), -1]), says="-1"),
    Case("ids float64", added(lambda: more().astype(np.float64)), says="float64"),
    Case("ids bool", added(lambda: more() > 0), says="bool"),
    Case("id 2^63 (uint64)", added(lambda: more().astype(np.uint64) + np.uint64(2**63 - ROWS))),
    Case("id 2^64 - 1 (uint64)", added(lambda: np.uint64(2**64 - 1) - more().astype(np.uint64))),
    Case("id 2^70 in a list", added([*range(2000, 2019), 2**70])),
    Case("ids are text", added(["a"] * 20)),
    Case("one id too few", added(lambda: more(19)), says="20"),
    Case("ids 2-d", added(lambda: more().reshape(2, 10)), says="shape"),
    Case("id is a number", added(ROWS, lambda r: r[0]), says="shape"),
    Case("add of no rows", added(lambda: more(0), lambda r: r[:0]), refused=False),
    Case("search of no queries", found(lambda r: r[:0]), refused=False),
    Case(
        "search of an empty index", lambda lib, r: shown(LIBRARIES[lib.name](DIM, 10).search(r[:1], 3)), refused=False
    ),
    Case("remove an id that is not there", lambda lib, r: lib.remove([3, 999_999]), says="999999"),
    Case("remove an id twice", lambda lib, r: lib.remove([3, 3]), says="3"),
    Case("remove an id that is text", lambda lib, r: lib.remove(["3"])),
    Case("save, disk full", saved("full"), says="cannot be written"),
    Case("save, file too large", saved("index", 100_000), says="large"),
    Case("save, read-only folder", saved("read-only"), says="denied"),
    Case("save, missing folder", saved("missing/index"), says="No such"),
    Case("save onto a folder", saved("folder")),
    Case("load a missing file", loaded("missing"), says="No such"),
    Case("load a folder", loaded("folder")),
    Case("load an empty file", loaded("empty"), says="bytes"),
    Case("load a text", loaded("text"), says="not an index"),
    Case("load as dim 16", loaded("index", 16), says="32"),
    Case("load as dim 64", loaded("index", 64), says="32"),
    Case("dim 0", ours(lambda i, r: PlaceIndex(0)), only_ours=True),
    Case("dim 65537", ours(lambda i, r: PlaceIndex(65537)), only_ours=True),
    Case("dim -1", ours(lambda i, r: PlaceIndex(-1)), only_ours=True),
    Case("unknown precision", ours(lambda i, r: PlaceIndex(8, precision="int4")), says="int4", only_ours=True),
    Case("unknown instructions", ours(lambda i, r: PlaceIndex(8, instruction_set="x")), says="x", only_ours=True),
    Case("unknown method", ours(lambda i, r: i.search(r[:1], 1, method="tree")), says="tree", only_ours=True),
    Case("exact by graph", ours(lambda i, r: i.search(r[:1], 1, exact=True, method="graph")), only_ours=True),
    Case("graph without one", ours(lambda i, r: PlaceIndex(DIM).search(r[:1], 1, method="graph")), only_ours=True),
    Case("m = 1", ours(lambda i, r: i.build_graph(1)), says="m is 1", only_ours=True),
    Case("m = 129", ours(lambda i, r: i.build_graph(129)), says="129", only_ours=True),
    Case("ef_construction < m", ours(lambda i, r: i.build_graph(16, 15)), says="15", only_ours=True),
    Case("contract of 31 bytes", ours(lambda i, r: i.save("x", contract=b"x" * 31, state=bytes(32))), only_ours=True),
    Case("cursor, two queries", ours(lambda i, r: i.cursor().search(r[:2], 3)), says="2", only_ours=True),
    Case("cursor, NaN", ours(lambda i, r: i.cursor().search(spoil(r, NAN)[7], 3)), only_ours=True),
    Case("costs of 0", ours(lambda i, r: i.set_costs(dict.fromkeys(measure_costs(), 0.0))), only_ours=True),
)


def state_of(library: Any, rows: Rows) -> tuple[Any, ...]:
    index = library.index
    answers = [part.tobytes() for method in ("scan", "graph") for part in index.search(rows[:50], 5, method=method)]
    return len(index), index.last_id, index.removed, index.has_graph, tuple(answers)


def try_case(library: Any, rows: Rows, case: Case) -> tuple[str, str]:
    """The outcome ("WRONG" if ours broke a rule) and the message."""
    is_ours = library.name == "ours"
    before = state_of(library, rows) if is_ours else ()
    wrong = []
    try:
        said = f"accepted {case.call(library, rows) or ''}".strip()
        outcome = "accepted"
        if case.refused or "OTHER" in said:
            wrong.append("was accepted")
    except NotOffered:
        return "-", ""
    except BaseException as error:
        said, outcome = f"{type(error).__name__}: {error}", "refused"
        if not case.refused:
            wrong.append("was refused")
        if not isinstance(error, TYPED):
            wrong.append("not a typed error")
        if not re.search(case.says, str(error)):
            wrong.append(f"does not say {case.says}")
        if is_ours and state_of(library, rows) != before:
            wrong.append("THE INDEX HAS CHANGED")
    said = re.sub(r"/\S+/", "", " ".join(said.split()))
    if is_ours and wrong:
        return "WRONG", f"{', '.join(wrong)}: {said}"
    return outcome, said
