"""One command over many studies: skip what is finished, go on after a failure, list the failures at the end.

Studies are made one after another in this process, or by Dask: on several processes of this machine, or on a cluster
whose machines see the same folders.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from .core.errors import CanceledError, Diff4MMLiTSError, InputError, MissingError, OutOfMemoryError, explain
from .core.files import explained
from .core.progress import Progress, silent
from .core.study_io import STUDY_FILE, find_studies
from .phantom.generator import Variant, make_phantom, phantom_id, write_phantom
from .phantom.scanner import Preset

log = logging.getLogger(__name__)

StudyWork = Callable[["Job", Progress], None]
"""Makes one output folder from one study folder.

For several processes it must be picklable: a function of a module, or a ``functools.partial`` of one.
"""

POLL_S = 0.2
"""How often a cancel is looked for while studies are made elsewhere."""
WORKER_MEMORY = {"MALLOC_TRIM_THRESHOLD_": 2**28, "MALLOC_MMAP_THRESHOLD_": 2**25}
"""Settings of the C library: the bytes that a worker keeps for its next array. With Dask's 64 kB it asks the system for
each anew, and registering a phantom takes 1.7 times the processor time."""
CANCEL_TIMEOUT_S = 30.0
"""How long workers may take to stop by themselves."""


@dataclass(frozen=True)
class Job:
    """One output folder to make.

    Args:
        source: The study folder to read.
        target: The folder to make.
        number: Which of several outputs of the same study this is, from 1; of a phantom, its seed.
    """

    source: Path
    target: Path
    number: int = 1


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
        written: Names of the folders that were made now.
        skipped: Names of those that had been made before.
        failed: The error by name.
    """

    written: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, Diff4MMLiTSError]


def jobs_of(source: Path, out: Path) -> tuple[Job, ...]:
    """Return one job per study: its output has the name of its folder.

    Args:
        source: A study folder, or a folder of study folders.
        out: The folder that receives the outputs.

    Raises:
        InputError: ``source`` holds no study, or ``out`` is one of its folders.
    """
    studies = find_studies(source)
    check_apart(source, studies, out)
    jobs = tuple(Job(folder, out / folder.name) for folder in studies)
    if any(job.target.resolve() == job.source.resolve() for job in jobs):  # --force would replace the input
        raise _is_input(out)
    return jobs


def process_cohort(
    jobs: Sequence[Job], work: StudyWork, *, force: bool, progress: Progress, workers: Workers | None = None
) -> CohortResult:
    """Do every job whose output is not there yet.

    Args:
        jobs: What to make.
        work: Makes one output; see ``StudyWork``.
        force: Make again what is there already.
        progress: Told within and after every study.
        workers: Where studies are made; this process when absent.

    Raises:
        Diff4MMLiTSError: For a single job, whatever ``work`` raised.
        MissingError: Several processes are asked for and Dask is not installed.
        CanceledError: The user asked to stop; finished studies stay.
    """
    done = {job.target.name for job in jobs if not force and job.target.exists()}
    todo = [job for job in jobs if job.target.name not in done]
    workers = workers or Workers()
    if len(todo) > 1 and (workers.count > 1 or workers.scheduler):
        outcomes = _in_processes(todo, work, workers, progress)
    else:
        outcomes = _in_this_process(todo, work, progress)
    written, failed = [], {}
    for name, error in outcomes:
        if error is None:
            written.append(name)
        elif len(jobs) == 1:
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


def make_phantoms(
    out: Path,
    seeds: Sequence[int],
    *,
    preset: Preset,
    variant: Variant,
    healthy: bool = False,
    force: bool = False,
    workers: Workers | None = None,
    progress: Progress,
) -> tuple[Path, ...]:
    """Make a cohort of phantoms, one per seed; those that are there already stay.

    Returns:
        Their folders, in the order of the seeds.

    Raises:
        InputError: The folder cannot be written.
        MissingError: Several processes are asked for and Dask is not installed.
        CanceledError: The user asked to stop; finished phantoms stay.
    """
    folders = [out / phantom_id(seed, preset=preset, variant=variant, healthy=healthy) for seed in seeds]
    jobs = [Job(folder, folder, seed) for folder, seed in zip(folders, seeds, strict=True)]
    work = partial(_make_phantom, preset=preset, variant=variant, healthy=healthy, force=force)
    raise_failures(process_cohort(jobs, work, force=force, workers=workers, progress=progress))
    return tuple(folders)


def _make_phantom(
    job: Job, progress: Progress, *, preset: Preset, variant: Variant, healthy: bool, force: bool
) -> None:
    phantom = make_phantom(job.number, preset=preset, variant=variant, healthy=healthy, progress=progress)
    write_phantom(phantom, job.target, force=force)


Outcome = tuple[str, Diff4MMLiTSError | None]


def _in_this_process(todo: list[Job], work: StudyWork, progress: Progress) -> Iterator[Outcome]:
    for index, job in enumerate(todo):
        piece = progress.part(index / len(todo), (index + 1) / len(todo))
        piece.update(0.0, job.source.name)
        yield job.target.name, _attempt(work, job, piece)


