"""Folders and files that are not on this machine: ``s3://bucket/cells`` and the like, by fsspec.

A ``Remote`` is a path like any other: it has a name, a parent and a suffix, and is joined by ``/``. Only what reads,
lists or writes goes to the object store, and only what is defined here does. Local paths never come here, and fsspec is
not imported for them.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from fusion.errors import FusionError, UsageError

if TYPE_CHECKING:
    _Path = Path
else:
    _Path = type(Path())

Answer = TypeVar("Answer")

#: Protocol -> our extra that brings it. Others work too where fsspec finds them installed.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}

#: Two letters and more: one letter is a drive of Windows.
_URL = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+)://")
_COLLAPSED = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/")

#: Folders of this machine as fsspec offers them, as if they were elsewhere: they begin at the root.
_ROOTED = "local:"

#: Requests under way at once where there are many; what they wait for is the network.
THREADS = 16

#: What tells one version of an object from another, of all that the stores say in a listing.
_VERSION = ("ETag", "etag", "md5Hash", "generation", "LastModified", "mtime", "updated", "created")
_CHANGED = ("LastModified", "mtime", "updated", "created")


class RemotePathError(FusionError):
    """The place cannot be reached, or does not let us in."""


def is_url(where: Path | str) -> bool:
    """Whether this names a place elsewhere; ``file://`` is one of this machine."""
    match = _URL.match(os.fspath(where))
    return match is not None and match["protocol"].lower() != "file"


def as_path(where: Path | str) -> Path:
    """A ``Remote`` for a URL, and a plain path for all else, ``file:///folder`` among it."""
    if not isinstance(where, str | os.PathLike):
        raise UsageError(
            "a path is a text or a Path",
            found=f"a {type(where).__name__}",
            do="Of a DataFrame: fusion.inspect, extract, train, ablate and predict take it as data.",
        )
    text = os.fspath(where)
    if "://" not in text or _URL.match(text) is None:
        return where if isinstance(where, Path) else Path(text)
    if text[:7].lower() == "file://":
        return Path(text[7:])
    return where if isinstance(where, Remote) else Remote(text)


def join(folder: Path, name: str) -> Path:
    """``name`` as a table in ``folder`` means it: a URL, an absolute path of this machine, or inside the folder."""
    if "://" in name or Path(name).is_absolute():
        return as_path(name)
    return folder / name


