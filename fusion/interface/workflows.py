"""Every workflow as a function: data first, settings as keywords, a result to look at.

What stands in each docstring is the function's own; its parameters, the settings among them, and the errors that
all raise are added by ``with_settings``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.interface._keywords import run_workflow, with_settings
from fusion.progress import Progress
from fusion.settings.commands import (
    AblateConfig,
    AdaptConfig,
    CompareConfig,
    EvaluateConfig,
    ExplainConfig,
    ExtractConfig,
    InspectConfig,
    LoadConfig,
    PlanConfig,
    PredictConfig,
    SegmentConfig,
    TrainConfig,
)

if TYPE_CHECKING:
    from fusion.data.dataset import Dataset
    from fusion.evaluation.results import Result
    from fusion.features.extraction import Extraction
    from fusion.learning.predictions import Predictions
    from fusion.workflows.compare import Comparison
    from fusion.workflows.explain import Explained
    from fusion.workflows.inspect import Inspection
    from fusion.workflows.new_site.adaptation import Adapted
    from fusion.workflows.plan import StudyPlan
    from fusion.workflows.segment import Segmented
    from fusion.workflows.train import Trained


@with_settings(LoadConfig)
def load(
    data: Any = None,
    *,
    config: Path | str | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> Dataset:
    """Read which images a data set has, and whose they are, as every workflow does before it measures them.

    Returns
    -------
    Dataset
        A row an image in ``to_frame()``; ``samples``, whose ``read_cell()`` gives the pixels; ``faults``, the images
        that cannot be read; ``notes``, what is to be known.

    Examples
    --------
    >>> fusion.load("cells.csv", classes=["all", "hem"])  # doctest: +SKIP
    Dataset(32 images of 8 subjects; all 16, hem 16)
    """
    from fusion.workflows.loading import read_dataset

    def workflow(settings: LoadConfig, told: Progress | None) -> Dataset:
        return read_dataset(settings, told).select(settings.classes, settings.folds, settings.sources)

    return run_workflow(LoadConfig, workflow, {"data": data}, settings, config, progress)


@with_settings(InspectConfig)
def inspect(
    data: Any = None,
    *,
    config: Path | str | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> Inspection:
    """Count classes and subjects of a data set, find unreadable files, identical images and leaks to come.

    Returns
    -------
    Inspection
        Counts and findings; ``lines()`` are those of the command line.

    Examples
    --------
    >>> print(*fusion.inspect("cells").lines(), sep="\\n")  # doctest: +SKIP
    """
    from fusion.workflows.inspect import inspect as workflow

    return run_workflow(InspectConfig, workflow, {"data": data}, settings, config, progress)


@with_settings(SegmentConfig)
def segment(
    data: Any = None,
    *,
    config: Path | str | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> Segmented:
    """Find the cells of every image, and write them as masks beside a table that every workflow takes as data.

    Returns
    -------
    Segmented
        ``table`` is the file with a row a cell; ``faults`` are images in which none was found.

    Examples
    --------
    >>> fusion.segment("new cells", output="segmented").table  # doctest: +SKIP
    """
    from fusion.workflows.segment import segment_data

    return run_workflow(SegmentConfig, segment_data, {"data": data}, settings, config, progress)


@with_settings(ExtractConfig)
def extract(
    data: Any = None,
    *,
    config: Path | str | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> Extraction:
    """Measure every cell of a data set once; what the store already has is not measured again.

    Returns
    -------
    Extraction
        ``to_frame()`` has a row a cell, a column a feature; ``faults`` are the images that were skipped.

    Examples
    --------
    >>> fusion.extract("cells", features=["texture"]).to_frame()  # doctest: +SKIP
    """
    from fusion.workflows.extract import run_extract

    def workflow(settings: ExtractConfig, told: Progress | None) -> Extraction:
        return run_extract(settings, told, lambda _: None)

    return run_workflow(ExtractConfig, workflow, {"data": data}, settings, config, progress)


@with_settings(TrainConfig)
def train(
    data: Any = None,
    *,
    config: Path | str | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> Trained:
    """Judge a classifier on held-out subjects, then fit it on all cells.

    Returns
    -------
    Trained
        ``result``, the figures of held-out subjects; ``bundle``, the model. Without ``output`` both lie in a folder
        that goes when they do; ``bundle.save(folder)`` keeps the model.

    Examples
    --------
    >>> trained = fusion.train("cells.csv", classifier="xgb", features=["texture"])  # doctest: +SKIP
    >>> trained.result  # doctest: +SKIP
    """
    from fusion.workflows.train import train as workflow

    return run_workflow(TrainConfig, workflow, {"data": data}, settings, config, progress)


@with_settings(AblateConfig)
def ablate(
    data: Any = None,
    *,
    config: Path | str | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> Result:
    """Compare sets of feature blocks under all classifiers, on the same held-out subjects.

    Returns
    -------
    Result
        Figures, differences and findings; ``output=FOLDER`` keeps page, tables and scores.

    Examples
    --------
    >>> result = fusion.ablate("cells", features=["morphology", "colour"], output="result")  # doctest: +SKIP
    >>> result.to_frame()  # doctest: +SKIP
    """
    from fusion.workflows.ablate import ablate as workflow

    return run_workflow(AblateConfig, workflow, {"data": data}, settings, config, progress)


@with_settings(EvaluateConfig)
def evaluate(
    model: Any = None,
    data: Any = None,
    *,
    config: Path | str | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> Result:
    """Score labelled cells of new subjects with a saved model.

    Returns
    -------
    Result
        The figures; ``output=FOLDER`` keeps page, tables and scores.

    Raises
    ------
    LeakageError
        The model has learnt from some of these images or subjects.

    Examples
    --------
    >>> fusion.evaluate("model", "new cells", other_cohort=True)  # doctest: +SKIP
    """
    from fusion.workflows.evaluate import evaluate as workflow

    return run_workflow(EvaluateConfig, workflow, {"model": model, "data": data}, settings, config, progress)


@with_settings(PredictConfig)
def predict(
    model: Any = None,
    images: Any = None,
    *,
    config: Path | str | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> Predictions:
    """Class probabilities of images by a saved model.

    Returns
    -------
    Predictions
        ``to_frame()`` has a row a cell.

    Examples
    --------
    >>> fusion.predict("model", "new cells").to_frame()  # doctest: +SKIP
    >>> fusion.predict(fusion.train("cells.csv"), ["a.png", "b.png"])  # doctest: +SKIP
    """
    from fusion.workflows.predict import predict as workflow

    return run_workflow(
        PredictConfig, workflow, {"model": model, "images": _listed(images)}, settings, config, progress
    )


@with_settings(ExplainConfig)
def explain(
    model: Any = None,
    images: Any = None,
    *,
    config: Path | str | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> Explained:
    """Explain what a saved model predicts, a figure a cell and one page.

    Returns
    -------
    Explained
        The page, the figures and the predictions; give ``output=FOLDER`` to keep them.

    Examples
    --------
    >>> fusion.explain("model", "cell.bmp", output="why").page  # doctest: +SKIP
    """
    from fusion.workflows.explain import explain as workflow

    return run_workflow(
        ExplainConfig, workflow, {"model": model, "images": _listed(images)}, settings, config, progress
    )


@with_settings(CompareConfig)
def compare(
    results: Any = None,
    *,
    config: Path | str | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> Comparison:
    """Compare two or more results on the same cells, entry against entry.

    Returns
    -------
    Comparison
        ``to_frame()`` has a row a difference.

    Raises
    ------
    UsageError
        Folders without a result, other cells, other labels, other classes.

    Examples
    --------
    >>> fusion.compare(["with-colour", "without"]).to_frame()  # doctest: +SKIP
    """
    from fusion.workflows.compare import compare_results

    def workflow(settings: CompareConfig, _: Progress | None) -> Comparison:
        return compare_results(settings)

    return run_workflow(CompareConfig, workflow, {"results": _listed(results)}, settings, config, progress)


@with_settings(AdaptConfig)
def adapt(
    model: Any = None,
    data: Any = None,
    *,
    config: Path | str | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> Adapted:
    """Bring a saved model to a new site by a few labelled cells of it, or patients where these are what it judges.

    Returns
    -------
    Adapted
        ``curve``, what labels bring, on those that nobody labelled; give ``output=FOLDER`` for the model.

    Examples
    --------
    >>> fusion.adapt("model", "new cells", k=[5], other_cohort=True, output="adapted").curve  # doctest: +SKIP
    """
    from fusion.workflows.new_site.adaptation import adapt_model

    return run_workflow(AdaptConfig, adapt_model, {"model": model, "data": data}, settings, config, progress)


@with_settings(PlanConfig)
def plan(
    result: Any = None,
    *,
    config: Path | str | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> StudyPlan:
    """How many subjects and cells a comparison would need, by a result that is there or by what is assumed.

    Returns
    -------
    StudyPlan
        ``needed``, the subjects of each class; ``detectable``, the differences that numbers of subjects find.

    Examples
    --------
    >>> fusion.plan(difference=0.1).needed
    {'positive': 13, 'negative': 13}
    """
    from fusion.workflows.plan import plan_study

    def workflow(settings: PlanConfig, _: Progress | None) -> StudyPlan:
        return plan_study(settings)

    return run_workflow(PlanConfig, workflow, {"result": result}, settings, config, progress)


def _listed(given: Any) -> Any:
    """One path, or one table, as a list of one."""
    return [given] if isinstance(given, str | Path) or hasattr(given, "to_parquet") else given
