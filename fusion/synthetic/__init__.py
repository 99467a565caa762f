"""Cells with known truth, laid out like C-NMC 2019.

For trying Fusion out and for proving its measurements: subjects and their cells, the painting of one cell, sites that
stain and photograph it each in its own way, cells as bare traits, and patients put together of real cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.synthetic.cells import SyntheticDesign as SyntheticDesign
    from fusion.synthetic.cells import draw_cell as draw_cell
    from fusion.synthetic.cells import draw_subjects as draw_subjects
    from fusion.synthetic.cells import synthesize as synthesize
    from fusion.synthetic.constructed_patients import construct_patients as construct_patients
    from fusion.synthetic.laboratories import red_cells as red_cells
    from fusion.synthetic.rendering import paint_cell as paint_cell
    from fusion.synthetic.traits import draw_traits as draw_traits

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "cells": ["SyntheticDesign", "draw_cell", "draw_subjects", "synthesize"],
        "constructed_patients": ["construct_patients"],
        "laboratories": ["red_cells"],
        "rendering": ["paint_cell"],
        "traits": ["draw_traits"],
    },
)
