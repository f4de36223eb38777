"""The settings of the four stages and of import."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from ..enhancement import TumorFamily
from ..phases import Phase
from .settings import Settings

AUTO_MARGIN: Final = "auto"
"""Value of ``InpaintConfig.margin_mm`` that derives it from each study's own registration."""


class Method(StrEnum):
    """How far registration may change a phase."""

    NONE = "none"
    RIGID = "rigid"
    AFFINE = "affine"
    DEFORMABLE = "deformable"


class RegisterLimits(Settings):
    """When a registered phase needs review and when it is rejected: (review, reject).

    docs/registration.md says where each limit comes from and which errors remain.

    Attributes:
        matched_fraction: Least part of the liver's structures that are found within 4 mm.
        residual_p95_mm: Largest 95 % quantile of their distance.
        dissimilarity: Largest mean cost of the structures where they lie, against their cost anywhere near.
        outside_fraction: Largest part of the liver without data in the phase.
        folding_fraction: Largest folded part of the region.
        tumor_volume_change: Largest relative change of the tumors' volume.
        liver_dice: Least Dice of the livers, when a model found the phase's.
        name_confidence: How surely an image must show another phase than its name says, for a review.
    """

    matched_fraction: tuple[float, float] = (0.85, 0.5)
    residual_p95_mm: tuple[float, float] = (6.0, 18.0)
    dissimilarity: tuple[float, float] = (0.55, 0.75)
    outside_fraction: tuple[float, float] = (0.02, 0.3)
    folding_fraction: tuple[float, float] = (0.001, 0.01)
    tumor_volume_change: tuple[float, float] = (0.2, 0.5)
    liver_dice: tuple[float, float] = (0.88, 0.75)
    name_confidence: float = Field(default=0.9, ge=0, le=1)


class RegisterConfig(Settings):
    """Registration of the phases to the reference phase; docs/registration.md measures the choices.

    Attributes:
        method: Rigid, affine or deformable alignment, or resampling only.
        region_mm: Distance around the liver that is aligned with it.
        margin_mm: Distance over which the deformation fades outside the liver.
        search_spacing_mm: Voxels of the exhaustive search over translations.
        least_overlap: Part of the region that a translation must keep in the moving field of view.
        linear_spacing_mm: Voxels of the rigid and affine refinement.
        linear_iterations: Most iterations of that refinement.
        spacing_mm: Voxels of the deformable refinement.
        control_mm: Distance of the B-spline's control points.
        iterations: Steps of each of the four levels.
        samples: Places that one step looks at, in the region and as many in the parenchyma.
        step_mm: First step length of a level; it ends at a tenth.
        smoothness: Weight of the bending energy against the mutual information.
        tumor_stiffness: Weight of the squared logarithm of how known tumors change their volume.
        limits: Thresholds of the verdict.
    """

    method: Method = Method.DEFORMABLE
    region_mm: float = Field(default=10.0, ge=0)
    margin_mm: float = Field(default=36.0, gt=0)
    search_spacing_mm: float = Field(default=4.0, gt=0)
    least_overlap: float = Field(default=0.6, gt=0, le=1)
    linear_spacing_mm: float = Field(default=3.0, gt=0)
    linear_iterations: int = Field(default=100, ge=1)
    spacing_mm: float = Field(default=2.0, gt=0)
    control_mm: float = Field(default=12.0, gt=0)
    iterations: int = Field(default=100, ge=1)
    samples: int = Field(default=4096, ge=256)
    step_mm: float = Field(default=0.5, gt=0)
    smoothness: float = Field(default=12.0, ge=0)
    tumor_stiffness: float = Field(default=2.0, ge=0)
    limits: RegisterLimits = RegisterLimits()


class SegmentConfig(Settings):
    """Stage 4 at work.

    Attributes:
        overlap: Least overlap of neighboring windows, as a fraction.
        windows_at_once: Windows in one forward pass; fewer where the memory is too small.
        margin_mm: How far around the liver that was found at low resolution liver and tumor are looked for.
        flips: Axes along which the study is flipped as well, one after the other; the result is the mean. For networks
            that were trained with such flips.
        minimum_tumor_ml: Smaller tumor components are removed. A ball of 4 mm diameter has 0.03 ml.
        sure_tumor: Tumor components whose highest probability lies below are removed.
        probability: Whether the tumor probability is kept.
        uncertainty: Whether the uncertainty (the entropy of background, liver and tumor) is kept.
    """

    overlap: float = Field(default=0.5, ge=0, lt=1)
    windows_at_once: int = Field(default=2, ge=1)
    margin_mm: float = Field(default=20.0, gt=0)
    flips: tuple[Literal["x", "y", "z"], ...] = ()
    minimum_tumor_ml: float = Field(default=0.03, ge=0)
    sure_tumor: float = Field(default=0.9, ge=0, le=1)
    probability: bool = False
    uncertainty: bool = False

    def fast(self) -> Self:
        """Return the settings for processors: windows that hardly overlap, no flips, a narrow margin."""
        return self.model_copy(
            update={"overlap": min(self.overlap, 0.1), "flips": (), "margin_mm": min(self.margin_mm, 10.0)}
        )


class Sampler(StrEnum):
    """How noise becomes latents: fast, reference and gold."""

    DPM_SOLVER = "dpm_solver"
    DDIM = "ddim"
    DDPM = "ddpm"


