"""The deformable refinement: a cubic B-spline displacement found by a discrete search and then by gradient descent.

Instance optimization in the spirit of ConvexAdam (Siebert et al., IEEE TMI 2024): self-similarity features, a coupled
convex discrete search for the large motion, then Adam. Different from it: the displacement is a true cubic B-spline
with vanishing border (so that it decays smoothly and is written as one ITK transform), each step looks at a random
part of the voxels of the organ only, and the regularization is the exact bending energy of the coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import numpy as np
import SimpleITK as sitk
import torch
from torch.nn import functional

from ..core.config import RegisterConfig
from ..core.grid import Grid
from ..core.progress import Progress
from .registration_features import mind_features

COUPLING = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Weights that pull the discrete search towards its smoothed result, one round each (ConvexAdam)."""
BLOCK = 3
"""Edge of the blocks of the discrete search, in voxels of 4 mm: 12 mm, the distance of the control points."""
LATTICE_STEP = 10
"""Order in which the sub-lattices are looked at; prime to their number (8 or 27): all are, and neighbors alternate."""
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
        determinant: torch.Tensor = torch.linalg.det(gradient.permute(2, 3, 4, 0, 1))
        return determinant

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

    def to_field_transform(self) -> sitk.DisplacementFieldTransform:
        """Return the same transform sampled on the working grid: faster to apply, larger to store."""
        dense = np.einsum("ij,jzyx->zyxi", self.grid.direction_matrix, self.dense().double().numpy())
        image = sitk.GetImageFromArray(dense, isVector=True)
        image.SetOrigin(self.grid.origin_mm)
        image.SetSpacing(self.grid.spacing_mm)
        image.SetDirection(self.grid.direction)
        return sitk.DisplacementFieldTransform(image)


def register_deformable(pair: Pair, config: RegisterConfig, progress: Progress) -> Spline:
    """Find the B-spline displacement that aligns a pair.

    Args:
        pair: The images on their working grid.
        config: Spacings, iterations, regularization.
        progress: Updated in every iteration.

    Raises:
        CanceledError: The user asked to stop.
    """
    fixed, moving = mind_features(pair.fixed_hu), mind_features(pair.moving_hu)
    progress.update(0.1)
    field = coarse_search(pair, fixed, moving, config, progress.part(0.1, 0.3))
    coefficients = _fit(pair.grid, field, config.control_mm)
    result = _descend(pair, (fixed, moving), coefficients, config, progress.part(0.3, 1.0))
    return Spline(pair.grid, result)


def coarse_search(
    pair: Pair, fixed: torch.Tensor, moving: torch.Tensor, config: RegisterConfig, progress: Progress
) -> torch.Tensor:
    """Return the displacement (3, Z, Y, X), mm along x, y, z, on the working grid by the coupled convex search."""
    small_fixed, small_moving = (functional.avg_pool3d(part[None], 2)[0] for part in (fixed, moving))
    weight, covered = (functional.avg_pool3d(part[None, None], 2)[0, 0] for part in (pair.weight, pair.coverage))
    step_mm = 2 * pair.grid.spacing_mm[0]
    reach = round(config.search_mm / step_mm)
    costs, mass, shifts = cost_volume((small_fixed, small_moving), weight, covered, reach, progress)
    field = _coupled_convex(costs, shifts, mass) * step_mm  # (3, Z, Y, X)
    size = [n * BLOCK * 2 for n in mass.shape]
    dense = functional.interpolate(field[None], size=size, mode="trilinear", align_corners=False)
    dense = functional.pad(dense, (0, 1) * 3, mode="replicate")[0]  # pooling dropped the last voxel of an odd size
    return dense[:, : pair.grid.shape[0], : pair.grid.shape[1], : pair.grid.shape[2]]


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


