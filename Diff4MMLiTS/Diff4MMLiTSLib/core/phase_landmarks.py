"""Where aorta, cava, liver, spleen and kidneys lie in an abdominal CT, and how bright they are; no masks needed.

The volume is first sampled upright and coarsely, so that flipped and oblique images look alike. Then anatomy leads: the
spine is the column of bone near the midline, the aorta a round tube before it on the left, the cava one on the right,
the liver the largest even soft tissue on the right, the spleen the one at the back on the left, and the kidneys round
islands in the fat beside the spine. Whatever is not found, or not surely, is missing from the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from .grid import Grid, Volume, resample

SPACING_MM = 3.0
"""Coarse enough to average noise and to be fast, fine enough for an aorta of 16 mm."""
AIR_HU = -1000.0
BODY_HU = -300.0
SMALLEST_BODY_MM = (60.0, 120.0, 150.0)
"""Extent (z, y, x) below which no abdomen is shown in full width."""
CANAL_BLUR_MM = 8.0
"""Along z: closes the arch between two vertebrae."""
CANAL_RADIUS_MM = (6.0, 15.0)
"""Inside the canal, and in the bone around it."""
CANAL_EDGE_HU = 150.0
CANAL_SCORE = 0.35
CANAL_TO_VERTEBRA_MM = 27.0
MIDLINE_MM = 45.0
"""Farthest of the spine from the middle of the body."""

VESSEL_RADII_MM = (8.0, 10.0, 12.0, 14.0)
ANGLES = 16
EDGE_HU = 60.0
"""Difference across the wall of a vessel that counts as a full edge; fat differs by 140, the crus by 0 to 300."""
EVEN_HU = 22.0
"""Deviation inside a disc that costs as much as a full circle of edges earns."""
DARKER_SHARE = 0.3
"""Least part of the circle beyond which fat or lung lies; around the spinal canal it is bone."""
BLOOD_HU = (10.0, 650.0)
FEWEST_SLICES = 8
VESSEL_SCORE = 0.25
"""Least mean score of a tube (1 = edges all around, no noise)."""

SOFT_HU = (-10.0, 260.0)
DEEP_MM = 13.0
"""Depth inside soft tissue that muscle and gut do not reach and the liver does."""
LIVER_BAND_HU = 22.0
SMALLEST_LIVER_ML = 250.0
VESSEL_BLUR_MM = 1.8
VESSEL_PERCENTILE = 99.5
"""Of liver and hilum: portal trunk and the stems of the hepatic veins are about 1 % of it."""
SPLEEN_DEPTH_MM = 9.0
SMALLEST_SPLEEN_ML = 8.0
"""Of the core that is deep inside."""
KIDNEY_LEVELS_HU = (0.0, 60.0, 100.0, 140.0)
KIDNEY_Y_MM = (-18.0, 48.0)
"""Before and behind the middle of the vertebra; stomach and small bowel lie further in front."""
KIDNEY_AREA_MM2 = (600.0, 4200.0)
KIDNEY_FILL = 0.5
"""Least share of its box: a disc fills 0.79, the diamonds that opening leaves of small islands 0.5."""
FEWEST_KIDNEY_ML = 12.0
KIDNEY_HU = 290.0
"""Above this median, an island is bowel with oral contrast."""
PAIR_HU = 35.0
"""Kidneys of one patient are closer than this; when they are not, one of the islands is bowel."""
FAT_HU = (-160.0, 40.0)
"""Median around a kidney: mostly fat, partly psoas or liver; around the domes of liver and spleen it is lung."""

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Window = tuple[float, float]


@dataclass(frozen=True)
class Landmarks:
    """How bright the organs are, in HU; None where one was not found.

    Args:
        aorta: Median of the abdominal or lower thoracic aorta.
        cava: Median of the inferior vena cava.
        liver: Most frequent value of the parenchyma.
        portal: Brightest vessels in liver and hilum minus the liver: mostly the portal vein, some noise in every phase.
        spleen: Median.
        cortex: Bright part of the kidneys (97th percentile).
        medulla: Dark part of the kidneys (25th percentile).
    """

    aorta: float | None = None
    cava: float | None = None
    liver: float | None = None
    portal: float | None = None
    spleen: float | None = None
    cortex: float | None = None
    medulla: float | None = None


@dataclass(frozen=True, eq=False)
class _Scene:
    """An upright CT: values, body, and the spine's position in every slice (row, column)."""

    values: FloatArray
    smooth: FloatArray
    body: BoolArray
    spine: NDArray[np.float64]


