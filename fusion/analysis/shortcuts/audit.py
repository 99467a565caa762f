"""The audit: how well each trace of a file tells the class of cells in groups that were not learnt from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.shortcuts.image_traces import UNSEEN, collect_traces
from fusion.data.dataset import Dataset
from fusion.leakage.grouped_splits import Split, SplitError, affordable_splits, grouped_folds
from fusion.metrics.jackknife import p_values, spread_of_procedure
from fusion.metrics.judgement import judge_scores
from fusion.metrics.scored_rows import METRICS

#: Images that are looked at, spread evenly over classes: of more, intervals are narrow enough and minutes too many.
MOST_IMAGES = 2000

#: Errors of the whole family: one audit of twenty without any shortcut warns of one.
LEVEL = 0.05

#: Values of a number that are told apart: its tenths by rank, so that any shape of relation counts.
_BINS = 10

#: What is added to the squares of a shape's cells, times the columns of the probe: of one column, three cells are
#: believed by half; of many each is believed less, since one of them will fit by chance.
_RIDGE = 3.0

#: How much less a tenth is believed than "the more" and "the farther from the middle", which most relations are: of 60
#: cells, a shift of one of seven columns by two standard deviations is found in 18 of 20 draws, by tenths alone in 7.
_OF_BINS = 0.3

_FOLDS = 5

#: What models that are trained anew add to the variance of an AUROC under chance: .65 for drawn numbers, 1.1 for the
#: light of 300 real images (160 deals of labels). With .6 five of 105 audits of labels dealt by lot warned.
_TRAINING = 1.0

_NONE = float("nan")


@dataclass(frozen=True)
class Probe:
    """How well one trace tells the class.

    Attributes
    ----------
    name : one of ``image_traces.PROBES``.
    columns : numbers and words that differ between files; 0 where all files are alike, and nothing can be told.
    auroc, low, high : of held-out groups, 95% interval; over classes, each against the rest, where there are several;
        NaN where ``columns`` is 0.
    p : of "it tells nothing", corrected for all probes (Holm).
    told : the class that is told best, and its AUROC against the rest.
    """

    name: str
    columns: int
    auroc: float
    low: float
    high: float
    p: float
    told: tuple[str, float] | None

    @property
    def is_shortcut(self) -> bool:
        """Whether the class can be told from it, by more than chance over the whole family and by its own interval."""
        return self.p <= LEVEL and self.low > 0.5

    @property
    def is_shown(self) -> bool:
        """Whether a model that is shown the images is shown it."""
        return self.name not in UNSEEN

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        told = None if self.told is None else {"class": self.told[0], "auroc": self.told[1]}
        return {**asdict(self), "told": told, "is_shortcut": self.is_shortcut, "is_shown": self.is_shown}


@dataclass(frozen=True)
class ShortcutAudit:
    """All probes, the worst first.

    Attributes
    ----------
    images : that were looked at.
    left_out : classes of too few groups to be held out in every fold.
    refused : why no probe could be judged, "" else.
    """

    probes: tuple[Probe, ...]
    images: int
    left_out: tuple[str, ...] = ()
    refused: str = ""

    @property
    def shortcuts(self) -> tuple[Probe, ...]:
        """Those from which the class can be told."""
        return tuple(probe for probe in self.probes if probe.is_shortcut)

    def lines(self) -> list[str]:
        """What a person should know: a line a probe, the worst first."""
        if self.refused:
            return [f"shortcuts cannot be looked for: {self.refused}"]
        found = [probe for probe in self.probes if probe.columns]
        alike = [probe.name for probe in self.probes if not probe.columns]
        head = f"{len(self.shortcuts)} of {len(self.probes)} probes tell" if self.shortcuts else "no probe tells"
        lines = [f"shortcuts: {head} the class of held-out groups ({self.images} images)"]
        for probe in found:
            word = "tells the class" if probe.is_shortcut else "tells nothing for sure"
            interval = "no interval" if np.isnan(probe.low) else f"{probe.low:.2f} to {probe.high:.2f}"
            lines.append(f"  {probe.name}: AUROC {probe.auroc:.2f} [{interval}], {word}{_most(probe)}")
        lines += [f"  alike in all images: {', '.join(alike)}"] if alike else []
        lines += [f"  too few groups to be judged: {', '.join(self.left_out)}"] if self.left_out else []
        if any(probe.is_shortcut and not probe.is_shown for probe in self.probes):
            lines.append("  (no model sees names, times and rows: they matter to splits by position and to who labels)")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "images": self.images,
            "level": LEVEL,
            "left_out": list(self.left_out),
            "refused": self.refused,
            "probes": [probe.to_json() for probe in self.probes],
        }


def _most(probe: Probe) -> str:
    return "" if probe.told is None or not probe.is_shortcut else f", most {probe.told[0]} ({probe.told[1]:.2f})"


def audit_shortcuts(
    dataset: Dataset, seed: int = 0, jobs: int = 0, progress: Callable[[int, int, int], None] | None = None
) -> ShortcutAudit:
    """Look for shortcuts in a labelled data set.

    Parameters
    ----------
    dataset : of more than ``MOST_IMAGES`` labelled cells, so many are drawn, spread evenly over classes.
    seed : of this choice, and of the folds.
    progress : called with (images read, images to read, 0).

    Examples
    --------
    >>> audit_shortcuts(load("cells")).shortcuts  # doctest: +SKIP
    ()
    """
    labelled = np.array([at for at, label in enumerate(dataset.each("label")) if label is not None], np.intp)
    if not len(labelled):
        return ShortcutAudit((), 0, refused="no image has a label")
    labels = np.array([str(dataset.samples[at].label) for at in labelled.tolist()], object)
    groups = dataset.groups()[labelled]
    kept = _judgeable(labels, groups)
    left_out = tuple(sorted(set(labels.tolist()) - set(labels[kept].tolist())))
    kept = kept[_drawn(labels[kept], seed)]
    labelled, labels, groups = labelled[kept], labels[kept], groups[kept]
    try:
        affordable_splits(labels, groups, _FOLDS)
    except SplitError as error:
        reason = f"{error.what} ({error.found})" if error.found else error.what
        return ShortcutAudit((), len(labelled), refused=reason)
    traces = collect_traces(dataset, labelled.tolist(), jobs, progress)
    return replace(judge_traces(traces, labels, groups, seed), left_out=left_out)


def _judgeable(labels: NDArray[Any], groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """Positions of the classes that every fold can hold; all where fewer than two of them can."""
    counts = {label: len(np.unique(groups[labels == label])) for label in set(labels.tolist())}
    enough = [label for label, count in counts.items() if count >= _FOLDS]
    return np.flatnonzero(np.isin(labels, enough)) if len(enough) > 1 else np.arange(len(labels))


def _drawn(labels: NDArray[Any], seed: int) -> NDArray[np.intp]:
    """Positions, ascending, of ``MOST_IMAGES`` at most, of every class as many as the others allow."""
    rank = np.random.default_rng(seed).permutation(len(labels))
    turn = np.zeros(len(labels), np.intp)
    for label in np.unique(labels.astype(str)):
        own = np.flatnonzero(labels == label)
        turn[own[np.argsort(rank[own])]] = np.arange(len(own))
    return np.sort(np.lexsort((rank, turn))[:MOST_IMAGES])


def judge_traces(
    traces: Mapping[str, NDArray[np.float64]], labels: NDArray[Any], groups: NDArray[np.intp], seed: int = 0
) -> ShortcutAudit:
    """AUROC of every probe, the worst first.

    A ridge regression on the ranks of each number, how far they lie from the middle, and their tenths says what any
    shape of relation tells, one probe at a time; each word has a column. It learns from some groups and is judged on
    others. Intervals are those of cross-validation (``fusion.metrics.jackknife``); p is by the spread of AUROCs under
    chance, and corrected by Holm (1979), Scand. J. Statist. 6:65-70, so that an audit of data without shortcuts warns
    in at most 5%. Where a group holds several classes, p is by the same spread as the interval.

    Parameters
    ----------
    traces : by probe float64 (n, columns), of ``collect_traces``.
    labels, groups : object (n,) and intp (n,).
    """
    folds = grouped_folds(labels, groups, affordable_splits(labels, groups, _FOLDS), seed)
    judged = {name: _judge(X, labels, groups, folds) for name, X in traces.items() if X.shape[1]}
    adjusted = _holm([p for *_, p, _ in judged.values()])
    probes = [
        Probe(name, traces[name].shape[1], auroc, low, high, p, told)
        for (name, (auroc, low, high, _, told)), p in zip(judged.items(), adjusted, strict=True)
    ]
    alike = [Probe(name, 0, _NONE, _NONE, _NONE, 1.0, None) for name in traces if name not in judged]
    return ShortcutAudit((*sorted(probes, key=lambda probe: -probe.auroc), *alike), len(labels))


def _judge(
    X: NDArray[np.float64], labels: NDArray[Any], groups: NDArray[np.intp], folds: Sequence[Split]
) -> tuple[float, float, float, float, tuple[str, float] | None]:
    """AUROC, its interval, p of 0.5 and what is told best."""
    from scipy.stats import norm

    classes = sorted(set(labels.tolist()))
    proba, dealt = np.empty((len(labels), len(classes))), np.zeros(len(labels), np.intp)
    for number, fold in enumerate(folds):
        dealt[fold.test] = number
        shapes = Shapes.of(X[fold.train])
        proba[fold.test] = _regress(
            shapes.transform(X[fold.train]),
            labels[fold.train],
            classes,
            shapes.transform(X[fold.test]),
            _RIDGE * X.shape[1],
        )
    positive = classes[1] if len(classes) == 2 else None
    judged = judge_scores(labels, proba, classes, groups, positive=positive, folds=dealt)
    figure, column = judged.figures["image"]["auroc"], METRICS.index("auroc")
    auroc = float(figure["value"])
    p = 1.0
    if auroc > 0.5 and judged.strata["image"].is_pure:
        asked = [1] if positive else list(range(len(classes)))
        by_chance = chance_spread(proba[:, asked], labels, [classes[at] for at in asked], groups, dealt)
        p = float(2 * norm.sf((auroc - 0.5) / (np.sqrt(1 + _TRAINING) * by_chance))) if by_chance else 1.0
    elif auroc > 0.5:
        # As a difference between -1 and 1, of which 0 is chance.
        influence, strata = 2 * judged.influences["image"][:, [column]], judged.strata["image"]
        spread = spread_of_procedure(influence, None, strata, judged.test_share or 0)
        p = float(p_values([2 * auroc - 1], spread, [strata.smallest])[0])
    told = _told(labels, proba, classes, dealt) if p <= LEVEL else None
    return auroc, float(figure["low"]), float(figure["high"]), p, told


def chance_spread(
    scores: NDArray[np.float64],
    labels: NDArray[Any],
    classes: Sequence[str],
    groups: NDArray[np.intp],
    folds: NDArray[np.intp],
) -> float:
    """Standard deviation of the AUROC, the mean over classes, if groups of each fold were dealt to classes by lot.

    Unlike the spread that the data show it does not depend on what was found: next to an AUROC of 1 that one is hardly
    known. By the permutation variance of rank sums (Mann and Whitney 1947, Ann. Math. Statist. 18:50-60) over groups in
    the place of cells.

    Parameters
    ----------
    scores : float64 (n, K), of these K classes, each against the rest.
    labels, groups, folds : (n,); each group has one class.

    >>> rng = np.random.default_rng(0)
    >>> labels = np.array(["a", "b"] * 12, object)
    >>> chance_spread(rng.random((24, 1)), labels, ["b"], np.arange(24), np.zeros(24, int))  # sqrt(25 / 12) / 12
    0.12028...
    """
    from scipy.stats import rankdata

    variance, pairs = np.zeros((len(classes), len(classes))), np.zeros(len(classes))
    for fold in np.unique(folds):
        own = np.flatnonzero(folds == fold)
        ids, first, at = np.unique(groups[own], return_index=True, return_inverse=True)
        sums = np.zeros((len(ids), len(classes)))
        np.add.at(sums, at, rankdata(scores[own], axis=0) - (len(own) + 1) / 2)
        cells = np.array([(labels[own] == name).sum() for name in classes])
        held = np.array([(labels[own][first] == name).sum() for name in classes])
        pairs += cells * (len(own) - cells)
        # Of a sample without replacement: K (G - K) / (G - 1), and -K L / (G - 1) between two classes.
        share = np.diag(held * len(ids)) - np.outer(held, held)
        variance += share / max(1, len(ids) - 1) * np.cov(sums, rowvar=False, ddof=0).reshape(variance.shape)
    return float(np.sqrt((variance / np.outer(pairs, pairs)).mean()))


def _regress(
    X: NDArray[np.float64], labels: NDArray[Any], classes: Sequence[str], shown: NDArray[np.float64], ridge: float
) -> NDArray[np.float64]:
    """float64 (m, classes), rising with the class: ridge regression of each class on the shapes, all classes weighing
    alike. In closed form, since an audit fits some dozens; what is asked of it is an order, and no probability."""
    from scipy.special import softmax

    is_class = labels[:, None] == np.array(classes, object)
    weights = (is_class / is_class.sum(axis=0)).sum(axis=1) * len(labels) / len(classes)
    mean = np.average(X, axis=0, weights=weights)
    held = (X - mean) * weights[:, None]
    inverse = held.T @ (X - mean) + ridge * np.eye(X.shape[1])
    slopes = np.linalg.solve(inverse, held.T @ (is_class - 1 / len(classes)))
    found: NDArray[np.float64] = softmax((shown - mean) @ slopes, axis=1)
    return found


def _told(
    labels: NDArray[Any], proba: NDArray[np.float64], classes: Sequence[str], folds: NDArray[np.intp]
) -> tuple[str, float] | None:
    """Of more than two classes the one that is told best from the rest, on average over folds, and its AUROC."""
    from sklearn.metrics import roc_auc_score

    if len(classes) < 3:
        return None
    areas = [
        float(np.mean([roc_auc_score(labels[folds == at] == name, proba[folds == at, column]) for at in set(folds)]))
        for column, name in enumerate(classes)
    ]
    best = int(np.argmax(areas))
    return classes[best], areas[best]


@dataclass(frozen=True, eq=False)
class Shapes:
    """What a column may say by its rank among the training cells: the more, the farther from the middle, and in which
    tenth of them.

    Attributes
    ----------
    known : by column its values, ascending, NaN left out.
    ends : by column where tenths are cut; values between two equal ends are one bin.
    """

    known: tuple[NDArray[np.float64], ...]
    ends: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(cls, X: NDArray[np.float64]) -> Shapes:
        """Of float64 (n, d)."""
        known = tuple(np.sort(column[~np.isnan(column)]) for column in X.T)
        shares = np.arange(1, _BINS) / _BINS
        return cls(known, tuple(np.unique(np.quantile(each, shares)) if len(each) else each for each in known))

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 (n, shapes): of each column its rank and the square of it, each of mean 0 and variance 1 where ranks
        are even, then ``_OF_BINS`` as a square in its bin. NaN is in the middle, and in a bin of its own."""
        parts = []
        for column, known, ends in zip(X.T, self.known, self.ends, strict=True):
            rank = (np.searchsorted(known, column, "left") + np.searchsorted(known, column, "right")) / 2
            rank = np.sqrt(12) * (rank / max(1, len(known)) - 0.5)
            # A value at an end belongs to it and not between: a column of 0 and 1 has two bins.
            at = np.searchsorted(ends, column, "left") + np.searchsorted(ends, column, "right")
            is_nan = np.isnan(column)
            at[is_nan] = 2 * len(ends) + 1
            farther = (rank**2 - 1) * np.sqrt(5 / 4)
            straight = np.where(is_nan[:, None], 0.0, np.stack([rank, farther], axis=1))
            parts += [straight, np.sqrt(_OF_BINS) * np.eye(2 * len(ends) + 2)[at]]
        return np.hstack(parts)


def _holm(p: Sequence[float]) -> list[float]:
    """Corrected for all of them; what is not known counts as nothing."""
    known = [1.0 if np.isnan(one) else one for one in p]
    found, least = [1.0] * len(p), 0.0
    for rank, at in enumerate(sorted(range(len(p)), key=known.__getitem__)):
        least = max(least, min(1.0, (len(p) - rank) * known[at]))
        found[at] = least
    return found
