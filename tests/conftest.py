"""What the tests share: a store of their own, small painted cells, and a synthetic tree made once."""

from __future__ import annotations

import os
import signal

import pytest

from tests.builders.images import paint, write_image

# readline, which pytest loads, leaves the width of a terminal to the processes that tests run in.
os.environ.pop("COLUMNS", None)

# Who starts the tests in the background or by nohup has these ignored, by every command that a test interrupts as well.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    """No test meets the user's feature store, or another test's."""
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "store"))
    return tmp_path / "store"


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
    from fusion.synthetic.cells import SyntheticDesign, synthesize

    return synthesize(tmp_path_factory.mktemp("synthetic") / "cells", SyntheticDesign(subjects=10, cells_per_subject=6))


@pytest.fixture(scope="session")
def synthetic_store(tmp_path_factory):
    """A store shared by the tests that only need features to be there."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def population(tmp_path_factory):
    """240 synthetic cells of 24 subjects: enough to learn what is usual, and what tells the classes apart."""
    from fusion.synthetic.cells import SyntheticDesign, synthesize

    design = SyntheticDesign(subjects=24, cells_per_subject=10, seed=11)
    return synthesize(tmp_path_factory.mktemp("population") / "cells", design)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    """200 cells of 25 other subjects out of the same population."""
    from fusion.synthetic.cells import SyntheticDesign, synthesize

    design = SyntheticDesign(subjects=25, cells_per_subject=8, seed=12)
    return synthesize(tmp_path_factory.mktemp("fresh") / "cells", design)


@pytest.fixture(scope="session")
def trees(population, synthetic_store, tmp_path_factory):
    """Boosted trees on the three handcrafted blocks of ``population``, in a folder."""
    from fusion.settings.commands import TrainConfig
    from fusion.workflows.train import train

    folder = tmp_path_factory.mktemp("trees") / "m"
    train(TrainConfig(data=population, output=folder, classifier="xgb", store=synthetic_store, splits=2))
    return folder


@pytest.fixture(scope="module")
def one_thread():
    """Tests run side by side: threads of one would wait for those of the other far longer than they work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
