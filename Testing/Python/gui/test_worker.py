"""The warm worker: requests in order, errors that belong to one of them, death and a new start."""

from __future__ import annotations

from pathlib import Path

import pytest

from Diff4MMLiTSLib.gui.job import JobCanceled, JobFailed, JobState, Worker
from gui.fake_engine import PYTHON, install, is_running, pids_in, until

SERVE = """
import pathlib
open(rest[0], 'a').write(f"{os.getpid()}\\n")
say(event='progress', stage='load', fraction=0.5, message='loading')
say(event='ready')
for line in sys.stdin:
    asked = json.loads(line)
    number = asked['request']
    say(event='progress', stage='refine', fraction=0.5, message=str(number))
    if asked.get('die'):
        print('the last words', file=sys.stderr, flush=True)
        sys.exit(4)
    if asked.get('refuse'):
        say(event='error', request=number, code='bad_input', message='No such tumor', hint='Click on it')
    elif not asked.get('hang'):
        say(event='result', request=number, path=asked['out'])
"""


@pytest.fixture
def pids(tmp_path):
    return tmp_path / "pids"


@pytest.fixture
def worker(tmp_path, pids):
    made = Worker([SERVE, str(pids)], python=PYTHON, environment=install(tmp_path / "engine ü"))
    yield made
    made.close()
    until(lambda: not any(map(is_running, pids_in(pids) if pids.exists() else [])))


def test_requests_are_answered_by_one_warm_process(worker, pids):
    assert worker.state is JobState.IDLE
    replies = [worker.request({"out": f"ü{index}"}, on_result=str) for index in range(3)]
    assert [reply.wait(30) for reply in replies] == ["ü0", "ü1", "ü2"]
    assert replies[2].progress.message == "3"
    assert worker.state is JobState.RUNNING
    assert len(pids_in(pids)) == 1


def test_it_can_be_warmed_up_ahead(worker):
    worker.start()
    until(lambda: worker.poll() is JobState.RUNNING)


def test_an_error_belongs_to_its_request_and_the_next_one_is_answered(worker):
    refused, good = worker.request({"refuse": True, "out": "a"}), worker.request({"out": "b"})
    with pytest.raises(JobFailed, match="No such tumor Click on it"):
        refused.wait(30)
    assert good.wait(30) == Path("b")


def test_a_death_fails_what_is_open_and_the_next_request_starts_it_again(worker, pids):
    dying, waiting = worker.request({"die": True, "out": "a"}), worker.request({"out": "b"})
    for reply in (dying, waiting):
        with pytest.raises(JobFailed) as caught:
            reply.wait(30)
        assert caught.value.error.code == "out_of_memory"
    assert worker.state is JobState.FAILED
    assert "the last words" in worker.log
    assert worker.request({"out": "c"}).wait(30) == Path("c")
    assert len(pids_in(pids)) == 2


def test_a_canceled_request_is_dropped_and_the_worker_stays_warm(worker, pids):
    dropped = worker.request({"hang": True, "out": "a"})
    dropped.cancel()
    with pytest.raises(JobCanceled):
        dropped.wait(30)
    assert worker.request({"out": "b"}).wait(30) == Path("b")
    assert len(pids_in(pids)) == 1


def test_closing_cancels_what_is_open_and_leaves_no_process(worker, pids):
    reply = worker.request({"hang": True, "out": "a"})
    until(lambda: reply.poll() is JobState.RUNNING)
    worker.close()
    assert reply.state is JobState.CANCELED
    assert worker.state is JobState.IDLE
    until(lambda: not is_running(*pids_in(pids)))


def test_an_interpreter_that_is_not_there_fails_the_request(tmp_path):
    worker = Worker(["x"], python="/no/such/python", environment={})
    with pytest.raises(JobFailed, match="Setup"):
        worker.request({}).wait(5)
    assert worker.error.code == "missing"
