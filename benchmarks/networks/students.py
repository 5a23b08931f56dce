"""Compare networks on data sets, query by query.

    python benchmarks/networks/students.py --sets gardens_point corridor \
        --models rgb0.onnx,rgb1.onnx ours0.onnx,ours1.onnx

Each argument of --models is one network, or one recipe trained with several seeds (files separated by commas). For each
set and protocol it prints R@1, R@5 and R@10 in percent, as mean and standard deviation over seeds. It also prints the
difference of R@1 to the first of --models with a 95 % bootstrap interval over queries and seeds. Images are described
one by one, without the order of the traverse. Sets are folders that `structvpr eval` reads, or names below
$STRUCTVPR_DATA. --calc adds CALC, which takes grey images.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sdk import open_backend, prepare, read_image
from sdk._core import l2_normalize
from sdk.cli.console import print_table, progress_bars
from sdk.evaluation.recall import rank
from sdk.evaluation.sets import find_dataset, read_frame_sets
from training.studies.ablation_report import compare_paired

VALUES = (1, 5, 10)

Floats = npt.NDArray[np.float32]
Describe = Callable[[Path], Floats]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", required=True, help="ONNX files; seeds of one recipe separated by commas"
    )
    parser.add_argument("--sets", nargs="+", required=True, help="folders, or names below $STRUCTVPR_DATA")
    parser.add_argument("--tolerance_frames", nargs="+", type=int, default=[1, 3, 8])
    parser.add_argument("--calc", type=Path, help="ONNX file of CALC (Merrill and Huang, RSS 2018), as a last row")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    networks = {text: [open_network(Path(name)) for name in text.split(",")] for text in arguments.models}
    if arguments.calc:
        networks[str(arguments.calc)] = [open_calc(arguments.calc)]
    found = []
    with progress_bars() as tell:
        for name in arguments.sets:
            sets = read_frame_sets(find_dataset(name), arguments.tolerance_frames)
            answers: dict[str, list[list[npt.NDArray[np.int64]]]] = {}
            for text, seeds in networks.items():
                for describe in seeds:
                    database = describe_all(describe, sets[0].database, f"{name} database", tell)
                    asked = [describe_all(describe, one.queries, f"{name} {one.name}", tell) for one in sets]
                    answers.setdefault(text, []).append([rank(rows, database, max(VALUES)) for rows in asked])
            for i, one in enumerate(sets):
                for protocol, positives in one.protocols.items():
                    right = {
                        text: np.stack([first_right(seed[i], positives) for seed in seeds])  # (S, Q)
                        for text, seeds in answers.items()
                    }
                    found += compare(f"{name} {one.name}, {protocol}", right)
    if arguments.json:
        print(json.dumps({"command": " ".join(sys.argv), "results": found}, indent=2))
        return
    for title in dict.fromkeys(row["set"] for row in found):
        rows = [row for row in found if row["set"] == title]
        print_table(
            [title, "seeds", *(f"R@{k}" for k in VALUES), "R@1 against the first"], [shown(row) for row in rows]
        )
        print()


def open_network(path: Path) -> Describe:
    backend = open_backend(path)

    def describe(image: Path) -> Floats:
        return l2_normalize(backend.infer(prepare(read_image(image), backend.contract.size))["raw_descriptor"])

    return describe


def open_calc(path: Path) -> Describe:
    """CALC with its authors' input: grey 160 x 120 (width x height), equalised luma, 0 to 1."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]

    def describe(image: Path) -> Floats:
        luma = cv2.cvtColor(read_image(image), cv2.COLOR_RGB2YUV)[..., 0]
        grey = cv2.resize(cv2.equalizeHist(luma), (160, 120), interpolation=cv2.INTER_CUBIC)
        shape = [side if isinstance(side, int) else 1 for side in taken.shape]
        row = session.run(None, {taken.name: (grey.astype(np.float32) / 255.0).reshape(shape)})[0]
        return l2_normalize(row.reshape(1, -1))[0]

    return describe


def describe_all(
    describe: Describe, images: Sequence[Path], what: str, tell: Callable[[str, int, int], None]
) -> Floats:
    rows = []
    for done, image in enumerate(images, start=1):
        rows.append(describe(image))
        tell(what, done, len(images))
    return np.stack(rows)


def first_right(ranked: npt.NDArray[np.int64], positives: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Rank of each query's first right answer, from 1; number of answers + 1 if none is right."""
    found = []
    for answers, true in zip(ranked, positives, strict=True):
        if len(true) > 0:  # queries without a true place are left out
            hits = np.flatnonzero(np.isin(answers, true))
            found.append(int(hits[0]) + 1 if len(hits) else len(answers) + 1)
    return np.array(found)


def compare(title: str, right: dict[str, npt.NDArray[np.int64]]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    first = next(iter(right.values()))
    for text, ranks in right.items():
        recalls = {f"R@{k}": [100.0 * float((seed <= k).mean()) for seed in ranks] for k in VALUES}
        row: dict[str, object] = {
            "set": title,
            "model": text,
            "seeds": len(ranks),
            "queries": ranks.shape[1],
            **recalls,
        }
        if ranks is not first:
            found = compare_paired(ranks, first)
            row |= {"difference": found.difference, "low": found.low, "high": found.high}
        rows.append(row)
    return rows


def shown(row: dict[str, object]) -> list[str]:
    cells = [", ".join(Path(name).stem for name in str(row["model"]).split(",")), str(row["seeds"])]
    for k in VALUES:
        values = np.array(row[f"R@{k}"])
        cells.append(f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""))
    cells.append(f"{row['difference']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]" if "difference" in row else "")
    return cells


if __name__ == "__main__":
    main()
