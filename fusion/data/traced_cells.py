"""In which files the cells of a store were last seen, by what is remembered of files."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from fusion.data._file_index import FileIndex
from fusion.data.dataset import Sample, content_key
from fusion.io.remote_path import as_path

#: Pairs of image and mask that are tried for each folder or table: a million hashes take a second.
_MOST_PAIRS = 2_000_000


def trace_cells(store_root: Path, keys: Collection[str]) -> dict[str, Sample]:
    """Content key -> a sample of it, for keys whose image, and mask where they have one, are remembered somewhere.

    Which mask belongs to which image is not remembered: pairs of one data set are tried. Keys of cells that were
    adjusted, or whose mask's values a user has explained, are not found.
    """
    found: dict[str, Sample] = {}
    for path in sorted((store_root / "index").glob("*.arrow")):
        files = list(FileIndex(path).remembered())
        wanted = set(keys) - set(found)
        for name, image, _ in files:
            if image in wanted:
                found[image] = Sample(_path(name), image, image)
        wanted -= set(found)
        masks = {digest: name for name, digest, pixels in files if not pixels}
        images = {digest: name for name, digest, _ in files}
        if not wanted or len(masks) * len(images) > _MOST_PAIRS:
            continue
        for mask, mask_name in masks.items():
            for image, name in images.items():
                key = content_key(image, mask)
                if key in wanted:
                    found[key] = Sample(_path(name), key, image, mask_path=_path(mask_name))
    return found


def _path(name: bytes) -> Path:
    return as_path(os.fsdecode(name))
