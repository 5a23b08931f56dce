"""A descriptor head that keeps some spatial layout, and its initial fit.

Global pooling is robust to viewpoint shifts, and grid cells are robust to night and season. A camera in another lane
sees the image shifted sideways, rarely up or down. So `GridHead` combines global pools with low, wide cells (many
rows, few columns).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sdk import ContractError

__all__ = ["GridHead", "average_cells", "fit_grid_head", "fit_projection", "l2_normalize"]


def l2_normalize(x: Tensor) -> Tensor:
    """Scale each row to length 1.

    Args:
        x: float32 (N, D).

    Returns:
        float32 (N, D). A row of zeros stays zeros.
    """
    # F.normalize exports as ReduceL2, Clip and Expand, which TensorRT 8 and ONNX Runtime's quantiser handle badly.
    # This exports as Mul, ReduceSum, Add, Sqrt, Reciprocal, Mul.
    return x * torch.rsqrt((x * x).sum(dim=1, keepdim=True) + 1e-12)


# --- the grid -------------------------------------------------------------------------------------------


def average_cells(x: Tensor, rows: int, columns: int) -> Tensor:
    """Mean of a feature map over the cells of a grid.

    A feature on a border counts in each cell by the share of its area there. Negative values, which linear bottlenecks
    produce, are not clipped: they are as informative as positive ones.

    Args:
        x: float32 (N, C, h, w).
        rows, columns: of the grid, >= 1.

    Returns:
        float32 (N, C, rows, columns).
    """
    # Adaptive pooling exports only where the sizes divide, so this multiplies by two constants. int(): a tracing
    # exporter must record numbers here, not shape arithmetic.
    down = area_weights(int(x.shape[2]), rows).to(x)  # (rows, h)
    across = area_weights(int(x.shape[3]), columns).to(x)  # (columns, w)
    return down @ (x @ across.T)  # (N, C, h, w) -> (N, C, h, columns) -> (N, C, rows, columns)


def area_weights(size: int, cells: int) -> Tensor:
    """Share of each of `cells` equal parts of an axis that each of `size` features fills: float32 (cells, size)."""
    feature = torch.arange(size, dtype=torch.float64)
    border = torch.arange(cells + 1, dtype=torch.float64) * size / cells
    begin, end = border[:-1, None], border[1:, None]  # (cells, 1) each
    overlap = (torch.minimum(feature + 1.0, end) - torch.maximum(feature, begin)).clamp(min=0.0)  # (cells, size)
    return (overlap * cells / size).float()


class GridHead(nn.Module):
    """Grid cells of the middle map and global pools, each projected to a unit vector, concatenated.

    F = [ L2(W_1 cells + b_1) ; global_weight * L2(W_2 pools + b_2) ], where `cells` is the map's mean over each cell
    and `pools` is the descriptor of the paper's head. So the similarity of two images is a fixed weighted mean of two
    cosines: one depends on layout, the other does not.

    The projections start as parts of random rotations, which roughly preserve similarities. `fit_grid_head` gives a
    much better start, and training from it reaches better results. This head is our addition: the paper pools
    globally. We chose rows, columns and weight on photographs of the training sets and on rendered towns. On the
    photographs, 4 to 8 rows, 2 or 3 columns and weights of 0.4 to 0.8 lie within a point of R@1.

    Args:
        map_channels: of the middle map.
        pools_dim: length of the vector of global pools.
        rows, columns: of the grid.
        grid_dim, global_dim: lengths of the two parts.
        global_weight: of the second part; the first has weight 1.

    Attributes:
        descriptor_dim: grid_dim + global_dim.
        config: the head's entry in a checkpoint, plain values.
    """

    def __init__(
        self,
        map_channels: int,
        pools_dim: int,
        *,
        rows: int = 6,
        columns: int = 2,
        grid_dim: int = 384,
        global_dim: int = 128,
        global_weight: float = 0.6,
    ) -> None:
        super().__init__()
        self.rows, self.columns, self.global_weight = rows, columns, global_weight
        self.grid_projection = rotation(map_channels * rows * columns, grid_dim)
        self.global_projection = rotation(pools_dim, global_dim)
        self.descriptor_dim = grid_dim + global_dim

    @property
    def config(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "columns": self.columns,
            "grid_dim": self.grid_projection.out_features,
            "global_dim": self.global_projection.out_features,
            "global_weight": self.global_weight,
        }

    def forward(self, middle: Tensor, pools: Tensor) -> Tensor:
        """Describe a batch.

        Args:
            middle: float32 (N, map_channels, h, w).
            pools: float32 (N, pools_dim).

        Returns:
            The raw descriptors, float32 (N, D), of length sqrt(1 + global_weight^2).
        """
        grid = l2_normalize(self.grid_projection(self.cells(middle)))  # (N, grid_dim)
        whole = l2_normalize(self.global_projection(pools))  # (N, global_dim)
        return torch.cat([grid, self.global_weight * whole], dim=1)  # (N, D)

    def cells(self, middle: Tensor) -> Tensor:
        """Input of the grid's projection: float32 (N, map_channels * rows * columns), unit rows."""
        return l2_normalize(average_cells(middle, self.rows, self.columns).flatten(1))


