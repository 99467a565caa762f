"""Classes by other names: what one laboratory calls SNE and BNE, another calls neutrophil."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fusion.data.dataset import Dataset, as_columns
from fusion.errors import UsageError, did_you_mean

#: Letters by which a name is taken for the beginning of another, when the user is asked: LY, NEU.
_BEGINNING = 2


def rename_classes(dataset: Dataset, names: Mapping[str, Sequence[str]], *, is_lenient: bool = False) -> Dataset:
    """The data set with its classes, of cells and of subjects, under other names; several may become one.

    Parameters
    ----------
    names : by new name, the data set's own.
    is_lenient : whether a name may be missing from the data set.

    Raises
    ------
    UsageError : a class is to have two names, or does not occur.

    Examples
    --------
    >>> rename_classes(load_dataset("cells"), {"neutrophil": ["SNE", "BNE"]}).classes  # doctest: +SKIP
    """
    if not names:
        return dataset
    new = {own: name for name, each in names.items() for own in each}
    if twice := [
        own for own, count in Counter(own for each in names.values() for own in set(each)).items() if count > 1
    ]:
        raise UsageError("--class-names gives a class two names", found=twice[0], do="Give it one.")
    known = {*dataset.classes, *(label for label in dataset.each("subject_label") if label is not None)}
    if not is_lenient and (missing := sorted(set(new) - known)):
        raise UsageError(
            "--class-names names what the data set does not have",
            found=", ".join(missing),
            expected=", ".join(sorted(known)) or "no class is known",
            do=did_you_mean(missing[0], sorted(known)),
        )
    fields = ("label", "subject_label", "cell_label")
    renamed = (
        replace(sample, **{name: new.get(own, own) for name in fields if (own := getattr(sample, name)) is not None})
        for sample in dataset.samples
    )
    told = [f"{own} is called {name}" for own, name in new.items() if own in known and own != name]
    notes = (*dataset.notes, f"Classes by other names: {'; '.join(told)}.") if told else dataset.notes
    return replace(dataset, samples=as_columns(renamed), notes=notes)


def check_known_classes(dataset: Dataset, known: Sequence[str]) -> None:
    """Refuse labels that a model was not trained on, with what can be done about these.

    Raises
    ------
    UsageError : there are some.
    """
    unknown = sorted(set(dataset.classes) - set(known))
    if not unknown:
        return
    meant: dict[str, list[str]] = {}
    for label in unknown:
        alike = [name for name in known if _begins(name, label)]
        if len(alike) == 1:
            meant.setdefault(alike[0], []).append(label)
    remedies = []
    if meant:
        pairs = ",".join(f"{name}={','.join(labels)}" for name, labels in meant.items())
        remedies.append(f"If these are the same classes by other names, say so: --class-names {pairs}.")
    else:
        remedies.append("Say which of the model's classes they are with --class-names OURS=THEIRS.")
    if shared := [label for label in dataset.classes if label in known]:
        remedies.append(f"Leave others out with --classes {','.join(shared)}.")
    raise UsageError(
        "labels that the model was not trained on",
        found=", ".join(unknown),
        expected=", ".join(known),
        do=" ".join(remedies),
    )


def _begins(one: str, other: str) -> bool:
    """Whether either name is the beginning of the other, or the same but for case and what is no letter or digit."""
    short, long = sorted(("".join(filter(str.isalnum, name.casefold())) for name in (one, other)), key=len)
    return long == short or (len(short) >= _BEGINNING and long.startswith(short))
