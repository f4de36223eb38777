"""Studies are paired with their normal counterparts by id."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.study import TUMOR_FREE, MaskSource, NormalStudy
from Diff4MMLiTSLib.core.study_io import write_normal, write_study
from Diff4MMLiTSLib.pairing import paired_with_normal
from Diff4MMLiTSLib.training.datasets import to_working_study


@pytest.fixture
def a_normal_folder(a_study, tmp_path):
    """The study without its tumor, in a folder of another name."""
    filled = replace(a_study.tumor_mask, source=MaskSource.MODEL)
    folder = tmp_path / "normal" / "renamed"
    write_normal(NormalStudy(replace(a_study, tumor=TUMOR_FREE), filled), folder)
    return folder


def test_a_study_is_paired_by_its_id_not_by_the_name_of_its_folder(a_study, a_normal_folder):
    working = to_working_study(a_study, spacing_mm=3.0, margin_mm=None)
    (pair,) = paired_with_normal([working], [a_normal_folder.parent])
    assert pair.normal.study_id == a_study.study_id
    np.testing.assert_array_equal(pair.normal.phases[2], working.phases[2])


def test_two_normal_studies_of_one_id_are_refused(a_study, a_normal_folder, tmp_path):
    write_study(replace(a_study, tumor=TUMOR_FREE), tmp_path / "other" / "renamed")
    working = to_working_study(a_study, spacing_mm=3.0, margin_mm=None)
    with pytest.raises(InputError, match="are both study"):
        paired_with_normal([working], [a_normal_folder.parent, tmp_path / "other"])


def test_a_study_without_counterpart_is_refused(a_study, a_normal_folder):
    working = to_working_study(replace(a_study, study_id="other"), spacing_mm=3.0, margin_mm=None)
    with pytest.raises(InputError, match="'other' has no inpainted counterpart"):
        paired_with_normal([working], [a_normal_folder.parent])
