"""The deformable refinement: a cubic B-spline displacement found by a discrete search and then by gradient descent.

Instance optimization in the spirit of ConvexAdam (Siebert et al., IEEE TMI 2024): self-similarity features, a coupled
convex discrete search for the large motion, then Adam. Different from it: the displacement is a true cubic B-spline with
vanishing border (so that it decays smoothly and is written as one ITK transform), each step looks at a random part of the
voxels of the organ only, and the regularization is the exact bending energy of the coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ..core.config import RegisterConfig
from ..core.grid import Grid
from ..core.progress import Progress
from .registration_features import mind_features

COUPLING = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Weights that pull the discrete search towards its smoothed result, one round each (ConvexAdam)."""
FIXED_LAYERS = 3
"""Outer layers of coefficients that stay zero: then displacement and gradient vanish at the border."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Both images on one isotropic working grid, the moving one already aligned linearly.

    Args:
        grid: The working grid.
        fixed_hu: Reference, (Z, Y, X), float32.
        moving_hu: Moving, same shape.
        weight: How much each reference voxel counts, same shape, 0 to 1.
        coverage: Where the moving volume has data, same shape, 0 or 1.
    """

    grid: Grid
    fixed_hu: torch.Tensor
    moving_hu: torch.Tensor
    weight: torch.Tensor
    coverage: torch.Tensor


@dataclass(frozen=True, eq=False)
class Spline:
    """A cubic B-spline displacement on the working grid.

    Args:
        grid: The working grid.
        coefficients_mm: (3, Z, Y, X) of control points, components x, y, z along the grid's axes, mm.
    """

    grid: Grid
    coefficients_mm: torch.Tensor

    def dense(self) -> torch.Tensor:
        """Return the displacement at every voxel, (3, Z, Y, X), mm along the grid's axes x, y, z."""
        return evaluate(self.coefficients_mm, bases(self.grid, self.coefficients_mm))

    def jacobian(self) -> torch.Tensor:
        """Return the determinant of the gradient of p + u(p) at every voxel, (Z, Y, X)."""
        matrices = bases(self.grid, self.coefficients_mm)
        slopes = bases(self.grid, self.coefficients_mm, derivative=True)
        rows = []
        for axis in (2, 1, 0):  # derivative along x, y, z
            mixed = [slopes[k] if k == axis else matrices[k] for k in range(3)]
            rows.append(evaluate(self.coefficients_mm, mixed))
        gradient = torch.stack(rows, dim=1) + torch.eye(3)[:, :, None, None, None]
        return torch.linalg.det(gradient.permute(2, 3, 4, 0, 1))

    def to_transform(self) -> sitk.BSplineTransform:
        """Return the ITK transform p -> p + u(p) in world coordinates; identity outside the working grid."""
        transform = sitk.BSplineTransform(3, 3)
        transform.SetTransformDomainOrigin(self.grid.origin_mm)
        transform.SetTransformDomainDirection(self.grid.direction)
        transform.SetTransformDomainPhysicalDimensions(
            [(n - 1) * step for n, step in zip(self.grid.size, self.grid.spacing_mm, strict=True)]
        )
        meshes = [n - 3 for n in self.coefficients_mm.shape[:0:-1]]
        transform.SetTransformDomainMeshSize(meshes)
        world = np.einsum("ij,jzyx->izyx", self.grid.direction_matrix, self.coefficients_mm.double().numpy())
        transform.SetParameters(world.reshape(-1).tolist())
        return transform


def register_deformable(pair: Pair, config: RegisterConfig, generator: torch.Generator, progress: Progress) -> Spline:
    """Find the B-spline displacement that aligns a pair.

    Args:
        pair: The images on their working grid.
        config: Spacings, iterations, regularization.
        generator: Draws the voxels that each step looks at.
        progress: Updated in every iteration.

    Raises:
        CanceledError: The user asked to stop.
    """
    fixed, moving = mind_features(pair.fixed_hu), mind_features(pair.moving_hu)
    progress.update(0.1)
    field = coarse_search(pair, fixed, moving, config, progress.part(0.1, 0.3))
    coefficients = _fit(pair.grid, field, config.control_mm)
    result = _descend(pair, (fixed, moving), coefficients, config, generator, progress.part(0.3, 1.0))
    return Spline(pair.grid, result)


