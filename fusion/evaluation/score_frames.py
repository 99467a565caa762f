"""Held-out scores as a table, a row a scored cell, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.feature_table import FeatureTable
from fusion.data.groups import merge_groups
from fusion.data.subjects import identities
from fusion.data.units import Units
from fusion.evaluation.scores import Scores

if TYPE_CHECKING:
    import pandas as pd


def score_frame(
    cells: Units, classes: Sequence[str], positive: str | None, entries: Sequence[Scores], stamps: Sequence[str] = ()
) -> pd.DataFrame:
    """A row for each entry, repeat and cell that was scored in it, by name; stamps travel in a column of their own.

    Columns: features, classifier, repeat, fold, name, key, subject, group, label, predicted, ``p_<class>``, and
    source, subject_label, threshold, ``cost_<class>`` (what predicting it is expected to cost) and stamp where there
    are any.
    """
    import pandas as pd

    column_of_positive = None if positive is None else list(classes).index(positive)
    order, frames = cells.in_order[0], []
    for scores in entries:
        codes = scores.predicted(column_of_positive)
        for at, (proba, fold) in enumerate(zip(scores.proba, scores.fold, strict=True)):
            tested = order[fold[order] >= 0]
            predicted = np.array(classes, object)[codes[at, tested]]
            columns: dict[str, Any] = {
                "features": "+".join(scores.features),
                "classifier": scores.classifier,
                "repeat": at,
                "fold": fold[tested],
                **_identity(cells, tested),
                "predicted": predicted,
            }
            columns |= {f"p_{label}": proba[tested, column] for column, label in enumerate(classes)}
            if scores.threshold is not None:
                columns["threshold"] = scores.threshold[at, tested]
            if scores.costs is not None:
                columns |= {f"cost_{label}": scores.costs[at, tested, column] for column, label in enumerate(classes)}
            frames.append(pd.DataFrame(columns))
    every = pd.concat(frames, ignore_index=True)
    return every.assign(stamp="; ".join(stamps)) if stamps else every


def _identity(cells: Units, rows: NDArray[np.intp]) -> dict[str, Any]:
    """Who the cells are, by column."""
    found = {
        "name": np.array(cells.names, object)[rows],
        "key": np.array(cells.keys, object)[rows],
        "subject": np.array(cells.subjects, object)[rows],
        "group": cells.groups[rows],
        "label": np.array(cells.y, object)[rows],
    }
    if any(cells.sources):
        found["source"] = np.array(cells.sources, object)[rows]
    if cells.subject_labels:
        found["subject_label"] = np.array(cells.subject_labels, object)[rows]
    return found


def cells_of(frame: pd.DataFrame) -> FeatureTable:
    """The cells of a table as ``score_frame`` writes it, in the order in which they first appear; without features.

    Groups hold what shares a subject, a key or a value of "group".
    """
    once = frame.drop_duplicates(["key", "name"])
    columns = {name: _texts(once[name]) for name in ("name", "key", "subject", "label")}
    sources = _texts(once["source"]) if "source" in once else [None] * len(once)
    names, keys = ([str(value) for value in columns[name]] for name in ("name", "key"))
    groups = merge_groups(identities(columns["subject"], sources), keys, _texts(once["group"]))
    subjects_known = any(who is not None for who in columns["subject"])
    # Groups of a single cell each, where nobody is named, are cells that nothing is known of.
    is_grouped = not subjects_known and len(np.unique(groups)) < len(once)
    return FeatureTable(
        X=np.empty((len(once), 0), np.float32),
        columns=(),
        names=tuple(names),
        keys=tuple(keys),
        image_keys=tuple(keys),
        y=tuple(columns["label"]),
        subjects=tuple(columns["subject"]),
        folds=(None,) * len(once),
        groups=groups,
        subjects_known=subjects_known,
        sources=tuple(sources),
        group_ids=tuple(str(group) for group in groups) if is_grouped else (),
        subject_labels=tuple(_texts(once["subject_label"])) if "subject_label" in once else (),
    )


def entries_of(frame: pd.DataFrame, cells: Units, classes: Sequence[str]) -> list[Scores]:
    """The entries of a table as ``score_frame`` writes it, in the order in which they first appear.

    Parameters
    ----------
    cells : who the rows are about, by key and name; each row is of one of them.
    classes : order of the probabilities.
    """
    row = {identity: at for at, identity in enumerate(zip(cells.keys, cells.names, strict=True))}
    at = np.array([row[identity] for identity in zip(frame["key"], frame["name"], strict=True)], np.intp)
    proba = frame[[f"p_{label}" for label in classes]].to_numpy(np.float64)
    threshold = frame["threshold"].to_numpy(np.float64) if "threshold" in frame else np.full(len(frame), np.nan)
    costed = [f"cost_{label}" for label in classes]
    cost = frame[costed].to_numpy(np.float64) if costed[0] in frame else np.full_like(proba, np.nan)
    repeat, fold = (frame[name].to_numpy(np.intp) for name in ("repeat", "fold"))
    found = []
    names = zip(frame["features"].astype(str), frame["classifier"].astype(str), strict=True)
    members: dict[tuple[str, str], list[int]] = {}
    for place, which in enumerate(names):
        members.setdefault(which, []).append(place)
    for (features, classifier), places in members.items():
        rows = np.array(places, np.intp)
        rounds = int(repeat[rows].max()) + 1
        held = np.full((rounds, len(cells), len(classes)), np.nan)
        folds: NDArray[np.intp] = np.full((rounds, len(cells)), -1, np.intp)
        limits = np.full((rounds, len(cells)), np.nan)
        held[repeat[rows], at[rows]] = proba[rows]
        folds[repeat[rows], at[rows]] = fold[rows]
        limits[repeat[rows], at[rows]] = threshold[rows]
        given = None if np.isnan(threshold[rows]).any() else limits
        costs = None
        if not np.isnan(cost[rows]).any():
            costs = np.full_like(held, np.nan)
            costs[repeat[rows], at[rows]] = cost[rows]
        # Only names of blocks hold a + between them; what another table calls its entries stays as it is.
        blocks = tuple(features.split("+")) if classifier else (features,)
        found.append(Scores(blocks, classifier, held, folds, given, costs=costs))
    return found


def _texts(column: pd.Series[Any]) -> list[str | None]:
    return [None if value is None or value != value else str(value) for value in column.tolist()]
