"""An interpreter for the engine that needs no network: it finds liver and tumors by their brightness, at once.

The module lets the user choose the interpreter; choosing this one replaces the process and nothing else.
"""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

SOURCE = r"""
import json, shutil, sys, time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

LIVER_HU, TUMOR_HU = 60, 90

def say(**fields):
    print(json.dumps(fields), flush=True)

def images(folder):
    record = json.loads((folder / "study.json").read_text())
    reference = record.get("reference_phase", "PVP")
    return record, sitk.ReadImage(str(folder / record["phases"][reference]["file"]))

def write(folder, record, like, liver, probability):
    folder.mkdir(parents=True)
    for name, values in (("liver", liver), ("tumor", probability >= 128), ("tumor_probability", probability)):
        image = sitk.GetImageFromArray(np.asarray(values, np.uint8))
        image.CopyInformation(like)
        sitk.WriteImage(image, str(folder / f"{name}.nrrd"))
    masks = {name: {"file": f"{name}.nrrd", "source": "model"} for name in ("liver", "tumor")}
    kept = {key: record[key] for key in ("format", "study_id", "reference_phase") if key in record}
    (folder / "study.json").write_text(json.dumps({**kept, **masks, "intended_use": "For trying the software."}))

def studies(source):
    source = Path(source)
    return [source] if (source / "study.json").exists() else [path.parent for path in source.glob("*/study.json")]

def segment(source, out, *_options):
    for study in studies(source):
        segment_one(study, Path(out))
    say(event="result", path=str(out))

def segment_one(source, out):
    record, image = images(source)
    values = sitk.GetArrayFromImage(image)
    for step in range(4):
        say(event="progress", stage="segment", fraction=step / 4, message="looking", seconds_left=4 - step)
        time.sleep(SLOW_S)
    liver = values > LIVER_HU
    write(out / record["study_id"], record, image, liver, np.where(liver & (values < TUMOR_HU), 200, 40))

def serve(*_options):
    say(event="ready")
    for line in sys.stdin:
        request = json.loads(line)
        record, image = images(Path(request["study"]))
        before = sitk.ReadImage(str(Path(request["segmentation"]) / "tumor.nrrd"))
        tumor = sitk.GetArrayFromImage(before) > 0
        liver = sitk.GetArrayFromImage(sitk.ReadImage(str(Path(request["segmentation"]) / "liver.nrrd"))) > 0
        click = request["clicks"][-1]
        x, y, z = before.TransformPhysicalPointToIndex(click["point_mm"])
        box = np.s_[max(0, z - 2) : z + 3, max(0, y - 3) : y + 4, max(0, x - 3) : x + 4]
        tumor[box] = click["positive"]
        write(Path(request["out"]), record, before, liver, np.where(tumor, 200, 40))
        say(event="result", request=request["request"], path=request["out"])

def register(source, out, *_options):
    for study in studies(source):
        register_one(study, Path(out))
    say(event="result", path=str(out))

def register_one(source, out):
    record, reference = images(source)
    target = out / record["study_id"]
    shutil.copytree(source, target)
    (target / "study.json").write_text(json.dumps({**record, "registered": True}))
    doubt = {"verdict": "review", "reasons": ["The liver's border differs."]}
    others = [phase for phase in record["phases"] if phase != record.get("reference_phase", "PVP")]
    qa = {"register": {**doubt, "seconds": 1.0, "phases": {phase: doubt for phase in others}}}
    (target / "qa.json").write_text(json.dumps(qa))

def export(kind, source, out, *options):
    record, _image = images(Path(source))
    listing = {"kind": kind, "masks": sorted(record.keys() & {"liver", "tumor"}), "options": options}
    dicom = Path(options[options.index("--dicom") + 1])
    Path(out).write_text(json.dumps({**listing, "dicom": sorted(path.name for path in dicom.iterdir())}))
    say(event="result", path=out)

def phantom(out, *_options):
    shutil.copytree(STUDY, Path(out) / "phantom-0007")
    say(event="result", path=out)

def inpaint(source, out, *_options):
    source = Path(source)
    shutil.copytree(source, Path(out) / source.name)
    record = json.loads((source / "study.json").read_text())
    (Path(out) / source.name / "tumor.nrrd").unlink()
    (Path(out) / source.name / "study.json").write_text(json.dumps({**record, "tumor": None}))
    say(event="result", path=out)

def synthesize(source, out, *options):
    source, out = Path(source), Path(out)
    record, _image = images(source)
    assert record["tumor"] is None, "the study is not normal"
    count = int(options[options.index("--pairs") + 1])
    for number in range(1, count + 1):
        name = f"{record['study_id']}_synthetic-{number:04d}"
        shutil.copytree(source, out / ("." + name))
        liver = sitk.ReadImage(str(source / "liver.nrrd"))
        mask = sitk.GetArrayFromImage(liver)
        mask.flat[np.flatnonzero(mask)[:number]] = 0  # no pair is like another
        drawn = sitk.GetImageFromArray(mask)
        drawn.CopyInformation(liver)
        sitk.WriteImage(drawn, str(out / ("." + name) / "tumor.nrrd"))
        tumor = {"file": "tumor.nrrd", "source": "synthetic"}
        made = {**record, "study_id": name, "synthetic": True, "tumor": tumor, "options": list(options)}
        (out / ("." + name) / "study.json").write_text(json.dumps(made))
        (out / ("." + name)).rename(out / name)
        say(event="progress", stage="synthesize", fraction=number / count, message=name)
        time.sleep(SLOW_S)
    say(event="result", path=str(out))

def train(_recipe, *options):
    run = Path(options[options.index("--out") + 1])
    if "--dry-run" in options:
        print("Training data: 4 studies; 4 real\nTime      about 8.2 min for the networks")
        return
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    kept = run / "checkpoints" / "last"
    first = int(kept.read_text()) if "--resume" in options else 0
    for step in range(first + 1, 41):
        if (run / "stop").exists():
            (run / "stop").unlink()
            say(event="error", code="canceled", message=f"Stopped after step {step}", hint="")
            sys.exit(5)
        with (run / "metrics.jsonl").open("a") as stream:
            numbers = {"step": step, "segmenter/loss": 1 / step, "validation/score": 1 - 1 / step}
            stream.write(json.dumps(numbers) + "\n")
        kept.write_text(str(step))
        say(event="progress", stage="train", fraction=step / 40, message=f"step {step}/40, loss {1 / step:.3f}")
        time.sleep(SLOW_S)
    card = {"format": 1, "kind": "segmenter", "name": "my model", "phases": ["PVP"], "networks": {"segmenter": {}}}
    (run / "model").mkdir()
    (run / "model" / "segmenter.safetensors").write_bytes(b"weights")
    (run / "model" / "model.json").write_text(json.dumps(card))
    say(event="result", path=str(run / "model"))

command, *options = [text for text in sys.argv[1:] if text not in ("-m", "Diff4MMLiTSLib")]
with Path(__file__).with_name("calls.txt").open("a") as stream:
    stream.write(json.dumps([command, *options]) + "\n")
if command in FAILURES:
    message, hint, code = FAILURES[command]
    print("a line of the log", file=sys.stderr)
    say(event="error", code="out_of_memory", message=message, hint=hint)
    sys.exit(code)
globals()[command](*options)
"""


def install(folder: Path, *, study: Path | None = None, slow_s: float = 0.0, failures: dict | None = None) -> Path:
    """Write the interpreter and return its path.

    Args:
        folder: Where to write it.
        study: Study folder that ``phantom`` copies.
        slow_s: How long each of the four steps of ``segment`` takes.
        failures: Message, hint and exit code by command.
    """
    head = f"STUDY, SLOW_S, FAILURES = {str(study)!r}, {slow_s}, {json.loads(json.dumps(failures or {}))!r}\n"
    script = folder / "engine.py"
    script.write_text(head + SOURCE, encoding="utf-8")
    launcher = folder / "python"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n', encoding="utf-8")
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    return launcher


def calls(folder: Path, command: str) -> list[list[str]]:
    """Return the options with which a command was started, call by call."""
    lines = (folder / "calls.txt").read_text(encoding="utf-8").splitlines()
    return [options for name, *options in map(json.loads, lines) if name == command]
