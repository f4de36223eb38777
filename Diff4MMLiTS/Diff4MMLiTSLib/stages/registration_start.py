"""The robust start of a registration: where the organ went as a rigid (or affine) body.

An exhaustive search over all translations (masked normalized cross-correlation by FFT) finds the organ whatever the
field of view; SimpleITK then refines rotation and translation by mutual information over the organ.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import fft

from ..core.config import RegisterConfig
from ..core.errors import CanceledError
from ..core.grid import Grid, Volume, resample
from ..core.progress import Progress
from .registration_region import sample_mask

AIR_HU = -1000.0
OUTSIDE_HU = -3000.0
"""Marks points that a volume does not cover while it is resampled; below every CT value."""
WINDOW_HU = (-150.0, 200.0)
"""Range that the start looks at: lung, fat and soft tissue, which look alike in every phase."""

STEPS_MM = (2.0, 0.01)
"""First and last step of the rigid descent."""
RELAXATION = 0.8
"""Each turn shortens the step to this part. With 0.6 the descent stopped beside the optimum: 1 mm off in a test."""

Array = NDArray[np.float32]
LinearT = TypeVar("LinearT", sitk.Euler3DTransform, sitk.AffineTransform)


def box_around(mask: Volume, margin_mm: float, spacing_mm: float) -> Grid:
    """Return an isotropic grid along the mask's axes that covers the mask's bounding box and a margin.

    Args:
        mask: Non-zero where the organ is; not empty.
        margin_mm: Added on every side; the box may leave the mask's grid.
        spacing_mm: Spacing of the result.
    """
    found = np.argwhere(np.asarray(mask.array) > 0)[:, ::-1]
    spacing = np.array(mask.grid.spacing_mm)
    low = np.floor(found.min(axis=0) - margin_mm / spacing).astype(int)
    high = np.ceil(found.max(axis=0) + margin_mm / spacing).astype(int)
    start, size = (tuple(int(value) for value in values) for values in (low, high - low + 1))
    return mask.grid.cropped(_triple(start), _triple(size)).with_spacing((spacing_mm,) * 3)


def sample_with_coverage(volume: Volume, grid: Grid, transform: sitk.Transform | None = None) -> tuple[Array, Array]:
    """Sample a CT on a grid, anti-aliased where the grid is coarser.

    Returns:
        HU values (Z, Y, X), float32, air where the volume does not cover; coverage (Z, Y, X), 0 or 1.
    """
    smoothed = _smoothed(volume, grid)
    values = np.array(resample(smoothed, grid, transform=transform, outside=OUTSIDE_HU).array, dtype=np.float32)
    coverage = (values > -1100.0).astype(np.float32)  # linear interpolation mixes covered and uncovered values
    return np.where(coverage > 0, values, np.float32(AIR_HU)), coverage


def find_shift(reference: Volume, moving: Volume, region: Volume, config: RegisterConfig) -> NDArray[np.float64]:
    """Return the translation of the region that fits best among all that keep it in the moving field of view.

    Args:
        reference: Reference CT, HU.
        moving: Moving CT, HU, any grid.
        region: The organ and its surroundings on the reference grid, 0/1.
        config: Spacing of the search and the least overlap.

    Returns:
        World vector (3,), LPS mm, from a reference point to its moving point.
    """
    step = config.search_spacing_mm
    template_grid = box_around(region, 0.0, step)
    template, covered = sample_with_coverage(reference, template_grid)
    weight = sample_mask(region, template_grid) * covered
    padding = np.ceil(np.array(template_grid.size) * (1 - config.least_overlap)).astype(int)
    moving_grid = _cover(moving.grid, template_grid, padding)
    values, coverage = sample_with_coverage(moving, moving_grid)
    score = _masked_correlation(np.clip(template, *WINDOW_HU), weight, np.clip(values, *WINDOW_HU), coverage, config)
    best = np.array(np.unravel_index(int(np.argmax(score)), score.shape))[::-1]
    return moving_grid.to_world(best.astype(np.float64)) - template_grid.to_world(np.zeros(3))


def refine_linear(
    images: tuple[Volume, Volume], region: Volume, start: LinearT, config: RegisterConfig, progress: Progress
) -> LinearT:
    """Refine a rigid or affine transform by Mattes mutual information over a region.

    Args:
        images: Reference and moving CT, HU.
        region: Where the reference is compared, on the reference grid, 0/1.
        start: ``Euler3DTransform`` or ``AffineTransform`` to begin with; not changed.
        config: Spacing of the images that are compared, and iterations.
        progress: Checked in every iteration.

    Returns:
        The refined transform, point of reference -> point of moving.
    """
    grid = box_around(region, 8.0, config.linear_spacing_mm)
    fixed = Volume(np.clip(sample_with_coverage(images[0], grid)[0], *WINDOW_HU), grid).to_image()
    moving = Volume(np.clip(np.asarray(images[1].array, dtype=np.float32), *WINDOW_HU), images[1].grid)
    mask = resample(region, grid, linear=False)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(sitk.Cast(mask.to_image(), sitk.sitkUInt8))
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.3)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(*STEPS_MM, config.linear_iterations, RELAXATION)
    method.SetOptimizerScalesFromPhysicalShift()
    transform = type(start)(start)
    method.SetInitialTransform(transform, inPlace=True)

    def stop_when_canceled() -> None:
        try:
            progress.check()
        except CanceledError:  # an exception would not pass through ITK
            method.StopRegistration()

    method.AddCommand(sitk.sitkIterationEvent, stop_when_canceled)
    method.Execute(fixed, _smoothed(moving, grid).to_image())
    progress.check()
    return transform


def rigid_at(center_mm: NDArray[np.float64], shift_mm: NDArray[np.float64]) -> sitk.Euler3DTransform:
    """Return the rigid transform that shifts, prepared to rotate about a center."""
    transform = sitk.Euler3DTransform()
    transform.SetCenter(center_mm.tolist())
    transform.SetTranslation(shift_mm.tolist())
    return transform


def affine_from(rigid: sitk.Euler3DTransform) -> sitk.AffineTransform:
    """Return the affine transform that equals a rigid one."""
    affine = sitk.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    return affine


def _masked_correlation(
    template: Array, weight: Array, values: Array, coverage: Array, config: RegisterConfig
) -> NDArray[np.float32]:
    """Normalized cross-correlation of the weighted template with the covered values at every shift (Padfield 2012)."""
    shape = tuple(n + m - 1 for n, m in zip(template.shape, values.shape, strict=True))
    fast = [fft.next_fast_len(n, real=True) for n in shape]
    size = tuple(max(1, n - m + 1) for n, m in zip(values.shape, template.shape, strict=True))

    def spectrum(array: Array) -> NDArray[np.complex64]:
        return np.asarray(fft.rfftn(array, fast))

    def correlate(first: NDArray[np.complex64], second: NDArray[np.complex64]) -> NDArray[np.float64]:
        full = fft.irfftn(first * second, fast)
        return np.asarray(full[tuple(slice(0, n) for n in size)], dtype=np.float64)

    w, t, t2 = (np.conj(spectrum(a)) for a in (weight, weight * template, weight * template**2))
    c, m, m2 = (spectrum(a) for a in (coverage, coverage * values, coverage * values**2))
    mass = np.maximum(correlate(w, c), 1e-3)
    sum_t, sum_m = correlate(t, c), correlate(w, m)
    covariance = correlate(t, m) - sum_t * sum_m / mass
    variance_t = correlate(t2, c) - sum_t**2 / mass
    variance_m = correlate(w, m2) - sum_m**2 / mass
    floor = 25.0 * mass  # HU^2: a flat region correlates with nothing
    score = covariance / np.sqrt(np.maximum(variance_t, floor) * np.maximum(variance_m, floor))
    score[mass < config.least_overlap * weight.sum()] = -1.0
    return np.asarray(score, dtype=np.float32)


def _cover(grid: Grid, template: Grid, padding: NDArray[np.int_]) -> Grid:
    """Return the grid with the template's axes and spacing that covers ``grid`` and a padding in voxels."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (np.array(grid.size) - 1)
    index = template.to_index(grid.to_world(corners.astype(np.float64)))
    low = np.floor(index.min(axis=0)).astype(int) - padding
    high = np.ceil(index.max(axis=0)).astype(int) + padding
    high = np.maximum(high, low + np.array(template.size))
    return template.cropped(_triple(tuple(low)), _triple(tuple(high - low + 1)))


def _smoothed(volume: Volume, grid: Grid) -> Volume:
    """Return the volume as float32, smoothed along the axes where its voxels are finer than those of ``grid``."""
    image = sitk.Cast(volume.to_image(), sitk.sitkFloat32)
    target = min(grid.spacing_mm)
    sigma = [0.42 * np.sqrt(max(0.0, target**2 - step**2)) for step in volume.grid.spacing_mm]
    for axis, value in enumerate(sigma):
        if value > 0.3 * volume.grid.spacing_mm[axis] and volume.grid.size[axis] >= 4:
            image = sitk.RecursiveGaussian(
                image, float(value), False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis
            )
    return Volume.from_image(image)


def _triple(values: tuple[int, ...]) -> tuple[int, int, int]:
    return int(values[0]), int(values[1]), int(values[2])
