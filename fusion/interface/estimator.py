"""A classifier of images with the interface of scikit-learn: paths in, classes out."""

from __future__ import annotations

import logging
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from fusion.bundles.model_bundle import ModelBundle
from fusion.data.dataset import Fault, load_images
from fusion.errors import UsageError
from fusion.features.store import FeatureStore
from fusion.image_transforms.dataset_transforms import as_trained, stated
from fusion.leakage.provenance import Provenance
from fusion.learning.learn import learn
from fusion.learning.predictions import PredictionError
from fusion.learning.refusals import batches_setting
from fusion.learning.study import Study
from fusion.settings.commands import TrainConfig
from fusion.settings.loading import build_config
from fusion.workflows.loading import load_training_cells
from fusion.workflows.run_facts import choose_positive
from fusion.workflows.training.plan import begin_run, plan_recipe

_log = logging.getLogger("fusion")


class FusionClassifier(ClassifierMixin, BaseEstimator):
    """Fused features of single-cell images under any registered classifier, as scikit-learn has it.

    Whatever is fitted is fitted in ``fit``: inside scikit-learn's cross-validation nothing leaks that the folds keep
    apart. Give ``groups`` (subjects): a classifier that holds cells out inside its training part keeps them together.

    Parameters
    ----------
    classifier : str, default="svm"
        ``svm``, ``xgb``, ``logreg``, ``neural``, or a plug-in.
    features : sequence of str, default=("morphology", "texture", "colour")
        The blocks that are fused.
    settings : mapping, optional
        Any other setting of ``fusion train``, as ``fusion settings train`` lists them.
    config : str or path, optional
        A recipe by its name, or a YAML file.

    Attributes
    ----------
    classes_ : ndarray of str
        Labels in the order of the probabilities' columns.
    bundle_ : ModelBundle
        The fitted model; ``bundle_.save(folder)`` keeps it for ``fusion predict``.
    n_cells_ : int
        Cells that it was fitted on.
    faults_ : tuple of Fault
        Images that ``fit`` had to skip.

    Raises
    ------
    FusionError
        From ``fit``: what ``fusion train`` would say, in the same words.

    Examples
    --------
    >>> from sklearn.model_selection import GroupKFold, cross_val_score
    >>> cells = fusion.load("cells").to_frame()  # doctest: +SKIP
    >>> model = FusionClassifier("logreg", features=["morphology"])
    >>> cross_val_score(model, cells.path, cells.label, groups=cells.subject, cv=GroupKFold(3))  # doctest: +SKIP
    """

    def __init__(
        self,
        classifier: str = "svm",
        features: Sequence[str] = ("morphology", "texture", "colour"),
        settings: Mapping[str, Any] | None = None,
        config: Path | str | None = None,
    ) -> None:
        self.classifier, self.features, self.settings, self.config = classifier, features, settings, config

    def fit(self, paths: Sequence[Path | str] | ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Measure the images and fit on them.

        Parameters
        ----------
        paths : sequence of str or path, shape (n,)
            Images.
        y : array-like, shape (n,)
            Their labels.
        groups : array-like, shape (n,), optional
            Their subjects.

        Returns
        -------
        FusionClassifier
            Itself.
        """
        folder = tempfile.TemporaryDirectory(prefix="fusion-")
        weakref.finalize(self, folder.cleanup)
        table = Path(folder.name) / "cells.parquet"
        _rows(paths, y, groups).to_parquet(table, index=False)
        options = {**(self.settings or {}), "classifier": self.classifier, "features": list(self.features)}
        options |= {"data": table, "output": Path(folder.name) / "model"}
        file = None if self.config is None else Path(self.config)
        config = build_config(TrainConfig, file=file, options=options)
        config = config.model_copy(update={"normalise": stated(config.normalise)})
        recipe, inputs = plan_recipe(config)
        dataset = load_training_cells(config)
        measured = inputs.measure(dataset, config, stored=bool(batches_setting(recipe)))
        study, run = measured.study, begin_run(config, recipe, inputs, None)
        model = learn(study, study.everyone, recipe, run, learnt=inputs.learnt)
        known = set(study.table.keys)
        self.bundle_ = ModelBundle(
            model=model.features,
            classifier=recipe.classifier,
            blocks=(*inputs.blocks, *model.as_blocks(run.folder)),
            columns=model.study.table.columns,
            positive=choose_positive(study.classes, config.positive),
            provenance=Provenance.of(sample for sample in dataset.samples if sample.key in known),
            facts={},
            normaliser=measured.view.normaliser,
        )
        self._store, self._jobs = config.store, config.jobs
        self.classes_ = np.array(self.bundle_.classes)
        self.n_cells_, self.faults_ = len(study), (*dataset.faults, *study.faults)
        _warn(self.faults_)
        return self

    def predict_proba(self, paths: Sequence[Path | str] | ArrayLike) -> NDArray[np.float64]:
        """Class probabilities of images.

        Parameters
        ----------
        paths : sequence of str or path, shape (n,)
            Images.

        Returns
        -------
        ndarray of float64, shape (n, classes)
            Rows that sum to 1, columns as in ``classes_``; NaN for an image that cannot be used, which a warning names.
        """
        check_is_fitted(self, "bundle_")
        given = [Path(str(each)) for each in np.asarray(paths, object).ravel()]
        store = FeatureStore(self._store)
        dataset = load_images(given, store=self._store)
        shown, _ = as_trained(self.bundle_.normaliser, dataset, store, jobs=self._jobs)
        study = Study.of(shown, self.bundle_.blocks, self.bundle_.transforms, store, jobs=self._jobs)
        _warn((*dataset.faults, *study.faults))
        found = np.full((len(given), len(self.classes_)), np.nan)
        if len(study):
            names = dict(zip(dataset.each("path"), dataset.names, strict=True))
            rows = {name: row for row, name in enumerate(study.table.names)}
            proba = self.bundle_.predict_proba(study)
            for at, path in enumerate(given):
                if (row := rows.get(names.get(path, ""))) is not None:
                    found[at] = proba[row]
        return found

    def predict(self, paths: Sequence[Path | str] | ArrayLike) -> NDArray[Any]:
        """The most probable class of each image, or the one by the threshold or costs that ``settings`` asked for.

        Parameters
        ----------
        paths : sequence of str or path, shape (n,)
            Images.

        Returns
        -------
        ndarray of str, shape (n,)
            Labels out of ``classes_``.

        Raises
        ------
        PredictionError
            An image cannot be used: there is no class to tell; ``predict_proba`` has NaN for it.
        """
        proba = self.predict_proba(paths)
        if (lost := np.isnan(proba).any(axis=1)).any():
            first = np.asarray(paths, object).ravel()[lost.argmax()]
            raise PredictionError(
                f"no class for {int(lost.sum())} of {len(proba)} images",
                found=f"{first} cannot be used, for one",
                do="predict_proba has NaN for them.",
            )
        positive = self.bundle_.positive
        column = None if positive is None else self.bundle_.classes.index(positive)
        found: NDArray[Any] = self.classes_[self.bundle_.model.decision.predicted(proba, column)]
        return found


def _rows(paths: Any, y: Any, groups: Any) -> Any:
    """The table that ``fusion train`` would be given."""
    import pandas as pd

    given = [str(Path(str(each)).absolute()) for each in np.asarray(paths, object).ravel()]
    columns: dict[str, list[str]] = {"path": given, "label": [str(each) for each in np.asarray(y, object).ravel()]}
    if groups is not None:
        columns["subject"] = [str(each) for each in np.asarray(groups, object).ravel()]
    if len({len(each) for each in columns.values()}) > 1:
        raise UsageError(
            "paths, y and groups are not of one length",
            found=", ".join(f"{len(each)} of {name}" for name, each in columns.items()),
        )
    return pd.DataFrame(columns)


def _warn(faults: Sequence[Fault]) -> None:
    if faults:
        _log.warning("%d images skipped, such as %s", len(faults), faults[0])