class Remote(_Path):
    """A file or folder in an object store. Made by ``place``; all that is derived from one is one too.

    Reading and writing raise OSError, as for any path, whatever the library underneath raises. Asking what is there
    raises RemotePathError where no answer can be had: that concerns the whole run, and not one image.
    """

    __slots__ = ()

    def __str__(self) -> str:
        # pathlib makes one slash of two, and of three.
        text = super().__str__().replace(os.sep, "/")
        return _COLLAPSED.sub(r"\1:///" if text.startswith(_ROOTED) else r"\1://", text, count=1)

    def as_posix(self) -> str:
        """The URL."""
        return str(self)

    @property
    def protocol(self) -> str:
        """``s3`` of ``s3://bucket``."""
        match = _URL.match(str(self))
        return match["protocol"].lower() if match else ""

    def absolute(self) -> Remote:
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> Remote:
        """Itself."""
        return self

    def exists(self, **_: Any) -> bool:
        """Whether there is anything of this name, or below it."""
        return self._kind() is not None

    def is_file(self, **_: Any) -> bool:
        """Whether this is an object."""
        return self._kind() == "file"

    def is_dir(self, **_: Any) -> bool:
        """Whether there is anything below it: object stores have no folders of their own."""
        return self._kind() == "directory"

    def read_bytes(self) -> bytes:
        """The object's content, by one request."""
        return bytes(_ask(self, lambda store: store.cat_file(str(self))))

    def head(self, count: int) -> bytes:
        """At most so many of its first bytes; none where it has none, which some stores refuse to be asked for."""
        try:
            return bytes(_ask(self, lambda store: store.cat_file(str(self), start=0, end=count)))
        except OSError:
            return b""

    def open(self, *_: Any, **__: Any) -> IO[Any]:  # type: ignore[override]
        """The object's content as a binary stream, all of it in memory."""
        return io.BytesIO(self.read_bytes())

    def write_bytes(self, data: Any) -> int:
        """Put the object, whole: object stores show it when the last byte has arrived, or not at all."""
        _ask(self, lambda store: store.pipe_file(str(self), bytes(data)))
        return len(data)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object."""
        try:
            _ask(self, lambda store: store.rm_file(str(self)))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def replace(self, target: Any) -> Any:
        """Copy the object, then delete it: object stores cannot rename."""
        _ask(self, lambda store: store.cp_file(str(self), str(target)))
        self.unlink()
        return target

    def glob(self, pattern: str, **_: Any) -> Iterator[Path]:  # type: ignore[override]
        """What lies here and fits, one level for each part of the pattern; nothing where there is no such folder."""
        first, _slash, rest = pattern.partition("/")
        for child, info in self.listing().items():
            if fnmatchcase(child.name, first):
                if not rest:
                    yield child
                elif info["type"] == "directory":
                    yield from child.glob(rest)

    def listing(self) -> dict[Remote, dict[str, Any]]:
        """What lies right here: path -> what the store says of it; one request for every thousand names."""
        if not self.name or not _URL.match(str(self)):  # above the buckets
            return {}
        try:
            found = _ask_or_explain(self, lambda store: store.ls(str(self), detail=True))
        except FileNotFoundError:
            return {}
        inside = ((self._named(info["name"]), info) for info in found)
        # A marker that some programs put where they would have a folder is listed as a file of the folder's own name.
        return {path: info for path, info in inside if path != self}

    def names_below(self) -> list[str]:
        """URL of every object at any depth below; none where there is nothing."""
        try:
            found = _ask_or_explain(self, lambda store: store.find(str(self)))
        except FileNotFoundError:
            return []
        return [str(self._named(name)) for name in found if not name.endswith("/")]

    def remove_tree(self) -> None:
        """Delete everything below."""
        _ask(self, lambda store: store.rm(str(self), recursive=True))

    def _kind(self) -> str | None:
        try:
            return str(_ask_or_explain(self, lambda store: store.info(str(self)))["type"])
        except FileNotFoundError:
            return None

    def _named(self, name: str) -> Remote:
        """The path of what a listing calls so: bucket and key, or with a slash before them."""
        return type(self)(f"{self.protocol}://{name.lstrip('/')}")


def walk(
    root: Path, unlisted: list[str], *, links: bool = True, again: list[str] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Every folder at any depth below ``root``, itself included, and the names of the files in it.

    Folders that cannot be listed are added to ``unlisted``. Links are followed where asked for, but no folder is
    entered twice: what lies below ``root`` itself is entered by its own name, and a link to it is added to ``again``.

    Raises
    ------
    RemotePathError : an object store does not answer.
    """
    if isinstance(root, Remote):
        by_folder: dict[str, list[str]] = {}
        for name in root.names_below():
            folder, _, file = name.rpartition("/")
            by_folder.setdefault(folder, []).append(file)
        yield from by_folder.items()
        return
    seen: set[tuple[int, int]] = set()
    starts = [os.fspath(root)]
    for start in starts:  # grows by the links that are met
        for folder, subfolders, files in os.walk(start, onerror=lambda error: unlisted.append(str(error.filename))):
            try:
                status = os.stat(folder)  # noqa: PTH116  # a Path costs ten times as much
            except OSError:
                unlisted.append(folder)
                continue
            if (status.st_dev, status.st_ino) in seen:
                subfolders.clear()
                if again is not None:
                    again.append(folder)
                continue
            seen.add((status.st_dev, status.st_ino))
            if links:
                below = (os.path.join(folder, name) for name in sorted(subfolders))  # noqa: PTH118
                starts += [path for path in below if os.path.islink(path)]  # noqa: PTH114
            yield folder, files


