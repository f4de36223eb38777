"""Real CTs go through every stage: outputs lie on the input's grid, nothing outside the band changes, marks are kept.

The networks here have hardly been trained: these are tests of contracts, not of quality.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from multiphase import derive_study
from test_demo import a_demo  # noqa: F401 (a fixture)

from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core.grid import Volume, resample
from Diff4MMLiTSLib.core.images import is_marked_synthetic, read_mask, read_volume
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study import TUMOR_FREE, Mask, MaskSource, RegisteredStudy
from Diff4MMLiTSLib.core.study_io import read_normal, read_registered, read_segmentation, write_study
from Diff4MMLiTSLib.core.tumor_mask import distance_mm


@pytest.fixture(scope="module")
def a_donor(request):
    """A healthy donor's portal venous CT with its liver, as a one-phase study declared free of tumor."""
    folder = request.getfixturevalue("real_data_folder") / "chaos_pv_donor"
    ct = read_volume(folder / "ct.nii.gz")
    liver = read_mask(folder / "seg.nii.gz", MaskSource.ANNOTATION)
    return RegisteredStudy("donor", {Phase.PVP: ct}, Phase.PVP, liver=liver, tumor=TUMOR_FREE)
