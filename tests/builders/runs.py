"""Command lines that are killed."""

from __future__ import annotations

from pathlib import Path

#: The cheapest block: what is tested here is the engine, whatever it measures.
FEATURES = ["colour"]


def words(data: Path, store: Path, *more: object) -> list[str]:
    """The command line of an extract in this process, without workers."""
    return [str(word) for word in ("extract", data, "--features", *FEATURES, "--jobs", 1, "--store", store, *more)]


def words_of_learning(command: str, data: Path, store: Path, output: Path, *more: object) -> list[str]:
    """The command line of a train or an ablate in this process, of what is fitted soonest."""
    of_command = {
        "train": ("--classifier", "logreg", "--force"),
        "ablate": ("--classifiers", "logreg,svm", "--repeats", 2, "--force"),
    }[command]
    given = (command, data, "--features", *FEATURES, "--splits", 2, "--jobs", 1, "--store", store, "-o", output)
    return [str(word) for word in (*given, *of_command, *more)]
