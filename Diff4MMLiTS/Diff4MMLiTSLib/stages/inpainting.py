"""Stage 2, the Normal CT Generator: every phase of a study as if there had never been a tumor.

The region to fill is the annotated tumor, dilated so that it also covers the tumor where another phase shows it
displaced. The network fills it on its working grid; the fill is brought to the study's own grid, gets texture from the
patient's own healthy liver, and replaces the voxels of the region. No other voxel is touched.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from scipy import ndimage

from .. import __version__
from ..core.config import InpaintConfig, InpainterNetwork, ModelCard, ModelKind
from ..core.errors import InputError, OutOfMemoryError
from ..core.grid import Grid, Volume, resample
from ..core.healthy_liver import borrowed_texture, healthy_liver
from ..core.intensity import Window
from ..core.parenchyma import UNSCANNED_HU, missing_texture, parenchyma_voxels
from ..core.phases import ALL_PHASES, Phase
from ..core.progress import Progress
from ..core.study import TUMOR_FREE, HistoryEntry, Mask, MaskSource, NormalStudy, RegisteredStudy, rejected_phases
from ..core.tumor_mask import cropped_grid, inpainting_mask
from ..nets.inpainter import PHASE_COUNT, Inpainter
from ..training.checkpoint import fill_network, load_model, network_config
from ..training.datasets import downsample, working_grid
from ..training.generative import parenchyma_levels
from .inpainting_margin import margin_mm_of
from .inpainting_qa import TumorProbability, check_fill, check_tumor_gone

NETWORK = "inpainter"
WINDOW = "window"
"""Name of the size of training patches among the numbers of a model's card."""
LARGEST_WINDOW = 96
"""For models whose card does not tell."""
TEXTURE_CONTEXT_MM = 24.0
"""Around a hole: the parenchyma whose spectrum and strength its texture must have."""
OVERLAP = 0.5
"""Of neighboring windows in regions larger than one window."""

TOUCHED = 0.01
"""A voxel of the working grid of which this part lies in the region is filled: none that is known may hold tumor."""

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Box = tuple[slice, slice, slice]
Phases = Mapping[Phase, Volume]


