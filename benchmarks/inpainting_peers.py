"""Other ways to fill a hole in a multiphase liver CT, for the comparison in ``inpainting.py``.

Networks get what ours gets (the same inputs, centered on the parenchyma's level, items, losses and processor time), so
that the comparison is one of networks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import BasicUNet
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu
from torch import nn
from torch.nn import functional

from Diff4MMLiTSLib.core.config import InpainterNetwork, InpainterTrainConfig, ModelCard, ModelKind
from Diff4MMLiTSLib.core.grid import Volume
from Diff4MMLiTSLib.core.parenchyma import parenchyma_voxels
from Diff4MMLiTSLib.core.phases import Phase
from Diff4MMLiTSLib.core.progress import silent
from Diff4MMLiTSLib.nets.inpainter import PHASE_COUNT, Inpainter
from Diff4MMLiTSLib.stages.inpainting import NETWORK, NormalCTGenerator
from Diff4MMLiTSLib.training.datasets import WorkingStudy
from Diff4MMLiTSLib.training.generative import inpainter_task
from Diff4MMLiTSLib.training.trainer import train

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Images = Mapping[Phase, FloatArray]
SMALLEST_INPUT = 32
"""Voxels that the U-Net's four halvings need for more than one at the bottom; smaller boxes are padded."""
TIMED_STEPS = 4
"""Steps that are timed to find how many fit into the budget."""
BIHARMONIC = np.array([[0, 0, 1, 0, 0], [0, 2, -8, 2, 0], [1, -8, 20, -8, 1], [0, 2, -8, 2, 0], [0, 0, 1, 0, 0]])


def fill_biharmonic(images: Images, region: BoolArray) -> dict[Phase, FloatArray]:
    """Fill each axial slice with the function whose double Laplacian is 0 (as scikit-image's inpaint_biharmonic)."""
    filled = {phase: values.copy() for phase, values in images.items()}
    offsets = [(y - 2, x - 2, BIHARMONIC[y, x]) for y in range(5) for x in range(5) if BIHARMONIC[y, x]]
    for z in np.flatnonzero(region.any(axis=(1, 2))):
        rows, columns = np.nonzero(region[z])
        number = np.full(region[z].shape, -1)
        number[rows, columns] = np.arange(len(rows))
        entries: list[NDArray[np.float64]] = []  # (3, N): row, column, weight
        known = {phase: np.zeros(len(rows)) for phase in images}
        for dy, dx, weight in offsets:
            y = np.clip(rows + dy, 0, region.shape[1] - 1)
            x = np.clip(columns + dx, 0, region.shape[2] - 1)
            inside = number[y, x] >= 0
            at = np.flatnonzero(inside)
            entries.append(np.stack([at, number[y, x][inside], np.full(len(at), float(weight))]))
            for phase, values in images.items():
                known[phase] -= np.where(inside, 0, weight * values[z, y, x])
        row, column, weights = np.concatenate(entries, axis=1)
        shape = (len(rows), len(rows))
        solver = splu(sparse.csc_matrix((weights, (row.astype(int), column.astype(int))), shape=shape))
        for phase, right in known.items():
            filled[phase][z][region[z]] = solver.solve(right)
    return filled


def fill_with_random_voxels(
    images: Images, region: BoolArray, liver: BoolArray, spacing_zyx_mm: tuple[float, float, float]
) -> dict[Phase, FloatArray]:
    """Fill with voxels drawn from the healthy parenchyma, all phases of a voxel together."""
    first = next(iter(images.values()))
    places = np.argwhere(parenchyma_voxels(first, ndimage.binary_erosion(liver) & ~region, spacing_zyx_mm))
    drawn = places[np.random.default_rng(0).integers(len(places), size=int(region.sum()))]
    filled = {phase: values.copy() for phase, values in images.items()}
    for phase, values in images.items():
        filled[phase][region] = values[tuple(drawn.T)]
    return filled


class PeerNetwork(Inpainter):
    """Another network between the inputs and the outputs of ours.

    Args:
        body: (B, 2 P + 2, Z, Y, X) -> (B, P, Z, Y, X).
    """

    def __init__(self, body: nn.Module) -> None:
        nn.Module.__init__(self)
        self.body = body

    def _deviation(self, inputs: torch.Tensor) -> torch.Tensor:
        z, y, x = inputs.shape[2:]
        padding = [value for length in (x, y, z) for value in (0, max(0, SMALLEST_INPUT - length))]
        result: torch.Tensor = self.body(functional.pad(inputs, padding, mode="replicate")).float()
        return result[:, :, :z, :y, :x]


def plain_unet(_config: InpainterNetwork) -> Inpainter:
    """Return a 3D U-Net of about the size of ours (8 channels, 3 blocks)."""
    body = BasicUNet(3, 2 * PHASE_COUNT + 2, PHASE_COUNT, features=(8, 12, 20, 28, 32, 8), act="SWISH")
    _begin_with_the_level(body.final_conv)
    return PeerNetwork(body)


def slice_wise(_config: InpainterNetwork) -> Inpainter:
    """Return a 2D network of fast Fourier convolutions, of about the size of ours, that fills slice by slice."""
    return PeerNetwork(SliceNetwork(16, 3))


