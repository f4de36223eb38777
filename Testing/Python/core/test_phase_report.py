"""The command ``phases``: it decides where the evidence agrees, asks where it does not, and tells nobody's name."""

from __future__ import annotations

import json

import pytest

from abdomen import an_abdomen
from dicom_factory import IDENTITY, SeriesSpec, slice_dataset, write_dataset, write_series
from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core import phase_report
from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.images import write_volume
from Diff4MMLiTSLib.core.phase_evidence import PhaseEvidence
from Diff4MMLiTSLib.core.phase_report import PhaseFinding, as_json, as_text, check_decided, recognize_phases
from Diff4MMLiTSLib.core.phases import ALL_PHASES, Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import Study
from Diff4MMLiTSLib.core.study_io import write_study

SECRETS = (*(part for value in IDENTITY.values() for part in value.split("^")), "Zzyzxmann", "20190807", "1.2.826")


@pytest.fixture(scope="session")
def abdomens():
    """One CT per phase."""
    return {phase: an_abdomen(phase, seed=index) for index, phase in enumerate(ALL_PHASES)}


@pytest.fixture(scope="session")
def seen(abdomens):
    """What each of these CTs shows; measured once."""
    return {volume.array.tobytes(): phase_report.findings_of(volume) for volume in abdomens.values()}


@pytest.fixture(autouse=True)
def remembered(seen, monkeypatch):
    """Measure a CT that was measured before by looking it up, which keeps these tests short."""
    measure = phase_report.findings_of
    monkeypatch.setattr(phase_report, "findings_of", lambda ct: seen.get(ct.array.tobytes()) or measure(ct))


