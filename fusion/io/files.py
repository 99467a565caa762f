"""Writing files so that a reader, or a power cut, never meets half of one."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
def replacing(path: Path, *, keeps_mode: bool = False) -> Iterator[BinaryIO]:
    """A stream whose content becomes ``path``, whole, when the block ends, and is dropped when the block raises.

    Parameters
    ----------
    keeps_mode : a file that is there keeps its permissions and, where that may be, its owner. A new one has those that
        umask leaves.

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
    make_folder(path.parent)
    handle, partial = create_partial(path.parent)
    try:
        with os.fdopen(handle, "w+b") as stream:
            yield stream
            stream.flush()
            if keeps_mode:
                _take_over(path, stream.fileno())
            # Before the rename: a power cut must not leave the new name on bytes that never reached the disk.
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def create_partial(folder: Path) -> tuple[int, Path]:
    """A new file, open for writing, under a name that nobody else takes; with the permissions that umask leaves.

    Raises
    ------
    OSError : none can be made there.
    """
    # Not by mkstemp, whose files are for their owner only whatever umask says.
    path = folder / f"{PARTIAL}{secrets.token_hex(8)}"
    # Python's own open makes it one that no other program inherits.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), path


def is_partial(name: str) -> bool:
    """Whether a file is called as ``create_partial`` calls one."""
    digits = name.removeprefix(PARTIAL)
    return digits != name and len(digits) == 16 and not set(digits) - set("0123456789abcdef")


def _take_over(path: Path, handle: int) -> None:
    """Give an open file the permissions, and where we may the owner, of the one that it is to replace."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return
    if sys.platform == "win32":
        return
    if (there.st_uid, there.st_gid) != (os.geteuid(), os.getegid()):
        with suppress(PermissionError):
            os.fchown(handle, there.st_uid, there.st_gid)
    os.fchmod(handle, stat.S_IMODE(there.st_mode))


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it that are missing, each durable before anything is put into it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
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


def shown(text: str) -> str:
    """Text of several lines as any terminal may show it: what would move the cursor or colour it is written out."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)


def printable(path: Path | str) -> str:
    """A path as text that any terminal or file takes: bytes that are not UTF-8 and line breaks are written out."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    # Almost every name is plain; a hundred thousand of them are looked at one character at a time only if not.
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
