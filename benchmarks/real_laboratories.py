"""From real laboratories to one that was not learnt from: how far a recipe travels, and which step brings what.

    python -m benchmarks.real_laboratories ../shared/data/four-types.csv --ignore-columns mask
    python -m benchmarks.real_laboratories cells.csv --steps robust,plain --classifiers logreg,svm --home tecom
    python -m benchmarks.real_laboratories cells.csv --embedding mobilenetv2_100.safetensors
    python -m benchmarks.real_laboratories cells.csv --network mobilenetv2_100.safetensors --asked left-out

The table names the laboratory of every cell in a column ``source``. Each laboratory is judged by a model of all others,
by a model of every other one alone, and by folds of its own cells, which is what one could have by labelling them; at
the mix of classes that the table has, and at the mix of healthy blood, where enough cells are there to draw it from.
Balanced accuracy, with 95% intervals over cells (or what ``group`` joins); the spread is that over pairs.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.io.files import sha256
from fusion.leakage.grouped_splits import affordable_splits, grouped_folds
from fusion.learning.learn import FittedModel, learn
from fusion.learning.recipe import Recipe, recipe_of
from fusion.learning.run import Run
from fusion.learning.study import Study
from fusion.metrics.class_shares import ClassShares
from fusion.metrics.judgement import judge_scores
from fusion.settings.commands import AblateConfig
from fusion.settings.loading import read_yaml
from fusion.workflows.loading import Inputs, load_training_cells

CONFIGS = Path(__file__).parents[1] / "configs"

#: Shares among a hundred white cells of healthy blood, of types that the table has. Bain (2015), Blood Cells.
NATURAL = {"neutrophil": 0.6, "lymphocyte": 0.3, "monocyte": 0.07, "eosinophil": 0.03}

#: Draws of the natural mix, which the figures are means over.
DRAWS = 100

_Rows = NDArray[np.intp]


def steps() -> dict[str, dict[str, Any]]:
    """The plain pipeline, ``configs/robust.yaml`` step by step, and what was tried beside it."""
    robust = read_yaml(CONFIGS / "robust.yaml")
    harmonise, weights = {"harmonise": robust["harmonise"]}, {"layer": {"weights": robust["layer"]["weights"]}}
    return {
        "plain": {},
        "less texture": weights,
        "harmonised": harmonise,
        "harmonised, less texture": harmonise | weights,
        "harmonised, less texture, emphasis": harmonise | {"layer": robust["layer"]},
        "robust": robust,
        "robust, equal mix": robust | {"harmonise": {**robust["harmonise"], "mix": "equal"}},
        "robust, inductive": robust | {"harmonise": {"method": "standard"}},
        "robust, by quantiles": robust | {"harmonise": {**robust["harmonise"], "method": "quantile"}},
        "robust, stable features": robust | {"stability": 0.7},
        "robust + median-size": robust | {"normalise": {"scale": "median-size", "diameter": 64}},
        "robust + augmentation": robust | {"augment": {"per_cell": 4}},
    }


def network_steps(weights: Path) -> dict[str, dict[str, Any]]:
    """``configs/robust-network.yaml`` with these weights, and without its scale: then every cell fills its image."""
    whole = read_yaml(CONFIGS / "robust-network.yaml")
    network = whole["classifiers"]["neural"]["network"]
    network["weights"] = str(weights)
    neural = {**whole["classifiers"]["neural"], "network": {k: v for k, v in network.items() if k != "view"}}
    unscaled = {key: value for key, value in whole.items() if key != "normalise"}
    return {"robust-network": whole, "robust-network, no scale": {**unscaled, "classifiers": {"neural": neural}}}


@dataclass(frozen=True, eq=False)
class Laboratories:
    """Measured cells of several laboratories, and the recipe that is judged on them."""

    study: Study
    recipe: Recipe
    run: Run

    @property
    def sources(self) -> NDArray[Any]:
        """object (n,), the laboratory of each cell."""
        return np.array([str(source) for source in self.study.table.sources], object)

    @property
    def labels(self) -> NDArray[Any]:
        """object (n,)."""
        return np.array([str(label) for label in self.study.table.y], object)

    def rows(self, *sources: str) -> _Rows:
        """The cells of these laboratories."""
        return np.flatnonzero(np.isin(self.sources, sources))

    def scores(self, train: _Rows, *tests: _Rows) -> list[NDArray[np.float64]]:
        """What a model of the cells ``train`` says of each other set of cells, which it is shown all together."""
        model = self.model(train)
        order = [model.classes.index(label) for label in self.study.classes]
        return [model.predict_proba(test)[:, order] for test in tests]

    def model(self, train: _Rows) -> FittedModel:
        """The model of these cells."""
        part = sha256(train.tobytes())[:12]  # trainings of networks are kept by it
        return learn(self.study, train, self.recipe, self.run, part=part)

    def held_out(self, rows: _Rows, seed: int = 0) -> NDArray[np.float64]:
        """The same of one laboratory's cells, each by a model of the other folds."""
        groups = self.study.table.groups[rows]
        found = np.zeros((len(rows), len(self.study.classes)))
        count = affordable_splits(self.labels[rows], groups, 5)
        for fold in grouped_folds(self.labels[rows], groups, count, seed):
            (found[fold.test],) = self.scores(rows[fold.train], rows[fold.test])
        return found

    def natural(self, rows: _Rows) -> list[_Rows]:
        """Draws of these cells at the mix of healthy blood; none where a class is missing or has too few."""
        return [rows[at] for at in self.drawn(rows)]

    def drawn(self, rows: _Rows) -> list[_Rows]:
        """The same as positions among ``rows``."""
        labels = self.labels[rows]
        if set(labels) != set(NATURAL):
            return []
        total = int(min(np.count_nonzero(labels == label) / share for label, share in NATURAL.items()))
        counts = {label: round(total * share) for label, share in NATURAL.items()}
        if min(counts.values()) < 3:  # a recall of one or two cells says nothing
            return []
        rng = np.random.default_rng(0)
        draws = [
            [rng.choice(np.flatnonzero(labels == label), n, replace=False) for label, n in counts.items()]
            for _ in range(DRAWS)
        ]
        return [np.sort(np.concatenate(draw)) for draw in draws]

    def judged(self, rows: _Rows, proba: NDArray[np.float64]) -> Mapping[str, float]:
        """Balanced accuracy with its interval."""
        groups = self.study.table.groups[rows]
        found = judge_scores(self.labels[rows], proba, self.study.classes, groups)
        figure: Mapping[str, float] = found.figures["image"]["balanced_accuracy"]
        return figure

    def right(self, rows: _Rows, proba: NDArray[np.float64], classes: Sequence[str]) -> float:
        """Balanced accuracy over the classes that are there, be it a single one."""
        predicted, labels = np.array(classes)[proba.argmax(axis=1)], self.labels[rows]
        return float(np.mean([(predicted[labels == label] == label).mean() for label in set(labels)]))


