"""Do sets hold the class of as many new cells and patients as they promise, is a risk held, and what does it cost?

Patients are drawn as traits (`fusion.synthetic.traits`), with effects of their own on all their cells; models are
really trained, as `fusion train` trains them, and the promises that held-out scores make are looked at on new patients.

    .venv/bin/python -m benchmarks.promises                     # all, 500 trainings a design: half an hour
    .venv/bin/python -m benchmarks.promises sets --runs 50 --classifier pool --first 200000

`sets`: coverage of each class at 30, 60 and 100 patients, scored by one model that has met none of them (0 folds) or
held out in five folds, on the scale of the model of all, as `fusion train` keeps them, and as the folds gave them.
`paired`: the same of patients in folds, less what the deal of the patients has of it, which a tenth of the trainings is
enough for.
`ways`: 30 patients in five and ten folds, by the thresholds that the folds' scores as they are give the model of all,
and by the folds' own models (CV+). `risk`: in how many trainings at least 95% of the positive patients are referred,
and how many are referred in all beside what an oracle would refer, that knows the scores of the whole population and
may miss 5%. `enough`: how right patients are called from more cells of each, and what `fusion plan` says of it
beforehand from the held-out scores of 30 patients with 10 cells.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from fusion.analysis.cells_per_subject import margin_spreads
from fusion.data.feature_table import FeatureTable
from fusion.evaluation.promises.held_out import Asked, HeldOut, OwnScores
from fusion.evaluation.promises.model_scales import LearntScores
from fusion.evaluation.scores import Scores
from fusion.leakage.protocols import make_plan
from fusion.learning.bags.mean_of_cells import takes_bags
from fusion.learning.cross_validation import cross_validate
from fusion.learning.fits import Fits
from fusion.learning.learn import FittedModel, learn
from fusion.learning.recipe import Recipe
from fusion.learning.run import Run
from fusion.learning.study import Study
from fusion.metrics.conformal import set_threshold, subjects_for_risk
from fusion.plugins import registry
from fusion.settings.data import Unit
from fusion.synthetic.cells import SyntheticDesign
from fusion.synthetic.traits import DrawnTraits, draw_traits
from fusion.workflows.training.asked_of_learnt import AsksOfLearnt, own_scores_of

_Floats = NDArray[np.float64]

#: Tasks about as hard as real ones: patients are called right in 90 to 95%, cells in 70 to 80%.
TASKS = {
    "patients alike": SyntheticDesign(cells_per_subject=20, class_effect=0.35),
    "patients differ": SyntheticDesign(cells_per_subject=20, class_effect=0.6, subject_effect=2.0),
}
CLASSES = ("all", "hem")


@dataclass(frozen=True)
class WideDesign(SyntheticDesign):
    """A task with so many further columns, which ``with_columns`` makes."""

    columns: int = 0


#: New patients that every training is looked at on; their own chance is half a point of coverage.
POPULATION = 2000


def units_of(drawn: DrawnTraits) -> tuple[FeatureTable, NDArray[np.intp]]:
    """The cells as commands have them, and the number of each one's patient."""
    who = np.unique(drawn.subjects, return_inverse=True)[1].astype(np.intp)
    table = FeatureTable.of_cells(drawn.X, drawn.columns, [f"{at}" for at in range(len(drawn))])
    names = tuple(drawn.subjects.tolist())
    labels = tuple(drawn.subject_labels.tolist())
    return replace(table, y=labels, subjects=names, subjects_known=True, groups=who), who


def held_out(
    X: NDArray[Any],
    y: NDArray[Any],
    who: NDArray[np.intp],
    folds: int,
    seed: int,
    strata: NDArray[Any] | None = None,
    models: list[LogisticRegression] | None = None,
) -> tuple[_Floats, NDArray[np.intp]]:
    """Probabilities from folds of whole patients, and the fold of each cell; ``strata`` are what patients are, where
    their cells' labels do not say so. The folds' models are added to ``models``."""
    first = np.unique(who, return_index=True)[1]
    of = y if strata is None else strata
    proba, fold = np.empty((len(y), 2)), np.empty(len(y), np.intp)
    for at, (train, test) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=seed).split(first, of[first])):
        learnt, judged = np.isin(who, train), np.isin(who, test)
        model = LogisticRegression(max_iter=1000).fit(X[learnt], y[learnt])
        proba[judged], fold[judged] = model.predict_proba(X[judged]), at
        if models is not None:
            models.append(model)
    return proba, fold


