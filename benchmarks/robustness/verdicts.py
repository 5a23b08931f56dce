"""Open damaged files with our index and its peers, and judge the outcome."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import damaged_files as files
import numpy as np
from children import peak_bytes, stage, stage_now
from damaged_files import CONTRACT, SHAPES, Base, unit_rows
from index_format import Bytes, header, sections
from libraries import LIBRARIES

from sdk._core import IndexFileError, PlaceIndex

KINDS = (*files.ACCIDENTS, *files.CRAFTED)
PEER_KINDS = (*files.ACCIDENTS, "header", "links")
BAD = ("DIFFERENT", "MALFORMED", "CRASH", "HANG", "BOMB", "UNTYPED")
OUTCOMES = ("refused", "same", "altered", *BAD)
SLACK = 48 << 20  # bytes that may be touched beyond the file's size

# ------------------------------------------------------------------ our files


class Malformed(Exception):
    """An answer that is wrong for every file."""


@cache
def queries_of(dim: int) -> Any:
    return unit_rows(np.random.default_rng(dim), 4, dim)


def ask(index: Any, live: set[int] | None = None) -> list[tuple[str, bytes]]:
    """The answers of every method; given `live` ids, each answer is checked."""
    queries, answers, cursor = queries_of(index.dim), [], index.cursor()
    calls = [(name, lambda name=name: index.search(queries, 10, method=name, ef=16)) for name in ("scan", "sketch")]
    if index.has_graph:
        calls.append(("graph", lambda: index.search(queries, 10, method="graph", ef=16)))
        calls += [("cursor", lambda q=q: cursor.search(q, 3, ef=30, method="graph")) for q in queries]
    calls.append(("chosen", lambda: index.search(queries[0], len(index) + 3 if len(index) < 300 else 40)))
    for name, call in calls:
        for shape in ((4, 10), (3,), (40,)):  # numpy's cached memory must not look like an answer
            np.full(shape, -7)
            np.full(shape, np.nan, np.float32)
        ids, similarities = call()
        answers.append((name, ids.tobytes() + similarities.tobytes()))
        if live is None:
            continue
        k = min({"cursor": 3, "chosen": len(index) + 3 if len(index) < 300 else 40}.get(name, 10), len(live))
        for found, scores in zip(np.atleast_2d(ids), np.atleast_2d(similarities), strict=True):
            if len(found) != k or len(set(found.tolist())) != k or not live.issuperset(found.tolist()):
                raise Malformed(f"{name}: ids {found.tolist()}, expected {k} different ones of {len(live)}")
            if not (np.diff(scores) <= 0).all() or not (np.abs(scores) <= 1).all():
                raise Malformed(f"{name}: similarities {scores.tolist()}")
    return answers


def ids_of(content: Bytes) -> list[set[int]]:
    """Ids that a search can return, and all."""
    places = sections(content)[0]
    ids = content[places["ids"][0] :][: places["ids"][1]].view("<i8")
    removed = content[places["removed"][0] :][: places["removed"][1]]
    return [set(ids[removed == 0].tolist()), set(ids.tolist())]


class OurFiles:
    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.pairs = files.make_bases(folder, seed)
        weights = np.array(list(SHAPES.values()), float)
        self.weights = weights / weights.sum()
        self.known: dict[int, list[tuple[str, bytes]]] = {}
        for pair in self.pairs:
            (folder / "base").write_bytes(pair[0].content.tobytes())
            index = PlaceIndex.load(str(folder / "base"), dim=pair[0].shape.dim, contract=CONTRACT)[0]
            self.known[id(pair[0])] = ask(index, ids_of(pair[0].content)[0])

    def make(self, number: int, path: Path) -> tuple[str, Base, Bytes, Any]:
        """Damage file `number`. The same number gives the same damage."""
        kind, choose = KINDS[number % len(KINDS)], np.random.default_rng((self.seed, number))
        if kind in files.ACCIDENTS:
            base, other = self.pairs[choose.choice(len(self.pairs), p=self.weights)]
            if kind == "splice" and choose.random() < 0.3:
                other = self.pairs[choose.integers(len(self.pairs))][1]
            content = files.ACCIDENTS[kind](base.content, other.content, choose)
        else:
            base = self.pairs[choose.choice(len(self.pairs), p=self.weights)][0]
            while kind in ("links", "both") and not (base.shape.m and base.shape.rows):
                base = self.pairs[choose.choice(len(self.pairs), p=self.weights)][0]
            content = files.CRAFTED[kind](base, choose)
        with path.open("wb") as file:
            file.write(content.tobytes())
            if kind == "grown":
                file.truncate(sections(content)[2])
        return kind, base, content, choose

    def judge(self, number: int) -> tuple[str, str]:
        stage("make")
        path = self.folder / "damaged"
        kind, base, content, choose = self.make(number, path)
        before = peak_bytes(reset=True)
        try:
            try:
                outcome, detail = self.use(path, kind, base, content, choose)
            except IndexFileError as error:
                outcome, detail = "refused", str(error).partition(": ")[2]
        except Malformed as error:
            outcome, detail = "MALFORMED", str(error)
        except MemoryError as error:
            outcome, detail = "BOMB", f"{error!r} in {stage_now()}"
        except Exception as error:
            outcome, detail = "UNTYPED", f"{error!r} in {stage_now()}"
        touched = peak_bytes() - before
        if touched > SLACK + 2 * path.stat().st_size:  # the file is mapped and its graph copied
            return "BOMB", f"{touched >> 20} MiB touched, of a file of {path.stat().st_size >> 20} MiB"
        return outcome, detail

    def use(self, path: Path, kind: str, base: Base, content: Bytes, choose: Any) -> tuple[str, str]:
        crafted, whole = kind in files.CRAFTED, np.array_equal(content, base.content)
        dim = base.shape.dim
        if crafted and 0 < header(content, "dim") <= 256:
            dim = header(content, "dim")
        stage("load")
        index, _ = PlaceIndex.load(str(path), dim=dim, contract=CONTRACT)
        stage("search")
        known = self.known[id(base)]
        if not crafted:
            same = ask(index) == known
            stage("verify")
            if whole:
                index.verify()
                return ("same", "nothing was damaged") if same else ("DIFFERENT", "of an undamaged file")
            if not same:
                return "DIFFERENT", "answers, and no error"
            return self.must_refuse(index, path)
        live, everyone = ids_of(content) if kind != "grown" else ids_of(np.fromfile(path, np.uint8))
        answers = ask(index, live)
        if kind == "links" and [a for a in answers if a[0] in ("scan", "sketch")] != [
            a for a in known if a[0] in ("scan", "sketch")
        ]:
            return "DIFFERENT", "by scan, where only links were crafted"
        stage("verify")
        index.verify()
        if choose.random() < 0.4:
            self.change(index, live, everyone, choose)
        return ("same" if answers == known else "altered"), ""

    def must_refuse(self, index: Any, path: Path) -> tuple[str, str]:
        """No query read the damage. Calls that read the whole file must find it."""
        before = len(index), index.last_id, index.removed
        save = {"contract": CONTRACT, "state": bytes(32)}
        calls: dict[str, Callable[[], Any]] = {
            "verify": index.verify,
            "add": lambda: index.add([2**40], queries_of(index.dim)[0]),
            "remove": lambda: index.remove([5]),
            "save": lambda: index.save(str(path.with_name("saved")), **save),
        }
        for name, call in calls.items():
            stage("verify" if name == "verify" else "save" if name == "save" else "change")
            try:
                call()
            except IndexFileError:
                continue
            except ValueError:
                if name == "remove":
                    continue  # there is no place 5
                raise
            return "DIFFERENT", f"{name} did not see the damage"
        if before != (len(index), index.last_id, index.removed):
            return "DIFFERENT", "a refused call changed the index"
        return "same", "refused by verify"

    def change(self, index: Any, live: set[int], everyone: set[int], choose: Any) -> None:
        """Add, remove, relink, save and read again. Crafted damage must break none of them."""
        stage("change")
        free = next(number for number in range(10**6, 10**7, 100) if everyone.isdisjoint(range(number, number + 40)))
        count = int(choose.choice((1, 4, 30)))
        new = list(range(free, free + count))
        rows = unit_rows(choose, count, index.dim)
        rows[-1] = queries_of(index.dim)[0]
        index.add(new, rows)
        live = live | set(new)
        gone = [int(one) for one in choose.choice(sorted(live), min(len(live), int(choose.integers(4))), replace=False)]
        index.remove(gone)
        live -= set(gone)
        if choose.random() < 0.2 and len(live) < 1000:
            index.build_graph(4, 10)
        answers = ask(index, live)
        stage("save")
        path = str(self.folder / "saved")
        index.save(path, contract=CONTRACT, state=bytes(32))
        stage("read again")
        try:
            again = PlaceIndex.load(path, dim=index.dim, contract=CONTRACT)[0]
            again.verify()
        except IndexFileError as error:
            raise Malformed(f"what was saved cannot be read: {str(error).partition(': ')[2]}") from error
        if ask(again, live) != answers:
            raise Malformed("what was saved answers otherwise")


# ------------------------------------------------------------------ the peers' files


class PeerFiles:
    """A peer's file of 700 rows with the same damage. "links" are words of its graph. It has no checksums."""

    def __init__(self, name: str, folder: Path, seed: int) -> None:
        self.name, self.seed, self.path = name, seed, folder / name
        self.contents = []
        for edition in range(2):
            library = LIBRARIES[name](32, 700)
            library.add(np.arange(700), unit_rows(np.random.default_rng((seed, edition)), 700, 32))
            library.save(str(self.path))
            self.contents.append(np.fromfile(self.path, np.uint8))
        self.path.write_bytes(self.contents[0].tobytes())
        self.queries = unit_rows(np.random.default_rng(seed), 20, 32)
        self.known = self.answers()

    def answers(self) -> list[bytes]:
        library = LIBRARIES[self.name](32, 700)
        library.load(str(self.path), 32)
        stage("search")
        return [np.ascontiguousarray(part).tobytes() for part in library.search(self.queries, 10)]

    def header_word(self, choose: Any) -> int:
        word = 4 * int(choose.integers(24))
        # usearch has 8 bytes before the vectors and 64 after them.
        return word if self.name != "usearch" or word < 8 else 700 * 32 * 4 + word % 72

    def graph_word(self, choose: Any) -> int:
        """Offset of a number of the graph, a multiple of four from its start."""
        size, vectors = len(self.contents[0]), 700 * 32 * 4
        if self.name == "hnswlib":
            return 96 + int(choose.integers(700)) * (4 + 2 * 16 * 4 + 32 * 4 + 8) + 4 * int(choose.integers(33))
        start = vectors + 72 if self.name == "usearch" else 64
        end = size if self.name == "usearch" else size - vectors - 64
        return start + 4 * int(choose.integers((end - start) // 4))

    def judge(self, number: int) -> tuple[str, str]:
        stage("make")
        kind, choose = PEER_KINDS[number % len(PEER_KINDS)], np.random.default_rng((self.seed, number))
        content = self.contents[0].copy()
        if kind in files.ACCIDENTS:
            content = files.ACCIDENTS[kind](*self.contents, choose)
        else:
            for _ in range(choose.integers(1, 4)):
                at = self.header_word(choose) if kind == "header" else self.graph_word(choose)
                near = int(content[at : at + 4].view("<u4")[0])
                content[at : at + 4] = np.array([files.number(choose, near, 2**32)], "<u4").view(np.uint8)
        self.path.write_bytes(content.tobytes())
        before = peak_bytes(reset=True)
        stage("load")
        try:
            outcome, detail = "same" if self.answers() == self.known else "DIFFERENT", ""
        except BaseException as error:
            known = isinstance(error, MemoryError) or "bad_alloc" in str(error) or "Not enough memory" in str(error)
            outcome, detail = "BOMB" if known else "refused", repr(error)
        touched = peak_bytes() - before
        return ("BOMB", f"{touched >> 20} MiB touched") if touched > SLACK + len(content) else (outcome, detail)
