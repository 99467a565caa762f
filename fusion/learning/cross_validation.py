"""Scoring cells by models that have not met them: every recipe in every split of a plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.scores import Scores
from fusion.leakage.protocols import Plan
from fusion.learning.fit_batches import run_fits, score
from fusion.learning.fits import Fit, Fits, Fitted
from fusion.learning.learn import learn
from fusion.learning.learnt_blocks import LearntBlock, embed_splits
from fusion.learning.recipe import Recipe
from fusion.learning.run import Run, epochs_of, history_of
from fusion.learning.study import Study


def prepare_fits(
    study: Study, plan: Plan, recipes: Sequence[Recipe], run: Run, learnt: Sequence[LearntBlock] = ()
) -> Fits:
    """What the fits of a comparison have in common, with the embeddings of blocks that are learnt in every split."""
    splits = tuple(split for _, split in plan.splits)
    wanted = [block for block in learnt if any(block.name in recipe.learnt for recipe in recipes)]
    embedded = {block.name: embed_splits(block, study, splits, run) for block in wanted}
    return Fits(study, splits, tuple(recipes), run, embedded, tuple(wanted))


def cross_validate(
    fits: Fits, plan: Plan, stage: str = "fitting", heard: Callable[[Fitted], None] | None = None
) -> tuple[Scores, ...]:
    """Learn every recipe on each training part, and score the cells of its test part.

    Parameters
    ----------
    fits : of this plan's splits; see ``prepare_fits``.
    stage : what progress calls it.
    heard : is given every fit, with what its model was asked beside its scores.

    Returns
    -------
    For each recipe its scores, over the rounds of the plan.
    """
    table, classes, run = fits.study.table, fits.study.classes, fits.run
    rounds = np.array([number for number, _ in plan.splits])
    shape = (len(plan.rounds), len(table))
    proba = [np.full((*shape, len(classes)), np.nan) for _ in fits.recipes]
    thresholds = [np.full(shape, np.nan) for _ in fits.recipes]
    costs = [np.full((*shape, len(classes)), np.nan) for _ in fits.recipes]
    chosen: list[list[dict[str, float]]] = [[] for _ in fits.recipes]
    trained: list[list[dict[str, float]]] = [[] for _ in fits.recipes]
    every = [Fit(number, at) for number in range(len(fits.recipes)) for at in range(len(fits.splits))]
    for done, found in enumerate(_fitted(every, fits), start=1):
        number, tested = found.fit.recipe, (rounds[found.fit.split], fits.splits[found.fit.split].test)
        proba[number][tested], thresholds[number][tested] = found.proba, found.threshold
        costs[number][tested] = found.expected_costs
        chosen[number] += [{"split": found.fit.split, **found.chosen}] if found.chosen else []
        if found.history is not None:
            trained[number] += [{"split": found.fit.split, **epoch} for epoch in epochs_of(found.history)]
        if heard is not None:
            heard(found)
        run.tell(stage, done, len(every))
    fold = _fold_numbers(plan, len(table))
    return tuple(
        Scores(
            recipe.features,
            recipe.label,
            proba[at],
            fold,
            thresholds[at] if recipe.decision.has_rule and len(classes) == 2 else None,
            tuple(sorted(chosen[at], key=lambda values: values["split"])),
            tuple(sorted(trained[at], key=lambda epoch: (epoch["split"], epoch["epoch"]))),
            costs[at] if recipe.decision.has_rule and len(classes) > 2 else None,
        )
        for at, recipe in enumerate(fits.recipes)
    )


def _fitted(every: Sequence[Fit], fits: Fits) -> Iterator[Fitted]:
    """Every fit with its scores: those that train networks in this process, the others on workers."""
    yield from run_fits([fit for fit in every if fits.is_for_workers(fit)], fits)
    for fit in every:
        if fits.is_for_workers(fit):
            continue
        # Kept where a run that was stopped finds it again.
        kept = fits.read(fit)
        yield fits.keep(_with_networks(fit, fits)) if kept is None else kept


def _with_networks(fit: Fit, fits: Fits) -> Fitted:
    """A fit that trains networks."""
    recipe, split = fits.recipes[fit.recipe], fits.splits[fit.split]
    if not recipe.takes_images:
        return score(fit, fits)
    fold = f"{fit.split + 1} of {len(fits.splits)}"
    part = f"fold {fold}" if len(fits.recipes) == 1 else f"{'+'.join(recipe.features)} {fold}"
    model = learn(fits.study, split.train, recipe, fits.run, part=part)
    history = history_of(model.features.classifier)
    return Fitted(fit, model.predict_proba(split.test), math.nan, model.chosen, history)


def _fold_numbers(plan: Plan, n: int) -> NDArray[np.intp]:
    """intp (rounds, n): the test part that each cell was scored in, -1 for none."""
    fold = np.full((len(plan.rounds), n), -1, np.intp)
    for number, splits in enumerate(plan.rounds):
        for at, split in enumerate(splits):
            fold[number, split.test] = at
    return fold
