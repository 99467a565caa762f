"""``fusion adapt``: what labels of a new site bring, the adapted model, and what to label next; cells, or patients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.adaptation.curve import label_curve
from fusion.analysis.adaptation.expected_time import forecast_adapting
from fusion.analysis.adaptation.network_steps import at_home, with_head_inputs
from fusion.analysis.adaptation.site_cells import SiteCells
from fusion.analysis.adaptation.steps import (
    STEPS,
    adapt,
    choose_cells,
    choose_step,
    fused_features,
    head_of,
    new_sites,
    predict,
)
from fusion.analysis.adaptation.usual_distances import sites_to_tell, with_usual_distances
from fusion.analysis.mixed_sources import mixed_sources
from fusion.bundles.model_bundle import ModelBundle, check_writable, load_model
from fusion.bundles.new_sites import class_notes, misnamed, silent_blocks, state_classes
from fusion.data.cell_rows import table_rows
from fusion.data.class_names import check_known_classes
from fusion.data.dataset import Dataset, Fault, Sample, check_usable
from fusion.data.patients.patient_labels import label_by_subject
from fusion.data.patients.unreadable_patients import note_unreadable_patients
from fusion.data.subjects import format_subject, identities
from fusion.errors import UsageError
from fusion.evaluation.results import interval
from fusion.features.store import FeatureStore
from fusion.image_transforms.dataset_transforms import as_trained, knowing_sources
from fusion.image_transforms.normaliser import Normaliser
from fusion.io.csv_text import csv_rows
from fusion.io.output_files import write_output
from fusion.leakage.provenance import Cohort, Provenance, find_overlap, refusal
from fusion.learning.bags.harmonised_bags import LEAST_PATIENTS
from fusion.learning.fused_model import FusedModel
from fusion.learning.study import Study, are_many
from fusion.metrics.class_shares import LEAST_CELLS
from fusion.plugins.classifiers import MindsSources
from fusion.plugins.networks import AdaptsToSites, LearnsBlock
from fusion.progress import Progress, tell_forecast
from fusion.settings.commands import AdaptConfig
from fusion.settings.outputs import one_run_of
from fusion.workflows.loading import read_dataset


@dataclass(frozen=True, eq=False)
class Adapted:
    """What became of a model at a new site.

    Attributes
    ----------
    curve : see ``label_curve``; empty where too few are labelled.
    step, surprise : the step that all labelled ones chose, and what each step left open; "" where none is labelled.
    labelled : how many of each class.
    sites, sizes, norms : by name, of how many cells the adapted model keeps a map of features, a scale of pixels, or
        the means and spreads of a network's layers, that it had none of.
    usual : by name, by how many cells of a new site it is told how far those lie that are not out of distribution.
    bundle : the adapted model, None where it was not asked for.
    to_label : names of cells, or patients, to label next.
    notes, faults : what the user should know, and images that were skipped.
    units : what is labelled, in the plural: "cells" or "patients".
    """

    curve: list[dict[str, Any]]
    step: str
    surprise: Mapping[str, float]
    labelled: Mapping[str, int]
    sites: Mapping[str, int]
    sizes: Mapping[str, int]
    norms: Mapping[str, int]
    usual: Mapping[str, int]
    output: Path | None
    bundle: ModelBundle | None
    to_label: tuple[str, ...]
    label_table: Path | None
    notes: tuple[str, ...]
    faults: tuple[Fault, ...]
    units: str

    def lines(self) -> list[str]:
        """What a person should know, without the curve."""
        counts = ", ".join(f"{count} {label}" for label, count in self.labelled.items())
        lines = [f"labelled: {counts or 'no ' + self.units[:-1]}"]
        if self.step:
            lines.append(f"of {len(self.surprise) or 1} steps the labelled {self.units} choose: {self.step}")
        if self.bundle is not None:
            lines += [
                f"{name or 'cells without a source'}: features harmonised by {count} cells, and those of further ones "
                "by the same"
                for name, count in self.sites.items()
            ]
            lines += [
                f"{name or 'cells without a source'}: pixels scaled by {count} cells, and those of further ones by the "
                "same"
                for name, count in self.sizes.items()
            ]
            lines += [
                f"{name or 'cells without a source'}: batch norms by {count} cells, and further ones by the same"
                for name, count in self.norms.items()
            ]
            lines += [
                f"{name or 'cells without a source'}: out of distribution is what lies further away than 99% of "
                f"{count} cells"
                for name, count in self.usual.items()
            ]
            lines.append(f"adapted model: {self.output}")
        if self.label_table is not None:
            lines.append(f"{len(self.to_label)} {self.units} to label next: {self.label_table}")
        return lines

    def table(self) -> tuple[list[str], list[list[str]], str]:
        """Columns, rows and title of the curve for a terminal."""
        names = list(self.curve[0]["balanced_accuracy"])
        rows = [[str(row["k"]), *(interval(row["balanced_accuracy"][name]) for name in names)] for row in self.curve]
        what = f"balanced accuracy on {self.units} that nobody labelled, 95% intervals"
        return [f"{self.units} of each class", *names], rows, what

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "curve": self.curve,
            "step": self.step or None,
            "surprise": dict(self.surprise),
            "labelled": dict(self.labelled),
            "sites": dict(self.sites),
            "sizes": dict(self.sizes),
            "norms": dict(self.norms),
            "usual": dict(self.usual),
            "output": None if self.bundle is None else str(self.output),
            "to_label": list(self.to_label),
            "notes": list(self.notes),
        }


@one_run_of
def adapt_model(config: AdaptConfig, progress: Progress | None = None) -> Adapted:
    """Measure the cells of a new site, tell what labels bring, and write what was asked for.

    Of a model of patients it is these who are labelled, judged and chosen.

    Raises
    ------
    LeakageError : the model has been trained on some of these images or subjects, and ``allow_leakage`` is off.
    UsageError : labels that the model does not know, or nothing to learn from.
    """
    if config.output is not None:
        check_writable(config.output, force=config.force)
    bundle = load_model(config.model).with_own(config.own)
    dataset = _load(config, bundle, progress)
    bundle = state_classes(bundle, config.site_classes, list(dataset.each("source")), config.classes)
    study, notes = _measure(config, bundle, dataset, progress)
    cells = _cells(bundle, study)
    judged = study.cells or study.table
    notes = (*notes, *misnamed(bundle, judged), *silent_blocks(bundle, judged), *_mixed(bundle, dataset, study, cells))
    labelled = np.flatnonzero(cells.codes >= 0)
    normaliser, sizes = _scaled_sites(config, bundle, dataset, progress)
    _check_one_site(bundle, cells)
    at_site, norms = at_home(bundle.model, cells)
    if config.output is not None and not len(labelled) and not sizes and not norms:
        _check_learns_of_sites(config, bundle, cells)
    bundle = replace(bundle, model=at_site)
    cells = with_head_inputs(at_site, cells)
    blocks = study.table.blocks
    counts = {name: int((cells.codes == at).sum()) for at, name in enumerate(bundle.classes)}
    curve, of_curve = _curve(config, bundle.model, blocks, cells, counts, progress) if len(labelled) else ([], ())
    notes = (*notes, *of_curve)
    step, surprise = choose_step(bundle.model, blocks, cells, labelled, config.seed) if len(labelled) else ("", {})
    adapted, sites, usual = None, {}, {}
    if config.output is not None:
        kept = {"sizes": sizes, "norms": norms}
        adapted = replace(_adapted_bundle(bundle, study, dataset, cells, step, curve, kept), normaliser=normaliser)
        sites, usual = (adapted.facts["adapted"][name] for name in ("sites", "usual"))
        if usual and not (step or sites or sizes or norms):
            notes = (*notes, f"What the model says of {_plural(cells)} is as it was: only what is out of distribution.")
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
        sizes if adapted is not None else {},
        norms if adapted is not None else {},
        usual,
        config.output,
        adapted,
        chosen,
        config.to_label,
        (*dataset.notes, *notes),
        study.faults,
        _plural(cells),
    )


def _curve(
    config: AdaptConfig,
    model: FusedModel,
    blocks: Mapping[str, slice],
    cells: SiteCells,
    counts: Mapping[str, int],
    progress: Progress | None,
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """What labels bring, see ``label_curve``, and what to note where they are too few to tell.

    Parameters
    ----------
    counts : labelled ones of each class.
    """
    if missing := [name for name, count in counts.items() if not count]:
        return [], (f"No labelled {_plural(cells)[:-1]} of {', '.join(missing)}: the model stays as it is.",)

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress("adapting", done, total, 0)

    tell_forecast(progress, lambda: forecast_adapting(model, cells, config.k))
    curve = label_curve(model, blocks, cells, config.k, config.seed, tell)
    if len(curve) == len(config.k):
        return curve, ()
    told = ", ".join(str(k) for k in config.k if k not in {row["k"] for row in curve})
    return curve, (f"Too few labelled {_plural(cells)} to show {told} of each class and have others to judge.",)


def _check_learns_of_sites(config: AdaptConfig, bundle: ModelBundle, cells: SiteCells) -> None:
    """Refuse cells without labels where the model could not even keep what their site looks like."""
    units, known = _plural(cells), _trained_in(bundle)
    if new_sites(bundle.model, cells) or (bundle.novelty is not None and sites_to_tell(cells, known)):
        return
    label = "Take --to-label to choose some, label them in the table it writes, and give that as DATA."
    harmoniser, network = bundle.model.harmoniser, bundle.model.classifier
    is_blind = bundle.novelty is None and (harmoniser is None or not harmoniser.transductive)
    if is_blind and not (isinstance(network, MindsSources) and network.judges_together):
        raise UsageError(
            f"no {units[:-1]} of {config.data} is labelled",
            found=f"a model that makes nothing of {units} without labels",
            expected="labels, or a model that keeps what sites look like (--config robust, --config robust-network)",
            do=label,
        )
    counts = Counter(source or "" for source in cells.sources)
    least = f"{LEAST_PATIENTS} or more patients" if cells.unit == "subject" else f"{LEAST_CELLS} or more"
    raise UsageError(
        f"no {units[:-1]} of {config.data} is labelled",
        found=", ".join(f"{count} of {name or 'no named source'}" for name, count in sorted(counts.items())),
        expected=f"{least} of a site that the model does not know",
        do=f"Give more of its {units}, label some, or name their site with --source NAME where none is named.",
    )


def _check_one_site(bundle: ModelBundle, cells: SiteCells) -> None:
    """Refuse two sites where what is kept of one is in the network's own layers."""
    network = bundle.model.classifier
    sites: list[str] = list(network.new_sites(cells.sources)) if isinstance(network, AdaptsToSites) else []
    if len(sites) > 1:
        raise UsageError(
            "a network whose batch norms are the site's is adapted to one site at a time",
            found=", ".join(name or "cells without a source" for name in sites),
            do="Choose one with --sources.",
        )


