"""Looking after a feature store: what it holds, what is damaged, merging small shards, sweeping out.

All of it may run while others read and write. A merge takes its parts away only after the merged shard is durable,
so that at every moment each row lies in at least one whole file.
"""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import FusionError
from fusion.features.store import (
    FEATURES,
    FETCHED,
    QUARANTINE,
    FeatureStore,
    Shard,
    ShardDamaged,
    StoreError,
    drop_copy,
    is_whole,
    open_shard,
)
from fusion.features.store_manifest import list_files, listed_files
from fusion.io.files import PARTIAL, is_partial
from fusion.io.remote_path import Remote, sizes

#: A merged shard stays below this: a flipped bit costs one such file, and several of them are checked side by side.
SHARD_BYTES = 16 << 20

#: Shards below this are worth merging.
SMALL_BYTES = 8 << 20

#: As many small shards as one extractor version may gather before an extraction merges them by itself: opening one
#: costs about 0.2 ms, so that a run with nothing to do spends well under a second on them.
MANY = 256

#: A partial file this old is not being written any more.
_ABANDONED_SECONDS = 3600


@dataclass(frozen=True)
class Held:
    """What the store holds of one extractor version; ``about`` is what its writer says of it."""

    extractor: str
    fingerprint: str
    shards: int
    cells: int
    faults: int
    size_bytes: int
    about: dict[str, Any]

    @property
    def version(self) -> str:
        """The extractor's version, "?" where no shard tells."""
        return str(self.about.get("version", "?"))


def held(store: FeatureStore) -> Iterator[Held]:
    """Everything that can be read, by extractor and fingerprint; cells in several shards are counted once."""
    for extractor, fingerprint in _versions(store):
        paths = store.shards(extractor, fingerprint)
        shards = [shard for path in paths if (shard := _try_open(path)) is not None]
        about = next((shard.about for shard in shards if shard.about), {})
        cells = {key for shard in shards for key in shard.keys.to_pylist()}
        faults = {key for shard in shards for key in shard.fault_keys.to_pylist()} - cells
        size = sum(sizes(paths))
        yield Held(extractor, fingerprint, len(paths), len(cells), len(faults), size, about)


def verify(store: FeatureStore) -> tuple[int, list[Path]]:
    """Read every shard, and move those that are not as they were written to ``<root>/quarantine``.

    The next extraction measures their cells again, and nothing else.

    Returns
    -------
    count : shards read.
    damaged : where the damaged ones lie now.

    Raises
    ------
    StoreError : a damaged shard cannot be moved.
    """
    count, damaged = 0, []
    for extractor, fingerprint in _versions(store):
        for path in store.shards(extractor, fingerprint):
            try:
                drop_copy(path)  # what is asked about is the object, and not what was fetched of it
                open_shard(path)
            except ShardDamaged:
                damaged.append(_set_aside(store, path))
            except FileNotFoundError:  # merged by another process since it was listed
                continue
            count += 1
    return count, damaged


def compact(store: FeatureStore, extractor: str, fingerprint: str) -> tuple[int, int]:
    """Merge the small shards of one extractor version, each cell once; how many shards there were and are.

    Raises
    ------
    StoreError : the merged shard cannot be written; nothing has been taken away then.
    """
    paths = store.shards(extractor, fingerprint)
    for part in _portions(_small(paths)):
        shards = [shard for path in part if (shard := _try_open(path)) is not None]
        by_names: dict[tuple[str, ...], list[Shard]] = {}
        for shard in shards:
            by_names.setdefault(tuple(shard.names), []).append(shard)
        for names, alike in by_names.items():
            if len(alike) > 1:
                _merge(store, extractor, fingerprint, names, alike)
    return len(paths), len(store.shards(extractor, fingerprint))


def compact_all(store: FeatureStore) -> tuple[int, int]:
    """``compact`` for everything in the store; how many shards there were and are."""
    counts = [compact(store, *version) for version in _versions(store)]
    return sum(before for before, _ in counts), sum(after for _, after in counts)


