"""The tab that trains: dry run, start, curves, stop, go on; it finds a training again that went on without Slicer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ctk
import qt

from ..core.errors import InputError
from .engine import engine_python
from .job_bar import JobBar
from .models import CARD_FILE, import_model, list_models, model_hash
from .parameters import Parameters
from .settings import read_setting, write_setting
from .texts import _, duration
from .training_plot import TrainingPlot
from .training_run import Curve, RunState, TrainingRun, rehearse, train_arguments
from .widgets import Ui, allow, on_click, on_path, silent

LOOK_MS = 2000
"""Between two looks at the files of a training; it writes every ten steps."""
RECIPE, COHORT, RUN, TAKEN = "TrainRecipe", "TrainCohort", "TrainRun", "TrainTakenModels"
"""Settings: the training is found again when Slicer is opened the next time."""


class TrainPanel:
    """Trains a recipe into a run folder.

    Args:
        ui: The widgets of the module.
        bar: Runs the dry run, and shows errors.
        on_models: Called when a finished model was added to this computer's models.
    """

    def __init__(self, ui: Ui, bar: JobBar, *, on_models: Callable[[], None]) -> None:
        self.ui = ui
        self.bar = bar
        self._on_models = on_models
        self._parameters: Parameters | None = None
        self._run: TrainingRun | None = None
        self._fault = ""
        self._state = RunState.EMPTY
        self._shown: tuple[Curve, ...] = ()
        self._plan = ""
        self._plot = TrainingPlot(ui.trainingPlotFrame)
        self._look = qt.QTimer()
        self._look.setInterval(LOOK_MS)
        self._look.timeout.connect(self.look)
        ui.trainingText.font = qt.QFontDatabase.systemFont(qt.QFontDatabase.FixedFont)  # the dry run makes a table
        ui.trainCohortEdit.filters = ui.runFolderEdit.filters = ctk.ctkPathLineEdit.Dirs
        for edit, name in ((ui.recipeEdit, RECIPE), (ui.trainCohortEdit, COHORT), (ui.runFolderEdit, RUN)):
            with silent(edit):
                edit.currentPath = read_setting(name)
        self._connect()

    def set_parameters(self, parameters: Parameters | None) -> None:
        """Take the parameter node of the scene; while it is closed the training goes on and nobody looks."""
        self._parameters = parameters
        if parameters is None:
            self._look.stop()
            self._plot.clear()
            self._shown = ()
        else:
            self._attach()

    def refresh(self) -> None:
        """Enable what can be done now, and say why the rest cannot."""
        ui, running = self.ui, _("The training is running.")
        place = "" if self._run else self._fault or _("Choose a run folder first.")
        recipe = "" if self._recipe().is_file() else _("Choose a recipe (.toml) first.")
        busy = running if self._state is RunState.RUNNING else ""
        has_begun = self._run is not None and self._run.has_begun
        begun = _("This run has begun: go on, or choose another run folder.") if has_begun else ""
        resumable = has_begun and self._state in (RunState.STOPPED, RunState.FAILED)
        allow(ui.rehearseButton, self.bar.busy or recipe or place or busy)
        allow(ui.startTrainingButton, recipe or place or busy or begun)
        allow(ui.stopTrainingButton, "" if busy else _("No training is running."))
        allow(ui.resumeTrainingButton, recipe or busy or ("" if resumable else _("There is nothing to go on with.")))
        for edit in (ui.recipeEdit, ui.trainCohortEdit):
            allow(edit, busy)

    def rehearse(self) -> None:
        """Say what the recipe would do, and what it would take."""
        arguments = train_arguments(
            self._recipe(), Path(self.ui.runFolderEdit.currentPath), cohort=self._cohort(), device=self._device()
        )
        self.bar.run(lambda: rehearse(arguments, engine_python()), _("Dry run"), self._show_plan)

    def start(self, *, resume: bool = False) -> None:
        """Start or go on, in a process of its own."""
        run = self._run
        if run is None:
            return
        self._plan = ""
        with self.bar.explaining():
            run.start(self._recipe(), resume=resume, cohort=self._cohort(), device=self._device())
        for name, edit in ((RECIPE, self.ui.recipeEdit), (COHORT, self.ui.trainCohortEdit)):
            write_setting(name, edit.currentPath)
        self._attach()

    def stop(self) -> None:
        """Ask the training to write a checkpoint and end."""
        if self._run is not None:
            with self.bar.explaining():
                self._run.stop()
                self.ui.trainingMessage.text = _("Stopping: a checkpoint is written after the next step.")

    def look(self) -> None:
        """Read how the training is doing."""
        if self._run is None:
            self._say(self._fault or _("Choose a recipe (.toml) and a run folder; “Dry run” then says what it takes."))
            return
        before, self._state = self._state, self._run.state
        if self._state is not RunState.RUNNING:
            self._look.stop()
        curves = self._run.curves()
        if curves != self._shown:
            self._plot.show(curves)
            self._shown = curves
        self._show_text(self._plan or self._run.log_tail())
        self._say(self._in_words())
        if self._state is RunState.FINISHED:
            self._take_models()
        if before is not self._state:
            self.refresh()

    def close(self) -> None:
        """Look no more; the training goes on."""
        self._look.stop()

    def _connect(self) -> None:
        ui = self.ui
        on_click(ui.rehearseButton, self.rehearse)
        on_click(ui.startTrainingButton, self.start)
        on_click(ui.stopTrainingButton, self.stop)
        on_click(ui.resumeTrainingButton, lambda: self.start(resume=True))
        on_path(ui.recipeEdit, self._recipe_chosen)
        on_path(ui.runFolderEdit, self._attach)

    def _recipe_chosen(self) -> None:
        self.look()
        self.refresh()

    def _attach(self) -> None:
        """Look at the run folder that is chosen, from now on."""
        path = self.ui.runFolderEdit.currentPath.strip()
        self._run, self._fault = None, ""
        try:
            self._run = TrainingRun(Path(path)) if path else None
        except InputError as error:
            self._fault = str(error)
        write_setting(RUN, path)
        self._state, self._shown = RunState.EMPTY, ()
        self._plot.clear()
        self.look()
        if self._state is RunState.RUNNING:
            self._look.start()
        self.refresh()

    def _show_plan(self, summary: str) -> None:
        self._plan = summary
        self._show_text(summary)

    def _take_models(self) -> None:
        """Add the finished models to this computer's, unless they are there already; large ones are read once only."""
        cards = [folder / CARD_FILE for folder in (self._run.models() if self._run is not None else ())]
        taken = ";".join(f"{card}:{card.stat().st_mtime_ns}" for card in cards)
        if taken == read_setting(TAKEN):
            return
        known = {model_hash(model.folder) for model in list_models()}
        new = [card.parent for card in cards if model_hash(card.parent) not in known]
        try:
            for folder in new:
                import_model(folder)
        except InputError as error:
            self._say(_("The model is finished, but was not added: {why}").format(why=error))
        else:
            write_setting(TAKEN, taken)
        if new:
            self._on_models()

    def _in_words(self) -> str:
        run = self._run
        if run is None or self._state is RunState.EMPTY:
            return "" if self._recipe().is_file() else _("Choose a recipe (.toml) first.")
        progress, percent = run.progress, round(100 * run.progress.fraction)
        if self._state is RunState.RUNNING:
            left = _("{time} left").format(time=duration(progress.seconds_left)) if progress.seconds_left else ""
            said = ", ".join(filter(None, [f"{percent} %", progress.message, left]))
            return _("Training: {said}. It goes on when Slicer is closed.").format(said=said)
        if self._state is RunState.FAILED and run.error is not None:
            return f"{run.error.message} {run.error.hint}".strip()
        if self._state is RunState.FINISHED:
            return _("Finished. The model is among the models of this computer.")
        return _("Stopped at {percent} %; “Go on” continues from the newest checkpoint.").format(percent=percent)

    def _say(self, text: str) -> None:
        self.ui.trainingMessage.text = text
        self.ui.trainingMessage.visible = bool(text)

    def _show_text(self, text: str) -> None:
        """Show a text, at its end, unless it is there already: who reads is not thrown back."""
        if self.ui.trainingText.toPlainText() != text:
            self.ui.trainingText.setPlainText(text)
            bar = self.ui.trainingText.verticalScrollBar()
            bar.setValue(0 if self._plan else bar.maximum)

    def _recipe(self) -> Path:
        return Path(self.ui.recipeEdit.currentPath.strip())

    def _cohort(self) -> Path | None:
        path = self.ui.trainCohortEdit.currentPath.strip()
        return Path(path) if path else None

    def _device(self) -> str:
        return self._parameters.device if self._parameters else "auto"
