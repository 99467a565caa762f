"""Command lines that are killed."""

from __future__ import annotations

from pathlib import Path

#: The cheapest block: what is tested here is the engine, whatever it measures.
FEATURES = ["colour"]


def words(data: Path, store: Path, *more: object) -> list[str]:
    """The command line of an extract in this process, without workers."""
    return [str(word) for word in (data, "--features", *FEATURES, "--jobs", 1, "--store", store, *more)]
