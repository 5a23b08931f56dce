"""What a training run is made of: every value that is a choice, with its default and where it comes from.

The authors published no code and few figures. What is marked "reconstruction" is our choice where the paper is
silent; `docs/training.md` gives the reasons.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdk import ContractError

from .labels.segmentation import CLUSTER_WEIGHTS
from .objective.weighting import SELECTIONS

__all__ = ["Recipe", "read_recipe", "write_recipe"]

CHOICES = {
    "pairs": SELECTIONS,
    "weight_form": ("log_rank", "linear", "flat"),
    "precision": ("float32", "bfloat16", "float16"),
    "describe_precision": ("float32", "bfloat16", "float16"),
    "positive": ("nearest", "random"),
    "projection": ("fitted", "random"),
}


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        backbone: trunk of both branches, a name in `training.networks.backbones.BACKBONES`.
        head: how its maps become a descriptor, see `DescriptorNet`.
        height, width: of the inputs in training, px.
        export_height, export_width: of the deployed network's input, px.
        passes: images that go forward and backward in each stage: the budget, equal for whatever is compared.
        tuples: (query, positive, negatives) a step, over all processes. Reconstruction: 4, as Patch-NetVLAD.
        negatives: of each tuple. Patch-NetVLAD: 5.
        margin: of the triplet loss, on Euclidean distances of unit vectors. Reconstruction: 0.1, as ForestLPR.
        positive: which positive a query is trained with: the nearest as the network sees it, or a random one.
        cache_queries: queries between two searches for hard negatives. Patch-NetVLAD: 1000.
        cache_pool: random images of the query's region among which they are sought. Patch-NetVLAD: 1000.
        lr: peak learning rate of AdamW. Reconstruction: 1e-4, as ForestLPR.
        seg_lr: the same for the segmentation branch.
        projection: how the distillation's FC starts: "fitted" to the teacher by ridge regression, or "random"
            (reconstruction: until a random one has learnt something it drags the student anywhere).
        projection_lr_factor: times `lr` for that FC.
        weight_decay: of AdamW, not for norms, biases and GeM's exponents. ForestLPR: 1e-4.
        warmup: share of the steps in which the learning rate rises; after that it falls by a cosine to `final_lr`.
        final_lr: share of `lr` at the end. ForestLPR: 0.1.
        clip_norm: largest norm of the gradient.
        frozen_blocks: first blocks of the RGB branch's trunk that keep their ImageNet values.
        seg_frozen_blocks: the same for the segmentation branch, whose first convolution is made from ImageNet's too.
        train_norm: whether batch norm follows the batches; else it keeps its ImageNet statistics.
        seg_train_norm: the same for the segmentation branch.
        precision: of the arithmetic in training, under autocast; "float32" for none.
        describe_precision: the same where images are only described: for negatives, ranks and validation.
        augmentation: strength of the photometric changes, 0 for none, 1 for night, seasons and exposure.
        crop: largest share of each side that a random crop takes away in training, RGB branch only.
        class_weights: of the label clusters building, dynamic, sky, ground, vegetation, other. Reconstruction.
        rank_threshold: N_t, ranks up to which a branch counts as right. Reconstruction: 10.
        weight_form: of phi: "log_rank" (reconstruction), "linear" (alternative) or "flat" (1 for all of `pairs`).
        weight_tau: temperature of phi's gap term. Reconstruction: 1.
        most_rank: larger ranks count as this one in phi. Reconstruction: 1000.
        pairs: which are distilled, see `training.objective.weighting.selected`: "a1" is the paper's.
        confidence_weight: multiply phi with the confidence of the query's and the positive's label maps. Our addition.
        distil: lambda, weight of the distillation loss. Reconstruction.
        distil_positive: whether the positive is distilled beside the query. Reconstruction.
        validate_every: steps between validations; 0: ten times in a run.
        patience: validations without a better R@5 after which a stage ends; 0: never.
        seed: of all that is drawn.
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
    lr: float = 1e-4
    seg_lr: float = 3e-4
    projection: str = "fitted"
    projection_lr_factor: float = 1.0
    weight_decay: float = 1e-4
    warmup: float = 0.05
    final_lr: float = 0.1
    clip_norm: float = 5.0
    frozen_blocks: int = 0
    seg_frozen_blocks: int = 0
    train_norm: bool = False
    seg_train_norm: bool = True
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
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kind = type(field.default)
            fits = isinstance(value, (int, float) if kind is float else kind)
            if not fits or (isinstance(value, bool) and kind is not bool):
                raise ContractError(
                    f"recipe: {field.name} is {value!r}, expected {kind.__name__} such as {field.default!r}; correct it"
                )
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ContractError(
                    f"recipe: {name} is {getattr(self, name)!r}, expected {' or '.join(choices)}; correct it"
                )
        lowest = {
            "height": 32,
            "width": 32,
            "export_height": 32,
            "export_width": 32,
            "passes": 1,
            "tuples": 1,
            "negatives": 1,
            "cache_queries": 1,
            "cache_pool": self.negatives,
            "rank_threshold": 1,
            "most_rank": 1,
            **dict.fromkeys(("frozen_blocks", "seg_frozen_blocks", "validate_every", "patience", "seed"), 0),
            **dict.fromkeys(("augmentation", "weight_decay", "distil", "warmup", "final_lr", "crop", "margin"), 0.0),
        }
        for name, low in lowest.items():
            if not low <= getattr(self, name) < float("inf"):
                raise ContractError(f"recipe: {name} is {getattr(self, name)!r}, expected {low} or more; correct it")
        if self.seed >= 2**23:
            raise ContractError(f"recipe: seed is {self.seed}, expected less than {2**23}; correct it")
        for name in ("lr", "seg_lr", "clip_norm", "projection_lr_factor", "weight_tau"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ContractError(f"recipe: {name} is {getattr(self, name)!r}, expected more than 0; correct it")
        if not self.crop < 0.5 or not self.warmup < 1.0:
            raise ContractError(
                f"recipe: crop is {self.crop} and warmup {self.warmup}, expected below 0.5 and below 1; correct them"
            )
        numbers = [w for w in self.class_weights if type(w) in (int, float) and 0.0 <= w < float("inf")]
        if len(self.class_weights) != 6 or len(numbers) != 6 or max(numbers) == 0.0:
            raise ContractError(
                f"recipe: class weights {self.class_weights} found, expected 6 finite numbers of 0 or more, not all "
                "0; correct them"
            )
        if self.weight_form != "flat" and self.pairs not in ("none", "d1", "d2", "d3", "a1"):
            raise ContractError(
                f"recipe: pairs {self.pairs!r} with weights {self.weight_form!r} found, which are 0 where the "
                "teacher is wrong; set weight_form to 'flat'"
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
    """The defaults, changed by a JSON file and by what is given here.

    Raises:
        ContractError: the file cannot be read, or a name or a value is none of a recipe.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ContractError(f"{path}: cannot be read ({error}), expected JSON with a recipe; correct it") from None
        if not isinstance(values, dict):
            raise ContractError(f"{path}: holds no JSON object, expected a recipe's names and values; correct it")
    values |= changes
    known = {field.name for field in dataclasses.fields(Recipe)}
    if unknown := sorted(values.keys() - known):
        raise ContractError(f"recipe: {unknown[0]!r} is unknown, expected some of {', '.join(sorted(known))}")
    # JSON has no tuples.
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    floats = {field.name for field in dataclasses.fields(Recipe) if isinstance(field.default, float)}
    values = {name: float(v) if name in floats and type(v) is int else v for name, v in values.items()}
    return Recipe(**values)


def write_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON values; `read_recipe` takes them back."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(recipe).items()}
