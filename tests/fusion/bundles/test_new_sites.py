"""What is told of the classes of a new site, and that a site which is kept tells it again."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from extractors.colour import Colour
from fusion.bundles.new_sites import class_notes, fewer_labels, silent_blocks
from fusion.data.feature_table import FeatureTable
from fusion.feature_transforms.harmonisation import Harmoniser
from fusion.images.cell import make_cell
from tests.builders.images import paint

CENTRES = np.random.default_rng(7).normal(0, 1.5, (3, 30))


def site(counts, seed):
    """X and labels of so many cells of three classes, under a shift and a factor of every feature."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(3), counts)
    X = rng.normal(size=(len(codes), 30)) + CENTRES[codes]
    return X * rng.uniform(0.5, 2, 30) + rng.normal(0, 5, 30), np.array(["a", "b", "c"])[codes]


@pytest.fixture(scope="module")
def home():
    X, y = site([40, 50, 30], 0)
    return Harmoniser.fit(X, y, ["home"] * len(y), method="standard", transductive=True, mix="estimated")


@pytest.mark.parametrize(
    ("counts", "said", "told"),
    [
        ([60, 60, 0], None, ["new: taken to lack the class 'c', by where its cells lie"]),
        ([60, 60, 60], None, []),
        ([0, 80, 0], [False, True, False], ["new: said to have 'b' and no other class"]),
        ([60, 60, 0], [True, True, True], ["new: said to have 'a', 'b', 'c' and no other class"]),
    ],
)
def test_a_site_that_is_kept_tells_what_was_told_of_it(home, counts, said, told):
    X, _ = site(counts, 6)
    asked = home if said is None else home.stating({"new": np.array(said)})
    assert class_notes(asked.describing(X, ["new"] * len(X)), ["new", "home", None]) == told
    about, arrays = asked.with_site("new", X).state()
    kept = Harmoniser.from_state(json.loads(json.dumps(about)), arrays)
    assert class_notes(kept, ["new"]) == told
    assert class_notes(kept, ["home"]) == []


def test_a_site_of_one_class_is_doubted_and_its_name_is_asked_for_where_it_has_none(home):
    X, _ = site([0, 80, 0], 1)
    for name, call in (("new", "--site-classes new=A,B"), (None, "the site's name with --source NAME")):
        (*_, stamp) = class_notes(home.describing(X, [name] * len(X)), [name])
        assert "may have one or two classes alone" in stamp
        assert stamp.endswith(call)


def test_labels_of_some_classes_alone_are_told_of_and_never_looked_at(home):
    X, y = site([0, 40, 40], 1)

    def told(harmoniser, labels, name="new"):
        named = harmoniser.describing(X[: len(labels)], [name] * len(labels))
        bundle = SimpleNamespace(model=SimpleNamespace(harmoniser=named), unit="cell")
        return fewer_labels(bundle, SimpleNamespace(y=labels, sources=[name] * len(labels)))

    all_there = home.stating({"other": np.array([True, True, False])})
    (stamp,) = told(all_there, np.array(["b"] * 80))
    assert stamp.startswith("new: labelled as 'b' alone, and compared with training cells of other classes as well")
    assert stamp.endswith("--site-classes new=b")
    assert told(home, np.array(["b"] * 80), None)[0].endswith("--source NAME --site-classes NAME=b")
    assert not told(home, np.array(["a", "b", "c", "c"] * 20))  # all classes
    assert not told(home, np.array(["b"] * 5))  # too few to be described
    assert not told(home, np.array(["b"] * 80), "home")  # known
    assert not told(home.stating({"new": np.array([False, True, True])}), y)


@pytest.mark.parametrize("method", ["standard", "quantile"])
def test_a_site_of_grey_images_is_stamped_and_no_other(method):
    def measured(seeds, change=lambda rgb: rgb):
        return colour.extract([make_cell(change(paint(seed, radius=14 + seed % 9))) for seed in seeds])

    def told(X):
        return silent_blocks(bundle, FeatureTable.of_cells(X, columns, [str(at) for at in range(len(X))], "new"))

    colour = Colour()
    columns = [f"colour.{name}" for name in colour.feature_names()]
    X = measured(range(24))
    home = Harmoniser.fit(X, np.array(["a", "b"] * 12), ["home"] * 24, method=method, transductive=True)
    bundle = SimpleNamespace(model=SimpleNamespace(harmoniser=home))
    assert told(measured(range(30, 42))) == []
    grey = measured(range(30, 42), lambda rgb: np.repeat(rgb.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8))
    (stamp,) = told(grey)
    assert stamp.startswith("new: ")
    assert " of 409 features of 'colour' are alike in all 12 cells and differ in training" in stamp
    assert told(grey[:5]) == []  # too few to be described
