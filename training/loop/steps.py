"""One step after the other of a branch's training: tuples, losses, update; and what is saved to go on from a step."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sdk import EngineError
from sdk.atomic_file import replace_when_done

from ..datasets.training_set import Indices, TrainingSet
from ..networks.descriptor_net import weights_sha256
from ..objective.distillation import Branch, Teacher
from ..objective.losses import triplet_loss
from ..objective.mining import Tuples, mine, queries_in_turn
from ..processes import Processes
from ..recipe import Recipe, write_recipe
from .branches import Inputs, trainable_groups

__all__ = ["LOG_EVERY", "PRECISIONS", "Run"]

LOG_EVERY = 10  # steps
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Figures of a recipe that every stage depends on. Rates and frozen blocks are given for each branch, and what concerns
# pairs is in the weights that a teacher brings.
OF_A_STAGE = {
    "height", "width", "passes", "tuples", "negatives", "margin", "positive", "cache_queries", "cache_pool",
    "warmup", "weight_decay", "final_lr", "clip_norm", "precision", "describe_precision", "augmentation", "crop",
    "patience", "validate_every", "seed",
}  # fmt: skip

Floats = npt.NDArray[np.float32]


def tuple_loss(descriptors: Tensor, tuples: int, margin: float) -> Tensor:
    """L_VPR of B tuples: float32 (B (2 + J), D), unit rows of the queries, then positives, then negatives."""
    query, positive = descriptors[:tuples], descriptors[tuples : 2 * tuples]
    negatives = descriptors[2 * tuples :].reshape(tuples, -1, descriptors.shape[1])  # (B, J, D)
    return triplet_loss(query, positive, negatives, margin)


class Run:
    """A branch on its way: what changes from step to step, and what is therefore saved.

    Attributes:
        step: steps taken.
        seconds: of work up to the last `save`, in all sessions.
        ended: no step is to follow.

    Args:
        branch: on its device; parameters that do not train have no gradient.
        data, recipe, folder, processes, lr, train_norm, teacher, identity_of_data: as for `train_branch`.
    """

    def __init__(
        self,
        branch: Branch,
        data: TrainingSet,
        recipe: Recipe,
        folder: Path,
        processes: Processes,
        lr: float,
        train_norm: bool,
        teacher: Teacher | None,
        identity_of_data: str,
    ) -> None:
        self.branch, self.data, self.recipe, self.folder, self.processes = branch, data, recipe, folder, processes
        self.step, self.seconds, self.ended = 0, 0.0, False
        self._started = time.monotonic()
        self._peak = lr
        self._tuples: Tuples | None = None
        self._mined_at = 0
        groups = trainable_groups(branch, lr, recipe.weight_decay, recipe.projection_lr_factor)
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99))
        self._scales = [group["lr"] / lr for group in self.optimizer.param_groups]
        self._scaler = torch.amp.GradScaler(processes.device.type, enabled=recipe.precision == "float16")
        # A run is the same run if nothing that its weights depend on has changed.
        trained = sorted(name for name, parameter in branch.named_parameters() if parameter.requires_grad)
        chosen = {name: value for name, value in write_recipe(recipe).items() if name in OF_A_STAGE}
        known = hashlib.sha256(
            json.dumps([chosen, lr, train_norm, weights_sha256(branch.net), trained, identity_of_data]).encode()
        )
        if teacher is not None:
            taught = [recipe.distil, recipe.distil_positive, recipe.projection, recipe.projection_lr_factor]
            known.update(json.dumps(taught).encode())
            known.update(np.ascontiguousarray(teacher.descriptors).data)
            known.update(np.ascontiguousarray(teacher.pairs.phi).data)
        self._identity = known.hexdigest()

    # --- one step ---------------------------------------------------------------------------------------

    def tuples_of_step(self, describe_images: Callable[[Indices], Floats]) -> Tuples:
        """This process's tuples of the step to come; hard negatives are sought anew every `cache_queries`."""
        recipe = self.recipe
        steps_a_cache = max(1, recipe.cache_queries // recipe.tuples)
        if self._tuples is None or self.step % steps_a_cache == 0:
            self._mined_at = self.step
            count = min(steps_a_cache, recipe.steps - self.step) * recipe.tuples
            queries = queries_in_turn(
                len(self.data.queries), self.step * recipe.tuples, count, recipe.seed, self.data.query_weight
            )
            self._tuples = mine(
                self.data,
                queries,
                describe_images,
                negatives=recipe.negatives,
                pool=recipe.cache_pool,
                positive=recipe.positive,
                seed=[recipe.seed, 0x3133, self.step],
            )
        first = (self.step - self._mined_at) * recipe.tuples
        rows = self.processes.share(np.arange(first, first + recipe.tuples))
        return Tuples(self._tuples.query[rows], self._tuples.positive[rows], self._tuples.negatives[rows])

    def take_step(self, branch: nn.Module, inputs: Inputs, rows: Tuples, teacher: Teacher | None) -> dict[str, float]:
        """Forward, losses, backward, update. Returns what is worth logging.

        Raises:
            EngineError: the loss is not finite.
        """
        recipe, device = self.recipe, self.processes.device
        for group, scale in zip(self.optimizer.param_groups, self._scales, strict=True):
            group["lr"] = scale * self._peak * self._schedule(self.step)
        tuples = len(rows.query)
        asked = self.data.queries[rows.query]
        images = np.concatenate([asked, rows.positive, rows.negatives.ravel()])
        generator = torch.Generator().manual_seed(
            (recipe.seed << 40) + (self.step << 8) + self.processes.rank  # one per step and process
        )
        x = inputs.batch(images, generator).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, PRECISIONS[recipe.precision], enabled=recipe.precision != "float32"):
            descriptors, projected = branch(x)  # (B (2 + J), D), (B (2 + J), D_t)
        triplet = tuple_loss(descriptors, tuples, recipe.margin)
        loss, record = triplet, {"triplet": triplet.item()}
        if teacher is not None and projected is not None:
            distillation = teacher.loss(projected, rows, asked, distil_positive=recipe.distil_positive)
            loss = triplet + recipe.distil * distillation
            record["distillation"] = distillation.item()
            if (self.step + 1) % LOG_EVERY == 0:
                # How hard each loss pulls at the descriptors: what lambda has to balance.
                for name, part in (("triplet", triplet), ("distillation", distillation)):
                    (pull,) = torch.autograd.grad(part, descriptors, retain_graph=True)
                    record[f"gradient/{name}"] = pull.norm().item()
        if not math.isfinite(loss.item()):
            raise EngineError(
                f"the loss of step {self.step} is {loss.item()}, expected a finite number; lower lr, or use another "
                f"precision; {self.folder} keeps what was saved before"
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self._scaler.scale(loss))
        self._scaler.unscale_(self.optimizer)
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(trained, recipe.clip_norm)
        if not self._scaler.is_enabled() and not math.isfinite(norm.item()):  # a scaler skips such a step by itself
            raise EngineError(
                f"the gradient of step {self.step} is {norm.item()}, expected a finite number; lower lr, or use "
                f"another precision; {self.folder} keeps what was saved before"
            )
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.step += 1
        passes = self.step * recipe.tuples * recipe.tuple_images
        return record | {
            "loss": loss.item(),
            "gradient": norm.item(),
            "lr": self._peak * self._schedule(self.step - 1),
            "passes": passes,
        }

    def _schedule(self, step: int) -> float:
        """Share of the peak learning rate: linear warm-up, then a cosine down to `final_lr`."""
        recipe = self.recipe
        warm = max(1, round(recipe.warmup * recipe.steps))
        if step < warm:
            return (step + 1) / warm
        along = (step - warm) / max(1, recipe.steps - warm)
        return recipe.final_lr + (1.0 - recipe.final_lr) * 0.5 * (1.0 + math.cos(math.pi * along))

    # --- going on ---------------------------------------------------------------------------------------

    def save(self, best: dict[str, Any] | None) -> None:
        """Write all that the next step depends on; the state before is kept until this one is whole."""
        now = time.monotonic()
        self.seconds += now - self._started
        self._started = now
        if not self.processes.is_first:
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
        with replace_when_done(self.folder / "state.pt") as temporary, temporary.open("wb") as file:
            torch.save(state, file)

    def resume(self) -> dict[str, Any] | None:
        """Take up what `save` wrote, if there is something. Returns the best validation so far."""
        path = self.folder / "state.pt"
        if not path.exists():
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            identity = state["identity"]
        except OSError as error:
            raise EngineError(f"cannot read {path}: {error.strerror}; mend that, and go on") from None
        except MemoryError:
            raise
        except Exception:  # the unpickler and the zip reader raise many kinds; all mean "not a whole file"
            raise EngineError(
                f"{path} is damaged or no training state, expected what a run saved; remove it to begin anew"
            ) from None
        if identity != self._identity:
            raise EngineError(
                f"{path} is of a run with another recipe or data set, expected the same; give another folder, or "
                "remove it to begin anew"
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
