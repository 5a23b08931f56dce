"""The steps of a branch's training: tuples, losses, update, and the saved state to resume from."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdk import ContractError, EngineError
from sdk.arrays import Floats, Indices
from sdk.progress import Progress

from ..inputs.batches import BranchSet
from ..networks.checkpoint import save_tensors
from ..networks.descriptor_net import weights_sha256
from ..objective.distillation import Branch, Teacher
from ..objective.losses import triplet_loss
from ..objective.mining import Tuples, mine, queries_in_turn
from ..processes import Processes
from ..recipe import BranchRecipe, Recipe, write_recipe
from .branches import trainable_groups
from .describing import DTYPES

__all__ = ["LOG_EVERY", "BranchTraining", "Run"]

LOG_EVERY = 10  # steps
# Recipe values that affect both stages. The others belong to one branch or to the teacher.
OF_A_STAGE = {
    "height", "width", "passes", "tuples", "negatives", "margin", "positive", "cache_queries", "cache_pool",
    "warmup", "weight_decay", "final_lr", "clip_norm", "precision", "describe_precision", "augmentation", "crop",
    "patience", "validate_every", "seed",
}  # fmt: skip


@dataclass(frozen=True)
class BranchTraining:
    """Everything that the training of one branch needs.

    Attributes:
        learned: the set that it learns from.
        validation: the set whose R@5 decides which weights are best.
        recipe: the choices of the run.
        branch: the choices of this branch, `recipe.rgb` or `recipe.seg`.
        folder: holds `state.pt` (to resume from), `best.pt` and `metrics.jsonl`.
        processes: this process and the others.
        teacher: given in stage 2 only.
        progress: called after each step.
        tensorboard: also write TensorBoard's event files to `folder`.
        identity_of_data: a digest of both sets. A run resumes only with an equal one. "" uses the name of the set.
    """

    learned: BranchSet
    validation: BranchSet
    recipe: Recipe
    branch: BranchRecipe
    folder: Path
    processes: Processes
    teacher: Teacher | None = None
    progress: Progress | None = None
    tensorboard: bool = False
    identity_of_data: str = ""


def tuple_loss(descriptors: Tensor, tuples: int, margin: float) -> Tensor:
    """L_VPR of B tuples: float32 (B (2 + J), D), unit rows of the queries, then positives, then negatives."""
    query, positive = descriptors[:tuples], descriptors[tuples : 2 * tuples]
    negatives = descriptors[2 * tuples :].reshape(tuples, -1, descriptors.shape[1])  # (B, J, D)
    return triplet_loss(query, positive, negatives, margin)


class Run:
    """A branch in training, with all the state that changes from step to step.

    Attributes:
        step: steps taken.
        seconds: working time up to the last `save`, over all sessions.
        ended: the run stopped before its last step.

    Args:
        branch: on its device. Frozen parameters have `requires_grad` off.
        training: data, recipe and folder of the run.
    """

    def __init__(self, branch: Branch, training: BranchTraining) -> None:
        self.branch, self.training = branch, training
        recipe, teacher, lr = training.recipe, training.teacher, training.branch.lr
        self.step, self.seconds, self.ended = 0, 0.0, False
        self._started = time.monotonic()
        self._tuples: Tuples | None = None
        self._mined_at = 0
        groups = trainable_groups(branch, lr, recipe.weight_decay, recipe.projection_lr_factor)
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99))
        self._scales = [group["lr"] / lr for group in self.optimizer.param_groups]
        self._scaler = torch.amp.GradScaler(training.processes.device.type, enabled=recipe.precision == "float16")
        # A run resumes only if nothing that its weights depend on has changed.
        trained = sorted(name for name, parameter in branch.named_parameters() if parameter.requires_grad)
        chosen = {name: value for name, value in write_recipe(recipe).items() if name in OF_A_STAGE}
        data = training.identity_of_data or training.learned.data.name
        facts = [chosen, lr, training.branch.train_norm, weights_sha256(branch.net), trained, data]
        known = hashlib.sha256(json.dumps(facts).encode())
        if teacher is not None:
            taught = [recipe.distil, recipe.distil_positive, recipe.projection, recipe.projection_lr_factor]
            known.update(json.dumps(taught).encode())
            known.update(np.ascontiguousarray(teacher.descriptors).data)
            known.update(np.ascontiguousarray(teacher.pairs.phi).data)
        self._identity = known.hexdigest()

    # --- one step ---------------------------------------------------------------------------------------

    def tuples_of_step(self, describe_images: Callable[[Indices], Floats]) -> Tuples:
        """This process's tuples of the next step. Every `cache_queries` queries, hard negatives are searched again."""
        recipe, data = self.training.recipe, self.training.learned.data
        steps_a_cache = max(1, recipe.cache_queries // recipe.tuples)
        if self._tuples is None or self.step % steps_a_cache == 0:
            self._mined_at = self.step
            count = min(steps_a_cache, recipe.steps - self.step) * recipe.tuples
            queries = queries_in_turn(
                len(data.queries), self.step * recipe.tuples, count, recipe.seed, data.query_weight
            )
            self._tuples = mine(
                data,
                queries,
                describe_images,
                negatives=recipe.negatives,
                pool=recipe.cache_pool,
                positive=recipe.positive,
                seed=[recipe.seed, 0x3133, self.step],
            )
        first = (self.step - self._mined_at) * recipe.tuples
        rows = self.training.processes.share(np.arange(first, first + recipe.tuples))
        return Tuples(self._tuples.query[rows], self._tuples.positive[rows], self._tuples.negatives[rows])

    def take_step(self, branch: nn.Module, rows: Tuples) -> dict[str, float]:
        """Forward, losses, backward, update. Returns the values to log.

        Args:
            branch: `self.branch`, or the wrapper that averages its gradients over the processes.
            rows: this process's tuples.

        Raises:
            EngineError: the loss is not finite.
        """
        recipe, teacher, processes = self.training.recipe, self.training.teacher, self.training.processes
        peak = self.training.branch.lr
        for group, scale in zip(self.optimizer.param_groups, self._scales, strict=True):
            group["lr"] = scale * peak * self._schedule(self.step)
        tuples = len(rows.query)
        asked = self.training.learned.data.queries[rows.query]
        images = np.concatenate([asked, rows.positive, rows.negatives.ravel()])
        generator = torch.Generator().manual_seed(
            (recipe.seed << 40) + (self.step << 8) + processes.rank  # one per step and process
        )
        x = self.training.learned.inputs.batch(images, generator).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, DTYPES[recipe.precision], enabled=recipe.precision != "float32"):
            descriptors, projected = branch(x)  # (B (2 + J), D), (B (2 + J), D_t)
        triplet = tuple_loss(descriptors, tuples, recipe.margin)
        loss, record = triplet, {"triplet": triplet.item()}
        if teacher is not None and projected is not None:
            distillation = teacher.loss(projected, rows, asked, distil_positive=recipe.distil_positive)
            loss = triplet + recipe.distil * distillation
            record["distillation"] = distillation.item()
            if (self.step + 1) % LOG_EVERY == 0:
                # Log the gradient of each loss at the descriptors, because lambda has to balance them.
                for name, part in (("triplet", triplet), ("distillation", distillation)):
                    (pull,) = torch.autograd.grad(part, descriptors, retain_graph=True)
                    record[f"gradient/{name}"] = pull.norm().item()
        if not math.isfinite(loss.item()):
            raise self._not_finite("loss", loss)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self._scaler.scale(loss))
        self._scaler.unscale_(self.optimizer)
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(trained, recipe.clip_norm)
        if not self._scaler.is_enabled() and not math.isfinite(norm.item()):  # a scaler skips such a step by itself
            raise self._not_finite("gradient", norm)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.step += 1
        passes = self.step * recipe.tuples * recipe.tuple_images
        return record | {
            "loss": loss.item(),
            "gradient": norm.item(),
            "lr": peak * self._schedule(self.step - 1),
            "passes": passes,
        }

    def _not_finite(self, what: str, value: Tensor) -> EngineError:
        return EngineError(
            f"the {what} of step {self.step} is {value.item()}; lower lr, or use another precision; "
            f"{self.training.folder} keeps what was saved before"
        )

    def _schedule(self, step: int) -> float:
        """Share of the peak learning rate: linear warm-up, then a cosine down to `final_lr`."""
        recipe = self.training.recipe
        warm = max(1, round(recipe.warmup * recipe.steps))
        if step < warm:
            return (step + 1) / warm
        along = (step - warm) / max(1, recipe.steps - warm)
        return recipe.final_lr + (1.0 - recipe.final_lr) * 0.5 * (1.0 + math.cos(math.pi * along))

    # --- saving and resuming --------------------------------------------------------------------------------

    def save(self, best: dict[str, Any] | None) -> None:
        """Write the state that the next step depends on. The old file stays until the new one is whole."""
        now = time.monotonic()
        self.seconds += now - self._started
        self._started = now
        if not self.training.processes.is_first:
            return
        tuples = None
        if self._tuples is not None:
            parts = (self._tuples.query, self._tuples.positive, self._tuples.negatives)
            tuples = [torch.from_numpy(part) for part in parts]
        state = {
            "identity": self._identity,
            "step": self.step,
            "seconds": self.seconds,
            "ended": self.ended,
            "branch": self.branch.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "tuples": tuples,
            "mined_at": self._mined_at,
            "best": best,
        }
        save_tensors(self.training.folder / "state.pt", state)

    def resume(self) -> dict[str, Any] | None:
        """Load what `save` wrote, if anything. Returns the best validation so far.

        Raises:
            EngineError: the state cannot be read.
            ContractError: it belongs to another recipe or data set.
        """
        path = self.training.folder / "state.pt"
        if not path.exists():
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            identity = state["identity"]
        except OSError as error:
            raise EngineError(f"cannot read {path}: {error.strerror}") from None
        except MemoryError:
            raise
        except Exception:  # the unpickler and the zip reader raise many kinds; all mean "not a whole file"
            raise EngineError(f"{path} is damaged or is no training state; remove it to start again") from None
        if identity != self._identity:
            raise ContractError(
                f"{path} belongs to a run with another recipe or data set; choose another folder, or remove it to "
                "start again"
            )
        self.branch.load_state_dict(state["branch"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.ended = state["step"], state["seconds"], state["ended"]
        self._mined_at = state["mined_at"]
        if state["tuples"] is not None:
            self._tuples = Tuples(*(part.cpu().numpy() for part in state["tuples"]))
        best: dict[str, Any] | None = state["best"]
        return best
