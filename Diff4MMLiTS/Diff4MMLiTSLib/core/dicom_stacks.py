"""CT slices in any order, sorted into stacks: one orientation, one spacing, no position twice, gaps and tilt found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .dicom_headers import Slice
from .errors import InputError
from .grid import Grid

MIN_SLICES = 4
"""Fewer slices are bolus tracking, a localizer or a sample, not a volume of the liver."""
SAME_POSITION_MM = 0.02
"""Slices closer than this lie at the same place; the thinnest liver CTs have slices every 0.3 mm."""
ORIENTATION_TOLERANCE = 1e-3
"""Difference of direction cosines written with few decimals."""
JITTER_MM = 0.1
"""Deviation from even spacing that positions rounded to one decimal show (0.05), doubled."""
JITTER_FRACTION = 0.01
"""Deviation from even spacing, as a share of the spacing, that is taken as even."""
LATERAL_MM = 0.5
"""Sideways shift of slices over a whole stack that is still no gantry tilt: less than a pixel."""
LARGEST_FILLED_GAP = 2.05
"""Gaps up to this many slice distances (one slice missing) may be interpolated."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """Slices of one volume, ascending along the normal of their plane; at least ``MIN_SLICES``.

    Args:
        slices: The slices in order.
        repeats: Whether several slices lie at the same place and nothing tells them apart.
        is_part: Whether the series held further stacks at the same places (several phases in one series).
    """

    slices: tuple[Slice, ...]
    repeats: bool = False
    is_part: bool = False

    @cached_property
    def positions_mm(self) -> FloatArray:
        """Distance of each slice from the first along the normal, ascending, (slices,)."""
        positions = _along_normal(self.slices)
        return np.asarray(positions - positions[0])

    @cached_property
    def slice_mm(self) -> float:
        """The usual distance of neighboring slices."""
        return float(np.median(np.diff(self.positions_mm)))

    @cached_property
    def is_even(self) -> bool:
        """Whether every slice lies where even spacing puts it, within the rounding of positions."""
        even = np.linspace(0.0, self.positions_mm[-1], len(self.slices))
        deviation = float(np.abs(self.positions_mm - even).max())
        return deviation <= max(JITTER_MM, JITTER_FRACTION * self.slice_mm)

    @property
    def direction(self) -> FloatArray:
        """Direction cosines, (3, 3); column k is the world direction of index axis k."""
        return _axes(self.slices[0].orientation)

    def grid(self, count: int | None = None) -> Grid:
        """Return the lattice of its volume.

        Args:
            count: Number of evenly spaced slices that its slices were brought to; as many as there are when absent.
        """
        first, slices = self.slices[0], count or len(self.slices)
        spacing_mm = (*first.spacing_mm, float(self.positions_mm[-1]) / (slices - 1))
        direction = tuple(float(value) for value in self.direction.ravel())
        return Grid((*first.size, slices), spacing_mm, first.position_mm, direction)

    @property
    def is_axial(self) -> bool:
        """Whether the slices lie across the body's axis, within 30 degrees."""
        return bool(abs(self.direction[2, 2]) > np.cos(np.pi / 6))

    @property
    def time_s(self) -> float | None:
        """When its first slice was acquired."""
        return min((each.time_s for each in self.slices if each.time_s is not None), default=None)

    def check(self, name: str, *, interpolate_gaps: bool) -> None:
        """Raise when these slices do not make a volume.

        Args:
            name: What to call the series; holds no identifier.
            interpolate_gaps: Whether uneven spacing up to one missing slice is acceptable.

        Raises:
            InputError: Slices at the same place, sheared slices, or uneven spacing.
        """
        if self.repeats:
            raise InputError(
                f"In {name} several slices lie at the same place and nothing tells them apart",
                expected="acquisition numbers, temporal positions or times that separate the phases of the series",
                remedy="Export each contrast phase as a series of its own",
            )
        self._check_tilt(name)
        if not self.is_even:
            self._check_spacing(name, interpolate_gaps=interpolate_gaps)

    def _check_tilt(self, name: str) -> None:
        corners = np.array([each.position_mm for each in self.slices])
        sideways = (corners - corners[0]) @ self.direction[:, :2]  # (slices, 2)
        shift = float(np.linalg.norm(sideways, axis=1).max())
        if shift > LATERAL_MM:
            degrees = float(np.degrees(np.arctan2(shift, self.positions_mm[-1])))
            raise InputError(
                f"The slices of {name} are shifted against each other by up to {shift:.1f} mm "
                f"(a gantry tilt of {degrees:.1f} degrees, or a moved table)",
                expected="slices stacked along their normal",
                remedy="Load the series in Slicer with its acquisition-geometry regularization, save it as NRRD, and "
                "import that file with --from table",
            )

    def _check_spacing(self, name: str, *, interpolate_gaps: bool) -> None:
        gaps = np.diff(self.positions_mm) / self.slice_mm
        if interpolate_gaps and gaps.max() <= LARGEST_FILLED_GAP:
            return
        wide = [index + 1 for index, gap in enumerate(gaps) if gap >= 1.5]
        low, high = float(gaps.min()) * self.slice_mm, float(gaps.max()) * self.slice_mm
        found = f"The slices of {name} are {low:.2f} to {high:.2f} mm apart"
        if wide:
            missing = sum(round(float(gaps[index - 1])) - 1 for index in wide)
            places = ", ".join(f"{index} ({self.positions_mm[index - 1]:.1f} mm)" for index in wide[:8])
            found += f"; {missing} missing, after slice {places}{' …' if len(wide) > 8 else ''} of {len(self.slices)}"
        single = gaps.max() <= LARGEST_FILLED_GAP
        retry = "Copy the missing files" if wide else "Export the series with even spacing"
        raise InputError(
            found,
            expected=f"one slice every {self.slice_mm:.2f} mm",
            remedy=retry + (", or accept interpolated slices with --set interpolate_gaps=true" if single else ""),
        )


