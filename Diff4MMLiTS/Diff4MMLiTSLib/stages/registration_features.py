"""Features that look alike in every contrast phase, and the search for where they went.

Source: Heinrich et al., "Towards realtime multimodal fusion for image-guided interventions using self-similarities",
MICCAI 2013 (MIND-SSC); Siebert et al., "ConvexAdam", IEEE TMI 2024 (coupled convex search).
"""

from __future__ import annotations

from itertools import product

import torch
from torch.nn import functional

from ..core.progress import Progress

NEIGHBORS = ((0, 1, 1), (1, 1, 0), (1, 0, 1), (1, 1, 2), (2, 1, 1), (1, 2, 1))
"""The six neighbors of a voxel as offsets into a 3 x 3 x 3 block."""
WINDOW_HU = (-150.0, 250.0)
"""Range kept before features are computed: fat to enhanced vessels; beyond lie air and bone, which do not breathe."""
BLOCK = 3
"""Edge of the blocks that are searched, in voxels."""


def mind_features(values_hu: torch.Tensor, dilation: int = 2) -> torch.Tensor:
    """Return the self-similarity context of each voxel.

    Args:
        values_hu: CT values, (Z, Y, X), float32, HU, isotropic voxels.
        dilation: Distance of the compared patches from the voxel, in voxels.

    Returns:
        Features in (0, 1], (12, Z, Y, X), float32: for each pair of neighboring patches at a right angle, how alike
        they are, relative to the local variance.
    """
    image = values_hu.clamp(*WINDOW_HU)[None, None]
    padded = functional.pad(image, (dilation,) * 6, mode="replicate")
    shape = values_hu.shape
    shifted = [
        padded[:, :, z * dilation :, y * dilation :, x * dilation :][:, :, : shape[0], : shape[1], : shape[2]]
        for z, y, x in NEIGHBORS
    ]
    distances = []
    for first in range(6):
        for second in range(first):
            step = [abs(a - b) for a, b in zip(NEIGHBORS[first], NEIGHBORS[second], strict=True)]
            if sum(step) == 2 and max(step) == 1:  # at a right angle, not opposite
                distances.append(_box((shifted[first] - shifted[second]) ** 2))
    features = torch.cat(distances, dim=1)[0]  # (12, Z, Y, X)
    features -= features.min(dim=0).values
    variance = features.mean(dim=0)
    middle = variance.mean()
    variance = variance.clamp(float(middle) * 1e-3, float(middle) * 1e3)
    return torch.exp_(features.div_(-variance))


def cost_volume(
    features: tuple[torch.Tensor, torch.Tensor],
    weight: torch.Tensor,
    covered: torch.Tensor,
    reach: int,
    progress: Progress,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compare blocks of the fixed features with the moving features at all shifts within a reach.

    Args:
        features: Fixed and moving, (C, Z, Y, X) each.
        weight: Weight of each fixed voxel, (Z, Y, X); voxels without weight are skipped.
        covered: Where the moving features are valid, (Z, Y, X).
        reach: Largest shift along each axis, in voxels.
        progress: Updated once a plane of shifts.

    Returns:
        Weighted mean squared difference in blocks of 3 x 3 x 3 voxels, (S, Z/3, Y/3, X/3); the mean weight of each
        block, (Z/3, Y/3, X/3); the shifts, (S, 3), in voxels x, y, z.
    """
    fixed, moving = features
    z, y, x = (axis[::2] for axis in torch.nonzero(weight > 0, as_tuple=True))  # every other voxel tells as much
    blocks = [-(-n // BLOCK) for n in weight.shape]
    block = (z // BLOCK * blocks[1] + y // BLOCK) * blocks[2] + x // BLOCK
    padded = functional.pad(torch.cat([moving, covered[None]]), (reach,) * 6)
    rows = padded.flatten(1).T.contiguous()  # one row per voxel: a shift is an offset of rows
    _, y_step, x_step = padded.shape[1:]
    origin = (z * y_step + y) * x_step + x
    own, own_weight = fixed[:, z, y, x].T.contiguous(), weight[z, y, x]
    mean = torch.full((len(fixed),), 1.0 / len(fixed))
    sums = torch.zeros((2 * reach + 1) ** 3, 2, blocks[0] * blocks[1] * blocks[2])
    for number, (dz, dy, dx) in enumerate(product(range(2 * reach + 1), repeat=3)):
        if dy == dx == 0:
            progress.update(dz / (2 * reach + 1))
        found = rows.index_select(0, origin + (dz * y_step + dy) * x_step + dx)
        valid = own_weight * found[:, -1]
        difference = (found[:, :-1] - own).square_() @ mean
        sums[number].index_add_(1, block, torch.stack([difference * valid, valid]))
    sums = functional.avg_pool3d(sums.reshape(-1, 2, *blocks), 2, stride=1, padding=1)
    sums = functional.avg_pool3d(sums, 2, stride=1) * 8  # both: half a block's weight from its neighbors on each axis
    costs = sums[:, 0] / (sums[:, 1] + 0.1)
    mass = torch.zeros(blocks[0] * blocks[1] * blocks[2]).index_add_(0, block, own_weight) * (2.0 / BLOCK**3)
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    shifts = torch.cartesian_prod(steps, steps, steps).flip(1)
    return costs, mass.reshape(*blocks), shifts


def _box(values: torch.Tensor) -> torch.Tensor:
    """Return the mean over 3 x 3 x 3 voxels of (1, 1, Z, Y, X)."""
    padded = functional.pad(values, (1,) * 6, mode="replicate")
    for kernel in ((3, 1, 1), (1, 3, 1), (1, 1, 3)):
        padded = functional.avg_pool3d(padded, kernel, stride=1)
    return padded
