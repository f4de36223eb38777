"""The deformable refinement: a cubic B-spline displacement that makes two phases informative about each other.

Coarse to fine, Adam climbs the mutual information of random samples: of the liver and its surroundings, whose borders
show where the organ is, and of the parenchyma alone, whose vessels would drown in the same histogram. Source:
Rueckert et al., "Nonrigid registration using free-form deformations", IEEE TMI 1999 (B-spline and bending energy);
Thevenaz and Unser, IEEE TIP 2000 (Parzen windows of B-splines); Klein et al., IEEE TIP 2007 (random samples). Voxels
that the moving phase does not show count neither for the information nor for the smoothed images: where the field of
view ends, the spline goes on smoothly. At its border displacement and gradient vanish, and it is written as one ITK
transform.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage
from torch.nn import functional

from ..core.config import RegisterConfig
from ..core.grid import Grid
from ..core.progress import Progress

LEVELS = ((6.0, 5.0), (4.0, 2.5), (2.0, 1.25), (0.5, 1.0))
"""Coarse to fine: deviation of the smoothing (mm), distance of the control points (multiples of the finest)."""
WINDOW_HU = (-120.0, 250.0)
"""Range of the histogram: fat to enhanced vessels; air and bone beyond it do not breathe with the liver."""
BINS = 32
"""Of the joint histogram: 12 HU each, about the noise."""
FIXED_LAYERS = 3
"""Outer layers of coefficients that stay zero: then displacement and gradient vanish at the border."""
PARENCHYMA_WEIGHT = 2.0
"""Of the parenchyma's mutual information beside that of the whole region; docs/registration.md compares."""
PARENCHYMA_WINDOW_HU = (0.0, 220.0)
"""Range of its histogram: steatotic liver without contrast to portal veins."""
TUMOR_SAMPLES = 256
LEAST_GROWTH = 0.05
"""Determinants below this, folds too, count as this much: a logarithm needs a bound."""
COVERED = 0.99
"""A sample with less than this part of its value from data of the moving phase is left out."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Both images on one isotropic working grid, the moving one already aligned linearly.

    Args:
        grid: The working grid.
        fixed_hu: Reference, (Z, Y, X), float32.
        moving_hu: Moving, same shape.
        region: What is to be aligned, the organ and its surroundings, same shape, bool.
        parenchyma: The organ without its border, same shape, bool; may be empty.
        tumor: What shall keep its volume, same shape, bool; may be empty.
        coverage: Where the moving volume has data, same shape, 0 or 1.
    """

    grid: Grid
    fixed_hu: torch.Tensor
    moving_hu: torch.Tensor
    region: torch.Tensor
    parenchyma: torch.Tensor
    tumor: torch.Tensor
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


def register_deformable(pair: Pair, config: RegisterConfig, generator: torch.Generator, progress: Progress) -> Spline:
    """Find the B-spline displacement that aligns a pair.

    Args:
        pair: The images on their working grid.
        config: Spacings, iterations, regularization.
        generator: Draws the samples; on the CPU, so that every device sees the same ones.
        progress: Updated in every iteration.

    Returns:
        The spline, in main memory wherever the pair lies.

    Raises:
        CanceledError: The user asked to stop.
    """
    field, parts = torch.zeros(3, *pair.grid.shape, device=pair.fixed_hu.device), _parts(pair)
    tumor = torch.nonzero(pair.tumor).flip(1).float()
    for number, (blur_mm, factor) in enumerate(LEVELS):
        piece = progress.part(number / len(LEVELS), (number + 1) / len(LEVELS))
        control_mm = factor * config.control_mm
        start = _fit(pair.grid, field, control_mm)
        free = _interior(start) if factor == 1.0 else torch.ones_like(start)
        level = _level(pair, parts, tumor, blur_mm, control_mm, free)
        coefficients = _climb(level, start * free, config, generator, piece)
        field = evaluate(coefficients, bases(pair.grid, coefficients))
    return Spline(pair.grid, coefficients.cpu())


@dataclass(frozen=True, eq=False)
class _Level:
    """The images at one smoothing, and which coefficients are free.

    Args:
        grid: The working grid.
        control_mm: Distance of the control points.
        free: 0 or 1 for every coefficient, (3, Z, Y, X).
        fixed: Smoothed reference, (1, Z, Y, X), HU.
        moving: Smoothed moving phase and where it has data, (2, Z, Y, X).
        parts: Where samples are drawn, and how they count.
        tumor: Places that keep their volume, (N, 3), x, y, z.
    """

    grid: Grid
    control_mm: float
    free: torch.Tensor
    fixed: torch.Tensor
    moving: torch.Tensor
    parts: tuple[_Part, ...]
    tumor: torch.Tensor


