"""Cells with known truth, laid out like C-NMC 2019.

For trying Fusion out and for proving its measurements: subjects and their cells, the painting of one cell, and
sites that stain and photograph it each in its own way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.synthetic.cells import SyntheticDesign as SyntheticDesign
    from fusion.synthetic.cells import draw_cell as draw_cell
    from fusion.synthetic.cells import draw_subjects as draw_subjects
    from fusion.synthetic.cells import synthesize as synthesize
    from fusion.synthetic.laboratories import red_cells as red_cells
    from fusion.synthetic.rendering import paint_cell as paint_cell

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "cells": ["SyntheticDesign", "draw_cell", "draw_subjects", "synthesize"],
        "laboratories": ["red_cells"],
        "rendering": ["paint_cell"],
    },
)
