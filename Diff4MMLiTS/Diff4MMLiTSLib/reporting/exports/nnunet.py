"""Cohorts, real and synthetic, as one raw dataset of nnU-Net v2, with folds in which no patient is on both sides.

All channels are called CT, since nnU-Net chooses its normalization by that name; which phase each of them is stands
under ``phases``, where ``import --from nnunet`` finds it again.
"""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__
from ...core.errors import InputError
from ...core.files import new_folder
from ...core.grid import Volume
from ...core.images import write_volume
from ...core.importers import SYNTHETIC_PREFIX
from ...core.layouts import DATASET_FILE
from ...core.phases import Phase, in_order
from ...core.progress import Progress
from ...core.study import RegisteredStudy, Verdict, source_study_of, without_rejected
from ...core.study_io import QA_FILE, folders_by_id, phase_files, read_registered
from ...core.study_records import qa_of
from ..html import NOT_A_DEVICE

log = logging.getLogger(__name__)

FOLDER_PATTERN = r"Dataset\d{3}_[A-Za-z0-9_-]+"
"""How nnU-Net wants a dataset folder to be called; it finds the dataset by the number."""
ENDING = ".nii.gz"
LABELS = {"background": 0, "liver": 1, "tumor": 2}
SPLITS_FILE = "splits_final.json"
FOLDS = 5
"""As nnU-Net itself makes them."""
SPLIT_SEED = 12345
"""nnU-Net's own."""

Check = Callable[[RegisteredStudy], RegisteredStudy]
Json = dict[str, Any]  # Any: plain JSON, written for other programs


@dataclass(frozen=True)
class _Case:
    """A case of the dataset: its name, the study it shows, and the patient's study that it was made from."""

    name: str
    study_id: str
    origin: str
    synthetic: bool


def export_nnunet(
    cohorts: Sequence[Path],
    out: Path,
    *,
    phases: Sequence[Phase] = (),
    check: Check,
    force: bool = False,
    progress: Progress,
) -> tuple[Phase, ...]:
    """Write studies as a raw dataset: ``dataset.json``, ``imagesTr``, ``labelsTr`` and ``splits_final.json``.

    Args:
        cohorts: Folders of registered studies with liver and tumor masks, or such studies.
        out: The new dataset folder, ``DatasetNNN_Name``; it appears whole or not at all.
        phases: What becomes a channel; the phases that all studies have when empty. Phases that registration rejected
            count as missing.
        check: Returns a study that may be learned from, and raises for any other.
        force: Replace an existing dataset.
        progress: Told after every study.

    Returns:
        The phases that were written, in the order of the channels.

    Raises:
        InputError: A wrong folder name, a study without one of the phases, a study that ``check`` refuses, two studies
            of one name, or the output exists.
        CanceledError: The user asked to stop; nothing is left behind.
    """
    if not re.fullmatch(FOLDER_PATTERN, out.name):
        raise InputError(
            f"The output folder is called '{out.name}'",
            expected="DatasetNNN_Name with a number of three digits, as nnU-Net wants it",
            remedy="Call it for example Dataset501_LiverTumors, in the folder that nnUNet_raw names",
        )
    folders = _without_rejected_pairs(folders_by_id(cohorts))
    channels = _channels(folders, phases)
    with new_folder(out, force=force, known_by="dataset.json") as partial:
        for name in ("imagesTr", "labelsTr"):
            (partial / name).mkdir()
        cases: dict[str, _Case] = {}
        for number, (study_id, folder) in enumerate(folders.items()):
            progress.update(number / len(folders), study_id)
            study = check(without_rejected(read_registered(folder)))
            case = _case_of(study, cases)
            _write_case(study, case.name, channels, partial)
            cases[case.name] = case
        _write_json(partial / DATASET_FILE, _dataset_record(out.name, channels, tuple(cases.values())))
        if folds := _folds(tuple(cases.values())):
            _write_json(partial / SPLITS_FILE, folds)
    progress.update(1.0, f"{len(folders)} studies, channels {', '.join(channels)}")
    return channels


def _without_rejected_pairs(folders: Mapping[str, Path]) -> dict[str, Path]:
    kept = {}
    for study_id, folder in folders.items():
        found = qa_of(folder / QA_FILE).get("synthesize")
        if found is not None and found.verdict is Verdict.REJECT:
            log.warning("%s is left out: its own check rejected it", study_id)
        else:
            kept[study_id] = folder
    if not kept:
        raise InputError("Every study was rejected by its own check", expected="studies to export")
    return kept


