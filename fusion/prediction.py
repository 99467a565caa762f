"""Using a trained model: on labelled cells it has not seen (evaluate), and on any cells (predict)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.bundle import ModelBundle
from fusion.config import EvaluateConfig, PredictConfig, write_config
from fusion.datasets import Dataset, Fault, load_dataset
from fusion.errors import UsageError
from fusion.extraction import Progress
from fusion.metrics import called
from fusion.normalising import describe, told
from fusion.pictured import gather, load_model
from fusion.provenance import check_unseen
from fusion.results import UNKNOWN_SUBJECTS, Result, Scores, check_result_folder, judge
from fusion.splits import LeakageError, Split
from fusion.store import FeatureStore
from fusion.subjects import recognises
from fusion.table import FeatureTable
from fusion.training import facts, load_labelled

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Predictions:
    """Class probabilities of n cells.

    ``proba`` is float64 (n, classes); ``table`` says who the rows are; ``faults`` are the pictures skipped; from a
    probability ``cut`` on of the class ``positive``, a cell is called that; ``notes`` are for the user.
    """

    table: FeatureTable
    classes: tuple[str, ...]
    proba: NDArray[np.float64]
    faults: tuple[Fault, ...]
    root: Path
    positive: str | None = None
    cut: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def predicted(self) -> list[str]:
        """The class that each cell is called: the most probable one, or by the model's threshold."""
        cuts = None if self.cut is None else np.full(len(self.proba), self.cut)
        column = None if self.positive is None else self.classes.index(self.positive)
        return [self.classes[at] for at in called(self.proba, cuts, column)]

    def to_frame(self) -> pd.DataFrame:
        """DataFrame: name, key, class, and p_<class> for every class."""
        import pandas as pd

        head = {"name": self.table.names, "key": self.table.keys, "class": self.predicted}
        return pd.DataFrame(head | {f"p_{label}": self.proba[:, at] for at, label in enumerate(self.classes)})


def evaluate(config: EvaluateConfig, progress: Progress | None = None) -> Result:
    """Score labelled cells with a trained model, and write the result.

    Raises
    ------
    LeakageError : the model has been trained on some of these pictures or subjects, and ``allow_leakage`` is off.
    UsageError : labels that the model does not know.
    BundleError, FusionError : the model or the data cannot be read.
    """
    check_result_folder(config.output)
    bundle = load_model(config.model)
    dataset = _only_known_classes(load_labelled(config, progress), bundle)
    seen = _seen(dataset, bundle)
    if seen and not config.allow_leakage:
        raise _leakage(dataset, seen, config)
    # What the classifier itself has seen is said by the bundle; but its weights may have learnt from more before.
    learners = [*bundle.extractors, *([] if seen else [bundle.model.classifier])]
    known = check_unseen(learners, dataset, allow=config.allow_leakage)
    store = FeatureStore(config.store)
    seen_as, adapted = _as_trained(bundle, dataset, store, config.jobs, progress)
    found = gather(
        seen_as, bundle.extractors, bundle.model.classifier, store,
        jobs=config.jobs, progress=progress, blocks=bundle.blocks,
    )  # fmt: skip
    table = found.table
    proba = bundle.judge(found)
    adapted += _harmonised(bundle, table)
    cut = None if bundle.model.cut is None else np.full(len(table), bundle.model.cut)
    scores = Scores(found.features, bundle.classifier, proba, np.zeros(len(table), np.intp), cut)
    figures = judge(table, scores, bundle.classes, bundle.positive, bootstrap=config.bootstrap, seed=config.seed)
    everything = Split(np.empty(0, np.intp), np.arange(len(table)), table.groups)
    stamps = [*known, *adapted] if table.subjects_known else [*known, *adapted, UNKNOWN_SUBJECTS]
    if seen:
        stamps.append(f"leaky: the model was trained on {len(seen)} of these pictures or on their subjects")
    result = Result(
        command="evaluate",
        cells=table,
        classes=tuple(bundle.classes),
        positive=bundle.positive,
        scores=(scores,),
        figures=(figures,),
        config=write_config(config),
        stamps=tuple(stamps),
        notes=dataset.notes,
        faults=found.faults,
        facts=facts(dataset, table, [everything], "external"),
    )
    result.save(config.output, dataset.root)
    return result


