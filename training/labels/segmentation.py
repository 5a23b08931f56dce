"""Segmentation label map encoding (SLME): label ids to six clusters to weighted one-hot channels.

    labels uint8 (h, w)  ->  clusters uint8 (h, w)  ->  float32 (N, 6, h, w)
            cluster_label_map (once, cached)     encode_label_map (per batch)

Source: StructVPR (CVPR 2023), "SLME": formatting, clustering, weighting.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sdk import DataError, FrameError, UsageError
from sdk.arrays import Bytes

from ..recipe import CLUSTER_WEIGHTS
from .label_png import read_label_map
from .label_sets import CLUSTERS, LABEL_SETS, LabelSet

__all__ = [
    "VOID_CLUSTER",
    "cluster_label_map",
    "confidence_of",
    "encode_label_map",
    "find_label_set",
]

VOID_CLUSTER = 255
UNKNOWN = 254


def find_label_set(name: str) -> LabelSet:
    """Look up a label set. Raises DataError if the name is unknown."""
    if name not in LABEL_SETS:
        raise DataError(f"label set {name!r} found, expected one of {', '.join(LABEL_SETS)}")
    return LABEL_SETS[name]


def cluster_label_map(labels: Bytes, label_set: LabelSet | str, where: str | Path = "the label map") -> Bytes:
    """Merge the classes of a label map into the six clusters.

    Args:
        labels: uint8 (..., h, w), ids of `label_set`.
        label_set: or its name.
        where: the file, for error messages.

    Returns:
        uint8 (..., h, w): index in `CLUSTERS`, or 255 for void.

    Raises:
        DataError: the label set is unknown.
        FrameError: the map is not uint8, or has an id outside the label set.

    Source: StructVPR (CVPR 2023), SLME, clustering: classes that are too fine "will interfere with VPR like noises".
    """
    if isinstance(label_set, str):
        label_set = find_label_set(label_set)
    if labels.dtype != np.uint8:
        raise FrameError(f"{where}: labels are {labels.dtype}, expected uint8; convert them with .astype(numpy.uint8)")
    clusters = cluster_table(label_set)[labels]
    unknown = clusters == UNKNOWN
    if unknown.any():
        found = ", ".join(map(str, np.unique(labels[unknown])[:5]))
        raise FrameError(f"{where}: label id {found} found, expected {label_set.expected}; name the map's label set")
    return clusters


@functools.cache
def cluster_table(label_set: LabelSet) -> Bytes:
    table = np.full(256, UNKNOWN, np.uint8)
    table[label_set.ids.start : label_set.ids.stop] = label_set.clusters
    table[label_set.void] = VOID_CLUSTER
    return table


def encode_label_map(clusters: Tensor, weights: Sequence[float] = CLUSTER_WEIGHTS) -> Tensor:
    """Weighted one-hot channels: S[n, c, y, x] = weights[c] if clusters[n, y, x] = c, else 0.

    Void (255) is 0 in every channel, as it gives no information; "other" has a channel.

    Args:
        clusters: uint8 (N, h, w), from `cluster_label_map`, on any device.
        weights: one per cluster, in the order of `CLUSTERS`, finite and >= 0.

    Returns:
        float32 (N, 6, h, w) on the same device.

    Raises:
        FrameError: `clusters` is not uint8 (N, h, w), or an id is neither a cluster nor void.
        UsageError: `weights` are out of range or not six.

    Source: StructVPR (CVPR 2023), SLME, formatting and weighting; the values of the weights are a reconstruction.
    """
    if len(weights) != len(CLUSTERS) or not all(math.isfinite(weight) and weight >= 0.0 for weight in weights):
        raise UsageError(
            f"cluster weights are {list(weights)}, expected {len(CLUSTERS)} finite numbers >= 0, for "
            + ", ".join(CLUSTERS)
        )
    if clusters.dtype != torch.uint8 or clusters.ndim != 3:
        found = f"{str(clusters.dtype).removeprefix('torch.')} {tuple(clusters.shape)}"
        raise FrameError(f"cluster ids are {found}, expected uint8 (N, h, w); take them from cluster_label_map")
    if bool(((clusters >= len(CLUSTERS)) & (clusters != VOID_CLUSTER)).any()):
        raise FrameError(
            f"cluster id {int(clusters[clusters != VOID_CLUSTER].max())} found, expected 0 to {len(CLUSTERS) - 1} or "
            f"{VOID_CLUSTER} (void); pass label maps through cluster_label_map first"
        )
    channel = torch.arange(len(CLUSTERS), dtype=torch.uint8, device=clusters.device).view(1, -1, 1, 1)
    weight = torch.tensor(weights, dtype=torch.float32, device=clusters.device).view(1, -1, 1, 1)
    return (clusters.unsqueeze(1) == channel) * weight  # (N, 1, h, w) -> (N, 6, h, w)


def confidence_of(confidence: str | Path | npt.NDArray[np.generic]) -> float:
    """Mean confidence of a label map, for `Recipe.confidence_weight` (our addition, not the paper's).

    A confident label can be wrong: ESPNetv2 labels a black sky as building, and its mean confidence on webcam images is
    0.76 by night and 0.74 by day.

    Args:
        confidence: a `.confidence.png` from `structvpr train labels`, or its pixels (0 to 255), or floats (0 to 1).

    Returns:
        Mean, [0, 1].

    Raises:
        FrameError: the file cannot be read, there are no pixels, or a value is out of range.
    """
    where = "the confidence"
    if isinstance(confidence, (str, Path)):
        where, confidence = str(confidence), read_label_map(Path(confidence))
    if confidence.size == 0:
        raise FrameError(f"{where} has no pixels; make it again")
    if confidence.dtype == np.uint8:
        return float(confidence.mean(dtype=np.float64)) / 255.0
    mean = float(confidence.mean(dtype=np.float64))
    if confidence.dtype.kind != "f" or confidence.min() < 0.0 or not confidence.max() <= 1.0:
        raise FrameError(f"{where} is {confidence.dtype} of mean {mean:g}, expected uint8, or floats from 0 to 1")
    return mean
