"""The comparison that was named before anybody saw a figure: it needs no adjustment for others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fusion.errors import UsageError, did_you_mean
from fusion.evaluation.result_differences import pairwise

if TYPE_CHECKING:
    from fusion.evaluation.results import Result

#: Entries that a refusal lists.
_LISTED = 12

#: Name of an entry: features, and classifier or "".
Name = tuple[str, str]


def find_pair(names: Sequence[Name], wanted: Sequence[str]) -> tuple[int, int]:
    """Positions of the two entries that ``--primary A,B`` names.

    Parameters
    ----------
    names : of all entries: "morphology+texture" and "svm"; or a name and "", where the classifier is none of ours.
    wanted : the parts between commas. Blanks do not matter; of an entry features or classifier are enough where no
        other entry has the same.

    Raises
    ------
    UsageError : not two entries.

    >>> find_pair([("a", "svm"), ("a+b", "svm"), ("a+b", "xgb")], ["a+b", "xgb", "a"])
    (2, 0)
    """
    known = _called(names)
    for cut in range(1, len(wanted)):
        first, second = (_plain(",".join(part)) for part in (wanted[:cut], wanted[cut:]))
        if first in known and second in known and known[first] != known[second]:
            return known[first], known[second]
    listed = [_full(name) for name in names]
    rest = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    raise UsageError(
        "--primary does not name two of the entries that are compared",
        found=", ".join(wanted) or "nothing",
        expected=f"two of: {'; '.join(listed[:_LISTED])}{rest}",
        do=" ".join(filter(None, (did_you_mean(part, listed) for part in wanted if _plain(part) not in known))),
    )


def _full(name: Name) -> str:
    return ",".join(part for part in name if part)


def _plain(text: str) -> str:
    return "".join(text.split())


def _called(names: Sequence[Name]) -> dict[str, int]:
    """What each entry may be called, without blanks, -> its position."""
    known: dict[str, int] = {}
    for column in (0, 1):
        values = [name[column] for name in names]
        known |= {_plain(value): at for at, value in enumerate(values) if value and values.count(value) == 1}
    return known | {_plain(_full(name)): at for at, name in enumerate(names)}


def primary_row(result: Result, pair: tuple[int, int], margin: float | None = None) -> dict[str, Any]:
    """What ``pairwise`` says of the first entry minus the second, with equivalence and non-inferiority where a margin
    is given."""
    a, b = pair
    return pairwise(
        result.cells,
        result.classes,
        result.positive,
        result.scores[a],
        result.scores[b],
        (result.figures[a], result.figures[b]),
        (result.variations[a], result.variations[b]),
        margin,
    )


def check_margin(count: int, wanted: Sequence[str], margin: float | None) -> None:
    """Refuse a margin that is about no comparison.

    Parameters
    ----------
    count : entries that are compared.
    """
    if margin is not None and not wanted and count != 2:
        raise UsageError(
            "--margin is about one comparison, named beforehand",
            found=f"{count} entries and no --primary" if count != 1 else "a single entry",
            do="Name it: --primary A,B." if count > 1 else "Compare two.",
        )
