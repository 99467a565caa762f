"""Multiple-instance learning: a patient's class from the bag of its cells, of which nobody has to say anything."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn import Parameter

from classifiers.class_weights import balanced_weights, inner_folds
from classifiers.patients._cell_scores import CellModels, Components, kinds_in_folds
from classifiers.patients._linear_models import STATISTICS, PooledModel
from classifiers.patients._pooling import BagNetwork
from fusion.bundles.bundle_files import (
    FACTS,
    BundleError,
    Kept,
    read_arrays,
    read_described,
    write_arrays,
    write_facts,
)

if TYPE_CHECKING:
    from fusion.bundles.onnx_graph import Graph
    from fusion.data.patients.bags import Bags

#: The file of arrays.
_ARRAYS = "mil.safetensors"

#: How the arrays of networks are called there, and which of them takes cells in.
_NETWORKS, _ENTRANCE = "network.", "encode.weight"

#: The other parts of the model: their class, how their arrays are called, and what each must be.
_PARTS: tuple[tuple[type[Any], str, dict[str, Kept]], ...] = (
    (
        Components,
        "components.",
        {"mean": Kept(np.float32, ("columns",)), "axes": Kept(np.float32, ("k", "columns"))},
    ),
    (
        CellModels,
        "cells.",
        {
            "landmarks": Kept(np.float64, ("landmarks", "k")),
            "weights": Kept(np.float64, ("landmarks", "kinds")),
            "intercepts": Kept(np.float64, ("kinds",)),
            "pooled_centre": Kept(np.float64, ("pooled",)),
            "pooled_scale": Kept(np.float64, ("pooled",)),
            "pooled_weights": Kept(np.float64, ("classes", "pooled")),
            "pooled_intercepts": Kept(np.float64, ("classes",)),
            "centre": Kept(np.float64, ("statistics",)),
            "scale": Kept(np.float64, ("statistics",)),
            "coef": Kept(np.float64, ("classes", "statistics")),
            "intercept": Kept(np.float64, ("classes",)),
            "inherits": Kept(np.bool_, (1,)),
        },
    ),
    (
        PooledModel,
        "pooled.",
        {
            "centre": Kept(np.float64, ("column_statistics",)),
            "scale": Kept(np.float64, ("column_statistics",)),
            "weights": Kept(np.float64, ("classes", "column_statistics")),
            "intercepts": Kept(np.float64, ("classes",)),
        },
    ),
)

#: Inverse strength of the penalty of the linear model of patients, which is that of ``pool``.
_POOLED_C = 0.1

#: What ``pooling`` may be.
_POOLINGS = ("attention", "top-k", "transformer")

#: Bags of a step, and cells at most beyond the first of its bags: 8,192 of 2,699 columns are 88 MB.
_BAGS, _CELLS = 8, 8192

#: Cells of a bag that one step learns from, drawn anew each time: a witness of a hundred is among them nearly always.
_DRAWN = 512

#: Steps and passes that are gone on with without getting better by subjects that are held out.
_PATIENT_STEPS, _PATIENT_PASSES = 200, 8

#: Folds of patients where one network alone is asked for.
_FOLDS = 5

#: Sizes beyond which nothing is learnt but memory is filled.
_MOST_HIDDEN, _MOST_MEMBERS = 1024, 50


class BagClassifier(ClassifierMixin, BaseEstimator):
    """Multiple-instance learning on fused features: models of cells first, and networks for what these leave.

    Cells become a few principal components. Models of cells learn each under its patient's class, or what it is itself
    where cells are labelled. Exponential means of what they say of a patient's cells, and what the linear model of
    ``pool`` says of the patient, none of which has met the patient, are weighed by a penalised model. From that the
    networks start: they add to the patient's margin what attention over its cells finds beside. Of few patients a
    network alone finds nothing (docs/patients.md), of many it finds what no model of cells does.

    ``members`` networks are trained side by side, each without one fold of whole groups. All stop after as many passes
    as made the loss of these folds together the least, at the start if networks only make things worse: by its own
    fold, of eight patients perhaps, each would stop where luck has it. The model is the mean of their probabilities.
    Classes weigh the same in sum.

    Parameters
    ----------
    components : principal components of cells, at most.
    cell_labels : use what cells are labelled, where they are.
    pooling : "attention" (gated; Ilse 2018), "top-k" (the cells that speak most for a class) or "transformer" (cells
        compared with summaries of their bag, then attention).
    hidden : width of what a cell becomes; even, at most 1024.
    share : of a bag's cells that "top-k" takes.
    dropout : share of the hidden space, and half of it of the columns, that a step does without.
    members : networks, and folds of patients; fewer where a class has fewer groups.
    steps : of each training, at most.
    learning_rate, weight_decay : of AdamW.
    random_state : seed of folds, weights and order.
    """

    prepares: ClassVar[str] = "standard"
    takes_bags: ClassVar[bool] = True

    def __init__(
        self,
        pooling: str = "attention",
        components: int = 24,
        cell_labels: bool = True,
        hidden: int = 32,
        share: float = 0.1,
        dropout: float = 0.25,
        members: int = 5,
        steps: int = 800,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        random_state: int | None = 0,
    ) -> None:
        self.pooling = pooling
        self.components = components
        self.cell_labels = cell_labels
        self.hidden = hidden
        self.share = share
        self.dropout = dropout
        self.members = members
        self.steps = steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    @property
    def scores_held_out(self) -> bool:
        """True: what cells say is weighed, and networks stop, by patients that are held out."""
        return True

    def fit(self, X: Bags, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit on n bags of fused cells and n labels; patients are held out by ``groups``.

        Raises
        ------
        ValueError : a single class, a class of a single patient, or parameters that make no sense.
        """
        self._check_parameters()
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("a classifier needs at least two classes; the data hold one class only")
        self.n_features_in_ = X.shape[1]
        self.chosen_: dict[str, float] = {}
        seed = 0 if self.random_state is None else int(self.random_state)
        folds = inner_folds(codes, groups, self.members if self.members > 1 else _FOLDS, seed)
        self._components = Components.of(X, self.components, seed)
        cells = self._components.changed(X)
        kinds = kinds_in_folds(X, folds) if self.cell_labels else None
        self._pooled, beside = PooledModel.fit(X, codes, folds, _POOLED_C)
        self._cells, margins = CellModels.fit(cells, beside, codes, kinds, folds, seed)
        start = torch.from_numpy(margins.astype(np.float32))
        with _one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._networks = self._train(
                [
                    _Training(self._network(cells.shape[1]), cells, codes, start, train, held, seed + at)
                    for at, (train, held) in enumerate(folds[: self.members])
                ]
            )
        return self

    def predict_proba(self, X: Bags) -> NDArray[np.float64]:
        """float64 (n, classes), at equal class shares."""
        return self._asked(X)[0]

    def predict(self, X: Bags) -> NDArray[Any]:
        """The most probable class of each bag."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def attention(self, X: Bags) -> list[NDArray[np.float64]]:
        """For each of n bags float64 (k,), how much each of its cells weighs, 1 in sum: the networks' attention, times
        how much the models of cells take the cell for one of the patient's class."""
        weights = self._asked(X)[1]
        return np.split(weights, np.cumsum(X.sizes)[:-1])

    # ---- the work ---------------------------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        if self.pooling not in _POOLINGS:
            raise ValueError(f"pooling must be {', '.join(_POOLINGS)}, not {self.pooling!r}")
        if not 2 <= self.hidden <= _MOST_HIDDEN or self.hidden % 2:
            raise ValueError(f"hidden must be an even number from 2 to {_MOST_HIDDEN}, not {self.hidden!r}")
        if not 1 <= self.components <= _MOST_HIDDEN:
            raise ValueError(f"components must be 1 to {_MOST_HIDDEN}, not {self.components!r}")
        if not 1 <= self.members <= _MOST_MEMBERS or not self.steps >= 1:
            raise ValueError(f"members must be 1 to {_MOST_MEMBERS} and steps 1 or more")
        if not 0 < self.share <= 1 or not 0 <= self.dropout < 1:
            raise ValueError("share must lie above 0 and up to 1, and dropout from 0 to below 1")

    def _network(self, columns: int) -> BagNetwork:
        return BagNetwork(columns, len(self.classes_), self.hidden, self.pooling, self.share, self.dropout)

    def _train(self, trainings: Sequence[_Training]) -> list[BagNetwork]:
        """The networks as they were when all of them together said most of the bags that each has not met."""
        best, kept, since, passes, step = math.inf, [], 0, 0, 0
        optimisers = [
            torch.optim.AdamW([_one_vector(own.network)], self.learning_rate, weight_decay=self.weight_decay)
            for own in trainings
        ]
        while True:
            loss = sum(own.held_out_loss() for own in trainings)
            if loss < best:
                best, since, passes = loss, 0, 0
                kept = [copy.deepcopy(own.network.state_dict()) for own in trainings]
            if step >= self.steps or (since >= _PATIENT_STEPS and passes >= _PATIENT_PASSES):
                break
            taken = max(own.one_pass(optimiser) for own, optimiser in zip(trainings, optimisers, strict=True))
            step, since, passes = step + taken, since + taken, passes + 1
        for own, state in zip(trainings, kept, strict=True):
            own.network.load_state_dict(state)
        return [own.network.eval() for own in trainings]

    def _asked(self, X: Bags) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Probabilities (n, classes), and the weights (k,) of all cells, bag after bag: means over the networks."""
        check_is_fitted(self)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"bags of {X.shape[1]} columns, and the model was fitted on {self.n_features_in_}")
        cells = self._components.changed(X)
        start, said = self._cells.predict(cells, self._pooled.margins(X))
        proba, weights = np.zeros((len(X), len(self.classes_))), np.zeros(int(X.sizes.sum()))
        for network in self._networks:
            found = list(_in_batches(network, cells))
            scores = torch.from_numpy(start) + torch.cat([own.double() for own, _ in found])
            proba += torch.softmax(scores, dim=1).numpy()
            weights += torch.cat([each.double() for _, each in found]).numpy()
        weights *= said
        return proba / len(self._networks), weights / (cells.mean(weights[:, None])[:, 0] * cells.sizes)[cells.owners]

    # ---- storage ----------------------------------------------------------------------------------------------------

    def to_onnx(self, graph: Graph, rows: str) -> str:
        """Add it to a graph; the name of float64 (1, classes) for the cells of one bag, float (k, d)."""
        from classifiers.patients._onnx_forms import mil

        return mil(graph, rows, (self._components, self._cells, self._pooled), self._networks)

    def save(self, folder: Path) -> None:
        """Write ``mil.safetensors`` and ``classifier.json``: plain arrays, the networks stacked, and plain values."""
        check_is_fitted(self)
        states = [network.state_dict() for network in self._networks]
        arrays = {f"{_NETWORKS}{name}": np.stack([state[name].numpy() for state in states]) for name in states[0]}
        for kind, prefix, _ in _PARTS:
            part = {Components: self._components, CellModels: self._cells, PooledModel: self._pooled}[kind]
            arrays |= {f"{prefix}{field.name}": getattr(part, field.name) for field in fields(kind)}
        write_arrays(folder / _ARRAYS, arrays)
        write_facts(folder, self)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises
        ------
        BundleError : arrays or values that are not those of such networks.
        """
        fitted = read_described(folder, cls, (_ARRAYS,))
        try:
            fitted._check_parameters()
        except (ValueError, TypeError) as error:
            raise BundleError(f"{folder / FACTS} holds no such model", found=str(error)[:200]) from error
        with torch.device("meta"):  # shapes alone: what is read decides how much memory is taken
            shapes = {name: list(tensor.shape) for name, tensor in fitted._network(1).state_dict().items()}
        expected = {
            f"{_NETWORKS}{name}": Kept(np.float32, ("members", *(["hidden", "k"] if name == _ENTRANCE else shape)))
            for name, shape in shapes.items()
        }
        for _, prefix, shapes_of_part in _PARTS:
            expected |= {f"{prefix}{name}": kept for name, kept in shapes_of_part.items()}
        sizes = {"columns": fitted.n_features_in_, "classes": len(fitted.classes_), "hidden": fitted.hidden}
        arrays = read_arrays(folder / _ARRAYS, expected, **sizes)
        count = len(arrays[f"{_NETWORKS}{_ENTRANCE}"])
        parts = [
            kind(**{name: arrays[f"{prefix}{name}"] for name in shapes_of_part})
            for kind, prefix, shapes_of_part in _PARTS
        ]
        fitted._components, fitted._cells, fitted._pooled = parts
        if len(fitted._pooled.centre) != STATISTICS * fitted.n_features_in_:
            raise BundleError(
                f"{folder / _ARRAYS} holds no such model", found=f"{len(fitted._pooled.centre)} statistics"
            )
        if not 1 <= count <= _MOST_MEMBERS or not fitted._cells.fits_together(len(fitted._components.axes)):
            raise BundleError(f"{folder / _ARRAYS} holds no such model", found=f"{count} networks")
        fitted._networks = []
        for at in range(count):
            network = fitted._network(len(fitted._components.axes))
            own = {name: torch.from_numpy(arrays[f"{_NETWORKS}{name}"][at].copy()) for name in shapes}
            network.load_state_dict(own)
            fitted._networks.append(network.eval())
        return fitted


