"""From a data set to a student: the two stages of StructVPR, and the table of pairs between them.

    stage 1    the RGB branch and the segmentation branch, each with the triplet loss
    between    both branches rank every pair; pairs are grouped and weighted (`pairs-a1-log_rank.csv`)
    stage 2    a new RGB branch, with the triplet loss and the distillation loss

A run's folder holds rgb/, seg/ and student/ (see `train_branch`), teacher.npz, student.npz, the pairs, and head.pt if
the head is fitted. A finished part is not repeated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdk import ContractError, DataError
from sdk.arrays import Floats
from sdk.atomic_file import replace_when_done, writing

from ..inputs.batches import Inputs, rgb_set, seg_set
from ..json_files import write_json
from ..networks.checkpoint import save_checkpoint, save_tensors
from ..networks.descriptor_net import DescriptorNet, make_contract, weights_sha256
from ..objective.distillation import Teacher
from ..objective.pair_table import PairTable, make_pair_table, write_pair_table
from ..processes import Processes
from ..recipe import Recipe, change_recipe, write_recipe
from .branches import freeze, make_rgb_branch, make_seg_branch, start_head
from .context import TrainingContext
from .describing import describe_together, recall_on
from .steps import BranchTraining
from .train import Trained, train_branch

__all__ = [
    "StudentRun",
    "compare_branches",
    "fit_to_minutes",
    "save_student",
    "train_rgb_branch",
    "train_seg_branch",
    "train_student",
]

TRIAL_STEPS = 30
VALIDATIONS = 10  # of a run, unless the recipe says otherwise

TrainedBranch = tuple[DescriptorNet, Trained]  # with its best weights, in evaluation mode


@dataclass(frozen=True)
class StudentRun:
    """Both stages of a run.

    Attributes:
        rgb, seg: the branches of stage 1.
        student: the branch of stage 2.
        pairs: the table between the stages.
    """

    rgb: TrainedBranch
    seg: TrainedBranch
    student: TrainedBranch
    pairs: PairTable


def train_rgb_branch(
    context: TrainingContext, recipe: Recipe, folder: Path, teacher: Teacher | None = None
) -> TrainedBranch:
    """The RGB branch from ImageNet's weights: stage 1, or with a teacher stage 2."""
    device = context.processes.device
    net = start_rgb_branch(context, recipe, folder.parent / "head.pt")
    freeze(net, recipe.rgb.frozen_blocks)
    training = BranchTraining(
        rgb_set(context.training, net, recipe, device),
        rgb_set(context.validation, net, recipe, device),
        recipe,
        recipe.rgb,
        folder,
        context.processes,
        teacher,
        context.progress,
        context.tensorboard,
        identity_of_data=f"{context.training.digest} {context.validation.digest}",
    )
    trained = train_branch(net, training)
    return net.eval(), trained


def start_rgb_branch(context: TrainingContext, recipe: Recipe, head_file: Path) -> DescriptorNet:
    """The RGB branch before its first step. Both stages start from one fitted head, which is kept in a file."""
    processes = context.processes
    torch.manual_seed(recipe.seed)  # a head's projections are random before they are fitted
    net = make_rgb_branch(recipe.backbone, context.weights, recipe.head).to(processes.device)
    if net.head is None:
        return net
    of = f"{weights_sha256(net)} {context.training.digest} {recipe.height} {recipe.width} {recipe.seed}"
    if processes.is_first and not _holds(head_file, of):
        start_head(net, rgb_set(context.training, net, recipe, processes.device), recipe.seed)
        with writing(head_file):
            head_file.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(head_file, {"of": of, "head": net.head.state_dict()})
    processes.wait()
    net.head.load_state_dict(torch.load(head_file, map_location=processes.device, weights_only=True)["head"])
    return net


def _holds(head_file: Path, of: str) -> bool:
    """Whether the file is whole and belongs to this network, set and seed."""
    try:
        return bool(torch.load(head_file, map_location="cpu", weights_only=True)["of"] == of)
    except Exception:  # missing or damaged (torch raises many kinds): made again
        return False


def train_seg_branch(context: TrainingContext, recipe: Recipe, folder: Path) -> TrainedBranch:
    """The segmentation branch: stage 1."""
    device = context.processes.device
    net = make_seg_branch(recipe.backbone, context.weights, recipe.class_weights)
    freeze(net, recipe.seg.frozen_blocks)
    digests = f"{context.training.labels_digest} {context.validation.labels_digest}"
    training = BranchTraining(
        seg_set(context.training, recipe, device),
        seg_set(context.validation, recipe, device),
        recipe,
        recipe.seg,
        folder,
        context.processes,
        progress=context.progress,
        tensorboard=context.tensorboard,
        identity_of_data=f"{digests} {recipe.class_weights}",
    )
    trained = train_branch(net, training)
    return net.eval(), trained


