"""Other registrations, wrapped so that ``benchmarks/registration.py`` can run them on the same inputs.

None of them is a dependency of the project: each is skipped, with a message, where it is not installed.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.study import Mask

Points = NDArray[np.float64]
WINDOW_HU = (-200.0, 300.0)

ELASTIX_COMMON = """
(FixedInternalImagePixelType "float")
(MovingInternalImagePixelType "float")
(FixedImagePyramid "FixedSmoothingImagePyramid")
(MovingImagePyramid "MovingSmoothingImagePyramid")
(Interpolator "LinearInterpolator")
(ResampleInterpolator "FinalBSplineInterpolator")
(Resampler "DefaultResampler")
(Registration "MultiResolutionRegistration")
(Optimizer "AdaptiveStochasticGradientDescent")
(Metric "AdvancedMattesMutualInformation")
(NumberOfHistogramBins 32)
(ImageSampler "RandomCoordinate")
(NumberOfSpatialSamples 4096)
(NewSamplesEveryIteration "true")
(CheckNumberOfSamples "false")
(ErodeMask "false")
(HowToCombineTransforms "Compose")
(AutomaticTransformInitialization "false")
(AutomaticScalesEstimation "true")
(NumberOfResolutions 4)
(WriteResultImage "false")
(DefaultPixelValue -1000)
"""
ELASTIX_RIGID = ELASTIX_COMMON + '(Transform "EulerTransform")\n(MaximumNumberOfIterations 250)\n'
ELASTIX_SPLINE = (
    ELASTIX_COMMON + '(Transform "BSplineTransform")\n(FinalGridSpacingInPhysicalUnits 16)\n'
    "(MaximumNumberOfIterations 400)\n"
)


@dataclass(frozen=True, eq=False)
class Pair:
    """One registration problem: reference, moving phase, liver of the reference, and the liver with surroundings."""

    reference: Volume
    moving: Volume
    liver: Mask
    region: Volume


Peer = Callable[[Pair, Points], tuple[Points, float]]
"""Takes a pair and reference points (N, 3); returns where they lie in the moving phase, and the seconds it took."""


def nothing(_pair: Pair, points: Points) -> tuple[Points, float]:
    """No registration at all."""
    return points, 0.0


def simpleitk_rigid(pair: Pair, points: Points) -> tuple[Points, float]:
    """SimpleITK: rigid by mutual information in the liver's surroundings."""
    started = time.perf_counter()
    fixed, moving = (_windowed(volume) for volume in (pair.reference, pair.moving))
    rigid = _simpleitk_rigid(fixed, moving, sitk.Cast(pair.region.to_image(), sitk.sitkUInt8), pair)
    return _mapped(rigid, points), time.perf_counter() - started


def simpleitk_spline(pair: Pair, points: Points) -> tuple[Points, float]:
    """SimpleITK: rigid, then a B-spline of 50 mm by LBFGS2, both by mutual information in the liver's surroundings."""
    started = time.perf_counter()
    fixed, moving = (_windowed(volume) for volume in (pair.reference, pair.moving))
    mask = sitk.Cast(pair.region.to_image(), sitk.sitkUInt8)
    rigid = _simpleitk_rigid(fixed, moving, mask, pair)
    box = sitk.LabelShapeStatisticsImageFilter()
    box.Execute(mask)
    start, size = np.array(box.GetBoundingBox(1)[:3]), np.array(box.GetBoundingBox(1)[3:])
    cropped = sitk.RegionOfInterest(fixed, size.tolist(), start.tolist())
    mesh = [max(1, round(n * step / 50.0)) for n, step in zip(size.tolist(), fixed.GetSpacing(), strict=True)]
    spline = sitk.BSplineTransformInitializer(cropped, mesh, 3)
    method = _method(mask, 0.1)
    method.SetMovingInitialTransform(rigid)
    method.SetInitialTransform(spline, inPlace=True)
    method.SetOptimizerAsLBFGS2(numberOfIterations=60, solutionAccuracy=1e-4)
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([1.0, 0.0])
    method.Execute(fixed, moving)
    seconds = time.perf_counter() - started
    return _mapped(sitk.CompositeTransform([rigid, spline]), points), seconds


