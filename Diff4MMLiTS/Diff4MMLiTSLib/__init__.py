"""Diff4MMLiTS: liver-tumor segmentation in multiphase CT by aligned, diffusion-based synthesis."""

__version__ = "0.1.0"
