"""Models that look at pictures: gathering what they are given, fitting them, and loading them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fusion import plugins
from fusion.bundle import ModelBundle
from fusion.cells import Cell
from fusion.checkpoint import forget_unfinished
from fusion.datasets import Dataset, Fault
from fusion.errors import UsageError
from fusion.extraction import Progress
from fusion.files import write_atomically
from fusion.inputs import CellInputs
from fusion.measuring import check_rows
from fusion.model import FusedModel, build_seeded, takes_pictures
from fusion.parts import Block, instances, measure, regrouped
from fusion.picture_map import look
from fusion.plugins import Classifier
from fusion.store import FeatureStore
from fusion.table import FeatureTable

#: Ending of the folder beside a model in which unfinished trainings are kept.
UNFINISHED = ".unfinished"

#: The name of the pictures among the feature sets of a result.
PICTURE = "picture"


@dataclass(frozen=True, eq=False)
class Gathered:
    """All that a classifier is given about a data set.

    Attributes
    ----------
    table : who the rows are, and their features.
    inputs : pictures and features, None for a classifier that takes a matrix.
    faults : pictures that were skipped.
    """

    table: FeatureTable
    inputs: CellInputs | None
    faults: tuple[Fault, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """What is learnt from, as results name it."""
        return (*((PICTURE,) if self.inputs is not None else ()), *self.table.blocks)

    @property
    def rows(self) -> tuple[FeatureTable, CellInputs | None]:
        """The rows' features, and their pictures."""
        return self.table, self.inputs


def gather(
    dataset: Dataset,
    blocks: Sequence[Block],
    classifier: Classifier,
    store: FeatureStore,
    *,
    jobs: int,
    progress: Progress | None,
    stored: bool = False,
) -> Gathered:
    """Measure every cell and, for a classifier that takes pictures, look at it by the classifier's eye.

    Parameters
    ----------
    stored : leave the features in the store, see ``streaming``; not for a classifier that takes pictures.

    Raises
    ------
    UsageError : no features, and a classifier that needs some.
    FusionError : as ``extract`` does.
    """
    if not takes_pictures(classifier):
        if not blocks:
            raise UsageError("this classifier learns from features, and there are none", do="Choose some: --features.")
        found = measure(dataset, blocks, store, jobs=jobs, progress=progress, stored=stored)
        return Gathered(found.table, None, found.faults)
    found = measure(dataset, blocks, store, jobs=jobs, progress=progress)
    table, at, faults = found.table, found.complete, found.faults
    seen = look(dataset, classifier.eye(), store.local, jobs=jobs, progress=progress)  # type: ignore[attr-defined]
    has = np.flatnonzero(seen.places[at] >= 0)
    told = {fault.path for fault in faults}
    faults = (*faults, *(fault for fault in seen.faults.values() if fault.path not in told))
    table = table.take(has)
    inputs = CellInputs(table.X, table.blocks, seen.pictures, seen.places[at][has], table.sources)
    return Gathered(table, inputs, faults)


def dataset_view(dataset: Dataset) -> FeatureTable:
    """The data set as a table without columns: enough to plan splits before anything is measured."""
    samples = dataset.samples
    return FeatureTable(
        X=np.empty((len(samples), 0), np.float32),
        columns=(),
        names=tuple(dataset.names),
        keys=tuple(sample.key for sample in samples),
        image_keys=tuple(sample.image_key for sample in samples),
        y=tuple(sample.label for sample in samples),
        subjects=tuple(sample.subject for sample in samples),
        folds=tuple(sample.fold for sample in samples),
        groups=dataset.groups(),
        subjects_known=dataset.subjects_known,
        sources=tuple(sample.source for sample in samples),
    )


@dataclass(frozen=True, eq=False)
class Training:
    """How networks of one command are fitted: on what, where unfinished trainings are kept, and where curves go."""

    inputs: CellInputs
    folder: Path
    resume: bool
    progress: Progress | None
    board: Path | None = None

    def fit(
        self, table: FeatureTable, rows: NDArray[np.intp], name: str, params: Mapping[str, Any], seed: int, part: str
    ) -> FusedModel:
        """Fit the classifier ``name`` on these rows; ``part`` says which of the command's trainings this is."""
        predictor: Any = build_seeded(name, params, seed)
        predictor.fit(
            self.inputs.take(rows),
            np.array(table.y)[rows],
            table.groups[rows],
            watch=self._watch(part),
            checkpoint=self.folder / part,
            resume=self.resume,
            log=None if self.board is None else curves(self.board / part),
        )
        return FusedModel(None, predictor)

    def begin(self) -> None:
        """Forget what an earlier run has left, unless it is to be gone on with."""
        if not self.resume:
            self.end()

    def end(self) -> None:
        """Delete the unfinished trainings: they are finished. Nothing but what was written here is touched."""
        forget_unfinished(self.folder)  # of networks behind a block
        for part in (*self.folder.glob("*/checkpoint.safetensors"), *self.folder.glob("*.safetensors")):
            part.unlink()
            if part.parent != self.folder and not any(part.parent.iterdir()):
                part.parent.rmdir()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _watch(self, part: str) -> Callable[[int, int, int, int], None]:
        def watch(epoch: int, epochs: int, step: int, steps: int) -> None:
            if self.progress is not None:
                self.progress(part, step, steps, 0)

        return watch


