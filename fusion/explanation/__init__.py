"""Why a model calls a cell what it calls it.

Shapley values of features and blocks, maps of where in its image a cell has what speaks for a class, and the training
cells nearest to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.explanation.explanation import Explanation as Explanation
    from fusion.explanation.explanation import Reason as Reason
    from fusion.explanation.explanation import explain_cell as explain_cell
    from fusion.explanation.explanation import explain_measured as explain_measured
    from fusion.explanation.nearest_training_cells import Gallery as Gallery
    from fusion.explanation.nearest_training_cells import Neighbour as Neighbour
    from fusion.explanation.nearest_training_cells import open_gallery as open_gallery

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "explanation": ["Explanation", "Reason", "explain_cell", "explain_measured"],
        "nearest_training_cells": ["Gallery", "Neighbour", "open_gallery"],
    },
)
