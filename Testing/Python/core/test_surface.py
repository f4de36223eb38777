"""Surfaces have the area of the shapes they bound, and distances are those of geometry."""

from __future__ import annotations

import numpy as np
import pytest

from Diff4MMLiTSLib.core.surface import hausdorff_mm, surface_dice, surface_distances, surface_points

SPACING = (2.5, 0.7, 0.8)


def ellipsoid(center: tuple[int, ...], radii: tuple[float, ...], shape: tuple[int, ...] = (14, 22, 26)) -> np.ndarray:
    parts = zip(np.indices(shape), center, radii, strict=True)
    return sum(((index - middle) / radius) ** 2 for index, middle, radius in parts) < 1


def test_a_large_ball_has_the_area_of_a_sphere():
    radius = 20.0
    ball = ellipsoid((25, 25, 25), (radius, radius, radius), (51, 51, 51))
    _, areas = surface_points(ball, (1.0, 1.0, 1.0))
    assert areas.sum() == pytest.approx(4 * np.pi * radius**2, rel=0.1)


def test_the_faces_of_a_box_have_their_area_in_mm():
    box = np.zeros((20, 30, 40), dtype=bool)
    box[3:17, 3:27, 3:37] = True
    points, areas = surface_points(box, SPACING)
    top = (points[:, 0] == 3) & (points[:, 1] > 3) & (points[:, 1] < 27) & (points[:, 2] > 3) & (points[:, 2] < 37)
    assert areas[top] == pytest.approx(0.7 * 0.8)


def test_inside_and_outside_share_one_surface():
    rng = np.random.default_rng(0)
    mask = np.zeros((12, 12, 12), dtype=bool)
    mask[2:-2, 2:-2, 2:-2] = rng.random((8, 8, 8)) > 0.5
    inverse = np.pad(~mask, 1, constant_values=True)
    frame, own = np.ones_like(inverse), surface_points(mask, SPACING)[1].sum()
    assert surface_points(inverse, SPACING)[1].sum() - surface_points(frame, SPACING)[1].sum() == pytest.approx(own)


def test_area_does_not_depend_on_how_the_volume_is_turned():
    mask = np.pad(np.random.default_rng(1).random((7, 7, 7)) > 0.5, 1)
    areas = {round(surface_points(np.rot90(mask, k, axes), (1.0,) * 3)[1].sum(), 9) for k in range(4)
             for axes in ((0, 1), (1, 2), (0, 2))}  # fmt: skip
    assert len(areas) == 1


def test_a_shift_is_measured_in_mm():
    first = np.zeros((10, 30, 30), dtype=bool)
    first[2:6, 5:20, 5:20] = True
    distances = surface_distances(np.roll(first, 2, axis=0), first, SPACING)
    assert hausdorff_mm(distances, 100.0) == pytest.approx(5.0)


def test_a_distance_of_exactly_the_tolerance_is_within_it():
    first = np.zeros((20, 4, 4), dtype=bool)
    first[3:5] = True
    for steps, spacing_mm in ((5, 0.4), (20, 0.1), (4, 0.5)):
        moved = np.zeros((40, 4, 4), dtype=bool)
        moved[3 + steps : 5 + steps] = True
        distances = surface_distances(moved, np.pad(first, ((0, 20), (0, 0), (0, 0))), (spacing_mm, 50.0, 50.0))
        assert distances.truth_mm.max() == pytest.approx(2.0)
        assert surface_dice(distances, steps * spacing_mm) == 1.0


def test_numbers_agree_with_an_independent_implementation():
    """The values were computed with the Python package surface-distance 0.1."""
    truth = ellipsoid((6, 10, 12), (4.2, 7.3, 8.1))
    predicted = ellipsoid((7, 11, 14), (4.6, 6.4, 9.2)) & (np.indices(truth.shape)[2] % 7 != 0)
    distances = surface_distances(truth, predicted, SPACING)
    assert distances.truth_mm2.sum() == pytest.approx(1180.0273338489892, abs=1e-6)
    assert surface_dice(distances, 2.0) == pytest.approx(0.8301666561866107, abs=1e-6)
    assert hausdorff_mm(distances, 95.0) == pytest.approx(3.189043743820395, abs=1e-6)
