"""What features are free of: measured on the same cells under another scale, stain or orientation.

A feature is ``scale_free``, ``stain_free`` or ``rotation_free`` if synthetic cells that are drawn again, larger and
smaller, in other stains, or turned and mirrored, keep their values: Lin's concordance between the values before and
after is at least ``LEAST`` under every such change. It falls short of 1 by noise, by a shift and by a stretch alike.
Source: Lin (1989), Biometrics 45(1):255-268.

``tags.csv`` holds what was found for the default parameters: ``python -m extractors.tags > extractors/tags.csv``.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from extractors.tag_list import TAGS
from fusion.cells import Cell
from fusion.plugins import Extractor, build_extractor
from fusion.synthetic import SyntheticDesign, draw_cell, draw_subjects
from fusion.synthetic_render import StainedCell, stain_cell

#: Concordance that counts as unchanged. Source: McBride (2005) calls 0.90 to 0.95 moderate, below it poor.
LEAST = 0.9

#: Cells that are drawn again: 40 tell a concordance of 0.9 within 0.04.
CELLS = 40

#: Scale at which cells are drawn first: 95 pixels across, as in many laboratories' pictures.
_BASE = 0.5

#: Factors on the scale; on the optical density of red, green and blue; and degrees.
_SCALES = (0.7, 1.4)
_STAINS = ((0.75, 0.75, 0.75), (0.8, 1.0, 1.25), (1.2, 0.85, 0.9))
_TURNS = (35.0, 90.0)

#: OD is lightened to this share, so that the darkest cell in the strongest stain still has levels to differ in.
_PALE = 0.6

Values = NDArray[np.float64]


def concordances(extractor: Extractor, cells: Sequence[StainedCell]) -> dict[str, Values]:
    """Tag -> float64 (features,), the least concordance over the changes that the tag is about.

    NaN where the values do not vary, or fewer than half of the cells have one on both sides.
    """
    before = extractor.extract([_shown(cell) for cell in cells]).astype(np.float64)

    def least(changes: Sequence[Mapping[str, object]]) -> Values:
        after = [extractor.extract([_shown(cell, **change) for cell in cells]) for change in changes]  # type: ignore[arg-type]
        return np.min([concordance(before, rows.astype(np.float64)) for rows in after], axis=0)

    return {
        "scale_free": least([{"scale": _BASE * factor} for factor in _SCALES]),
        "stain_free": least([{"stain": stain} for stain in _STAINS]),
        "rotation_free": least([{"turn": _TURNS[0]}, {"turn": _TURNS[1]}, {"mirrored": True}]),
    }


def concordance(before: Values, after: Values) -> Values:
    """Lin's concordance of every column of two (n, d) arrays, over the rows that have both values."""
    both = ~(np.isnan(before) | np.isnan(after))
    count = both.sum(axis=0)
    a, b = np.where(both, before, 0.0), np.where(both, after, 0.0)
    mean_a, mean_b = (part.sum(axis=0) / np.maximum(count, 1) for part in (a, b))
    a, b = np.where(both, a - mean_a, 0.0), np.where(both, b - mean_b, 0.0)
    size = (a**2 + b**2).sum(axis=0) / np.maximum(count, 1) + (mean_a - mean_b) ** 2
    # What varies by less than float32 can tell says nothing.
    usable = (count >= len(before) / 2) & (size > 1e-10 * np.maximum(mean_a**2, mean_b**2)) & (size > 0)
    shared = 2 * (a * b).sum(axis=0) / np.maximum(count, 1)
    return np.where(usable, shared / np.where(usable, size, 1.0), np.nan)


def draw(count: int, seed: int) -> list[StainedCell]:
    """Stained cells as different from each other as those of a synthetic data set."""
    design = SyntheticDesign(subjects=max(4, count), cells_per_subject=1, seed=seed)
    cells = []
    for subject in draw_subjects(design)[:count]:
        rng = np.random.default_rng([seed, subject.index])
        cells.append(stain_cell(draw_cell(design, subject, rng), rng))
    return cells


def _shown(
    cell: StainedCell,
    scale: float = _BASE,
    stain: tuple[float, float, float] = (1.0, 1.0, 1.0),
    turn: float = 0.0,
    mirrored: bool = False,
) -> Cell:
    """The cell cut out on black, without noise: what changes is what was asked to change."""
    layers = [part.astype(np.float32) for part in (cell.od, cell.mask, cell.nucleus)]
    if turn:
        side = cell.mask.shape[0]
        matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), turn, 1.0)
        layers = [np.asarray(cv2.warpAffine(part, matrix, (side, side)), np.float32) for part in layers]
    if mirrored:
        layers = [part[:, ::-1] for part in layers]
    layers[0] = np.exp(-_PALE * layers[0] * np.array(stain, np.float32))
    size = tuple(round(side * scale) for side in cell.mask.shape[::-1])
    light, inside, within = (np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA)) for part in layers)
    mask = inside >= 0.5
    rgb = np.rint(255 * light).astype(np.uint8)
    rgb[~mask] = 0
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    window = slice(max(0, rows[0] - 8), rows[-1] + 9), slice(max(0, columns[0] - 8), columns[-1] + 9)
    return Cell(
        np.ascontiguousarray(rgb[window]),
        np.ascontiguousarray(mask[window]),
        np.ascontiguousarray((mask & (within >= 0.5))[window]),
    )


def main() -> None:
    """Print ``tags.csv``."""
    from extractors.catalogue import FAMILIES

    cells = draw(CELLS, seed=0)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["family", "feature", *TAGS, *(f"{tag}_concordance" for tag in TAGS)])
    for family in FAMILIES:
        extractor = build_extractor(family)
        found = concordances(extractor, cells)
        for at, feature in enumerate(extractor.feature_names()):
            values = [found[tag][at] for tag in TAGS]
            writer.writerow(
                [family, feature, *(int(value >= LEAST) for value in values), *(f"{value:.3f}" for value in values)]
            )


if __name__ == "__main__":
    main()
