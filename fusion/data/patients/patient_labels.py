"""Patient labels: a data set whose units are subjects, each a bag of cells with one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fusion.data._dataset_error import DatasetError
from fusion.data.dataset import Dataset, Sample, as_columns, nameless_notes
from fusion.data.subjects import Identity, format_subject, identities
from fusion.data.table_files import TABLES, read_header
from fusion.errors import UsageError
from fusion.io.remote_path import as_path
from fusion.settings.commands import LearnConfig
from fusion.settings.data import Unit

#: What makes the subjects of cells known.
HOW_TO_NAME_SUBJECTS = (
    "Give a table with a column 'subject' (or name it: --columns subject=NAME), or a folder in which each subject has "
    "one of its own: --folders subject, or label/subject."
)
#: Subjects that a message names.
_SHOWN = 3


#: Whether the classes are those of folders -> what to do about a subject of two.
_HOW_TO_PART = {
    False: "Give the table a column 'subject_label', or learn from cells: --unit cell.",
    True: "If they are two people, give each an id of its own; if they are one, say its class in a table of patients "
    "(--patients), or learn from cells: --unit cell.",
}


def unit_of(config: LearnConfig) -> Unit:
    """What a command learns and judges: as asked, else subjects where a table has their labels and nobody those of
    cells."""
    if config.unit is not None:
        return config.unit
    of_patients = config.patients is not None and config.patient_columns.get("label", "label") in _header(
        config.patients
    )
    file = as_path(config.data)
    if file.suffix.lower() not in TABLES or not file.is_file():
        # Folders that are subjects alone say nothing of cells.
        return "subject" if of_patients and "label" not in (config.folders or "label") else "cell"
    header = _header(file)
    has = {role: config.columns.get(role, role) in header for role in ("label", "subject_label")}
    return "subject" if (has["subject_label"] or of_patients) and not has["label"] else "cell"


def _header(file: Path) -> Sequence[str]:
    """Names of the columns of a table, none where it is not there: who reads it says so."""
    if not file.is_file():
        return ()
    if file.suffix.lower() != ".parquet":
        return read_header(file)
    import pyarrow.parquet as pq

    with file.open("rb") as stream:
        return list(pq.read_schema(stream).names)


def label_by_subject(dataset: Dataset, *, needs_labels: bool = True) -> Dataset:
    """The same cells, each labelled by the class of its subject; what it is itself becomes its ``cell_label``.

    The class is ``subject_label`` where the table has it, else that of the subject's cells. Cells without a subject are
    left out with a note, and so are subjects without a class where these are needed.

    Raises
    ------
    UsageError : no cell names a subject, or a subject of two classes.
    """
    if not dataset.subjects_known:
        raise UsageError(
            "--unit subject needs to know whose the cells are",
            found=f"{len(dataset)} cells, and no subject of any",
            do=HOW_TO_NAME_SUBJECTS,
        )
    has_own = any(label is not None for label in dataset.each("subject_label"))
    who = identities(list(dataset.each("subject")), list(dataset.each("source")))
    labels = list(dataset.each("subject_label" if has_own else "label"))
    classes: dict[Identity, Counter[str]] = {}
    for subject, label in zip(who, labels, strict=True):
        if subject is not None:
            classes.setdefault(subject, Counter()).update([label] if label is not None else [])
    _check_one_class(classes, dataset, has_own=has_own)
    known = {subject: next(iter(found)) for subject, found in classes.items() if found}

    def labelled() -> Iterator[Sample]:
        for sample, subject in zip(dataset.samples, who, strict=True):
            if subject in known or (subject is not None and not needs_labels):
                own = sample.label if has_own else None
                yield replace(sample, label=known.get(subject), cell_label=own)

    # Of cells that count as subjects of their own here nothing is left.
    told = nameless_notes(dataset.each("subject"), dataset.each("group"))
    notes = [note for note in dataset.notes if note not in told]
    if nameless := sum(subject is None for subject in who):
        notes.append(f"{nameless} of {len(dataset)} cells name no subject, and are no patient's: they are left out.")
    if needs_labels and (unknown := [subject for subject, found in classes.items() if not found]):
        notes.append(f"{len(unknown)} subjects without a label are left out, such as {format_subject(unknown[0])}.")
    if has_own:
        notes += _note_other_classes(known, who, dataset)
    return replace(dataset, samples=as_columns(labelled()), notes=tuple(notes), unit="subject")


def _note_other_classes(known: Mapping[Identity, str], who: Sequence[Identity | None], dataset: Dataset) -> list[str]:
    """A note where cells are labelled by their patient's class, and of another one than ``subject_label`` tells."""
    own: dict[Identity, set[str]] = {}
    for subject, label in zip(who, dataset.each("label"), strict=True):
        if subject is not None and subject in known and label is not None:
            own.setdefault(subject, set()).add(label)
    of_patients = all(len(labels) == 1 for labels in own.values())
    if not own or not of_patients or not set().union(*own.values()) <= set(known.values()):
        return []
    differ = [f"{format_subject(who)} ({label}, {known[who]})" for who, (label,) in own.items() if label != known[who]]
    if not differ:
        return []
    more = f" and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
    return [
        f"{len(differ)} subjects have another class by their cells' labels than by 'subject_label', which counts: "
        f"{', '.join(differ[:_SHOWN])}{more}."
    ]


def _check_one_class(classes: dict[Identity, Counter[str]], dataset: Dataset, *, has_own: bool) -> None:
    if not (torn := [(subject, found) for subject, found in classes.items() if len(found) > 1]):
        return
    counts = [" and ".join(f"{count} of {label!r}" for label, count in sorted(found.items())) for _, found in torn]
    named = [f"subject {format_subject(subject)} with {each}" for (subject, _), each in zip(torn, counts, strict=True)]
    more = f"; and {len(torn) - _SHOWN} more" if len(torn) > _SHOWN else ""
    where = "the class folders" if dataset.layout == "class folders" else "column 'label'"
    where = "column 'subject_label'" if has_own else where
    raise DatasetError(
        f"{dataset.place} has subjects of several classes",
        found=f"{'; '.join(named[:_SHOWN])} cells in {where}{more}",
        expected="one class a subject",
        do="Mend the column." if has_own else _HOW_TO_PART[dataset.layout == "class folders"],
    )
