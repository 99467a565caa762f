"""The table of refusals as docs/architecture.md shows it: ``python -m tests.documentation.refusals_table``."""

from __future__ import annotations

from fusion.learning.refusals import REFUSALS

#: What stands in a reason for the classifier that was asked for, for the steps that are not possible with it, and for
#: the setting that keeps features out of memory.
_CLASSIFIER, _STEPS, _SETTING = "NAME", "such a step", "external_memory or scheduler"


def table() -> list[str]:
    """Lines in Markdown, in the order in which refusals are asked about."""
    lines = ["| step | does not go with | why | instead |", "| --- | --- | --- | --- |"]
    for row in REFUSALS:
        reason = row.reason.format(_CLASSIFIER, steps=_STEPS, setting=_SETTING)
        lines.append(f"| {row.step} | {row.other} | {reason} | {row.remedy.format(_CLASSIFIER)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
