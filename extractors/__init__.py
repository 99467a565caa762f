"""Things that measure a cell: handcrafted families and the network's embedding.

Each family is a package and an entry point of ``fusion.extractors``, found as a stranger's would be. What the
families share lies beside them: compiled loops, and descriptions read out of docstrings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from extractors.catalogue import by_docstrings as by_docstrings
    from extractors.feature_descriptions import described as described
    from extractors.numba_kernels import compiled as compiled

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "catalogue": ["by_docstrings"],
        "feature_descriptions": ["described"],
        "numba_kernels": ["compiled"],
    },
)
