"""One command over many studies: skip what is finished, go on after a failure, list the failures at the end.

Studies are made one after another in this process, or by Dask: on several processes of this machine, or on a cluster whose
machines see the same folders.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .core.errors import CanceledError, Diff4MMLiTSError, InputError, MissingError, explain
from .core.files import exists_error
from .core.progress import Progress, silent
from .core.study_io import STUDY_FILE, find_studies

log = logging.getLogger(__name__)

StudyWork = Callable[[Path, Path, Progress], None]
"""Makes one output folder from one study folder: (input study, output study, progress).

For several processes it must be picklable: a function of a module, or a ``functools.partial`` of one.
"""

POLL_S = 0.2
"""How often a cancel is looked for while studies are made elsewhere."""
CANCEL_TIMEOUT_S = 30.0
"""How long workers may take to stop by themselves."""


@dataclass(frozen=True)
class Workers:
    """Where studies are made.

    Args:
        count: Processes on this machine; 1 makes studies in this process.
        scheduler: Address of a Dask scheduler, for example ``tcp://head:8786``; wins over ``count``.
    """

    count: int = 1
    scheduler: str = ""


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


def process_cohort(
    source: Path, out: Path, work: StudyWork, *, force: bool, progress: Progress, workers: Workers | None = None
) -> CohortResult:
    """Apply one stage to a study folder or to every study of a cohort.

    Args:
        source: A study folder, or a folder of study folders.
        out: Folder that receives one folder per study, named as the study's folder.
        work: Makes one study; see ``StudyWork``.
        force: Make studies again that are there already.
        progress: Told within and after every study.
        workers: Where studies are made; this process when absent.

    Raises:
        InputError: ``source`` holds no study, ``out`` is ``source``, or (for a single study) whatever ``work`` raised.
        MissingError: Several processes are asked for and Dask is not installed.
        CanceledError: The user asked to stop; finished studies stay.
    """
    studies = find_studies(source)
    _check_apart(source, studies, out)
    done = {folder.name for folder in studies if not force and (out / folder.name).exists()}
    if len(studies) == 1 and done:
        raise exists_error(out / studies[0].name)
    todo = [(folder, out / folder.name) for folder in studies if folder.name not in done]
    workers = workers or Workers()
    if len(todo) > 1 and (workers.count > 1 or workers.scheduler):
        outcomes = _in_processes(todo, work, workers, progress)
    else:
        outcomes = _in_this_process(todo, work, progress)
    written, failed = [], {}
    for name, error in outcomes:
        if error is None:
            written.append(name)
        elif len(studies) == 1:
            raise error
        else:
            log.warning("%s: %s", name, error)
            failed[name] = error
    progress.update(1.0, "done")
    return CohortResult(tuple(sorted(written)), tuple(sorted(done)), failed)


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


Outcome = tuple[str, Diff4MMLiTSError | None]
Pieces = Iterable[tuple[Path, Path]]


def _in_this_process(todo: list[tuple[Path, Path]], work: StudyWork, progress: Progress) -> Iterator[Outcome]:
    for index, (folder, target) in enumerate(todo):
        piece = progress.part(index / len(todo), (index + 1) / len(todo))
        piece.update(0.0, folder.name)
        yield folder.name, _attempt(work, folder, target, piece)


def _in_processes(
    todo: list[tuple[Path, Path]], work: StudyWork, workers: Workers, progress: Progress
) -> Iterator[Outcome]:
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError:
        raise MissingError(
            "The Python package 'dask' is not installed",
            expected="dask with its distributed scheduler, for several processes or a cluster",
            remedy='Install it ("pip install dask[distributed]"), or leave out --workers and --scheduler',
        ) from None
    with tempfile.TemporaryDirectory(prefix=".workers-", dir=_made(todo[0][1].parent.parent)) as folder:
        stop = Path(folder) / "stop"
        cluster = workers.scheduler or LocalCluster(
            n_workers=workers.count, threads_per_worker=1, dashboard_address=None, local_directory=folder
        )
        with Client(cluster) as client:
            jobs = {
                client.submit(_attempt_elsewhere, work, source, target, stop, pure=False): source.name
                for source, target in todo
            }
            yield from _collect(jobs, stop, progress)
        if not workers.scheduler:
            cluster.close()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _collect(jobs: dict, stop: Path, progress: Progress) -> Iterator[Outcome]:  # type: ignore[type-arg]  # Dask futures
    waiting, total = dict(jobs), len(jobs)
    while waiting:
        try:
            progress.update(1 - len(waiting) / total, f"{total - len(waiting)} of {total} studies")
        except CanceledError:
            stop.touch()
            deadline = time.monotonic() + CANCEL_TIMEOUT_S
            while time.monotonic() < deadline and not all(job.done() for job in waiting):
                time.sleep(POLL_S)
            raise
        for job in [job for job in waiting if job.done()]:
            yield waiting.pop(job), job.result()
        time.sleep(POLL_S)


def _attempt_elsewhere(work: StudyWork, source: Path, target: Path, stop: Path) -> Diff4MMLiTSError | None:
    quiet = silent()
    return _attempt(work, source, target, Progress(quiet.report, stop.exists))


def _attempt(work: StudyWork, source: Path, target: Path, progress: Progress) -> Diff4MMLiTSError | None:
    try:
        work(source, target, progress)
    except CanceledError:
        raise
    except Exception as error:  # one study must not stop a night's work; a bug is listed like any failure
        log.info("%s", source.name, exc_info=True)
        return explain(error)
    return None


def _check_apart(source: Path, studies: tuple[Path, ...], out: Path) -> None:
    if out.resolve() in {source.resolve(), *(folder.resolve() for folder in studies)}:
        raise InputError(f"The output '{out.name}' is the input", remedy="Choose another output folder")
    if (out / STUDY_FILE).is_file():
        raise InputError(
            f"The output '{out.name}' is a study folder", expected="a folder that receives one folder per study"
        )
