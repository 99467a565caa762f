"""Feature blocks: named instances of extractors, and parts of what an extractor gives.

An instance is a block that is called by its family, ``cnn``, which is its extractor's name, or by family and a name of
its own, ``cnn.b3``, where the settings have parameters by that name: so several networks stand in one run. An instance
is measured whole, and kept whole in the store. A part is a choice of an instance's columns, and called by it and the
words that their names begin with: ``texture.glcm``. Columns carry the block's whole name in front,
``texture.glcm.cell_glcm_contrast_d1_mean``, so that block and column are distinguished from each other by the last dot.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Dataset, Fault
from fusion.data.feature_table import FeatureTable
from fusion.errors import UsageError, did_you_mean
from fusion.features.extraction import Extraction, extract
from fusion.features.extractor_parameters import (
    check_options_of_networks,
    extractor_class,
    extractor_params,
    parts_of_handcrafted,
)
from fusion.features.store import FeatureStore
from fusion.features.stored_matrix import is_stored
from fusion.images.cell import PREPARATION
from fusion.io.event_log import EventLog
from fusion.plugins import registry
from fusion.plugins.extractors import Describing, Extractor
from fusion.progress import Progress
from fusion.settings.features import FeatureSettings

#: What an instance may be called behind its family: it stands in names of columns, sets of blocks, and files.
_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Block:
    """A chosen block of features.

    Attributes
    ----------
    name : first part of its columns' names: ``texture``, ``cnn.b3``, ``texture.glcm``.
    extractor : what measures it; parts of one instance share it.
    part : the words that choose its columns, all of which must hold; none for a whole instance.
    """

    name: str
    extractor: Extractor
    part: tuple[str, ...] = ()

    @property
    def instance(self) -> str:
        """Name of the instance that it is, or is a part of: what is measured."""
        return ".".join(self.name.split(".")[: -len(self.part)]) if self.part else self.name

    @property
    def features(self) -> list[str]:
        """Names of its features, without the block's, in the extractor's order.

        A part is named by the words that its features' names begin with, or go on with after the first word, which is a
        region: ``texture.glcm``, ``texture.nucleus``, ``morphology.zernike``, ``colour.cell_red``, ``colour.lab_l``.
        """
        found = self.extractor.feature_names()
        for words in self.part:
            found = features_of(words, found)
        return found

    @property
    def columns(self) -> list[str]:
        """Names of its columns."""
        return [f"{self.name}.{feature}" for feature in self.features]


@dataclass(frozen=True, eq=False)
class Measurement:
    """The cells of a data set that have every block.

    Attributes
    ----------
    table : their features, block by block.
    complete : intp (n,), which of the data set's samples they are.
    faults : images skipped, unreadable ones first.
    """

    table: FeatureTable
    complete: NDArray[np.intp]
    faults: tuple[Fault, ...]


def build_blocks(config: FeatureSettings) -> list[Block]:
    """The chosen blocks, their extractors with their parameters.

    Raises
    ------
    UsageError : an unknown family or part, a name that an instance cannot have, two blocks that are the same or share
        features, or parameters for a block that is not chosen.
    """
    for name in config.blocks:
        extractor_class(name)
    named = [name for name in config.extractors if "." in name]
    _check_names(named)
    wanted = dict.fromkeys(_instance_of(name, {*named, _family(name)}) or name for name in config.blocks)
    if idle := sorted(set(config.extractors) - set(wanted)):
        raise UsageError(
            f"settings for {', '.join(idle)}, which is not among the features", found=", ".join(config.blocks)
        )
    check_options_of_networks(config)
    built = {name: _build(name, extractor_params(config, name)) for name in wanted}
    blocks = blocks_of(config.blocks, built)
    # All of it before anything is measured.
    _check_instances(built)
    _check_parts(blocks)
    return blocks


def agreed_columns(blocks: Iterable[Block], names: Collection[str]) -> dict[str, list[int]]:
    """Of each of the named blocks, which of its columns agree with what people see, as its descriptions say.

    Blocks that have none are left out.
    """
    found: dict[str, list[int]] = {}
    for block in blocks:
        if block.name in names and isinstance(block.extractor, Describing):
            agreed = {each.name for each in block.extractor.describe() if each.agreement}
            if columns := [at for at, name in enumerate(block.features) if name in agreed]:
                found[block.name] = columns
    return found


def blocks_of(names: Iterable[str], built: Mapping[str, Extractor]) -> list[Block]:
    """The blocks of these names, of instances by name.

    Raises
    ------
    UsageError : a name that is no instance's, nor a part's of one.
    """
    found = []
    for name in names:
        instance = _instance_of(name, built)
        if instance is None:
            raise UsageError(f"block '{name}' is measured by nothing", expected=", ".join(built))
        words = name[len(instance) + 1 :]
        found.append(Block(name, built[instance], tuple(words.split(".")) if words else ()))
    return found


def is_control(name: str) -> bool:
    """Whether a block is a control: an entry by itself, which no set of blocks and no share of a score counts."""
    return _family(name) == "control"


def instances(blocks: Sequence[Block]) -> dict[str, Extractor]:
    """Name -> extractor of what is measured for these blocks, each once."""
    return {block.instance: block.extractor for block in blocks}


def features_of(words: str, features: Sequence[str]) -> list[str]:
    """Those of a family's features that these words choose; see ``Block.features``."""
    return [feature for feature in features if _begins(words, feature)]


