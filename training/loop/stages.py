"""From a data set to a student: the two stages of StructVPR, and what lies between them.

    stage 1    the RGB branch and the segmentation branch, each with the triplet loss
    between    both branches rank every pair; pairs are grouped and weighted (`pairs-a1-log_rank.csv`)
    stage 2    a fresh RGB branch, with the triplet loss and what the segmentation branch teaches

The files of a run, in its folder: rgb/, seg/ and student/ (each as `train_branch` writes it), teacher.npz, student.npz
and the pairs, and head.pt, where a fitted head starts.
A part that is whole is not made again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sdk import ContractError
from sdk.atomic_file import replace_when_done

from ..inputs.material import Material
from ..networks.descriptor_net import DescriptorNet, weights_sha256
from ..objective.distillation import Teacher
from ..objective.pair_table import PairTable, make_pair_table, write_pair_table
from ..processes import Processes
from ..recipe import Recipe
from .branches import FrameInputs, Inputs, LabelInputs, freeze, make_rgb_branch, make_seg_branch, start_head
from .train import Trained, describe_together, recall_on, train_branch

__all__ = [
    "Workshop",
    "compare_branches",
    "fit_to_minutes",
    "rgb_inputs",
    "seg_inputs",
    "train_rgb_branch",
    "train_seg_branch",
    "train_student",
]

Floats = npt.NDArray[np.float32]
TRIAL_STEPS = 30
VALIDATIONS = 10  # of a run, unless the recipe says otherwise


@dataclass(frozen=True)
class Workshop:
    """What all runs of one kind share.

    Attributes:
        training: what branches learn from.
        validation: says which weights are best.
        weights: ImageNet weights of the recipe's backbone.
        processes: this one and the others.
        progress: told (what, done, total).
        tensorboard: also write event files.
    """

    training: Material
    validation: Material
    weights: Mapping[str, Tensor]
    processes: Processes
    progress: Callable[[str, int, int], None] | None = None
    tensorboard: bool = False

    def telling(self, what: str) -> Callable[[int, int], None] | None:
        """`progress` of one kind of work: told (done, total)."""
        progress = self.progress
        return None if progress is None else lambda done, total: progress(what, done, total)


def train_rgb_branch(
    workshop: Workshop, recipe: Recipe, folder: Path, teacher: Teacher | None = None
) -> tuple[DescriptorNet, Trained]:
    """The RGB branch from ImageNet's weights: stage 1, or with a teacher stage 2.

    Returns:
        The branch with its best weights, in evaluation mode, and how the run ended.
    """
    net = start_rgb_branch(workshop, recipe, folder.parent / "head.pt")
    freeze(net, recipe.frozen_blocks)
    inputs = rgb_inputs(workshop.training, net, recipe, workshop.processes)
    asked = rgb_inputs(workshop.validation, net, recipe, workshop.processes)
    return _train(
        workshop,
        recipe,
        folder,
        net,
        inputs,
        asked,
        recipe.lr,
        recipe.train_norm,
        teacher,
        f"{workshop.training.digest} {workshop.validation.digest}",
    )


def start_rgb_branch(workshop: Workshop, recipe: Recipe, head_file: Path) -> DescriptorNet:
    """The RGB branch before its first step; the start of a fitted head is kept in a file, as both stages share it."""
    processes = workshop.processes
    torch.manual_seed(recipe.seed)  # a head's projections are drawn before they are fitted
    net = make_rgb_branch(recipe.backbone, workshop.weights, recipe.head).to(processes.device)
    if net.head is None:
        return net
    of = f"{weights_sha256(net)} {workshop.training.digest} {recipe.height} {recipe.width} {recipe.seed}"
    if processes.is_first and not _holds(head_file, of):
        start_head(net, workshop.training.data, rgb_inputs(workshop.training, net, recipe, processes), recipe.seed)
        head_file.parent.mkdir(parents=True, exist_ok=True)
        with replace_when_done(head_file) as temporary, temporary.open("wb") as file:
            torch.save({"of": of, "head": net.head.state_dict()}, file)
    processes.wait()
    net.head.load_state_dict(torch.load(head_file, map_location=processes.device, weights_only=True)["head"])
    return net


def _holds(head_file: Path, of: str) -> bool:
    """Whether a file is whole and of this network, set and seed."""
    try:
        return bool(torch.load(head_file, map_location="cpu", weights_only=True)["of"] == of)
    except Exception:  # missing, or the many kinds of a file that is not whole: it is made anew
        return False


def train_seg_branch(workshop: Workshop, recipe: Recipe, folder: Path) -> tuple[DescriptorNet, Trained]:
    """The segmentation branch: stage 1. Returns as `train_rgb_branch`."""
    net = make_seg_branch(recipe.backbone, workshop.weights, recipe.class_weights)
    freeze(net, recipe.seg_frozen_blocks)
    seen = f"{workshop.training.labels_digest} {workshop.validation.labels_digest} {recipe.class_weights}"
    inputs = seg_inputs(workshop.training, recipe, workshop.processes)
    asked = seg_inputs(workshop.validation, recipe, workshop.processes)
    return _train(workshop, recipe, folder, net, inputs, asked, recipe.seg_lr, recipe.seg_train_norm, None, seen)


def compare_branches(
    workshop: Workshop, recipe: Recipe, folder: Path, seg: DescriptorNet, rgb: DescriptorNet
) -> Teacher:
    """Rank every pair of the training set under both branches of stage 1.

    Writes teacher.npz, student.npz and pairs-SELECTION-WEIGHTS.csv into `folder`.
    """
    material, processes = workshop.training, workshop.processes
    taught = _kept_descriptors(
        workshop, recipe, folder / "teacher.npz", seg, seg_inputs(material, recipe, processes), labels=True
    )
    own = _kept_descriptors(
        workshop, recipe, folder / "student.npz", rgb, rgb_inputs(material, rgb, recipe, processes), labels=False
    )
    table = make_pair_table(material.data, taught, own, recipe, material.confidence)
    if processes.is_first:
        write_pair_table(folder / f"pairs-{recipe.pairs}-{recipe.weight_form}.csv", table, material.data)
    return Teacher(taught, table)


def train_student(
    workshop: Workshop, recipe: Recipe, folder: Path
) -> tuple[DescriptorNet, Trained, PairTable, dict[str, tuple[DescriptorNet, Trained]]]:
    """Both stages.

    Returns:
        The student, how its run ended, the table of pairs, and the branches of stage 1 with how they ended, by "rgb"
        and "seg".
    """
    first = {
        "rgb": train_rgb_branch(workshop, recipe, folder / "rgb"),
        "seg": train_seg_branch(workshop, recipe, folder / "seg"),
    }
    teacher = compare_branches(workshop, recipe, folder, first["seg"][0], first["rgb"][0])
    student, trained = train_rgb_branch(workshop, recipe, folder / "student", teacher)
    return student, trained, teacher.pairs, first


def fit_to_minutes(workshop: Workshop, recipe: Recipe, folder: Path, minutes: float, runs: int) -> Recipe:
    """The recipe with as many image passes as fit into a time on this machine.

    The speed is measured once, by a few steps of the RGB branch, and kept in `folder`/passes.json: a run that goes on
    must not choose another number.

    Args:
        workshop: training and validation sets.
        recipe: everything else.
        folder: of the runs.
        minutes: for all runs.
        runs: of the same number of passes each.

    Raises:
        ContractError: `folder` was begun with other minutes, or its file is damaged.
    """
    kept, asked = folder / "passes.json", {"minutes": minutes, "runs": runs}
    if workshop.processes.is_first and not kept.exists():
        trial = dataclasses.replace(
            recipe, passes=TRIAL_STEPS * recipe.tuples * recipe.tuple_images, validate_every=TRIAL_STEPS
        )
        alone = dataclasses.replace(workshop, processes=Processes(0, 1, workshop.processes.device))
        with tempfile.TemporaryDirectory() as scratch:
            net, trained = train_rgb_branch(alone, trial, Path(scratch) / "rgb")
        started = time.monotonic()
        recall_on(
            net,
            workshop.validation.data,
            rgb_inputs(workshop.validation, net, recipe, alone.processes),
            recipe,
            alone.processes,
        )
        validation_s = time.monotonic() - started
        pass_s = max(trained.seconds - validation_s, 1e-3) / trained.passes / workshop.processes.count
        passes = int((60.0 * minutes / runs - VALIDATIONS * validation_s) / pass_s)
        folder.mkdir(parents=True, exist_ok=True)
        with replace_when_done(kept) as temporary:
            temporary.write_text(json.dumps(asked | {"passes": max(passes, trial.passes)}), encoding="utf-8")
    workshop.processes.wait()
    try:
        found = json.loads(kept.read_text(encoding="utf-8"))
        passes, before = int(found.pop("passes")), found
    except (OSError, ValueError, KeyError, TypeError):
        raise ContractError(f"{kept}: cannot be read, expected the passes of this folder's runs; remove it") from None
    if before != asked:
        raise ContractError(f"{kept}: is of {before}, {asked} was asked for; give another folder, or remove it")
    return dataclasses.replace(recipe, passes=passes)


def rgb_inputs(material: Material, net: DescriptorNet, recipe: Recipe, processes: Processes) -> FrameInputs:
    """Frames of a set, for a branch."""
    return FrameInputs(material.frames, net, recipe.augmentation, recipe.crop, processes.device)


def seg_inputs(material: Material, recipe: Recipe, processes: Processes) -> LabelInputs:
    """Label maps of a set."""
    return LabelInputs(material.label_store(), recipe.class_weights, processes.device)


def _train(
    workshop: Workshop,
    recipe: Recipe,
    folder: Path,
    net: DescriptorNet,
    inputs: Inputs,
    validation_inputs: Inputs,
    lr: float,
    train_norm: bool,
    teacher: Teacher | None,
    identity_of_data: str,
) -> tuple[DescriptorNet, Trained]:
    trained = train_branch(
        net,
        workshop.training.data,
        inputs,
        workshop.validation.data,
        validation_inputs,
        recipe,
        folder,
        workshop.processes,
        lr=lr,
        train_norm=train_norm,
        teacher=teacher,
        progress=workshop.progress,
        tensorboard=workshop.tensorboard,
        identity_of_data=identity_of_data,
    )
    return net.eval(), trained


def _kept_descriptors(
    workshop: Workshop, recipe: Recipe, path: Path, net: DescriptorNet, inputs: Inputs, *, labels: bool
) -> Floats:
    """Descriptors of the whole training set, from `path` if they are of this network and this set."""
    material, processes = workshop.training, workshop.processes
    digest = material.labels_digest if labels else material.digest
    of = f"{weights_sha256(net)} {digest} {recipe.describe_precision}"
    if path.exists():
        with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile), np.load(path) as kept:
            if str(kept["of"]) == of:
                return np.asarray(kept["descriptors"], np.float32)
    everything = np.arange(len(material.data.images))
    descriptors = describe_together(
        net, inputs, everything, recipe, processes, workshop.telling(f"describing {path.stem}")
    )
    processes.wait()  # until every process has looked at the old file
    if processes.is_first:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_when_done(path) as temporary, temporary.open("wb") as file:
            np.savez(file, of=np.array(of), descriptors=descriptors)
    processes.wait()
    return descriptors
