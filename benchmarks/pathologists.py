"""How named features rank cells beside attributes that pathologists gave: the table of docs/agreement.md.

    python -m benchmarks.pathologists ../shared/data/pbc-barcelona/labels.csv
    python -m benchmarks.pathologists ../shared/data/pbc-barcelona/labels.csv --other-half

The table names the attributes of WBCAtt (Tsutsui et al., NeurIPS 2023) in columns. A hash of each cell's path puts it
into one half: features are built on the development half, and the other is asked afterwards. AUROC with 95% intervals
by bootstrap over cells; within types, weighted by their pairs of cells, where a type has five cells of either kind.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extractors.colour.extractor import Colour
from extractors.morphology.extractor import Morphology
from extractors.texture.extractor import Texture
from fusion.images.cell import decode_image, make_cell, read_bytes

#: Draws of cells behind an interval.
DRAWS = 1000

#: Cells of either kind from which a type is asked about by itself.
LEAST = 5


class Asked(NamedTuple):
    """A column of attributes, its values that count as yes and as no, and the feature that should rank them so."""

    attribute: str
    yes: tuple[str, ...]
    no: tuple[str, ...]
    feature: str


_LOBES = ("nucleus_lobe_clefts", "nucleus_lobes", "nucleus_lobe_constriction")
_VACUOLES = ("cytoplasm_vacuole_paleness", "cytoplasm_vacuole_fraction")
_CHROMATIN = ("nucleus_chromatin_density", "nucleus_chromatin_density_of_palest_half")
_MULTILOBED, _BILOBED = "segmented-multilobed", "segmented-bilobed"
_BAND, _ROUND, _INDENTED, _IRREGULAR = (
    "unsegmented-band",
    "unsegmented-round",
    "unsegmented-indented",
    "irregular",
)

#: Every attribute of WBCAtt stands here, those too that no feature tells.
ASKED = (
    Asked("cell_size", ("big",), ("small",), "cell_area"),
    Asked("cell_shape", ("irregular",), ("round",), "cell_bending_energy"),
    *(Asked("nucleus_shape", (_MULTILOBED,), (_ROUND,), name) for name in _LOBES),
    *(Asked("nucleus_shape", (_MULTILOBED,), (_ROUND, _INDENTED), name) for name in _LOBES),
    Asked("nucleus_shape", (_BILOBED,), (_ROUND, _INDENTED), "nucleus_lobes"),
    Asked("nucleus_shape", (_MULTILOBED,), (_BILOBED,), "nucleus_lobes"),
    Asked("nucleus_shape", (_BAND,), (_ROUND,), "nucleus_lobe_clefts"),
    Asked("nucleus_shape", (_ROUND,), (_INDENTED,), "nucleus_solidity"),
    Asked("nucleus_shape", (_ROUND,), (_IRREGULAR,), "nucleus_solidity"),
    Asked("nuclear_cytoplasmic_ratio", ("high",), ("low",), "nucleus_cell_area_ratio"),
    *(Asked("chromatin_density", ("densely",), ("loosely",), name) for name in _CHROMATIN),
    *(Asked("cytoplasm_vacuole", ("yes",), ("no",), name) for name in _VACUOLES),
    Asked("cytoplasm_texture", ("frosted",), ("clear",), "cytoplasm_azure_share"),
    Asked("cytoplasm_colour", ("blue", "purple blue"), ("light blue",), "cytoplasm_azure_share"),
    Asked("cytoplasm_colour", ("purple blue",), ("blue",), "cytoplasm_granule_share"),
    Asked("granularity", ("yes",), ("no",), "cytoplasm_granule_share"),
    Asked("granule_type", ("round",), ("small", "coarse", "nil"), "cytoplasm_granule_redness"),
    Asked("granule_type", ("coarse",), ("small", "round", "nil"), "cell_eosin_y_percentile_95"),
    Asked("granule_type", ("small",), ("round", "coarse", "nil"), "cell_lab_l_percentile_50"),
    Asked("granule_colour", ("red",), ("purple", "pink", "nil"), "cytoplasm_granule_redness"),
    Asked("granule_colour", ("purple",), ("red", "pink", "nil"), "cell_eosin_y_percentile_95"),
    Asked("granule_colour", ("pink",), ("red", "purple", "nil"), "cell_lab_l_percentile_50"),
)


def attributes_of(table: Path, *, other_half: bool) -> list[dict[str, str]]:
    """The rows of one half of the cells that have attributes."""
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["granularity"]]
    return [row for row in rows if int(hashlib.sha256(row["path"].encode()).hexdigest(), 16) % 2 == other_half]


def features_of(table: Path, rows: Sequence[Mapping[str, str]]) -> dict[str, NDArray[np.float32]]:
    """Features by name, of these cells, masks found."""
    cells = [make_cell(decode_image(read_bytes(table.parent / row["path"]))) for row in rows]
    values: dict[str, NDArray[np.float32]] = {}
    for extractor in (Morphology(), Colour(), Texture(methods=("chromatin",))):
        values |= dict(zip(extractor.feature_names(), extractor.extract(cells).T, strict=True))
    return values


def auroc(is_yes: NDArray[np.bool_], value: NDArray[Any]) -> float:
    """The share of pairs that are ranked rightly, ties half."""
    from scipy.stats import rankdata

    positives = int(is_yes.sum())
    ranks = rankdata(value)[is_yes].sum() - positives * (positives + 1) / 2
    return float(ranks / (positives * (len(is_yes) - positives)))


def with_interval(is_yes: NDArray[np.bool_], value: NDArray[Any]) -> tuple[float, float, float]:
    """AUROC and its 95% interval, cells drawn anew within each kind."""
    rng = np.random.default_rng(0)
    kinds = np.flatnonzero(is_yes), np.flatnonzero(~is_yes)
    drawn = [np.concatenate([rng.choice(kind, len(kind)) for kind in kinds]) for _ in range(DRAWS)]
    low, high = np.quantile([auroc(is_yes[rows], value[rows]) for rows in drawn], (0.025, 0.975))
    return auroc(is_yes, value), float(low), float(high)


def within_types(is_yes: NDArray[np.bool_], value: NDArray[Any], types: NDArray[Any]) -> tuple[float, list[str]] | None:
    """AUROC over pairs of cells of one type, and the types that have them; None where none has."""
    found, pairs, names = [], [], []
    for name in sorted(set(types.tolist())):
        own = types == name
        yes = int(is_yes[own].sum())
        if min(yes, int(own.sum()) - yes) >= LEAST:
            found.append(auroc(is_yes[own], value[own]))
            pairs.append(yes * (int(own.sum()) - yes))
            names.append(name)
    return (float(np.average(found, weights=pairs)), names) if found else None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--other-half", action="store_true", help="the half that features were not built on")
    options = parser.parse_args(arguments)
    rows = attributes_of(options.table, other_half=options.other_half)
    values = features_of(options.table, rows)
    types = np.array([row["label"] for row in rows])
    print(f"{len(rows)} cells, {'other' if options.other_half else 'development'} half")
    for asked in ASKED:
        given, value = np.array([row[asked.attribute] for row in rows]), values[asked.feature]
        known = np.isin(given, asked.yes + asked.no) & ~np.isnan(value)
        is_yes = np.isin(given, asked.yes)
        figure, low, high = with_interval(is_yes[known], value[known])
        within = within_types(is_yes[known], value[known], types[known])
        inside = "" if within is None else f"  within {within[0]:.3f} ({', '.join(within[1])})"
        against = f"{'/'.join(asked.yes)} against {'/'.join(asked.no)}"
        print(f"{asked.attribute}: {against}, {asked.feature}")
        print(f"  {figure:.3f} [{low:.3f}, {high:.3f}]  {is_yes[known].sum()} of {known.sum()}{inside}", flush=True)


if __name__ == "__main__":
    main()