def extract_blocks(
    dataset: Dataset,
    blocks: Sequence[Block],
    store: FeatureStore,
    *,
    jobs: int = 0,
    scheduler: str | None = None,
    progress: Progress | None = None,
    event_log: EventLog | None = None,
) -> Extraction:
    """Measure the instances of these blocks, whole; as ``extract``, where one family may stand more than once.

    An image is decoded once for all families, and once more for each further instance of one.
    """
    built = instances(blocks)
    rounds: list[dict[str, Extractor]] = []
    for name, extractor in built.items():
        with_room = [one for one in rounds if extractor.name not in {other.name for other in one.values()}]
        if not with_room:
            rounds.append({})
        (with_room or rounds[-1:])[0][name] = extractor
    found = [
        extract(
            dataset, list(one.values()), store, jobs=jobs, scheduler=scheduler, progress=progress, event_log=event_log
        )
        for one in rounds
    ]
    return _joined(dataset, built, {name: part for one, part in zip(rounds, found, strict=True) for name in one})


def measure(
    dataset: Dataset,
    blocks: Sequence[Block],
    store: FeatureStore,
    *,
    jobs: int = 0,
    progress: Progress | None = None,
    stored: bool = False,
) -> Measurement:
    """The blocks of every cell, measured where the store does not have them; of no blocks, a table without columns.

    Parameters
    ----------
    stored : leave the features in the store, see ``stored_matrix``; there must be blocks.

    Raises
    ------
    FusionError : as ``extract`` does.
    """
    found = extract_blocks(dataset, blocks, store, jobs=jobs, progress=progress)
    return Measurement(regrouped(found.stored if stored else found.table, blocks), found.complete, found.faults)


def regrouped(table: FeatureTable, blocks: Sequence[Block]) -> FeatureTable:
    """The table with the columns of these blocks, out of one with those of their whole instances."""
    wanted = [f"{block.instance}.{feature}" for block in blocks for feature in block.features]
    names = tuple(column for block in blocks for column in block.columns)
    if names == table.columns:
        return table
    at = {column: number for number, column in enumerate(table.columns)}
    chosen = [at[column] for column in wanted]
    X: Any = table.X.pick(chosen) if is_stored(table.X) else np.ascontiguousarray(table.X[:, chosen])
    return replace(table, X=X, columns=names)


# ---- names -----------------------------------------------------------------------------------------------------------


def _family(block: str) -> str:
    return block.partition(".")[0]


def _instance_of(block: str, known: Collection[str]) -> str | None:
    """Which of the known instances a block is, or is a part of: ``cnn.b3`` before ``cnn``."""
    begins = [name for name in known if block == name or block.startswith(f"{name}.")]
    return max(begins, key=len, default=None)


def _begins(words: str, feature: str) -> bool:
    return any(f"{text}_".startswith(f"{words}_") for text in (feature, feature.partition("_")[2]))


def _check_names(named: Sequence[str]) -> None:
    if wrong := [name for name in named if not _NAME.fullmatch(name.partition(".")[2])]:
        raise UsageError(
            "a block's own name has a sign that it cannot have",
            found=", ".join(wrong),
            expected="FAMILY.NAME, where NAME is letters, digits, _ and -",
        )
    folded: dict[str, str] = {}
    for name in named:  # files of a model are named by them, and not every file system tells B3 from b3
        if folded.setdefault(name.casefold(), name) != name:
            raise UsageError("two blocks' names differ in case alone", found=f"{folded[name.casefold()]}, {name}")