def _plural(cells: SiteCells) -> str:
    """What is labelled."""
    return "patients" if cells.unit == "subject" else "cells"


def _load(config: AdaptConfig, bundle: ModelBundle, progress: Progress | None) -> Dataset:
    """The cells of the new site, labelled or not; refused where the model knows them, or lacks one of their classes."""
    dataset = read_dataset(config, progress)
    check_usable(len(dataset), dataset.faults)
    if bundle.unit == "subject":
        dataset = label_by_subject(dataset, needs_labels=False)
    dataset = dataset.select(config.classes, config.folds, config.sources)
    check_known_classes(dataset, bundle.classes)
    overlap = find_overlap(bundle.provenance, dataset, Cohort(config.other_cohort, config.source))
    if overlap.rows and not config.allow_leakage:
        raise refusal(str(config.model), overlap, dataset)
    return dataset


def _measure(
    config: AdaptConfig, bundle: ModelBundle, dataset: Dataset, progress: Progress | None
) -> tuple[Study, tuple[str, ...]]:
    store = FeatureStore(config.store)
    shown, adapted = as_trained(bundle.normaliser, dataset, store, jobs=config.jobs, progress=progress)
    stored = are_many(dataset, bundle.blocks, bundle.unit)
    study = Study.of(shown, bundle.blocks, bundle.transforms, store, jobs=config.jobs, progress=progress, stored=stored)
    check_usable(len(study), study.faults)
    if bundle.unit == "cell":
        return study, tuple(adapted)
    unreadable = note_unreadable_patients(study.faults, study.table.subjects, study.table.sources)
    return study.by_subject(), (*adapted, *unreadable)


