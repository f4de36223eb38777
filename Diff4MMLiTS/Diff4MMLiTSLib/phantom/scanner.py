"""The scanner: where each phase is sampled, how thick its slices are, and its noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from ..core.grid import Grid
from ..core.phases import ALL_PHASES, Phase
from .anatomy import CAVITY_CENTER_Y_MM, wall_reach_mm
from .fields import Point
from .patient import Patient

FOLDS = (-2, -1, 0, 1, 2)
"""Multiples of the sampling frequency from which noise power folds back."""


class Preset(StrEnum):
    """How finely a phantom is sampled."""

    SMALL = "small"
    MEDIUM = "medium"
    FULL = "full"


@dataclass(frozen=True)
class Sampling:
    """Numbers of one preset.

    Args:
        model_mm: Spacing of the lattice on which the patient is rendered before the scanner samples it.
        in_plane_mm: Range of in-plane spacing; None where a fixed matrix sets it.
        matrix: Fixed number of columns and rows, or None for the body's box.
        reference_slice_mm: Choices of slice thickness of the reference phase.
        other_slice_mm: Choices of slice thickness of the other phases.
        margin_mm: Range of what is scanned below and above the liver.
    """

    model_mm: float
    in_plane_mm: tuple[float, float] | None
    matrix: int | None
    reference_slice_mm: tuple[float, ...]
    other_slice_mm: tuple[float, ...]
    margin_mm: tuple[float, float]


SAMPLINGS: Mapping[Preset, Sampling] = {
    Preset.SMALL: Sampling(2.4, (2.9, 3.2), None, (3.0,), (3.0, 3.0, 3.0, 4.0, 5.0), (6.0, 26.0)),
    Preset.MEDIUM: Sampling(1.5, (1.45, 1.6), None, (1.5, 2.0), (1.5, 2.0, 2.5, 3.0, 5.0), (12.0, 45.0)),
    Preset.FULL: Sampling(1.0, None, 512, (1.5, 2.0), (1.5, 2.0, 2.5, 3.0, 5.0), (12.0, 45.0)),
}


@dataclass(frozen=True)
class Kernel:
    """Sharpness and noise of a study's reconstruction.

    Args:
        blur_mm: Standard deviation of the in-plane point spread.
        noise_hu: Noise in the middle of the body.
        peak_per_mm: Frequency about which the noise power peaks, cycles per mm.
        low_pass: Power at frequency 0 relative to the ramp; 1 is cloudy noise.
        slice_mixing: Share of a slice's noise that comes from each neighbor.
    """

    blur_mm: float
    noise_hu: float
    peak_per_mm: float
    low_pass: float
    slice_mixing: float


@dataclass(frozen=True)
class Acquisition:
    """Where one phase is sampled.

    Args:
        grid: Its voxels.
        slice_mm: Thickness over which every slice averages.
    """

    grid: Grid
    slice_mm: float


def draw_kernel(rng: np.random.Generator, *, shifted: bool) -> Kernel:
    """Draw the reconstruction kernel of a study; ``shifted`` kernels are cloudier or much sharper."""
    if not shifted:
        return Kernel(
            blur_mm=float(rng.uniform(0.45, 0.75)),
            noise_hu=float(rng.uniform(9.0, 16.0)),
            peak_per_mm=float(rng.uniform(0.2, 0.38)),
            low_pass=float(rng.uniform(0.03, 0.25)),
            slice_mixing=float(rng.uniform(0.08, 0.25)),
        )
    cloudy = rng.random() < 0.5
    return Kernel(
        blur_mm=float(rng.uniform(0.85, 1.1) if cloudy else rng.uniform(0.25, 0.4)),
        noise_hu=float(rng.uniform(6.0, 9.0) if cloudy else rng.uniform(16.0, 21.0)),
        peak_per_mm=float(rng.uniform(0.08, 0.13) if cloudy else rng.uniform(0.55, 0.75)),
        low_pass=1.0 if cloudy else 0.05,
        slice_mixing=float(rng.uniform(0.3, 0.45) if cloudy else 0.0),
    )


def draw_acquisitions(
    patient: Patient, liver_z_mm: tuple[float, float], rng: np.random.Generator, *, sampling: Sampling
) -> dict[Phase, Acquisition]:
    """Draw the field of view and slice thickness of every phase.

    Args:
        patient: Whose body is scanned.
        liver_z_mm: Lowest and highest z of the liver in the reference phase, world mm.
        rng: Source of randomness.
        sampling: How finely.

    Returns:
        One acquisition per phase; the reference phase covers the whole liver, the delayed phase may cut it.
    """
    result = {}
    for phase in ALL_PHASES:
        reference = phase is Phase.PVP
        slice_mm = float(rng.choice(sampling.reference_slice_mm if reference else sampling.other_slice_mm))
        below, above = (float(value) for value in rng.uniform(*sampling.margin_mm, 2))
        if phase is Phase.DELAY and rng.random() < 0.3:  # the delayed phase may miss the top or the bottom of the liver
            cut = float(rng.uniform(5, 30))
            below, above = (-cut, above) if rng.random() < 0.5 else (below, -cut)
        z_range = (liver_z_mm[0] - below, liver_z_mm[1] + above)
        result[phase] = Acquisition(_phase_grid(patient, sampling, rng, z_range=z_range, slice_mm=slice_mm), slice_mm)
    return result


def body_box_mm(patient: Patient) -> tuple[Point, Point]:
    """Return the corners (x, y; z is 0) of the body with its table in the world, LPS mm."""
    body = patient.body
    half_width, front, back = wall_reach_mm(body)
    low = (body.offset_mm[0] - body.scale * half_width - 8, body.offset_mm[1] + body.scale * front - 8, 0.0)
    high = (body.offset_mm[0] + body.scale * half_width + 8, body.offset_mm[1] + body.scale * back + 22, 0.0)
    return low, high


def draw_noise(rng: np.random.Generator, grid: Grid, kernel: Kernel, patient: Patient) -> NDArray[np.float32]:
    """Return quantum noise of one phase, (Z, Y, X), HU: correlated, and strongest in the middle of the body."""
    depth, rows, columns = grid.shape
    gain = np.sqrt(_noise_power(grid, kernel)).astype(np.float32)
    noise = np.empty(grid.shape, dtype=np.float32)
    for index in range(depth):
        white = rng.standard_normal((rows, columns), dtype=np.float32)
        noise[index] = fft.irfft2(fft.rfft2(white, workers=2) * gain, s=(rows, columns), workers=2)
    if kernel.slice_mixing > 0 and depth > 2:
        weights = np.array([kernel.slice_mixing, 1.0, kernel.slice_mixing])
        noise = ndimage.correlate1d(noise, weights / np.linalg.norm(weights), axis=0, mode="reflect")
    noise *= kernel.noise_hu / max(float(noise.std()), 1e-6)
    noise *= _noise_map(grid, patient)[None]
    return noise


def _noise_power(grid: Grid, kernel: Kernel) -> NDArray[np.float64]:
    """Return the power of the sampled noise, (Y, X // 2 + 1): a ramp with a cut-off, folded at the voxels' frequency.

    The ramp is filtered back-projection's; on voxels that are large against the kernel, folding makes the noise white.
    """
    columns, rows, _ = grid.size
    dx, dy, _ = grid.spacing_mm
    total = np.zeros((rows, columns // 2 + 1))
    for fold_y in FOLDS:
        for fold_x in FOLDS:
            along_y = fft.fftfreq(rows, dy)[:, None] + fold_y / dy
            along_x = fft.rfftfreq(columns, dx)[None, :] + fold_x / dx
            ratio = np.hypot(along_y, along_x) / kernel.peak_per_mm
            total += (kernel.low_pass + ratio) * np.exp(-(ratio**2))
    return total


def _noise_map(grid: Grid, patient: Patient) -> NDArray[np.float32]:
    """Return how strong the noise is in every column: photons are scarce in the middle of a body."""
    body = patient.body
    x = grid.origin_mm[0] + grid.spacing_mm[0] * np.arange(grid.size[0]) - body.offset_mm[0]
    y = grid.origin_mm[1] + grid.spacing_mm[1] * np.arange(grid.size[1]) - body.offset_mm[1]
    half_width, front, back = wall_reach_mm(body)
    middle = body.scale * (CAVITY_CENTER_Y_MM + 12)
    ratio = np.hypot(x[None, :] / (body.scale * half_width), (y[:, None] - middle) / (body.scale * (back - front) / 2))
    return np.asarray(1.12 - 0.62 * np.clip(ratio, 0, 1.2) ** 2, dtype=np.float32)


def _phase_grid(
    patient: Patient, sampling: Sampling, rng: np.random.Generator, *, z_range: tuple[float, float], slice_mm: float
) -> Grid:
    low, high = body_box_mm(patient)
    center = (np.array(low) + np.array(high)) / 2 + np.array((*rng.normal(0, 4, 2), 0.0))
    extent = np.subtract(high, low)[:2]
    if sampling.matrix is not None:
        spacing = float(np.clip(rng.uniform(1.02, 1.14) * extent.max() / sampling.matrix, 0.6, 1.0))
        columns = rows = sampling.matrix
    elif sampling.in_plane_mm is not None:
        spacing = float(rng.uniform(*sampling.in_plane_mm))
        columns, rows = (int(np.ceil(length * rng.uniform(0.98, 1.05) / spacing)) for length in extent)
    spacing = round(spacing, 4)
    count = max(4, int(np.ceil((z_range[1] - z_range[0]) / slice_mm)))
    origin = (
        round(float(center[0] - (columns - 1) / 2 * spacing), 3),
        round(float(center[1] - (rows - 1) / 2 * spacing), 3),
        round(float(z_range[0] + slice_mm / 2), 3),
    )
    return Grid((columns, rows, count), (spacing, spacing, slice_mm), origin)
