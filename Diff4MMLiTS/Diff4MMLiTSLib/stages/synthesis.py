"""Stage 3, the Multimodal CT Synthesizer: a tumor grows into a normal study, in all phases at once.

It begins from a flat tumor with the contrasts of a known one; the denoiser draws, in a box around the mask, what a true
tumor of this shape changes in its latents. Not the decoded image but the decoded *change* is added to the study: the
difference between the decoded latents with and without the tumor, faded out in a band around the mask. So what the
autoencoder cannot render, noise above all, stays the patient's own, inside the tumor too, and no voxel outside the band
is touched.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .. import __version__
from ..core.config import AutoencoderNetwork, DenoiserNetwork, ModelCard, ModelKind, SynthesizeConfig, build_config
from ..core.enhancement import TumorFamily
from ..core.errors import InputError, MissingError, OutOfMemoryError
from ..core.grid import Grid, Volume, resample
from ..core.intensity import Window
from ..core.known_lesions import KnownLesions
from ..core.parenchyma import large_vessels
from ..core.phases import ALL_PHASES, Phase
from ..core.progress import Progress
from ..core.study import HistoryEntry, Mask, MaskSource, NormalStudy, RegisteredStudy, StageQA, SyntheticPair, Verdict
from ..core.tumor_mask import TumorShape, box_around, cropped_grid, distance_mm, draw_tumors, faded
from ..nets.autoencoder import Autoencoder
from ..nets.denoiser import PHASE_COUNT, Denoiser, denoiser_condition, soft_occupancy
from ..nets.diffusion import sample
from ..training.checkpoint import fill_network, load_model, network_config
from ..training.datasets import downsample, working_grid
from ..training.denoising import one_hot
from .synthesis_qa import Expected, check_pair

AUTOENCODER, DENOISER, LESIONS = "autoencoder", "denoiser", "lesions"
"""What a model folder of this stage holds."""
log = logging.getLogger(__name__)

LEAST_INSIDE = 0.5
"""Part of a given mask that must lie in the liver; the rest is cut off."""

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Box = tuple[slice, slice, slice]
Phases = Mapping[Phase, Volume]


@dataclass(frozen=True, eq=False)
class MultimodalCTSynthesizer:
    """An autoencoder and a denoiser ready to work.

    Args:
        autoencoder: On the device where it computes; put into evaluation mode here.
        denoiser: On the same device; put into evaluation mode here.
        lesions: What is known of the lesions that the denoiser has learned from.
        card: The model's card.
        model_hash: SHA-256 of the model's folder.
    """

    autoencoder: Autoencoder
    denoiser: Denoiser
    lesions: KnownLesions
    card: ModelCard
    model_hash: str

    def __post_init__(self) -> None:
        self.autoencoder.eval()
        self.denoiser.eval()

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> MultimodalCTSynthesizer:
        """Read a model folder.

        Raises:
            MissingError: No model there, one of another kind, or a damaged one.
        """
        weights = load_model(folder, ModelKind.SYNTHESIZER, device)
        autoencoder = Autoencoder(network_config(weights.card, AUTOENCODER, AutoencoderNetwork))
        denoiser = Denoiser(network_config(weights.card, DENOISER, DenoiserNetwork), autoencoder)
        for name, network in ((AUTOENCODER, autoencoder), (DENOISER, denoiser)):
            fill_network(network, weights, name).to(device)
        try:
            lesions = KnownLesions(**{name: part.cpu().numpy() for name, part in weights.networks[LESIONS].items()})
        except (KeyError, TypeError):
            raise MissingError(
                f"'{folder.name}' lacks the table of lesions that its networks learned from, or it is damaged",
                remedy="Copy the model again, or train it again",
            ) from None
        return cls(autoencoder, denoiser, lesions, weights.card, weights.hash)

    def synthesize(
        self,
        normal: NormalStudy,
        *,
        config: SynthesizeConfig,
        rng: np.random.Generator,
        progress: Progress,
        tumor: Mask | None = None,
    ) -> SyntheticPair:
        """Put tumors into a normal study.

        Args:
            normal: With a liver mask; any subset of the phases.
            config: Sampler, blending, and the random mask.
            rng: Draws the mask and the noise; the same state gives the same pair.
            progress: Reports per draw.
            tumor: The mask to use, on the study's grid; drawn at random when None.

        Returns:
            The pair, ``<study_id>_synthetic-0001``. Voxels farther than ``band_mm`` from the mask are bit-identical.

        Raises:
            InputError: No liver mask, no room for the tumor, or a given mask outside of the liver.
            OutOfMemoryError: The device's memory is too small.
            CanceledError: The user asked to stop.
        """
        started, seed = time.monotonic(), int(rng.integers(2**63))
        study, liver = normal.study, _liver(normal.study)
        vessels = _vessels(study, liver)
        drafts: list[_Draft] = []
        for attempt in range(config.redraws + 1):
            progress.update(attempt / (config.redraws + 1), f"draw {attempt + 1}")
            chance = np.random.default_rng([seed, attempt])
            mask, shapes = _given(tumor, study, liver) if tumor else _drawn(study.grid, liver, vessels, config, chance)
            drafts.append(self._draft(study, mask, shapes, config, chance))
            if not drafts[-1].quality.reasons:
                break
            log.info("%s, draw %d: %s", study.study_id, attempt + 1, "; ".join(drafts[-1].quality.reasons))
        progress.update(1.0, f"{len(drafts)} draws")
        best = min(drafts, key=lambda draft: (draft.quality.verdict is Verdict.REJECT, len(draft.quality.reasons)))
        quality = _with_rejections(best, drafts, time.monotonic() - started)
        return _pair(study, replace(best, quality=quality), self._entry(config, seed, best, normal))

    def _draft(
        self,
        study: RegisteredStudy,
        mask: BoolArray,
        shapes: tuple[TumorShape, ...],
        config: SynthesizeConfig,
        chance: np.random.Generator,
    ) -> _Draft:
        """Return one draw of a pair; a family that nobody asked for is drawn as often as it was learned from."""
        liver = _liver(study)
        family = config.family or self.lesions.draw_family(chance)
        levels = {
            phase: float(np.median(np.asarray(volume.array[liver], dtype=np.float32)))
            for phase, volume in study.phases.items()
        }
        wish = _Wish(family, self.lesions.draw_contrast(family, levels, chance), int(chance.integers(2**63)))
        phases = self._grow(study, mask, liver, config, wish)
        expected = Expected(family, self.lesions, config.band_mm)
        return _Draft(phases, mask, shapes, wish, check_pair(study.phases, phases, mask, liver, expected=expected))

    def _grow(
        self, study: RegisteredStudy, mask: BoolArray, liver: BoolArray, config: SynthesizeConfig, wish: _Wish
    ) -> dict[Phase, Volume]:
        """Return the phases with a tumor in the mask."""
        box = box_around(mask, study.grid, config.context_mm + config.band_mm)
        native = cropped_grid(study.grid, box)
        parts = {phase: Volume(volume.array[box], native) for phase, volume in study.phases.items()}
        change = self._change(parts, mask[box], config, wish)
        strength = fade(mask[box], liver[box], native, config.band_mm)
        grown = {}
        for phase, volume in study.phases.items():
            array = np.array(volume.array)
            array[box] = _added(array[box], change[phase], strength)
            grown[phase] = Volume(array, study.grid)
        return grown

    @torch.no_grad()
    def _change(
        self, phases: Phases, mask: BoolArray, config: SynthesizeConfig, wish: _Wish
    ) -> dict[Phase, FloatArray]:
        """Return what the tumor adds to each phase, on the phases' grid, HU."""
        native = next(iter(phases.values())).grid
        grid = _whole_cells(working_grid(native, self.card.spacing_mm), self.autoencoder.factor)
        window = Window(*self.card.window_hu)
        images = np.zeros((PHASE_COUNT, *grid.shape), dtype=np.float32)
        presence = np.array([float(phase in phases) for phase in ALL_PHASES], dtype=np.float32)
        for phase, volume in phases.items():
            images[ALL_PHASES.index(phase)] = window.normalize(downsample(volume, grid).array)
        coarse = downsample(Volume(mask.astype(np.float32), native), grid).array
        occupancy = np.clip(np.asarray(coarse, dtype=np.float32), 0.0, 1.0)  # the border counts as air: no tumor
        scale = (window.high_hu - window.low_hu) / 2
        contrast = wish.contrast_hu * presence / np.float32(scale)
        base = images + contrast[:, None, None, None] * faded(occupancy, grid)
        try:
            change = self._sample_change((images, base), presence, occupancy, config, wish)
        except torch.OutOfMemoryError:
            raise OutOfMemoryError(
                "The device ran out of memory while synthesizing",
                remedy="Choose a smaller tumor or context_mm, or --device cpu",
            ) from None
        return {
            phase: np.asarray(resample(Volume(change[ALL_PHASES.index(phase)] * scale, grid), native).array)
            for phase in phases
        }

    def _sample_change(
        self,
        images: tuple[FloatArray, FloatArray],
        presence: FloatArray,
        occupancy: FloatArray,
        config: SynthesizeConfig,
        wish: _Wish,
    ) -> FloatArray:
        """Return decoded latents with the tumor minus without, (P, Z, Y, X), in normalized units.

        Args:
            images: Normal CT, and the same with a flat tumor, (P, Z, Y, X) each.
            presence: (P,).
            occupancy: The mask, (Z, Y, X), 0 to 1.
            config: Sampler and steps.
            wish: What to draw.
        """
        device = next(self.denoiser.parameters()).device
        generator = torch.Generator().manual_seed(wish.seed)  # on the CPU: the same noise on every device
        flags = torch.from_numpy(presence[None]).to(device)
        # Cloned: rounding depends on the alignment of the memory, which is numpy's own affair.
        latents, flat = (
            self.autoencoder.encode(torch.from_numpy(part[:, None]).clone().to(device)) for part in images
        )  # (P, C, Z', Y', X')
        base = (flat * flags[0, :, None, None, None, None]).flatten(0, 1)[None]  # (1, P C, Z', Y', X')
        cells = soft_occupancy(torch.from_numpy(occupancy[None, None]).to(device), self.autoencoder)
        family = torch.from_numpy(one_hot(wish.family)[None]).to(device)
        condition = denoiser_condition(self.denoiser.standardize_base(base), cells, presence=flags, family=family)
        change = sample(
            lambda noisy, timestep: self.denoiser(noisy, timestep, condition),
            torch.randn(base.shape, generator=generator).to(device),
            config=build_config(DenoiserNetwork, self.card.networks[DENOISER]).diffusion,
            sampler=config.sampler,
            steps=config.steps,
            generator=generator,
        )
        changed = flat + self.denoiser.restore_change(change)[0].reshape(latents.shape)
        difference = self.autoencoder.decode(changed) - self.autoencoder.decode(latents)
        return np.asarray(difference[:, 0].cpu().numpy(), dtype=np.float32)

    def _entry(self, config: SynthesizeConfig, seed: int, draft: _Draft, normal: NormalStudy) -> HistoryEntry:
        return HistoryEntry(
            stage="synthesize",
            version=__version__,
            config={
                **config.model_dump(mode="json"),
                "source_study": normal.study.study_id,
                "drawn_tumors": [asdict(shape) for shape in draft.shapes],
                "drawn_family": str(draft.wish.family or ""),
                "drawn_contrast_hu": {
                    str(phase): round(float(draft.wish.contrast_hu[ALL_PHASES.index(phase)]), 1)
                    for phase in normal.study.phases
                },
            },
            seed=seed,
            models={self.card.name: self.model_hash},
        )


