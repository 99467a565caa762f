"""What a run reads, so that it is never written over by the same run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from fusion.io.remote_path import Remote


class _Inputs:
    """Files and folders of one run: what they are is looked up when a file that exists is about to be replaced."""

    def __init__(self) -> None:
        self.listed: list[Callable[[], Iterable[Path | str | None]]] = []
        self._known: set[tuple[int, int]] = set()

    def hold(self, identity: tuple[int, int]) -> bool:
        """Whether this (device, inode) is one of them."""
        waiting, self.listed = self.listed, []
        for paths in waiting:
            self._known.update(found for path in paths() if (found := file_identity(path)) is not None)
        return identity in self._known


_run: ContextVar[_Inputs | None] = ContextVar("inputs of the run", default=None)


@contextmanager
def one_run() -> Iterator[None]:
    """A context whose inputs are protected until it ends; one within another is part of it."""
    if _run.get() is not None:
        yield
        return
    token = _run.set(_Inputs())
    try:
        yield
    finally:
        _run.reset(token)


def protect(paths: Iterable[Path | str | None]) -> None:
    """Files and folders that the run at work reads; nothing where none is at work."""
    kept = list(paths)
    protect_later(lambda: kept)


def protect_later(paths: Callable[[], Iterable[Path | str | None]]) -> None:
    """``protect`` for so many that they are listed only when something of that name is about to be replaced."""
    run = _run.get()
    if run is not None:
        run.listed.append(paths)


def is_input(path: Path | str) -> bool:
    """Whether the run at work reads this very file or folder, by whatever name."""
    run, identity = _run.get(), file_identity(path)
    return run is not None and identity is not None and run.hold(identity)


def file_identity(path: Any) -> tuple[int, int] | None:
    """(device, inode) of what the path leads to; None where that is nothing, or nothing on this machine."""
    if path is None or isinstance(path, Remote):
        return None
    try:
        status = os.stat(path)  # noqa: PTH116  # a Path costs ten times as much
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
