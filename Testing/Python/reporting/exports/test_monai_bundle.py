"""A bundle, run by MONAI in a process of its own, gives the masks that the command segment gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import ConfigParser

from Diff4MMLiTSLib import __version__
from Diff4MMLiTSLib.arguments import BUNDLED_MODELS
from Diff4MMLiTSLib.cli import run
from Diff4MMLiTSLib.core.images import is_marked_synthetic, write_volume
from Diff4MMLiTSLib.core.study_io import read_segmentation, write_study
from Diff4MMLiTSLib.nets.segmenter import CLASS_COUNT, INPUT_CHANNELS
from Diff4MMLiTSLib.training.checkpoint import save_model
from Diff4MMLiTSLib.training.segmenter_task import NETWORK, fresh_segmenter
from tiny_models import segmenter_card, segmenter_config

RUN = "import json, sys; from monai.bundle import run; run(**json.loads(sys.argv[1]))"


@pytest.fixture
def a_model(tmp_path) -> Path:
    """A segmenter with weights by chance."""
    config = segmenter_config()
    network = fresh_segmenter(config.network, seed=2)
    save_model(tmp_path / "model", segmenter_card(config, name="tiny"), {NETWORK: network.state_dict()})
    return tmp_path / "model"


@pytest.fixture
def a_bundle(a_model, tmp_path) -> Path:
    assert run(["export", "monai-bundle", str(a_model), str(tmp_path / "a bundle")]) == 0
    return tmp_path / "a bundle"


def run_bundle(bundle: Path, **overrides: object) -> subprocess.CompletedProcess[str]:
    """Run a bundle as ``python -m monai.bundle run`` does, which needs the package fire for its command line."""
    arguments = {"config_file": "configs/inference.json", "device": "cpu", **overrides}
    command = [sys.executable, "-c", RUN, json.dumps(arguments, default=str)]
    return subprocess.run(command, cwd=bundle, capture_output=True, text=True, timeout=600, check=False)


def test_the_masks_are_those_of_segment(a_bundle, a_model, a_study, tmp_path):
    write_study(a_study, tmp_path / "study")
    unsure = {"sure_tumor": 0.0}  # weights by chance are sure of nothing
    command = ["segment", str(tmp_path / "study"), str(tmp_path / "segmented"), "--model", str(a_model)]
    assert run([*command, "--set", "sure_tumor=0.0"]) == 0
    files = {phase: tmp_path / f"{phase}.nii.gz" for phase in a_study.phases}
    for phase, file in files.items():
        write_volume(a_study.phases[phase], file, synthetic=True)
    done = run_bundle(a_bundle, **files, study_id="patient 1", output_dir=tmp_path / "by bundle", settings=unsure)
    assert done.returncode == 0, done.stderr
    ours, theirs = (read_segmentation(tmp_path / name) for name in ("segmented/study", "by bundle/patient 1"))
    for name in ("liver", "tumor"):
        np.testing.assert_array_equal(getattr(theirs, name).array, getattr(ours, name).array)
        assert getattr(ours, name).array.any()
    assert is_marked_synthetic(tmp_path / "by bundle" / "patient 1" / "liver.nrrd")
    assert theirs.history[-1].models == ours.history[-1].models


def test_the_metadata_describe_the_network_and_what_it_needs(a_bundle):
    metadata = json.loads((a_bundle / "configs" / "metadata.json").read_text())
    assert metadata["required_packages_version"]["diff4mmlits"] == __version__
    formats = metadata["network_data_format"]
    assert formats["inputs"]["image"]["num_channels"] == INPUT_CHANNELS
    assert formats["outputs"]["pred"]["num_channels"] == CLASS_COUNT
    assert "not for patients" in metadata["intended_use"]
    parser = ConfigParser()
    parser.read_config(a_bundle / "configs" / "inference.json")
    parser["bundle_root"] = str(a_bundle)
    assert not parser.get_parsed_content("network_def").training


def test_the_readme_says_how_to_run_it_and_holds_the_model_card(a_bundle):
    readme = (a_bundle / "docs" / "README.md").read_text(encoding="utf-8")
    assert f"diff4mmlits {__version__}" in readme
    assert "python -m monai.bundle run" in readme
    assert "## Intended use" in readme
    assert "Apache-2.0" in (a_bundle / "LICENSE").read_text()


def test_models_of_another_kind_and_existing_folders_are_refused(a_bundle, a_model, tmp_path):
    wrong = ["export", "monai-bundle", str(BUNDLED_MODELS / "phantom-inpainter"), str(tmp_path / "new")]
    assert run([*wrong, "--progress", "none"]) == 3
    assert not (tmp_path / "new").exists()
    assert run(["export", "monai-bundle", str(a_model), str(a_bundle), "--progress", "none"]) == 2