def tidy(store: FeatureStore, extractor: str, fingerprint: str) -> None:
    """Merge the small shards of one extractor version if they have become many."""
    if len(_small(store.shards(extractor, fingerprint))) > MANY:
        compact(store, extractor, fingerprint)


def collect_garbage(store: FeatureStore) -> tuple[list[str], int]:
    """Delete what nobody can use any more: versions of installed extractors that this Fusion no longer computes,
    shards in quarantine, partial files that a killed process left behind, and images and exported networks that lack
    their note (they are made anew), or whose note tells of another preparation of cells or other packages.

    Nothing else in the folder is touched: a shard is known by its bytes, whatever else goes is listed in the store's
    manifest. Features of extractors that are not installed are kept: they may be installed in another environment.

    Returns
    -------
    removed : one line for each thing.
    freed : bytes.
    """
    removed, freed = [], 0
    for entry in list(held(store)):
        if reason := _why_outdated(entry):
            freed += _delete(_readable(store.shards(entry.extractor, entry.fingerprint)))
            removed.append(f"{entry.extractor} {entry.fingerprint}: {reason}")
    own = listed_files(store.local)
    for path in sorted((store.root / QUARANTINE).glob("*")):
        if isinstance(path, Remote) or path.relative_to(store.root).as_posix() in own:
            freed += _delete([path])
            removed.append(f"quarantined {path.name}")
    for path in sorted(store.local / name for name in own if name.startswith(_DERIVED)):
        if path.suffix != ".json" and path.is_file() and (reason := _why_unusable(path)):
            freed += _delete([path, path.with_suffix(".json")])
            removed.append(f"{path.parent.name}/{path.name}: {reason}")
    # Object stores show nothing half-written.
    for path in sorted(each for folder in _folders(store) for each in folder.glob(f"{PARTIAL}*")):
        if is_partial(path.name) and path.is_file() and _is_abandoned(path):
            freed += _delete([path])
            removed.append(f"left behind by a killed process: {path.name}")
    if isinstance(store.root, Remote):
        copies = [path for path in (store.local / FETCHED).glob("*/*/*.arrow") if is_whole(path)]
        freed += _delete(copies)
        removed += [f"copies of {len(copies)} shards on this machine"] if copies else []
    return removed, freed


#: Folders of what is made anew where it is not there.
_DERIVED = ("images/", "onnx/")


def _folders(store: FeatureStore) -> Iterator[Path]:
    """The folders of this machine into which a store writes."""
    yield store.local
    yield from (store.local / name for name in ("images", "onnx", QUARANTINE, FEATURES))
    yield from (store.local / FEATURES).glob("*")
    for folder in (FEATURES, FETCHED):
        yield from (store.local / folder).glob("*/*")


def _readable(paths: Sequence[Path]) -> list[Path]:
    """Those that are shards: their bytes are what their names say, and of this extractor version."""
    return [path for path in paths if _try_open(path) is not None]


def _delete(files: Sequence[Path]) -> int:
    """Delete files and, once they are empty, the folders of an extractor version; how many bytes that was."""
    freed = sum(sizes(files))
    for file in files:
        file.unlink(missing_ok=True)
        drop_copy(file)
        if not isinstance(file, Remote) and file.suffix == ".arrow":
            with suppress(OSError):  # not empty: what else is there stays
                file.parent.rmdir()
    return freed


def _why_outdated(entry: Held) -> str:
    """Why an extractor version is of no use to this installation, "" where it may be."""
    from fusion.images.cell import PREPARATION
    from fusion.plugins import registry

    if entry.extractor not in registry.names(registry.EXTRACTORS) or not entry.about:
        return ""
    try:
        version = registry.build_extractor(entry.extractor).version
    except FusionError:  # a plug-in that does not load today, or not without parameters
        return ""
    if entry.version != version:
        return f"version {entry.version}, installed is {version}"
    preparation = str(entry.about.get("preparation", ""))
    return "" if preparation == PREPARATION else f"cells were prepared by {preparation}, now by {PREPARATION}"


