"""Portal and hepatic vein trees that fill the liver, branch recursively and thin out by Murray's law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.grid import Grid
from .fields import Point
from .patient import Ingredient, LiverDisease, Patient, random_stream

Vector = NDArray[np.float64]

PORTAL_RADIUS_MM = 6.3
HEPATIC_RADIUS_MM = 5.6
TWIG_RADIUS_MM = 0.55
"""Radius of the thinnest drawn vessel: thinner ones vanish in the parenchyma's texture."""
MURRAY = 3.0
"""Exponent of Murray's law: r_parent^3 = sum of r_child^3."""
LEAVES = 420
"""Tips of one tree; more are smaller than a CT resolves."""
MESENTERY_LEAVES = 320
MESENTERY_RADIUS_MM = 4.6
CLEARANCE_MM = 3.0
"""Distance that vessels keep from the liver's surface."""


@dataclass(frozen=True)
class VesselTree:
    """A tree of tapering tubes.

    Args:
        starts_mm: Where each tube begins, world LPS, (N, 3).
        ends_mm: Where it ends, (N, 3).
        radii_mm: Radius at begin and end, (N, 2).
    """

    starts_mm: Vector
    ends_mm: Vector
    radii_mm: Vector


def grow_trees(
    patient: Patient, liver: NDArray[np.bool_], grid: Grid, roots_mm: tuple[Vector, Vector]
) -> tuple[VesselTree, VesselTree]:
    """Grow the portal and the hepatic vein tree of one liver.

    Args:
        patient: Whose random numbers to use.
        liver: The liver on ``grid``, (Z, Y, X); a coarse grid suffices and keeps the trees the same at every preset.
        grid: Lattice of ``liver``.
        roots_mm: World positions where the portal vein enters and where the hepatic veins meet the vena cava.

    Returns:
        Portal tree, hepatic vein tree.
    """
    rng = random_stream(patient.seed, Ingredient.VESSELS)
    depth = ndimage.distance_transform_edt(liver, sampling=grid.spacing_zyx_mm)
    inside = np.argwhere(depth > CLEARANCE_MM)[:, ::-1]
    thick = 0.86 if patient.liver.disease is LiverDisease.CIRRHOTIC else 1.0
    trees = []
    for root, radius, split in ((roots_mm[0], PORTAL_RADIUS_MM, 2), (roots_mm[1], HEPATIC_RADIUS_MM * thick, 3)):
        chosen = rng.choice(len(inside), size=min(LEAVES, len(inside)), replace=False)
        targets = grid.to_world(inside[chosen] + rng.uniform(-0.5, 0.5, (len(chosen), 3)))
        builder = _Builder(rng, radius * float(rng.uniform(0.88, 1.1)))
        builder.grow(root, targets, first_split=split)
        trees.append(builder.tree())
    return trees[0], trees[1]


def grow_mesentery(patient: Patient) -> VesselTree:
    """Grow the vessels of the fat between the bowel loops, fanning out from the root of the mesentery."""
    rng = random_stream(patient.seed, Ingredient.VESSELS, 1)
    targets = rng.uniform((-100.0, -124.0, -200.0), (108.0, -38.0, 30.0), (MESENTERY_LEAVES, 3))
    builder = _Builder(rng, MESENTERY_RADIUS_MM)
    builder.grow(np.array((-4.0, -62.0, -30.0)), targets, first_split=2)
    tree, body = builder.tree(), patient.body
    offset = np.array(body.offset_mm)
    return VesselTree(
        tree.starts_mm * body.scale + offset, tree.ends_mm * body.scale + offset, tree.radii_mm * body.scale
    )


def coverage(tree: VesselTree, grid: Grid) -> NDArray[np.float32]:
    """Return how much of every voxel the tree fills, (Z, Y, X), 0 ... 1, with soft edges one voxel wide."""
    result = np.zeros(grid.shape, dtype=np.float32)
    soft = float(np.mean(grid.spacing_mm))
    axes = [
        (origin + spacing * np.arange(size)).astype(np.float32)
        for origin, spacing, size in zip(grid.origin_mm, grid.spacing_mm, grid.size, strict=True)
    ]
    for start, end, radii in zip(tree.starts_mm, tree.ends_mm, tree.radii_mm, strict=True):
        reach = float(radii.max()) + soft
        box = tuple(
            slice(*np.searchsorted(axis, (min(a, b) - reach, max(a, b) + reach)))
            for axis, a, b in zip(axes, start, end, strict=True)
        )
        x, y, z = (axis[part] for axis, part in zip(axes, box, strict=True))
        if not (x.size and y.size and z.size):
            continue
        filled = _tube_coverage((x, y, z), start, end, radii=radii, soft=soft)
        target = result[box[2], box[1], box[0]]
        np.maximum(target, filled, out=target)
    return result


