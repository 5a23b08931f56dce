"""Damaged files, wrong calls, and readers beside a writer: our index next to its peers.

    pip install hnswlib faiss-cpu usearch
    python benchmarks/robustness --quick          2,000 files, under a minute
    python benchmarks/robustness --minutes 10     100,000 files
    python benchmarks/robustness --replay 4711    one file again, in this process

Files: each is a valid file with accidental damage (bits flipped, cut, spliced with another, a block lost) or crafted
damage with right checksums (header, links, values, and headers that ask for much memory). It is opened, searched by
every method and verified; some are changed, saved and read again. A file with accidental damage must be refused or give
unchanged answers, and `verify`, a change and a save must refuse it. A crafted file may be refused or answer otherwise.
It must not crash, hang, or take memory beyond the file's size, and each answer must have the requested number of
different ids of the file, best first. The peers get the same kinds of damage, one process per file.

Calls: a wrong call must raise TypeError, ValueError or IndexFileError with the reason, and leave the index and its
answers unchanged. Writers: one thread adds and removes while three search; each answer must be right for some moment of
the call.

Everything runs in child processes with a limit of 2 GiB and a watchdog. Exit code 1: ours fails in any of this.
"""

from __future__ import annotations

import os
import sys

SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_PERTURB_": "165",  # fills unwritten and freed memory with non-zero bytes
}
if __name__ == "__main__" and any(os.environ.get(name) != value for name, value in SETTINGS.items()):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **SETTINGS})

import argparse  # noqa: E402
import json  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import tempfile  # noqa: E402
from collections import Counter  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from children import Bar, in_children  # noqa: E402
from damaged_files import unit_rows  # noqa: E402
from libraries import LIBRARIES, PEERS, filled  # noqa: E402
from verdicts import BAD, KINDS, OUTCOMES, PEER_KINDS, OurFiles, PeerFiles  # noqa: E402
from writers import soak  # noqa: E402
from wrong_calls import CASES, DIM, ROWS, try_case  # noqa: E402

EXAMPLES = 3  # files kept per kind of failure


