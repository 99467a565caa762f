"""What fits many models and is no command's story.

Sets of blocks, importance and similarity of blocks, and how far one source lies from the others: cross-site
generalisation and domain shift.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.analysis.block_importance import importance as importance
    from fusion.analysis.block_similarity import redundancy as redundancy
    from fusion.analysis.block_subsets import feature_sets as feature_sets
    from fusion.analysis.block_subsets import sampled_orders as sampled_orders
    from fusion.analysis.cross_site import distances as distances
    from fusion.analysis.cross_site import drops_between_sites as drops_between_sites
    from fusion.analysis.cross_site import selective_prediction as selective_prediction
    from fusion.analysis.source_shift import Shift as Shift
    from fusion.analysis.source_shift import lines as lines
    from fusion.analysis.source_shift import shifts as shifts

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "block_importance": ["importance"],
        "block_similarity": ["redundancy"],
        "block_subsets": ["feature_sets", "sampled_orders"],
        "cross_site": ["distances", "drops_between_sites", "selective_prediction"],
        "source_shift": ["Shift", "lines", "shifts"],
    },
)