@dataclass(frozen=True, eq=False)
class _Wish:
    """What the denoiser is asked for: a family, the contrast of the flat tumor it begins from, (P,), and a seed."""

    family: TumorFamily | None
    contrast_hu: FloatArray
    seed: int


@dataclass(frozen=True, eq=False)
class _Draft:
    """One draw of a pair."""

    phases: dict[Phase, Volume]
    mask: BoolArray
    shapes: tuple[TumorShape, ...]
    wish: _Wish
    quality: StageQA


def fade(mask: BoolArray, liver: BoolArray, grid: Grid, band_mm: float) -> FloatArray:
    """Return how much of the change is added, (Z, Y, X): 1 in the mask, 0 from ``band_mm`` on and off the liver."""
    distance = distance_mm(mask, grid, band_mm)
    strength = 0.5 + 0.5 * np.cos(np.pi * np.minimum(distance / band_mm, 1.0))
    return np.asarray(np.where((liver | mask) & (distance < band_mm), strength, 0.0), dtype=np.float32)


def _added(array: NDArray[np.generic], change: FloatArray, strength: FloatArray) -> NDArray[np.generic]:
    """Return the values with the change added, in their own type; bit-identical where the strength is 0."""
    values = np.asarray(array, dtype=np.float32) + strength * change
    if np.issubdtype(array.dtype, np.integer):
        values = np.rint(values)
    return np.where(strength > 0, values.astype(array.dtype), array)


