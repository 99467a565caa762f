"""Pure functions of labels and scores.

Classification metrics cell by cell and subject by subject, with intervals over subjects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.metrics.classification import pooled as pooled
    from fusion.metrics.classification import predicted_classes as predicted_classes
    from fusion.metrics.jackknife import Spread as Spread
    from fusion.metrics.jackknife import Strata as Strata
    from fusion.metrics.jackknife import influences as influences
    from fusion.metrics.jackknife import intervals as intervals
    from fusion.metrics.jackknife import one_sided_p as one_sided_p
    from fusion.metrics.jackknife import p_values as p_values
    from fusion.metrics.jackknife import spread_of as spread_of
    from fusion.metrics.jackknife import spread_of_procedure as spread_of_procedure
    from fusion.metrics.judgement import Judgement as Judgement
    from fusion.metrics.judgement import judge_scores as judge_scores
    from fusion.metrics.scored_rows import reliability_of as reliability_of
    from fusion.metrics.scored_rows import reliability_rows as reliability_rows

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "classification": ["pooled", "predicted_classes"],
        "jackknife": [
            "Spread",
            "Strata",
            "influences",
            "intervals",
            "one_sided_p",
            "p_values",
            "spread_of",
            "spread_of_procedure",
        ],
        "judgement": ["Judgement", "judge_scores"],
        "scored_rows": ["reliability_of", "reliability_rows"],
    },
)
