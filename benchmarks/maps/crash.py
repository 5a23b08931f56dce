"""Kill processes that write a map, damage its index, and count what is lost.

    python benchmarks/maps/crash.py                 200 kills, 200 damages with and 200 without a graph
    python benchmarks/maps/crash.py --quick         20 of each

Kills: a child opens the map with a real `sdk.Localizer` and a fake network (a random projection of the frame). It adds
and removes places one by one, closes the map, and opens it again. It reports each finished call through a pipe.
SIGKILL ends it at a random moment. Then this process opens the map. Every acknowledged place must be there with its
descriptor, every acknowledged removal must be done, `PlaceMap.check` must find nothing, and queries for known frames
must find them. The next round uses the same map. In some rounds the index is deleted, or is some rounds old.

Damages: the index file is cut, overwritten with zeros, or has one bit flipped, at random points. Some files are of an
earlier state of the map. Each answer must equal that of an index built from the map alone. Opening finds some of the
damage, the first search that reads it finds more, and verifying, as in `structvpr map verify`, finds the rest. "read"
is allowed only if the damage changed no byte.

This does not test a power cut, because the page cache survives SIGKILL. Against power cuts, SQLite flushes its log
before COMMIT returns (`PRAGMA synchronous=FULL`), and each round asserts that the writing connection has this setting.
The medium must keep what it reports as flushed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

import sdk
from sdk.index import map_index
from sdk.index.file import index_path
from sdk.index.map_index import MapIndex

GRAPH_FROM = 100  # small, so that kills also hit the graph
PLACES = 400  # of the map whose index is damaged
EARLIER = 300  # places in the earlier state of the index


class FakeBackend:
    """A fixed random projection of the frame at 8 x 8 px. See `sdk.Backend`."""

    def __init__(self) -> None:
        self.contract = sdk.ModelContract("fake", "a" * 64, 48, 64, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self._projection = np.random.default_rng(0).normal(size=(192, 32)).astype(np.float32)

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        small = cv2.resize(batch[0], (8, 8), interpolation=cv2.INTER_AREA)
        return {"raw_descriptor": (small.reshape(-1).astype(np.float32) - 127.5) @ self._projection}

    def close(self) -> None:
        pass


def frame_of(number: int) -> npt.NDArray[np.uint8]:
    """The frame of the place with this number."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_NEAREST)


# ------------------------------------------------------------------ kills


@dataclass
class Kills:
    """Counts over all kills. All but the first four and `killed_while` must be 0."""

    kills: int = 0
    acknowledged: int = 0
    removals: int = 0
    unacknowledged_but_present: int = 0
    lost: int = 0
    returned: int = 0
    wrong_descriptors: int = 0
    failed_opens: int = 0
    findings: int = 0
    wrong_answers: int = 0
    not_flushed: int = 0
    killed_while: dict[str, int] = field(default_factory=dict)
    index_was: dict[str, int] = field(default_factory=dict)

    def violations(self) -> int:
        return (
            self.lost + self.returned + self.wrong_descriptors + self.failed_opens + self.findings
            + self.wrong_answers + self.not_flushed
        )  # fmt: skip


def write_until_killed(path: Path, start: int, seed: int, say: int) -> None:
    """The child. Each line it prints is a stage, or a number that it will remove (?), has added (+) or removed (-)."""
    choose = random.Random(seed)
    number, mine = start, []
    while True:
        os.write(say, b"opening\n")
        localizer = sdk.Localizer(FakeBackend(), path, create=True)
        if localizer.store.map.claim().execute("PRAGMA synchronous").fetchone() != (2,):
            os.write(say, b"!\n")
        os.write(say, b"adding\n")
        for _ in range(choose.randint(1, 30)):
            if mine and choose.random() < 0.1:
                gone, place_id = mine.pop(choose.randrange(len(mine)))
                os.write(say, b"? %d\n" % gone)
                localizer.remove(place_id)
                os.write(say, b"- %d\n" % gone)
            place = localizer.add(frame_of(number), sdk.Place(str(number)))
            os.write(say, b"+ %d\n" % number)
            mine.append((number, place.id))
            number += 1
        os.write(say, b"closing\n")
        localizer.close()


