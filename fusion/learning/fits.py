"""What the fits of a comparison have in common: which recipe in which split, and what they may share.

What is to be known of a model beside its scores is asked while it is at hand (``Examination``): no model is kept, and
none is fitted twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fusion.features.blocks import is_control
from fusion.leakage.grouped_splits import Split
from fusion.learning import shared_distances
from fusion.learning.fused_model import (
    FusedModel,
    HeldOutModel,
)
from fusion.learning.learn import fit_on, refused
from fusion.learning.learnt_blocks import LearntBlock, inner_folds
from fusion.learning.recipe import Recipe
from fusion.learning.run import Run
from fusion.learning.study import Study
from fusion.metrics.decision_costs import expected_costs
from fusion.plugins.classifiers import Classifier, FitsDistances

#: Cells from which distances are worth sharing: below, a fit takes milliseconds whichever way.
_WORTH_SHARING = 500

#: The name of what a model says of units that it has learnt from, float64 (``Fits.learnt_rows``, classes).
LEARNT = "learnt"


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
    asked_learnt : units that models are asked for which they have learnt from, too: the answer ``LEARNT``. Of a run
        without a checkpoint, which would keep it and not give it back.
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
    asked_learnt: NDArray[np.intp] | None = None

    def asks(self, fit: Fit) -> bool:
        """Whether the model of a fit is asked anything beside its scores."""
        return self.examination is not None and not fit.labels and self.examination.asks(self, fit)

    def examined(self, found: Fitted, model: HeldOutModel) -> Fitted:
        """The fit with the answers of its model, where this is asked."""
        if self.examination is None or not self.asks(found.fit):
            return found
        return replace(found, answers={**found.answers, **self.examination(self, found.fit, model)})

    def learnt_rows(self, fit: Fit) -> NDArray[np.intp] | None:
        """The units of ``asked_learnt`` that the model of a fit has learnt from, in order; None where it is not asked:
        of images, or by other labels than the units'."""
        if self.asked_learnt is None or fit.labels or self.recipes[fit.recipe].takes_images:
            return None
        return np.intersect1d(self.asked_learnt, self.splits[fit.split].train)

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
