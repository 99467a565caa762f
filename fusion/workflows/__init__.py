"""One file a command's story: load, plan, learn, judge, write.

``train``, ``ablate``, ``evaluate``, ``predict``, ``explain``, ``inspect``, ``compare`` and ``demo`` as functions of
their settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.workflows.compare import compare_results as compare_results
    from fusion.workflows.demo.story import run_demo as run_demo
    from fusion.workflows.extract import run_extract as run_extract
    from fusion.workflows.settings_reference import reference as reference

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "compare": ["compare_results"],
        "demo.story": ["run_demo"],
        "extract": ["run_extract"],
        "settings_reference": ["reference"],
    },
)
