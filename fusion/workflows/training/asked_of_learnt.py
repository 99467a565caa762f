"""What models of folds and the kept model say of the same training units: it puts held-out scores on one scale."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fusion.data.units import Units
from fusion.evaluation.promises.held_out import HeldOut, OwnScores
from fusion.evaluation.promises.model_scales import LearntScores, on_one_scale
from fusion.evaluation.scores import Scores
from fusion.learning.fits import LEARNT, Fits, Fitted
from fusion.learning.learn import FittedModel
from fusion.learning.study import Study

#: Subjects of a class, and cells of a subject, that models are asked for: a mean and a standard deviation are no better
#: for more, and a second prediction of all training cells takes as long as a fit does.
_SUBJECTS, _CELLS = 100, 40


@dataclass(frozen=True, eq=False)
class AsksOfLearnt:
    """The training units that every model is asked for, and what models of folds have said.

    Attributes
    ----------
    rows : ascending.
    """

    rows: NDArray[np.intp]
    _heard: dict[int, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def of(cls, study: Study, seed: int) -> Self:
        """Some cells of some subjects of each class, drawn by chance; all of few."""
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(25,)))
        subjects, labels = study.table.subject_numbers, np.array(study.table.y, object).astype(str)
        chosen = []
        for label in study.classes:
            of_class = np.flatnonzero(labels == label)
            for who in rng.permutation(np.unique(subjects[of_class]))[:_SUBJECTS]:
                chosen.append(rng.permutation(of_class[subjects[of_class] == who])[:_CELLS])
        return cls(np.sort(np.concatenate([np.empty(0, np.intp), *chosen])))

    def hear(self, found: Fitted) -> None:
        """Keep what the model of a fold has said."""
        if LEARNT in found.answers:
            self._heard[found.fit.split] = np.asarray(found.answers[LEARNT], np.float64)

    def answers(self, fits: Fits, model: FittedModel) -> LearntScores | None:
        """What all models say; None where a model is of images, which is not asked twice."""
        if not self._heard:
            return None
        shape = (len(fits.study), len(model.classes))
        folds = {at: np.full(shape, np.nan) for at in self._heard}
        for at, proba in self._heard.items():
            folds[at][np.intersect1d(self.rows, fits.splits[at].train)] = proba
        whole = np.full(shape, np.nan)
        whole[self.rows] = model.predict_proba(self.rows)
        return LearntScores(folds, whole)


def own_scores_of(
    cells: Units, scores: Scores, model: FittedModel, learnt: LearntScores | None, seed: int
) -> OwnScores:
    """What the promises of a model rest on: held-out scores of these units, those of sets on the model's own scale."""
    held = HeldOut.of(cells, scores, model.classes)
    own = held.own_scores(seed)
    if learnt is None:
        return own
    return replace(on_one_scale(held, cells, learnt).own_scores(seed), unscaled=own.unscaled)
