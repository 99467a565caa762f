"""``fusion cache``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusion.cli.options import option, parameters, plain_command
from fusion.settings.data import DataSettings

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.features.store import FeatureStore


@plain_command(
    click.Argument(["action"], type=click.Choice(["ls", "verify", "compact", "gc"])),
    click.Option(["--deep"], is_flag=True, help="verify: also measure a sample of the cells once more"),
    *parameters(DataSettings, [option("store")]),
)
def cache(screen: Screen, *, action: str, deep: bool, store: Path | None) -> None:
    """List, check, merge or sweep out the feature store.

    ls lists what it holds. verify reads every shard and sets aside those that are no longer as they were written: the
    next extract measures their cells again. verify --deep also measures up to 200 cells of every extractor version
    once more, from the files where they were last seen, and sets aside what differs. compact merges small shards. gc
    deletes features of extractor versions that this Fusion no longer computes, damaged shards, and what killed
    processes left behind.
    """
    from fusion.errors import UsageError
    from fusion.features.store import FeatureStore

    does = {"ls": _list, "verify": _verify_deep if deep else _verify, "compact": _compact, "gc": _collect_garbage}
    if deep and action != "verify":
        raise UsageError("--deep is for verify", found=f"fusion cache {action}")
    does[action](screen, FeatureStore(store))


def _list(screen: Screen, store: FeatureStore) -> None:
    from fusion.cli.console import size_in_words
    from fusion.features import store_maintenance

    held = list(store_maintenance.held(store))
    screen.table(
        ["extractor", "version", "fingerprint", "cells", "no cell", "shards", "size"],
        [
            [
                h.extractor,
                h.version,
                h.fingerprint,
                *map(str, (h.cells, h.faults, h.shards)),
                size_in_words(h.size_bytes),
            ]
            for h in held
        ],
    )
    screen.line(f"{len(held)} extractor versions in {store.root}")
    screen.json([{**vars(h), "version": h.version} for h in held])


def _verify(screen: Screen, store: FeatureStore) -> None:
    count = _whole_shards(screen, store)
    screen.json({"shards": count, "damaged": []})
    screen.line(f"{count} shards in {store.root}, all as they were written")


def _verify_deep(screen: Screen, store: FeatureStore) -> None:
    from fusion.features.store import StoreError
    from fusion.features.store_recheck import recheck

    count = _whole_shards(screen, store)
    found = recheck(store)
    if found.differing:
        raise StoreError(
            f"{len(found.differing)} of {found.measured} rows measured once more differ from those in {store.root}",
            found="; ".join(found.differing[:3]),
            do=f"Their shards now lie in {found.set_aside[0].parent}; the next extract measures their cells again.",
        )
    untraced = (
        f"; {found.untraced} more could not be: their files or extractor are not at hand, or they are of adjusted"
    )
    rest = f"{untraced} or augmented cells" if found.untraced else ""
    screen.json({"shards": count, "damaged": [], "measured": found.measured, "untraced": found.untraced})
    screen.line(f"{count} shards in {store.root}, all as they were written")
    screen.line(f"{found.measured} rows measured once more, all as the store has them{rest}")


def _whole_shards(screen: Screen, store: FeatureStore) -> int:
    """How many shards there are; StoreError where some were damaged."""
    from fusion.features import store_maintenance
    from fusion.features.store import StoreError

    count, damaged = store_maintenance.verify(store)
    if damaged:
        screen.json({"shards": count, "damaged": [str(path) for path in damaged]})
        raise StoreError(
            f"{len(damaged)} of {count} shards in {store.root} were damaged",
            found=", ".join(path.name for path in damaged[:3]),
            do=f"They now lie in {damaged[0].parent}; the next extract measures their cells again.",
        )
    return count


def _compact(screen: Screen, store: FeatureStore) -> None:
    from fusion.features import store_maintenance

    before, after = store_maintenance.compact_all(store)
    screen.line(f"{before} shards in {store.root} are now {after}")
    screen.json({"before": before, "after": after})


def _collect_garbage(screen: Screen, store: FeatureStore) -> None:
    from fusion.cli.console import size_in_words
    from fusion.features import store_maintenance

    removed, freed = store_maintenance.collect_garbage(store)
    for line in removed:
        screen.line(line)
    screen.line(f"{size_in_words(freed)} freed in {store.root}")
    screen.json({"removed": removed, "freed": freed})