_Figures = list[tuple[str, Mapping[str, float]]]


def left_out(cells: Laboratories, home: Sequence[str]) -> _Figures:
    """Each laboratory, by a model of all others."""
    every = {source: cells.rows(source) for source in sorted(set(cells.sources))}
    scored = {}
    for source, rows in every.items():
        (scored[source],) = cells.scores(np.setdiff1d(np.arange(len(cells.study)), rows), rows)
    together = np.concatenate(list(every.values()))
    whole = cells.judged(together, np.concatenate(list(scored.values())))
    each = [(f"left out: {source}", cells.judged(rows, scored[source])) for source, rows in every.items()]
    return [("left out, all", whole), *each]


def pairs(cells: Laboratories, home: Sequence[str]) -> _Figures:
    """Each laboratory, by a model of one other; of those in ``home``, or of each."""
    sources = sorted(set(cells.sources))
    found: _Figures = []
    every = {source: cells.rows(source) for source in sources}
    for source in home or sources:
        others = [other for other in sources if other != source]
        draws = {other: cells.natural(every[other]) for other in others}
        tests = [every[other] for other in others] + [rows for other in others for rows in draws[other]]
        answers = iter(cells.scores(every[source], *tests))
        found += [(f"{source} to {other}", cells.judged(every[other], next(answers))) for other in others]
        for other in others:
            values = [cells.judged(rows, next(answers))["value"] for rows in draws[other]]
            if values:
                found.append((f"{source} to {other}, healthy mix", _spread(values)))
    found.append(("one to another, spread", _spread([each["value"] for name, each in found if "mix" not in name])))
    return found


