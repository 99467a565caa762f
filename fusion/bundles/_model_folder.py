"""A model folder comes to its name whole, in one step, and nothing that is not its own is ever replaced."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from fusion.bundles.bundle_files import BundleError, NoModelError, confined
from fusion.compute.platform_calls import exchange_names
from fusion.errors import ConfigError
from fusion.io.files import PARTIAL
from fusion.io.strict_json import parse_json

MANIFEST = "model.json"

#: Bytes of a manifest: with hashes of a million training cells it stays below this.
MAX_MANIFEST = 1 << 27


def check_writable(folder: Path, *, force: bool = True) -> None:
    """Refuse to write a model over anything that is not wholly a model; call it before the work is done.

    Parameters
    ----------
    force : a model that is there may be replaced.

    Raises
    ------
    NoModelError : ``folder`` is there, and holds a file that no manifest of ours lists, or is no folder.
    ConfigError : it holds a model, and ``force`` is off.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    listed = _listed(folder) if folder.is_dir() else None
    if listed is None:
        raise NoModelError(f"{folder} exists and is not a model", do="Choose another folder with -o.")
    if strange := sorted(_files(folder) - listed):
        raise NoModelError(
            f"{folder} holds what is no part of the model in it",
            found=", ".join(map(repr, strange[:3])),
            do="Take these files out, or choose another folder with -o.",
        )
    if not force:
        raise ConfigError(
            f"{folder} holds a model already", do="Choose another folder with -o, or replace it with --force."
        )


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Have ``write`` fill a new folder, which then takes the place of ``folder``: at any moment the old or the new
    one is there, and after a power cut as well.

    Raises
    ------
    NoModelError : as ``check_writable``.
    OSError : the disk is full, say; the old one is then as it was.
    """
    folder = folder.resolve()  # a link stays a link
    check_writable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = folder.parent / f"{PARTIAL}{secrets.token_hex(8)}"
    work.mkdir()  # with the modes that the user's umask leaves
    mode = stat.S_IMODE((folder if folder.exists() else work).stat().st_mode)
    try:
        write(work)
        _make_durable(work, mode)
        check_writable(folder)  # hours may lie between
        _put(work, folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    _sync(folder.parent)


def _put(work: Path, folder: Path) -> None:
    """Give ``work`` the name of ``folder``, and delete what was there, if it is a model's."""
    if not folder.exists() or not any(folder.iterdir()):
        work.rename(folder)  # an empty folder gives way
        return
    if exchange_names(work, folder):
        _delete_model(work, folder)
        return
    # Where nothing can be exchanged in one step: aside first, and back should the second step fail.
    aside = folder.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
    folder.rename(aside)
    try:
        work.rename(folder)
    except BaseException:
        aside.rename(folder)
        raise
    _delete_model(aside, folder)


def _delete_model(old: Path, folder: Path) -> None:
    """Delete the files that the old model lists, and no others: what somebody has put there meanwhile is kept."""
    listed = _listed(old)
    for name in sorted(listed or ()):
        (old / name).unlink(missing_ok=True)
    for inside in sorted((path for path in old.rglob("*") if path.is_dir()), reverse=True):
        if not any(inside.iterdir()):
            inside.rmdir()
    if any(old.iterdir()):
        old.rename(folder.with_name(f"{folder.name}-kept-{secrets.token_hex(4)}"))
    else:
        old.rmdir()


def _listed(folder: Path) -> set[str] | None:
    """The files of a model of any version, its manifest among them; None where this is no model of ours."""
    path = folder / MANIFEST
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_MANIFEST:
            return None
        manifest = parse_json(path.read_bytes())
        keys = {"format", "files", "classes", "columns", "extractors", "classifier"}
        if not isinstance(manifest, dict) or not keys <= manifest.keys() or not isinstance(manifest["files"], dict):
            return None
        return {MANIFEST, *(confined(name) for name in manifest["files"])}
    except (OSError, ValueError, BundleError):
        return None


def _files(folder: Path) -> set[str]:
    """Everything in a folder that is no folder, links among them."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


def _make_durable(folder: Path, mode: int) -> None:
    """Modes as the folder's own, and every byte and name on the disk."""
    folder.chmod(mode)
    for path in sorted(folder.rglob("*")):
        path.chmod(mode if path.is_dir() else mode & 0o666)
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    """fsync of a file or folder. Windows has no handle on folders, and needs none."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
