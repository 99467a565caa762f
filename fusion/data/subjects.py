"""Who a subject is: an id means nothing without the source that gave it.

Two sites both have a patient 7. A subject therefore is its source and its id together. Where the source is
unknown, the id could be anyone's: such a subject counts as the same as every subject of that id, whatever its source,
since a split that is stricter than need be costs a few cells, and a leak costs the result.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence

from fusion.io.files import sha256

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


def subject_hash(subject: str, source: str | None = None) -> str:
    """16 hex digits for a subject: enough to recognise it again, without writing patient ids into a model."""
    if source is None:
        return sha256(f"fusion subject {subject}".encode())[:16]
    # JSON keeps ("a b", "c") and ("a", "b c") apart.
    return sha256(f"fusion subject of source {json.dumps([source, subject])}".encode())[:16]


def remembered(subject: str, source: str | None) -> set[str]:
    """The hashes by which a model remembers a subject it has learnt from: see ``recognises``."""
    if source is None:
        return {subject_hash(subject)}
    return {subject_hash(subject, source), _of_any_source(subject)}


def recognises(known: frozenset[str] | set[str], subject: str | None, source: str | None) -> bool:
    """Whether ``known``, hashes by ``remembered``, hold this subject, or one of the same id where a source is unknown.

    None is no subject, and is never recognised.
    """
    if subject is None:
        return False
    if source is None:
        return bool(known & {subject_hash(subject), _of_any_source(subject)})
    return bool(known & {subject_hash(subject, source), subject_hash(subject)})


def _of_any_source(subject: str) -> str:
    return sha256(f"fusion subject of some source {subject}".encode())[:16]
