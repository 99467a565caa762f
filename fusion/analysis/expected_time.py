"""How long the fits of a comparison will take, told before the time is spent.

A few of them are made on some of the cells, at two sizes, and timed; what they took is carried on to all cells: in
proportion to them, or to their square where a classifier says so (``GrowsFaster``), on top of what a fit takes
whatever their number. Nothing of a trial is kept, and nothing that is learnt depends on it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fusion.errors import FusionError
from fusion.leakage.grouped_splits import Split
from fusion.learning.fit_batches import run_fits, workers_of
from fusion.learning.fits import Fit, Fits
from fusion.learning.recipe import Recipe
from fusion.plugins import registry
from fusion.plugins.classifiers import GrowsFaster, GrowsInStages
from fusion.progress import Forecast

#: Training cells x columns x fits below which all is done in the time of a trial.
_WORTH_TELLING = 1e8

#: The larger trial has a fifth of the training cells, within these bounds; the smaller one a quarter of that.
_SHARE, _LEAST, _MOST = 5, 240, 1600

#: Trials of trees that are grown in stages: above the thousand cells whose values give the bins, which take as long
#: however many there are.
_STAGED = 1200, 2400

#: Seconds below which a stage is not told of: it is done before one has read that it would be.
_SOON = 10.0


@dataclass(frozen=True)
class _Trial:
    """Fits on some of the cells: how many training cells, and the seconds that they took."""

    cells: int
    seconds: float


def forecast_fits(load: Fits, *, times: float = 1.0, clock: Callable[[], float] = time.perf_counter) -> Forecast | None:
    """What the fits of a comparison will take; None where that is no matter, or all of them train networks.

    Parameters
    ----------
    load : the fits of every recipe in every split. Those that train networks are not counted, which the forecast says.
    times : how often each is made: more than once where labels are permuted, or a last model learns from all cells.
    clock : seconds.
    """
    fits = [Fit(recipe, split) for recipe in range(len(load.recipes)) for split in range(len(load.splits))]
    fits = [fit for fit in fits if load.read(fit) is None]
    networks = len(fits)
    fits = [fit for fit in fits if load.is_for_workers(fit)]
    networks -= len(fits)
    cells = float(np.mean([len(split.train) for split in load.splits]))
    if times * len(fits) * cells * len(load.study.table.columns) < _WORTH_TELLING:
        return None
    grown = _grown_as_all(load)
    parts, processes, timed = [], 1, set()
    for name in load.shared:
        own = [fit for fit in fits if load.recipes[fit.recipe].label == name]
        if not own:
            continue
        sizes = _sizes(
            int(cells), in_stages=any(grown.recipes[at] != load.recipes[at] for at in {f.recipe for f in own})
        )
        timed |= set(sizes)
        seconds = _seconds_of(own, grown, sizes, cells, clock)
        if seconds is None:  # too few cells for a trial: nothing is said rather than something wrong
            return None
        share = workers_of(own, load)
        parts.append((f"{name}, {len(own):,} fits", times * seconds / share))
        processes = max(processes, share)
    total = sum(seconds for _, seconds in parts)
    if total < _SOON:
        return None
    between = "and" if len(timed) == 2 else "to"
    told = f"fits of {min(timed):,} {between} {max(timed):,} cells timed"
    work = f"fitting {round(times * len(fits)):,} models"
    left_out = f"{round(times * networks):,} networks, whose epochs tell" if networks else ""
    return Forecast("fitting", work, total, processes, told, tuple(parts), left_out=left_out)


def _sizes(cells: int, *, in_stages: bool) -> tuple[int, int]:
    """Training cells of the two trials."""
    if in_stages:
        larger = min(cells, _STAGED[1])
        return larger * _STAGED[0] // _STAGED[1], larger
    larger = min(cells, max(_LEAST, min(cells // _SHARE, _MOST)))
    return larger // 4, larger


def _seconds_of(
    fits: Sequence[Fit], load: Fits, sizes: tuple[int, int], cells: float, clock: Callable[[], float]
) -> float | None:
    """Processor seconds of these fits of one classifier; None where a trial fails."""
    recipes = sorted({fit.recipe for fit in fits})
    classifier = load.recipes[recipes[0]].build()
    power = classifier.growth if isinstance(classifier, GrowsFaster) else 1.0
    study = load.study_of(0)  # with the blocks that are learnt
    widths = {at: len(study.select(load.recipes[at].blocks).columns) for at in recipes}
    widest, narrowest = max(recipes, key=widths.__getitem__), min(recipes, key=widths.__getitem__)
    # Fits of a split that share something are timed together, others by the widest and the narrowest set.
    together = load.shared[load.recipes[widest].label] != "nothing"
    asked = recipes if together else [widest]
    try:
        trials = [_trial(load, asked, size, clock) for size in sizes]
        at_full = _carried_on(trials, cells, power)
        if together or widths[widest] == widths[narrowest]:
            return at_full / len(asked) * len(fits)
        least = _trial(load, [narrowest], sizes[1], clock)
    except (FusionError, ValueError):
        return None
    # A line over the columns, through both.
    share = min(1.0, least.seconds / trials[1].seconds)
    slope = (1 - share) / (widths[widest] - widths[narrowest])
    return sum(at_full * (1 - slope * (widths[widest] - widths[fit.recipe])) for fit in fits)


def _grown_as_all(load: Fits) -> Fits:
    """The fits, with parameters by which those of a trial are learnt in the way that those of all cells are."""
    cells = round(np.mean([load.study.count_cells(split.train) for split in load.splits]))

    def grown(recipe: Recipe) -> Recipe:
        classifier = registry.build_classifier(recipe.classifier, recipe.params)
        if not isinstance(classifier, GrowsInStages) or classifier.stages(cells * (1 + recipe.augment.per_cell)) == 1:
            return recipe
        return replace(recipe, params={**recipe.params, "staged_from": 0})

    return replace(load, recipes=tuple(grown(recipe) for recipe in load.recipes))


def _carried_on(trials: Sequence[_Trial], cells: float, power: float) -> float:
    """Seconds at so many cells, of trials of fewer: what grows with them, and what is there whatever their number."""
    small, large = trials
    slope = max(0.0, large.seconds - small.seconds) / (float(large.cells) ** power - float(small.cells) ** power)
    return large.seconds + slope * (cells**power - float(large.cells) ** power)


def _trial(load: Fits, recipes: Sequence[int], cells: int, clock: Callable[[], float]) -> _Trial:
    """Fit these recipes on so many cells of the first split."""
    split = load.splits[0]
    share = cells / len(split.train)
    y = np.array(load.study.table.y, object)
    rng = np.random.default_rng(0)
    train = _drawn(split.train, y, cells, rng)
    test = rng.permutation(split.test)[: max(1, round(share * len(split.test)))]
    own = replace(
        load,
        splits=(Split(train, np.sort(test), split.groups),),
        recipes=tuple(load.recipes[at] for at in recipes),
        embedded={name: rows[:1] for name, rows in load.embedded.items()},
        permuted=(),
        examination=None,
        asked_learnt=None,
        run=replace(load.run, checkpoint=None, progress=None, jobs=1),
        sharing=load.shared,  # as all of them will, not as so few cells would
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begun = clock()
        for _ in run_fits([Fit(at, 0) for at in range(len(recipes))], own):
            pass
        return _Trial(len(train), clock() - begun)


def _drawn(rows: NDArray[np.intp], y: NDArray[np.object_], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """So many of the rows, of every class in proportion, ascending."""
    labels = y[rows].astype(str)
    kept = [
        rng.permutation(own)[: max(2, round(count * len(own) / len(rows)))]
        for own in (rows[labels == label] for label in np.unique(labels))
    ]
    return np.sort(np.concatenate(kept))
