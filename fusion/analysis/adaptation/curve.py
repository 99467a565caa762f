"""What labels of a new site bring: balanced accuracy by labelled cells of each class, on cells that nobody labelled; of
a model of patients, by labelled patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.adaptation.site_cells import SiteCells
from fusion.analysis.adaptation.steps import STEPS, adapt, choose_step, predict, steps_of
from fusion.learning.fused_model import FusedModel
from fusion.metrics.judgement import judge_scores

_Rows = NDArray[np.intp]

#: Draws of labelled cells for each point.
ROUNDS = 5

#: Groups of a class that labelled cells are of, at least, where it has twice as many.
_LEAST_GROUPS = 3


def draw_labelled(codes: _Rows, groups: _Rows, k: int, seed: int) -> tuple[_Rows, _Rows] | None:
    """Positions of k labelled cells of each class, and of the cells to judge: those of other groups. None where a class
    would have fewer than two groups left.

    Groups are drawn whole until a class has k cells in three groups; of these, k cells are labelled.
    """
    rng = np.random.default_rng([seed, k])
    order = rng.permutation(np.unique(groups[codes >= 0]))
    pooled: set[int] = set()
    labelled: list[int] = []
    for code in np.unique(codes[codes >= 0]):
        own = [group for group in order if (codes[groups == group] == code).any()]
        pool: list[int] = []
        cells: list[int] = []
        for group in own:
            if len(cells) >= k and len(pool) >= min(_LEAST_GROUPS, len(own) // 2):
                break
            pool.append(int(group))
            cells += np.flatnonzero((groups == group) & (codes == code)).tolist()
        pooled |= set(pool)
        labelled += rng.permutation(cells)[:k].tolist()
    judged = np.flatnonzero((codes >= 0) & ~np.isin(groups, list(pooled)))
    for code in np.unique(codes[codes >= 0]):
        if len(np.unique(groups[judged][codes[judged] == code])) < 2:
            return None
    return np.sort(np.array(labelled, np.intp)), judged


def label_curve(
    model: FusedModel,
    blocks: Mapping[str, slice],
    cells: SiteCells,
    counts: Sequence[int],
    seed: int,
    progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """Balanced accuracy after every step and after the one that the labelled cells chose, for each number of them.

    Labelled cells, and cells of their groups, are never judged. Every point is of ``ROUNDS`` draws, with a 95% interval
    of the procedure (``fusion.metrics.judgement``).

    Returns
    -------
    Plain values, a row a number of cells for which there are enough: "k", "judged" (mean number of cells),
    "chosen" {step: how often}, and "balanced_accuracy" {step or "chosen": {"value", "low", "high"}}.
    """
    rows = []
    for at, k in enumerate(counts):
        draws = [draw_labelled(cells.codes, cells.groups, k, seed + round_) for round_ in range(ROUNDS)]
        if any(draw is None for draw in draws):
            continue
        names = (*steps_of(model, cells.unit), "chosen")
        proba = {name: np.full((ROUNDS, len(cells.codes), len(model.classes)), np.nan) for name in names}
        chosen: dict[str, int] = {}
        for round_, draw in enumerate(draws):
            assert draw is not None
            labelled, judged = draw
            step, _ = choose_step(model, blocks, cells, labelled, seed)
            chosen[step] = chosen.get(step, 0) + 1
            for name in names[:-1]:
                adapted = adapt(model, blocks, cells, labelled, name)
                # A network is at home already; other models may describe the site by all cells that they are shown.
                shown = judged if cells.given is not None else np.arange(len(cells.codes))
                proba[name][round_, shown] = predict(adapted, cells, shown)
                proba[name][round_, np.setdiff1d(shown, judged)] = np.nan
            proba["chosen"][round_] = proba[step][round_]
            progress(at * ROUNDS + round_ + 1, len(counts) * ROUNDS)
        figures = {name: _figure(model.classes, cells, proba[name]) for name in names}
        size = float(np.mean([len(draw[1]) for draw in draws if draw is not None]))
        order = {name: chosen[name] for name in STEPS if name in chosen}
        rows.append({"k": k, "judged": size, "chosen": order, "balanced_accuracy": figures})
    return rows


def _figure(classes: Sequence[str], cells: SiteCells, proba: NDArray[np.float64]) -> dict[str, float]:
    known = np.flatnonzero(~np.isnan(proba).all(axis=(0, 2)))
    labels = np.array(classes, object)[cells.codes[known]]
    folds = np.zeros((len(proba), len(known)), np.intp)
    positive = classes[1] if len(classes) == 2 else None
    judged = judge_scores(labels, proba[:, known], classes, cells.groups[known], positive=positive, folds=folds)
    figure = judged.figures["image"]["balanced_accuracy"]
    return {part: float(figure[part]) for part in ("value", "low", "high")}
