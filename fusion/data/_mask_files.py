"""Masks that lie among the images of a folder: beside them by name, or in a folder beside theirs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fusion.data._dataset_error import DatasetError
from fusion.io.files import printable

_WORDS = frozenset(
    [
        "mask",
        "masks",
        "seg",
        "segm",
        "segmentation",
        "segmentations",
        "gt",
        "groundtruth",
        "annotation",
        "annotations",
        "label",
        "labels",
        "segmentationclass",
        "segmentationobject",
        "roi",
        "contour",
        "maske",
        "masken",
        "masque",
        "mascara",
        "maschera",
        "маска",
    ]
)
#: Words that mean a mask even where no image of its name lies beside it.
_CERTAIN = frozenset(["mask", "masks", "maske", "masken", "masque", "mascara", "maschera", "маска"])
#: Folders that others hold the masks of; a class of segmented neutrophils may be called "seg".
_OF_IMAGES = frozenset(
    ["images", "image", "img", "imgs", "raw", "original", "originals", "pictures", "photos", "jpegimages"]
)
#: A quick look, before names are taken apart.
_MAY_BE = re.compile("mas[kqc]|маска|seg|gt|truth|annot|label|roi|contour", re.IGNORECASE)
_BETWEEN = re.compile(r"[ _.\-]+")


@dataclass
class Masks:
    """Names of masks.

    Attributes
    ----------
    of : image -> its masks.
    orphans : what is called a mask, but of no image that is there.
    """

    of: dict[str, list[str]] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """All masks."""
        return {*self.orphans, *(mask for masks in self.of.values() for mask in masks)}


def find_masks(root: Path, names: Sequence[str]) -> Masks:
    """The masks among these files below ``root``, by their names and folders alone."""
    start = len(os.fspath(root)) + 1
    found = Masks()
    suspects = [name for name in names if _MAY_BE.search(name, start)]
    if not suspects:
        return found
    images: dict[tuple[str, ...], str] = {}
    for name in names:
        *folders, stem = _parts(name[start:])
        images.setdefault((*folders, stem), name)
    by_stem: dict[str, list[tuple[str, ...]]] = {}
    for key in images:
        by_stem.setdefault(key[-1], []).append(key)
    partners = {name: _partner(_parts(name[start:]), images, by_stem) for name in suspects}
    for name, image in partners.items():
        *folders, stem = _parts(name[start:])
        if image is not None and partners.get(image) is None and image != name:
            found.of.setdefault(image, []).append(name)
        elif any(not _CERTAIN.isdisjoint(_BETWEEN.split(part)) for part in (*folders, stem)):
            found.orphans.append(name)
    return found


def _parts(name: str) -> list[str]:
    *folders, file = name.lower().split(os.sep)  # noqa: PTH206
    return [*folders, os.path.splitext(file)[0]]  # noqa: PTH122  # a million names are looked at


def _partner(
    parts: Sequence[str], images: dict[tuple[str, ...], str], by_stem: dict[str, list[tuple[str, ...]]]
) -> str | None:
    """The image that a file is the mask of, None where there is none."""
    *folders, stem = parts
    for base in _bases(stem):
        if image := images.get((*folders, base)):
            return image
    for at, folder in enumerate(folders):
        words = _BETWEEN.split(folder)
        if _WORDS.isdisjoint({*words, "".join(words)}):
            continue
        for base in (stem, *_bases(stem)):
            if image := images.get((*folders[:at], *folders[at + 1 :], base)):
                return image
            namesakes = by_stem.get(base, ())
            beside = [
                key
                for key in namesakes
                if len(key) == len(parts)
                and key[at] != folder
                and [*key[:at], *key[at + 1 : -1]] == [*folders[:at], *folders[at + 1 :]]
            ]
            found = [key for key in beside if key[at] in _OF_IMAGES]
            if not found and not _CERTAIN.isdisjoint(words):
                found = beside or _below(folders[:at], folder, namesakes)
            if len(found) == 1:  # of several it is not known which
                return images[found[0]]
    return None


def _below(above: Sequence[str], folder: str, keys: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Those below the folder that holds a folder of masks, and not in that one: all/1.png beside masks/1.png."""
    depth = len(above)
    return [key for key in keys if [*key[:depth]] == [*above] and len(key) > depth + 1 and key[depth] != folder]


def _bases(stem: str) -> Iterator[str]:
    """What an image may be called whose mask is called so: ``c0`` for ``c0_mask``, ``mask-c0``, ``c0_cell_mask_1``."""
    marks = list(_BETWEEN.finditer(stem))
    words = _BETWEEN.split(stem)
    for count, mark in enumerate(reversed(marks), 1):
        if count > 3:
            break
        if not _WORDS.isdisjoint({*words[-count:], "".join(words[-count:])}):
            yield stem[: mark.start()]
    if len(words) > 1 and words[0] in _WORDS:
        yield stem[marks[0].end() :]
    if stem.endswith("mask") and stem[-5:-4].isalnum():  # c0mask, of c0
        yield stem.removesuffix("mask")


def refuse_unsaid(root: Path, masks: Masks, table: Path | None) -> None:
    """DatasetError that names masks among the images, of which nobody has said what to do with them."""
    start = len(os.fspath(root)) + 1
    pair = next(iter(masks.of.items()), None)
    example = f"{pair[1][0][start:]} beside {pair[0][start:]}" if pair else masks.orphans[0][start:]
    begin = "Say" if table is None else f"{table} lists images too: give it as DATA. Or say"
    raise DatasetError(
        f"{len(masks.names)} files of {root} are called like masks",
        found=printable(example),
        expected="images of cells; masks in a table's column 'mask'",
        do=f"{begin} --set masks=use (each is the mask of the image of its name), ignore (they are left out), or cells "
        "(they are images like the others).",
    )


def pair_masks(root: Path, masks: Masks) -> dict[str, str]:
    """Image -> its mask.

    Raises
    ------
    DatasetError : an image with two of them, or no mask of any image.
    """
    start = len(os.fspath(root)) + 1
    if not masks.of:
        raise DatasetError(
            f"no file of {root} is called like the mask of an image that is there",
            found=f"{len(masks.orphans)} that are called like masks, such as {printable(masks.orphans[0][start:])}",
            do="List images and masks in a table, or leave the masks out: --set masks=ignore.",
        )
    for image, several in masks.of.items():
        if len(several) > 1:
            raise DatasetError(
                f"{len(several)} masks of one image in {root}",
                found=f"{', '.join(printable(name[start:]) for name in several[:3])} of {printable(image[start:])}",
                do="List images and masks in a table, a row a cell.",
            )
    return {image: several[0] for image, several in masks.of.items()}
