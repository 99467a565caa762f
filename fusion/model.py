"""Fusion layer and classifier fitted together: features in, class probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion import plugins
from fusion.calibration import Calibration, Finish, fit_calibration, held_out
from fusion.errors import UsageError
from fusion.inputs import CellInputs
from fusion.plugins import Classifier
from fusion.selection import Selection
from fusion.streaming import BATCH, StoredRows

if TYPE_CHECKING:
    from fusion.config import HarmoniseSettings
    from fusion.harmonisation import Harmoniser
    from fusion.layer import FusionLayer


@dataclass(frozen=True, eq=False)
class FusedModel:
    """A fitted fusion layer (None where the classifier takes raw columns) and a fitted classifier.

    ``harmoniser`` changes features by their source first; ``selection`` then leaves some out; ``calibration`` maps
    probabilities; from ``cut`` on, the positive class's probability calls a cell positive.
    """

    layer: FusionLayer | None
    classifier: Classifier
    calibration: Calibration | None = None
    cut: float | None = None
    harmoniser: Harmoniser | None = None
    selection: Selection | None = None

    @property
    def classes(self) -> list[str]:
        """Class labels in the order of the probabilities' columns."""
        return [str(label) for label in self.classifier.classes_]

    def predict_proba(
        self, X: NDArray[np.float32] | StoredRows | CellInputs, sources: Sequence[str | None] = ()
    ) -> NDArray[np.float64]:
        """float64 (n, classes) from raw features float32 (n, d), columns as fitted; with pictures where it takes them.

        ``sources`` names the source of each row, for a model that harmonises; () is n times unknown.

        Raises
        ------
        UsageError : a model that takes pictures is asked without.
        """
        if takes_pictures(self.classifier) and not isinstance(X, CellInputs):
            raise UsageError(
                "this model judges pictures, and was given features alone",
                do="Load it by fusion.pictured.load_model, and ask it through fusion evaluate or fusion predict.",
            )
        if isinstance(X, StoredRows):
            starts = range(0, len(X), BATCH)
            parts = zip(starts, X.batches(), strict=True)
            return np.concatenate([self.predict_proba(rows, sources[at : at + BATCH]) for at, rows in parts])
        if isinstance(X, CellInputs):
            proba = self.classifier.predict_proba(X)  # type: ignore[arg-type]  # the protocol knows matrices only
        else:
            rows = self.harmonised(X, sources)
            rows = rows if self.selection is None else self.selection.transform(rows)
            proba = self.classifier.predict_proba(rows if self.layer is None else self.layer.transform(rows))
        return proba if self.calibration is None else self.calibration.apply(proba)

    def harmonised(self, X: NDArray[np.float32], sources: Sequence[str | None] = ()) -> NDArray[Any]:
        """(n, d) as the fusion layer gets it before ``selection``: float64 from a harmoniser, else ``X`` itself."""
        if self.harmoniser is None:
            return X
        return self.harmoniser.transform(X, sources or [None] * len(X))