def elastix(pair: Pair, points: Points) -> tuple[Points, float]:
    """The program elastix: rigid, then a B-spline of 16 mm, with the liver's surroundings as fixed mask."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_for_elastix(pair, folder)
        command = ["elastix", "-f", "fixed.mha", "-m", "moving.mha", "-fMask", "mask.mha", "-out", "out"]
        command += ["-p", "rigid.txt", "-p", "spline.txt"]
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        seconds = time.perf_counter() - started
        lines = "\n".join(" ".join(f"{value:.6f}" for value in point) for point in points)
        (folder / "points.txt").write_text(f"point\n{len(points)}\n{lines}\n")
        transform = ["transformix", "-def", "points.txt", "-out", "out", "-tp", "out/TransformParameters.1.txt"]
        subprocess.run(transform, cwd=folder, check=True, capture_output=True)
        rows = (folder / "out" / "outputpoints.txt").read_text().splitlines()
    found = [row.split("OutputPoint = [")[1].split("]")[0].split() for row in rows]
    return np.array(found, dtype=np.float64), seconds


def convexadam_with(python: str) -> Peer:
    """Return convexAdam with its defaults, run by an interpreter that has it."""

    def convexadam(pair: Pair, points: Points) -> tuple[Points, float]:
        code = (
            "import sys, time, numpy as np\n"
            "from convexAdam.convex_adam_MIND import convex_adam_pt\n"
            "fixed, moving = np.load('fixed.npy'), np.load('moving.npy')\n"
            "started = time.perf_counter()\n"
            "np.save('field.npy', convex_adam_pt(fixed, moving))\n"
            "print(time.perf_counter() - started)\n"
        )
        image = sitk.Resample(
            pair.moving.to_image(), pair.reference.to_image(), sitk.Transform(), sitk.sitkLinear, -1000
        )
        with tempfile.TemporaryDirectory() as name:
            np.save(Path(name) / "fixed.npy", np.clip(pair.reference.array, *WINDOW_HU).astype(np.float32))
            np.save(Path(name) / "moving.npy", np.clip(sitk.GetArrayFromImage(image), *WINDOW_HU).astype(np.float32))
            done = subprocess.run([python, "-c", code], cwd=name, check=True, capture_output=True, text=True)
            field = np.load(Path(name) / "field.npy")  # (Z, Y, X, 3), voxels along z, y, x
        grid = pair.reference.grid
        index = grid.to_index(points)
        at = index[:, ::-1].T
        step = np.stack([map_coordinates(field[..., k], at, order=1, mode="nearest") for k in (2, 1, 0)], axis=1)
        return grid.to_world(index + step), float(done.stdout.split()[-1])

    return convexadam


def available_peers(convexadam_python: str | None, *, slow: bool) -> dict[str, Peer]:
    """Return the peers that can run here, by name; without the slow ones just what no registration gives."""
    peers: dict[str, Peer] = {"none": nothing}
    if not slow:
        return peers
    peers |= {"SimpleITK rigid": simpleitk_rigid, "SimpleITK B-spline 50 mm": simpleitk_spline}
    if shutil.which("elastix"):
        peers["elastix B-spline 16 mm"] = elastix
    else:
        print("elastix is not installed: skipped")
    if convexadam_python:
        peers["convexAdam"] = convexadam_with(convexadam_python)
    return peers


def _simpleitk_rigid(fixed: sitk.Image, moving: sitk.Image, mask: sitk.Image, pair: Pair) -> sitk.Transform:
    grid = pair.liver.volume.grid
    center = grid.to_world(np.argwhere(pair.liver.array).mean(axis=0)[::-1])
    rigid = sitk.Euler3DTransform()
    rigid.SetCenter(center.tolist())
    method = _method(mask, 0.05)
    method.SetInitialTransform(rigid, inPlace=True)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.01, 100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([4.0, 2.0])
    method.Execute(fixed, moving)
    return rigid


def _method(mask: sitk.Image, share: float) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(mask)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(share, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _write_for_elastix(pair: Pair, folder: Path) -> None:
    (folder / "out").mkdir()
    sitk.WriteImage(_windowed(pair.reference), str(folder / "fixed.mha"))
    sitk.WriteImage(_windowed(pair.moving), str(folder / "moving.mha"))
    sitk.WriteImage(sitk.Cast(pair.region.to_image(), sitk.sitkUInt8), str(folder / "mask.mha"))
    (folder / "rigid.txt").write_text(ELASTIX_RIGID)
    (folder / "spline.txt").write_text(ELASTIX_SPLINE)


def _windowed(volume: Volume) -> sitk.Image:
    values = np.clip(np.asarray(volume.array, dtype=np.float32), *WINDOW_HU)
    return Volume(values, volume.grid).to_image()


def _mapped(transform: sitk.Transform, points: Points) -> Points:
    return np.array([transform.TransformPoint(point.tolist()) for point in points])
