"""Parts of a family as blocks of their own: ``texture.glcm`` are texture's columns about co-occurrences.

A family is measured whole, and kept whole in the store; a part is a choice of its columns. The columns of a part carry
its name in front, ``texture.glcm.cell_glcm_contrast_d1_mean``, so that block and column are told from each other by the
last dot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fusion.errors import UsageError
from fusion.streaming import is_stored
from fusion.table import FeatureTable


def families(blocks: Sequence[str]) -> list[str]:
    """The extractors that these blocks come from, each once."""
    return list(dict.fromkeys(block.partition(".")[0] for block in blocks))


def source(column: str) -> str:
    """The column of a whole family that a column of a part is."""
    block, _, feature = column.rpartition(".")
    return f"{block.partition('.')[0]}.{feature}"


def columns_of(block: str, columns: Sequence[str]) -> list[str]:
    """The columns of whole families that a block is made of.

    A part is named by the words that its features' names begin with, or go on with after the first word, which is a
    region: ``texture.glcm``, ``texture.nucleus_glcm``, ``morphology.zernike``, ``colour.cell_red``, ``colour.lab_l``.
    """
    family, _, part = block.partition(".")
    found = [column for column in columns if column.startswith(f"{family}.")]
    return [column for column in found if _begins(part, column)] if part else found


def _begins(part: str, column: str) -> bool:
    feature = column.rpartition(".")[2]
    return any(f"{words}_".startswith(f"{part}_") for words in (feature, feature.partition("_")[2]))


def choose(blocks: Sequence[str], columns: Sequence[str]) -> dict[str, list[str]]:
    """Block -> its columns, out of those of whole families.

    Raises
    ------
    UsageError : a block that has no columns, or two that share some.
    """
    found: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for block in blocks:
        family, _, part = block.partition(".")
        chosen = columns_of(block, columns)
        if not chosen:
            raise UsageError(
                f"block '{block}' has no features",
                found=f"no feature of {family} whose name begins or goes on with '{part}'",
                do="See docs/features.md for the names.",
            )
        if shared := [column for column in chosen if column in owner]:
            raise UsageError(f"blocks '{owner[shared[0]]}' and '{block}' share {len(shared)} features", found=shared[0])
        owner |= dict.fromkeys(chosen, block)
        found[block] = chosen
    return found


def regrouped(table: FeatureTable, blocks: Sequence[str]) -> FeatureTable:
    """The table with these blocks, parts of families among them, out of one with whole families.

    Raises
    ------
    UsageError : a block that has no columns, or two that share some.
    """
    if not blocks or list(table.blocks) == list(blocks):
        return table
    at = {column: number for number, column in enumerate(table.columns)}
    chosen = choose(blocks, table.columns)
    rows = [at[column] for columns in chosen.values() for column in columns]
    names = [f"{block}.{column.rpartition('.')[2]}" for block, columns in chosen.items() for column in columns]
    X: Any = table.X.pick(rows) if is_stored(table.X) else np.ascontiguousarray(table.X[:, rows])
    return replace(table, X=X, columns=tuple(names))