def check_board() -> None:
    """UsageError where TensorBoard's files cannot be written."""
    import importlib.util

    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError("--tensorboard needs TensorBoard", do="pip install 'fusion-cells[tensorboard]'.")


def curves(folder: Path) -> Callable[[int, Mapping[str, float]], None]:
    """Writes loss, validation score and learning rate of every epoch as TensorBoard reads them."""
    from torch.utils.tensorboard import SummaryWriter

    def log(epoch: int, values: Mapping[str, float]) -> None:
        with SummaryWriter(str(folder), purge_step=epoch) as writer:
            for name, value in values.items():
                writer.add_scalar(name, value, epoch)

    return log


def write_sheet(path: Path, sheet: NDArray[np.uint8]) -> None:
    """Write uint8 RGB (height, width, 3) as a PNG file, whole or not at all."""
    import cv2

    done, content = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    assert done
    write_atomically(path, content.tobytes())


# ---- a stored model --------------------------------------------------------------------------------------------------


class PicturedBundle(ModelBundle):
    """A model folder whose classifier may take pictures."""

    def judge(self, gathered: Gathered) -> NDArray[np.float64]:
        """float64 (n, classes) for what was gathered; raises as ``predict_proba`` does."""
        if gathered.inputs is None:
            return self.predict_proba(gathered.table)
        seeing = _Seeing(self.model, gathered.inputs.blocks, gathered.inputs.source, gathered.inputs.rows)
        return replace(self, model=cast(FusedModel, seeing)).predict_proba(gathered.table)

    def _check(self, manifest: Mapping[str, Any]) -> None:
        if not takes_pictures(self.model.classifier):
            super()._check(manifest)
            return
        side = self.model.classifier.eye().size  # type: ignore[attr-defined]
        starts: dict[str, list[int]] = {}
        for at, column in enumerate(self.columns):
            starts.setdefault(column.rpartition(".")[0], []).append(at)
        blocks = {name: slice(at[0], at[-1] + 1) for name, at in starts.items()}
        black = np.zeros((1, side, side, 3), np.uint8)
        ModelBundle._check(
            replace(self, model=cast(FusedModel, _Seeing(self.model, blocks, black, np.zeros(1, np.intp)))), manifest
        )


@dataclass(frozen=True, eq=False)
class _Seeing:
    """A model beside the pictures of the rows that it is about to be asked for."""

    model: FusedModel
    blocks: Mapping[str, slice]
    source: NDArray[np.uint8] | None
    rows: NDArray[np.intp] | None

    @property
    def classes(self) -> list[str]:
        return self.model.classes

    def predict_proba(self, X: NDArray[np.float32], sources: Sequence[str | None] = ()) -> NDArray[np.float64]:
        return self.model.predict_proba(CellInputs(X, self.blocks, self.source, self.rows, tuple(sources)))


def load_model(folder: Path | str) -> PicturedBundle:
    """Any model folder; see ``ModelBundle.load`` for what is refused."""
    return PicturedBundle.load(folder)


def build(name: str, params: Mapping[str, Any] | None) -> Classifier:
    """The classifier, its settings checked as far as they can be before there is any data.

    Raises
    ------
    UsageError : settings that it refuses.
    """
    classifier = plugins.build_classifier(name, params)
    if takes_pictures(classifier):
        try:
            classifier.eye()  # type: ignore[attr-defined]
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"wrong setting of classifier '{name}'", found=reason) from error
    return classifier


# ---- cells in memory -------------------------------------------------------------------------------------------------


def gather_cells(
    bundle: ModelBundle, cells: Sequence[Cell], names: Sequence[str], source: str | None = None
) -> Gathered:
    """Measure and look at cells in memory, as ``gather`` does with those of a data set; nothing is kept.

    ``names`` stand for the cells in table and faults, and for their subjects' groups: each is its own. ``source`` is
    the laboratory they are from.
    """
    measured = instances(bundle.blocks)
    rows: list[list[NDArray[np.float32]]] = []
    kept: list[int] = []
    faults: list[Fault] = []
    for at, (cell, name) in enumerate(zip(cells, names, strict=True)):
        try:
            # By themselves, so that one that cannot be measured stops no other.
            rows.append([check_rows(extractor, extractor.extract([cell]), 1)[0] for extractor in measured.values()])
        except Exception as error:  # any trouble of a measurement is the cell's, as in fusion.measuring
            faults.append(Fault(Path(name), "extract", f"{type(error).__name__}: {error}"))
        else:
            kept.append(at)
    columns = [f"{name}.{feature}" for name, one in measured.items() for feature in one.feature_names()]
    X = np.array([np.concatenate(row) if row else [] for row in rows], np.float32).reshape(len(kept), len(columns))
    unknown = (None,) * len(kept)
    own = tuple(names[at] for at in kept)
    table = FeatureTable(
        X, tuple(columns), own, own, own, unknown, unknown, unknown, np.arange(len(kept)),
        subjects_known=False, sources=(source,) * len(kept),
    )  # fmt: skip
    table = regrouped(table, bundle.blocks)
    classifier = bundle.model.classifier
    if not takes_pictures(classifier):
        return Gathered(table, None, tuple(faults))
    seen = classifier.eye()([cells[at] for at in kept])  # type: ignore[attr-defined]
    return Gathered(table, CellInputs(table.X, table.blocks, seen, sources=table.sources), tuple(faults))