def means_of(proba: _Floats, who: NDArray[np.intp]) -> _Floats:
    """Mean probabilities of each patient."""
    size = np.bincount(who)
    return np.column_stack([np.bincount(who, column) / size for column in proba.T])


def unit_of(classifier: str) -> Unit:
    """What a classifier is given: bags of cells, or cells, of which a patient is then the mean."""
    return "subject" if takes_bags(registry.build_classifier(classifier)) else "cell"


def with_columns(drawn: DrawnTraits, count: int, seed: int) -> DrawnTraits:
    """The same cells with ``count`` further columns, as many features as handcrafted ones are: mixtures of the traits
    and of 40 things that differ between patients and between cells, whatever their class, and noise."""
    who = np.unique(drawn.subjects, return_inverse=True)[1]
    patients, cells, things = int(who.max()) + 1, len(drawn), 40
    mixed = np.random.default_rng(5).normal(size=(drawn.X.shape[1] + things, count)) / 3
    mixed[-things:] *= np.linspace(1.5, 0.2, things)[:, None]
    rng = np.random.default_rng(seed)
    others = rng.normal(size=(patients, things))[who] * 0.7 + rng.normal(size=(cells, things))
    columns = np.hstack([drawn.X, others]) @ mixed
    columns += 0.5 * rng.normal(size=(patients, count))[who] + 0.7 * rng.normal(size=(cells, count))
    names = tuple(f"mixed.{at}" for at in range(count))
    return replace(drawn, X=np.hstack([drawn.X, columns.astype(np.float32)]), columns=(*drawn.columns, *names))


def patients_of(design: SyntheticDesign, classifier: str) -> FeatureTable:
    """The patients of a design as a classifier is given them."""
    drawn = draw_traits(design)
    if isinstance(design, WideDesign):
        drawn = with_columns(drawn, design.columns, design.seed + 77)
    table, _ = units_of(drawn)
    return table.by_subject() if unit_of(classifier) == "subject" else table


def said_of(model: FittedModel, table: FeatureTable) -> _Floats:
    """What a model says of units that it has not met."""
    study = Study(table)
    return model.features.predict_proba(study.rows(model.recipe.blocks, study.everyone), study.sources(study.everyone))


class Population:
    """New patients of a task, as a classifier is given them."""

    def __init__(
        self, design: SyntheticDesign, patients: int = POPULATION, seed: int = 10**6, classifier: str = "logreg"
    ) -> None:
        self.table = patients_of(replace(design, subjects=patients, seed=seed), classifier)
        self.y, self.who = np.array(self.table.y), self.table.subject_numbers
        self.patients = self.y[np.unique(self.who, return_index=True)[1]]

    def said_by(self, model: FittedModel) -> tuple[_Floats, _Floats]:
        """What a model says of every unit, and of every patient."""
        proba = said_of(model, self.table)
        return proba, means_of(proba, self.who)


def learnt(table: FeatureTable, classifier: str, folds: int, seed: int) -> tuple[FittedModel, OwnScores]:
    """A model as ``fusion train`` keeps it, and what its promises rest on."""
    study, plan = Study(table), make_plan(table, "grouped", folds, 1, seed)
    recipe = Recipe(tuple(table.blocks), classifier, unit=unit_of(classifier), positive=CLASSES[0], seed=seed)
    fits = Fits(study, tuple(split for _, split in plan.splits), (recipe,), Run(Path("unused")))
    asking = AsksOfLearnt.of(study, seed)
    (scores,) = cross_validate(replace(fits, asked_learnt=asking.rows), plan, heard=asking.hear)
    model = learn(study, study.everyone, recipe, fits.run)
    return model, own_scores_of(table, scores, model, asking.answers(fits, model), seed)


