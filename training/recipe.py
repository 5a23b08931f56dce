"""The choices of a training run: names, defaults and where each default comes from.

The authors published no code and few values. "Reconstruction" marks our choice where the paper gives none;
`docs/training.md` gives the reasons.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdk import UsageError

__all__ = [
    "CLUSTER_WEIGHTS",
    "SELECTIONS",
    "WEIGHT_FORMS",
    "BranchRecipe",
    "Recipe",
    "change_recipe",
    "read_recipe",
    "write_recipe",
]

# Reconstruction: the paper weights channels by class but gives no values. Static structure counts more than traffic.
# The order is that of `training.labels.label_sets.CLUSTERS`.
CLUSTER_WEIGHTS = (2.0, 0.5, 1.0, 1.0, 1.0, 1.0)
SELECTIONS = ("none", "all", "d1", "d2", "d3", "d4", "a1", "b1", "b2")
WEIGHT_FORMS = ("log_rank", "linear")
PRECISIONS = ("float32", "bfloat16", "float16")

CHOICES = {
    "pairs": SELECTIONS,
    "weight_form": (*WEIGHT_FORMS, "flat"),
    "precision": PRECISIONS,
    "describe_precision": PRECISIONS,
    "positive": ("nearest", "random"),
    "projection": ("fitted", "random"),
}
LOWEST = {
    **dict.fromkeys(("height", "width", "export_height", "export_width"), 32),
    **dict.fromkeys(("passes", "tuples", "negatives", "cache_queries", "rank_threshold", "most_rank"), 1),
    **dict.fromkeys(("frozen_blocks", "seg_frozen_blocks", "validate_every", "patience", "seed"), 0),
    **dict.fromkeys(("augmentation", "weight_decay", "distil", "warmup", "final_lr", "crop", "margin"), 0.0),
}
POSITIVE = ("lr", "seg_lr", "clip_norm", "projection_lr_factor", "weight_tau")
BELOW = {"seed": 2**23, "crop": 0.5, "warmup": 1.0}
PREFIXES = {"rgb": "", "seg": "seg_"}  # of a branch's names in files and in --set: lr and seg_lr


@dataclass(frozen=True)
class BranchRecipe:
    """The choices that the two branches make separately.

    Attributes:
        lr: peak learning rate of AdamW.
        frozen_blocks: number of first trunk blocks that keep their initial values.
        train_norm: whether batch norm uses batch statistics; otherwise it keeps its initial ones.
    """

    lr: float
    frozen_blocks: int = 0
    train_norm: bool = False


@dataclass(frozen=True)
class Recipe:
    """The choices of one training run.

    Attributes:
        backbone: trunk of both branches, a name in `training.networks.backbones.BACKBONES`.
        head: turns feature maps into a descriptor, see `DescriptorNet`.
        height, width: size of the training inputs, px.
        export_height, export_width: input size of the deployed network, px.
        passes: images that go forward and backward in each stage. All compared runs get the same number.
        tuples: (query, positive, negatives) per step, over all processes. Reconstruction: 4, as Patch-NetVLAD.
        negatives: negatives per tuple. Patch-NetVLAD: 5.
        margin: margin of the triplet loss, on Euclidean distances of unit vectors. Reconstruction: 0.1, as ForestLPR.
        positive: which positive trains a query: the one nearest to it in descriptor space, or a random one.
        cache_queries: queries between two searches for hard negatives. Patch-NetVLAD: 1000.
        cache_pool: random images of the query's region that the search compares. Patch-NetVLAD: 1000.
        rgb: the RGB branch. Its `lr` is a reconstruction: 1e-4, as ForestLPR.
        projection: start of the FC of the distillation loss: "fitted" to the teacher by ridge regression, or "random"
            (reconstruction: an untrained random FC gives the student misleading gradients).
        projection_lr_factor: learning rate of that FC, as a multiple of `lr`.
        weight_decay: of AdamW; norms, biases and GeM's exponents have none. ForestLPR: 1e-4.
        warmup: share of the steps in which the learning rate rises. A cosine then lowers it to `final_lr`.
        final_lr: last learning rate, as a share of `lr`. ForestLPR: 0.1.
        clip_norm: largest norm of the gradient.
        seg: the segmentation branch. Its first convolution is made from ImageNet's, so it can be frozen too.
        precision: arithmetic in training, under autocast; "float32" turns autocast off.
        describe_precision: arithmetic of descriptors for mining, ranking and validation.
        augmentation: strength of the photometric changes: 0 is none, 1 covers night, seasons and exposure.
        crop: largest share of each side that a random crop removes in training, RGB branch only.
        class_weights: of the clusters building, dynamic, sky, ground, vegetation, other. Reconstruction.
        rank_threshold: N_t, largest rank at which a branch counts as right. Reconstruction: 10.
        weight_form: form of phi: "log_rank" (reconstruction), "linear" or "flat" (1 for all of `pairs`).
        weight_tau: temperature of phi's gap term. Reconstruction: 1.
        most_rank: phi treats larger ranks as this one. Reconstruction: 1000.
        pairs: which pairs are distilled, see `training.objective.weighting.selected`; "a1" is the paper's.
        confidence_weight: multiply phi by the confidence of both label maps. Our addition.
        distil: lambda, weight of the distillation loss. Reconstruction.
        distil_positive: whether the positive is distilled besides the query. Reconstruction.
        validate_every: steps between validations; 0: ten times in a run.
        patience: a stage ends after this many validations without a better R@5; 0: never.
        seed: seeds all random draws.
    """

    backbone: str = "efficientnet_lite0"
    head: str = "gem"
    height: int = 240
    width: int = 320
    export_height: int = 240
    export_width: int = 320
    passes: int = 28_000
    tuples: int = 4
    negatives: int = 5
    margin: float = 0.1
    positive: str = "nearest"
    cache_queries: int = 1000
    cache_pool: int = 1000
    rgb: BranchRecipe = BranchRecipe(lr=1e-4)
    projection: str = "fitted"
    projection_lr_factor: float = 1.0
    weight_decay: float = 1e-4
    warmup: float = 0.05
    final_lr: float = 0.1
    clip_norm: float = 5.0
    seg: BranchRecipe = BranchRecipe(lr=3e-4, train_norm=True)
    precision: str = "float32"
    describe_precision: str = "float32"
    augmentation: float = 0.5
    crop: float = 0.1
    class_weights: tuple[float, ...] = CLUSTER_WEIGHTS
    rank_threshold: int = 10
    weight_form: str = "log_rank"
    weight_tau: float = 1.0
    most_rank: int = 1000
    pairs: str = "a1"
    confidence_weight: bool = False
    distil: float = 3.0
    distil_positive: bool = True
    validate_every: int = 0
    patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        values = _flatten(vars(self))
        for name, default in DEFAULTS.items():
            value, kind = values[name], type(default)
            fits = isinstance(value, (int, float) if kind is float else kind)
            if not fits or (isinstance(value, bool) and kind is not bool):
                raise UsageError(f"recipe: {name} is {value!r}, expected {kind.__name__} such as {default!r}")
        for name, choices in CHOICES.items():
            if values[name] not in choices:
                raise UsageError(f"recipe: {name} is {values[name]!r}, expected {' or '.join(choices)}")
        for name, low in {**LOWEST, "cache_pool": self.negatives}.items():
            if not low <= values[name] < float("inf"):
                raise UsageError(f"recipe: {name} is {values[name]!r}, expected {low} or more")
        for name in POSITIVE:
            if not 0.0 < values[name] < float("inf"):
                raise UsageError(f"recipe: {name} is {values[name]!r}, expected more than 0")
        for name, bound in BELOW.items():
            if not values[name] < bound:
                raise UsageError(f"recipe: {name} is {values[name]!r}, expected less than {bound}")
        numbers = [w for w in self.class_weights if type(w) in (int, float) and 0.0 <= w < float("inf")]
        if len(self.class_weights) != 6 or len(numbers) != 6 or max(numbers) == 0.0:
            raise UsageError(
                f"recipe: class_weights is {self.class_weights}, expected 6 finite numbers of 0 or more, not all 0"
            )
        if self.weight_form != "flat" and self.pairs not in ("none", "d1", "d2", "d3", "a1"):
            raise UsageError(
                f"recipe: the weights {self.weight_form!r} are 0 where the teacher is wrong, and pairs {self.pairs!r} "
                "has such pairs; set weight_form to 'flat'"
            )

    @property
    def tuple_images(self) -> int:
        """Images of one tuple."""
        return 2 + self.negatives

    @property
    def steps(self) -> int:
        """Steps of one stage."""
        return max(1, self.passes // (self.tuples * self.tuple_images))


def read_recipe(path: Path | None, **changes: Any) -> Recipe:
    """Read a JSON file of values that differ from the defaults, and apply changes on top.

    Args:
        path: the file; None for the defaults.
        changes: by the names that the file uses, such as lr and seg_lr.

    Raises:
        UsageError: the file cannot be read, or it holds an unknown name or a value out of range.
    """
    values: Any = {}
    if path is not None:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: cannot read the recipe ({error}); give a JSON file") from None
        if not isinstance(values, dict):
            raise UsageError(f"{path}: is no JSON object; a recipe maps names to values")
    return change_recipe(Recipe(), **(values | changes))


def change_recipe(recipe: Recipe, **changes: Any) -> Recipe:
    """A copy with other values, by the names that recipe files use.

    Raises:
        UsageError: a name is unknown or a value is out of range.
    """
    if unknown := sorted(changes.keys() - DEFAULTS.keys()):
        raise UsageError(f"recipe: {unknown[0]!r} is unknown, expected one of {', '.join(sorted(DEFAULTS))}")
    values = write_recipe(recipe) | changes
    # JSON has no tuples, and people write 1 for 1.0.
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    values |= {n: float(values[n]) for n, d in DEFAULTS.items() if isinstance(d, float) and type(values[n]) is int}
    for branch, prefix in PREFIXES.items():
        names = [field.name for field in dataclasses.fields(BranchRecipe)]
        values[branch] = BranchRecipe(**{name: values.pop(prefix + name) for name in names})
    return Recipe(**values)


def write_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON values; `read_recipe` reads them."""
    values = _flatten(vars(recipe))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values under the flat names of recipe files."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, BranchRecipe):
            flat |= {PREFIXES[name] + own: part for own, part in dataclasses.asdict(value).items()}
        else:
            flat[name] = value
    return flat


DEFAULTS = _flatten({field.name: field.default for field in dataclasses.fields(Recipe)})
