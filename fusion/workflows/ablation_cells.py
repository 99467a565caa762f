"""The cells of an ablation: splits of one data set, or all of one to learn from and all of another to be judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from fusion.data.class_names import rename_classes
from fusion.data.dataset import Dataset, load_dataset
from fusion.data.patients.patient_labels import label_by_subject
from fusion.data.units import Units, cells_of, units_of
from fusion.leakage.near_duplicates import hash_images
from fusion.leakage.protocols import Plan, external_plan, external_plan_of_subjects, make_plan
from fusion.leakage.provenance import Cohort
from fusion.learning.study import Study
from fusion.progress import Progress
from fusion.settings.commands import AblateConfig
from fusion.workflows.loading import Inputs


@dataclass(frozen=True, eq=False)
class JudgedCells:
    """Cells with their features and the plan to judge them by; ``tested`` is an external test set."""

    study: Study
    plan: Plan
    notes: tuple[str, ...]
    stamps: tuple[str, ...]
    tested: Dataset | None = None


def judged_cells(config: AblateConfig, dataset: Dataset, inputs: Inputs, progress: Progress | None) -> JudgedCells:
    """The study and the plan that a configuration asks for."""
    road = _external if config.test else _within
    return road(config, dataset, inputs, progress)


def _external(config: AblateConfig, dataset: Dataset, inputs: Inputs, progress: Progress | None) -> JudgedCells:
    """All of the data set to learn from, all of another one to be judged."""
    assert config.test is not None
    other = load_dataset(
        config.test,
        part=config.test_part,
        reading=config,
        is_lenient=True,
        mask_levels=config.mask_levels,
        store=config.store,
    )
    other = rename_classes(other, config.class_names, is_lenient=True)
    if dataset.unit == "subject":
        other = label_by_subject(other)
    other = other.select(config.classes).labelled()
    near, notes = _near(config, [dataset, other], progress)
    plan_both = partial(external_plan, other_cohort=config.other_cohort, near=near, allow_leakage=config.allow_leakage)
    plan_both(cells_of(dataset), cells_of(other))
    stamps = inputs.check_unseen(dataset, allow=config.allow_leakage)
    cohort = Cohort(is_other=config.other_cohort)
    stamps += [
        one for one in inputs.check_unseen(other, allow=config.allow_leakage, cohort=cohort) if one not in stamps
    ]
    first = inputs.measure(dataset, config, progress)
    second, brought = inputs.measure_as(first, other, progress)
    # By cells, whatever the units: the same image in both is found by no bag of images.
    plan, groups = plan_both(first.study.cells or first.study.table, second.cells or second.table)
    if first.study.cells is not None:
        plan, groups = external_plan_of_subjects(plan, groups, first.study.table, second.table)
    study = Study.pair(first.study, second, groups)
    splits = [split for _, split in plan.splits]
    # Augmented cells are those of the first table, whose rows are the first of both.
    return JudgedCells(study, plan, (*other.notes, *notes, *first.notes(splits)), (*stamps, *brought), other)


def _within(config: AblateConfig, dataset: Dataset, inputs: Inputs, progress: Progress | None) -> JudgedCells:
    """Splits of one data set; what cannot be split is refused before anything is measured."""
    stamps = inputs.check_unseen(dataset, allow=config.allow_leakage)
    _plan(units_of(dataset), config)
    measured = inputs.measure(dataset, config, progress)
    study = measured.study
    plan = _plan(study.table, config)
    splits = [split for _, split in plan.splits]
    return JudgedCells(study, plan, tuple(measured.notes(splits)), (*stamps, *measured.stamps(splits)))


def _near(
    config: AblateConfig, datasets: Sequence[Dataset], progress: Progress | None
) -> tuple[dict[str, int], list[str]]:
    """Near-duplicates within and between data sets, where they are asked for."""
    return hash_images(datasets, progress).sets(config.near_duplicates) if config.near_duplicates else ({}, [])


def _plan(units: Units, config: AblateConfig) -> Plan:
    return make_plan(units, config.split, config.splits, config.rounds, config.seed)
