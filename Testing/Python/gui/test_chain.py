"""Jobs one after another are one job: what fails or is canceled ends the rest."""

from __future__ import annotations

import pytest

from Diff4MMLiTSLib.gui.chain import Chain
from Diff4MMLiTSLib.gui.job import Job, JobCanceled, JobFailed, JobState
from gui.fake_engine import PYTHON, install, until


@pytest.fixture
def step(tmp_path):
    environment = install(tmp_path / "engine")

    def make(code):
        def start(path):
            job = Job([f"rest = [{str(path)!r}]; {code}"], python=PYTHON, environment=environment)
            job.start()
            return job

        return start

    return make


APPEND = "say(event='progress', fraction=0.5); say(event='result', path=rest[0] + '{}')"


def test_each_step_works_on_what_the_one_before_left(step, tmp_path):
    chain = Chain(
        tmp_path / "a", [step(APPEND.format("b")), step(APPEND.format("c"))], on_result=lambda path: path.name
    )
    chain.start()
    seen = []
    chain.while_waiting = lambda: seen.append(chain.progress.fraction)
    assert chain.wait(60) == "abc"
    assert seen == sorted(seen)


def test_a_failure_ends_the_rest_with_its_own_words(step, tmp_path):
    started, ended = [], []
    failing = step("say(event='error', code='bad_input', message='No room', hint='Smaller'); sys.exit(2)")
    chain = Chain(tmp_path, [failing, started.append], on_end=lambda: ended.append(True))
    chain.start()
    with pytest.raises(JobFailed, match="No room"):
        chain.wait(60)
    assert (started, ended) == ([], [True])


def test_canceling_ends_the_running_step_and_starts_no_other(step, tmp_path):
    started = []
    chain = Chain(tmp_path, [step("say(event='progress', fraction=0.1); time.sleep(60)"), started.append])
    chain.start()
    until(lambda: chain.poll() is JobState.RUNNING)
    chain.cancel()
    with pytest.raises(JobCanceled):
        chain.wait(60)
    assert started == []