@contextmanager
def local_workers(count: int, place: Path) -> Iterator[Workers]:
    """Start processes on this machine that several cohorts can share; they end with the block.

    Args:
        count: Processes; with 1 nothing is started.
        place: Folder for the workers' own files while they run.

    Raises:
        MissingError: Several processes are asked for and Dask is not installed.
    """
    if count == 1:
        yield Workers()
        return
    dask, distributed = _dask()
    with (
        _shared_folder(place) as folder,
        dask.config.set(
            {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in WORKER_MEMORY.items()}
        ),
        distributed.LocalCluster(
            n_workers=count, threads_per_worker=1, dashboard_address=None, local_directory=str(folder)
        ) as cluster,
    ):
        yield Workers(scheduler=cluster.scheduler_address)


def _in_processes(todo: list[Job], work: StudyWork, workers: Workers, progress: Progress) -> Iterator[Outcome]:
    _, distributed = _dask()
    place = todo[0].target.parent
    with ExitStack() as stack:
        if not workers.scheduler:
            workers = stack.enter_context(local_workers(workers.count, place))
        stop = stack.enter_context(_shared_folder(place)) / "stop"
        client = stack.enter_context(distributed.Client(workers.scheduler))
        submitted = {
            client.submit(_attempt_elsewhere, work, _absolute(job), stop, is_new=not job.target.exists(), pure=False): (
                job.target.name
            )
            for job in todo
        }
        yield from _collect(submitted, stop, progress)


def _dask() -> tuple[Any, Any]:
    """Return the packages ``dask`` and ``distributed``."""
    try:
        import dask
        import distributed
    except ModuleNotFoundError:
        raise MissingError(
            "The Python package 'dask' is not installed",
            expected="dask with its distributed scheduler, for several processes or a cluster",
            remedy='Install it ("pip install dask[distributed]"), or leave out --workers and --scheduler',
        ) from None
    logging.getLogger("distributed").setLevel(logging.ERROR)  # below that it tells of every connection
    return dask, distributed


@contextmanager
def _shared_folder(out: Path) -> Iterator[Path]:
    """Make a folder that all workers see: in the output where that is there, else beside it."""
    place = (out if out.is_dir() else out.parent).absolute()
    with explained(place):
        place.mkdir(parents=True, exist_ok=True)
        holder = tempfile.TemporaryDirectory(prefix=".workers-", dir=place, ignore_cleanup_errors=True)
    with holder as name:
        yield Path(name)


def _absolute(job: Job) -> Job:
    """Return a job that means the same wherever a worker was started."""
    return replace(job, source=job.source.absolute(), target=job.target.absolute())


def _collect(submitted: dict, stop: Path, progress: Progress) -> Iterator[Outcome]:  # type: ignore[type-arg]  # Dask
    waiting, total = dict(submitted), len(submitted)
    while waiting:
        try:
            progress.update(1 - len(waiting) / total, f"{total - len(waiting)} of {total} studies")
        except CanceledError:
            stop.touch()
            deadline = time.monotonic() + CANCEL_TIMEOUT_S
            while time.monotonic() < deadline and not all(future.done() for future in waiting):
                time.sleep(POLL_S)
            raise
        for future in [future for future in waiting if future.done()]:
            yield waiting.pop(future), _outcome(future)
        time.sleep(POLL_S)


def _outcome(future: Any) -> Diff4MMLiTSError | None:  # noqa: ANN401 (Dask is untyped)
    """Return what became of a study; a worker that died takes only its own study with it."""
    error = future.exception()
    if isinstance(error, CanceledError):
        raise error
    if type(error).__name__ == "KilledWorker":
        return OutOfMemoryError(
            "The process that worked on it ended each time it was tried, most likely because memory ran out",
            remedy="Use fewer --workers, or do this study alone to see what happens",
        )
    return explain(error) if error else future.result()


def _attempt_elsewhere(work: StudyWork, job: Job, stop: Path, *, is_new: bool) -> Diff4MMLiTSError | None:
    if is_new and job.target.exists():  # made by a worker that died before it could say so
        return None
    quiet = silent()
    return _attempt(work, job, Progress(quiet.report, stop.exists))


def _attempt(work: StudyWork, job: Job, progress: Progress) -> Diff4MMLiTSError | None:
    try:
        work(job, progress)
    except CanceledError:
        raise
    except Exception as error:  # one study must not stop a night's work; a bug is listed like any failure
        log.info("%s", job.source.name, exc_info=True)
        return explain(error)
    return None


def check_apart(source: Path, studies: Sequence[Path], out: Path) -> None:
    """Refuse an output folder that is the input or one of its studies.

    Raises:
        InputError: The folders are the same, or ``out`` is a study.
    """
    if out.resolve() in {source.resolve(), *(folder.resolve() for folder in studies)}:
        raise _is_input(out)
    if (out / STUDY_FILE).is_file():
        raise InputError(
            f"The output '{out.name}' is a study folder", expected="a folder that receives one folder per study"
        )


def _is_input(out: Path) -> InputError:
    return InputError(f"The output '{out.name}' is the input", remedy="Choose another output folder")