def of_one_model(
    design: SyntheticDesign, table: FeatureTable, classifier: str, seed: int
) -> tuple[FittedModel, OwnScores]:
    """A model of 60 other patients, and what it says of these."""
    others = patients_of(replace(design, subjects=60, seed=10**5 + seed), classifier)
    study = Study(others)
    recipe = Recipe(tuple(others.blocks), classifier, unit=unit_of(classifier), positive=CLASSES[0], seed=seed)
    model = learn(study, study.everyone, recipe, Run(Path("unused")))
    scores = Scores(("traits",), classifier, said_of(model, table), np.zeros(len(table), np.intp))
    return model, own_scores_of(table, scores, model, None, seed)


def trainings(
    design: SyntheticDesign, patients: int, runs: int, folds: int, classifier: str = "logreg", first: int = 0
) -> Iterator[tuple[FittedModel, OwnScores, int]]:
    """The model of every training, what its promises rest on, and its seed.

    ``folds`` of 0: one model of 60 other patients scores these.
    """
    for seed in range(first, first + runs):
        table = patients_of(replace(design, subjects=patients, seed=seed), classifier)
        if folds:
            yield *learnt(table, classifier, folds, seed), seed
        else:
            yield *of_one_model(design, table, classifier, seed), seed


def coverage(
    design: SyntheticDesign,
    patients: int,
    folds: int,
    runs: int,
    classifier: str = "logreg",
    first: int = 0,
    level: float = 0.9,
) -> _Floats:
    """float64 (runs, 9): of cells, of patients, and of patients by the folds' scores as they are, the coverage of all
    and of hem, and the share of single sets.

    New patients are drawn anew with every training, so that their own chance is no part of the mean.
    """
    rows = []
    for model, own, seed in trainings(design, patients, runs, folds, classifier, first):
        new = Population(design, 200, 10**6 + seed, classifier)
        proba, means = new.said_by(model)
        row: list[float] = []
        for kind, scores, p, y in (
            ("cells", own, proba, new.y),
            ("subjects", own, means, new.patients),
            ("subjects", replace(own, subjects=own.unscaled), means, new.patients),
        ):
            inside = p >= np.array(scores.thresholds(kind, level))
            row += [float(inside[y == label, at].mean()) for at, label in enumerate(CLASSES)]
            row.append(float((inside.sum(axis=1) == 1).mean()))
        rows.append(row)
    return np.array(rows)


def sets(runs: int, classifier: str, first: int, sizes: Sequence[int], columns: int) -> None:
    """Coverage of each class, of cells and of patients."""
    print(
        "classifier, task, patients, folds: coverage of 0.9 sets, cells of all, hem, one class; patients of all, hem, "
        "one class; the same by scores as the folds gave them"
    )
    for name, task in TASKS.items():
        design = WideDesign(**asdict(task), columns=columns) if columns else task
        for patients, folds in ((size, folds) for folds in (0, 5) for size in sizes):
            if not folds and classifier != "logreg":
                continue  # exact whatever the classifier
            rows = coverage(design, patients, folds, runs, classifier, first)
            told = "; ".join("{:.3f} {:.3f} {:.2f}".format(*part) for part in rows.mean(axis=0).reshape(3, 3))
            error = rows.std(axis=0)[[0, 1, 3, 4, 6, 7]].max() / np.sqrt(runs)
            print(f"{classifier}, {name}, {patients}, {folds}: {told} (error {error:.3f})", flush=True)


