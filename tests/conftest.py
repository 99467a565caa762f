"""What the tests share: a store of their own, small painted cells, and a synthetic tree made once."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

# readline, which pytest loads, leaves the width of a terminal to the processes that tests run in.
os.environ.pop("COLUMNS", None)

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    """No test meets the user's feature store, or another test's."""
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "store"))
    return tmp_path / "store"


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


@pytest.fixture
def class_folders(tmp_path):
    """Six cells of two classes in class folders."""
    root = tmp_path / "cells"
    for at in range(6):
        label = ("blast", "normal")[at % 2]
        write_image(root / label / f"{at}.png", paint(at, radius=22 - 6 * (at % 2)))
    return root


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory):
    """A C-NMC-shaped tree of 10 subjects with 6 cells each, and its store with the handcrafted features in it."""
    from fusion.synthetic import SyntheticDesign, synthesize

    return synthesize(tmp_path_factory.mktemp("synthetic") / "cells", SyntheticDesign(subjects=10, cells_per_subject=6))


@pytest.fixture(scope="session")
def synthetic_store(tmp_path_factory):
    """A store shared by the tests that only need features to be there."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def population(tmp_path_factory):
    """240 synthetic cells of 24 subjects: enough to learn what is usual, and what tells the classes apart."""
    from fusion.synthetic import SyntheticDesign, synthesize

    design = SyntheticDesign(subjects=24, cells_per_subject=10, seed=11)
    return synthesize(tmp_path_factory.mktemp("population") / "cells", design)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    """200 cells of 25 other subjects out of the same population."""
    from fusion.synthetic import SyntheticDesign, synthesize

    design = SyntheticDesign(subjects=25, cells_per_subject=8, seed=12)
    return synthesize(tmp_path_factory.mktemp("fresh") / "cells", design)


@pytest.fixture(scope="session")
def trees(population, synthetic_store, tmp_path_factory):
    """Boosted trees on the three handcrafted blocks of ``population``, in a folder."""
    from fusion.config import TrainConfig
    from fusion.training import train

    folder = tmp_path_factory.mktemp("trees") / "m"
    train(TrainConfig(data=population, output=folder, classifier="xgb", store=synthetic_store, splits=2, bootstrap=100))
    return folder


@pytest.fixture(scope="module")
def one_thread():
    """Tests run side by side: threads of one would wait for those of the other far longer than they work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def real_data(folder: str) -> Path:
    """A folder of real pictures, or the test is skipped with the reason."""
    where = Path(os.environ.get("FUSION_REAL_DATA", ROOT.parent / "shared" / "data")) / folder
    if not where.is_dir():
        pytest.skip(f"no real pictures at {where}; set FUSION_REAL_DATA to a folder that has {folder}")
    return where
