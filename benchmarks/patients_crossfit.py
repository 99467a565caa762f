"""What a network that is trained anew in every fold brings to patients put together of real cells.

    python -m benchmarks.patients_crossfit IMAGES --weights MOBILENETV2 [--deals 4] [--rate 0.3] [--witness ig]

``IMAGES`` is a table of cells with labels, such as the Barcelona set's ``labels.csv``; ``--weights`` a .safetensors
file of MobileNetV2. Each deal draws patients anew, half of them ill, and compares classifiers on the network's block
alone and beside measured blocks: frozen, as ImageNet left it; cross-fitted (``--cnn-crossfit``, by
``configs/mobilenetv2-cpu.yaml``) by patients' labels; and by cells' own. With ``--permuted`` patients' labels are
permuted first, and all must be at chance.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

import fusion
from benchmarks.laboratory_networks import networks, together
from fusion.settings.commands import AblateConfig, SynthesizeConfig
from fusion.workflows.synthesize import make_data_set

#: Blocks that are measured, and the sets that are compared.
MEASURED = ("morphology", "colour")
SETS = ("cnn", "morphology+colour", "morphology+colour+cnn")

#: ``pool`` calls no cells here: in every deal it is the same model, whether cells are labelled or not.
CLASSIFIERS: dict[str, dict[str, Any]] = {"logreg": {}, "pool": {"cell_labels": False}}

FOLDS = 3


def deal(images: Path, asked: argparse.Namespace, seed: int, folder: Path) -> dict[str, Path]:
    """Tables of the same patients: "cells", which tells what cells are, and "patients", which does not."""
    config = SynthesizeConfig(
        real_cells=images,
        output=folder,
        witnesses=[asked.witness],
        subjects=asked.patients,
        cells=asked.cells,
        witness_rate=asked.rate,
        seed=seed,
    )
    made = make_data_set(config).path
    table = pd.read_csv(made, dtype=str)
    if asked.permuted:
        first = table.drop_duplicates("subject").set_index("subject")["subject_label"]
        drawn = np.random.default_rng(seed).permutation(first.to_numpy())
        table["subject_label"] = table["subject"].map(dict(zip(first.index, drawn, strict=True)))
    tables = {"cells": folder / "told.csv", "patients": folder / "untold.csv"}
    table.to_csv(tables["cells"], index=False)
    table.drop(columns="label").to_csv(tables["patients"], index=False)
    return tables


def scores(tables: dict[str, Path], asked: argparse.Namespace, seed: int, folder: Path) -> Iterator[dict[str, Any]]:
    """A row for each way of having the block, classifier and set."""
    known = networks(asked.weights)
    network = {key: value for key, value in known["network"].items() if key not in ("classifier", "features", "seed")}
    frozen = {"extractors": known["frozen embedding, SVM"]["extractors"]}
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        "frozen": ("patients", frozen),
        "by patients' labels": ("patients", {**network, "cnn_crossfit": True}),
        "by cells' labels": ("cells", {**network, "cnn_crossfit": True}),
    }
    for way, (told, settings) in ways.items():
        if asked.ways and way not in asked.ways.split(","):
            continue
        config = together(
            [
                settings,
                {
                    "data": tables[told],
                    "output": folder / way.replace(" ", "-"),
                    "store": asked.store,
                    "unit": "subject",
                    "features": [*MEASURED, "cnn"],
                    "subsets": list(SETS),
                    "compare": list(CLASSIFIERS),
                    "classifiers": CLASSIFIERS,
                    "splits": FOLDS,
                    "repeats": 1,
                    "control": ["none"],
                    "seed": seed,
                    "jobs": 1,
                },
            ]
        )
        result = fusion.ablate(AblateConfig(**config))
        y = np.array(result.cells.y)
        for entry in result.scores:
            proba = entry.proba[0]
            yield {
                "way": way,
                "classifier": entry.classifier,
                "features": "+".join(entry.features),
                "balanced accuracy": balanced_accuracy_score(y, np.array(result.classes)[proba.argmax(axis=1)]),
                "auroc": roc_auc_score(y == result.classes[1], proba[:, 1]),
            }


def main() -> None:
    """Print means over deals with their range, and every deal's own figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()) / "patients-crossfit")
    parser.add_argument("--witness", default="ig")
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--cells", type=int, default=10)
    parser.add_argument("--deals", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--permuted", action="store_true")
    parser.add_argument("--ways", default="", help="some of the ways, separated by commas")
    asked = parser.parse_args()
    rows = []
    for seed in range(asked.seed, asked.seed + asked.deals):
        with tempfile.TemporaryDirectory() as folder:
            tables = deal(asked.images, asked, seed, Path(folder) / "patients")
            for row in scores(tables, asked, seed, Path(folder)):
                rows.append({"deal": seed, **row})
                shown = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in rows[-1].values()]
                print(*shown, flush=True)
    frame = pd.DataFrame(rows)
    by = ["way", "classifier", "features"]
    told = frame.groupby(by, sort=False)[["balanced accuracy", "auroc"]].agg(["mean", "min", "max"])
    print(told.round(3).to_string())


if __name__ == "__main__":
    main()
