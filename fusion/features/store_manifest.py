"""Which files of a store's folder are its own: those it lists, a line each, before they are written.

A store may lie in a folder that holds other things. Shards are told by their names, which are checksums of their bytes;
whatever else may ever be deleted is listed here first.
"""

from __future__ import annotations

import os
from pathlib import Path

from fusion.io.remote_path import Remote

#: File in the store's folder. Lines are only ever added, so that any number of processes may do so at once.
MANIFEST = "manifest.txt"


def list_files(root: Path, *paths: Path) -> None:
    """Note that these files, below ``root``, are about to be written there.

    Raises
    ------
    OSError : the store cannot be written.
    """
    if isinstance(root, Remote):  # there is no adding to an object; nothing is deleted by this list there
        return
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root / MANIFEST, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        for path in paths:
            # A line end before it, too: a line that a kill has cut short does not become part of this one.
            os.write(handle, os.fsencode(f"\n{path.relative_to(root).as_posix()}\n"))
    finally:
        os.close(handle)


def listed_files(root: Path) -> set[str]:
    """Paths below ``root`` of what was ever written there, with slashes."""
    try:
        content = (root / MANIFEST).read_bytes()
    except OSError:
        return set()
    return {os.fsdecode(line) for line in content.split(b"\n") if line}
