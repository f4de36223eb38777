"""Agreement of two reviewers, against values computed by hand."""

from __future__ import annotations

import pytest

from Diff4MMLiTSLib.gui.agreement import agreement, in_words
from Diff4MMLiTSLib.gui.ledger import Decision, Opinion


def opinions(letters):
    """Return opinions on pairs 0, 1, … from letters: a, r, f, or o for open."""
    names = {"a": Decision.ACCEPTED, "r": Decision.REJECTED, "f": Decision.FLAGGED, "o": Decision.OPEN}
    return {str(index): Opinion(names[letter]) for index, letter in enumerate(letters)}


def test_the_textbook_example_of_cohens_kappa():
    first = "a" * 20 + "a" * 5 + "r" * 10 + "r" * 15
    second = "a" * 20 + "r" * 5 + "a" * 10 + "r" * 15
    found = agreement(opinions(first), opinions(second))
    assert found.fraction == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    assert "70 % the same on 50 pairs" in in_words(found)


def test_only_pairs_that_both_decided_count():
    found = agreement(opinions("aaro"), opinions("arra") | {"9": Opinion(Decision.REJECTED)})
    assert found.pairs == 3
    assert found.fraction == pytest.approx(2 / 3)


def test_full_agreement_is_one_and_chance_is_zero():
    assert agreement(opinions("arf"), opinions("arf")).kappa == pytest.approx(1)
    assert agreement(opinions("aarr"), opinions("arar")).kappa == pytest.approx(0)


def test_kappa_is_not_defined_when_both_gave_one_decision_throughout():
    found = agreement(opinions("aaa"), opinions("aaa"))
    assert found.fraction == 1
    assert found.kappa is None
    assert "not defined" in in_words(found)


def test_without_a_common_pair_there_is_nothing_to_say():
    assert "No pair" in in_words(agreement(opinions("ao"), opinions("oa")))
