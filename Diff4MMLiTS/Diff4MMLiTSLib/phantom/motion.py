"""Breathing between the phases: an invertible motion of the organs that slides along the wall and leaves the bones.

The motion is defined backwards, as the rendering needs it: the point q of a phase shows the tissue of the reference
point q + v(q), where v is the trilinear interpolant of a lattice of ``LATTICE_MM``. The truth that is handed out is the
inverse, u(p) = -v(p + u(p)), found by fixed-point iteration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from ..core.grid import Grid, Volume, resample
from .anatomy import cavity_distance, patient_points
from .fields import Field, Point, grid_axes, rotation, smooth_noise, smooth_step
from .patient import Patient

LATTICE_MM = 4.0
WALL_MM = 30.0
"""Distance from the wall over which motion towards the wall fades."""
CRANIO_CAUDAL_MM = 6.0
"""Standard deviation of the difference between two breath-holds; clipped to 20 mm, in one study of ten to 30 mm."""
ITERATIONS = 40
INVERSE_TOLERANCE_MM = 0.005
MAX_COMPRESSION = 0.6
"""Largest allowed norm of the motion's gradient; below 1 the map has an inverse."""


@dataclass(frozen=True)
class MotionTraits:
    """Random traits of the motion of one phase.

    Args:
        shift_mm: Translation (left, back, up) of the tissue from the reference to the phase.
        angles_deg: Rotation about x, y, z.
        residual_mm: RMS of the smooth residual.
        residual_length_mm: Correlation length of the residual.
        twist_deg: Rotation about z that grows with height, beyond what one rotation explains.
        shear: Cranio-caudal motion gained per mm towards the dome.
    """

    shift_mm: Point
    angles_deg: Point
    residual_mm: float
    residual_length_mm: float
    twist_deg: float = 0.0
    shear: float = 0.0


def draw_motion(rng: np.random.Generator, *, shifted: bool) -> MotionTraits:
    """Draw the motion of one phase; ``shifted`` leaves the range of translations, rotations and smooth residuals."""
    up = float(rng.choice((-1.0, 1.0))) * min(abs(float(rng.normal(0, CRANIO_CAUDAL_MM))), 20.0)
    if rng.random() < 0.04:  # three moving phases: one study in ten has one such phase
        up = float(np.sign(up) * rng.uniform(18, 30))
    back = -up * float(rng.uniform(0.3, 0.4))
    left = float(rng.choice((-1.0, 1.0))) * up * 0.2
    angles = tuple(float(angle) for angle in rng.uniform(-3, 3, 3) * (0.7, 0.7, 0.7))
    residual = float(rng.uniform(2.0, 5.0))
    length = float(rng.uniform(20, 28))
    if not shifted:
        return MotionTraits((left, back, up), (angles[0], angles[1], angles[2]), residual, length)
    return MotionTraits(
        (left, back, up),
        (angles[0], angles[1], angles[2]),
        residual,
        0.62 * length,
        twist_deg=float(rng.uniform(-7, 7)),
        shear=float(rng.uniform(-0.09, 0.09)),
    )


def backward_motion(patient: Patient, traits: MotionTraits, rng: np.random.Generator, grid: Grid) -> Field:
    """Build the motion v of one phase over a grid.

    Args:
        patient: Whose cavity bounds the motion.
        traits: What kind of motion.
        rng: Randomness of the smooth residual.
        grid: Box that the field must cover.

    Returns:
        v in mm LPS, three components: phase point q shows reference point q + v(q) inside the cavity.
    """
    axes = _lattice_axes(grid)
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    body = patient.body
    center = np.array(body.offset_mm) + body.scale * np.array((-45.0, -45.0, 25.0))
    offset = [x - center[0], y - center[1], z - center[2]]
    height = smooth_step(offset[2].astype(np.float32), -80.0, 80.0)  # 0 below the liver, 1 at the dome
    turn = rotation(traits.angles_deg).T - np.eye(3)
    motion = np.stack([sum(turn[row, k] * offset[k] for k in range(3)) - traits.shift_mm[row] for row in range(3)])
    twist = np.radians(traits.twist_deg) * (height - 0.5)
    motion[0] -= twist * offset[1]
    motion[1] += twist * offset[0]
    motion[2] -= traits.shear * offset[2] * height
    noise = smooth_noise(rng, length_mm=traits.residual_length_mm, channels=3)
    local = noise.on_axes(
        *(((axis - o) / body.scale).astype(np.float32) for axis, o in zip(axes, body.offset_mm, strict=True))
    )
    motion += traits.residual_mm / np.sqrt(3) * (0.55 + 0.75 * height) * local
    motion = _slide(motion.astype(np.float32), patient, axes)
    return Field(_tame(motion), (float(axes[0][0]), float(axes[1][0]), float(axes[2][0])), LATTICE_MM)


