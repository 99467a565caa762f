"""Blocks whose network is trained anew in every training part, so that a fine-tuned network may join a comparison.

For every split one network is trained, on the split's training part and nothing else, and embeds all cells for the
fits of that split: each cell that is judged is embedded by a network that has not met its subject, and no label of a
test part has a say in what its fits are given. Networks trained apart share no axes, so embeddings of several of them
never stand in one matrix.

The cells that a classifier learns from were met by their network. Whatever needs held-out scores inside the training
part (a calibration, a threshold, an SVM's own sigmoid) would take the network's memory of them for skill. Such a step
is refused, or with ``nested`` gets networks of its own for every fold inside.

Where units are subjects, a network learns from the cells of training subjects alone: from those that have labels of
their own, by these, where they are of two classes; else from all cells, each under the label of its subject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fusion.data.patients.bags import Bags
from fusion.errors import UsageError
from fusion.features.blocks import Block
from fusion.features.extractor_parameters import extractor_params
from fusion.images.cell import PREPARATION
from fusion.io.run_checkpoint import Checkpoint
from fusion.leakage.grouped_splits import Split
from fusion.learning._inner_folds import InnerFolds, InnerPart
from fusion.learning.recipe import Recipe, build_seeded, check_image_settings, network_params
from fusion.learning.run import Run, epochs_of, history_of
from fusion.learning.study import Study
from fusion.metrics.class_shares import LEAST_CELLS
from fusion.plugins import registry
from fusion.plugins.networks import LearnsBlock
from fusion.settings.commands import LearnConfig
from fusion.versions import versions

_Rows = NDArray[np.intp]

#: Subjects that must have cells of a class for a network to learn it: one of them at least can then be held out.
_LEAST_SUBJECTS = 2


@dataclass(frozen=True, eq=False)
class LearntBlock:
    """How the networks of one block learn; see ``learnt_blocks``.

    Attributes
    ----------
    name : of the block.
    extractor : the registered extractor that sees by such a network.
    learner, params : the registered classifier that trains it, and its parameters.
    seed : of every random choice.
    """

    name: str
    extractor: str
    learner: str
    params: Mapping[str, Any]
    seed: int

    @property
    def network(self) -> LearnsBlock:
        """An unfitted network, whose input transform takes the images."""
        built = registry.build_classifier(self.learner, self.params)
        assert isinstance(built, LearnsBlock)
        return built

    def fit(self, study: Study, units: _Rows, run: Run, part: str, folder: Path) -> LearnsBlock:
        """A network that has learnt from the cells of these units alone; its own unfinished training is gone on with.

        Raises
        ------
        UsageError : the network refuses its settings or the data.
        """
        network = build_seeded(self.learner, self.params, self.seed)
        assert isinstance(network, LearnsBlock)
        cells, (rows, labels) = study.of_cells_alone, _cells_to_learn(study, units)
        images, groups = cells.inputs(network.input_transform(), (), rows), cells.table.groups[rows]
        training = run.training(part)
        try:
            return network.fit(
                images, labels, groups, watch=training.watch, checkpoint=folder, resume=True, log=training.log
            )
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"the network of block '{self.name}' cannot be trained as asked", found=reason) from error

    def embed(self, network: LearnsBlock, study: Study) -> NDArray[np.float32]:
        """float32 (n, channels): all cells as this network sees them."""
        cells = study.of_cells_alone
        return np.asarray(network.embed(cells.inputs(network.input_transform(), (), cells.everyone)), np.float32)

    def as_measured(self, network: LearnsBlock, path: Path) -> Block:
        """The block by this network: its weights go into ``path``, with what they have learnt from."""
        return Block(self.name, registry.build_extractor(self.extractor, network.write_backbone(path)))

    def describe(self, study: Study, parts: Sequence[_Rows]) -> str:
        """Said beside every result that has such a block.

        Parameters
        ----------
        parts : the training units of every network.
        """
        told = " It learns from labelled cells, each by its own label." if _told(study, parts) == len(parts) else ""
        return (
            f"Block {self.name} is cross-fitted: in every split a network of its own, trained on the training part "
            f"alone, embeds all cells.{told}"
        )

    def stamps(self, study: Study, parts: Sequence[_Rows]) -> list[str]:
        """A stamp where cells of subjects are learnt by labels that are not theirs; ``parts`` as in ``describe``."""
        told = _told(study, parts)
        if study.cells is None or told == len(parts):
            return []
        some = f" in {len(parts) - told} of {len(parts)} trainings" if told else ""
        return [
            f"block {self.name}: its network learns every cell by its subject's class{some}, and many a cell may not "
            "show it"
        ]


def _told(study: Study, parts: Sequence[_Rows]) -> int:
    """How many of these trainings go by what cells themselves are."""
    return sum(_labelled_cells(study, part) is not None for part in parts)


def _labelled_cells(study: Study, units: _Rows) -> _Rows | None:
    """The cells of these subjects that have labels of their own, of those classes that can be learnt; None where these
    are not two, or units are cells."""
    if not isinstance(bags := study.table.X, Bags) or bags.labels is None:
        return None
    owners: dict[Any, list[int]] = {}
    rows: dict[Any, list[int]] = {}
    for unit in units.tolist():
        for row in bags.rows[unit].tolist():
            if (label := bags.labels[row]) is not None:
                owners.setdefault(label, []).append(int(study.table.groups[unit]))
                rows.setdefault(label, []).append(row)
    kept = [label for label, own in owners.items() if len(own) >= LEAST_CELLS and len(set(own)) >= _LEAST_SUBJECTS]
    return np.sort(np.concatenate([rows[label] for label in kept])) if len(kept) > 1 else None


def _cells_to_learn(study: Study, units: _Rows) -> tuple[_Rows, NDArray[Any]]:
    """The cells that a network of these units learns from, and their labels."""
    if (own := _labelled_cells(study, units)) is not None:
        return own, np.array([study.table.X.labels[row] for row in own])
    rows = units if study.cells is None else np.concatenate([study.table.cells[unit] for unit in units])
    return rows, np.array(study.of_cells_alone.table.y)[rows]


def learnt_blocks(config: LearnConfig) -> list[LearntBlock]:
    """Those of the chosen blocks that a network can learn, with the networks that the settings ask for.

    Raises
    ------
    UsageError : none of the blocks can be learnt, or settings that the network refuses.
    """
    found = []
    for name in config.blocks:
        family = name.partition(".")[0]
        learner = registry.learner_of(family)
        if learner is None:
            continue
        given = {key: value for key, value in extractor_params(config, name).items() if value is not None}
        kind = cast(type[LearnsBlock], registry.plugin_class(registry.CLASSIFIERS, learner))
        params = kind.params_for_block(name, network_params(config, learner), given)
        block = LearntBlock(name, family, learner, params, config.seed)
        check_image_settings(learner, block.network)
        found.append(block)
    if not found:
        able = [name for name in registry.names(registry.EXTRACTORS) if registry.learner_of(name) is not None]
        raise UsageError(
            "--cnn-crossfit trains the networks behind a block, and none of the features has one",
            found=", ".join(config.blocks),
            do=f"Add {' or '.join(able)} to --features.",
        )
    return found


def embedded(block: LearntBlock, study: Study, units: _Rows, run: Run, part: str = "network") -> NDArray[np.float32]:
    """float32 (n, channels): all cells as a network sees them that has learnt from these alone.

    What is finished is kept in ``run.folder`` until the result is written, so that it is learnt once, whoever asks.
    """
    kept = _checkpoint(block, study, units, run)
    known = kept.read("embedded")
    if known is not None:
        return known.astype(np.float32)
    network = block.fit(study, units, run, part, kept.folder / "network")
    rows = block.embed(network, study)
    kept.keep("history", history_of(network))
    kept.keep("embedded", rows)
    return rows


def trained_epochs(block: LearntBlock, study: Study, splits: Sequence[Split], run: Run) -> list[dict[str, float]]:
    """The epochs of the networks of ``embed_splits``: "split", "epoch", "loss" and "score"."""
    found = []
    for at, split in enumerate(splits):
        history = _checkpoint(block, study, split.train, run).read("history")
        found += [{"split": at, **epoch} for epoch in epochs_of(history)] if history is not None else []
    return found


def embed_splits(
    block: LearntBlock, study: Study, splits: Sequence[Split], run: Run
) -> tuple[NDArray[np.float32], ...]:
    """For every split all cells as the split's own network sees them; see ``embedded``."""
    found = []
    for at, split in enumerate(splits, start=1):
        found.append(embedded(block, study, split.train, run, f"network {at} of {len(splits)}"))
        run.tell("training networks", at, len(splits))
    return tuple(found)


