"""What each feature and each block adds to a model's verdict on one cell.

A classifier whose margin is a sum says so itself: ``contributions`` (trees) or ``linear_weights``. Any other is asked
about variants of the cell, in which features are put to their training median; what that cannot tell is said with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.shapley import shapley_values
from fusion.learning.decision.late_fusion import LateFusion, centred_logs
from fusion.learning.fused_model import FusedModel
from fusion.plugins.classifiers import Contributes, Linear
from fusion.plugins.networks import ExplainsImages

_Floats = NDArray[np.float64]

#: A score of rows of features: float32 (n, d) to float64 (n,).
Score = Callable[[NDArray[np.float32]], _Floats]

#: Blocks up to which every subset is asked about; of more, orders are sampled.
_ALL_SUBSETS = 8

#: Sampled orders of blocks, each also taken backwards.
_ORDERS = 32

#: Probabilities are taken no closer to 0 or 1 than this before logarithms.
_LEAST = 1e-12

_MEANING = "They tell what the model used, not what makes a cell what it is; redundant features share the credit."

_MAP = (
    "The map is layer CAM (Jiang et al. 2021, IEEE Trans. Image Processing 30:5875-5888): coarse, it tells where in "
    "the last feature map evidence for the class lies, not what that evidence is."
)


@dataclass(frozen=True, eq=False)
class ValueOfRows:
    """A block's contribution, were its columns others.

    Attributes
    ----------
    ask : float32 (n, width) to float64 (n,).
    times : how many times the model is asked for each row.
    """

    ask: Score
    times: int


@dataclass(frozen=True, eq=False)
class Attribution:
    """What speaks for a class in one cell, and what against it, by one model.

    Attributes
    ----------
    target : the class.
    score : the model's margin for it before calibration: of two classes the log-odds.
    base : the margin that contributions start from.
    columns : float64 (d,), above 0 where a feature speaks for the class. Where ``is_additive``, they and ``base`` sum
        to ``score``.
    blocks : the same for each block; they and ``base`` sum to ``score`` always.
    method, limits : how they were found and what they cannot tell, in words.
    """

    target: str
    score: float
    base: float
    columns: _Floats
    blocks: Mapping[str, float]
    is_additive: bool
    method: str
    limits: str


def attribute(
    model: FusedModel,
    blocks: Mapping[str, slice],
    features: NDArray[np.float32],
    typical: NDArray[np.float32],
    target: str,
    image: NDArray[np.uint8] | None = None,
) -> Attribution:
    """What the features of one cell add to the margin of class ``target``.

    Parameters
    ----------
    blocks : block name -> its columns.
    features : float32 (d,), harmonised where the model does that.
    typical : float32 (d,), the training medians.
    image : uint8 (S, S, 3), as the classifier's input transform takes it, for one that takes images.
    """
    at = model.classes.index(target)
    classifier = model.classifier
    if isinstance(classifier, LateFusion):
        return _of_late_fusion(classifier, features, typical, target)
    if isinstance(classifier, Contributes) and adds_trees(model):
        found = classifier.contributions(features[None])[0, at]
        return _additive(
            target,
            blocks,
            found[:-1],
            float(found[-1]),
            "exact tree SHAP",
            f"Exact: all {len(features)} bars add up to the score, from that of the average training cell. {_MEANING}",
        )
    if isinstance(classifier, Linear) and model.layer is not None:
        weights, intercept = classifier.linear_weights()
        usual, own = model.layer.shares(np.stack([typical, features]), weights[at])
        return _additive(
            target,
            blocks,
            own - usual,
            float(intercept[at] + usual.sum()),
            "exact linear contributions",
            f"Exact: all {len(features)} bars add up to the score, from that of a cell of training medians. {_MEANING}",
        )
    return _by_asking(_score(model, blocks, at, image), target, blocks, features, typical, image is not None)


def adds_trees(model: FusedModel) -> bool:
    """Whether a model's contributions are tree SHAP, on columns as they are."""
    return isinstance(model.classifier, Contributes) and model.layer is None


