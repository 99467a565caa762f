"""Classifiers of patients against each other on patients whose witnesses are known, and against a plain PyTorch loop.

    python -m benchmarks.patients witnesses [--patients 200] [--cells 200] [--rate 0.05] [--effect 0.4]
    python -m benchmarks.patients cohort TABLE [--features morphology,colour] [--store FOLDER]
    python -m benchmarks.patients speed [--patients 1000] [--cells 200] [--columns 2699]
    python -m benchmarks.patients memory

``witnesses`` draws people and cells by their traits (``fusion.synthetic.draw_traits``); at a rate of 1 every cell
carries the label. ``cohort`` takes a table of patients, such as ``fusion synthesize --real-cells`` writes. Both go
the whole road (folds by patient, judgement of the procedure), with ``--permuted`` by labels that have changed hands.
``speed`` fits ``mil`` and a loop that shows one bag at a time to the same network, for the same number of bags;
``memory`` fits a few bags of 5,000 cells with 2,699 columns, and tells the largest resident size.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from fusion.data.feature_table import FeatureTable
from fusion.data.groups import merge_groups
from fusion.data.patients.bags import Bags, split_rows
from fusion.evaluation.result_of_scores import Questions, result_of_scores
from fusion.evaluation.results import Result
from fusion.leakage.protocols import make_plan
from fusion.learning.cross_validation import cross_validate
from fusion.learning.fits import Fits
from fusion.learning.recipe import Recipe
from fusion.learning.run import Run
from fusion.learning.study import Study
from fusion.synthetic.cells import SyntheticDesign
from fusion.synthetic.traits import draw_traits

#: Classifier and parameters by the name under which the figures are told; the first is the one that is compared.
CONTESTANTS = {
    "mil": ("mil", {}),
    "mil top-k": ("mil", {"pooling": "top-k", "share": 0.05}),
    "mil transformer": ("mil", {"pooling": "transformer"}),
    "pool": ("pool", {}),
    "mean of cells": ("logreg", {}),
    "mean of cells, svm": ("svm", {}),
}

#: Columns of drawn patients that tell nothing, beside their nine traits.
NOISE = 11


def drawn(patients: int, cells: int, rate: float, effect: float, seed: int) -> FeatureTable:
    """Patients of two classes, their cells by traits as features; what a cell is, is told to nobody."""
    design = SyntheticDesign(
        subjects=patients, cells_per_subject=cells, witness_rate=rate, class_effect=effect, seed=seed
    )
    found = draw_traits(design, noise=NOISE)
    names, subjects = tuple(map(str, range(len(found.X)))), tuple(map(str, found.subjects))
    return FeatureTable(
        X=found.X,
        columns=found.columns,
        names=names,
        keys=names,
        image_keys=names,
        y=tuple(map(str, found.subject_labels)),
        subjects=subjects,
        folds=(None,) * len(names),
        groups=merge_groups(subjects, names),
        subjects_known=True,
    ).by_subject()


def judged(table: FeatureTable, asked: list[str], folder: Path, repeats: int, seed: int = 0) -> Result:
    """All contestants in the same folds by patient, judged as ``fusion ablate`` judges."""
    plan = make_plan(table, "grouped", 5, repeats, seed)
    classes = sorted({str(label) for label in table.y})
    recipes = [
        Recipe(tuple(table.blocks), CONTESTANTS[name][0], CONTESTANTS[name][1], unit="subject", positive=classes[0])
        for name in asked
    ]
    scores = []
    for name, recipe in zip(asked, recipes, strict=True):
        started = time.process_time()
        fits = Fits(Study(table), tuple(split for _, split in plan.splits), (recipe,), Run(folder))
        (own,) = cross_validate(fits, plan)
        scores.append(replace(own, classifier=name))
        print(f"{name}: {time.process_time() - started:.0f} s of processor", flush=True)
    bare = replace(table, X=np.empty((len(table), 0), np.float32), columns=())
    return result_of_scores("benchmark", bare, classes, classes[0], scores, Questions())


def tell(result: Result) -> None:
    """Balanced accuracy and AUROC of every entry, and the differences from the first one."""
    for scores, figures in zip(result.scores, result.figures, strict=True):
        own = figures["image"]
        shown = ", ".join(
            f"{metric} {own[metric]['value']:.3f} [{own[metric]['low']:.3f}, {own[metric]['high']:.3f}]"
            for metric in ("balanced_accuracy", "auroc")
        )
        print(f"{scores.classifier:20} {shown}")
    frame = result.differences()
    frame = frame[frame["metric"].isin(["balanced_accuracy", "auroc"])]
    columns = ["entry_a", "entry_b", "metric", "difference", "low", "high", "kind"]
    print(frame[columns].round(3).to_string(index=False))


def permuted(table: FeatureTable, seed: int) -> FeatureTable:
    """The same patients with labels that have changed hands."""
    labels = np.random.default_rng(seed).permutation(np.array(table.y, object))
    return replace(table, y=tuple(labels.tolist()))


def bags_of(patients: int, cells: int, columns: int) -> tuple[Bags, np.ndarray]:
    """Bags of noise, a twentieth of whose cells in every other one are shifted in ten columns."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((patients * cells, columns), dtype=np.float32)
    y = np.arange(patients) % 2
    witness = (np.arange(patients * cells) % cells < max(1, cells // 20)) & np.repeat(y == 1, cells)
    X[np.flatnonzero(witness)[:, None], np.arange(10)] += 2
    return Bags(X, split_rows(np.full(patients, cells))), y


def plain_loop(X: Bags, y: np.ndarray, columns: int, bags: int, seconds: float) -> float:
    """Seconds that a loop of one bag a step takes for ``bags`` bags, told from as many as go into ``seconds``."""
    import torch

    from classifiers.patients._pooling import BagNetwork

    torch.manual_seed(0)
    network = BagNetwork(columns, 2, 32, "attention", 0.1, 0.25)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        rows = X.rows[done % len(X)]
        cells = torch.from_numpy(np.asarray(X.cells[rows]))
        scores, _ = network(cells, torch.zeros(len(rows), dtype=torch.int64), 1)
        loss = torch.nn.functional.cross_entropy(scores, torch.tensor([int(y[done % len(X)])]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        done += 1
    return (time.perf_counter() - started) / done * bags


def speed(patients: int, cells: int, columns: int) -> None:
    """One network of ``mil`` and the loop, for bags of the same number, in one run."""
    from classifiers.patients.mil import BagClassifier

    X, y = bags_of(patients, cells, columns)
    # One pass over the four fifths that are learnt from, and the last fifth judged: that is what one pass of mil does.
    loop = plain_loop(X, y, columns, patients * 4 // 5, 20.0)
    started = time.perf_counter()
    # Steps of eight bags; four fifths of the patients are learnt from, and all steps of a pass are gone.
    BagClassifier(members=1, steps=1).fit(X, y, np.arange(patients))
    ours = time.perf_counter() - started
    print(f"{patients} patients x {cells} cells x {columns} columns, one pass: loop {loop:.1f} s, mil {ours:.1f} s")
    print(f"ratio {loop / ours:.2f}; mil has judged the fifth of the patients that it stops by besides")


def memory(columns: int = 2699, cells: int = 5000, patients: int = 10) -> None:
    """The largest resident size while bags of many cells are fitted and judged, beside that of the cells."""
    import resource

    from classifiers.patients.mil import BagClassifier

    X, y = bags_of(patients, cells, columns)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    model = BagClassifier(members=2, steps=40).fit(X, y, np.arange(patients))
    model.attention(X)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{patients} bags of {cells} cells x {columns}: {X.cells.nbytes / 1e6:.0f} MB of cells")
    print(f"resident before {before:.0f} MB, at most {peak:.0f} MB: {peak - before:.0f} MB for fitting and judging")


def measured(file: Path, features: list[str], store: Path | None) -> FeatureTable:
    """The patients of a table, measured, or found in the store."""
    from fusion.settings.commands import TrainConfig
    from fusion.workflows.loading import Inputs, load_training_cells

    config = TrainConfig(data=file, features=features, output=Path("unused"), store=store, unit="subject")
    return Inputs.of(config).measure(load_training_cells(config), config).study.table


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["witnesses", "cohort", "speed", "memory"])
    parser.add_argument("table", nargs="?", type=Path)
    parser.add_argument("--patients", type=int)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--columns", type=int, default=2699)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--effect", type=float, default=0.4)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", default="morphology,colour")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--permuted", action="store_true", help="by labels that have changed hands, and no others")
    parser.add_argument("--contestants", default=";".join(CONTESTANTS))
    given = parser.parse_args()
    if given.what == "speed":
        speed(given.patients or 1000, given.cells, given.columns)
    elif given.what == "memory":
        memory(given.columns)
    else:
        if given.what == "cohort":
            table = measured(given.table, given.features.split(","), given.store)
        else:
            table = drawn(given.patients or 200, given.cells, given.rate, given.effect, given.seed)
        asked = given.contestants.split(";")
        print(table)
        table = permuted(table, given.seed + 1) if given.permuted else table
        tell(judged(table, asked, Path("unused"), given.repeats, given.seed))


if __name__ == "__main__":
    main()