def lacking(cells: Laboratories, home: Sequence[str]) -> _Figures:
    """Each laboratory without one class in turn: by a model of all others, and by one of each other."""
    every = {source: cells.rows(source) for source in sorted(set(cells.sources))}
    found: _Figures = []
    over: dict[str, list[float]] = {label: [] for label in cells.study.classes}
    for source, rows in every.items():
        tests = [rows[cells.labels[rows] != label] for label in over]

        def values(train: _Rows, tests: Sequence[_Rows] = tests) -> list[float]:
            """Balanced accuracy over the other classes, by the class that lacks."""
            proba = cells.scores(train, *tests)
            return [cells.judged(test, each)["value"] for test, each in zip(tests, proba, strict=True)]

        found.append(
            (f"left out: {source}, less a class", _spread(values(np.setdiff1d(np.arange(len(cells.study)), rows))))
        )
        for other in sorted(every.keys() - {source}):
            for label, value in zip(over, values(every[other]), strict=True):
                over[label].append(value)
    return [*found, *((f"one to another, less {label}", _spread(own)) for label, own in over.items())]


def few(cells: Laboratories, home: Sequence[str]) -> _Figures:
    """Cells of each laboratory of some classes alone, with and without being told which: balanced accuracy over these.

    And in which share of such sites one or two classes are suspected, by the number of classes that are there. Without
    a recipe that estimates the mix of classes there is nothing to say.
    """
    classes, sources = list(cells.study.classes), sorted(set(cells.sources))
    found: dict[str, list[float]] = {}
    for source in sources:
        others = {other: cells.rows(other) for other in sources if other != source}
        for name, train in [("left out", np.sort(np.concatenate(list(others.values())))), *others.items()]:
            model = cells.model(train)
            harmoniser = model.features.harmoniser
            if harmoniser is None or harmoniser.mix is None:
                return []
            how = name if name == "left out" else "one to another"
            for count in range(1, len(classes) + 1):
                for present in itertools.combinations(range(len(classes)), count):
                    rows = cells.rows(source)
                    rows = rows[np.isin(cells.labels[rows], np.array(classes)[list(present)])]
                    said = harmoniser.stating({source: np.isin(np.arange(len(classes)), present)})
                    doubted = harmoniser.with_site(source, cells.study.table.X[rows]).maps[source]
                    told = replace(model, features=replace(model.features, harmoniser=said))
                    for kind, value in (
                        ("as told by them", cells.right(rows, model.predict_proba(rows), model.classes)),
                        ("where it is said", cells.right(rows, told.predict_proba(rows), model.classes)),
                        ("suspected", float(harmoniser.mix.may_have_few_classes(doubted))),
                    ):
                        found.setdefault(f"{how}, {count} of {len(classes)} classes, {kind}", []).append(value)
    return [(name, _spread(values)) for name, values in sorted(found.items())]


def shares(cells: Laboratories, home: Sequence[str]) -> _Figures:
    """How often the interval of the estimated share of a class holds the share that cells were drawn by.

    Hundred cells of each laboratory, by models of all others and of each other, at equal shares, at those of healthy
    blood, with 70% of one class, and without one; models are shown them as a new site's.
    """
    classes, sources = list(cells.study.classes), sorted(set(cells.sources))
    mixes = {"equal": dict.fromkeys(classes, 1.0)} | ({"healthy": NATURAL} if set(classes) == set(NATURAL) else {})
    mixes |= {f"much {label}": {each: 7.0 if each == label else 1.0 for each in classes} for label in classes}
    mixes |= {f"no {label}": {each: float(each != label) for each in classes} for label in classes}
    rng = np.random.default_rng(0)
    held: dict[str, list[float]] = {name: [] for name in mixes}
    halves, errors, refused = [], [], []
    supposed = np.full(len(classes), 1 / len(classes))
    for source in sources:
        own = {label: np.flatnonzero((cells.sources == source) & (cells.labels == label)) for label in classes}
        others = [cells.rows(other) for other in sources if other != source]
        for train in (np.sort(np.concatenate(others)), *others):
            truths = {
                name: np.array([mix[label] for label in classes]) / sum(mix.values()) for name, mix in mixes.items()
            }
            draws = [
                np.concatenate(
                    [rng.choice(own[label], n) for label, n in zip(classes, rng.multinomial(100, truth), strict=True)]
                )
                for truth in truths.values()
            ]
            for (name, truth), proba in zip(truths.items(), cells.scores(train, *draws), strict=True):
                found = ClassShares.of(source, classes, proba, supposed, np.arange(len(proba)))
                refused.append(float(bool(found.refusal)))
                if not found.refusal:
                    low, high = np.array(found.low), np.array(found.high)
                    held[name].append(float(((low <= truth) & (truth <= high)).mean()))
                    halves.append(float((high - low).mean() / 2))
                    errors.append(float(np.abs(np.array(found.shares) - truth).mean()))
    every = [value for values in held.values() for value in values]
    told = {"all draws": every, **held}
    return [
        *((f"shares held, {name}", _spread(values)) for name, values in told.items() if values),
        ("shares, half the interval", _spread(halves)),
        ("shares, mean error", _spread(errors)),
        ("shares refused", _spread(refused)),
    ]