def _why_unusable(path: Path) -> str:
    """Why a map of images or an exported network will not be opened again by this installation, "" where it may be.

    Notes of earlier versions do not say what the file depends on: it is kept.
    """
    from fusion.images.cell import PREPARATION

    try:
        stored = dict(json.loads(path.with_suffix(".json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return "without a whole note, so never opened again" if _is_abandoned(path) else ""
    if stored.get("preparation", PREPARATION) != PREPARATION:
        return f"cells were prepared by {stored['preparation']}, now by {PREPARATION}"
    for name, version in stored.get("versions", {}).items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return f"exported with {name}, which is not installed"
        if installed != version:
            return f"exported with {name} {version}, installed is {installed}"
    return ""


def _is_abandoned(path: Path) -> bool:
    """Whether a file is not being written any more."""
    return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS


def _merge(
    store: FeatureStore, extractor: str, fingerprint: str, names: Sequence[str], shards: Sequence[Shard]
) -> None:
    keys = np.concatenate([np.array(shard.keys.to_pylist(), object) for shard in shards])
    # In the order of the keys, and the first of several rows: two processes that merge the same shards at once then
    # write the same file.
    _, first = np.unique(keys.astype(str), return_index=True)
    values = np.concatenate([shard.values for shard in shards])[first]
    measured = set(keys[first])
    faults: dict[str, str] = {}
    for shard in shards:
        for key, reason in zip(shard.fault_keys.to_pylist(), shard.reasons.to_pylist(), strict=True):
            if key not in measured:
                faults.setdefault(key, reason)
    about = next((shard.about for shard in shards if shard.about), {})
    ordered = dict(sorted(faults.items()))
    merged = store.write_shard(extractor, fingerprint, names, (list(keys[first]), values), ordered, about)
    for shard in shards:
        if shard.path != merged:
            try:
                shard.path.unlink(missing_ok=True)
                drop_copy(shard.path)
            except PermissionError:  # Windows keeps files that someone has mapped; a row twice does no harm
                continue


def _small(paths: Sequence[Path]) -> list[tuple[Path, int]]:
    """Those that are worth merging, and their bytes."""
    return [(path, size) for path, size in zip(paths, sizes(paths), strict=True) if size < SMALL_BYTES]


def _portions(small: Sequence[tuple[Path, int]]) -> Iterator[list[Path]]:
    """The paths in runs that stay below the size of one shard."""
    portion: list[Path] = []
    total = 0
    for path, size in small:
        if portion and total + size > SHARD_BYTES:
            yield portion
            portion, total = [], 0
        portion.append(path)
        total += size
    if portion:
        yield portion


def set_aside_cell(store: FeatureStore, extractor: str, fingerprint: str, key: str) -> list[Path]:
    """Move the shards that hold a row of this cell to the quarantine; where they lie then.

    Raises
    ------
    StoreError : one cannot be moved.
    """
    shards = [shard for path in store.shards(extractor, fingerprint) if (shard := _try_open(path)) is not None]
    return [_set_aside(store, shard.path) for shard in shards if key in shard.keys.to_pylist()]


def _set_aside(store: FeatureStore, path: Path) -> Path:
    target = store.root / QUARANTINE / f"{path.parent.parent.name}-{path.parent.name}-{path.name}"
    try:
        if not isinstance(target, Remote):
            target.parent.mkdir(exist_ok=True)
            list_files(store.root, target)
        path.replace(target)
    except OSError as error:
        raise StoreError(
            f"{path} is damaged and cannot be set aside",
            found=str(error.strerror or error).lower(),
            do="Delete it: the next extract measures its cells again.",
        ) from error
    return target


def _versions(store: FeatureStore) -> list[tuple[str, str]]:
    """(extractor, fingerprint) of every folder with features."""
    return [(folder.parent.name, folder.name) for folder in sorted((store.root / FEATURES).glob("*/*"))]


def _try_open(path: Path) -> Shard | None:
    try:
        return open_shard(path)
    except (ShardDamaged, FileNotFoundError):  # left out of reading too; verify sets it aside
        return None
