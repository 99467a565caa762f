"""Whether the rows of a store are what their cells measure: some of them, measured once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.data.dataset import Sample
from fusion.data.traced_cells import trace_cells
from fusion.errors import FusionError
from fusion.features.cell_measurement import Measure, embed
from fusion.features.store import FeatureStore
from fusion.features.store_maintenance import Held, held, set_aside_cell
from fusion.images.cell import PREPARATION
from fusion.plugins import registry
from fusion.plugins.extractors import Extractor

#: Cells that are measured once more for each extractor version: where one row in 30 is wrong, this finds it 999 times
#: in 1,000.
CELLS = 200

#: How far two measurements of one cell may differ: networks depend a little on the batch and on the processor.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4


@dataclass(frozen=True)
class Recheck:
    """What measuring some rows once more has shown.

    Attributes
    ----------
    measured : rows that were.
    untraced : rows that were drawn, and whose files or extractor are not at hand.
    differing : a line for each row that another measurement contradicts.
    set_aside : the shards that held these, where they lie now.
    """

    measured: int
    untraced: int
    differing: tuple[str, ...]
    set_aside: tuple[Path, ...]


def recheck(store: FeatureStore, seed: int = 0) -> Recheck:
    """Measure up to ``CELLS`` cells of every extractor version once more, from the files where they were last seen.

    Shards with a row that differs are moved to the quarantine: their cells are measured again by the next extraction.

    Raises
    ------
    StoreError : a shard cannot be moved.
    """
    measured = untraced = 0
    differing: list[str] = []
    aside: list[Path] = []
    for version in list(held(store)):
        keys = _drawn(store, version, seed)
        extractor = _built(version)
        samples = trace_cells(store.root, keys) if extractor is not None else {}
        rows, _ = store.read(version.extractor, version.fingerprint, list(samples), _names(extractor))
        untraced += len(keys)
        for sample, row in _measured(extractor, [samples[key] for key in rows]):
            measured, untraced = measured + 1, untraced - 1
            if not np.allclose(row, rows[sample.key], rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True):
                at = int(np.argmax(~np.isclose(row, rows[sample.key], _RELATIVE, _ABSOLUTE, equal_nan=True)))
                differing.append(
                    f"{sample.path}: {version.extractor}.{_names(extractor)[at]} is {row[at]:.6g}, "
                    f"the store has {rows[sample.key][at]:.6g}"
                )
                aside += set_aside_cell(store, version.extractor, version.fingerprint, sample.key)
    return Recheck(measured, untraced, tuple(differing), tuple(dict.fromkeys(aside)))


def _drawn(store: FeatureStore, version: Held, seed: int) -> list[str]:
    """Keys of some of the cells that an extractor version has measured."""
    keys = sorted(store.keys(version.extractor, version.fingerprint))
    chosen = np.random.default_rng(seed).permutation(len(keys))[:CELLS]
    return [keys[at] for at in sorted(chosen.tolist())]


def _built(version: Held) -> Extractor | None:
    """The extractor whose numbers these are, None where it is not installed as it was."""
    stored: dict[str, Any] = version.about.get("params", {})
    for params in (stored, dict[str, Any]()):
        try:
            extractor = registry.build_extractor(version.extractor, params)
        except FusionError:  # not installed, or its identity is not what it is built from
            continue
        if registry.fingerprint(extractor, PREPARATION) == version.fingerprint:
            return extractor
    return None


def _names(extractor: Extractor | None) -> list[str]:
    return [] if extractor is None else list(extractor.feature_names())


def _measured(extractor: Extractor | None, samples: Sequence[Sample]) -> list[tuple[Sample, np.ndarray]]:
    """Samples whose files still hold what their key says, with what they measure now."""
    if extractor is None or not samples:
        return []
    name = extractor.name
    here = frozenset([name]) if extractor.in_main_process else frozenset()
    found = Measure(() if here else (extractor,), here)([(sample, frozenset([name])) for sample in samples])
    if here:
        embed(extractor, [m for m in found if m.cell is not None])
    return [(m.sample, m.rows[name]) for m in found if name in m.rows]
