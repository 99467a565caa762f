"""What the files of a data set are before a cell is measured: formats, colours, bits, sizes, and what masks draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fusion.data.dataset import Dataset, Fault, Sample
from fusion.images.cell import fit_mask
from fusion.images.decoding import CellError, decode_image, read_bytes
from fusion.images.file_headers import read_header

#: As many as read at once without a disk or a core more to gain from.
_THREADS = 8

#: Samples that are made at once.
_PORTION = 1024

#: Values of one kind that are named in a line.
_SHOWN = 4


@dataclass(frozen=True)
class FileSurvey:
    """Counts over the files of a data set.

    Attributes
    ----------
    formats : "BMP, RGB, 8 bits" -> number of images.
    sizes : (width, height) in pixels -> number of images.
    masks : what they draw and by which values, "cell and nucleus, 0/128/255" -> number of masks.
    several : images of which several cells are listed, a mask each, and the number of those cells.
    faults : masks that cannot be read as they are, or do not fit their images.
    """

    formats: dict[str, int]
    sizes: dict[tuple[int, int], int]
    masks: dict[str, int]
    several: tuple[int, int]
    faults: tuple[Fault, ...]

    def lines(self) -> list[str]:
        """What a person should know."""
        lines = [f"files: {_most(self.formats)}"] if self.formats else []
        if self.sizes:
            sizes = {f"{width} x {height}": count for (width, height), count in self.sizes.items()}
            lines.append(f"pixels: {_most(sizes)}{_between(self.sizes)}")
        if self.masks or self.faults:
            refused = {"refused": len(self.faults)} if self.faults else {}
            lines.append(f"masks: {_most({**self.masks, **refused})}")
        if self.several[0]:
            images, cells = self.several
            lines.append(
                f"{images} image{'s show' if images > 1 else ' shows'} {cells} cells, each with a mask of its own"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "formats": self.formats,
            "sizes": {f"{width}x{height}": count for (width, height), count in self.sizes.items()},
            "masks": self.masks,
            "several_cells": {"images": self.several[0], "cells": self.several[1]},
        }


def survey(dataset: Dataset, progress: Callable[[int, int, int], None]) -> FileSurvey:
    """Read every image's header and every mask.

    Parameters
    ----------
    progress : called with (files read, files to read, masks refused).
    """
    formats: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    masks: Counter[str] = Counter()
    faults: list[Fault] = []
    of_image = Counter(sample.path for sample in dataset.samples if sample.shares_image)
    with ThreadPoolExecutor(_THREADS) as pool:
        seen = (
            each
            for start in range(0, len(dataset), _PORTION)
            for each in pool.map(_look, dataset.samples[start : start + _PORTION])
        )
        for done, (file, mask) in enumerate(seen, 1):
            if file is not None:
                formats[file[0]] += 1
                sizes[file[1]] += 1
            if isinstance(mask, Fault):
                faults.append(mask)
            elif mask is not None:
                masks[mask] += 1
            progress(done, len(dataset), len(faults))
    return FileSurvey(
        dict(formats.most_common()),
        dict(sizes.most_common()),
        dict(masks.most_common()),
        (len(of_image), sum(of_image.values())),
        tuple(faults),
    )


def _look(sample: Sample) -> tuple[tuple[str, tuple[int, int]] | None, str | Fault | None]:
    """The kind and size of an image, None where it has gone; and what its mask draws, or why none can be measured."""
    try:
        content = read_bytes(sample.path)
    except CellError:  # gone since it was listed: whoever measures it says so
        return None, None
    header = read_header(content)
    kind = f"{header.format}, {header.colours or 'unknown colours'}, {header.bits} bit{'s' * (header.bits != 1)}"
    try:
        mask = sample.read_mask()
        if mask is not None:
            fit_mask(mask, decode_image(content))
    except CellError as error:
        reason = error.what + (f" ({error.found})" if error.found else "")
        return (kind, (header.width, header.height)), Fault(sample.path, "cell", reason)
    return (kind, (header.width, header.height)), None if mask is None else mask.kind


def _most(counts: dict[str, int]) -> str:
    """The commonest, and how many others there are."""
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:_SHOWN]]
    return "; ".join(shown) + (f"; and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")


def _between(sizes: Iterable[tuple[int, int]]) -> str:
    widths, heights = zip(*sizes, strict=True)
    if len(widths) <= _SHOWN:
        return ""
    return f"; {min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high"
