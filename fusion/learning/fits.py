"""Every fit of a comparison: which recipe in which split, sharing what can be shared.

Fits of one classifier in one split share their scaled blocks, and a kernel SVM its distances: memory, not another
way of learning. What does not fit into memory is computed again. What is to be known of a model beside its scores is
asked while it is at hand (``Examination``): no model is kept, and none is fitted twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fusion.features.blocks import is_control
from fusion.leakage.grouped_splits import Split
from fusion.learning import shared_distances
from fusion.learning._inner_folds import InnerFolds
from fusion.learning._training_rows import TrainingRows
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
from fusion.learning.learn import chosen_by, fit_on, refused
from fusion.learning.learnt_blocks import LearntBlock, inner_folds
from fusion.learning.recipe import Recipe
from fusion.learning.run import Run
from fusion.learning.scaled_blocks import ScaledBlocks
from fusion.learning.study import Study
from fusion.metrics.decision_costs import expected_costs
from fusion.plugins.classifiers import Classifier, FitsDistances, Searches

#: Fits below which another worker process costs more to start than it saves, and values of all their tables likewise.
_WORTH_A_WORKER, _VALUES_WORTH_A_WORKER = 20, 2_000_000

#: Cells from which distances are worth sharing: below, a fit takes milliseconds whichever way.
_WORTH_SHARING = 500


@dataclass(frozen=True)
class Fit:
    """One model to fit: the numbers of its recipe and of its split, and by which labels: 0 for those of the cells, else
    the so-manieth of ``Fits.permuted``."""

    recipe: int
    split: int
    labels: int = 0


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fit with float64 (test cells, classes) probabilities, the threshold that it chose, NaN for none, the
    parameters, of a network its history, see ``run.history_of``, float64 (classes, classes) costs by which it predicts,
    None for none, and what its model was asked beside."""

    fit: Fit
    proba: NDArray[np.floating[Any]]
    threshold: float
    chosen: Mapping[str, float]
    history: NDArray[np.floating[Any]] | None = None
    costs: NDArray[np.float64] | None = None
    answers: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict)

    @property
    def expected_costs(self) -> NDArray[np.float64]:
        """float64 (test cells, classes), of predicting each class; NaN without costs."""
        if self.costs is None:
            return np.full(self.proba.shape, np.nan)
        return expected_costs(np.asarray(self.proba, np.float64), self.costs)


class Examination(Protocol):
    """What the models of a comparison are asked beside their scores, while they are at hand; it travels to workers."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of its answers."""
        ...

    def asks(self, load: Fits, fit: Fit) -> bool:
        """Whether the model of this fit is asked."""
        ...

    def __call__(self, load: Fits, fit: Fit, model: HeldOutModel) -> Mapping[str, NDArray[np.floating[Any]]]:
        """The answers of one model."""
        ...


