"""Decision-level (late) fusion: a model of every block, and how much the scores of each count.

The weights are learnt from scores of cells that no model of theirs has met (``fusion.learning.fused_model`` holds them
out by group inside the training part): a block that fits its training cells by heart is no more believed for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.data.patients.bags import Bags
from fusion.plugins.classifiers import Searches

if TYPE_CHECKING:
    from fusion.learning.fused_model import FusedModel

_Floats = NDArray[np.float64]

#: Probabilities are taken no closer to 0 before logarithms: no block is surer than a million to one.
LEAST = 1e-6

#: Largest weight of a block, and intercept of a class: odds are changed by no more than a million.
_MOST = 14.0


@dataclass(frozen=True, eq=False)
class LateFusion:
    """A fitted model of each block, and the pool of what they say: it stands where a classifier does.

    The logarithm of a class's probability is, up to a constant, the weighted sum of the blocks' logarithms and an
    intercept: a logarithmic opinion pool (Genest and Zidek 1986, Statistical Science 1:114-135) whose weights are
    stacked (Wolpert 1992, Neural Networks 5:241-259).

    Attributes
    ----------
    members : block name -> the model of its columns alone.
    columns : block name -> where these are among the columns that it is given.
    weights : float64 (blocks,), 0 or more, in the order of ``members``.
    intercepts : float64 (classes,), their mean 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fusion import fuse
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["all", "hem"], 20)
    >>> X = rng.normal(size=(40, 4)) + (y == "all")[:, None]
    >>> blocks = {"texture": slice(0, 2), "colour": slice(2, 4)}
    >>> model = fuse(X, y, np.arange(40), blocks, "logreg", fuse="late")
    >>> sorted(model.classifier.chosen_)
    ['weight.colour', 'weight.texture']
    """

    members: Mapping[str, FusedModel]
    columns: Mapping[str, slice]
    weights: _Floats
    intercepts: _Floats

    #: Each member prepares its columns itself.
    prepares: ClassVar[str] = "raw"

    @property
    def classes_(self) -> NDArray[Any]:
        """Class labels in the order of the probabilities' columns."""
        return next(iter(self.members.values())).classifier.classes_

    @property
    def chosen_(self) -> dict[str, float]:
        """How much the scores of each block count, and the parameters that its model chose."""
        found = {f"weight.{name}": float(weight) for name, weight in zip(self.members, self.weights, strict=True)}
        for name, member in self.members.items():
            if isinstance(member.classifier, Searches):
                found |= {f"{parameter}.{name}": value for parameter, value in member.classifier.chosen_.items()}
        return found

    def block_scores(self, X: ArrayLike | Bags) -> _Floats:
        """float64 (n, blocks, classes): what each block's model says, see ``centred_logs``."""
        rows: Any = X if isinstance(X, Bags) else np.asarray(X)
        said = [member.predict_proba(rows[:, self.columns[name]]) for name, member in self.members.items()]
        return centred_logs(np.stack(said, axis=1))

    def margins(self, scores: _Floats) -> _Floats:
        """float64 (n, classes) of ``block_scores``: probabilities are their softmax."""
        return np.einsum("nbk,b->nk", scores, self.weights) + self.intercepts

    def predict_proba(self, X: ArrayLike | Bags) -> _Floats:
        """float64 (n, classes) for float (n, d), NaN allowed, or for n bags of such cells."""
        return _softmax(self.margins(self.block_scores(X)))


def centred_logs(proba: _Floats) -> _Floats:
    """float64 of the shape of ``proba``: logarithms of probabilities less their mean over the classes (the last axis).

    Source: Aitchison (1982), J. R. Statist. Soc. B 44:139-177, the centred log-ratio. Of a softmax these are its
    margins less their mean, so that what adds up in a margin adds up here.
    """
    logs = np.log(np.clip(proba, LEAST, None))
    return logs - logs.mean(axis=-1, keepdims=True)


def stack_scores(scores: _Floats, codes: NDArray[np.intp]) -> tuple[_Floats, _Floats]:
    """Weights of the blocks and intercepts of the classes, by held-out scores.

    Maximum likelihood of classes that weigh equally, a convex problem, with a penalty of half the squared distance of
    the weights from 1 / blocks: with few cells the pool stays near the mean of the blocks. Weights are 0 or more, since
    scores that had to be turned round would be chance (Breiman 1996, Machine Learning 24:49-64), and probabilities are
    stacked instead of classes (Ting and Witten 1999, J. Artif. Intell. Res. 10:271-289).

    Parameters
    ----------
    scores : float64 (n, blocks, classes), held out, see ``centred_logs``.
    codes : intp (n,), numbers of the true classes.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> codes = np.arange(200) % 2
    >>> idle = rng.normal(size=(200, 2))
    >>> sure = np.where(codes[:, None] == [0, 1], 1.0, -1.0) + rng.normal(size=(200, 2))
    >>> weights, _ = stack_scores(np.stack([sure, idle], axis=1), codes)
    >>> bool(weights[0] > 5 * weights[1])
    True
    """
    from scipy.optimize import minimize

    n, blocks, classes = scores.shape
    shares = n / (classes * np.bincount(codes, minlength=classes))
    cells, rows = shares[codes], np.arange(n)

    def surprise(values: _Floats) -> tuple[float, _Floats]:
        weights, intercepts = values[:blocks], np.append(0.0, values[blocks:])
        margins = np.einsum("nbk,b->nk", scores, weights) + intercepts
        margins -= margins.max(axis=1, keepdims=True)
        total = np.log(np.exp(margins).sum(axis=1))
        gap = np.exp(margins - total[:, None])
        gap[rows, codes] -= 1
        gap *= cells[:, None]
        away = weights - 1 / blocks
        loss = float((cells * (total - margins[rows, codes])).sum() + 0.5 * (away**2).sum())
        return loss, np.append(np.einsum("nbk,nk->b", scores, gap) + away, gap.sum(axis=0)[1:])

    found = minimize(
        surprise,
        np.append(np.full(blocks, 1 / blocks), np.zeros(classes - 1)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, _MOST)] * blocks + [(-_MOST, _MOST)] * (classes - 1),
        options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000},
    )
    intercepts = np.append(0.0, found.x[blocks:])
    return found.x[:blocks], intercepts - intercepts.mean()


def _softmax(margins: _Floats) -> _Floats:
    odds = np.exp(margins - margins.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
