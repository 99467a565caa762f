"""What a classifier promises, and what it may do beyond that: the core asks by these, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from fusion.bundles.onnx_graph import Graph
    from fusion.data.patients.bags import Bags
    from fusion.learning.shared_distances import Distances, DistancesOfRows


@runtime_checkable
class Classifier(Protocol):
    """A scikit-learn classifier that also knows its groups and can be stored without pickle."""

    #: How the fusion layer prepares its input: "standard" (scaled, imputed, equal block weights) or "raw".
    prepares: ClassVar[str]
    classes_: NDArray[Any]

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit on (n, d) floats and n labels; whatever is held out inside respects ``groups``."""
        ...

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """float64 (n, classes), rows summing to 1, columns as in ``classes_``."""
        ...

    def save(self, folder: Path) -> None:
        """Write the fitted classifier into an existing folder, without pickle."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote; refuses anything that is not on its list."""
        ...


@runtime_checkable
class HoldsOut(Protocol):
    """A classifier that scores held-out cells while it is fitted, as an SVM does for its sigmoid."""

    def fit_held_out(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike, parts: Parts) -> Self:
        """Fit as ``fit`` does, with what ``parts`` gives for every fold that is held out."""
        ...


class Parts(Protocol):
    """Features of both sides of a fold inside the training part, where a slice of the training rows will not do."""

    def __call__(
        self, train: NDArray[np.intp], test: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """float (train, d) to learn from and float (test, d) to score, of these training rows."""
        ...


@runtime_checkable
class Searches(Protocol):
    """A fitted classifier that may have chosen parameters by folds inside its training part."""

    #: What was chosen; empty without a search.
    chosen_: Mapping[str, float]


@runtime_checkable
class FitsDistances(Protocol):
    """A classifier that can be fitted on squared distances between cells, which sets of blocks share."""

    @property
    def fits_distances(self) -> bool:
        """Whether it can with the parameters that it has."""
        ...

    def fit_distances(
        self,
        distances: Distances | DistancesOfRows,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        X: ArrayLike | None = None,
    ) -> Self:
        """Fit on the training rows of ``distances`` and n labels.

        ``X`` are these rows, for a model that is stored and asked of any row; None for one that is not.
        """
        ...

    def predict_proba_distances(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """float64 (n, classes) for these rows of the distances that were fitted."""
        ...


@runtime_checkable
class GrowsFaster(Protocol):
    """A classifier whose fits take longer than in proportion to the cells: what is told beforehand goes by it."""

    @property
    def growth(self) -> float:
        """The power of the number of cells in which the time of a fit grows."""
        ...


@runtime_checkable
class GrowsInStages(Protocol):
    """A classifier whose models of many cells are learnt in another way than those of few: results say of which."""

    #: Training cells from which they are.
    staged_from: int

    def stages(self, cells: int) -> int:
        """In how many stages, each on a draw of the columns, trees of so many cells are grown; 1 is tree by tree."""
        ...


@runtime_checkable
class DrawsColumns(Protocol):
    """A classifier that learns from draws of the columns: scale is nothing to it, and weights are these."""

    def draw_by(self, weights: NDArray[np.float64]) -> Self:
        """Draw columns in proportion to float64 (d,), in all fits from now on."""
        ...


@runtime_checkable
class ReadsBatches(Protocol):
    """A classifier that can be fitted on rows which are read batch by batch and never all in memory."""

    def batches_by(self) -> str:
        """The parameter that asks for it, "" where none does: it then does so where it is given such rows.

        Raises
        ------
        UsageError : the parameter's value cannot be: an address that is none, for example.
        """
        ...


@runtime_checkable
class TakesBags(Protocol):
    """A classifier of patients: it is fitted on n ``Bags`` of cells and n labels, and asked of bags, where others are
    given a row each."""

    #: True; what tells such a class from one of rows.
    takes_bags: ClassVar[bool]


@runtime_checkable
class ScoresHeldOutBags(Protocol):
    """A classifier of patients that may score some of those it is given by models which have not met them."""

    @property
    def scores_held_out(self) -> bool:
        """Whether it does, with the parameters that it has."""
        ...


@runtime_checkable
class Attends(Protocol):
    """A classifier of patients that says how much it looks at each cell."""

    def attention(self, X: Bags) -> list[NDArray[np.float64]]:
        """For each of n bags float64 (k,), a weight for each of its cells, 1 in sum."""
        ...


@runtime_checkable
class Contributes(Protocol):
    """A classifier that says what each column adds to each class's margin: trees, by tree SHAP."""

    def contributions(self, X: ArrayLike) -> NDArray[np.float64]:
        """float64 (n, classes, d + 1); last, what all cells begin with."""
        ...


@runtime_checkable
class Linear(Protocol):
    """A classifier whose margins are weighted sums."""

    def linear_weights(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """float64 (classes, d) and (classes,): each class's margin is ``weights @ x + intercept``."""
        ...


@runtime_checkable
class ToOnnx(Protocol):
    """A classifier that can be exported as part of an ONNX graph."""

    def to_onnx(self, graph: Graph, rows: str) -> str:
        """Add it to a graph; the name of float64 (n, classes) for the float (n, d) called ``rows``, or of float64
        (1, classes) for the cells of one bag, where it takes bags."""
        ...


@runtime_checkable
class HasTrialRows(Protocol):
    """A classifier that knows on which rows two forms of it would differ first."""

    def trial_rows(self, n: int, draw: np.random.Generator) -> NDArray[np.float32]:
        """float32 (n, d)."""
        ...


@runtime_checkable
class MindsSources(Protocol):
    """A classifier that may judge cells of a new source by all of them together."""

    @property
    def judges_together(self) -> bool:
        """Whether it does, with the parameters that it has."""
        ...

    def notes(self, sources: Sequence[str | None]) -> list[str]:
        """Stamps for a result on cells of these sources."""
        ...


@runtime_checkable
class HasSearch(Protocol):
    """A classifier that can choose its parameters by folds inside its training part: ``--search``."""

    #: Whether it does; and by how many trials, 0 being by a grid.
    search: bool
    trials: int


@runtime_checkable
class HasLandmarks(Protocol):
    """A classifier that can approximate its kernel by some of many training cells."""

    #: How many; 0 is exact.
    landmarks: int


@runtime_checkable
class HasScheduler(Protocol):
    """A classifier that the workers of a Dask scheduler can fit: ``--scheduler``."""

    #: Address of the scheduler; None fits it here.
    scheduler: str | None