@dataclass(frozen=True, eq=False)
class _Part:
    """Voxels that share a histogram.

    Args:
        places: (N, 3), x, y, z.
        window_hu: Range of the histogram.
        weight: Of its mutual information.
    """

    places: torch.Tensor
    window_hu: tuple[float, float]
    weight: float

    def drawn(self, samples: int, generator: torch.Generator) -> torch.Tensor:
        """Return random places between the voxels, (samples, 3)."""
        return _drawn(self.places, samples, generator)


def _drawn(places: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Return random places in the voxels at ``places`` (N, 3): (count, 3)."""
    chosen = torch.randint(len(places), (count,), generator=generator, device="cpu")
    jitter = torch.rand(count, 3, generator=generator, device="cpu") - 0.5
    return places[chosen.to(places.device)] + jitter.to(places.device)


def _level(
    pair: Pair, parts: tuple[_Part, ...], tumor: torch.Tensor, blur_mm: float, control_mm: float, free: torch.Tensor
) -> _Level:
    covered = (pair.coverage > COVERED).float()
    voxels = blur_mm / pair.grid.spacing_mm[0]
    fixed = _smoothed(pair.fixed_hu, torch.ones_like(covered), voxels)[None]
    moving = torch.stack([_smoothed(pair.moving_hu, covered, voxels), covered])
    return _Level(pair.grid, control_mm, free, fixed, moving, parts, tumor)


def _parts(pair: Pair) -> tuple[_Part, ...]:
    choices = ((pair.region, WINDOW_HU, 1.0), (pair.parenchyma, PARENCHYMA_WINDOW_HU, PARENCHYMA_WEIGHT))
    return tuple(
        _Part(torch.nonzero(mask).flip(1).float(), window, weight) for mask, window, weight in choices if mask.any()
    )


def _smoothed(values_hu: torch.Tensor, known: torch.Tensor, deviation_voxels: float) -> torch.Tensor:
    """Return the values within the window, averaged over what is known around them."""
    values, mask = (part.cpu().numpy() for part in (values_hu.clamp(*WINDOW_HU) * known, known))
    blurred = ndimage.gaussian_filter(values, deviation_voxels) / np.maximum(
        ndimage.gaussian_filter(mask, deviation_voxels), 1e-3
    )
    return torch.from_numpy(blurred).to(values_hu.device)


def _climb(
    level: _Level, start: torch.Tensor, config: RegisterConfig, generator: torch.Generator, progress: Progress
) -> torch.Tensor:
    """Return the coefficients after Adam; each step looks at other random places between the voxels."""
    coefficients = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([coefficients], lr=config.step_mm)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.iterations, eta_min=0.1 * config.step_mm)
    for iteration in range(config.iterations):
        progress.update(iteration / config.iterations)
        inside = coefficients * level.free
        information = _information(level, inside, config.samples, generator)
        loss = config.smoothness * _bending(inside, level.control_mm) - information
        if len(level.tumor):
            places = _drawn(level.tumor, TUMOR_SAMPLES, generator)
            loss = loss + config.tumor_stiffness * _volume_change(places, inside, level.grid)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own hole
        optimizer.step()
        schedule.step()
    return (coefficients * level.free).detach()


def _information(level: _Level, coefficients: torch.Tensor, samples: int, generator: torch.Generator) -> torch.Tensor:
    """Return the weighted sum of the parts' mutual information, each of as many random places."""
    places = torch.cat([part.drawn(samples, generator) for part in level.parts])
    shifted = places.T + displacement_at(places, coefficients, level.grid) / level.grid.spacing_mm[0]
    fixed = _interpolated(level.fixed, places.T)[0]
    moving, covered = _interpolated(level.moving, shifted)
    total = coefficients.new_zeros(())
    for part, first, second, known in zip(
        level.parts, *(values.split(samples) for values in (fixed, moving, (covered > COVERED).float())), strict=True
    ):
        total = total + part.weight * mutual_information(first, second, known, part.window_hu)
    return total


def mutual_information(
    fixed_hu: torch.Tensor, moving_hu: torch.Tensor, weight: torch.Tensor, window_hu: tuple[float, float]
) -> torch.Tensor:
    """Return the mutual information (nats) of samples (N,), in HU and weighted, differentiable in the moving values.

    Parzen windows: linear for the fixed, cubic for the moving values (Thevenaz and Unser, eq. 16).
    """
    width = (window_hu[1] - window_hu[0]) / (BINS - 4)  # two bins more on each side hold the windows
    bins = torch.arange(BINS, dtype=torch.float32, device=fixed_hu.device) - 1.5
    first, second = ((values.clamp(*window_hu) - window_hu[0]) / width for values in (fixed_hu, moving_hu))
    linear = (1 - (first[:, None] - bins).abs()).clamp_min(0) * weight[:, None]
    joint = linear.T @ _cubic(second[:, None] - bins)  # (BINS, BINS)
    joint = joint / joint.sum().clamp_min(1e-6)
    expected = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    return (joint * ((joint + 1e-7) / (expected + 1e-7)).log()).sum()


def displacement_at(places: torch.Tensor, coefficients: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the spline (3, N), mm along the grid's axes x, y, z, at voxel positions (N, 3), x, y, z."""
    index, share = [], []
    for axis, voxels in enumerate(grid.shape):
        cells = coefficients.shape[axis + 1] - 3
        position = places[:, 2 - axis] * cells / (voxels - 1)
        low = position.floor().clamp(0, cells - 1)
        steps = torch.arange(4, device=places.device)
        index.append(low.long()[:, None] + steps)
        share.append(_cubic((position - low)[:, None] + 1 - steps))
    _, _, rows, columns = coefficients.shape
    flat = (index[0][:, :, None, None] * rows + index[1][:, None, :, None]) * columns + index[2][:, None, None, :]
    weight = torch.einsum("na,nb,nc->nabc", *share)
    near = coefficients.flatten(1).index_select(1, flat.flatten()).view(3, *places.shape[:1], -1)  # (3, N, 64)
    return (near * weight.flatten(1)).sum(dim=2)


def _interpolated(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return values (C, Z, Y, X) at voxel positions (3, N), x, y, z, trilinearly: (C, N)."""
    size = torch.tensor(values.shape[:0:-1], dtype=torch.float32, device=values.device)[:, None]
    at = (2 * index / (size - 1) - 1).T[None, None, None]  # (1, 1, 1, N, 3)
    return functional.grid_sample(values[None], at, padding_mode="border", align_corners=True)[0, :, 0, 0]


def bases(grid: Grid, coefficients: torch.Tensor, *, derivative: bool = False) -> list[torch.Tensor]:
    """Return the B-spline basis along z, y, x: matrices (voxels, control points), per mm for the derivative."""
    matrices, device = [], coefficients.device
    for axis, (voxels, spacing) in enumerate(zip(grid.shape, grid.spacing_zyx_mm, strict=True)):
        cells = coefficients.shape[axis + 1] - 3
        width = (voxels - 1) * spacing / cells
        position = torch.arange(voxels, dtype=torch.float32, device=device) * spacing / width
        offset = position[:, None] - (torch.arange(cells + 3, dtype=torch.float32, device=device) - 1)[None]
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


def _fit(grid: Grid, field: torch.Tensor, control_mm: float) -> torch.Tensor:
    """Return the coefficients (3, Z, Y, X) of a spline close to a dense field, zero at the border."""
    cells = [
        max(4, round((n - 1) * step / control_mm)) for n, step in zip(grid.shape, grid.spacing_zyx_mm, strict=True)
    ]
    coefficients = torch.zeros(3, *[n + 3 for n in cells], device=field.device)
    matrices = bases(grid, coefficients)
    solved = field
    for axis, matrix in enumerate(matrices):
        ridge = matrix.T @ matrix + 0.05 * torch.eye(matrix.shape[1], device=field.device)
        inverse = torch.linalg.solve(ridge, matrix.T)
        solved = torch.movedim(torch.tensordot(inverse, solved, dims=([1], [axis + 1])), 0, axis + 1)
    return solved * _interior(coefficients)


def _interior(coefficients: torch.Tensor) -> torch.Tensor:
    inside = torch.zeros_like(coefficients)
    middle = slice(FIXED_LAYERS, -FIXED_LAYERS)
    inside[:, middle, middle, middle] = 1.0
    return inside


def _volume_change(places: torch.Tensor, coefficients: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the mean square of ln det of the gradient of p + u(p) at voxel positions (N, 3), x, y, z."""
    steps = torch.eye(3, device=places.device)
    shifted = torch.cat([places, *(places + step for step in steps)])
    moved = displacement_at(shifted, coefficients, grid).reshape(3, 4, -1)  # (3, 4, N)
    slopes = (moved[:, 1:] - moved[:, :1]) / grid.spacing_mm[0]
    determinant = torch.linalg.det(slopes.movedim(2, 0) + steps)  # (N,)
    result: torch.Tensor = determinant.clamp_min(LEAST_GROWTH).log().square().mean()
    return result


def _bending(coefficients: torch.Tensor, width_mm: float) -> torch.Tensor:
    """Return the mean bending energy of the coefficients, per mm^2."""
    total = coefficients.new_zeros(())
    for first, second in combinations_with_replacement((1, 2, 3), 2):
        twice = 1.0 if first == second else 2.0
        total = total + twice * coefficients.diff(dim=first).diff(dim=second).square().mean()
    return total / width_mm**2
