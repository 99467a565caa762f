"""Splits that cannot leak, and the guards that refuse all others.

Grouped splits and the protocols built of them, near-duplicate images, and the provenance of what a model has met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.leakage.grouped_splits import LeakageError as LeakageError
    from fusion.leakage.grouped_splits import Split as Split
    from fusion.leakage.grouped_splits import SplitError as SplitError
    from fusion.leakage.grouped_splits import affordable_splits as affordable_splits
    from fusion.leakage.grouped_splits import grouped_folds as grouped_folds
    from fusion.leakage.protocols import Plan as Plan
    from fusion.leakage.protocols import check as check
    from fusion.leakage.protocols import external_plan as external_plan
    from fusion.leakage.protocols import leaking_subjects as leaking_subjects
    from fusion.leakage.protocols import make_plan as make_plan
    from fusion.leakage.provenance import check_unseen as check_unseen
    from fusion.leakage.provenance import trained_on as trained_on

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "grouped_splits": ["LeakageError", "Split", "SplitError", "affordable_splits", "grouped_folds"],
        "protocols": ["Plan", "check", "external_plan", "leaking_subjects", "make_plan"],
        "provenance": ["check_unseen", "trained_on"],
    },
)
