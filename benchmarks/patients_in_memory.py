"""The largest resident size of ``fusion train``, ``predict`` and ``evaluate`` on patients of thousands of cells.

    python -m benchmarks.patients_in_memory FOLDER [--patients 12] [--cells 5000] [--classifier mil]

Two cohorts are made in FOLDER, where they are not there yet: images that are read and hashed, and of each cell drawn
values in the feature store in the place of what would be measured: colour, and texture by four numbers of grey levels
(2,833 columns). A twentieth of an ill patient's cells lie elsewhere in fifty columns. Then the commands run one after
the other, each a process of its own, and what the system says of it is told.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from fusion.data.dataset import Dataset, load_dataset, measured_key
from fusion.features.blocks import build_blocks, instances
from fusion.features.store import FeatureStore
from fusion.images.cell import PREPARATION
from fusion.plugins import registry
from fusion.settings.commands import TrainConfig

#: What is measured of a cell: 409 columns, and 606 columns four times.
LEVELS = (8, 16, 32, 64)
BLOCKS = ["colour", *(f"texture.by{levels}" for levels in LEVELS)]
EXTRACTORS = {f"texture.by{levels}": {"levels": levels} for levels in LEVELS}


def make_cohort(folder: Path, store: Path, patients: int, cells: int, seed: int) -> Path:
    """The table of a cohort whose cells are in the store; as it is where it is there."""
    table = folder / "patients.csv"
    if table.is_file():
        return table
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        for cell in range(cells):
            name = f"{patient}-{cell}.png"
            cv2.imwrite(str(folder / name), rng.integers(0, 256, (8, 8, 3), np.uint8))
            rows.append(f"{name},P{seed}-{patient},{'ill' if patient % 2 else 'well'}")
    (folder / "cells.csv").write_text("path,subject,subject_label\n" + "\n".join(rows) + "\n")
    keep_values(load_dataset(folder / "cells.csv", needs_labels=False), FeatureStore(store), cells, rng)
    (folder / "cells.csv").rename(table)
    return table


def keep_values(dataset: Dataset, store: FeatureStore, cells: int, rng: np.random.Generator) -> None:
    """Put drawn values in the store as if they had been measured, a shard a patient."""
    config = TrainConfig(data=Path("x"), features=BLOCKS, output=Path("x"), extractors=EXTRACTORS)
    keys = list(map(measured_key, dataset.each("key"), dataset.each("adjustment")))
    for start in range(0, len(keys), cells):
        is_ill = dataset.samples[start].label == "ill" or start // cells % 2
        for extractor in instances(build_blocks(config)).values():
            names = extractor.feature_names()
            X = rng.standard_normal((cells, len(names)), np.float32)
            X += 0.2 * rng.standard_normal(len(names), np.float32)
            X[: cells // 20 * int(is_ill), :10] += 2
            fingerprint = registry.fingerprint(extractor, PREPARATION)
            store.write_shard(extractor.name, fingerprint, names, (keys[start : start + cells], X), {}, {})


def run(*command: object) -> None:
    """Run a command of Fusion and tell its peak and time."""
    started = time.perf_counter()
    words = [str(word) for word in command]
    process = subprocess.Popen([sys.executable, "-m", "fusion", *words, "-q"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    print(
        f"{words[0]}: exit {os.waitstatus_to_exitcode(status)}, at most {usage.ru_maxrss / 1e3:.0f} MB, {seconds:.0f} s"
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--cells", type=int, default=5000)
    parser.add_argument("--classifier", default="mil")
    parser.add_argument("--commands", default="train,predict,evaluate")
    parser.add_argument("--more", default="", help="options of train, such as --splits 3")
    given = parser.parse_args()
    folder = given.folder / f"{given.patients}-{given.cells}"
    store = folder / "store"
    data, new = (
        make_cohort(folder / name, store, given.patients, given.cells, seed)
        for seed, name in enumerate(["learnt", "new"])
    )
    print(f"{given.classifier}: {given.patients} patients of {given.cells} cells, {given.more}", flush=True)
    model, common = folder / f"model-{given.classifier}", ["--store", store]
    asked = given.commands.split(",")
    if "train" in asked:
        blocks = ["--features", ",".join(BLOCKS), "--classifier", given.classifier]
        for levels in LEVELS:
            blocks += ["--set", f"extractors.texture.by{levels}.levels={levels}"]
        run("train", data, *blocks, "-o", model, "--force", *common, *given.more.split())
    if "predict" in asked:
        run("predict", model, new, "--json", *common)
    if "evaluate" in asked:
        run("evaluate", model, new, "-o", folder / "evaluated", "--force", *common)


if __name__ == "__main__":
    main()
