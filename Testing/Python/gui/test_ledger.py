"""Decisions survive crashes, moves and merges, and nothing in a ledger is ever changed."""

from __future__ import annotations

import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.gui.ledger import Decision, Ledger, Opinion

ACCEPTED, REJECTED = Opinion(Decision.ACCEPTED), Opinion(Decision.REJECTED, "kein Rand ü")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "review.jsonl"


def test_a_decision_is_read_again_by_another_process(file):
    Ledger(file).record("a", "R1", REJECTED)
    assert Ledger(file).opinions("R1") == {"a": REJECTED}


def test_lines_are_only_ever_added(file):
    ledger, before = Ledger(file), b""
    for step in (lambda: ledger.record("a", "R1", ACCEPTED), lambda: ledger.undo("R1"), lambda: ledger.undo("R1")):
        step()
        assert file.read_bytes().startswith(before)
        before = file.read_bytes()


def test_the_last_decision_counts_and_undo_brings_back_the_one_before(file):
    ledger = Ledger(file)
    ledger.record("a", "R1", ACCEPTED)
    ledger.record("a", "R1", REJECTED)
    assert ledger.opinions("R1")["a"] == REJECTED
    assert ledger.undo("R1").decision is Decision.REJECTED
    assert ledger.opinions("R1")["a"] == ACCEPTED
    ledger.undo("R1")
    assert ledger.opinions("R1") == {}
    assert ledger.undo("R1") is None
    assert Ledger(file).opinions("R1") == {}


def test_undo_leaves_other_reviewers_alone(file):
    ledger = Ledger(file)
    ledger.record("a", "R1", ACCEPTED)
    ledger.record("a", "R2", REJECTED)
    ledger.undo("R1")
    assert ledger.opinions("R1") == {}
    assert ledger.opinions("R2") == {"a": REJECTED}


def test_wherever_a_crash_cuts_the_last_line_the_others_stand_and_the_review_goes_on(file):
    ledger = Ledger(file)
    ledger.record("a", "R1", ACCEPTED)
    kept = len(file.read_bytes())
    ledger.record("b", "R1", REJECTED)
    whole = file.read_bytes()
    for length in (kept, kept + 1, kept + 12, kept + 30, kept + 90, len(whole) - 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        resumed = Ledger(file)
        assert resumed.opinions("R1")["a"] == ACCEPTED
        resumed.record("c", "R1", ACCEPTED)
        assert set(Ledger(file).opinions("R1")) - {"b"} == {"a", "c"}


def test_blocks_that_the_disk_never_wrote_are_left_out(file):
    Ledger(file).record("a", "R1", ACCEPTED)
    with file.open("ab") as stream:
        stream.write(b"\x00" * 40)
    ledger = Ledger(file)
    ledger.record("b", "R1", ACCEPTED)
    assert set(Ledger(file).opinions("R1")) == {"a", "b"}


def test_two_ledgers_merge_in_any_order_and_more_than_once(tmp_path):
    one, other = Ledger(tmp_path / "1.jsonl"), Ledger(tmp_path / "2.jsonl")
    one.record("a", "R1", ACCEPTED)
    other.record("a", "R2", REJECTED)
    other.record("b", "R2", ACCEPTED)
    other.undo("R2")
    assert one.merge(other.file) == 3
    assert one.merge(other.file) == 0
    assert other.merge(one.file) == 1
    for ledger in (one, other, Ledger(one.file)):
        assert ledger.reviewers == ("R1", "R2")
        assert ledger.opinions("R1") == {"a": ACCEPTED}
        assert ledger.opinions("R2") == {"a": REJECTED}


def test_of_one_reviewer_at_two_computers_the_later_decision_counts(tmp_path):
    one, other = Ledger(tmp_path / "1.jsonl"), Ledger(tmp_path / "2.jsonl")
    one.record("a", "R1", ACCEPTED)
    other.merge(one.file)
    other.record("a", "R1", REJECTED)
    one.merge(other.file)
    assert one.opinions("R1")["a"] == REJECTED


def test_what_is_no_ledger_is_refused_in_words(file):
    file.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="is no decision"):
        Ledger(file)


def test_a_newer_ledger_is_refused_in_words(file):
    file.write_text('{"format": 2, "line_id": "1"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="newer version"):
        Ledger(file)


def test_a_decision_needs_a_name_that_the_reviewer_chose(file):
    with pytest.raises(InputError, match="name is empty"):
        Ledger(file).record("a", " ", ACCEPTED)
    assert not file.exists()


def test_a_folder_that_cannot_be_written_is_an_error_in_words(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        Ledger(tmp_path / "file" / "review.jsonl").record("a", "R1", ACCEPTED)
