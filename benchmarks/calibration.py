"""Which calibration brings what, on real cells: each laboratory left out in turn, and folds of all of them.

A table with a column `source`, as for `fusion ablate`. Of every method and classifier the Brier score, the log loss,
the mean calibration slope and how far it is from 1 on held-out cells, each probability learnt without them:

    .venv/bin/python -m benchmarks.calibration cells.csv --features morphology,texture,colour
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from fusion.evaluation.results import interval
from fusion.settings.commands import AblateConfig
from fusion.settings.learning import HarmoniseSettings
from fusion.workflows.ablate import ablate

METHODS = ("none", "logistic", "temperature", "isotonic")
SHOWN = ("brier", "log_loss", "calibration_slope", "balanced_accuracy")
SPLITS = {"laboratories left out": "leave-one-source-out", "folds": "grouped"}


def main() -> None:
    """Print a row for every split, classifier and method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--features", default="morphology,texture,colour")
    parser.add_argument("--classifiers", default="logreg,svm,xgb")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--store", type=Path)
    given = parser.parse_args()
    print("| held out | classifier | calibration | " + " | ".join(SHOWN) + " |")
    print("| --- | --- | --- |" + " --- |" * len(SHOWN), flush=True)
    for called, split in SPLITS.items():
        for method in METHODS:
            with tempfile.TemporaryDirectory() as folder:
                result = ablate(
                    AblateConfig(
                        data=given.data,
                        ignore_columns="mask",
                        features=given.features,
                        compare=given.classifiers,
                        subsets=["all"],
                        split=split,
                        repeats=given.repeats,
                        in_source=False,
                        harmonise=HarmoniseSettings(method="standard", transductive=True),
                        calibrate=method,
                        store=given.store,
                        output=Path(folder) / "result",
                        jobs=1,
                    )
                )
            for scores, figures in zip(result.scores, result.figures, strict=True):
                told = " | ".join(interval(figures["image"][metric]) for metric in SHOWN)
                print(f"| {called} | {scores.classifier} | {method} | {told} |", flush=True)


if __name__ == "__main__":
    main()
