"""Patients in feature space: a share of each ill patient's cells are witnesses, and patients differ beside that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fusion.data.feature_table import FeatureTable
from fusion.data.groups import merge_groups


def cells_of_patients(
    patients=24, each=20, share=1.0, effect=3.0, between=0.5, seed=0, columns=6, sizes=None, told=False
) -> tuple[FeatureTable, list[str]]:
    """The table of their cells, each labelled by its patient, and what each cell is: "blast" or "normal".

    Parameters
    ----------
    share : of an ill patient's cells that are blasts, one at least.
    effect, between : how far blasts lie from normal cells in two of the columns, and patients from each other in all.
    sizes : cells of each patient, where they differ.
    """
    rng = np.random.default_rng(seed)
    counts = np.full(patients, each) if sizes is None else np.asarray(sizes)
    owner = np.repeat(np.arange(patients), counts)
    is_ill = np.arange(patients) % 2 == 0
    X = rng.normal(size=(len(owner), columns)) + between * rng.normal(size=(patients, columns))[owner]
    is_blast = np.zeros(len(owner), bool)
    for at in np.flatnonzero(is_ill):
        own = np.flatnonzero(owner == at)
        is_blast[rng.choice(own, max(1, round(share * len(own))), replace=False)] = True
    X[is_blast, :2] += effect
    names = tuple(f"{at}.bmp" for at in range(len(owner)))
    ids = tuple(f"P{at:03d}" for at in owner)
    table = FeatureTable(
        X=X.astype(np.float32),
        columns=tuple(f"{'a' if at < columns // 2 else 'b'}.{at}" for at in range(columns)),
        names=names,
        keys=names,
        image_keys=names,
        y=tuple("ill" if is_ill[at] else "well" for at in owner),
        subjects=ids,
        folds=(None,) * len(owner),
        groups=merge_groups(ids, names),
        subjects_known=True,
    )
    return table, ["blast" if one else "normal" for one in is_blast]


def patients(told=False, **given) -> FeatureTable:
    """The patients themselves, as bags of these cells; which know what the cells are where they are ``told``."""
    table, kinds = cells_of_patients(**given)
    return table.by_subject(kinds if told else ())


def relabelled(table: FeatureTable, seed: int) -> FeatureTable:
    """The same units with their labels permuted."""
    y = np.random.default_rng(seed).permutation(np.array(table.y, object))
    return replace(table, y=tuple(y.tolist()))
