"""Many studies: one failure does not stop the others, finished ones are skipped, a cancel stops at once."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import active_children
from pathlib import Path

import pytest

from Diff4MMLiTSLib.cohort import Workers, jobs_of, local_workers, process_cohort, raise_failures
from Diff4MMLiTSLib.core.errors import CanceledError, InputError, MissingError
from Diff4MMLiTSLib.core.progress import Progress, silent
from Diff4MMLiTSLib.core.study_io import write_study


@pytest.fixture
def a_cohort(a_study, tmp_path):
    for name in ("a", "b", "c"):
        write_study(a_study, tmp_path / "in" / name)
    return tmp_path / "in"


def copy(job, _progress):
    job.target.mkdir(parents=True)
    (job.target / "made").write_text(job.source.name)


def test_every_study_gets_a_folder_of_its_name(a_cohort, tmp_path):
    result = process_cohort(jobs_of(a_cohort, tmp_path / "out"), copy, force=False, progress=silent())
    assert result.written == ("a", "b", "c")
    assert (tmp_path / "out" / "b" / "made").read_text() == "b"


def test_a_failure_does_not_stop_the_others_and_is_listed_at_the_end(a_cohort, tmp_path):
    def work(job, progress):
        if job.source.name == "b":
            raise MissingError("No liver")
        copy(job, progress)

    result = process_cohort(jobs_of(a_cohort, tmp_path / "out"), work, force=False, progress=silent())
    assert result.written == ("a", "c")
    with pytest.raises(MissingError, match=r"1 of 3 studies failed:\n  b: No liver"):
        raise_failures(result)


def test_a_second_run_skips_what_is_finished(a_cohort, tmp_path):
    process_cohort(jobs_of(a_cohort / "a", tmp_path / "out"), copy, force=False, progress=silent())
    result = process_cohort(jobs_of(a_cohort, tmp_path / "out"), copy, force=False, progress=silent())
    assert (result.skipped, result.written) == (("a",), ("b", "c"))
    raise_failures(result)


def test_the_error_of_a_single_study_is_raised_as_it_is(a_cohort, tmp_path):
    with pytest.raises(InputError, match="No liver"):
        process_cohort(jobs_of(a_cohort / "b", tmp_path / "out"), fail_for_b, force=False, progress=silent())


def test_the_input_is_never_the_output(a_cohort):
    with pytest.raises(InputError, match="is the input"):
        jobs_of(a_cohort, a_cohort)


def test_a_study_is_never_replaced_by_its_own_output(a_cohort):
    with pytest.raises(InputError, match="is the input"):
        jobs_of(a_cohort / "a", a_cohort)


@pytest.mark.parametrize(("inside", "source"), [("", "."), ("deeper", "..")])
def test_a_study_named_by_a_dot_gets_a_folder_of_its_name(a_cohort, tmp_path, monkeypatch, inside, source):
    (a_cohort / "a" / inside).mkdir(exist_ok=True)
    monkeypatch.chdir(a_cohort / "a" / inside)
    (job,) = jobs_of(Path(source), tmp_path / "out")
    assert job.target == tmp_path / "out" / "a"


def test_a_cancel_stops_at_the_next_study(a_cohort, tmp_path):
    done = []

    def work(job, progress):
        done.append(job.source.name)

    progress = Progress(lambda *_: None, lambda: len(done) == 1)
    with pytest.raises(CanceledError):
        process_cohort(jobs_of(a_cohort, tmp_path / "out"), work, force=False, progress=progress)
    assert done == ["a"]


def report(job, progress):
    copy(job, progress)
    (job.target / "made").write_text(str(os.getpid()))


def fail_for_b(job, progress):
    if job.source.name == "b":
        raise InputError("No liver", expected="a liver", remedy="Draw one")
    report(job, progress)


def wait_for_cancel(job, progress):
    for _ in range(2400):
        time.sleep(0.05)
        progress.check()
    copy(job, progress)


def test_a_local_cluster_of_processes_does_the_same(a_cohort, tmp_path):
    result = process_cohort(
        jobs_of(a_cohort, tmp_path / "out"), fail_for_b, force=False, progress=silent(), workers=Workers(count=2)
    )
    assert result.written == ("a", "c")
    assert (result.failed["b"].found, result.failed["b"].remedy) == ("No liver", "Draw one")
    assert os.getpid() not in {int((tmp_path / "out" / name / "made").read_text()) for name in ("a", "c")}


def test_cohorts_can_share_processes_that_end_with_the_block(a_cohort, tmp_path):
    used = []
    with local_workers(2, tmp_path) as workers:
        for name in ("first", "second"):
            jobs = jobs_of(a_cohort, tmp_path / name)
            process_cohort(jobs, report, force=False, progress=silent(), workers=workers)
            used.append({int(job.target.joinpath("made").read_text()) for job in jobs})
    assert os.getpid() not in used[0]
    assert len(used[0] | used[1]) == 2
    assert active_children() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "in", "second"]


def test_a_cancel_reaches_the_workers_and_leaves_nothing(a_cohort, tmp_path):
    began = time.monotonic()
    progress = Progress(lambda *_: None, lambda: time.monotonic() - began > 3)
    with pytest.raises(CanceledError):
        process_cohort(
            jobs_of(a_cohort, tmp_path / "out"),
            wait_for_cancel,
            force=False,
            progress=progress,
            workers=Workers(count=2),
        )
    assert time.monotonic() - began < 60  # by itself the work takes two minutes
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    assert active_children() == []


def die_for_b(job, progress):
    if job.source.name == "b":
        os.kill(os.getpid(), signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    copy(job, progress)


def test_a_worker_that_dies_takes_only_its_own_study_with_it(a_cohort, tmp_path):
    dask = pytest.importorskip("dask")
    (tmp_path / "out").mkdir()
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        result = process_cohort(
            jobs_of(a_cohort, tmp_path / "out"), die_for_b, force=False, progress=silent(), workers=Workers(count=2)
        )
    assert result.failed["b"].exit_code == 4
    assert set(result.written) | set(result.failed) == {"a", "b", "c"}
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []
