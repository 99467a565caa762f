"""Everything that is fitted, and the road that all commands take to it.

The fused model, cross-validation, calibration and thresholds, augmented cells, cross-fitted embeddings, out-of-
distribution detection, and what a model says of cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.learning.augmented_cells import augmentation_notes as augmentation_notes
    from fusion.learning.augmented_cells import check_sources as check_sources
    from fusion.learning.cross_validation import cross_validate as cross_validate
    from fusion.learning.cross_validation import prepare_fits as prepare_fits
    from fusion.learning.decision.calibration import Calibration as Calibration
    from fusion.learning.decision.thresholds import DecisionSettings as DecisionSettings
    from fusion.learning.fits import Fit as Fit
    from fusion.learning.fits import Fits as Fits
    from fusion.learning.fused_model import FusedModel as FusedModel
    from fusion.learning.learn import FittedModel as FittedModel
    from fusion.learning.learnt_blocks import LearntBlock as LearntBlock
    from fusion.learning.novelty import Novelty as Novelty
    from fusion.learning.novelty import learn_novelty as learn_novelty
    from fusion.learning.parameter_search import Span as Span
    from fusion.learning.parameter_search import check_optuna as check_optuna
    from fusion.learning.parameter_search import tune as tune
    from fusion.learning.predictions import Predictions as Predictions
    from fusion.learning.predictions import cell_rows as cell_rows
    from fusion.learning.predictions import subject_rows as subject_rows
    from fusion.learning.recipe import Recipe as Recipe
    from fusion.learning.recipe import recipe_of as recipe_of
    from fusion.learning.refusals import batches_setting as batches_setting
    from fusion.learning.refusals import check_processes as check_processes
    from fusion.learning.refusals import check_recipes as check_recipes
    from fusion.learning.run import Run as Run
    from fusion.learning.run import check_tensorboard as check_tensorboard
    from fusion.learning.run import half_the_memory as half_the_memory
    from fusion.learning.scaled_blocks import ScaledBlocks as ScaledBlocks
    from fusion.learning.scaled_blocks import scale_block as scale_block
    from fusion.learning.shared_distances import Distances as Distances
    from fusion.learning.shared_distances import SharedDistances as SharedDistances
    from fusion.learning.study import Images as Images
    from fusion.learning.study import Study as Study
    from fusion.learning.training_quantiles import Reference as Reference
    from fusion.learning.training_quantiles import learn_reference as learn_reference

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "augmented_cells": ["augmentation_notes", "check_sources"],
        "decision.calibration": ["Calibration"],
        "decision.thresholds": ["DecisionSettings"],
        "cross_validation": ["cross_validate", "prepare_fits"],
        "fits": ["Fit", "Fits"],
        "fused_model": ["FusedModel"],
        "learn": ["FittedModel"],
        "learnt_blocks": ["LearntBlock"],
        "novelty": ["Novelty", "learn_novelty"],
        "parameter_search": ["Span", "check_optuna", "tune"],
        "predictions": ["Predictions", "cell_rows", "subject_rows"],
        "recipe": ["Recipe", "recipe_of"],
        "refusals": ["batches_setting", "check_processes", "check_recipes"],
        "run": ["Run", "check_tensorboard", "half_the_memory"],
        "scaled_blocks": ["ScaledBlocks", "scale_block"],
        "shared_distances": ["Distances", "SharedDistances"],
        "study": ["Images", "Study"],
        "training_quantiles": ["Reference", "learn_reference"],
    },
)