def kill_a_writer(path: Path, start: int, choose: random.Random) -> list[str]:
    """Kill a writing child at a random moment. Returns its output."""
    hear, say = os.pipe()
    seed, delay_s = choose.randrange(2**32), choose.choice((0.01, 0.05, 0.3)) * choose.random()
    child = os.fork()
    if child == 0:
        try:
            write_until_killed(path, start, seed, say)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(say)
    with os.fdopen(hear, "rb") as pipe:
        said = [pipe.readline()]  # the child is about to open the map
        if choose.random() < 0.4:
            while said[-1] not in (b"closing\n", b""):
                said.append(pipe.readline())
            delay_s = 0.005 * choose.random()
        time.sleep(delay_s)
        os.kill(child, signal.SIGKILL)
        said += pipe.readlines()
    _, status = os.waitpid(child, 0)
    lines = [line.decode().strip() for line in said if line.endswith(b"\n")]
    return lines if os.WIFSIGNALED(status) else [*lines, "failed"]


class Ledger:
    """Numbers that must, must not and may be in the map, and their contents."""

    def __init__(self) -> None:
        self.present: set[int] = set()
        self.removed: set[int] = set()
        self.rows: dict[int, npt.NDArray[np.float32]] = {}
        self._backend = FakeBackend()

    def row(self, number: int) -> npt.NDArray[np.float32]:
        if number not in self.rows:
            raw = self._backend.infer(sdk.prepare(frame_of(number), self._backend.contract.size))["raw_descriptor"]
            self.rows[number] = raw / np.linalg.norm(raw)
        return self.rows[number]

    def hear(self, lines: list[str], kills: Kills) -> None:
        stage, doubtful = "opening", set()
        for line in lines:
            word, _, number = line.partition(" ")
            if word == "+":
                self.present.add(int(number))
                kills.acknowledged += 1
            elif word == "?":
                self.present.discard(int(number))
                doubtful.add(int(number))
            elif word == "-":
                self.removed.add(int(number))
                kills.removals += 1
            elif word == "!":
                kills.not_flushed += 1
            elif word == "failed":
                kills.failed_opens += 1
            else:
                stage = word
        kills.killed_while[stage] = kills.killed_while.get(stage, 0) + 1


def look(path: Path, ledger: Ledger, kills: Kills, choose: random.Random) -> None:
    """Open the map as after a crash, and compare it with the ledger."""
    if not path.exists():  # killed before it was created
        kills.lost += len(ledger.present)
        return
    try:
        localizer = sdk.Localizer(FakeBackend(), path)
    except sdk.Error as error:
        print(f"cannot be opened: {error}", file=sys.stderr)
        kills.failed_opens += 1
        return
    findings = localizer.store.map.check()
    for finding in findings:
        print(finding, file=sys.stderr)
    kills.findings += len(findings)
    found = {int(place.name): place.id for place in localizer.store.map.all_places()}
    kills.lost += len(ledger.present - found.keys())
    kills.returned += len(ledger.removed & found.keys())
    kills.unacknowledged_but_present += len(found.keys() - ledger.present)
    ledger.present = set(found)
    number_of = {place_id: number for number, place_id in found.items()}
    for pairs in localizer.store.map.stored():
        expected = np.stack([ledger.row(number_of[place_id]) for place_id, _ in pairs])
        kills.wrong_descriptors += int((np.abs(localizer.store.map.decode(pairs) - expected).max(axis=1) > 2e-3).sum())
    kills.wrong_answers += len(localizer.store.index) != len(found)
    for number in choose.sample(sorted(found), min(10, len(found))):
        place = localizer.query(frame_of(number), k=1).place
        kills.wrong_answers += place is None or place.name != str(number)
    origin = localizer.store.index.origin.split()[0].rstrip(":")
    kills.index_was[origin] = kills.index_was.get(origin, 0) + 1
    if choose.random() < 0.5:
        localizer.close()
    else:
        localizer.store.index.stop()
        localizer.store.map.close()  # the index stays old
    if choose.random() < 0.1:
        index_path(path).unlink(missing_ok=True)


def run_kills(folder: Path, count: int, seed: int) -> Kills:
    """Kill `count` writers of one map."""
    choose, kills, ledger, path = random.Random(seed), Kills(), Ledger(), folder / "killed.places"
    map_index.GRAPH_FROM = GRAPH_FROM
    for i in range(count):
        lines = kill_a_writer(path, i * 100_000, choose)
        kills.kills += 1
        ledger.hear(lines, kills)
        look(path, ledger, kills, choose)
        progress("kills", i + 1, count)
    litter = [entry.name for entry in folder.iterdir() if ".new-" in entry.name]
    if litter:
        print(f"left behind, and harmless: {litter}", file=sys.stderr)
    return kills


# ------------------------------------------------------------------ damages