@dataclass(frozen=True, eq=False)
class Training:
    """One training of which all models were kept: held-out scores, the folds' models and the kept one, its promises."""

    held: HeldOut
    by_folds: list[FittedModel]
    kept: FittedModel
    own: OwnScores

    @classmethod
    def of(cls, table: FeatureTable, classifier: str, seed: int) -> Training:
        """As ``learnt``, whose numbers it has."""
        study, plan = Study(table), make_plan(table, "grouped", 5, 1, seed)
        recipe = Recipe(tuple(table.blocks), classifier, unit=unit_of(classifier), positive=CLASSES[0], seed=seed)
        run = Run(Path("unused"))
        by_folds = [learn(study, split.train, recipe, run) for _, split in plan.splits]
        kept = learn(study, study.everyone, recipe, run)
        proba, fold = np.empty((len(table), 2)), np.empty(len(table), np.intp)
        said = np.full((len(by_folds), len(table), 2), np.nan)
        for at, (model, (_, split)) in enumerate(zip(by_folds, plan.splits, strict=True)):
            proba[split.test], fold[split.test] = model.predict_proba(split.test), at
            said[at, split.train] = model.predict_proba(split.train)
        scores = Scores(("traits",), classifier, proba, fold)
        known = LearntScores(dict(enumerate(said)), kept.predict_proba(study.everyone))
        return cls(HeldOut.of(table, scores, CLASSES), by_folds, kept, own_scores_of(table, scores, kept, known, seed))


def expected_coverage(own: _Floats, said: _Floats, level: float) -> float:
    """The share of new scores in a set, on average over the draw by which the rank is rounded."""
    up = (len(own) + 1) * level % 1
    shares = [(said >= set_threshold(own, level, draw)).mean() for draw in (0.0, 1 - 1e-6)]
    return float((1 - up) * shares[0] + up * shares[1])


def paired_coverage(
    design: SyntheticDesign, patients: int, runs: int, classifier: str, first: int = 0, level: float = 0.9
) -> _Floats:
    """float64 (runs, 2, 3): of patients of all and of hem the coverage on the scale of the model of all, by the folds'
    scores as they are, and by true scales: every held-out score becomes that quantile of the new patients' scores, by
    the model of all, which it is of them by its fold's model. What the last one has beside the level is chance of who
    was dealt, and the others have it too."""
    rows = []
    for seed in range(first, first + runs):
        of = Training.of(patients_of(replace(design, subjects=patients, seed=seed), classifier), classifier, seed)
        new = Population(design, 400, 10**6 + seed, classifier)
        means, by_folds = new.said_by(of.kept)[1], [new.said_by(model)[1] for model in of.by_folds]
        row = []
        for code, label in enumerate(CLASSES):
            said, held = means[new.patients == label, code], of.held.subject_codes == code
            at = zip(of.held.means[held, code], of.held.subject_folds[held], strict=True)
            ranks = [(by_folds[fold][new.patients == label, code] < score).mean() for score, fold in at]
            found = (of.own.subjects[code], of.own.unscaled[code], np.quantile(said, ranks))
            row.append([expected_coverage(np.array(own), said, level) for own in found])
        rows.append(row)
    return np.array(rows)


def paired(runs: int, classifier: str, first: int, sizes: Sequence[int], level: float = 0.9) -> None:
    """Coverage of patients of each class, less what the deal has of it."""
    print("classifier, task, patients: 0.9 sets of patients of all, hem; by scores as the folds gave them (error)")
    for name, design in TASKS.items():
        for patients in sizes:
            rows = paired_coverage(design, patients, runs, classifier, first)
            less = level + rows[:, :, :2] - rows[:, :, 2:]
            a, b = less.mean(axis=0).T
            error = less.std(axis=0).max() / np.sqrt(runs)
            print(
                f"{classifier}, {name}, {patients}: {a[0]:.3f} {a[1]:.3f}; {b[0]:.3f} {b[1]:.3f} (error {error:.3f})",
                flush=True,
            )


def by_folds_models(
    own: tuple[_Floats, NDArray[np.intp]], proba: list[_Floats], code: int, level: float, draw: float
) -> NDArray[np.bool_]:
    """Whether a class is in each new one's set by CV+: a fold's held-out scores are compared with what the same fold's
    model says of the new one, and over folds it is counted how many of them are not above it.

    Source: Vovk (2015), Ann. Math. Artif. Intell. 74:9-28; Barber, Candès, Ramdas and Tibshirani (2021), Ann. Statist.
    49:486-507. ``own`` are scores of a class and their folds, ``proba`` the folds' float64 (n, K) of the new ones.
    """
    scores, folds = own
    passed = sum(
        np.searchsorted(np.sort(scores[folds == at]), said[:, code], side="right") for at, said in enumerate(proba)
    )
    allowed = len(scores) - np.floor((len(scores) + 1) * level + draw + 1e-9)  # held-out scores above it, at most
    return np.asarray(passed > allowed)