@dataclass(frozen=True, eq=False)
class NormalCTGenerator:
    """An inpainter ready to work.

    Args:
        network: On the device where it computes; put into evaluation mode here.
        card: The model's card.
        model_hash: SHA-256 of the model's folder.
    """

    network: Inpainter
    card: ModelCard
    model_hash: str

    def __post_init__(self) -> None:
        self.network.eval()

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> NormalCTGenerator:
        """Read a model folder.

        Raises:
            MissingError: No model there, one of another kind, or a damaged one.
        """
        weights = load_model(folder, ModelKind.INPAINTER, device)
        network = Inpainter(network_config(weights.card, NETWORK, InpainterNetwork))
        return cls(fill_network(network, weights, NETWORK).to(device), weights.card, weights.hash)

    def inpaint(
        self,
        study: RegisteredStudy,
        *,
        config: InpaintConfig,
        rng: np.random.Generator,
        progress: Progress,
        segmenter: TumorProbability | None = None,
    ) -> NormalStudy:
        """Remove the tumors of a study from all its phases.

        Args:
            study: With a liver mask, and with a tumor mask or declared free of tumor; then it comes back as it is.
            config: The region, and whether it gets texture.
            rng: Chooses the texture.
            progress: Reports per region.
            segmenter: Is asked whether it still sees a tumor in the result.

        Returns:
            The study without phases that registration rejected. Voxels outside ``inpainting_mask`` are bit-identical.

        Raises:
            InputError: Tumors unknown, or no liver mask.
            OutOfMemoryError: The device's memory is too small.
            CanceledError: The user asked to stop.
        """
        if study.is_tumor_free:
            return NormalStudy(study)
        started, seed = time.monotonic(), int(rng.integers(2**63))
        tumor, liver = _masks(study)
        margin_mm = margin_mm_of(study, config)
        region = inpainting_mask(tumor, liver, study.grid, margin_mm=margin_mm, rim_mm=config.rim_mm)
        rejected = rejected_phases(study)
        kept = {phase: volume for phase, volume in study.phases.items() if phase not in rejected}
        phases = self._fill(kept, region, liver, config=config, rng=np.random.default_rng(seed), progress=progress)
        filled = replace(study, phases=phases, tumor=TUMOR_FREE)
        quality = check_fill(kept, phases, region=region, liver=liver, rejected=rejected)
        if segmenter is not None and region.any():
            quality = check_tumor_gone(quality, replace(study, phases=kept), filled, segmenter)
        quality = replace(
            quality, seconds=time.monotonic() - started, measures={**quality.measures, "margin_mm": margin_mm}
        )
        entry = HistoryEntry(
            stage="inpaint",
            version=__version__,
            config=config.model_dump(mode="json") | {"applied_margin_mm": margin_mm},
            seed=seed,
            models={self.card.name: self.model_hash},
        )
        normal = replace(filled, history=(*study.history, entry), qa={**study.qa, "inpaint": quality})
        return NormalStudy(normal, Mask(Volume(region.astype(np.uint8), study.grid), MaskSource.MODEL))

    def _fill(
        self,
        phases: Phases,
        region: BoolArray,
        liver: BoolArray,
        *,
        config: InpaintConfig,
        rng: np.random.Generator,
        progress: Progress,
    ) -> dict[Phase, Volume]:
        """Return the phases with the region filled, part by part of the region."""
        whole = next(iter(phases.values())).grid
        frame = _widened(ndimage.find_objects((liver | region).astype(np.uint8))[0], whole, config.context_mm)
        grid, region, liver = cropped_grid(whole, frame), region[frame], liver[frame]
        values = np.stack([volume.array[frame] for volume in phases.values()]).astype(np.float32)  # (P, Z, Y, X)
        boxes = _separate_boxes(region, grid, config.context_mm)
        window = config.window or int(self.card.numbers.get(WINDOW, LARGEST_WINDOW))
        filling = progress.part(0.0, 0.5 if config.texture else 1.0)
        for index, box in enumerate(boxes):
            filling.update(index / len(boxes), f"filling part {index + 1} of {len(boxes)}")
            parts = {
                phase: Volume(part[box], cropped_grid(grid, box)) for phase, part in zip(phases, values, strict=True)
            }
            filled = self._fill_box(parts, region[box], liver[box], window)
            for phase, part in zip(phases, values, strict=True):
                inside = region[box] & (part[box] > UNSCANNED_HU)
                part[box] = np.where(inside, filled[phase], part[box])
        if config.texture and boxes:
            values = _with_texture(values, region, liver, grid=grid, rng=rng, progress=progress.part(0.5, 1.0))
        progress.update(1.0, "filled")
        return {
            phase: Volume(_composited(volume, frame, part, region), whole)
            for (phase, volume), part in zip(phases.items(), values, strict=True)
        }

    @torch.no_grad()
    def _fill_box(
        self, phases: Phases, region: BoolArray, liver: BoolArray, window_voxels: int
    ) -> dict[Phase, FloatArray]:
        """Return what the network puts into one box, on the box's own grid, HU; only the region is of use."""
        native = next(iter(phases.values())).grid
        grid = working_grid(native, self.card.spacing_mm)
        hole, organ = (
            np.asarray(resample(Volume(mask.astype(np.float32), native), grid).array) > threshold
            for mask, threshold in ((region, TOUCHED), (liver, 0.5))
        )
        stack = np.zeros((PHASE_COUNT, *grid.shape), dtype=np.float32)
        presence = np.array([float(phase in phases) for phase in ALL_PHASES], dtype=np.float32)
        for phase, volume in phases.items():
            stack[ALL_PHASES.index(phase)] = downsample(volume, grid).array
        base = parenchyma_levels(stack, presence, organ & ~hole, grid)
        window = Window(*self.card.window_hu)
        masks = np.stack([hole, organ]).astype(np.float32)
        inputs = np.concatenate([window.normalize(stack), window.normalize(base), masks])
        filled = window.denormalize(self._run(inputs, presence, window_voxels))
        return {
            phase: np.asarray(resample(Volume(filled[ALL_PHASES.index(phase)], grid), native).array) for phase in phases
        }

    def _run(self, inputs: FloatArray, presence: FloatArray, window_voxels: int) -> FloatArray:
        """Return the filled phases (P, Z, Y, X), normalized, of phases, base, hole and liver (2 P + 2, Z, Y, X)."""
        device = next(self.network.parameters()).device
        flags = torch.from_numpy(presence[None]).to(device)

        def fill(window: torch.Tensor) -> torch.Tensor:
            images, base, hole, liver = window.split((PHASE_COUNT, PHASE_COUNT, 1, 1), dim=1)  # type: ignore[no-untyped-call]  # untyped in torch
            filled: torch.Tensor = self.network(images, base, presence=flags, hole=hole, liver=liver)
            return filled

        size = [min(window_voxels, length) for length in inputs.shape[1:]]
        try:
            whole = sliding_window_inference(
                torch.from_numpy(inputs[None]).to(device), size, 1, fill, overlap=OVERLAP, mode="gaussian"
            )
        except torch.OutOfMemoryError:
            raise OutOfMemoryError(
                "The device ran out of memory while filling", remedy="Choose a smaller window, or --device cpu"
            ) from None
        return np.asarray(whole[0].cpu().numpy(), dtype=np.float32)


