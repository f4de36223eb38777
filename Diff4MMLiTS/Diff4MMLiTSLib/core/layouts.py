"""Where the images of each study lie in a table, an nnU-Net dataset or a Medical Segmentation Decathlon dataset."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import Diff4MMLiTSError, InputError
from .phase_evidence import phases_in_text
from .phases import ALL_PHASES, Phase
from .study import TUMOR_FREE, TumorFree, check_study_id

TUMOR_FREE_WORD = "none"
TABLE_COLUMNS = ("study", *ALL_PHASES, "liver", "tumor")
DATASET_FILE = "dataset.json"

_TUMOR_WORDS = {
    "tumor",
    "tumors",
    "tumour",
    "tumours",
    "cancer",
    "lesion",
    "lesions",
    "hcc",
    "metastasis",
    "metastases",
}
_LIVER_WORDS = {"liver", "whole", "organ", "parenchyma", "healthy", "normal", "and", "with", "without"}


@dataclass(frozen=True)
class MaskFile:
    """A mask inside a label file.

    Args:
        file: The label file.
        labels: Values that belong to the structure; empty when the file holds one structure only.
        ignored: Value of voxels that nobody annotated, if the dataset has one.
    """

    file: Path
    labels: tuple[int, ...] = ()
    ignored: int | None = None


@dataclass(frozen=True)
class StudyFiles:
    """The files of one study.

    Args:
        study_id: Its name.
        phases: Image file by phase.
        liver: Liver mask, tumors included; None when there is none.
        tumor: Tumor mask; ``TUMOR_FREE`` when declared free of tumor; None when unknown.
    """

    study_id: str
    phases: Mapping[Phase, Path]
    liver: MaskFile | None = None
    tumor: MaskFile | TumorFree | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        masks = [mask.file for mask in (self.liver, self.tumor) if isinstance(mask, MaskFile)]
        return (*self.phases.values(), *masks)


@dataclass(frozen=True)
class Listing:
    """The studies of a dataset.

    Args:
        studies: Those whose files are known.
        failed: Errors of the others by name.
        notes: What was left out, as sentences.
    """

    studies: tuple[StudyFiles, ...]
    failed: Mapping[str, Diff4MMLiTSError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def list_table(table: Path) -> Listing:
    """List the studies of a CSV table with the columns study, NC, AP, PVP, DELAY, liver, tumor.

    Args:
        table: Comma, semicolon or tab separated, UTF-8; paths are relative to its folder. An empty cell means that
            there is no such file; ``none`` as tumor declares the study free of tumor.

    Raises:
        InputError: No such file, not UTF-8, no rows, or a wrong header; errors of a row fail that study only.
    """
    lines = _read_text(table).splitlines()
    header = lines[0] if lines else ""
    rows = list(csv.reader(lines, delimiter=max(",;\t", key=header.count)))
    columns = _columns(table.name, rows[0] if rows else [])
    studies: dict[str, StudyFiles] = {}
    failed: dict[str, Diff4MMLiTSError] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            study = _table_study(table.parent, columns, row)
            if study.study_id in studies:
                raise InputError(f"The study '{study.study_id}' has several lines", expected="one line per study")
            studies[study.study_id] = study
        except InputError as error:
            failed[f"line {number}"] = error
    if not studies and not failed:
        raise InputError(f"'{table.name}' has no line below its header", expected="one line per study")
    return Listing(tuple(studies.values()), failed)


def list_nnunet(folder: Path, *, single_phase: Phase, assigned: Mapping[int, Phase]) -> Listing:
    """List the cases of an nnU-Net raw dataset (``dataset.json``, imagesTr, labelsTr, imagesTs).

    Args:
        folder: The dataset folder.
        single_phase: The phase of a dataset with one channel whose name tells none.
        assigned: Phase by channel number, where the channel's name does not tell it.

    Raises:
        InputError: No readable dataset.json, channels without or with the same phase, or no images.
    """
    record = _read_dataset(folder)
    channels = _channel_phases(record, single_phase, assigned)
    ending = str(record.get("file_ending", ".nii.gz"))
    liver, tumor, ignored, notes = _structures(record)
    studies: dict[str, StudyFiles] = {}
    failed: dict[str, Diff4MMLiTSError] = {}
    for part in ("Tr", "Ts"):
        for name in _case_names(folder / f"images{part}", ending):
            phases = {
                phase: folder / f"images{part}" / f"{name}_{channel:04d}{ending}" for channel, phase in channels.items()
            }
            label = folder / f"labels{part}" / f"{name}{ending}"
            has_label = part == "Tr" or label.is_file()
            masks = [MaskFile(label, labels, ignored) if has_label and labels else None for labels in (liver, tumor)]
            _add(studies, failed, StudyFiles(name, phases, *masks))
    return _complete(studies, failed, notes, ending)


def list_decathlon(folder: Path, *, single_phase: Phase) -> Listing:
    """List the cases of a Medical Segmentation Decathlon dataset, for example Task03_Liver.

    Args:
        folder: The dataset folder, with ``dataset.json``.
        single_phase: The phase of the images, where the modality's name tells none.

    Raises:
        InputError: No readable dataset.json, several modalities (four-dimensional images), or no images.
    """
    record = _read_dataset(folder)
    modalities = record.get("modality", {"0": "CT"})
    if not isinstance(modalities, dict) or len(modalities) != 1:
        raise InputError(
            f"'{DATASET_FILE}' names {len(modalities)} modalities, which lie in four-dimensional images",
            expected="one modality, three-dimensional images",
            remedy="Save each contrast phase as a file of its own and import them with --from table or nnunet",
        )
    phase = (*phases_in_text(str(next(iter(modalities.values())))), single_phase)[0]
    liver, tumor, _, notes = _structures(record)
    studies: dict[str, StudyFiles] = {}
    failed: dict[str, Diff4MMLiTSError] = {}
    cases = [*record.get("training", []), *({"image": image} for image in record.get("test", []))]
    for case in cases:
        if not isinstance(case, dict) or not isinstance(case.get("image"), str):
            raise InputError(f"'{DATASET_FILE}' lists a case without an image", expected='{"image": …, "label": …}')
        image = folder / case["image"]
        label = case.get("label")
        masks = [MaskFile(folder / label, labels) if label and labels else None for labels in (liver, tumor)]
        _add(studies, failed, StudyFiles(image.name.partition(".")[0], {phase: image}, *masks))
    return _complete(studies, failed, notes, "")


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"There is no file '{file.name}'", remedy="Check the path") from None
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"'{file.name}' cannot be read as text", expected="UTF-8", remedy="Save it as 'CSV UTF-8'"
        ) from None


def _columns(table: str, header: list[str]) -> list[str]:
    valid = {name.casefold(): name for name in TABLE_COLUMNS}
    names = [valid.get(cell.strip().casefold(), cell.strip()) for cell in header]
    unknown = [name for name in names if name not in TABLE_COLUMNS]
    twice = [name for name, count in Counter(names).items() if count > 1]
    problems = [f"unknown columns {', '.join(map(repr, unknown))}"] if unknown else []
    problems += [f"columns that appear twice: {', '.join(twice)}"] if twice else []
    problems += ["no column 'study'"] if "study" not in names else []
    problems += ["no column of a phase"] if not set(names) & set(ALL_PHASES) else []
    if problems:
        raise InputError(
            f"The header of '{table}' has {'; '.join(problems)}",
            expected=f"study, at least one of {', '.join(ALL_PHASES)}, and, if you have masks, liver and tumor",
            remedy="Correct the first line; separate columns by commas, semicolons or tabs",
        )
    return names


def _table_study(folder: Path, columns: list[str], row: list[str]) -> StudyFiles:
    cells = [cell.strip() for cell in row]
    if any(cells[len(columns) :]):
        raise InputError(f"The line has {len(cells)} cells", expected=f"{len(columns)}, as the header")
    named = {name: cell for name, cell in zip(columns, cells, strict=False) if cell}
    study_id = check_study_id(named.get("study", ""))
    phases = {phase: folder / named[phase] for phase in ALL_PHASES if phase in named}
    if not phases:
        raise InputError(f"The study '{study_id}' has no image", expected="a file for at least one phase")
    if len(set(phases.values())) < len(phases):
        raise InputError(
            f"The study '{study_id}' names one file for two phases", expected="a file of its own per phase"
        )
    liver, tumor = named.get("liver"), named.get("tumor")
    is_free = tumor is not None and tumor.casefold() == TUMOR_FREE_WORD
    return StudyFiles(
        study_id,
        phases,
        MaskFile(folder / liver) if liver else None,
        TUMOR_FREE if is_free else MaskFile(folder / tumor) if tumor else None,
    )


def _read_dataset(folder: Path) -> dict[str, Any]:  # Any: JSON, checked where it is used
    if not (folder / DATASET_FILE).is_file():
        raise InputError(
            f"There is no '{DATASET_FILE}' in '{folder.name}'",
            expected="a dataset folder with dataset.json, imagesTr and labelsTr",
            remedy="Choose the folder that holds dataset.json",
        )
    try:
        record = json.loads(_read_text(folder / DATASET_FILE))
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("labels", {}), dict):
        raise InputError(f"'{DATASET_FILE}' cannot be read", expected="a JSON object with channel names and labels")
    return record


def _channel_phases(record: dict[str, Any], single: Phase, assigned: Mapping[int, Phase]) -> dict[int, Phase]:
    names = record.get("phases") or record.get("channel_names") or record.get("modality")  # the first is our own key
    if not isinstance(names, dict) or not names or not all(str(key).isdigit() for key in names):
        raise InputError(f"'{DATASET_FILE}' names no channels", expected='"channel_names": {"0": "arterial", …}')
    found = {int(key): _channel_phase(int(key), str(name), assigned) for key, name in names.items()}
    if len(found) == 1:
        found = {channel: phase or single for channel, phase in found.items()}
    channels = {channel: phase for channel, phase in found.items() if phase}
    if len(set(channels.values())) < len(names):
        shown = ", ".join(f"{key} '{name}' ({found[int(key)] or 'unknown'})" for key, name in names.items())
        raise InputError(
            f"The channels of '{DATASET_FILE}' are not different phases: {shown}",
            expected="channel names such as NC, arterial, portal venous, delayed",
            remedy="Correct channel_names, or say which channel is which phase, for example --phase 0=AP --phase 1=PVP",
        )
    return channels


def _channel_phase(channel: int, name: str, assigned: Mapping[int, Phase]) -> Phase | None:
    named = phases_in_text(name)
    return assigned.get(channel) or (named[0] if len(named) == 1 else None)


def _structures(record: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...], int | None, list[str]]:
    """Return the label values of liver (tumors included) and tumor, of unannotated voxels, and notes."""
    values: dict[str, set[int]] = {"liver": set(), "tumor": set(), "ignore": set()}
    notes = []
    for name, labels in _labels(record).items():
        structure = _structure(name)
        if structure:
            values[structure] |= labels
        elif labels != {0}:
            notes.append(f"The label '{name}' is neither liver nor tumor: it is not imported")
    if not values["liver"] and not values["tumor"] and notes:
        raise InputError(
            f"'{DATASET_FILE}' has no label named liver or tumor", expected='"labels": {"liver": 1, "tumor": 2}'
        )
    liver = values["liver"] | values["tumor"] if values["liver"] else set()
    return tuple(sorted(liver)), tuple(sorted(values["tumor"])), min(values["ignore"], default=None), notes


def _labels(record: dict[str, Any]) -> dict[str, set[int]]:
    """Return the label values by name, of ``{"liver": 1}``, ``{"liver": [1, 2]}`` or ``{"1": "liver"}``."""
    labels: dict[str, set[int]] = {}
    try:
        for key, value in record.get("labels", {}).items():
            name, numbers = (value, key) if str(key).isdigit() else (key, value)
            labels[str(name)] = {int(number) for number in (numbers if isinstance(numbers, list) else [numbers])}
    except (TypeError, ValueError):
        raise InputError(
            f"The labels of '{DATASET_FILE}' are not numbers", expected='{"liver": 1, "tumor": 2}'
        ) from None
    return labels


def _structure(name: str) -> str | None:
    words = set(re.findall(r"[a-z]+", name.casefold()))
    if words & _TUMOR_WORDS and not words - _TUMOR_WORDS - _LIVER_WORDS:
        return "liver" if {"and", "with"} & words else "tumor"
    if "liver" in words and words <= _LIVER_WORDS:
        return "liver"
    return "ignore" if words == {"ignore"} else None


def _case_names(folder: Path, ending: str) -> list[str]:
    pattern = re.compile(r"([^.].*)_\d{4}" + re.escape(ending))
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted({match[1] for file in files if (match := pattern.fullmatch(file.name))})


def _add(studies: dict[str, StudyFiles], failed: dict[str, Diff4MMLiTSError], study: StudyFiles) -> None:
    try:
        check_study_id(study.study_id)
        if study.study_id in studies:
            raise InputError(f"The case '{study.study_id}' is there twice", expected="a name of its own per case")
        studies[study.study_id] = study
    except InputError as error:
        failed[f"{study.study_id} (again)" if study.study_id in studies else study.study_id] = error


def _complete(
    studies: dict[str, StudyFiles], failed: dict[str, Diff4MMLiTSError], notes: list[str], ending: str
) -> Listing:
    if not studies and not failed:
        raise InputError(
            "The dataset has no images",
            expected=f"files such as imagesTr/case_0000{ending}"
            if ending
            else "cases listed under 'training' or 'test'",
        )
    return Listing(tuple(studies.values()), failed, tuple(notes))
