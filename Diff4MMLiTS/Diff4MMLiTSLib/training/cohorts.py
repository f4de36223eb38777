"""Cohorts as training loads them: checked for what may be learned from, prepared once and kept in a cache."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..core.grid import Grid
from ..core.phases import Phase
from ..core.progress import Progress
from ..core.study_io import (
    FORMAT,
    QA_FILE,
    STUDY_FILE,
    file_hash,
    find_studies,
    input_hashes,
    read_normal,
    read_registered,
)
from ..core.study_records import read_record
from .cache import Entry, cached
from .datasets import (
    FloatArray,
    Standing,
    WorkingStudy,
    check_allowed,
    check_usable,
    is_rejected_pair,
    stack_on,
    standing_of,
    to_working_study,
)

log = logging.getLogger(__name__)


def load_cohort(
    paths: Sequence[Path],
    *,
    spacing_mm: float,
    margin_mm: float | None,
    progress: Progress,
    training: bool = True,
    allow_model_masks: bool = False,
    cache: Path | None = None,
) -> tuple[WorkingStudy, ...]:
    """Read registered studies with liver and tumor labels for training or validation.

    Args:
        paths: Study folders and cohorts.
        spacing_mm: Spacing of the working grid, isotropic.
        margin_mm: How much around the liver is kept; None keeps everything.
        progress: Reports per study.
        training: Whether networks learn from the studies; phantoms with held-out seeds are then refused.
        allow_model_masks: Whether masks drawn by a model may be learned from.
        cache: Folder where working studies are kept for the next time; None keeps them in memory only.

    Raises:
        InputError: No study, one that is not registered or not labeled, or labels or seeds that must not be used.
        CanceledError: The user asked to stop.
    """
    folders = [folder for path in paths for folder in find_studies(path)]
    studies = []
    for index, folder in enumerate(folders):
        progress.update(index / len(folders), f"reading {folder.name}")
        make = partial(
            _make_entry,
            folder,
            spacing_mm=spacing_mm,
            margin_mm=margin_mm,
            training=training,
            allow_model_masks=allow_model_masks,
        )
        entry = cached(cache, working_key(folder, spacing_mm, margin_mm), make) if cache else make()
        check_allowed(Standing(**entry.record["standing"]), training=training, allow_model_masks=allow_model_masks)
        if not entry.arrays:
            log.warning("%s is left out: its own check rejected it", folder.name)
            continue
        studies.append(_working_study_of(entry))
    progress.update(1.0, f"{len(studies)} studies")
    return tuple(studies)


def load_normal(folder: Path, grid: Grid, *, cache: Path | None = None) -> tuple[FloatArray, FloatArray]:
    """Return the phases of a normal study on the working grid of its counterpart; result as ``stack_on``.

    Raises:
        InputError: The study cannot be read, or is not a normal one.
    """

    def make() -> Entry:
        phases, presence = stack_on(read_normal(folder).study, grid)
        return Entry({}, {"phases": phases, "presence": presence})

    key = {"what": "normal", "inputs": _input_hashes(folder), "grid": _grid_record(grid), "version": __version__}
    arrays: Mapping[str, Any] = (cached(cache, key, make) if cache else make()).arrays  # Any: as make() gave them
    return arrays["phases"], np.array(arrays["presence"])


def working_key(folder: Path, spacing_mm: float, margin_mm: float | None) -> dict[str, object]:
    """Return all that a working study depends on: the content of its files, the settings, and this software."""
    settings = {"spacing_mm": spacing_mm, "margin_mm": margin_mm, "version": __version__}
    study_id = read_record(folder / STUDY_FILE, newest=FORMAT).get("study_id", folder.name)
    return {"what": "study", "study_id": study_id, "inputs": _input_hashes(folder), **settings}


def _make_entry(
    folder: Path, *, spacing_mm: float, margin_mm: float | None, training: bool, allow_model_masks: bool
) -> Entry:
    """Return a study as the cache keeps it; a rejected pair without arrays, since nobody learns from it."""
    study = check_usable(read_registered(folder), training=training, allow_model_masks=allow_model_masks)
    standing = asdict(standing_of(study))
    if is_rejected_pair(study):
        return Entry({"standing": standing}, {})
    working = to_working_study(study, spacing_mm=spacing_mm, margin_mm=margin_mm)
    record = {
        "standing": standing,
        "grid": _grid_record(working.grid),
        "synthetic": working.synthetic,
        "reference_phase": working.reference_phase,
        "source_study": working.source_study,
    }
    return Entry(record, {name: getattr(working, name) for name in ("phases", "presence", "liver", "tumor")})


def _working_study_of(entry: Entry) -> WorkingStudy:
    record = entry.record
    grid = Grid(**{name: tuple(values) for name, values in record["grid"].items()})
    arrays: Mapping[str, Any] = entry.arrays  # Any: as _make_entry gave them
    return WorkingStudy(
        study_id=record["standing"]["study_id"],
        phases=arrays["phases"],
        presence=np.array(arrays["presence"]),  # torch takes no array that is read-only, as what is mapped is
        liver=arrays["liver"],
        tumor=arrays["tumor"],
        grid=grid,
        synthetic=record["synthetic"],
        reference_phase=Phase(record["reference_phase"]),
        source_study=record["source_study"],
    )


def _grid_record(grid: Grid) -> dict[str, list[float]]:
    values = {name: getattr(grid, name) for name in ("size", "spacing_mm", "origin_mm", "direction")}
    return {name: list(value) for name, value in values.items()}


def _input_hashes(folder: Path) -> list[str]:
    """Return the hashes of the images of a study and of what is said about them; their names say nothing."""
    records = [file_hash(folder / name) for name in (STUDY_FILE, QA_FILE) if (folder / name).is_file()]
    return records + list(input_hashes(folder).values())
