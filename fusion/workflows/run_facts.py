"""Plain values about data, split and choices, as results and their notes have them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Dataset
from fusion.data.feature_table import FeatureTable
from fusion.data.units import Units
from fusion.errors import UsageError
from fusion.evaluation.scores import Scores
from fusion.leakage.grouped_splits import Split
from fusion.learning.recipe import Recipe
from fusion.learning.study import Study
from fusion.metrics.class_shares import LEAST_CELLS
from fusion.metrics.classification import default_positive
from fusion.plugins import registry
from fusion.plugins.classifiers import GrowsInStages, HasLandmarks, MindsSources
from fusion.settings.commands import AblateConfig, TrainConfig
from fusion.settings.data import Unit
from fusion.settings.learning import FitSettings

#: Training cells that approximate SVMs go by: eigenvectors of 2,000 take seconds, and a subject has 150 cells.
_LANDMARKS = 2000


def adapted_stamps(
    table: FeatureTable,
    splits: Sequence[Split],
    config: FitSettings,
    stated: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """Stamps where features of a source that is only tested are harmonised by the cells that are judged: that it is so,
    what is stated of its classes, and of sources that lack some of the classes, with which their cells are compared all
    the same.

    Parameters
    ----------
    stated : by source, the classes that its cells are said to be of.
    """
    if config.harmonise.method == "none" or not config.harmonise.transductive:
        return []
    said = dict(stated or {})
    new = False
    lacking: dict[str, list[str]] = {}
    for split in splits:
        known = {table.sources[row] for row in split.train}
        rows = [row for row in split.test if table.sources[row] not in known]
        new |= bool(rows)
        if config.harmonise.mix == "estimated" and not table.are_subjects:
            lacking |= _lacking_classes(table, rows, {str(table.y[row]) for row in split.train})
    if not new:
        return []
    stamps = ["transductive: features of new sources harmonised by the cells that are judged, without labels"]
    stamps += _stated_stamps(table, said)
    stamps += [
        f"{name or 'cells without a source'}: labelled as {', '.join(map(repr, own))} alone, and compared with "
        "training cells of other classes as well, so that some are taken for these. If it has no others, say so, to "
        f"fusion ablate or to fusion evaluate: --site-classes {name or 'NAME'}={','.join(own)}"
        for name, own in sorted(lacking.items())
        if name not in said
    ]
    return stamps


def _stated_stamps(table: FeatureTable, said: Mapping[str, Sequence[str]]) -> list[str]:
    """Stamps of the classes that sources are said to have, and of cells that are labelled otherwise."""
    stamps = []
    for name, classes in sorted(said.items()):
        stamps.append(f"{name}: said to have {', '.join(map(repr, sorted(classes)))} and no other class")
        own = [str(label) for label, source in zip(table.y, table.sources, strict=True) if source == name]
        others = sum(label not in classes for label in own)
        if others and not table.are_subjects:  # what patients are labelled their cells need not be
            stamps.append(f"{name}: {others} of its {len(own)} cells are labelled as none of these classes")
    return stamps


def _lacking_classes(table: FeatureTable, rows: Sequence[int], classes: set[str]) -> dict[str, list[str]]:
    """By source, the classes of its cells among ``rows``, where these are not all and it is described by them."""
    counts = Counter((table.sources[row] or "", str(table.y[row])) for row in rows)
    found: dict[str, list[str]] = {}
    for source in {name for name, _ in counts}:
        own = {label: count for (name, label), count in counts.items() if name == source}
        if sum(own.values()) >= LEAST_CELLS and classes - set(own):
            found[source] = sorted(own)
    return found


def supposed_mix_stamps(study: Study, parts: Sequence[NDArray[np.intp]], config: FitSettings) -> list[str]:
    """A stamp where the classes of a new source's cells were to be estimated, and nobody says what cells of patients
    are: they are then supposed to be as many of each.

    Parameters
    ----------
    parts : training rows of every fit.
    """
    if not study.table.are_subjects or config.harmonise.mix != "estimated":
        return []
    if all(study.training_rows(list(study.table.blocks), rows).labelled() is not None for rows in parts):
        return []
    return [
        "harmonise.mix: equal in place of estimated, which needs cells that have labels of their own ('label' beside "
        "'subject_label'), of two classes and ten of each source at least"
    ]


def judged_together_stamps(recipes: Sequence[Recipe], table: FeatureTable, splits: Sequence[Split]) -> list[str]:
    """A stamp for each classifier that judges cells of a source which is only tested by all of them together."""
    new = any(
        {table.sources[row] for row in split.test} - {table.sources[row] for row in split.train} for split in splits
    )
    built = {recipe.classifier: recipe.build() for recipe in recipes} if new else {}
    return [
        f"transductive: {name} judges cells of a new source by all of them together, without labels"
        for name, classifier in built.items()
        if isinstance(classifier, MindsSources) and classifier.judges_together
    ]


def chosen_rows(entries: Sequence[Scores]) -> list[dict[str, Any]]:
    """Plain values: what every training part chose for its classifier."""
    return [
        {"features": list(scores.features), "classifier": scores.classifier, **chosen}
        for scores in entries
        for chosen in scores.chosen
    ]


def describe_thresholds(scores: Scores, positive: str | None, unit: Unit) -> str:
    """By which rule the training parts predict, in words; "" where none was asked for."""
    if scores.costs is not None:
        return f"A {unit} is predicted as the class of the least expected cost, by a rule of each training part."
    if scores.threshold is None or positive is None:
        return ""
    chosen = np.unique(scores.threshold[scores.fold >= 0])
    between = f"{chosen[0]:.3f}" if len(chosen) == 1 else f"{chosen[0]:.3f} to {chosen[-1]:.3f}"
    return f"A {unit} is predicted '{positive}' from a probability of {between}, chosen inside each training part."


def choose_positive(classes: Sequence[str], wanted: str | None) -> str | None:
    """The class that sensitivity is about; None for more than two classes.

    Raises
    ------
    UsageError : ``wanted`` is none of the classes.
    """
    if wanted is not None and wanted not in classes:
        raise UsageError("--positive names no class", found=wanted, expected=", ".join(classes))
    if len(classes) != 2:
        return None
    return wanted or default_positive(classes)


def facts(dataset: Dataset, study: Study, folds: Sequence[Split], kind: str) -> dict[str, Any]:
    """Plain values about data and split, for ``result.json``."""
    table = study.table
    counts: Mapping[str, int] = {label: table.y.count(label) for label in dataset.classes}
    return {
        "data": str(dataset.root),
        "layout": dataset.layout,
        "images": len(table),
        "groups": len(np.unique(table.groups)),
        "unit": table.unit,
        "judged": "subject" if table.are_subjects else "cell",
        "classes": counts,
        "split": {"kind": kind, "folds": len(folds), "test_images": [len(fold.test) for fold in folds]},
        "columns": {name: part.stop - part.start for name, part in table.blocks.items()},
        **({"sources": counts_of(table.sources)} if any(table.sources) else {}),
        **({"cells": study.count_cells(study.everyone)} if table.are_subjects else {}),
        "flow": image_flow(dataset, study.cells or table),
    }


def image_flow(dataset: Dataset, measured: Units) -> dict[str, Any]:
    """What became of the images of a data set, from those found to those that take part, and which cells are one.

    Parameters
    ----------
    measured : the cells that were measured, whatever is judged.

    Returns
    -------
    Plain values: "found", how many images there were; "steps", rows of "reason" and "images" that were left out or
    skipped, in their order; "used"; "identical", cells whose content another has; "subjects" and "groups", where
    subjects that share an image are merged.
    """
    unreadable, unmeasured = len(dataset.faults), len(dataset) - len(measured)
    steps = [("could not be read", unreadable), *dataset.left_out, ("could not be measured", unmeasured)]
    known = {who for who in measured.identities if who is not None}
    return {
        "found": len(dataset) + sum(count for _, count in dataset.left_out) + unreadable,
        "steps": [{"reason": reason, "images": count} for reason, count in steps if count],
        "used": len(measured),
        "identical": len(measured) - len(set(measured.cell_ids)),
        "subjects": len(known),
        "nameless": measured.nameless,
        "groups": len(np.unique(measured.groups)),
    }


def counts_of(names: Sequence[str | None]) -> dict[str, int]:
    """How often each name occurs, by name; "" stands for what has none."""
    return dict(sorted(Counter("" if name is None else name for name in names).items()))


def stage_notes(recipes: Sequence[Recipe], study: Study, parts: Sequence[NDArray[np.intp]]) -> list[str]:
    """A note for each classifier whose models of so many cells are grown in stages: which of its models were.

    Parameters
    ----------
    parts : of every model, the cells that it learnt from.
    """
    notes = []
    for recipe in {recipe.classifier: recipe for recipe in recipes}.values():
        classifier = registry.build_classifier(recipe.classifier, recipe.params)
        if not isinstance(classifier, GrowsInStages):
            continue
        sizes = sorted(study.count_cells(part) * (1 + recipe.augment.per_cell) for part in parts)
        staged = [cells for cells in sizes if classifier.stages(cells) > 1]
        if not staged:
            continue
        between = f"{staged[0]:,}" if staged[0] == staged[-1] else f"{staged[0]:,} to {staged[-1]:,}"
        others = len(sizes) - len(staged)
        left = f"; {others} of {len(sizes)} training parts are smaller: columns drawn for every tree" if others else ""
        notes.append(
            f"{recipe.classifier}: trees of {between} training cells were grown in {classifier.stages(staged[-1])} "
            f"stages, each on its own draw of the columns, as they are from {classifier.staged_from:,} cells on "
            f"(staged_from){left}."
        )
    return notes


def landmark_params(
    name: str, given: Mapping[str, Any], cells: int, config: TrainConfig | AblateConfig
) -> tuple[dict[str, Any], str]:
    """The parameters of an SVM that goes by landmarks, and a stamp, where it learns from more cells than an exact one
    has memory for; nothing and "" elsewhere. What is given stays.

    Parameters
    ----------
    name, given : of the classifier, and its parameters.
    cells : that it learns from at most, augmented ones among them.
    """
    if cells <= config.exact_up_to or not isinstance(registry.build_classifier(name), HasLandmarks):
        return {}, ""
    params = {"landmarks": _LANDMARKS, **given}
    stamp = (
        f"approximate: {name} goes by {params['landmarks']} landmarks (Nystroem), since training parts have more than "
        f"{config.exact_up_to} cells{', with their augmented cells' if config.augment.per_cell else ''}"
    )
    return params, stamp if params["landmarks"] else ""
