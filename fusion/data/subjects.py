"""Who a subject is: an id means nothing without the source that gave it.

Two sites both have a patient 7. A subject therefore is its source and its id together. Where the source is
unknown, the id could be anyone's: such a subject counts as the same as every subject of that id, whatever its source,
since a split that is stricter than need be costs a few cells, and a leak costs the result.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Hashable, Sequence
from decimal import Decimal

from fusion.errors import UsageError
from fusion.io.files import sha256

#: What is a number and nothing else; 1e3 may be a bed in ward 1E.
_NUMBER = re.compile(r"\d{1,30}(\.\d{1,30})?", re.ASCII)

#: Category of a character -> what it counts as: dashes, also the low one; what shows nothing.
_AS_DASH = {"Pd": "-", "Pc": "-", "Cf": "", "Cc": ""}

#: A subject's id alone, or (source, id).
Identity = str | tuple[str, str]


def identities(subjects: Sequence[str | None], sources: Sequence[str | None]) -> list[Identity | None]:
    """What tells n subjects apart, None where the subject is unknown.

    >>> identities(["7", "7", "7", None], ["east", "west", "west", "east"])
    [('east', '7'), ('west', '7'), ('west', '7'), None]
    >>> identities(["7", "7"], ["east", None])
    ['7', '7']
    """
    anyone = {subject for subject, source in zip(subjects, sources, strict=True) if source is None}
    return [
        subject if subject is None or source is None or subject in anyone else (source, subject)
        for subject, source in zip(subjects, sources, strict=True)
    ]


def format_subject(identity: Hashable) -> str:
    """``7``, or ``7 of west``."""
    return f"{identity[1]} of {identity[0]}" if isinstance(identity, tuple) else str(identity)


def canonical(name: str) -> str:
    """What spellings of one name have in common that differ in blanks, case, kind of dash or quotes only, or in letters
    that are not seen, or are the same number.

    >>> [canonical(name) for name in ("1", "01", " 1.0", "P1", "p 1", "1b", "p_1", "P–1", "'007")]
    ['1', '1', '1', 'p1', 'p1', '1b', 'p-1', 'p-1', '7']
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    if not text.isalnum():  # almost every name is
        text = "".join(_AS_DASH.get(unicodedata.category(c), c) for c in text if not c.isspace())
        text = text.removeprefix("=").strip("'\"")  # ="007" keeps zeros in a spreadsheet
    return f"{Decimal(text).normalize():f}" if _NUMBER.fullmatch(text) else text


def check_spelling(column: str, names: Sequence[str | None], sources: Sequence[str | None], where: object) -> None:
    """Refuse names that may be one name spelt twice: the same number, or different in blanks or case only.

    Parameters
    ----------
    column : what the names are, for the message.
    names, sources : n each, as they are written; None where there is none. Those of two sources are two names.
    where : the table, for the message.

    Raises
    ------
    UsageError : names the spellings, and says what to do.
    """
    spelt: dict[tuple[str, str | None], dict[str, None]] = {}
    for name, source in dict.fromkeys(zip(names, sources, strict=True)):
        if name:
            # What is said of a source that is unknown holds for all.
            spelt.setdefault((canonical(name), None if source is None else canonical(source)), {})[name] = None
    unknown = {key: spellings for (key, source), spellings in spelt.items() if source is None}
    twins = [list({**spellings, **(unknown.get(key, {}))}) for (key, _), spellings in spelt.items()]
    if found := list(dict.fromkeys(" and ".join(map(repr, one)) for one in twins if len(one) > 1)):
        raise UsageError(
            f"the {column}s of {where} may be one {column} spelt in several ways",
            found="; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else ""),
            expected="the same spelling wherever the same is meant",
            do="Spell each one way. If they are not the same, give them names that differ in more than blanks, case, "
            "dashes, quotes, leading zeros or decimals.",
        )


def subject_hash(subject: str, source: str | None = None) -> str:
    """16 hex digits for a subject: enough to recognise it again, without writing patient ids into a model.

    However it is spelt: another table may write 1.0 or 01 for 1.
    """
    subject, source = canonical(subject), None if source is None else canonical(source)
    if source is None:
        return sha256(f"fusion subject {subject}".encode())[:16]
    # JSON keeps ("a b", "c") and ("a", "b c") apart.
    return sha256(f"fusion subject of source {json.dumps([source, subject])}".encode())[:16]


def remembered(subject: str | None, source: str | None) -> set[str]:
    """The hashes by which a model remembers a subject it has learnt from: see ``recognises``. None for None."""
    if subject is None:
        return set()
    if source is None:
        return {subject_hash(subject)}
    return {subject_hash(subject, source), _of_any_source(subject)}


def recognises(
    known: frozenset[str] | set[str], subject: str | None, source: str | None, *, declared: bool = False
) -> bool:
    """Whether ``known``, hashes by ``remembered``, hold this subject, or one of the same id where a source is unknown.

    None is no subject, and is never recognised. ``declared``: the source is said to be what tells its subjects from
    others, and so from those of an unknown source too.
    """
    if subject is None:
        return False
    if declared and source is not None:
        return subject_hash(subject, source) in known
    if source is None:
        return bool(known & {subject_hash(subject), _of_any_source(subject)})
    return bool(known & {subject_hash(subject, source), subject_hash(subject)})


def _of_any_source(subject: str) -> str:
    return sha256(f"fusion subject of some source {canonical(subject)}".encode())[:16]
