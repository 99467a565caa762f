"""Who is labelled, grouped, split and judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.subjects import Identity, format_subject, identities
from fusion.io.files import sha256

if TYPE_CHECKING:
    from fusion.data.dataset import Dataset


@dataclass(frozen=True, eq=False, kw_only=True)
class Units:
    """n cells, or n subjects of some cells each, as splits and judgement see them: without features.

    Attributes
    ----------
    names : n image names, relative to the data set.
    keys, image_keys : n content hashes, of image and mask, and of the image alone (``Sample.image_id``).
    y, subjects, folds : n values, None where unknown.
    groups : intp (n,), what must stay on one side of a split.
    subjects_known : whether any cell names its subject. A cell that does not then counts as one of its own.
    sources : n sites, scanners or batches, None where unknown; () stands for n times None.
    group_ids : n ids of what else must stay together, as the data set names it; () stands for n times None.
    share_images : for each whether the data set lists other cells of its image file; () stands for n times False.
    subject_labels : n labels of the cells' subjects, where these have labels of their own; () where they have none.
    cells : for each intp (k,), the rows of its cells in their own table, where units are subjects; () where each is a
        cell, a bag of one.

    Raises
    ------
    ValueError : parts of different lengths.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    image_keys: tuple[str, ...]
    y: tuple[str | None, ...]
    subjects: tuple[str | None, ...]
    folds: tuple[str | None, ...]
    groups: NDArray[np.intp]
    subjects_known: bool
    sources: tuple[str | None, ...] = ()
    group_ids: tuple[str | None, ...] = ()
    share_images: tuple[bool, ...] = ()
    subject_labels: tuple[str | None, ...] = ()
    cells: tuple[NDArray[np.intp], ...] = ()

    def __post_init__(self) -> None:
        for name in ("sources", "group_ids"):
            if not getattr(self, name):
                object.__setattr__(self, name, (None,) * len(self.names))
        if not self.share_images:
            object.__setattr__(self, "share_images", (False,) * len(self.names))
        parts = (
            self.names,
            self.keys,
            self.y,
            self.subjects,
            self.folds,
            self.groups,
            self.sources,
            self.group_ids,
            self.share_images,
            *([self.subject_labels] if self.subject_labels else []),
            *([self.cells] if self.cells else []),
        )
        if len(rows := {len(part) for part in parts}) != 1:
            raise ValueError(f"parts of a table of cells disagree: rows {sorted(rows)}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def unit(self) -> str:
        """What is split and resampled whole: "subject"; "group", where none but other ids are known; or "image"."""
        if self.subjects_known:
            return "subject"
        return "group" if any(name is not None for name in self.group_ids) else "image"

    @property
    def are_subjects(self) -> bool:
        """Whether units are subjects, bags of cells, and not cells."""
        return bool(self.cells)

    def of_subjects(self) -> dict[str, Any]:
        """The subjects of these cells as fields of ``Units``, in the order in which they first appear.

        A subject has the label of its cells, which is one; the source that they name; the fold that most of them are
        in, of several the first by name. Cells of an unknown subject are a subject to themselves.
        """
        numbers = self.subject_numbers
        order = np.argsort(numbers, kind="stable")
        cells = tuple(np.split(order, np.cumsum(np.bincount(numbers))[:-1])) if len(numbers) else ()
        first = [int(own[0]) for own in cells]
        names = self.subject_names

        def one(values: tuple[str | None, ...], own: NDArray[np.intp]) -> str | None:
            counts = Counter(value for at in own.tolist() if (value := values[at]) is not None)
            return min(counts, key=lambda value: (-counts[value], value)) if counts else None

        keys = tuple(sha256("\n".join(sorted(self.keys[at] for at in own.tolist())).encode()) for own in cells)
        return {
            "names": tuple(names[at] or self.names[at] for at in first),
            "keys": keys,
            "image_keys": keys,
            "y": tuple(self.y[at] for at in first),
            "subjects": tuple(self.subjects[at] for at in first),
            "folds": tuple(one(self.folds, own) for own in cells),
            "groups": self.groups[first],
            "subjects_known": self.subjects_known,
            "sources": tuple(one(self.sources, own) for own in cells),
            "group_ids": tuple(self.group_ids[at] for at in first),
            "cells": cells,
        }

    @property
    def nameless(self) -> int:
        """Cells that name neither subject nor group: each counts as one of its own."""
        return sum(one is None and other is None for one, other in zip(self.subjects, self.group_ids, strict=True))

    @property
    def cell_ids(self) -> list[str]:
        """What tells a cell from a copy of it: its image, and its mask too where the image shows other cells."""
        parts = zip(self.image_keys, self.keys, self.share_images, strict=True)
        return [f"{image}+{key}" if is_shared else image for image, key, is_shared in parts]

    @property
    def identities(self) -> list[Identity | None]:
        """What tells the subjects apart: the id, with its source where that is known; see ``fusion.data.subjects``."""
        return identities(self.subjects, self.sources)

    @property
    def subject_numbers(self) -> NDArray[np.intp]:
        """intp (n,): 0, 1, ... for each subject in the order in which they first appear; a cell of an unknown subject
        counts to its group."""
        seen: dict[object, int] = {}
        pairs = zip(self.identities, self.groups.tolist(), strict=True)
        keys = [("subject", who) if who is not None else ("group", group) for who, group in pairs]
        return np.array([seen.setdefault(key, len(seen)) for key in keys], np.intp)

    @cached_property
    def in_order(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The cells by name and key, and their groups, numbered 0, 1, ... in the order in which they appear there.

        Sums over cells and draws of groups go by it, so that they do not depend on the order in which cells are listed.
        """
        order = np.array(sorted(range(len(self)), key=lambda at: (self.names[at], self.keys[at])), np.intp)
        _, first, of = np.unique(self.groups[order], return_index=True, return_inverse=True)
        return order, np.argsort(np.argsort(first))[of].astype(np.intp)

    @property
    def subject_names(self) -> list[str | None]:
        """Every subject with its source where that tells it from another, ``7 of west``; None where unknown."""
        return [None if who is None else format_subject(who) for who in self.identities]


def units_of(dataset: Dataset) -> Units:
    """The cells of a data set, or its subjects where these are its units: enough to plan splits before anything is
    measured."""
    cells = cells_of(dataset)
    return Units(**cells.of_subjects()) if dataset.unit == "subject" else cells


def cells_of(dataset: Dataset) -> Units:
    """The cells of a data set, whatever its units."""
    samples = dataset.samples
    return Units(
        names=tuple(dataset.names),
        keys=tuple(sample.key for sample in samples),
        image_keys=tuple(dataset.image_ids()),
        y=tuple(sample.label for sample in samples),
        subjects=tuple(sample.subject for sample in samples),
        folds=tuple(sample.fold for sample in samples),
        groups=dataset.groups(),
        subjects_known=dataset.subjects_known,
        sources=tuple(sample.source for sample in samples),
        group_ids=tuple(sample.group for sample in samples),
        share_images=tuple(sample.shares_image for sample in samples),
    )