def compare_branches(
    context: TrainingContext, recipe: Recipe, folder: Path, seg: DescriptorNet, rgb: DescriptorNet
) -> Teacher:
    """Rank every pair of the training set under both branches of stage 1.

    Writes teacher.npz, student.npz and pairs-SELECTION-WEIGHTS.csv into `folder`.
    """
    material, device = context.training, context.processes.device
    of_labels = seg_set(material, recipe, device).inputs
    of_frames = rgb_set(material, rgb, recipe, device).inputs
    taught = _kept_descriptors(context, recipe, folder / "teacher.npz", seg, of_labels, material.labels_digest)
    own = _kept_descriptors(context, recipe, folder / "student.npz", rgb, of_frames, material.digest)
    table = make_pair_table(material.data, taught, own, recipe, material.confidence)
    if context.processes.is_first:
        write_pair_table(folder / f"pairs-{recipe.pairs}-{recipe.weight_form}.csv", table, material.data)
    return Teacher(taught, table)


def train_student(context: TrainingContext, recipe: Recipe, folder: Path) -> StudentRun:
    """Train both stages in `folder`."""
    rgb = train_rgb_branch(context, recipe, folder / "rgb")
    seg = train_seg_branch(context, recipe, folder / "seg")
    teacher = compare_branches(context, recipe, folder, seg[0], rgb[0])
    return StudentRun(rgb, seg, train_rgb_branch(context, recipe, folder / "student", teacher), teacher.pairs)


def save_student(run: StudentRun, recipe: Recipe, folder: Path, name: str, about: dict[str, Any]) -> None:
    """Write the checkpoints student.pt and rgb.pt, the branch of stage 1.

    Args:
        run: from `train_student`.
        recipe: of the run; gives the input size of the deployed network.
        folder: of the run.
        name: of the model.
        about: facts to keep in the checkpoint.
    """
    for (net, trained), file, title in (
        (run.student, "student.pt", name),
        (run.rgb, "rgb.pt", f"{name}-rgb-only"),
    ):
        contract = make_contract(net, title, recipe.export_height, recipe.export_width)
        facts = {"recipe": write_recipe(recipe), **about, "validation": trained.metrics, "passes": trained.passes}
        save_checkpoint(folder / file, net, contract, facts)


def fit_to_minutes(context: TrainingContext, recipe: Recipe, folder: Path, minutes: float, runs: int) -> Recipe:
    """The recipe with as many image passes as fit into a time on this machine.

    A few steps of the RGB branch measure the speed. The result is kept in `folder`/passes.json, because a resumed run
    must use the same number.

    Args:
        context: training and validation sets.
        recipe: all other choices.
        folder: of the runs.
        minutes: total time of all runs.
        runs: number of runs, which share the time equally.

    Raises:
        DataError: passes.json is damaged.
        ContractError: `folder` was begun with other minutes.
    """
    kept, asked = folder / "passes.json", {"minutes": minutes, "runs": runs}
    if context.processes.is_first and not kept.exists():
        trial_passes = TRIAL_STEPS * recipe.tuples * recipe.tuple_images
        trial = change_recipe(recipe, passes=trial_passes, validate_every=TRIAL_STEPS)
        alone = dataclasses.replace(context, processes=Processes(0, 1, context.processes.device))
        with tempfile.TemporaryDirectory() as scratch:
            net, trained = train_rgb_branch(alone, trial, Path(scratch) / "rgb")
        started = time.monotonic()
        recall_on(net, rgb_set(context.validation, net, recipe, alone.processes.device), recipe, alone.processes)
        validation_s = time.monotonic() - started
        pass_s = max(trained.seconds - validation_s, 1e-3) / trained.passes / context.processes.count
        passes = int((60.0 * minutes / runs - VALIDATIONS * validation_s) / pass_s)
        write_json(kept, asked | {"passes": max(passes, trial_passes)})
    context.processes.wait()
    try:
        found = json.loads(kept.read_text(encoding="utf-8"))
        passes, before = int(found.pop("passes")), found
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{kept}: cannot read the passes of this folder's runs; remove it") from None
    if before != asked:
        raise ContractError(f"{kept}: belongs to {before}, this run has {asked}; choose another folder, or remove it")
    return change_recipe(recipe, passes=passes)


def _kept_descriptors(
    context: TrainingContext, recipe: Recipe, path: Path, net: DescriptorNet, inputs: Inputs, digest: str
) -> Floats:
    """Descriptors of the whole training set, read from `path` if it belongs to this network and set."""
    processes = context.processes
    of = f"{weights_sha256(net)} {digest} {recipe.describe_precision}"
    if path.exists():
        with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile), np.load(path) as kept:
            if str(kept["of"]) == of:
                return np.asarray(kept["descriptors"], np.float32)
    everything = np.arange(len(context.training.data.images))
    progress = context.step_progress(f"describing {path.stem}")
    descriptors = describe_together(net, inputs, everything, recipe, processes, progress)
    processes.wait()  # until every process has read the old file
    if processes.is_first:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with replace_when_done(path) as temporary, temporary.open("wb") as file:
            np.savez(file, of=np.array(of), descriptors=descriptors)
    processes.wait()
    return descriptors