class _Training:
    """A network, the bags that it learns from, and those that it has not met.

    It adds to margins ``start`` (n, K) that it starts from, and says nothing at first.
    """

    def __init__(
        self,
        network: BagNetwork,
        X: Bags,
        codes: NDArray[np.intp],
        start: Tensor,
        train: NDArray[np.intp],
        held: NDArray[np.intp],
        seed: int,
    ) -> None:
        network.silence()
        self.network, self._X, self._train, self._held = network, X, train, X[held]
        self._rng = np.random.default_rng(seed)
        self._targets, self._start = torch.from_numpy(codes), start
        self._weights = torch.from_numpy(balanced_weights(codes[train]).astype(np.float32))
        self._held_start, self._held_targets = start[held], self._targets[held]
        self._held_weights = torch.from_numpy(balanced_weights(codes[held]).astype(np.float32))

    def one_pass(self, optimiser: torch.optim.Optimizer) -> int:
        """Learn from every bag once; in how many steps."""
        self.network.train()
        count = 0
        for chosen in _steps(self._X, self._train, self._rng):
            bags = self._train[chosen]
            cells, owner = _drawn_cells(self._X, bags, self._rng)
            rows = torch.from_numpy(bags)
            scores = self._start[rows] + self.network(cells, owner, len(bags))[0]
            losses = torch.nn.functional.cross_entropy(scores, self._targets[rows], reduction="none")
            optimiser.zero_grad(set_to_none=False)  # gradients are views of one vector's
            (losses * self._weights[torch.from_numpy(chosen)]).mean().backward()
            optimiser.step()
            count += 1
        return count

    def held_out_loss(self) -> float:
        """Cross-entropy of the bags that it has not met, classes weighted alike."""
        scores = self._held_start + torch.cat([each for each, _ in _in_batches(self.network, self._held)])
        losses = torch.nn.functional.cross_entropy(scores, self._held_targets, reduction="none")
        return float((losses * self._held_weights).mean())


