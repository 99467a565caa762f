"""How an entry's figures vary over subjects, and what follows for a difference: interval, test and equivalence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.metrics import jackknife
from fusion.metrics.jackknife import Spread, Strata
from fusion.metrics.judgement import MODELS, PROCEDURE, Judgement
from fusion.metrics.scored_rows import METRICS

_Floats = NDArray[np.float64]

#: Power for which the smallest detectable difference is told.
_POWER = 0.8


@dataclass(frozen=True, eq=False)
class Variation:
    """How the figures of one entry, or the differences between two, vary over the groups of the cells' table.

    Attributes
    ----------
    influences : float64 (groups,) by (level, metric), see ``metrics.jackknife.influences``; in ascending order of the
        groups' numbers, 0 for groups that were not tested, NaN where a level is left out.
    by_repeat : float64 (repeats, groups) by (level, metric), those of each repeat by itself; without rows where there
        are not several that test every group.
    strata : of each level, the samples that the groups are of.
    test_share : share of the groups that a model is tested on; None where one model scored all of them.
    """

    influences: Mapping[tuple[str, str], _Floats]
    by_repeat: Mapping[tuple[str, str], _Floats]
    strata: Mapping[str, Strata]
    test_share: float | None

    @classmethod
    def of(
        cls,
        judged: Judgement,
        kept: Sequence[tuple[str, str]],
        known: NDArray[np.intp],
        everyone: NDArray[np.intp],
    ) -> Variation:
        """What is kept of a judgement of the groups ``known``, among ``everyone``; both ascending."""
        at = np.searchsorted(everyone, known)
        influences, by_repeat = {}, {}
        for level, metric in kept:
            whole, parts = np.full(len(everyone), np.nan), np.empty((0, len(everyone)))
            if level in judged.influences:
                column = METRICS.index(metric)
                whole = np.zeros(len(everyone))
                whole[at] = judged.influences[level][:, column]
                if len(judged.by_repeat[level]):
                    parts = np.zeros((len(judged.by_repeat[level]), len(everyone)))
                    parts[:, at] = judged.by_repeat[level][:, :, column]
            influences[level, metric], by_repeat[level, metric] = whole, parts
        strata = {level: found.among(known, everyone) for level, found in judged.strata.items()}
        return cls(influences, by_repeat, strata, judged.test_share)

    @property
    def kind(self) -> str:
        """What figures and differences are about."""
        return MODELS if self.test_share is None else PROCEDURE

    def combined(self, others: Sequence[Variation], weights: Sequence[float], key: tuple[str, str]) -> Combined:
        """A weighted sum of one figure of this entry (the first weight) and of others on the same cells."""
        every = (self, *others)
        repeats = {len(one.by_repeat[key]) for one in every}
        shares = [one.test_share for one in every if one.test_share is not None]
        total = np.tensordot(weights, np.stack([one.influences[key] for one in every]), 1)
        parts = np.empty((0, len(total)))
        if len(repeats) == 1 and max(repeats):
            parts = np.tensordot(weights, np.stack([one.by_repeat[key] for one in every]), 1)
        strata = next((one.strata[key[0]] for one in every if key[0] in one.strata), None)
        return Combined(total, parts, strata, float(np.mean(shares)) if shares else None)


@dataclass(frozen=True, eq=False)
class Combined:
    """How a weighted sum of figures varies: as in ``Variation``, of a single (level, metric)."""

    influence: _Floats
    by_repeat: _Floats
    strata: Strata | None
    test_share: float | None

    @property
    def spread(self) -> Spread:
        """Over subjects and, of a procedure, over models that are trained anew."""
        if self.strata is None:
            return Spread.unknown()
        if self.test_share is None:
            return jackknife.spread_of(self.influence[:, None], self.strata)
        return jackknife.spread_of_procedure(
            self.influence[:, None], self.by_repeat[:, :, None], self.strata, self.test_share
        )

    @property
    def subjects(self) -> int:
        """Groups of the smallest class."""
        return 0 if self.strata is None else self.strata.smallest

    def figure(self, value: float, low_end: float = -1.0, high_end: float = 1.0) -> dict[str, float]:
        """Plain values "value", "low" and "high", of a figure between two ends."""
        low, high, _ = jackknife.intervals([value], self.spread, [self.subjects], low_end, high_end)
        return {"value": value, "low": float(low[0]), "high": float(high[0])}

    def difference(self, value: float, margin: float | None = None) -> dict[str, Any]:
        """A difference between two figures of one metric, with its test.

        Parameters
        ----------
        value : the difference, between -1 and 1.
        margin : with it also whether the two are equivalent, and whether the first is not inferior.

        Returns
        -------
        "value", "low", "high" (95%); "p" of "there is none"; "kind"; "detectable", the smallest true difference that
        would be found in 80 of 100 such data sets; with a margin "equivalence_p", the two one-sided tests of "they
        differ by the margin or more" (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657-680), and
        "non_inferiority_p", of "the first is worse by the margin or more".
        """
        from scipy.stats import t

        spread, subjects = self.spread, [self.subjects]
        found: dict[str, Any] = self.figure(value)
        found["p"] = float(jackknife.p_values([value], spread, subjects)[0])
        found["kind"] = MODELS if self.test_share is None else PROCEDURE
        degrees, error = float(spread.degrees[0]), float(np.sqrt(spread.variance[0]))
        found["detectable"] = float((t.ppf(0.975, degrees) + t.ppf(_POWER, degrees)) * error)
        if margin is not None:
            below = float(jackknife.one_sided_p([value], -margin, spread, subjects)[0])
            above = float(jackknife.one_sided_p([-value], -margin, spread.mirrored, subjects)[0])
            found |= {"margin": margin, "equivalence_p": max(below, above), "non_inferiority_p": below}
        return found