def _liver(study: RegisteredStudy) -> BoolArray:
    if study.liver is None or not study.liver.array.any():
        raise InputError(
            f"Study '{study.study_id}' has no liver mask",
            expected="the liver that the tumor shall grow in",
            remedy="Draw it, or find it with segment",
        )
    return study.liver.array


def _given(tumor: Mask, study: RegisteredStudy, liver: BoolArray) -> tuple[BoolArray, tuple[TumorShape, ...]]:
    """Return a given mask, cut to the liver."""
    if difference := study.grid.difference(tumor.volume.grid):
        raise InputError(
            f"The tumor mask lies on another grid than study '{study.study_id}': {difference}",
            expected="a mask on the grid of the reference phase",
        )
    inside = tumor.array & liver
    if not inside.any() or inside.sum() < LEAST_INSIDE * tumor.array.sum():
        share = inside.sum() / max(1, tumor.array.sum())
        raise InputError(f"{share:.0%} of the tumor mask lies in the liver", expected=f"at least {LEAST_INSIDE:.0%}")
    return inside, ()


def _vessels(study: RegisteredStudy, liver: BoolArray) -> BoolArray:
    """Return the large vessels that the reference phase shows, which no tumor may grow into."""
    box = box_around(liver, study.grid, 0.0)
    vessels = np.zeros_like(liver)
    values = np.asarray(study.reference.array[box], dtype=np.float32)
    vessels[box] = large_vessels(values, liver[box], study.grid.spacing_zyx_mm)
    return vessels


