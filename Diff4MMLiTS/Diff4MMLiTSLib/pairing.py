"""Each study with tumors beside the same study without: what stage 3 learns from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .core.errors import InputError
from .core.study import is_rejected
from .core.study_io import QA_FILE, folders_by_id
from .core.study_records import qa_of
from .training.cohorts import load_normal
from .training.datasets import WorkingStudy
from .training.pairs import TumorPair

log = logging.getLogger(__name__)


def paired_with_normal(
    studies: Sequence[WorkingStudy], cohorts: Sequence[Path], cache: Path | None = None
) -> tuple[TumorPair, ...]:
    """Return each study that has tumors with its inpainted counterpart, on the study's working grid.

    Studies whose inpainting was rejected are left out with a warning: their "normal" CT still shows the tumor.

    Args:
        studies: With and without tumors, on their working grids.
        cohorts: Folders of the normal studies.
        cache: Folder that keeps prepared studies; None prepares them anew.

    Raises:
        InputError: A study has no counterpart, or two normal studies have the same id.
    """
    counterparts = folders_by_id(cohorts)
    pairs = []
    for study in studies:
        if not study.tumor.any():
            continue
        if study.study_id not in counterparts:
            raise InputError(
                f"Study '{study.study_id}' has no inpainted counterpart",
                expected="the study of the same id among the normal studies",
                remedy='Make it with "diff4mmlits inpaint"',
            )
        folder = counterparts[study.study_id]
        if is_rejected(qa_of(folder / QA_FILE), "inpaint"):
            log.warning("%s is left out: its inpainting was rejected", study.study_id)
            continue
        phases, presence = load_normal(folder, study.grid, cache=cache)
        without = replace(study, phases=phases, presence=presence, tumor=np.zeros_like(study.tumor))
        pairs.append(TumorPair(study, without))
    return tuple(pairs)
