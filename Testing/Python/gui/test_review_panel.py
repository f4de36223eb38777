"""The Review tab by keyboard alone: twenty pairs, a crash in the middle, a resumed review, merge and export."""

from __future__ import annotations

import shutil

import layout_stand_in
import module_factory
import pytest
import qt_stand_in
import slicer
from PySide6.QtTest import QTest
from qt_stand_in import QtCore, QtWidgets

from Diff4MMLiTSLib.gui import views
from Diff4MMLiTSLib.gui.ledger import Decision
from Diff4MMLiTSLib.gui.review import Review
from gui.pair_factory import add_pairs
from gui.scene_factory import add_liver, add_volume, ijk_to_ras, smooth_values


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return add_pairs(tmp_path_factory.mktemp("made"), 20).parent


@pytest.fixture
def cohort(made, tmp_path):
    shutil.copytree(made, tmp_path / "Kohorte ü")
    return tmp_path / "Kohorte ü" / "pairs"


class Reviewer:
    """Somebody at the keyboard."""

    def __init__(self, monkeypatch, tmp_path):
        self.driver = module_factory.open_module(monkeypatch, tmp_path)
        self.manager = layout_stand_in.LayoutManager()
        slicer.app.layoutManager = lambda: self.manager
        self.ui, self.panel = self.driver.ui, self.driver.gui.review
        self.ui.tabs.setCurrentWidget(self.ui.reviewTab)
        self.driver.settle()

    def open(self, folder, name="R1"):
        self.ui.reviewerEdit.text = name
        self.answer(folder)
        self.driver.click("openPairsButton")
        return self

    def answer(self, path):
        qt_stand_in.FileDialog.answer = str(path)

    def keys(self, text):
        for key in text:
            QTest.keyClick(QtWidgets.QApplication.focusWidget() or self.ui.reviewTab, key)
        self.driver.settle(0.05)
        return self


@pytest.fixture
def reviewer(scene, monkeypatch, tmp_path):
    monkeypatch.setenv("DIFF4MMLITS_MODELS", str(tmp_path / "models"))
    opened = []

    def sit_down():
        opened.append(Reviewer(monkeypatch, tmp_path))
        return opened[-1]

    yield sit_down
    for each in opened:
        each.driver.close()
    qt_stand_in.FileDialog.answer = ""


def test_twenty_pairs_by_keyboard_alone_with_a_crash_in_the_middle(reviewer, cohort):
    first = reviewer().open(cohort)
    assert first.ui.pairCount.text == "1 of 20"
    first.keys("aarafaaarraa")
    assert first.ui.pairCount.text == "13 of 20"
    ledger = cohort / "review.jsonl"
    torn = ledger.read_bytes()[:-25]  # the power fails while the last line is written
    first.driver.widget.cleanup()
    ledger.write_bytes(torn)

    second = reviewer().open(cohort)
    assert second.ui.pairCount.text == "12 of 20"
    second.keys("raaaaaaaf")
    review = Review(cohort, "R1")
    assert review.counts == {Decision.OPEN: 0, Decision.ACCEPTED: 14, Decision.REJECTED: 4, Decision.FLAGGED: 2}
    assert "last pair" in second.ui.pairMessage.text


def test_undo_next_previous_and_outline_have_keys(reviewer, cohort):
    user = reviewer().open(cohort).keys("anp")
    assert user.ui.pairCount.text == "2 of 20"
    user.keys("ru")
    assert user.ui.pairCount.text == "2 of 20"
    assert user.panel.review.opinion.decision is Decision.OPEN
    user.keys("u")
    assert user.ui.pairCount.text == "1 of 20"
    user.keys("u")
    assert "no decision of yours" in user.ui.pairMessage.text
    outline = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0].GetDisplayNode()
    assert outline.GetVisibility2DOutline()
    assert not outline.GetVisibility2DFill()
    user.keys("o")
    assert not outline.GetVisibility()
    user.keys("n")
    outline = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0].GetDisplayNode()
    assert not outline.GetVisibility()


