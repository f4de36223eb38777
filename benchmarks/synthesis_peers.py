"""Other ways to put a tumor into a multiphase liver CT, and ways that must fail, for ``synthesis.py``.

``hand_crafted`` follows the published description of SyntheticTumors (Hu et al., CVPR 2023, section 3): a texture of
Gaussian noise, brought to a coarser scale and blurred, darker than the liver, faded in over a soft edge. That method
knows one phase, so every phase gets the same darkness. The mask is the one that every method gets. Written from the
description; no code of theirs was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy import ndimage
from synthesis_cases import BoolArray, Case, FloatArray, Images

from Diff4MMLiTSLib.core.config import DenoiserNetwork, Sampler, SynthesizeConfig, build_config
from Diff4MMLiTSLib.core.enhancement import TumorFamily
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.parenchyma import parenchyma_voxels
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.nets.denoiser import Denoiser
from Diff4MMLiTSLib.stages.synthesis import MultimodalCTSynthesizer

Grower = Callable[[Case, int], Images]
"""(case, seed) -> phases with a tumor in the case's mask."""

OFFSET_HU = -30.0
"""Of the blob that every phase gets: a typical contrast of metastases in PVP."""
DARKER_HU = (20.0, 60.0)
"""How much darker than the liver a hand-crafted tumor is."""
GRAIN_MM = 6.0
EDGE_MM = 2.0
HAND_NOISE_HU = 8.0


def images_of(phases: Mapping[Phase, Volume]) -> Images:
    """Return volumes as float arrays by phase."""
    return {phase: np.asarray(volume.array, dtype=np.float32) for phase, volume in phases.items()}


def ours(model: MultimodalCTSynthesizer, sampler: Sampler = Sampler.DPM_SOLVER, steps: int = 20) -> Grower:
    """Return our synthesizer, one draw without a gate, told mask and family."""
    return lambda case, seed: _grow(model, case, case.family, sampler=sampler, steps=steps, seed=seed)


def with_shuffled_conditions(model: MultimodalCTSynthesizer) -> Grower:
    """Return our synthesizer, told another family than the case's."""

    def grow(case: Case, seed: int) -> Images:
        others = [family for family in TumorFamily if family is not case.family]
        return _grow(model, case, others[seed % len(others)], seed=seed)

    return grow


def with_random_weights(model: MultimodalCTSynthesizer) -> Grower:
    """Return our synthesizer with a denoiser that has learned nothing."""
    state = model.denoiser.state_dict()
    generator = torch.Generator().manual_seed(0)
    learned = {name for name, _ in model.denoiser.named_parameters()}
    fresh = {
        name: torch.randn(value.shape, generator=generator) * value.std().nan_to_num() if name in learned else value
        for name, value in state.items()
    }
    denoiser = Denoiser(build_config(DenoiserNetwork, model.card.networks["denoiser"]), model.autoencoder)
    denoiser.load_state_dict(fresh)
    broken = MultimodalCTSynthesizer(model.autoencoder, denoiser, model.lesions, model.card, model.model_hash)
    return ours(broken)


def blob(case: Case, _seed: int) -> Images:
    """Add a constant to every phase, faded over the edge."""
    strength = _soft(case)
    return {phase: values + OFFSET_HU * strength for phase, values in images_of(case.normal.study.phases).items()}


def hand_crafted(case: Case, seed: int) -> Images:
    """Replace the liver by noise of coarse grain, darker than it, equally in all phases; see above."""
    rng = np.random.default_rng(seed)
    darker, strength = rng.uniform(*DARKER_HU), _soft(case)
    sigmas = [GRAIN_MM / 2 / spacing for spacing in case.study.grid.spacing_zyx_mm]
    noise = ndimage.gaussian_filter(rng.standard_normal(case.mask.shape), sigmas)
    grain = (HAND_NOISE_HU * noise / noise.std()).astype(np.float32)
    made = {}
    for phase, values in images_of(case.normal.study.phases).items():
        level = np.median(values[parenchyma_voxels(values, case.liver, case.study.grid.spacing_zyx_mm)])
        made[phase] = (1 - strength) * values + strength * (level - darker + grain)
    return made


def copy_paste(donors: Sequence[Case]) -> Grower:
    """Return the method that copies what a true lesion of the same family and another study changed."""

    def grow(case: Case, seed: int) -> Images:
        fitting = [d for d in donors if d.number != case.number and d.family is case.family]
        fitting = fitting or [d for d in donors if d.number != case.number]
        donor = fitting[seed % len(fitting)].aligned
        change = donor.changed - donor.normal * donor.presence[:, None, None, None]
        target = np.argwhere(case.mask).mean(axis=0)
        source = np.argwhere(donor.tumor).mean(axis=0)
        scale = np.cbrt(donor.tumor.sum() / max(case.mask.sum(), 1))  # to the size of the mask
        index = np.moveaxis(np.indices(case.mask.shape), 0, -1)
        at = np.moveaxis((index - target) * scale + source, -1, 0)
        strength, made = _soft(case), {}
        for phase, values in images_of(case.normal.study.phases).items():
            pasted = ndimage.map_coordinates(change[ALL_PHASES.index(phase)], at, order=1)
            made[phase] = values + strength * pasted.astype(np.float32)
        return made

    return grow


def _grow(
    model: MultimodalCTSynthesizer,
    case: Case,
    family: TumorFamily,
    *,
    sampler: Sampler = Sampler.DPM_SOLVER,
    steps: int = 20,
    seed: int,
) -> Images:
    config = SynthesizeConfig(sampler=sampler, steps=steps, redraws=0, family=family)
    rng = np.random.default_rng(seed)
    pair = model.synthesize(case.normal, tumor=case.tumor, config=config, rng=rng, progress=silent())
    return images_of(pair.study.phases)


def _soft(case: Case) -> FloatArray:
    mask: BoolArray = case.mask
    sigmas = [EDGE_MM / spacing for spacing in case.study.grid.spacing_zyx_mm]
    return np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), sigmas) * case.liver, dtype=np.float32)
