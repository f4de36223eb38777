"""The tab about this computer: what is installed, which interpreter and devices, which models, where data are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .dependencies import EngineState, Gpu, Package, check_engine, install_steps, packages_here
from .engine import choose_python, chosen_python, engine_python, is_own
from .installer import RestartNeededError, has_pytorch_extension, install
from .job_bar import JobBar
from .model_panel import ModelPanel
from .parameters import Parameters
from .task import JobError
from .texts import _
from .widgets import Ui, allow, fill_table, on_click, on_path, prepare_table, silent


class SetupPanel:
    """Shows what the engine needs and gets it.

    Args:
        ui: The widgets of the module.
        bar: Runs the look at the engine.
        on_models: Called when models came or went.
        on_devices: Called with the GPUs that were found.
    """

    def __init__(
        self,
        ui: Ui,
        bar: JobBar,
        *,
        on_models: Callable[[], None],
        on_devices: Callable[[tuple[Gpu, ...]], None],
    ) -> None:
        self.ui = ui
        self.bar = bar
        self.models = ModelPanel(ui, bar, on_models)
        self._on_devices = on_devices
        self._packages: tuple[Package, ...] = ()
        self._known = ""  # the interpreter that said so
        prepare_table(ui.packageTable, [_("Package"), _("Installed"), _("Needed")], stretched=0)
        on_click(ui.installButton, self._install)
        on_click(ui.checkButton, self.check)
        with silent(ui.pythonEdit):
            ui.pythonEdit.currentPath = chosen_python()
        on_path(ui.pythonEdit, self._python_chosen)
        self.look()

    def set_parameters(self, _parameters: Parameters | None) -> None:
        """Nothing here belongs to a scene."""

    def look(self) -> None:
        """Look at Slicer's own packages, without starting anything; another interpreter must be asked.

        What it said stays until it is another one, or its packages are others: a version does not tell a broken one.
        """
        python = engine_python()
        here = packages_here() if is_own(python) else ()
        is_known = self._known == python and (not here or _versions(here) == _versions(self._packages))
        self._known = python if is_known else ""
        self._show(self._packages if is_known else here)
        if not self._packages:
            ask = _("The engine runs in {python}; test it to see what it has.")
            self.ui.engineState.text = ask.format(python=python)

    def check(self) -> None:
        """Ask the engine's interpreter, in a process of its own, for packages and devices."""
        self.bar.run(lambda: check_engine(engine_python()), _("Test engine and devices"), self._checked)

    def refresh(self) -> None:
        """Enable what can be done now, and say why the rest cannot."""
        complete = _("Nothing is missing.") if self._packages and not self._missing() else ""
        elsewhere = _("Another interpreter runs the engine; install into it with its own pip.")
        foreign = "" if is_own(engine_python()) else elsewhere
        allow(self.ui.installButton, self.bar.busy or foreign or complete)
        for widget in (self.ui.checkButton, self.ui.pythonEdit):
            allow(widget, self.bar.busy)
        self.models.refresh()

    def close(self) -> None:
        """Nothing runs for this panel."""

    def _missing(self) -> list[Package]:
        return [package for package in self._packages if not package.is_satisfied]

    def _checked(self, state: EngineState) -> None:
        self._known = engine_python()
        self._show(state.packages)
        gpus = [
            _("{name}: {free} of {size} GB free").format(
                name=gpu.name, free=f"{gpu.free_gb:.1f}", size=f"{gpu.memory_gb:.1f}"
            )
            for gpu in state.gpus
        ]
        broken = _("PyTorch is installed but cannot be loaded; install it again.")
        torch = any(package.name == "torch" and package.version for package in state.packages)
        none = _("No GPU that PyTorch can use: everything runs on the processor.")
        lines = gpus or [broken if torch and not state.torch_works else none]
        computer = _("Python {python}, {memory} GB of memory, {disk} GB free on the disk.").format(
            python=state.python, memory=f"{state.memory_gb:.0f}", disk=f"{state.disk_free_gb:.0f}"
        )
        self.ui.deviceNote.text = "\n".join([*lines, computer, *state.advice])
        self._on_devices(state.gpus)
        self.refresh()

    def _show(self, packages: Sequence[Package]) -> None:
        self._packages = tuple(packages)
        rows = [[package.name, package.version or _("missing"), package.requirement] for package in packages]
        fill_table(self.ui.packageTable, rows)
        missing = self._missing()
        names = ", ".join(package.name for package in missing)
        ready = _("Everything that the engine needs is installed.")
        lacking = _("Missing, too old or broken: {names}.").format(names=names)
        self.ui.engineState.text = lacking if missing else ready
        self.refresh()

    def _install(self) -> None:
        """Install step after step, each with Slicer's own progress and consent."""
        self.bar.dismiss()
        try:
            for step in install_steps(self._packages, has_pytorch_extension=has_pytorch_extension()):
                self.ui.engineState.text = step.title
                install(step)
        except RestartNeededError:
            self.ui.engineState.text = _(
                "The PyTorch extension is installed. Restart Slicer and press the button again."
            )
            return
        except Exception as error:  # whatever pip or a server says belongs into the panel, not into a traceback
            hint = _("Check the network connection; the Python console shows what pip said.")
            self.bar.fail(JobError("install", _("The installation failed: {why}").format(why=error), hint))
        self._known = ""
        self.look()

    def _python_chosen(self) -> None:
        choose_python(self.ui.pythonEdit.currentPath.strip())
        self.ui.deviceNote.text = _("Not tested yet with this interpreter.")
        self._on_devices(())
        self.look()


def _versions(packages: Sequence[Package]) -> list[tuple[str, str]]:
    return [(package.name, package.version) for package in packages]
