"""Groups of features: what they add sums up at every level, for every classifier, and is what Shapley values are."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from fusion.explanation._attribution import attribute, value_of_block
from fusion.explanation._feature_groups import choose_named, group_shares
from fusion.learning.fused_model import fuse
from fusion.learning.training_quantiles import learn_reference
from fusion.plugins.extractors import Description

BLOCKS = {"one": slice(0, 8), "two": slice(8, 14), "three": slice(14, 20)}
GROUPS = ["size"] * 3 + ["shape"] * 5 + ["chromatin"] * 6 + [""] * 6
NAMED = [0, 3, 4, 9]


def cells(n=240, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    X = rng.normal(size=(n, 20))
    X[:, [0, 3, 8, 14]] += 1.2 * codes[:, None]
    X[rng.random(X.shape) < 0.02] = np.nan
    return X.astype(np.float32), np.array(["a", "b", "c"])[codes], np.arange(n) // 6


@pytest.mark.parametrize("name", ["svm", "logreg", "xgb"])
@pytest.mark.parametrize("classes", [2, 3])
def test_named_features_groups_and_blocks_add_up_to_the_score(name, classes):
    X, y, groups = cells(classes=classes)
    model = fuse(X, y, groups, BLOCKS, name, params={"n_estimators": 20} if name == "xgb" else {})
    typical = learn_reference(X, y, model.classes).typical
    for row in X[:4]:
        found = attribute(model, BLOCKS, row, typical, "b")
        shares = group_shares(model, BLOCKS, row, typical, found, GROUPS, NAMED)
        assert {(share.block, share.name) for share in shares} == {
            ("one", "size"),
            ("one", "shape"),
            ("two", "chromatin"),
            ("three", "three"),
        }
        for block, value in found.blocks.items():
            own = [share for share in shares if share.block == block]
            assert sum(share.value for share in own) == pytest.approx(value, abs=1e-9)
        assert found.base + sum(share.value for share in shares) == pytest.approx(found.score, abs=1e-6)
        assert sorted(at for share in shares for at in share.named) == NAMED
        assert [abs(share.value) for share in shares] == sorted((abs(s.value) for s in shares), reverse=True)
        for share in shares:
            assert sum(share.named.values()) + share.rest == pytest.approx(share.value, abs=1e-12)
            assert share.others + len(share.named) == {"size": 3, "shape": 5, "chromatin": 6, "three": 6}[share.name]


def test_a_group_s_value_is_its_shapley_value():
    """Over all orders by hand, of the groups of one block of a model that is no sum."""
    X, y, groups = cells()
    model = fuse(X, y, groups, BLOCKS, "svm")
    typical, row, part = learn_reference(X, y, model.classes).typical, X[7], BLOCKS["one"]
    found = attribute(model, BLOCKS, row, typical, "a")
    ask = value_of_block(model, BLOCKS, "one", row, typical, "a").ask
    members = {"size": np.arange(3), "shape": np.arange(3, 8)}
    expected = dict.fromkeys(members, 0.0)
    for order in permutations(members):
        now = typical[part].copy()
        for name in order:
            before = ask(now[None])[0]
            now[members[name]] = row[part][members[name]]
            expected[name] += (ask(now[None])[0] - before) / 2
    shares = group_shares(model, BLOCKS, row, typical, found, GROUPS, [])
    for share in shares:
        if share.block == "one":
            assert share.value == pytest.approx(expected[share.name], abs=1e-9)


def test_groups_of_a_linear_model_are_the_same_by_asking_as_by_its_weights():
    X, y, groups = cells()
    model = fuse(X, y, groups, BLOCKS, "logreg")
    typical, row = learn_reference(X, y, model.classes).typical, X[11]
    found = attribute(model, BLOCKS, row, typical, "b")
    exact = group_shares(model, BLOCKS, row, typical, found, GROUPS, NAMED)
    asked = group_shares(model, BLOCKS, row, typical, replace(found, is_additive=False), GROUPS, NAMED)
    for ours, theirs in zip(exact, asked, strict=True):
        assert (ours.block, ours.name) == (theirs.block, theirs.name)
        assert theirs.value == pytest.approx(ours.value, abs=1e-6)
        for at, value in ours.named.items():
            assert theirs.named[at] == pytest.approx(value, abs=1e-6)


def test_what_pathologists_see_is_named_first_and_one_texture_does_not_fill_the_page():
    about = [Description(f"f{at}", "", group="chromatin") for at in range(10)]
    about[6] = Description("f6", "", group="vacuoles", agreement="vacuoles")
    about[7] = Description("f7", "", group="nuclear shape", agreement="multilobed")
    about[0] = Description("f0", "", group="chromatin", is_quoted=False)
    contributions = np.array([9.0, 5, 4, 3, 2, 1, 1.9, 0.01, -1, -2])
    named = choose_named(contributions, about, 4)
    assert named == [6, 1, 2, 3, 9, 8]
    assert 0 not in named  # not even the strongest, where its name says nothing
    assert choose_named(np.zeros(10), about, 4) == []