def forward_displacement(backward: Field, cavity: Volume) -> Field:
    """Return u on the lattice of v, with u(p) = -v(p + u(p)): reference point p is found at p + u(p).

    Args:
        backward: The motion v.
        cavity: Where the inverse is needed, boolean; a rim of two lattice points around it is added, 0 beyond.
    """
    motion = backward.values
    size = motion.shape[:0:-1]
    grid = Grid((size[0], size[1], size[2]), (backward.spacing_mm,) * 3, backward.origin_mm)
    near = resample(Volume(np.asarray(cavity.array, dtype=np.float32), cavity.grid), grid)
    index = np.stack(np.nonzero(ndimage.binary_dilation(np.asarray(near.array) > 0.01, iterations=2)))
    found = -motion[:, index[0], index[1], index[2]]
    active = np.arange(index.shape[1])
    for _ in range(ITERATIONS):
        position = index[:, active] + found[::-1, active] / backward.spacing_mm
        moved = np.stack([ndimage.map_coordinates(part, position, order=1, mode="nearest") for part in motion])
        change = np.abs(moved + found[:, active]).max(axis=0)
        found[:, active] = -moved
        active = active[change > INVERSE_TOLERANCE_MM]
        if active.size == 0:
            break
    forward = np.zeros_like(motion)
    forward[:, index[0], index[1], index[2]] = found
    return Field(forward, backward.origin_mm, backward.spacing_mm)


def displacement_on(grid: Grid, backward: Field, cavity: Volume) -> NDArray[np.float32]:
    """Return u at every voxel of a grid, (3, Z, Y, X), mm: inside the cavity the inverse of v, 0 in the static wall.

    The inverse of an interpolated field is not its lattice points' interpolant, so one more fixed-point step is made at
    the voxels themselves; it leaves errors of hundredths of a millimeter.
    """
    soft = Volume(np.asarray(cavity.array, dtype=np.float32), cavity.grid)
    inside = np.asarray(resample(soft, grid).array) >= 0.5
    lattice = forward_displacement(backward, cavity)
    x, y, z = grid_axes(grid)
    result = np.zeros((3, *grid.shape), dtype=np.float32)
    for row in range(grid.size[2]):
        rows, columns = np.nonzero(inside[row])
        if rows.size == 0:
            continue
        start = np.stack([x[columns], y[rows], np.full(rows.size, z[row])], axis=-1)
        guess = lattice.on_axes(x, y, z[row : row + 1])[:, 0, rows, columns].T
        result[:, row, rows, columns] = -backward.at(start + guess).T
    return result


def transform_of(field: Field) -> sitk.DisplacementFieldTransform:
    """Return the ITK transform x -> x + field(x), trilinear, identity outside the lattice."""
    image = sitk.GetImageFromArray(np.moveaxis(field.values, 0, -1).astype(np.float64), isVector=True)
    image.SetOrigin(field.origin_mm)
    image.SetSpacing((field.spacing_mm,) * 3)
    return sitk.DisplacementFieldTransform(image)


def jacobian(field: Field) -> NDArray[np.float64]:
    """Return the determinant of the gradient of x + field(x) at the lattice points, (Z, Y, X)."""
    gradient = [np.gradient(part, field.spacing_mm) for part in field.values]
    matrix = np.stack([np.stack(parts[::-1]) for parts in gradient]).astype(np.float64)  # [component, axis x y z]
    matrix[range(3), range(3)] += 1.0
    return np.asarray(np.linalg.det(np.moveaxis(matrix, (0, 1), (-2, -1))))


def _lattice_axes(grid: Grid) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    extent = np.multiply(grid.size, grid.spacing_mm)
    axes = [
        (np.arange(int(np.ceil(length / LATTICE_MM)) + 3, dtype=np.float32) - 1) * LATTICE_MM + np.float32(origin)
        for length, origin in zip(extent, grid.origin_mm, strict=True)
    ]
    return axes[0], axes[1], axes[2]


def _slide(motion: NDArray[np.float32], patient: Patient, axes: tuple[NDArray[np.float32], ...]) -> NDArray[np.float32]:
    """Remove the part of the motion that goes through the wall, fully at the wall and not at all deep inside."""
    points, _ = patient_points(patient, (axes[0], axes[1], axes[2]), slice(None))
    distance = ndimage.gaussian_filter(cavity_distance(points, patient.body), 2.0)
    normal = np.stack(list(np.gradient(distance))[::-1])
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-6)
    near = smooth_step(distance, -WALL_MM, 0.0)
    return np.asarray(motion - near * (normal * motion).sum(axis=0) * normal, dtype=np.float32)


def _tame(motion: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smooth the motion where it would compress tissue too much, until its gradient stays below the limit."""
    for _ in range(30):
        steep = _steepness(motion)
        if float(steep.max()) <= MAX_COMPRESSION:
            break
        weight = ndimage.gaussian_filter(
            ndimage.maximum_filter((steep > 0.9 * MAX_COMPRESSION).astype(np.float32), 5), 2.0
        )
        smooth = np.stack([ndimage.gaussian_filter(part, 2.0, mode="nearest") for part in motion])
        motion = (motion + np.minimum(2 * weight, 1.0) * (smooth - motion)).astype(np.float32)
    return motion


def _steepness(motion: NDArray[np.float32]) -> NDArray[np.float64]:
    total = np.zeros(motion.shape[1:])
    for part in motion:
        for axis in range(3):
            last = np.take(part, [-1], axis=axis)
            total += (np.diff(part, axis=axis, append=last) / LATTICE_MM).astype(np.float64) ** 2
    return np.asarray(np.sqrt(total))