def _one_vector(network: BagNetwork) -> Parameter:
    """All parameters and their gradients as one vector, of which the network's own become views.

    A step of the optimiser is a dozen operations on each tensor; of twelve small ones these take longer than the
    gradients do.
    """
    parameters = list(network.parameters())
    vector = Parameter(torch.cat([each.detach().flatten() for each in parameters]))
    vector.grad = torch.zeros_like(vector)
    sizes = [each.numel() for each in parameters]
    for each, own, gradient in zip(parameters, vector.data.split(sizes), vector.grad.split(sizes), strict=True):
        each.data, each.grad = own.view_as(each), gradient.view_as(each)
    return vector


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Products of a few hundred cells are done before a second thread has begun."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _steps(X: Bags, train: NDArray[np.intp], rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Places in ``train``, each once, in steps of a few bags with not too many cells."""
    sizes = np.minimum(X.sizes[train], _DRAWN).tolist()
    some: list[int] = []
    cells = 0
    for at in rng.permutation(len(train)).tolist():
        if some and (len(some) == _BAGS or cells + sizes[at] > _CELLS):
            yield np.array(some, np.intp)
            some, cells = [], 0
        some.append(at)
        cells += sizes[at]
    yield np.array(some, np.intp)


def _drawn_cells(X: Bags, chosen: NDArray[np.intp], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """float32 (k, d) cells of these bags, of a large one some, and intp (k,) whose they are."""
    rows = [
        own if len(own) <= _DRAWN else rng.choice(own, _DRAWN, replace=False) for own in (X.rows[at] for at in chosen)
    ]
    owner = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
    cells = np.asarray(X.cells[np.concatenate(rows)], np.float32)
    return torch.from_numpy(cells), torch.from_numpy(owner)


@torch.inference_mode()
def _in_batches(network: BagNetwork, X: Bags) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores and weights of all cells, some bags at a time."""
    network.eval()
    for some in X.batches():
        cells = torch.from_numpy(np.ascontiguousarray(some.stacked, np.float32))
        yield network(cells, torch.from_numpy(some.owners), len(some))
