"""Where in its image a cell has what a deep block adds to the score.

A deep feature is the mean over the places of a feature map. So each place has a share in the block's contribution, and
what it is can be asked of any classifier: by Shapley values, the places being what comes together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.explanation._attribution import Attribution, ValueOfRows, adds_trees, attribute, value_of_block
from fusion.features.blocks import Block
from fusion.images.cell import Cell
from fusion.learning.fused_model import FusedModel
from fusion.learning.training_quantiles import LEVELS, Reference
from fusion.plugins.extractors import HidesRegions, SpatialExtractor

_Floats = NDArray[np.float64]

#: Orders in which places come, each also taken backwards: maps of support vector machines on MobileNetV2's 49 places by
#: two draws of so many correlate by 0.97 to 1.
_PAIRS = 8

#: Regions of a side whose pixels are hidden, and pairs of orders: 25 regions of a small transformer take 200 looks.
_REGIONS, _REGION_PAIRS = 5, 4

#: Rows that a model is asked about for one map, where one pair of orders does with so few.
_ROWS = 8192


@dataclass(frozen=True, eq=False)
class SpatialAttribution:
    """A block's contribution, spread over the places of its feature map.

    Attributes
    ----------
    block : the block's name.
    values : float64 (h, w), above 0 where a place speaks for the class; they sum to the block's contribution.
    over_cell : float32 (H, W), ``values`` enlarged over ``cell.rgb``; 0 where the network's image does not reach.
    limits : how they were found and what they cannot tell, in words.
    """

    block: str
    values: _Floats
    over_cell: NDArray[np.float32]
    limits: str


def attribute_to_pixels(
    model: FusedModel,
    measured: Sequence[Block],
    blocks: Mapping[str, slice],
    cell: Cell,
    features: NDArray[np.float32],
    known: Reference,
    found: Attribution,
) -> SpatialAttribution | None:
    """Where the block with a feature map that adds most, for or against, has what it adds; None without such a block.

    Let z be the block's features, a_p those at place p (their mean over P places is z), r the training medians.

    A model that is no sum of trees is asked. B(z) is the block's contribution were its features z, all else as in this
    cell. With some places S known, z(S) = r + sum over p in S of (a_p - r) / P, and a place's value is what it adds to
    B(z(S)), on average over orders in which places come; they sum to B(z) - B(r), and B(r) is 0. Orders of places and
    blocks nest, as in Owen (1977), Values of games with a priori unions, 76-88. Of a linear model, through any scaling
    and PCA, a place's value is w (a_p - r) / P whatever the order: its class activation map (Zhou et al. 2016, CVPR,
    2921-2929) less a constant.

    Trees jump at thresholds, each in one column, and in whose turn a jump falls is chance: it would take thousands of
    orders. Their columns' contributions are spread one by one over the places that pull the column to the side of r
    that it is on, in proportion to s (a_p - r) where above 0, s the sign of z - r, as in the z+ rule (Montavon et al.
    2017, Pattern Recognition 65:211-222). r is the mean of the classes' medians here, since trees are fitted to classes
    of equal weight. Shares are 0 to 1 whatever is near r; where a column is at r exactly they are equal.

    Parameters
    ----------
    measured, blocks : what measures the blocks, and where in ``features`` each is.
    features : float32 (d,), see ``attribute``; where they are harmonised, places keep their raw differences from the
        cell's mean.
    known : of the training cells.
    found : the attribution that is to be spread.
    """
    able = {one.name: one for one in measured if isinstance(one.extractor, SpatialExtractor) and one.name in blocks}
    if not able:
        return None
    block = max(able, key=lambda name: abs(found.blocks[name]))
    part = blocks[block]
    extractor = able[block].extractor
    assert isinstance(extractor, SpatialExtractor)  # as chosen
    feature_map = extractor.feature_map(cell)
    if feature_map is None:
        if not isinstance(extractor, HidesRegions):
            return None
        contribution_of = _contribution_of(model, blocks, block, features, known, found)
        total = float(found.blocks[block])
        values = _by_regions(extractor, able[block], cell, contribution_of, features[part], total)
        laid = extractor.resample_to_cell(values.astype(np.float32), cell)
        return SpatialAttribution(block, values, laid, _limits_of_regions(block, values))
    at = {feature: number for number, feature in enumerate(extractor.feature_names())}
    chosen = feature_map[[at[feature] for feature in able[block].features]].astype(np.float64)
    places = chosen.reshape(len(chosen), -1).T
    # Features are rounded, harmonised, or another engine's: the places move along with their mean.
    places += features[part] - places.mean(axis=0)
    values, how = _by_places(model, blocks, block, places, features, known, found)
    values = values.reshape(feature_map.shape[1:])
    laid = extractor.resample_to_cell(values.astype(np.float32), cell)
    return SpatialAttribution(block, values, laid, _limits(block, values, how))


def _by_places(
    model: FusedModel,
    blocks: Mapping[str, slice],
    block: str,
    places: _Floats,
    features: NDArray[np.float32],
    known: Reference,
    found: Attribution,
) -> tuple[_Floats, str]:
    """float64 (P,): the block's contribution over the places of its feature map, float64 (P, width); and how."""
    part = blocks[block]
    if adds_trees(model):
        middle = known.quantiles[:, len(LEVELS) // 2, part].astype(np.float64).mean(axis=0)
        return _by_column(found.columns[part], places, middle), _TREES
    value_of = value_of_block(model, blocks, block, features, known.typical, found.target)
    return _walked(value_of, places, features[part], known.typical[part]), _ASKED


def _by_column(contributions: _Floats, places: _Floats, middle: _Floats) -> _Floats:
    """float64 (P,): each column's contribution over the places that pull it to the side of ``middle`` that it is on."""
    pull = (places - middle) * np.sign(places.mean(axis=0) - middle)
    pull = np.maximum(pull, 0)
    total = pull.sum(axis=0)
    shares = np.where(total > 0, pull / np.where(total > 0, total, 1), 1 / len(places))
    return shares @ contributions


def _walked(value_of: ValueOfRows, places: _Floats, own: NDArray[np.float32], usual: NDArray[np.float32]) -> _Floats:
    """float64 (P,): what each place adds, on average over orders."""
    count = len(places)
    pairs = max(1, min(_PAIRS, _ROWS // (2 * count * value_of.times)))
    draw = np.random.default_rng(0)
    forward = [draw.permutation(count) for _ in range(pairs)]
    steps = (places - usual) / count
    values = np.zeros(count)
    for order in [*forward, *(one[::-1] for one in forward)]:
        rows = np.empty((count + 1, len(own)), np.float32)
        rows[0], rows[1:] = usual, usual + np.cumsum(steps[order], axis=0)
        rows[-1] = own  # to the last bit, so that the sum is the block's
        values[order] += np.diff(value_of.ask(rows)) / (2 * pairs)
    return values


def _contribution_of(
    model: FusedModel,
    blocks: Mapping[str, slice],
    block: str,
    features: NDArray[np.float32],
    known: Reference,
    found: Attribution,
) -> Callable[[NDArray[np.float32]], _Floats]:
    """The block's contribution were its features these, all else as in this cell."""
    if not adds_trees(model):
        return value_of_block(model, blocks, block, features, known.typical, found.target).ask

    def ask(rows: NDArray[np.float32]) -> _Floats:
        variants = np.repeat(features[None], len(rows), axis=0)
        variants[:, blocks[block]] = rows
        each = (attribute(model, blocks, one, known.typical, found.target) for one in variants)
        return np.array([one.blocks[block] for one in each])

    return ask


def _by_regions(
    extractor: HidesRegions,
    block: Block,
    cell: Cell,
    value_of: Callable[[NDArray[np.float32]], _Floats],
    own: NDArray[np.float32],
    total: float,
) -> _Floats:
    """float64 (k, k): the Shapley value of every region of the image, what its pixels add to the block's contribution.

    The features of a class token, or of attention pooling, are no means over places. So the image is asked: with some
    regions shown and the others as the background, the network gives other features, and these another contribution;
    with none shown the block is at its training medians, where it contributes 0. Regions of mere background add 0.
    Orders are drawn, each taken backwards too; whatever the orders, the values sum to the block's contribution.
    Source: Shapley (1953); by orders, Castro, Gomez and Tejada (2009), Comput. Oper. Res. 36:1726-1730.
    """
    names = block.extractor.feature_names()
    chosen = [names.index(feature) for feature in block.features]
    places = np.flatnonzero(~extractor.empty_regions(cell, _REGIONS).ravel())
    values = np.zeros(_REGIONS * _REGIONS)
    if not len(places):
        return values.reshape(_REGIONS, _REGIONS)
    draw = np.random.default_rng(0)
    forward = [draw.permutation(places) for _ in range(_REGION_PAIRS)]
    orders = [*forward, *(one[::-1] for one in forward)]
    sets = {_shown(order[:count]).tobytes(): order[:count] for order in orders for count in range(1, len(places) + 1)}
    shown = np.stack([_shown(members) for members in sets.values()])
    rows = extractor.features_of_regions(cell, shown)[:, chosen]
    whole = list(sets).index(_shown(places).tobytes())
    # Features are rounded, harmonised, or another engine's: what is hidden moves along with them.
    asked = value_of(np.asarray(rows + (own - rows[whole]), np.float32))
    asked[whole] = total
    known = dict(zip(sets, asked.tolist(), strict=True))
    for order in orders:
        before = 0.0
        for count, place in enumerate(order, 1):
            after = known[_shown(order[:count]).tobytes()]
            values[place] += (after - before) / len(orders)
            before = after
    return values.reshape(_REGIONS, _REGIONS)


def _shown(places: NDArray[np.intp]) -> NDArray[np.bool_]:
    """bool (k, k): these regions alone."""
    shown = np.zeros(_REGIONS * _REGIONS, bool)
    shown[places] = True
    return shown.reshape(_REGIONS, _REGIONS)


def _limits_of_regions(block: str, values: _Floats) -> str:
    return (
        f"The map spreads the {values.sum():+.2f} of {block} over {_REGIONS} x {_REGIONS} regions of its image by "
        "Shapley values of hiding them, from a block at its training medians. Images with hidden regions are none that "
        "the network knows, and a region is as coarse as it is drawn."
    )


#: How a block's contribution was spread.
_ASKED = "by Shapley values of places, for a linear model its class activation map"
_TREES = "feature by feature over the places that pull it to the side of its training medians that it is on"


def _limits(block: str, values: _Floats, how: str) -> str:
    high, wide = values.shape
    return (
        f"The map spreads the {values.sum():+.2f} of {block} over the {high} x {wide} places of its feature map, {how}."
        " It is coarse: a place sees much of its surroundings, and what lies around the cell counts too."
    )
