from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.grid import Grid, Volume, resample
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study import (
    TUMOR_FREE,
    HistoryEntry,
    Mask,
    MaskSource,
    PhaseQA,
    RegisteredStudy,
    StageQA,
    Verdict,
)
from Diff4MMLiTSLib.training.datasets import (
    check_no_leak,
    check_usable,
    coarser,
    data_hash,
    downsample,
    to_working_study,
    working_grid,
)
from tiny_models import working_study


def test_the_working_grid_is_upright_and_covers_every_voxel(a_grid: Grid) -> None:
    grid = working_grid(a_grid, 2.0)
    corners = np.array([[x, y, z] for x in (0, 23) for y in (0, 19) for z in (0, 11)], dtype=float)
    index = grid.to_index(a_grid.to_world(corners))
    assert np.array_equal(grid.direction_matrix, np.eye(3))
    assert (index > -0.5).all()
    assert (index < np.array(grid.size) - 0.5).all()


def test_an_upright_grid_of_the_same_spacing_is_its_own_working_grid() -> None:
    grid = Grid((10, 12, 14), (3.0, 3.0, 3.0), (5.0, -7.0, 2.0))
    assert working_grid(grid, 3.0).same_as(grid)


def test_a_synthetic_study_says_whose_it_is(a_study: RegisteredStudy) -> None:
    made = HistoryEntry("synthesize", "1", config={"source_study": "patient 7"})
    pair = replace(a_study, study_id="x_synthetic-0001", synthetic=True, history=(made,))
    assert to_working_study(pair, spacing_mm=3.0, margin_mm=None).origin == "patient 7"
    assert to_working_study(a_study, spacing_mm=3.0, margin_mm=None).origin == a_study.study_id


def test_labels_lie_where_they_lay_in_the_patient(a_study: RegisteredStudy) -> None:
    working = to_working_study(a_study, spacing_mm=1.5, margin_mm=None)
    z, y, x = np.argwhere(working.tumor).mean(axis=0)
    center = working.grid.to_world(np.array([x, y, z]))
    assert a_study.tumor_mask is not None
    expected = a_study.grid.to_world(np.argwhere(a_study.tumor_mask.array).mean(axis=0)[::-1])
    assert np.linalg.norm(center - expected) < 0.75


def test_a_missing_phase_is_zero_and_flagged(a_study: RegisteredStudy) -> None:
    working = to_working_study(a_study, spacing_mm=3.0, margin_mm=None)
    assert working.presence.tolist() == [0, 1, 1, 0]
    assert not working.phases[[0, 3]].any()
    assert working.phases[1:3].any(axis=(1, 2, 3)).all()


def test_a_phase_that_registration_rejected_counts_as_missing(a_study: RegisteredStudy) -> None:
    qa = {"register": StageQA(Verdict.REJECT, 1.0, phases={Phase.AP: PhaseQA(Verdict.REJECT, ("far off",))})}
    working = to_working_study(replace(a_study, qa=qa), spacing_mm=3.0, margin_mm=None)
    assert working.presence.tolist() == [0, 0, 1, 0]


def test_the_crop_keeps_the_liver_and_its_margin_only(a_study: RegisteredStudy) -> None:
    whole = to_working_study(a_study, spacing_mm=1.5, margin_mm=None)
    cropped = to_working_study(a_study, spacing_mm=1.5, margin_mm=3.0)
    assert cropped.liver.sum() == whole.liver.sum()
    assert cropped.liver.size < whole.liver.size
    assert not cropped.liver[:, 0].any()


def test_downsampling_averages_noise_instead_of_picking_it() -> None:
    grid = Grid((48, 48, 48), (1.0, 1.0, 1.0))
    noise = Volume(np.random.default_rng(0).normal(0, 10, grid.shape).astype(np.float32), grid)
    coarse = working_grid(grid, 3.0)
    assert downsample(noise, coarse).array.std() < 0.5 * resample(noise, coarse).array.std()


