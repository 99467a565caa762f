"""Patients of whom no image could be used: nobody judges them, and each is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fusion.data.dataset import Fault
from fusion.data.subjects import format_subject, identities

#: Patients that a note names.
_SHOWN = 5


def note_unreadable_patients(
    faults: Sequence[Fault], subjects: Iterable[str | None], sources: Iterable[str | None]
) -> list[str]:
    """A note on patients all of whose images were skipped, none where there are none.

    Parameters
    ----------
    faults : the images that were skipped.
    subjects, sources : of each of the others.
    """
    of_subject: dict[str, set[str | None]] = {}
    for subject, source in zip(subjects, sources, strict=True):
        if subject is not None:
            of_subject.setdefault(subject, set()).add(source)

    def is_there(fault: Fault) -> bool:
        sources = of_subject.get(fault.subject or "", set())
        return bool(sources) and (fault.source is None or bool(sources & {fault.source, None}))

    gone = [fault for fault in faults if fault.subject is not None and not is_there(fault)]
    who = identities([fault.subject for fault in gone], [fault.source for fault in gone])
    counts = Counter(map(format_subject, who))
    if not counts:
        return []
    named = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:_SHOWN])
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    who_else = "1 patient, who is" if len(counts) == 1 else f"{len(counts)} patients, who are"
    return [f"no image can be used of {who_else} left out (images of each): {named}{more}."]
