"""The result of held-out scores, whoever computed them: figures of every entry, the best, and what differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fusion.data.feature_table import FeatureTable
from fusion.errors import UsageError
from fusion.evaluation.mean_cost import mean_costs
from fusion.evaluation.primary_comparison import check_margin, find_pair, primary_row
from fusion.evaluation.result_differences import against_best, best_row
from fusion.evaluation.results import Result, judge_paired
from fusion.evaluation.scores import Scores
from fusion.evaluation.split_spread import split_spread
from fusion.metrics.decision_costs import Costs


@dataclass(frozen=True)
class Questions:
    """What is asked of scores.

    Attributes
    ----------
    prevalence : share of positives for which PPV and NPV are reported.
    primary : the two entries of the comparison named beforehand, as ``find_pair`` takes them; () for none.
    margin : of equivalence and non-inferiority, for the primary comparison.
    seed : of draws.
    samples : of subjects behind the corrected figure of the best.
    costs : what mistakes cost, true class -> predicted class -> cost; {} for none stated.
    """

    prevalence: float = 0.5
    primary: Sequence[str] = ()
    margin: float | None = None
    seed: int = 0
    samples: int = 2000
    costs: Costs = field(default_factory=dict)

    def pair(self, names: Sequence[tuple[str, str]]) -> tuple[int, int] | None:
        """Positions of the two entries of the primary comparison; None where there is none.

        Raises
        ------
        UsageError : they are not among the entries, or there is a margin and no comparison.
        """
        check_margin(len(names), self.primary, self.margin)
        if self.primary:
            return find_pair(names, self.primary)
        return (0, 1) if self.margin is not None else None


def names_of(entries: Sequence[Scores]) -> list[tuple[str, str]]:
    """Names of entries as ``find_pair`` takes them."""
    return [("+".join(scores.features), scores.classifier) for scores in entries]


def result_of_scores(
    command: str,
    cells: FeatureTable,
    classes: Sequence[str],
    positive: str | None,
    entries: Sequence[Scores],
    questions: Questions | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> Result:
    """Judge every entry and compare them; data, split and settings are not its matter.

    Parameters
    ----------
    command : whose result this is.
    tell : informed of every entry that is judged.

    Returns
    -------
    A result whose findings are "primary" where it was asked for, "best" and "paired" for more than one entry, "costs"
    where mistakes have them, and "splits" for more than one model.
    """
    asked = questions or Questions()
    pair = asked.pair(names_of(entries))
    judged = []
    for at, scored in enumerate(entries, start=1):
        judged.append(judge_paired(cells, scored, classes, positive, prevalence=asked.prevalence))
        if tell is not None:
            tell(at, len(entries))
    result = Result(
        command=command,
        cells=cells,
        classes=tuple(classes),
        positive=positive,
        scores=tuple(entries),
        figures=tuple(figures for figures, _ in judged),
        config="",
        facts={"seed": asked.seed, "prevalence": asked.prevalence, "samples": asked.samples},
        variations=tuple(variation for _, variation in judged),
    )
    findings: dict[str, Any] = {}
    if result.only_class is not None and len(entries) > 1:
        # Of cells of one class whoever always says this class is best.
        if pair is not None:
            raise UsageError(
                "a comparison on cells of one class",
                found=f"all are {result.only_class}",
                expected="two classes and more",
                do="Leave 'primary' and 'margin' out, or give cells of other classes too.",
            )
    elif pair is not None:
        findings["primary"] = primary_row(result, pair, asked.margin)
    if len(entries) > 1 and result.only_class is None:
        findings |= {"best": best_row(result), "paired": against_best(result)}
    if asked.costs:
        findings["costs"] = mean_costs(result, asked.costs)
    if splits := split_spread(result):
        findings["splits"] = splits
    return replace(result, findings=findings)