def predict(config: PredictConfig, progress: Progress | None = None) -> Predictions:
    """Class probabilities for pictures, folders of pictures or tables, labelled or not.

    Raises
    ------
    BundleError : the model cannot be read.
    DatasetError : a path that is nothing Fusion can read.
    """
    bundle = load_model(config.model)
    dataset = _collect(config.images, config.store, progress).with_source(config.source)
    store = FeatureStore(config.store)
    seen_as, adapted = _as_trained(bundle, dataset, store, config.jobs, progress)
    found = gather(
        seen_as, bundle.extractors, bundle.model.classifier, store,
        jobs=config.jobs, progress=progress, blocks=bundle.blocks,
    )  # fmt: skip
    proba = bundle.judge(found) if len(found.table) else np.empty((0, len(bundle.classes)))
    adapted += _harmonised(bundle, found.table)
    return Predictions(
        found.table, tuple(bundle.classes), proba, found.faults, dataset.root, bundle.positive, bundle.model.cut,
        tuple(adapted),
    )  # fmt: skip


def _as_trained(
    bundle: ModelBundle, dataset: Dataset, store: FeatureStore, jobs: int, progress: Progress | None
) -> tuple[Dataset, list[str]]:
    """The data set with its pixels normalised as the model's training cells were, and stamps."""
    if bundle.normaliser is None:
        return dataset, []
    described = describe(dataset, store, jobs=jobs, progress=progress)
    return described.adjusted(bundle.normaliser), told(bundle.normaliser, described.looks)


def _harmonised(bundle: ModelBundle, table: FeatureTable) -> list[str]:
    """Stamps of what the model does by source; where neither side names one, cells pass for those of training."""
    harmoniser = bundle.model.harmoniser
    stamps = [] if harmoniser is None else harmoniser.told(table.sources)
    known = {*(harmoniser.maps if harmoniser else ()), *(bundle.normaliser.sources if bundle.normaliser else ())}
    if "" in known and None in table.sources:
        stamps.append(
            "no source named: taken for the laboratory that the model was trained in; if it is another one, "
            "say --set source=NAME"
        )
    return stamps


def _collect(images: Sequence[Path], store: Path | None, progress: Progress | None) -> Dataset:
    """One data set of all the paths; names stay as the user typed them."""

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress("reading", done, total, 0)

    parts = [load_dataset(path, part="all" if path.is_dir() else None, store=store, progress=tell) for path in images]
    return Dataset(
        root=parts[0].root if len(parts) == 1 else Path(),
        layout=parts[0].layout,
        samples=tuple(sample for part in parts for sample in part.samples),
        faults=tuple(fault for part in parts for fault in part.faults),
        notes=tuple(note for part in parts for note in part.notes),
    )


def _only_known_classes(dataset: Dataset, bundle: ModelBundle) -> Dataset:
    unknown = sorted(set(dataset.classes) - set(bundle.classes))
    if unknown:
        raise UsageError(
            "labels that the model was not trained on",
            found=", ".join(unknown),
            expected=", ".join(bundle.classes),
            do="Choose classes with --classes.",
        )
    return dataset


def _seen(dataset: Dataset, bundle: ModelBundle) -> list[int]:
    """Positions of samples whose picture, or whose group's pictures or subject, the model was trained on."""
    groups = dataset.groups()
    tainted = {
        group
        for group, sample in zip(groups, dataset.samples, strict=True)
        if sample.image_key in bundle.image_keys or recognises(bundle.subjects, sample.subject, sample.source)
    }
    return [at for at, group in enumerate(groups) if group in tainted]


def _leakage(dataset: Dataset, seen: Sequence[int], config: EvaluateConfig) -> LeakageError:
    subjects = sorted({s for at in seen if (s := dataset.samples[at].subject) is not None})
    names = [dataset.names[at] for at in seen[:3]]
    return LeakageError(
        f"{config.model} was trained on cells of this data set",
        found=f"{len(seen)} of {len(dataset)} pictures"
        + (f", subjects {', '.join(subjects[:5])}" + (", ..." if len(subjects) > 5 else "") if subjects else "")
        + f", such as {', '.join(names)}",
        do="Evaluate on other subjects (--folds), or say --allow-leakage and have it stamped on the result.",
    )