def _channels(folders: Mapping[str, Path], wanted: Sequence[Phase]) -> tuple[Phase, ...]:
    usable = {study_id: _usable_phases(folder) for study_id, folder in folders.items()}
    chosen = in_order(set(wanted) or frozenset.intersection(*usable.values()))
    missing = {study_id: in_order(set(chosen) - found) for study_id, found in usable.items() if set(chosen) - found}
    if chosen and not missing:
        left_out = in_order(frozenset.union(*usable.values()) - set(chosen))
        if left_out and not wanted:
            log.warning("%s: not in every study, so not exported", ", ".join(left_out))
        return chosen
    lines = "\n".join(f"  {study_id}: no {', '.join(phases)}" for study_id, phases in missing.items())
    found = f"{len(missing)} of {len(folders)} studies lack a phase (or its registration was rejected):\n{lines}\n"
    if not chosen:
        have = {study_id: ", ".join(in_order(phases)) for study_id, phases in usable.items()}
        lines = "\n".join(f"  {study_id}: {phases}" for study_id, phases in have.items())
        found = f"No phase is in all {len(folders)} studies:\n{lines}\n"
    raise InputError(
        found,
        expected="studies that share the channels: nnU-Net knows no missing ones",
        remedy="Ask for the phases that they share with --phases, or export fewer studies",
    )


def _usable_phases(folder: Path) -> frozenset[Phase]:
    qa = qa_of(folder / QA_FILE).get("register")
    rejected = {phase for phase, found in qa.phases.items() if found.verdict is Verdict.REJECT} if qa else set()
    return frozenset(set(phase_files(folder)) - rejected)


def _case_of(study: RegisteredStudy, others: Mapping[str, _Case]) -> _Case:
    marked = study.study_id.startswith(SYNTHETIC_PREFIX)
    if marked and not study.synthetic:
        raise InputError(
            f"The real study '{study.study_id}' has the name of a synthetic one",
            expected=f"the beginning {SYNTHETIC_PREFIX} at synthetic studies only",
        )
    name = study.study_id if marked or not study.synthetic else SYNTHETIC_PREFIX + study.study_id
    if name in others:
        raise InputError(f"Two studies would be the case '{name}'", expected="a different study_id in each study.json")
    return _Case(name, study.study_id, source_study_of(study) or study.study_id, study.synthetic)


def _write_case(study: RegisteredStudy, name: str, channels: Sequence[Phase], dataset: Path) -> None:
    for channel, phase in enumerate(channels):
        file = dataset / "imagesTr" / f"{name}_{channel:04d}{ENDING}"
        write_volume(study.phases[phase], file, synthetic=study.synthetic)
    labels = np.zeros(study.grid.shape, dtype=np.uint8)
    for structure, mask in (("liver", study.liver), ("tumor", study.tumor_mask)):
        if mask is not None:
            labels[mask.array] = LABELS[structure]
    write_volume(Volume(labels, study.grid), dataset / "labelsTr" / f"{name}{ENDING}", synthetic=study.synthetic)


def _dataset_record(name: str, channels: Sequence[Phase], cases: Sequence[_Case]) -> Json:
    synthetic = sum(case.synthetic for case in cases)
    return {
        "name": name,
        "description": (
            f"Liver and liver tumors in CT, phases {', '.join(channels)}; {len(cases) - synthetic} real and "
            f"{synthetic} synthetic studies. {NOT_A_DEVICE}"
        ),
        "reference": f"Diff4MMLiTS {__version__}",
        "channel_names": {str(channel): "CT" for channel in range(len(channels))},
        "phases": {str(channel): phase for channel, phase in enumerate(channels)},
        "labels": LABELS,
        "numTraining": len(cases),
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "SimpleITKIO",
        "studies": {
            case.name: {"study_id": case.study_id, "synthetic": case.synthetic, "made_from": case.origin}
            for case in cases
        },
    }


def _folds(cases: Sequence[_Case]) -> list[Json]:
    """Return folds that keep each patient's studies, real and synthetic, together; only real ones are validated on."""
    real = defaultdict(list)
    for case in cases:
        if not case.synthetic:
            real[case.origin].append(case.name)
    patients = np.random.default_rng(SPLIT_SEED).permutation(sorted(real))
    if len(patients) < 2:
        return []
    folds = []
    for held_out in np.array_split(patients, min(FOLDS, len(patients))):
        validation = sorted(name for patient in held_out for name in real[str(patient)])
        training = sorted(case.name for case in cases if case.origin not in set(held_out))
        folds.append({"train": training, "val": validation})
    return folds


def _write_json(path: Path, record: object) -> None:
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
