"""Training of stage 4: patches of real and synthetic studies, Dice + cross entropy, scores on whole studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..core.config import AugmentationConfig, ModelKind, SegmentConfig, SegmenterNetwork, SegmenterTrainConfig
from ..core.errors import InputError
from ..core.intensity import Window
from ..core.phases import ALL_PHASES
from ..core.progress import silent
from ..nets.segmenter import LIVER, TUMOR, build_segmenter, resolutions, segmenter_input
from .clicks import CLICK_SIGMA_MM, VoxelClick, guidance_maps, simulate_clicks
from .datasets import BoolArray, WorkingStudy, check_no_leak, coarser, stack_working
from .fresh_pairs import FreshPairs
from .inference import masks_of
from .losses import deep_supervision_loss
from .patches import Patch, anywhere_around, random_center, random_patch
from .search import Sight, look
from .task import Batch, Item, Player, Task

NETWORK = "segmenter"
COARSE_FACTOR = "coarse_factor"
"""In a model's numbers: how much larger voxels it can search the liver in; absent where it has not learned to."""
CLICKS = "click_sigma_mm"
"""In a model's numbers: the size of the balls around clicks; absent where it has not learned from clicks."""


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
    check_enough(len(studies), len(validation))
    check_no_leak(studies, validation, fresh.origins if fresh else ())
    network = fresh_segmenter(config.network, seed=config.loop.seed)
    return Task(
        kind=ModelKind.SEGMENTER,
        networks={NETWORK: network},
        players=(Player(NETWORK, (NETWORK,), partial(_loss, network), config.learning_rate),),
        ema=(NETWORK,),
        sample=partial(_sample, config, _with_coarse(config, studies), fresh),
        validate=partial(_validate, network, config, tuple(validation)),
    )


def check_enough(training: int, validation: int) -> None:
    """Refuse a training that could not learn, or whose best weights nothing would tell.

    Raises:
        InputError: One of the numbers of studies is 0.
    """
    if not training or not validation:
        raise InputError(
            f"{training} studies to train on and {validation} to validate on",
            expected="at least one of each",
            remedy='Name them in the recipe ("cohorts", "validation")',
        )


def learned_numbers(config: SegmenterTrainConfig) -> dict[str, float]:
    """Return what a model's card must say for the use of what the network has learned besides segmenting."""
    numbers = {COARSE_FACTOR: config.coarse_factor} if config.coarse_fraction > 0 else {}
    return numbers | ({CLICKS: CLICK_SIGMA_MM} if config.click_fraction > 0 else {})


def fresh_segmenter(config: SegmenterNetwork, *, seed: int) -> nn.Module:
    """Return the network before any training, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_segmenter(config)


@dataclass(frozen=True)
class _Studies:
    """What patches are cut from, at both resolutions; nothing coarse when the model will not search with it."""

    fine: tuple[WorkingStudy, ...]
    coarse: tuple[WorkingStudy, ...]


def _with_coarse(config: SegmenterTrainConfig, studies: Sequence[WorkingStudy]) -> _Studies:
    searched = config.coarse_fraction > 0
    return _Studies(tuple(studies), tuple(coarser(study, config.coarse_factor) for study in studies if searched))


def _sample(config: SegmenterTrainConfig, studies: _Studies, fresh: FreshPairs | None, index: int) -> Item:
    rng = np.random.default_rng((config.loop.seed, index))
    choices = np.random.default_rng((config.loop.seed, index, 1))
    coarse, clicked = choices.random() < config.coarse_fraction, choices.random() < config.click_fraction
    if fresh is not None and not coarse and rng.random() < config.synthetic_fraction:
        study = fresh.of_item(index, rng)
    else:
        fraction = 0.0 if fresh else config.synthetic_fraction
        study = _draw_study(studies.coarse if coarse else studies.fine, fraction, rng)
    center = random_center(study, rng, tumor_fraction=config.tumor_fraction, liver_fraction=config.liver_fraction)
    center = anywhere_around(center, config.network.patch, study.liver.shape, rng)
    augmentation = _augmentation_at(config, index)
    patch = random_patch(study, center, config.network.patch, augmentation=augmentation, rng=rng)
    clicks: tuple[VoxelClick, ...] = ()
    if clicked and not coarse:
        patch, clicks = simulate_clicks(patch, choices)
    return {
        "images": Window(*config.window_hu).normalize(patch.phases),
        "presence": patch.presence,
        "guidance": guidance_maps(clicks, config.network.patch, CLICK_SIGMA_MM / config.spacing_mm),
        "labels": _classes(patch),
    }


def _augmentation_at(config: SegmenterTrainConfig, index: int) -> AugmentationConfig:
    """Return how much the patch of an item varies: the more, the later it is learned from."""
    growth = config.augmentation_growth
    return config.augmentation.weakened(index / growth) if index < growth else config.augmentation


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
    output = network(segmenter_input(batch["images"], batch["presence"], batch["guidance"]))
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
    # A score needs less overlap than a result, and tells what an unsure network sees from what a blind one does not.
    work = SegmentConfig(overlap=0.25, sure_tumor=0.0)
    factor = config.coarse_factor if config.coarse_fraction > 0 else 0.0
    sight = Sight(config.spacing_mm, Window(*config.window_hu), config.network.patch, factor)
    alone = replace(study, presence=study.presence * (np.array(ALL_PHASES) == study.reference_phase))
    found = look(
        network,
        partial(stack_working, study),
        study.grid,
        sight=sight,
        config=work,
        progress=silent(),
        first=partial(stack_working, alone),
    )
    if found is None:
        return np.zeros_like(study.liver), np.zeros_like(study.tumor)
    organ, tumor = found.on(study.grid)
    return masks_of(organ, tumor, voxel_ml=study.grid.voxel_ml, config=work)


def _dice(found: BoolArray, truth: BoolArray) -> float:
    total = int(found.sum()) + int(truth.sum())
    return 2.0 * int((found & truth).sum()) / total if total else 1.0