def _coupled_convex(costs: torch.Tensor, shifts: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """Return the smooth displacement (3, Z, Y, X), in voxels, that agrees with the costs (S, Z, Y, X)."""
    flat, length = costs.flatten(1), shifts.square().sum(dim=1)[:, None]
    smooth = _smooth(shifts[flat.argmin(dim=0)].T.reshape(3, *mass.shape), mass)
    for coupling in COUPLING:
        penalty = length - 2 * shifts @ smooth.flatten(1)  # |shift - smooth|^2 without the part that does not matter
        chosen = shifts[(flat + coupling * penalty).argmin(dim=0)].T.reshape(3, *mass.shape)
        smooth = _smooth(chosen, mass)
    return smooth


def _smooth(field: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the field (3, Z, Y, X) averaged over its weighted surroundings; it fades where there are none."""
    stacked = torch.cat([field * weight, weight[None]])[None]
    for _ in range(2):
        stacked = functional.avg_pool3d(stacked, 3, stride=1, padding=1)
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
    progress: Progress,
) -> torch.Tensor:
    """Return the coefficients after Adam; each step looks at one of the interleaved sub-lattices of the voxels."""
    interior, matrices = _interior(start), bases(pair.grid, start)
    lattices = _sub_lattices(pair, features[0], config.stride)
    rows = torch.cat([features[1], pair.coverage[None]]).flatten(1).T.contiguous()  # (voxels, channels + 1)
    coefficients = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([coefficients], lr=config.step_mm)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.iterations, eta_min=0.1 * config.step_mm)
    for iteration in range(config.iterations):
        progress.update(iteration / config.iterations)
        lattice = lattices[(iteration * LATTICE_STEP) % len(lattices)]
        parts = [matrix[start :: config.stride] for matrix, start in zip(matrices, lattice.offset, strict=True)]
        displacement = evaluate(coefficients * interior, parts).flatten(1)
        slope = torch.zeros_like(displacement)
        slope[:, lattice.chosen] = _slope(rows, lattice, displacement.detach()[:, lattice.chosen], pair.grid)
        loss = (slope * displacement).sum() + config.smoothness * _bending(coefficients * interior, config.control_mm)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own hole
        optimizer.step()
        schedule.step()
    return (coefficients * interior).detach()


@dataclass(frozen=True, eq=False)
class _SubLattice:
    """Every stride-th voxel from an offset on: ``chosen`` (N,) among them carry weight; ``index`` (3, N) is x, y, z."""

    offset: tuple[int, int, int]
    chosen: torch.Tensor
    index: torch.Tensor
    weight: torch.Tensor
    features: torch.Tensor  # (N, C)


def _sub_lattices(pair: Pair, features: torch.Tensor, stride: int) -> list[_SubLattice]:
    lattices = []
    for offset in product(range(stride), repeat=3):
        part = tuple(slice(start, None, stride) for start in offset)
        weight = pair.weight[part]
        z, y, x = torch.nonzero(weight > 0, as_tuple=True)
        chosen = (z * weight.shape[1] + y) * weight.shape[2] + x
        index = torch.stack([x * stride + offset[2], y * stride + offset[1], z * stride + offset[0]]).float()
        own = features[(slice(None), *part)][:, z, y, x].T.contiguous()
        if len(chosen):
            lattices.append(_SubLattice((offset[0], offset[1], offset[2]), chosen, index, weight[z, y, x], own))
    return lattices


def _slope(rows: torch.Tensor, lattice: _SubLattice, displacement: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the gradient (3, N) of the mean dissimilarity by the displacement (3, N) in mm of the lattice's voxels.

    Written out, because automatic differentiation of a trilinear look-up costs five times as much.
    """
    size = torch.tensor(grid.size)[:, None]
    position = (lattice.index + displacement / grid.spacing_mm[0]).clamp_min(0).minimum(size - 1.001)
    low = position.floor()
    base = (low[2].long() * grid.size[1] + low[1].long()) * grid.size[0] + low[0].long()
    rise = torch.tensor([-1.0, 1.0])[:, None].expand(2, base.shape[0])
    x, y, z = (torch.stack([1 - part, part]) for part in position - low)  # (2, N): share of the lower, upper neighbor
    terms = [(z, y, x), (z, y, rise), (z, rise, x), (rise, y, x)]  # the value, then its slope along x, y, z
    shares = torch.stack([torch.einsum("an,bn,cn->nabc", *term).flatten(1) for term in terms], dim=1)  # (N, 4, 8)
    steps = [(dz * grid.size[1] + dy) * grid.size[0] + dx for dz, dy, dx in product((0, 1), repeat=3)]
    corners = rows[base[:, None] + torch.tensor(steps)]  # (N, 8, C + 1)
    value, *slopes = (shares @ corners).unbind(dim=1)
    weight = lattice.weight * value[:, -1]
    residual = (value[:, :-1] - lattice.features) * (weight / (weight.sum() + 1e-3))[:, None]
    mean = torch.full((residual.shape[1],), 2.0 / residual.shape[1] / grid.spacing_mm[0])
    return torch.stack([(residual * slope[:, :-1]) @ mean for slope in slopes])


def _bending(coefficients: torch.Tensor, width_mm: float) -> torch.Tensor:
    """Return the mean bending energy of the coefficients, per mm^2."""
    total = torch.zeros(())
    for first, second in combinations_with_replacement((1, 2, 3), 2):
        twice = 1.0 if first == second else 2.0
        total = total + twice * coefficients.diff(dim=first).diff(dim=second).square().mean()
    return total / width_mm**2
