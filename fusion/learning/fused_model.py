"""The half of a model that features go through: harmonisation, selection, fusion layer, classifier, threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.data.classifier_inputs import CellInputs
from fusion.data.patients.bags import Bags
from fusion.errors import UsageError
from fusion.feature_transforms.stable_features import Selection
from fusion.features.stored_matrix import BATCH, StoredRows
from fusion.learning._inner_folds import InnerFolds, InnerPart
from fusion.learning._training_rows import TrainingRows
from fusion.learning.bags.harmonised_bags import harmonise_bags
from fusion.learning.decision.calibration import Calibration, fit_calibration
from fusion.learning.decision.late_fusion import LateFusion, centred_logs, stack_scores
from fusion.learning.decision.thresholds import held_out
from fusion.learning.recipe import Recipe
from fusion.learning.shared_distances import Distances
from fusion.metrics.classification import predicted_classes
from fusion.metrics.decision_costs import expected_costs
from fusion.plugins.classifiers import Classifier, Contributes, DrawsColumns, FitsDistances, HoldsOut
from fusion.plugins.networks import TakesImages
from fusion.settings.learning import HarmoniseSettings

if TYPE_CHECKING:
    from fusion.data.feature_table import FeatureTable
    from fusion.feature_transforms.fusion_layer import FusionLayer
    from fusion.feature_transforms.harmonisation import Harmoniser


Score = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class FusedModel:
    """A fitted fusion layer (None where the classifier takes raw columns) and a fitted classifier, or a late fusion.

    ``harmoniser`` changes features by their source first; ``selection`` then leaves some out; ``calibration`` maps
    probabilities; from ``threshold`` on, the positive class's probability calls a cell positive; of more than two
    classes float64 (K, K) ``costs`` are what predicting each (columns) costs where each (rows) is true, and the least
    cost is predicted.
    """

    layer: FusionLayer | None
    classifier: Classifier | LateFusion
    calibration: Calibration | None = None
    threshold: float | None = None
    harmoniser: Harmoniser | None = None
    selection: Selection | None = None
    costs: NDArray[np.float64] | None = None

    @property
    def decision(self) -> Decision:
        """Calibration, and the rule by which classes are predicted."""
        return Decision(self.calibration, self.threshold, self.costs)

    @property
    def classes(self) -> list[str]:
        """Class labels in the order of the probabilities' columns."""
        return [str(label) for label in self.classifier.classes_]

    def predict_proba(
        self, X: NDArray[Any] | StoredRows | CellInputs | Bags, sources: Sequence[str | None] = ()
    ) -> NDArray[np.float64]:
        """float64 (n, classes) from raw features float32 (n, d), columns as fitted; with images where it takes them.

        ``sources`` names the source of each row, for a model that harmonises; () is n times unknown.

        Raises
        ------
        UsageError : a model that takes images is asked without.
        """
        if isinstance(X, CellInputs):
            # Matrices, by the protocol of all.
            return self.decision.calibrate(self.classifier.predict_proba(X))  # type: ignore[arg-type]
        if isinstance(self.classifier, TakesImages):
            raise UsageError(
                "this model judges images, and was given features alone",
                do="Load it by fusion.load_model, and ask it through fusion evaluate or fusion predict.",
            )
        if isinstance(X, Bags):
            proba = self.classifier.predict_proba(self.fused_bags(X, sources))
            return proba if self.calibration is None else self.calibration.apply(proba)
        if isinstance(X, StoredRows):
            starts = range(0, len(X), BATCH)
            parts = zip(starts, X.batches(), strict=True)
            return np.concatenate([self.predict_proba(rows, sources[at : at + BATCH]) for at, rows in parts])
        return self.decision.calibrate(self.classifier.predict_proba(self.fused(self.harmonised(X, sources))))

    def harmonised(self, X: NDArray[Any], sources: Sequence[str | None] = ()) -> NDArray[Any]:
        """(n, d) as the fusion layer gets it before ``selection``: float64 from a harmoniser, else ``X`` itself."""
        return X if self.harmoniser is None else self.harmoniser.transform(X, sources or [None] * len(X))

    def fused_bags(self, X: Bags, sources: Sequence[str | None] = ()) -> Any:
        """What the classifier gets of bags: ``Bags`` of the same cells, each gone through all steps by itself.

        Cells of a source are harmonised together, since what is said of a new one depends on all that are judged. Cells
        that are held stay so; others go through the steps whenever some are asked for.
        """
        harmonised = self.harmonised_bags(X, sources)
        if isinstance(X.cells, np.ndarray):
            return harmonised.changed(lambda some: self.fused(some.stacked))
        return harmonised.fused(self.fused)

    def harmonised_bags(self, X: Bags, sources: Sequence[str | None] = ()) -> Bags:
        """Bags of the same cells as the fusion layer gets them before ``selection``."""
        return harmonise_bags(self.harmoniser, X, sources)

    def fused(self, harmonised: NDArray[Any]) -> NDArray[Any]:
        """What the classifier gets, of harmonised rows."""
        rows = harmonised if self.selection is None else self.selection.transform(harmonised)
        return rows if self.layer is None else self.layer.transform(rows)


