"""The examples of the README, run as they stand there on a cohort of round livers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import SimpleITK as sitk

from Diff4MMLiTSLib.cli import build_parser, run
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.study_io import write_study
from tiny_cohort import RECIPE, a_round_study

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILES = {Phase.NC: "nc", Phase.AP: "art", Phase.PVP: "pv"}


def blocks(document: Path) -> list[str]:
    """Return the blocks of a document that are set as code."""
    return re.findall(r"^```\w*\n(.*?)^```$", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(block: str) -> list[list[str]]:
    """Return the arguments of each call of the engine in a block, without what is optional, in brackets."""
    text = re.sub(r"\[[^\]]*\]|\s#.*$", "", block.replace("\\\n", " "), flags=re.MULTILINE)
    calls = re.findall(r"(?:^|[\s/])diff4mmlits\s+([^\n&;>]+)", text)
    return [shlex.split(call) for call in calls]


def the_block(start: str) -> str:
    (block,) = (block for block in blocks(ROOT / "README.md") if block.startswith(start))
    return block


def concrete(argument: str) -> str:
    """Return an argument with a number in place of what a reader fills in or a shell computes."""
    return re.sub(r"\$\{?\w+\}?|\$\(.*?\)", "1", argument)


def write_patients(folder: Path) -> None:
    """Write the files that the README's table names."""
    for number in (1, 2):
        study = a_round_study("patient", seed=number)
        volumes = {FILES[phase]: volume for phase, volume in study.phases.items() if phase in FILES}
        masks = {"liver": study.liver.volume, "tumor": study.tumor.volume}
        (folder / f"p{number}").mkdir()
        for name, volume in (volumes | masks).items():
            sitk.WriteImage(volume.to_image(), str(folder / f"p{number}" / f"{name}.nii.gz"))


def test_your_own_data_go_from_a_table_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_patients(tmp_path)
    (tmp_path / "cohort.csv").write_text(the_block("study,NC"), encoding="utf-8")
    small = RECIPE.read_text(encoding="utf-8").partition("[recipe]\n")[2].replace("[recipe.", "[")
    small = re.sub(r"^(name|pairs) = .*\n", "", small, flags=re.MULTILINE)
    (tmp_path / "recipe.toml").write_text(the_block("target =") + small, encoding="utf-8")
    write_study(a_round_study("measured", seed=3), tmp_path / "registered-validation" / "measured")
    for arguments in commands(the_block(".venv/bin/diff4mmlits import")):
        assert run(arguments) == 0, arguments
    assert (tmp_path / "report.json").is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_a_document_is_one_that_the_engine_takes(document: Path) -> None:
    for arguments in (call for block in blocks(document) for call in commands(block)):
        build_parser().parse_args([concrete(each) for each in arguments])


def test_the_documents_hold_commands() -> None:
    assert sum(len(commands(block)) for document in DOCUMENTS for block in blocks(document)) > 40
