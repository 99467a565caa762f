"""Every fit of a comparison, dealt to workers in batches that share what can be shared.

Fits of one classifier in one split share their scaled blocks, and a kernel SVM its distances: memory, not another
way of learning. What does not fit into memory is computed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.learning import shared_distances
from fusion.learning._inner_folds import InnerFolds
from fusion.learning._training_rows import TrainingRows
from fusion.learning.fits import LEARNT, Fit, Fits, Fitted
from fusion.learning.fused_model import (
    BlockModels,
    Exchange,
    FusedModel,
    HeldOutModel,
    Score,
    decide,
    prepare_features,
    score_slice,
)
from fusion.learning.learn import chosen_by, refused
from fusion.learning.recipe import Recipe
from fusion.learning.scaled_blocks import ScaledBlocks
from fusion.plugins.classifiers import Classifier, FitsDistances, Searches

#: Fits below which another worker process costs more to start than it saves, and values of all their tables likewise.
_WORTH_A_WORKER, _VALUES_WORTH_A_WORKER = 20, 2_000_000


def run_fits(fits: Sequence[Fit], load: Fits) -> Iterator[Fitted]:
    """Yield every fit with its scores, in no particular order.

    Fits that an earlier run has finished are read from the checkpoint; each new one is kept there at once.
    """
    waiting = []
    for fit in fits:
        if (kept := load.read(fit)) is not None:
            yield kept
        else:
            waiting.append(fit)
    for shared, run in (
        ("distances", _on_shared_distances),
        ("scaling", _on_scaled_blocks),
        ("members", _on_shared_members),
        ("nothing", _alone),
    ):
        own = [fit for fit in waiting if load.shared[load.recipes[fit.recipe].label] == shared]
        batches = _batches(own, load, alone=shared == "nothing")
        yield from _parallel(run, batches, load, workers_of(own, load))


def workers_of(fits: Sequence[Fit], load: Fits) -> int:
    """Processes that fits of classifiers that share alike are dealt to: as many as pay, and as have room."""
    from joblib import cpu_count

    if not fits:
        return 1
    shared = load.shared[load.recipes[fits[0].recipe].label]
    batches = len(_batches(fits, load, alone=shared == "nothing"))
    columns = len(load.study.table.columns)
    values = sum(len(load.splits[fit.split].train) * columns for fit in fits)
    worth = max(1, len(fits) // _WORTH_A_WORKER, values // _VALUES_WORTH_A_WORKER)
    room = max(1, int(load.run.memory // load.bytes_a_worker)) if shared == "distances" else batches
    return min(load.run.jobs or cpu_count(), worth, room, batches)


def _batches(fits: Sequence[Fit], load: Fits, *, alone: bool) -> list[list[Fit]]:
    """Fits that share something, together: those of one label in one split."""
    if alone:
        return [[fit] for fit in fits]
    together: dict[tuple[str, int], list[Fit]] = {}
    for fit in fits:
        together.setdefault((load.recipes[fit.recipe].label, fit.split), []).append(fit)
    return list(together.values())


_Batch = Callable[[Sequence[Fit], Fits], Iterator[Fitted]]


def _parallel(run: _Batch, batches: Sequence[list[Fit]], load: Fits, workers: int) -> Iterator[Fitted]:
    from joblib import Parallel, delayed

    if workers == 1:
        for batch in batches:
            yield from run(batch, load)
        return
    calls = (delayed(_collect)(run, batch, load.workload) for batch in batches)
    for done in Parallel(n_jobs=workers, return_as="generator_unordered")(calls):
        yield from done


def _collect(run: _Batch, batch: Sequence[Fit], load: Fits) -> list[Fitted]:
    return list(run(batch, load))


def _alone(batch: Sequence[Fit], load: Fits) -> Iterator[Fitted]:
    """Fit by fit, on one thread: a sum is added up in the same order on any machine and beside any other fit."""
    from threadpoolctl import threadpool_limits

    for fit in batch:
        with threadpool_limits(1):
            yield load.keep(score(fit, load))


def score(fit: Fit, load: Fits) -> Fitted:
    """Learn one model of features, and score the cells of its split's test part."""
    recipe, split, study = load.recipes[fit.recipe], load.splits[fit.split], load.study_of(fit.split)
    model = load.fuse(fit)
    proba = model.predict_proba(study.rows(recipe.blocks, split.test), study.sources(split.test))
    threshold = math.nan if model.threshold is None else model.threshold
    found = Fitted(fit, proba, threshold, chosen_by(model), costs=model.costs)
    if (rows := load.learnt_rows(fit)) is not None:
        learnt = model.predict_proba(study.rows(recipe.blocks, rows), study.sources(rows))
        found = replace(found, answers={LEARNT: learnt})
    return _examined(found, load, model, recipe.blocks)


