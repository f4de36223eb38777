"""Studies between the MRML scene and study folders; RAS and LPS meet only in files that MRML reads and writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from ..core.errors import Diff4MMLiTSError, InputError
from ..core.files import new_folder
from ..core.phases import Phase, default_reference, in_order, parse_phase
from ..core.study import SYNTHETIC_MARK, PhaseQA, StageQA, Verdict, check_study_id
from ..core.study_io import FORMAT, PROBABILITY_FILE, QA_FILE, STUDY_FILE, phase_files
from ..core.study_records import Json, qa_of, read_record, write_record
from .crossing import SYNTHETIC_ATTRIBUTE, load_transform, load_volume, read_image, write_image
from .roles import REFERENCE_ATTRIBUTE, set_role
from .segments import (
    liver_id,
    new_segmentation,
    put_beside,
    set_liver,
    set_tumors,
    show_in_3d,
    source_of,
    tumor_ids,
    world_to_node,
)
from .texts import _
from .world import FloatArray, Voxels, array_of, in_world, lattice_of, matrix_of, segment_on

ALIGNED_ROLE = "Diff4MMLiTS.AlignedTo"
"""Reference of an aligned volume to the one that it was aligned to."""


class SceneClosedError(Diff4MMLiTSError):
    """The nodes that a result belongs to are no longer in the scene."""

    code = "scene_closed"

    def __init__(self) -> None:
        super().__init__(
            _("The scene was closed, or its volumes were removed, before the result could be loaded"),
            remedy=_("Load the study and run it again"),
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Let the error travel between processes."""
        return type(self), ()


@dataclass(frozen=True, eq=False)
class SegmentChoice:
    """One segment of a segmentation node.

    Args:
        node: The segmentation.
        segment_id: Its segment.
    """

    node: slicer.vtkMRMLSegmentationNode
    segment_id: str


@dataclass(frozen=True, eq=False)
class SceneStudy:
    """The nodes of one study, captured when a job starts; results are bound to them, whatever is selected later.

    Args:
        study_id: Name of the study; letters, digits, ``.``, ``_``, ``-`` and spaces, never the patient's.
        phases: Volumes by phase, at least one.
        reference_phase: The phase on whose grid results lie; the first present of PVP, AP, DELAY, NC when None.
        liver: An annotated liver, on any grid.
        tumor: An annotated tumor, on any grid; several segments are one tumor mask.
        is_tumor_free: Whether the study was declared free of tumor; without a tumor it is unknown.

    Raises:
        InputError: No phase, one volume for two phases, a reference phase that is not there, a volume without voxels.
    """

    study_id: str
    phases: Mapping[Phase, slicer.vtkMRMLScalarVolumeNode]
    reference_phase: Phase | None = None
    liver: SegmentChoice | None = None
    tumor: tuple[SegmentChoice, ...] = ()
    is_tumor_free: bool = False

    def __post_init__(self) -> None:
        check_study_id(self.study_id)
        reference = self.reference_phase or default_reference(self.phases)
        object.__setattr__(self, "phases", {phase: self.phases[phase] for phase in in_order(self.phases)})
        object.__setattr__(self, "reference_phase", reference)
        if reference not in self.phases:
            raise InputError(
                _("The reference phase {reference} has no volume").format(reference=reference),
                expected=_("a volume for it"),
            )
        if len(set(self.phases.values())) < len(self.phases):
            raise InputError(_("One volume is chosen for two phases"), expected=_("a volume of its own for each phase"))
        for phase, volume in self.phases.items():
            if volume is None or volume.GetImageData() is None:
                raise InputError(
                    _("The volume of {phase} has no voxels").format(phase=phase), expected=_("a CT volume")
                )

    @property
    def reference(self) -> Any:  # noqa: ANN401 (MRML is not typed)
        """The volume of the reference phase."""
        return self.phases[self.reference_phase or default_reference(self.phases)]

    @property
    def is_aligned(self) -> bool:
        """Whether all phases lie on the reference's grid and were aligned to it (or it is the only one)."""
        reference = lattice_of(self.reference)
        others = [volume for volume in self.phases.values() if volume is not self.reference]
        if others and reference is None:
            return False
        for volume in others:
            lattice = lattice_of(volume)
            if volume.GetNodeReference(ALIGNED_ROLE) is not self.reference or lattice is None:
                return False
            if reference is None or not lattice.same_as(reference):
                return False
        return True

    @property
    def is_alive(self) -> bool:
        """Whether all volumes are still in the scene; a new node with the id of an old one is another node."""
        return all(bool(slicer.mrmlScene.IsNodePresent(volume)) for volume in self.phases.values())


