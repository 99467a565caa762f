"""Of patients whose label is in doubt the cells that speak against it, by models that have not met the patient."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.label_audit import Suspect
from fusion.data.dataset import Dataset
from fusion.data.patients.bags import Bags
from fusion.errors import ConfigError
from fusion.evaluation.results import Result
from fusion.leakage.grouped_splits import affordable_splits, grouped_folds
from fusion.learning.learn import learn
from fusion.learning.recipe import recipe_of
from fusion.learning.run import Run
from fusion.learning.study import Study
from fusion.progress import Progress
from fusion.settings.commands import AblateConfig, InspectConfig, LearnConfig, TrainConfig
from fusion.settings.loading import build_config
from fusion.workflows.loading import Inputs

#: Commands whose results name the blocks that their models learnt from.
_LEARNS: dict[str, type[LearnConfig]] = {"train": TrainConfig, "ablate": AblateConfig}

#: A linear model of cells, each under its patient's class: what it says of a cell hangs on this cell alone. It is fast,
#: and on patients of 10 to 30% witnesses no worse than trees.
_SPEAKER = "logreg"

_FOLDS = 5


@dataclass(frozen=True)
class CellVoice:
    """A cell, and the probability of the class that its patient may be of, by this cell alone."""

    cell: str
    suggestion: float


def speaking_cells(
    result: Result,
    dataset: Dataset,
    suspects: Sequence[Suspect],
    config: InspectConfig,
    most: int,
    progress: Progress | None = None,
) -> dict[str, list[CellVoice]]:
    """By patient, at most so many of its cells that speak most for the suggested class and against its label.

    A logistic regression of cells, on the blocks that the result's models have learnt from, harmonised as these were,
    learns every cell of other patients under its patient's class.

    Parameters
    ----------
    dataset : in the view of patients.
    config : where features are stored.

    Returns
    -------
    Nothing of a result whose settings name no measured block (of ``judge`` and ``evaluate``).
    """
    asked = _settings(result, config)
    if asked is None or not suspects:
        return {}
    inputs = Inputs.of(asked)
    if not inputs.blocks:
        return {}
    plain = Inputs(inputs.blocks, (), {})
    study = plain.measure(dataset.labelled(), asked, progress).study
    recipe = recipe_of(asked, _SPEAKER, [block.name for block in inputs.blocks])
    doubted = {one.name: one for one in suspects}
    found: dict[str, list[CellVoice]] = {}
    y, groups = np.array(study.table.y, object), study.table.groups
    count = affordable_splits(y, groups, _FOLDS)
    for split in grouped_folds(y, groups, count, asked.seed):
        rows = np.array([at for at in split.test if study.table.names[at] in doubted], np.intp)
        if not len(rows):
            continue
        with tempfile.TemporaryDirectory() as folder:
            model = learn(study, split.train, recipe, Run(Path(folder))).features
        bags, sources = _cells_alone(study, rows)
        proba, at = model.predict_proba(bags, sources), 0
        for row in rows.tolist():
            own = study.table.cells[row]
            name = study.table.names[row]
            found[name] = _loudest(proba[at : at + len(own)], model.classes, doubted[name], study, own, most)
            at += len(own)
    return found


def _settings(result: Result, config: InspectConfig) -> LearnConfig | None:
    """The settings that a result was made by, with the store and processes of this command; None where it names no
    block of its own."""
    kind = _LEARNS.get(result.command)
    if kind is None or config.labels is None:
        return None
    here: dict[str, Any] = {"store": config.store, "jobs": config.jobs}
    file = config.labels / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"{config.labels} has lost its settings", found=f"no file {file.name}")
    asked = build_config(kind, file=file, options={name: value for name, value in here.items() if value})
    # Models of cells alone, by blocks that are measured: what else was asked for is no matter of theirs.
    return asked.model_copy(
        update={
            "unit": "subject",
            "cnn_crossfit": False,
            "augment": type(asked.augment)(),
            "search": False,
            "trials": 0,
            "calibrate": "none",
            "threshold": None,
            "costs": {},
            "near_duplicates": 0,
        }
    )


def _cells_alone(study: Study, rows: NDArray[np.intp]) -> tuple[Bags, list[str | None]]:
    """Each cell of these patients as a bag of its own, and where it is from."""
    X = study.table.X
    assert isinstance(X, Bags)
    cells = [np.array([cell], np.intp) for row in rows for cell in X.rows[row]]
    return Bags(X.cells, tuple(cells)), [study.table.sources[row] for row in rows for _ in X.rows[row]]


def _loudest(
    proba: NDArray[np.float64],
    classes: Sequence[str],
    one: Suspect,
    study: Study,
    own: NDArray[np.intp],
    most: int,
) -> list[CellVoice]:
    assert study.cells is not None
    column: Mapping[str, int] = {label: at for at, label in enumerate(classes)}
    says = proba[:, column[one.suggestion]]
    order = np.argsort(proba[:, column[one.label]] - says, kind="stable")[:most]
    return [CellVoice(study.cells.names[own[at]], float(says[at])) for at in order]
