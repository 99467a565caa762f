"""Patients put together of real cells: some cells of an illness (witnesses) among the ordinary cells of everybody.

What is drawn is who has which cell, never a cell: images stay where they are. The patients are not real, and nothing
found with them is a claim about people; the cells are, so that a method that finds witnesses among drawn cells alone is
found out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.errors import UsageError, did_you_mean
from fusion.synthetic.cells import CLASSES, Subject, SyntheticDesign, draw_subjects

#: What patients without an illness are called.
HEALTHY_PATIENT = "healthy"

#: Standard deviation between patients of the logarithm of how much of each ordinary class they have, at a
#: ``subject_effect`` of 1: shares of neutrophils of healthy adults span about a factor of 2 (40 to 75%).
_SHARES_APART = 0.25

#: Streams of random numbers: who gets how many of which cells, and in which order.
_OF_CELLS, _OF_POOL = 3, 1 << 22


@dataclass(frozen=True, eq=False)
class ConstructedPatients:
    """Who has which cell.

    Attributes
    ----------
    subjects : the patients; ``label`` is the class of their witnesses, or "healthy".
    cells : intp (m,), rows of the real cells, patient by patient.
    patients : intp (m,), whose cell it is.
    """

    subjects: tuple[Subject, ...]
    cells: NDArray[np.intp]
    patients: NDArray[np.intp]


def construct_patients(
    labels: Sequence[str],
    groups: NDArray[np.intp],
    witnesses: Sequence[str],
    design: SyntheticDesign,
    *,
    normal: Sequence[str] = (),
) -> ConstructedPatients:
    """Deal real cells out to patients; the same cells and the same design make the same patients.

    No cell is of two patients, and of a group (a subject, a field, near-duplicates) no two cells are.

    Parameters
    ----------
    labels, groups : n classes, and what must stay together.
    witnesses : the classes that are an illness each; as many patients of each as healthy ones.
    design : how many patients, their cells, ``witness_rate`` and the spreads; ``subject_effect`` multiplies how much
        shares of ordinary classes vary between patients. What else it says is of painted cells.
    normal : the other classes; () for all that are no witnesses.

    Raises
    ------
    UsageError : classes that there are not, or too few cells.

    Examples
    --------
    >>> labels = ["ig"] * 40 + ["neutrophil"] * 300
    >>> design = SyntheticDesign(subjects=12, cells_per_subject=20, witness_rate=0.2)
    >>> found = construct_patients(labels, np.arange(340), ["ig"], design)
    >>> len(found.subjects), len(found.cells), len(set(found.cells.tolist()))
    (12, 240, 240)
    """
    ordinary = _ordinary(labels, witnesses, normal)
    design = replace(design, classes=1 + len(witnesses))
    names = dict(zip(CLASSES, (HEALTHY_PATIENT, *witnesses), strict=False))
    subjects = [replace(one, label=names[one.label]) for one in draw_subjects(design)]
    pool = _Pool(np.asarray(labels, object), groups, design.seed)
    cells, patients = [], []
    for at, subject in enumerate(subjects):
        rng = np.random.default_rng(np.random.SeedSequence(design.seed, spawn_key=(subject.index, 0, _OF_CELLS)))
        count = subject.cells
        mine = int(rng.binomial(count, subject.witness_rate))
        wanted = {subject.label: mine} if mine else {}
        shares = pool.shares(ordinary)
        shares = shares * np.exp(_SHARES_APART * design.subject_effect * rng.standard_normal(len(shares)))
        wanted |= dict(zip(ordinary, rng.multinomial(count - mine, shares / shares.sum()).tolist(), strict=True))
        taken = pool.take(wanted, ordinary, at)
        cells += taken
        patients += [at] * len(taken)
    return ConstructedPatients(tuple(subjects), np.array(cells, np.intp), np.array(patients, np.intp))


def _ordinary(labels: Sequence[str], witnesses: Sequence[str], normal: Sequence[str]) -> list[str]:
    """The classes of ordinary cells."""
    known = sorted(set(labels))
    if not 1 <= len(witnesses) < len(CLASSES) or len(set(witnesses)) < len(witnesses):
        raise UsageError(
            "patients of real cells need classes of witnesses",
            found=", ".join(witnesses) or "none",
            expected=f"1 to {len(CLASSES) - 1} of {', '.join(known)}",
        )
    if unknown := [name for name in (*witnesses, *normal) if name not in known]:
        raise UsageError(
            f"no cells of class '{unknown[0]}'", expected=", ".join(known), do=did_you_mean(unknown[0], known)
        )
    if both := sorted({*witnesses} & {*normal}):
        raise UsageError(f"'{both[0]}' cannot be witnesses and ordinary cells at once", do="Name it once.")
    found = sorted(normal) if normal else [name for name in known if name not in witnesses]
    if not found:
        raise UsageError("patients of real cells need ordinary cells", found=f"only {', '.join(known)}")
    return found


class _Pool:
    """The cells that patients take from, in an order of chance."""

    def __init__(self, labels: NDArray[Any], groups: NDArray[np.intp], seed: int) -> None:
        self._groups = groups
        # Groups by chance, their cells together: a patient takes whole ones, and leaves few cells that nobody may have.
        numbers, of = np.unique(groups, return_inverse=True)
        places = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_OF_POOL,))).permutation(len(numbers))
        rows = np.argsort(places[of], kind="stable")
        self._free = {name: rows[labels[rows] == name].tolist() for name in dict.fromkeys(labels[rows].tolist())}
        self._size = {name: len(own) for name, own in self._free.items()}
        self._owner: dict[int, int] = {}

    def shares(self, classes: Sequence[str]) -> NDArray[np.float64]:
        """Shares of these classes among all cells of them."""
        counts = np.array([self._size.get(name, 0) for name in classes], float)
        return counts / counts.sum()

    def take(self, wanted: Mapping[str, int], ordinary: Sequence[str], patient: int) -> list[int]:
        """Rows for one patient; of ordinary cells those of another class where one has run out."""
        taken, missing = [], 0
        for name, count in wanted.items():
            found = self._of_class(name, count, patient)
            if len(found) < count and name not in ordinary:
                raise self._too_few(name, wanted)
            missing += count - len(found)
            taken += found
        for name in ordinary:
            found = self._of_class(name, missing, patient)
            missing -= len(found)
            taken += found
        if missing:
            raise self._too_few(" or ".join(ordinary), wanted)
        return taken

    def _of_class(self, name: str, count: int, patient: int) -> list[int]:
        """At most so many free cells, none of whose group is another patient's."""
        found: list[int] = []
        left: list[int] = []
        for row in self._free.get(name, []):
            is_taken = len(found) < count and self._owner.setdefault(int(self._groups[row]), patient) == patient
            (found if is_taken else left).append(row)
        self._free[name] = left
        return found

    def _too_few(self, name: str, wanted: Mapping[str, int]) -> UsageError:
        has = ", ".join(f"{count} {label}" for label, count in sorted(self._size.items()))
        needs = ", ".join(f"{count} {label}" for label, count in sorted(wanted.items()) if count)
        return UsageError(
            f"too few cells of class {name} for these patients",
            found=f"{has}; one more patient needs {needs}",
            do="Take fewer subjects, fewer cells of each, or a lower witness rate.",
        )
