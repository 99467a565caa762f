"""Results to be drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fusion.data.feature_table import FeatureTable
from fusion.evaluation.result_differences import against_best, best_row, contributions_of_blocks
from fusion.evaluation.results import Result, judge_paired
from fusion.evaluation.scores import Scores


def result(
    *, subjects_known=True, faults=(), notes=(), stamps=(), features=(("texture",), ("colour",), ("texture", "colour"))
):
    """Three feature sets and two classifiers on 48 cells of 16 subjects; scores drawn so that they differ."""
    rng = np.random.default_rng(0)
    y = np.repeat(["all", "hem"], 24)
    names = tuple(f"fold_0/{label}/{at}.bmp" for at, label in enumerate(y))
    table = FeatureTable(
        X=np.zeros((48, 2), np.float32),
        columns=("texture.a", "colour.b"),
        names=names,
        keys=names,
        image_keys=names,
        y=tuple(y),
        subjects=tuple(f"s{at // 3}" for at in range(48)),
        folds=(None,) * 48,
        groups=np.arange(48) // 3,
        subjects_known=subjects_known,
    )
    entries = []
    for blocks in features:
        for classifier in ("svm", "a <b>"):
            p = np.clip((y == "all") * 0.3 + rng.uniform(0.1, 0.7, 48), 0, 1)
            entries.append(Scores(blocks, classifier, np.stack([p, 1 - p], axis=1), np.arange(48) % 4))
    judged = [judge_paired(table, entry, ["all", "hem"], "all") for entry in entries]
    found = Result(
        command="ablate",
        cells=table,
        classes=("all", "hem"),
        positive="all",
        scores=tuple(entries),
        figures=tuple(figures for figures, _ in judged),
        config="seed: 0\n",
        stamps=stamps,
        notes=notes,
        faults=faults,
        facts={
            "data": "cells",
            "images": 48,
            "groups": 16,
            "unit": "subject" if subjects_known else "image",
            "classes": {"all": 24, "hem": 24},
            "split": {"kind": "grouped", "folds": 4},
        },
        variations=tuple(variation for _, variation in judged),
    )
    return replace(
        found,
        findings={"paired": against_best(found), "best": best_row(found), "shapley": contributions_of_blocks(found)},
    )