def _examined(found: Fitted, load: Fits, model: FusedModel, blocks: Sequence[str]) -> Fitted:
    """The fit with the answers of its model, which learns from these blocks."""
    if not load.asks(found.fit):
        return found
    split, table = load.splits[found.fit.split], load.study_of(found.fit.split).select(blocks)
    return load.examined(found, HeldOutModel.of(model, table, split.train, split.test))


def _on_scaled_blocks(batch: Sequence[Fit], load: Fits) -> Iterator[Fitted]:
    """Fit a batch of one classifier in one split, on blocks that are scaled once."""

    def scored(shared: ScaledBlocks, recipe: Recipe, rows: TrainingRows) -> _Scored:
        train, test = shared.of(recipe.blocks)
        classifier, parts = recipe.build().fit(train, rows.y, rows.groups), shared.columns(recipe.blocks)

        def ask(which: int | None, exchanged: NDArray[np.intp]) -> NDArray[np.float64]:
            X = test
            if which is not None:
                X = test.copy()
                X[:, parts[which]] = train[exchanged, parts[which]]
            return classifier.predict_proba(X)

        def score(learnt: NDArray[np.intp], held: NDArray[np.intp]) -> NDArray[np.float64]:
            at = rows.positions(learnt)
            return recipe.build().fit(train[at], rows.y[at], rows.groups[at]).predict_proba(train[held])

        return classifier, ask, score

    yield from _shared_batch(batch, load, ScaledBlocks, scored)


def _on_shared_distances(batch: Sequence[Fit], load: Fits) -> Iterator[Fitted]:
    """Fit a batch of one classifier in one split, on distances that are computed once."""

    def scored(shared: shared_distances.SharedDistances, recipe: Recipe, rows: TrainingRows) -> _Scored:
        classifier, distances = recipe.build(), shared.of(recipe.blocks)
        assert isinstance(classifier, FitsDistances)
        classifier.fit_distances(distances, rows.y, rows.groups)

        def ask(which: int | None, exchanged: NDArray[np.intp]) -> NDArray[np.float64]:
            if which is None:
                return classifier.predict_proba_distances(shared.test_rows)
            # Distances within blocks are at hand: those of other cells' values are in them already.
            mixed = np.repeat(shared.test_rows[:, None], len(recipe.blocks), axis=1)
            mixed[:, which] = exchanged
            return classifier.predict_proba_distances(mixed)

        def score(learnt: NDArray[np.intp], held: NDArray[np.intp]) -> NDArray[np.float64]:
            return score_slice(recipe.build(), distances, rows.positions(learnt), held, rows)

        return classifier, ask, score

    yield from _shared_batch(batch, load, shared_distances.SharedDistances, scored)


