"""Painted images and real ones, and where they lie."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def paint(seed: int = 0, side: int = 64, radius: float = 20) -> np.ndarray:
    """uint8 (side, side, 3) RGB: a mottled purple disc with a darker nucleus on black."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    distance = np.hypot(y, x)
    noise = cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), 1.5) * 30
    grey = np.where(distance < 0.75 * radius, 70, 140) + noise
    rgb = np.stack([grey, 0.5 * grey, 1.2 * grey], axis=-1).clip(12, 255)
    return np.where((distance < radius)[..., None], rgb, 0).astype(np.uint8)


def write_image(path: Path, rgb: np.ndarray) -> Path:
    """Write by suffix, the way a user's tool would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, content = cv2.imencode(path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    assert done
    path.write_bytes(content.tobytes())
    return path


def real_data(folder: str) -> Path:
    """A folder of real images, or the test is skipped with the reason."""
    where = Path(os.environ.get("FUSION_REAL_DATA", ROOT.parent / "shared" / "data")) / folder
    if not where.is_dir():
        pytest.skip(f"no real images at {where}; set FUSION_REAL_DATA to a folder that has {folder}")
    return where
