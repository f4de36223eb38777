"""Study folders on disk: read with every check at the border, written under a temporary name and renamed.

The layout is the interface between the commands, Slicer and the user; ARCHITECTURE.md describes it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import SimpleITK as sitk

from .errors import InputError
from .files import new_folder
from .grid import Volume
from .images import full_disk_said, is_marked_synthetic, read_mask, read_volume, write_volume
from .phases import Phase, default_reference, parse_phase
from .study import (
    TUMOR_FREE,
    Mask,
    MaskSource,
    NormalStudy,
    RegisteredStudy,
    Segmentation,
    Study,
    SyntheticPair,
    TumorFree,
)
from .study_records import Json, history_of, qa_of, qa_record, read_record, write_record

FORMAT = 1
STUDY_FILE = "study.json"
QA_FILE = "qa.json"
INPAINTING_MASK_FILE = "inpainting_mask.nrrd"
PROBABILITY_FILE = "tumor_probability.nrrd"
UNCERTAINTY_FILE = "uncertainty.nrrd"
TRUTH_FOLDER = "truth"


def find_studies(path: Path) -> tuple[Path, ...]:
    """Return the study folders of a cohort in the order of their names, or the folder itself when it is a study.

    They are absolute: a study that is named ``.`` or ``..`` has a name too, since its outputs get it.

    Raises:
        InputError: The folder does not exist or holds no study.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 (links keep their names, unlike with resolve)
    if not path.is_dir():
        raise InputError(f"There is no folder '{path.name}'", remedy="Check the path")
    if (path / STUDY_FILE).is_file():
        return (path,)
    inside = (
        folder for folder in path.iterdir() if not folder.name.startswith(".") and (folder / STUDY_FILE).is_file()
    )
    folders = tuple(sorted(inside))
    if not folders:
        raise InputError(
            f"The folder '{path.name}' holds no study",
            expected=f"a study folder (with {STUDY_FILE}), or a folder of study folders",
            remedy='Make studies from your images with "diff4mmlits import"',
        )
    return folders