class SizeDistribution(Settings):
    """Diameters of tumors, log-normal; ``--sizes-from`` fits it to a cohort.

    Attributes:
        median_mm: Median diameter.
        spread: Standard deviation of the natural logarithm.
        smallest_mm: No smaller ones are drawn.
        largest_mm: No larger ones are drawn.
    """

    median_mm: float = Field(gt=0)
    spread: float = Field(ge=0)
    smallest_mm: float = Field(gt=0)
    largest_mm: float = Field(gt=0)

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> Self:
        if not self.smallest_mm <= self.median_mm <= self.largest_mm:
            raise ValueError("smallest_mm <= median_mm <= largest_mm")
        return self


class TumorMaskConfig(Settings):
    """Random tumor masks.

    Attributes:
        tumors: How many.
        center_mm: World position (LPS) of the only tumor; None draws it.
        diameter_mm: Range to draw the diameter from; None draws from ``sizes``, or else a radius class.
        sizes: Distribution of the diameter.
        radius_classes_mm: Mean radii of tiny, small, medium and large tumors.
        class_weights: How often each class is drawn.
        axis_spread: Each semi-axis is the radius times U(1 - spread, 1 + spread).
        elasticity: Largest elastic displacement of the surface, as part of the radius, reached at the largest class.
        lobulation: Height of the lobes, as part of the radius.
        minimum_inside: Part of the shape that must lie in free liver; less than 1 admits subcapsular tumors.
        gap_mm: Distance between tumors.
        tries: Bound of the search for a place.
    """

    tumors: int = Field(1, ge=1)
    center_mm: tuple[float, float, float] | None = None
    diameter_mm: tuple[float, float] | None = None
    sizes: SizeDistribution | None = None
    radius_classes_mm: tuple[float, ...] = Field((4.0, 8.0, 16.0, 32.0), min_length=1)
    class_weights: tuple[float, ...] = (0.25, 0.4, 0.25, 0.1)
    axis_spread: float = Field(0.25, ge=0, lt=1)
    elasticity: float = Field(0.25, ge=0)
    lobulation: float = Field(0.15, ge=0)
    minimum_inside: float = Field(0.75, gt=0, le=1)
    gap_mm: float = Field(3.0, ge=0)
    tries: int = Field(200, ge=1)

    @model_validator(mode="after")
    def _classes_fit(self) -> Self:
        if len(self.class_weights) != len(self.radius_classes_mm) or sum(self.class_weights) <= 0:
            raise ValueError("one weight per radius class, some of them positive")
        if self.diameter_mm and not 0 < self.diameter_mm[0] <= self.diameter_mm[1]:
            raise ValueError("a range of diameters, smallest first")
        if self.center_mm and self.tumors > 1:
            raise ValueError("one tumor when its center is given")
        return self


class InpaintConfig(Settings):
    """Stage 2 at work.

    Attributes:
        margin_mm: Dilation of the tumor mask, so that it covers the displaced tumor of other phases too; ``auto``
            takes it from the residual that registration has measured.
        rim_mm: How far the dilated mask may reach beyond the liver.
        context_mm: Known tissue around the region that the network sees.
        window: Size in voxels of the working grid up to which a region is filled in one pass; None takes the size of
            the patches that the model has learned from, which is what it does best.
        texture: Add the texture that the fill lacks against the patient's own parenchyma, from healthy liver elsewhere.
    """

    margin_mm: Annotated[float, Field(ge=0, le=15)] | Literal["auto"] = 5.0
    rim_mm: float = Field(2.0, ge=0)
    context_mm: float = Field(24.0, gt=0)
    window: int | None = Field(None, ge=16)
    texture: bool = True


class SynthesizeConfig(Settings):
    """Stage 3 at work.

    Attributes:
        sampler: How noise becomes latents.
        steps: Denoising steps (20 for DPM-Solver++, 50 for DDIM, 1000 for DDPM).
        context_mm: Normal tissue around the mask that the network sees.
        band_mm: Distance from the mask at which the synthetic part has faded out.
        redraws: How often a pair that fails its own check is drawn again.
        family: Kind of tumor that is asked for: hcc, hypovascular, cyst or hemangioma; None leaves it to the model.
    """

    sampler: Sampler = Sampler.DPM_SOLVER
    steps: int = Field(20, ge=1)
    context_mm: float = Field(16.0, gt=0)
    band_mm: float = Field(6.0, gt=0, le=12)
    redraws: int = Field(3, ge=0)
    family: TumorFamily | None = None
    tumor: TumorMaskConfig = TumorMaskConfig()


class ImportConfig(Settings):
    """How ``import`` makes studies from what users have.

    Attributes:
        single_phase: Phase of nnU-Net or Decathlon images whose dataset names none; LiTS is portal venous.
        phases: Phase by number: of a series in the listing of a DICOM folder, or of an nnU-Net channel.
        reference_phase: The phase that the masks were drawn on; None for the first present of PVP, AP, DELAY, NC.
        study_id: Name for the one examination of a DICOM folder; None for a salted hash.
        interpolate_gaps: Accept DICOM series with uneven spacing or single missing slices, by linear interpolation.
        force: Replace studies that are there already.
    """

    single_phase: Phase = Phase.PVP
    phases: dict[int, Phase] = Field(default_factory=dict)
    reference_phase: Phase | None = None
    study_id: str | None = None
    interpolate_gaps: bool = False
    force: bool = False
