"""Model folders (``model.json`` + one ``.safetensors`` per network) and the checkpoints of a training run.

Nothing here unpickles code: models are safetensors, checkpoints are read with ``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from .. import __version__
from ..core.config import ModelCard, ModelKind, SettingsT, build_config
from ..core.errors import InputError, MissingError
from ..core.files import new_file, new_folder

CARD_FILE = "model.json"
CHECKPOINT_FOLDER = "checkpoints"
BEST_FILE = "best.safetensors"

NetworkT = TypeVar("NetworkT", bound=nn.Module)
Weights = Mapping[str, torch.Tensor]
"""A network's state dict."""


@dataclass(frozen=True, eq=False)
class LoadedWeights:
    """A model as it lies on disk.

    Args:
        card: What ``model.json`` says.
        networks: State dict of each network by name, on the device that was asked for.
        hash: SHA-256 of the folder's content.
    """

    card: ModelCard
    networks: Mapping[str, Weights]
    hash: str


def save_model(folder: Path, card: ModelCard, networks: Mapping[str, Weights], *, force: bool = False) -> None:
    """Write a model folder; it appears complete or not at all.

    Args:
        folder: Where; its parent is created.
        card: Its ``networks`` names what ``networks`` holds.
        networks: State dict of each network by name.
        force: Replace a folder that is there.

    Raises:
        InputError: The folder exists and ``force`` is not given, it cannot be written, or card and networks differ.
    """
    if set(card.networks) != set(networks):
        raise InputError(
            f"Weights of {', '.join(sorted(networks))}", expected=f"the card's {', '.join(sorted(card.networks))}"
        )
    with new_folder(folder, force=force, known_by=CARD_FILE) as partial:
        text = json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False)
        (partial / CARD_FILE).write_text(text + "\n", encoding="utf-8")
        for name, weights in networks.items():
            (partial / _network_file(name)).write_bytes(save(_portable(weights)))


def software_versions() -> dict[str, str]:
    """Return the versions that a model card and a history entry name."""
    return {"diff4mmlits": __version__} | {
        name: version(name) for name in ("torch", "monai", "diffusers", "accelerate")
    }


def load_card(folder: Path) -> ModelCard:
    """Read ``model.json``.

    Raises:
        MissingError: There is no such folder, no ``model.json`` in it, or it cannot be read.
    """
    try:
        values = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError(
            f"There is no model in '{folder.name}'",
            expected=f"a folder with {CARD_FILE} and .safetensors files",
            remedy="Check the path, or make a model with the command train",
        ) from None
    except OSError as error:  # its text names the whole path
        raise _corrupt(folder, CARD_FILE, error.strerror or "unreadable") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _corrupt(folder, CARD_FILE, str(error)) from None
    if not isinstance(values, dict):
        raise _corrupt(folder, CARD_FILE, "not a JSON object")
    try:
        return build_config(ModelCard, values)
    except InputError as error:
        raise _corrupt(folder, CARD_FILE, str(error)) from None


def load_model(folder: Path, kind: ModelKind, device: torch.device | str = "cpu") -> LoadedWeights:
    """Read a model of the kind that is needed.

    Raises:
        MissingError: No model there, one of another kind, or a file of it is missing or damaged.
    """
    card = load_card(folder)
    if card.kind is not kind:
        raise MissingError(
            f"The model '{folder.name}' is of kind {card.kind}",
            expected=f"a model of kind {kind}",
            remedy=f"Choose the folder of a model of kind {kind}",
        )
    networks = {name: _load_network(folder, name, device) for name in card.networks}
    return LoadedWeights(card, networks, model_hash(folder))


def network_config(card: ModelCard, name: str, kind: type[SettingsT]) -> SettingsT:
    """Return the configuration of a network of a model.

    Args:
        card: The model's card.
        name: Of the network.
        kind: Class of its configuration.

    Raises:
        MissingError: The card names no such network, or its configuration is not one.
    """
    if name not in card.networks:
        raise MissingError(
            f"The model '{card.name}' has no network '{name}', but {', '.join(sorted(card.networks)) or 'none at all'}",
            expected=f"a model of kind {card.kind} as the command train writes it",
            remedy="Copy the model again, or train it again",
        )
    try:
        return build_config(kind, card.networks[name])
    except InputError as error:
        raise MissingError(
            f"The configuration of the network '{name}' in the model '{card.name}' cannot be used: {error}",
            remedy="Use the version of this software that made the model, or train it again",
        ) from None


