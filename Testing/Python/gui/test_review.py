"""A review goes from pair to pair, resumes where it was left, and lets a colleague's rejection count."""

from __future__ import annotations

import shutil

import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.gui.ledger import Decision
from Diff4MMLiTSLib.gui.review import Review
from gui.pair_factory import add_pairs


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return add_pairs(tmp_path_factory.mktemp("cohort"), 5)


@pytest.fixture
def cohort(made, tmp_path):
    shutil.copytree(made, tmp_path / "pairs")
    return tmp_path / "pairs"


def decide(review, letters):
    """Decide on pairs from the first one on: a, r, f."""
    names = {"a": Decision.ACCEPTED, "r": Decision.REJECTED, "f": Decision.FLAGGED}
    while review.go(-1):
        pass
    for letter in letters:
        review.decide(names[letter])
        review.go(1)


def test_a_review_resumes_at_the_first_open_pair_in_a_moved_folder(cohort, tmp_path):
    decide(Review(cohort, "R1"), "arf")
    cohort.rename(tmp_path / "moved")
    review = Review(tmp_path / "moved", "R1")
    assert review.number == 4
    assert review.counts == {Decision.OPEN: 2, Decision.ACCEPTED: 1, Decision.REJECTED: 1, Decision.FLAGGED: 1}
    assert Review(tmp_path / "moved", "R2").number == 1


def test_a_filter_goes_through_its_pairs_only(cohort):
    review = Review(cohort, "R1")
    decide(review, "araf")
    assert review.show(Decision.ACCEPTED)
    assert review.number == 3
    assert not review.go(1)
    assert review.go(-1)
    assert review.number == 1
    assert review.show(Decision.OPEN)
    assert review.number == 5
    review.decide(Decision.ACCEPTED)
    assert not review.show(Decision.OPEN)


def test_undo_goes_back_to_the_pair(cohort):
    review = Review(cohort, "R1")
    decide(review, "ar")
    assert review.number == 3
    assert review.undo()
    assert (review.number, review.opinion.decision) == (2, Decision.OPEN)
    assert review.undo()
    assert not review.undo()


def test_a_comment_keeps_the_decision_and_a_decision_keeps_the_comment(cohort):
    review = Review(cohort, "R1")
    review.comment("Rand zu hart")
    review.decide(Decision.REJECTED)
    assert (review.opinion.decision, review.opinion.comment) == (Decision.REJECTED, "Rand zu hart")
    lines = len(review.ledger.entries)
    review.comment(" Rand zu hart ")
    assert len(review.ledger.entries) == lines


def test_two_reviewers_merge_and_their_agreement_is_computed(cohort, tmp_path):
    shutil.copytree(cohort, tmp_path / "colleague")
    mine, theirs = Review(cohort, "R1"), Review(tmp_path / "colleague", "R2")
    decide(mine, "aarra")
    decide(theirs, "aaraa")
    assert mine.merge(tmp_path / "colleague") == 5
    (found,) = mine.agreements().values()
    assert (found.pairs, found.fraction) == (5, pytest.approx(0.8))
    assert found.kappa == pytest.approx((0.8 - 0.56) / (1 - 0.56))


def test_a_pair_that_a_colleague_rejected_is_not_exported(cohort, tmp_path):
    mine, theirs = Review(cohort, "R1"), Review(cohort, "R2")
    decide(theirs, "r")
    decide(mine, "aa")
    mine = Review(cohort, "R1")
    out = mine.export(tmp_path / "out")
    assert [folder.name for folder in out.glob("*/")] == ["study-1_synthetic-0002"]


def test_a_review_needs_a_name(cohort):
    with pytest.raises(InputError, match="has no name"):
        Review(cohort, "  ")
