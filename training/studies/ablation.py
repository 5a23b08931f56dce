"""The paper's ablation: runs that differ only in the pairs that are distilled.

A run is a row and a seed. Runs of one seed share the two branches of stage 1. The row "none" is the RGB branch of
stage 1 itself, the paper's "None 0 %". Each finished run is a file in `rows/` and is not repeated. So an ablation can
be interrupted, and several processes can run different seeds into one folder.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdk import ContractError, DataError, UsageError

from ..inputs.batches import rgb_set, seg_set
from ..inputs.image_store import LabelStore
from ..inputs.material import Material
from ..json_files import write_json
from ..loop.context import TrainingContext
from ..loop.describing import ranks_on
from ..loop.stages import TrainedBranch, compare_branches, fit_to_minutes, train_rgb_branch, train_seg_branch
from ..objective.distillation import Teacher
from ..objective.ranking import recall_percent
from ..recipe import Recipe, change_recipe, write_recipe

__all__ = ["ROWS", "AblationPlan", "Row", "rows_of", "run_ablation"]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: of its files and on the command line.
        title: in the table.
        pairs: which pairs are distilled, see `training.objective.weighting.selected`.
        weight_form: of phi.
        shuffled: the teacher learns from label maps that belong to other images.
        confidence: phi is multiplied by the confidence of the label maps.
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
        return dataclasses.replace(
            recipe, pairs=self.pairs, weight_form=self.weight_form, confidence_weight=self.confidence
        )


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
# Values of a recipe that do not affect a run without distillation.
OF_PAIRS = {
    *("rank_threshold", "weight_form", "weight_tau", "most_rank", "pairs", "confidence_weight"),
    *("distil", "distil_positive", "projection", "projection_lr_factor"),
}


def rows_of(text: str) -> list[str]:
    """Names of rows: "all", or names with commas between them.

    "all" leaves out "confidence", which needs the confidence of each label map.

    Raises:
        UsageError: there is no such row.
    """
    names = [row.name for row in ROWS if not row.confidence] if text == "all" else text.split(",")
    if unknown := [name for name in names if name not in BY_NAME]:
        raise UsageError(f"--rows has {unknown[0]!r}, expected some of {', '.join(BY_NAME)}")
    return names


@dataclass(frozen=True)
class AblationPlan:
    """What an ablation runs.

    Attributes:
        rows: names in `ROWS`, see `rows_of`.
        seeds: each row runs once per seed, >= 0.
        lr_scan: learning rates to try for the RGB branch alone. The best one serves all rows. () for no scan.
        distil_scan: weights of the distillation loss to try for the row "ours", in the same way.

    Raises:
        UsageError: a seed is negative.
    """

    rows: Sequence[str]
    seeds: Sequence[int]
    lr_scan: Sequence[float] = ()
    distil_scan: Sequence[float] = ()

    def __post_init__(self) -> None:
        if min(self.seeds) < 0:
            raise UsageError(f"--seeds has {min(self.seeds)}, expected 0 or more")

    @property
    def scans(self) -> dict[str, Sequence[float]]:
        """The values to try, by their name in the recipe."""
        return {"lr": self.lr_scan, "distil": self.distil_scan}

    @property
    def runs(self) -> int:
        """Number of branches to train, stage 1 included."""
        names = set(self.rows)
        shared = {"rgb"} | ({"seg"} if names - {"none", "shuffled"} else set())
        shared |= {"seg-shuffled"} if "shuffled" in names else set()
        return len(self.seeds) * len(shared | (names - {"none", "seg"})) + sum(map(len, self.scans.values()))

    def check(self, recipe: Recipe) -> None:
        """Raise UsageError if a value to try is out of range."""
        for name, values in self.scans.items():
            for value in values:
                change_recipe(recipe, **{name: value})


def run_ablation(
    context: TrainingContext,
    test: Material,
    recipe: Recipe,
    folder: Path,
    plan: AblationPlan,
    minutes: float | None = None,
) -> Recipe:
    """Run the missing rows of an ablation. Returns the recipe that the rows share after the scans.

    Args:
        context: training and validation sets.
        test: the held-out set that rows are compared on.
        recipe: of all rows; a row changes its pairs, weights and seed.
        folder: for `rows/`, `scans/` and a folder per seed.
        plan: rows, seeds and scans.
        minutes: choose the image passes so that all runs take about this long here.

    Raises:
        ContractError: `folder` holds a row of another recipe or test set.
        DataError: a finished row cannot be read.
    """
    if "seg" in plan.rows:
        test.label_store()  # reports missing label maps before the first run
    if minutes is not None:
        recipe = fit_to_minutes(context, recipe, folder, minutes, runs=plan.runs)
    for name, values in plan.scans.items():
        if values:
            recipe = change_recipe(recipe, **{name: _scan(context, recipe, folder / "scans", name, values)})
    for seed in plan.seeds:
        one = _Seed(context, test, change_recipe(recipe, seed=seed), folder)
        for row in plan.rows:
            if not one.is_done(BY_NAME[row]):
                one.run(BY_NAME[row])
    return recipe


def _scan(context: TrainingContext, recipe: Recipe, folder: Path, name: str, values: Sequence[float]) -> float:
    """Try several values of one recipe entry. Returns the one with the best validation R@5."""
    if len(values) == 1:
        return values[0]
    found = {}
    for value in values:
        tried, teacher = change_recipe(recipe, **{name: value}), None
        if name == "distil":
            tried = BY_NAME["ours"].change(tried)
            teacher = _Seed(context, context.validation, recipe, folder.parent).teacher(tried)
        found[value] = train_rgb_branch(context, tried, folder / f"{name}-{value:g}", teacher)[1].metrics
    best = max(values, key=lambda value: found[value]["R@5"])
    if context.processes.is_first:
        record = {"figure": name, "validation": {f"{value:g}": found[value] for value in values}, "chosen": best}
        write_json(folder / f"{name}.json", record)
    return best


class _Seed:
    """The runs of one seed, and the branches of stage 1 that they share."""

    def __init__(self, context: TrainingContext, test: Material, recipe: Recipe, folder: Path) -> None:
        self._context, self._test, self._recipe, self._folder = context, test, recipe, folder
        self._own = folder / f"seed-{recipe.seed}"

    def is_done(self, row: Row) -> bool:
        """Whether the run is finished. One with another recipe or test set is an error: a table must not mix them."""
        path = self._row_file(row.name)
        if not path.exists():
            return False
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            same = (found["test_set"], found["recipe"]) == (self._test.digest, self._matters(row))
        except (OSError, ValueError, KeyError):
            raise DataError(f"{path}: cannot read this finished run; remove it") from None
        if not same:
            raise ContractError(
                f"{path} belongs to another recipe or test set, and a table must not mix them; choose another folder, "
                "or remove it"
            )
        return True

    def _matters(self, row: Row) -> dict[str, Any]:
        """The values of a row's recipe that affect its run."""
        recipe = write_recipe(row.change(self._recipe))
        if row.pairs != "none":
            return recipe
        return {name: value for name, value in recipe.items() if name not in OF_PAIRS}

    def run(self, row: Row) -> None:
        processes = self._context.processes
        if row.name == "seg":
            net, trained = self._seg(shuffled=False)
            test = seg_set(self._test, self._recipe, processes.device)
            shares: dict[str, float] = {}
        else:
            recipe = row.change(self._recipe)
            if row.pairs == "none":
                net, trained = self._rgb()
                shares = {}
            else:
                teacher = self.teacher(recipe, shuffled=row.shuffled)
                shares = teacher.pairs.shares
                net, trained = train_rgb_branch(self._context, recipe, self._own / row.name, teacher)
            test = rgb_set(self._test, net, self._recipe, processes.device)
        ranks = ranks_on(net, test, self._recipe, processes, self._context.step_progress("describing test"))
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
            write_json(self._row_file(row.name), record)
        processes.wait()

    def teacher(self, recipe: Recipe, *, shuffled: bool = False) -> Teacher:
        """The teacher, with the pairs and weights that this recipe selects."""
        rgb, _ = self._rgb()
        seg, _ = self._seg(shuffled=shuffled)
        context = self._shuffled() if shuffled else self._context
        where = self._own / ("pairs-shuffled" if shuffled else "pairs")
        return compare_branches(context, recipe, where, seg, rgb)

    def _rgb(self) -> TrainedBranch:
        return train_rgb_branch(self._context, BY_NAME["none"].change(self._recipe), self._own / "rgb")

    def _seg(self, *, shuffled: bool) -> TrainedBranch:
        recipe = BY_NAME["none"].change(self._recipe)
        if shuffled:
            return train_seg_branch(self._shuffled(), recipe, self._own / "seg-shuffled")
        return train_seg_branch(self._context, recipe, self._own / "seg")

    def _shuffled(self) -> TrainingContext:
        """The context in which each image has the label map of another image."""
        training, validation = (
            dataclasses.replace(material, labels=self._shuffle(material.label_store()))
            for material in (self._context.training, self._context.validation)
        )
        return dataclasses.replace(self._context, training=training, validation=validation)

    def _shuffle(self, labels: LabelStore) -> LabelStore:
        # One cycle through all images: no image keeps its own map.
        rng = np.random.default_rng([self._recipe.seed, 0x5DEA])
        cycle = rng.permutation(len(labels.maps))
        given = np.empty(len(cycle), np.int64)
        given[cycle] = np.roll(cycle, 1)
        return labels.shuffled(given)

    def _row_file(self, name: str) -> Path:
        return self._folder / "rows" / f"{name}-{self._recipe.seed}.json"
