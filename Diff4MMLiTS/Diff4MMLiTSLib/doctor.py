"""What this machine has, what is missing, and how to get it; needs nothing beyond what Slicer bundles."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from . import __version__

PACKAGES = {
    "numpy": "everything",
    "scipy": "everything",
    "SimpleITK": "everything",
    "pydicom": "import --from dicom",
    "pydantic": "every command but doctor",
    "torch": "register, inpaint, synthesize, segment, train",
    "monai": "synthesize, segment, train",
    "diffusers": "synthesize, train",
    "accelerate": "train",
    "safetensors": "every command with a model",
    "einops": "the SwinUNETR segmenter",
    "matplotlib": "reports",
    "psutil": "the memory figures in reports",
    "highdicom": "export dicom-seg",
    "dask": "register, inpaint, synthesize and segment on several processes or a cluster",
}
OPTIONAL = ("dask", "einops", "highdicom", "psutil")
PROBE = (
    "import json, torch; print(json.dumps({'torch': torch.__version__, 'devices': [{"
    "'name': torch.cuda.get_device_properties(i).name, 'memory_gb': round(torch.cuda.mem_get_info(i)[1] / 2**30, 1), "
    "'free_gb': round(torch.cuda.mem_get_info(i)[0] / 2**30, 1)} for i in range(torch.cuda.device_count())]}))"
)
PROBE_TIMEOUT_S = 120
BUNDLED_MODELS = Path(__file__).parents[1] / "Resources" / "Models"


@dataclass(frozen=True)
class Diagnosis:
    """What ``doctor`` found.

    Args:
        version: Version of Diff4MMLiTS.
        python: Version of the interpreter.
        system: Operating system and machine type.
        processors: Number of processors this process may use.
        memory_gb: Physical memory, 0 when unknown.
        disk_free_gb: Free space in the current folder.
        packages: Version by package, None when missing.
        gpus: Name, memory and free memory of each CUDA device.
        torch_works: Whether torch could be imported in a process of its own.
        models: Names of the models that come with the software.
        advice: What is missing and how to get it.
    """

    version: str
    python: str
    system: str
    processors: int
    memory_gb: float
    disk_free_gb: float
    packages: dict[str, str | None]
    gpus: list[dict[str, str | float]]
    torch_works: bool
    models: list[str]
    advice: list[str]


def diagnose() -> Diagnosis:
    """Look at this machine; torch is probed in a process of its own, since a broken one can end its process."""
    packages = {name: _version(name) for name in PACKAGES}
    probe = _probe_torch() if packages["torch"] else None
    models = sorted(card.parent.name for card in BUNDLED_MODELS.glob("*/model.json"))
    return Diagnosis(
        version=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        processors=_processors(),
        memory_gb=_memory_gb(),
        disk_free_gb=round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        packages=packages,
        gpus=probe["devices"] if probe else [],
        torch_works=probe is not None,
        models=models,
        advice=_advice(packages, torch_works=probe is not None),
    )


def as_text(found: Diagnosis) -> str:
    """Return the diagnosis for people."""
    lines = [
        f"Diff4MMLiTS {found.version}, Python {found.python}, {found.system}",
        f"{found.processors} processors, {found.memory_gb:g} GB memory, {found.disk_free_gb:g} GB free on this disk",
    ]
    lines += [
        f"GPU {index}: {gpu['name']}, {gpu['memory_gb']} GB, {gpu['free_gb']} GB free"
        for index, gpu in enumerate(found.gpus)
    ]
    lines += [] if found.gpus else ["No CUDA GPU that torch can use: everything runs on the processor"]
    lines += [f"  {name:<12} {version or 'missing'}" for name, version in found.packages.items()]
    lines.append("Models: " + (", ".join(found.models) or "none bundled; train one, or name a model folder"))
    lines += found.advice or ["Nothing is missing."]
    return "\n".join(lines)


def as_json(found: Diagnosis) -> str:
    """Return the diagnosis as one JSON object."""
    return json.dumps(asdict(found), indent=2)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _probe_torch() -> dict[str, list[dict[str, str | float]]] | None:
    environment = {key: value for key, value in os.environ.items() if key != "ITK_AUTOLOAD_PATH"}
    try:
        child = subprocess.run(
            [sys.executable, "-c", PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            env=environment,
            check=False,
        )
        return json.loads(child.stdout) if child.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError):
        return None


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gb() -> float:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return 0.0


def _advice(packages: dict[str, str | None], *, torch_works: bool) -> list[str]:
    in_slicer = "Slicer" in sys.executable
    how = "the Setup tab of the module" if in_slicer else f"{Path(sys.executable).name} -m pip install {{name}}"
    lines = []
    for name, version in packages.items():
        if version is None:
            kind = "Optional, missing" if name in OPTIONAL else "Missing"
            lines.append(f"{kind}: {name} (needed for {PACKAGES[name]}). Get it with: {how.format(name=name)}")
    if packages["torch"] and not torch_works:
        lines.append("torch is installed but cannot be imported: install it again, in a version for this system")
    return lines