@dataclass(frozen=True, eq=False)
class Fits:
    """What the fits of a comparison have in common.

    Attributes
    ----------
    study : the cells, with their measured blocks.
    embedded : of each learnt block, for every split float32 (n, channels), the cells as the split's network sees them.
    learnt : how these blocks learn.
    permuted : sets of n labels that cells are also learnt by, to see what is scored where there is nothing to learn.
    examination : what models are asked beside their scores; None for nothing.
    sharing : what the fits of each classifier in one split share; None decides by how many they are, and how large.
    """

    study: Study
    splits: tuple[Split, ...]
    recipes: tuple[Recipe, ...]
    run: Run
    embedded: Mapping[str, tuple[NDArray[np.float32], ...]] = field(default_factory=dict)
    learnt: tuple[LearntBlock, ...] = ()
    permuted: tuple[NDArray[Any], ...] = ()
    examination: Examination | None = None
    sharing: Mapping[str, str] | None = None

    def asks(self, fit: Fit) -> bool:
        """Whether the model of a fit is asked anything beside its scores."""
        return self.examination is not None and not fit.labels and self.examination.asks(self, fit)

    def examined(self, found: Fitted, model: HeldOutModel) -> Fitted:
        """The fit with the answers of its model, where this is asked."""
        if self.examination is None or not self.asks(found.fit):
            return found
        return replace(found, answers=self.examination(self, found.fit, model))

    def labels_of(self, fit: Fit) -> NDArray[Any]:
        """n labels by which a fit learns."""
        return self.permuted[fit.labels - 1] if fit.labels else np.array(self.study.table.y)

    def study_for(self, fit: Fit) -> Study:
        """The study as a fit has it: with the learnt blocks of its split, and its own labels."""
        own = self.study_of(fit.split)
        return own if not fit.labels else replace(own, table=replace(own.table, y=tuple(self.labels_of(fit))))

    def study_of(self, split: int) -> Study:
        """The study with the learnt blocks as the fits of this split have them."""
        own = self.study
        for name, rows in self.embedded.items():
            own = own.with_block(name, rows[split])
        return own

    def fuse(self, fit: Fit) -> FusedModel:
        """Learn the half of a model that features go through, on the training part of its split.

        Raises
        ------
        UsageError : the classifier refuses its parameters or the data.
        """
        recipe, train, folds = self.recipes[fit.recipe], self.splits[fit.split].train, None
        if self.trains_inner_networks(recipe):
            learnt = [block for block in self.learnt if block.name in recipe.learnt]
            folds = inner_folds(self.study, train, recipe, learnt, self.run)
        try:
            return fit_on(self.study_for(fit), train, recipe, folds)
        except (ValueError, TypeError) as error:
            raise refused(recipe, error, self.labels_of(fit)[train]) from error

    @property
    def blocks(self) -> list[str]:
        """Names of all blocks, measured and learnt."""
        return [*self.study.table.blocks, *self.embedded]

    @property
    def compared(self) -> list[str]:
        """Names of the blocks whose sets are compared: all but controls."""
        return [name for name in self.blocks if not is_control(name)]

    @property
    def trains_networks(self) -> bool:
        """Whether any fit trains a network, or stands on one that was trained for its split."""
        return bool(self.embedded) or any(recipe.takes_images for recipe in self.recipes)

    @staticmethod
    def trains_inner_networks(recipe: Recipe) -> bool:
        """Whether networks are trained for the folds inside a training part."""
        return bool(recipe.learnt and recipe.nested and recipe.held_out_steps())

    def is_for_workers(self, fit: Fit) -> bool:
        """Whether a fit trains no network: images and networks stay in this process."""
        recipe = self.recipes[fit.recipe]
        return not recipe.takes_images and not self.trains_inner_networks(recipe)

    def name(self, fit: Fit) -> str:
        """What a fit's scores are kept under."""
        by = f"permuted-{fit.labels:04d}/" if fit.labels else ""
        return f"{by}{fit.split:04d}/{self.recipes[fit.recipe].name}"

    def read(self, fit: Fit) -> Fitted | None:
        """A fit that an earlier run has finished; None where there is none."""
        checkpoint, name = self.run.checkpoint, self.name(fit)
        if checkpoint is None or (kept := checkpoint.read(name)) is None:
            return None
        asked = self.examination.keys if self.examination is not None and self.asks(fit) else ()
        answers = {key: answer for key in asked if (answer := checkpoint.read(f"{name}.{key}")) is not None}
        if len(answers) < len(asked):
            return None
        history = checkpoint.read(f"{name}-history")
        k = len(self.study.classes)
        costs = np.array(kept[0, k + 1 :], np.float64).reshape(k, k) if kept.shape[1] > k + 1 else None
        return Fitted(fit, kept[:, :k], float(kept[0, k]), checkpoint.read_values(name), history, costs, answers)

    def keep(self, found: Fitted) -> Fitted:
        """The fit, kept for a run that goes on from here."""
        if (checkpoint := self.run.checkpoint) is None:
            return found
        # Threshold and costs stand beside the probabilities of every cell: one array is kept whole or not at all, and
        # last.
        if found.chosen:
            checkpoint.keep_values(self.name(found.fit), found.chosen)
        if found.history is not None:
            checkpoint.keep(f"{self.name(found.fit)}-history", found.history)
        for key, answer in found.answers.items():
            checkpoint.keep(f"{self.name(found.fit)}.{key}", answer)
        rule = np.append(found.threshold, () if found.costs is None else found.costs)
        checkpoint.keep(self.name(found.fit), np.hstack([found.proba, np.tile(rule, (len(found.proba), 1))]))
        return found

    @cached_property
    def workload(self) -> Fits:
        """The same without images and progress, as it travels to workers."""
        return replace(self, study=replace(self.study, images={}), run=replace(self.run, progress=None))

    @cached_property
    def shared(self) -> Mapping[str, str]:
        """What the fits of each label in one split share: "distances", "scaling", "members" (the models of blocks that
        are fused late) or "nothing"."""
        if self.sharing is not None:
            return self.sharing
        return {label: self._shared(label) for label in dict.fromkeys(recipe.label for recipe in self.recipes)}

    def lacks_room(self, label: str) -> bool:
        """Whether distances would be shared if there were more memory."""
        return self._pays(label) and self.bytes_a_worker > self.run.memory

    @cached_property
    def bytes_a_worker(self) -> int:
        """Bytes that shared distances of one split hold at most."""
        blocks = len(self.blocks)
        times = 1 + max((recipe.augment.per_cell for recipe in self.recipes), default=0)
        needed = (
            shared_distances.memory_needed(times * len(split.train), len(split.test), blocks) for split in self.splits
        )
        return max(1, max(needed, default=1))

    def _shared(self, label: str) -> str:
        recipes = [recipe for recipe in self.recipes if recipe.label == label]
        # Of a single recipe nothing is shared, in whichever order fits are finished by runs that were stopped.
        if (
            self._fits_a_split(recipes) < 2
            or not all(recipe.is_shareable for recipe in recipes)
            or recipes[0].takes_images
            or (self.permuted and recipes[0].stability is not None)  # which looks at the labels
        ):
            return "nothing"
        if recipes[0].fuse == "late":
            return "members"
        if self._pays(label):
            return "nothing" if self.lacks_room(label) else "distances"
        is_large = can_share_distances(recipes[0].build()) and len(self.study) >= _WORTH_SHARING
        # An SVM of so many cells takes longer than scaling, and is better fitted beside others.
        return "scaling" if recipes[0].build().prepares == "standard" and not is_large else "nothing"

    def _fits_a_split(self, recipes: Sequence[Recipe]) -> int:
        return len(recipes) * max(1, len(self.permuted))

    def _pays(self, label: str) -> bool:
        recipes = [recipe for recipe in self.recipes if recipe.label == label]
        if recipes[0].fuse == "late":
            return False
        is_large = len(self.study) >= _WORTH_SHARING and (len(self.blocks) > 1 or bool(self.permuted))
        is_large &= self._fits_a_split(recipes) > 1
        return is_large and all(recipe.is_shareable for recipe in recipes) and can_share_distances(recipes[0].build())


def can_share_distances(classifier: Classifier) -> bool:
    """Whether the classifier can be fitted on distances, with the parameters that it has."""
    return isinstance(classifier, FitsDistances) and classifier.fits_distances


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
    X, harmoniser, selection = prepare_features(rows, recipe)
    test = study.rows(blocks, parts.test)
    test = test if harmoniser is None else harmoniser.transform(test, study.sources(parts.test))
    test = test if selection is None else selection.transform(test)
    return PreparedSplit(rows, np.vstack([X, test]), table.blocks, {"random_state": recipe.seed, **recipe.layer})