def test_a_comment_is_typed_without_deciding_anything(reviewer, cohort):
    user = reviewer().open(cohort).keys("c")
    assert user.ui.commentEdit.hasFocus()
    user.keys("a far rim")
    QTest.keyClick(user.ui.commentEdit, QtCore.Qt.Key_Return)
    user.driver.settle()
    assert not user.ui.commentEdit.hasFocus()
    assert user.ui.pairCount.text == "1 of 20"
    assert user.panel.review.opinion.comment == "a far rim"
    user.keys("r")
    assert Review(cohort, "R1").ledger.opinions("R1")[user.panel.review.pairs[0].key].comment == "a far rim"


def test_a_comment_that_is_being_typed_survives_what_happens_meanwhile(reviewer, cohort):
    user = reviewer().open(cohort).keys("c")
    user.keys("a far")
    user.driver.gui.refresh()
    user.keys(" rim")
    assert user.ui.commentEdit.text == "a far rim"
    QTest.keyClick(user.ui.commentEdit, QtCore.Qt.Key_Return)
    user.keys("n")
    assert user.ui.commentEdit.text == ""
    user.keys("p")
    assert user.ui.commentEdit.text == "a far rim"
    user.keys("u")
    assert user.ui.commentEdit.text == ""


def test_source_and_synthetic_are_shown_side_by_side_and_every_view_is_marked(reviewer, cohort):
    user = reviewer().open(cohort)
    widgets = user.manager.widgets
    assert set(widgets) == {f"Review-{row}-{phase}" for row in ("source", "synthetic") for phase in ("AP", "PVP")}
    for name, widget in widgets.items():
        composite = widget.logic.composite
        shown = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID())
        is_synthetic = "synthetic" in name
        assert shown.GetName().startswith("SYNTHETIC") == is_synthetic
        assert widget.texts() == [("SYNTHETIC " if is_synthetic else "Source ") + name.rpartition("-")[2]]
        assert composite.GetLinkedControl()
        assert widget.node.GetViewGroup() == 4412
        assert widget.logic.fitted == 1
    user.keys("nn")
    assert all(widget.logic.fitted == 1 for widget in widgets.values())
    assert all(len(widget.texts()) == 1 for widget in widgets.values())


def test_the_bars_of_the_views_do_not_widen_the_window(reviewer, cohort):
    user = reviewer().open(cohort)
    bars = {name: widget.controller for name, widget in user.manager.widgets.items()}
    assert {name for name, bar in bars.items() if not bar.visible} == {"Review-synthetic-AP", "Review-synthetic-PVP"}
    assert {bar.minimum_width for bar in bars.values() if bar.visible} == {1}


def test_the_views_move_to_the_tumor(reviewer, cohort):
    user = reviewer().open(cohort)
    node = user.manager.widgets["Review-synthetic-PVP"].node
    matrix = node.GetSliceToRAS()
    assert matrix.GetElement(2, 3) == pytest.approx(30 + 4 * 4)


def test_what_the_user_loads_meanwhile_is_shown_in_the_other_views(reviewer, cohort):
    user = reviewer().open(cohort)
    red = layout_stand_in.SliceWidget("Red", 0)
    reviewed = dict(user.manager.widgets)
    user.manager.widgets["Red"] = red

    def state():
        return [(w.logic.composite.GetBackgroundVolumeID(), w.logic.fitted, depth_of(w)) for w in reviewed.values()]

    before = state()
    user.driver.gui.study.folders.open_folder(cohort.parent / "normal" / "study-1")
    user.driver.settle()
    shown = slicer.mrmlScene.GetNodeByID(red.logic.composite.GetBackgroundVolumeID())
    assert shown.GetName().startswith("PVP study-1")
    assert red.logic.fitted == 1
    views.jump_to((0.0, 0.0, 77.0))
    assert depth_of(red) == pytest.approx(77)
    assert state() == before


def depth_of(widget):
    return widget.node.GetSliceToRAS().GetElement(2, 3)


def test_closing_gives_layout_and_scene_back(reviewer, cohort):
    user = reviewer().open(cohort)
    assert user.driver.phases() == {}  # what is reviewed is no study of the user
    user.driver.click("closeReviewButton")
    assert user.manager.layout == 3
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    assert all(not widget.texts() for widget in user.manager.widgets.values())


