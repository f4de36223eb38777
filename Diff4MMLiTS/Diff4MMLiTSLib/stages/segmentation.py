"""Stage 4: liver and tumor of a registered study, from whichever phases it has."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .. import __version__
from ..core.config import ModelCard, ModelKind, SegmentConfig, SegmenterNetwork
from ..core.grid import Grid, Volume
from ..core.intensity import Window
from ..core.phases import Phase
from ..core.progress import Progress, silent
from ..core.study import HistoryEntry, Mask, MaskSource, RegisteredStudy, Segmentation
from ..nets.segmenter import build_segmenter
from ..training.checkpoint import fill_network, load_model, network_config
from ..training.datasets import stack_on
from ..training.inference import as_bytes, entropy, masks_of
from ..training.search import Found, Sight, look
from ..training.segmenter_task import COARSE_FACTOR, NETWORK

log = logging.getLogger(__name__)

ByteArray = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class MultimodalSegmenter:
    """A segmenter ready to work.

    Args:
        network: On the device where it computes; put into evaluation mode here.
        card: The model's card.
        model_hash: SHA-256 of the model's folder.
    """

    network: nn.Module
    card: ModelCard
    model_hash: str

    def __post_init__(self) -> None:
        self.network.eval()

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> MultimodalSegmenter:
        """Read a model folder.

        Raises:
            MissingError: No model there, one of another kind, or a damaged one.
        """
        weights = load_model(folder, ModelKind.SEGMENTER, device)
        network = build_segmenter(_network_config(weights.card))
        return cls(fill_network(network, weights, NETWORK).to(device), weights.card, weights.hash)

    @property
    def sight(self) -> Sight:
        """What the network has learned to look at."""
        patch = _network_config(self.card).patch
        return Sight(
            self.card.spacing_mm, Window(*self.card.window_hu), patch, self.card.numbers.get(COARSE_FACTOR, 0.0)
        )

    def segment(self, study: RegisteredStudy, *, config: SegmentConfig, progress: Progress) -> Segmentation:
        """Find liver and tumor of a study; phases that are missing or were rejected by registration are not needed.

        The work is done on the model's upright isotropic grid; masks lie on the study's grid, however it lies.

        Args:
            study: Any subset of the phases.
            config: Windows, post-processing, which maps are kept.
            progress: Reports per window.

        Raises:
            OutOfMemoryError: The device's memory is too small.
            CanceledError: The user asked to stop.
        """
        alone = replace(study, phases={study.reference_phase: study.reference}, transforms={}, qa={})
        found = look(
            self.network,
            partial(stack_on, study),
            study.grid,
            sight=self.sight,
            config=config,
            progress=progress.part(0.0, 0.95),
            first=partial(stack_on, alone) if len(study.phases) > 1 else None,
        )
        if found is None:
            log.warning("%s: the model found no liver", study.study_id)
        maps = _maps(found, study.grid, config)
        progress.update(1.0, "segmented")
        entry = HistoryEntry(
            stage="segment",
            version=__version__,
            config=config.model_dump(mode="json"),
            models={self.card.name: self.model_hash},
        )
        return Segmentation(
            study_id=study.study_id,
            liver=Mask(Volume(maps.liver, study.grid), MaskSource.MODEL),
            tumor=Mask(Volume(maps.tumor, study.grid), MaskSource.MODEL),
            reference_phase=study.reference_phase,
            probability=Volume(maps.probability, study.grid) if config.probability else None,
            uncertainty=Volume(maps.uncertainty, study.grid) if config.uncertainty else None,
            history=(*study.history, entry),
        )

    def tumor_probability(self, study: RegisteredStudy) -> Volume:
        """Return the probability of tumor at every voxel of a study's grid, 0 to 255.

        Raises:
            OutOfMemoryError: The device's memory is too small.
        """
        found = self.segment(study, config=SegmentConfig(probability=True), progress=silent()).probability
        assert found is not None  # it was asked for
        return found

    def liver(self, volume: Volume, *, phase: Phase = Phase.PVP) -> Mask:
        """Find the liver in one CT volume (HU), which lies on its own grid.

        Raises:
            OutOfMemoryError: The device's memory is too small.
        """
        study = RegisteredStudy("liver", {phase: volume}, phase)
        return self.segment(study, config=SegmentConfig(), progress=silent()).liver


def _network_config(card: ModelCard) -> SegmenterNetwork:
    return network_config(card, NETWORK, SegmenterNetwork)


@dataclass(frozen=True, eq=False)
class _Maps:
    """What a segmentation holds, on the study's grid, (Z, Y, X), uint8."""

    liver: ByteArray
    tumor: ByteArray
    probability: ByteArray
    uncertainty: ByteArray


def _maps(found: Found | None, grid: Grid, config: SegmentConfig) -> _Maps:
    maps = _Maps(*(np.zeros(grid.shape, dtype=np.uint8) for _ in range(4)))
    if found is None:
        return maps
    box, covered = part_of(grid, found.grid)
    organ, tumor = found.on(covered)
    liver, lesions = masks_of(organ, tumor, voxel_ml=grid.voxel_ml, config=config)
    maps.liver[box], maps.tumor[box] = liver, lesions
    if config.probability:
        maps.probability[box] = as_bytes(tumor)
    if config.uncertainty:
        maps.uncertainty[box] = as_bytes(entropy(*found.on(covered, with_neighbors=True)))
    return maps


def part_of(grid: Grid, other: Grid) -> tuple[tuple[slice, ...], Grid]:
    """Return the box (z, y, x) of a grid that holds all of its voxels within another one, and the grid of that box."""
    index = grid.to_index(other.corners())
    low = np.clip(np.floor(index.min(axis=0)), 0, np.array(grid.size) - 1).astype(int)
    high = np.clip(np.ceil(index.max(axis=0)) + 1, low + 1, grid.size).astype(int)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))
    x, y, z = (int(value) for value in low)
    width, height, depth = (int(value) for value in high - low)
    return box, grid.cropped((x, y, z), (width, height, depth))
