"""Who finds livers that nobody drew: a segmenter that the user names, or TotalSegmentator where the user opted in.

TotalSegmentator runs as a program of its own, with weights that the user fetched before: its usage statistics are
switched off, and a proxy that leads nowhere keeps it from fetching anything.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from .core.errors import MissingError
from .core.grid import Volume
from .core.study import Mask, MaskSource
from .stages.registration import LiverFinder
from .stages.segmentation import MultimodalSegmenter

PROGRAM = "TotalSegmentator"
WEIGHTS = "Dataset297_*"
"""Its 3 mm model of all organs (``--fast``): enough for a region and for Dice and HD95 of the liver."""
NOWHERE = "http://127.0.0.1:9"
INSTALL = 'Run "pip install TotalSegmentator", then "totalseg_download_weights -t total_fast"'


@dataclass(frozen=True)
class LiverSource:
    """What finds livers.

    Args:
        model: Folder of a segmenter; wins.
        totalsegmentator: Whether TotalSegmentator may be used.
    """

    model: Path | None = None
    totalsegmentator: bool = False


NO_LIVER_SOURCE = LiverSource()


def liver_finder(source: LiverSource, device: torch.device) -> LiverFinder | None:
    """Return the liver finder that a source names; None when it names none.

    Raises:
        MissingError: The model, the program TotalSegmentator or its weights are not there.
    """
    if source.model is not None:
        segmenter = MultimodalSegmenter.load(source.model, device)
        return LiverFinder(segmenter.liver, f"model {segmenter.card.name}")
    if not source.totalsegmentator:
        return None
    program, weights = _program(), _weights()
    return LiverFinder(lambda volume: _run(program, weights, volume, device), PROGRAM)


def _program() -> str:
    beside = Path(sys.executable).with_name(PROGRAM)
    program = str(beside) if beside.is_file() else shutil.which(PROGRAM)
    if program is None:
        raise MissingError("TotalSegmentator is asked for and not installed", remedy=INSTALL)
    return program


def _weights() -> Path:
    home = Path(os.environ.get("TOTALSEG_HOME_DIR", Path.home() / ".totalsegmentator"))
    folder = Path(os.environ.get("TOTALSEG_WEIGHTS_PATH", home / "nnunet" / "results"))
    if not any(folder.glob(WEIGHTS)):
        raise MissingError("TotalSegmentator has no weights on this machine; nothing is fetched here", remedy=INSTALL)
    return folder


def _run(program: str, weights: Path, volume: Volume, device: torch.device) -> Mask:
    """Return the liver of one CT volume (HU), on its grid."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sitk.WriteImage(sitk.Cast(volume.to_image(), sitk.sitkInt16), str(folder / "ct.nii.gz"))
        quiet = {"totalseg_id": "none", "send_usage_stats": False, "prediction_counter": 0}
        (folder / "config.json").write_text(json.dumps(quiet), encoding="utf-8")
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE)
        paths = {"TOTALSEG_HOME_DIR": name, "TOTALSEG_WEIGHTS_PATH": str(weights)}
        kind = f"gpu:{device.index or 0}" if device.type == "cuda" else "cpu"
        command = [program, "-i", "ct.nii.gz", "-o", "out", "--fast", "--quiet", "--device", kind]
        try:
            done = subprocess.run(
                command, cwd=folder, env={**os.environ, **proxies, **paths}, capture_output=True, text=True, check=False
            )
        except OSError:  # its interpreter was moved or removed
            raise MissingError("TotalSegmentator is there, but cannot be started", remedy=INSTALL) from None
        found = folder / "out" / "liver.nii.gz"
        if done.returncode or not found.is_file():
            last = (done.stderr.strip().splitlines() or ["it wrote no liver"])[-1]
            raise MissingError(f"TotalSegmentator failed: {last.replace(name, '')}", remedy=INSTALL)
        liver = sitk.GetArrayFromImage(sitk.ReadImage(str(found)))
    return Mask(Volume((liver > 0).astype(np.uint8), volume.grid), MaskSource.MODEL)