def value_of_block(
    model: FusedModel,
    blocks: Mapping[str, slice],
    name: str,
    features: NDArray[np.float32],
    typical: NDArray[np.float32],
    target: str,
    image: NDArray[np.uint8] | None = None,
) -> ValueOfRows:
    """What ``attribute`` gives block ``name``, as a function of the block's own columns, all else as in this cell.

    Parameters are those of ``attribute``, of a model that does not add up trees. At the cell's
    own values the answer is ``attribute(...).blocks[name]``, at the training medians it is 0.
    """
    at, part = model.classes.index(target), blocks[name]
    classifier = model.classifier
    if isinstance(classifier, LateFusion):
        return ValueOfRows(_share_of(classifier, name, typical[part], target), 1)

    def cell_with(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        whole = np.repeat(features[None], len(rows), axis=0)
        whole[:, part] = rows
        return whole

    if isinstance(classifier, Linear) and model.layer is not None:
        layer, weights = model.layer, classifier.linear_weights()[0][at]
        usual = layer.shares(typical[None], weights)[0, part].sum()
        return ValueOfRows(lambda rows: layer.shares(cell_with(rows), weights)[:, part].sum(axis=1) - usual, 1)
    score, others = _score(model, blocks, at, image), _others(name, list(blocks))

    def asked(rows: NDArray[np.float32]) -> _Floats:
        total = np.zeros(len(rows))
        for beside, share in others.items():
            variants = np.repeat(typical[None], len(rows) + 1, axis=0)
            for other in beside:
                variants[:, blocks[other]] = features[blocks[other]]
            variants[:-1, part] = rows
            scores = score(variants)
            total += share * (scores[:-1] - scores[-1])
        return total

    return ValueOfRows(asked, len(others))


def _additive(
    target: str, blocks: Mapping[str, slice], columns: _Floats, base: float, method: str, limits: str
) -> Attribution:
    parts = {name: float(columns[part].sum()) for name, part in blocks.items()}
    return Attribution(target, base + float(columns.sum()), base, columns, parts, True, method, limits)


# ---- a late fusion ---------------------------------------------------------------------------------------------------


def _of_late_fusion(
    late: LateFusion, features: NDArray[np.float32], typical: NDArray[np.float32], target: str
) -> Attribution:
    """The pool's margin is a sum over blocks; within a block a feature's bar is what its model's share loses."""
    columns, parts = np.zeros(len(features)), {}
    for name, part in late.columns.items():
        share = _share_of(late, name, typical[part], target)
        own, width = features[part], part.stop - part.start
        variants = np.repeat(own[None], width + 1, axis=0)
        variants[np.arange(width), np.arange(width)] = typical[part]
        shares = share(variants)
        columns[part], parts[name] = shares[-1] - shares[:-1], float(shares[-1])
    at = [str(label) for label in late.classes_].index(target)
    base = float(_of_target(late.margins(late.block_scores(typical[None])), at)[0])
    limits = (
        "Blocks are exact: each one's model says so much more for the class, times its weight, than of a cell of "
        "training medians, and they add up to the score. Groups and features add up to their block. Approximate: they "
        f"are taken in a few orders. {_MEANING}"
    )
    method = "the pool's sum over blocks, and Shapley values by asking each block's model"
    return Attribution(target, base + sum(parts.values()), base, columns, parts, False, method, limits)


def _share_of(late: LateFusion, name: str, typical: NDArray[np.float32], target: str) -> Score:
    """What a block adds to the margin, from that of its training medians, for float32 (n, width) of its columns."""
    at = [str(label) for label in late.classes_].index(target)
    weight = float(late.weights[list(late.members).index(name)])
    predict = late.members[name].predict_proba
    usual = _of_target(centred_logs(predict(typical[None])), at)[0]

    def share(rows: NDArray[np.float32]) -> _Floats:
        return weight * (_of_target(centred_logs(predict(rows)), at) - usual)

    return share


def _of_target(scores: _Floats, at: int) -> _Floats:
    """float64 (n,): the margin of a class; of two classes the log-odds."""
    return scores[:, at] - scores[:, 1 - at] if scores.shape[1] == 2 else scores[:, at]


# ---- any other model ------------------------------------------------------------------------------------------------


def _score(model: FusedModel, blocks: Mapping[str, slice], at: int, image: NDArray[np.uint8] | None) -> Score:
    plain = replace(model, calibration=None, harmoniser=None)
    classifier = model.classifier

    def score(rows: NDArray[np.float32]) -> _Floats:
        if image is not None and isinstance(classifier, ExplainsImages):
            proba = classifier.predict_proba_variants(image, rows)
        else:
            proba = plain.predict_proba(rows)
        share = np.clip(proba[:, at], _LEAST, 1 - _LEAST)
        return np.log(share / (1 - share))

    return score


def _by_asking(
    score: Score,
    target: str,
    blocks: Mapping[str, slice],
    features: NDArray[np.float32],
    typical: NDArray[np.float32],
    takes_image: bool,
) -> Attribution:
    d = len(features)
    if not d:
        score_alone = float(score(features[None])[0])
        return Attribution(target, score_alone, score_alone, np.empty(0), {}, True, "the image alone", _MAP)
    variants = np.repeat(features[None], d + 1, axis=0)
    variants[np.arange(d), np.arange(d)] = typical
    scores = score(variants)
    base, parts = _block_values(score, blocks, features, typical)
    return Attribution(
        target,
        float(scores[-1]),
        base,
        scores[-1] - scores[:-1],
        parts,
        False,
        "Shapley values, by asking the model",
        "Features, groups and blocks add up to the score, from that of a cell of training medians"
        + (" in the same image, which has no bar" if takes_image else "")
        + ". Approximate: groups are taken in a few orders, and the features that are named are those without which, "
        f"one at a time, the score loses most. {_MEANING}" + (f" {_MAP}" if takes_image else ""),
    )


def _block_values(
    score: Score, blocks: Mapping[str, slice], features: NDArray[np.float32], typical: NDArray[np.float32]
) -> tuple[float, dict[str, float]]:
    """The score of the typical cell, and each block's Shapley value on the way from it to this cell."""
    names = list(blocks)

    def value_of(sets: Sequence[frozenset[str]]) -> dict[frozenset[str], _Floats]:
        rows = np.repeat(typical[None], len(sets), axis=0)
        for row, chosen in zip(rows, sets, strict=True):
            for name in chosen:
                row[blocks[name]] = features[blocks[name]]
        return dict(zip(sets, score(rows), strict=True))

    if len(names) <= _ALL_SUBSETS:
        every = [frozenset(some) for size in range(len(names) + 1) for some in combinations(names, size)]
        found = value_of(every)
        return float(found[frozenset()]), {name: float(v) for name, v in shapley_values(names, found).items()}
    orders = _orders(names)
    walks = [[frozenset(order[:count]) for count in range(len(names) + 1)] for order in orders]
    found = value_of(list(dict.fromkeys(step for walk in walks for step in walk)))
    values = dict.fromkeys(names, 0.0)
    for order, walk in zip(orders, walks, strict=True):
        for name, before, after in zip(order, walk, walk[1:], strict=False):
            values[name] += float(found[after] - found[before]) / len(orders)
    return float(found[frozenset()]), values


def _orders(names: Sequence[str]) -> list[list[str]]:
    draw = np.random.default_rng(0)
    forward = [[str(name) for name in draw.permutation(names)] for _ in range(_ORDERS)]
    return [*forward, *(order[::-1] for order in forward)]


def _others(name: str, names: Sequence[str]) -> dict[frozenset[str], float]:
    """The sets of other blocks that block ``name`` is added to in ``_block_values``, and how much each counts."""
    if len(names) <= _ALL_SUBSETS:
        others = [other for other in names if other != name]
        return {
            frozenset(some): 1 / (len(names) * comb(len(others), size))
            for size in range(len(names))
            for some in combinations(others, size)
        }
    orders = _orders(names)
    found: dict[frozenset[str], float] = {}
    for order in orders:
        before = frozenset(order[: order.index(name)])
        found[before] = found.get(before, 0.0) + 1 / len(orders)
    return found
