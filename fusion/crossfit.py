"""Embeddings by networks that learn anew in every fold, so that a fine-tuned network may join a comparison.

For every split one network is trained, on the split's training part and nothing else, and embeds all cells for the
fits of that split: each cell that is judged is embedded by a network that has not met its subject, and no label of a
test part has a say in what its fits are given. Networks trained apart share no axes, so embeddings of several of them
never stand in one matrix. The cells that a classifier learns from were met by their network, which makes the block look
better to it than it is: that costs accuracy, not honesty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion import plugins
from fusion.cells import PREPARATION
from fusion.checkpoint import Checkpoint
from fusion.config import FeatureSettings, FitSettings
from fusion.errors import UsageError
from fusion.extraction import Progress
from fusion.inputs import CellInputs
from fusion.model import build_seeded
from fusion.parts import Block
from fusion.pictured import build
from fusion.plugins import Classifier
from fusion.results import versions
from fusion.splits import Split
from fusion.table import FeatureTable

#: The block, and the classifier whose networks give it.
BLOCK, NETWORK = "cnn", "neural"

#: Said beside every result that has such a block.
CROSSFITTED = (
    "Block cnn is cross-fitted: in every split a network of its own, trained on the training part alone, "
    "embeds all cells."
)


@dataclass(frozen=True, eq=False)
class Crossfit:
    """How the networks of one command learn; see ``crossfit_of``.

    Attributes
    ----------
    classifier : an unfitted one, whose eye takes the pictures.
    params : with which one is built for every split.
    seed : of every random choice.
    """

    classifier: Classifier
    params: Mapping[str, Any]
    seed: int

    def embed(
        self,
        table: FeatureTable,
        inputs: CellInputs,
        splits: Sequence[Split],
        folder: Path,
        progress: Progress | None = None,
        views: str = "",
    ) -> tuple[NDArray[np.float32], ...]:
        """For every split float32 (n, channels): all cells as the split's own network sees them.

        Parameters
        ----------
        table, inputs : who the cells are, and their pictures, row for row.
        folder : of the result; what is finished is kept there until the result is written, so that a run which was
            stopped goes on.
        views : changes with whatever pictures are changed by before they are seen.
        """
        values = {
            "network": self.identity(),
            "seed": self.seed,
            "preparation": PREPARATION,
            "keys": table.keys,
            "y": table.y,
            "versions": versions(),
            "views": views,
        }
        parts = [part for split in splits for part in (split.train, split.test)]
        kept = Checkpoint.of(folder, values, [table.groups, *parts])
        found = []
        for at, split in enumerate(splits):
            name = f"embedded/{at:04d}"
            rows = kept.read(name)
            if rows is None:
                network = self.fit(
                    table, inputs, split.train, kept.folder / f"network-{at:04d}", progress, f"network {at + 1}"
                )
                rows = network.embed(inputs)
                kept.keep(name, rows)
            found.append(np.asarray(rows, np.float32))
            if progress is not None:
                progress("learning to see", at + 1, len(splits), 0)
        return tuple(found)

    def fit(
        self,
        table: FeatureTable,
        inputs: CellInputs,
        rows: NDArray[np.intp],
        folder: Path,
        progress: Progress | None,
        name: str = "network",
    ) -> Any:
        """A network that has learnt from these rows alone; its own unfinished training is gone on with."""
        network: Any = build_seeded(NETWORK, self.params, self.seed)
        pictures = replace(inputs.take(rows), X=np.empty((len(rows), 0), np.float32), blocks={})

        def watch(epoch: int, epochs: int, step: int, steps: int) -> None:
            if progress is not None:
                progress(name, step, steps, 0)

        try:
            return network.fit(
                pictures, np.array(table.y)[rows], table.groups[rows], watch=watch, checkpoint=folder, resume=True
            )
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"the network of block '{BLOCK}' cannot be trained as asked", found=reason) from error

    def identity(self) -> dict[str, Any]:
        """The plain values that the networks depend on, beside cells and seed."""
        network: Any = self.classifier
        return network.identity()


def crossfit_of(config: FeatureSettings, fitting: FitSettings) -> Crossfit:
    """The networks that a configuration asks for: ``classifiers.neural``, and what ``extractors.cnn`` says over it.

    Raises
    ------
    UsageError : no block cnn among the features, or settings that the network refuses.
    """
    if BLOCK not in config.blocks:
        raise UsageError(
            f"--cnn-crossfit trains the networks behind block '{BLOCK}', which is not among the features",
            found=", ".join(config.blocks),
            do=f"Add {BLOCK} to --features.",
        )
    params = fitting.given(NETWORK)
    given = {key: value for key, value in config.extractor(BLOCK).items() if value is not None}
    if "device" in given:
        params["device"] = given.pop("device")
    for name in ("batch_size", "engine"):  # of embedding alone
        given.pop(name, None)
    if params.get("batch_statistics", "training") != "training":
        raise UsageError(
            f"block '{BLOCK}' is what a network sees with its own batch norms",
            found="batch_statistics: source",
            do="Take --classifier neural, or harmonise the block.",
        )
    params["network"] = {**params.get("network", {}), **given}
    return Crossfit(build(NETWORK, params), params, fitting.seed)


def others(blocks: Sequence[Block]) -> list[Block]:
    """The blocks whose features are the same in every split."""
    return [block for block in blocks if block.name != BLOCK]


def with_block(table: FeatureTable, rows: NDArray[np.float32]) -> FeatureTable:
    """The table with float32 (n, channels) as its last block."""
    columns = tuple(f"{BLOCK}.e{at:04d}" for at in range(rows.shape[1]))
    return replace(table, X=np.hstack([table.X, rows]), columns=(*table.columns, *columns))


def stacked(first: CellInputs, second: CellInputs) -> CellInputs:
    """The pictures of both, one after the other, in memory."""
    pictures = [part.pictures(np.arange(len(part))) for part in (first, second)]
    count = len(first) + len(second)
    return CellInputs(np.empty((count, 0), np.float32), {}, np.concatenate(pictures), np.arange(count))


def block_of(network: Any, path: Path) -> Block:
    """The block ``cnn`` by this network: its weights go into ``path``, with what they have learnt from."""
    return Block(BLOCK, plugins.build_extractor(BLOCK, network.write_trunk(path)))
