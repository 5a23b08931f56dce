"""Descriptors of many images under a branch, and recall on a set."""

from __future__ import annotations

import numpy as np
import torch

from sdk import EngineError
from sdk.arrays import Floats, Indices
from sdk.progress import StepProgress

from ..inputs.batches import BranchSet, Inputs
from ..networks.descriptor_net import DescriptorNet, l2_normalize
from ..objective.ranking import first_right_ranks, recall_percent
from ..processes import Processes
from ..recipe import Recipe

__all__ = ["BATCH", "DTYPES", "describe", "describe_together", "ranks_on", "recall_on"]

BATCH = 64
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def describe(
    net: DescriptorNet,
    inputs: Inputs,
    indices: Indices,
    *,
    precision: torch.dtype = torch.float32,
    progress: StepProgress | None = None,
) -> Floats:
    """Descriptors of images, in evaluation mode.

    Args:
        net: a branch. Its mode is restored afterwards.
        inputs: makes its input.
        indices: int64 (n,).
        precision: of the arithmetic, see `Recipe`.
        progress: called after each batch.

    Returns:
        float32 (n, D), unit rows.

    Raises:
        EngineError: a descriptor is not finite.
    """
    was_training = net.training
    net.eval()
    rows: list[Floats] = []
    try:
        with torch.inference_mode():
            for first in range(0, len(indices), BATCH):
                x = inputs.batch(indices[first : first + BATCH], None).contiguous(memory_format=torch.channels_last)
                with torch.autocast(x.device.type, precision, enabled=precision != torch.float32):
                    raw = net(x)
                rows.append(l2_normalize(raw.float()).cpu().numpy())
                if progress is not None:
                    progress(min(first + BATCH, len(indices)), len(indices))
    finally:
        net.train(was_training)
    if not rows:
        return np.zeros((0, net.descriptor_dim), np.float32)
    found = np.concatenate(rows)
    if not np.isfinite(found).all():
        # No similarity is larger than NaN, so ranking would count such a row as found.
        raise EngineError("a branch gives descriptors that are not finite; lower lr, or use another precision")
    return found


def describe_together(
    net: DescriptorNet,
    inputs: Inputs,
    images: Indices,
    recipe: Recipe,
    processes: Processes,
    progress: StepProgress | None = None,
) -> Floats:
    """Unit descriptors of images, float32 (n, D), on every process; the processes share the work, see `describe`."""
    processes.agree(net)
    precision = DTYPES[recipe.describe_precision]
    part = describe(net, inputs, processes.share(images), precision=precision, progress=progress)
    return processes.gather(part, len(images))


def ranks_on(
    net: DescriptorNet, seen: BranchSet, recipe: Recipe, processes: Processes, progress: StepProgress | None = None
) -> Indices:
    """For each query of a set, the rank of its first right answer under a branch, see `first_right_ranks`."""
    data = seen.data
    used = np.unique(np.concatenate([data.queries, data.database]))
    rows = describe_together(net, seen.inputs, used, recipe, processes, progress)
    descriptors = np.zeros((len(data.images), rows.shape[1]), np.float32)
    descriptors[used] = rows
    return first_right_ranks(data, descriptors)


def recall_on(net: DescriptorNet, seen: BranchSet, recipe: Recipe, processes: Processes) -> dict[str, float]:
    """R@1, R@5, R@10 and R@20 of a branch on a set, percent."""
    return recall_percent(ranks_on(net, seen, recipe, processes))