def test_letters_decide_nothing_in_another_tab(reviewer, cohort):
    user = reviewer().open(cohort)
    user.ui.tabs.setCurrentWidget(user.ui.setupTab)
    user.keys("aaa")
    assert not (cohort / "review.jsonl").exists()


def test_closing_the_scene_ends_the_review_and_loses_nothing(reviewer, cohort):
    user = reviewer().open(cohort).keys("ar")
    slicer.mrmlScene.Clear(0)
    user.driver.settle()
    assert user.panel.review is None
    assert "Open a folder" in user.ui.pairMessage.text
    assert user.open(cohort).ui.pairCount.text == "3 of 20"


def test_a_filter_shows_flagged_pairs_only(reviewer, cohort):
    user = reviewer().open(cohort).keys("afaf")
    user.driver.choose("pairFilterSelector", "Flagged")
    assert user.ui.pairCount.text == "4 of 20"
    user.keys("p")
    assert user.ui.pairCount.text == "2 of 20"
    user.keys("p")
    assert "first pair" in user.ui.pairMessage.text


def test_a_pair_without_its_source_is_reviewed_too(reviewer, cohort):
    shutil.rmtree(cohort.parent / "normal")
    user = reviewer().open(cohort)
    assert "source was not found" in user.ui.pairMessage.text
    assert user.keys("a").ui.pairCount.text == "2 of 20"


def test_what_the_synthesis_doubts_is_said(reviewer, cohort):
    user = reviewer().open(cohort).keys("n")
    assert "a seam is seen" in user.ui.pairMessage.text
    assert "1.0 ml; contrast in HU: AP -38" in user.ui.pairMessage.text


def test_without_a_name_there_is_no_review_and_the_button_says_so(reviewer):
    user = reviewer()
    assert user.ui.reviewerEdit.text == ""
    assert not user.ui.openPairsButton.enabled
    assert "name or sign" in user.ui.openPairsButton.toolTip
    assert not user.ui.acceptButton.enabled


def test_a_colleague_is_merged_and_accepted_pairs_become_a_cohort(reviewer, cohort, tmp_path):
    shutil.copytree(cohort, tmp_path / "colleague")
    colleague = Review(tmp_path / "colleague", "R2")
    colleague.decide(Decision.REJECTED)
    user = reviewer().open(cohort).keys("aa")
    user.answer(tmp_path / "colleague" / "review.jsonl")
    user.driver.click("mergeLedgerButton")
    assert "R1 – R2: 0 % the same on 1 pairs" in user.ui.pairMessage.text
    user.answer(tmp_path / "accepted")
    user.driver.click("exportPairsButton")
    assert [folder.name for folder in (tmp_path / "accepted").glob("*/")] == ["study-1_synthetic-0002"]
    assert "not anonymous" in user.ui.pairMessage.text


def test_a_ledger_that_cannot_be_written_keeps_the_pair_and_says_why(reviewer, cohort):
    user = reviewer().open(cohort)
    (cohort / "review.jsonl").mkdir()
    user.keys("a")
    assert user.ui.pairCount.text == "1 of 20"
    assert "cannot be written" in user.ui.errorLabel.text


def test_segmentations_of_the_user_do_not_cover_the_pairs_and_come_back(reviewer, cohort):
    volume = add_volume(smooth_values(), ijk_to_ras(), "CT")
    shown, hidden = (add_liver(volume, smooth_values() > 0) for _ in range(2))
    hidden.GetDisplayNode().SetVisibility(False)
    user = reviewer().open(cohort)
    assert not shown.GetDisplayNode().GetVisibility()
    user.keys("A")
    user.driver.click("closeReviewButton")
    assert shown.GetDisplayNode().GetVisibility()
    assert not hidden.GetDisplayNode().GetVisibility()


def test_a_view_shows_the_liver_rather_than_the_whole_body(reviewer, cohort):
    user = reviewer().open(cohort)
    fields = [widget.node.GetFieldOfView() for widget in user.manager.widgets.values()]
    assert min(fields) == max(fields) == (240.0, 200.0, 3.0)