@dataclass(frozen=True, eq=False)
class RegistrationResult:
    """What a registration brought into the scene.

    Args:
        study: The study that was registered.
        aligned: The same study with its aligned volumes; give it to ``segment``.
        transforms: Transform nodes by moving phase; as parent of the moving volume each one aligns it.
        qa: Verdict, reasons and measures per phase.
        verdict: The stage's own, the worst of them.
    """

    study: SceneStudy
    aligned: SceneStudy
    transforms: Mapping[Phase, slicer.vtkMRMLTransformNode]
    qa: Mapping[Phase, PhaseQA]
    verdict: Verdict


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """What a segmentation brought into the scene.

    Args:
        study: The study that was segmented.
        node: The segmentation: liver, and one segment per tumor.
        folder: The folder that the engine wrote, with the probability where it was asked for.
        intended_use: What the model says it is for.
        study_folder: The study as it was given to the engine; None when it is not kept.
        keep: Whatever must live as long as the folders.
    """

    study: SceneStudy
    node: slicer.vtkMRMLSegmentationNode
    folder: Path
    intended_use: str = ""
    study_folder: Path | None = None
    keep: object = field(default=None, repr=False)

    @property
    def has_probability(self) -> bool:
        """Whether the threshold can be changed."""
        return (self.folder / PROBABILITY_FILE).is_file()


def write_study(study: SceneStudy, folder: Path) -> Path:
    """Write a study folder in world coordinates: parent transforms are applied, linear or not.

    Args:
        study: What to write; masks are brought onto the reference phase's grid.
        folder: The new folder.

    Returns:
        The folder.

    Raises:
        InputError: The folder exists, or cannot be written.
        SceneClosedError: A volume is no longer in the scene.
    """
    check_alive(study)
    world = in_world(study.reference)
    with new_folder(folder) as partial:
        for phase, volume in study.phases.items():
            write_image(world if volume is study.reference else in_world(volume), partial / f"{phase}.nrrd")
        record: Json = {
            "format": FORMAT,
            "study_id": study.study_id,
            "reference_phase": study.reference_phase,
            "registered": study.is_aligned,
            "synthetic": any(volume.GetAttribute(SYNTHETIC_ATTRIBUTE) for volume in study.phases.values()),
            "phases": {phase: {"file": f"{phase}.nrrd"} for phase in study.phases},
        }
        for name, choices in (("liver", (study.liver,) if study.liver else ()), ("tumor", study.tumor)):
            if choices:
                write_mask(choices, world, partial / f"{name}.nrrd")
                record[name] = {"file": f"{name}.nrrd", "source": source_of(choices[0].node, choices[0].segment_id)}
        if study.is_tumor_free:
            record["tumor"] = None
        write_record(partial / STUDY_FILE, record)
    return folder


def write_mask(choices: Sequence[SegmentChoice], world: slicer.vtkMRMLVolumeNode, file: Path) -> None:
    """Write the union of segments as a mask of 0 and 1.

    Args:
        choices: The segments.
        world: A volume without parent transform, on whose grid the mask is written.
        file: The new file.

    Raises:
        InputError: The file cannot be written.
    """
    lattice = lattice_of(world)
    if lattice is None:
        raise InputError(_("A mask on a sheared grid"), expected=_("a grid with perpendicular axes"))
    masks = [segment_on(each.node, each.segment_id, lattice) for each in choices]
    union = array_of(masks[0].GetImageData())  # a view: the first mask becomes the union
    for mask in masks[1:]:
        np.maximum(union, array_of(mask.GetImageData()), out=union)
    write_image(masks[0], file)


def load_study(folder: Path) -> SceneStudy:
    """Load a study folder: volumes with their roles, and liver and tumors as one segmentation.

    Raises:
        InputError: The folder is no study, or a file cannot be read.
    """
    record = read_record(folder / STUDY_FILE, newest=FORMAT)
    files = phase_files(folder)
    study_id = check_study_id(str(record.get("study_id", folder.name)))
    mark = "SYNTHETIC " if record.get("synthetic") else ""
    with _all_or_nothing() as added:
        phases = {}
        for phase, file in files.items():
            volume = load_volume(file, f"{mark}{phase} {study_id}")  # the phase first: tables cut long names
            added.append(volume)
            set_role(volume, phase)
            if mark:
                volume.SetAttribute(SYNTHETIC_ATTRIBUTE, SYNTHETIC_MARK)
            phases[phase] = volume
        named = record.get("reference_phase")
        study = SceneStudy(study_id, phases, parse_phase(str(named)) if named else None)
        study.reference.SetAttribute(REFERENCE_ATTRIBUTE, study.reference_phase)
        if record.get("registered"):
            _mark_aligned(study)
        return _with_masks(study, folder, record, added)


