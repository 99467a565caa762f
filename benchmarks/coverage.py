"""Do intervals cover what they claim, do tests keep their level, and are they no wider than they must be?

Simulated data sets of the sizes that people have, among them the real groups of C-NMC 2019 (`cnmc_group_sizes.csv`),
judged by the code that judges everything else:

- `models`: intervals of fixed scores, cell by cell and subject by subject;
- `procedure`: intervals and the primary test, with models that are really trained in every fold of five repeats;
- `best`: the corrected best of many, and the set that cannot be told from it;
- `power`: how often a true difference of .10 is found, and how often an oracle would find it;
- `equivalence`: two one-sided tests at their margin.

    .venv/bin/python -m benchmarks.coverage                     # all, 500 data sets a design
    .venv/bin/python -m benchmarks.coverage models --runs 100 --designs 4+4,8+7

An oracle interval reaches as far as the figure really varies over the simulated data sets (1.96 standard deviations
either way), which nobody who has one data set knows.
"""

from __future__ import annotations

if __name__ == "coverage":
    # A benchmark that is run by its path has this folder on its path, and numba asks there whether the package of this
    # name is installed.
    raise ImportError("benchmarks/coverage.py is not the package 'coverage'")

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm

from fusion.evaluation.best_of_many import best_of
from fusion.evaluation.variation import Variation
from fusion.metrics.judgement import Judgement, judge_scores

_Floats = NDArray[np.float64]

#: Figures that are looked at.
FIGURES = ("balanced_accuracy", "sensitivity", "specificity", "auroc")

#: Spread between subjects and within them: an intraclass correlation of a half.
BETWEEN, WITHIN = 1.0, 1.0

#: Cells of a subject where nothing else is said.
CELLS = 12

KEY = ("image", "balanced_accuracy")