def phases(capsys, *sources, code=0):
    """Run the command with --json; return its records and what it wrote to stderr."""
    assert run(["phases", *map(str, sources), "--json", "--progress", "none"]) == code
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def write(ct, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(ct, path)
    return path


def a_series(folder, ct, **fields):
    """Write a CT as a DICOM series, its slices from bottom to top."""
    spec = SeriesSpec(hu=ct.array, pixel_mm=(3.0, 3.0), origin_mm=ct.grid.origin_mm, **fields)
    write_series(folder, spec, prefix="Zzyzxmann_")


def test_a_file_is_recognized_by_its_image_alone(abdomens, tmp_path, capsys):
    records, _ = phases(capsys, write(abdomens[Phase.AP], tmp_path / "scan.nrrd"))
    assert [set(record) for record in records] == [{"source", "phase", "confidence", "evidence"}]
    assert records[0]["source"] == "scan.nrrd" and records[0]["phase"] == "AP"
    assert 0.6 <= records[0]["confidence"] <= 1
    assert "aorta" in records[0]["evidence"][0]


def test_a_file_name_that_agrees_makes_surer_and_one_that_contradicts_asks(abdomens, tmp_path, capsys):
    good, bad = (write(abdomens[Phase.AP], tmp_path / name) for name in ("arterial.nrrd", "portal venous.nrrd"))
    (record,), _ = phases(capsys, good)
    assert record["confidence"] > 0.95 and len(record["evidence"]) > 1
    (record,), message = phases(capsys, bad, code=2)
    assert record["confidence"] < 0.6
    assert "portal venous.nrrd: AP (most likely), NC, PVP, DELAY" in message


def test_the_study_whose_files_bear_the_right_names_passes_and_swapped_names_ask(abdomens, tmp_path, capsys):
    write_study(Study("good", abdomens, Phase.PVP), tmp_path / "cohort" / "good")
    swapped = {**abdomens, Phase.AP: abdomens[Phase.PVP], Phase.PVP: abdomens[Phase.AP]}
    write_study(Study("swapped", swapped, Phase.PVP), tmp_path / "cohort" / "swapped")
    records, message = phases(capsys, tmp_path / "cohort", code=2)
    sure = {record["source"]: record["phase"] for record in records if record["confidence"] >= 0.6}
    assert {f"good/{phase}.nrrd": phase.value for phase in ALL_PHASES}.items() <= sure.items()
    assert "swapped/AP.nrrd" not in sure and "swapped/PVP.nrrd" not in sure
    assert "2 of 8 volumes" in message and "good/" not in message


def test_a_dicom_examination_without_any_text_is_recognized_and_no_identifier_is_shown(abdomens, tmp_path, capfd):
    folder = tmp_path / "Zzyzxmann 20190807"
    for number, (phase, time) in enumerate(zip(ALL_PHASES, ("100000", "100300", "100335", "100700"), strict=True), 1):
        a_series(folder, abdomens[phase], description="Zzyzxmann", number=number, time=time)
    assert run(["phases", str(folder), str(folder), "--progress", "json"]) == 0
    captured = capfd.readouterr()
    for number, phase in enumerate(ALL_PHASES, 1):
        assert f"source 1: series {number}: {phase} " in captured.out
        assert f"source 2: series {number}: {phase} " in captured.out
    for secret in (*SECRETS, str(tmp_path), "100335", "10:03:35"):
        assert secret.lower() not in (captured.out + captured.err).lower(), secret


def test_headers_that_contradict_the_image_ask_and_no_identifier_is_shown(abdomens, tmp_path, capsys):
    a_series(tmp_path / "Zzyzxmann", abdomens[Phase.NC], description="arterial Zzyzxmann")
    (record,), message = phases(capsys, tmp_path / "Zzyzxmann", code=2)
    assert record["source"] == "series 1" and record["confidence"] < 0.6
    assert "the series description names AP" in record["evidence"]
    assert any(choices in message for choices in ("series 1: NC (most likely), AP", "series 1: AP (most likely), NC"))
    for secret in (*SECRETS, str(tmp_path)):
        assert secret.lower() not in (json.dumps(record) + message).lower(), secret


def test_two_acquisitions_of_one_phase_are_both_questioned(abdomens, tmp_path, capsys):
    for number, time in ((1, "100000"), (2, "100500")):
        a_series(tmp_path / "in", abdomens[Phase.PVP], description="portal", number=number, time=time)
    records, message = phases(capsys, tmp_path / "in", code=2)
    assert [record["phase"] for record in records if record["confidence"] >= 0.6] == []
    assert "2 of 2 volumes" in message


def test_a_single_dicom_file_is_refused_without_its_name(tmp_path, capsys):
    file = write_dataset(tmp_path / "Zzyzxmann.dcm", slice_dataset(SeriesSpec(), 0))
    assert run(["phases", str(file)]) == 2
    message = capsys.readouterr().err
    assert "single DICOM file" in message and "Zzyzxmann" not in message


def test_files_of_one_name_are_told_apart_by_their_place_among_the_arguments(abdomens, tmp_path):
    files = [write(abdomens[phase], tmp_path / phase / "ct.nrrd") for phase in (Phase.NC, Phase.AP)]
    other = write(abdomens[Phase.AP], tmp_path / "other.nrrd")
    found = recognize_phases([*files, other], silent())
    assert [each.source for each in found] == ["source 1: ct.nrrd", "source 2: ct.nrrd", "other.nrrd"]


def test_a_source_that_is_not_there_is_an_error_without_its_path(tmp_path, capsys):
    assert run(["phases", str(tmp_path / "absent")]) == 2
    assert str(tmp_path) not in capsys.readouterr().err


def test_an_open_phase_is_null_in_json_and_unknown_in_text():
    finding = PhaseFinding("x.nrrd", PhaseEvidence(reasons=("too little",)))
    assert json.loads(as_json([finding]))[0]["phase"] is None
    assert as_text([finding]) == "x.nrrd: unknown (confidence 0.00)  <- not sure\n    too little"
    with pytest.raises(InputError, match=r"x\.nrrd: NC, AP, PVP, DELAY"):
        check_decided([finding])
