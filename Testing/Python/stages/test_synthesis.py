"""Stage 3 puts tumors into livers, marks what it made, and leaves every other voxel alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conftest import ball
from Diff4MMLiTSLib.core.config import Sampler, SynthesizeConfig, TumorMaskConfig
from Diff4MMLiTSLib.core.enhancement import TumorFamily
from Diff4MMLiTSLib.core.errors import InputError, MissingError
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.images import is_marked_synthetic
from Diff4MMLiTSLib.core.known_lesions import NUMBERS, describe, known_lesions
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import Mask, MaskSource, NormalStudy, Verdict
from Diff4MMLiTSLib.core.study_io import write_pair
from Diff4MMLiTSLib.core.tumor_mask import distance_mm
from Diff4MMLiTSLib.stages.synthesis import MultimodalCTSynthesizer
from Diff4MMLiTSLib.stages.synthesis_qa import Expected, check_pair
from Diff4MMLiTSLib.training.checkpoint import save_model
from tiny_models import NOTHING_KNOWN, SYNTHESIZER_CARD, synthesizer_networks, synthesizer_weights


@pytest.fixture(scope="module")
def synthesizer():
    return MultimodalCTSynthesizer(*synthesizer_networks(), NOTHING_KNOWN, SYNTHESIZER_CARD, "0" * 64)


def settings(**values):
    tumor = TumorMaskConfig(diameter_mm=(10.0, 12.0))
    return SynthesizeConfig(**{"steps": 2, "band_mm": 4.0, "redraws": 1, "tumor": tumor} | values)


def synthesize(synthesizer, normal, seed=0, tumor=None, **values):
    rng = np.random.default_rng(seed)
    return synthesizer.synthesize(normal, tumor=tumor, config=settings(**values), rng=rng, progress=silent())


def check(study, grown, mask, *, family=None, known=NOTHING_KNOWN):
    return check_pair(study.phases, grown, mask, study.liver.array, expected=Expected(family, known, 6.0))


def darkened(study, mask, contrast_hu):
    """Return the phases with a contrast in the mask: of all, or by phase."""
    by_phase = contrast_hu if isinstance(contrast_hu, dict) else dict.fromkeys(study.phases, contrast_hu)
    return {p: Volume((v.array + by_phase[p] * mask).astype(np.int16), v.grid) for p, v in study.phases.items()}


def mask_at(study, offset_mm, radius_mm):
    array = ball(study.grid, study.grid.center_mm + offset_mm, radius_mm)
    return Mask(Volume(array.astype(np.uint8), study.grid), MaskSource.ANNOTATION)


@pytest.mark.parametrize("band_mm", [4.0, 12.0])
def test_voxels_beyond_the_band_are_bit_identical(synthesizer, a_normal_study, band_mm):
    pair = synthesize(synthesizer, a_normal_study, band_mm=band_mm).study
    beyond = distance_mm(pair.tumor_mask.array, pair.grid, 30.0) > band_mm
    for phase, volume in a_normal_study.study.phases.items():
        assert pair.phases[phase].array.dtype == volume.array.dtype
        assert np.array_equal(pair.phases[phase].array[beyond], volume.array[beyond])
        assert not np.array_equal(pair.phases[phase].array, volume.array)


def test_the_mask_lies_in_the_liver_on_the_grid_of_the_study(synthesizer, a_normal_study):
    pair = synthesize(synthesizer, a_normal_study).study
    assert pair.tumor_mask.array.any()
    assert not (pair.tumor_mask.array & ~pair.liver.array).any()
    assert pair.tumor_mask.volume.grid.same_as(a_normal_study.study.grid)
    assert pair.tumor_mask.source is MaskSource.SYNTHETIC


def test_the_tumor_is_where_the_mask_is_and_keeps_the_noise_of_the_patient(synthesizer, a_normal_study):
    tumor = mask_at(a_normal_study.study, [0.0, 0.0, 0.0], 8.0)
    pair = synthesize(synthesizer, a_normal_study, tumor=tumor).study
    before = np.asarray(a_normal_study.study.reference.array, dtype=float)
    change = pair.reference.array - before
    assert change[tumor.array].mean() == pytest.approx(-40, abs=10)
    assert np.corrcoef(pair.reference.array[tumor.array], before[tumor.array])[0, 1] > 0.8


def test_the_same_seed_gives_the_same_pair(synthesizer, a_normal_study):
    one, again, other = (synthesize(synthesizer, a_normal_study, seed).study for seed in (1, 1, 2))
    for phase in one.phases:
        assert np.array_equal(one.phases[phase].array, again.phases[phase].array)
    assert np.array_equal(one.tumor_mask.array, again.tumor_mask.array)
    assert not np.array_equal(one.tumor_mask.array, other.tumor_mask.array)


@pytest.mark.parametrize("sampler", Sampler)
def test_every_sampler_works(synthesizer, a_normal_study, sampler):
    pair = synthesize(synthesizer, a_normal_study, sampler=sampler, steps=5).study
    assert abs(pair.qa["synthesize"].phases[Phase.PVP].measures["contrast_hu"]) < 100


def test_what_was_made_is_marked_and_can_be_repeated(synthesizer, a_normal_study, tmp_path):
    pair = synthesize(synthesizer, a_normal_study)
    entry = pair.study.history[-1]
    assert pair.study.study_id == "study 1 ü_synthetic-0001"
    assert (entry.stage, entry.config["source_study"]) == ("synthesize", "study 1 ü")
    assert entry.config["drawn_tumors"][0]["center_mm"]
    assert entry.seed is not None
    write_pair(pair, tmp_path / "pair")
    assert is_marked_synthetic(tmp_path / "pair" / "PVP.nrrd")


def test_a_given_mask_is_cut_to_the_liver_and_refused_outside(synthesizer, a_normal_study):
    study = a_normal_study.study
    pair = synthesize(synthesizer, a_normal_study, tumor=mask_at(study, [12.0, 0.0, 0.0], 5.0)).study
    assert not (pair.tumor_mask.array & ~study.liver.array).any()
    with pytest.raises(InputError, match="of the tumor mask lies in the liver"):
        synthesize(synthesizer, a_normal_study, tumor=mask_at(study, [16.0, 0.0, 0.0], 4.0))


def test_a_study_without_liver_is_refused(synthesizer, a_normal_study):
    blind = NormalStudy(replace(a_normal_study.study, liver=None))
    with pytest.raises(InputError, match="no liver mask"):
        synthesize(synthesizer, blind)


def test_draws_that_fail_are_repeated_and_counted(synthesizer, a_normal_study):
    pair = synthesize(synthesizer, a_normal_study, family=TumorFamily.CYST, redraws=2).study
    quality = pair.qa["synthesize"]
    assert quality.measures["rejected_draws"] == 2.0
    assert "a seam where it ends" in quality.notes["rejected_draw_2"]
    assert any("a seam where it ends" in reason for reason in quality.reasons)


@pytest.mark.parametrize(("contrast_hu", "verdict"), [(-40, Verdict.PASS), (2, Verdict.REJECT), (400, Verdict.REVIEW)])
def test_the_gate_wants_a_tumor_that_is_seen_and_plausible(a_normal_study, contrast_hu, verdict):
    study = a_normal_study.study
    mask = mask_at(study, [0.0, 0.0, 0.0], 6.0).array
    assert check(study, darkened(study, mask, contrast_hu), mask).verdict is verdict


def test_a_tiny_mask_that_changed_nothing_is_rejected_whatever_its_noise_shows(a_normal_study):
    study = a_normal_study.study
    mask = np.zeros(study.grid.shape, dtype=bool)
    middle = tuple(int(n) // 2 for n in study.grid.shape)
    mask[middle] = True
    noisy = {}
    for phase, volume in study.phases.items():
        array = np.array(volume.array)
        array[middle] += 60  # the noise of one voxel
        noisy[phase] = Volume(array, volume.grid)
    assert check(replace(study, phases=noisy), noisy, mask).verdict is Verdict.REJECT


def test_a_flat_tumor_does_not_pass(a_normal_study):
    study = a_normal_study.study
    mask = mask_at(study, [0.0, 0.0, 0.0], 6.0).array
    grown = {p: Volume(np.where(mask, 60, v.array).astype(np.int16), v.grid) for p, v in study.phases.items()}
    assert any("flat" in reason for reason in check(study, grown, mask).reasons)


def test_a_step_where_the_synthetic_part_ends_is_a_seam(a_normal_study):
    study = a_normal_study.study
    mask = mask_at(study, [0.0, 0.0, 0.0], 4.0).array
    blended = distance_mm(mask, study.grid, 30.0) < 6.0
    assert any("seam" in reason for reason in check(study, darkened(study, blended, -40), mask).reasons)
    assert not any("seam" in reason for reason in check(study, darkened(study, mask, -40), mask).reasons)


def test_a_contrast_that_no_known_tumor_has_is_not_plausible(a_normal_study):
    study = a_normal_study.study
    mask = mask_at(study, [0.0, 0.0, 0.0], 6.0).array
    change = np.stack([-40.0 * mask] * len(ALL_PHASES)).astype(np.float32)
    lesion = describe(change, mask, study.grid)
    known = known_lesions([lesion], [np.full(4, -40, np.float32)], [TumorFamily.HYPOVASCULAR], ["one"])
    family = TumorFamily.HYPOVASCULAR
    assert not check(study, darkened(study, mask, -45), mask, family=family, known=known).reasons
    brighter = check(study, darkened(study, mask, {Phase.AP: -40, Phase.PVP: 20}), mask, family=family, known=known)
    assert any("known tumors have" in reason for reason in brighter.reasons)


def test_a_copy_of_a_known_lesion_is_flagged_also_when_mirrored(a_normal_study):
    study = a_normal_study.study
    whole = mask_at(study, [0.0, 0.0, 0.0], 8.0).array
    half = whole & mask_at(study, [6.0, 0.0, 0.0], 8.0).array
    change = np.zeros((4, *whole.shape), np.float32)
    change[[1, 2]] = -40.0 * whole - 30.0 * half
    contrast, family = np.full(4, -50, np.float32), TumorFamily.HYPOVASCULAR
    similar = change * np.array([1, 1, 0.4, 1], np.float32)[:, None, None, None]
    lesions = [describe(part, whole, study.grid) for part in (change[:, ::-1, :, ::-1], similar)]
    known = known_lesions(lesions, [contrast, contrast], [family, family], ["one", "two"])
    copied = {phase: -40 * whole - 30 * half for phase in study.phases}
    grown = {p: Volume((v.array + copied[p]).astype(np.int16), v.grid) for p, v in study.phases.items()}
    found = check(study, grown, whole, known=known)
    assert any("copy of a lesion" in reason for reason in found.reasons)
    assert found.measures["nearest_known_lesion"] < 0.1
    other = check(study, darkened(study, whole, {Phase.AP: 40, Phase.PVP: -60}), whole, known=known)
    assert not any("copy" in reason for reason in other.reasons)


def test_a_family_that_nobody_asked_for_is_drawn_among_the_known_ones(a_normal_study):
    lesions = [np.ones(NUMBERS, np.float32)]
    known = known_lesions(lesions, [np.full(4, np.nan, np.float32)], [TumorFamily.CYST], ["one"])
    synthesizer = MultimodalCTSynthesizer(*synthesizer_networks(), known, SYNTHESIZER_CARD, "0" * 64)
    assert synthesize(synthesizer, a_normal_study).study.qa["synthesize"].notes["drawn_as"] == "cyst"


def test_a_saved_model_makes_the_same_pair_and_one_that_does_not_fit_is_refused(synthesizer, a_normal_study, tmp_path):
    weights = synthesizer_weights()
    save_model(tmp_path / "model", SYNTHESIZER_CARD, weights)
    loaded = MultimodalCTSynthesizer.load(tmp_path / "model")
    one, other = (synthesize(which, a_normal_study).study for which in (loaded, synthesizer))
    assert np.array_equal(one.reference.array, other.reference.array)
    changed = {
        **SYNTHESIZER_CARD.networks,
        "autoencoder": {**SYNTHESIZER_CARD.networks["autoencoder"], "latent_channels": 3},
    }
    save_model(tmp_path / "other", SYNTHESIZER_CARD.model_copy(update={"networks": changed}), weights)
    with pytest.raises(MissingError, match="do not fit"):
        MultimodalCTSynthesizer.load(tmp_path / "other")