def load_registration(folder: Path, study: SceneStudy) -> RegistrationResult:
    """Load what ``register`` wrote for ``study``.

    The reference volume stays as it is unless it has a parent transform: then its copy in world coordinates, on whose
    grid the aligned volumes lie, is loaded too.

    Raises:
        InputError: The folder is no registered study.
        SceneClosedError: The nodes of ``study`` are gone.
    """
    check_alive(study)
    reference = study.reference_phase
    qa = qa_of(folder / QA_FILE).get("register", StageQA(Verdict.PASS, 0.0))
    with _all_or_nothing() as added:
        aligned, transforms = {}, {}
        for phase, file in phase_files(folder).items():
            source = study.phases[phase]
            if phase == reference and source.GetParentTransformNode() is None:
                aligned[phase] = source
                continue
            aligned[phase] = load_volume(file, f"{source.GetName()} aligned")
            added.append(aligned[phase])
            set_role(aligned[phase], phase)
            _inherit(source, aligned[phase])
            transform = folder / "transforms" / f"{phase}_to_{reference}.h5"
            if transform.is_file():
                transforms[phase] = load_transform(transform, f"{source.GetName()} to {study.reference.GetName()}")
                added.append(transforms[phase])
        result = replace(study, phases=aligned)
        _mark_aligned(result)
    return RegistrationResult(study, result, transforms, qa.phases, qa.verdict)


def load_segmentation(folder: Path, study: SceneStudy) -> SegmentationResult:
    """Load what ``segment`` wrote for ``study``: liver and one segment per tumor, in standard terminology.

    Raises:
        InputError: The folder holds no segmentation.
        SceneClosedError: The nodes of ``study`` are gone.
    """
    check_alive(study)
    record = read_record(folder / STUDY_FILE, newest=FORMAT)
    with _all_or_nothing() as added:
        node = new_segmentation(f"{study.study_id} liver and tumors", study.reference)
        added.append(node)
        if record.get("synthetic"):
            node.SetAttribute(SYNTHETIC_ATTRIBUTE, SYNTHETIC_MARK)
        _fill(node, folder, record)
        show_in_3d(node)
    return SegmentationResult(study, node, folder, str(record.get("intended_use", "")))


def read_values(file: Path) -> tuple[Voxels, FloatArray]:
    """Return the values (Z, Y, X) of a file of the engine, and voxel index (x, y, z) -> world, (4, 4), RAS mm.

    Raises:
        InputError: The file cannot be read.
    """
    volume = read_image(file)
    return np.array(array_of(volume.GetImageData())), matrix_of(volume)


def check_alive(study: SceneStudy) -> None:
    """Raise when the volumes of a study are gone.

    Raises:
        SceneClosedError: They are.
    """
    if not study.is_alive:
        raise SceneClosedError


@contextmanager
def _all_or_nothing() -> Iterator[list[Any]]:  # Any: MRML is not typed
    """Collect nodes while they are loaded; take them away again when anything fails."""
    added: list[Any] = []
    try:
        yield added
    except BaseException:
        for node in added:
            displays = [node.GetNthDisplayNode(index) for index in range(node.GetNumberOfDisplayNodes())]
            for each in [*filter(None, displays), node]:
                slicer.mrmlScene.RemoveNode(each)
        raise


def _with_masks(study: SceneStudy, folder: Path, record: Json, added: list[Any]) -> SceneStudy:
    is_free = "tumor" in record and record["tumor"] is None
    if record.get("liver") is None and record.get("tumor") is None:
        return replace(study, is_tumor_free=is_free)
    node = new_segmentation(f"{study.study_id} liver and tumors", study.reference)
    added.append(node)
    _fill(node, folder, record)
    show_in_3d(node)
    liver = liver_id(node)
    return replace(
        study,
        liver=SegmentChoice(node, liver) if liver else None,
        tumor=tuple(SegmentChoice(node, each) for each in tumor_ids(node)),
        is_tumor_free=is_free,
    )


def _fill(node: slicer.vtkMRMLSegmentationNode, folder: Path, record: Json) -> None:
    """Make segments of the masks in a folder."""
    for name, add in (("liver", set_liver), ("tumor", set_tumors)):
        entry = record.get(name)
        if entry is not None:
            values, index_to_world = read_values(folder / str(entry["file"]))
            add(node, values > 0, world_to_node(node) @ index_to_world, source=str(entry["source"]))


def _mark_aligned(study: SceneStudy) -> None:
    for volume in study.phases.values():
        if volume is not study.reference:
            volume.SetNodeReferenceID(ALIGNED_ROLE, study.reference.GetID())


def _inherit(source: slicer.vtkMRMLNode, made: slicer.vtkMRMLNode) -> None:
    for name in (SYNTHETIC_ATTRIBUTE, REFERENCE_ATTRIBUTE):
        made.SetAttribute(name, source.GetAttribute(name))
    put_beside(made, source)
