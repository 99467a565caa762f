"""Do sets hold the class of as many new cells and patients as they promise, is a risk held, and what does it cost?

Patients are drawn as traits (`fusion.synthetic.traits`), with effects of their own on all their cells; a logistic
regression is really trained on the cells, and the promises that held-out scores make are looked at on a population
of new patients.

    .venv/bin/python -m benchmarks.promises                     # all, 500 trainings a design: ten minutes
    .venv/bin/python -m benchmarks.promises sets --runs 50

`sets`: coverage of each class at 30, 60 and 100 patients, scored by one model that has met none of them (0 folds) or
held out in five folds. `ways`: 30 patients in five and ten folds, by the thresholds that the folds' scores give the
model of all, as `fusion train` keeps them, and by the folds' own models (CV+). `risk`: in how many trainings at least
95% of the positive patients are referred, and how many are referred in all beside what an oracle would refer, that
knows the scores of the whole population and may miss 5%. `enough`: how right patients are called from more cells of
each, and what `fusion plan` says of it beforehand from the held-out scores of 30 patients with 10 cells.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from fusion.analysis.cells_per_subject import margin_spreads
from fusion.data.feature_table import FeatureTable
from fusion.evaluation.promises.held_out import Asked, HeldOut
from fusion.evaluation.scores import Scores
from fusion.synthetic.cells import SyntheticDesign
from fusion.synthetic.traits import DrawnTraits, draw_traits

_Floats = NDArray[np.float64]

#: Tasks about as hard as real ones: patients are called right in 90 to 95%, cells in 70 to 80%.
TASKS = {
    "patients alike": SyntheticDesign(cells_per_subject=20, class_effect=0.35),
    "patients differ": SyntheticDesign(cells_per_subject=20, class_effect=0.6, subject_effect=2.0),
}
CLASSES = ("all", "hem")

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


class Population:
    """New patients of a task."""

    def __init__(self, design: SyntheticDesign, patients: int = POPULATION, seed: int = 10**6) -> None:
        drawn = draw_traits(replace(design, subjects=patients, seed=seed))
        table, self.who = units_of(drawn)
        self.X, self.y = drawn.X, np.array(table.y)
        self.patients = self.y[np.unique(self.who, return_index=True)[1]]


def trainings(
    design: SyntheticDesign, patients: int, runs: int, folds: int, new: Population
) -> Iterator[tuple[HeldOut, int, _Floats]]:
    """Held-out scores of every training, its seed, and what its model of all patients says of the population.

    ``folds`` of 0: one model of 60 other patients scores these, and the population.
    """
    for seed in range(runs):
        drawn = draw_traits(replace(design, subjects=patients, seed=seed))
        table, who = units_of(drawn)
        y = np.array(table.y)
        if folds:
            proba, fold = held_out(drawn.X, y, who, folds, seed)
            model = LogisticRegression(max_iter=1000).fit(drawn.X, y)
        else:
            others = draw_traits(replace(design, subjects=60, seed=10**5 + seed))
            model = LogisticRegression(max_iter=1000).fit(others.X, others.subject_labels)
            proba, fold = model.predict_proba(drawn.X), np.zeros(len(y), np.intp)
        held = HeldOut.of(table, Scores(("traits",), "logreg", proba, fold), CLASSES)
        yield held, seed, model.predict_proba(new.X)


def coverage(
    design: SyntheticDesign, patients: int, folds: int, runs: int, new: Population, level: float = 0.9
) -> _Floats:
    """float64 (runs, 6): of cells, then of patients, the coverage of all and of hem, and the share of single sets."""
    rows = []
    for held, seed, proba in trainings(design, patients, runs, folds, new):
        own, row = held.own_scores(seed), []
        for kind, p, y in (("cells", proba, new.y), ("subjects", means_of(proba, new.who), new.patients)):
            inside = p >= np.array(own.thresholds(kind, level))
            row += [float(inside[y == label, at].mean()) for at, label in enumerate(CLASSES)]
            row.append(float((inside.sum(axis=1) == 1).mean()))
        rows.append(row)
    return np.array(rows)


def sets(runs: int) -> None:
    """Coverage of each class, of cells and of patients."""
    print("task, patients, folds: coverage of 0.9 sets, cells of all, hem; patients of all, hem; one class")
    for name, design in TASKS.items():
        new = Population(design)
        for patients, folds in ((30, 0), (60, 0), (100, 0), (30, 5), (60, 5), (100, 5)):
            rows = coverage(design, patients, folds, runs, new)
            c, error = rows.mean(axis=0), rows.std(axis=0)[[0, 1, 3, 4]].max() / np.sqrt(runs)
            print(
                f"{name}, {patients}, {folds}: {c[0]:.3f} {c[1]:.3f}; {c[3]:.3f} {c[4]:.3f}; {c[2]:.2f} {c[5]:.2f} "
                f"(error {error:.3f})",
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
    whole = means_of(LogisticRegression(max_iter=1000).fit(drawn.X, y).predict_proba(new.X), new.who)
    by_fold = [means_of(model.predict_proba(new.X), new.who) for model in models]
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
    design: SyntheticDesign, patients: int, confidence: float, runs: int, new: Population, sensitivity: float = 0.95
) -> _Floats:
    """float64 (runs, 3): the share of positive patients that is found, of all that is referred, and the oracle's."""
    asked = Asked(sensitivity=sensitivity, confidence=confidence)
    positives, rows = new.patients == "all", []
    for held, seed, proba in trainings(design, patients, runs, 5, new):
        score = means_of(proba, new.who)[:, 0]
        limit = held.own_scores(seed).risk_threshold("all", asked)
        oracle = np.quantile(score[positives], 1 - sensitivity)
        rows.append([(score[positives] >= limit).mean(), (score >= limit).mean(), (score >= oracle).mean()])
    return np.array(rows)