def _tube_coverage(
    axes: tuple[NDArray[np.float32], ...], start: Vector, end: Vector, *, radii: Vector, soft: float
) -> NDArray[np.float32]:
    axis = (end - start).astype(np.float32)
    x, y, z = axes[0] - np.float32(start[0]), axes[1] - np.float32(start[1]), axes[2] - np.float32(start[2])
    x, y, z = x[None, None, :], y[None, :, None], z[:, None, None]
    along = np.clip((x * axis[0] + y * axis[1] + z * axis[2]) / max(float(axis @ axis), 1e-6), 0, 1)
    square = (x - along * axis[0]) ** 2 + (y - along * axis[1]) ** 2 + (z - along * axis[2]) ** 2
    radius = radii[0] + along * (radii[1] - radii[0])
    thin = np.minimum(1.0, (2 * radius / soft) ** 2)  # a vessel thinner than a voxel fills only part of it
    return np.asarray(np.clip((radius - np.sqrt(square)) / soft + 0.5, 0, 1) * thin, dtype=np.float32)


class _Builder:
    """Grows one tree: each branch runs towards its targets, then splits them in two and hands them on."""

    def __init__(self, rng: np.random.Generator, root_radius_mm: float) -> None:
        self._rng = rng
        self._root_radius_mm = root_radius_mm
        self._pieces: list[tuple[Vector, Vector, float, float]] = []
        self._unit = 1.0

    def grow(self, root: Vector, targets: Vector, *, first_split: int) -> None:
        self._unit = self._root_radius_mm / len(targets) ** (1 / MURRAY)
        groups = _split(targets, first_split, self._rng)
        for group in groups:
            self._branch(root, group, None, self._radius(len(group)) if first_split > 2 else self._root_radius_mm * 0.9)

    def tree(self) -> VesselTree:
        starts = np.array([piece[0] for piece in self._pieces])
        ends = np.array([piece[1] for piece in self._pieces])
        return VesselTree(starts, ends, np.array([piece[2:] for piece in self._pieces]))

    def _radius(self, leaves: int) -> float:
        return float(max(self._unit * leaves ** (1 / MURRAY), TWIG_RADIUS_MM))

    def _branch(self, start: Vector, targets: Vector, heading: Vector | None, radius: float) -> None:
        center = targets.mean(axis=0)
        share = 0.95 if len(targets) <= 2 else float(self._rng.uniform(0.42, 0.62))
        goal = start + share * (center - start)
        direction = goal - start
        end_radius = self._radius(len(targets))
        self._curve(start, goal, heading, (max(radius, end_radius), end_radius))
        if len(targets) <= 2:
            return
        for group in _split(targets, 2, self._rng):
            if len(group):
                self._branch(goal, group, direction, min(end_radius, 1.12 * self._radius(len(group))))

    def _curve(self, start: Vector, end: Vector, heading: Vector | None, radii: tuple[float, float]) -> None:
        """Draw a gently bent branch that leaves in the direction of its parent."""
        length = float(np.linalg.norm(end - start))
        bend = self._rng.normal(0, 0.06 * length, 3)
        if heading is not None:
            bend = bend + 0.16 * length * heading / max(float(np.linalg.norm(heading)), 1e-6)
        steps = max(2, int(length / 7.0) + 1)
        previous, t_previous = start, 0.0
        for t in np.linspace(0, 1, steps + 1)[1:]:
            point = start + t * (end - start) + 4 * t * (1 - t) * (1 - 0.5 * t) * bend
            first, last = (radii[0] + s * (radii[1] - radii[0]) for s in (t_previous, t))
            self._pieces.append((previous, point, first, last))
            previous, t_previous = point, float(t)


def _split(targets: Vector, count: int, rng: np.random.Generator) -> list[Vector]:
    """Return the targets in ``count`` clusters (k-means, a few rounds)."""
    centers = targets[rng.choice(len(targets), size=min(count, len(targets)), replace=False)]
    nearest = np.zeros(len(targets), dtype=np.int64)
    for _ in range(4):
        nearest = ((targets[:, None] - centers[None]) ** 2).sum(axis=-1).argmin(axis=1)
        centers = np.stack(
            [targets[nearest == k].mean(axis=0) if (nearest == k).any() else centers[k] for k in range(len(centers))]
        )
    groups = [targets[nearest == k] for k in range(len(centers))]
    return [group for group in groups if len(group)]


def point_to_world(patient: Patient, point: Point) -> Vector:
    """Return the approximate world position (LPS mm) of a point of the patient's frame (the warp is undone)."""
    body = patient.body
    goal = np.array(point, dtype=np.float64)
    position = goal.copy()
    for _ in range(12):
        warp = patient.body_warp.at(position[None])[0] + patient.organ_warp.at(position[None])[0]
        position = goal - warp
    return np.asarray(position * body.scale + np.array(body.offset_mm))
