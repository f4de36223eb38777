"""The job runner against a child that floods, forks, ignores signals, crashes, and prints nonsense."""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path

import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.gui import process
from Diff4MMLiTSLib.gui.job import Job, JobCanceled, JobFailed, JobState
from gui.fake_engine import PYTHON, install, is_running, pids_in, until

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eine Engine mit Ü und 肝臓 ") / ("long " * 30)
    return install(folder)


@pytest.fixture
def run(environment):
    jobs = []

    def start(scenario, *rest, **options):
        job = Job([scenario, *map(str, rest)], python=PYTHON, environment=environment, **options)
        jobs.append(job)
        job.start()
        return job

    yield start
    for job in jobs:
        job.cancel()


def failure(job):
    with pytest.raises(JobFailed) as caught:
        job.wait(30)
    return caught.value.error


def test_a_job_goes_through_its_states_and_returns_what_on_result_made(run):
    job = run(
        "say(event='progress', stage='register', fraction=0.5, message='AP -> PVP', seconds_left=3); time.sleep(0.2);"
        "say(event='result', path='out ü')",
        on_result=lambda path: ("loaded", path),
    )
    states = [job.state]
    while not states[-1].is_final:
        states.append(job.poll())
        time.sleep(0.01)
    assert list(dict.fromkeys(states)) == [JobState.STARTING, JobState.RUNNING, JobState.LOADING, JobState.DONE]
    assert job.result == ("loaded", Path("out ü"))
    assert (job.progress.stage, job.progress.fraction, job.progress.seconds_left) == ("register", 0.5, 3.0)


def test_the_result_is_the_path_when_nothing_loads_it(run):
    assert run("say(event='result', path='out')").wait(30) == Path("out")


@pytest.mark.parametrize(
    ("ending", "code", "remedy"),
    [
        ("sys.exit(1)", "unexpected", "log"),
        ("sys.exit(2)", "bad_input", "log"),
        ("sys.exit(3)", "missing", "Setup"),
        ("sys.exit(4)", "out_of_memory", "memory|programs"),
        ("sys.exit(5)", "canceled", "again"),
        ("sys.exit(77)", "unexpected", "log"),
        ("sys.exit(127)", "missing", "Setup"),
        ("sys.exit(137)", "out_of_memory", "programs"),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", "out_of_memory", "programs", marks=POSIX),
        pytest.param("os.kill(os.getpid(), signal.SIGSEGV)", "crashed", "PyTorch", marks=POSIX),
        pytest.param("os.kill(os.getpid(), signal.SIGTERM)", "canceled", "again", marks=POSIX),
        ("pass", "no_result", "log"),
    ],
)
def test_every_death_has_its_own_message_and_a_remedy(run, ending, code, remedy):
    error = failure(run(f"print('the last words', file=sys.stderr, flush=True); {ending}"))
    assert error.code == code
    assert "the last words" in error.message
    assert any(word in error.hint for word in remedy.split("|")), error.hint


def test_what_the_engine_says_about_its_error_is_shown_with_its_hint_once(run):
    message = "No model 'x'. Expected: a model folder. Import it."
    job = run(f"say(event='error', code='missing', message={message!r}, hint='Import it'); sys.exit(3)")
    error = failure(job)
    assert (error.code, error.message, error.hint) == (
        "missing",
        "No model 'x'. Expected: a model folder.",
        "Import it.",
    )


def test_what_the_engine_expected_is_a_sentence(run):
    message = "0 to validate on. Expected: at least one."
    job = run(f"say(event='error', code='bad_input', message={message!r}, hint='at least one'); sys.exit(2)")
    assert (failure(job).message, failure(job).hint) == ("0 to validate on.", "Expected: at least one.")


def test_what_a_reader_expected_is_a_sentence(run):
    def refuse(_path):
        raise InputError("No tumor mask", expected="a pair", remedy="Choose another folder")

    error = failure(run("say(event='result', path='x')", on_result=refuse))
    assert (error.message, error.hint) == ("No tumor mask.", "Expected: a pair. Choose another folder.")


def test_a_failing_exit_is_an_error_even_when_a_result_was_named_and_exists(run, tmp_path):
    job = run("say(event='result', path=rest[0]); sys.exit(1)", tmp_path)
    assert failure(job).code == "unexpected"
    assert job.state is JobState.FAILED
    assert job.result is None


def test_a_result_that_cannot_be_loaded_is_a_failure_that_says_so(run):
    def refuse(_path):
        raise ValueError("not an image")

    error = failure(run("say(event='result', path='x')", on_result=refuse))
    assert error.code == "loading_failed"
    assert "not an image" in error.message


def test_polling_while_loading_does_not_load_again(run):
    loaded = []

    def load(path):
        loaded.append(path)
        assert job.poll() is JobState.LOADING  # a timer fires while the application handles its events
        job.cancel()
        return path

    job = run("say(event='result', path='x')", on_result=load)
    assert job.wait(30) == Path("x")
    assert len(loaded) == 1


def test_an_interpreter_that_is_not_there_fails_with_a_remedy(environment):
    job = Job(["x"], python="/no/such/python", environment=environment)
    job.start()
    assert job.state is JobState.FAILED
    assert job.error.code == "missing"
    assert "/no/such/python" in job.error.message
    assert "Setup" in job.error.hint


