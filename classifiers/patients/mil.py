"""Multiple-instance learning: a patient's class from the bag of its cells, of which nobody has to say anything."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from classifiers.class_weights import balanced_weights, inner_folds
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
    from fusion.data.patients.bags import Bags

#: The file of arrays.
_ARRAYS = "mil.safetensors"

#: What ``pooling`` may be.
_POOLINGS = ("attention", "top-k", "transformer")

#: Bags of a step, and cells at most beyond the first of its bags: 8,192 of 2,699 columns are 88 MB.
_BAGS, _CELLS = 8, 8192

#: Cells of a bag that one step learns from, drawn anew each time: a witness of a hundred is among them nearly always.
_DRAWN = 512

#: Steps and passes that are gone on with without getting better by subjects that are held out: attention stays on a
#: plateau for some hundred steps before it has found a witness (AUROC .48 by 160, .97 by 500, on 120 drawn patients).
_PATIENT_STEPS, _PATIENT_PASSES = 500, 8

#: Sizes beyond which nothing is learnt but memory is filled.
_MOST_HIDDEN, _MOST_MEMBERS = 1024, 50


class BagClassifier(ClassifierMixin, BaseEstimator):
    """Attention-based multiple-instance learning on fused features, by networks that stop on patients held out.

    ``members`` networks are trained, each without one fold of whole groups, by whose loss it stops; the model is the
    mean of their probabilities. With few patients that is what keeps it from learning them by heart, beside dropout
    of columns and of the hidden space, a small network and weight decay. Classes weigh the same in sum.

    Parameters
    ----------
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
        hidden: int = 32,
        share: float = 0.1,
        dropout: float = 0.25,
        members: int = 5,
        steps: int = 1500,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        random_state: int | None = 0,
    ) -> None:
        self.pooling = pooling
        self.hidden = hidden
        self.share = share
        self.dropout = dropout
        self.members = members
        self.steps = steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

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
        folds = inner_folds(codes, groups, self.members, seed) if self.members > 1 else []
        if not folds:  # one network alone stops by the first of five folds
            folds = inner_folds(codes, groups, 5, seed)[:1]
        trained = [self._train(X, codes, train, held, seed + at) for at, (train, held) in enumerate(folds)]
        self._keep(trained)
        return self

    def predict_proba(self, X: Bags) -> NDArray[np.float64]:
        """float64 (n, classes), at equal class shares."""
        return self._asked(X)[0]

    def predict(self, X: Bags) -> NDArray[Any]:
        """The most probable class of each bag."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def attention(self, X: Bags) -> list[NDArray[np.float64]]:
        """For each of n bags float64 (k,), how much each of its cells weighs: the mean over the networks, 1 in sum."""
        weights = self._asked(X)[1]
        return np.split(weights, np.cumsum(X.sizes)[:-1])

    # ---- the work ---------------------------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        if self.pooling not in _POOLINGS:
            raise ValueError(f"pooling must be {', '.join(_POOLINGS)}, not {self.pooling!r}")
        if not 2 <= self.hidden <= _MOST_HIDDEN or self.hidden % 2:
            raise ValueError(f"hidden must be an even number from 2 to {_MOST_HIDDEN}, not {self.hidden!r}")
        if not 1 <= self.members <= _MOST_MEMBERS or not self.steps >= 1:
            raise ValueError(f"members must be 1 to {_MOST_MEMBERS} and steps 1 or more")
        if not 0 < self.share <= 1 or not 0 <= self.dropout < 1:
            raise ValueError("share must lie above 0 and up to 1, and dropout from 0 to below 1")

    def _network(self) -> BagNetwork:
        return BagNetwork(self.n_features_in_, len(self.classes_), self.hidden, self.pooling, self.share, self.dropout)

    def _train(
        self, X: Bags, codes: NDArray[np.intp], train: NDArray[np.intp], held: NDArray[np.intp], seed: int
    ) -> BagNetwork:
        """A network of the training bags, as it was when it said most of those that are held out."""
        rng = np.random.default_rng(seed)
        weights = torch.from_numpy(balanced_weights(codes[train]).astype(np.float32))
        targets = torch.from_numpy(codes)
        own_weights = torch.from_numpy(balanced_weights(codes[held]).astype(np.float32))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self._network()
            optimiser = torch.optim.AdamW(
                network.parameters(), self.learning_rate, weight_decay=self.weight_decay, foreach=True
            )
            best, kept, since, passes, step = math.inf, copy.deepcopy(network.state_dict()), 0, 0, 0
            while step < self.steps and not (since >= _PATIENT_STEPS and passes >= _PATIENT_PASSES):
                network.train()
                for chosen in _steps(X, train, rng):
                    cells, owner = _drawn_cells(X, train[chosen], rng)
                    scores, _ = network(cells, owner, len(chosen))
                    losses = torch.nn.functional.cross_entropy(scores, targets[train[chosen]], reduction="none")
                    optimiser.zero_grad()
                    (losses * weights[chosen]).mean().backward()
                    optimiser.step()
                    step, since = step + 1, since + 1
                passes += 1
                loss = self._held_out_loss(network, X, held, targets[held], own_weights)
                if loss < best:
                    best, kept, since, passes = loss, copy.deepcopy(network.state_dict()), 0, 0
            network.load_state_dict(kept)
        return network.eval()

    @staticmethod
    def _held_out_loss(network: BagNetwork, X: Bags, held: NDArray[np.intp], targets: Tensor, weights: Tensor) -> float:
        scores = torch.cat([each for each, _ in _in_batches(network, X[held])])
        losses = torch.nn.functional.cross_entropy(scores, targets, reduction="none")
        return float((losses * weights).mean())

    def _asked(self, X: Bags) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Probabilities (n, classes), and the weights (k,) of all cells, bag after bag: means over the networks."""
        check_is_fitted(self)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"bags of {X.shape[1]} columns, and the model was fitted on {self.n_features_in_}")
        proba, weights = np.zeros((len(X), len(self.classes_))), np.zeros(int(X.sizes.sum()))
        for network in self._networks:
            found = list(_in_batches(network, X))
            proba += torch.cat([torch.softmax(scores.double(), dim=1) for scores, _ in found]).numpy()
            weights += torch.cat([each.double() for _, each in found]).numpy()
        return proba / len(self._networks), weights / len(self._networks)

    def _keep(self, networks: list[BagNetwork]) -> None:
        self._networks = networks
        self.weights_ = {
            name: np.stack([network.state_dict()[name].numpy() for network in networks])
            for name in networks[0].state_dict()
        }

    # ---- storage ----------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write ``mil.safetensors`` and ``classifier.json``: plain arrays, the networks stacked, and plain values."""
        check_is_fitted(self)
        write_arrays(folder / _ARRAYS, self.weights_)
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
            shapes = {name: tuple(tensor.shape) for name, tensor in fitted._network().state_dict().items()}
        expected = {name: Kept(np.float32, ("members", *shape)) for name, shape in shapes.items()}
        arrays = read_arrays(folder / _ARRAYS, expected)
        count = len(next(iter(arrays.values())))
        if not 1 <= count <= _MOST_MEMBERS:
            raise BundleError(f"{folder / _ARRAYS} holds no such model", found=f"{count} networks")
        networks = []
        for at in range(count):
            network = fitted._network()
            network.load_state_dict({name: torch.from_numpy(array[at].copy()) for name, array in arrays.items()})
            networks.append(network.eval())
        fitted._keep(networks)
        return fitted


def _steps(X: Bags, train: NDArray[np.intp], rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Places in ``train``, each once, in steps of a few bags with not too many cells."""
    sizes = np.minimum(X.sizes[train], _DRAWN)
    some: list[int] = []
    for at in rng.permutation(len(train)).tolist():
        if some and (len(some) == _BAGS or sizes[some].sum() + sizes[at] > _CELLS):
            yield np.array(some, np.intp)
            some = []
        some.append(at)
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