def _on_shared_members(batch: Sequence[Fit], load: Fits) -> Iterator[Fitted]:
    """Fit late fusions of one classifier in one split: each block's model and held-out scores are made once."""
    from threadpoolctl import threadpool_limits

    first, split = load.recipes[batch[0].recipe], load.splits[batch[0].split]
    needed = {name for fit in batch for name in load.recipes[fit.recipe].blocks}
    names = [name for name in load.blocks if name in needed]
    study = load.study_of(batch[0].split)
    X, sources = study.rows(names, split.test), study.sources(split.test)
    known: dict[int, BlockModels] = {}
    with threadpool_limits(1):  # as alone: the same sums on any machine
        for fit in batch:
            recipe = load.recipes[fit.recipe]
            recipe.decision.check_classes(load.study.classes, recipe.positive)
            try:
                if fit.labels not in known:
                    rows = load.study_for(fit).training_rows(names, split.train)
                    blocks = study.select(names).blocks
                    known[fit.labels] = BlockModels.of(rows, blocks, first, InnerFolds(rows))
                model = known[fit.labels].fused(recipe.blocks)
            except (ValueError, TypeError) as error:
                raise refused(recipe, error, load.labels_of(fit)[split.train]) from error
            none = np.empty((0, len(model.classes)))  # a rule that learns is not shared
            fixed, costs = recipe.decision.choose(none, np.empty(0, np.intp), model.classes, recipe.positive)
            proba = model.predict_proba(X, sources)
            found = Fitted(fit, proba, math.nan if fixed is None else fixed, chosen_by(model), costs=costs)
            model = replace(model, threshold=fixed, costs=costs)
            yield load.keep(_examined(found, load, model, names))


_Scored = tuple[Classifier, Exchange, Score]


def _shared_batch(
    batch: Sequence[Fit], load: Fits, share: Callable[..., Any], scored: Callable[[Any, Recipe, TrainingRows], _Scored]
) -> Iterator[Fitted]:
    """Fit a batch on what ``share`` makes of the split's features, the blocks that it needs, both parts and the layer's
    parameters."""
    from threadpoolctl import threadpool_limits

    first = load.recipes[batch[0].recipe]
    needed = {name for fit in batch for name in load.recipes[fit.recipe].blocks}
    with threadpool_limits(1):  # as alone: the same sums on any machine
        prepared = prepare_split(load, batch[0].split, [name for name in load.blocks if name in needed], first)
        rows = prepared.rows
        try:
            shared = prepared.shared_by(share)
            for fit in batch:
                recipe = load.recipes[fit.recipe]
                recipe.decision.check_classes(load.study.classes, recipe.positive)
                own = replace(rows, y=load.labels_of(fit)[load.splits[fit.split].train][rows.cells])
                classifier, ask, score = scored(shared, recipe, own)
                classes = [str(label) for label in classifier.classes_]
                decision = decide(recipe, classes, score, own)
                model = HeldOutModel(ask, decision)
                threshold = math.nan if decision.threshold is None else decision.threshold
                chosen = dict(classifier.chosen_) if isinstance(classifier, Searches) else {}
                found = Fitted(fit, model.predict_proba(), threshold, chosen, costs=decision.costs)
                yield load.keep(load.examined(found, model))
        except (ValueError, TypeError) as error:
            raise refused(first, error, rows.y) from error


@dataclass(frozen=True, eq=False)
class PreparedSplit:
    """Features of one split as they are before they are scaled: harmonised, selected, with augmented cells.

    Attributes
    ----------
    rows : what is learnt from, the training rows and their augmented cells.
    X : float (n, d), these rows first, then those of the test part.
    blocks : block name -> its columns.
    layer : parameters of the fusion layer.
    """

    rows: TrainingRows
    X: NDArray[Any]
    blocks: Mapping[str, slice]
    layer: Mapping[str, Any]

    def shared_by(self, share: Callable[..., Any]) -> Any:
        """What fits of the split share: scaled blocks, or distances."""
        everyone = np.arange(len(self.X))
        return share(self.X, self.blocks, everyone[: len(self.rows)], everyone[len(self.rows) :], self.layer)


def prepare_split(load: Fits, split: int, blocks: Sequence[str], recipe: Recipe) -> PreparedSplit:
    """The features of these blocks in one split, by what the recipes of a comparison have in common."""
    study, parts = load.study_of(split), load.splits[split]
    table = study.select(blocks)
    rows = TrainingRows.of(table, parts.train)
    X, harmoniser, selection = prepare_features(rows, table.blocks, recipe)
    test = study.rows(blocks, parts.test)
    test = test if harmoniser is None else harmoniser.transform(test, study.sources(parts.test))
    test = test if selection is None else selection.transform(test)
    return PreparedSplit(rows, np.vstack([X, test]), table.blocks, {"random_state": recipe.seed, **recipe.layer})