def inner_folds(study: Study, units: _Rows, recipe: Recipe, learnt: Sequence[LearntBlock], run: Run) -> InnerFolds:
    """Folds inside these cells, each with networks that have learnt from the fold's own training cells alone.

    Parameters
    ----------
    study : with its measured blocks only.

    Raises
    ------
    UsageError : when a part is asked for that has a group on both sides.
    """

    def anew(train: _Rows, test: _Rows) -> InnerPart:
        _check_apart(study.table.groups[units[train]], study.table.groups[units[test]])
        own = study
        for block in learnt:
            own = own.with_block(block.name, embedded(block, study, units[train], run, "inner network"))
        return InnerPart(
            own.training_rows(recipe.blocks, units[train]),
            own.rows(recipe.blocks, units[test]),
            tuple(own.sources(units[test])),
            inner_folds(study, units[train], recipe, learnt, run),
        )

    return InnerFolds(None, anew)


def _check_apart(learnt_from: _Rows, scored: _Rows) -> None:
    """UsageError where a step divides groups, as an SVM does whose training part has a class of a single group: then
    its scores would be of cells whose group the network has met."""
    if len(both := np.intersect1d(learnt_from, scored)):
        raise UsageError(
            "nested networks need two subjects of every class in each part that is learnt from",
            found=f"a training part with too few of them: {len(both)} on both sides of a fold inside",
            do="Take more subjects, fewer steps that need held-out scores, or a classifier without (logreg, xgb).",
        )


def learn_blocks(
    study: Study, units: _Rows, learnt: Sequence[LearntBlock], run: Run, part: str
) -> tuple[Study, list[LearnsBlock]]:
    """The study with these blocks, by networks that have learnt from these cells; and the networks."""
    own, networks = study, []
    for block in learnt:
        network = block.fit(study, units, run, part, _checkpoint(block, study, units, run).folder / "network")
        own = own.with_block(block.name, block.embed(network, study))
        networks.append(network)
    return own, networks


def _checkpoint(block: LearntBlock, study: Study, units: _Rows, run: Run) -> Checkpoint:
    """Where what a network has learnt from these cells is kept."""
    values = {
        "block": block.name,
        "network": block.network.identity(),
        "seed": block.seed,
        "preparation": PREPARATION,
        "keys": study.table.keys,
        "cells": study.identity.get("cells"),
        "y": study.table.y,
        "versions": versions(),
    }
    if isinstance(bags := study.table.X, Bags):
        values["cell_labels"] = None if bags.labels is None else bags.labels.tolist()
    return Checkpoint.of(run.folder, values, [study.table.groups, units, *study.table.cells])