def _masks(study: RegisteredStudy) -> tuple[BoolArray, BoolArray]:
    """Return tumor and liver, (Z, Y, X).

    Raises:
        InputError: One of them is not known.
    """
    if study.tumor_mask is None:
        raise InputError(
            f"Study '{study.study_id}' does not say where its tumors are",
            expected='a tumor mask, or "tumor": null for a study declared free of tumor',
            remedy="Draw the tumors, or find them with segment and check the result",
        )
    if study.liver is None or not study.liver.array.any():
        raise InputError(
            f"Study '{study.study_id}' has no liver mask",
            expected="the liver, whose parenchyma the fill must match",
            remedy="Draw it, or find it with segment",
        )
    return study.tumor_mask.array, study.liver.array


def _separate_boxes(region: BoolArray, grid: Grid, margin_mm: float) -> tuple[Box, ...]:
    """Return boxes around the parts of a region, each widened by a margin; boxes that meet are joined."""
    occupied = np.zeros_like(region)
    labels, _ = ndimage.label(region)
    boxes = tuple(_widened(found, grid, margin_mm) for found in ndimage.find_objects(labels))
    while True:
        for box in boxes:
            occupied[box] = True
        joined = tuple(_widened(found, grid, 0.0) for found in ndimage.find_objects(ndimage.label(occupied)[0]))
        if len(joined) == len(boxes):
            return joined
        boxes = joined


def _widened(box: tuple[slice, ...], grid: Grid, margin_mm: float) -> Box:
    parts = []
    for part, length, spacing in zip(box, grid.shape, grid.spacing_zyx_mm, strict=True):
        margin = int(np.ceil(margin_mm / spacing))
        parts.append(slice(max(0, part.start - margin), min(length, part.stop + margin)))
    return parts[0], parts[1], parts[2]


def _with_texture(
    values: FloatArray,
    region: BoolArray,
    liver: BoolArray,
    *,
    grid: Grid,
    rng: np.random.Generator,
    progress: Progress,
) -> FloatArray:
    """Return all phases, (P, Z, Y, X), with texture in every part of the region."""
    known, spacing, textured = liver & ~region, grid.spacing_zyx_mm, values.copy()
    healthy = healthy_liver(values, liver, region, spacing)
    labels, count = ndimage.label(region)
    for label, found in enumerate(ndimage.find_objects(labels), start=1):
        progress.update((label - 1) / count, f"texture of region {label} of {count}")
        box = _widened(found, grid, TEXTURE_CONTEXT_MM)
        hole = labels[box] == label
        borrowed = borrowed_texture(healthy, box, hole, rng)
        for phase, lent in zip(textured, borrowed, strict=True):
            part = phase[box]
            parenchyma = parenchyma_voxels(part, known[box], spacing)
            part += missing_texture(part, hole, parenchyma, spacing_zyx_mm=spacing, rng=rng, borrowed=lent)
    return textured


def _composited(volume: Volume, frame: Box, values: FloatArray, region: BoolArray) -> NDArray[np.generic]:
    """Return a phase with values in the region of a frame, in its own type; all else bit-identical.

    Voxels outside the scanned field stay.
    """
    original = np.array(volume.array)
    inside = region & (original[frame] > UNSCANNED_HU)
    if np.issubdtype(original.dtype, np.integer):
        values = np.rint(values)
    original[frame][inside] = values[inside].astype(original.dtype)
    return original
