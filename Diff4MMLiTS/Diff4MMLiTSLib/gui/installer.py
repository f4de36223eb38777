"""Installing what the engine needs into Slicer's Python: only on an explicit click, on the main thread."""

from __future__ import annotations

import importlib.util

import slicer

from .dependencies import InstallKind, InstallStep
from .texts import _

PYTORCH_EXTENSION = "PyTorch"
PYTORCH_MODULE = "PyTorchUtils"


class RestartNeededError(Exception):
    """The extension is installed; Slicer must start again before the next step."""


def has_pytorch_extension() -> bool:
    """Return whether the extension that installs torch is there."""
    return importlib.util.find_spec(PYTORCH_MODULE) is not None


def install(step: InstallStep) -> None:
    """Do one step; Slicer shows its progress and asks for consent where it must.

    Raises:
        RestartNeededError: Slicer must start again.
        RuntimeError: It did not work; the text says why.
    """
    installers = {
        InstallKind.PYTORCH_EXTENSION: _install_extension,
        InstallKind.TORCH: _install_torch,
        InstallKind.PACKAGES: _install_packages,
    }
    installers[step.kind](step)


def _install_extension(_step: InstallStep) -> None:
    manager = slicer.app.extensionsManagerModel()
    before, manager.interactive = manager.interactive, False  # the click was the answer to its question
    try:
        is_installed = manager.installExtensionFromServer(PYTORCH_EXTENSION, False)
    finally:
        manager.interactive = before
    if not is_installed:
        raise RuntimeError(_("The PyTorch extension could not be installed; try the Extensions Manager."))
    raise RestartNeededError


def _install_torch(step: InstallStep) -> None:
    import PyTorchUtils

    requirement = step.requirements[0].removeprefix("torch") if step.requirements else ""
    torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=requirement)
    if torch is None:
        raise RuntimeError(_("PyTorch was not installed."))


def _install_packages(step: InstallStep) -> None:
    try:
        from slicer.packaging import pip_ensure
    except ImportError:  # Slicer 5.10
        slicer.util.pip_install(list(step.requirements))
    else:
        pip_ensure(list(step.requirements), requester="Diff4MMLiTS", prompt_install=False)
