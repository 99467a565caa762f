"""What is called out of distribution at another laboratory, before and after the model was adapted to it.

    python -m benchmarks.strange_elsewhere CELLS [--deals 4] [--seed 3000]

``CELLS`` is what ``fusion extract --features morphology,texture,colour --export`` has written of cells with a column
``source``: those of barcelona, bccd and tecom. A model of four types of one laboratory, by ``configs/robust.yaml`` and
logistic regression, is adapted without labels by some cells of another, or some of its patients, and judges the rest of
them, and cells of types that it knows nothing of: basophils, erythroblasts, immature granulocytes and platelets, or
patients each of one of these. "Before" has the site described by the same cells, but not what is usual there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.patients_elsewhere import BLOCKS, TYPES, recipe_of
from fusion.analysis.adaptation.site_cells import SiteCells
from fusion.analysis.adaptation.steps import with_new_sites
from fusion.analysis.adaptation.usual_distances import with_usual_distances
from fusion.data.feature_table import FeatureTable
from fusion.data.patients.bags import Bags, split_rows
from fusion.learning.fused_model import FusedModel
from fusion.learning.learn import learn
from fusion.learning.novelty import Novelty, learn_novelty
from fusion.learning.run import Run
from fusion.learning.study import Study
from fusion.settings.learning import HarmoniseSettings

#: Learnt from, and adapted to.
PAIRS = (("tecom", "barcelona"), ("bccd", "barcelona"), ("barcelona", "tecom"), ("barcelona", "bccd"))

#: Cells of a patient.
EACH = 14


def table(own: pd.DataFrame) -> FeatureTable:
    """These cells, each its own group."""
    columns = [name for block in BLOCKS for name in own.columns if name.startswith(f"{block}.")]
    found = FeatureTable.of_cells(own[columns].to_numpy(np.float32), columns, [str(name) for name in own.index])
    return replace(found, y=tuple(own["label"]), sources=tuple(own["source"]))


def home(own: pd.DataFrame) -> tuple[FusedModel, Novelty]:
    """A model of these cells, and what is usual among them."""
    harmonise = HarmoniseSettings(method="standard", transductive=True, mix="estimated")
    recipe = replace(recipe_of("logreg", harmonise), unit="cell")
    cells = table(own)
    model = learn(Study(cells), np.arange(len(cells)), recipe, Run(Path("unused"))).features
    shown = model.harmonised(cells.X, cells.sources).astype(np.float32)
    novelty = learn_novelty(shown, np.array(cells.y), cells.groups, cells.blocks)
    assert novelty is not None
    return model, novelty


def bags_of(X: np.ndarray) -> Bags:
    """Patients of ``EACH`` cells in order; what is left over is nobody's."""
    count = len(X) // EACH
    return Bags(X[: count * EACH], split_rows(np.full(count, EACH)))


def flagged(novelty: Novelty, model: FusedModel, own: pd.DataFrame, of_patients: bool) -> float:
    """The share that is out of distribution, of cells or of patients; NaN of none."""
    if len(own) < (EACH if of_patients else 1):
        return float("nan")
    cells = table(own)
    distance = novelty.distance(model.harmonised(cells.X, cells.sources).astype(np.float32), cells.sources)
    if of_patients:
        bags = bags_of(distance[:, None])
        distance = bags.medians(bags.stacked[:, 0])
    return float((distance > 1).mean())


def deals(
    new: pd.DataFrame, odd: pd.DataFrame, count: int, strange: float, deal: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Cells to adapt by, a share ``strange`` of which are of other types; the rest of the known, and of the others."""
    rng = np.random.default_rng(deal)
    order, others = rng.permutation(len(new)), rng.permutation(len(odd))
    among = round(strange * count)
    mixed = pd.concat([new.iloc[order[: count - among]], odd.iloc[others[:among]]])
    rest = odd.iloc[np.sort(others[among:])]  # in the order of their types: a patient has cells of one
    return mixed.iloc[rng.permutation(len(mixed))], new.iloc[order[count - among :]], rest


def rows(frame: pd.DataFrame, count_of_deals: int, seed: int) -> Iterator[dict[str, object]]:
    """A row for each pair, number of cells, share of strange ones, unit and deal."""
    for learnt, other in PAIRS:
        there = frame[frame["source"] == other]
        new, odd = there[there["label"].isin(TYPES)], there[~there["label"].isin(TYPES)]
        model, novelty = home(frame[(frame["source"] == learnt) & frame["label"].isin(TYPES)])
        for count in (30, 140):
            for strange in (0.0, 0.05):
                for deal in range(seed, seed + count_of_deals):
                    if strange and len(odd) < 100:
                        continue
                    by, rest, others = deals(new, odd, count, strange, deal)
                    cells = table(by)
                    for unit in ("cell", "patient") if count > 100 else ("cell",):
                        X = cells.X if unit == "cell" else bags_of(cells.X)
                        site = SiteCells(X, np.full(len(X), -1), np.arange(len(X)), (other,) * len(X))
                        adapted = with_new_sites(model, site)
                        used, _ = with_usual_distances(novelty, adapted, site, {learnt})
                        yield {
                            "pair": f"{learnt} to {other}",
                            "unit": unit,
                            "cells": count,
                            "strange among them": strange,
                            **{
                                f"{what}, {when}": flagged(known, adapted, of, unit == "patient")
                                for what, of in (("known", rest), ("strange", others))
                                for when, known in (("before", novelty), ("after", used))
                            },
                        }


def main() -> None:
    """Print means over the deals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    parser.add_argument("--deals", type=int, default=4)
    parser.add_argument("--seed", type=int, default=3000)
    asked = parser.parse_args()
    found = pd.DataFrame(rows(pd.read_parquet(asked.cells), asked.deals, asked.seed))
    print(found.groupby(["pair", "unit", "cells", "strange among them"], sort=False).mean().round(3).to_string())


if __name__ == "__main__":
    main()