def _build(name: str, params: Mapping[str, Any]) -> Extractor:
    family = _family(name)
    try:
        return registry.build_extractor(family, params)
    except UsageError as error:
        if name == family:
            raise
        raise UsageError(
            f"{error.what}, as block '{name}' has it", found=error.found, expected=error.expected, do=error.do
        ) from error


def _check_instances(built: Mapping[str, Extractor]) -> None:
    """UsageError for an instance that could be taken for a part, and for two that measure the same."""
    for name, extractor in built.items():
        family, _, own = name.partition(".")
        if not own:
            continue
        whole = built[family].feature_names() if family in built else _usual_features(family)
        if taken := features_of(own, list(dict.fromkeys([*extractor.feature_names(), *whole]))):
            raise UsageError(
                f"'{name}' cannot name a block of its own, since it is a part of {family}",
                found=f"{len(taken)} features, such as {taken[0]}",
                do=f"Call the settings otherwise, or give them to {family}.",
            )
    first: dict[tuple[str, str], str] = {}
    for name, extractor in built.items():
        if sum(other.name == extractor.name for other in built.values()) < 2:
            continue  # a fingerprint may ask for weights, which are not always needed
        known = first.setdefault((extractor.name, registry.fingerprint(extractor, PREPARATION)), name)
        if known != name:
            raise UsageError(
                f"blocks '{known}' and '{name}' are the same",
                found=f"the same {extractor.name}, with the same parameters",
                do="Leave one of them out, or let them differ in something that changes a number.",
            )


def _usual_features(family: str) -> list[str]:
    """Features of a family by its default parameters."""
    try:
        return registry.build_extractor(family).feature_names()
    except UsageError:  # some of its parameters have no default: then it has no parts that everyone knows
        return []


def _check_parts(blocks: Sequence[Block]) -> None:
    """UsageError for a part without features, and for two blocks that share some."""
    divided = {block.instance for block in blocks if block.part}
    owner: dict[str, str] = {}
    for block in blocks:
        if block.instance not in divided:
            continue
        features = [f"{block.instance}.{feature}" for feature in block.features]
        if not features:
            parts = [part for part in parts_of_handcrafted() if part.startswith(f"{block.instance}.")]
            raise UsageError(
                f"block '{block.name}' has no features",
                found=f"no feature of {block.instance} whose name begins or goes on with '{'.'.join(block.part)}'",
                do=did_you_mean(block.name, parts)
                or "See docs/features.md for the names; an instance of a family needs settings: extractors.",
            )
        if shared := [feature for feature in features if feature in owner]:
            raise UsageError(
                f"blocks '{owner[shared[0]]}' and '{block.name}' share {len(shared)} features", found=shared[0]
            )
        owner |= dict.fromkeys(features, block.name)


# ---- extraction ------------------------------------------------------------------------------------------------------


def _joined(dataset: Dataset, built: Mapping[str, Extractor], parts: Mapping[str, Extraction]) -> Extraction:
    """What was measured for instances in several rounds as one extraction: the samples that have every one of them."""
    everyone = np.arange(len(dataset))
    complete = reduce(np.intersect1d, (part.complete for part in parts.values()), everyone)
    at = {name: part.extractors.index(built[name]) for name, part in parts.items()}
    missing: dict[int, Fault] = {}
    for part in reversed(dict.fromkeys(parts.values())):  # of several faults of a sample the first round's is told
        lacks = np.setdiff1d(everyone, part.complete, assume_unique=True)
        missing |= dict(zip(lacks.tolist(), part.faults[len(dataset.faults) :], strict=True))
    return Extraction(
        dataset=dataset,
        names=tuple(built),
        extractors=tuple(built.values()),
        blocks=tuple(parts[name].blocks[at[name]] for name in built),
        complete=complete,
        rows=tuple(parts[name].rows[at[name]][np.searchsorted(parts[name].complete, complete)] for name in built),
        faults=(*dataset.faults, *(missing[sample] for sample in sorted(missing))),
        computed={name: parts[name].computed[extractor.name] for name, extractor in built.items()},
        reused={name: parts[name].reused[extractor.name] for name, extractor in built.items()},
    )