class SliceNetwork(nn.Module):
    """LaMa's network at small size: down 4x, residual blocks of fast Fourier convolutions, up 4x."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.stem = _layer(2 * PHASE_COUNT + 2, width, stride=1)
        self.down = nn.Sequential(_layer(width, 2 * width, stride=2), _layer(2 * width, 4 * width, stride=2))
        self.blocks = nn.ModuleList(FourierLayer(4 * width) for _ in range(2 * blocks))
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2),
            _layer(4 * width, 2 * width, stride=1),
            nn.Upsample(scale_factor=2),
            _layer(2 * width, width, stride=1),
        )
        self.head = nn.Conv2d(2 * width, PHASE_COUNT, 3, padding=1)
        _begin_with_the_level(self.head)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return (B, P, Z, Y, X) of (B, C, Z, Y, X)."""
        batch, channels, depth, rows, columns = inputs.shape
        slices = inputs.transpose(1, 2).reshape(batch * depth, channels, rows, columns)
        padded = functional.pad(slices, (0, -columns % 4, 0, -rows % 4), mode="replicate")
        fine = self.stem(padded)
        coarse = self.down(fine)
        for first, second in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            coarse = coarse + second(first(coarse))
        result: torch.Tensor = self.head(torch.cat((fine, self.up(coarse)), dim=1))[..., :rows, :columns]
        return result.reshape(batch, depth, PHASE_COUNT, rows, columns).transpose(1, 2)


class FourierLayer(nn.Module):
    """A 2D fast Fourier convolution, three quarters of whose channels are global."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = 3 * channels // 4
        self.local = channels - self.wide
        self.from_local = nn.Conv2d(self.local, channels, 3, padding=1)
        self.wide_to_local = nn.Conv2d(self.wide, self.local, 3, padding=1)
        hidden = self.wide // 2
        self.enter = nn.Sequential(nn.Conv2d(self.wide, hidden, 1), nn.GroupNorm(1, hidden), nn.SiLU())
        self.spectral = nn.Sequential(nn.Conv2d(2 * hidden, 2 * hidden, 1), nn.GroupNorm(1, 2 * hidden), nn.SiLU())
        self.leave = nn.Conv2d(hidden, self.wide, 1)
        self.finish = nn.Sequential(nn.GroupNorm(4, channels), nn.SiLU())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (B, C, Y, X)."""
        local, wide = features[:, : self.local], features[:, self.local :]
        hidden = self.enter(wide)
        spectrum = torch.fft.rfft2(hidden, norm="ortho")
        real, imaginary = self.spectral(torch.cat((spectrum.real, spectrum.imag), dim=1)).chunk(2, dim=1)
        back = torch.fft.irfft2(torch.complex(real, imaginary), s=hidden.shape[2:], norm="ortho")
        changes = torch.cat((self.wide_to_local(wide), self.leave(hidden + back)), dim=1)
        result: torch.Tensor = self.finish(self.from_local(local) + changes)
        return result


@dataclass(frozen=True)
class Budget:
    """What every network of the comparison learns from, and how long.

    Args:
        training: Studies.
        validation: Studies that choose the best step.
        config: Settings; its steps are replaced by as many as fit.
        seconds: Processor time.
    """

    training: Sequence[WorkingStudy]
    validation: Sequence[WorkingStudy]
    config: InpainterTrainConfig
    seconds: float


def trained(budget: Budget, build: Callable[[InpainterNetwork], nn.Module], run: Path) -> NormalCTGenerator:
    """Return a generator whose network was trained for the budget's time; ``run`` keeps it for the next call."""
    steps_file = run / "steps.txt"
    if not steps_file.exists():
        run.mkdir(parents=True, exist_ok=True)
        steps_file.write_text(str(_steps_within(budget, build)))
    loop = budget.config.loop.model_copy(update={"steps": int(steps_file.read_text()), "validate_every": 50})
    config = budget.config.model_copy(update={"loop": loop})
    task = inpainter_task(budget.training, budget.validation, config=config, build=build)
    result = train(task, config=loop, run=run, resume=True, device="cpu", progress=silent())
    network = build(config.network)
    network.load_state_dict(dict(result.weights[NETWORK]))
    count = sum(parameter.numel() for parameter in network.parameters())
    print(f"{run.name}: {count} parameters, {loop.steps} steps, validation {dict(result.metrics)}", flush=True)
    return generator_of(network, config)


def generator_of(network: nn.Module, config: InpainterTrainConfig) -> NormalCTGenerator:
    """Return stage 2 with a network of the comparison in it."""
    card = ModelCard(
        kind=ModelKind.INPAINTER,
        name="comparison",
        spacing_mm=config.spacing_mm,
        window_hu=config.window_hu,
        networks={NETWORK: {}},
        seed=config.loop.seed,
    )
    return NormalCTGenerator(network, card, "")  # type: ignore[arg-type]  # same methods, other layers


def as_images(phases: Mapping[Phase, Volume]) -> dict[Phase, FloatArray]:
    """Return the voxels of phases, float32."""
    return {phase: np.array(volume.array, dtype=np.float32) for phase, volume in phases.items()}


def _layer(fan_in: int, fan_out: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1), nn.GroupNorm(4, fan_out), nn.SiLU())


def _begin_with_the_level(head: nn.Module) -> None:
    """Make a network begin by answering "parenchyma", as ours does."""
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=1e-3)


def _steps_within(budget: Budget, build: Callable[[InpainterNetwork], nn.Module]) -> int:
    task = inpainter_task(budget.training, budget.validation, config=budget.config, build=build)
    network, (player, *_) = task.networks[NETWORK], task.players
    optimizer = torch.optim.AdamW(network.parameters(), foreach=True)
    seconds = []
    for step in range(TIMED_STEPS):
        started = time.process_time()
        items = [task.sample(index) for index in range(budget.config.loop.batch_size)]
        batch = {key: torch.from_numpy(np.stack([np.asarray(item[key]) for item in items])) for key in items[0]}
        player.loss(batch, torch.Generator(), 0)[0].backward()
        optimizer.step()
        if step:  # the first one warms up
            seconds.append(time.process_time() - started)
    return max(1, round(budget.seconds / float(np.mean(seconds))))
