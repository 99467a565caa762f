"""What a few labelled cells of another laboratory bring a network, step by step.

    fusion train tecom.csv --classifier neural --config mobilenetv2-cpu -o model
    python -m benchmarks.adapted_networks model barcelona.csv -k 5,20 --seeds 0,5

Every cell of the table is labelled, and of a site that the model was not trained in. Balanced accuracy after every step
of ``fusion adapt``, with its interval, on cells that were not drawn; five draws of each number of labels and seed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from fusion.analysis.adaptation.curve import label_curve
from fusion.analysis.adaptation.network_steps import at_home, with_head_inputs
from fusion.analysis.adaptation.site_cells import SiteCells
from fusion.bundles.model_bundle import load_model
from fusion.data.dataset import load_dataset
from fusion.evaluation.results import interval
from fusion.features.store import FeatureStore
from fusion.image_transforms.dataset_transforms import as_trained
from fusion.learning.fused_model import FusedModel
from fusion.learning.study import Study


def measure(model: Path, data: Path, store: Path | None) -> tuple[FusedModel, SiteCells]:
    """The model at home at the site of these cells, and the cells as it is given them."""
    bundle, kept = load_model(model), FeatureStore(store)
    shown, _ = as_trained(bundle.normaliser, load_dataset(data, store=store), kept, jobs=1)
    study = Study.of(shown, bundle.blocks, bundle.transforms, kept, jobs=1)
    table, (transform,) = study.table, bundle.transforms
    codes = [bundle.classes.index(str(label)) for label in table.y]
    inputs = study.inputs(transform, list(table.blocks), study.everyone)
    cells = SiteCells(inputs, np.array(codes, np.intp), table.groups, table.sources)
    home, _ = at_home(bundle.model, cells)
    return home, with_head_inputs(home, cells)


def main() -> None:
    """Print a row for each number of labels and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("-k", default="5,20", help="labelled cells of each class")
    parser.add_argument("--seeds", default="0", help="of the draws, five from each on")
    parser.add_argument("--store", type=Path, help="feature store; default that of the commands")
    given = parser.parse_args()
    model, cells = measure(given.model, given.data, given.store)
    for k in map(int, given.k.split(",")):
        for seed in map(int, given.seeds.split(",")):
            begun = time.perf_counter()
            for row in label_curve(model, {}, cells, [k], seed, lambda done, total: None):
                found = {name: interval(figure) for name, figure in row["balanced_accuracy"].items()}
                print(f"k {k}, seed {seed}, {row['judged']:.0f} judged: {found}; chosen {row['chosen']}", flush=True)
            print(f"{time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
