"""The models that this computer has: those that come with the module, and those that the user imported from files."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ..core.errors import InputError
from ..core.files import explained, new_folder
from ..core.study_io import file_hash
from ..core.study_records import Json, read_record
from .texts import _

BUNDLED = Path(__file__).parents[2] / "Resources" / "Models"
FOLDER_VARIABLE = "DIFF4MMLITS_MODELS"
CARD_FILE, HASH_FILE = "model.json", "imported.sha256"
"""The card of a model; the hash it had at its import, beside the model's folder so that this stays as it was."""
NEWEST_CARD = 1
LARGEST_BYTES = 20 * 2**30
"""No model is larger; a zip file that would unpack to more is refused."""


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
    chosen = os.environ.get(FOLDER_VARIABLE, "")
    return Path(chosen) if chosen else _data_folder() / "Diff4MMLiTS" / "Models"


def list_models(kind: str = "") -> tuple[InstalledModel, ...]:
    """Return all models, or those of one kind, the user's first; folders that are no models are left out."""
    found = []
    for place, is_bundled in ((models_folder(), False), (BUNDLED, True)):
        for card in sorted(place.glob(f"*/{CARD_FILE}")):
            try:
                found.append(_model(card.parent, is_bundled=is_bundled))
            except InputError:  # not a model: nothing that could be chosen
                continue
    return tuple(model for model in found if kind in ("", model.kind))


def find_model(model: Path | str, kind: str) -> Path:
    """Return the folder of the model of this kind and name, the user's before the bundled; else what the path names."""
    listed = {each.name: each.folder for each in reversed(list_models(kind))}
    return listed.get(str(model)) or Path(model).expanduser().absolute()


def import_model(source: Path) -> InstalledModel:
    """Copy a model into ``models_folder``: a folder, its ``model.json``, or a zip file of one.

    Raises:
        InputError: It is no model, is not complete, or a model of this name is there.
    """
    with _unpacked(source) as folder:
        model = _model(folder, is_bundled=False)
        target = models_folder() / _folder_name(model.name)
        with new_folder(target) as partial:
            for name in [CARD_FILE, *_weights(folder)]:
                shutil.copyfile(folder / name, partial / name)
        with explained(_hash_file(target)):
            _hash_file(target).write_text(model_hash(target) + "\n", encoding="ascii")
    return _model(target, is_bundled=False)


def delete_model(model: InstalledModel) -> None:
    """Remove an imported model from this computer.

    Raises:
        InputError: It came with the module, or cannot be removed.
    """
    if model.is_bundled or model.folder.parent != models_folder():
        raise InputError(
            _("The model '{model}' came with the module").format(model=model.name),
            expected=_("a model that was imported"),
        )
    with explained(model.folder):
        shutil.rmtree(model.folder)
        _hash_file(model.folder).unlink(missing_ok=True)


def verify_model(model: InstalledModel) -> str:
    """Return the model's hash (as in the history of results) after comparing it with the one at its import.

    Raises:
        InputError: Files changed, are missing, or cannot be read.
    """
    found = model_hash(model.folder)
    if imported_hash(model) not in ("", found):
        raise InputError(
            _("The model '{model}' changed since it was imported").format(model=model.name),
            expected=_("the files that were imported"),
            remedy=_("Delete it and import it again from where it came"),
        )
    return found


def imported_hash(model: InstalledModel) -> str:
    """Return the hash that a model had at its import; empty when it was not imported, so that nothing is known."""
    record = _hash_file(model.folder)
    return record.read_text(encoding="ascii").strip() if record.is_file() else ""


def model_hash(folder: Path) -> str:
    """Return the SHA-256 of a model's card and weights, as the engine computes it.

    Raises:
        InputError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for name in [CARD_FILE, *sorted(_weights(folder))]:
        try:
            digest.update(bytes.fromhex(file_hash(folder / name)))
        except OSError as error:
            raise InputError(
                _("'{folder}/{name}' cannot be read ({why})").format(folder=folder.name, name=name, why=error.strerror),
                expected=_("a complete model"),
                remedy=_("Import the model again"),
            ) from None
    return digest.hexdigest()


def _model(folder: Path, *, is_bundled: bool) -> InstalledModel:
    if not (folder / CARD_FILE).is_file():
        raise InputError(
            _("'{folder}' holds no model").format(folder=folder.name),
            expected=_("a folder with {file}").format(file=CARD_FILE),
            remedy=_("Choose the model's folder"),
        )
    card = read_record(folder / CARD_FILE, newest=NEWEST_CARD)
    missing = [name for name in _weights_of(card) if not (folder / name).is_file()]
    if "kind" not in card or not _weights_of(card) or missing:
        lacking = _("'{folder}' is not a complete model: {names} is missing")
        found = lacking if missing else _("'{folder}' is not a complete model")
        raise InputError(
            found.format(folder=folder.name, names=", ".join(missing)),
            expected=_("a folder with {file} and one .safetensors file per network").format(file=CARD_FILE),
            remedy=_("Copy the whole model folder"),
        )
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    texts = {name: str(card.get(name, "")) for name in ("kind", "license", "intended_use", "training_data")}
    phases = tuple(map(str, card.get("phases", ())))
    name = str(card.get("name") or folder.name)
    return InstalledModel(folder=folder, name=name, phases=phases, size_mb=size / 1e6, is_bundled=is_bundled, **texts)


def _weights(folder: Path) -> list[str]:
    return _weights_of(read_record(folder / CARD_FILE, newest=NEWEST_CARD))


def _weights_of(card: Json) -> list[str]:
    networks = card.get("networks")
    names = networks if isinstance(networks, dict) else {}
    return [f"{name}.safetensors" for name in names if Path(name).name == name]


def _folder_name(name: str) -> str:
    kept = "".join(letter if letter.isalnum() or letter in "._- " else "_" for letter in name).strip(" .")
    return kept[:60] or "model"


def _hash_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.{HASH_FILE}")


@contextmanager
def _unpacked(source: Path) -> Iterator[Path]:
    """Give the folder of a model, unpacked from its zip file where it is one."""
    if source.suffix.lower() != ".zip":
        yield source.parent if source.name == CARD_FILE else source
        return
    with TemporaryDirectory() as place:
        try:
            with zipfile.ZipFile(source) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > LARGEST_BYTES:
                    raise InputError(
                        _("'{source}' is too large for a model").format(source=source.name),
                        expected=_("a zip file of one model"),
                    )
                archive.extractall(place)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(
                _("'{source}' cannot be unpacked").format(source=source.name),
                expected=_("an undamaged zip file"),
                remedy=_("Copy it again"),
            ) from error
        cards = sorted(Path(place).rglob(CARD_FILE))
        if len(cards) != 1:
            raise InputError(
                _("'{source}' holds {cards} models").format(source=source.name, cards=len(cards)),
                expected=_("a zip file of one model"),
            )
        yield cards[0].parent


def _data_folder() -> Path:
    """Return where programs keep the user's data on this system."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