def fit_model(
    X: NDArray[Any],
    y: NDArray[Any],
    groups: NDArray[np.intp],
    blocks: Mapping[str, slice],
    classifier: str,
    *,
    params: Mapping[str, Any] | None = None,
    layer: Mapping[str, Any] | None = None,
    seed: int = 0,
    finish: Finish | None = None,
    positive: str | None = None,
    sources: Sequence[str | None] = (),
    harmonise: HarmoniseSettings | None = None,
    stability: float | None = None,
    cells: NDArray[np.intp] | None = None,
) -> FusedModel:
    """Fit layer and classifier on these rows and no others.

    Parameters
    ----------
    X : float (n, d), the training part only.
    y, groups : n labels and group numbers.
    blocks : block name -> its columns in ``X``.
    classifier : name of a registered classifier; ``params`` are its parameters, ``layer`` those of the fusion layer.
    seed : for whatever is random in either, unless ``params`` say otherwise.
    finish : calibration and threshold, learnt from these rows too; ``positive`` is the class that the threshold is of.
    sources : n names, None where unknown; () is n times None.
    harmonise : what features are changed by before the layer; learnt from these rows too.
    stability : which of them are then kept, None for all; see ``selection``; learnt from these rows too.
    cells : intp (n,), for every row the row of the cell that it shows: its own, unless it is a copy (``fusion.copies``;
        copies come last). ``finish`` is not learnt from copies. None for no copies.

    Raises
    ------
    UsageError : a threshold for more than two classes, or too few groups to learn ``finish`` from.
    """
    sources = sources or [None] * len(y)
    cells = np.arange(len(y)) if cells is None else cells
    if finish is not None and not finish.is_nothing:
        own = int((cells == np.arange(len(y))).sum())  # which are the first rows

        def fitted(rows: NDArray[np.intp]) -> FusedModel:
            place = np.full(own, -1, np.intp)
            place[rows] = np.arange(len(rows))
            shown = np.concatenate([rows, own + np.flatnonzero(place[cells[own:]] >= 0)])
            return fit_model(
                X[shown], y[shown], groups[shown], blocks, classifier, params=params, layer=layer, seed=seed,
                sources=[sources[row] for row in shown], harmonise=harmonise, stability=stability,
                cells=place[cells[shown]],
            )  # fmt: skip

        return _finished(fitted, X[:own], y[:own], groups[:own], sources[:own], seed, finish, positive)
    if harmonise is not None and harmonise.method != "none":
        from fusion.harmonisation import Harmoniser

        harmoniser = Harmoniser.fit(X, sources, **harmonise.model_dump())
        model = fit_model(
            harmoniser.transform(X, sources), y, groups, blocks, classifier, params=params, layer=layer, seed=seed,
            sources=sources, stability=stability, cells=cells,
        )  # fmt: skip
        # Laboratories that copies stand for are none that a cell can be from.
        real = [source for source, cell, row in zip(sources, cells, range(len(y)), strict=True) if cell == row]
        return replace(model, harmoniser=harmoniser.only(real))
    if stability is not None:
        selection = Selection.fit(X, y, sources, stability, cells)
        model = fit_model(selection.transform(X), y, groups, blocks, classifier, params=params, layer=layer, seed=seed)
        return replace(model, selection=selection)
    predictor = build_seeded(classifier, params or {}, seed)
    if predictor.prepares == "raw":
        return FusedModel(None, predictor.fit(X, y, groups))
    from fusion.layer import FusionLayer

    columns = {name: list(range(part.start, part.stop)) for name, part in blocks.items()}
    fitted_layer = FusionLayer(blocks=columns, **{"random_state": seed, **(layer or {})})
    return FusedModel(fitted_layer, predictor.fit(fitted_layer.fit_transform(X), y, groups))


def _finished(
    fitted: Callable[[NDArray[np.intp]], FusedModel],
    X: NDArray[Any],
    y: NDArray[Any],
    groups: NDArray[np.intp],
    sources: Sequence[str | None],
    seed: int,
    finish: Finish,
    positive: str | None,
) -> FusedModel:
    """A model of all rows, with calibration and threshold by models of parts; ``fitted`` fits one on some rows."""
    model = fitted(np.arange(len(y)))
    if finish.threshold is not None and (positive is None or len(model.classes) != 2):
        raise UsageError("--threshold is for two classes", found=f"{len(model.classes)}: {', '.join(model.classes)}")
    if not finish.learns:
        return replace(model, cut=finish.cut(np.empty(0), np.empty(0, bool)))
    proba = held_out(
        lambda train, test: fitted(train).predict_proba(X[test], [sources[row] for row in test]), y, groups, seed
    )
    labels = np.asarray(y, object).astype(str)
    codes = np.searchsorted(model.classes, labels)
    calibration = fit_calibration(finish.calibrate, proba, codes)
    proba = proba if calibration is None else calibration.apply(proba)
    cut = None
    if positive is not None and finish.threshold is not None:
        cut = finish.cut(proba[:, model.classes.index(positive)], labels == positive)
    return replace(model, calibration=calibration, cut=cut)


def takes_pictures(classifier: Classifier) -> bool:
    """Whether a classifier is fitted on ``CellInputs`` with pictures, taken by its ``eye``."""
    return bool(getattr(classifier, "takes_pictures", False))


def build_seeded(name: str, params: Mapping[str, Any], seed: int) -> Classifier:
    """The registered classifier with ``seed`` as its random state, if it has one and ``params`` do not set it."""
    takes_seed = "random_state" in plugins.parameters(plugins.CLASSIFIERS, name)
    return plugins.build_classifier(name, {"random_state": seed, **params} if takes_seed else params)
