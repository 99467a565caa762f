"""What cells add to their patient: efficient, symmetric, nothing where nothing changes; witnesses found, and how often
not."""

from itertools import permutations
from math import factorial

import numpy as np
import pytest
from numpy.testing import assert_allclose

from classifiers.patients.mil import BagClassifier
from fusion.data.patients.bags import Bags
from fusion.explanation.patient_explanation import cells_of_half, shapley_of_cells
from tests.classifiers.patients.test_patients import mixed


def any_game(cells, seed):
    """A value for every coalition, drawn at random."""
    drawn = np.random.default_rng(seed).random(2**cells)
    return lambda members: np.array([drawn[(1 << own).sum()] for own in members])


@pytest.mark.parametrize("cells", [1, 2, 4])
def test_few_cells_have_the_values_that_the_definition_gives(cells):
    ask = any_game(cells, cells)
    expected = np.zeros(cells)
    for order in permutations(range(cells)):
        before = 0.3
        for end, cell in enumerate(order, start=1):
            after = float(ask([np.array(sorted(order[:end]))])[0])
            expected[cell] += after - before
            before = after
    found, is_exact = shapley_of_cells(ask, cells, 0.3, np.random.default_rng(0))
    assert is_exact
    assert_allclose(found, expected / factorial(cells), atol=1e-12)


@pytest.mark.parametrize("cells", [11, 60, 500])
def test_values_of_many_cells_add_up_and_follow_a_game_that_is_a_sum(cells):
    worth = np.random.default_rng(1).normal(size=cells) / cells

    def ask(members):
        return np.array([0.5 + worth[own].sum() for own in members])

    found, is_exact = shapley_of_cells(ask, cells, 0.5, np.random.default_rng(0))
    assert not is_exact
    assert_allclose(found.sum(), worth.sum(), atol=1e-9)
    if cells <= 40:  # asked after every cell
        assert_allclose(found, worth, atol=1e-9)
    assert np.corrcoef(found, worth)[0, 1] > 0.6


def test_half_of_what_speaks_for_a_class_is_held_by_those_that_add_most():
    assert cells_of_half(np.array([0.1, -0.5, 0.3, 0.1, 0.1])) == 1
    assert cells_of_half(np.full(10, 0.1)) in (5, 6)
    assert cells_of_half(np.array([-1.0, -2.0])) == 0


def test_of_very_many_cells_those_rank_first_that_speak_and_not_those_that_happened_to_come_first():
    """Of 2,000 cells 110 are witnesses, whose patient is soon called ill: one by one 32 of the first 100 were."""
    rng = np.random.default_rng(0)
    is_witness = rng.random(2000) < 0.05
    worth = np.where(is_witness, 1.0, -0.03) + 0.02 * rng.normal(size=2000)

    def ask(members):
        return 1 / (1 + np.exp(-np.array([20 * worth[own].mean() for own in members])))

    adds, is_exact = shapley_of_cells(ask, 2000, 0.5, np.random.default_rng(1))
    assert not is_exact
    assert_allclose(adds.sum(), ask([np.arange(2000)])[0] - 0.5, atol=1e-12)
    assert is_witness[np.argsort(-adds, kind="stable")[:100]].sum() > 80


@pytest.fixture(scope="module")
def learnt():
    X, y, _ = mixed(60)
    return BagClassifier(members=2, steps=240, hidden=16, learning_rate=0.005).fit(X, y, np.arange(60))


def test_attention_and_shapley_values_find_planted_witnesses_in_most_patients_and_not_in_all(learnt):
    """Of 6 witnesses in 60 cells: how many of the six cells that rank first are. By chance it is one in ten."""
    X, y, kinds = mixed(24, seed=11)
    attention = learnt.attention(X)
    precision = {"attention": [], "shapley": []}
    for at in np.flatnonzero(y == 1):
        bag = X[[at]]

        def ask(members, bag=bag):
            return learnt.predict_proba(Bags(bag.stacked, tuple(members)))[:, 1]

        adds, _ = shapley_of_cells(ask, 60, 0.5, np.random.default_rng(0))
        assert_allclose(adds.sum(), learnt.predict_proba(bag)[0, 1] - 0.5, atol=1e-6)
        for name, values in (("attention", attention[at]), ("shapley", adds)):
            precision[name].append(np.mean(kinds[X.rows[at]][np.argsort(-values)[:6]] == 3))
    assert np.mean(precision["attention"]) > 0.6
    assert np.mean(precision["shapley"]) > 0.5
