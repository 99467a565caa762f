"""What features are free of, as ``extractors.tags`` has measured it and ``tags.csv`` holds it."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from importlib.resources import files

#: What a feature can be free of.
TAGS = ("scale_free", "stain_free", "rotation_free")


@functools.cache
def tags_of(family: str) -> Mapping[str, frozenset[str]]:
    """Feature -> its tags, for the family's default parameters; other features have none."""
    text = files("extractors").joinpath("tags.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["family"] == family]
    return {row["feature"]: frozenset(tag for tag in TAGS if row[tag] == "1") for row in rows}
