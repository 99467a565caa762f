"""A threshold as it is typed: a number for two classes, or one for each class."""

from __future__ import annotations


def given_thresholds(text: str) -> float | dict[str, float] | None:
    """A number, or one for each class of ``a:0.2,b:0.8``; None for what is neither, or not between 0 and 1.

    >>> given_thresholds("0.3"), given_thresholds("a:0.2,b:0.8"), given_thresholds("balanced-accuracy")
    (0.3, {'a': 0.2, 'b': 0.8}, None)
    """
    if is_share(text):
        return float(text)
    parts = [part.rpartition(":") for part in text.split(",")]
    if len(parts) < 2 or not all(name and is_share(number) for name, _, number in parts):
        return None
    found = {name.strip(): float(number) for name, _, number in parts}
    return found if len(found) == len(parts) else None


def is_share(text: str) -> bool:
    """Whether a text is a number between 0 and 1."""
    try:
        return 0 < float(text) < 1
    except ValueError:
        return False
