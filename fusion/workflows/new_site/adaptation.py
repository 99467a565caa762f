"""``fusion adapt``: what labelled cells of a new site bring, the adapted model, and which cells to label next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.adaptation.curve import label_curve
from fusion.analysis.adaptation.steps import (
    HEAD,
    STEPS,
    SiteCells,
    adapt,
    choose_cells,
    choose_step,
    new_sites,
    predict,
)
from fusion.bundles.model_bundle import ModelBundle, check_writable, load_model
from fusion.bundles.new_sites import class_notes, misnamed, state_classes
from fusion.data.cell_rows import table_rows
from fusion.data.dataset import Dataset, Fault, Sample, check_usable
from fusion.errors import UsageError
from fusion.evaluation.results import interval
from fusion.features.store import FeatureStore
from fusion.image_transforms.dataset_transforms import as_trained
from fusion.io.csv_text import csv_rows
from fusion.io.output_files import write_output
from fusion.leakage.provenance import Cohort, Provenance, find_overlap, refusal
from fusion.learning.fused_model import FusedModel
from fusion.learning.study import Study
from fusion.metrics.class_shares import LEAST_CELLS
from fusion.plugins.networks import TakesImages
from fusion.progress import Progress
from fusion.settings.commands import AdaptConfig
from fusion.settings.outputs import one_run_of
from fusion.workflows.loading import read_dataset


@dataclass(frozen=True, eq=False)
class Adapted:
    """What became of a model at a new site.

    Attributes
    ----------
    curve : see ``label_curve``; empty where too few cells are labelled.
    step, surprise : the step that all labelled cells chose, and what each step left open; "" where none is labelled.
    labelled : cells of each class.
    sites : by name, of how many cells the adapted model keeps a map of features that it had none of.
    bundle : the adapted model, None where it was not asked for.
    to_label : names of cells to label next.
    notes, faults : what the user should know, and images that were skipped.
    """

    curve: list[dict[str, Any]]
    step: str
    surprise: Mapping[str, float]
    labelled: Mapping[str, int]
    sites: Mapping[str, int]
    output: Path | None
    bundle: ModelBundle | None
    to_label: tuple[str, ...]
    label_table: Path | None
    notes: tuple[str, ...]
    faults: tuple[Fault, ...]

    def lines(self) -> list[str]:
        """What a person should know, without the curve."""
        counts = ", ".join(f"{count} {label}" for label, count in self.labelled.items())
        lines = [f"labelled: {counts or 'no cell'}"]
        if self.step:
            lines.append(f"of {len(self.surprise) or 1} steps the labelled cells choose: {self.step}")
        if self.bundle is not None:
            lines += [
                f"{name or 'cells without a source'}: features harmonised by {count} cells, and those of further ones "
                "by the same"
                for name, count in self.sites.items()
            ]
            lines.append(f"adapted model: {self.output}")
        if self.label_table is not None:
            lines.append(f"{len(self.to_label)} cells to label next: {self.label_table}")
        return lines

    def table(self) -> tuple[list[str], list[list[str]], str]:
        """Columns, rows and title of the curve for a terminal."""
        names = list(self.curve[0]["balanced_accuracy"])
        rows = [[str(row["k"]), *(interval(row["balanced_accuracy"][name]) for name in names)] for row in self.curve]
        return ["cells of each class", *names], rows, "balanced accuracy on cells that nobody labelled, 95% intervals"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "curve": self.curve,
            "step": self.step or None,
            "surprise": dict(self.surprise),
            "labelled": dict(self.labelled),
            "sites": dict(self.sites),
            "output": None if self.bundle is None else str(self.output),
            "to_label": list(self.to_label),
            "notes": list(self.notes),
        }


@one_run_of
def adapt_model(config: AdaptConfig, progress: Progress | None = None) -> Adapted:
    """Measure the cells of a new site, tell what labels bring, and write what was asked for.

    Raises
    ------
    LeakageError : the model has been trained on some of these images or subjects, and ``allow_leakage`` is off.
    UsageError : labels that the model does not know, nothing to learn from, or a model of patients.
    """
    if config.output is not None:
        check_writable(config.output, force=config.force)
    bundle = load_model(config.model).with_own(config.own)
    bundle.check_judges_cells("fusion adapt", "Train again with patients of the new site among the others.")
    dataset = _load(config, bundle, progress)
    bundle = state_classes(bundle, config.site_classes, list(dataset.each("source")))
    study, notes = _measure(config, bundle, dataset, progress)
    cells = _cells(bundle, study)
    notes = (*notes, *misnamed(bundle, study.table))
    labelled = np.flatnonzero(cells.codes >= 0)
    if config.output is not None and not len(labelled):
        _check_learns_of_sites(config, bundle, cells)

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress("adapting", done, total, 0)

    model, blocks = bundle.model, study.table.blocks
    if isinstance(model.classifier, TakesImages):
        raise UsageError(
            "adapt is for models of features", found=f"{config.model}, which judges images", do="Train on both sites."
        )
    counts = {name: int((cells.codes == at).sum()) for at, name in enumerate(bundle.classes)}
    missing = [name for name, count in counts.items() if not count] if len(labelled) else []
    can_learn = bool(len(labelled)) and not missing
    if missing:
        notes = (*notes, f"No labelled cell of {', '.join(missing)}: the model stays as it is.")
    curve = label_curve(model, blocks, cells, config.k, config.seed, tell) if can_learn else []
    if can_learn and len(curve) < len(config.k):
        told = ", ".join(str(k) for k in config.k if k not in {row["k"] for row in curve})
        notes = (*notes, f"Too few labelled cells to show {told} of each class and have others to judge.")
    step, surprise = choose_step(model, blocks, cells, labelled, config.seed) if len(labelled) else ("", {})
    adapted, sites = None, {}
    if config.output is not None:
        adapted = _adapted_bundle(bundle, study, dataset, cells, step, curve)
        sites = adapted.facts["adapted"]["sites"]
        adapted.save(config.output)
        if adapted.model.harmoniser is not None:
            notes = (*notes, *class_notes(adapted.model.harmoniser, list(sites)))
    chosen: tuple[str, ...] = ()
    if config.to_label is not None:
        chosen = _choose(bundle, study, cells, max(config.k) * len(bundle.classes))
        write_output(config.to_label, csv_rows(_rows(dataset, chosen, config.to_label)))
    return Adapted(
        curve,
        step,
        surprise,
        {name: count for name, count in counts.items() if count},
        sites,
        config.output,
        adapted,
        chosen,
        config.to_label,
        (*dataset.notes, *notes),
        (*dataset.faults, *study.faults),
    )


def _check_learns_of_sites(config: AdaptConfig, bundle: ModelBundle, cells: SiteCells) -> None:
    """Refuse cells without labels where the model could not even keep what their site looks like."""
    harmoniser = bundle.model.harmoniser
    label = "Take --to-label to choose some, label them in the table it writes, and give that as DATA."
    if harmoniser is None or not harmoniser.transductive:
        raise UsageError(
            f"no cell of {config.data} is labelled",
            found="a model that makes nothing of cells without labels",
            expected="labels, or a model that harmonises new sites (--config robust)",
            do=label,
        )
    if not new_sites(bundle.model, cells):
        raise UsageError(
            f"no cell of {config.data} is labelled",
            found=", ".join(
                f"{count} of {name or 'no named source'}" for name, count in sorted(_count(cells.sources).items())
            ),
            expected=f"{LEAST_CELLS} or more of a site that the model does not know",
            do="Give more of its cells, label some, or name their site with --source NAME where none is named.",
        )


def _count(sources: Sequence[str | None]) -> Counter[str]:
    return Counter(source or "" for source in sources)


def _load(config: AdaptConfig, bundle: ModelBundle, progress: Progress | None) -> Dataset:
    """The cells of the new site, labelled or not; refused where the model knows them, or lacks one of their classes."""
    dataset = read_dataset(config, progress)
    check_usable(len(dataset), dataset.faults)
    dataset = dataset.select(config.classes, config.folds, config.sources)
    if unknown := sorted(set(dataset.classes) - set(bundle.classes)):
        raise UsageError(
            "labels that the model was not trained on",
            found=", ".join(unknown),
            expected=", ".join(bundle.classes),
            do="Choose classes with --classes.",
        )
    overlap = find_overlap(bundle.provenance, dataset, Cohort(config.other_cohort, config.source))
    if overlap.rows and not config.allow_leakage:
        raise refusal(str(config.model), overlap, dataset)
    return dataset


def _measure(
    config: AdaptConfig, bundle: ModelBundle, dataset: Dataset, progress: Progress | None
) -> tuple[Study, tuple[str, ...]]:
    store = FeatureStore(config.store)
    shown, adapted = as_trained(bundle.normaliser, dataset, store, jobs=config.jobs, progress=progress)
    study = Study.of(shown, bundle.blocks, bundle.transforms, store, jobs=config.jobs, progress=progress)
    check_usable(len(study), study.faults)
    return study, tuple(adapted)


def _cells(bundle: ModelBundle, study: Study) -> SiteCells:
    places = {name: at for at, name in enumerate(bundle.classes)}
    codes = np.array([-1 if label is None else places[str(label)] for label in study.table.y], np.intp)
    return SiteCells(study.table.X, codes, study.table.groups, study.table.sources)


def _adapted_bundle(
    bundle: ModelBundle, study: Study, dataset: Dataset, cells: SiteCells, step: str, curve: Sequence[Mapping[str, Any]]
) -> ModelBundle:
    """The model by all labelled cells, which it remembers having met; without a step, by what its sites look like."""
    labelled = np.flatnonzero(cells.codes >= 0)
    step = step or STEPS[0]
    model = adapt(bundle.model, study.table.blocks, cells, labelled, step)
    met = {study.table.keys[row] for row in labelled.tolist()}
    new = Provenance.of(sample for sample in dataset.samples if sample.key in met)
    old = bundle.provenance
    both = Provenance(*(getattr(old, name) | getattr(new, name) for name in Provenance.__dataclass_fields__))
    used = labelled if step in STEPS[2:] else np.arange(len(cells.codes))
    facts = {
        **bundle.facts,
        "adapted": {
            "step": step,
            "cells": len(labelled),
            "sites": _new_maps(bundle, model, [cells.sources[row] for row in used]),
            "curve": list(curve),
        },
    }
    classifier = HEAD if step == STEPS[3] else bundle.classifier
    # What was promised rests on scores of the model as it was.
    promises = bundle.promises if step == STEPS[0] else None
    return replace(bundle, model=model, classifier=classifier, provenance=both, facts=facts, promises=promises)


def _new_maps(bundle: ModelBundle, model: FusedModel, sources: Sequence[str | None]) -> dict[str, int]:
    """Of how many of these cells each site's map is that the model has and had not."""
    if model.harmoniser is None or bundle.model.harmoniser is None:
        return {}
    new = model.harmoniser.maps.keys() - bundle.model.harmoniser.maps.keys()
    return {name: count for name, count in sorted(_count(sources).items()) if name in new}


def _choose(bundle: ModelBundle, study: Study, cells: SiteCells, count: int) -> tuple[str, ...]:
    """Names of the unlabelled cells to label, of all cells if every one is labelled."""
    open_ = np.flatnonzero(cells.codes < 0)
    proba = predict(bundle.model, cells)
    harmonised = bundle.model.harmonised(cells.X, list(cells.sources))
    fused: NDArray[Any] = bundle.model.fused(harmonised)
    rows = choose_cells(proba, fused, count, open_ if len(open_) else None)
    return tuple(study.table.names[row] for row in rows.tolist())


def _rows(dataset: Dataset, chosen: Sequence[str], table: Path) -> list[list[object]]:
    """The data set as a table that Fusion reads, with an empty label for the chosen cells, which come first."""
    rank = {name: at for at, name in enumerate(chosen)}
    samples: list[Sample] = sorted(dataset.samples, key=lambda each: rank.get(dataset.name_of(each), len(rank)))
    return table_rows(samples, table.parent, {"to_label": [_yes(dataset.name_of(each) in rank) for each in samples]})


def _yes(is_so: bool) -> str:
    return "yes" if is_so else ""
