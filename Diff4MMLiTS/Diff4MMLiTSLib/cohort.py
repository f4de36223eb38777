"""One command over many studies: skip what is finished, go on after a failure, list the failures at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .core.errors import CanceledError, Diff4MMLiTSError, InputError
from .core.files import exists_error
from .core.progress import Progress
from .core.study_io import STUDY_FILE, find_studies

log = logging.getLogger(__name__)

StudyWork = Callable[[Path, Path, Progress], None]
"""Makes one output folder from one study folder: (input study, output study, progress)."""


@dataclass(frozen=True)
class CohortResult:
    """What became of each study.

    Args:
        written: Ids of the studies that were made now.
        skipped: Ids of those that had been made before.
        failed: The error by study id.
    """

    written: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, Diff4MMLiTSError]


def process_cohort(source: Path, out: Path, work: StudyWork, *, force: bool, progress: Progress) -> CohortResult:
    """Apply one stage to a study folder or to every study of a cohort.

    Args:
        source: A study folder, or a folder of study folders.
        out: Folder that receives one folder per study, named as the study's folder.
        work: Makes one study; see ``StudyWork``.
        force: Make studies again that are there already.
        progress: Told after every study.

    Raises:
        InputError: ``source`` holds no study, ``out`` is ``source``, or (for a single study) whatever ``work`` raised.
        CanceledError: The user asked to stop; finished studies stay.
    """
    studies = find_studies(source)
    _check_apart(source, studies, out)
    written, skipped, failed = [], [], {}
    for index, folder in enumerate(studies):
        piece = progress.part(index / len(studies), (index + 1) / len(studies))
        piece.update(0.0, folder.name)
        target = out / folder.name
        if target.exists() and not force:
            if len(studies) == 1:
                raise exists_error(target)
            skipped.append(folder.name)
            continue
        try:
            work(folder, target, piece)
            written.append(folder.name)
        except CanceledError:
            raise
        except Diff4MMLiTSError as error:
            if len(studies) == 1:
                raise
            log.warning("%s: %s", folder.name, error)
            failed[folder.name] = error
    progress.update(1.0, "done")
    return CohortResult(tuple(written), tuple(skipped), failed)


def raise_failures(result: CohortResult) -> None:
    """Raise one error that lists every failed study; nothing when there is none.

    Raises:
        Diff4MMLiTSError: Of the class of the first failure, so that the exit code tells its kind.
    """
    if not result.failed:
        return
    lines = "\n".join(f"  {study_id}: {error}" for study_id, error in result.failed.items())
    total = len(result.failed) + len(result.written) + len(result.skipped)
    first = next(iter(result.failed.values()))
    raise type(first)(
        f"{len(result.failed)} of {total} studies failed:\n{lines}\n",
        remedy="The other studies are finished; mend these and run the same command again",
    )


def _check_apart(source: Path, studies: tuple[Path, ...], out: Path) -> None:
    if out.resolve() in {source.resolve(), *(folder.resolve() for folder in studies)}:
        raise InputError(f"The output '{out.name}' is the input", remedy="Choose another output folder")
    if (out / STUDY_FILE).is_file():
        raise InputError(
            f"The output '{out.name}' is a study folder", expected="a folder that receives one folder per study"
        )
