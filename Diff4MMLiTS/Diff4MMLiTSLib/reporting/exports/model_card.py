"""A model's card for people: what it is for, what it learned from, how good it is, how to make it again."""

from __future__ import annotations

import json
from pathlib import Path

from ...core.config import ModelCard, ModelKind
from ...core.errors import InputError
from ...core.files import new_file
from ..html import NOT_A_DEVICE

TASKS = {
    ModelKind.SEGMENTER: "Finds liver and liver tumors in registered CT phases; any subset of the phases works.",
    ModelKind.INPAINTER: "Fills a region of registered CT phases with tumor-free liver (Normal CT Generator).",
    ModelKind.SYNTHESIZER: "Grows a tumor from a mask into all CT phases at once (latent diffusion).",
    ModelKind.AUTOENCODER: "Turns CT patches into latents and back; a part of a synthesizer.",
    ModelKind.DENOISER: "Removes noise from latents under the condition of a tumor-free CT; a part of a synthesizer.",
}
UNITS = {
    "_hu": "HU",
    "_mm": "mm",
    "_ml": "ml",
}


def model_card_text(card: ModelCard, digest: str) -> str:
    """Return a model card as Markdown.

    Args:
        card: What ``model.json`` says.
        digest: SHA-256 of the model's folder.
    """
    parts = [
        f"# {card.name}",
        TASKS[card.kind],
        "## Intended use",
        f"**{_sentence(card.intended_use)}** {NOT_A_DEVICE}",
        "## Input",
        _table(
            {
                "phases": ", ".join(card.phases),
                "working grid": f"{card.spacing_mm:g} mm, isotropic",
                "window": f"{card.window_hu[0]:g} to {card.window_hu[1]:g} HU, mapped to -1 to 1",
            }
        ),
        "## Training data",
        f"{_sentence(card.training_data)} Weights that were trained on patients are patients' data too.",
        _table({"SHA-256 over the studies": f"`{card.data_hash}`" if card.data_hash else "not recorded"}),
        "## Metrics",
        _metrics(card),
        "## Networks",
        *(f"`{name}`\n\n```json\n{json.dumps(config, indent=2)}\n```" for name, config in card.networks.items()),
        "## Provenance",
        _table({"seed": str(card.seed), **card.versions, "SHA-256 of the model": f"`{digest}`"}),
        "## License",
        card.license,
    ]
    return "\n\n".join(parts) + "\n"


def write_model_card(card: ModelCard, digest: str, out: Path, *, force: bool = False) -> None:
    """Write a model card; see ``model_card_text``.

    Raises:
        InputError: The name does not end in ``.md``, or the file exists and ``force`` is not given.
    """
    if out.suffix.lower() != ".md":
        raise InputError(f"The model card '{out.name}'", expected="a name that ends in .md")
    with new_file(out, force=force) as partial:
        partial.write_text(model_card_text(card, digest), encoding="utf-8")


def _metrics(card: ModelCard) -> str:
    if not card.metrics:
        return "None were recorded with the model: measure it on your own data with `evaluate`."
    shown = {name: f"{value:.4g}{_unit(name)}" for name, value in card.metrics.items()}
    return "Measured on the validation studies of its training; data differ, so measure it on your own.\n\n" + _table(
        shown
    )


def _unit(name: str) -> str:
    return next((f" {unit}" for ending, unit in UNITS.items() if name.endswith(ending)), "")


def _table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items())])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else "Not recorded."