def ways_of(design: SyntheticDesign, patients: int, folds: int, seed: int, level: float = 0.9) -> list[float]:
    """Coverage of patients of all and of hem, and the share of single sets: by the model of all, and by the folds'.

    New patients are drawn anew with every training, so that their own chance is no part of the mean.
    """
    drawn = draw_traits(replace(design, subjects=patients, seed=seed))
    new = Population(design, 100, seed=10**6 + seed)
    table, who = units_of(drawn)
    y = np.array(table.y)
    models: list[LogisticRegression] = []
    proba, fold = held_out(drawn.X, y, who, folds, seed, models=models)
    held = HeldOut.of(table, Scores(("traits",), "logreg", proba, fold), CLASSES)
    whole = means_of(LogisticRegression(max_iter=1000).fit(drawn.X, y).predict_proba(new.table.X), new.who)
    by_fold = [means_of(model.predict_proba(new.table.X), new.who) for model in models]
    own = held.own_scores(seed)
    row: list[float] = []
    both = np.empty((2, *whole.shape), bool)
    both[0] = whole >= np.array(own.thresholds("subjects", level))
    for code in range(len(CLASSES)):
        of_class = held.subject_codes == code
        scores = held.means[of_class, code], held.subject_folds[of_class]
        both[1, :, code] = by_folds_models(scores, by_fold, code, level, own.draws[code][1])
    for inside in both:
        row += [float(inside[new.patients == label, at].mean()) for at, label in enumerate(CLASSES)]
        row.append(float((inside.sum(axis=1) == 1).mean()))
    return row


def ways(runs: int) -> None:
    """Sets by the model of all with the folds' scores, and by the folds' models."""
    print("task, patients, folds: coverage of 0.9 sets of patients, all, hem, one class: model of all; folds' models")
    for name, design in TASKS.items():
        for patients, folds in ((30, 5), (30, 10)):
            rows = np.array([ways_of(design, patients, folds, seed) for seed in range(runs)])
            c, error = rows.mean(axis=0), rows[:, [0, 1, 3, 4]].std(axis=0).max() / np.sqrt(runs)
            print(
                f"{name}, {patients}, {folds}: {c[0]:.3f} {c[1]:.3f} {c[2]:.2f}; {c[3]:.3f} {c[4]:.3f} {c[5]:.2f} "
                f"(error {error:.3f})",
                flush=True,
            )


def price(
    design: SyntheticDesign,
    patients: int,
    confidences: Sequence[float],
    runs: int,
    new: Population,
    classifier: str = "logreg",
    first: int = 0,
    sensitivity: float = 0.95,
) -> _Floats:
    """float64 (confidences, 3, runs): the share of positive patients that is found, of all that is referred, and the
    oracle's."""
    positives, rows = new.patients == CLASSES[0], []
    for model, own, _ in trainings(design, patients, runs, 5, classifier, first):
        score = new.said_by(model)[1][:, 0]
        least = (score >= np.quantile(score[positives], 1 - sensitivity)).mean()
        row = []
        for confidence in confidences:
            limit = own.risk_threshold(CLASSES[0], Asked(sensitivity=sensitivity, confidence=confidence))
            row.append([(score[positives] >= limit).mean(), (score >= limit).mean(), least])
        rows.append(row)
    return np.moveaxis(np.array(rows), 0, -1)