def coarse_search(
    pair: Pair, fixed: torch.Tensor, moving: torch.Tensor, config: RegisterConfig, progress: Progress
) -> torch.Tensor:
    """Return the displacement (3, Z, Y, X), mm along x, y, z, on the working grid by the coupled convex search."""
    step_mm = 2 * pair.grid.spacing_mm[0]
    small_fixed, small_moving = (functional.avg_pool3d(f[None], 2)[0] for f in (fixed, moving))
    covered = functional.avg_pool3d(pair.coverage[None, None], 2)[0, 0]
    weight = functional.avg_pool3d(pair.weight[None, None], 2)[0, 0]
    reach = round(config.search_mm / step_mm)
    costs, shifts = cost_volume(small_fixed, small_moving, weight, covered, reach, progress)
    field = _coupled_convex(costs, shifts, weight) * step_mm  # (3, Z, Y, X)
    return functional.interpolate(field[None], size=pair.grid.shape, mode="trilinear", align_corners=False)[0]


def cost_volume(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    weight: torch.Tensor,
    covered: torch.Tensor,
    reach: int,
    progress: Progress,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compare each voxel with all voxels within a reach.

    Args:
        fixed: Features, (C, Z, Y, X).
        moving: Features, (C, Z, Y, X).
        weight: Weight of each fixed voxel, (Z, Y, X).
        covered: Where the moving features are valid, (Z, Y, X).
        reach: Largest shift along each axis, in voxels.
        progress: Updated once a plane of shifts.

    Returns:
        Weighted mean squared difference over 3 x 3 x 3 voxels, (S, Z, Y, X); the shifts (S, 3) in voxels x, y, z.
    """
    steps = range(-reach, reach + 1)
    z_size, y_size, x_size = weight.shape
    padded = functional.pad(moving[None], (reach,) * 6, mode="replicate")[0]
    valid = functional.pad(covered[None, None], (reach,) * 6)[0, 0]
    costs, shifts = [], []
    for z, y, x in product(steps, steps, steps):
        if x == -reach and y == -reach:
            progress.update((z + reach) / (2 * reach + 1))
        window = (slice(z + reach, z + reach + z_size), slice(y + reach, y + reach + y_size),
                  slice(x + reach, x + reach + x_size))  # fmt: skip
        mask = weight * valid[window]
        difference = (fixed - padded[(slice(None), *window)]).square_().mean(dim=0) * mask
        both = functional.avg_pool3d(torch.stack([difference, mask])[None], 3, stride=1, padding=1)[0]
        costs.append(both[0] / (both[1] + 0.02))
        shifts.append((x, y, z))
    return torch.stack(costs), torch.tensor(shifts, dtype=torch.float32)


def bases(grid: Grid, coefficients: torch.Tensor, *, derivative: bool = False) -> list[torch.Tensor]:
    """Return the B-spline basis along z, y, x: matrices (voxels, control points), per mm for the derivative."""
    matrices = []
    for axis, (voxels, spacing) in enumerate(zip(grid.shape, grid.spacing_zyx_mm, strict=True)):
        cells = coefficients.shape[axis + 1] - 3
        width = (voxels - 1) * spacing / cells
        position = torch.arange(voxels, dtype=torch.float32) * spacing / width
        offset = position[:, None] - (torch.arange(cells + 3, dtype=torch.float32) - 1)[None]
        matrices.append(_cubic_slope(offset) / width if derivative else _cubic(offset))
    return matrices


def evaluate(coefficients: torch.Tensor, matrices: list[torch.Tensor]) -> torch.Tensor:
    """Return the spline at every voxel, (3, Z, Y, X)."""
    return torch.einsum("czyx,Xx,Yy,Zz->cZYX", coefficients, matrices[2], matrices[1], matrices[0])


def _cubic(offset: torch.Tensor) -> torch.Tensor:
    """The cubic B-spline, support [-2, 2]."""
    distance = offset.abs()
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = (2 - distance).clamp_min(0) ** 3 / 6
    return torch.where(distance < 1, inner, outer)


def _cubic_slope(offset: torch.Tensor) -> torch.Tensor:
    """The derivative of the cubic B-spline."""
    distance = offset.abs()
    inner = -2 * distance + 1.5 * distance**2
    outer = -((2 - distance).clamp_min(0) ** 2) / 2
    return offset.sign() * torch.where(distance < 1, inner, outer)


def _coupled_convex(costs: torch.Tensor, shifts: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the smooth displacement (3, Z, Y, X), in voxels, that agrees with the costs (S, Z, Y, X)."""
    best = shifts[costs.argmin(dim=0)].permute(3, 0, 1, 2)
    smooth = _smooth(best, weight)
    for coupling in COUPLING:
        chosen = torch.empty_like(smooth)
        for plane in range(costs.shape[1]):  # plane by plane: the whole penalty would need another cost volume
            penalty = (shifts[:, :, None, None] - smooth[None, :, plane]).square().sum(dim=1)
            chosen[:, plane] = shifts[(costs[:, plane] + coupling * penalty).argmin(dim=0)].permute(2, 0, 1)
        smooth = _smooth(chosen, weight)
    return smooth


def _smooth(field: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the field (3, Z, Y, X) averaged over its weighted surroundings; it fades where there are none."""
    stacked = torch.cat([field * weight, weight[None]])[None]
    for _ in range(2):
        stacked = functional.avg_pool3d(stacked, 5, stride=1, padding=2)
    return stacked[0, :3] / (stacked[0, 3] + 1e-3)


def _fit(grid: Grid, field: torch.Tensor, control_mm: float) -> torch.Tensor:
    """Return the coefficients (3, Z, Y, X) of a spline close to a dense field, zero at the border."""
    cells = [
        max(4, round((n - 1) * step / control_mm)) for n, step in zip(grid.shape, grid.spacing_zyx_mm, strict=True)
    ]
    coefficients = torch.zeros(3, *[n + 3 for n in cells])
    matrices = bases(grid, coefficients)
    solved = field
    for axis, matrix in enumerate(matrices):
        ridge = matrix.T @ matrix + 0.05 * torch.eye(matrix.shape[1])
        inverse = torch.linalg.solve(ridge, matrix.T)
        solved = torch.movedim(torch.tensordot(inverse, solved, dims=([1], [axis + 1])), 0, axis + 1)
    return solved * _interior(coefficients)


def _interior(coefficients: torch.Tensor) -> torch.Tensor:
    inside = torch.zeros_like(coefficients)
    middle = slice(FIXED_LAYERS, -FIXED_LAYERS)
    inside[:, middle, middle, middle] = 1.0
    return inside


def _descend(
    pair: Pair,
    features: tuple[torch.Tensor, torch.Tensor],
    start: torch.Tensor,
    config: RegisterConfig,
    generator: torch.Generator,
    progress: Progress,
) -> torch.Tensor:
    """Return the coefficients after Adam on random voxels of the organ."""
    fixed, moving = features
    interior, matrices = _interior(start), bases(pair.grid, start)
    width = config.control_mm
    chosen = torch.nonzero(pair.weight.reshape(-1) > 0)[:, 0]
    flat_fixed, flat_weight = fixed.reshape(fixed.shape[0], -1), pair.weight.reshape(-1)
    sampled = torch.cat([moving, pair.coverage[None]])[None]
    coefficients = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([coefficients], lr=config.step_mm)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.iterations, eta_min=0.1 * config.step_mm)
    for iteration in range(config.iterations):
        progress.update(iteration / config.iterations)
        picked = chosen[torch.randint(len(chosen), (config.samples,), generator=generator)]
        displacement = evaluate(coefficients * interior, matrices).reshape(3, -1)[:, picked]
        found = _look_up(sampled, picked, displacement, pair.grid)
        weight = flat_weight[picked] * found[-1].detach()
        difference = (found[:-1] - flat_fixed[:, picked]).square().mean(dim=0)
        similarity = (difference * weight).sum() / (weight.sum() + 1e-3)
        loss = similarity + config.smoothness * _bending(coefficients * interior, width)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return (coefficients * interior).detach()


def _look_up(image: torch.Tensor, picked: torch.Tensor, displacement: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the channels (C, N) of an image (1, C, Z, Y, X) at voxels displaced by (3, N) mm."""
    z_size, y_size, x_size = grid.shape
    index = torch.stack([picked % x_size, (picked // x_size) % y_size, picked // (x_size * y_size)]).float()
    position = index + displacement / grid.spacing_mm[0]
    scale = torch.tensor([x_size, y_size, z_size], dtype=torch.float32)[:, None] - 1
    points = (2 * position / scale - 1).T[None, :, None, None]  # (1, N, 1, 1, 3)
    return functional.grid_sample(image, points, align_corners=True)[0, :, :, 0, 0]


def _bending(coefficients: torch.Tensor, width_mm: float) -> torch.Tensor:
    """Return the mean bending energy of the coefficients, per mm^2."""
    total = torch.zeros(())
    for first, second in product((1, 2, 3), (1, 2, 3)):
        total = total + coefficients.diff(dim=first).diff(dim=second).square().mean()
    return total / width_mm**2