def rotation(dim_in: int, dim_out: int) -> nn.Linear:
    """A projection initialised as part of a random rotation."""
    projection = nn.Linear(dim_in, dim_out)
    nn.init.orthogonal_(projection.weight)
    nn.init.zeros_(projection.bias)
    return projection


# --- initial projections --------------------------------------------------------------------------------

PRINCIPAL = 640  # components in which the spread within places is measured; the rest is noise
SHRINKAGE = 0.3  # of that spread towards an isotropic one


def fit_grid_head(head: GridHead, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Initialise the two projections of a head from features of images.

    Args:
        head: changed in place.
        batches: (middle map float32 (n, map_channels, h, w), pools float32 (n, pools_dim), places int64 (n,)), see
            `fit_projection`. Each batch is read once; maps are not kept.

    Raises:
        ContractError: see `fit_projection`.
    """
    cells, pools, places = [], [], []
    with torch.no_grad():
        for middle, pooled, place in batches:
            cells.append(head.cells(middle).cpu())
            pools.append(pooled.cpu())
            places.append(place.cpu())
        if not cells:
            raise ContractError("there is no image to fit the head on; give batches of some thousand images")
        place = torch.cat(places)
        for projection, features in ((head.grid_projection, cells), (head.global_projection, pools)):
            weight, bias = fit_projection(torch.cat(features), place, projection.out_features)
            projection.weight.copy_(weight)
            projection.bias.copy_(bias)


def fit_projection(features: Tensor, places: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Whiten by the spread within places, then keep the directions of the largest spread.

    1. Subtract the mean and keep the `PRINCIPAL` largest components.
    2. Scale directions in which images of one place differ (light, season, viewpoint) to a common spread.
    3. Keep the `dim` largest components and scale them by their variance to the power of -0.1.

    If no two images show one place, step 2 is skipped and the power is -0.25 (plain PCA).

    Args:
        features: float32 (n, d), n > dim.
        places: int64 (n,), the place of each image; -1 for an image whose place no other image shows.
        dim: <= d.

    Returns:
        weight float32 (dim, d) and bias float32 (dim,), for `weight @ x + bias`.

    Raises:
        ContractError: there are too few images, they differ in fewer than `dim` directions, or a feature is not finite.

    Source: Mikolajczyk and Matas, Improving Descriptors for Fast Tree Matching by Optimal Linear Projection
    (ICCV 2007); for descriptors, Radenović et al. (TPAMI 2019), section 3.3. The shrinkage and the powers weaker than
    full whitening are ours; Jégou and Chum (ECCV 2012) show that full whitening of many dimensions hurts.
    """
    features = features.double()
    count, available = features.shape
    if dim > available or count <= dim:
        raise ContractError(
            f"{count} images of {available} features found, expected more than {dim} of each for {dim} dimensions; "
            "give more images or a smaller head"
        )
    if not torch.isfinite(features).all():
        raise ContractError("features hold NaN or infinity; check the images and the trunk")
    mean = features.mean(dim=0)
    variance, axes = principal_axes(features - mean, min(max(PRINCIPAL, dim), available, count - 1))
    if len(variance) < dim:
        raise ContractError(
            f"{count} images differ in {len(variance)} directions, expected at least {dim}; give more varied images"
        )
    kept = (features - mean) @ axes  # (n, k)
    within = deviations_within_places(kept, places)  # (m, k)
    if len(within):
        spread, directions = torch.linalg.eigh(within.T @ within / len(within))
        scale = (spread.clamp(min=0.0) + SHRINKAGE * spread.mean()).rsqrt()
        whitening, power = directions * scale, -0.1  # (k, k)
    else:
        whitening, power = torch.eye(kept.shape[1], dtype=kept.dtype), -0.25
    variance, main = principal_axes(kept @ whitening, dim)
    if len(variance) < dim:
        raise ContractError(
            f"{count} images differ in {len(variance)} directions, expected at least {dim}; give more varied images"
        )
    weight = (axes @ whitening @ main * variance.pow(power)).T  # (dim, d)
    weight = weight / (weight @ (features - mean).T).norm(dim=0).mean()  # mean length 1; cosines do not change
    return weight.float(), (-weight @ mean).float()


def principal_axes(centred: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest variances (k,) and their directions (d, k), of centred rows (n, d); k <= count."""
    variance, directions = torch.linalg.eigh(centred.T @ centred / len(centred))  # ascending: (d,), (d, d)
    variance, directions = variance.flip(0), directions.flip(1)
    k = min(count, int((variance > 1e-10 * variance[0]).sum()))
    return variance[:k], directions[:, :k]


def deviations_within_places(features: Tensor, places: Tensor) -> Tensor:
    """Features minus the mean of their place, for places with several images: (m, d)."""
    numbers, index, sizes = torch.unique(places, return_inverse=True, return_counts=True)
    sums = features.new_zeros(len(numbers), features.shape[1]).index_add_(0, index, features)
    shared = (sizes[index] > 1) & (places >= 0)
    deviations: Tensor = features - (sums / sizes[:, None])[index]
    return deviations[shared]
