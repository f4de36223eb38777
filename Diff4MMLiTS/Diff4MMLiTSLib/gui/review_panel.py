"""The tab that goes through synthetic pairs: look, decide with one key, and the next pair is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import qt

from ..core.errors import Diff4MMLiTSError
from .agreement import in_words
from .job_bar import JobBar
from .ledger import LEDGER_FILE, Decision
from .pairs import NOT_ANONYMOUS, find_source
from .parameters import Parameters
from .review import FILTERS, REVIEWER, Review, decision_name
from .review_keys import KEYS, ReviewKeys
from .review_scene import ReviewScene, ShownPair, show_outline
from .review_views import ReviewViews
from .settings import read_setting, write_setting
from .texts import _
from .widgets import Ui, allow, fill_choice, on_click, silent, waiting

REVIEW_FOLDER = "ReviewFolder"
"""Setting: the folder that was reviewed last."""


class ReviewPanel:
    """Reviews a folder of synthetic pairs.

    Args:
        ui: The widgets of the module.
        bar: Shows progress and errors.
    """

    def __init__(self, ui: Ui, bar: JobBar) -> None:
        self.ui = ui
        self.bar = bar
        self.review: Review | None = None
        self._scene, self._views = ReviewScene(), ReviewViews()
        self._shown: ShownPair | None = None
        self._note = ""
        fill_choice(ui.pairFilterSelector, list(map(decision_name, FILTERS)), 0)
        with silent(ui.reviewerEdit):
            ui.reviewerEdit.text = read_setting(REVIEWER)
        self._connect()
        self._keys = ReviewKeys(ui, self._actions())
        self.refresh()

    def set_parameters(self, parameters: Parameters | None) -> None:
        """The decisions lie in the cohort's folder; of the scene, only what is shown goes with it."""
        if parameters is None:
            self.close()

    def refresh(self) -> None:
        """Enable what can be done now, and say why the rest cannot."""
        name = (
            "" if self.ui.reviewerEdit.text.strip() else _("Enter your name or sign first; it is saved as you type it.")
        )
        allow(self.ui.openPairsButton, self.bar.busy or name)
        allow(self.ui.reviewerEdit, _("Close the review to change the name.") if self.review else "")
        none = "" if self.review else _("Open a folder of pairs first.")
        for widget in self._working_widgets():
            allow(widget, none)
        self.ui.closeReviewButton.visible = self.review is not None
        self._keys.enabled = self.review is not None
        self._show_state()

    def open(self, cohort: Path) -> None:
        """Begin or resume the review of a folder; progress and errors are shown by the bar."""
        self.close()
        with self.bar.watched(_("Open pairs")) as progress:
            self.review = Review(cohort, self.ui.reviewerEdit.text, progress)
            write_setting(REVIEWER, self.review.reviewer)
            write_setting(REVIEW_FOLDER, str(cohort))
            fill_choice(self.ui.pairFilterSelector, list(map(decision_name, FILTERS)), 0)
            self.ui.studyButton.collapsed = True
            self._show_pair()
        self.refresh()

    def decide(self, decision: Decision) -> None:
        """Decide on the pair and go on to the next one of the filter."""
        if self.review is not None:
            review, words = self.review, self.ui.commentEdit.text
            if self._do(lambda: review.decide(decision, words)) is not False:
                self._go(1)

    def undo(self) -> None:
        """Take the last decision back and show its pair."""
        if self.review is not None:
            self._note = ""
            review = self.review
            before = review.pair
            if not self._do(review.undo):
                self._say(_("There is no decision of yours to take back."))
                return
            if review.pair is not before:
                self._show_pair()
            self._show_comment()
            self.refresh()

    def close(self) -> None:
        """End the review; every decision is in the ledger already."""
        self._save_comment()
        self.review, self._shown, self._note = None, None, ""
        self._views.close()
        self._scene.clear()
        self._show_comment()
        self.refresh()

    def _connect(self) -> None:
        ui = self.ui
        on_click(ui.openPairsButton, self._ask_for_folder)
        on_click(ui.closeReviewButton, self.close)
        for button, decision in self._decision_buttons():
            on_click(button, partial(self.decide, decision))
        on_click(ui.nextPairButton, lambda: self._go(1))
        on_click(ui.previousPairButton, lambda: self._go(-1))
        on_click(ui.undoDecisionButton, self.undo)
        on_click(ui.mergeLedgerButton, self._merge)
        on_click(ui.exportPairsButton, self._export)
        ui.commentEdit.editingFinished.connect(self._save_comment)
        ui.pairFilterSelector.currentIndexChanged.connect(self._filter)
        ui.outlineButton.toggled.connect(lambda _is_on: self._outline())
        ui.reviewerEdit.textChanged.connect(lambda _text: self.refresh())

    def _actions(self) -> dict[str, Callable[[], object]]:
        """Return what each key does; it does nothing while its button is disabled."""
        return {name: getattr(self.ui, name).click for name in KEYS if name != "commentEdit"} | {
            "commentEdit": self.ui.commentEdit.setFocus
        }

    def _decision_buttons(self) -> tuple[tuple[Ui, Decision], ...]:
        ui = self.ui
        return (
            (ui.acceptButton, Decision.ACCEPTED),
            (ui.rejectButton, Decision.REJECTED),
            (ui.flagButton, Decision.FLAGGED),
        )

    def _working_widgets(self) -> tuple[Ui, ...]:
        ui = self.ui
        decisions = (button for button, _decision in self._decision_buttons())
        moves = (ui.nextPairButton, ui.previousPairButton, ui.undoDecisionButton, ui.outlineButton, ui.commentEdit)
        return (*decisions, *moves, ui.pairFilterSelector, ui.mergeLedgerButton, ui.exportPairsButton)

    def _do(self, action: Callable[[], object]) -> object:
        """Do something with the ledger; an error is shown and the pair stays."""
        try:
            return action()
        except Diff4MMLiTSError as error:
            self.bar.fail_with(error)
            return False

    def _go(self, step: int) -> None:
        self._note = ""
        self._save_comment()
        if self.review is None:
            return
        if self.review.go(step):
            self._show_pair()
            self.refresh()
            return
        self.refresh()
        self._say(
            _("This is the last pair of this filter.") if step > 0 else _("This is the first pair of this filter.")
        )

    def _show_pair(self) -> None:
        if self.review is None:
            return
        self._show_comment()
        with waiting():
            pair = self.review.pair
            try:
                self._shown = self._scene.show(pair.folder, find_source(pair))
            except Diff4MMLiTSError as error:
                self._shown = None
                self.bar.fail_with(error)
                return
            self._views.show(self._shown)
        self._outline()

    def _show_state(self) -> None:
        review, ui = self.review, self.ui
        if review is None:
            ui.pairCount.text, ui.pairName.text, ui.reviewSummary.text = "", "", ""
            ui.pairMessage.text = _("Open a folder of synthetic pairs; the review goes on where you left it.")
            return
        ui.pairCount.text = _("{number} of {count}").format(number=review.number, count=len(review.pairs))
        ui.pairName.text = review.pair.folder.name
        said = {"review": _("its own check asks to look closely"), "reject": _("its own check rejects it")}
        check = review.pair.check
        reasons = [said[check.verdict], *check.reasons] if check.verdict in said else []
        source = [] if self._shown is None or self._shown.source else [_("its source was not found beside the folder")]
        state = "; ".join([decision_name(review.opinion.decision), *reasons, *source]) + "."
        ui.pairMessage.text = "\n".join(filter(None, [check.words(), state, self._note]))
        counts = review.counts
        ui.reviewSummary.text = ", ".join(f"{decision_name(each)}: {counts[each]}" for each in Decision)

    def _show_comment(self) -> None:
        """Show what was said about the pair; only with another pair, since somebody may be typing."""
        with silent(self.ui.commentEdit):
            self.ui.commentEdit.text = self.review.opinion.comment if self.review is not None else ""

    def _say(self, text: str) -> None:
        """Show a line about the last key, until the next one."""
        self._note = text
        self._show_state()

    def _save_comment(self) -> None:
        if self.review is not None:
            review, text = self.review, self.ui.commentEdit.text
            self._do(lambda: review.comment(text))

    def _filter(self, index: int) -> None:
        if self.review is None:
            return
        self._note = ""
        self._save_comment()
        before, is_any = self.review.pair, self.review.show(FILTERS[index])
        if self.review.pair is not before:
            self._show_pair()
        self.refresh()
        if not is_any:
            self._say(_("No pair is like this; the one that is shown stays."))

    def _outline(self) -> None:
        if self._shown is not None:
            show_outline(self._shown.tumors, is_shown=bool(self.ui.outlineButton.checked))

    def _ask_for_folder(self) -> None:
        title = _("Open a folder of synthetic pairs")
        chosen = qt.QFileDialog.getExistingDirectory(self.ui.openPairsButton, title, read_setting(REVIEW_FOLDER))
        if chosen:
            self.open(Path(chosen))

    def _merge(self) -> None:
        title, kinds = _("Add a colleague's decisions"), f"{LEDGER_FILE} (*.jsonl)"
        chosen = qt.QFileDialog.getOpenFileName(self.ui.mergeLedgerButton, title, read_setting(REVIEW_FOLDER), kinds)
        if not chosen or self.review is None:
            return
        review = self.review
        self._save_comment()
        count = self._do(lambda: review.merge(Path(chosen)))
        self._show_comment()
        self.refresh()
        if count is not False:
            lines = [f"{one} – {other}: {in_words(found)}" for (one, other), found in review.agreements().items()]
            self._say("\n".join([_("{count} new lines.").format(count=count), *lines]))

    def _export(self) -> None:
        """Ask for a name and make the cohort; the question itself says that it is not anonymous."""
        title = _("Export accepted pairs: synthetic is not anonymous")
        chosen = qt.QFileDialog.getSaveFileName(self.ui.exportPairsButton, title, read_setting(REVIEW_FOLDER))
        if not chosen or self.review is None:
            return
        self._save_comment()
        with self.bar.watched(_("Export accepted pairs")) as progress:
            out = self.review.export(Path(chosen), progress)
            count = len(self.review.accepted())
            self._say(_("{count} pairs are in '{name}'.").format(count=count, name=out.name) + f" {NOT_ANONYMOUS}")
