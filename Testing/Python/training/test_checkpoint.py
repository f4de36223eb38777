from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from Diff4MMLiTSLib.core.config import DenoiserNetwork, ModelCard, ModelKind, SegmenterNetwork
from Diff4MMLiTSLib.core.errors import InputError, MissingError
from Diff4MMLiTSLib.training.checkpoint import (
    load_card,
    load_checkpoint,
    load_model,
    model_hash,
    network_config,
    save_checkpoint,
    save_model,
)

WEIGHTS = {"segmenter": {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.steps": torch.tensor(7)}}


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        kind=ModelKind.SEGMENTER,
        name="tiny",
        spacing_mm=3.0,
        window_hu=(-175, 250),
        networks={"segmenter": {"channels": [8, 16, 32]}},
        seed=1,
    )


@pytest.fixture
def a_model(card: ModelCard, tmp_path: Path) -> Path:
    save_model(tmp_path / "my model ü", card, WEIGHTS)
    return tmp_path / "my model ü"


def test_a_model_comes_back_as_it_was_saved(a_model: Path, card: ModelCard) -> None:
    loaded = load_model(a_model, ModelKind.SEGMENTER)
    assert loaded.card == card
    assert torch.equal(loaded.networks["segmenter"]["layer.weight"], WEIGHTS["segmenter"]["layer.weight"])


def test_a_model_says_that_it_is_not_for_patients(a_model: Path) -> None:
    assert load_card(a_model).intended_use == "trained on phantoms, not for patients"


def test_a_missing_model_is_a_missing_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no model in 'nothing'.*train") as error:
        load_model(tmp_path / "nothing", ModelKind.SEGMENTER)
    assert error.value.exit_code == 3
    assert str(tmp_path) not in str(error.value)


def test_a_card_that_cannot_be_opened_is_refused_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "model" / "model.json").mkdir(parents=True)
    with pytest.raises(MissingError, match=r"model\.json") as error:
        load_card(tmp_path / "model")
    assert str(tmp_path) not in str(error.value)


def test_a_model_of_another_kind_is_refused_by_name(a_model: Path) -> None:
    with pytest.raises(MissingError, match=r"of kind segmenter.*Expected: a model of kind inpainter"):
        load_model(a_model, ModelKind.INPAINTER)


@pytest.mark.parametrize("content", [b"", b"{", b'{"kind": "segmenter"}', b'{"kind": "poem"}', b"[1]", b"\xff\xfe"])
def test_a_damaged_card_is_a_missing_error(a_model: Path, content: bytes) -> None:
    (a_model / "model.json").write_bytes(content)
    with pytest.raises(MissingError, match=r"model\.json"):
        load_model(a_model, ModelKind.SEGMENTER)


@pytest.mark.parametrize("length", [0, 40, None])
def test_damaged_weights_are_a_missing_error_that_names_the_file(a_model: Path, length: int | None) -> None:
    file = a_model / "segmenter.safetensors"
    content = file.read_bytes()
    file.unlink()
    if length is not None:
        file.write_bytes(content[:length])
    with pytest.raises(MissingError, match=r"segmenter\.safetensors"):
        load_model(a_model, ModelKind.SEGMENTER)


def test_an_existing_model_is_replaced_only_by_force(a_model: Path, card: ModelCard) -> None:
    with pytest.raises(InputError, match="exists"):
        save_model(a_model, card, WEIGHTS)
    save_model(a_model, card.model_copy(update={"seed": 2}), WEIGHTS, force=True)
    assert load_card(a_model).seed == 2
    assert [path.name for path in a_model.parent.iterdir()] == [a_model.name]


def test_weights_that_the_card_does_not_name_are_refused(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="denoiser"):
        save_model(tmp_path / "model", card, {"denoiser": {}})
    assert not list(tmp_path.iterdir())


def test_the_hash_changes_with_the_weights_and_with_the_card(a_model: Path, card: ModelCard) -> None:
    before = model_hash(a_model)
    save_model(a_model, card.model_copy(update={"seed": 2}), WEIGHTS, force=True)
    other_card = model_hash(a_model)
    save_model(a_model, card, {"segmenter": {"layer.weight": torch.ones(2, 3)}}, force=True)
    assert len({before, other_card, model_hash(a_model)}) == 3


def test_only_the_last_checkpoints_stay(tmp_path: Path) -> None:
    for step in range(4):
        save_checkpoint(tmp_path, step, {"step": step}, keep=2)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["000000002.pt", "000000003.pt"]
    assert load_checkpoint(tmp_path) == {"step": 3}


def test_a_run_without_checkpoint_has_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None


def test_a_damaged_checkpoint_is_an_input_error_that_names_the_file(tmp_path: Path) -> None:
    file = save_checkpoint(tmp_path, 3, {"step": 3}, keep=2)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"000000003\.pt"):
        load_checkpoint(tmp_path)


def test_loading_a_checkpoint_never_runs_code(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.save({"step": Path("harmless")}, tmp_path / "checkpoints" / "000000001.pt")  # a class: pickle would import it
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(tmp_path)


def test_a_full_disk_leaves_no_half_written_model(card: ModelCard, tmp_path: Path) -> None:
    script = (
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from Diff4MMLiTSLib.core.config import ModelCard\n"
        "from Diff4MMLiTSLib.training.checkpoint import save_checkpoint\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: save_checkpoint(Path(sys.argv[1]), 1, {'w': torch.zeros(9999)}, keep=1)\n"
        "except OSError as error: print('failed')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "failed"
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_card_without_the_network_that_is_needed_is_a_missing_error(a_model: Path) -> None:
    card = load_card(a_model)
    with pytest.raises(MissingError, match=r"no network 'denoiser', but segmenter.*train") as error:
        network_config(card, "denoiser", DenoiserNetwork)
    assert error.value.exit_code == 3


def test_a_network_configuration_of_another_version_is_a_missing_error(card: ModelCard) -> None:
    other = card.model_copy(update={"networks": {"segmenter": {"channels": [8, 16, 32], "depth": 7}}})
    with pytest.raises(MissingError, match=r"Unknown setting 'depth'"):
        network_config(other, "segmenter", SegmenterNetwork)
