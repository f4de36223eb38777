"""Models of this computer: listed, imported from files, verified, deleted."""

from __future__ import annotations

import json
import shutil
import zipfile

import pytest

from Diff4MMLiTSLib.core.errors import InputError
from Diff4MMLiTSLib.gui import models
from Diff4MMLiTSLib.gui.models import delete_model, import_model, list_models, verify_model


@pytest.fixture
def a_model(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFF4MMLITS_MODELS", str(tmp_path / "own models ü"))
    folder = tmp_path / "received" / "liver"
    folder.mkdir(parents=True)
    card = json.loads((models.BUNDLED / "phantom-inpainter" / "model.json").read_text(encoding="utf-8"))
    card |= {"kind": "inpainter", "name": "our liver", "license": "CC-BY-4.0", "intended_use": "research"}
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    (folder / "inpainter.safetensors").write_bytes(b"weights")
    (folder / "readme.txt").write_text("not a part of it")
    return folder


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"{folder.name}/{file.name}")
    return path


@pytest.mark.parametrize("form", ["folder", "card", "zip"])
def test_a_model_is_imported_with_what_its_card_says(a_model, tmp_path, form):
    source = {"folder": a_model, "card": a_model / "model.json"}.get(form) or zipped(a_model, tmp_path / "m.zip")
    made = import_model(source)
    assert (made.name, made.kind, made.license, made.intended_use) == (
        "our liver",
        "inpainter",
        "CC-BY-4.0",
        "research",
    )
    assert made in list_models("inpainter")
    assert sorted(path.name for path in made.folder.iterdir()) == ["inpainter.safetensors", "model.json"]
    assert list_models("segmenter") == tuple(model for model in list_models() if model.kind == "segmenter")


def test_the_bundled_models_are_listed_after_the_users_and_cannot_be_deleted(a_model):
    import_model(a_model)
    found = list_models()
    assert [found[0].name, found[0].is_bundled] == ["our liver", False]
    bundled = [model for model in found if model.is_bundled]
    assert "phantom-inpainter" in [model.name for model in bundled]
    with pytest.raises(InputError, match="came with the module"):
        delete_model(bundled[0])


def test_the_hash_is_the_one_in_the_history_of_results(a_model):
    from Diff4MMLiTSLib.training.checkpoint import model_hash

    bundled = next(model for model in list_models() if model.is_bundled)
    assert verify_model(bundled) == model_hash(bundled.folder)


def test_a_changed_model_is_found_out(a_model):
    made = import_model(a_model)
    verify_model(made)
    (made.folder / "inpainter.safetensors").write_bytes(b"Weights")
    with pytest.raises(InputError, match="changed since"):
        verify_model(made)
    (made.folder / "inpainter.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        verify_model(made)


def test_a_deleted_model_is_gone_and_can_come_back(a_model):
    delete_model(import_model(a_model))
    assert "our liver" not in [model.name for model in list_models()]
    assert import_model(a_model).folder.is_dir()


def test_a_model_of_the_same_name_is_not_replaced(a_model):
    import_model(a_model)
    with pytest.raises(InputError, match="exists already"):
        import_model(a_model)


def test_what_is_no_complete_model_is_refused_with_what_is_missing(a_model, tmp_path):
    (a_model / "inpainter.safetensors").unlink()
    with pytest.raises(InputError, match=r"inpainter\.safetensors is missing"):
        import_model(a_model)
    shutil.rmtree(a_model)
    a_model.mkdir()
    with pytest.raises(InputError, match="holds no model"):
        import_model(a_model)
    (tmp_path / "bad.zip").write_bytes(b"PK nonsense")
    with pytest.raises(InputError, match="cannot be unpacked"):
        import_model(tmp_path / "bad.zip")
    assert not (tmp_path / "own models ü").exists()