def test_masks_of_a_model_are_refused_unless_allowed(a_study: RegisteredStudy) -> None:
    assert a_study.liver is not None
    drawn = replace(a_study, liver=Mask(a_study.liver.volume, MaskSource.MODEL))
    with pytest.raises(InputError, match="drawn by a model"):
        check_usable(drawn, training=True)
    assert check_usable(drawn, training=True, allow_model_masks=True) is drawn


def test_a_study_whose_tumors_are_unknown_is_refused_but_a_tumor_free_one_is_not(a_study: RegisteredStudy) -> None:
    with pytest.raises(InputError, match="no tumor mask"):
        check_usable(replace(a_study, tumor=None), training=True)
    free = check_usable(replace(a_study, tumor=TUMOR_FREE), training=True)
    assert not to_working_study(free, spacing_mm=3.0, margin_mm=None).tumor.any()


def test_the_data_hash_depends_on_the_voxels_but_not_on_the_order(a_study: RegisteredStudy) -> None:
    one = to_working_study(a_study, spacing_mm=3.0, margin_mm=None)
    two = replace(one, study_id="two")
    changed = replace(two, phases=two.phases + 1)
    assert data_hash([one, two]) == data_hash([two, one]) != data_hash([one, changed])


@pytest.mark.parametrize("start", [(0.0, 0.0, 0.0), (21.0, 9.0, 30.0)])
def test_a_large_volume_is_sampled_fast_and_as_exactly_where_only_a_part_is_needed(
    start: tuple[float, float, float],
) -> None:
    fine = Grid((101, 90, 40), (0.7, 0.7, 2.0), (-3.0, 5.0, 0.0))
    z, y, x = np.meshgrid(*(np.arange(n) for n in fine.shape), indexing="ij")
    points = fine.to_world(np.stack((x, y, z), axis=-1))
    waves = (60 * np.sin(points @ np.array([0.15, 0.1, 0.08]))).astype(np.float32)
    volume = Volume(waves, fine)
    whole = working_grid(fine, 4.0)
    low = np.round(np.array(start) / 4.0).astype(int)
    part = whole.cropped(tuple(int(n) for n in low), (6, 6, 8))
    at = part.to_world(np.stack(np.meshgrid(*map(np.arange, part.size), indexing="ij"), axis=-1)).transpose(2, 1, 0, 3)
    inside = ((fine.to_index(at) > 4) & (fine.to_index(at) < np.array(fine.size) - 5)).all(axis=-1)
    expected = 60 * np.sin(at @ np.array([0.15, 0.1, 0.08]))
    assert np.abs(np.asarray(downsample(volume, part).array) - expected)[inside].max() < 8
    assert np.allclose(
        np.asarray(downsample(volume, part).array)[inside],
        np.asarray(resample(downsample(volume, whole), part).array)[inside],
        atol=0.5,
    )


def test_a_coarser_study_keeps_liver_and_brightness() -> None:
    study = working_study()
    coarse = coarser(study, 2.0)
    assert coarse.grid.spacing_mm == (6.0, 6.0, 6.0)
    volumes = [one.liver.sum() * one.grid.voxel_ml for one in (study, coarse)]
    assert abs(volumes[0] / volumes[1] - 1) < 0.05
    inner = coarse.liver & ~coarse.tumor
    assert abs(np.percentile(coarse.phases[2][inner], 75) - 118) < 6  # at its border voxels are mixed


def test_no_study_is_learned_from_and_measured_on_nor_one_that_was_made_from_it(a_study):
    study = to_working_study(a_study, spacing_mm=3.0, margin_mm=None)
    made = replace(study, study_id="another", synthetic=True, source_study=study.study_id)
    check_no_leak([study], [replace(study, study_id="another")])
    for training, more in (([study], ()), ([made], ()), ([], (study.study_id,))):
        with pytest.raises(InputError, match="in training and validation"):
            check_no_leak(training, [study], more)