def fuse(
    X: NDArray[Any],
    y: NDArray[Any],
    groups: NDArray[np.intp],
    blocks: Mapping[str, slice],
    classifier: str,
    *,
    sources: Sequence[str | None] = (),
    cells: NDArray[np.intp] | None = None,
    **steps: Any,
) -> FusedModel:
    """Fit fusion layer and classifier on these rows and no others.

    Parameters
    ----------
    X : float (n, d), NaN where a feature is undefined.
    y, groups : n labels and group numbers.
    blocks : block name -> its columns in ``X``.
    classifier : name of a registered classifier.
    sources : n names, None where unknown; () is n times None.
    cells : intp (n,), for every row the row of the cell that it shows: its own, unless it is an augmented cell, which
        come last. None for no augmented cells.
    **steps : fields of ``Recipe``: ``params``, ``layer``, ``fuse``, ``harmonise``, ``stability``, ``calibrate``,
        ``threshold``, ``costs``, ``positive``, ``seed``.

    Raises
    ------
    UsageError : a rule that these classes cannot have, or too few groups to learn calibration or rule from.
    ValueError, TypeError : the classifier refuses its parameters or the data.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["all", "hem"], 20)
    >>> X = rng.normal(size=(40, 3)) + (y == "all")[:, None]
    >>> model = fuse(X, y, np.arange(40), {"texture": slice(0, 3)}, "logreg")
    >>> model.predict_proba(X[:2]).shape
    (2, 2)
    """
    rows = TrainingRows.of_arrays(X, y, groups, sources, cells)
    return fit_rows(rows, blocks, Recipe(tuple(blocks), classifier, **steps), InnerFolds(rows))


def fit_rows(rows: TrainingRows, blocks: Mapping[str, slice], recipe: Recipe, folds: InnerFolds) -> FusedModel:
    """The model of these rows by this recipe: what is learnt, and then what held-out scores inside put on top.

    Steps that see no labels are learnt from the whole training part once, and folds inside are slices of what they
    make; where a step sees labels, or a block is learnt, every fold inside learns it anew.
    """
    recipe.decision.check_classes(np.unique(np.asarray(rows.y, object).astype(str)).tolist(), recipe.positive)
    if recipe.decision.learns and folds.are_slices and recipe.stability is None and recipe.fuse != "late":
        return _fit_on_slices(rows, blocks, recipe)
    model = _fit_steps(rows, blocks, recipe, folds)

    def score(train: NDArray[np.intp], test: NDArray[np.intp]) -> NDArray[np.float64]:
        part = folds.part(train, test)
        return _fit_steps(part.rows, blocks, recipe, part.folds).predict_proba(part.X, part.sources)

    return decide(recipe, model.classes, score, rows).put_on(model)


