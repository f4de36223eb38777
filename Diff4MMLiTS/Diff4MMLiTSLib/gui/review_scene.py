"""One pair and its source in the scene: volumes with one window for both, and the outline of the tumors.

They are no study of the user: they have no role, are hidden from selectors, and are not saved with the scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from ..core.errors import InputError
from ..core.phases import Phase, in_order
from ..core.study import SYNTHETIC_MARK
from ..core.study_io import FORMAT, STUDY_FILE, phase_files
from ..core.study_records import read_record
from .crossing import SYNTHETIC_ATTRIBUTE, load_volume
from .scene import read_values
from .segments import new_segmentation, set_tumors, tumor_ids, world_to_node
from .texts import _

Node = Any
"""A node; Any: MRML is not typed."""


@dataclass(frozen=True, eq=False)
class ShownPair:
    """What is in the scene.

    Args:
        synthetic: Volumes of the pair by phase.
        source: Volumes of what it was made from; empty when that was not found.
        tumors: Segmentation with the tumor mask of the pair.
        center_ras_mm: Middle of its largest tumor.
    """

    synthetic: dict[Phase, Node]
    source: dict[Phase, Node]
    tumors: Node
    center_ras_mm: tuple[float, float, float] | None


class ReviewScene:
    """Keeps one pair in the scene, and its source as long as pairs of the same source follow.

    Segmentations of the user, which would cover the pairs, are hidden until the review is over.
    """

    def __init__(self) -> None:
        self._pair: list[Node] = []
        self._source: dict[Phase, Node] = {}
        self._source_folder: Path | None = None
        self._hidden: list[Node] = []

    def show(self, folder: Path, source: Path | None) -> ShownPair:
        """Load a pair and, unless it is there already, its source; what was there before is removed.

        Raises:
            InputError: A file cannot be read; what was loaded before is gone.
        """
        self._forget_pair()
        self._hide_segmentations()
        if source != self._source_folder or not all(map(_is_in_scene, self._source.values())):
            self._forget_source()
        if source is not None and not self._source:
            for phase, file in phase_files(source).items():
                self._source[phase] = _load(file, f"{source.name} {phase}", is_synthetic=False)
            self._source_folder = source
        synthetic = {}
        for phase, file in phase_files(folder).items():
            synthetic[phase] = _load(file, f"SYNTHETIC {folder.name} {phase}", is_synthetic=True)
            self._pair.append(synthetic[phase])
        tumors, center = self._load_tumors(folder, synthetic[in_order(synthetic)[-1]])
        return ShownPair(synthetic, dict(self._source), tumors, center)

    def clear(self) -> None:
        """Take everything out of the scene; harmless when the scene was closed meanwhile."""
        self._forget_pair()
        self._forget_source()
        for display in filter(_is_in_scene, self._hidden):
            display.SetVisibility(True)
        self._hidden = []

    def _hide_segmentations(self) -> None:
        for display in slicer.util.getNodesByClass("vtkMRMLSegmentationDisplayNode"):
            if display.GetVisibility():
                display.SetVisibility(False)
                self._hidden.append(display)

    def _load_tumors(self, folder: Path, like: Node) -> tuple[Node, tuple[float, float, float] | None]:
        node = new_segmentation(f"SYNTHETIC {folder.name} tumors", like)
        _hide(node)
        node.SetAttribute(SYNTHETIC_ATTRIBUTE, SYNTHETIC_MARK)
        self._pair.append(node)
        entry = read_record(folder / STUDY_FILE, newest=FORMAT).get("tumor")
        if not isinstance(entry, dict):
            raise InputError(
                _("'{folder}' has no tumor mask").format(folder=folder.name), expected=_("a synthetic pair")
            )
        values, index_to_world = read_values(folder / str(entry["file"]))
        set_tumors(node, values > 0, world_to_node(node) @ index_to_world, source=str(entry["source"]))
        display = node.GetDisplayNode()
        display.SetVisibility2DFill(False)
        display.SetVisibility2DOutline(True)
        display.SetVisibility3D(False)
        largest = next(iter(tumor_ids(node)), "")
        center = node.GetSegmentCenterRAS(largest) if largest else None
        return node, None if center is None else (center[0], center[1], center[2])

    def _forget_pair(self) -> None:
        _remove(self._pair)
        self._pair = []

    def _forget_source(self) -> None:
        _remove(list(self._source.values()))
        self._source, self._source_folder = {}, None


def show_outline(tumors: Node, *, is_shown: bool) -> None:
    """Show or hide the outline of the mask."""
    tumors.GetDisplayNode().SetVisibility(is_shown)


def _load(file: Path, name: str, *, is_synthetic: bool) -> Node:
    volume = load_volume(file, name)
    _hide(volume)
    if is_synthetic:
        volume.SetAttribute(SYNTHETIC_ATTRIBUTE, SYNTHETIC_MARK)
    return volume


def _hide(node: Node) -> None:
    node.SetHideFromEditors(True)
    node.SaveWithSceneOff()


def _is_in_scene(node: Node) -> bool:
    return bool(slicer.mrmlScene.IsNodePresent(node))


def _remove(nodes: list[Node]) -> None:
    for node in filter(_is_in_scene, nodes):
        displays = [node.GetNthDisplayNode(index) for index in range(node.GetNumberOfDisplayNodes())]
        for each in [*filter(None, displays), node]:
            slicer.mrmlScene.RemoveNode(each)
