"""The one way to write what a user has named: a file is whole or as it was, and stays what the user made it.

A new file has the permissions that umask leaves, one that is replaced keeps its own. A link stays a link: what it leads
to is replaced. A pipe or a device is written into. What the same run reads is never written over.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fusion.errors import FusionError, UsageError
from fusion.io.files import create_partial, printable, replacing
from fusion.io.remote_path import Remote
from fusion.io.run_inputs import is_input

#: Links that are followed by hand, as many as Linux follows.
_LINKS = 40

_DESCRIPTOR = re.compile(r"(?:/dev/fd|/proc/(?:self|thread-self|{pid})/fd)/(\d+)".replace("{pid}", str(os.getpid())))


def write_output(path: Path, content: bytes) -> None:
    """Write ``content`` to what the user has named ``path``.

    Raises
    ------
    OSError : the disk is full or the file cannot be written; it is as it was then.
    UsageError : it is read in this run.
    """
    with writing_output(path) as stream:
        stream.write(content)


@contextmanager
def writing_output(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content is written to ``path`` when the block ends, and dropped when the block raises.

    Raises
    ------
    OSError, UsageError : as for ``write_output``.
    """
    if isinstance(path, Remote):
        with replacing(path) as stream:
            yield stream
        return
    refuse_input(path)
    try:
        if _can_replace(path):
            with replacing(path.resolve(), keeps_mode=True) as stream:
                yield stream
        else:
            with tempfile.TemporaryFile() as whole:
                yield whole
                whole.seek(0)
                with _opened(path) as target:
                    shutil.copyfileobj(whole, target)
    except OSError as error:
        if error.errno is not None and not isinstance(error, BrokenPipeError):
            error.filename, error.filename2 = str(path), None  # and not a temporary name beside it
        raise


def refuse_input(path: Path) -> None:
    """UsageError where the run at work reads this very file."""
    if is_input(path):
        raise UsageError(
            f"{printable(path)} is read in this run, and would be written over",
            do="Choose another name for what is written.",
        )


def check_output_file(path: Path, option: str, endings: Sequence[str] = ()) -> None:
    """Refuse a file that could not be written, or whose name says another format; before hours of work.

    Parameters
    ----------
    option : by which it was named, for the message.
    endings : those that its name may have, in lower case; none where any will do. Pipes and devices need none.

    Raises
    ------
    UsageError : see above; nothing has been made or changed.
    """
    if isinstance(path, Remote):
        return
    refuse_input(path)
    if endings and path.suffix.lower() not in endings and _is_regular_or_new(path):
        raise UsageError(
            f"{option} cannot write {printable(path)}",
            found=f"a name that ends in {path.suffix}" if path.suffix else "a name without an ending",
            expected=f"a name that ends in {' or '.join(endings)}",
        )
    try:
        _try_file(path)
    except OSError as error:
        raise unwritable(path, error, option) from error


def check_output_folder(folder: Path, option: str, files: Sequence[str] = (), *, is_replaced: bool = False) -> None:
    """Refuse a folder into which nothing could be written, or where ``files`` would replace what this run reads.

    Parameters
    ----------
    is_replaced : a folder beside it takes its place in the end, as that of a model: it is beside it that one must be
        able to write, and a trial inside, struck before it is taken away, would be no part of the model.

    Raises
    ------
    UsageError : see above; nothing has been made or changed.
    """
    if isinstance(folder, Remote):
        return
    if is_input(folder):
        raise UsageError(
            f"{option} {printable(folder)} is read in this run",
            do="Choose another folder: what is written there would be taken for a part of it.",
        )
    for name in files:
        refuse_input(folder / name)
    try:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        _try_in(folder.resolve().parent if is_replaced else folder)
    except OSError as error:
        raise unwritable(folder, error, option) from error


#: Errors that no other command line would have avoided.
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EINTR)


def unwritable(path: Path, error: OSError, option: str = "") -> FusionError:
    """What to tell of a file or folder that cannot be written: wrong use, but for what the machine does."""
    kind = FusionError if error.errno in _OF_THE_MACHINE else UsageError
    return kind(
        f"{f'{option}: ' if option else ''}cannot write {printable(path)}",
        found=str(error.strerror or error).lower(),
        do="Free some space." if error.errno in (errno.ENOSPC, errno.EDQUOT) else "",
    )


def _is_regular_or_new(path: Path) -> bool:
    if _descriptor(path) is not None:
        return False
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def _can_replace(path: Path) -> bool:
    """Whether the file can be replaced by a new one; else its content is written into what is there."""
    if not _is_regular_or_new(path):
        return False
    if not path.exists():
        return True
    if not os.access(path, os.W_OK):  # write-protected, in a folder where it could be replaced all the same
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return _may_create_in(path.resolve().parent)


def _may_create_in(folder: Path) -> bool:
    try:
        _try_in(folder)
    except PermissionError:
        return False
    return True


def _try_file(path: Path) -> None:
    """OSError where the file cannot be written."""
    if _descriptor(path) is not None:
        return
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not path.exists():
        _try_in(path.resolve().parent)
    elif not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _try_in(folder: Path) -> None:
    """OSError where no file can be made in this folder, or this folder not in the one above it."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    handle, name = create_partial(there)
    os.close(handle)
    with suppress(FileNotFoundError):
        name.unlink()


def _opened(path: Path) -> BinaryIO:
    number = _descriptor(path)
    # Opening /dev/stdout would begin at the start of the file that it leads to, and cut off what is there.
    return os.fdopen(os.dup(number), "wb") if number is not None else path.open("wb")


def _descriptor(path: Path) -> int | None:
    """The number behind /dev/stdout, /dev/fd/3 and whatever links to them; None for other paths."""
    here = path.absolute()
    for _ in range(_LINKS):
        if found := _DESCRIPTOR.fullmatch(os.path.normpath(here)):
            return int(found[1])
        try:
            here = here.parent / here.readlink()
        except OSError:
            return None
    return None
