"""The fusion layer: feature blocks imputed, scaled, reduced and weighted, then concatenated (feature-level fusion)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from fusion.feature_transforms.block_columns import block_columns

#: Spread, as a share of a column's largest value, up to which it is constant: features arrive as float32, and a few
#: units in the last place are rounding that scaling would blow up to look like a measurement.
_ROUNDING = 8 * float(np.finfo(np.float32).eps)

#: Share of a block's variance below which a principal component is rounding.
_NO_VARIANCE = 1e-10

#: The name of the one block of columns that have no names, or no block in their name.
_UNNAMED = "features"


@dataclass(frozen=True, eq=False)
class _Block:
    """One fitted block.

    Attributes
    ----------
    name : the block's name.
    columns : intp (d,), its columns in the table.
    informative : bool (d,), which of them vary; the others become exactly 0.
    fill, centre, spread : float64 (d,), what replaces NaN, is subtracted, and is divided by.
    mean : float64 (d,), of the scaled columns as the PCA found it; zeros without one.
    components : float64 (k, d) of the PCA, or None.
    factor : float64 (d,), what the scaled columns are multiplied with; see ``emphasis``.
    weight : what the outcome is multiplied with.
    """

    name: str
    columns: NDArray[np.intp]
    informative: NDArray[np.bool_]
    fill: NDArray[np.float64]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    mean: NDArray[np.float64]
    factor: NDArray[np.float64]
    components: NDArray[np.float64] | None
    weight: float


class FusionLayer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Scale, reduce and weigh feature blocks, so that no block outweighs another by its units or its size.

    Every number is taken from the rows given to ``fit``, and each row is transformed by itself.

    For each column: NaN becomes the column's median; then ``(x - centre) / spread``, clipped. A column that does not
    vary, or has no value at all, becomes exactly 0. For each block: PCA, if asked for; then a weight. Blocks come out
    side by side in the order of ``blocks``, as float64.

    Parameters
    ----------
    blocks : block name -> its columns by number; columns in no block are left out. None takes the part of the column
        names before the last "."; columns without such a name are one block, "features".
    scale : "standard" (mean and standard deviation), "robust" (median and interquartile range; the standard deviation
        where that range is 0), or "none".
    pca : principal components of each block. A number of 1 or more: that many at most; between 0 and 1: as many as
        explain this share of the block's variance; a mapping says it block by block. Names of blocks that are not
        there play no part, so that one setting serves all subsets of blocks.
    weights : "equal": the mean squared distance between two training rows is the same within each block. Block b with
        variance v_b (the sum over its outgoing columns) is multiplied with sqrt(V / v_b), where V = p / m is the number
        of all outgoing columns that vary divided by the number of blocks that do: the distance then is 2 V in each
        block, and a lone standardised block stays as it is. This is the block scaling of Westerhuis, Kourti and
        MacGregor (1998), J. Chemometrics 12:301-321. A mapping multiplies block by block on top of that, 1 for those
        it does not name. "none": left as they are. To trees scale is nothing: they draw columns by the variance that a
        mapping, or an emphasis, would give them (``column_weights``), and all alike where neither is given.
    clip : scaled values are clipped to [-clip, clip], so that one absurd measurement cannot outweigh all others; None
        leaves them. 10: no value of a training part of 100 cells can be further out, so only blunders are cut.
        Without effect where ``scale`` is "none".
    emphasis : share of each block's variance that its emphasised columns have together, above 0 and below 1, before a
        PCA; None leaves it at their number. A dozen features that mean the same everywhere are else nothing among
        hundreds that do not.
    emphasised : block name -> which of its columns, counted within the block; names of other blocks play no part. In a
        recipe these are the features that agree with what people see, as their descriptions say.
    random_state : of the PCA's solver. The two exact solvers in use here draw nothing.

    Attributes
    ----------
    n_features_in_, feature_names_in_ : as in scikit-learn.
    block_names_ : names of the blocks, in the order of the output.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame({"size.area": [1.0, 2.0, 4.0], "colour.red": [0.1, 0.3, 0.2]})
    >>> FusionLayer().fit(rows).transform(rows).shape
    (3, 2)
    """

    def __init__(
        self,
        blocks: Mapping[str, Sequence[int]] | None = None,
        scale: str = "standard",
        pca: float | Mapping[str, float] | None = None,
        weights: str | Mapping[str, float] = "equal",
        clip: float | None = 10.0,
        emphasis: float | None = None,
        emphasised: Mapping[str, Sequence[int]] | None = None,
        random_state: int | None = None,
    ) -> None:
        self.blocks = blocks
        self.scale = scale
        self.pca = pca
        self.weights = weights
        self.clip = clip
        self.emphasis = emphasis
        self.emphasised = emphasised
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Learn from float (n, d), NaN allowed; ``y`` is not used.

        Raises
        ------
        ValueError : inf, parameters that make no sense, or blocks that overlap or name columns that are not there.
        """
        rows: NDArray[np.float64] = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        self._check_parameters()
        fitted, outcomes = [], []
        for name, columns in self._resolve_blocks().items():
            block, outcome = self._fit_block(name, columns, rows[:, columns])
            fitted.append(block)
            outcomes.append(outcome)
        weights = block_weights(self.weights, [b.name for b in fitted], [outcome.var(axis=0) for outcome in outcomes])
        self._blocks = [replace(block, weight=weight) for block, weight in zip(fitted, weights, strict=True)]
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """float64 (n, d_out) from float (n, d) with the columns of ``fit``; no NaN comes out.

        Raises
        ------
        ValueError : inf, or other columns than in ``fit``.
        """
        check_is_fitted(self)
        rows: NDArray[np.float64] = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        return np.hstack([self._apply(block, rows[:, block.columns]) for block in self._blocks])

    def shares(self, X: ArrayLike, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 (n, d): what each incoming column adds to ``transform(X) @ weights``, which is the sum over columns.

        Exact through a PCA too, since it is linear in the scaled columns. Columns in no block add 0.
        """
        check_is_fitted(self)
        rows: NDArray[np.float64] = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        found, start = np.zeros(rows.shape), 0
        for block in self._blocks:
            width = len(block.columns) if block.components is None else len(block.components)
            own = weights[start : start + width] * block.weight
            scaled = self._apply(replace(block, components=None, weight=1.0), rows[:, block.columns])
            if block.components is not None:
                scaled, own = scaled - block.mean, block.components.T @ own
            found[:, block.columns] = scaled * own
            start += width
        return found

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> NDArray[np.object_]:
        """object (d_out,): ``block.feature``, or ``block.pc0``, ``block.pc1`` and so on where a PCA was asked for."""
        check_is_fitted(self)
        given = OneToOneFeatureMixin.get_feature_names_out(self, input_features)  # checks them, or makes x0, x1
        names: list[str] = []
        for block in self._blocks:
            if block.components is not None:
                names += [f"{block.name}.pc{at}" for at in range(len(block.components))]
            else:
                # x3 of block 'texture' becomes texture.x3; texture.contrast has its block already.
                prefix = f"{block.name}."
                names += [prefix + given[at].removeprefix(prefix) for at in block.columns]
        return np.array(names, object)

    @property
    def block_names_(self) -> list[str]:
        """Names of the blocks, in the order of the output."""
        check_is_fitted(self)
        return [block.name for block in self._blocks]

    # ---- storage ----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything ``fit`` learnt, as plain arrays; with ``get_params`` (JSON will do) it makes the layer again.

        Names of blocks and columns are JSON text in an array of bytes.
        """
        check_is_fitted(self)
        seen = getattr(self, "feature_names_in_", None)
        names = {"blocks": self.block_names_, "columns": None if seen is None else [str(name) for name in seen]}
        arrays: dict[str, NDArray[Any]] = {
            "names": np.frombuffer(json.dumps(names).encode(), np.uint8),
            "n_features_in": np.array([self.n_features_in_]),
            "weights": np.array([block.weight for block in self._blocks]),
        }
        for at, block in enumerate(self._blocks):
            arrays |= {f"{at}.{part}": getattr(block, part) for part in _PARTS}
            if block.components is not None:
                arrays[f"{at}.components"] = block.components
        return arrays

    @classmethod
    def from_state(cls, params: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The fitted layer that ``state`` came from; it transforms to the same bits.

        Raises
        ------
        ValueError, KeyError, TypeError : arrays or parameters that are not those of a layer.
        """
        layer = cls(**params)
        names = json.loads(arrays["names"].tobytes())
        layer.n_features_in_ = int(arrays["n_features_in"][0])
        if names["columns"] is not None:
            layer.feature_names_in_ = np.array(names["columns"], object)
        layer._blocks = [
            _Block(
                name=name,
                **{part: arrays[f"{at}.{part}"] for part in _PARTS},
                components=arrays.get(f"{at}.components"),
                weight=float(arrays["weights"][at]),
            )
            for at, name in enumerate(names["blocks"])
        ]
        layer._check_parameters()
        for block in layer._blocks:
            layer._check_block(block)
        return layer

    def _check_block(self, block: _Block) -> None:
        d = len(block.columns)
        fits = all(getattr(block, part).shape == (d,) for part in _PARTS)
        fits &= block.components is None or block.components.shape[1:] == (d,)
        if not fits or not d or block.columns.min() < 0 or block.columns.max() >= self.n_features_in_:
            raise ValueError(f"the stored arrays of block '{block.name}' do not fit together")

    # ---- the work ---------------------------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        if self.scale not in ("standard", "robust", "none"):
            raise ValueError(f"scale must be 'standard', 'robust' or 'none', not {self.scale!r}")
        if not isinstance(self.weights, Mapping) and self.weights not in ("equal", "none"):
            raise ValueError(f"weights must be 'equal', 'none' or a mapping, not {self.weights!r}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be above 0 or None, not {self.clip!r}")
        factors = self.weights.values() if isinstance(self.weights, Mapping) else ()
        if not all(np.isfinite(factor) and factor >= 0 for factor in factors):
            raise ValueError(f"weights must be finite and not below 0, not {self.weights!r}")
        if self.emphasis is not None and not 0 < self.emphasis < 1:
            raise ValueError(f"emphasis must be above 0 and below 1 or None, not {self.emphasis!r}")
        for asked in self.pca.values() if isinstance(self.pca, Mapping) else (self.pca,):
            whole = isinstance(asked, (int, np.integer)) and not isinstance(asked, bool) and asked >= 1
            share = isinstance(asked, float) and 0 < asked < 1
            if asked is not None and not whole and not share:
                raise ValueError(f"pca must be a whole number from 1 or a share between 0 and 1, not {asked!r}")

    def _resolve_blocks(self) -> dict[str, NDArray[np.intp]]:
        """Block name -> intp columns, checked against the table."""
        d = self.n_features_in_
        if self.blocks is None:
            names = map(str, getattr(self, "feature_names_in_", [""] * d))
            return block_columns(name if "." in name else f"{_UNNAMED}.{name}" for name in names)
        blocks = {str(name): np.array(columns, np.intp) for name, columns in self.blocks.items()}
        every = np.concatenate([np.empty(0, np.intp), *blocks.values()])
        if not blocks or not all(columns.size for columns in blocks.values()):
            raise ValueError("every block needs a column, and there must be a block")
        if every.min() < 0 or every.max() >= d or len(np.unique(every)) < len(every):
            raise ValueError(f"blocks must name different columns from 0 to {d - 1}")
        return blocks

    def _fit_block(
        self, name: str, columns: NDArray[np.intp], X: NDArray[np.float64]
    ) -> tuple[_Block, NDArray[np.float64]]:
        """The block before weighting, and its training rows transformed."""
        fill = np.zeros(X.shape[1])
        known = ~np.isnan(X).all(axis=0)
        fill[known] = np.nanmedian(X[:, known], axis=0)
        X = np.where(np.isnan(X), fill, X)
        centre, spread = self._scaling(X)
        nothing, ones = np.zeros(X.shape[1]), np.ones(X.shape[1])
        block = _Block(name, columns, _varies(X), fill, centre, spread, nothing, ones, None, weight=1.0)
        outcome = self._apply(block, X)
        if self.emphasis is not None:
            block = replace(block, factor=self._factor(name, outcome.var(axis=0)))
            outcome = outcome * block.factor
        asked = self.pca.get(name) if isinstance(self.pca, Mapping) else self.pca
        if asked is None:
            return block, outcome
        mean, components = self._components(outcome, asked)
        block = replace(block, mean=mean, components=components)
        return block, self._apply(block, X)

    def _scaling(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centre and spread of each column; the spread is 1 where there is none."""
        if self.scale == "none":
            return np.zeros(X.shape[1]), np.ones(X.shape[1])
        centre, spread = X.mean(axis=0), X.std(axis=0)
        if self.scale == "robust":
            low, centre, high = np.percentile(X, (25, 50, 75), axis=0)
            # A feature that is 0 in three cells of four has no interquartile range, and may still tell cells apart.
            spread = np.where(_varies(np.stack([low, high])), high - low, spread)
        return centre, np.where(_varies(X), spread, 1.0)

    def _factor(self, name: str, variances: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 (d,): by which the emphasised columns come to have ``emphasis`` of a block's variance, which stays
        what it was; ones where either kind has none."""
        assert self.emphasis is not None
        chosen = np.isin(np.arange(len(variances)), (self.emphasised or {}).get(name, ()))
        parts = variances[chosen].sum(), variances[~chosen].sum()
        if not all(parts):
            return np.ones(len(variances))
        own, other = (
            np.sqrt(share * sum(parts) / part)
            for share, part in zip((self.emphasis, 1 - self.emphasis), parts, strict=True)
        )
        return np.asarray(np.where(chosen, own, other), np.float64)

    def _components(
        self, outcome: NDArray[np.float64], asked: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean (d,) and components (k, d) of the block; a block without variance keeps one component of zeros."""
        n, d = outcome.shape
        if not outcome.var(axis=0).any():
            return np.zeros(d), np.zeros((1, d))
        # Both solvers are exact. By covariance costs a fraction where there are more rows than columns.
        solver = "covariance_eigh" if n > d else "full"
        number = asked if asked < 1 else min(int(asked), n - 1, d)
        from sklearn.decomposition import PCA  # a fifth of a second, which a model that only predicts has no use for

        pca = PCA(number, svd_solver=solver, random_state=self.random_state).fit(outcome)
        kept = pca.explained_variance_ratio_ > _NO_VARIANCE
        return pca.mean_, np.ascontiguousarray(pca.components_[kept])

    def _apply(self, block: _Block, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Transform the columns of one block: the same steps in ``fit`` and ``transform``."""
        Z = (np.where(np.isnan(X), block.fill, X) - block.centre) / block.spread
        if self.clip is not None and self.scale != "none":
            np.clip(Z, -self.clip, self.clip, out=Z)
        Z[:, ~block.informative] = 0.0
        Z *= block.factor
        if block.components is not None:
            Z = (Z - block.mean) @ block.components.T
        return Z * block.weight

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_blocks")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def block_weights(
    weights: str | Mapping[str, float], names: Sequence[str], variances: Sequence[NDArray[np.float64]]
) -> list[float]:
    """What each of these blocks is multiplied with when they are fused; see ``weights`` of ``FusionLayer``.

    Parameters
    ----------
    weights : "equal", "none" or a mapping.
    names : of the blocks that are fused.
    variances : for each, float64 (d,), the variance of its outgoing columns in the training part.
    """
    if weights == "none":
        return [1.0] * len(names)
    varying = [int(np.count_nonzero(variance)) for variance in variances]
    share = sum(varying) / max(1, int(np.count_nonzero(varying)))
    factors = weights if isinstance(weights, Mapping) else {}
    return [
        float(factors.get(name, 1.0)) * (float(np.sqrt(share / variance.sum())) if variance.any() else 1.0)
        for name, variance in zip(names, variances, strict=True)
    ]


#: What every block stores, a value a column.
_PARTS = ("columns", "informative", "fill", "centre", "spread", "mean", "factor")


def _varies(X: NDArray[np.float64]) -> NDArray[np.bool_]:
    """bool (d,): whether a column spreads by more than the rounding of float32."""
    return np.asarray(np.ptp(X, axis=0) > _ROUNDING * np.abs(X).max(axis=0), bool)
