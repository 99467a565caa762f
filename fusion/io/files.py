"""Writing files so that a reader, or a power cut, never meets half of one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fusion.io.remote_path import Remote

#: How a file is called until it is whole. Whoever lists a folder leaves these alone; what a kill left behind is
#: swept away by ``fusion cache gc``.
PARTIAL = ".partial-"


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` whole or not at all: temporary name, fsync, rename, fsync of the folder.

    Raises
    ------
    OSError : the disk is full or the folder cannot be written; nothing is left behind.
    """
    if isinstance(path, Remote):
        path.write_bytes(content)
        return
    with replacing(path) as stream:
        stream.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content becomes ``path``, whole, when the block ends, and is dropped when the block raises.

    Raises
    ------
    OSError : as for ``write_atomically``.
    """
    if isinstance(path, Remote):
        with tempfile.TemporaryFile() as kept:
            yield kept
            kept.seek(0)
            path.write_bytes(kept.read())
        return
    _make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=PARTIAL)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            # Before the rename: a power cut must not leave the new name on bytes that never reached the disk.
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)  # mkstemp makes files for the owner only; a store may be shared
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it that are missing, each durable before anything is put into it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable. Windows has no handle on folders, and needs none."""
    if os.name != "nt":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256(content: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """64 hex digits of the file's content, read piece by piece."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checksum(content: bytes) -> str:
    """32 hex digits that tell damage, ten times as fast as ``sha256``; an enemy could make two contents alike.

    XXH3 in 128 bits: Collet, github.com/Cyan4973/xxHash.
    """
    import xxhash

    return str(xxhash.xxh3_128_hexdigest(content))


def file_checksum(path: Path) -> str:
    """``checksum`` of the file's content, read piece by piece."""
    import xxhash

    found = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as stream:
        piece = memoryview(bytearray(1 << 18))  # stays in the processor's cache between reading and summing
        while count := stream.readinto(piece):
            found.update(piece[:count])
    return str(found.hexdigest())


def printable(path: Path | str) -> str:
    """A path as text that any terminal or file takes: bytes that are not UTF-8 and line breaks are written out."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    # Almost every name is plain; a hundred thousand of them are looked at one character at a time only if not.
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
