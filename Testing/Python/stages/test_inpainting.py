"""Stage 2 changes the region to fill and nothing else, and says how well it did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import ball
from Diff4MMLiTSLib.core.config import InpaintConfig, InpainterNetwork, ModelCard, ModelKind
from Diff4MMLiTSLib.core.errors import CanceledError, InputError, MissingError
from Diff4MMLiTSLib.core.grid import Grid, Volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import Progress, silent
from Diff4MMLiTSLib.core.study import TUMOR_FREE, Mask, MaskSource, PhaseQA, RegisteredStudy, StageQA, Verdict
from Diff4MMLiTSLib.core.tumor_mask import dilate_mm
from Diff4MMLiTSLib.nets.inpainter import Inpainter
from Diff4MMLiTSLib.stages.inpainting import NormalCTGenerator
from Diff4MMLiTSLib.training.checkpoint import save_model

NETWORK = InpainterNetwork(channels=4, downsamplings=1, blocks=1, global_ratio=0.5)
CARD = ModelCard(
    kind=ModelKind.INPAINTER,
    name="tiny",
    spacing_mm=2.0,
    window_hu=(-175.0, 400.0),
    networks={"inpainter": NETWORK.model_dump(mode="json")},
    seed=0,
)


def network():
    torch.manual_seed(0)
    return Inpainter(NETWORK)


@pytest.fixture(scope="module")
def generator():
    return NormalCTGenerator(network(), CARD, "0" * 64)


def inpaint(generator, study, seed=0, **settings):
    config = InpaintConfig(**{"margin_mm": 3.0} | settings)
    return generator.inpaint(study, config=config, rng=np.random.default_rng(seed), progress=silent())


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_voxels_outside_the_mask_are_bit_identical_in_every_phase(generator, a_study, dtype):
    phases = {phase: Volume(volume.array.astype(dtype), volume.grid) for phase, volume in a_study.phases.items()}
    normal = inpaint(generator, replace(a_study, phases=phases))
    outside = ~normal.inpainting_mask.array
    assert normal.study.is_tumor_free
    for phase, volume in phases.items():
        after = normal.study.phases[phase].array
        assert after.dtype == dtype
        assert np.array_equal(after[outside], volume.array[outside])


def test_the_mask_covers_the_tumor_dilated_by_the_margin_on_an_anisotropic_grid(generator, a_study):
    region = inpaint(generator, a_study, margin_mm=6.0).inpainting_mask.array
    wanted = dilate_mm(a_study.tumor_mask.array, a_study.grid, 6.0) & a_study.liver.array
    assert not (wanted & ~region).any()


def test_even_an_untrained_network_fills_with_the_parenchyma_and_its_noise(generator, a_study):
    normal = inpaint(generator, a_study)
    tumor = a_study.tumor_mask.array
    for phase, level_hu in ((Phase.AP, 78), (Phase.PVP, 118)):
        filled = normal.study.phases[phase].array[tumor]
        assert abs(np.median(filled) - level_hu) < 8
        assert 5 < filled.std() < 16
    assert normal.study.qa["inpaint"].phases[Phase.AP].measures["std_ratio"] == pytest.approx(1.0, abs=0.35)


def test_the_tumor_leaves_no_trace_in_the_fill(generator, a_study):
    brighter = {
        phase: Volume(np.where(a_study.tumor_mask.array, 300, volume.array).astype(np.int16), a_study.grid)
        for phase, volume in a_study.phases.items()
    }
    one, other = inpaint(generator, a_study), inpaint(generator, replace(a_study, phases=brighter))
    for phase in one.study.phases:
        assert np.abs(one.study.phases[phase].array - other.study.phases[phase].array).max() <= 1


def test_the_same_seed_gives_the_same_fill_and_the_step_can_be_repeated(generator, a_study):
    one, again, other = (inpaint(generator, a_study, seed).study for seed in (1, 1, 2))
    assert np.array_equal(one.reference.array, again.reference.array)
    assert not np.array_equal(one.reference.array, other.reference.array)
    entry = one.history[-1]
    assert entry.stage == "inpaint"
    assert entry.config["margin_mm"] == 3.0
    assert entry.models == {"tiny": "0" * 64}


def test_a_region_larger_than_the_window_is_filled_in_parts(generator, a_study):
    whole, parts = inpaint(generator, a_study), inpaint(generator, a_study, window=16)
    tumor = a_study.tumor_mask.array
    assert np.abs(np.subtract(whole.study.reference.array, parts.study.reference.array, dtype=int)[tumor]).max() < 8


def test_the_size_that_a_model_has_learned_from_is_its_window_unless_another_is_given(generator, a_study):
    told = replace(generator, card=CARD.model_copy(update={"numbers": {"window": 16.0}}))
    wide, told_narrow, narrow = (
        inpaint(one, a_study, **settings).study.reference.array
        for one, settings in ((generator, {}), (told, {}), (generator, {"window": 16}))
    )
    assert np.array_equal(told_narrow, narrow)
    assert not np.array_equal(told_narrow, wide)


@pytest.mark.parametrize(("offset_mm", "share"), [(36.0, 0.02), (0.0, 0.33)], ids=["at the capsule", "a third"])
def test_tumors_are_filled_wherever_they_lie_and_however_large(generator, offset_mm, share):
    grid, radius_mm = Grid((34, 32, 30), (3.0, 3.0, 3.0)), 40.0
    liver = ball(grid, grid.center_mm, radius_mm)
    tumor = ball(grid, grid.center_mm + np.array([0.0, offset_mm, 0.0]), radius_mm * share ** (1 / 3)) & liver
    values = np.where(tumor, 60, np.random.default_rng(1).normal(118, 10, grid.shape))
    phases = {Phase.PVP: Volume(np.where(liver, values, -100).astype(np.int16), grid)}
    masks = [Mask(Volume(mask.astype(np.uint8), grid), MaskSource.ANNOTATION) for mask in (liver, tumor)]
    normal = inpaint(generator, RegisteredStudy("x", phases, Phase.PVP, liver=masks[0], tumor=masks[1]))
    filled = normal.study.reference.array
    assert abs(np.median(filled[tumor]) - 118) < 6
    assert not (normal.inpainting_mask.array & ~dilate_mm(liver, grid, 2.0)).any()


def test_phases_share_in_the_fill_what_they_share_in_the_liver(generator):
    grid = Grid((34, 32, 30), (3.0, 3.0, 3.0))
    liver, tumor = ball(grid, grid.center_mm, 40.0), ball(grid, grid.center_mm, 12.0)
    shared, first, second = (np.random.default_rng(seed).normal(0, 10, grid.shape) for seed in range(3))
    phases = {
        phase: Volume(np.where(liver, np.where(tumor, 60, level + shared + own), -100).astype(np.int16), grid)
        for phase, level, own in ((Phase.AP, 80, first), (Phase.PVP, 118, second))
    }
    masks = [Mask(Volume(mask.astype(np.uint8), grid), MaskSource.ANNOTATION) for mask in (liver, tumor)]
    study = RegisteredStudy("x", phases, Phase.PVP, liver=masks[0], tumor=masks[1])
    filled = [volume.array[tumor] for volume in inpaint(generator, study).study.phases.values()]
    assert np.corrcoef(*filled)[0, 1] == pytest.approx(0.5, abs=0.15)  # drawn noise would share nothing


def test_textures_show_progress_and_can_be_canceled(generator, a_study):
    seen = []

    def report(fraction, _stage, message):
        seen.append((fraction, message))

    progress = Progress(report, lambda: any("texture" in message for _, message in seen))
    with pytest.raises(CanceledError):
        generator.inpaint(a_study, config=InpaintConfig(margin_mm=3.0), rng=np.random.default_rng(0), progress=progress)
    assert seen[-1] == (0.5, "texture of region 1 of 1")


def test_a_vessel_beside_the_tumor_does_not_brighten_the_fill(generator, a_study):
    grid, tumor = a_study.grid, a_study.tumor_mask.array
    vessel = np.zeros(grid.shape, dtype=bool)
    vessel[:, 6:9] = True  # 4.5 mm wide, through the liver beside the tumor
    values = np.where(vessel & ~tumor, 180, np.random.default_rng(1).normal(118, 10, grid.shape))
    normal = inpaint(generator, replace(a_study, phases={Phase.PVP: Volume(values.astype(np.int16), grid)}))
    assert abs(np.median(normal.study.reference.array[tumor]) - 118) < 8


def test_a_study_free_of_tumor_comes_back_as_it_is(generator, a_study):
    free = replace(a_study, tumor=TUMOR_FREE)
    assert inpaint(generator, free).study is free


@pytest.mark.parametrize(("missing", "words"), [("tumor", "where its tumors are"), ("liver", "no liver mask")])
def test_without_tumor_or_liver_knowledge_a_study_is_refused(generator, a_study, missing, words):
    with pytest.raises(InputError, match=words):
        inpaint(generator, replace(a_study, **{missing: None}))


def test_phases_that_registration_rejected_are_left_out_with_a_reason(generator, a_study):
    judged = StageQA(Verdict.REVIEW, 1.0, phases={Phase.AP: PhaseQA(Verdict.REJECT)})
    study = inpaint(generator, replace(a_study, qa={"register": judged})).study
    assert set(study.phases) == {Phase.PVP}
    assert "AP was left out" in study.qa["inpaint"].reasons[0]


def registered(study, **residual_mm):
    """Return the study with what registration measured about its phases."""
    phases = {Phase(name): PhaseQA(Verdict.PASS, (), {"residual_p95_mm": mm}) for name, mm in residual_mm.items()}
    return replace(study, qa={"register": StageQA(Verdict.PASS, 1.0, phases=phases)})


def test_the_margin_that_was_applied_is_recorded(generator, a_study):
    study = inpaint(generator, registered(a_study, AP=6.3), margin_mm="auto").study
    assert study.history[-1].config["margin_mm"] == "auto"
    assert study.history[-1].config["applied_margin_mm"] == 6.5
    assert study.qa["inpaint"].measures["margin_mm"] == 6.5


def test_an_automatic_margin_covers_what_registration_has_left(generator, a_study):
    region = inpaint(generator, registered(a_study, AP=6.3), margin_mm="auto").inpainting_mask.array
    assert not (dilate_mm(a_study.tumor_mask.array, a_study.grid, 6.3) & a_study.liver.array & ~region).any()


def seen_by(values):
    """Return a segmenter that calls tumor what is darker than 95 HU in the reference phase."""
    return lambda study: Volume((255 * (study.reference.array < values)).astype(np.uint8), study.grid)


def test_a_segmenter_says_that_the_tumor_is_gone(generator, a_study):
    measures = ask(generator, a_study, seen_by(95)).measures
    assert measures["tumor_seen_before_ml"] > 4 * measures["tumor_seen_after_ml"]
    assert measures["tumor_probability_after"] < 0.2


def ask(generator, study, segmenter):
    config = InpaintConfig(margin_mm=3.0)
    rng = np.random.default_rng(0)
    normal = generator.inpaint(study, config=config, rng=rng, progress=silent(), segmenter=segmenter)
    return normal.study.qa["inpaint"]


def test_a_tumor_that_a_segmenter_still_sees_is_rejected(generator, a_study):
    quality = ask(generator, a_study, seen_by(1000))
    assert quality.verdict is Verdict.REJECT
    assert "still sees" in quality.reasons[0]


def test_a_segmenter_that_never_saw_the_tumor_proves_nothing(generator, a_study):
    quality = ask(generator, a_study, seen_by(-1000))
    assert "cannot say" in quality.notes["segmenter"]


def test_any_subset_of_phases_is_filled(generator, a_study):
    both = inpaint(generator, a_study).study
    alone = replace(a_study, phases={Phase.PVP: a_study.reference})
    filled = inpaint(generator, alone).study
    assert set(filled.phases) == {Phase.PVP}
    assert abs(filled.reference.array.mean() - both.reference.array.mean()) < 1


def test_a_saved_model_fills_alike_and_one_that_does_not_fit_is_refused(generator, a_study, tmp_path):
    weights = generator.network.state_dict()
    save_model(tmp_path / "model", CARD, {"inpainter": weights})
    loaded = inpaint(NormalCTGenerator.load(tmp_path / "model"), a_study).study
    assert np.array_equal(loaded.reference.array, inpaint(generator, a_study).study.reference.array)
    wider = CARD.model_copy(update={"networks": {"inpainter": {**CARD.networks["inpainter"], "channels": 8}}})
    save_model(tmp_path / "other", wider, {"inpainter": weights})
    with pytest.raises(MissingError, match="do not fit"):
        NormalCTGenerator.load(tmp_path / "other")
