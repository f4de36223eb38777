"""Features that look alike in every contrast phase, and the search for where they went.

Source: Heinrich et al., "Towards realtime multimodal fusion for image-guided interventions using self-similarities",
MICCAI 2013 (MIND-SSC); Siebert et al., "ConvexAdam", IEEE TMI 2024 (coupled convex search).
"""

from __future__ import annotations

import torch
from torch.nn import functional

NEIGHBORS = ((0, 1, 1), (1, 1, 0), (1, 0, 1), (1, 1, 2), (2, 1, 1), (1, 2, 1))
"""The six neighbors of a voxel as offsets into a 3 x 3 x 3 block."""
WINDOW_HU = (-150.0, 250.0)
"""Range kept before features are computed: fat to enhanced vessels; beyond lie air and bone, which do not breathe."""
CHANNELS = 12


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


def _box(values: torch.Tensor) -> torch.Tensor:
    """Return the mean over 3 x 3 x 3 voxels of (1, 1, Z, Y, X)."""
    padded = functional.pad(values, (1,) * 6, mode="replicate")
    for kernel in ((3, 1, 1), (1, 3, 1), (1, 1, 3)):
        padded = functional.avg_pool3d(padded, kernel, stride=1)
    return padded
