"""Alignment of blocks against its definition, and what it must be."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from fusion.analysis.block_similarity import (
    _hsic,
    _hsic_left_out,
    _without_diagonal,
    cka_of_groups,
    linear_cka,
    redundancy,
)
from fusion.data.feature_table import FeatureTable


def test_the_estimate_is_the_mean_over_all_quadruples():
    """Song et al. (2012), equation 4: the unbiased estimate by brute force."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    K, L = X @ X.T, Y @ Y.T
    total, count = 0.0, 0
    for i, j, q, r in permutations(range(7), 4):
        total += K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q])
        count += 1
    assert _hsic(_without_diagonal(X), _without_diagonal(Y)) == pytest.approx(total / count)


def test_turning_and_scaling_change_nothing():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40, 6))
    turned = 3 * X @ np.linalg.qr(rng.normal(size=(6, 6)))[0] + 5
    assert linear_cka(X, turned) == pytest.approx(1)
    assert linear_cka(X, turned) == pytest.approx(linear_cka(turned, X))


def test_noise_has_nothing_in_common_however_many_columns_it_has():
    rng = np.random.default_rng(2)
    found = [linear_cka(rng.normal(size=(100, 800)), rng.normal(size=(100, 800))) for _ in range(5)]
    assert np.abs(found).max() < 0.05


def test_a_part_in_common_is_between():
    rng = np.random.default_rng(3)
    common = rng.normal(size=(200, 4))
    X = np.hstack([common, rng.normal(size=(200, 4))])
    Y = np.hstack([common, rng.normal(size=(200, 4))])
    assert linear_cka(X, Y) == pytest.approx(0.5, abs=0.1)


def test_what_does_not_vary_is_aligned_with_nothing():
    assert np.isnan(linear_cka(np.ones((10, 2)), np.random.default_rng(0).normal(size=(10, 2))))
    with pytest.raises(ValueError, match="4 or more"):
        linear_cka(np.ones((3, 1)), np.ones((3, 1)))


def test_pairs_of_blocks_are_ranked_and_units_play_no_part():
    rng = np.random.default_rng(4)
    a = rng.normal(size=(60, 3))
    X = np.hstack([a, 1000 * a[:, ::-1] + 7, rng.normal(size=(60, 3))]).astype(np.float32)
    names = tuple(map(str, range(60)))
    table = FeatureTable(
        X=X,
        columns=tuple(f"{block}.{at}" for block in "abc" for at in range(3)),
        names=names,
        keys=names,
        image_keys=names,
        y=("x", "y") * 30,
        subjects=names,
        folds=(None,) * 60,
        groups=np.arange(60),
        subjects_known=True,
    )
    rows = redundancy(table)
    assert rows[0]["pair"] == ["a", "b"]
    assert rows[0]["cka"] == pytest.approx(1, abs=1e-5)
    assert all(abs(row["cka"]) < 0.2 for row in rows[1:])
    assert all(row["low"] < row["cka"] <= row["high"] + 1e-9 and row["note"] == "" for row in rows)
    few = redundancy(replace(table, groups=np.arange(60) % 3))[0]
    assert np.isnan(few["cka"])
    assert few["note"] == "cells of 4 or more groups are needed, not 3"


def test_without_each_cell_is_the_estimate_of_the_others():
    rng = np.random.default_rng(5)
    X, Y = rng.normal(size=(9, 3)), rng.normal(size=(9, 2))
    kept = [np.delete(np.arange(9), at) for at in range(9)]
    expected = [_hsic(_without_diagonal(X[rows]), _without_diagonal(Y[rows])) for rows in kept]
    np.testing.assert_allclose(_hsic_left_out(_without_diagonal(X), _without_diagonal(Y)), expected, rtol=1e-10)


def blocks_of_subjects(rng, shared=0.0, subjects=16, cells=20):
    """Two blocks that share nothing but who the cells are of, and ``shared`` of what tells the subjects apart."""
    groups = np.repeat(np.arange(subjects), cells)
    common = rng.normal(size=(subjects, 6))
    parts = [np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(size=(subjects, 6)) for _ in range(2)]
    X, Y = (part[groups] + 0.5 * rng.normal(size=(len(groups), 6)) for part in parts)
    return X, Y, groups


def test_blocks_that_share_the_subjects_only_share_nothing():
    found = [blocks_of_subjects(np.random.default_rng([6, run])) for run in range(20)]
    assert np.mean([linear_cka(X, Y) for X, Y, _ in found]) > 0.15
    judged = [cka_of_groups(*blocks) for blocks in found]
    assert abs(np.mean([value for value, _, _ in judged])) < 0.06
    assert sum(low <= 0 <= high for _, low, high in judged) >= 17


def test_blocks_that_share_what_tells_subjects_apart_are_told_so():
    value, low, high = cka_of_groups(*blocks_of_subjects(np.random.default_rng(7), shared=0.9, subjects=40))
    assert 0.4 < value < 0.8
    assert 0 < low < value < high
