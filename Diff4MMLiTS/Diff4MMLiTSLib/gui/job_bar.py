"""The line of the module that shows the running job: progress, time left, cancel, and what went wrong."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any  # the result of a task is what its on_result made

import qt
import slicer

from ..core.errors import CanceledError, Diff4MMLiTSError
from ..core.progress import Progress
from .task import JobError, JobProgress, JobState, Task, in_words
from .texts import _, duration
from .timer import TaskTimer
from .widgets import Ui, on_click

ICON_PIXELS = 24


class JobBar:
    """Runs one job at a time and shows it.

    Args:
        ui: The widgets of the module.
        on_change: Called when a job begins or ends, so that buttons can follow.
    """

    def __init__(self, ui: Ui, on_change: Callable[[], None]) -> None:
        self.ui = ui
        self._on_change = on_change
        self._timer: TaskTimer | None = None
        self._title = self._said = ""
        self._watched: object | None = None
        on_click(ui.cancelButton, self.cancel)
        on_click(ui.dismissButton, self.dismiss)
        ui.detailsButton.toggled.connect(self._show_log)
        icon = qt.QApplication.style().standardIcon(qt.QStyle.SP_MessageBoxWarning)
        ui.errorIcon.setPixmap(icon.pixmap(ICON_PIXELS, ICON_PIXELS))
        self.dismiss()
        self._reserve_place()
        self._idle("")

    @property
    def busy(self) -> str:
        """What is running, in words for a tooltip; empty when nothing is."""
        return _("Wait until “{job}” has finished, or cancel it.").format(job=self._title) if self._title else ""

    def run(
        self,
        start: Callable[[], Task],
        title: str,
        on_done: Callable[[Any], None],
        *,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Start a task and follow it to its end.

        Args:
            start: Starts the task and returns it.
            title: What it does, for the user.
            on_done: Called with the task's own result, only when it is done.
            on_end: Called at the end, whichever it is: done, failed, canceled, or not even started.
        """
        self.dismiss()
        try:
            task = start()
        except Exception as error:  # whatever went wrong is shown where the user looks
            self.fail_with(error)
            on_end()
            return

        def end(ended: Task) -> None:
            self._end(ended, on_done)
            on_end()
            self._on_change()

        self._begin(title)
        self._timer = TaskTimer(task, on_change=self._show, on_end=end)
        self._show(task)

    @contextmanager
    def watched(self, title: str) -> Iterator[Progress]:
        """Show the progress of work that must be done in Slicer's own process; errors are shown, not raised.

        It stops when the user cancels it, and when the bar is closed: the scene on which it works goes away.
        """
        self.dismiss()
        self._begin(title)
        work = self._watched = object()

        def report(fraction: float, _stage: str, message: str) -> None:
            self._show_progress(JobProgress(fraction=fraction, message=message))
            slicer.app.processEvents()

        try:
            yield Progress(report, lambda: self._watched is not work)
        except CanceledError:
            self._idle(_("{job}: canceled.").format(job=title))
        except Exception as error:  # whatever went wrong is shown where the user looks
            self._idle("")
            self.fail_with(error)
        else:
            self._idle(_("{job}: done.").format(job=title))
        self._on_change()

    def cancel(self) -> None:
        """Ask the running job to stop."""
        self._watched = None
        if self._timer:
            self.ui.cancelButton.enabled = False
            self.say(_("{job}: stopping…").format(job=self._title))
            self._timer.task.cancel()

    def say(self, text: str) -> None:
        """Show a line about the job."""
        self.ui.jobMessage.text = text
        self.ui.jobMessage.visible = bool(text)

    def fail(self, error: JobError, log: str = "") -> None:
        """Show what went wrong and what to do about it."""
        self.ui.errorLabel.text = f"{error.message}\n{error.hint}".strip()
        self.ui.logText.setPlainText(log)
        self.ui.detailsButton.visible = bool(log)
        self.ui.errorFrame.visible = True

    def fail_with(self, error: Exception) -> None:
        """Show an error of ours in its words, and any other with what a developer needs."""
        if isinstance(error, Diff4MMLiTSError):
            self.fail(in_words(error))
            return
        logging.getLogger(__name__).exception("A job could not be started or its result not be shown")
        what = _("Something unexpected happened in Slicer ({kind}).").format(kind=type(error).__name__)
        self.fail(JobError("unexpected", what, _("Report it with the details.")), traceback.format_exc())

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Show an error of what is done at once, where the user looks, instead of raising it."""
        self.dismiss()
        try:
            yield
        except Exception as error:  # whatever went wrong is shown
            self.fail_with(error)

    def dismiss(self) -> None:
        """Hide the error."""
        self.ui.detailsButton.checked = False
        self.ui.errorFrame.visible = False
        self._show_log(False)

    def close(self) -> None:
        """Forget the running job and end it: the scene, the module or the application goes away."""
        self._watched = None
        if self._timer:
            self._timer.stop()
            self._timer.task.cancel()
            self._idle("")

    def _reserve_place(self) -> None:
        """Keep the place of the bar and its line: the tabs below must not jump when a job begins or ends."""
        self.say("…")
        self.ui.jobPlace.minimumHeight = self.ui.jobPlace.property("sizeHint").height()

    def _begin(self, title: str) -> None:
        self._title, self._said = title, _("starting…")
        self.ui.jobProgressBar.visible = True
        self.ui.cancelButton.visible = True
        self.ui.cancelButton.enabled = True
        self._on_change()

    def _show(self, task: Task) -> None:
        progress = task.progress
        if task.state is JobState.LOADING:
            progress = replace(progress, message=_("loading the result…"), seconds_left=None)
        self._show_progress(progress)

    def _show_progress(self, progress: JobProgress) -> None:
        if not self.ui.cancelButton.enabled:  # it says that it stops
            return
        left = _("{time} left").format(time=duration(progress.seconds_left)) if progress.seconds_left else ""
        self._said = progress.message or self._said  # a part of a step has no words of its own
        self.ui.jobProgressBar.value = round(100 * progress.fraction)
        self.say(f"{self._title}: {', '.join(filter(None, (self._said, left)))}")

    def _end(self, task: Task, on_done: Callable[[Any], None]) -> None:
        title = self._title
        self._idle("")
        if task.state is JobState.DONE:
            self.say(_("{job}: done.").format(job=title))
            try:
                on_done(task.result)
            except Exception as error:  # the same
                self.fail_with(error)
        elif task.state is JobState.CANCELED:
            self.say(_("{job}: canceled; nothing was changed.").format(job=title))
        elif task.error:
            self.say(_("{job}: failed.").format(job=title))
            self.fail(task.error, task.log)

    def _idle(self, message: str) -> None:
        self._timer = None
        self._title = ""
        self.ui.jobProgressBar.visible = False
        self.ui.jobProgressBar.value = 0
        self.ui.cancelButton.enabled = False
        self.ui.cancelButton.visible = False
        self.say(message)

    def _show_log(self, is_open: bool) -> None:
        self.ui.logText.visible = is_open
