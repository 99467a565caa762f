"""Features as a haematologist files and calls them: the group each belongs to, its plain name, and what agrees with it.

Groups are what is looked at in a smear: size and shape of cell and nucleus, chromatin, cytoplasm, granules, vacuoles.
Agreement is that of ``docs/agreement.md``: AUROC on the cells that no feature was built on, against attributes that
pathologists gave (Tsutsui et al. 2023, WBCAtt, NeurIPS).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from fusion.plugins.extractors import Description

#: Feature -> group, plain name, and the attribute that it agrees with; those that pathologists' own words confirm.
_SEEN = {
    "nucleus_cell_area_ratio": (
        "N:C ratio",
        "N:C ratio, nucleus over cell by area",
        "nucleus large for its cell",
        0.91,
    ),
    "nucleus_lobe_clefts": ("nuclear shape", "clefts and gaps between the lobes of the nucleus", "multilobed", 0.99),
    "nucleus_lobes": ("nuclear shape", "number of lobes of the nucleus", "multilobed", 0.90),
    "nucleus_lobe_constriction": ("nuclear shape", "constriction between the lobes", "multilobed", 0.95),
    "nucleus_chromatin_density": ("chromatin", "density of the chromatin", "chromatin dense", 0.92),
    "nucleus_chromatin_density_of_palest_half": (
        "chromatin",
        "density of the chromatin where it is palest",
        "chromatin dense",
        0.91,
    ),
    "cytoplasm_azure_share": (
        "cytoplasm colour",
        "basophilia of the cytoplasm, blue over all dye",
        "blue cytoplasm",
        0.98,
    ),
    "cytoplasm_granule_share": ("granules", "share of the cytoplasm with granules", "granules", 0.98),
    "cytoplasm_granule_redness": ("granules", "redness of the granules", "red granules", 0.99),
    "cell_eosin_y_percentile_95": ("granules", "deepest red or purple of the cell", "purple granules", 0.95),
    "cytoplasm_vacuole_fraction": ("vacuoles", "share of the cytoplasm that is vacuoles", "vacuoles", 0.88),
    "cytoplasm_vacuole_paleness": ("vacuoles", "paleness of the palest spots of the cytoplasm", "vacuoles", 0.85),
}

#: Further plain names.
_WORDS = {
    "nucleus_offset": "distance of the nucleus from the middle of the cell",
    "nucleus_count": "number of separate parts of the nucleus",
    "contrast_delta_e": "difference in colour between nucleus and cytoplasm",
    "cytoplasm_basophilia": "blue of the cytoplasm over that of the nucleus",
    "nucleus_glcm_contrast_d1_mean": "fine contrast of the chromatin",
    "nucleus_glcm_entropy_d1_mean": "disorder of the chromatin",
    "nucleus_glcm_correlation_d1_mean": "smoothness of the chromatin",
    "cell_glcm_contrast_d1_mean": "fine contrast of the whole cell",
    "cell_glcm_entropy_d1_mean": "disorder of the whole cell's texture",
    "cell_glcm_correlation_d1_mean": "smoothness of the whole cell",
    "nucleus_chromatin_heterogeneity": "unevenness of the chromatin",
    "nucleus_chromatin_condensed_share": "share of condensed chromatin",
    "nucleus_chromatin_condensed_contrast": "contrast of condensed and open chromatin",
    "nucleus_chromatin_clump_count": "number of chromatin clumps",
    "nucleus_chromatin_clump_area": "size of the chromatin clumps",
    "nucleus_chromatin_margination": "chromatin at the rim of the nucleus",
    "nucleus_chromatin_correlation_length": "coarseness of the chromatin",
    "nucleus_chromatin_spot_count": "number of pale spots in the nucleus, such as nucleoli",
    "nucleus_chromatin_spot_area": "size of the pale spots in the nucleus, such as nucleoli",
    "nucleus_chromatin_spot_contrast": "paleness of the spots in the nucleus, such as nucleoli",
}

_AREAS = ("area", "perimeter", "convex_area", "convex_perimeter")
_SIZES = (*_AREAS, "equivalent_diameter", "major_axis", "minor_axis", "max_feret", "min_feret")

#: Measures that say nothing to a person by themselves: dyes of histology, which no blood smear has, moments and waves
#: of contours, patterns and runs of grey values, primary colours, which stain and light decide, and shapes of
#: distributions.
_UNQUOTED = re.compile(
    r"(?!eosin_y)(haematoxylin|eosin|dab|residual|red|green|blue|value|hu|zernike|fourier|euler|lbp|tas|glrlm|glszm|"
    r"band_energy|glcm(?!_(contrast|entropy|correlation)_d1_mean))(_.*)?|.*_(skewness|kurtosis|percentile_\d+)"
)

#: Channels and statistics in plain words.
_CHANNELS = {
    "eosin_y": "red dye (eosin)",
    "azure": "blue dye (azure)",
    "residual": "colour that neither dye explains",
    "value": "brightness",
    "lab_l": "lightness",
    "lab_a": "green to red",
    "lab_b": "blue to yellow",
}
_STATISTICS = {"mean": "mean", "std": "spread", "skewness": "skewness", "kurtosis": "weight of the tails"}

_REGION = re.compile(r"(cell|nucleus|cytoplasm)_(.+)")


def in_plain_words(family: str, described: Iterable[Description]) -> list[Description]:
    """The descriptions of a family's features, each with its group, plain name and agreement.

    Parameters
    ----------
    family : "morphology", "texture" or "colour".
    """
    return [_with_words(family, each) for each in described]


def _with_words(family: str, each: Description) -> Description:
    found = _REGION.fullmatch(each.name)
    region, measure = found.groups() if found else ("", each.name.removeprefix("contrast_"))
    if each.name in _SEEN:
        group, words, attribute, auroc = _SEEN[each.name]
        agrees = f"agrees with pathologists on '{attribute}' (AUROC {auroc:.2f})"
        return replace(each, group=group, words=words, agreement=agrees)
    group = {"morphology": _shape_group, "texture": _texture_group, "colour": _colour_group}[family](region, measure)
    words = _WORDS.get(each.name) or _compose(family, region, measure)
    return replace(each, group=group, words=words, is_quoted=not _UNQUOTED.fullmatch(measure))


def _shape_group(region: str, measure: str) -> str:
    if region == "nucleus" and measure == "offset":
        return "N:C ratio"
    part = {"cell": "cell", "nucleus": "nuclear"}[region]
    return f"{part} {'size' if measure in _SIZES else 'shape'}"


def _texture_group(region: str, measure: str) -> str:
    return "chromatin" if region == "nucleus" else "texture of the whole cell"


def _colour_group(region: str, measure: str) -> str:
    if region == "cytoplasm":
        return "granules" if measure in ("dab_percentile_95", "eosin_y_percentile_95") else "cytoplasm colour"
    named = {"nucleus": "nuclear colour", "cell": "colour of the whole cell"}
    return named.get(region, "nucleus against cytoplasm")


def _compose(family: str, region: str, measure: str) -> str:
    """``nucleus, lightness, spread``; of textures ``chromatin, contrast (GLCM d1 mean)``."""
    if family == "texture":
        subject = "chromatin" if region == "nucleus" else "cell texture"
        method, _, rest = measure.partition("_")
        if method == "chromatin":
            return f"{subject}, {_spaced(rest)}" if region == "nucleus" else f"density of the cell, {_spaced(rest)}"
        return f"{subject}, {_spaced(rest) or method} ({method.upper() if len(method) < 6 else method})"
    if family == "morphology":
        return f"{region}, {_spaced(measure)}"
    channel = next((name for name in _CHANNELS if f"{measure}_".startswith(f"{name}_")), measure.partition("_")[0])
    parts = (
        region or "nucleus less cytoplasm",
        _CHANNELS.get(channel, channel),
        _statistic(measure[len(channel) + 1 :]),
    )
    return ", ".join(filter(None, parts))


def _statistic(name: str) -> str:
    found = re.fullmatch(r"percentile_(\d+)", name)
    return f"{found[1]}th percentile" if found else _STATISTICS.get(name, _spaced(name))


def _spaced(name: str) -> str:
    return name.replace("_", " ")
