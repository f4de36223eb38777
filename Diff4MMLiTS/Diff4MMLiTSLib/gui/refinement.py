"""Changing the tumors of a result: probability threshold, clicks answered by the warm worker, undo and redo."""

from __future__ import annotations

from .job import Reply, Worker
from .scene import SegmentationResult


class Refinement:
    """The tumors of one result while the user changes them; every change can be undone.

    Edits made meanwhile in the Segment Editor belong to the state that the next change starts from.

    Args:
        result: A segmentation with its probability.
        worker: The warm worker; None when only the threshold is used.
    """

    def __init__(self, result: SegmentationResult, worker: Worker | None = None) -> None:
        raise NotImplementedError

    @property
    def threshold(self) -> float:
        """Probability from which a voxel is tumor, 0 to 1."""
        raise NotImplementedError

    def set_threshold(self, threshold: float, *, is_final: bool = True) -> None:
        """Show the tumors of another threshold; a drag of a slider is one undo step, its last call ``is_final``."""
        raise NotImplementedError

    def click(self, point_ras_mm: tuple[float, float, float], *, positive: bool) -> Reply:
        """Ask the worker to add the tumor at a point, or to take it away; the reply's result is this object's node."""
        raise NotImplementedError

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to take back."""
        raise NotImplementedError

    @property
    def can_redo(self) -> bool:
        """Whether a change was taken back."""
        raise NotImplementedError

    def undo(self) -> None:
        """Take the last change back; harmless when there is none."""
        raise NotImplementedError

    def redo(self) -> None:
        """Make the change that was taken back again; harmless when there is none."""
        raise NotImplementedError

    def close(self) -> None:
        """Forget all states; the segmentation stays as it is."""
        raise NotImplementedError
