"""The pipeline's side of ``training.fresh_pairs``: a trained synthesizer becomes a source of pairs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from .core.config import PairSource, TrainConfig
from .core.errors import InputError
from .core.progress import silent
from .core.study import NormalStudy, Verdict, without_rejected
from .core.study_io import find_studies, read_normal
from .pipeline import study_rng
from .stages.synthesis import MultimodalCTSynthesizer
from .training.datasets import WorkingStudy, check_usable, to_working_study
from .training.fresh_pairs import FreshPairs

log = logging.getLogger(__name__)

TRIES = 3
"""Pairs that are made until one is not rejected; then the study is shown without a tumor."""


def fresh_pairs(
    config: TrainConfig, normal: Sequence[Path], synthesizer: Path, device: torch.device
) -> FreshPairs | None:
    """Return the source of pairs that a recipe asks for; None when it wants them in files.

    Args:
        config: The recipe.
        normal: Cohorts of normal studies.
        synthesizer: Model folder.
        device: Where pairs are made.

    Raises:
        InputError: No normal study, or one that must not be learned from.
        MissingError: No synthesizer in the folder.
    """
    if config.pair_source is PairSource.FILES:
        return None
    studies = tuple(_usable(read_normal(folder)) for cohort in normal for folder in find_studies(cohort))
    if not studies:
        raise InputError(
            "There is no normal study to put tumors into",
            expected='normal = ["folder of inpainted studies", …] in the recipe',
            remedy='Make them with "diff4mmlits inpaint"',
        )
    model = MultimodalCTSynthesizer.load(synthesizer, device)
    origins = frozenset(study.study.study_id for study in studies)
    make = partial(_make, model, studies, config)
    if config.pair_source is PairSource.FRESH:
        return FreshPairs(make, origins)
    return FreshPairs(make, origins, pool=config.pool, uses=config.pool_uses)


def _usable(normal: NormalStudy) -> NormalStudy:
    return replace(normal, study=check_usable(without_rejected(normal.study), training=True))


def _make(
    model: MultimodalCTSynthesizer, studies: Sequence[NormalStudy], config: TrainConfig, number: int
) -> WorkingStudy:
    """Return pair ``number`` on the segmenter's working grid."""
    normal, spacing_mm = studies[number % len(studies)], config.train_segmenter.spacing_mm
    rng = study_rng(config.train_segmenter.loop.seed, normal.study.study_id, number)
    for _ in range(TRIES):
        pair = model.synthesize(normal, config=config.synthesize, rng=rng, progress=silent()).study
        if pair.qa["synthesize"].verdict is not Verdict.REJECT:
            return to_working_study(pair, spacing_mm=spacing_mm, margin_mm=None)
    log.warning("%s: no pair was accepted in %d tries; it is shown without a tumor", normal.study.study_id, TRIES)
    return to_working_study(normal.study, spacing_mm=spacing_mm, margin_mm=None)