def folders_by_id(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the study folders of several cohorts by the ids that their studies have, however the folders are named.

    Raises:
        InputError: A cohort holds no study, or two studies share an id.
    """
    found: dict[str, Path] = {}
    for folder in (folder for path in paths for folder in find_studies(path)):
        try:
            study_id = str(read_record(folder / STUDY_FILE, newest=FORMAT).get("study_id", folder.name))
        except InputError:
            study_id = folder.name  # reading the study will say what is wrong with it
        if study_id in found:
            raise InputError(
                f"'{folder.name}' and '{found[study_id].name}' are both study '{study_id}'",
                expected="a different study_id in each study.json",
            )
        found[study_id] = folder
    return found


def read_study(folder: Path, *, masks: bool = True) -> Study:
    """Read a study folder.

    Args:
        folder: The study.
        masks: Whether liver and tumor are read; otherwise they are unknown, and their files may be missing.

    Returns:
        A ``RegisteredStudy`` when the study says that it is registered or has one phase only, else a ``Study``.

    Raises:
        InputError: Anything about the folder or its files is not as expected; the message names the file.
    """
    record = read_record(folder / STUDY_FILE, newest=FORMAT)
    phases = phase_files(folder)
    volumes = {phase: read_volume(path) for phase, path in phases.items()}
    reference = record.get("reference_phase")
    fields: Json = {
        "study_id": str(record.get("study_id", folder.name)),
        "phases": volumes,
        "reference_phase": parse_phase(str(reference)) if reference else default_reference(volumes),
        "liver": _read_structure(folder, record.get("liver")) if masks else None,
        "tumor": _read_tumor(folder, record) if masks else None,
        "synthetic": bool(record.get("synthetic")) or any(is_marked_synthetic(path) for path in phases.values()),
        "history": history_of(record, folder / STUDY_FILE),
        "qa": qa_of(folder / QA_FILE),
    }
    if is_registered(folder):
        return RegisteredStudy(**fields, transforms=_read_transforms(folder))
    return Study(**fields)


def is_registered(folder: Path) -> bool:
    """Return whether a study folder says that its study is registered, or names one phase only; no image is read.

    Raises:
        InputError: ``study.json`` cannot be read, or names no phase.
    """
    record = read_record(folder / STUDY_FILE, newest=FORMAT)
    return bool(record.get("registered")) or len(_entries(record, folder)) == 1


def phase_files(folder: Path) -> dict[Phase, Path]:
    """Return the image file of every phase that a study folder names; raises ``InputError`` as ``read_study`` does."""
    record = read_record(folder / STUDY_FILE, newest=FORMAT)
    return {parse_phase(name): _file(folder, entry) for name, entry in _entries(record, folder).items()}


def read_registered(folder: Path, *, masks: bool = True) -> RegisteredStudy:
    """Read a study folder that must be registered; for ``masks`` see ``read_study``.

    Raises:
        InputError: As ``read_study``, or the study is not registered.
    """
    study = read_study(folder, masks=masks)
    if not isinstance(study, RegisteredStudy):
        raise InputError(
            f"Study '{study.study_id}' is not registered",
            expected="all phases on one grid",
            remedy='Run "diff4mmlits register" on it first',
        )
    return study


def read_normal(folder: Path) -> NormalStudy:
    """Read a study folder that must be registered and free of tumor.

    Raises:
        InputError: As ``read_registered``, or the study is not declared free of tumor.
    """
    mask = folder / INPAINTING_MASK_FILE
    return NormalStudy(read_registered(folder), read_mask(mask, MaskSource.MODEL) if mask.is_file() else None)


def read_segmentation(folder: Path) -> Segmentation:
    """Read what ``segment`` wrote.

    Raises:
        InputError: The folder has no liver or no tumor mask.
    """
    record = read_record(folder / STUDY_FILE, newest=FORMAT)
    liver, tumor = _read_structure(folder, record.get("liver")), _read_structure(folder, record.get("tumor"))
    if liver is None or tumor is None:
        raise InputError(f"'{folder.name}' holds no segmentation", expected="a liver and a tumor mask")
    maps = (folder / name for name in (PROBABILITY_FILE, UNCERTAINTY_FILE))
    probability, uncertainty = (read_volume(path, is_ct=False) if path.is_file() else None for path in maps)
    return Segmentation(
        study_id=str(record.get("study_id", folder.name)),
        liver=liver,
        tumor=tumor,
        reference_phase=parse_phase(str(record.get("reference_phase", Phase.PVP))),
        probability=probability,
        uncertainty=uncertainty,
        history=history_of(record, folder / STUDY_FILE),
    )


def write_study(
    study: Study, folder: Path, *, force: bool = False, extras: Mapping[str, sitk.Image | str] | None = None
) -> None:
    """Write a study folder: all of it or nothing.

    Args:
        study: What to write; a ``RegisteredStudy`` with its transforms.
        folder: The new folder; its parents are made.
        force: Replace an existing folder (after the new one is complete).
        extras: Further images, or texts, by their path inside the folder, for example ``truth/organs.nrrd``.

    Raises:
        InputError: The folder exists and ``force`` is not given, no permission, or the disk is full.
    """
    with new_folder(folder, force=force, known_by=STUDY_FILE) as partial:
        for phase, volume in study.phases.items():
            write_volume(volume, partial / f"{phase}.nrrd", synthetic=study.synthetic)
        for name, mask in (("liver", study.liver), ("tumor", study.tumor_mask)):
            if mask is not None:
                write_volume(mask.volume, partial / f"{name}.nrrd", synthetic=study.synthetic)
        if isinstance(study, RegisteredStudy) and study.transforms:
            (partial / "transforms").mkdir()
            for phase, transform in study.transforms.items():
                name = f"{phase}_to_{study.reference_phase}.h5"
                with full_disk_said():
                    sitk.WriteTransform(_flat(transform), str(partial / "transforms" / name))
        for name, content in (extras or {}).items():
            _write_extra(partial / name, content, synthetic=study.synthetic)
        if study.qa:
            write_record(partial / QA_FILE, {stage: qa_record(qa) for stage, qa in study.qa.items()})
        write_record(partial / STUDY_FILE, _study_record(study))


def write_normal(normal: NormalStudy, folder: Path, *, force: bool = False) -> None:
    """Write a tumor-free study folder with the mask of what was inpainted; see ``write_study``."""
    mask = normal.inpainting_mask
    write_study(
        normal.study, folder, force=force, extras={INPAINTING_MASK_FILE: mask.volume.to_image()} if mask else {}
    )


def write_pair(pair: SyntheticPair, folder: Path, *, force: bool = False) -> None:
    """Write a synthetic pair as a study folder; every image in it carries the SYNTHETIC mark; see ``write_study``."""
    write_study(pair.study, folder, force=force)


def write_segmentation(
    segmentation: Segmentation, folder: Path, *, force: bool = False, synthetic: bool = False, intended_use: str = ""
) -> None:
    """Write liver and tumor masks (and probability and uncertainty, if they are there) as a folder with study.json.

    Args:
        segmentation: What to write.
        folder: The new folder.
        force: Replace an existing folder.
        synthetic: Whether the segmented study is synthetic; the mark is carried on.
        intended_use: What the model is for, repeated in study.json.

    Raises:
        InputError: As ``write_study``.
    """
    with new_folder(folder, force=force, known_by=STUDY_FILE) as partial:
        write_volume(segmentation.liver.volume, partial / "liver.nrrd", synthetic=synthetic)
        write_volume(segmentation.tumor.volume, partial / "tumor.nrrd", synthetic=synthetic)
        for name, volume in (
            (PROBABILITY_FILE, segmentation.probability),
            (UNCERTAINTY_FILE, segmentation.uncertainty),
        ):
            if volume is not None:
                write_volume(volume, partial / name, synthetic=synthetic)
        record = {
            "format": FORMAT,
            "study_id": segmentation.study_id,
            "reference_phase": segmentation.reference_phase,
            "synthetic": synthetic,
            "intended_use": intended_use,
            "liver": _structure_record("liver", segmentation.liver),
            "tumor": _structure_record("tumor", segmentation.tumor),
            "history": [asdict(entry) for entry in segmentation.history],
        }
        write_record(partial / STUDY_FILE, record)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def input_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each image that a study names, by its name; nothing else in the folder is looked at."""
    record = read_record(folder / STUDY_FILE, newest=FORMAT)
    masks = [_file(folder, record[name]) for name in ("liver", "tumor") if record.get(name) is not None]
    paths = {*phase_files(folder).values(), *masks, folder / INPAINTING_MASK_FILE}
    return {path.name: file_hash(path) for path in sorted(paths) if path.is_file()}


def _entries(record: Json, folder: Path) -> Json:
    entries = record.get("phases")
    if not isinstance(entries, dict) or not entries:
        raise InputError(
            f"'{folder.name}/{STUDY_FILE}' names no phase", expected='"phases": {"PVP": {"file": "PVP.nrrd"}, …}'
        )
    return entries


def _file(folder: Path, entry: object) -> Path:
    name = entry.get("file") if isinstance(entry, dict) else None
    if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(
            f"'{folder.name}/{STUDY_FILE}' names the file {name!r}", expected='{"file": a name inside the folder}'
        )
    return folder / name


def _read_structure(folder: Path, entry: object) -> Mask | None:
    if entry is None:
        return None
    path = _file(folder, entry)
    name = entry.get("source") if isinstance(entry, dict) else None
    try:
        source = MaskSource(str(name))
    except ValueError:
        raise InputError(
            f"'{folder.name}/{STUDY_FILE}' gives {path.name} the source {name!r}",
            expected="one of " + ", ".join(MaskSource),
        ) from None
    return read_mask(path, source)


def _read_tumor(folder: Path, record: Json) -> Mask | TumorFree | None:
    if "tumor" in record and record["tumor"] is None:
        return TUMOR_FREE
    return _read_structure(folder, record.get("tumor"))


def _read_transforms(folder: Path) -> dict[Phase, sitk.Transform]:
    paths = sorted((folder / "transforms").glob("*_to_*.h5"))
    return {parse_phase(path.name.split("_to_")[0]): _read_transform(path) for path in paths}


def _read_transform(path: Path) -> sitk.Transform:
    try:
        return sitk.ReadTransform(str(path))
    except RuntimeError:
        raise InputError(
            f"'{path.name}' cannot be read as a transform", expected="an undamaged file", remedy="Register again"
        ) from None


def _flat(transform: sitk.Transform) -> sitk.Transform:
    """Return a transform without composites inside a composite, which ITK's files cannot hold."""
    if transform.GetTransformEnum() != sitk.sitkComposite:
        return transform
    composite = sitk.CompositeTransform(transform)
    composite.FlattenTransform()
    return composite


def _study_record(study: Study) -> Json:
    record: Json = {
        "format": FORMAT,
        "study_id": study.study_id,
        "reference_phase": study.reference_phase,
        "registered": isinstance(study, RegisteredStudy),
        "synthetic": study.synthetic,
        "phases": {phase: {"file": f"{phase}.nrrd"} for phase in study.phases},
    }
    if study.liver is not None:
        record["liver"] = _structure_record("liver", study.liver)
    if study.is_tumor_free:
        record["tumor"] = None
    elif study.tumor_mask is not None:
        record["tumor"] = _structure_record("tumor", study.tumor_mask)
    record["history"] = [asdict(entry) for entry in study.history]
    return record


def _structure_record(name: str, mask: Mask) -> Json:
    return {"file": f"{name}.nrrd", "source": mask.source}


def _write_extra(path: Path, content: sitk.Image | str, *, synthetic: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif content.GetNumberOfComponentsPerPixel() > 1:
        with full_disk_said():
            sitk.WriteImage(content, str(path), useCompression=True, compressionLevel=1)
    else:
        write_volume(Volume.from_image(content), path, synthetic=synthetic)
