"""The pipeline's side of ``training.fresh_pairs``: a trained synthesizer becomes a source of pairs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import torch

from .core.config import PairSource, TrainConfig
from .core.errors import InputError
from .core.progress import silent
from .core.study import NormalStudy, is_rejected, without_rejected
from .core.study_io import QA_FILE, find_studies, read_normal
from .core.study_records import qa_of
from .pipeline import study_rng
from .stages.synthesis import MultimodalCTSynthesizer
from .training.datasets import WorkingStudy, check_usable, to_working_study
from .training.fresh_pairs import FreshPairs

log = logging.getLogger(__name__)

KEPT = 4
"""Normal studies at full resolution in memory."""
TRIES = 3
"""Pairs that are made until one is not rejected; then the study is shown without a tumor."""


def fresh_pairs(config: TrainConfig, normal: Sequence[Path], synthesizer: Path, device: torch.device) -> FreshPairs:
    """Return the source of pairs that a recipe asks for with ``pair_source`` ``pool`` or ``fresh``.

    Args:
        config: The recipe.
        normal: Cohorts of normal studies; those whose inpainting was rejected are left out with a warning.
        synthesizer: Model folder.
        device: Where pairs are made.

    Raises:
        InputError: No normal study, or one that must not be learned from.
        MissingError: No synthesizer in the folder.
    """
    read = lru_cache(maxsize=KEPT)(partial(_read, allow_model_masks=config.allow_model_masks))
    folders = tuple(folder for cohort in normal for folder in find_studies(cohort) if _inpainted_well(folder))
    origins = frozenset(read(folder).study.study_id for folder in folders)  # each is checked before training begins
    if not folders:
        raise InputError(
            "There is no normal study to put tumors into",
            expected='normal = ["folder of inpainted studies", …] in the recipe',
            remedy='Make them with "diff4mmlits inpaint"',
        )
    model = MultimodalCTSynthesizer.load(synthesizer, device)

    def make(number: int) -> WorkingStudy:
        return _make(model, read(folders[number % len(folders)]), config, number)

    if config.pair_source is PairSource.FRESH:
        return FreshPairs(make, origins)
    return FreshPairs(make, origins, pool=config.pool, uses=config.pool_uses)


def _inpainted_well(folder: Path) -> bool:
    rejected = is_rejected(qa_of(folder / QA_FILE), "inpaint")
    if rejected:
        log.warning("%s is left out: its inpainting was rejected", folder.name)
    return not rejected


def _read(folder: Path, *, allow_model_masks: bool) -> NormalStudy:
    normal = read_normal(folder)
    study = check_usable(without_rejected(normal.study), training=True, allow_model_masks=allow_model_masks)
    return replace(normal, study=study)


def _make(model: MultimodalCTSynthesizer, normal: NormalStudy, config: TrainConfig, number: int) -> WorkingStudy:
    """Return pair ``number`` on the segmenter's working grid."""
    spacing_mm = config.train_segmenter.spacing_mm
    rng = study_rng(config.train_segmenter.loop.seed, normal.study.study_id, number)
    for _ in range(TRIES):
        try:
            pair = model.synthesize(normal, config=config.synthesize, rng=rng, progress=silent()).study
        except InputError as error:  # no room: the next try draws another tumor
            log.info("%s: %s", normal.study.study_id, error)
            continue
        if not is_rejected(pair.qa, "synthesize"):
            return to_working_study(pair, spacing_mm=spacing_mm, margin_mm=None)
    log.warning("%s: no pair was accepted in %d tries; it is shown without a tumor", normal.study.study_id, TRIES)
    return to_working_study(normal.study, spacing_mm=spacing_mm, margin_mm=None)
