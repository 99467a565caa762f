"""Every fit of a comparison: which classifier on which blocks in which split, sharing what can be shared."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion import gram
from fusion.calibration import Finish
from fusion.checkpoint import Checkpoint
from fusion.config import FitSettings
from fusion.copies import learnt
from fusion.errors import UsageError
from fusion.harmonisation import Harmoniser
from fusion.model import build_seeded
from fusion.scaled import ScaledBlocks
from fusion.selection import Selection
from fusion.splits import Split
from fusion.table import Copies, FeatureTable
from fusion.training import score_fold

#: Fits below which another worker process costs more to start than it saves.
_WORTH_A_WORKER = 20

#: Cells from which distances are worth sharing: below, a fit takes milliseconds whichever way.
_WORTH_SHARING = 500


@dataclass(frozen=True)
class Fit:
    """One model to fit: which classifier, which blocks, the split's number in the plan."""

    classifier: str
    blocks: tuple[str, ...]
    split: int

    @property
    def name(self) -> str:
        """What its probabilities are kept under."""
        return f"{self.split:04d}/{self.classifier}/{'+'.join(self.blocks)}"


#: A fit, float64 (test cells, classes) probabilities, the threshold that it chose, NaN for none, and the parameters.
_Fitted = tuple[Fit, NDArray[np.float64], float, dict[str, float]]


@dataclass(frozen=True, eq=False)
class Workload:
    """What the fits have in common; it travels to every worker once.

    ``embedded`` is empty, or has for every split the last columns of the table as the fits of that split have them, and
    ``varied`` likewise the copies that they learn from.
    """

    table: FeatureTable
    splits: tuple[Split, ...]
    config: FitSettings
    checkpoint: Checkpoint
    embedded: tuple[NDArray[np.float32], ...] = ()
    varied: tuple[Copies | None, ...] = ()

    def table_of(self, split: int) -> FeatureTable:
        """The table as the fits of this split have it."""
        table = self.table if not self.varied else replace(self.table, copies=self.varied[split])
        if not self.embedded:
            return table
        own = self.embedded[split]
        X = table.X.copy()
        X[:, X.shape[1] - own.shape[1] :] = own
        return replace(table, X=X)

    @property
    def is_shareable(self) -> bool:
        """Whether fits of a split may share what they have in common. What is put on top of a model needs models of
        parts of the training part, with scalers of their own; a source, and copies, have no say in what is shared."""
        return (
            Finish(self.config.calibrate, self.config.threshold).is_nothing
            and not self.config.minds_sources
            and not self.varied
        )


def selections(load: Workload) -> list[Selection]:
    """Of every split the features of all blocks that its fits learn from; none where no stability is asked for."""
    config, found = load.config, []
    for at, split in enumerate(load.splits if config.stability is not None else ()):
        shown = learnt(load.table_of(at), split.train)
        X: NDArray[Any] = shown.X
        if config.harmonise.method != "none":
            harmoniser = Harmoniser.fit(X, shown.sources, shown.y, **config.harmonise.model_dump())
            X = harmoniser.transform(X, shown.sources)
        found.append(Selection.fit(X, shown.y, shown.sources, config.stability or 0.0, shown.cells))
    return found


