"""Learning one model: everything that is fitted is fitted here, on these cells and no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.data.classifier_inputs import CellInputs
from fusion.errors import UsageError
from fusion.features.blocks import Block
from fusion.learning._inner_folds import InnerFolds
from fusion.learning.fused_model import FusedModel, fit_rows
from fusion.learning.learnt_blocks import LearntBlock, inner_folds, learn_blocks
from fusion.learning.recipe import Recipe
from fusion.learning.run import Run
from fusion.learning.study import Study
from fusion.plugins.classifiers import Searches
from fusion.plugins.networks import LearnsBlock, TakesImages

_Rows = NDArray[np.intp]

#: Below, a class may be what a classifier refuses: an SVM asks for two cells, folds inside a training part for more.
_FEW = 5


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A model with the networks that were learnt with it.

    Attributes
    ----------
    recipe : how it was made.
    features : the half that measured cells go through.
    study : the cells of its study, with the blocks that were learnt.
    blocks, networks : these blocks, and the network behind each.
    """

    recipe: Recipe
    features: FusedModel
    study: Study
    blocks: tuple[LearntBlock, ...] = ()
    networks: tuple[LearnsBlock, ...] = ()

    @property
    def classes(self) -> list[str]:
        """Class labels in the order of the probabilities' columns."""
        return self.features.classes

    @property
    def network(self) -> TakesImages:
        """The network that sees images: the classifier, or the one behind the first learnt block."""
        classifier = self.features.classifier
        return classifier if isinstance(classifier, TakesImages) else self.networks[0]

    @property
    def chosen(self) -> dict[str, float]:
        """The parameters that folds inside the training part chose; none without a search."""
        return chosen_by(self.features)

    def predict_proba(self, units: _Rows) -> NDArray[np.float64]:
        """float64 (n, classes) for these cells of its study."""
        if self.recipe.takes_images:
            return self.features.predict_proba(images_of(self.features.classifier, self.study, self.recipe, units))
        rows = self.study.rows(self.recipe.blocks, units)
        return self.features.predict_proba(rows, self.study.sources(units))

    def remember(self, provenance: Mapping[str, Sequence[str]]) -> None:
        """Have its networks keep hashes of what they have learnt from."""
        for network in self.networks or [self.features.classifier]:
            if isinstance(network, LearnsBlock):
                network.remember(provenance)

    def as_blocks(self, folder: Path) -> list[Block]:
        """The learnt blocks as blocks that are measured, their weights in ``folder``."""
        return [
            block.as_measured(network, folder / f"{block.name}.safetensors")
            for block, network in zip(self.blocks, self.networks, strict=True)
        ]


def learn(
    study: Study, units: _Rows, recipe: Recipe, run: Run, *, learnt: Sequence[LearntBlock] = (), part: str = "all cells"
) -> FittedModel:
    """Fit a model on these cells by this recipe.

    Parameters
    ----------
    learnt : how the blocks that ``recipe.learnt`` names learn.
    part : what the training is called, in progress and among unfinished work.

    Raises
    ------
    UsageError : the classifier refuses its parameters or the data.
    """
    try:
        if recipe.takes_images:
            return FittedModel(recipe, _learn_images(study, units, recipe, run, part), study)
        own_blocks = tuple(block for block in learnt if block.name in recipe.learnt)
        own, networks = learn_blocks(study, units, own_blocks, run, part)
        folds = inner_folds(study, units, recipe, own_blocks, run) if own_blocks else None
        return FittedModel(recipe, fit_on(own, units, recipe, folds), own, own_blocks, tuple(networks))
    except (ValueError, TypeError) as error:
        raise refused(recipe, error, np.array(study.table.y)[units]) from error


def fit_on(study: Study, units: _Rows, recipe: Recipe, folds: InnerFolds | None = None) -> FusedModel:
    """Fit what features go through, on these cells of a study that has all of the recipe's blocks.

    Parameters
    ----------
    folds : inside the cells; None where all blocks are measured, and folds are slices.
    """
    rows = study.training_rows(recipe.blocks, units)
    return fit_rows(rows, study.select(recipe.blocks).blocks, recipe, folds or InnerFolds(rows))


def refused(recipe: Recipe, error: Exception, labels: NDArray) -> UsageError:
    """What a classifier refuses, in one line, and which class of these training cells is too small, if any is."""
    reason = " ".join(str(error).split())
    label, cells = min(Counter(labels.tolist()).items(), key=lambda each: each[1])
    is_small = cells < _FEW
    return UsageError(
        f"classifier '{recipe.classifier}' cannot be trained as asked",
        found=f"{reason}; of '{label}' there {'is 1 cell' if cells == 1 else f'are {cells} cells'} among the "
        f"{len(labels)} of a training part"
        if is_small
        else reason,
        do=f"Give more cells of '{label}', or leave it out with --classes." if is_small else "",
    )


def images_of(classifier: object, study: Study, recipe: Recipe, units: _Rows) -> CellInputs:
    """What a classifier of images is given of these cells."""
    assert isinstance(classifier, TakesImages)
    return study.inputs(classifier.input_transform(), recipe.blocks, units)


def chosen_by(model: FusedModel) -> dict[str, float]:
    """The parameters that a classifier chose by folds inside its training part; none without a search."""
    return dict(model.classifier.chosen_) if isinstance(model.classifier, Searches) else {}


def _learn_images(study: Study, units: _Rows, recipe: Recipe, run: Run, part: str) -> FusedModel:
    """A classifier of images, which fuses blocks by itself; an unfinished training of it is gone on with."""
    classifier = recipe.build()
    inputs = images_of(classifier, study, recipe, units)
    assert isinstance(classifier, TakesImages)
    training = run.training(part)
    classifier.fit(
        inputs,
        np.array(study.table.y)[units],
        study.table.groups[units],
        watch=training.watch,
        checkpoint=run.folder / part,
        resume=run.resume,
        log=training.log,
    )
    return FusedModel(None, classifier)