def own_folds(cells: Laboratories, home: Sequence[str]) -> _Figures:
    """Each laboratory, by folds of its own cells."""
    found: _Figures = []
    for source in sorted(set(cells.sources)):
        rows = cells.rows(source)
        proba = cells.held_out(rows)
        found.append((f"own folds: {source}", cells.judged(rows, proba)))
        values = [cells.judged(rows[at], proba[at])["value"] for at in cells.drawn(rows)]
        if values:
            found.append((f"own folds: {source}, healthy mix", _spread(values)))
    return found


#: What can be asked, in the order of the report.
ASKED = {"left-out": left_out, "pairs": pairs, "lacking": lacking, "few": few, "shares": shares, "own": own_folds}


def _spread(values: Sequence[float]) -> Mapping[str, float]:
    """Mean, least and most."""
    return {"value": float(np.mean(values)), "low": min(values), "high": max(values)}


def _inputs(options: argparse.Namespace) -> list[tuple[str, dict[str, Any]]]:
    """Sets of blocks by name, and the settings that they need."""
    measured = ["morphology", "texture", "colour"]
    chosen: list[tuple[str, dict[str, Any]]] = [("handcrafted", {"features": measured})]
    if options.embedding is not None:
        network = {"weights": str(options.embedding)}
        chosen.append(("embedding", {"features": ["cnn"], **network}))
        chosen.append(("fused", {"features": [*measured, "cnn"], **network}))
    asked = options.inputs.split(",") if options.inputs else [name for name, _ in chosen]
    return [(name, settings) for name, settings in chosen if name in asked]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--ignore-columns", default="", help="columns that are not used")
    parser.add_argument("--steps", default="plain,harmonised,robust", help=f"of: {', '.join(steps())}")
    parser.add_argument("--classifiers", default="logreg,svm")
    parser.add_argument("--home", default="", help="laboratories that are learnt from alone; default each")
    parser.add_argument("--embedding", type=Path, default=None, help="weights of a backbone, for a frozen embedding")
    parser.add_argument("--inputs", default="", help="of: handcrafted, embedding, fused; default all that there are")
    parser.add_argument("--network", type=Path, default=None, help="weights: configs/robust-network.yaml alone")
    parser.add_argument("--asked", default=",".join(ASKED), help=f"of: {', '.join(ASKED)}")
    parser.add_argument("--store", type=Path, default=None)
    options = parser.parse_args(arguments)
    ignored = tuple(filter(None, options.ignore_columns.split(",")))
    home = [name for name in options.home.split(",") if name]
    with tempfile.TemporaryDirectory() as folder:
        common = {
            "data": options.data,
            "output": Path(folder) / "none",
            "ignore_columns": ignored,
            "store": options.store,
        }
        entries = [
            (f"{name}, {classifier}, {step}", classifier, {**common, **steps()[step], **features})
            for name, features in _inputs(options)
            for step in options.steps.split(",")
            for classifier in options.classifiers.split(",")
        ]
        if options.network is not None:
            networks = network_steps(options.network)
            entries = [(f"network, {step}", "neural", {**common, **settings}) for step, settings in networks.items()]
        for name, classifier, settings in entries:
            config = AblateConfig(compare=[classifier], **settings)
            recipe = recipe_of(config, classifier, config.blocks)
            study = Inputs.of(config).of_recipes([recipe]).measure(load_training_cells(config), config).study
            cells = Laboratories(study, recipe, Run(Path(folder) / name))  # unfinished trainings are an entry's own
            print(f"\n{name}", flush=True)
            for asked in options.asked.split(","):
                for question, figure in ASKED[asked](cells, home):
                    print(
                        f"  {question:42s} {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