@dataclass(frozen=True, eq=False)
class Decision:
    """What held-out scores have put on top of a model; see ``FusedModel``. None for what is not asked for."""

    calibration: Calibration | None = None
    threshold: float | None = None
    costs: NDArray[np.float64] | None = None

    def put_on(self, model: FusedModel) -> FusedModel:
        """The model with it."""
        return replace(model, calibration=self.calibration, threshold=self.threshold, costs=self.costs)

    def predicted(self, proba: NDArray[np.float64], positive: int | None) -> NDArray[np.intp]:
        """intp (n,), the column of each row's predicted class, by (calibrated) probabilities; ``positive`` is the
        column of the class that the threshold is of."""
        threshold = None if self.threshold is None else np.full(len(proba), self.threshold)
        costs = None if self.costs is None else expected_costs(proba, self.costs)
        return predicted_classes(proba, threshold, positive, costs)

    def calibrate(self, proba: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 (n, K), calibrated where that was asked for."""
        return proba if self.calibration is None else self.calibration.apply(proba)


#: Asked for the cells of a test part: float64 (n, classes) where one block (its number, None for no block) has the
#: values of training rows, counted within the training part.
Exchange = Callable[[int | None, NDArray[np.intp]], NDArray[np.float64]]

_NOBODY = np.empty(0, np.intp)


@dataclass(frozen=True, eq=False)
class HeldOutModel:
    """A model beside the test part of its split, while both are at hand.

    Attributes
    ----------
    ask : what the classifier says of these cells.
    decision : what is put on top.
    contributions : float64 (n, classes, d + 1) of the columns, as ``plugins.classifiers.Contributes`` has
        them; None where the classifier cannot tell.
    """

    ask: Exchange
    decision: Decision = field(default_factory=Decision)
    contributions: Callable[[], NDArray[np.float64]] | None = None

    @classmethod
    def of(cls, model: FusedModel, table: FeatureTable, train: NDArray[np.intp], test: NDArray[np.intp]) -> Self:
        """A model, and the rows that it has learnt from and those that it has not, of a table of its blocks.

        Values are exchanged after they were harmonised, each by the site of the cell that it was measured in; those of
        bags of cells before.
        """
        if isinstance(table.X, Bags):
            return cls(_ask_bags(model, table, train, test), model.decision)
        own, held = (model.harmonised(table.X[rows], [table.sources[row] for row in rows]) for rows in (train, test))
        parts, classifier = list(table.blocks.values()), model.classifier

        def ask(which: int | None, exchanged: NDArray[np.intp]) -> NDArray[np.float64]:
            X = held
            if which is not None:
                X = held.copy()
                X[:, parts[which]] = own[exchanged, parts[which]]
            return classifier.predict_proba(model.fused(X))

        tells = classifier if isinstance(classifier, Contributes) and model.layer is None else None
        contributions = None if tells is None else lambda: tells.contributions(model.fused(held))
        return cls(ask, model.decision, contributions)

    def predict_proba(self, which: int | None = None, exchanged: NDArray[np.intp] = _NOBODY) -> NDArray[np.float64]:
        """float64 (n, classes) of the test part; of a block that is exchanged, see ``Exchange``."""
        return self.decision.calibrate(self.ask(which, exchanged))


def _ask_bags(model: FusedModel, table: FeatureTable, train: NDArray[np.intp], test: NDArray[np.intp]) -> Exchange:
    """The same of bags of cells, each of which takes another's values of a block."""
    bags: Any = table.X
    own, held, sources = bags[train], bags[test], [table.sources[row] for row in test]
    parts = list(table.blocks.values())

    def ask(which: int | None, exchanged: NDArray[np.intp]) -> NDArray[np.float64]:
        X = held if which is None else held.with_columns(parts[which], own[exchanged])
        return model.classifier.predict_proba(model.fused_bags(X, sources))

    return ask


def decide(recipe: Recipe, classes: Sequence[str], score: Score, rows: TrainingRows) -> Decision:
    """Calibration and the rule of prediction, by held-out scores of the training cells.

    Parameters
    ----------
    classes : of the scores' columns.
    score : (training cells to learn from, training cells to score) -> float64 (cells, classes).
    rows : the training part.
    """
    decision = recipe.decision
    if not decision.learns:
        none = np.empty((0, len(classes)))
        return Decision(None, *decision.choose(none, np.empty(0, np.intp), classes, recipe.positive))
    count = rows.count
    y = rows.y[:count]
    proba = held_out(score, y, rows.groups[:count], recipe.seed)
    labels = np.asarray(y, object).astype(str)
    codes = np.searchsorted(list(classes), labels)
    found = Decision(fit_calibration(decision.calibrate, proba, codes))
    threshold, costs = decision.choose(found.calibrate(proba), codes, classes, recipe.positive)
    return replace(found, threshold=threshold, costs=costs)


def _fit_on_slices(rows: TrainingRows, blocks: Mapping[str, slice], recipe: Recipe) -> FusedModel:
    """The model with calibration and threshold, from rows that are prepared once, and distances computed once."""
    classifier = _built(recipe, blocks)
    prepared, X = _prepare(rows, blocks, recipe, classifier)
    distances = None
    if isinstance(classifier, FitsDistances) and classifier.fits_distances:
        distances = Distances.between(np.ascontiguousarray(X, np.float64))
        classifier.fit_distances(distances, rows.y, rows.groups, X)
    else:
        classifier.fit(X, rows.y, rows.groups)
    model = replace(prepared, classifier=classifier)

    def score(train: NDArray[np.intp], test: NDArray[np.intp]) -> NDArray[np.float64]:
        at, fold = rows.positions(train), _built(recipe, blocks)
        if distances is not None:
            return score_slice(fold, distances, at, test, rows)
        return fold.fit(X[at], rows.y[at], rows.groups[at]).predict_proba(X[test])

    return decide(recipe, model.classes, score, rows).put_on(model)


def score_slice(
    classifier: Classifier, distances: Distances, at: NDArray[np.intp], test: NDArray[np.intp], rows: TrainingRows
) -> NDArray[np.float64]:
    """float64 (cells, classes): the rows ``test`` by a classifier fitted on the rows ``at`` of the distances."""
    assert isinstance(classifier, FitsDistances)
    classifier.fit_distances(distances.only(at, test), rows.y[at], rows.groups[at])
    return classifier.predict_proba_distances(np.arange(len(at), len(at) + len(test)))


def _fit_steps(rows: TrainingRows, blocks: Mapping[str, slice], recipe: Recipe, folds: InnerFolds) -> FusedModel:
    """Harmonise, select, fuse, classify: in this order, each learnt from what the one before leaves."""
    if recipe.fuse == "late":
        return BlockModels.of(rows, blocks, recipe, folds).fused(list(blocks))
    classifier = _built(recipe, blocks)
    prepared, X = _prepare(rows, blocks, recipe, classifier)
    if folds.are_slices or not isinstance(classifier, HoldsOut):
        return replace(prepared, classifier=classifier.fit(X, rows.y, rows.groups))

    def anew(train: NDArray[np.intp], test: NDArray[np.intp]) -> tuple[Any, Any]:
        part: InnerPart = folds.part(train, test)
        own, learnt = _prepare(part.rows, blocks, recipe, classifier)
        if isinstance(part.X, Bags):
            return learnt, own.fused_bags(part.X, part.sources)
        return learnt, own.fused(own.harmonised(part.X, part.sources))

    return replace(prepared, classifier=classifier.fit_held_out(X, rows.y, rows.groups, anew))


def _built(recipe: Recipe, blocks: Mapping[str, slice]) -> Classifier:
    """The unfitted classifier; one that draws columns is told by what weights."""
    classifier = recipe.build()
    if isinstance(classifier, DrawsColumns):
        from fusion.feature_transforms.column_weights import column_weights

        if (weights := column_weights(fusion_layer(blocks, recipe))) is not None:
            classifier.draw_by(weights)
    return classifier


def fusion_layer(blocks: Mapping[str, slice], recipe: Recipe) -> FusionLayer:
    """The fusion layer that a recipe asks for over these columns, not fitted."""
    from fusion.feature_transforms.fusion_layer import FusionLayer

    columns = {name: list(range(part.start, part.stop)) for name, part in blocks.items()}
    return FusionLayer(blocks=columns, **{"random_state": recipe.seed, **recipe.layer})


def fit_harmoniser(rows: TrainingRows, blocks: Mapping[str, slice], recipe: Recipe) -> Harmoniser:
    """The maps of sources that a recipe which harmonises asks for, from these training rows; of bags, from their cells.

    The mix of classes of a new site's cells is estimated by what cells of patients are themselves, and supposed to be
    equal where that is not known.
    """
    from fusion.feature_transforms.harmonisation import Harmoniser

    settings = recipe.harmonise.model_dump()
    cells = rows.of_cells(recipe.seed)
    if cells is not rows and recipe.harmonise.mix == "estimated":
        labelled = rows.of_labelled_cells(recipe.seed)
        cells = cells if labelled is None else labelled
        settings["mix"] = "equal" if labelled is None else "estimated"
    found = Harmoniser.fit(cells.X, cells.y, cells.sources, **settings, layer=fusion_layer(blocks, recipe))
    new = (
        {} if found.mix is None else {name: own for name, own in recipe.site_classes.items() if name not in found.maps}
    )
    return found.stating({name: np.isin(found.classes, own) for name, own in new.items()}) if new else found


def prepare_features(
    rows: TrainingRows, blocks: Mapping[str, slice], recipe: Recipe
) -> tuple[NDArray[Any], Harmoniser | None, Selection | None]:
    """Harmonise and select: the training rows before they are scaled, of bags their cells, and the fitted steps; with
    maps of augmented cells' sources, too."""
    cells = rows.of_cells(recipe.seed)
    X, harmoniser, selection = cells.X, None, None
    if recipe.harmonise.method != "none":
        harmoniser = fit_harmoniser(rows, blocks, recipe)
        X = harmoniser.transform(X, cells.sources)
    if recipe.stability is not None:
        own, known = cells, X
        if cells is not rows and rows.count < len(rows):  # of patients it is asked of their own cells alone
            own = rows.without_augmented().of_cells(recipe.seed)
            known = own.X if harmoniser is None else harmoniser.transform(own.X, own.sources)
        selection = Selection.fit(known, own.y, own.sources, recipe.stability, own.cells)
        X = selection.transform(X)
    return X, harmoniser, selection


def _prepared(X: Any, sources: Sequence[str | None], harmoniser: Harmoniser | None, selection: Selection | None) -> Any:
    """Rows, or bags of cells, by steps that are fitted."""
    if isinstance(X, Bags):
        own = harmonise_bags(harmoniser, X, sources)
        own = own.held() if isinstance(X.cells, np.ndarray) else own
        return own if selection is None else own.fused(selection.transform)
    scored = X if harmoniser is None else harmoniser.transform(X, sources)
    return scored if selection is None else selection.transform(scored)


def _prepare_units(
    rows: TrainingRows, blocks: Mapping[str, slice], recipe: Recipe
) -> tuple[Any, Harmoniser | None, Selection | None]:
    """As ``prepare_features``, the rows being units, whatever these are."""
    X, harmoniser, selection = prepare_features(rows, blocks, recipe)
    if isinstance(rows.X, Bags):
        X = _prepared(rows.X, rows.sources, harmoniser, selection)
    return X, harmoniser, selection


@dataclass(frozen=True, eq=False)
class BlockModels:
    """What late fusions of one training part share: the model of each block, and its scores of cells held out.

    Attributes
    ----------
    rows : the training part, harmonised and selected.
    blocks : block name -> its columns.
    recipe : of the late fusions.
    folds : the way into the training part as it was before that.
    """

    rows: TrainingRows
    blocks: Mapping[str, slice]
    recipe: Recipe
    folds: InnerFolds
    harmoniser: Harmoniser | None
    selection: Selection | None
    _known: dict[str, tuple[FusedModel, NDArray[np.float64]]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: TrainingRows, blocks: Mapping[str, slice], recipe: Recipe, folds: InnerFolds) -> Self:
        """Of these rows; models are fitted when they are asked for."""
        X, harmoniser, selection = _prepare_units(rows, blocks, recipe)
        kept = None if harmoniser is None else harmoniser.only(rows.own_sources)
        return cls(replace(rows, X=X), blocks, recipe, folds, kept, selection)

    def fused(self, names: Sequence[str]) -> FusedModel:
        """The late fusion of these blocks, which takes the columns of all: weights by scores of cells held out."""
        known = [self._model_of(name) for name in names]
        members = {name: member for name, (member, _) in zip(names, known, strict=True)}
        classes = next(iter(members.values())).classes
        labels = np.asarray(self.rows.y[: self.rows.count], object).astype(str)
        scores = centred_logs(np.stack([held for _, held in known], axis=1))
        weights, intercepts = stack_scores(scores, np.searchsorted(classes, labels))
        late = LateFusion(members, {name: self.blocks[name] for name in names}, weights, intercepts)
        return FusedModel(None, late, harmoniser=self.harmoniser, selection=self.selection)

    def _model_of(self, name: str) -> tuple[FusedModel, NDArray[np.float64]]:
        """A block's model, and float64 (n, classes): its kind's scores of training cells of other groups."""
        if name in self._known:
            return self._known[name]
        part, count = self.blocks[name], self.rows.count
        own, alone = {name: slice(0, part.stop - part.start)}, _of_one_block(self.recipe, name)
        folds = _folds_of_block(self.rows, self.folds, self.blocks, self.recipe, part)

        def score(train: NDArray[np.intp], test: NDArray[np.intp]) -> NDArray[np.float64]:
            inner = folds.part(train, test)
            return _fit_steps(inner.rows, own, alone, inner.folds).predict_proba(inner.X)

        held = held_out(score, self.rows.y[:count], self.rows.groups[:count], self.recipe.seed, "--fuse late")
        self._known[name] = _fit_steps(self.rows.of_columns(part), own, alone, folds), held
        return self._known[name]


def _of_one_block(recipe: Recipe, name: str) -> Recipe:
    """How one block's model is made: what comes before and after the blocks' models is not its affair."""
    plain: dict[str, Any] = {
        "harmonise": HarmoniseSettings(),
        "stability": None,
        "calibrate": "none",
        "threshold": None,
        "costs": {},
    }
    return replace(recipe, blocks=(name,), fuse="weighted", **plain)


def _folds_of_block(
    rows: TrainingRows, folds: InnerFolds, blocks: Mapping[str, slice], recipe: Recipe, part: slice
) -> InnerFolds:
    """The way into a training part by the columns of one block, ``rows`` being prepared; steps that see labels are
    learnt anew in every fold."""
    if folds.are_slices and recipe.stability is None:
        return InnerFolds(rows.of_columns(part))

    def anew(train: NDArray[np.intp], test: NDArray[np.intp]) -> InnerPart:
        inner = folds.part(train, test)
        X, harmoniser, selection = _prepare_units(inner.rows, blocks, recipe)
        scored = _prepared(inner.X, inner.sources, harmoniser, selection)
        learnt = replace(inner.rows, X=X)
        deeper = _folds_of_block(learnt, inner.folds, blocks, recipe, part)
        return InnerPart(learnt.of_columns(part), scored[:, part], inner.sources, deeper)

    return InnerFolds(None, anew)


def _prepare(
    rows: TrainingRows, blocks: Mapping[str, slice], recipe: Recipe, classifier: Classifier
) -> tuple[FusedModel, NDArray[Any]]:
    """The steps before the classifier, fitted, and the rows as it gets them; of bags, fitted on their cells."""
    X, harmoniser, selection = prepare_features(rows, blocks, recipe)
    layer = None
    if classifier.prepares != "raw":
        layer = fusion_layer(blocks, recipe)
        X = layer.fit_transform(X)
    model = FusedModel(layer, classifier, harmoniser=harmoniser, selection=selection)
    if isinstance(rows.X, Bags):
        X = model.fused_bags(rows.X, rows.sources)
    kept = None if harmoniser is None else harmoniser.only(rows.own_sources)
    return replace(model, harmoniser=kept), X
