"""The cells of an ablation: splits of one data set, or all of one to learn from and all of another to be judged."""

from __future__ import annotations

from dataclasses import dataclass

from fusion.data.dataset import Dataset, load_dataset
from fusion.data.units import Units, units_of
from fusion.errors import UsageError
from fusion.leakage.near_duplicates import near_duplicates
from fusion.leakage.protocols import Plan, external_plan, make_plan
from fusion.learning.study import Study
from fusion.progress import Progress
from fusion.settings.commands import AblateConfig
from fusion.workflows.loading import Inputs, group_numbers


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
    if config.near_duplicates:
        raise UsageError(
            "near_duplicates joins cells of one data set, and --test has another",
            do="Leave one of them out.",
        )
    other = load_dataset(
        config.test, part=config.test_part, reading=config, is_lenient=True, mask_levels=config.mask_levels,
        store=config.store,
    )  # fmt: skip
    other = other.select(config.classes).labelled()
    external_plan(units_of(dataset), units_of(other))
    stamps = inputs.check_unseen(dataset, allow=config.allow_leakage)
    stamps += [one for one in inputs.check_unseen(other, allow=config.allow_leakage) if one not in stamps]
    first = inputs.measure(dataset, config, progress)
    second, brought = inputs.measure_as(first, other, progress)
    plan, groups = external_plan(first.study.table, second.table)
    study = Study.pair(first.study, second, groups)
    splits = [split for _, split in plan.splits]
    # Augmented cells are those of the first table, whose rows are the first of both.
    return JudgedCells(study, plan, (*other.notes, *first.notes(splits)), (*stamps, *brought), other)


def _within(config: AblateConfig, dataset: Dataset, inputs: Inputs, progress: Progress | None) -> JudgedCells:
    """Splits of one data set; what cannot be split is refused before anything is measured."""
    stamps = inputs.check_unseen(dataset, allow=config.allow_leakage)
    _plan(units_of(dataset), config)
    joined, notes = near_duplicates(dataset, config.near_duplicates, progress) if config.near_duplicates else ({}, [])
    measured = inputs.measure(dataset, config, progress)
    study = measured.study
    if joined:
        study = study.with_groups(group_numbers(study.table, joined))
    plan = _plan(study.table, config)
    splits = [split for _, split in plan.splits]
    return JudgedCells(study, plan, (*notes, *measured.notes(splits)), (*stamps, *measured.stamps(splits)))


def _plan(units: Units, config: AblateConfig) -> Plan:
    return make_plan(units, config.split, config.splits, config.rounds, config.seed)
