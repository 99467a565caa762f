"""The register of public data sets: what each is, what is known to be wrong with it, and knowing it again.

A data set is known by what the user says (``dataset: pbc``), by the content of its images where their hashes are at
hand, or by its layout and the names of its files, which is a likelihood and said as such.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import yaml

from fusion.data.dataset import Dataset
from fusion.errors import UsageError, did_you_mean
from fusion.synthetic.cells import TRUTH_FILE

#: Share of the files that must be called as a data set's are; and images, to be taken for one by content.
_NAMED, _KNOWN = 0.9, 3

#: Images below which names say too little.
_FEW = 5


@dataclass(frozen=True)
class Card:
    """What is known of a public data set.

    Attributes
    ----------
    name : in the register.
    title, where, licence, cite : what it is, where to get it, on which terms, and whom to cite.
    layout : how it lies there, and how Fusion reads it.
    classes, cells, subjects, masks : what is in it, in words.
    traps : what is known to mislead, one sentence each.
    names : pattern of its files' names; "" where they tell nothing. Where it has a group ``code``, of the class, names
        of several classes must be there: one laboratory's LY_0001.jpg is not another's.
    labels : what labels must be among, where they are known, for names that others' files have too.
    layouts : layouts of ``Dataset`` that are this data set's alone.
    unverified : facts above that were not read at their source.
    """

    name: str
    title: str
    where: str
    licence: str
    cite: str
    layout: str
    classes: str
    cells: str
    subjects: str
    masks: str
    traps: tuple[str, ...]
    names: str = ""
    labels: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        shown = {key: value for key, value in vars(self).items() if key not in ("names", "labels", "layouts")}
        return {**shown, "traps": list(self.traps), "unverified": list(self.unverified)}


@dataclass(frozen=True)
class Recognition:
    """A public data set that some images are of.

    Attributes
    ----------
    card : which.
    by : "declared", "content" or "names".
    images : how many of the images.
    """

    card: Card
    by: str
    images: int

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        how = {
            "declared": "as declared",
            "content": f"{self.images} images have its content",
            "names": f"likely, {self.images} files are called as its are",
        }
        return f"{self.card.title}: {how[self.by]}; fusion datasets {self.card.name}"


@functools.cache
def cards() -> Mapping[str, Card]:
    """The register: name -> card."""
    text = resources.files("fusion.data.registers").joinpath("datasets.yaml").read_text(encoding="utf-8")
    stated: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return {name: Card(name, **_plain(values)) for name, values in stated.items()}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else str(value) for key, value in values.items()}


def card(name: str) -> Card:
    """A card by name; UsageError for a name that is not in the register."""
    known = cards()
    if name not in known:
        raise UsageError(
            f"no data set '{name}' in the register", expected=", ".join(known), do=did_you_mean(name, known)
        )
    return known[name]


def recognise(dataset: Dataset) -> list[Recognition]:
    """The public data sets that a data set is, or has images of: as declared, by content, or else by names."""
    found: dict[str, Recognition] = {}
    if dataset.declared is not None:
        found[dataset.declared] = Recognition(card(dataset.declared), "declared", len(dataset))
    for name, count in _by_content(dataset).items():
        found.setdefault(name, Recognition(cards()[name], "content", count))
    if not found:
        for name, count in _by_names(dataset).items():
            found.setdefault(name, Recognition(cards()[name], "names", count))
    return list(found.values())


@functools.cache
def _known_images() -> Mapping[str, frozenset[int]]:
    """Name -> the first 64 bits of the BLAKE3 of files, as published, that were at hand."""
    path = resources.files("fusion.data.registers").joinpath("known_images.npz")
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        return {name: frozenset(stored[name].tolist()) for name in stored.files}


def _by_content(dataset: Dataset) -> dict[str, int]:
    keys = [int(key[:16], 16) for key in dataset.each("image_key")]
    counts = {name: sum(key in images for key in keys) for name, images in _known_images().items()}
    return {name: count for name, count in counts.items() if count >= min(_KNOWN, max(1, len(keys)))}


def _by_names(dataset: Dataset) -> dict[str, int]:
    if (dataset.root / TRUTH_FILE).exists():  # cells that fusion synthesize painted are called as C-NMC's are
        return {}
    names = [path.name for path in dataset.each("path")]
    found = {}
    labels = {label.lower() for label in dataset.each("label") if label is not None}
    for name, each in cards().items():
        if len(names) < _FEW or not (each.names and (not each.layouts or dataset.layout in each.layouts)):
            continue
        pattern = re.compile(each.names)
        fits = [fit for fit in map(pattern.fullmatch, names) if fit]
        is_of_one_class = "code" in pattern.groupindex and len({fit["code"] for fit in fits}) < 2
        is_labelled_so = not each.labels or labels <= set(each.labels)
        if len(fits) >= _NAMED * len(names) and not is_of_one_class and is_labelled_so:
            found[name] = len(fits)
    # Of two patterns that both fit, the narrower says more.
    return dict(list(found.items())[-1:]) if len(found) > 1 else found
