"""The synthetic pairs of a cohort: what each one is by its content, what it was made from, and their export."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ..core.errors import InputError
from ..core.files import new_folder
from ..core.progress import Progress
from ..core.study import Verdict
from ..core.study_io import FORMAT, QA_FILE, STUDY_FILE, file_hash, find_studies, phase_files
from ..core.study_records import Json, qa_of, read_record
from .texts import _

HASH_FILE = ".review-hashes.json"
"""Remembers the hashes of files that did not change since, so that a cohort is opened at once the next time."""
NOTE_FILE = "README.txt"
NOT_ANONYMOUS = _(
    "Synthetic is not anonymous. Outside the tumors and a band of at most 12 mm around them, a pair that was made from "
    "a patient's CT is that patient's CT, voxel by voxel. Store, share and delete it as you would the CT itself."
)
ACCEPTED = _("These studies are synthetic: their tumors were made by a generative model, and reviewers accepted them.")
NOTE = f"{ACCEPTED}\n\n{NOT_ANONYMOUS}\n"


@dataclass(frozen=True)
class OwnCheck:
    """What the engine measured of a pair.

    Args:
        verdict: The worse of those of the inpainting and of the synthesis: pass, review, reject; empty when untold.
        reasons: Why, of both.
        tumor_ml: Volume of its tumors, None when untold.
        contrast_hu: Of the tumors against the parenchyma around them, by phase.
    """

    verdict: str = ""
    reasons: tuple[str, ...] = ()
    tumor_ml: float | None = None
    contrast_hu: Mapping[str, float] = field(default_factory=dict)

    def words(self) -> str:
        """Return volume and contrasts for people; empty when untold."""
        parts = [] if self.tumor_ml is None else [_("{volume:.1f} ml").format(volume=self.tumor_ml)]
        contrasts = ", ".join(f"{phase} {value:+.0f}" for phase, value in self.contrast_hu.items())
        return "; ".join([*parts, *([_("contrast in HU: {list}").format(list=contrasts)] if contrasts else [])])


def own_check(folder: Path) -> OwnCheck:
    """Return what the engine measured of a pair."""
    checks = qa_of(folder / QA_FILE)
    stages = [checks[stage] for stage in ("inpaint", "synthesize") if stage in checks]
    if not stages:
        return OwnCheck()
    made = checks.get("synthesize")
    return OwnCheck(
        verdict=str(max((stage.verdict for stage in stages), key=list(Verdict).index)),
        reasons=tuple(reason for stage in stages for reason in stage.reasons),
        tumor_ml=made.measures.get("tumor_ml") if made else None,
        contrast_hu={
            str(phase): found.measures["contrast_hu"]
            for phase, found in (made.phases if made else {}).items()
            if "contrast_hu" in found.measures
        },
    )


@dataclass(frozen=True)
class Pair:
    """A synthetic study folder.

    Args:
        folder: Where it lies now.
        study_id: Its name.
        key: Hash of the content of its images, whatever the folder is called.
        source_id: The study that it was made from; empty when its history does not say.
        check: What the engine measured of it.
    """

    folder: Path
    study_id: str
    key: str
    source_id: str = ""
    check: OwnCheck = OwnCheck()


def pairs_in(cohort: Path, progress: Progress) -> tuple[Pair, ...]:
    """Return the synthetic studies of a cohort, sorted by name; others are left out.

    Args:
        cohort: Folder of study folders.
        progress: Told before every pair; images are read once, which takes seconds for large ones.

    Raises:
        InputError: There is no synthetic study, or one cannot be read.
        CanceledError: The user asked to stop.
    """
    folders = [folder for folder in find_studies(cohort) if _record(folder).get("synthetic")]
    if not folders:
        raise InputError(
            _("The folder '{cohort}' holds no synthetic study").format(cohort=cohort.name),
            expected=_("a folder of synthetic pairs"),
            remedy=_("Make some in the Synthesize tab"),
        )
    hashes = _Hashes(cohort)
    pairs = []
    for index, folder in enumerate(folders):
        progress.update(index / len(folders), f"reading {folder.name}")
        pairs.append(_pair(folder, hashes))
    hashes.save()
    return tuple(pairs)


def find_source(pair: Pair, places: Sequence[Path] = ()) -> Path | None:
    """Return the study folder that a pair was made from, by the content of its images; None when it is not found.

    Args:
        pair: The pair.
        places: Cohorts to look in before the folders beside the pair's cohort.
    """
    made = _synthesis_of(_record(pair.folder))
    expected = made.get("inputs", {}) if isinstance(made.get("inputs"), dict) else {}
    beside = pair.folder.parent.parent
    around = [*places, *_folders_in(beside), beside] if pair.source_id else []
    for folder in (place / pair.source_id for place in around):
        with suppress(InputError, OSError):
            if (folder / STUDY_FILE).is_file() and _is_content(phase_files(folder).values(), expected):
                return folder
    return None


def export_pairs(pairs: Sequence[Pair], out: Path, progress: Progress) -> Path:
    """Make a new cohort of pairs, for training; files are linked where the disk allows it, and copied elsewhere.

    Args:
        pairs: The accepted ones.
        out: The new folder; nothing is ever overwritten.
        progress: Told before every pair.

    Returns:
        The folder.

    Raises:
        InputError: There is no pair, two have the same name, or the folder exists or cannot be written.
        CanceledError: The user asked to stop; nothing stays behind.
    """
    if not pairs:
        raise InputError(
            _("No pair is accepted"), expected=_("at least one"), remedy=_("Accept pairs, then export them")
        )
    names = [pair.folder.name for pair in pairs]
    if len(set(names)) < len(names):
        raise InputError(_("Two pairs have the same name"), expected=_("a folder name of its own for each pair"))
    with new_folder(out) as partial:
        for index, pair in enumerate(pairs):
            progress.update(index / len(pairs), f"copying {pair.folder.name}")
            shutil.copytree(pair.folder, partial / pair.folder.name, copy_function=_link_or_copy)
        (partial / NOTE_FILE).write_text(NOTE, encoding="utf-8")
    return out


def _pair(folder: Path, hashes: _Hashes) -> Pair:
    record = _record(folder)
    made = _synthesis_of(record)
    config = made.get("config")
    source_id = str(config.get("source_study", "")) if isinstance(config, dict) else ""
    return Pair(
        folder=folder,
        study_id=str(record.get("study_id", folder.name)),
        key=_key(folder, record, hashes),
        source_id="" if any(mark in source_id for mark in "/\\") or source_id.startswith(".") else source_id,
        check=own_check(folder),
    )


def _key(folder: Path, record: Json, hashes: _Hashes) -> str:
    """Return the hash of the images that a study names: phases and tumor mask, each with its role."""
    files = {str(phase): path for phase, path in phase_files(folder).items()}
    tumor = record.get("tumor")
    if isinstance(tumor, dict):
        files["tumor"] = folder / str(tumor.get("file"))
    digest = hashlib.sha256()
    for name in sorted(files):
        try:
            digest.update(f"{name}:{hashes.of(files[name])}\n".encode())
        except OSError as error:
            raise InputError(
                _("'{folder}/{file}' cannot be read: {why}").format(
                    folder=folder.name, file=files[name].name, why=error.strerror
                ),
                expected=_("a complete pair"),
            ) from None
    return digest.hexdigest()


class _Hashes:
    """Hashes of files, remembered in the cohort as long as size and time of change stay; a mere convenience."""

    def __init__(self, cohort: Path) -> None:
        self._cohort = cohort
        self._file = cohort / HASH_FILE
        self._known: dict[str, list[object]] = {}
        self._is_changed = False
        with suppress(OSError, ValueError):
            known = json.loads(self._file.read_text(encoding="utf-8"))
            self._known = known if isinstance(known, dict) else {}

    def of(self, path: Path) -> str:
        """Return the SHA-256 of a file."""
        name, state = os.path.relpath(path, self._cohort), path.stat()
        stamp: list[object] = [state.st_size, state.st_mtime_ns]
        known = self._known.get(name)
        if not isinstance(known, list) or known[:2] != stamp or len(known) != 3:
            known = [*stamp, file_hash(path)]
            self._known[name], self._is_changed = known, True
        return str(known[2])

    def save(self) -> None:
        """Keep what was learned; a folder that cannot be written is read again the next time."""
        if self._is_changed:
            with suppress(OSError):
                self._file.write_text(json.dumps(self._known), encoding="utf-8")


def _record(folder: Path) -> Json:
    return read_record(folder / STUDY_FILE, newest=FORMAT)


def _synthesis_of(record: Json) -> Json:
    """Return the last step of a study's history that made tumors; empty when there is none."""
    history = record.get("history", [])
    steps = [step for step in history if isinstance(step, dict) and step.get("stage") == "synthesize"]
    return steps[-1] if steps else {}


def _folders_in(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return []


def _is_content(files: Iterable[Path], expected: Mapping[str, object]) -> bool:
    """Return whether files have the hashes that a history names; the first one tells the others."""
    named = [path for path in sorted(files) if path.name in expected]
    if not named:
        return False
    state = named[0].stat()
    return _known_hash(named[0], state.st_size, state.st_mtime_ns) == expected[named[0].name]


@lru_cache(maxsize=256)
def _known_hash(path: Path, _size: int, _changed_ns: int) -> str:
    """Return the SHA-256 of a file, read again only when it changed: every pair of a source asks for it."""
    return file_hash(path)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)
