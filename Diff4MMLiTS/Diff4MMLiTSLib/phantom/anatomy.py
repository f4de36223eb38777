"""Tissues, the body wall with its skeleton, and the frame in which a patient's implicit shapes are evaluated.

The patient's frame has its origin at the center of the first lumbar vertebra: x to the patient's left, y to the back,
z to the head, in mm of a person of average size. Everything inside the body cavity moves with the breath; everything
painted here stays.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from .fields import FloatArray, Points, ellipse, smooth_max, smooth_min, smooth_step
from .patient import Body, Patient

LabelArray = NDArray[np.uint8]


class Tissue(IntEnum):
    """What a voxel is made of; the values of ``truth/organs.nrrd``."""

    AIR = 0
    SKIN = 1
    FAT = 2
    MUSCLE = 3
    BONE_CORTEX = 4
    BONE_MARROW = 5
    CARTILAGE = 6
    DISC = 7
    CORD = 8
    LUNG = 9
    HEART = 10
    LIVER = 11
    SPLEEN = 12
    KIDNEY_CORTEX = 13
    KIDNEY_MEDULLA = 14
    GUT_WALL = 15
    GAS = 16
    FLUID = 17
    ORAL_CONTRAST = 18
    FECES = 19
    PANCREAS = 20
    GALLBLADDER = 21
    ARTERY = 22
    CAVA = 23
    PORTAL_VEIN = 24
    HEPATIC_VEIN = 25
    VISCERAL_FAT = 26
    ASCITES = 27
    TABLE = 28
    ADRENAL = 29
    RENAL_PELVIS = 30
    FOOD = 31
    MYOCARDIUM = 32


CAVITY_CENTER_Y_MM = -44.0
SPINE_CANAL_Y_MM = 27.0
VERTEBRA_MM = 34.0
"""Height of a vertebra with its disc."""
RIB_DROP_MM_PER_RAD = 56.0
"""How steeply ribs descend from back to front."""
CAVITY_POWER = 2.35


def patient_points(
    patient: Patient, axes_mm: tuple[FloatArray, FloatArray, FloatArray], rows: slice
) -> tuple[Points, Points]:
    """Return a slab of world points in the patient's frame.

    Args:
        patient: Whose frame.
        axes_mm: World coordinates (LPS) of the columns (x), rows (y) and slices (z) of an axis-aligned lattice.
        rows: Which slices.

    Returns:
        Points for the static body wall, and for the organs (with the organs' own deformation).
    """
    body = patient.body
    x, y, z = (
        ((axis - np.float32(offset)) / np.float32(body.scale)).astype(np.float32)
        for axis, offset in zip((axes_mm[0], axes_mm[1], axes_mm[2][rows]), body.offset_mm, strict=True)
    )
    slow = patient.body_warp.on_axes(x, y, z)
    slow[0] += x[None, None, :]
    slow[1] += y[None, :, None]
    slow[2] += z[:, None, None]
    fast = patient.organ_warp.on_axes(x, y, z)
    fast += slow
    slices = (slice(0, len(z)), slice(0, len(y)), slice(0, len(x)))
    return Points(slow[0], slow[1], slow[2], slices), Points(fast[0], fast[1], fast[2], slices)


def tube_distance(points: Points, body: Body) -> FloatArray:
    """Return the signed distance to the inner surface of the rib cage and abdominal wall, without the spine."""
    narrow = 0.16 * np.maximum(points.z - 90, 0) + 0.07 * np.maximum(-30 - points.z, 0)
    return ellipse(
        points.x,
        points.y - CAVITY_CENTER_Y_MM,
        half_x=body.half_width_mm - narrow,
        half_y=body.half_depth_mm - 0.6 * narrow,
        power=CAVITY_POWER,
    )


def spine_bulge(points: Points) -> FloatArray:
    """Return the signed distance to the column of vertebrae and psoas that bulges into the cavity."""
    psoas = smooth_step(-points.z, -10.0, 110.0)
    return ellipse(points.x, points.y - 32, half_x=27 + 24 * psoas, half_y=47.0, power=2.2)


def cavity_distance(points: Points, body: Body) -> FloatArray:
    """Return the signed distance to the body cavity (thorax and abdomen): negative inside."""
    return smooth_max(tube_distance(points, body), -spine_bulge(points), 9.0)


def paint_wall(points: Points, body: Body) -> LabelArray:
    """Return the tissue of every point of the static body: skin, fat, muscle, skeleton, table; air outside."""
    labels = np.zeros(points.x.shape, dtype=np.uint8)
    outside = _skin_distance(points, body)
    labels[outside < 0] = Tissue.FAT
    tube = tube_distance(points, body)
    _paint_muscle(labels, points, body, tube)
    _paint_ribs(labels, points, body, tube)
    _paint_spine(labels, points, body)
    skin = (outside > -2.0) & (outside < 0)
    labels[skin] = Tissue.SKIN
    labels[(_table_distance(points, body) < 0) & (outside > 0)] = Tissue.TABLE
    return labels


def wall_reach_mm(body: Body) -> tuple[float, float, float]:
    """Return the body's extent in its own frame: half width, front (negative y), back (y)."""
    front = CAVITY_CENTER_Y_MM - body.half_depth_mm - 17 - body.fat_front_mm
    return body.half_width_mm + 19 + body.fat_side_mm, front, 92 + body.fat_back_mm


def _skin_distance(points: Points, body: Body) -> FloatArray:
    half_width, front, back = wall_reach_mm(body)
    middle = (front + back) / 2
    shoulder = 0.1 * np.maximum(points.z - 60, 0)
    outer = ellipse(points.x, points.y - middle, half_x=half_width + shoulder, half_y=(back - front) / 2, power=2.45)
    groove = 7 * np.exp(-((points.x / 13) ** 2)) * smooth_step(points.y, back - 35, back - 5)  # midline of the back
    return np.asarray(outer + groove, dtype=np.float32)


def _table_distance(points: Points, body: Body) -> FloatArray:
    _, _, back = wall_reach_mm(body)
    surface = back + body.table_gap_mm + 8 - body.table_curve_mm * (points.x / 200) ** 2
    return np.asarray(np.maximum(np.abs(points.y - surface) - 1.6, np.abs(points.x) - 215), dtype=np.float32)


def _paint_muscle(labels: LabelArray, points: Points, body: Body, tube: FloatArray) -> None:
    inside = labels != Tissue.AIR
    side = np.abs(points.x) / body.half_width_mm
    outer_layer = body.muscle * (
        5 + 5 * smooth_step(points.y, -110.0, 10.0) + 3 * side * smooth_step(-points.z, -40, 40)
    )
    muscle = ((tube > -1.0) & (tube < 8.5)) | ((tube > 9.6) & (tube < 9.6 + outer_layer))
    lateral = np.abs(points.x)
    erector = ellipse(lateral - 34, points.y - 66, half_x=28 * body.muscle, half_y=21, power=2.3)
    back = smooth_min(erector, np.abs(tube - 5) - 6, 26.0)  # the broad muscles of the back fill the corner
    quadratus = ellipse(lateral - 62, points.y - 52, half_x=22, half_y=12)
    psoas = ellipse(lateral - 32 + 0.05 * points.z, points.y - 4, half_x=14, half_y=18)
    muscle |= ((back < 0) & (points.y > 20)) | ((quadratus < 0) & (points.z < 10)) | ((psoas < 0) & (points.z < -4))
    labels[muscle & inside] = Tissue.MUSCLE
    seam = np.abs(ellipse(lateral - 17, points.y - 62, half_x=12, half_y=19)) < 0.8  # fat between the bellies
    labels[seam & (erector < 0) & inside] = Tissue.FAT
    midline = (lateral < 2.2) & (tube > 0) & (points.y < CAVITY_CENTER_Y_MM) & (points.z < 30)
    labels[midline & inside] = Tissue.FAT
    labels[(tube < 0) & inside] = Tissue.FAT


def _paint_ribs(labels: LabelArray, points: Points, body: Body, tube: FloatArray) -> None:
    rows = np.nonzero((tube > -1.0) & (tube < 12.0))
    x, y, z, depth = points.x[rows], points.y[rows], points.z[rows], tube[rows]
    angle = np.arctan2(np.abs(x), y - CAVITY_CENTER_Y_MM)  # 0 at the back, pi at the front
    height = (z + RIB_DROP_MM_PER_RAD * angle - body.rib_phase_mm) / body.rib_spacing_mm
    across = 0.9 * (height - np.round(height)) * body.rib_spacing_mm  # 0.9: the cosine of their slope
    margin = -100 + 170 * (angle / np.pi) ** 2  # the costal margin rises towards the sternum
    present = (z > margin) & (np.abs(x) > 24)
    bone = np.hypot((depth - 5.2) / 3.6, across / 6.3)
    cartilage = present & (angle > 2.15) & (np.hypot((depth - 5.0) / 4.6, across / 7.5) < 1)
    target = labels[rows]
    is_bone = present & (angle <= 2.15) & (bone < 1)
    target[is_bone] = np.where(bone[is_bone] > 0.62, Tissue.BONE_CORTEX, Tissue.BONE_MARROW)
    target[cartilage] = Tissue.CARTILAGE
    sternum = (np.abs(x) < 17) & (y < CAVITY_CENTER_Y_MM) & (z > 66) & (np.abs(depth - 6) < 5)
    target[sternum] = np.where(np.abs(depth[sternum] - 6) > 3.6, Tissue.BONE_CORTEX, Tissue.BONE_MARROW)
    labels[rows] = target


def _paint_spine(labels: LabelArray, points: Points, body: Body) -> None:
    block = points.box((-48.0, -24.0, -400.0), (48.0, 82.0, 400.0))
    if block is None:
        return
    target = labels[block.slices]
    x, y = block.x, block.y
    level = (block.z - body.vertebra_phase_mm) / VERTEBRA_MM
    local = (level - np.floor(level) - 0.5) * VERTEBRA_MM  # -17 ... 17, 0 in the middle of a vertebra
    waist = 1.0 - 0.09 * np.cos(local / 17 * np.pi)
    trunk = ellipse(x, y, half_x=23 * waist, half_y=17 * waist, power=2.3)
    canal = ellipse(x, y - SPINE_CANAL_Y_MM, half_x=11.5, half_y=9.0)
    is_disc = np.abs(local) > 13.2
    arch = _vertebral_arch(block, local, canal)
    target[arch < 0] = Tissue.BONE_MARROW
    target[(arch < 0) & (arch > -2.0)] = Tissue.BONE_CORTEX
    target[trunk < 0] = Tissue.BONE_MARROW
    target[(trunk < 0) & ((trunk > -1.5) | (np.abs(local) > 11.8))] = Tissue.BONE_CORTEX
    target[(trunk < 0) & is_disc] = Tissue.DISC
    target[canal < 0] = Tissue.FAT
    target[canal < -1.5] = Tissue.CORD


def _vertebral_arch(block: Points, local: FloatArray, canal: FloatArray) -> FloatArray:
    """Return the distance to pedicles, laminae, spinous and transverse processes of each vertebra."""
    x, y = np.abs(block.x), block.y
    pedicle = np.maximum(np.maximum(np.abs(x - 14) - 4.5, np.abs(y - 23) - 9), np.abs(local - 5) - 7)
    lamina = np.maximum(np.maximum(canal - 6.5, 24 - y), np.abs(local + 2) - 10)
    slope = local + 0.25 * (y - 40)
    spinous = np.maximum(np.maximum(x - 3.2 - 0.03 * (y - 36), np.abs(y - 53) - 17), np.abs(slope) - 9)
    transverse = np.maximum(np.maximum(np.abs(x - 25) - 13, np.abs(y - 30 - 0.2 * x) - 4.5), np.abs(local - 3) - 5)
    facet = np.hypot(x - 16, y - 36) - 7.5
    result = np.minimum(np.minimum(pedicle, lamina), np.minimum(spinous, transverse))
    return np.asarray(np.minimum(result, facet), dtype=np.float32)