def run_fits(fits: Sequence[Fit], load: Workload, *, jobs: int, memory: float) -> Iterator[_Fitted]:
    """Yield every fit with its probabilities, threshold and chosen parameters, in no particular order.

    Fits that an earlier run has finished are read from the checkpoint; each new one is kept there at once.

    Parameters
    ----------
    jobs : worker processes, 0 is one a core.
    memory : bytes that shared distances may hold in all workers together; see ``shares_distances``.
    """
    waiting = []
    for fit in fits:
        if (kept := load.checkpoint.read(fit.name)) is not None:
            yield fit, kept[:, :-1], float(kept[0, -1]), load.checkpoint.read_values(fit.name)
        else:
            waiting.append(fit)
    sharing = [fit for fit in waiting if shares_distances(fit.classifier, load, memory)]
    together: dict[tuple[str, int], list[Fit]] = {}
    for fit in sharing:
        together.setdefault((fit.classifier, fit.split), []).append(fit)
    at_once = max(1, int(memory // _bytes_a_worker(load)))
    yield from _parallel(_on_shared_distances, list(together.values()), load, jobs, at_once)
    shared = set(sharing)
    scales = {name: shares_scaling(name, load) for name in {fit.classifier for fit in waiting}}
    scaled: dict[tuple[str, int], list[Fit]] = {}
    alone = []
    for fit in waiting:
        if fit not in shared and scales[fit.classifier]:
            scaled.setdefault((fit.classifier, fit.split), []).append(fit)
        elif fit not in shared:
            alone.append([fit])
    yield from _parallel(_on_scaled_blocks, list(scaled.values()), load, jobs, len(scaled))
    yield from _parallel(_alone, alone, load, jobs, len(alone))


def shares_distances(classifier: str, load: Workload, memory: float) -> bool:
    """Whether fits of this classifier are made on shared distances: it can, it pays, and there is room.

    A classifier can if it has ``fit_distances`` and ``predict_proba_distances``; see ``gram.SharedDistances``.
    """
    pays = len(load.table) >= _WORTH_SHARING and len(load.table.blocks) > 1 and load.is_shareable
    return pays and can_share(classifier, load.config) and _bytes_a_worker(load) <= memory


def shares_scaling(classifier: str, load: Workload) -> bool:
    """Whether fits of this classifier in one split are made on blocks that are scaled once."""
    if not load.is_shareable:
        return False
    if can_share(classifier, load.config) and len(load.table) >= _WORTH_SHARING:
        return False  # a machine of so many cells takes longer than scaling, and is better fitted beside others
    return build_seeded(classifier, load.config.params(classifier), load.config.seed).prepares == "standard"


def can_share(classifier: str, config: FitSettings) -> bool:
    """Whether the classifier can be fitted on distances; one that goes by landmarks has no use for all of them."""
    built = build_seeded(classifier, config.params(classifier), config.seed)
    return hasattr(built, "fit_distances") and not getattr(built, "landmarks", 0)


def without_room(classifiers: Sequence[str], load: Workload, memory: float) -> list[str]:
    """A note for each classifier that could share distances if there were more memory."""
    return [
        f"{name}: every feature set is fitted by itself, since shared distances need "
        f"{_bytes_a_worker(load) / 1e9:.1f} GB a worker and memory_gb allows {memory / 1e9:.1f} GB."
        for name in classifiers
        if shares_distances(name, load, float("inf")) and not shares_distances(name, load, memory)
    ]


def _bytes_a_worker(load: Workload) -> int:
    largest = max(
        (gram.memory_needed(len(s.train), len(s.test), len(load.table.blocks)) for s in load.splits), default=1
    )
    return max(1, largest)


def _parallel(
    run: Callable[[Sequence[Fit], Workload], Iterator[_Fitted]],
    batches: Sequence[list[Fit]],
    load: Workload,
    jobs: int,
    at_once: int,
) -> Iterator[_Fitted]:
    from joblib import Parallel, cpu_count, delayed

    count = sum(len(batch) for batch in batches)
    if not count:
        return
    workers = min(jobs or cpu_count(), max(1, count // _WORTH_A_WORKER), max(1, at_once), len(batches))
    if workers == 1:
        for batch in batches:
            yield from run(batch, load)
        return
    calls = (delayed(_collect)(run, batch, load) for batch in batches)
    for done in Parallel(n_jobs=workers, return_as="generator_unordered")(calls):
        yield from done


def _collect(
    run: Callable[[Sequence[Fit], Workload], Iterator[_Fitted]], batch: Sequence[Fit], load: Workload
) -> list[_Fitted]:
    return list(run(batch, load))


def _alone(batch: Sequence[Fit], load: Workload) -> Iterator[_Fitted]:
    for fit in batch:
        table, split = load.table_of(fit.split).select(fit.blocks), load.splits[fit.split]
        yield _kept(fit, load, *score_fold(table, split, fit.classifier, load.config))


def _on_scaled_blocks(batch: Sequence[Fit], load: Workload) -> Iterator[_Fitted]:
    """Fit a batch of one classifier in one split."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # as in score_fold: the same sums on any machine
        split, config = load.splits[batch[0].split], load.config
        labels, groups = np.array(load.table.y)[split.train], load.table.groups[split.train]
        try:
            scaled = ScaledBlocks(*_measured(batch, load))
            for fit in batch:
                train, test = scaled.of(fit.blocks)
                predictor: Any = build_seeded(fit.classifier, config.params(fit.classifier), config.seed)
                proba = predictor.fit(train, labels, groups).predict_proba(test)
                yield _kept(fit, load, proba, math.nan, dict(getattr(predictor, "chosen_", {})))
        except (ValueError, TypeError) as error:
            raise _refused(batch[0], error) from error


def _measured(
    batch: Sequence[Fit], load: Workload
) -> tuple[NDArray[np.float32], dict[str, slice], NDArray[np.intp], NDArray[np.intp], dict[str, Any]]:
    """What a batch of one split shares: features, the blocks that it needs, both parts, and the layer's parameters."""
    split = load.splits[batch[0].split]
    needed = {name for fit in batch for name in fit.blocks}
    blocks = {name: part for name, part in load.table.blocks.items() if name in needed}
    layer = {"random_state": load.config.seed, **load.config.layer}
    return load.table_of(batch[0].split).X, blocks, split.train, split.test, layer


def _refused(fit: Fit, error: Exception) -> UsageError:
    reason = " ".join(str(error).split())
    return UsageError(f"classifier '{fit.classifier}' cannot be trained as asked", found=reason)


def _on_shared_distances(batch: Sequence[Fit], load: Workload) -> Iterator[_Fitted]:
    """Fit a batch of one classifier in one split."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # as in score_fold: the same sums on any machine
        split, config = load.splits[batch[0].split], load.config
        labels, groups = np.array(load.table.y)[split.train], load.table.groups[split.train]
        try:
            shared = gram.SharedDistances(*_measured(batch, load))
            for fit in batch:
                machine: Any = build_seeded(fit.classifier, config.params(fit.classifier), config.seed)
                machine.fit_distances(shared.of(fit.blocks), labels, groups)
                proba = machine.predict_proba_distances(shared.test_rows)
                yield _kept(fit, load, proba, math.nan, dict(getattr(machine, "chosen_", {})))
        except (ValueError, TypeError) as error:
            raise _refused(batch[0], error) from error


def _kept(fit: Fit, load: Workload, proba: NDArray[np.float64], cut: float, chosen: dict[str, float]) -> _Fitted:
    # The threshold stands beside the probabilities of every cell: one array is kept whole or not at all, and last.
    if chosen:
        load.checkpoint.keep_values(fit.name, chosen)
    load.checkpoint.keep(fit.name, np.column_stack([proba, np.full(len(proba), cut)]))
    return fit, proba, cut, chosen
