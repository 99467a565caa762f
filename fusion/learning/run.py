"""What a run of the road may use and leave: memory, workers, unfinished work, and whom it tells of its progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.compute.platform_calls import total_memory
from fusion.errors import UsageError
from fusion.io.run_checkpoint import Checkpoint, forget_unfinished
from fusion.plugins.networks import HasHistory
from fusion.progress import Progress, Stage


@dataclass(frozen=True)
class Run:
    """How fits of one command are made.

    Attributes
    ----------
    folder : where trainings of networks are kept until they are finished.
    checkpoint : where scores of finished fits are kept, None for nowhere.
    jobs : worker processes, 0 is one a core.
    memory : bytes that shared distances may hold in all workers together.
    resume : go on with trainings that an earlier run has left unfinished.
    progress : told of what is done.
    board : folder for the curves of trainings, as TensorBoard reads them.
    """

    folder: Path
    checkpoint: Checkpoint | None = None
    jobs: int = 1
    memory: float = 0.0
    resume: bool = True
    progress: Progress | None = None
    board: Path | None = None

    def tell(self, stage: str, done: int, total: int) -> None:
        """Tell of the progress."""
        if self.progress is not None:
            self.progress(stage, done, total, 0)

    def training(self, part: str) -> TrainingProgress:
        """What the network of the training called ``part`` is to tell of its steps and epochs."""
        return TrainingProgress(self, part)

    def begin(self) -> None:
        """Forget the trainings that an earlier run has left, unless they are to be gone on with."""
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


class TrainingProgress:
    """Hears of the steps and epochs of one training: a stage of the progress, and curves where they are asked for.

    Parameters
    ----------
    part : what the training is called, "fold 2 of 5".
    """

    def __init__(self, run: Run, part: str) -> None:
        self._run, self._part = run, part
        self._curves = None if run.board is None else _curves(run.board / part)
        self._found = ""

    def watch(self, epoch: int, epochs: int, step: int, steps: int) -> None:
        """Hear of a step, after so many finished epochs; it has the shape of ``fusion.plugins.networks.Watch``."""
        self._run.tell(Stage(self._part, f"epoch {epoch + 1} of {epochs}{self._found}"), step, steps)

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Hear of a finished epoch; it has the shape of ``fusion.plugins.networks.TrainingLog``."""
        self._found = "".join(f", {name} {values[name]:.3f}" for name in _KNOWN if name in values)
        if self._curves is not None:
            self._curves(epoch, values)


def check_tensorboard() -> None:
    """UsageError where TensorBoard's files cannot be written."""
    import importlib.util

    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError("--tensorboard needs TensorBoard", do="pip install 'fusion-cells[tensorboard]'.")


def half_the_memory() -> float:
    """Bytes: half of what the machine has, or 4 GB where it does not say."""
    memory = total_memory()
    return 4e9 if memory is None else memory / 2


def _curves(folder: Path) -> Callable[[int, Mapping[str, float]], None]:
    """Writes loss, validation score and learning rate of every epoch."""
    from torch.utils.tensorboard import SummaryWriter

    def log(epoch: int, values: Mapping[str, float]) -> None:
        with SummaryWriter(str(folder), purge_step=epoch) as writer:
            for name, value in values.items():
                writer.add_scalar(name, value, epoch)

    return log


#: What is known of an epoch, in the order of the array's columns.
_KNOWN = ("loss", "score")


def history_of(network: object) -> NDArray[np.float64]:
    """float64 (epochs, 2): loss and score of a trained network, NaN where there is none; (0, 2) for one that says
    nothing."""
    epochs = network.history_ if isinstance(network, HasHistory) else []
    rows = [[math.nan if (value := epoch.get(name)) is None else value for name in _KNOWN] for epoch in epochs]
    return np.array(rows, np.float64).reshape(len(rows), len(_KNOWN))


def has_scores(trainings: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any network was scored on cells that were kept back from its training.

    Parameters
    ----------
    trainings : rows with "epochs", as ``epochs_of`` gives them.
    """
    return any(math.isfinite(epoch["score"]) for row in trainings for epoch in row["epochs"])


def epochs_of(history: NDArray[np.floating[Any]]) -> list[dict[str, float]]:
    """Plain values of every epoch: "epoch" from 1, "loss", "score".

    >>> epochs_of(np.array([[0.7, 0.5]]))
    [{'epoch': 1, 'loss': 0.7, 'score': 0.5}]
    """
    return [{"epoch": at, **dict(zip(_KNOWN, map(float, row), strict=True))} for at, row in enumerate(history, start=1)]
