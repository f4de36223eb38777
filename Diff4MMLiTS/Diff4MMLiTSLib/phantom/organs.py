"""The organs of the body cavity except the liver: lungs, heart, spleen, kidneys, gut, pancreas, great vessels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .anatomy import LabelArray, Tissue, cavity_distance
from .fields import FloatArray, Point, Points, capsule, ellipsoid, rotation, smooth_max, smooth_min
from .liver import DIAPHRAGM_MM, diaphragm_height, liver_bounds, liver_distance
from .patient import Ingredient, Patient, random_stream

KIDNEYS_MM: tuple[Point, Point] = ((-64.0, 6.0, -42.0), (62.0, 6.0, -24.0))
KIDNEY_RADII_MM: Point = (27.0, 24.0, 54.0)
SMALL_BOWEL_LOOPS = 34
HAUSTRUM_MM = 34.0
"""Length of one bulge of the colon."""

Corners = tuple[Point, Point]


@dataclass(frozen=True)
class Tube:
    """A tapering tube through way points.

    Args:
        path_mm: Way points (x, y, z).
        radii_mm: Radius at each way point.
    """

    path_mm: tuple[Point, ...]
    radii_mm: tuple[float, ...]


def paint_organs(points: Points, patient: Patient) -> LabelArray:
    """Return the tissue of every point of the body cavity, as if the cavity had no end."""
    labels = np.full(points.x.shape, Tissue.VISCERAL_FAT, dtype=np.uint8)
    if patient.organs.ascites_mm > 0:
        _paint_ascites(labels, points, patient)
    _paint_gut(labels, points, patient)
    _paint_stomach(labels, points, patient)
    for tube in _pancreas(patient):
        _paint_tube(labels, points, tube, Tissue.PANCREAS)
    _paint_solid_organs(labels, points, patient)
    _paint_great_vessels(labels, points, patient)
    _paint_chest(labels, points, patient)
    return labels


def portal_root(patient: Patient) -> Point:
    """Return where the portal vein divides, at the hilum of the liver (patient's frame, mm)."""
    return (-30.0, -62.0, 0.5 * (patient.liver.left_bottom_mm + patient.liver.right_bottom_mm) + 30)


def cava_path(patient: Patient) -> tuple[Point, ...]:
    """Return way points of the inferior vena cava, from below to the heart."""
    dome = patient.liver.dome_mm
    return (
        (-22.0, -36.0, -260.0),
        (-22.0, -37.0, -20.0),
        (-26.0, -46.0, 40.0),
        (-24.0, -58.0, dome - 18),
        (-10.0, -70.0, dome + 25),
    )


def _paint(
    labels: LabelArray, points: Points, corners: Corners, tissue: Tissue, shape: Callable[[Points], FloatArray]
) -> None:
    block = points.box(*corners)
    if block is not None:
        labels[block.slices][shape(block) < 0] = tissue


def _around(center: Point, reach: float) -> Corners:
    return (
        (center[0] - reach, center[1] - reach, center[2] - reach),
        (center[0] + reach, center[1] + reach, center[2] + reach),
    )


def _paint_tube(labels: LabelArray, points: Points, tube: Tube, tissue: Tissue) -> None:
    pieces = zip(tube.path_mm[:-1], tube.path_mm[1:], tube.radii_mm[:-1], tube.radii_mm[1:], strict=True)
    for start, end, first, last in pieces:
        reach = max(first, last)
        low = tuple(min(a, b) - reach for a, b in zip(start, end, strict=True))
        high = tuple(max(a, b) + reach for a, b in zip(start, end, strict=True))
        corners = ((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        _paint(labels, points, corners, tissue, lambda block, a=start, b=end, r=(first, last): capsule(block, a, b, r))  # type: ignore[misc]  # defaults bind the loop's values


def _paint_ascites(labels: LabelArray, points: Points, patient: Patient) -> None:
    low, high = liver_bounds(patient)
    wide = (low[0] - 20, low[1] - 20, low[2] - 20), (high[0] + 20, high[1] + 20, high[2] + 10)

    def pool(block: Points) -> FloatArray:
        return np.asarray(
            np.maximum(liver_distance(block, patient) - patient.organs.ascites_mm, block.x - 20), dtype=np.float32
        )

    _paint(labels, points, wide, Tissue.ASCITES, pool)


def _paint_solid_organs(labels: LabelArray, points: Points, patient: Patient) -> None:
    _paint_spleen(labels, points, patient)
    for side, center in zip((-1.0, 1.0), KIDNEYS_MM, strict=True):
        _paint_kidney(labels, points, patient, side=side, center=center)
    for x in (-40.0, 38.0):
        adrenal = Tube(((x, -8.0, 22.0), (x * 0.9, 2.0, 32.0), (x * 1.2, 12.0, 30.0)), (2.6, 3.0, 2.2))
        _paint_tube(labels, points, adrenal, Tissue.ADRENAL)
    _paint(labels, points, liver_bounds(patient), Tissue.LIVER, lambda block: liver_distance(block, patient))
    _paint_gallbladder(labels, points, patient)


def _paint_spleen(labels: LabelArray, points: Points, patient: Patient) -> None:
    size = patient.organs.spleen
    center: Point = (104.0, 4.0, 26.0 + 20 * (size - 1))
    tilt = rotation((-28.0, 14.0, -24.0))

    def spleen(block: Points) -> FloatArray:
        outer = ellipsoid(block, center, (34 * size, 54 * size, 60 * size), tilt)
        hollow = ellipsoid(block, (68.0, -24.0, 22.0), (34.0, 44.0, 70.0))
        inner = smooth_max(
            cavity_distance(block, patient.body) + 2.0, (block.z - diaphragm_height(block, patient) + 3) * 0.8, 6.0
        )
        return smooth_max(smooth_max(outer, -hollow, 10.0), inner, 6.0)

    _paint(labels, points, _around(center, 80 * size), Tissue.SPLEEN, spleen)


def _paint_kidney(labels: LabelArray, points: Points, patient: Patient, *, side: float, center: Point) -> None:
    shift, size = patient.organs.kidney_shift_mm, patient.organs.kidney
    middle: Point = (center[0] + side * shift[0], center[1] + shift[1], center[2] + shift[2])
    block = points.box(*_around(middle, 64 * size))
    if block is None:
        return
    tilt = rotation((8.0, side * 10.0, side * 32.0))
    radii: Point = (KIDNEY_RADII_MM[0] * size, KIDNEY_RADII_MM[1] * size, KIDNEY_RADII_MM[2] * size)
    outer = ellipsoid(block, middle, radii, tilt)
    sinus_center: Point = (middle[0] - side * 20 * size, middle[1] - 12 * size, middle[2])
    sinus = ellipsoid(block, sinus_center, (19 * size, 14 * size, 27 * size), tilt)
    turn = tilt.astype(np.float32)
    along = turn[2][0] * (block.x - middle[0]) + turn[2][1] * (block.y - middle[1]) + turn[2][2] * (block.z - middle[2])
    around = np.arctan2(block.y - middle[1], side * (block.x - middle[0]))
    columns = np.cos(along / 8.0) + 0.8 * np.cos(4 * around + 0.6 * np.sin(along / 8.0))
    target = labels[block.slices]
    inside = outer < 0
    target[inside] = Tissue.KIDNEY_CORTEX
    target[inside & (outer < -6.5 * size) & (columns > -0.75)] = Tissue.KIDNEY_MEDULLA
    target[(sinus < 0) & inside] = Tissue.VISCERAL_FAT
    pelvis = ellipsoid(block, sinus_center, (12 * size, 6 * size, 10 * size), tilt)
    target[(pelvis < 0) & inside] = Tissue.RENAL_PELVIS


def _paint_gallbladder(labels: LabelArray, points: Points, patient: Patient) -> None:
    size, shift = patient.organs.gallbladder, patient.organs.gallbladder_shift_mm
    if size == 0:
        return
    floor = 0.45 * (patient.liver.right_bottom_mm + patient.liver.left_bottom_mm)
    center: Point = (-52 + shift[0], -92 + shift[1], floor + 4 + shift[2])
    tilt = rotation((42.0, 14.0, -22.0))
    radii: Point = (15 * size, 15 * size, 34 * size)
    _paint(
        labels, points, _around(center, 46 * size), Tissue.GUT_WALL, lambda block: ellipsoid(block, center, radii, tilt)
    )
    thin: Point = (radii[0] - 1.4, radii[1] - 1.4, radii[2] - 1.4)
    _paint(
        labels,
        points,
        _around(center, 46 * size),
        Tissue.GALLBLADDER,
        lambda block: ellipsoid(block, center, thin, tilt),
    )


def _pancreas(patient: Patient) -> Sequence[Tube]:
    rng = random_stream(patient.seed, Ingredient.GUT, 1)
    path = [(-42, -56, -38), (-34, -62, -14), (-10, -72, 0), (16, -68, 10), (44, -46, 20), (78, -22, 32)]
    radii = np.array([13.0, 14.0, 9.5, 9.0, 9.5, 8.5]) * rng.uniform(0.75, 1.1)
    moved = tuple((float(x), float(y), float(z)) for x, y, z in np.array(path) + rng.normal(0, 3.0, (6, 3)))
    return (Tube(moved, tuple(float(radius) for radius in radii)),)


def _paint_great_vessels(labels: LabelArray, points: Points, patient: Patient) -> None:
    for tube, tissue in great_vessels(patient):
        _paint_tube(labels, points, tube, tissue)


def great_vessels(patient: Patient) -> list[tuple[Tube, Tissue]]:
    """Return the large vessels outside the liver."""
    artery, vein, portal = Tissue.ARTERY, Tissue.CAVA, Tissue.PORTAL_VEIN
    radius, cava = patient.organs.aorta_radius_mm, patient.organs.cava_radius_mm
    hilum = portal_root(patient)
    aorta = ((4.0, -30.0, -260.0), (10.0, -31.0, -60.0), (12.0, -30.0, 0.0), (16.0, -28.0, 90.0), (22.0, -20.0, 260.0))
    splenic = ((-16.0, -62.0, -6.0), (12.0, -60.0, 8.0), (40.0, -38.0, 18.0), (72.0, -16.0, 28.0), (92.0, -6.0, 30.0))
    return [
        (Tube(aorta, (radius * 0.85, radius * 0.9, radius, radius * 1.08, radius * 1.15)), artery),
        (Tube(cava_path(patient), (cava * 0.95, cava, cava * 1.1, cava * 1.15, cava * 1.25)), vein),
        (
            Tube(
                ((10.0, -40.0, 4.0), (8.0, -52.0, -4.0), (4.0, -62.0, -60.0), (0.0, -74.0, -150.0)),
                (4.0, 4.2, 3.6, 2.8),
            ),
            artery,
        ),
        (Tube(((10.0, -40.0, 18.0), (6.0, -54.0, 22.0), (-14.0, -62.0, 16.0), hilum), (3.6, 3.4, 2.6, 2.2)), artery),
        (
            Tube(
                ((6.0, -54.0, 22.0), (34.0, -44.0, 26.0), (60.0, -26.0, 36.0), (92.0, -4.0, 34.0)), (3.0, 2.8, 2.6, 2.2)
            ),
            artery,
        ),
        (Tube(splenic, (5.6, 5.0, 4.6, 4.2, 3.4)), portal),
        (
            Tube(((-10.0, -78.0, -150.0), (-14.0, -66.0, -60.0), (-16.0, -62.0, -6.0), hilum), (4.6, 5.6, 7.0, 7.2)),
            portal,
        ),
        (Tube(((12.0, -28.0, -14.0), (-30.0, -18.0, -26.0), (-46.0, -4.0, -34.0)), (2.8, 2.6, 2.2)), artery),
        (Tube(((12.0, -28.0, -12.0), (30.0, -16.0, -18.0), (44.0, -4.0, -22.0)), (2.8, 2.6, 2.2)), artery),
        (Tube(((-22.0, -38.0, -26.0), (-34.0, -20.0, -34.0), (-48.0, -6.0, -38.0)), (5.0, 4.6, 3.8)), vein),
        (
            Tube(
                ((-22.0, -38.0, -14.0), (8.0, -46.0, -14.0), (28.0, -26.0, -18.0), (46.0, -6.0, -22.0)),
                (4.6, 4.2, 4.4, 3.8),
            ),
            vein,
        ),
    ]


def _paint_chest(labels: LabelArray, points: Points, patient: Patient) -> None:
    above = points.z - diaphragm_height(points, patient)
    mediastinum = np.hypot(points.x - 8, (points.y + 26) * 0.9) - 34
    soft = np.isin(labels, (Tissue.VISCERAL_FAT, Tissue.GAS, Tissue.GUT_WALL))
    labels[(above > -DIAPHRAGM_MM) & (above <= 0) & soft] = Tissue.MUSCLE
    free = (above > 0) & ~np.isin(labels, (Tissue.ARTERY, Tissue.CAVA))
    labels[free] = np.where(mediastinum[free] > 0, Tissue.LUNG, Tissue.VISCERAL_FAT)
    size = patient.organs.heart
    center: Point = (22.0, -78.0, patient.organs.left_dome_mm + 40 * size)
    tilt = rotation((0.0, 24.0, 28.0))
    block = points.box(*_around(center, 80 * size))
    if block is None:
        return
    target, over = labels[block.slices], block.z > diaphragm_height(block, patient)
    muscle = ellipsoid(block, center, (62 * size, 46 * size, 48 * size), tilt)
    right = ellipsoid(block, (2.0, -88.0, center[2] + 4), (44 * size, 30 * size, 40 * size), tilt)
    left = ellipsoid(block, (42.0, -64.0, center[2] + 2), (30 * size, 21 * size, 26 * size), tilt)
    target[(muscle < 5) & over] = Tissue.VISCERAL_FAT
    target[(muscle < 0) & over] = Tissue.MYOCARDIUM
    target[(np.minimum(right, left) < 0) & (muscle < -4) & over] = Tissue.HEART


def _paint_stomach(labels: LabelArray, points: Points, patient: Patient) -> None:
    size = patient.organs.stomach
    corners: Corners = ((-40.0, -150.0, -50.0), (130.0, 50.0, 120.0))
    block = points.box(*corners)
    if block is None:
        return
    fundus = ellipsoid(block, (66.0, -28.0, 58.0), (34 * size, 36 * size, 34 * size))
    body = capsule(block, (66.0, -38.0, 52.0), (44.0, -88.0, 14.0), (30 * size, 25 * size))
    antrum = capsule(block, (44.0, -88.0, 14.0), (-18.0, -86.0, -8.0), (23 * size, 13 * size))
    bag = smooth_min(smooth_min(fundus, body, 14.0), antrum, 12.0)
    bag = smooth_max(bag, cavity_distance(block, patient.body) + 3, 6.0)
    folds = 1.6 * np.cos(block.x / 4.5) * np.cos(block.z / 5.0 + block.y / 9.0)
    target = labels[block.slices]
    target[bag < 0] = Tissue.GUT_WALL
    lumen = bag + folds < -4.6
    target[lumen] = _stomach_contents(patient)
    target[lumen & (block.y < patient.organs.stomach_fluid_level_mm)] = Tissue.GAS


def _stomach_contents(patient: Patient) -> Tissue:
    if patient.organs.oral_contrast:
        return Tissue.ORAL_CONTRAST
    return Tissue.FOOD if patient.organs.food else Tissue.FLUID


def _paint_gut(labels: LabelArray, points: Points, patient: Patient) -> None:
    tubes = gut_tubes(patient)
    for tube, _, _ in tubes:
        _paint_tube(labels, points, tube, Tissue.GUT_WALL)
    for tube, contents, level in tubes:
        inner = Tube(tube.path_mm, tuple(max(radius - 2.4, 1.0) for radius in tube.radii_mm))
        _paint_tube(labels, points, inner, contents)
        if level > 0:
            gas = Tube(
                tuple((x, y - 0.45 * radius, z) for (x, y, z), radius in zip(tube.path_mm, tube.radii_mm, strict=True)),
                tuple(level * radius for radius in tube.radii_mm),
            )
            _paint_tube(labels, points, gas, Tissue.GAS)


def gut_tubes(patient: Patient) -> list[tuple[Tube, Tissue, float]]:
    """Return colon and small bowel with what they hold and the size of their gas bubble (0 for none)."""
    rng = random_stream(patient.seed, Ingredient.GUT)
    tubes = []
    colon = [
        (-104, -10, -190), (-106, -24, -130), (-98, -58, -92), (-78, -100, -74), (-40, -118, -66), (0, -122, -62),
        (40, -118, -48), (76, -98, -24), (98, -64, 4), (108, -34, 8), (114, -10, -30), (116, 0, -90), (114, 4, -190),
    ]  # fmt: skip
    way = np.array(colon) + rng.normal(0, 6.0, (len(colon), 3))
    for piece in range(len(colon) - 1):
        count = max(2, int(np.linalg.norm(way[piece + 1] - way[piece]) / (HAUSTRUM_MM / 2)) + 1)
        path = tuple(_triple(way[piece] + t * (way[piece + 1] - way[piece])) for t in np.linspace(0, 1, count))
        width = rng.uniform(13, 22)
        radii = tuple(float(width * (1.0 if k % 2 else 0.78)) for k in range(count))
        contents = Tissue.FECES if rng.random() < 0.75 else Tissue.FLUID
        tubes.append((Tube(path, radii), contents, float(rng.choice([0.0, 0.45, 0.7]))))
    filled = Tissue.ORAL_CONTRAST if patient.organs.oral_contrast else Tissue.FLUID
    for _ in range(SMALL_BOWEL_LOOPS):
        heading = rng.normal(0, 1.0, (6, 3)) + np.repeat(rng.normal(0, 1.0, (1, 3)), 6, axis=0)
        steps = np.cumsum(heading * (13, 8, 8), axis=0)
        way = rng.uniform((-82, -116, -200), (96, -46, -22)) + steps - steps.mean(axis=0)
        path = tuple(_triple(point) for point in way)
        width = rng.uniform(8.0, 14.0)
        radii = tuple(float(width * factor) for factor in rng.uniform(0.85, 1.15, 6))
        contents = filled if rng.random() < 0.5 else Tissue.GUT_WALL
        tubes.append((Tube(path, radii), contents, float(rng.choice([0.0, 0.0, 0.0, 0.5]))))
    return tubes


def _triple(point: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Point:
    return (float(point[0]), float(point[1]), float(point[2]))
