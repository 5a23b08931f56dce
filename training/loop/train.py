"""The training of one branch, from its first step to its last.

Both stages are this loop. Stage 1 trains either branch with the triplet loss alone; stage 2 trains the RGB branch
with the triplet loss and a teacher, whose descriptors were stored before: the teacher itself does not run.

Everything that is random is drawn from the seed and the number of the step, so a run that was interrupted and goes on
gives the same weights, bit for bit, as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sdk import ContractError, EngineError
from sdk.atomic_file import replace_when_done

from ..datasets.training_set import Indices, TrainingSet
from ..networks.descriptor_net import DescriptorNet
from ..objective.distillation import Branch, Teacher
from ..objective.ranking import first_right_ranks, recall_percent
from ..processes import Processes
from ..recipe import Recipe
from .branches import Inputs, describe, hold_frozen
from .metrics import MetricsLog
from .steps import LOG_EVERY, PRECISIONS, Run

__all__ = ["Trained", "describe_together", "ranks_on", "recall_on", "train_branch"]

SAVE_EVERY_S = 300.0
PROJECTION_IMAGES = 4000  # to fit the FC to

Floats = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trained:
    """How a run ended. The branch has the weights of its best validation.

    Attributes:
        metrics: recall in percent on the validation set, by "R@K".
        step: after which they were measured.
        passes: images that went forward and backward in the whole run.
        seconds: of work, in all its sessions.
    """

    metrics: dict[str, float]
    step: int
    passes: int
    seconds: float = field(compare=False)


def train_branch(
    net: DescriptorNet,
    data: TrainingSet,
    inputs: Inputs,
    validation: TrainingSet,
    validation_inputs: Inputs,
    recipe: Recipe,
    folder: Path,
    processes: Processes,
    *,
    lr: float,
    train_norm: bool,
    teacher: Teacher | None = None,
    progress: Progress | None = None,
    tensorboard: bool = False,
    identity_of_data: str | None = None,
) -> Trained:
    """Train a branch, or go on with a run that `folder` holds. The branch then has its best weights.

    Args:
        net: the branch as it starts, on `processes.device`; parameters that do not train have no gradient.
        data: what it learns from.
        inputs: of `data` for this branch.
        validation: whose R@5 says which weights are best.
        validation_inputs: of `validation`.
        recipe: everything else.
        folder: for `state.pt` (to go on), `best.pt` and `metrics.jsonl`.
        processes: this one and the others.
        lr: peak learning rate.
        train_norm: whether batch norm follows the batches.
        teacher: stage 2.
        progress: told (what, done, total).
        tensorboard: also write event files to `folder`.
        identity_of_data: what must be equal for a run to go on: a digest of both sets; their name unless given.

    Raises:
        EngineError: `folder` holds a run of another recipe, or cannot be written; what was saved last is kept.
        ContractError: the tuples of a step cannot be shared by the processes.
    """
    if recipe.tuples % processes.count:
        raise ContractError(
            f"{recipe.tuples} tuples a step and {processes.count} processes found, expected a multiple; change `tuples`"
        )
    torch.manual_seed(recipe.seed)
    branch = Branch(net, None if teacher is None else teacher.descriptors.shape[1])
    branch.to(processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(branch, data, recipe, folder, processes, lr, train_norm, teacher, identity_of_data or data.name)
    best = run.resume()
    if teacher is not None and run.step == 0 and recipe.projection == "fitted":
        _fit_projection(branch, teacher, data, inputs, recipe, processes)
    if processes.is_first:
        folder.mkdir(parents=True, exist_ok=True)
    parallel: nn.Module = DistributedDataParallel(branch) if processes.count > 1 else branch
    every = recipe.validate_every or -(-recipe.steps // 10)
    saved_at = time.monotonic()
    if run.step >= recipe.steps or run.ended:
        return _finished(net, run, best, folder, recipe)
    # Validations come before what is saved, so how many were in vain follows from the best one's step.
    waited = 0 if best is None else run.step // every - best["step"] // every
    with MetricsLog(folder if processes.is_first else None, run.step, tensorboard=tensorboard) as log:
        while run.step < recipe.steps and not run.ended:
            rows = run.tuples_of_step(lambda images: describe_together(net, inputs, images, recipe, processes))
            branch.train(train_norm)
            hold_frozen(net)
            record = run.take_step(parallel, inputs, rows, teacher)
            if run.step % LOG_EVERY == 0 or run.step == recipe.steps:
                log.write(run.step, record)
            if run.step % every == 0 or run.step == recipe.steps:
                metrics = recall_on(net, validation, validation_inputs, recipe, processes)
                log.write(run.step, {f"validation/{name}": value for name, value in metrics.items()})
                if best is None or metrics["R@5"] > best["metrics"]["R@5"]:
                    best = {"metrics": metrics, "step": run.step, "weights": _copied(net)}
                    waited = 0
                else:
                    waited += 1
                run.ended = 0 < recipe.patience <= waited
            if run.step % every == 0 or run.ended or time.monotonic() - saved_at > SAVE_EVERY_S:
                run.save(best)
                saved_at = time.monotonic()
            if progress is not None:
                progress(f"training {folder.name}", run.step, recipe.steps)
        run.save(best)
    trained = _finished(net, run, best, folder, recipe)
    if processes.is_first:
        with replace_when_done(folder / "best.pt") as temporary, temporary.open("wb") as file:
            torch.save(best, file)
    return trained


def _finished(net: DescriptorNet, run: Run, best: dict[str, Any] | None, folder: Path, recipe: Recipe) -> Trained:
    """Give the branch its best weights."""
    if best is None:
        raise EngineError(f"{folder / 'state.pt'} says that it ended and names no best step; remove it to begin anew")
    net.load_state_dict(best["weights"])
    return Trained(best["metrics"], best["step"], run.step * recipe.tuples * recipe.tuple_images, run.seconds)


def _fit_projection(
    branch: Branch, teacher: Teacher, data: TrainingSet, inputs: Inputs, recipe: Recipe, processes: Processes
) -> None:
    """On images of pairs that are distilled: what the teacher gets wrong has no say in the FC either."""
    taught = teacher.pairs.phi > 0
    images = np.unique(np.concatenate([data.queries[teacher.pairs.query[taught]], teacher.pairs.positive[taught]]))
    if len(images) == 0:
        return
    rng = np.random.default_rng([recipe.seed, 0xF17])
    chosen = np.sort(rng.permutation(images)[:PROJECTION_IMAGES])
    own = describe_together(branch.net, inputs, chosen, recipe, processes)
    branch.fit_projection(own, teacher.descriptors[chosen])


def recall_on(
    net: DescriptorNet, data: TrainingSet, inputs: Inputs, recipe: Recipe, processes: Processes
) -> dict[str, float]:
    """R@1, R@5, R@10 and R@20 of a branch on a set, percent."""
    return recall_percent(ranks_on(net, data, inputs, recipe, processes))


def ranks_on(
    net: DescriptorNet,
    data: TrainingSet,
    inputs: Inputs,
    recipe: Recipe,
    processes: Processes,
    progress: Callable[[int, int], None] | None = None,
) -> Indices:
    """For each query of a set, the rank of its first right answer under a branch, see `first_right_ranks`."""
    used = np.unique(np.concatenate([data.queries, data.database]))
    rows = describe_together(net, inputs, used, recipe, processes, progress)
    descriptors = np.zeros((len(data.images), rows.shape[1]), np.float32)
    descriptors[used] = rows
    return first_right_ranks(data, descriptors)


def describe_together(
    net: DescriptorNet,
    inputs: Inputs,
    images: Indices,
    recipe: Recipe,
    processes: Processes,
    progress: Callable[[int, int], None] | None = None,
) -> Floats:
    """Unit descriptors of images, float32 (n, D), on every process; the processes share the work, see `describe`."""
    processes.agree(net)
    precision = PRECISIONS[recipe.describe_precision]
    part = describe(net, inputs, processes.share(images), precision=precision, progress=progress)
    return processes.gather(part, len(images))


def _copied(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items()}
