"""Which classes a new site has how many cells of: told where its cells tell it, and not where they do not."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fusion.errors import ConfigError
from fusion.feature_transforms.class_mix import ClassMix
from fusion.feature_transforms.fusion_layer import FusionLayer
from fusion.feature_transforms.harmonisation import FAR, Harmoniser
from fusion.settings.learning import HarmoniseSettings

CLASSES = np.array(["a", "b", "c"])
D = 30
CENTRES = np.random.default_rng(7).normal(0, 1.5, (len(CLASSES), D))


def site(counts, seed, *, stain=True):
    """X and labels of so many cells of each class, under a shift and a factor of every feature."""
    rng = np.random.default_rng(seed)
    y = np.repeat(CLASSES, counts)
    X = rng.normal(size=(len(y), D)) + CENTRES[np.searchsorted(CLASSES, y)]
    if stain:
        X = X * rng.uniform(0.5, 2, D) + rng.normal(0, 5, D)
    X[rng.random(X.shape) < 0.01] = np.nan
    return X, y


def harmoniser(mix="estimated", method="standard"):
    X, y = site([40, 50, 30], 0, stain=False)
    return Harmoniser.fit(X, y, ["home"] * len(y), method=method, transductive=True, mix=mix), X, y


def off(found, X, y):
    """How far classes lie from where they were learnt, in standard deviations of their cells."""
    home_X, home_y = harmoniser()[1:]
    Z, home = found.transform(X, ["new"] * len(X)), found.transform(home_X, ["home"] * len(home_X))
    return np.mean([abs(np.nanmean(Z[y == c], 0) - np.nanmean(home[home_y == c], 0)).mean() for c in np.unique(y)])


@pytest.mark.parametrize("method", ["standard", "quantile"])
@pytest.mark.parametrize("counts", [[140, 30, 30], [20, 15, 165]])
def test_a_site_of_another_mix_is_brought_where_its_classes_were_learnt(method, counts):
    X, y = site(counts, 3)
    estimated, equal = (off(harmoniser(mix, method)[0], X, y) for mix in ("estimated", "equal"))
    assert estimated < 0.7 * equal


def test_the_estimated_shares_are_those_of_the_site():
    X, _ = site([120, 40, 40], 5)
    found = harmoniser()[0]
    responsibilities = found.mix.responsibilities(found.transform(X, ["new"] * len(X)))
    assert responsibilities.mean(axis=0) == pytest.approx([0.6, 0.2, 0.2], abs=0.03)


def test_equal_shares_are_taken_for_equal():
    found, plain = harmoniser()[0], harmoniser("equal")[0]
    alike = 0
    for seed in range(60):
        X, _ = site([25, 25, 25], seed)
        alike += found.mix.responsibilities(plain.transform(X, ["new"] * len(X))) is None
    assert alike >= 57  # counts are exactly equal: what is told of them is chance alone


def test_a_class_that_lies_by_itself_is_moved_towards_where_it_was_learnt():
    X, y = site([60, 60, 60], 4)
    X[y == CLASSES[1]] += 0.8 * np.nanstd(X, axis=0) * np.random.default_rng(4).choice([-1, 1], D)
    found = harmoniser()[0]
    unmoved = replace(found, mix=replace(found.mix, features=np.full_like(found.mix.features, np.nan)))
    assert off(found, X, y) < 0.75 * off(unmoved, X, y)


@pytest.mark.parametrize(
    ("method", "counts"),
    [("standard", [60, 60, 0]), ("standard", [0, 60, 60]), ("standard", [150, 0, 20]), ("quantile", [150, 0, 20])],
)
def test_a_site_that_lacks_a_class_is_brought_to_the_others(method, counts):
    X, y = site(counts, 6)
    found = harmoniser(method=method)[0]
    lack = counts.index(0)
    described = found.with_site("new", X)
    own = described.maps["new"]
    assert own["present"].tolist() == [float(at != lack) for at in range(3)]
    assert not own["moves"][lack].any()
    Z = found.transform(X, ["new"] * len(X))
    assert found.mix.responsibilities(Z, present=own["present"] > 0, is_asked=False)[:, lack].max() < 1e-9
    # As if the training cells of the class had never been there, and its place were no pull.
    assert off(found, X, y) < 0.1 < 0.3 < off(harmoniser("equal", method)[0], X, y)
    assert_array_equal(described.transform(X, ["new"] * len(X)), Z)
    about, arrays = described.state()
    again = Harmoniser.from_state(json.loads(json.dumps(about)), arrays)
    assert_array_equal(again.transform(X[:5], ["new"] * 5), Z[:5])


@pytest.mark.parametrize("counts", [[60, 60, 60], [100, 30, 5], [90, 90, 3]])
def test_a_site_that_has_few_cells_of_a_class_does_not_lack_it(counts):
    found = harmoniser()[0]
    for seed in range(5):
        assert found.with_site("new", site(counts, seed)[0]).maps["new"]["present"].all()


def test_of_two_classes_none_is_taken_for_lacking():
    X, y = site([60, 60, 0], 0, stain=False)
    found = Harmoniser.fit(X, y, ["home"] * 120, method="standard", transductive=True, mix="estimated")
    assert found.with_site("new", site([60, 0, 0], 1)[0]).maps["new"]["present"].all()


@pytest.mark.parametrize("method", ["standard", "quantile"])
@pytest.mark.parametrize("counts", [[60, 0, 0], [0, 0, 25], [90, 10, 0], [60, 60, 60]])
def test_a_site_is_brought_to_the_classes_that_it_is_said_to_have(method, counts):
    X, y = site(counts, 6)
    found = harmoniser(method=method)[0]
    said = found.stating({"new": np.array(counts) > 0})
    Z = said.transform(X, ["new"] * len(X))
    assert off(said, X, y) < 0.15
    if min(counts) == 0:
        assert off(said, X, y) < 0.6 * off(harmoniser("equal", method)[0], X, y)
    assert_array_equal(said.transform(X, ["other"] * len(X)), found.transform(X, ["new"] * len(X)))
    kept = said.with_site("new", X)
    about, arrays = kept.state()
    again = Harmoniser.from_state(json.loads(json.dumps(about)), arrays)
    assert_array_equal(again.transform(X[:5], ["new"] * 5), Z[:5])
    assert again.stated["new"].tolist() == (np.array(counts) > 0).tolist()
    assert said.state()[0]["stated"] == {}  # of a site that is not kept nothing is


def test_of_two_classes_one_can_be_said_to_be_lacking():
    X, y = site([60, 60, 0], 0, stain=False)
    found = Harmoniser.fit(X, y, ["home"] * 120, method="standard", transductive=True, mix="estimated")
    new, _ = site([60, 0, 0], 1)
    Z = found.stating({"new": np.array([True, False])}).transform(new, ["new"] * 60)
    home = found.transform(X, ["home"] * 120)[y == "a"]
    assert abs(np.nanmean(Z, 0) - np.nanmean(home, 0)).max() < 1e-6


def test_cells_of_one_class_lie_in_no_clusters_and_those_of_all_do():
    found = harmoniser()[0]

    def doubted(counts, seed):
        return found.mix.may_have_few_classes(found.with_site("new", site(counts, seed)[0]).maps["new"])

    assert sum(doubted([0, 80, 0], seed) for seed in range(10)) >= 8
    for counts in ([60, 60, 60], [140, 30, 30], [20, 15, 165], [8, 8, 8]):
        assert not any(doubted(counts, seed) for seed in range(10))


def test_new_sites_are_described_once_and_to_the_same_bits(monkeypatch):
    found, X = harmoniser()[0], site([60, 10, 10], 2)[0]
    names = ["new"] * 70 + ["few"] * 5 + ["home"] * 5
    described = found.describing(X, names)
    Z = found.transform(X, names)
    monkeypatch.setattr(Harmoniser, "_of_new_source", lambda *_: pytest.fail("described anew"))
    assert_array_equal(described.transform(X, names), Z)
    assert_array_equal(described.transform(X[:3], names[:3]), Z[:3])  # by all that were judged together
    assert described.unknown(names) == ["few", "new"]
    assert described.notes(names) == found.notes(names)


def test_order_and_storage_do_not_change_a_bit():
    found = harmoniser()[0]
    X, _ = site([60, 10, 10], 2)
    order = np.random.default_rng(1).permutation(len(X))
    mapped = found.transform(X, ["new"] * len(X))
    assert_array_equal(found.transform(X[order], ["new"] * len(X)), mapped[order])
    about, arrays = found.state()
    assert_array_equal(Harmoniser.from_state(json.loads(json.dumps(about)), arrays).transform(X, ["new"] * 80), mapped)


def test_a_result_says_that_the_mix_is_estimated():
    said = [harmoniser(mix)[0].notes(["new"] * 80)[0] for mix in ("estimated", "equal")]
    assert ["mix of classes is estimated" in each for each in said] == [True, False]


def test_a_result_says_of_which_classes_the_mix_is_estimated_where_these_are_stated():
    """Sites of which nothing is stated, of which two classes of three are, and one, each by what is done to it."""
    found = harmoniser()[0]
    present = {"two": np.array([True, True, False]), "one": np.array([False, True, False])}
    told = found.stating(present).notes(["new"] * 80 + ["two"] * 40 + ["one"] * 20)
    assert len(told) == 3
    assert [each.partition("(")[2].partition(")")[0] for each in told] == ["new", "one", "two"]
    assert "; their mix of classes is estimated" in told[0]
    assert "by 20 cells" in told[1]
    assert "cells of the one class that is stated" in told[1]
    assert "estimated" not in told[1]
    assert "; the mix of the classes that are stated is estimated" in told[2]


def test_a_described_site_is_as_a_new_one():
    found = harmoniser()[0]
    X, _ = site([60, 10, 10], 2)
    mapped = found.transform(X, ["new"] * 80)
    described = found.with_site("new", X)
    assert_array_equal(described.transform(X, ["new"] * 80), mapped)
    assert_array_equal(described.transform(X[7:8], ["new"]), mapped[7:8])  # alone as among many


@pytest.mark.parametrize("counts", [[1, 40, 40], [80, 0, 0]])
def test_nothing_is_learnt_of_a_class_that_has_a_single_cell_or_is_alone(counts):
    X, y = site(counts, 0)
    assert ClassMix.fit(X, np.unique(y, return_inverse=True)[1], FusionLayer()) is None


def test_stored_arrays_that_do_not_fit_together_are_refused():
    about, arrays = harmoniser()[0].state()
    for name in ("mix.means", "mix.features", "class 1.spread", "class 2.known"):
        with pytest.raises(ValueError, match=r"do(es)? not fit"):
            Harmoniser.from_state(about, {**arrays, name: arrays[name][..., :1]})


@pytest.mark.parametrize("name", ["centre", "moves", "present", "mixture_places", "mixture_variance"])
def test_a_stored_site_that_does_not_fit_is_refused(name):
    about, arrays = harmoniser()[0].with_site("new", site([60, 10, 10], 2)[0]).state()
    at = about["sources"].index("new")
    with pytest.raises(ValueError, match="does not fit"):
        Harmoniser.from_state(about, {**arrays, f"{at}.{name}": arrays[f"{at}.{name}"][..., :1]})


def test_a_mix_is_estimated_of_judged_cells_alone():
    with pytest.raises(ConfigError, match="transductive"):
        HarmoniseSettings(method="standard", mix="estimated")
    with pytest.raises(ValueError, match="mix must be one of equal, estimated"):
        harmoniser("even")


@pytest.mark.parametrize("method", ["standard", "quantile"])
def test_cells_of_another_site_under_a_known_name_lie_far_and_its_own_near(method):
    found = harmoniser(method=method)[0]
    for counts in ([20, 20, 20], [60, 10, 10], [0, 0, 30], [5, 5, 0]):
        own, others = (found.displacement(site(counts, 3, stain=stain)[0], "home") for stain in (False, True))
        assert own < FAR < others