def find_landmarks(volume: Volume) -> Landmarks:
    """Return the brightness of the organs of an abdominal CT, in HU; all missing when it shows no trunk.

    Args:
        volume: CT values (Z, Y, X), HU, any orientation and spacing.
    """
    scene = _scene_of(volume)
    if scene is None:
        return Landmarks()
    aorta = _tube(scene, x_mm=(-12.0, 42.0), y_mm=(-62.0, 4.0))
    cava = _tube(scene, x_mm=(-48.0, -6.0), y_mm=(-68.0, -14.0))
    kidneys = _kidneys(scene)
    liver = _liver(scene, kidneys)
    spleen = _spleen(scene, kidneys)
    level, portal = _liver_values(scene, liver)
    return Landmarks(aorta, cava, level, portal, _median(scene.smooth, spleen), *_kidney_values(scene, kidneys))


def upright(volume: Volume) -> Volume:
    """Return the CT on an axis-aligned grid of 3 mm (x to the left, y to the back, z to the head), float32, HU."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(volume.grid.size) - 1.0)
    world = volume.grid.to_world(corners)
    low, extent = world.min(axis=0), np.ptp(world, axis=0)
    size = np.maximum(1, np.floor(extent / SPACING_MM + 1e-6).astype(int) + 1)
    grid = Grid((int(size[0]), int(size[1]), int(size[2])), (SPACING_MM,) * 3, (low[0], low[1], low[2]))
    return resample(_without_fine_noise(volume), grid, outside=AIR_HU)


def _without_fine_noise(volume: Volume) -> Volume:
    """Average voxels that are much smaller than the coarse grid's, which linear interpolation would skip."""
    shrink = [max(1, int(0.7 * SPACING_MM / spacing)) for spacing in volume.grid.spacing_mm]
    values = np.clip(np.asarray(volume.array, dtype=np.float32), AIR_HU, 1500.0)
    image = Volume(values, volume.grid).to_image()
    return Volume.from_image(sitk.BinShrink(image, shrink) if max(shrink) > 1 else image)


def _scene_of(volume: Volume) -> _Scene | None:
    values = np.asarray(upright(volume).array)
    body = _body(values)
    if not body.any():
        return None
    rows = np.flatnonzero(body.any(axis=(1, 2)))
    values, body = values[rows[0] : rows[-1] + 1], body[rows[0] : rows[-1] + 1]
    box = ndimage.find_objects(body.astype(np.uint8))[0]
    extent = [(part.stop - part.start) * SPACING_MM for part in box]
    if any(length < least for length, least in zip(extent, SMALLEST_BODY_MM, strict=True)):
        return None
    spine = _spine(values, body)
    return None if spine is None else _Scene(values, ndimage.gaussian_filter(values, 1.0), body, spine)


def _body(values: FloatArray) -> BoolArray:
    """Return the largest connected tissue with everything it encloses within each slice."""
    tissue = ndimage.binary_opening(values > BODY_HU, iterations=2)  # the table is thin
    body = _largest(tissue)
    return np.stack([np.asarray(ndimage.binary_fill_holes(plane), dtype=bool) for plane in body])


def _spine(values: FloatArray, body: BoolArray) -> NDArray[np.float64] | None:
    """Return the position (row, column) of the middle of the vertebra in every slice; None without a spinal canal.

    The canal is the one soft tube with bone all around; no vessel, however bright or calcified, looks like it.
    """
    across: BoolArray = np.asarray(body.any(axis=0))
    columns, rows = np.flatnonzero(across.any(axis=0)), np.flatnonzero(across.any(axis=1))
    reach = int(MIDLINE_MM / SPACING_MM)
    left = max(0, int((columns[0] + columns[-1]) / 2) - reach)
    top = int((rows[0] + rows[-1]) / 2)
    patch = values[:, top : rows[-1] + 1, left : left + 2 * reach + 1]
    smooth = ndimage.gaussian_filter(np.clip(patch, -150.0, 500.0), (CANAL_BLUR_MM / SPACING_MM, 0.5, 0.5))
    inside = ndimage.convolve(smooth, _disc(CANAL_RADIUS_MM[0] / SPACING_MM))
    around = [_shifted(smooth, CANAL_RADIUS_MM[1], angle) - inside for angle in _angles()]
    score = np.mean([np.clip(rise / CANAL_EDGE_HU, -0.5, 1.0) for rise in around], axis=0)
    score[(inside < -60.0) | (inside > 140.0)] = -1.0
    path = np.array(_best_path(score.astype(np.float32)))
    found = np.median(score[np.arange(len(path)), path[:, 0], path[:, 1]])
    if found < CANAL_SCORE:
        return None
    return np.asarray(path + np.array([top - CANAL_TO_VERTEBRA_MM / SPACING_MM, left]), dtype=np.float64)


