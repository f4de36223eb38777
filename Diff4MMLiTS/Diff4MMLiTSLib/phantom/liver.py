"""Diaphragm and liver: the surfaces that bound them, from a few proportions."""

from __future__ import annotations

import numpy as np

from .anatomy import cavity_distance
from .fields import FloatArray, Points, ellipsoid, smooth_max, smooth_min, smooth_step
from .patient import LiverDisease, Patient

DIAPHRAGM_MM = 1.6
"""Thickness of diaphragm and pleura between lung and liver."""
NODULE_MM = 1.6
"""Standard deviation of the nodular surface of a cirrhotic liver."""
HILUM_MM = (-27.0, -66.0)
"""Where the portal vein enters the liver (x, y)."""


def diaphragm_height(points: Points, patient: Patient) -> FloatArray:
    """Return the height (z, mm) of the diaphragm at every point: two domes and a plateau under the heart."""
    x, y = points.x, points.y
    right = patient.liver.dome_mm - 96 * np.hypot((x + 66) / 98, (y + 48) / 92) ** 3
    left = patient.organs.left_dome_mm - 92 * np.hypot((x - 72) / 88, (y + 40) / 92) ** 3
    middle = patient.organs.left_dome_mm - 8 - 66 * np.hypot((x - 8) / 92, (y + 74) / 74) ** 3
    return smooth_max(smooth_max(right, middle, 14.0), left, 14.0)


def liver_distance(points: Points, patient: Patient) -> FloatArray:
    """Return the signed distance to the liver: under the diaphragm, above its visceral surface, thin at the left."""
    shape, x, y, z = patient.liver, points.x, points.y, points.z
    under = (z - diaphragm_height(points, patient) + DIAPHRAGM_MM) * np.float32(0.75)
    bottom = visceral_height(points, patient)
    above = (bottom - z) * np.float32(0.85)
    left = (x - shape.left_end_mm) * np.float32(0.9) - 0.25 * (z - 60)
    behind = (y + 24 + ripple(patient, z, x) + shape.back_slope * (x + 14)) * np.float32(
        1 / np.hypot(1, shape.back_slope)
    )
    behind = np.where(x < -30, behind - 0.9 * (-30 - x), behind).astype(np.float32)
    k = shape.roundness_mm
    distance = smooth_max(above, smooth_max(left, behind, 1.2 * k), k)
    distance = _with_caudate(distance, points, patient)
    distance = smooth_max(distance, cavity_distance(points, patient.body) + shape.right_gap_mm - 1.0, 7.0)
    distance = smooth_max(distance, under, 5.0)
    distance = smooth_max(distance, -_fissures(points, patient, bottom), 3.0)
    if shape.disease is LiverDisease.CIRRHOTIC:
        distance = distance + NODULE_MM * _nodules(points, patient)
    return np.asarray(distance, dtype=np.float32)


def visceral_height(points: Points, patient: Patient) -> FloatArray:
    """Return the height (z, mm) of the visceral surface above every point's x and y."""
    shape, x, y = patient.liver, points.x, points.y
    leftward = smooth_step(x, -140.0, 70.0)
    height = shape.right_bottom_mm + (shape.left_bottom_mm - shape.right_bottom_mm) * leftward**0.85
    height += shape.tilt_mm * (y + 50) / 60
    height += 34 * smooth_step(y, -35.0, 40.0) * smooth_step(x, -125.0, -60.0)  # bed of the right kidney
    height += 20 * np.exp(-(((x - HILUM_MM[0]) / 26) ** 2) - ((y - HILUM_MM[1]) / 20) ** 2)  # porta hepatis
    height += ripple(patient, x, y)
    height += 9 * np.exp(-(((x + 88) / 26) ** 2) - ((y + 105) / 26) ** 2)  # hepatic flexure
    return np.asarray(height, dtype=np.float32)


def ripple(patient: Patient, first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the undulation (mm) of a surface of the liver over two coordinates (mm)."""
    waves = (height * np.cos(a * first + b * second + phase) for a, b, phase, height in patient.liver.waves)
    return np.asarray(sum(waves), dtype=np.float32)


def liver_bounds(patient: Patient) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return two corners (x, y, z; patient's frame) between which the liver lies."""
    body, shape = patient.body, patient.liver
    low = (-body.half_width_mm - 4, -body.half_depth_mm - 50, shape.right_bottom_mm - abs(shape.tilt_mm) - 40)
    return low, (shape.left_end_mm + 30, 70.0, max(shape.dome_mm, patient.organs.left_dome_mm) + 10)


def _with_caudate(distance: FloatArray, points: Points, patient: Patient) -> FloatArray:
    size = patient.liver.caudate
    caudate = ellipsoid(points, (-14.0, -46.0, 38.0), (17 * size, 15 * size, 32 * size))
    ligament = (
        np.abs(points.y + 58 - 0.35 * (points.x + 14)) - patient.liver.ligament_mm
    )  # fissure of the ligamentum venosum
    ligament = np.maximum(np.maximum(ligament, np.abs(points.x) - 26), np.abs(points.z - 34) - 26)
    return smooth_max(smooth_min(distance, caudate, 8.0), -ligament.astype(np.float32), 2.0)


def _fissures(points: Points, patient: Patient, bottom: FloatArray) -> FloatArray:
    """Return the distance to the umbilical fissure, which cleaves the liver from below and in front."""
    shape = patient.liver
    rise = np.clip((points.z - bottom) / shape.fissure_depth_mm, -1.0, 1.4)
    wide = 5.5 * (1.0 - rise)
    slab = np.abs(points.x - shape.fissure_x_mm - 0.22 * (points.y + 80)) - wide
    return np.asarray(np.maximum(slab, points.y + 60), dtype=np.float32)


def _nodules(points: Points, patient: Patient) -> FloatArray:
    positions = np.stack([points.x.ravel(), points.y.ravel(), points.z.ravel()], axis=-1)
    return patient.surface.at(positions).reshape(points.x.shape).astype(np.float32)
