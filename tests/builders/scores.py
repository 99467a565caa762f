"""Scores of cells of many subjects."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm


def sample(seed, k=2, n=200, n_groups=12, pure=True):
    """Labels, scores with many ties (tenths that sum to 1), classes and groups; every class in two groups or more."""
    rng = np.random.default_rng(seed)
    classes = ["all", "hem"] if k == 2 else [f"type {at}" for at in range(k)]
    groups = rng.integers(n_groups, size=n)
    codes = groups % k if pure else rng.integers(k, size=n)
    shares = 1 + 2 * np.eye(k)[codes]
    proba = np.stack([rng.multinomial(10, share / share.sum()) for share in shares]) / 10
    return np.array(classes, object)[codes], proba, classes, groups


def subject_scores(rng, sizes, d=0.8, between=1.0, within=1.0):
    """Labels 'b' and 'a', scores of both and groups: +-d, an effect of the subject, and noise of the cell.

    ``sizes`` are the cells of each subject of 'b', and of each of 'a'; a cell is predicted 'b' above 0.
    """
    cells = np.concatenate([np.asarray(part, int) for part in sizes])
    groups = np.repeat(np.arange(len(cells)), cells)
    is_positive = groups < len(sizes[0])
    score = (
        np.where(is_positive, d, -d) + rng.normal(0, between, len(cells))[groups] + rng.normal(0, within, len(groups))
    )
    p = norm.cdf(score)
    return np.where(is_positive, "b", "a"), np.column_stack([1 - p, p]), groups
