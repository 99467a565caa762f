"""The page and the API of ``fusion serve``: images in, answers out, nothing kept.

The application, the guard before every request, the reading of uploads, and the page's templates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.serve.app import example_cell as example_cell
    from fusion.serve.app import serve as serve

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "app": ["example_cell", "serve"],
    },
)
