"""Which DICOM series becomes which phase, when the user is asked, and what the ids of studies tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_factory import IDENTITY, SeriesSpec, body, write_series
from Diff4MMLiTSLib.core.dicom import DicomExam, scan_folder
from Diff4MMLiTSLib.core.dicom_studies import (
    SALT_FILE,
    acquisitions_of,
    check_assignment,
    choose_phases,
    cohort_salt,
    study_id_of,
)
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent


def an_exam(folder: Path, *specs: SeriesSpec) -> DicomExam:
    for number, spec in enumerate(specs, start=1):
        write_series(folder, spec.with_(number=number))
    (exam,) = scan_folder(folder, silent()).exams
    return exam


def numbers(exam: DicomExam, assigned: dict[int, Phase] | None = None) -> dict[Phase, int]:
    choice = choose_phases(exam, assigned or {}, interpolate_gaps=False)
    return {phase: series.number for phase, series in choice.series.items()}


def test_descriptions_decide(tmp_path):
    exam = an_exam(
        tmp_path,
        SeriesSpec(description="Abd nativ", time="100000"),
        SeriesSpec(description="arteriell", time="100200"),
        SeriesSpec(description="Leber", protocol="portal 70s", time="100240"),
    )
    assert numbers(exam) == {Phase.NC: 1, Phase.AP: 2, Phase.PVP: 3}


def test_a_multiphase_series_is_decided_by_the_order_of_its_acquisitions(tmp_path):
    one = SeriesSpec(description="Leber 4 Phasen", series_uid="1.2.3.4")
    times = ("100000", "100300", "100340", "100600")
    exam = an_exam(tmp_path, *(one.with_(time=time, acquisition=i) for i, time in enumerate(times)))
    assert numbers(exam) == {Phase.NC: 1, Phase.AP: 2, Phase.PVP: 3, Phase.DELAY: 4}


def test_phases_of_one_series_stay_apart_even_when_they_bear_one_time(tmp_path):
    one = SeriesSpec(series_uid="1.2.3.4")
    exam = an_exam(tmp_path, one, one.with_(acquisition=2))
    assert [len(acquisition.series) for acquisition in acquisitions_of(exam)] == [1, 1]


def test_of_several_reconstructions_the_thin_soft_axial_one_is_used(tmp_path):
    sharp = SeriesSpec(description="portal", hu=body((12, 32, 32)), tags={"ConvolutionKernel": "B70f"})
    coronal = SeriesSpec(description="portal cor", orientation=(1.0, 0, 0, 0, 0, -1.0), hu=body((16, 32, 32)))
    thick, thin = SeriesSpec(description="portal"), SeriesSpec(description="abd", hu=body((10, 32, 32)))
    exam = an_exam(tmp_path, sharp, coronal, thick, thin)
    assert numbers(exam) == {Phase.PVP: 4}


def test_a_reconstruction_with_missing_slices_gives_way_to_a_complete_one(tmp_path):
    write_series(tmp_path, SeriesSpec(description="portal", hu=body((12, 32, 32))), skip=(4,))
    exam = an_exam(tmp_path, SeriesSpec(description="portal thick", tags={"SeriesNumber": 9}))
    chosen = choose_phases(exam, {}, interpolate_gaps=False).series[Phase.PVP]
    assert len(chosen.stack.slices) == 8


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("Leber", "Leber"), "do not tell the contrast phase of series 1, series 2"),
        (("portal", "Leber"), "do not tell the contrast phase of series 2"),
        (("portal", "venous"), "Several acquisitions would be the phase PVP"),
        (("portal", "arterial"), "contradict the order of acquisition"),
    ],
)
def test_the_user_is_asked_with_a_list_of_series_when_the_headers_do_not_decide(tmp_path, texts, words):
    exam = an_exam(tmp_path, *(SeriesSpec(description=text, time=f"100{i}00") for i, text in enumerate(texts)))
    with pytest.raises(InputError, match=words) as caught:
        choose_phases(exam, {}, interpolate_gaps=False)
    assert "series 2: 8 slices of 32 x 32, 3.00 mm apart, axial, 60 s after the first" in str(caught.value)
    assert "--phase 1=AP" in caught.value.remedy


def test_what_the_user_says_overrules_the_headers(tmp_path):
    specs = [SeriesSpec(description=text, time=f"10{i}000") for i, text in enumerate(("portal", "venous", "delay"))]
    exam = an_exam(tmp_path, *specs)
    assert numbers(exam, {2: Phase.AP}) == {Phase.AP: 2}
    with pytest.raises(InputError, match="given the same phase"):
        numbers(exam, {1: Phase.AP, 2: Phase.AP})


def test_a_phase_for_a_series_that_is_not_there_is_an_error(tmp_path):
    write_series(tmp_path, SeriesSpec())
    with pytest.raises(InputError, match="series 7"):
        check_assignment(scan_folder(tmp_path, silent()), {1: Phase.PVP, 7: Phase.AP})


def test_examinations_of_one_patient_share_the_first_part_of_their_id(tmp_path):
    salt = cohort_salt(tmp_path / "cohort")
    first, again, later, other = (
        study_id_of(an_exam(tmp_path / name, SeriesSpec(**fields)), salt)
        for name, fields in (
            ("first", {}),
            ("again", {}),
            ("later", {"study_uid": "1.2.3"}),
            ("other", {"patient": "someone else"}),
        )
    )
    assert first == again
    assert first != later and first.rsplit("-", 1)[0] == later.rsplit("-", 1)[0]
    assert other.rsplit("-", 1)[0] != first.rsplit("-", 1)[0]


def test_another_cohort_gives_the_same_patient_another_id(tmp_path):
    exam = an_exam(tmp_path / "dicom", SeriesSpec())
    ids = {study_id_of(exam, cohort_salt(tmp_path / name)) for name in ("a", "b", "a")}
    assert len(ids) == 2
    assert (tmp_path / "a" / SALT_FILE).stat().st_mode & 0o077 == 0


def test_objects_do_not_show_identifiers_when_printed(tmp_path):
    exam = an_exam(tmp_path, SeriesSpec(description="Zzyzxmann portal"))
    shown = repr(exam)
    for secret in (*IDENTITY.values(), "Zzyzxmann", "1.2.826", str(tmp_path)):
        assert secret not in shown
