"""Laws of grids, slices, noise and contrast."""

from __future__ import annotations

import numpy as np

from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase
from Diff4MMLiTSLib.phantom.anatomy import Tissue
from Diff4MMLiTSLib.phantom.enhancement import DISEASED_LIVER_HU, LEAST_PAUSE, MEAN_HU, draw_enhancement
from Diff4MMLiTSLib.phantom.patient import LiverDisease, draw_patient
from Diff4MMLiTSLib.phantom.scanner import SAMPLINGS, Preset, draw_acquisitions, draw_kernel, draw_noise

PATIENT = draw_patient(3)
NORMAL = next(patient for patient in map(draw_patient, range(20)) if patient.liver.disease is LiverDisease.NORMAL)


def test_noise_is_correlated_in_the_slice_and_of_the_stated_strength() -> None:
    rng = np.random.default_rng(0)
    grid = Grid((400, 400, 6), (0.8, 0.8, 3.0), (-160.0 + PATIENT.body.offset_mm[0], -200.0, 0.0))
    for _ in range(4):
        kernel = draw_kernel(rng, shifted=False)
        noise = draw_noise(rng, grid, kernel, PATIENT)
        middle = noise[:, 150:250, 150:250]
        neighbor = np.corrcoef(middle[..., :-1].ravel(), middle[..., 1:].ravel())[0, 1]
        assert abs(middle.mean()) < 1.5
        assert 0.75 < middle.std() / kernel.noise_hu < 1.45
        assert 0.1 < neighbor < 0.8


def test_the_reference_phase_covers_the_liver_and_the_delayed_one_sometimes_does_not() -> None:
    cut = []
    for seed in range(30):
        scans = draw_acquisitions(
            PATIENT, (-60.0, 90.0), np.random.default_rng(seed), sampling=SAMPLINGS[Preset.MEDIUM]
        )
        ends = {
            phase: (scan.grid.origin_mm[2], scan.grid.to_world(np.array(scan.grid.size) - 1.0)[2])
            for phase, scan in scans.items()
        }
        assert ends[Phase.PVP][0] < -60 and ends[Phase.PVP][1] > 90
        cut.append(ends[Phase.DELAY][0] > -60 or ends[Phase.DELAY][1] < 90)
        assert len({scan.grid.spacing_mm for scan in scans.values()}) > 1
    assert 0.1 < np.mean(cut) < 0.6


def test_the_full_preset_is_a_clinical_matrix() -> None:
    scans = draw_acquisitions(PATIENT, (-60.0, 90.0), np.random.default_rng(0), sampling=SAMPLINGS[Preset.FULL])
    for scan in scans.values():
        assert scan.grid.size[:2] == (512, 512)
        assert 0.6 <= scan.grid.spacing_mm[0] <= 1.0


def test_patients_scatter_about_the_mean_enhancement() -> None:
    tables = np.stack([draw_enhancement(NORMAL, np.random.default_rng(k), shifted=False).table_hu for k in range(80)])
    for tissue in (Tissue.LIVER, Tissue.SPLEEN, Tissue.ARTERY, Tissue.KIDNEY_CORTEX):
        expected = DISEASED_LIVER_HU[LiverDisease.NORMAL] if tissue is Tissue.LIVER else MEAN_HU[tissue]
        for index in range(len(ALL_PHASES)):
            assert abs(tables[:, index, tissue].mean() - expected[index]) < 0.1 * abs(expected[index]) + 6
    assert 4 < tables[:, 2, Tissue.LIVER].std() < 16


def test_shifted_timing_lies_outside_the_standard_range() -> None:
    rng = np.random.default_rng(0)
    standard = [draw_enhancement(NORMAL, rng, shifted=False).timing.arterial for _ in range(30)]
    shifted = [draw_enhancement(NORMAL, rng, shifted=True).timing.arterial for _ in range(30)]
    assert np.abs(standard).max() < np.abs(shifted).min()


def test_shifted_phases_are_scanned_in_their_order_with_a_pause_between() -> None:
    rng = np.random.default_rng(1)
    timings = [draw_enhancement(NORMAL, rng, shifted=True).timing for _ in range(100)]
    assert min(1 + timing.portal - timing.arterial for timing in timings) >= LEAST_PAUSE
    assert min(1 + timing.delayed - timing.portal for timing in timings) >= LEAST_PAUSE
