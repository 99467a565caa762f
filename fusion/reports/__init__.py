"""Results and explanations as pages and figures.

The self-contained report, its figures, contact sheets of contours, the page of explanations, and tracking in MLflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.reports.contact_sheets import Overlays as Overlays
    from fusion.reports.contact_sheets import Tile as Tile
    from fusion.reports.contact_sheets import draw_dataset as draw_dataset
    from fusion.reports.contact_sheets import with_contours as with_contours
    from fusion.reports.contact_sheets import write_sheets as write_sheets
    from fusion.reports.explanation_page import Shown as Shown
    from fusion.reports.explanation_page import map_square as map_square
    from fusion.reports.explanation_page import page_text as page_text
    from fusion.reports.mlflow_tracking import open_tracker as open_tracker
    from fusion.reports.png import encode_png as encode_png
    from fusion.reports.png import png_data_uri as png_data_uri
    from fusion.reports.png import write_png as write_png
    from fusion.reports.sources_side_by_side import draw_sources as draw_sources

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "contact_sheets": ["Overlays", "Tile", "draw_dataset", "with_contours", "write_sheets"],
        "explanation_page": ["Shown", "map_square", "page_text"],
        "mlflow_tracking": ["open_tracker"],
        "png": ["encode_png", "png_data_uri", "write_png"],
        "sources_side_by_side": ["draw_sources"],
    },
)
