"""The paper's ablation: which pairs are distilled, everything else equal.

Each run is a row and a seed. Runs of one seed share the two branches of stage 1, and "None" is the RGB branch of
stage 1 itself: the paper's "None 0 %" row. Each finished run is a file in `rows/`; what is there is not run again, so
an ablation can be interrupted, and seeds can be run by several processes into one folder.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdk import ContractError
from sdk.atomic_file import replace_when_done

from ..inputs.image_store import LabelStore
from ..inputs.material import Material
from ..loop.stages import Workshop, compare_branches, rgb_inputs, seg_inputs, train_rgb_branch, train_seg_branch
from ..loop.train import Trained, ranks_on
from ..networks.descriptor_net import DescriptorNet
from ..objective.distillation import Teacher
from ..objective.ranking import recall_percent
from ..recipe import Recipe, write_recipe

__all__ = ["ROWS", "Row", "count_runs", "rows_of", "run_ablation", "scan"]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: of its files and on the command line.
        title: in the table.
        pairs: which are distilled, see `training.objective.weighting.selected`.
        weight_form: of phi.
        shuffled: the teacher learnt from label maps that were dealt to other images.
        confidence: phi is multiplied with the confidence of the label maps.
        paper: R@1, R@5, R@10 of the paper's row on MSLS val, percent.
    """

    name: str
    title: str
    pairs: str = "none"
    weight_form: str = "flat"
    shuffled: bool = False
    confidence: bool = False
    paper: tuple[float, ...] | None = None

    def change(self, recipe: Recipe) -> Recipe:
        """The recipe of this row's stage 2."""
        changed = {"pairs": self.pairs, "weight_form": self.weight_form, "confidence_weight": self.confidence}
        return dataclasses.replace(recipe, **changed)  # type: ignore[arg-type]


# The paper's figures: the authors' poster, distillation ablation, MSLS val.
ROWS = (
    Row("none", "None (RGB branch alone)", paper=(75.8, 85.3, 87.3)),
    Row("seg", "segmentation branch alone"),
    Row("all", "All, unweighted", "all", paper=(78.4, 87.4, 90.1)),
    Row("d1", "D1", "d1", paper=(78.8, 89.2, 91.1)),
    Row("d2", "D2", "d2", paper=(80.0, 88.8, 90.6)),
    Row("d3", "D3", "d3", paper=(77.7, 87.4, 89.2)),
    Row("a1", "A1 = D1 + D2 + D3, unweighted", "a1", paper=(81.0, 88.9, 91.2)),
    Row("d4", "D4", "d4", paper=(71.6, 83.7, 85.1)),
    Row("b1", "B1 (student wrong)", "b1"),
    Row("b2", "B2 (student right)", "b2", paper=(73.8, 82.7, 85.6)),
    Row("ours", "ours = A1, weighted", "a1", "log_rank", paper=(83.0, 91.0, 92.6)),
    Row("linear", "A1, linear weights", "a1", "linear"),
    Row("confidence", "ours, times confidence", "a1", "log_rank", confidence=True),
    Row("shuffled", "ours, teacher of shuffled labels", "a1", "log_rank", shuffled=True),
)
BY_NAME = {row.name: row for row in ROWS}
# What a run without distillation does not depend on.
OF_PAIRS = {
    *("rank_threshold", "weight_form", "weight_tau", "most_rank", "pairs", "confidence_weight"),
    *("distil", "distil_positive", "projection", "projection_lr_factor"),
}


def rows_of(text: str) -> list[str]:
    """Names of rows: "all", or some with commas between them.

    "all" leaves out "confidence", whose label maps need one each.

    Raises:
        ContractError: there is no such row.
    """
    names = [row.name for row in ROWS if not row.confidence] if text == "all" else text.split(",")
    if unknown := [name for name in names if name not in BY_NAME]:
        raise ContractError(f"row {unknown[0]!r} found, expected some of {', '.join(BY_NAME)}; correct --rows")
    return names


def count_runs(names: Sequence[str], seeds: int) -> int:
    """How many branches are trained for these rows, with those of stage 1."""
    shared = {"rgb"} | ({"seg"} if set(names) - {"none", "shuffled"} else set())
    shared |= {"seg-shuffled"} if "shuffled" in names else set()
    return seeds * len(shared | (set(names) - {"none", "seg"}))


def run_ablation(
    workshop: Workshop, test: Material, recipe: Recipe, folder: Path, rows: Sequence[str], seeds: Sequence[int]
) -> None:
    """Run what is not there yet of `rows` times `seeds`.

    Args:
        workshop: training and validation sets.
        test: the held-out set that rows are compared on.
        recipe: of all rows; a row changes its pairs, weights and seed.
        folder: for `rows/` and a folder of each seed.
        rows: names in `ROWS`, see `rows_of`.
        seeds: >= 0.

    Raises:
        ContractError: `folder` holds a row of another recipe or test set.
    """
    for seed in seeds:
        one = _Seed(workshop, test, dataclasses.replace(recipe, seed=seed), folder)
        for name in rows:
            if not one.is_done(BY_NAME[name]):
                one.run(BY_NAME[name])


