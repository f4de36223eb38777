"""Derives a multiphase study with known motion from one CT, so that registration is tested without a patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study import Mask, Study

LATTICE_MM = 5.0
"""Spacing of the lattice that carries the displacement field; the field is smooth over 40 mm and more."""
INVERSE_STEPS = 25
"""Fixed-point steps of the inverse; the error shrinks by the field's gradient (< 0.5) in each."""
TARGET_HU = {Phase.NC: (58.0, 42.0), Phase.AP: (78.0, 150.0), Phase.DELAY: (95.0, 112.0)}
"""Mean HU of liver and vessels per phase: in NC vessels are darker than the liver."""


@dataclass(frozen=True)
class Motion:
    """How a phase moved against the reference phase.

    Args:
        shift_mm: Displacement of the whole body, LPS.
        rotation_degrees: Rotation about the center of the liver, about each axis.
        residual_rms_mm: Root mean square, over the liver, of the smooth residual.
        residual_scale_mm: Standard deviation of the Gaussian that smooths the residual.
    """

    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation_degrees: tuple[float, float, float] = (0.0, 0.0, 0.0)
    residual_rms_mm: float = 0.0
    residual_scale_mm: float = 22.0


@dataclass(frozen=True, eq=False)
class Displacement:
    """A smooth displacement field u: the reference point p is found at p + u(p) in the moving phase."""

    start_mm: NDArray[np.float64]
    lattice: NDArray[np.float64]  # (3, I, J, K) along the world axes, LATTICE_MM apart, from start_mm

    def at(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return u (..., 3) in mm at world points (..., 3), LPS mm."""
        index = (np.moveaxis(points_mm, -1, 0) - self.start_mm.reshape(3, *[1] * (points_mm.ndim - 1))) / LATTICE_MM
        return np.stack([map_coordinates(part, index, order=1, mode="nearest") for part in self.lattice], axis=-1)

    def inverse(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the reference points p (..., 3) with p + u(p) = points_mm."""
        found = points_mm.copy()
        for _ in range(INVERSE_STEPS):
            found = points_mm - self.at(found)
        return found


@dataclass(frozen=True, eq=False)
class DerivedStudy:
    """A multiphase study and the displacement of each moving phase."""

    study: Study
    truth: Mapping[Phase, Displacement] = field(default_factory=dict)


def derive_study(
    ct: Volume,
    liver: Mask,
    motions: Mapping[Phase, Motion],
    rng: np.random.Generator,
    *,
    grids: Mapping[Phase, Grid] | None = None,
    tumor: Mask | None = None,
    noise_hu: float = 12.0,
) -> DerivedStudy:
    """Make the moving phases of a study whose PVP is ``ct``.

    Args:
        ct: The reference phase, HU.
        liver: Liver on its grid.
        motions: Motion by moving phase.
        rng: Source of the residual fields and of the noise.
        grids: Grid of a moving phase where it is not the reference's.
        tumor: Tumor on the reference grid, handed through.
        noise_hu: Standard deviation of the fresh noise.
    """
    phases, truth = {Phase.PVP: ct}, {}
    for phase, motion in motions.items():
        truth[phase] = make_displacement(liver, motion, rng)
        look = enhance(ct, liver, phase)
        phases[phase] = _move(look, truth[phase], (grids or {}).get(phase, ct.grid), noise_hu, rng)
    return DerivedStudy(Study("derived", phases, Phase.PVP, liver=liver, tumor=tumor), truth)


def make_displacement(liver: Mask, motion: Motion, rng: np.random.Generator) -> Displacement:
    """Return the displacement field of a motion, defined 80 mm around the liver's grid as well."""
    grid = liver.volume.grid
    corners = grid.to_world(np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * np.array(grid.size))
    axes = [np.arange(corners[:, k].min() - 80, corners[:, k].max() + 80, LATTICE_MM) for k in range(3)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    inside = grid.to_world(np.argwhere(liver.array)[:, ::-1].astype(float))
    center = inside.mean(axis=0)
    rotation = sitk.Euler3DTransform(center, *np.deg2rad(motion.rotation_degrees))
    matrix = np.array(rotation.GetMatrix()).reshape(3, 3)
    field_mm = (points - center) @ (matrix - np.eye(3)).T + np.array(motion.shift_mm)
    if motion.residual_rms_mm > 0:
        field_mm = field_mm + _residual(axes, inside, motion, rng)
    return Displacement(np.array([axis[0] for axis in axes]), np.moveaxis(field_mm, -1, 0))


def enhance(ct: Volume, liver: Mask, phase: Phase) -> Volume:
    """Return the CT with the look of another phase, denoised so that its own noise gives no alignment away.

    Values in the soft-tissue range are mapped piecewise linearly through (liver, vessel) of the phase.
    """
    denoised = sitk.CurvatureFlow(sitk.Cast(ct.to_image(), sitk.sitkFloat32), timeStep=0.06, numberOfIterations=12)
    values = sitk.GetArrayFromImage(denoised)
    low_hu, liver_hu, high_hu, vessel_hu = np.percentile(values[liver.array], [10, 50, 75, 97])
    vessel_hu = max(vessel_hu, liver_hu + 25.0)
    high_hu = min(high_hu, liver_hu + 0.4 * (vessel_hu - liver_hu))
    target_liver, target_vessel = TARGET_HU[phase]
    dark = target_liver - 0.7 * (liver_hu - low_hu)
    knots = [-2000, -20, 20, low_hu, liver_hu, high_hu, vessel_hu, vessel_hu + 70, vessel_hu + 200, 4000]
    look = [
        -2000,
        -20,
        20,
        max(dark, 25.0),
        target_liver,
        target_liver,
        target_vessel,
        target_vessel,
        vessel_hu + 200,
        4000,
    ]
    return Volume(np.interp(values, knots, look).astype(np.float32), ct.grid)


def _residual(
    axes: list[NDArray[np.float64]], inside: NDArray[np.float64], motion: Motion, rng: np.random.Generator
) -> NDArray[np.float64]:
    shape = tuple(len(axis) for axis in axes)
    sigma = motion.residual_scale_mm / LATTICE_MM
    noise = np.stack([gaussian_filter(rng.standard_normal(shape), sigma) for _ in range(3)], axis=-1)
    index = (inside[::50] - np.array([axis[0] for axis in axes])) / LATTICE_MM
    sampled = np.stack([map_coordinates(noise[..., k], index.T, order=1) for k in range(3)], axis=-1)
    noise = noise - sampled.mean(axis=0)
    rms = np.sqrt(((sampled - sampled.mean(axis=0)) ** 2).sum(axis=-1).mean())
    return np.asarray(noise * (motion.residual_rms_mm / rms))


def _move(look: Volume, displacement: Displacement, grid: Grid, noise_hu: float, rng: np.random.Generator) -> Volume:
    coarse = grid.cropped((0, 0, 0), tuple(n + 1 for n in grid.size)).with_spacing((4.0, 4.0, 4.0))  # type: ignore[arg-type]
    nodes = np.stack(np.meshgrid(*[np.arange(n + 1) for n in coarse.size], indexing="ij"), axis=-1).astype(float)
    source = look.grid.to_index(displacement.inverse(coarse.to_world(nodes)))  # (I, J, K, 3)
    x, y, z = (np.arange(n) * step / 4.0 for n, step in zip(grid.size, grid.spacing_mm, strict=True))
    shift = coarse.to_index(grid.to_world(np.zeros(3)))
    at = np.meshgrid(z + shift[2], y + shift[1], x + shift[0], indexing="ij")[
        ::-1
    ]  # index of each voxel among the nodes
    index = [map_coordinates(source[..., k], at, order=1, mode="nearest") for k in (2, 1, 0)]
    moved = map_coordinates(np.asarray(look.array), index, order=1, cval=-1000.0)
    sigma = [0.7 / 2.355 * 1.5] * 3
    noise = gaussian_filter(rng.standard_normal(grid.shape), sigma)
    moved = moved + noise * (noise_hu / noise.std()) * (moved > -900)
    return Volume(np.rint(np.clip(moved, -1024, 3071)).astype(np.int16), grid)
