from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.core.study import TUMOR_FREE, HistoryEntry, Mask, MaskSource, RegisteredStudy, Study
from Diff4MMLiTSLib.core.study_io import write_study
from Diff4MMLiTSLib.training import cohorts
from Diff4MMLiTSLib.training.cohorts import load_cohort
from Diff4MMLiTSLib.training.datasets import WorkingStudy, data_hash


def load(folder: Path, cache: Path | None = None, **options: bool) -> tuple[WorkingStudy, ...]:
    return load_cohort([folder], spacing_mm=3.0, margin_mm=None, progress=silent(), cache=cache, **options)


def phantom(study: RegisteredStudy, seed: int) -> RegisteredStudy:
    return replace(study, history=(HistoryEntry("phantom", "1", seed=seed), HistoryEntry("register", "1")))


def test_a_cohort_is_read_from_study_folders(a_study: RegisteredStudy, tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_study(replace(a_study, study_id=name), tmp_path / name)
    assert [study.study_id for study in load(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("seed", "training", "refused"), [(999, True, False), (1000, True, True), (1000, False, False)]
)
def test_held_out_phantoms_are_refused_as_training_data(
    a_study: RegisteredStudy, tmp_path: Path, seed: int, training: bool, refused: bool
) -> None:
    write_study(phantom(a_study, seed), tmp_path / "study")
    if refused:
        with pytest.raises(InputError, match=f"seed {seed}"):
            load(tmp_path, training=training)
    else:
        assert len(load(tmp_path, training=training)) == 1


def test_an_unregistered_study_is_refused(a_study: RegisteredStudy, tmp_path: Path) -> None:
    write_study(Study("raw", a_study.phases, Phase.PVP, liver=a_study.liver, tumor=TUMOR_FREE), tmp_path / "raw")
    with pytest.raises(InputError, match="not registered"):
        load(tmp_path)


def test_a_cohort_from_the_cache_is_the_same_and_no_image_is_read(
    a_study: RegisteredStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(replace(a_study, synthetic=True), tmp_path / "cohort" / "a")
    (first,), cache = load(tmp_path / "cohort"), tmp_path / "cache"
    load(tmp_path / "cohort", cache=cache)
    monkeypatch.setattr(cohorts, "read_registered", None)
    (again,) = load(tmp_path / "cohort", cache=cache)
    assert data_hash([first]) == data_hash([again])
    assert again.grid.same_as(first.grid)
    assert (again.synthetic, again.reference_phase, again.origin) == (True, first.reference_phase, first.origin)


def test_a_study_that_changed_is_prepared_again(a_study: RegisteredStudy, tmp_path: Path) -> None:
    write_study(a_study, tmp_path / "cohort" / "a")
    before = load(tmp_path / "cohort", cache=tmp_path / "cache")
    write_study(replace(a_study, tumor=TUMOR_FREE), tmp_path / "cohort" / "a", force=True)
    after = load(tmp_path / "cohort", cache=tmp_path / "cache")
    assert before[0].tumor.any() and not after[0].tumor.any()


def test_what_may_not_be_learned_from_is_refused_from_the_cache_too(a_study: RegisteredStudy, tmp_path: Path) -> None:
    assert a_study.liver is not None
    drawn = replace(phantom(a_study, 1000), liver=Mask(a_study.liver.volume, MaskSource.MODEL))
    write_study(drawn, tmp_path / "cohort" / "a")
    allowed = {"training": False, "allow_model_masks": True}
    assert len(load(tmp_path / "cohort", cache=tmp_path / "cache", **allowed)) == 1
    with pytest.raises(InputError, match="seed 1000"):
        load(tmp_path / "cohort", cache=tmp_path / "cache", allow_model_masks=True)
    with pytest.raises(InputError, match="drawn by a model"):
        load(tmp_path / "cohort", cache=tmp_path / "cache", training=False)
