"""``fusion train``: judge a classifier on held-out subjects, fit it on all cells, save it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fusion.analysis.cell_columns import check_columns
from fusion.analysis.expected_time import forecast_fits
from fusion.bundles.model_bundle import ModelBundle, check_writable
from fusion.compute import torch_processes
from fusion.data.dataset import Dataset
from fusion.data.patients.patient_labels import unit_of
from fusion.data.units import units_of
from fusion.evaluation.promises.held_out import Promises, check_subjects
from fusion.evaluation.result_tables import entry_frame
from fusion.evaluation.results import Result, check_result_folder
from fusion.image_transforms.dataset_transforms import stated
from fusion.io.notebook_table import notebook_table
from fusion.leakage.protocols import make_plan
from fusion.leakage.provenance import Provenance
from fusion.learning.cross_validation import cross_validate, prepare_fits
from fusion.learning.learn import learn
from fusion.learning.refusals import batches_setting
from fusion.progress import Progress, tell_forecast
from fusion.reports import html_report
from fusion.reports.mlflow_tracking import open_tracker
from fusion.settings.commands import TrainConfig
from fusion.settings.outputs import one_run_of
from fusion.workflows.asked_analyses import (
    asked_promises,
    with_page_findings,
    with_promises,
    with_refits,
    with_subgroups,
)
from fusion.workflows.loading import Measured, load_training_cells
from fusion.workflows.run_facts import choose_positive, landmark_params
from fusion.workflows.training.asked_of_learnt import AsksOfLearnt, own_scores_of
from fusion.workflows.training.bundle import build_bundle, reference_cells, save_bundle
from fusion.workflows.training.images import show_attention, show_batch
from fusion.workflows.training.plan import begin_run, plan_folds, plan_recipe
from fusion.workflows.training.result import judged_result


@dataclass(frozen=True, eq=False)
class Trained:
    """A fitted model and what it showed on subjects it had not seen."""

    bundle: ModelBundle
    result: Result
    dataset: Dataset

    def __repr__(self) -> str:
        return f"Trained({self.bundle!r}; {self.result!r})"

    def _repr_html_(self) -> str:
        return notebook_table(repr(self), lambda: entry_frame(self.result))


@one_run_of
def train(config: TrainConfig, progress: Progress | None = None) -> Trained:
    """Cross-validate one classifier on one feature set by subject, fit it on all cells, and save the model.

    Parameters
    ----------
    config : what is trained on which cells.
    progress : informed of every step.

    Raises
    ------
    FusionError : wrong data, features, classifier or folder; see the message.

    Examples
    --------
    >>> trained = train(TrainConfig(data="cells", classifier="xgb", output="model"))  # doctest: +SKIP
    """
    _check_folders(config)
    config = config.model_copy(update={"normalise": stated(config.normalise), "unit": unit_of(config)})
    recipe, inputs = plan_recipe(config)
    tracker = None if config.mlflow is None else open_tracker(config.mlflow)
    progress = progress if torch_processes.is_first() else None
    check_columns(config.data, config, config.by)
    dataset = load_training_cells(config, progress)
    positive = choose_positive(dataset.classes, config.positive)
    recipe.decision.check_classes(dataset.classes, positive)  # before anything is measured
    stamps = inputs.check_unseen(dataset, allow=config.allow_leakage)
    make_plan(units_of(dataset), "grouped", config.splits, 1, config.seed)  # what cannot be split is refused at once
    asked = asked_promises(config, units_of(dataset), dataset.classes, positive)
    with torch_processes.first_alone(inputs.device):
        measured = inputs.measure(dataset, config, progress, stored=bool(batches_setting(recipe)))
    recipe = replace(recipe, positive=choose_positive(measured.study.classes, config.positive))
    learnt_from = measured.study.count_cells(measured.study.everyone) * (1 + config.augment.per_cell)
    params, approximate = landmark_params(config.classifier, recipe.params, learnt_from, config)
    if params:
        recipe, stamps = replace(recipe, params=params), [*stamps, *([approximate] if approximate else [])]
    run = begin_run(config, recipe, inputs, progress)
    show_batch(config, recipe, inputs, measured.study)
    plan = plan_folds(measured.study.table, config)
    # Promises then rest on the part that is held out, and are refused before anything is learnt.
    if config.holdout and not asked.is_nothing:
        check_subjects(measured.study.table.take(plan.rounds[0][0].test), measured.study.classes, asked, positive)
    fits = prepare_fits(measured.study, plan, [recipe], run, inputs.learnt)
    # One more learns from all cells, and every permutation is learnt in every fold.
    tell_forecast(progress, lambda: forecast_fits(fits, times=1 + 1 / len(fits.splits) + config.null))
    asking = AsksOfLearnt.of(measured.study, config.seed)
    (scores,) = cross_validate(replace(fits, asked_learnt=asking.rows), plan, heard=asking.hear)
    model = learn(measured.study, measured.study.everyone, recipe, run, learnt=inputs.learnt)
    provenance = _provenance(dataset, measured)
    model.remember(provenance.to_json())
    show_attention(config, model)
    reference = reference_cells(model, config.seed)
    result = judged_result(config, dataset, measured, plan, scores, model, stamps, reference.notes)
    result = with_promises(with_refits(result, fits, plan, config), asked)
    result = with_subgroups(result, config.by, config.data, config, dataset)
    result = with_page_findings(result, measured.study.table, fits)
    own = own_scores_of(result.cells, scores, model, asking.answers(fits, model), config.seed)
    promises = Promises(asked, own, result.positive)
    bundle = build_bundle(result, inputs, measured, model, reference, provenance, run, promises)
    if torch_processes.is_first():  # the others have what the first one writes
        if config.report is not None:
            html_report.write_result(result, config.report, dataset.root, dataset)
        bundle = save_bundle(bundle, model, config, run)
        if tracker is not None:
            tracker.log(result, config, config.output)
    return Trained(bundle, result, dataset)


def _check_folders(config: TrainConfig) -> None:
    """Refuse to write over a model or a result that is there, unless that is asked for."""
    check_writable(config.output, force=config.force)
    if config.report is not None:
        check_result_folder(config.report, force=config.force, option="--report")


def _provenance(dataset: Dataset, measured: Measured) -> Provenance:
    """What the model has learnt from, as hashes."""
    known = set((measured.study.cells or measured.study.table).keys)
    perceptual = () if measured.hashed is None else measured.hashed.digits
    return Provenance.of((sample for sample in dataset.samples if sample.key in known), perceptual)
