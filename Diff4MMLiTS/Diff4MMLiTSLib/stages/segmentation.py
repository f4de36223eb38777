"""Stage 4: liver and tumor of a registered study, from whichever phases it has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .. import __version__
from ..core.config import ModelCard, ModelKind, SegmentConfig, SegmenterNetwork
from ..core.grid import Grid, Volume, resample
from ..core.intensity import Window
from ..core.phases import Phase
from ..core.progress import Progress, silent
from ..core.study import HistoryEntry, Mask, MaskSource, RegisteredStudy, Segmentation
from ..nets.segmenter import build_segmenter
from ..training.checkpoint import fill_network, load_model, network_config
from ..training.datasets import stack_on, working_grid
from ..training.inference import masks_of, predict
from ..training.segmenter_task import NETWORK


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

    def segment(self, study: RegisteredStudy, *, config: SegmentConfig, progress: Progress) -> Segmentation:
        """Find liver and tumor of a study; phases that are missing or were rejected by registration are not needed.

        The work is done on the model's upright isotropic grid; masks lie on the study's grid, however it lies.

        Args:
            study: Any subset of the phases.
            config: Windows, post-processing, whether the probability is kept.
            progress: Reports per group of windows.

        Raises:
            OutOfMemoryError: The device's memory is too small.
            CanceledError: The user asked to stop.
        """
        grid = working_grid(study.grid, self.card.spacing_mm)
        phases, presence = stack_on(study, grid)
        organ, tumor = predict(
            self.network,
            Window(*self.card.window_hu).normalize(phases),
            presence,
            patch=_network_config(self.card).patch,
            config=config,
            progress=progress,
        )
        organ, tumor = (_brought_back(values, grid, study.grid) for values in (organ, tumor))
        liver_mask, tumor_mask = masks_of(
            organ, tumor, voxel_ml=study.grid.voxel_ml, minimum_tumor_ml=config.minimum_tumor_ml
        )
        entry = HistoryEntry(
            stage="segment",
            version=__version__,
            config=config.model_dump(mode="json"),
            models={self.card.name: self.model_hash},
        )
        return Segmentation(
            study_id=study.study_id,
            liver=_model_mask(liver_mask, study.grid),
            tumor=_model_mask(tumor_mask, study.grid),
            reference_phase=study.reference_phase,
            probability=Volume(np.rint(tumor * 255).astype(np.uint8), study.grid) if config.probability else None,
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


def _brought_back(values: NDArray[np.float32], grid: Grid, target: Grid) -> NDArray[np.float32]:
    return np.asarray(resample(Volume(values, grid), target).array, dtype=np.float32)


def _model_mask(mask: NDArray[np.bool_], grid: Grid) -> Mask:
    return Mask(Volume(mask.astype(np.uint8), grid), MaskSource.MODEL)
