"""Cells of a stated stain."""

from __future__ import annotations

import numpy as np

from fusion.images.cell import Cell


def cell(seed=0, side=60, radius=18, stain=(0.9, 1.4, 0.7), glass=(240, 235, 200), cut_out=False, um=None):
    """A disc of two densities of one stain on glass, or on black."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    mask, nucleus = np.hypot(y, x) < radius, np.hypot(y, x - 2) < radius * 0.7
    amount = np.where(nucleus, 1.0, 0.35) * (1 + 0.1 * rng.normal(size=mask.shape))
    cytoplasm = np.array([0.3, 0.35, 0.8])
    od = np.where(nucleus[..., None], amount[..., None] * stain, amount[..., None] * cytoplasm)
    rgb = np.array(glass) * np.exp(-np.where(mask[..., None], od, 0))
    rgb = np.clip(rgb, 3, 255).round().astype(np.uint8)
    if cut_out:
        rgb[~mask] = 0
    return Cell(rgb, mask, nucleus & mask, um_per_px=um)