def cnmc(part: str) -> tuple[list[int], list[int]]:
    """Cells of each group of leukaemic and of healthy subjects of C-NMC 2019."""
    with (Path(__file__).parent / "cnmc_group_sizes.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == part]
    of_all, of_hem = ([int(row["cells"]) for row in rows if row["class"] == label] for label in ("all", "hem"))
    return of_all, of_hem


#: Designs that are looked at; all where none is named.
ASKED: set[str] = set()


def is_asked(design: str) -> bool:
    """Whether a design is among those that were asked for."""
    return not ASKED or design in ASKED


def designs() -> dict[str, tuple[list[int], list[int]]]:
    """Cells of each positive and of each negative subject."""
    even = {f"{m}+{n}": ([CELLS] * m, [CELLS] * n) for m, n in ((4, 4), (8, 7), (12, 12), (15, 15), (47, 26))}
    return {**even, "C-NMC": cnmc("train"), "preliminary": cnmc("preliminary")}


@dataclass
class Tally:
    """Intervals of one figure in many data sets."""

    values: list[float]
    lows: list[float]
    highs: list[float]

    def add(self, figure: Mapping[str, Any]) -> None:
        self.values.append(figure["value"])
        self.lows.append(figure["low"])
        self.highs.append(figure["high"])

    def coverage(self, truth: float) -> float:
        """Share of the intervals that hold the truth; one that is not there holds nothing."""
        return float(np.mean([low <= truth <= high for low, high in zip(self.lows, self.highs, strict=True)]))

    def width(self) -> float:
        """Mean width over that of the oracle's intervals."""
        return float(np.mean(np.subtract(self.highs, self.lows)) / (2 * 1.96 * np.std(self.values)))


# ---- intervals of fixed models --------------------------------------------------------------------------------------


def fixed_scores(rng: np.random.Generator, sizes: tuple[list[int], list[int]], d: float) -> tuple[Any, _Floats, Any]:
    """Labels, scores and groups of cells: +-d, an effect of the subject and noise of the cell, positive above 0."""
    cells = np.concatenate(sizes)
    groups = np.repeat(np.arange(len(cells)), cells)
    is_positive = groups < len(sizes[0])
    noise = rng.normal(0, BETWEEN, len(cells))[groups] + rng.normal(0, WITHIN, len(groups))
    p = norm.cdf(np.where(is_positive, d, -d) + noise)
    return np.where(is_positive, "b", "a"), np.column_stack([1 - p, p]), groups


def models(runs: int, gaps: Sequence[float] = (0.8, 1.2, 2.2)) -> Iterator[dict[str, Any]]:
    """A row a design, gap between the classes, level and figure: coverage and width."""
    spread = np.hypot(BETWEEN, WITHIN)
    for name, sizes in designs().items():
        for d in gaps if is_asked(name) else ():
            tallies = {(level, metric): Tally([], [], []) for level in ("image", "subject") for metric in FIGURES}
            for run in range(runs):
                y, proba, groups = fixed_scores(np.random.default_rng([1, run]), sizes, d)
                figures = judge_scores(y, proba, ["a", "b"], groups, positive="b").figures
                for (level, metric), tally in tallies.items():
                    tally.add(figures[level][metric])
            for (level, metric), tally in tallies.items():
                truth = float(np.mean(tally.values))  # by subject there is no closed form; figures are unbiased
                if level == "image":
                    truth = float(norm.cdf(np.sqrt(2) * d / spread if metric == "auroc" else d / spread))
                yield {
                    "design": name,
                    "gap": d,
                    "level": level,
                    "figure": metric,
                    "coverage": tally.coverage(truth),
                    "width": tally.width(),
                }


# ---- procedures: models trained anew --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """Two sets of features of the same cells: each of some that tell the classes apart, and of some that do not."""

    telling: int = 3
    useless: int = 7
    gap: float = 1.2
    shared: bool = False  # whether the second set is the first with as many useless features more
    ahead: float = 0.0  # by how much more the first set's features tell

    def means(self) -> tuple[_Floats, list[list[int]]]:
        """What lies between the classes along each feature, half of it, and the columns of both sets."""
        size = self.telling + self.useless
        of = [
            np.append(np.full(self.telling, gap / np.sqrt(self.telling)), np.zeros(self.useless))
            for gap in (self.gap + self.ahead, self.gap)
        ]
        if self.shared:
            return np.append(of[0], np.zeros(size)), [list(range(size)), list(range(2 * size))]
        return np.concatenate(of), [list(range(size)), list(range(size, 2 * size))]


def deal(rng: np.random.Generator, subjects: tuple[int, int], folds: int) -> NDArray[np.intp]:
    """A fold for each subject, each class dealt evenly."""
    dealt = [
        (rng.permutation(number) + offset) % folds for offset, number in zip((0, subjects[0]), subjects, strict=True)
    ]
    return np.concatenate(dealt)


def train_anew(
    rng: np.random.Generator, subjects: tuple[int, int], features: Features, repeats: int = 5, folds: int = 5
) -> tuple[list[Judgement], list[dict[str, float]]]:
    """Two linear discriminants cross-validated on one data set: judgements, and what their models really achieve."""
    groups = np.repeat(np.arange(sum(subjects)), CELLS)
    is_positive = groups < subjects[0]
    means, sets = features.means()
    X = np.where(is_positive, 1, -1)[:, None] * means + rng.normal(0, BETWEEN, (sum(subjects), len(means)))[groups]
    X += rng.normal(0, WITHIN, X.shape)
    fold = np.stack([deal(rng, subjects, folds) for _ in range(repeats)])[:, groups]
    y = np.where(is_positive, "b", "a")
    judged, truths = [], []
    for columns in sets:
        moments = _Moments.of(X[:, columns], sum(subjects))
        proba = np.empty((repeats, len(y), 2))
        true: list[tuple[float, float, float, float]] = []
        for repeat in range(repeats):
            for at in range(folds):
                test = fold[repeat] == at
                slope, intercept = moments.discriminant(~test[::CELLS], np.arange(sum(subjects)) < subjects[0])
                score = expit(X[test][:, columns] @ slope + intercept)
                proba[repeat, test] = np.column_stack([1 - score, score])
                true.append(_really(slope, intercept, means[columns]))
        judged.append(judge_scores(y, proba, ["a", "b"], groups, positive="b", folds=fold))
        truths.append(dict(zip(FIGURES, np.mean(true, axis=0).tolist(), strict=True)))
    return judged, truths


@dataclass(frozen=True)
class _Moments:
    """Sums over the cells of each subject, of which a discriminant of any subjects follows in no time."""

    first: _Floats
    second: _Floats

    @classmethod
    def of(cls, X: _Floats, subjects: int) -> _Moments:
        cells = X.reshape(subjects, CELLS, -1)
        return cls(cells.sum(axis=1), np.einsum("sci,scj->sij", cells, cells))

    def discriminant(self, learnt: NDArray[np.bool_], is_positive: NDArray[np.bool_]) -> tuple[_Floats, float]:
        """Slope and intercept of Fisher's discriminant, classes weighed alike, a little shrunk."""
        means, within = [], np.zeros(self.second.shape[1:])
        for members in (learnt & is_positive, learnt & ~is_positive):
            cells = CELLS * members.sum()
            mean = self.first[members].sum(axis=0) / cells
            within += (self.second[members].sum(axis=0) / cells - np.outer(mean, mean)) / 2
            means.append(mean)
        slope = np.linalg.solve(within + 0.05 * np.eye(len(within)), means[0] - means[1])
        return slope, float(-slope @ (means[0] + means[1]) / 2)


def _really(slope: _Floats, intercept: float, means: _Floats) -> tuple[float, float, float, float]:
    """What a linear model achieves on cells of new subjects, in closed form."""
    apart, spread = float(slope @ means), float(np.linalg.norm(slope) * np.hypot(BETWEEN, WITHIN))
    sensitivity, specificity = norm.cdf((apart + intercept) / spread), norm.cdf((apart - intercept) / spread)
    return (sensitivity + specificity) / 2, sensitivity, specificity, norm.cdf(np.sqrt(2) * apart / spread)


def difference(judged: Sequence[Judgement], margin: float | None = None) -> dict[str, Any]:
    """The first minus the second in balanced accuracy, with the primary test."""
    groups = np.arange(judged[0].figures["n_subjects"])
    first, second = (Variation.of(one, [KEY], groups, groups) for one in judged)
    gap = judged[0].figures["image"][KEY[1]]["value"] - judged[1].figures["image"][KEY[1]]["value"]
    return first.combined([second], (1.0, -1.0), KEY).difference(gap, margin)


#: Simple and many features, and a second set that adds useless ones to the first.
KINDS = {"few": Features(), "many": Features(5, 25, 1.5), "nested": Features(4, 6, 1.2, shared=True)}


def procedure(runs: int) -> Iterator[dict[str, Any]]:
    """A row a design, kind of features and figure: coverage and width; and the level of the primary test."""
    for subjects in ((8, 8), (12, 12), (15, 15), (47, 26)):
        for kind, features in KINDS.items() if is_asked(f"{subjects[0]}+{subjects[1]}") else ():
            tallies = {metric: Tally([], [], []) for metric in (*FIGURES, "difference")}
            truths: list[dict[str, float]] = []
            found: list[float] = []
            for run in range(runs):
                judged, true = train_anew(np.random.default_rng([2, run]), subjects, features)
                for metric in FIGURES:
                    tallies[metric].add(judged[0].figures["image"][metric])
                gap = difference(judged)
                tallies["difference"].add(gap)
                found.append(gap["p"])
                truths.append({**true[0], "difference": true[0][KEY[1]] - true[1][KEY[1]]})
            for metric, tally in tallies.items():
                truth = float(np.mean([true[metric] for true in truths]))
                row = {"design": f"{subjects[0]}+{subjects[1]}", "features": kind, "figure": metric}
                row |= {"coverage": tally.coverage(truth), "width": tally.width()}
                if metric == "difference" and not features.shared:
                    row["type I"] = float(np.mean(np.array(found) < 0.05))
                yield row


def power(runs: int) -> Iterator[dict[str, Any]]:
    """How often a true difference of .10 is found between two sets at 47 and 26 subjects: sets of features that share
    nothing, and fixed scores that go together by .66, as those of the demo's entries do.

    The oracle knows how much the difference really varies over data sets, and tests it by the normal distribution: no
    test of the same difference at 5% finds more.
    """
    apart = Features(gap=0.75, ahead=0.42)
    for kind in ("trained, nothing shared", "fixed, correlation .66"):
        found, gaps, seen = [], [], []
        for run in range(runs):
            rng = np.random.default_rng([3, run])
            if kind.startswith("trained"):
                judged, true = train_anew(rng, (47, 26), apart)
                gaps.append(true[0][KEY[1]] - true[1][KEY[1]])
            else:
                judged, truth = entries(rng, (47, 26), 2, _gap_of(0.10))
                gaps.append(truth[0] - truth[1])
            told = difference(judged)
            found.append(told["p"] < 0.05)
            seen.append(told["value"])
        yield {
            "design": "47+26",
            "kind": kind,
            "true difference": float(np.mean(gaps)),
            "found": float(np.mean(found)),
            "oracle": float(np.mean(np.abs(seen) > 1.96 * np.std(seen))),
        }


# ---- the best of many -----------------------------------------------------------------------------------------------


def entries(
    rng: np.random.Generator, subjects: tuple[int, int], count: int, ahead: float = 0.0, correlation: float = 0.66
) -> tuple[list[Judgement], _Floats]:
    """Judgements of entries whose scores of a subject go together, the first ``ahead``, and their true figures."""
    groups = np.repeat(np.arange(sum(subjects)), CELLS)
    is_positive = groups < subjects[0]
    sign = np.where(is_positive, 1, -1)
    shared = rng.normal(size=sum(subjects))[groups], rng.normal(size=len(groups))
    d = np.full(count, 1.0)
    d[0] += ahead
    judged = []
    for gap in d:
        own = rng.normal(size=sum(subjects))[groups], rng.normal(size=len(groups))
        effects = [
            np.sqrt(correlation) * both + np.sqrt(1 - correlation) * alone
            for both, alone in zip(shared, own, strict=True)
        ]
        p = norm.cdf(sign * gap + BETWEEN * effects[0] + WITHIN * effects[1])
        judged.append(judge_scores(np.where(is_positive, "b", "a"), np.column_stack([1 - p, p]), ["a", "b"], groups))
    return judged, norm.cdf(d / np.hypot(BETWEEN, WITHIN))


#: Subjects, entries, how much further the classes lie apart in the first entry, and how scores of entries go together.
MANY = (
    ((8, 7), 10, 0.0, 0.66),
    ((12, 12), 45, 0.0, 0.66),
    ((47, 26), 45, 0.0, 0.66),
    ((12, 12), 20, 0.50, 0.66),
    ((47, 26), 20, 0.50, 0.66),
    ((47, 26), 20, 0.50, 0.30),
)


def best(runs: int, many: Sequence[tuple[tuple[int, int], int, float, float]] = MANY) -> Iterator[dict[str, Any]]:
    """Family-wise error, bias of the corrected best, coverage of its interval, and how often one that is better by .10
    stands alone.

    Biases are over the luck that all entries share, which is 0 on average and hides what is looked for: at 8+7 subjects
    the bias of 500 data sets is known to .003 with it, to .001 without.
    """
    for subjects, count, ahead, correlation in many:
        if not is_asked(f"{subjects[0]}+{subjects[1]}"):
            continue
        marked, raw, corrected, covered, alone, widths, lucks = [], [], [], [], [], [], []
        for run in range(runs):
            judged, truth = entries(np.random.default_rng([4, run]), subjects, count, ahead, correlation)
            groups = np.arange(sum(subjects))
            varied = [Variation.of(one, [KEY], groups, groups) for one in judged]
            values = [one.figures["image"][KEY[1]]["value"] for one in judged]
            found = best_of(values, varied, [1] * count, KEY)
            luck = float(np.mean(values - truth))
            marked.append(len(found.not_distinguished) < count if not ahead else 0 not in found.not_distinguished)
            alone.append(found.not_distinguished == (0,))
            raw.append(found.value - truth[found.at] - luck)
            corrected.append(found.corrected - truth[found.at])
            covered.append(found.low <= truth[found.at] <= found.high)
            widths.append(found.high - found.low)
            lucks.append(luck)
        yield {
            "design": f"{subjects[0]}+{subjects[1]}",
            "entries": count,
            "go together by": correlation,
            "ahead by": float(truth[0] - truth[1]),
            "family-wise error": float(np.mean(marked)),
            "bias": float(np.mean(raw)),
            "bias, corrected": float(np.mean(np.subtract(corrected, lucks))),
            "known to": float(np.std(np.subtract(corrected, lucks)) / np.sqrt(runs)),
            "coverage": float(np.mean(covered)),
            "width": float(np.mean(widths) / (2 * 1.96 * np.std(corrected))),
            "stands alone": float(np.mean(alone)),
        }


def equivalence(runs: int, margin: float = 0.05) -> Iterator[dict[str, Any]]:
    """How often two sets that differ by just the margin are called equivalent, and two that do not differ are."""
    for subjects in ((15, 15), (47, 26)):
        for ahead in (0.0, _gap_of(margin)) if is_asked(f"{subjects[0]}+{subjects[1]}") else ():
            found = []
            for run in range(runs):
                judged, truth = entries(np.random.default_rng([5, run]), subjects, 2, ahead, correlation=0.95)
                found.append(difference(judged, margin)["equivalence_p"] < 0.05)
            yield {
                "design": f"{subjects[0]}+{subjects[1]}",
                "margin": margin,
                "true difference": float(truth[0] - truth[1]),
                "called equivalent": float(np.mean(found)),
            }


def _gap_of(difference: float) -> float:
    """How much further apart classes must lie for so much more balanced accuracy."""
    spread = np.hypot(BETWEEN, WITHIN)
    return float(spread * norm.ppf(norm.cdf(1 / spread) + difference) - 1)


PARTS: dict[str, Callable[[int], Iterator[dict[str, Any]]]] = {
    "models": models,
    "procedure": procedure,
    "power": power,
    "best": best,
    "equivalence": equivalence,
}


def main() -> None:
    """Print a row a finding, and of coverages the mean and the smallest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default all")
    parser.add_argument("--runs", type=int, default=500, help="data sets a design")
    parser.add_argument("--designs", default="", help="as 4+4,8+7,C-NMC; default all")
    given = parser.parse_args()
    ASKED.update(filter(None, given.designs.split(",")))
    for name in given.parts or PARTS:
        covered = []
        for row in PARTS[name](given.runs):
            covered.append(row.get("coverage"))
            shown = [
                f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            ]
            print(f"{name}: {', '.join(shown)}", flush=True)
        known = [share for share in covered if share is not None]
        if known:
            print(f"{name}: mean coverage {np.mean(known):.3f}, smallest {np.min(known):.3f}", flush=True)


if __name__ == "__main__":
    main()
