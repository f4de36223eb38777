"""What a MONAI bundle of a segmenter runs: the phases of one study, as image files, to liver and tumor masks.

The bundle's ``configs/inference.json`` calls these two functions, so that a bundle gives the masks that ``segment``
gives: the same code works on the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .core.config import SegmentConfig, build_config
from .core.errors import InputError
from .core.images import is_marked_synthetic, read_volume
from .core.phases import default_reference, parse_phase
from .core.progress import silent
from .core.study import RegisteredStudy
from .core.study_io import write_segmentation
from .pipeline import find_device
from .stages.segmentation import MultimodalSegmenter


def load_segmenter(folder: str, device: str = "auto") -> MultimodalSegmenter:
    """Read the model of a bundle.

    Args:
        folder: The bundle's folder ``models``.
        device: ``auto``, ``cpu`` or ``cuda:N``.

    Raises:
        MissingError: The model or the device is not there.
        InputError: The device has another name.
    """
    return MultimodalSegmenter.load(Path(folder), find_device(device))


def segment_files(
    segmenter: MultimodalSegmenter,
    files: Mapping[str, str | None],
    out: str,
    *,
    study_id: str = "study",
    settings: Mapping[str, object] | None = None,
    force: bool = False,
) -> str:
    """Find liver and tumors in registered phases and write the masks as ``segment`` does.

    Args:
        segmenter: From ``load_segmenter``.
        files: Image file (CT in HU) by the name of its phase; None where a phase is missing. All on one grid.
        out: Folder that receives ``<study_id>/`` with study.json, liver.nrrd and tumor.nrrd.
        study_id: Name of the study.
        settings: Settings of ``segment`` by name.
        force: Replace what is there.

    Returns:
        The folder of the study.

    Raises:
        InputError: No file, one that cannot be read, phases on different grids, or the output exists.
        OutOfMemoryError: The device's memory is too small.
    """
    paths = {parse_phase(name): Path(file) for name, file in files.items() if file}
    if not paths:
        raise InputError("No image file", expected="at least one phase, for example --PVP portal_venous.nii.gz")
    volumes = {phase: read_volume(path) for phase, path in paths.items()}
    study = RegisteredStudy(study_id, volumes, default_reference(volumes))
    config = build_config(SegmentConfig, dict(settings or {}))
    found = segmenter.segment(study, config=config, progress=silent())
    folder = Path(out) / study_id
    write_segmentation(
        found,
        folder,
        force=force,
        synthetic=any(map(is_marked_synthetic, paths.values())),
        intended_use=segmenter.card.intended_use,
    )
    return str(folder)
