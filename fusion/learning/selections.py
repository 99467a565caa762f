"""The features that stability leaves in every split, for the notes of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fusion.feature_transforms.stable_features import Selection
from fusion.learning.fused_model import fit_harmoniser

if TYPE_CHECKING:
    from fusion.learning.fits import Fits


def selections(fits: Fits) -> list[Selection]:
    """Of every split the features of all blocks that its fits learn from; none where no stability is asked for."""
    recipe, found = fits.recipes[0], []
    for at, split in enumerate(fits.splits if recipe.stability is not None else ()):
        study = fits.study_of(at)
        units = study.training_rows(fits.compared, split.train)
        rows = units.of_cells(recipe.seed)
        X: NDArray[Any] = rows.X
        if recipe.harmonise.method != "none":
            X = fit_harmoniser(units, study.select(fits.compared).blocks, recipe).transform(X, rows.sources)
        found.append(Selection.fit(X, rows.y, rows.sources, recipe.stability or 0.0, rows.cells))
    return found
