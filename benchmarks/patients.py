"""Classifiers of patients against each other on patients whose witnesses are known, and against a plain PyTorch loop.

    python -m benchmarks.patients witnesses [--patients 200] [--cells 200] [--rate 0.05] [--effect 0.4]
    python -m benchmarks.patients real CELLS --witness ig [--rate 0.1] [--patients 50] [--cells 40]
    python -m benchmarks.patients cohort TABLE [--features morphology,colour] [--store FOLDER]
    python -m benchmarks.patients speed [--patients 1000] [--cells 200] [--columns 2699]
    python -m benchmarks.patients memory
    python -m benchmarks.patients stored --patients 60 --cells 1000 [--held]

``witnesses`` draws people and cells by their traits (``fusion.synthetic.draw_traits``); at a rate of 1 every cell
carries the label. ``real`` puts patients together of the real cells of a table that ``fusion extract --export`` has
written (``fusion.synthetic.constructed_patients``), as often as there are ``--deals``; ``cohort`` takes a table of
patients, such as ``fusion synthesize --real-cells`` writes. All go the whole road (folds by patient, judgement of the
procedure), with ``--permuted`` by labels that have changed hands.
``speed`` fits ``mil`` as it is, and one network by a loop that shows it a bag at a time, and judges patients held out;
``memory`` fits a few bags of 5,000 cells with 2,699 columns, and tells the largest resident size; ``stored`` learns a
model of patients whose cells lie in a feature store, and judges them; with ``--held`` after reading them all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

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
from fusion.synthetic.constructed_patients import construct_patients
from fusion.synthetic.traits import draw_traits

if TYPE_CHECKING:
    from classifiers.patients._pooling import BagNetwork

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


def real(
    file: Path, witness: str, others: list[str], design: SyntheticDesign, features: list[str], *, told: bool = False
) -> FeatureTable:
    """Patients of real cells, half of whom have witnesses among the others; ``told`` tells what every cell is."""
    frame = pd.read_parquet(file)
    labels = frame["label"].astype(str).to_numpy()
    groups = (
        np.unique(frame["group"].astype(str), return_inverse=True)[1] if "group" in frame else np.arange(len(frame))
    )
    found = construct_patients(labels.tolist(), groups, [witness], design, normal=others)
    columns = [name for block in features for name in frame.columns if name.startswith(f"{block}.")]
    names = tuple(map(str, found.cells.tolist()))
    subjects = tuple(map(str, found.patients.tolist()))
    return FeatureTable(
        X=frame[columns].to_numpy(np.float32)[found.cells],
        columns=tuple(columns),
        names=names,
        keys=names,
        image_keys=names,
        y=tuple(found.subjects[at].label for at in found.patients),
        subjects=subjects,
        folds=(None,) * len(names),
        groups=merge_groups(subjects, names),
        subjects_known=True,
    ).by_subject(labels[found.cells].tolist() if told else ())


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


def compared(results: Sequence[Result], metric: str) -> list[str]:
    """Over deals that share nothing: each entry's mean, and how far the first one is ahead of each other one.

    A difference is told as its mean over deals, its standard deviation between them, and in how many of them the
    procedure's 95% interval lies above zero, and below.
    """
    names = [scores.classifier for scores in results[0].scores]
    values = np.array([[own["image"][metric]["value"] for own in result.figures] for result in results])
    lines = [f"{metric} over {len(results)} deals"]
    lines += [
        f"  {name}: {own.mean():.3f} (standard deviation {own.std(ddof=1):.3f})"
        for name, own in zip(names, values.T, strict=True)
    ]
    for name in names[1:]:
        apart, low, high = np.array([_difference(result, names[0], name, metric) for result in results]).T
        lines.append(
            f"  {names[0]} - {name}: {apart.mean():+.3f} (standard deviation {apart.std(ddof=1):.3f}, "
            f"{apart.min():+.3f} to {apart.max():+.3f}); interval above zero in {(low > 0).sum()}, "
            f"below in {(high < 0).sum()} of {len(results)}"
        )
    return lines


def _difference(result: Result, first: str, second: str, metric: str) -> tuple[float, float, float]:
    """How far the first entry is ahead, and the ends of its interval."""
    frame = result.differences()
    frame = frame[frame["metric"] == metric]
    for row in frame[["entry_a", "entry_b", "difference", "low", "high"]].itertuples(index=False):
        if row.entry_a.endswith(f", {first}") and row.entry_b.endswith(f", {second}"):
            return row.difference, row.low, row.high
        if row.entry_a.endswith(f", {second}") and row.entry_b.endswith(f", {first}"):
            return -row.difference, -row.high, -row.low
    raise ValueError(f"{first} and {second} were not compared")


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


def plain_loop(X: Bags, y: np.ndarray, passes: int) -> BagNetwork:
    """A network as ``mil`` has five, on all columns, by a loop that shows it one bag a step."""
    import torch

    from classifiers.patients._pooling import BagNetwork

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = BagNetwork(X.shape[1], 2, 32, "attention", 0.1, 0.25)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.01)
    for at in np.concatenate([rng.permutation(len(X)) for _ in range(passes)]):
        cells = torch.from_numpy(np.asarray(X.cells[X.rows[at]]))
        scores, _ = network(cells, torch.zeros(len(cells), dtype=torch.int64), 1)
        loss = torch.nn.functional.cross_entropy(scores, torch.tensor([int(y[at])]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def speed(patients: int, cells: int, columns: int, passes: int) -> None:
    """The whole of ``mil`` and one network of the loop, in one run, and how well both tell patients held out."""
    import torch
    from sklearn.metrics import roc_auc_score

    from classifiers.patients.mil import BagClassifier

    X, y = bags_of(patients * 5 // 4, cells, columns)
    learnt, held = np.arange(patients), np.arange(patients, len(X))
    print(f"{patients} patients x {cells} cells x {columns} columns: {patients * cells * columns * 4 / 1e9:.1f} GB")
    started = time.perf_counter()
    ours = BagClassifier().fit(X[learnt], y[learnt], learnt)
    first = time.perf_counter() - started
    print(f"mil, five networks: {first:.0f} s, AUROC {roc_auc_score(y[held], ours.predict_proba(X[held])[:, 1]):.3f}")
    started = time.perf_counter()
    network = plain_loop(X[learnt], y[learnt], passes)
    second = time.perf_counter() - started
    with torch.inference_mode():
        said = [
            network(torch.from_numpy(np.asarray(X.cells[X.rows[at]])), torch.zeros(cells, dtype=torch.int64), 1)[0]
            for at in held
        ]
    margins = torch.cat(said).numpy()
    print(
        f"a plain loop, one network, {passes} passes: {second:.0f} s, "
        f"AUROC {roc_auc_score(y[held], margins[:, 1] - margins[:, 0]):.3f}; "
        f"five take {5 * second / first:.1f} times as long as mil"
    )


def memory(columns: int, cells: int = 5000, patients: int = 10) -> None:
    """The largest resident size while bags of many cells are fitted and judged, beside that of the cells."""
    import resource

    from classifiers.patients.mil import BagClassifier

    # What torch and scikit-learn take, whatever the bags.
    small, labels = bags_of(4, 50, 20)
    BagClassifier(members=2, steps=8).fit(small, labels, np.arange(4))
    X, y = bags_of(patients, cells, columns)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    model = BagClassifier(members=2, steps=40).fit(X, y, np.arange(patients))
    model.attention(X)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{patients} bags of {cells} cells x {columns}: {X.cells.nbytes / 1e6:.0f} MB of cells")
    print(f"resident before {before:.0f} MB, at most {peak:.0f} MB: {peak - before:.0f} MB for fitting and judging")


def patients_in_store(folder: Path, patients: int, cells: int, columns: int) -> FeatureTable:
    """``bags_of`` as a store keeps them, a shard a patient."""
    from fusion.features.store import FeatureStore
    from fusion.features.stored_matrix import StoredRows

    store, features = FeatureStore(folder), tuple(f"noise.{at}" for at in range(columns))
    names: list[str] = []
    for patient in range(patients):
        own, _ = bags_of(1, cells, columns)
        rows = np.array(own.cells) + np.random.default_rng(patient).standard_normal(columns, dtype=np.float32)
        rows[: cells // 20 * (patient % 2), :10] += 2
        keys = [f"{patient:05d}-{at:05d}" for at in range(cells)]
        store.write_shard("noise", "0", features, (keys, rows), {}, {})
        names += keys
    block = store.open("noise", "0", features)
    subjects = tuple(name.partition("-")[0] for name in names)
    return FeatureTable(
        X=StoredRows.from_blocks([block], [block.find(names)]),
        columns=features,
        names=tuple(names),
        keys=tuple(names),
        image_keys=tuple(names),
        y=tuple("ill" if int(subject) % 2 else "well" for subject in subjects),
        subjects=subjects,
        folds=(None,) * len(names),
        groups=merge_groups(subjects, names),
        subjects_known=True,
    )


def stored(classifier: str, patients: int, cells: int, columns: int, *, held: bool) -> None:
    """The largest resident size while a model is learnt from patients in a store, and judges them."""
    import resource
    import tempfile

    from fusion.learning.learn import learn

    with tempfile.TemporaryDirectory() as folder:
        table = patients_in_store(Path(folder), patients, cells, columns)
        study = Study(replace(table, X=table.X[:]) if held else table).by_subject()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        params = {"members": 2, "steps": 40} if classifier == "mil" else {}
        recipe = Recipe(blocks=("noise",), classifier=classifier, params=params, unit="subject")
        begun = time.perf_counter()
        model = learn(study, study.everyone, recipe, Run(Path(folder)))
        proba = model.features.predict_proba(study.table.X)
        seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{classifier}: {patients} patients of {cells} cells x {columns}, {4e-6 * len(table) * columns:.0f} MB")
    print(
        f"resident before {before:.0f} MB, at most {peak:.0f} MB; {seconds:.0f} s; {proba[:, 0].round(6).tolist()[:4]}"
    )


def measured(file: Path, features: list[str], store: Path | None) -> FeatureTable:
    """The patients of a table, measured, or found in the store."""
    from fusion.settings.commands import TrainConfig
    from fusion.workflows.loading import Inputs, load_training_cells

    config = TrainConfig(data=file, features=features, output=Path("unused"), store=store, unit="subject")
    return Inputs.of(config).measure(load_training_cells(config), config).study.table


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["witnesses", "real", "cohort", "speed", "memory", "stored"])
    parser.add_argument("table", nargs="?", type=Path)
    parser.add_argument("--patients", type=int)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--columns", type=int, default=2699)
    parser.add_argument("--passes", type=int, default=10, help="of the plain loop over all patients")
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--effect", type=float, default=0.4)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", default="morphology,colour")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--witness", default="ig", help="class of cells that only the ill have")
    parser.add_argument("--others", default="", help="classes of cells that all have; default all other ones")
    parser.add_argument("--told", action="store_true", help="real: cells are labelled, which is the ceiling")
    parser.add_argument("--deals", type=int, default=1, help="how often patients are put together anew")
    parser.add_argument("--permuted", action="store_true", help="by labels that have changed hands, and no others")
    parser.add_argument("--contestants", default=";".join(CONTESTANTS))
    parser.add_argument("--held", action="store_true", help="stored: read all cells into memory before")
    given = parser.parse_args()
    if given.what == "speed":
        speed(given.patients or 1000, given.cells, given.columns, given.passes)
    elif given.what == "stored":
        for name in given.contestants.split(";")[:1]:
            stored(name, given.patients or 60, given.cells, given.columns, held=given.held)
    elif given.what == "memory":
        memory(given.columns, patients=given.patients or 10)
    else:
        asked = given.contestants.split(";")
        results = []
        for deal in range(given.seed, given.seed + given.deals):
            table = _patients(given, deal)
            print(f"deal {deal}: {table}")
            table = permuted(table, deal + 1) if given.permuted else table
            results.append(judged(table, asked, Path("unused"), given.repeats, deal))
            tell(results[-1])
        if len(results) > 1 and len(asked) > 1:
            print("\n".join(line for metric in ("balanced_accuracy", "auroc") for line in compared(results, metric)))


def _patients(given: argparse.Namespace, seed: int) -> FeatureTable:
    features = given.features.split(",")
    if given.what == "cohort":
        return measured(given.table, features, given.store)
    if given.what == "real":
        design = SyntheticDesign(
            subjects=given.patients or 50, cells_per_subject=given.cells, witness_rate=given.rate, seed=seed
        )
        others = [name for name in given.others.split(",") if name]
        return real(given.table, given.witness, others, design, features, told=given.told)
    return drawn(given.patients or 200, given.cells, given.rate, given.effect, seed)


if __name__ == "__main__":
    main()
