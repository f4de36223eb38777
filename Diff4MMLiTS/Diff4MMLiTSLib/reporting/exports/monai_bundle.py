"""A segmenter as a MONAI bundle: its weights unchanged, and a configuration that runs them as ``segment`` does.

The bundle needs the package diff4mmlits: resampling, windows and the rules that turn probabilities into masks are
code, and only the same code gives the same masks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ... import __version__
from ...core.config import ModelCard, SegmenterNetwork, build_config
from ...core.files import new_folder
from ...core.phases import ALL_PHASES
from ..html import NOT_A_DEVICE
from .model_card import model_card_text

CARD_FILE = "model.json"
SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
CLASSES = ("background", "liver", "tumor")
REFERENCE = (
    "Chen, Lin, Cheng, Jin, Chen, Zhu, Wong, Tang: Diff4MMLiTS: Advanced Multimodal Liver Tumor Segmentation via "
    "Diffusion-Based Image Synthesis and Alignment. arXiv:2412.20418"
)
PACKAGES = ("SimpleITK", "scipy", "safetensors", "pydantic")

Json = dict[str, Any]  # Any: plain JSON, written for other programs


def export_monai_bundle(model: Path, out: Path, *, card: ModelCard, digest: str, force: bool = False) -> None:
    """Write a segmenter as a bundle: ``configs``, ``models``, ``docs/README.md`` and ``LICENSE``.

    Args:
        model: The model's folder, which was checked.
        out: The new folder of the bundle; it appears whole or not at all.
        card: What its ``model.json`` says.
        digest: SHA-256 of the model's folder.
        force: Replace an existing bundle.

    Raises:
        InputError: The output exists, or cannot be written.
    """
    with new_folder(out, force=force, known_by="configs/metadata.json") as partial:
        for name in ("configs", "models", "docs"):
            (partial / name).mkdir()
        for file in (CARD_FILE, *(f"{network}.safetensors" for network in card.networks)):
            shutil.copyfile(model / file, partial / "models" / file)
        _write_json(partial / "configs" / "metadata.json", metadata(card))
        _write_json(partial / "configs" / "inference.json", inference_config())
        readme = _readme(card) + "\n" + model_card_text(card, digest)
        (partial / "docs" / "README.md").write_text(readme, encoding="utf-8")
        (partial / "LICENSE").write_text(f"SPDX-License-Identifier: {card.license}\n", encoding="utf-8")


def inference_config() -> Json:
    """Return ``configs/inference.json``: everything before ``segmenter`` can be changed on the command line."""
    files = ", ".join(f"'{phase}': @{phase}" for phase in ALL_PHASES)
    return {
        "imports": ["$from Diff4MMLiTSLib.bundle import segment_files"],
        "bundle_root": ".",
        "model_dir": "$@bundle_root + '/models'",
        **{str(phase): None for phase in ALL_PHASES},
        "study_id": "study",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "auto",
        "settings": {},
        "force": False,
        "segmenter": {
            "_target_": "Diff4MMLiTSLib.bundle.load_segmenter",
            "folder": "@model_dir",
            "device": "@device",
        },
        "network_def": "$@segmenter.network",
        "run": [
            f"$segment_files(@segmenter, {{{files}}}, @output_dir, "
            "study_id=@study_id, settings=@settings, force=@force)"
        ],
    }


def metadata(card: ModelCard) -> Json:
    """Return ``configs/metadata.json``."""
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported from the model {card.name} by Diff4MMLiTS {__version__}"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {"diff4mmlits": __version__, **{name: _version(name) for name in PACKAGES}},
        "supported_apps": {},
        "name": card.name,
        "task": "Liver and liver tumor segmentation in multiphase CT",
        "description": "Liver and liver tumors from any subset of the registered phases NC, AP, PVP and DELAY.",
        "authors": "Diff4MMLiTS",
        "copyright": f"License of the model: {card.license}",
        "data_source": card.training_data,
        "data_type": "NIfTI, NRRD or anything that SimpleITK reads; CT values in Hounsfield units",
        "image_classes": f"registered CT phases {', '.join(card.phases)}, at least one",
        "label_classes": "liver: 0 background, 1 liver with tumors; tumor: 0 background, 1 tumor",
        "pred_classes": "two masks, liver.nrrd and tumor.nrrd, on the grid of the first present of PVP, AP, DELAY, NC",
        "eval_metrics": card.metrics,
        "intended_use": f"{card.intended_use}. {NOT_A_DEVICE}",
        "references": [REFERENCE],
        "network_data_format": _network_format(card),
    }


def _network_format(card: ModelCard) -> Json:
    patch = list(build_config(SegmenterNetwork, next(iter(card.networks.values()))).patch)
    channels = [
        *(f"{phase}, window {card.window_hu[0]:g} to {card.window_hu[1]:g} HU as -1 to 1" for phase in card.phases),
        *(f"1 where {phase} is there, else 0" for phase in card.phases),
        "positive clicks",
        "negative clicks",
    ]
    return {
        "inputs": {"image": _tensor(patch, channels, kind="magnitude", value_range=[-1, 1])},
        "outputs": {"pred": _tensor(patch, CLASSES, kind="segmentation", value_range=[])},
    }


def _tensor(patch: list[int], channels: tuple[str, ...] | list[str], *, kind: str, value_range: list[int]) -> Json:
    return {
        "type": "image",
        "format": kind,
        "modality": "CT",
        "num_channels": len(channels),
        "spatial_shape": patch,
        "dtype": "float32",
        "value_range": value_range,
        "is_patch_data": True,
        "channel_def": {str(number): name for number, name in enumerate(channels)},
    }


def _readme(card: ModelCard) -> str:
    return f"""# Bundle of {card.name}

This bundle runs with MONAI and with the package **diff4mmlits {__version__}**, which must be installed (from its
repository): it resamples, cuts windows and turns probabilities into masks, so the masks are those of
`diff4mmlits segment`, voxel for voxel. MONAI's command line needs the package fire.

```
pip install fire
cd <this folder>
python -m monai.bundle run --config_file configs/inference.json --PVP portal_venous.nii.gz --AP arterial.nii.gz \\
    --study_id patient1 --output_dir /somewhere/segmented
```

Give any subset of `--NC`, `--AP`, `--PVP`, `--DELAY`: CT files in Hounsfield units, registered, on one grid
(`diff4mmlits register` brings them there). The result is a folder `<output_dir>/<study_id>` with `liver.nrrd`,
`tumor.nrrd` and `study.json`. `--device cpu|cuda:0`, `--settings "{{'minimum_tumor_ml': 0.1}}"` and `--force True` do
what they do in `diff4mmlits segment`.
`network_def` is the network itself, in evaluation mode.
"""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _write_json(path: Path, record: Mapping[str, object]) -> None:
    path.write_text(json.dumps(record, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