def risk(runs: int, classifier: str, first: int, sizes: Sequence[int]) -> None:
    """How often a risk is held, and its price beside an oracle's."""
    print("classifier, task, patients, confidence: trainings that find 0.95; found; referred, oracle's; ratio")
    for name, design in TASKS.items():
        new = Population(design, classifier=classifier)
        for patients in sizes:
            confidences = [each for each in (0.0, 0.95) if patients // 2 >= subjects_for_risk(0.05, each or None)]
            found_by = price(design, patients, confidences, runs, new, classifier, first)
            for confidence, (found, referred, least) in zip(confidences, found_by, strict=True):
                print(
                    f"{classifier}, {name}, {patients}, {confidence:g}: {(found >= 0.95).mean():.3f}; "
                    f"{found.mean():.3f}; {referred.mean():.3f} {least.mean():.3f}; "
                    f"{referred.mean() / least.mean():.2f}",
                    flush=True,
                )


def enough(runs: int, first: int, folds: int = 5) -> None:
    """What a pilot of 30 patients with 10 cells says beforehand of more cells, and what is so."""
    print(
        "task, cells: balanced accuracy of patients as a pilot has it (10th to 90th percentile); as its folds' models "
        "have it of new patients, and as the model of all has"
    )
    counts = (1, 5, 20, 100)
    for name, design in TASKS.items():
        found = np.array([_forecast(design, counts, folds, seed) for seed in range(first, first + runs)])
        for at, cells in enumerate(counts):
            low, high = np.quantile(found[:, 0, at], [0.1, 0.9])
            said, by_folds, by_all = found[:, :, at].mean(axis=0)
            error = (found[:, 0, at] - found[:, 2, at]).std() / np.sqrt(runs)
            print(
                f"{name}, {cells}: {said:.3f} ({low:.3f} to {high:.3f}); {by_folds:.3f}, {by_all:.3f} "
                f"(error of the difference {error:.3f})",
                flush=True,
            )


def _forecast(design: SyntheticDesign, counts: Sequence[int], folds: int, seed: int) -> list[list[float]]:
    """For each number of cells what a pilot says, what the models of its folds have of new patients, and that of all.

    New patients are drawn anew for every pilot: the share of one population's 500 patients that is called right from a
    cell of each has a standard error of 0.02, whatever the number of pilots.
    """
    drawn = draw_traits(replace(design, subjects=30, cells_per_subject=10, seed=seed))
    table, who = units_of(drawn)
    y, models = np.array(table.y), list[LogisticRegression]()
    proba, _ = held_out(drawn.X, y, who, folds, seed, models=models)
    of_all = proba[:, 0] - proba[:, 1]
    spreads = margin_spreads(np.where(y == CLASSES[0], of_all, -of_all), y.tolist(), who)
    models.append(LogisticRegression(max_iter=1000).fit(drawn.X, y))
    found = []
    for cells in counts:
        new = Population(replace(design, cells_per_subject=cells), 100, 10**6 + 10 * seed)
        right = [_share_right(model.predict_proba(new.table.X), new) for model in models]
        said = float(np.mean([each.share_right(cells) for each in spreads.values()]))
        found.append([said, float(np.mean(right[:-1])), right[-1]])
    return np.transpose(found).tolist()


def _share_right(proba: _Floats, new: Population) -> float:
    """Balanced accuracy of new patients by the mean of their cells."""
    is_right = np.array(CLASSES)[means_of(proba, new.who).argmax(axis=1)] == new.patients
    return float(np.mean([is_right[new.patients == label].mean() for label in CLASSES]))


def main() -> None:
    """Read the command line, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=["sets", "paired", "ways", "risk", "enough"], help="default all")
    parser.add_argument("--runs", type=int, default=500, help="trainings a design")
    parser.add_argument("--classifier", default="logreg", help="of sets and of a risk")
    parser.add_argument("--first", type=int, default=0, help="seed of the first training of these")
    parser.add_argument("--patients", type=int, nargs="+", help="of these; default 30 60 100, of a risk 60 to 400")
    parser.add_argument("--columns", type=int, default=0, help="of sets: further columns, beside nine traits")
    chosen = parser.parse_args()
    own = (chosen.runs, chosen.classifier, chosen.first)
    if chosen.what in (None, "sets"):
        sets(*own, chosen.patients or (30, 60, 100), chosen.columns)
    if chosen.what == "paired":
        paired(*own, chosen.patients or (30, 60, 100))
    if chosen.what in (None, "ways"):
        ways(chosen.runs)
    if chosen.what in (None, "risk"):
        risk(*own, chosen.patients or (60, 100, 120, 200, 400))
    if chosen.what in (None, "enough"):
        enough(chosen.runs, chosen.first)


if __name__ == "__main__":
    main()
