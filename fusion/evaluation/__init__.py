"""Held-out scores, and what may be concluded from them.

The result of a run, curves with bands, paired tests, differences between entries, and Shapley values of blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.evaluation.curves import Curve as Curve
    from fusion.evaluation.curves import precision_curve as precision_curve
    from fusion.evaluation.curves import reliability_curve as reliability_curve
    from fusion.evaluation.curves import risk_coverage_curve as risk_coverage_curve
    from fusion.evaluation.curves import roc_curve as roc_curve
    from fusion.evaluation.result_differences import against_best as against_best
    from fusion.evaluation.result_differences import contributions_of_blocks as contributions_of_blocks
    from fusion.evaluation.result_differences import finding_lines as finding_lines
    from fusion.evaluation.result_differences import optimism as optimism
    from fusion.evaluation.result_differences import pairwise as pairwise
    from fusion.evaluation.result_differences import signed as signed
    from fusion.evaluation.result_differences import with_adjusted as with_adjusted
    from fusion.evaluation.results import Result as Result
    from fusion.evaluation.results import check_result_folder as check_result_folder
    from fusion.evaluation.results import describe_split as describe_split
    from fusion.evaluation.results import interval as interval
    from fusion.evaluation.results import judge as judge
    from fusion.evaluation.results import judge_paired as judge_paired
    from fusion.evaluation.results import p_text as p_text
    from fusion.evaluation.scores import Scores as Scores
    from fusion.evaluation.scores import entry_name as entry_name
    from fusion.evaluation.shapley import shapley_values as shapley_values

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "curves": ["Curve", "precision_curve", "reliability_curve", "risk_coverage_curve", "roc_curve"],
        "result_differences": [
            "against_best",
            "contributions_of_blocks",
            "finding_lines",
            "optimism",
            "pairwise",
            "signed",
            "with_adjusted",
        ],
        "results": [
            "Result",
            "check_result_folder",
            "describe_split",
            "interval",
            "judge",
            "judge_paired",
            "p_text",
        ],
        "scores": ["Scores", "entry_name"],
        "shapley": ["shapley_values"],
    },
)