def _tube(scene: _Scene, *, x_mm: Window, y_mm: Window) -> float | None:
    """Return the median HU of the best round tube within a window around the spine; None when there is none."""
    score, means = _tube_scores(scene, x_mm, y_mm)
    path = _best_path(score)
    along = np.array([score[(slice_, *place)] for slice_, place in enumerate(path)])
    inside = np.array([means[(slice_, *place)] for slice_, place in enumerate(path)])
    good = along > VESSEL_SCORE
    return float(np.median(inside[good])) if good.sum() >= min(FEWEST_SLICES, 0.5 * len(path)) else None


def _tube_scores(scene: _Scene, x_mm: Window, y_mm: Window) -> tuple[FloatArray, FloatArray]:
    """Return how round and even the surrounding disc is, and its mean, (Z, rows, columns) of the window.

    The edge may go either way, since blood is darker than bone and brighter than fat; so it is found in every phase.
    """
    margin = 7
    patch = _window(ndimage.gaussian_filter1d(scene.values, 1.0, axis=0), scene.spine, x_mm, y_mm, margin)
    clipped = np.clip(patch, -150.0, BLOOD_HU[1])
    best, means = np.full(patch.shape, -np.inf, dtype=np.float32), np.zeros(patch.shape, dtype=np.float32)
    for radius_mm in VESSEL_RADII_MM:
        disc = _disc(max(1.0, radius_mm / SPACING_MM - 0.8))
        mean = ndimage.convolve(clipped, disc)
        spread = np.sqrt(np.maximum(ndimage.convolve(clipped**2, disc) - mean**2, 0))
        drops = [np.clip((mean - _shifted(clipped, radius_mm + 3.5, angle)) / EDGE_HU, -1, 1) for angle in _angles()]
        edge, darker = np.mean(np.abs(drops), axis=0), np.mean(np.maximum(drops, 0), axis=0)
        score = edge - 0.5 * np.minimum(spread / EVEN_HU, 2.0) - 2.0 * np.maximum(DARKER_SHARE - darker, 0)
        score[(mean < BLOOD_HU[0]) | (mean > BLOOD_HU[1])] = -1
        better = score > best
        best[better], means[better] = score[better], mean[better]
    inner = (slice(None), slice(margin, -margin), slice(margin, -margin))
    return best[inner], means[inner]


