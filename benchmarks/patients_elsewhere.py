"""Models of patients at a laboratory that they have not learnt from, on patients put together of real cells.

    python -m benchmarks.patients_elsewhere harmonise CELLS [--deals 8] [--classifiers logreg,svm,xgb,pool]
    python -m benchmarks.patients_elsewhere together CELLS [--deals 4]
    python -m benchmarks.patients_elsewhere adapt CELLS [--deals 4]
    python -m benchmarks.patients_elsewhere shares CELLS [--deals 2]
    python -m benchmarks.patients_elsewhere copies IMAGES [--deals 4]

``CELLS`` is what ``fusion extract --features morphology,texture,colour --export`` has written of cells with a column
``source``: those of barcelona, tecom and bccd. Each task learns from patients of one laboratory and asks about those of
another, as often as there are ``--deals``, by ``configs/robust.yaml``. ``harmonise`` changes how cells are harmonised
by site, and who tells what cells are; ``together`` how many patients of the new site are judged at once; ``adapt``
tells what labels of some of 60 patients of the new site bring (``fusion adapt``), beside its own cross-validation;
``shares`` whether intervals of the share of ill patients hold it, estimated without labels as those of cells are;
``copies`` what two augmented versions of each training cell bring, where ``IMAGES`` is a folder of tables of cells,
such as ``tecom.csv``, a laboratory each.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

import fusion
from fusion.analysis.adaptation.curve import label_curve
from fusion.analysis.adaptation.site_cells import SiteCells
from fusion.data.feature_table import FeatureTable
from fusion.data.groups import merge_groups
from fusion.features.blocks import agreed_columns, build_blocks
from fusion.leakage.protocols import make_plan
from fusion.learning.bags import harmonised_bags
from fusion.learning.fused_model import FusedModel
from fusion.learning.learn import learn
from fusion.learning.recipe import Recipe
from fusion.learning.run import Run
from fusion.learning.study import Study
from fusion.metrics.class_shares import ClassShares
from fusion.settings.commands import SynthesizeConfig, TrainConfig
from fusion.settings.learning import HarmoniseSettings
from fusion.synthetic.cells import SyntheticDesign
from fusion.synthetic.constructed_patients import construct_patients
from fusion.workflows.synthesize import make_data_set

BLOCKS = ("morphology", "texture", "colour")
TYPES = ("eosinophil", "lymphocyte", "monocyte", "neutrophil")


@dataclass(frozen=True)
class Laboratory:
    """Patients of one: the ill have these witnesses among the other types, or each nothing but one of two kinds."""

    source: str
    witnesses: tuple[str, ...]
    patients: int
    cells: int

    def draw(self, frame: pd.DataFrame, seed: int) -> FeatureTable:
        """The patients, who know what their cells are."""
        own = frame[(frame["source"] == self.source) & frame["label"].isin(TYPES)].reset_index(drop=True)
        labels = own["label"].astype(str).to_numpy()
        if len(self.witnesses) == 2:
            rows, patients, y = self._of_one_kind(labels, seed)
        else:
            design = SyntheticDesign(subjects=self.patients, cells_per_subject=self.cells, witness_rate=0.3, seed=seed)
            groups = np.unique(own["group"].astype(str), return_inverse=True)[1]
            found = construct_patients(labels.tolist(), groups, self.witnesses, design)
            rows, patients = found.cells, found.patients
            y = [found.subjects[at].label for at in patients.tolist()]
        columns = tuple(name for block in BLOCKS for name in own.columns if name.startswith(f"{block}."))
        names = tuple(f"{self.source} {row}" for row in rows.tolist())
        subjects = tuple(f"{self.source} {patient}" for patient in patients.tolist())
        return FeatureTable(
            X=own[list(columns)].to_numpy(np.float32)[rows],
            columns=columns,
            names=names,
            keys=names,
            image_keys=names,
            y=tuple(y),
            subjects=subjects,
            folds=(None,) * len(names),
            groups=merge_groups(subjects, names),
            subjects_known=True,
            sources=(self.source,) * len(names),
        ).by_subject(labels[rows].tolist())

    def _of_one_kind(self, labels: Any, seed: int) -> tuple[Any, Any, list[str]]:
        rng, rows, y = np.random.default_rng(seed), [], []
        for kind in self.witnesses:
            own = rng.permutation(np.flatnonzero(labels == kind))[: self.cells * (self.patients // 2)]
            own = own[: len(own) // self.cells * self.cells]
            rows += own.tolist()
            y += [kind] * len(own)
        return np.array(rows), np.arange(len(rows)) // self.cells, y


#: What is learnt, and what is asked about.
TASKS = {
    "monocytes, barcelona to tecom": (
        Laboratory("barcelona", ("monocyte",), 50, 18),
        Laboratory("tecom", ("monocyte",), 20, 12),
    ),
    "monocytes, tecom to barcelona": (
        Laboratory("tecom", ("monocyte",), 20, 12),
        Laboratory("barcelona", ("monocyte",), 50, 18),
    ),
    "eosinophils, barcelona to bccd": (
        Laboratory("barcelona", ("eosinophil",), 50, 18),
        Laboratory("bccd", ("eosinophil",), 20, 14),
    ),
    "eosinophils, bccd to barcelona": (
        Laboratory("bccd", ("eosinophil",), 20, 14),
        Laboratory("barcelona", ("eosinophil",), 50, 18),
    ),
    "one kind a patient, barcelona to tecom": (
        Laboratory("barcelona", ("lymphocyte", "monocyte"), 40, 10),
        Laboratory("tecom", ("lymphocyte", "monocyte"), 20, 4),
    ),
    "one kind a patient, tecom to barcelona": (
        Laboratory("tecom", ("lymphocyte", "monocyte"), 20, 4),
        Laboratory("barcelona", ("lymphocyte", "monocyte"), 40, 10),
    ),
}

_EQUAL = HarmoniseSettings(method="standard", transductive=True)
_ESTIMATED = HarmoniseSettings(method="standard", transductive=True, mix="estimated")

#: How cells are harmonised, and whose labels tell what they are.
WAYS = {
    "none": (HarmoniseSettings(), "nobody"),
    "equal": (_EQUAL, "nobody"),
    "estimated by patients": (_ESTIMATED, "patients"),
    "cells labelled, equal": (_EQUAL, "cells"),
    "cells labelled, estimated": (_ESTIMATED, "cells"),
}


def recipe_of(classifier: str, harmonise: HarmoniseSettings) -> Recipe:
    """``configs/robust.yaml`` with this classifier and this harmonisation."""
    robust = yaml.safe_load((Path(__file__).parents[1] / "configs" / "robust.yaml").read_text(encoding="utf-8"))
    config = TrainConfig(data=Path("unused"), features=list(BLOCKS), output=Path("unused"))
    layer = {**robust["layer"], "emphasised": agreed_columns(build_blocks(config), list(BLOCKS))}
    params = robust["classifiers"].get(classifier, {})
    return Recipe(BLOCKS, classifier, params, unit="subject", layer=layer, harmonise=harmonise)


def learnt(table: FeatureTable, classifier: str, way: str) -> FusedModel:
    """The model of these patients."""
    harmonise, who = WAYS[way]
    recipe, bags = recipe_of(classifier, harmonise), table.X
    if who == "nobody":
        table = replace(table, X=replace(bags, labels=None))
    elif who == "patients":
        labels = np.empty(len(bags.cells), object)
        for own, label in zip(bags.rows, table.y, strict=True):
            labels[own] = label
        table = replace(table, X=replace(bags, labels=labels))
        # What cells are is then known to harmonisation alone.
        recipe = replace(recipe, params={"cell_labels": False} if classifier in ("pool", "mil") else recipe.params)
    study = Study(table)
    return learn(study, study.everyone, recipe, Run(Path("unused"))).features


def figures(model: FusedModel, table: FeatureTable, together: int = 0, seed: int = 0) -> tuple[float, float]:
    """Balanced accuracy and AUROC of new patients, so many judged at once; 0 for all."""
    order = np.random.default_rng(seed).permutation(len(table))
    size = together or len(table)
    proba = np.zeros((len(table), 2))
    for start in range(0, len(table), size):
        some = order[start : start + size]
        proba[some] = model.predict_proba(table.X[some], [table.sources[at] for at in some.tolist()])
    y = np.array(table.y, object).astype(str)
    predicted = np.array(model.classes)[proba.argmax(axis=1)]
    return float(balanced_accuracy_score(y, predicted)), float(roc_auc_score(y == model.classes[1], proba[:, 1]))


def deals(frame: pd.DataFrame, task: str, count: int, seed: int) -> Iterator[tuple[FeatureTable, FeatureTable]]:
    """Patients to learn from, and those that are asked about."""
    for deal in range(seed, seed + count):
        first, second = (laboratory.draw(frame, deal) for laboratory in TASKS[task])
        yield first, second


def tell(task: str, found: dict[tuple[str, str], list[tuple[float, float]]]) -> None:
    """Balanced accuracy / AUROC, means over deals, of each classifier (rows) and way (columns)."""
    print(task)
    for classifier in dict.fromkeys(name for name, _ in found):
        shown = [
            f"{way} {np.mean([one[0] for one in own]):.3f}/{np.mean([one[1] for one in own]):.3f}"
            for (name, way), own in found.items()
            if name == classifier
        ]
        print(f"  {classifier:8}", "  ".join(shown), flush=True)


def harmonise(frame: pd.DataFrame, tasks: Sequence[str], classifiers: Sequence[str], count: int, seed: int) -> None:
    """Every way for every classifier."""
    for task in tasks:
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for first, second in deals(frame, task, count, seed):
            for name in classifiers:
                for way in WAYS:
                    found.setdefault((name, way), []).append(figures(learnt(first, name, way), second))
        tell(task, found)


def together(frame: pd.DataFrame, tasks: Sequence[str], classifiers: Sequence[str], count: int, seed: int) -> None:
    """By how many patients of the new site are judged at once and harmonised by one another, be they ever so few."""
    harmonised_bags.LEAST_PATIENTS = 1
    for task in tasks:
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for first, second in deals(frame, task, count, seed):
            for name in classifiers:
                model = learnt(first, name, "equal")
                for size in (1, 2, 3, 5, 8, 12, 0):
                    own = figures(model, second, size, seed)
                    found.setdefault((name, str(size or "all")), []).append(own)
        tell(task, found)


#: The same with as many new patients as there are cells for.
MANY = {
    "monocytes, tecom to barcelona": Laboratory("barcelona", ("monocyte",), 60, 14),
    "eosinophils, bccd to barcelona": Laboratory("barcelona", ("eosinophil",), 60, 14),
    "one kind a patient, tecom to barcelona": Laboratory("barcelona", ("lymphocyte", "monocyte"), 60, 10),
}


def adapt(frame: pd.DataFrame, tasks: Sequence[str], classifiers: Sequence[str], count: int, seed: int) -> None:
    """The curve of ``fusion adapt`` by labelled patients of each class, and what the new site reaches by itself."""
    for task in [name for name in tasks if name in MANY]:
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for deal in range(seed, seed + count):
            first, second = TASKS[task][0].draw(frame, deal), MANY[task].draw(frame, deal)
            second = replace(second, X=replace(second.X, labels=None))
            for name in classifiers:
                model = learnt(first, name, "equal")
                codes = np.searchsorted(model.classes, np.array(second.y, object).astype(str))
                cells = SiteCells(second.X, codes, second.groups, second.sources)
                for row in label_curve(model, second.blocks, cells, (3, 5, 10, 20), deal, lambda _done, _of: None):
                    for step, figure in row["balanced_accuracy"].items():
                        width = (figure["high"] - figure["low"]) / 2
                        found.setdefault((name, f"{row['k']} {step}"), []).append((figure["value"], width))
                recipe = recipe_of(name, HarmoniseSettings())
                splits = tuple(split for _, split in make_plan(second, "grouped", 5, 1, deal).splits)
                own = [learn(Study(second), split.train, recipe, Run(Path("unused"))).features for split in splits]
                right = [figures(one, second.take(split.test))[0] for one, split in zip(own, splits, strict=True)]
                found.setdefault((name, "its own folds"), []).append((float(np.mean(right)), 0.0))
        print("balanced accuracy / half width of its interval; patients of each class, step")
        tell(task, found)


#: Shares of the first class among patients of the new site.
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)


def shares(frame: pd.DataFrame, tasks: Sequence[str], classifiers: Sequence[str], count: int, seed: int) -> None:
    """Of each classifier how often the interval holds the true share, and how far the estimate lies from it."""
    for task in tasks:
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for deal in range(seed, seed + count):
            first, second = TASKS[task][0].draw(frame, deal), MANY.get(task, TASKS[task][1]).draw(frame, deal)
            y, rng = np.array(second.y, object).astype(str), np.random.default_rng(deal)
            of_class = [rng.permutation(np.flatnonzero(y == label)) for label in np.unique(y)]
            for name in classifiers:
                model = learnt(first, name, "equal")
                for share in SHARES:
                    size = int(min(len(of_class[0]) / share, len(of_class[1]) / (1 - share), 40))
                    ill = round(size * share)
                    site = second.take(np.concatenate([of_class[0][:ill], of_class[1][: size - ill]]))
                    proba = model.predict_proba(site.X, site.sources)
                    told = ClassShares.of("new", model.classes, proba, np.full(2, 0.5), np.arange(size))
                    if told.refusal:
                        found.setdefault((name, "refused"), []).append((1.0, float("nan")))
                        continue
                    holds = told.low[0] - 1e-9 <= ill / size <= told.high[0] + 1e-9
                    found.setdefault((name, "told"), []).append((float(holds), abs(told.shares[0] - ill / size)))
        print("interval holds / distance of the estimate")
        tell(task, found)


def copies(tables: Path, tasks: Sequence[str], classifiers: Sequence[str], count: int, seed: int) -> None:
    """With and without augmented cells, by the commands as a user types them."""
    for task in [name for name in tasks if name in MANY]:
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for deal in range(seed, seed + count):
            with tempfile.TemporaryDirectory() as folder:
                for one, name in zip(TASKS[task], ("learnt", "asked"), strict=True):
                    asked = SynthesizeConfig(
                        output=Path(folder) / name,
                        real_cells=tables / f"{one.source}.csv",
                        witnesses=list(one.witnesses),
                        subjects=one.patients,
                        cells=one.cells,
                        witness_rate=0.3,
                        seed=deal,
                    )
                    make_data_set(asked)
                for classifier in classifiers:
                    for per_cell in (0, 2):
                        own = _by_commands(Path(folder), classifier, per_cell)
                        found.setdefault((classifier, f"{per_cell} copies"), []).append(own)
        tell(task, found)


def _by_commands(folder: Path, classifier: str, per_cell: int) -> tuple[float, float]:
    """Balanced accuracy and AUROC of the patients that are asked about; nobody says what cells are."""
    model = folder / f"{classifier}-{per_cell}"
    settings = {
        **yaml.safe_load((Path(__file__).parents[1] / "configs" / "robust.yaml").read_text(encoding="utf-8")),
        "harmonise": {"method": "standard", "transductive": True},
        "augment": {"per_cell": per_cell},
    }
    settings["classifiers"] |= {"pool": {"cell_labels": False}}
    common = {"features": list(BLOCKS), "unit": "subject", "classifier": classifier, "holdout": True, "output": model}
    fusion.train(folder / "learnt" / "patients.csv", config=settings, jobs=1, **common)
    asked = fusion.evaluate(model, folder / "asked" / "patients.csv", output=folder / f"{model.name}-result", jobs=1)
    own = asked.figures[0]["image"]
    return own["balanced_accuracy"]["value"], own["auroc"]["value"]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["harmonise", "together", "adapt", "shares", "copies"])
    parser.add_argument("cells", type=Path)
    parser.add_argument("--deals", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--classifiers", default="logreg,svm,xgb,pool")
    parser.add_argument("--tasks", default=";".join(TASKS))
    given = parser.parse_args()
    if given.what == "copies":
        copies(given.cells, given.tasks.split(";"), given.classifiers.split(","), given.deals, given.seed)
        return
    work = {"harmonise": harmonise, "together": together, "adapt": adapt, "shares": shares}[given.what]
    frame = pd.read_parquet(given.cells)
    work(frame, given.tasks.split(";"), given.classifiers.split(","), given.deals, given.seed)


if __name__ == "__main__":
    main()
