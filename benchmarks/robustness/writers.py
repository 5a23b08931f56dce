"""One writer beside three readers, for our index and its peers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from damaged_files import unit_rows
from libraries import EF_CONSTRUCTION, LIBRARIES, M, Ours, Rows, filled

SOAK_ROWS, SOAK_START, SOAK_K, SOAK_QUERIES = 6000, 1000, 10, 500
DIM = 32


class Round:
    """An index that grows from SOAK_START to SOAK_ROWS rows, id i being row i, while three threads search it."""

    def __init__(self, name: str, seed: tuple[int, int]) -> None:
        self.name, self.seed, self.late = name, seed, name == "ours" and seed[1] % 2 == 1
        self.rows = unit_rows(np.random.default_rng(seed), SOAK_ROWS, DIM)
        self.begun = SOAK_START  # ids below this are added or being added
        self.gone = np.zeros(SOAK_ROWS, bool)  # removed, and the call has returned
        self.answers, self.errors, self.wrong, self.example, self.stop = 0, 0, 0, "", False
        self.library = LIBRARIES[name](DIM, SOAK_ROWS, *([not self.late] if name == "ours" else []))
        self.library.add(np.arange(SOAK_START), self.rows[:SOAK_START])

    def searches(self, thread: int) -> list[Callable[[Rows], Any]]:
        if self.name != "ours":
            return [lambda q: self.library.search(q, SOAK_K)]
        index = self.library.index
        if thread == 0:
            return [lambda q: self.library.search(q, SOAK_K)]
        if thread == 1:
            return [lambda q, m=method: index.search(q, SOAK_K, method=m) for method in ("scan", "sketch")]
        cursor = index.cursor()
        return [lambda q: index.search(q, SOAK_K), lambda q: cursor.search(q[:1], SOAK_K)]

    def read(self, thread: int) -> None:
        choose = np.random.default_rng((*self.seed, thread))
        searches = self.searches(thread)
        while not self.stop:
            queries = unit_rows(choose, 8, DIM)
            queries[0] = self.rows[choose.integers(self.begun)]
            gone = self.gone.copy()
            try:
                ids, similarities = searches[self.answers % len(searches)](queries)
                fault = self.fault(queries, np.asarray(ids).astype(np.int64), np.asarray(similarities), gone)
            except Exception as error:
                self.errors += 1
                self.example = self.example or repr(error)
                continue
            self.answers += 1
            if fault:
                self.wrong += 1
                self.example = self.example or fault

    def fault(self, queries: Rows, ids: npt.NDArray[np.int64], similarities: Rows, gone: npt.NDArray[np.bool_]) -> str:
        if ids.shape not in ((8, SOAK_K), (1, SOAK_K)) or ids.shape != similarities.shape:
            return f"shape {ids.shape}"
        if ids.min() < 0 or ids.max() >= self.begun:
            return f"an id from {ids.min()} to {ids.max()}, of {self.begun}"
        if gone[ids].any():
            return "an id that was removed before"
        if (np.diff(np.sort(ids, axis=1), axis=1) == 0).any():
            return "an id twice"
        true = np.einsum("qkd,qd->qk", self.rows[ids], queries[: len(ids)])
        if np.abs(true - similarities).max() > 2e-3:
            return f"a similarity that is off by {np.abs(true - similarities).max():.2g}"
        return "" if (np.diff(similarities, axis=1) <= 0).all() else "not sorted"

    def write(self, until: float) -> None:
        choose, gone = np.random.default_rng((*self.seed, 9)), set()
        building = threading.Thread(target=lambda: self.library.index.build_graph(M, EF_CONSTRUCTION))
        while self.begun < SOAK_ROWS and time.monotonic() < until:
            first = self.begun
            count = int(min(choose.integers(1, 33), SOAK_ROWS - first))
            self.begun = first + count
            self.library.add(np.arange(first, first + count), self.rows[first : first + count])
            if self.late and building.ident is None and first > 2 * SOAK_START:
                building.start()
            leaving = {int(one) for one in choose.integers(0, self.begun, 2)} - gone
            if choose.random() < 0.5 and leaving and self.name != "faiss":
                self.library.remove(sorted(leaving))
                gone |= leaving
                self.gone[sorted(leaving)] = True
        if self.late and building.ident is None:
            building.start()
        if self.late:
            building.join()

    def run(self, until: float) -> None:
        readers = [threading.Thread(target=self.read, args=(i,)) for i in range(3)]
        for reader in readers:
            reader.start()
        try:
            self.write(until)
        except Exception as error:
            self.errors += 1
            self.example = self.example or f"the writer: {error!r}"
        self.stop = True
        for reader in readers:
            reader.join()

    def recalls(self) -> tuple[float, float]:
        """Recall of the grown index, and of one built at once."""
        live = np.flatnonzero(~self.gone[: self.begun])
        queries = unit_rows(np.random.default_rng((*self.seed, 8)), SOAK_QUERIES, DIM)
        nearest = live[np.argsort(-(queries @ self.rows[live].T), axis=1)[:, :SOAK_K]]
        at_once = filled(self.name, self.rows[live], live) if self.name != "ours" else Ours(DIM, 0, False)
        if self.name == "ours":
            at_once.add(live, self.rows[live])
            at_once.index.build_graph(M, EF_CONSTRUCTION)
        ids = [np.asarray(library.search(queries, SOAK_K)[0]) for library in (self.library, at_once)]
        shares = [np.mean([np.isin(a, b).mean() for a, b in zip(nearest, found, strict=True)]) for found in ids]
        return float(shares[0]), float(shares[1])


def soak(name: str, seconds: float, seed: int) -> Callable[[int], tuple[str, str]]:
    """Run rounds until the time is over, in a child process."""

    def work(_: int) -> tuple[str, str]:
        started, rounds, recalls = time.monotonic(), [], []
        while not rounds or time.monotonic() < started + seconds:
            rounds.append(Round(name, (seed, len(rounds))))
            rounds[-1].run(started + seconds)
            try:
                recalls.append(rounds[-1].recalls())
            except Exception as error:
                rounds[-1].errors += 1
                rounds[-1].example = rounds[-1].example or repr(error)
            rounds[-1].library = None
        grown, at_once = np.mean(recalls, axis=0) if recalls else (0.0, 0.0)
        figures = {
            "seconds": round(time.monotonic() - started),
            "rounds": len(rounds),
            "added": sum(one.begun - SOAK_START for one in rounds),
            "removed": int(sum(one.gone.sum() for one in rounds)),
            **{what: sum(getattr(one, what) for one in rounds) for what in ("answers", "errors", "wrong")},
            "recall": round(float(grown), 4),
            "built_at_once": round(float(at_once), 4),
            "example": next((one.example for one in rounds if one.example), ""),
        }
        return "done", json.dumps(figures)

    return work
