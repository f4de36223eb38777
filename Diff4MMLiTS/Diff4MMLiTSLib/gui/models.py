"""The models that this computer has: those that come with the module, and those that the user imported from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class InstalledModel:
    """A model folder and what its card says.

    Args:
        folder: Where it lies.
        name: Its name.
        kind: ``segmenter``, ``inpainter``, …
        phases: Names of the phases it can use.
        license: Its license.
        intended_use: What it is for.
        training_data: What it was trained on.
        size_mb: Size of the folder.
        is_bundled: Whether it came with the module and cannot be deleted.
    """

    folder: Path
    name: str
    kind: str
    phases: tuple[str, ...]
    license: str
    intended_use: str
    training_data: str
    size_mb: float
    is_bundled: bool


def models_folder() -> Path:
    """Return where imported models are kept: ``DIFF4MMLITS_MODELS``, else a folder in the user's data folder."""
    raise NotImplementedError


def list_models(kind: str = "") -> tuple[InstalledModel, ...]:
    """Return all models, or those of one kind, the user's first; folders that are no models are left out."""
    raise NotImplementedError


def import_model(source: Path) -> InstalledModel:
    """Copy a model into ``models_folder``: a folder, its ``model.json``, or a zip file of one.

    Raises:
        InputError: It is no model, is not complete, or a model of this name is there.
    """
    raise NotImplementedError


def delete_model(model: InstalledModel) -> None:
    """Remove an imported model from this computer.

    Raises:
        InputError: It came with the module, or cannot be removed.
    """
    raise NotImplementedError


def verify_model(model: InstalledModel) -> str:
    """Return the model's hash (as in the history of results) after comparing it with the one at its import.

    Raises:
        InputError: Files changed, are missing, or cannot be read.
    """
    raise NotImplementedError
