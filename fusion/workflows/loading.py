"""What every workflow that learns begins with: labelled cells, the blocks and images of its recipes, and the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fusion.data.class_names import rename_classes
from fusion.data.dataset import Dataset, check_usable, load_dataset
from fusion.data.feature_table import FeatureTable
from fusion.data.patients.patient_labels import label_by_subject
from fusion.data.patients.unreadable_patients import note_unreadable_patients
from fusion.data.registers.public_datasets import card
from fusion.features.blocks import Block, build_blocks
from fusion.features.extractor_parameters import check_options_of_networks
from fusion.features.image_cache import InputTransform
from fusion.features.store import FeatureStore
from fusion.image_transforms.dataset_transforms import Normalised, as_trained, normalise
from fusion.leakage.grouped_splits import Split
from fusion.leakage.near_duplicates import HashedImages, hash_images
from fusion.leakage.provenance import Cohort, check_unseen
from fusion.learning.augmented_cells import augmentation_notes, augmented_cells, check_sources
from fusion.learning.learnt_blocks import LearntBlock, learnt_blocks
from fusion.learning.recipe import Recipe, check_image_settings
from fusion.learning.study import Study, are_many
from fusion.plugins.classifiers import Classifier
from fusion.plugins.networks import TakesImages
from fusion.progress import Progress
from fusion.settings.commands import LearnConfig
from fusion.settings.data import DataSettings, Unit


def load_labelled(
    config: DataSettings, progress: Progress | None = None, unit: Unit = "cell", least: int = 2
) -> Dataset:
    """The labelled images that a configuration names, of at least so many classes; with the labels of their subjects
    where these are the units."""
    dataset = read_dataset(config, progress)
    check_usable(len(dataset), dataset.faults)
    if unit == "subject":
        dataset = label_by_subject(dataset)
    return dataset.select(config.classes, config.folds, config.sources).labelled(least)


def load_training_cells(config: LearnConfig, progress: Progress | None = None) -> Dataset:
    """The labelled images to learn from.

    Raises
    ------
    FusionError : no such data set, or a source named as augmented cells of another would be.
    """
    dataset = load_labelled(config, progress, config.unit or "cell")
    check_sources(dataset.each("source"), config.augment)
    return dataset


def read_dataset(config: DataSettings, progress: Progress | None = None) -> Dataset:
    """Every image of the data set that a configuration names, with the progress of reading it."""

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress("reading", done, total, 0)

    dataset = load_dataset(
        config.data,
        part=config.part,
        reading=config,
        mask_levels=config.mask_levels,
        store=config.store,
        progress=tell,
    )
    declared = None if config.dataset is None else card(config.dataset).name
    named = rename_classes(dataset.with_source(config.source), config.class_names)
    return replace(named, declared=declared)


@dataclass(frozen=True, eq=False)
class Measured:
    """A study, how its images were normalised, and which of them are nearly the same, where that was asked for."""

    study: Study
    view: Normalised
    settings: LearnConfig
    hashed: HashedImages | None = None
    remarks: tuple[str, ...] = ()

    def notes(self, splits: Sequence[Split]) -> list[str]:
        """What a result on these splits should say of it."""
        parts = [split.train for split in splits]
        return [*self.remarks, *self.view.notes, *augmentation_notes(self.settings.augment, self.study.table, parts)]

    def stamps(self, splits: Sequence[Split]) -> list[str]:
        """What must be read with every figure on these splits."""
        return self.view.stamps(self.study.table, splits)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What the recipes of a command are given: blocks that are measured, blocks that are learnt, images.

    Attributes
    ----------
    blocks, learnt : measured blocks, and those that are learnt anew in every training part.
    classifiers : by name, one of each that the recipes build.
    """

    blocks: tuple[Block, ...]
    learnt: tuple[LearntBlock, ...]
    classifiers: dict[str, Classifier]

    @classmethod
    def of(cls, config: LearnConfig) -> Inputs:
        """The chosen blocks.

        Raises
        ------
        UsageError : an unknown block, or parameters for a block that is not chosen.
        """
        check_options_of_networks(config)
        blocks = build_blocks(config) if config.blocks else []
        learnt = learnt_blocks(config) if config.cnn_crossfit else []
        names = {block.name for block in learnt}
        return cls(tuple(block for block in blocks if block.name not in names), tuple(learnt), {})

    def of_recipes(self, recipes: Sequence[Recipe]) -> Inputs:
        """The same, with the classifiers of these recipes; UsageError for settings that one of images refuses."""
        classifiers = {recipe.classifier: recipe.build() for recipe in recipes}
        for name, classifier in classifiers.items():
            if isinstance(classifier, TakesImages):
                check_image_settings(name, classifier)
        return Inputs(self.blocks, self.learnt, classifiers)

    @property
    def names(self) -> list[str]:
        """The blocks, those that are learnt last."""
        return [*(block.name for block in self.blocks), *(block.name for block in self.learnt)]

    @property
    def takers(self) -> list[TakesImages]:
        """The classifiers and networks that are given images."""
        every: list[object] = [*self.classifiers.values(), *(block.network for block in self.learnt)]
        return [each for each in every if isinstance(each, TakesImages)]

    @property
    def transforms(self) -> list[InputTransform]:
        """The input transforms by which images are taken, each once."""
        return list(dict.fromkeys(taker.input_transform() for taker in self.takers))

    @property
    def device(self) -> str:
        """Where networks are trained."""
        return self.takers[0].device if self.takers else "auto"

    def check_unseen(self, dataset: Dataset, *, allow: bool, cohort: Cohort | None = None) -> list[str]:
        """Stamps for weights that have met cells of this data set; LeakageError unless ``allow``."""
        learners: list[tuple[str, object]] = [(block.name, block.extractor) for block in self.blocks]
        learners += [(block.name, block.network) for block in self.learnt]
        return check_unseen([*learners, *self.classifiers.items()], dataset, allow=allow, cohort=cohort)

    def measure(
        self, dataset: Dataset, config: LearnConfig, progress: Progress | None = None, *, stored: bool = False
    ) -> Measured:
        """The study of a data set, with augmented cells where they are asked for.

        Parameters
        ----------
        stored : leave features in the store; those of patients' cells stay there where they are many anyway.
        """
        store, jobs = FeatureStore(config.store), config.jobs
        view = normalise(dataset, config.normalise, store, jobs=jobs, progress=progress)

        stored = stored or are_many(dataset, self.blocks, dataset.unit)

        def measure(which: Dataset) -> FeatureTable:
            shown, _ = as_trained(view.normaliser, which, store, jobs=jobs, progress=progress)
            return Study.of(shown, self.blocks, (), store, jobs=jobs, progress=progress).table

        study = Study.of(view.dataset, self.blocks, self.transforms, store, jobs=jobs, progress=progress, stored=stored)
        check_usable(len(study), study.faults)
        hashed: HashedImages | None = None
        remarks: list[str] = []
        if config.near_duplicates:
            hashed = hash_images([dataset], progress)
            joined, remarks = hashed.sets(config.near_duplicates)
            study = study.with_groups(group_numbers(study.table, joined))
        study = study.with_augmented(augmented_cells(dataset, study.table, config.augment, config.seed, measure))
        if dataset.unit == "subject":
            remarks += note_unreadable_patients(study.faults, study.table.subjects, study.table.sources)
            study = subjects_of(study, dataset)
        return Measured(study, view, config, hashed, tuple(remarks))

    def measure_as(self, like: Measured, dataset: Dataset, progress: Progress | None = None) -> tuple[Study, list[str]]:
        """The study of other cells, their images normalised as those of ``like`` were; and stamps."""
        config = like.settings
        store, jobs = FeatureStore(config.store), config.jobs
        shown, stamps = as_trained(like.view.normaliser, dataset, store, jobs=jobs, progress=progress)
        stored = are_many(dataset, self.blocks, dataset.unit)
        study = Study.of(shown, self.blocks, self.transforms, store, jobs=jobs, progress=progress, stored=stored)
        check_usable(len(study), study.faults)
        if dataset.unit != "subject":
            return study, stamps
        unreadable = note_unreadable_patients(study.faults, study.table.subjects, study.table.sources)
        return subjects_of(study, dataset), [*stamps, *unreadable]


def subjects_of(study: Study, dataset: Dataset) -> Study:
    """The subjects of measured cells, which know what the data set says of the cells themselves."""
    labels = dict(zip(dataset.names, dataset.each("cell_label"), strict=True))
    return study.by_subject([labels[name] for name in study.table.names])


def group_numbers(table: FeatureTable, joined: Mapping[str, int]) -> NDArray[np.intp]:
    """Groups of the table, merged where near-duplicates (image hash -> number of their set) join them."""
    from fusion.data.groups import merge_groups

    sets = [f"near {joined[key]}" if key in joined else None for key in table.image_keys]
    return merge_groups([str(group) for group in table.groups], table.image_keys, sets)
