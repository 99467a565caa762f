"""Gradient-boosted trees (XGBoost)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from os import cpu_count
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from classifiers._input_noise import COPIES, noisy_copies
from classifiers._row_batches import Batched
from classifiers._tree_checks import checked_trees
from classifiers.class_weights import balanced_weights, inner_folds
from fusion.bundles.bundle_files import BundleError, read_described, write_facts
from fusion.bundles.onnx_graph import Graph
from fusion.compute.lazy_libraries import import_xgboost
from fusion.io.files import write_atomically
from fusion.io.strict_json import parse_json
from fusion.learning.parameter_search import Span, tune

#: The file of trees.
_TREES = "xgboost.json"

#: Of the search: folds, trees at most, and trees without a better log loss after which no more are grown.
_SEARCH_FOLDS, _MOST_TREES, _PATIENCE = 3, 1000, 30

#: Where trials look.
_SPANS = {
    "max_depth": Span(2, 8, log=False, whole=True),
    "learning_rate": Span(0.02, 0.3),
    "colsample_bytree": Span(0.1, 1.0),
    "min_child_weight": Span(0.5, 20),
    "reg_lambda": Span(0.1, 30),
}


class BoostedTreesClassifier(ClassifierMixin, BaseEstimator):
    """XGBoost on the raw columns: trees need no scaling and know what to do with NaN. Classes weighted equally.

    Source: Chen and Guestrin (2016), KDD, 785-794.

    Parameters
    ----------
    n_estimators : trees. 150 shallow ones at a rate of 0.1 say what 300 at 0.05 do, in half the time.
    learning_rate : share of what a tree has learnt that is added.
    max_depth : decisions on the way to a leaf, at most.
    subsample : share of the rows seen by a tree.
    colsample_bytree : share of the columns seen by a tree; with columns as alike as GLCM statistics are, a third of
        them is enough and keeps one block from drowning the others. ``draw_by`` says what they are drawn by.
    staged_from : training cells from which columns are drawn once for every seventh of the trees, a stage that is grown
        on these columns alone, and no longer for every tree: XGBoost counts what is not drawn for a tree all the same,
        so that a fit takes half the time. Below, a fit takes seconds. Results say which trees were grown so.
    min_child_weight : smallest sum of weights in a leaf.
    reg_lambda : L2 penalty on leaf values.
    input_noise : grow trees on eight copies of each training cell, each counted as a cell and moved by normal noise of
        this share of a column's standard deviation; 0 on the cells as they are. Cuts then hold in the neighbourhood of
        the cells, which is what another laboratory needs (docs/laboratories.md). Not together with ``external_memory``
        or ``scheduler``.
    max_bin : histogram bins a column; 32 lose nothing on measurements this noisy, in two thirds of the time of 64.
    search : choose max_depth of 2, 4 and 6, learning_rate of 0.05 and 0.15, and as many trees as help (early
        stopping), by log loss on folds of whole groups; what was chosen is ``chosen_``. The three given play no part.
    external_memory : keep neither features nor bins in memory, but read them batch by batch (8,192 cells), the bins
        from the folder for temporary files: a quarter of the memory for each cell. The trees are those grown in memory
        wherever XGBoost's sketch of the columns is the same, as in all trials. Not together with ``search``.
    scheduler : address of a Dask scheduler (tcp://host:port) on whose workers the trees are grown by ``xgboost.dask``;
        rows are sent there batch by batch, and kept neither here nor in the saved model. Each worker draws from its own
        rows, and columns are sketched in parts: the trees differ from those grown here as those of another seed do.
        Not together with ``search`` or ``external_memory``.
    trials : of the search, by optuna, over depth, rate, share of columns, smallest leaf and penalty; 0 tries the six.
    n_jobs : threads; 1, since comparisons run side by side.
    random_state : seed of the samples of rows and columns.
    """

    prepares: ClassVar[str] = "raw"

    #: float32 (d,), what columns are drawn in proportion to; None for all alike.
    _weights: NDArray[np.float32] | None = None

    def __init__(
        self,
        n_estimators: int = 150,
        learning_rate: float = 0.1,
        max_depth: int = 4,
        subsample: float = 0.8,
        colsample_bytree: float = 0.33,
        staged_from: int = 4096,
        min_child_weight: float = 1.0,
        reg_lambda: float = 1.0,
        input_noise: float = 0.0,
        max_bin: int = 32,
        search: bool = False,
        external_memory: bool = False,
        scheduler: str | None = None,
        trials: int = 0,
        n_jobs: int = 1,
        random_state: int | None = 0,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.staged_from = staged_from
        self.min_child_weight = min_child_weight
        self.reg_lambda = reg_lambda
        self.input_noise = input_noise
        self.max_bin = max_bin
        self.search = search
        self.external_memory = external_memory
        self.scheduler = scheduler
        self.trials = trials
        self.n_jobs = n_jobs
        self.random_state = random_state

    def draw_by(self, weights: NDArray[np.float64]) -> Self:
        """Draw the columns of a tree in proportion to these, float64 (d,).

        Raises
        ------
        ValueError : a weight that is not above 0: where most columns have none, a tree may still be given them. Or
            weights that differ, in which trees that see all columns would have no part.
        """
        if not (np.isfinite(weights) & (weights > 0)).all():
            raise ValueError("trees draw columns by their blocks' weights, and 0 is none: leave such a block out")
        if self.colsample_bytree >= 1 and not self.trials and np.ptp(weights) > 0:
            raise ValueError(
                "trees that see all columns heed no weights of blocks: lower colsample_bytree, or leave layer.weights "
                "and layer.emphasis out"
            )
        self._weights = np.asarray(weights, np.float32)
        return self

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit on float (n, d), NaN allowed, and n labels; ``groups`` matter to ``search`` alone.

        Rows that are read batch by batch stay where they are if the trees of so many cells are grown in stages, which
        are the same either way, and no noise is added.

        Raises
        ------
        ValueError : a single class, or inf; a parameter that does not go with another.
        """
        if not 0 <= self.input_noise < np.inf:
            raise ValueError(f"input_noise is {self.input_noise}, and a standard deviation is 0 or more")
        if self.external_memory or self.scheduler is not None:
            return self._fit_batches(X, y)
        if isinstance(X, Batched):
            if not self.search and not self.input_noise and self.stages(X.shape[0]) > 1:
                return self._fit_batches(X, y)
            X = np.concatenate(list(X.batches()))
        X, y = validate_data(self, X, y, dtype=np.float32, ensure_all_finite="allow-nan")
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("a classifier needs at least two classes; the data hold one class only")
        self.chosen_ = self._searched(X, codes, groups) if self.search else {}
        settings = {**self._settings(), **self.chosen_}
        trees = int(settings.pop("n_estimators", self.n_estimators))
        self.booster_ = self._grown(X, codes, balanced_weights(codes), settings, trees)
        return self

    def _grown(
        self, X: Any, codes: NDArray[np.intp], weights: NDArray[np.float64], settings: dict[str, Any], trees: int
    ) -> Any:
        import xgboost

        def binned(X: NDArray[np.float32], like: Any = None) -> Any:
            rows, copies = self._copied(X)
            labels, by = np.tile(codes, copies), np.tile(weights, copies)
            # Noise goes beyond what the cells have: its copies have bins of their own.
            like = like if copies == 1 else None
            return xgboost.QuantileDMatrix(
                rows, label=labels, weight=by, max_bin=self.max_bin, nthread=self.n_jobs, ref=like
            )

        if self._stages(len(X), settings["colsample_bytree"], trees) == 1:
            return xgboost.train(settings, self._drawn_by(binned(X)), num_boost_round=trees)
        from classifiers._staged_trees import grow

        return grow(
            _InMemory(X),
            weights,
            lambda drawn, like: binned(np.ascontiguousarray(X[:, drawn]), like),
            settings,
            trees,
            self._weights,
        )

    def _copied(self, X: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
        """The cells, or their noisy copies one after another, and how many of each there are."""
        if self.input_noise == 0:
            return X, 1
        return noisy_copies(X, self.input_noise, self.random_state or 0), COPIES

    def _drawn_by(self, data: Any) -> Any:
        """The matrix with what its columns are drawn by."""
        if self._weights is not None:
            data.set_info(feature_weights=self._weights)
        return data

    def stages(self, cells: int) -> int:
        """In how many stages, each on columns of its own, trees of so many cells are grown; 1 is tree by tree.

        Of a search that chooses all columns, or a single tree, it is always 1.
        """
        return self._stages(cells, self.colsample_bytree, self.n_estimators)

    def _stages(self, cells: int, share: float, trees: int) -> int:
        from classifiers._staged_trees import STAGES

        return min(STAGES, trees) if cells >= self.staged_from and share < 1 and self.scheduler is None else 1

    def batches_by(self) -> str:
        """The parameter by which features are read batch by batch and never all in memory, "" where they are not.

        Raises
        ------
        UsageError : ``scheduler`` is no address.
        """
        if self.scheduler is not None and not self.external_memory:
            from fusion.features.dask_cluster import check_address

            check_address(self.scheduler)
            return "scheduler"
        return "external_memory" if self.external_memory else ""

    def _fit_batches(self, X: Any, y: ArrayLike) -> Self:
        if self.search:
            raise ValueError(f"search needs all cells in memory, and {self.batches_by()} keeps them out of it")
        if self.external_memory and self.scheduler is not None:
            raise ValueError("external_memory is of this machine, and scheduler has the trees grown on others")
        if self.input_noise > 0:
            raise ValueError(f"input_noise copies cells in memory, and {self.batches_by()} keeps them out of it")
        if not isinstance(X, Batched):
            X, y = validate_data(self, X, y, dtype=np.float32, ensure_all_finite="allow-nan")
            X = _InMemory(X)
        self.n_features_in_ = X.shape[1]
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("a classifier needs at least two classes; the data hold one class only")
        self.chosen_ = {}
        weights = balanced_weights(codes)
        if self.scheduler is not None:
            from classifiers._dask_trees import grow

            self.booster_ = grow(X, codes, weights, self._settings(), self.n_estimators, self.scheduler, self._weights)
            self.booster_.set_param({"nthread": self.n_jobs})
        else:
            self.booster_ = self._grown_externally(X, codes, weights)
        return self

    def _grown_externally(self, X: Any, codes: NDArray[np.intp], weights: NDArray[np.float64]) -> Any:
        import xgboost

        from classifiers._external_memory import binned
        from classifiers._staged_trees import Drawn, grow

        settings = self._settings()
        with tempfile.TemporaryDirectory(prefix="fusion-xgboost-") as name:

            def binned_in(folder: Path, X: Any, like: Any = None) -> Any:
                folder.mkdir()
                return binned(X, codes, weights, folder, max_bin=self.max_bin, threads=self.n_jobs, like=like)

            folders = (Path(name) / str(number) for number in count())
            if self.stages(X.shape[0]) > 1:
                return grow(
                    X,
                    weights,
                    lambda drawn, like: binned_in(next(folders), Drawn(X, drawn), like),
                    settings,
                    self.n_estimators,
                    self._weights,
                )
            data = self._drawn_by(binned_in(next(folders), X))
            booster = xgboost.train(settings, data, num_boost_round=self.n_estimators)
            del data  # its files are let go of before the folder goes
        return booster

    def _searched(self, X: Any, codes: NDArray[np.intp], groups: ArrayLike | None) -> dict[str, Any]:
        import xgboost

        folds = inner_folds(codes, groups, _SEARCH_FOLDS, self.random_state)
        weights = balanced_weights(codes)
        if self.input_noise > 0:  # learnt from copies, judged on cells as they are
            starts = len(X) * np.arange(1, COPIES + 1)
            folds = [((starts[:, None] + train).ravel(), test) for train, test in folds]
            X = np.concatenate([X, self._copied(X)[0]])
            codes, weights = np.tile(codes, 1 + COPIES), np.tile(weights, 1 + COPIES)
        data = self._drawn_by(xgboost.DMatrix(X, label=codes, weight=weights, nthread=self.n_jobs))
        metric = "logloss" if len(self.classes_) == 2 else "mlogloss"

        trees: dict[tuple[tuple[str, Any], ...], int] = {}

        def loss(values: Mapping[str, Any]) -> float:
            """On held-out groups, with as many trees as are best."""
            settings = {**self._settings(), **values, "eval_metric": metric}
            history: Any = xgboost.cv(
                settings,
                data,
                num_boost_round=_MOST_TREES,
                folds=folds,
                early_stopping_rounds=_PATIENCE,
                as_pandas=False,
            )
            losses = history[f"test-{metric}-mean"]
            trees[tuple(values.items())] = len(losses)
            return losses[-1]

        if self.trials:
            chosen = tune(lambda values: -loss(values), _SPANS, self.trials, self.random_state)
        else:
            grid = [{"max_depth": depth, "learning_rate": rate} for depth in (2, 4, 6) for rate in (0.05, 0.15)]
            chosen = min(grid, key=loss)
        return {**chosen, "n_estimators": trees[tuple(chosen.items())]}

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """float64 (n, classes), at equal class shares."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, ensure_all_finite="allow-nan", reset=False)
        proba = self.booster_.inplace_predict(X).astype(np.float64)
        # Two classes: XGBoost gives the second one's probability alone.
        proba = np.stack([1 - proba, proba], axis=1) if proba.ndim == 1 else proba
        return proba / proba.sum(axis=1, keepdims=True)

    def predict(self, X: ArrayLike) -> NDArray:
        """The most probable class of each row."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def to_onnx(self, graph: Graph, rows: str) -> str:
        """Add the trees to a graph; the name of float64 (n, classes) for float32 (n, d) ``rows``."""
        from classifiers._onnx_forms import ensemble

        check_is_fitted(self)
        return ensemble(graph, rows, self._model())

    def trial_rows(self, n: int, draw: np.random.Generator) -> NDArray[np.float32]:
        """float32 (n, d) that fall on every side of the splits, and on the splits themselves."""
        check_is_fitted(self)
        splits: list[set[float]] = [{0.0} for _ in range(self.n_features_in_)]
        for tree in self._model()["learner"]["gradient_booster"]["model"]["trees"]:
            for left, column, value in zip(
                tree["left_children"], tree["split_indices"], tree["split_conditions"], strict=True
            ):
                if left != -1:
                    splits[column].add(value)
        columns = []
        for values in splits:
            chosen = draw.choice(np.array(sorted(values), np.float32), n)
            side = draw.integers(-1, 2, n)
            below, above = (np.nextafter(chosen, np.float32(end)) for end in (-np.inf, np.inf))
            columns.append(np.select([side < 0, side > 0], [below, above], chosen))
        return np.stack(columns, axis=1)

    def _model(self) -> dict[str, Any]:
        model: dict[str, Any] = json.loads(bytes(self.booster_.save_raw("json")))
        model["learner"]["attributes"] = {}  # when a training was stopped, and how good it was then
        return model

    def contributions(self, X: ArrayLike) -> NDArray[np.float64]:
        """float64 (n, classes, d + 1): what each column adds to each class's margin; last, what all cells begin with.

        Exact tree SHAP by XGBoost itself; the sum over the last axis is the margin, of two classes the log-odds.
        Source: Lundberg et al. (2020), Nature Machine Intelligence 2:56-67.
        """
        import xgboost

        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, ensure_all_finite="allow-nan", reset=False)
        data = xgboost.DMatrix(X, nthread=self.n_jobs)
        found = self.booster_.predict(data, pred_contribs=True, strict_shape=True).astype(np.float64)
        return np.concatenate([-found, found], axis=1) if found.shape[1] == 1 else found

    def save(self, folder: Path) -> None:
        """Write ``xgboost.json`` (XGBoost's own text format) and ``classifier.json``."""
        check_is_fitted(self)
        write_atomically(folder / _TREES, json.dumps(self._model(), separators=(",", ":")).encode())
        write_facts(folder, self, scheduler=None)  # where trees were grown is not part of what they are

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises
        ------
        BundleError : a file is missing or no JSON, or the trees are not trees: XGBoost itself would crash on them.
        """
        xgboost = import_xgboost()
        fitted = read_described(folder, cls, (_TREES,))
        try:
            model = parse_json((folder / _TREES).read_bytes())
            checked = checked_trees(model, n_features=fitted.n_features_in_, n_classes=len(fitted.classes_))
            fitted.booster_ = xgboost.Booster({"nthread": min(max(1, fitted.n_jobs), cpu_count() or 1)})
            # What was parsed and checked here, and not the file: XGBoost's parser reads some files in another way.
            fitted.booster_.load_model(bytearray(json.dumps(checked, separators=(",", ":")).encode()))
        except (OSError, ValueError, KeyError, TypeError, xgboost.core.XGBoostError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BundleError(f"{folder} holds no boosted trees that can be trusted", found=reason) from error
        return fitted

    def _settings(self) -> dict[str, Any]:
        multi = len(self.classes_) > 2
        return {
            "objective": "multi:softprob" if multi else "binary:logistic",
            **({"num_class": len(self.classes_)} if multi else {}),
            "tree_method": "hist",
            "learning_rate": self.learning_rate,
            "max_depth": self.max_depth,
            "subsample": self.subsample,
            "colsample_bytree": self.colsample_bytree,
            "min_child_weight": self.min_child_weight,
            "reg_lambda": self.reg_lambda,
            "max_bin": self.max_bin,
            "nthread": self.n_jobs,
            "seed": 0 if self.random_state is None else self.random_state,
            "verbosity": 0,
        }

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


@dataclass(frozen=True, eq=False)
class _InMemory:
    """A matrix that is in memory all the same, as one batch."""

    X: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        return self.X.shape[0], self.X.shape[1]

    def batches(self) -> Iterator[NDArray[np.float32]]:
        yield self.X