def scan(
    workshop: Workshop, recipe: Recipe, folder: Path, name: str, values: Sequence[float], *, distilled: bool
) -> float:
    """Try values of one figure of the recipe; the one with the best R@5 on validation.

    Args:
        workshop: training and validation sets.
        recipe: everything else.
        folder: for a folder of each value.
        name: of the figure, e.g. "lr".
        values: to try, >= 1.
        distilled: whether to train with the paper's distillation, else the RGB branch alone.
    """
    if len(values) == 1:
        return values[0]
    found = {}
    for value in values:
        tried = dataclasses.replace(recipe, **{name: value})  # type: ignore[arg-type]
        at = folder / f"{name}-{value:g}"
        teacher = None
        if distilled:
            ours = BY_NAME["ours"].change(tried)
            teacher, tried = _Seed(workshop, workshop.validation, recipe, folder.parent).teacher(ours), ours
        found[value] = train_rgb_branch(workshop, tried, at, teacher)[1].metrics
    best = max(values, key=lambda value: found[value]["R@5"])
    record = {"figure": name, "validation": {f"{value:g}": found[value] for value in values}, "chosen": best}
    if workshop.processes.is_first:
        _write_json(folder / f"{name}.json", record)
    return best


class _Seed:
    """The runs of one seed, and the branches of stage 1 that they share."""

    def __init__(self, workshop: Workshop, test: Material, recipe: Recipe, folder: Path) -> None:
        self._workshop, self._test, self._recipe, self._folder = workshop, test, recipe, folder
        self._own = folder / f"seed-{recipe.seed}"

    def is_done(self, row: Row) -> bool:
        """Whether the run is there; one of another recipe or test set is an error, or tables would mix them."""
        path = self._row_file(row.name)
        if not path.exists():
            return False
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            same = (found["test_set"], found["recipe"]) == (self._test.digest, self._matters(row))
        except (OSError, ValueError, KeyError):
            raise ContractError(f"{path}: cannot be read, expected a finished run; remove it") from None
        if not same:
            raise ContractError(
                f"{path} is of another recipe or test set, expected the same for all rows of a table; give another "
                "folder, or remove it"
            )
        return True

    def _matters(self, row: Row) -> dict[str, Any]:
        """The recipe of a row, without what concerns pairs where none are distilled."""
        recipe = write_recipe(row.change(self._recipe))
        if row.pairs != "none":
            return recipe
        return {name: value for name, value in recipe.items() if name not in OF_PAIRS}

    def run(self, row: Row) -> None:
        processes = self._workshop.processes
        if row.name == "seg":
            net, trained = self._seg(shuffled=False)
            inputs: Any = seg_inputs(self._test, self._recipe, processes)
            shares: dict[str, float] = {}
        else:
            recipe = row.change(self._recipe)
            if row.pairs == "none":
                net, trained = self._rgb()
                shares = {}
            else:
                teacher = self.teacher(recipe, shuffled=row.shuffled)
                shares = teacher.pairs.shares
                net, trained = train_rgb_branch(self._workshop, recipe, self._own / row.name, teacher)
            inputs = rgb_inputs(self._test, net, self._recipe, processes)
        telling = self._workshop.telling("describing test")
        ranks = ranks_on(net, self._test.data, inputs, self._recipe, processes, telling)
        record = {
            "row": row.name,
            "seed": self._recipe.seed,
            "recipe": self._matters(row),
            "test_set": self._test.digest,
            "passes": trained.passes,
            "seconds": round(trained.seconds, 1),
            "step": trained.step,
            "validation": trained.metrics,
            "test": recall_percent(ranks),
            "pairs_percent": shares,
            "test_ranks": ranks.tolist(),
        }
        if processes.is_first:
            _write_json(self._row_file(row.name), record)
        processes.wait()

    def teacher(self, recipe: Recipe, *, shuffled: bool = False) -> Teacher:
        """What the segmentation branch teaches under this recipe's selection and weights."""
        rgb, _ = self._rgb()
        seg, _ = self._seg(shuffled=shuffled)
        workshop = self._shuffled() if shuffled else self._workshop
        where = self._own / ("pairs-shuffled" if shuffled else "pairs")
        return compare_branches(workshop, recipe, where, seg, rgb)

    def _rgb(self) -> tuple[DescriptorNet, Trained]:
        return train_rgb_branch(self._workshop, BY_NAME["none"].change(self._recipe), self._own / "rgb")

    def _seg(self, *, shuffled: bool) -> tuple[DescriptorNet, Trained]:
        recipe = BY_NAME["none"].change(self._recipe)
        if shuffled:
            return train_seg_branch(self._shuffled(), recipe, self._own / "seg-shuffled")
        return train_seg_branch(self._workshop, recipe, self._own / "seg")

    def _shuffled(self) -> Workshop:
        """The same, with label maps dealt to other images of the same set."""
        training, validation = (
            dataclasses.replace(material, labels=self._deal(material.label_store()))
            for material in (self._workshop.training, self._workshop.validation)
        )
        return dataclasses.replace(self._workshop, training=training, validation=validation)

    def _deal(self, labels: LabelStore) -> LabelStore:
        # Along one cycle through all images, so that none keeps its own.
        rng = np.random.default_rng([self._recipe.seed, 0x5DEA])
        cycle = rng.permutation(len(labels.maps))
        given = np.empty(len(cycle), np.int64)
        given[cycle] = np.roll(cycle, 1)
        return labels.dealt(given)

    def _row_file(self, name: str) -> Path:
        return self._folder / "rows" / f"{name}-{self._recipe.seed}.json"


def _write_json(path: Path, record: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_when_done(path) as temporary:
        temporary.write_text(json.dumps(record) + "\n", encoding="utf-8")
