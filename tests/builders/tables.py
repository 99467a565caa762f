"""Feature tables of a few numbers."""

import numpy as np


def rings(n=240, groups=24, seed=0):
    """A ring around a disc: no plane parts them. Groups of ten cells."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    angle, away = rng.uniform(0, 2 * np.pi, n), np.where(y, 1.6, 0.6) + rng.normal(0, 0.25, n)
    X = np.column_stack([away * np.cos(angle), away * np.sin(angle), rng.normal(0, 0.5, (n, 4))])
    return X, y, np.repeat(np.arange(groups), n // groups)
