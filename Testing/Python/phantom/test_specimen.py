"""Laws of the rendered anatomy: tissues, vessels, tumors."""

from __future__ import annotations

from functools import cache

import numpy as np

from Diff4MMLiTSLib.core.grid import Grid, Volume, resample
from Diff4MMLiTSLib.phantom.anatomy import Tissue
from Diff4MMLiTSLib.phantom.organs import cava_path, portal_root
from Diff4MMLiTSLib.phantom.patient import LiverDisease, draw_patient
from Diff4MMLiTSLib.phantom.specimen import paint, survey
from Diff4MMLiTSLib.phantom.vessels import TWIG_RADIUS_MM, VesselTree, coverage, grow_trees, point_to_world

FINE = Grid((88, 76, 60), (5.0, 5.0, 5.0), (-220.0, -210.0, -130.0))


@cache
def a_liver(seed: int = 3) -> tuple[np.ndarray, Grid]:
    return survey(draw_patient(seed))


@cache
def the_trees(seed: int = 3) -> tuple[VesselTree, VesselTree]:
    patient = draw_patient(seed)
    dome = cava_path(patient)[3]
    roots = (point_to_world(patient, portal_root(patient)), point_to_world(patient, dome))
    return grow_trees(patient, *a_liver(seed), roots)


def test_labels_on_two_grids_agree() -> None:
    patient = draw_patient(3)
    fine = paint(patient, FINE)
    coarse_grid = Grid((44, 76, 30), (10.0, 5.0, 10.0), FINE.origin_mm)
    coarse = paint(patient, coarse_grid)
    expected = resample(Volume(fine.combined, FINE), coarse_grid, linear=False)
    assert np.mean(expected.array == coarse.combined) > 0.995


def test_every_organ_is_there_with_a_plausible_volume() -> None:
    limits_ml = {
        Tissue.LIVER: (900, 3000),
        Tissue.SPLEEN: (70, 900),
        Tissue.LUNG: (300, 9000),
        Tissue.ARTERY: (20, 300),
    }
    labels = paint(draw_patient(3), FINE).combined
    for tissue, (low, high) in limits_ml.items():
        assert low < (labels == tissue).sum() * FINE.voxel_ml < high
    kidneys = np.isin(labels, (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA)).sum() * FINE.voxel_ml
    assert 150 < kidneys < 500


def test_livers_vary_widely_in_size_and_state() -> None:
    volumes = [liver.sum() * grid.voxel_ml for liver, grid in (a_liver(seed) for seed in range(3, 9))]
    assert max(volumes) / min(volumes) > 1.15
    assert {draw_patient(seed).liver.disease for seed in range(12)} == set(LiverDisease)


def test_vessels_lie_in_the_liver_and_thin_out() -> None:
    liver, grid = a_liver()
    for tree in the_trees():
        tips = tree.ends_mm[tree.radii_mm[:, 1] < 1.2 * TWIG_RADIUS_MM + 0.3]
        index = np.rint(grid.to_index(tips)).astype(int)
        assert liver[index[:, 2], index[:, 1], index[:, 0]].mean() > 0.9
        assert tree.radii_mm.max() > 3.0 and tree.radii_mm.min() < 1.0
        assert (tree.radii_mm[:, 1] <= tree.radii_mm[:, 0] + 1e-6).all()


def test_vessel_coverage_has_the_volume_of_the_tube() -> None:
    tube = VesselTree(np.array([[0.0, 0, 0]]), np.array([[40.0, 0, 0]]), np.array([[5.0, 5.0]]))
    grid = Grid((60, 20, 20), (1.0, 1.0, 1.0), (-10.0, -10.0, -10.0))
    expected = np.pi * 25 * 40 + 4 / 3 * np.pi * 125
    assert abs(coverage(tube, grid).sum() / expected - 1) < 0.05
