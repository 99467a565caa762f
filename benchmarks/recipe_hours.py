"""What a network's recipe costs on one core at C-NMC's size: processor time of its steps, and the hours that they make.

    OMP_NUM_THREADS=1 python -m benchmarks.recipe_hours
    OMP_NUM_THREADS=1 python -m benchmarks.recipe_hours --config mobilenetv2-cpu --steps 6

Steps of the recipe as it is (backbone, size, batch, loss, optimiser, augmentation; random weights) on made-up images,
after the first, which sets memory up. An epoch is every image that its sampling draws of four fifths of 10,661 cells,
and a pass over the fifth that is kept back; training by five folds and on all cells is six trainings. Early stopping
ends one when it will, so that an epoch and the most that the recipe allows are told.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from classifiers.neural.estimator import NeuralClassifier
from fusion.settings.loading import read_yaml
from fusion.settings.recipes import find_recipe

#: C-NMC 2019's training set: cells of ALL, and healthy ones.
ALL, HEALTHY = 7272, 3389

#: Trainings of ``fusion train`` by five folds: one a fold, and one of all cells.
TRAININGS = 6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="braga2026", help="a recipe of fusion configs whose classifier is neural")
    parser.add_argument("--steps", type=int, default=4, help="that are timed")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("fusion").setLevel(logging.ERROR)  # random weights: speed is all that is asked
    torch.set_num_threads(1)
    recipe = read_yaml(find_recipe(Path(options.config)))["classifiers"]["neural"]
    asked = recipe.get("training", {})
    training, forward, batch = measure(recipe, options.steps)
    share = 1 - asked.get("validation", 0.0)
    drawn = 2 * ALL if asked.get("sampling", "oversample") == "oversample" else ALL + HEALTHY
    # Of a fold's training part, and of all cells: the former is four fifths.
    epoch = share * drawn * training + (1 - share) * (ALL + HEALTHY) * forward
    trainings = 5 * 0.8 + 1
    hours = epoch / 3600
    print(f"{options.config}: {recipe['network']['backbone']}, {recipe['network']['size']} pixels, batches of {batch}, "
          f"one core, torch {torch.__version__}\n\n| | |\n| --- | ---: |")  # fmt: skip
    print(f"| training, images/s | {1 / training:.2f} |\n| forward pass, images/s | {1 / forward:.2f} |")
    print(f"| an epoch of C-NMC, {share * drawn:.0f} images drawn, hours | {hours:.1f} |")
    print(
        f"| {TRAININGS} trainings (five folds and all cells) of 10 epochs, days | {10 * trainings * hours / 24:.1f} |"
    )
    most = asked.get("epochs", 100)
    print(f"| the most that it allows, {most} epochs each, days | {most * trainings * hours / 24:.0f} |")


def measure(recipe: dict, steps: int) -> tuple[float, float, int]:
    """Processor seconds of an image in training and in a forward pass, and the batch size."""
    batch = int(recipe.get("training", {}).get("batch_size", 8))
    network = {**recipe["network"], "weights": "random"}
    quiet = {"epochs": 1, "validation": 0.0, "patience": 0, "freeze_epochs": 0}
    model = NeuralClassifier(**{**recipe, "network": network, "training": {**recipe.get("training", {}), **quiet}})
    size = network["size"]
    images = np.random.default_rng(0).integers(0, 256, ((steps + 1) * batch, size, size, 3), np.uint8)
    labels = np.array(["all", "hem"])[np.arange(len(images)) % 2]
    seen: list[float] = []
    model.fit(images, labels, watch=lambda *_: seen.append(time.process_time()))
    training = statistics.median(np.diff(seen)) / batch
    start = time.process_time()
    model.predict_proba(images[: 2 * batch])
    return training, (time.process_time() - start) / (2 * batch), batch


if __name__ == "__main__":
    main()
