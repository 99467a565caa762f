"""Feature tables of a few numbers."""

import numpy as np

from fusion.data.feature_table import FeatureTable


def rings(n=240, groups=24, seed=0):
    """A ring around a disc: no plane parts them. Groups of ten cells."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    angle, away = rng.uniform(0, 2 * np.pi, n), np.where(y, 1.6, 0.6) + rng.normal(0, 0.25, n)
    X = np.column_stack([away * np.cos(angle), away * np.sin(angle), rng.normal(0, 0.5, (n, 4))])
    return X, y, np.repeat(np.arange(groups), n // groups)


def table_of(seed=0, subjects=16, cells=12):
    """Cells of two classes that a feature tells apart about as well as on real data, with subjects of their own."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(subjects), cells)
    y = np.where(groups % 2, "all", "hem")
    own = rng.normal(0, 0.7, (subjects, 6))[groups]
    X = (rng.normal(0, 1, (len(y), 6)) + own + 0.8 * (groups % 2)[:, None]).astype(np.float32)
    names = tuple(f"c{at}" for at in range(len(y)))
    return FeatureTable(
        X=X,
        columns=tuple(f"a.f{at}" for at in range(6)),
        names=names,
        keys=names,
        image_keys=names,
        y=tuple(y),
        subjects=tuple(map(str, groups)),
        folds=(None,) * len(y),
        groups=groups,
        subjects_known=True,
    )