def stacks_of(slices: Iterable[Slice]) -> tuple[Stack, ...]:
    """Sort the slices of one DICOM series into stacks.

    A series is split where orientation, spacing or size change; and, where slices repeat positions, by the first of
    temporal position, acquisition number, and order in time that separates them.

    Returns:
        Stacks of at least ``MIN_SLICES`` slices at different places, earliest first.
    """
    unique = {each.key: each for each in slices}
    stacks = [stack for group in _by_geometry(list(unique.values())) for stack in _without_repeats(group)]
    kept = (stack for stack in stacks if len(stack.slices) >= MIN_SLICES and stack.positions_mm[-1] > 0)
    return tuple(sorted(kept, key=lambda stack: (stack.time_s or 0.0, stack.slices[0].instance)))


def _by_geometry(slices: Sequence[Slice]) -> list[list[Slice]]:
    groups: list[list[Slice]] = []
    for each in slices:
        home = next((group for group in groups if _same_geometry(group[0], each)), None)
        if home is None:
            groups.append([each])
        else:
            home.append(each)
    return groups


def _same_geometry(first: Slice, second: Slice) -> bool:
    return (
        first.size == second.size
        and np.allclose(first.spacing_mm, second.spacing_mm, rtol=1e-3, atol=0)
        and np.allclose(first.orientation, second.orientation, rtol=0, atol=ORIENTATION_TOLERANCE)
    )


def _without_repeats(slices: list[Slice]) -> list[Stack]:
    if not _repeats(slices):
        return [Stack(_in_order(slices))]
    keys: tuple[Callable[[Slice], Hashable], ...] = (lambda each: each.temporal_position, lambda each: each.acquisition)
    for key in keys:
        groups = _grouped(slices, key)
        if not any(_repeats(group) for group in groups):
            return [Stack(_in_order(group), is_part=True) for group in groups]
    return [Stack(_in_order(group), is_part=True) for group in _by_time(slices)] or [
        Stack(_in_order(slices), repeats=True)
    ]


def _by_time(slices: list[Slice]) -> list[list[Slice]]:
    """Return the first, second … slice of every place; nothing when the places hold different numbers of slices."""
    ordered = _in_order(slices)
    new_place = np.diff(_along_normal(ordered), prepend=-np.inf) > SAME_POSITION_MM
    places = _grouped(list(zip(np.cumsum(new_place), ordered, strict=True)), lambda pair: int(pair[0]))
    queues = [
        sorted((each for _, each in place), key=lambda each: (each.time_s or 0.0, each.instance)) for place in places
    ]
    moments = [(each.time_s, each.instance) for queue in queues for each in queue]
    if len({len(queue) for queue in queues}) > 1 or len(set(moments)) < len(moments):
        return []
    return [list(group) for group in zip(*queues, strict=True)]


def _moment(each: Slice) -> tuple[float, int]:
    return each.time_s or 0.0, each.instance


def _grouped(items: list, key: Callable) -> list[list]:  # type: ignore[type-arg]  # any items
    groups = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.values())


def _repeats(slices: Sequence[Slice]) -> bool:
    return bool((np.diff(np.sort(_along_normal(slices))) <= SAME_POSITION_MM).any())


def _in_order(slices: Sequence[Slice]) -> tuple[Slice, ...]:
    return tuple(slices[index] for index in np.argsort(_along_normal(slices), kind="stable"))


def _along_normal(slices: Sequence[Slice]) -> FloatArray:
    corners = np.array([each.position_mm for each in slices], dtype=np.float64)  # (slices, 3)
    return np.asarray(corners @ _axes(slices[0].orientation)[:, 2])


def _axes(orientation: tuple[float, ...]) -> FloatArray:
    """Return orthonormal axes (columns) of the rounded cosines that headers hold."""
    row = np.array(orientation[:3], dtype=np.float64)
    row /= np.linalg.norm(row)
    column = np.array(orientation[3:6], dtype=np.float64)
    column -= row * float(row @ column)
    column /= np.linalg.norm(column)
    return np.stack([row, column, np.cross(row, column)], axis=1)
