"""Training of stage 4: patches of real and synthetic studies, Dice + cross entropy, scores on whole studies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..core.config import ModelKind, SegmentConfig, SegmenterNetwork, SegmenterTrainConfig
from ..core.errors import InputError
from ..core.intensity import Window
from ..core.progress import silent
from ..nets.segmenter import LIVER, TUMOR, build_segmenter, resolutions, segmenter_input
from .datasets import BoolArray, WorkingStudy
from .fresh_pairs import FreshPairs
from .inference import masks_of, predict
from .losses import deep_supervision_loss
from .patches import Patch, random_center, random_patch
from .task import Batch, Item, Player, Task

NETWORK = "segmenter"


def segmenter_task(
    config: SegmenterTrainConfig,
    studies: Sequence[WorkingStudy],
    validation: Sequence[WorkingStudy],
    fresh: FreshPairs | None = None,
) -> Task:
    """Return what the loop trains for stage 4.

    Args:
        config: Network, patches, augmentation.
        studies: What to learn from; synthetic ones are drawn with ``config.synthetic_fraction``.
        validation: What to score on; none of them is learned from.
        fresh: Makes synthetic studies during training; those in ``studies`` are then not drawn.

    Raises:
        InputError: No study to learn from or to score on, or one that is in both.
    """
    if not studies or not validation:
        raise InputError(
            f"{len(studies)} studies to train on and {len(validation)} to validate on", expected="at least one of each"
        )
    origins = {study.origin for study in studies} | (fresh.origins if fresh else set())
    if shared := origins & {study.origin for study in validation}:
        raise InputError(
            f"Study '{min(shared)}' is in training and validation",
            expected="different studies; a synthetic one counts as the study that it was made from",
        )
    network = fresh_segmenter(config.network, seed=config.loop.seed)
    return Task(
        kind=ModelKind.SEGMENTER,
        networks={NETWORK: network},
        players=(Player(NETWORK, (NETWORK,), partial(_loss, network), config.learning_rate),),
        ema=(NETWORK,),
        sample=partial(_sample, config, tuple(studies), fresh),
        validate=partial(_validate, network, config, tuple(validation)),
    )


def fresh_segmenter(config: SegmenterNetwork, *, seed: int) -> nn.Module:
    """Return the network before any training, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_segmenter(config)


def _sample(
    config: SegmenterTrainConfig, studies: tuple[WorkingStudy, ...], fresh: FreshPairs | None, index: int
) -> Item:
    rng = np.random.default_rng((config.loop.seed, index))
    if fresh is not None and rng.random() < config.synthetic_fraction:
        study = fresh.of_item(index, rng)
    else:
        study = _draw_study(studies, 0.0 if fresh else config.synthetic_fraction, rng)
    center = random_center(study, rng, tumor_fraction=config.tumor_fraction, liver_fraction=config.liver_fraction)
    patch = random_patch(study, center, config.network.patch, augmentation=config.augmentation, rng=rng)
    images = Window(*config.window_hu).normalize(patch.phases)
    return {"images": images, "presence": patch.presence, "labels": _classes(patch)}


def _draw_study(studies: tuple[WorkingStudy, ...], fraction: float, rng: np.random.Generator) -> WorkingStudy:
    synthetic = [study for study in studies if study.synthetic]
    real = [study for study in studies if not study.synthetic]
    wants_synthetic = rng.random() < fraction
    group = (synthetic if wants_synthetic else real) or real or synthetic
    return group[int(rng.integers(len(group)))]


def _classes(patch: Patch) -> NDArray[np.int64]:
    return np.where(patch.tumor, TUMOR, np.where(patch.liver, LIVER, 0)).astype(np.int64)


def _loss(
    network: nn.Module, batch: Batch, _generator: torch.Generator, _step: int
) -> tuple[torch.Tensor, dict[str, float]]:
    output = network(segmenter_input(batch["images"], batch["presence"]))
    return deep_supervision_loss(resolutions(output), batch["labels"]), {}


def _validate(network: nn.Module, config: SegmenterTrainConfig, studies: tuple[WorkingStudy, ...]) -> dict[str, float]:
    """Return the mean Dice of the livers, and of the tumors of the studies that have some; score is their mean."""
    livers, tumors = [], []
    for study in studies:
        liver, tumor = _segment(network, config, study)
        livers.append(_dice(liver, study.liver))
        if study.tumor.any():
            tumors.append(_dice(tumor, study.tumor))
    liver_dice = float(np.mean(livers))
    tumor_dice = float(np.mean(tumors)) if tumors else liver_dice
    return {"score": (liver_dice + tumor_dice) / 2, "liver_dice": liver_dice, "tumor_dice": tumor_dice}


def _segment(network: nn.Module, config: SegmenterTrainConfig, study: WorkingStudy) -> tuple[BoolArray, BoolArray]:
    work = SegmentConfig(overlap=0.25)  # a score needs less overlap than a result
    images = Window(*config.window_hu).normalize(study.phases)
    organ, tumor = predict(network, images, study.presence, patch=config.network.patch, config=work, progress=silent())
    return masks_of(organ, tumor, voxel_ml=study.grid.voxel_ml, minimum_tumor_ml=work.minimum_tumor_ml)


def _dice(found: BoolArray, truth: BoolArray) -> float:
    total = int(found.sum()) + int(truth.sum())
    return 2.0 * int((found & truth).sum()) / total if total else 1.0
