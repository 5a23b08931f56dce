"""The context of a study: data sets, initial weights, processes and progress, shared by all runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sdk.progress import Progress, StepProgress

from ..inputs.material import Material, NamedSets, open_material
from ..networks.checkpoint import load_weights
from ..processes import Processes
from ..recipe import Recipe

__all__ = ["TrainingContext", "open_context"]


@dataclass(frozen=True)
class TrainingContext:
    """What all runs of a study share.

    Attributes:
        training: the set that branches learn from.
        validation: the set that decides which weights are best.
        weights: ImageNet weights of the recipe's backbone.
        processes: this process and the others.
        progress: called while work goes on.
        tensorboard: also write TensorBoard's event files.
    """

    training: Material
    validation: Material
    weights: Mapping[str, Tensor]
    processes: Processes
    progress: Progress | None = None
    tensorboard: bool = False

    def step_progress(self, what: str) -> StepProgress | None:
        """`progress` for one kind of work."""
        progress = self.progress
        return None if progress is None else lambda done, total: progress(what, done, total)


def open_context(
    recipe: Recipe,
    weights: Path,
    training: NamedSets,
    validation: NamedSets | None,
    processes: Processes,
    *,
    cache: Path | None = None,
    with_confidence: bool = False,
    progress: Progress | None = None,
    tensorboard: bool = False,
) -> TrainingContext:
    """Open the weights and the data sets of a study.

    Args:
        recipe: gives the size of the images.
        weights: file of ImageNet weights.
        training: the sets to learn from.
        validation: the sets to validate on; None for the validation splits of `training`.
        processes, progress, tensorboard: see `TrainingContext`.
        cache: folder for prepared images; None decodes them each time.
        with_confidence: also read the confidence of the label maps. The recipe may ask for it too.

    Raises:
        EngineError: the weights cannot be read.
        DataError: a set or its label maps cannot be used.
    """
    imagenet = load_weights(weights)  # first: a wrong path fails before any image is prepared
    learned = training.sets
    if validation is None:
        # A set without splits is divided only if it serves for training and validation.
        validation, splits, others = training, ["train"] * len(learned), ["val"] * len(learned)
    else:
        splits, others = training.splits("train"), validation.splits("val")
    opened = open_material(
        training,
        splits,
        recipe.height,
        recipe.width,
        with_confidence=with_confidence or recipe.confidence_weight,
        cache=cache,
        progress=progress,
        processes=processes,
    )
    asked = open_material(
        validation, others, recipe.height, recipe.width, cache=cache, progress=progress, processes=processes
    )
    for material in (opened, asked):
        material.label_store()  # reports missing label maps before the first stage
    return TrainingContext(opened, asked, imagenet, processes, progress, tensorboard)
