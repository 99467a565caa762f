"""Pure functions of labels and scores.

Classification metrics cell by cell and subject by subject, under thousands of weights at once, with intervals that
resample whole subjects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.metrics.classification import judge_scores as judge_scores
    from fusion.metrics.classification import pooled as pooled
    from fusion.metrics.classification import predicted_classes as predicted_classes
    from fusion.metrics.cluster_bootstrap import bca as bca
    from fusion.metrics.cluster_bootstrap import bootstrap_p as bootstrap_p
    from fusion.metrics.cluster_bootstrap import can_be_drawn as can_be_drawn
    from fusion.metrics.cluster_bootstrap import corrected_error as corrected_error
    from fusion.metrics.cluster_bootstrap import draw_groups as draw_groups
    from fusion.metrics.cluster_bootstrap import percentile as percentile
    from fusion.metrics.cluster_bootstrap import strata_of as strata_of
    from fusion.metrics.scored_rows import reliability_of as reliability_of
    from fusion.metrics.scored_rows import reliability_rows as reliability_rows

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "classification": ["judge_scores", "pooled", "predicted_classes"],
        "cluster_bootstrap": [
            "bca",
            "bootstrap_p",
            "can_be_drawn",
            "corrected_error",
            "draw_groups",
            "percentile",
            "strata_of",
        ],
        "scored_rows": ["reliability_of", "reliability_rows"],
    },
)
