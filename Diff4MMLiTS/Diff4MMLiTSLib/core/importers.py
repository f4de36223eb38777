"""Studies from what users have: a table of image files, nnU-Net and Decathlon datasets, DICOM folders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from .dicom import DicomExam, read_series, scan_folder
from .dicom_studies import check_assignment, check_images, choose_phases, cohort_salt, study_id_of
from .errors import CanceledError, Diff4MMLiTSError, InputError
from .grid import Volume
from .images import is_marked_synthetic, read_mask, read_volume
from .layouts import Listing, MaskFile, StudyFiles, list_decathlon, list_nnunet, list_table
from .phase_image import findings_of
from .phases import Phase, default_reference
from .progress import Progress
from .study import (
    TUMOR_FREE,
    HistoryEntry,
    Mask,
    MaskSource,
    RegisteredStudy,
    Study,
    TumorFree,
    check_study_id,
)
from .study_io import STUDY_FILE, file_hash, write_study

if TYPE_CHECKING:  # the graphical module imports the core without pydantic
    from .config import ImportConfig

log = logging.getLogger(__name__)

LISTING_SHARE = 0.2
"""Share of the progress bar for finding the files; reading headers takes about a fifth of reading the pixels."""
SYNTHETIC_PREFIX = "SYNTHETIC_"


class ImportSource(StrEnum):
    """What is imported."""

    TABLE = "table"
    DICOM = "dicom"
    NNUNET = "nnunet"
    MSD = "msd"


@dataclass(frozen=True)
class ImportReport:
    """What became of each study.

    Args:
        written: Ids of the studies that were written now.
        skipped: Ids of those that had been there before.
        failed: The error by study id (or line of the table); each is a sentence to show.
        warnings: What the user should know, as sentences.
    """

    written: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    failed: Mapping[str, Diff4MMLiTSError] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Loaded:
    """A study in memory and what the user should know about it."""

    study: Study
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """The studies that a source offers: how to load each, and what is known before."""

    loaders: Mapping[str, Callable[[Progress], _Loaded]]
    failed: Mapping[str, Diff4MMLiTSError]
    notes: tuple[str, ...]
    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)


def import_studies(
    source_path: Path, out: Path, *, source: ImportSource, options: ImportConfig, progress: Progress
) -> ImportReport:
    """Write a study folder for every study of a source; the source is only read.

    Args:
        source_path: The CSV table, the dataset folder, or the DICOM folder.
        out: The cohort folder; study folders appear in it whole or not at all.
        source: What ``source_path`` is.
        options: Phases, names and what to accept.
        progress: Told after every file.

    Returns:
        What became of each study; one study's failure does not stop the others.

    Raises:
        InputError: The source as a whole cannot be read, or there is one study only and it failed.
        CanceledError: The user asked to stop; finished studies stay.
    """
    if out.resolve() == source_path.resolve():
        raise InputError("The output is the input", remedy="Choose another output folder")
    offered = _list_source(source_path, out, source, options, progress.part(0.0, LISTING_SHARE, "import"))
    written, skipped, failed, warnings = [], [], dict(offered.failed), list(offered.notes)
    rest = progress.part(LISTING_SHARE, 1.0, "import")
    for index, (study_id, load) in enumerate(offered.loaders.items()):
        piece = rest.part(index / len(offered.loaders), (index + 1) / len(offered.loaders))
        piece.update(0.0, study_id)
        if (out / study_id / STUDY_FILE).exists() and not options.force:
            skipped.append(study_id)
            continue
        try:
            _check_target(out / study_id, (source_path, *offered.files.get(study_id, ())))
            loaded = load(piece)
            piece.check()
            write_study(loaded.study, out / study_id, force=options.force)
        except CanceledError:
            raise
        except Diff4MMLiTSError as error:
            failed[study_id] = error
            continue
        written.append(study_id)
        warnings += [f"{study_id}: {note}" for note in loaded.notes]
    return _report(ImportReport(tuple(written), tuple(skipped), failed, tuple(warnings)))


def _check_target(target: Path, sources: Iterable[Path]) -> None:
    """Refuse to replace a folder that holds what is imported."""
    if inside := [file for file in sources if file.resolve().is_relative_to(target.resolve())]:
        raise InputError(
            f"'{target.name}' would replace the folder that holds '{inside[0].name}', which is imported",
            remedy="Choose another output folder",
        )


def _report(report: ImportReport) -> ImportReport:
    if len(report.failed) == 1 and not report.written and not report.skipped:
        raise next(iter(report.failed.values()))
    for study_id, error in report.failed.items():
        log.warning("%s: %s", study_id, error)
    for warning in report.warnings:
        log.warning("%s", warning)
    return report


def _list_source(path: Path, out: Path, source: ImportSource, options: ImportConfig, progress: Progress) -> _Source:
    if source is ImportSource.DICOM:
        return _list_dicom(path, out, options, progress)
    progress.update(0.0, "listing files")
    if source is ImportSource.TABLE:
        listing = list_table(path)
    elif source is ImportSource.NNUNET:
        listing = list_nnunet(path, single_phase=options.single_phase, assigned=options.phases)
    else:
        listing = list_decathlon(path, single_phase=options.single_phase)
    return _of_listing(listing, source, options)


def _of_listing(listing: Listing, source: ImportSource, options: ImportConfig) -> _Source:
    loaders = {files.study_id: partial(_load_files, files, source, options) for files in listing.studies}
    sources = {files.study_id: files.files for files in listing.studies}
    return _Source(loaders, listing.failed, listing.notes, sources)


def _list_dicom(folder: Path, out: Path, options: ImportConfig, progress: Progress) -> _Source:
    found = scan_folder(folder, progress)
    check_assignment(found, options.phases)
    if options.study_id is None:
        salt = cohort_salt(out)
        exams = {study_id_of(exam, salt): exam for exam in found.exams}
    elif len(found.exams) == 1:
        exams = {check_study_id(options.study_id): found.exams[0]}
    else:
        raise InputError(
            f"The folder holds {len(found.exams)} examinations, but one study id was given",
            expected="one examination of one patient",
            remedy="Import the folder of one examination, or leave the study id out",
        )
    loaders = {study_id: partial(_load_exam, study_id, exam, options) for study_id, exam in exams.items()}
    return _Source(loaders, {}, found.notes)


def _load_exam(study_id: str, exam: DicomExam, options: ImportConfig, progress: Progress) -> _Loaded:
    gaps = options.interpolate_gaps
    choice = choose_phases(
        exam,
        options.phases,
        interpolate_gaps=gaps,
        look=lambda series: findings_of(read_series(series, progress.part(0.0, 0.0), interpolate_gaps=gaps)[0]),
    )
    volumes, notes = {}, list(choice.notes)
    for index, (phase, series) in enumerate(choice.series.items()):
        piece = progress.part(index / len(choice.series), (index + 1) / len(choice.series))
        volumes[phase], found = read_series(series, piece, interpolate_gaps=gaps)
        notes += found
    if choice.headers:
        check_images(exam, choice, {phase: findings_of(volume) for phase, volume in volumes.items()})
    # No hashes of inputs: hashes of files that hold identifiers would let everyone who has the files find the study.
    history = _history(ImportSource.DICOM, options, {})
    return _Loaded(_build(study_id, volumes, options, history=history), tuple(notes))


def _load_files(files: StudyFiles, source: ImportSource, options: ImportConfig, progress: Progress) -> _Loaded:
    volumes, hashes = {}, {}
    for index, (phase, file) in enumerate(files.phases.items()):
        progress.update(index / len(files.phases), f"reading {phase}")
        volumes[phase] = read_volume(file)
        hashes[f"{phase}.nrrd"] = file_hash(file)
    synthetic = files.study_id.startswith(SYNTHETIC_PREFIX) or any(map(is_marked_synthetic, files.phases.values()))
    liver = _read_mask(files.liver, MaskSource.ANNOTATION) if files.liver else None
    if liver is not None and not liver.array.any():
        raise InputError(f"The liver mask of '{files.study_id}' is empty", expected="a mask of the whole liver")
    tumor, notes = _read_tumor(files, MaskSource.SYNTHETIC if synthetic else MaskSource.ANNOTATION)
    study = _build(
        files.study_id,
        volumes,
        options,
        masks=(liver, tumor),
        synthetic=synthetic,
        history=_history(source, options, hashes),
    )
    return _Loaded(study, notes)


def _read_tumor(files: StudyFiles, source: MaskSource) -> tuple[Mask | TumorFree | None, tuple[str, ...]]:
    if not isinstance(files.tumor, MaskFile):
        return files.tumor, ()
    mask = _read_mask(files.tumor, source)
    if mask.array.any():
        return mask, ()
    return TUMOR_FREE, ("the tumor annotation is empty; the study is imported as free of tumor",)


def _read_mask(mask: MaskFile, source: MaskSource) -> Mask:
    if not mask.labels:
        return read_mask(mask.file, source)
    volume = read_volume(mask.file, is_ct=False)
    if mask.ignored is not None and (np.asarray(volume.array) == mask.ignored).any():
        raise InputError(
            f"'{mask.file.name}' leaves voxels without annotation (label {mask.ignored}, 'ignore')",
            expected="liver and tumors annotated in the whole volume",
        )
    inside = np.isin(np.asarray(volume.array), mask.labels)
    return Mask(Volume(inside.astype(np.uint8), volume.grid), source)


def _build(
    study_id: str,
    volumes: Mapping[Phase, Volume],
    options: ImportConfig,
    *,
    history: HistoryEntry,
    masks: tuple[Mask | None, Mask | TumorFree | None] = (None, None),
    synthetic: bool = False,
) -> Study:
    kind = RegisteredStudy if len(volumes) == 1 else Study
    return kind(
        study_id,
        volumes,
        options.reference_phase or default_reference(volumes),
        liver=masks[0],
        tumor=masks[1],
        synthetic=synthetic,
        history=(history,),
    )


def _history(source: ImportSource, options: ImportConfig, inputs: Mapping[str, str]) -> HistoryEntry:
    """Return the entry of an import; inputs are the hashes of the source files by the name they get in the study."""
    return HistoryEntry("import", __version__, {"from": source, **options.model_dump(mode="json")}, inputs=inputs)
