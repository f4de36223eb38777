"""Tumors that lie beside their mask in other phases are moved onto it before they are learned."""

from __future__ import annotations

import numpy as np
import pytest
from working_studies import GRID, LIVER_HU, TUMOR_HU, working_study

from conftest import ball
from Diff4MMLiTSLib.core.enhancement import TumorFamily
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Grid
from Diff4MMLiTSLib.training.pairs import TumorPair, known_lesions_of, lesion_patches


def patch_of(shift_mm=0.0, reach_mm=9.0):
    pair = TumorPair(working_study(0, shift_mm=shift_mm), working_study(1, with_tumor=False))
    (patch,) = lesion_patches([pair], (16, 16, 16), largest_shift_mm=reach_mm)
    return patch


def alone(study, reach_mm):
    pair = TumorPair(study, working_study(1, with_tumor=False))
    return lesion_patches([pair], (16, 16, 16), largest_shift_mm=reach_mm)


def contrast(patch, phase):
    return float((patch.changed - patch.normal)[phase][patch.tumor].mean())


def test_an_aligned_tumor_stays_where_it_is():
    patch = patch_of()
    assert not patch.shifts_mm.any()
    assert patch.trust.min() > 0.9
    assert patch.family is TumorFamily.HYPOVASCULAR


def test_a_displaced_tumor_is_moved_onto_its_mask():
    patch, blind = patch_of(shift_mm=6.0), patch_of(shift_mm=6.0, reach_mm=0.0)
    wanted = TUMOR_HU[1] - LIVER_HU[1]
    assert patch.shifts_mm[1] == pytest.approx(6.0)
    assert contrast(patch, 1) == pytest.approx(wanted, abs=4)
    assert abs(contrast(blind, 1)) < 0.8 * abs(wanted)


def test_a_tumor_that_fits_nowhere_counts_little():
    assert patch_of(shift_mm=15.0, reach_mm=3.0).trust[1] < 0.5 < patch_of().trust[1]


def test_a_lesion_of_fat_is_a_displaced_capsule_and_counts_nothing():
    study = working_study(0)
    study.phases[1][study.tumor] = -90
    pair = TumorPair(study, working_study(1, with_tumor=False))
    (patch,) = lesion_patches([pair], (16, 16, 16), largest_shift_mm=3.0)
    assert patch.trust[1] == 0
    assert patch.trust[2] == 1


def test_fat_beside_a_lesion_is_not_mistaken_for_it():
    study = working_study(0)
    study.phases[1][:, :, :9] = -100  # the capsule lies elsewhere in AP
    (patch,) = lesion_patches(
        [TumorPair(study, working_study(1, with_tumor=False))], (16, 16, 16), largest_shift_mm=9.0
    )
    assert patch.shifts_mm[1] == 0
    assert contrast(patch, 1) == pytest.approx(TUMOR_HU[1] - LIVER_HU[1], abs=4)


def test_lesions_of_one_study_are_learned_one_by_one():
    study, normal = working_study(0, with_tumor=False), working_study(1, with_tumor=False)
    rng = np.random.default_rng(2)
    for offset, contrast_hu in ((-12.0, -40), (12.0, 40)):
        ball_at = ball(GRID, np.add(GRID.center_mm, (offset, 0.0, 0.0)), 7.0)
        study.tumor[ball_at] = True
        study.phases[:, ball_at] += contrast_hu
    study.phases[:] += rng.normal(0, 2, study.phases.shape)
    first, second = lesion_patches([TumorPair(study, normal)], (20, 20, 20), largest_shift_mm=6.0)
    assert [round(contrast(patch, 1), -1) for patch in (first, second)] == [-40, 40]
    assert abs((first.changed - first.normal)[1].max()) < 20  # nothing of the other one


def test_a_phase_that_was_moved_by_more_than_the_radius_tells_no_contrast():
    near, far = (
        known_lesions_of([alone(working_study(0, radius_mm=6.0, shift_mm=shift_mm), reach_mm=9.0)[0]])
        for shift_mm in (3.0, 9.0)
    )
    assert np.isfinite(near.contrast_hu[0]).all()
    assert np.isnan(far.contrast_hu[0, 1])
    assert np.isfinite(far.contrast_hu[0, 2])


def test_the_family_is_not_told_without_the_arterial_phase():
    study = working_study(0)
    study.presence[1] = 0
    (patch,) = lesion_patches(
        [TumorPair(study, working_study(1, with_tumor=False))], (16, 16, 16), largest_shift_mm=3.0
    )
    assert patch.family is None
    assert np.isnan(known_lesions_of([patch]).contrast_hu[0, 1])


def test_the_change_has_less_noise_than_the_images():
    patch = patch_of()
    outside = (patch.changed - patch.normal)[2][~patch.tumor]
    assert outside.std() < 0.5 * 6 * np.sqrt(2)


def test_pairs_on_different_grids_are_refused():
    normal = working_study(1, with_tumor=False)
    object.__setattr__(normal, "grid", Grid(normal.grid.size, (2.0, 2.0, 2.0)))
    with pytest.raises(InputError, match="different grids: spacing"):
        TumorPair(working_study(0), normal)


def test_studies_without_any_tumor_are_refused():
    free = working_study(1, with_tumor=False)
    with pytest.raises(InputError, match="No study has a tumor"):
        lesion_patches([TumorPair(free, free)], (16, 16, 16), largest_shift_mm=3.0)