def _cells(bundle: ModelBundle, study: Study) -> SiteCells:
    places = {name: at for at, name in enumerate(bundle.classes)}
    table = study.table
    codes = np.array([-1 if label is None else places[str(label)] for label in table.y], np.intp)
    X = table.X
    for transform in bundle.transforms:
        X = study.inputs(transform, list(table.blocks), study.everyone)
    return SiteCells(X, codes, table.groups, table.sources)


def _scaled_sites(
    config: AdaptConfig, bundle: ModelBundle, dataset: Dataset, progress: Progress | None
) -> tuple[Normaliser | None, dict[str, int]]:
    """The model's normaliser with the scales of new sites, and by how many cells each is told that it had not."""
    store = FeatureStore(config.store)
    normaliser = knowing_sources(bundle.normaliser, dataset, store, jobs=config.jobs, progress=progress)
    if normaliser is None or bundle.normaliser is None:
        return normaliser, {}
    counts = Counter(source or "" for source in dataset.each("source"))
    return normaliser, {
        name: counts[name] for name in sorted(normaliser.sources.keys() - bundle.normaliser.sources.keys())
    }


def _mixed(bundle: ModelBundle, dataset: Dataset, study: Study, cells: SiteCells) -> list[str]:
    """Stamps of sources that may be two, where the model harmonises by source."""
    if bundle.model.harmoniser is None or bundle.unit == "subject":
        return []
    return mixed_sources(dataset, study.table, predict(bundle.model, cells).argmax(axis=1).tolist())


