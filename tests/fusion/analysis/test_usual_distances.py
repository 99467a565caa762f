"""What is usual at a new site is no longer called strange there, what is strange still is."""

import numpy as np
import pytest

from fusion.analysis.adaptation.site_cells import SiteCells
from fusion.analysis.adaptation.steps import with_new_sites
from fusion.analysis.adaptation.usual_distances import with_usual_distances
from fusion.data.patients.bags import Bags, split_rows
from fusion.learning.fused_model import fuse
from fusion.learning.novelty import learn_novelty
from fusion.settings.learning import HarmoniseSettings

BLOCKS = {"f": slice(0, 6)}


def cells(count, seed, width=1.0):
    """Cells of two classes; ``width`` is how far features that belong together lie apart."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(count, 6))
    X[:, 1:5] = X[:, :1] + 0.1 * width * rng.normal(size=(count, 4))  # no map of single features brings that together
    X[:, 5] += 3 * (np.arange(count) % 2)
    return X.astype(np.float32)


@pytest.fixture(scope="module")
def home():
    """A model that harmonises, and its novelty."""
    X, y = cells(200, 0), np.array(["a", "b"] * 100)
    sources = ["home"] * 200
    harmonise = HarmoniseSettings(method="standard", transductive=True)
    model = fuse(X, y, np.arange(200), BLOCKS, "logreg", sources=sources, harmonise=harmonise)
    shown = model.harmonised(X, sources).astype(np.float32)
    return model, learn_novelty(shown, y, np.arange(200), BLOCKS)


def flagged(novelty, model, X):
    sources = ["new"] * len(X)
    return float((novelty.distance(model.harmonised(X, sources).astype(np.float32), sources) > 1).mean())


@pytest.mark.parametrize("of_patients", [False, True], ids=["cells", "patients"])
def test_cells_like_the_sites_are_usual_and_others_strange(home, of_patients):
    model, novelty = home
    X = cells(100, 1, width=8)
    site = SiteCells(X, np.full(100, -1), np.arange(100), ("new",) * 100)
    if of_patients:
        bags = Bags(X, split_rows(np.full(20, 5)))
        site = SiteCells(bags, np.full(20, -1), np.arange(20), ("new",) * 20)
    adapted = with_new_sites(model, site)
    found, counts = with_usual_distances(novelty, adapted, site, {"home"})
    assert counts == {"new": 100}
    more, strange = cells(300, 2, width=8), cells(300, 3, width=8)
    strange[:, 1] += 8
    assert flagged(novelty, adapted, more) > 0.3
    assert flagged(found, adapted, more) < 0.05
    assert flagged(found, adapted, strange) > 0.5


def test_sites_of_training_and_of_too_few_are_left_alone(home):
    model, novelty = home
    X = cells(40, 1, width=8)
    known = SiteCells(X, np.full(40, -1), np.arange(40), ("home",) * 40)
    few = SiteCells(X[:9], np.full(9, -1), np.arange(9), ("new",) * 9)
    patients = SiteCells(Bags(X, split_rows(np.full(4, 10))), np.full(4, -1), np.arange(4), ("new",) * 4)
    for site in (known, few, patients):
        found, counts = with_usual_distances(novelty, model, site, {"home"})
        assert (found.sites, counts) == ({}, {})