def table(title: str, head: list[str], lines: list[list[Any]]) -> None:
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for line in lines:
        print(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |", flush=True)


def run_files(arguments: argparse.Namespace, folder: Path, record: dict[str, Any], failures: list[str]) -> None:
    ours = OurFiles(folder, arguments.seed)
    counts: dict[tuple[str, str], Counter[str]] = {}
    kept: Counter[str] = Counter()
    bar = Bar("files, ours", arguments.files)
    for number, outcome, detail in in_children(ours.judge, list(range(arguments.files)), 500, 20):
        counts.setdefault(("ours", KINDS[number % len(KINDS)]), Counter())[outcome] += 1
        bar.step(outcome in BAD)
        if outcome in BAD:
            what = f"{KINDS[number % len(KINDS)]}: {outcome}, {' '.join(detail.split()[:2])}"
            kept[what] += 1
            if kept[what] <= EXAMPLES:
                name = arguments.keep / f"{arguments.seed}-{number}-{outcome}"
                _, base, _, _ = ours.make(number, name)
                failures.append(
                    f"file {number}, {what}\n    {detail[:300]}\n    {base.shape}\n    kept as {name}; again: "
                    f"--replay {number} --seed {arguments.seed}"
                )
    failures += [f"files, {what}: {count} in all" for what, count in kept.items()]
    for peer in PEERS:
        theirs = PeerFiles(peer, folder, arguments.seed)
        bar = Bar(f"files, {peer}", len(PEER_KINDS) * arguments.peer_files)
        for number, outcome, _ in in_children(theirs.judge, list(range(len(PEER_KINDS) * arguments.peer_files)), 1, 20):
            kind = PEER_KINDS[number % len(PEER_KINDS)]
            counts.setdefault((peer, kind), Counter())[outcome] += 1
            bar.step(outcome in BAD)
    lines = [[who, kind, sum(n.values()), *(n[name] or "" for name in OUTCOMES)] for (who, kind), n in counts.items()]
    for who in LIBRARIES:
        all_of = sum((n for (name, _), n in counts.items() if name == who), Counter())
        lines.append([f"**{who}**", "all", all_of.total(), *(all_of[name] for name in OUTCOMES)])
    table("Damaged files", ["library", "damage", "files", *OUTCOMES], lines)
    record["files"] = [{"library": who, "damage": kind, **n} for (who, kind), n in counts.items()]


def run_calls(arguments: argparse.Namespace, record: dict[str, Any], failures: list[str]) -> None:
    rows = unit_rows(np.random.default_rng(arguments.seed), ROWS, DIM)
    said: dict[str, dict[str, tuple[str, str]]] = {case.name: {} for case in CASES}
    for name in LIBRARIES:
        library = filled(name, rows, room=ROWS + 100)
        cases = [case for case in CASES if name == "ours" or not case.only_ours]
        bar = Bar(f"calls, {name}", len(cases))
        for number, outcome, detail in in_children(
            lambda i, library=library, cases=cases: try_case(library, rows, cases[i]), list(range(len(cases))), 1, 30
        ):
            said[cases[number].name][name] = (outcome, detail)
            bar.step(outcome not in ("accepted", "refused", "-"))
            if name == "ours" and outcome not in ("accepted", "refused"):
                failures.append(f"{cases[number].name}: {outcome}, {detail}")

    def cell(outcome: str, detail: str) -> str:
        text = f"**{outcome}** {detail}" if outcome not in ("accepted", "refused", "-") else detail or outcome
        return text if len(text) < 100 else text[:97] + "..."

    lines = [[case, *(cell(*answers.get(name, ("-", ""))) for name in LIBRARIES)] for case, answers in said.items()]
    table("Calls", ["call", *LIBRARIES], lines)
    record["calls"] = said


def run_writers(arguments: argparse.Namespace, record: dict[str, Any], failures: list[str]) -> None:
    lines, record["writers"] = [], {}
    for name in LIBRARIES:
        seconds = 60 * arguments.minutes if name == "ours" else min(60 * arguments.minutes, 10)
        print(f"writer beside three readers, {name}, {seconds:.0f} s", file=sys.stderr)
        work = soak(name, seconds, arguments.seed)
        ((_, outcome, detail),) = in_children(work, [0], 1, seconds + 60)
        figures = json.loads(detail) if outcome == "done" else {"example": f"{outcome}: {detail.partition(' in ')[0]}"}
        record["writers"][name] = figures
        columns = ("seconds", "rounds", "added", "removed", "answers", "errors", "wrong", "recall", "built_at_once")
        lines.append([name, *(figures.get(column, "-") for column in columns), figures.get("example", "")[:120]])
        if name != "ours":
            continue
        if outcome != "done" or figures["errors"] or figures["wrong"]:
            failures.append(f"writer beside readers: {figures}")
        elif figures["recall"] < figures["built_at_once"] - 0.01:
            failures.append(f"recall@10 after adding is below that of an index built at once: {figures}")
    head = ["library", "seconds", "rounds", "added", "removed", "answers", "errors", "wrong", "recall@10", "at once"]
    table("One writer, three readers", [*head, "the first of them"], lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 files, 10 of a kind for the peers, 5 s of writing")
    parser.add_argument("--files", type=int, default=100_000, help="damaged files for our index (default: 100000)")
    parser.add_argument(
        "--peer-files", type=int, default=300, metavar="N", help="files per kind and peer (default: 300)"
    )
    parser.add_argument("--minutes", type=float, default=1, help="minutes of writing beside readers (default: 1)")
    parts = ("files", "calls", "writers")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, metavar="PART", help=" ".join(parts))
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    keep = Path(tempfile.gettempdir()) / "structvpr-robustness"
    parser.add_argument("--keep", type=Path, default=keep, metavar="DIR", help=f"folder of files that failed ({keep})")
    parser.add_argument("--replay", type=int, metavar="N", help="run only file N, in this process")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.files, arguments.peer_files, arguments.minutes = 2000, 10, 5 / 60
    arguments.keep.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # removes the files in memory too
    memory = Path("/dev/shm")  # flushing is free there
    quick_disk = memory.is_dir() and arguments.replay is None  # a replay may crash and leave its files
    folder = Path(tempfile.mkdtemp(prefix="search_robustness-", dir=memory if quick_disk else None))
    record: dict[str, Any] = {"seed": arguments.seed, "quick": arguments.quick}
    failures: list[str] = []
    try:
        if arguments.replay is not None:
            ours = OurFiles(folder, arguments.seed)
            outcome, detail = ours.judge(arguments.replay)
            print(KINDS[arguments.replay % len(KINDS)], outcome, detail)
            return outcome in BAD
        if "files" in arguments.only:
            run_files(arguments, folder, record, failures)
        if "calls" in arguments.only:
            run_calls(arguments, record, failures)
        if "writers" in arguments.only:
            run_writers(arguments, record, failures)
    finally:
        shutil.rmtree(folder)
    print()
    for failure in failures:
        print(f"FAILED: {failure}")
    print(f"failures of ours: {len(failures)}")
    record["failures"] = failures
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