def test_megabytes_without_a_line_end_and_bytes_that_are_no_text_do_not_harm(run):
    job = run(
        "sys.stdout.buffer.write(b'\\xff\\xfe\\x00 ' + b'x' * 3_000_000 + b'\\n');"
        "[print('y' * 5000, file=sys.stderr) for _ in range(2000)]; sys.stdout.flush();"
        "say(event='result', path='x')"
    )
    job.wait(30)
    assert len(job.log) <= process.LOG_LINES * (process.LOG_LINE + 1)
    assert "yyy" in job.log


def test_lines_that_only_look_like_events_are_kept_in_the_log(run):
    job = run("print('{not json'); print('[1]'); print('{\"a\": 1}'); print('naïve ü'); say(event='result', path='x')")
    job.wait(30)
    assert job.log.splitlines() == ["{not json", "[1]", '{"a": 1}', "naïve ü"]


def test_events_with_values_of_the_wrong_type_do_not_stop_the_job(run):
    job = run("say(event='progress', fraction='half', seconds_left=[]); say(event='result', path='x')")
    assert job.wait(30) == Path("x")
    assert job.progress.fraction == 0.0


@POSIX
def test_cancel_asks_first_so_that_the_engine_can_clean_up(run, tmp_path):
    cleaned = tmp_path / "cleaned"
    job = run(
        "signal.signal(signal.SIGTERM, lambda *_: (open(rest[0], 'w').close(), sys.exit(5)));"
        "say(event='progress', fraction=0.1); time.sleep(60)",
        cleaned,
    )
    until(lambda: job.poll() is JobState.RUNNING)
    job.cancel()
    with pytest.raises(JobCanceled):
        job.wait(30)
    assert cleaned.exists()


@POSIX
def test_cancel_leaves_no_process_behind_though_all_of_them_ignore_the_request(run, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "GRACE_S", 0.3)
    pids = tmp_path / "pids"
    job = run(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); sleep_in(rest[0], deaf=True); sleep_in(rest[0], deaf=True);"
        "open(rest[0], 'a').write(f'{os.getpid()}\\n'); say(event='progress', fraction=0.1); time.sleep(60)",
        pids,
    )
    until(lambda: job.poll() is JobState.RUNNING)
    job.cancel()
    with pytest.raises(JobCanceled):
        job.wait(30)
    assert len(pids_in(pids)) == 3
    assert not any(map(is_running, pids_in(pids)))


@POSIX
def test_a_launcher_that_dies_of_the_request_does_not_save_the_process_that_it_launched(run, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "GRACE_S", 0.3)
    pids = tmp_path / "pids"
    job = run("sleep_in(rest[0], deaf=True); say(event='progress', fraction=0.1); time.sleep(60)", pids)
    until(lambda: job.poll() is JobState.RUNNING)
    job.cancel()
    with pytest.raises(JobCanceled):
        job.wait(30)
    assert not is_running(*pids_in(pids))


@POSIX
def test_what_an_engine_leaves_running_is_ended_with_it(run, tmp_path):
    pids = tmp_path / "pids"
    job = run("sleep_in(rest[0]); say(event='result', path='x')", pids)
    assert job.wait(30) == Path("x")  # though the process left behind holds the pipes open
    until(lambda: not is_running(*pids_in(pids)))


@POSIX
def test_a_process_that_left_the_session_cannot_hold_up_the_result(run):
    started = time.monotonic()
    job = run(
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(25)'], start_new_session=True);"
        "say(event='result', path='x')"
    )
    assert job.wait(30) == Path("x")
    assert time.monotonic() - started < 20


@POSIX
def test_all_children_are_killed_when_the_application_ends(run, tmp_path):
    pids = tmp_path / "pids"
    job = run("sleep_in(rest[0], deaf=True); say(event='progress', fraction=0.1); time.sleep(60)", pids)
    until(lambda: job.poll() is JobState.RUNNING)
    process.kill_all()
    until(lambda: not is_running(*pids_in(pids)))
    assert failure(job).code == "out_of_memory"  # a kill from outside, which nobody asked the job for


@POSIX
def test_a_child_whose_job_was_thrown_away_is_killed_too(environment, tmp_path):
    pids = tmp_path / "pids"
    job = Job(["sleep_in(rest[0]); time.sleep(60)", str(pids)], python=PYTHON, environment=environment)
    job.start()
    until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    del job
    gc.collect()
    process.kill_all()
    until(lambda: not is_running(*pids_in(pids)))


def test_a_job_that_was_not_started_is_canceled_at_once(environment):
    ended = []
    job = Job(["x"], python=PYTHON, environment=environment, on_end=lambda: ended.append(True))
    job.cancel()
    job.cancel()
    assert job.state is JobState.CANCELED
    assert ended == [True]


def test_waiting_has_a_limit_and_the_job_goes_on(run):
    job = run("time.sleep(60)")
    with pytest.raises(TimeoutError):
        job.wait(0.1)
    assert not job.state.is_final


def test_a_job_runs_once(run):
    job = run("say(event='result', path='x')")
    job.wait(30)
    with pytest.raises(RuntimeError, match="once"):
        job.start()


def test_a_child_speaks_utf8_and_does_not_load_the_plugins_of_slicer(run, environment, monkeypatch):
    monkeypatch.setitem(environment, "ITK_AUTOLOAD_PATH", "/plugins")
    job = run("print(sys.flags.utf8_mode, os.environ.get('ITK_AUTOLOAD_PATH')); say(event='result', path='x')")
    job.wait(30)
    assert job.log == "1 None"
