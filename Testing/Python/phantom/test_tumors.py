"""Laws of tumor shapes, sizes and looks."""

from __future__ import annotations

from functools import cache

import numpy as np

from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase
from Diff4MMLiTSLib.phantom.patient import draw_patient
from Diff4MMLiTSLib.phantom.tumors import DIAMETER_RANGE_MM, Tumor, TumorFamily, draw_tumors, tumor_distance, tumor_hu

LIVER_HU = np.array([58.0, 78.0, 118.0, 95.0], dtype=np.float32)
GRID = Grid((50, 46, 46), (4.0, 4.0, 4.0))


def a_ball_of_liver() -> np.ndarray:
    z, y, x = np.indices(GRID.shape) * 4.0 - 90.0
    return np.sqrt(x**2 + y**2 + z**2) < 88


@cache
def the_tumors(shifted: bool = False) -> tuple[Tumor, ...]:
    drawn = [draw_tumors(draw_patient(seed), a_ball_of_liver(), GRID, LIVER_HU, shifted=shifted) for seed in range(24)]
    return tuple(tumor for tumors in drawn for tumor in tumors)


def look(tumor: Tumor, phase: Phase, share: float) -> float:
    """Return the HU at a share of the radius, without noise."""
    distance = np.full((1,), (share - 1) * tumor.radius_mm, dtype=np.float32)
    return float(tumor_hu(tumor, distance, np.zeros(1, dtype=np.float32), phase)[0])


def test_sizes_are_long_tailed_and_in_range() -> None:
    sizes = np.array([tumor.diameter_mm for tumor in the_tumors()])
    assert DIAMETER_RANGE_MM[0] <= sizes.min() and sizes.max() <= DIAMETER_RANGE_MM[1]
    assert sizes.mean() > np.median(sizes)
    assert {tumor.family for tumor in the_tumors()} == set(TumorFamily)


def test_tumors_start_inside_the_liver_and_stay_apart() -> None:
    for seed in range(4):
        tumors = draw_tumors(draw_patient(seed), a_ball_of_liver(), GRID, LIVER_HU, shifted=False)
        for index, tumor in enumerate(tumors):
            assert np.linalg.norm(np.array(tumor.center_mm) - 90.0) < 90
            for other in tumors[:index]:
                gap = np.linalg.norm(np.subtract(tumor.center_mm, other.center_mm))
                assert gap > tumor.radius_mm + other.radius_mm


def test_a_shape_has_about_the_volume_of_its_diameter() -> None:
    for tumor in the_tumors()[:8]:
        reach = np.linspace(-tumor.reach_mm, tumor.reach_mm, 40, dtype=np.float32)
        x, y, z = (reach + np.float32(center) for center in tumor.center_mm)
        inside = tumor_distance(tumor, x[None, None], y[None, :, None], z[:, None, None]) < 0
        volume = inside.mean() * (2 * tumor.reach_mm) ** 3
        sphere = 4 / 3 * np.pi * tumor.radius_mm**3
        assert 0.35 < volume / sphere < 2.2
        assert not inside[0].any() and not inside[:, 0].any() and not inside[:, :, 0].any()


def test_families_enhance_as_they_do_in_patients() -> None:
    by_family = {family: [tumor for tumor in the_tumors() if tumor.family is family] for family in TumorFamily}
    arterial = [look(tumor, Phase.AP, 0.8) - LIVER_HU[1] for tumor in by_family[TumorFamily.HCC]]
    late = [look(tumor, Phase.DELAY, 0.8) - LIVER_HU[3] for tumor in by_family[TumorFamily.HCC]]
    assert np.median(arterial) > 12 and np.median(late) < -5
    portal = [look(tumor, Phase.PVP, 0.7) - LIVER_HU[2] for tumor in by_family[TumorFamily.METASTASIS]]
    assert -60 < np.median(portal) < -12
    for cyst in by_family[TumorFamily.CYST]:
        assert all(-12 < look(cyst, phase, 0.3) < 28 for phase in ALL_PHASES)
    for hemangioma in by_family[TumorFamily.HEMANGIOMA]:
        assert look(hemangioma, Phase.AP, 1.0) > look(hemangioma, Phase.AP, 0.2) + 40


def test_shifted_shapes_are_not_ellipsoids() -> None:
    assert all(tumor.power == 2.0 and not tumor.lobes for tumor in the_tumors())
    assert any(tumor.lobes for tumor in the_tumors(shifted=True))


def test_every_tumor_can_be_seen_in_some_phase() -> None:
    for tumor in the_tumors() + the_tumors(shifted=True):
        assert max(abs(core - liver) for core, liver in zip(tumor.interior.core, LIVER_HU, strict=True)) > 14.5
