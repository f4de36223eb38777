"""An abdomen in the scene: phases with a liver and two tumors whose brightness is known."""

from __future__ import annotations

import numpy as np
import scene_factory

SPACING = (2.0, 2.0, 4.0)
CONTRAST = {"native": (42, 58), "arterial": (115, 78), "portal venous": (75, 118), "delayed": (80, 95)}
"""Brightness of tumors and liver by phase, HU."""


def liver_with_tumors(tumor_hu, liver_hu, seed=0):
    """Return an abdomen with an ellipsoid liver and two tumors of 8 and 14 mm radius, (Z, Y, X), HU."""
    z, y, x = np.mgrid[:24, :64, :64].astype(float)
    values = np.full(z.shape, -100.0)
    values[((z - 12) / 11) ** 2 + ((y - 32) / 26) ** 2 + ((x - 32) / 28) ** 2 < 1] = liver_hu
    for center, radius_mm in (((12, 26, 24), 14), ((9, 40, 42), 8)):
        away = [(axis - at) * mm for axis, at, mm in zip((z, y, x), center, SPACING[::-1], strict=True)]
        values[sum(each**2 for each in away) < radius_mm**2] = tumor_hu
    return (values + np.random.default_rng(seed).normal(0, 2, values.shape)).astype(np.int16)


def add_phases(*phases):
    """Add aligned phases: the arterial tumors are bright, the portal venous ones dark."""
    nodes = []
    for seed, name in enumerate(phases):
        matrix = scene_factory.ijk_to_ras(spacing=SPACING)
        nodes.append(scene_factory.add_volume(liver_with_tumors(*CONTRAST[name], seed), matrix, name))
    reference = nodes[phases.index("portal venous")]
    for node in nodes:
        if node is not reference:
            node.SetNodeReferenceID("Diff4MMLiTS.AlignedTo", reference.GetID())
    return reference