def _window(values: FloatArray, spine: NDArray[np.float64], x_mm: Window, y_mm: Window, margin: int) -> FloatArray:
    """Cut the same window around the spine from every slice; beyond the image is air."""
    rows, columns = (
        np.arange(int(low // SPACING_MM) - margin, int(high // SPACING_MM) + margin + 1) for low, high in (y_mm, x_mm)
    )
    result = np.full((len(values), len(rows), len(columns)), AIR_HU, dtype=np.float32)
    for index, (row, column) in enumerate(np.rint(spine).astype(int)):
        y, x = rows + row, columns + column
        valid_y, valid_x = (y >= 0) & (y < values.shape[1]), (x >= 0) & (x < values.shape[2])
        result[index][np.ix_(valid_y, valid_x)] = values[index][np.ix_(y[valid_y], x[valid_x])]
    return result


def _angles() -> NDArray[np.float64]:
    return np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)


def _disc(radius: float) -> FloatArray:
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (np.hypot(y, x) <= radius).astype(np.float32)
    return np.asarray((disc / disc.sum())[None], dtype=np.float32)


def _shifted(values: FloatArray, distance_mm: float, angle: float) -> FloatArray:
    """Return what lies at a distance in a direction within the slice, linearly interpolated."""
    y, x = np.array([np.sin(angle), np.cos(angle)]) * distance_mm / SPACING_MM
    reach = int(np.ceil(distance_mm / SPACING_MM)) + 1
    padded = np.pad(values, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    top, left = reach + int(np.floor(y)), reach + int(np.floor(x))
    down, right = np.float32(y - np.floor(y)), np.float32(x - np.floor(x))
    _, rows, columns = values.shape
    above, below = ((1 - down), top), (down, top + 1)
    parts = [
        share * portion * padded[:, row : row + rows, column : column + columns]
        for share, row in (above, below)
        for portion, column in ((1 - right, left), (right, left + 1))
    ]
    return np.asarray(sum(parts), dtype=np.float32)


def _best_path(score: FloatArray) -> list[tuple[int, int]]:
    """Return the place in every slice along the path of greatest score that moves one voxel a slice at most."""
    total, steps = score[0].astype(np.float64), []
    moves = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    for plane in score[1:]:
        padded = np.pad(total, 1, constant_values=-np.inf)
        height, width = total.shape
        options = np.stack(
            [padded[1 + y : 1 + y + height, 1 + x : 1 + x + width] - 0.03 * (y != 0 or x != 0) for y, x in moves]
        )
        steps.append(options.argmax(axis=0))
        total = options.max(axis=0) + plane
    place = np.unravel_index(int(total.argmax()), total.shape)
    path = [(int(place[0]), int(place[1]))]
    for step in reversed(steps):
        move = moves[step[path[-1]]]
        path.append((path[-1][0] + move[0], path[-1][1] + move[1]))
    return path[::-1]


def _side(scene: _Scene, *, x_mm: Window, y_mm: Window) -> BoolArray:
    """Return the voxels within a window around the spine; x grows to the patient's left, y to the back."""
    _, rows, columns = scene.values.shape
    y = (np.arange(rows)[None, :] - scene.spine[:, :1]) * SPACING_MM
    x = (np.arange(columns)[None, :] - scene.spine[:, 1:]) * SPACING_MM
    inside_y, inside_x = (y >= y_mm[0]) & (y <= y_mm[1]), (x >= x_mm[0]) & (x <= x_mm[1])
    return np.asarray(inside_y[:, :, None] & inside_x[:, None, :] & scene.body)


def _liver(scene: _Scene, kidneys: BoolArray) -> BoolArray:
    """Return the largest even soft tissue on the right; empty when it is too small."""
    right = _side(scene, x_mm=(-400.0, 5.0), y_mm=(-400.0, 60.0)) & ~kidneys
    soft = (scene.smooth > SOFT_HU[0]) & (scene.smooth < SOFT_HU[1]) & right
    deep = ndimage.distance_transform_edt(np.pad(soft, 1, mode="edge"))[1:-1, 1:-1, 1:-1] * SPACING_MM > DEEP_MM
    if deep.sum() * SPACING_MM**3 / 1000 < SMALLEST_LIVER_ML / 10:
        return np.zeros_like(deep)
    level = _mode(scene.smooth[deep])
    even = soft & (np.abs(scene.smooth - level) < LIVER_BAND_HU)
    liver = _largest(ndimage.binary_opening(even, iterations=2))
    return _if_large(liver, SMALLEST_LIVER_ML)


def _liver_values(scene: _Scene, liver: BoolArray) -> tuple[float | None, float | None]:
    """Return the parenchyma's level, and by how far the brightest vessels in liver and hilum exceed it."""
    if not liver.any():
        return None, None
    level = _mode(scene.smooth[liver])
    whole = ndimage.binary_closing(np.pad(liver, 4), iterations=4)[4:-4, 4:-4, 4:-4]
    inner = ndimage.binary_erosion(whole, iterations=3, border_value=1)
    if inner.sum() < 500:
        return level, None
    sharp = ndimage.gaussian_filter(scene.values, VESSEL_BLUR_MM / SPACING_MM)
    return level, float(np.percentile(sharp[inner], VESSEL_PERCENTILE) - level)


def _spleen(scene: _Scene, kidneys: BoolArray) -> BoolArray:
    """Return the largest even soft tissue at the back on the left; empty when it is too small."""
    left = _side(scene, x_mm=(42.0, 400.0), y_mm=(-60.0, 60.0)) & ~ndimage.binary_dilation(kidneys, iterations=2)
    soft = (scene.smooth > 20.0) & (scene.smooth < SOFT_HU[1]) & left
    deep = ndimage.distance_transform_edt(np.pad(soft, 1, mode="edge"))[1:-1, 1:-1, 1:-1] * SPACING_MM > SPLEEN_DEPTH_MM
    spleen = _largest(deep)  # its core
    return _if_large(spleen, SMALLEST_SPLEEN_ML)


def _kidneys(scene: _Scene) -> BoolArray:
    """Return round islands beside the spine: on each side those of the threshold that sets most of them apart."""
    sides = [_side(scene, x_mm=x_mm, y_mm=KIDNEY_Y_MM) for x_mm in ((-92.0, -24.0), (24.0, 92.0))]
    best = [np.zeros_like(scene.body) for _ in sides]
    for threshold in KIDNEY_LEVELS_HU:
        soft = (scene.smooth > threshold) & (scene.smooth < BLOOD_HU[1]) & scene.body
        planes = zip(soft, scene.values, sides[0] | sides[1], strict=True)
        islands = np.stack([_islands(*plane) for plane in planes])
        candidates = (_largest(islands & side) for side in sides)
        best = [new if new.sum() > old.sum() else old for new, old in zip(candidates, best, strict=True)]
    best = [_if_large(kidney, FEWEST_KIDNEY_ML) for kidney in best]
    medians = [_median(scene.values, kidney) for kidney in best]
    if medians[0] is not None and medians[1] is not None and abs(medians[0] - medians[1]) > PAIR_HU:
        return np.zeros_like(scene.body)
    return best[0] | best[1]


def _islands(soft: BoolArray, values: FloatArray, window: BoolArray) -> BoolArray:
    """Return the islands of one slice that are as large and round as a kidney, with fat around, and in the window."""
    labels, _ = ndimage.label(ndimage.binary_opening(soft, iterations=2))
    result = np.zeros_like(soft)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        region = labels[box] == number
        row, column = (int((part.start + part.stop) / 2) for part in box)
        if window[row, column] and _is_round(region):
            island = labels == number
            ring = ndimage.binary_dilation(island, iterations=3) & ~ndimage.binary_dilation(island)
            if FAT_HU[0] < np.median(values[ring]) < FAT_HU[1] and np.median(values[island]) < KIDNEY_HU:
                result |= island
    return result


def _is_round(region: BoolArray) -> bool:
    low, high = KIDNEY_AREA_MM2
    height, width = region.shape
    is_kidney_sized = low <= region.sum() * SPACING_MM**2 <= high
    is_compact = region.sum() > KIDNEY_FILL * height * width
    return bool(is_kidney_sized and is_compact and max(height, width) < 2 * min(height, width))


def _kidney_values(scene: _Scene, kidneys: BoolArray) -> tuple[float | None, float | None]:
    inner = ndimage.binary_erosion(kidneys)
    if inner.sum() * SPACING_MM**3 / 1000 < FEWEST_KIDNEY_ML / 2:
        return None, None
    medulla, cortex = np.percentile(scene.smooth[inner], (25.0, 97.0))
    return float(cortex), float(medulla)


def _mode(values: FloatArray) -> float:
    """Return the most frequent value, from a smoothed histogram."""
    counts, edges = np.histogram(values, bins=np.arange(-20.0, 300.0, 2.0))
    return float(edges[int(ndimage.gaussian_filter1d(counts.astype(float), 3.0).argmax())] + 1.0)


def _median(values: FloatArray, region: BoolArray) -> float | None:
    return float(np.median(values[region])) if region.any() else None


def _if_large(region: BoolArray, least_ml: float) -> BoolArray:
    return region if region.sum() * SPACING_MM**3 / 1000 >= least_ml else np.zeros_like(region)


def _largest(mask: BoolArray) -> BoolArray:
    labels, count = ndimage.label(mask)
    if not count:
        return np.zeros_like(mask)
    return np.asarray(labels == 1 + int(np.bincount(labels.ravel())[1:].argmax()))