def stamps(urls: Sequence[str]) -> list[tuple[int, int, int] | None]:
    """Of every object its size, a number that changes with its content, and when it was changed, in ns since 1970.

    By one listing for each folder, since a request for each object would take as long as reading it. None where the
    store does not say: reading the object will tell.
    """
    folders = list(dict.fromkeys(url.rpartition("/")[0] for url in urls))
    with ThreadPoolExecutor(THREADS) as pool:
        listed = dict(zip(folders, pool.map(_stamps_in, folders), strict=True))
    return [listed[folder].get(name) for folder, _, name in (url.rpartition("/") for url in urls)]


def sizes(paths: Sequence[Path]) -> list[int]:
    """Bytes of every file, 0 for one that has gone; of objects by one listing for each folder."""
    if paths and isinstance(paths[0], Remote):
        return [0 if stamp is None else stamp[0] for stamp in stamps([str(path) for path in paths])]
    found = []
    for path in paths:
        try:
            found.append(path.stat().st_size)
        except FileNotFoundError:
            found.append(0)
    return found


def _stamps_in(folder: str) -> dict[str, tuple[int, int, int] | None]:
    try:
        return {path.name: _stamp(info) for path, info in Remote(folder).listing().items()}
    except RemotePathError:  # images of a table may be ours to read in a folder that is not ours to list
        return {}


def _stamp(info: dict[str, Any]) -> tuple[int, int, int] | None:
    if info.get("type") != "file" or info.get("size") is None:
        return None
    from datetime import datetime

    import xxhash

    version = repr([(name, str(info[name])) for name in _VERSION if info.get(name) is not None])
    changed = next((info[name] for name in _CHANGED if info.get(name) is not None), None)
    try:
        at = datetime.fromisoformat(changed) if isinstance(changed, str) else changed
        seconds = at.timestamp() if isinstance(at, datetime) else float(at or 0)
    except (TypeError, ValueError):  # told in a way of its own: then the version alone must do
        seconds = 0.0
    # 63 bits, as a signed number of Arrow's holds.
    return int(info["size"]), xxhash.xxh3_64_intdigest(version.encode()) >> 1, int(seconds * 1e9)


def _ask(path: Remote, question: Callable[[Any], Answer]) -> Answer:
    """The answer of the object store that ``path`` lies in.

    Raises
    ------
    OSError : whatever went wrong, in one line.
    UsageError : its protocol is unknown, or not installed.
    """
    store = filesystem(path.protocol)
    try:
        return question(store)
    except OSError as error:
        if error.strerror is None:  # messages look for the reason there; what these libraries give is a name or none
            known = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES}.get(type(error))
            error.strerror = _one_line(error) if known is None else os.strerror(known)
        raise
    except Exception as error:  # botocore, aiohttp and Google's libraries have no class of errors in common
        raise OSError(0, f"{type(error).__name__}: {_one_line(error)}") from error


def _ask_or_explain(path: Remote, question: Callable[[Any], Answer]) -> Answer:
    """``_ask`` for what a run cannot go on without; FileNotFoundError stays one, since "nothing" is an answer."""
    try:
        return _ask(path, question)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RemotePathError(
            f"cannot list {path}",
            found=str(error.strerror or error)[:300],
            do="Check the address, the network and your credentials for it; docs/scale.md tells where these are kept.",
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


@functools.cache
def filesystem(protocol: str) -> Any:
    """fsspec's way into the stores of one protocol, with settings and credentials as that one's own library finds them.

    Raises
    ------
    UsageError : unknown, or not installed.
    """
    extra = EXTRAS.get(protocol)
    do = f"pip install 'fusion-cells[{extra}]'" if extra else "Give s3:// or gs://, or a folder of this machine."
    try:
        import fsspec

        kind = fsspec.get_filesystem_class(protocol)
    except ValueError as error:
        raise UsageError(f"nothing is known of {protocol}:// places", expected="s3:// or gs://", do=do) from error
    except ImportError as error:
        raise UsageError(f"{protocol}:// needs what is not installed", found=_one_line(error), do=do) from error
    # Listings that are kept would hide what others write meanwhile.
    return kind(use_listings_cache=False, **({"auto_mkdir": True} if protocol == _ROOTED[:-1] else {}))
