"""The training of one branch, from its first step to its last.

Both stages run this loop. Stage 1 trains either branch with the triplet loss alone. Stage 2 adds a teacher to the RGB
branch. It reads the teacher's stored descriptors; the teacher network does not run.

All random draws depend only on the seed and the step. So an interrupted and resumed run ends with the same weights, bit
for bit, as an uninterrupted one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sdk import EngineError, UsageError
from sdk.atomic_file import writing

from ..networks.checkpoint import save_tensors
from ..networks.descriptor_net import DescriptorNet
from ..objective.distillation import Branch, Teacher
from .branches import hold_frozen
from .describing import describe_together, recall_on
from .metrics import MetricsLog
from .steps import LOG_EVERY, BranchTraining, Run

__all__ = ["Trained", "train_branch"]

SAVE_EVERY_S = 300.0
PROJECTION_IMAGES = 4000  # at most, that the FC is fitted to


@dataclass(frozen=True)
class Trained:
    """The result of a run. The branch has the weights of its best validation.

    Attributes:
        metrics: recall in percent on the validation set, by "R@K".
        step: the step after which they were measured.
        passes: images that went forward and backward in the whole run.
        seconds: working time, over all sessions.
    """

    metrics: dict[str, float]
    step: int
    passes: int
    seconds: float = field(compare=False)


def train_branch(net: DescriptorNet, training: BranchTraining) -> Trained:
    """Train a branch, or resume the run in `training.folder`. The branch then has its best weights.

    Args:
        net: the initial branch, on `training.processes.device`. Frozen parameters have `requires_grad` off.
        training: everything else.

    Raises:
        ContractError: the folder holds a run of another recipe or data set.
        EngineError: the folder's state is damaged, or the loss is not finite; what was saved last is kept.
        WriteError: the folder cannot be written.
        UsageError: the tuples of a step cannot be divided among the processes.
    """
    recipe, processes, folder, teacher = training.recipe, training.processes, training.folder, training.teacher
    inputs = training.learned.inputs
    if recipe.tuples % processes.count:
        raise UsageError(
            f"{processes.count} processes cannot share {recipe.tuples} tuples per step; set `tuples` to a multiple"
        )
    torch.manual_seed(recipe.seed)
    branch = Branch(net, None if teacher is None else teacher.descriptors.shape[1])
    branch.to(processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(branch, training)
    best = run.resume()
    if teacher is not None and run.step == 0 and recipe.projection == "fitted":
        _fit_projection(branch, teacher, training)
    if processes.is_first:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    parallel: nn.Module = DistributedDataParallel(branch) if processes.count > 1 else branch
    every = recipe.validate_every or -(-recipe.steps // 10)
    saved_at = time.monotonic()
    if run.step >= recipe.steps or run.ended:
        return _finished(net, run, best)
    # The validations since the best step, none of which was better.
    waited = 0 if best is None else run.step // every - best["step"] // every
    with MetricsLog(folder if processes.is_first else None, run.step, tensorboard=training.tensorboard) as log:
        while run.step < recipe.steps and not run.ended:
            rows = run.tuples_of_step(lambda images: describe_together(net, inputs, images, recipe, processes))
            branch.train(training.branch.train_norm)
            hold_frozen(net)
            record = run.take_step(parallel, rows)
            if run.step % LOG_EVERY == 0 or run.step == recipe.steps:
                log.write(run.step, record)
            if run.step % every == 0 or run.step == recipe.steps:
                metrics = recall_on(net, training.validation, recipe, processes)
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
            if training.progress is not None:
                training.progress(f"training {folder.name}", run.step, recipe.steps)
        run.save(best)
    trained = _finished(net, run, best)
    if processes.is_first:
        save_tensors(folder / "best.pt", best)
    return trained


def _finished(net: DescriptorNet, run: Run, best: dict[str, Any] | None) -> Trained:
    """Load the best weights into the branch."""
    recipe, state = run.training.recipe, run.training.folder / "state.pt"
    if best is None:
        raise EngineError(f"{state} belongs to a finished run without a best step; remove it to start again")
    net.load_state_dict(best["weights"])
    return Trained(best["metrics"], best["step"], run.step * recipe.tuples * recipe.tuple_images, run.seconds)


def _fit_projection(branch: Branch, teacher: Teacher, training: BranchTraining) -> None:
    """Fit the FC to images of distilled pairs only, because the teacher is wrong about the others."""
    data, recipe = training.learned.data, training.recipe
    taught = teacher.pairs.phi > 0
    images = np.unique(np.concatenate([data.queries[teacher.pairs.query[taught]], teacher.pairs.positive[taught]]))
    if len(images) == 0:
        return
    rng = np.random.default_rng([recipe.seed, 0xF17])
    chosen = np.sort(rng.permutation(images)[:PROJECTION_IMAGES])
    own = describe_together(branch.net, training.learned.inputs, chosen, recipe, training.processes)
    branch.fit_projection(own, teacher.descriptors[chosen])


def _copied(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items()}