def _drawn(
    grid: Grid, liver: BoolArray, vessels: BoolArray, config: SynthesizeConfig, rng: np.random.Generator
) -> tuple[BoolArray, tuple[TumorShape, ...]]:
    drawn = draw_tumors(liver, grid, config=config.tumor, rng=rng, obstacles=vessels)
    return drawn.mask, drawn.shapes


def _with_rejections(best: _Draft, drafts: Sequence[_Draft], seconds: float) -> StageQA:
    """Return the quality of the draw that is kept, with what was wrong with the others."""
    others = [draft for draft in drafts if draft is not best]
    reasons = {f"rejected_draw_{number}": "; ".join(d.quality.reasons) for number, d in enumerate(others, start=1)}
    return replace(
        best.quality,
        seconds=seconds,
        measures={**best.quality.measures, "rejected_draws": float(len(others))},
        notes={**best.quality.notes, **reasons},
    )


def _pair(study: RegisteredStudy, draft: _Draft, entry: HistoryEntry) -> SyntheticPair:
    tumor = Mask(Volume(draft.mask.astype(np.uint8), study.grid), MaskSource.SYNTHETIC)
    return SyntheticPair(
        replace(
            study,
            study_id=f"{study.study_id}_synthetic-0001",
            phases=draft.phases,
            tumor=tumor,
            synthetic=True,
            transforms={},
            history=(*study.history, entry),
            qa={**study.qa, "synthesize": draft.quality},
        )
    )


def _whole_cells(grid: Grid, factor: int) -> Grid:
    """Return the grid, enlarged at its end to whole latent cells."""
    x, y, z = (-(-size // factor) * factor for size in grid.size)
    return grid.cropped((0, 0, 0), (x, y, z))