def fill_network(network: NetworkT, weights: LoadedWeights, name: str) -> NetworkT:
    """Return a network with the weights of a model.

    Raises:
        MissingError: They do not fit.
    """
    try:
        network.load_state_dict(dict(weights.networks[name]))
    except RuntimeError:
        raise MissingError(
            f"The weights of '{weights.card.name}' do not fit the network '{name}' that its model.json describes",
            remedy="Copy the model again, or train it again",
        ) from None
    return network


def model_hash(folder: Path) -> str:
    """Return the SHA-256 of a model's content: its card and all weights.

    Raises:
        MissingError: A file of the model is missing.
    """
    digest = hashlib.sha256()
    for name in (CARD_FILE, *(_network_file(network) for network in sorted(load_card(folder).networks))):
        try:
            with (folder / name).open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise _corrupt(folder, name, error.strerror or "unreadable") from None
    return digest.hexdigest()


def save_checkpoint(run: Path, step: int, state: Mapping[str, Any], *, keep: int) -> Path:  # Any: tensors, numbers
    """Write the state after ``step`` steps into a run folder, complete or not at all; keep the last ``keep``.

    Args:
        run: The run folder.
        step: Optimizer steps done.
        state: Tensors, numbers, texts, and lists and dicts of them.
        keep: How many checkpoints stay.

    Raises:
        InputError: No permission, or the disk is full.
    """
    file = run / CHECKPOINT_FOLDER / f"{step:09d}.pt"
    with new_file(file, force=True) as partial:
        buffer = BytesIO()  # torch reports a full disk as RuntimeError without a reason, a plain write tells it
        torch.save(dict(state), buffer)
        partial.write_bytes(buffer.getbuffer())
    for old in _checkpoints(run)[:-keep]:
        old.unlink()
    return file


def load_checkpoint(run: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:  # Any: see save_checkpoint
    """Return the newest state in a run folder, or None when there is none.

    Raises:
        InputError: The newest checkpoint cannot be read.
    """
    files = _checkpoints(run)
    if not files:
        return None
    try:
        return dict(torch.load(files[-1], map_location=device, weights_only=True))
    except Exception as error:  # torch raises many types for damaged files
        raise InputError(
            f"The checkpoint '{files[-1].name}' of run '{run.name}' is damaged ({type(error).__name__})",
            remedy="Delete it to resume from the one before",
        ) from None


def save_best(run: Path, networks: Mapping[str, Weights]) -> None:
    """Write the best weights so far (moving averages where kept) into a run folder, atomically."""
    tensors = {f"{name}/{key}": value for name, weights in networks.items() for key, value in weights.items()}
    with new_file(run / BEST_FILE, force=True) as partial:
        partial.write_bytes(save(_portable(tensors)))


def load_best(run: Path, device: torch.device | str = "cpu") -> dict[str, dict[str, torch.Tensor]]:
    """Return the best weights of a run: state dicts by network.

    Raises:
        MissingError: The run has none yet, or the file is damaged.
    """
    networks: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in _load_tensors(run, BEST_FILE, device).items():
        name, _, parameter = key.partition("/")
        networks.setdefault(name, {})[parameter] = value
    return networks


def _portable(weights: Weights) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().clone().contiguous() for key, value in weights.items()}


def _load_network(folder: Path, name: str, device: torch.device | str) -> Weights:
    return _load_tensors(folder, _network_file(name), device)


def _load_tensors(folder: Path, name: str, device: torch.device | str) -> dict[str, torch.Tensor]:
    try:
        return dict(load_file(str(folder / name), device=str(device)))
    except FileNotFoundError:
        raise _corrupt(folder, name, "it is not there") from None
    except (SafetensorError, OSError) as error:
        raise _corrupt(folder, name, type(error).__name__) from None


def _network_file(name: str) -> str:
    return f"{name}.safetensors"


def _checkpoints(run: Path) -> list[Path]:
    return sorted((run / CHECKPOINT_FOLDER).glob("*.pt"))


def _corrupt(folder: Path, name: str, reason: str) -> MissingError:
    return MissingError(
        f"The file {name} of '{folder.name}' cannot be used: {reason}",
        expected="an undamaged model folder",
        remedy="Copy the model again, or train it again",
    )