def _adapted_bundle(
    bundle: ModelBundle,
    study: Study,
    dataset: Dataset,
    cells: SiteCells,
    step: str,
    curve: Sequence[Mapping[str, Any]],
    kept: Mapping[str, Mapping[str, int]],
) -> ModelBundle:
    """The model by all labelled cells, which it remembers having met; without a step, by what its sites look like.

    ``kept`` is what else it keeps of its sites, by how many cells.
    """
    labelled = np.flatnonzero(cells.codes >= 0)
    step = step or STEPS[0]
    model = adapt(bundle.model, study.table.blocks, cells, labelled, step)
    met = _keys_of_cells(study, labelled)
    new = Provenance.of(sample for sample in dataset.samples if sample.key in met)
    old = bundle.provenance
    both = Provenance(*(getattr(old, name) | getattr(new, name) for name in Provenance.__dataclass_fields__))
    if step == "fine-tuned" and isinstance(model.classifier, LearnsBlock):
        model.classifier.remember(new.to_json())
    used = labelled if step in STEPS[2:] and cells.unit == "cell" else np.arange(len(cells.codes))
    novelty, usual = bundle.novelty, dict[str, int]()
    if novelty is not None:
        novelty, usual = with_usual_distances(novelty, model, cells, _trained_in(bundle))
    facts = {
        **bundle.facts,
        "adapted": {
            "step": step,
            _plural(cells): len(labelled),
            **{name: dict(counts) for name, counts in kept.items()},
            "sites": _new_maps(bundle, model, cells, used),
            "usual": usual,
            "curve": list(curve),
        },
    }
    is_other = step == "refitted" and cells.given is None
    classifier = head_of(cells.unit) if is_other else bundle.classifier
    # What was promised rests on scores of the model as it was.
    promises = bundle.promises if step == STEPS[0] else None
    return replace(
        bundle,
        model=model,
        classifier=classifier,
        provenance=both,
        facts=facts,
        promises=promises,
        novelty=novelty,
    )


def _trained_in(bundle: ModelBundle) -> set[str]:
    """The sites that a model was trained in, or adapted to before; "" where none was named."""
    harmoniser = bundle.model.harmoniser
    known = bundle.facts["facts"].get("sources", {""}) if harmoniser is None else harmoniser.maps
    return {*known, *(bundle.novelty.sites if bundle.novelty is not None else ())}


def _keys_of_cells(study: Study, rows: NDArray[np.intp]) -> set[str]:
    """The keys of these cells, or of all cells of these patients."""
    if study.cells is None:
        return {study.table.keys[row] for row in rows.tolist()}
    return {study.cells.keys[at] for row in rows.tolist() for at in study.table.cells[row].tolist()}


def _new_maps(bundle: ModelBundle, model: FusedModel, cells: SiteCells, rows: NDArray[np.intp]) -> dict[str, int]:
    """Of how many cells each site's map is that the model has and had not; ``rows`` are what maps were made by."""
    if model.harmoniser is None or bundle.model.harmoniser is None:
        return {}
    new = model.harmoniser.maps.keys() - bundle.model.harmoniser.maps.keys()
    counts = dict.fromkeys(sorted(new), 0)
    for row in rows.tolist():
        if (name := cells.sources[row] or "") in counts:
            counts[name] += len(cells.X.rows[row]) if cells.unit == "subject" else 1
    return counts


def _choose(bundle: ModelBundle, study: Study, cells: SiteCells, count: int) -> tuple[str, ...]:
    """Names of the unlabelled cells or patients to label, of all if every one is labelled."""
    open_ = np.flatnonzero(cells.codes < 0)
    proba = predict(bundle.model, cells)
    fused = fused_features(bundle.model, cells)
    if cells.unit == "subject":
        fused = np.concatenate([some.mean(some.stacked) for some in fused.batches()])
    rows = choose_cells(proba, fused, count, open_ if len(open_) else None)
    return tuple(study.table.names[row] for row in rows.tolist())


def _rows(dataset: Dataset, chosen: Sequence[str], table: Path) -> list[list[object]]:
    """The data set as a table that Fusion reads, with an empty label for the chosen ones, whose cells come first; where
    these are patients in the column ``subject_label``."""
    rank = {name: at for at, name in enumerate(chosen)}
    if dataset.unit == "cell":
        names = [dataset.name_of(sample) for sample in dataset.samples]
    else:
        who = identities(list(dataset.each("subject")), list(dataset.each("source")))
        names = [format_subject(one) for one in who if one is not None]
    order = sorted(range(len(names)), key=lambda at: rank.get(names[at], len(rank)))
    samples: list[Sample] = [dataset.samples[at] for at in order]
    told = {"to_label": ["yes" if names[at] in rank else "" for at in order]}
    if dataset.unit == "subject":
        told["subject_label"] = [sample.label or "" for sample in samples]
        samples = [replace(sample, label=sample.cell_label, subject_label=None) for sample in samples]
    return table_rows(samples, table.parent, told)
