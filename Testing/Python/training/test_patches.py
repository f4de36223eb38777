from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from Diff4MMLiTSLib.core.config import AugmentationConfig
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.training.patches import EDGE_VOXELS, anywhere_around, crop_patch, random_center, random_patch
from tiny_models import working_study

NOTHING = AugmentationConfig(**dict.fromkeys(set(AugmentationConfig.model_fields) - {"flips"}, 0.0))
CENTER = np.array([12, 12, 12])


def test_a_crop_holds_the_voxels_of_its_box() -> None:
    study = working_study()
    patch = crop_patch(study, CENTER, (8, 8, 8))
    assert np.array_equal(patch.phases, study.phases[:, 8:16, 8:16, 8:16])
    assert np.array_equal(patch.tumor, study.tumor[8:16, 8:16, 8:16])


def test_beyond_the_study_there_is_air_without_labels() -> None:
    study = replace(working_study(), presence=np.array([1, 1, 1, 0], dtype=np.float32))
    patch = crop_patch(study, np.array([0, 12, 23]), (8, 40, 8))
    assert patch.phases.shape == (4, 8, 40, 8)
    assert (patch.phases[:3, :4] == -1000).all()
    assert not patch.phases[3].any() or (patch.phases[3] != -1000).all()
    assert not patch.liver[:4].any()


def test_a_center_outside_the_study_is_an_error() -> None:
    with pytest.raises(InputError, match="inside the study"):
        crop_patch(working_study(), np.array([40, 12, 12]), (8, 8, 8))


def test_without_variation_a_random_patch_is_the_crop() -> None:
    study = working_study()
    varied = random_patch(study, CENTER, (9, 9, 9), augmentation=NOTHING, rng=np.random.default_rng(0))
    plain = crop_patch(study, CENTER, (9, 9, 9))
    assert np.allclose(varied.phases, plain.phases, atol=1e-3)
    assert np.array_equal(varied.liver, plain.liver)


def test_the_same_seed_gives_the_same_patch_and_another_one_another() -> None:
    patches = [
        random_patch(
            working_study(), CENTER, (8, 8, 8), augmentation=AugmentationConfig(), rng=np.random.default_rng(seed)
        )
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(patches[0].phases, patches[1].phases)
    assert not np.array_equal(patches[0].phases, patches[2].phases)


def test_withholding_phases_never_withholds_all() -> None:
    study = replace(working_study(), presence=np.array([0, 1, 1, 0], dtype=np.float32))
    always = NOTHING.model_copy(update={"phase_dropout": 0.95})
    counts = set()
    for seed in range(60):
        patch = random_patch(study, CENTER, (4, 4, 4), augmentation=always, rng=np.random.default_rng(seed))
        assert patch.presence[[0, 3]].sum() == 0
        assert not patch.phases[patch.presence == 0].any()
        counts.add(int(patch.presence.sum()))
    assert 1 in counts
    assert 0 not in counts


def test_labels_stay_with_the_reference_phase_when_phases_shift() -> None:
    study = working_study()
    shifts = NOTHING.model_copy(update={"shift_mm": 6.0})
    patch = random_patch(study, CENTER, (9, 9, 9), augmentation=shifts, rng=np.random.default_rng(3))
    plain = crop_patch(study, CENTER, (9, 9, 9))
    assert np.allclose(patch.phases[2], plain.phases[2], atol=1e-3)
    assert not np.allclose(patch.phases[1], plain.phases[1], atol=1.0)


def test_every_second_patch_is_flipped_along_the_axes_that_are_named() -> None:
    study = working_study()
    plain = crop_patch(study, CENTER, (9, 9, 9))
    flips = NOTHING.model_copy(update={"flips": ("x",)})
    kinds = []
    for seed in range(20):
        patch = random_patch(study, CENTER, (9, 9, 9), augmentation=flips, rng=np.random.default_rng(seed))
        kinds.append(np.allclose(patch.phases, plain.phases[..., ::-1], atol=1e-3))
        assert kinds[-1] or np.allclose(patch.phases, plain.phases, atol=1e-3)
    assert 4 < sum(kinds) < 16


def test_every_lesion_is_chosen_as_often_whatever_its_size() -> None:
    tumor = np.zeros((24, 24, 24), dtype=bool)
    tumor[2:3, 2:3, 2:3] = True
    tumor[8:20, 8:20, 8:20] = True
    study = replace(working_study(), tumor=tumor)
    rng = np.random.default_rng(0)
    centers = [random_center(study, rng, tumor_fraction=1, liver_fraction=0) for _ in range(200)]
    assert 70 < sum(center[0] == 2 for center in centers) < 130


def test_centers_of_a_tumor_free_study_lie_in_its_liver() -> None:
    study = replace(working_study(), tumor=np.zeros((24, 24, 24), dtype=bool))
    rng = np.random.default_rng(0)
    centers = [random_center(study, rng, tumor_fraction=0.5, liver_fraction=0.5) for _ in range(50)]
    assert all(study.liver[tuple(center)] for center in centers)


def test_what_a_patch_is_centered_on_may_lie_anywhere_in_it_but_at_its_border() -> None:
    rng, size, voxel = np.random.default_rng(0), (16, 16, 32), np.array([30, 30, 30])
    starts = np.array([anywhere_around(voxel, size, (60, 60, 60), rng) - np.array(size) // 2 for _ in range(400)])
    places = voxel - starts
    assert places.min(axis=0).tolist() == [EDGE_VOXELS] * 3
    assert places.max(axis=0).tolist() == [each - EDGE_VOXELS for each in size]
    assert np.abs(places.mean(axis=0) - np.array(size) / 2).max() < 1


def test_the_center_of_a_patch_stays_in_the_study() -> None:
    rng = np.random.default_rng(0)
    centers = [anywhere_around(np.array([0, 5, 23]), (32, 32, 32), (24, 24, 24), rng) for _ in range(50)]
    assert np.min(centers) >= 0
    assert np.max(centers) <= 23