def risk(runs: int) -> None:
    """How often a risk is held, and its price beside an oracle's."""
    print("task, patients, confidence: trainings that find 0.95; found; referred, oracle's; ratio")
    for name, design in TASKS.items():
        new = Population(design)
        for patients, confidence in ((60, 0.0), (100, 0.0), (200, 0.0), (120, 0.95), (200, 0.95), (400, 0.95)):
            found, referred, least = price(design, patients, confidence, runs, new).T
            print(
                f"{name}, {patients}, {confidence:g}: {(found >= 0.95).mean():.3f}; {found.mean():.3f}; "
                f"{referred.mean():.3f} {least.mean():.3f}; {referred.mean() / least.mean():.2f}",
                flush=True,
            )


def enough(runs: int) -> None:
    """What a pilot of 30 patients with 10 cells says beforehand of more cells, and what is so."""
    print("task, cells: balanced accuracy of patients as a pilot has it (10th to 90th percentile), and as it is")
    counts = (1, 5, 20, 100)
    for name, design in TASKS.items():
        new = {cells: Population(replace(design, cells_per_subject=cells), 500) for cells in counts}
        said: dict[int, list[float]] = {cells: [] for cells in counts}
        found: dict[int, list[float]] = {cells: [] for cells in counts}
        for seed in range(runs):
            drawn = draw_traits(replace(design, subjects=30, cells_per_subject=10, seed=seed))
            table, who = units_of(drawn)
            y = np.array(table.y)
            proba, _ = held_out(drawn.X, y, who, 5, seed)
            of_all = proba[:, 0] - proba[:, 1]
            spreads = margin_spreads(np.where(y == "all", of_all, -of_all), y.tolist(), who)
            model = LogisticRegression(max_iter=1000).fit(drawn.X, y)
            for cells in counts:
                said[cells].append(float(np.mean([each.share_right(cells) for each in spreads.values()])))
                means = means_of(model.predict_proba(new[cells].X), new[cells].who)
                is_right = np.array(CLASSES)[means.argmax(axis=1)] == new[cells].patients
                found[cells].append(
                    float(np.mean([is_right[new[cells].patients == label].mean() for label in CLASSES]))
                )
        for cells in counts:
            low, high = np.quantile(said[cells], [0.1, 0.9])
            print(
                f"{name}, {cells}: {np.mean(said[cells]):.3f} ({low:.3f} to {high:.3f}), {np.mean(found[cells]):.3f}",
                flush=True,
            )


def main() -> None:
    """Read the command line, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=["sets", "ways", "risk", "enough"], help="default all")
    parser.add_argument("--runs", type=int, default=500, help="trainings a design")
    chosen = parser.parse_args()
    for name, run in (("sets", sets), ("ways", ways), ("risk", risk), ("enough", enough)):
        if chosen.what in (None, name):
            run(chosen.runs)


if __name__ == "__main__":
    main()