@dataclass
class Damages:
    """Origins of the index after each damage. `wrong_answers` and `believed` must be 0."""

    damages: int = 0
    changed_nothing: int = 0
    rebuilt: int = 0
    extended: int = 0
    read: int = 0
    believed: int = 0
    wrong_answers: int = 0

    def violations(self) -> int:
        return self.believed + self.wrong_answers


def damaged(content: bytes, choose: random.Random) -> bytes:
    """The index file, cut, with zeros in it, or with one bit flipped."""
    at = choose.randrange(len(content))
    kind = choose.choice(("cut", "zero", "flip"))
    if kind == "cut":
        return content[:at]
    if kind == "zero":
        length = choose.choice((1, 8, 100, len(content)))
        return content[:at] + bytes(min(length, len(content) - at)) + content[at + length :]
    return content[:at] + bytes([content[at] ^ (1 << choose.randrange(8))]) + content[at + 1 :]


def run_damages(folder: Path, kind: str, count: int, seed: int) -> Damages:
    """Damage the index of one map `count` times; `kind` is "scan" or "graph"."""
    map_index.GRAPH_FROM = 1 if kind == "graph" else sys.maxsize
    choose, damages, path = random.Random(seed), Damages(), folder / f"{kind}.places"
    indexes = []
    for first, last in ((0, EARLIER), (EARLIER, PLACES)):
        with sdk.Localizer(FakeBackend(), path, create=True) as localizer:
            localizer.add_many((frame_of(number), sdk.Place(str(number))) for number in range(first, last))
        with sdk.Localizer(FakeBackend(), path) as localizer:
            localizer.store.index.build_graph()
        indexes.append(index_path(path).read_bytes())
    ledger = Ledger()
    queries = np.stack([ledger.row(number) for number in [*range(0, PLACES, 10), *range(10**6, 10**6 + 40)]])
    expected = answers(path, queries)[1]
    for i in range(count):
        earlier = choose.random() < 0.25
        content = indexes[0] if earlier else indexes[1]
        broken = damaged(content, choose)
        index_path(path).write_bytes(broken)
        word, got = answers(path, queries, delete=False)
        damages.damages += 1
        damages.changed_nothing += broken == content
        damages.rebuilt += word == "rebuilt"
        damages.extended += word == "extended"
        damages.read += word == "read"
        damages.believed += word != "rebuilt" and broken != content
        damages.wrong_answers += not all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
        progress(f"damages, {kind}", i + 1, count)
    return damages


def answers(path: Path, queries: npt.NDArray[np.float32], delete: bool = True) -> tuple[str, tuple[object, object]]:
    """The index's origin, and the ids and similarities of its answers. `delete` rebuilds it, for the truth."""
    if delete:
        index_path(path).unlink()
    place_map = sdk.PlaceMap.open(path)
    with contextlib.closing(place_map):
        index = MapIndex(place_map)
        opened = index.origin.split()[0].rstrip(":")
        got = index.search(queries, 5)  # scan and graph give the same answers
        index.verify()
        index.stop()
        return "rebuilt" if index.origin.startswith("rebuilt") else opened, got


# ------------------------------------------------------------------ the command


def progress(what: str, done: int, total: int) -> None:
    if done == total or done % max(1, total // 10) == 0:
        print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="writers to kill (default: 200)")
    parser.add_argument(
        "--damages", type=int, default=200, help="damages to the index, each with and without a graph (default: 200)"
    )
    parser.add_argument("--quick", action="store_true", help="20 kills and 20 damages")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments and points (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.kills = arguments.damages = 20
    cv2.setNumThreads(0)  # OpenCV's threads do not survive a fork
    folder = Path(tempfile.mkdtemp(prefix="map_crash-"))
    try:
        kills = run_kills(folder, arguments.kills, arguments.seed)
        damages = {kind: run_damages(folder, kind, arguments.damages, arguments.seed) for kind in ("scan", "graph")}
    finally:
        shutil.rmtree(folder)
    violations = kills.violations() + sum(each.violations() for each in damages.values())
    record = {
        "seed": arguments.seed,
        "kills": asdict(kills),
        "damages": {kind: asdict(each) for kind, each in damages.items()},
        "violations": violations,
    }
    for title, figures in (("kills", record["kills"]), *((f"damages, {k}", d) for k, d in record["damages"].items())):
        print(f"\n{title}")
        for name, value in figures.items():
            text = ", ".join(f"{key} {n}" for key, n in sorted(value.items())) if isinstance(value, dict) else value
            print(f"  {name.replace('_', ' '):28} {text}")
    print(f"\nviolations {violations}")
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
