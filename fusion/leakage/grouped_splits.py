"""Splits that keep groups together, and the guard that refuses all others."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.data.subjects import Identity, format_subject
from fusion.errors import FusionError, UsageError

#: scikit-learn's shuffle only reorders groups whose class counts spread alike, so a few tries show all it can do.
_SHUFFLES = 5

#: Random deals after those; each takes well under a millisecond for a hundred groups.
_DEALS = 200


class LeakageError(FusionError):
    """The same subject or image is on both sides of a split."""


class SplitError(UsageError):
    """This data cannot be split as asked."""


@dataclass(frozen=True, eq=False)
class Split:
    """Which rows are learnt from and which are judged.

    Attributes
    ----------
    train, test : intp row numbers, ascending, without a common element.
    groups : intp (n,), the group of every row of the whole table: what must not be on both sides.
    """

    train: NDArray[np.intp]
    test: NDArray[np.intp]
    groups: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class OfficialFolds:
    """The folds that came with a data set, as splits.

    Attributes
    ----------
    names : name of the fold that is the test part of each split, ascending.
    splits : one split a fold.
    moved : intp, rows that are tested in another fold than theirs, because most of their group is there.
    """

    names: tuple[str, ...]
    splits: tuple[Split, ...]
    moved: NDArray[np.intp]


# ---- splits ---------------------------------------------------------------------------------------------------------


def affordable_splits(
    y: ArrayLike, groups: ArrayLike, n_splits: int, *, names: Sequence[str | None] | None = None
) -> int:
    """The number of folds, at most ``n_splits``, that gives every fold a group of each class.

    Parameters
    ----------
    y, groups : n class labels and n group numbers.
    names : n subject ids, for the message of the error.

    Raises
    ------
    SplitError : a single class, or a class of which there is a single group.
    """
    codes, labels = _codes(y)
    ids = np.asarray(groups)
    if len(labels) < 2:
        found = f"every cell is '{labels[0]}'" if len(labels) else "no cells"
        raise SplitError("nothing to tell apart", found=found, expected="cells of at least two classes")
    counts = [len(np.unique(ids[codes == code])) for code in range(len(labels))]
    if min(counts) < 2:
        code = int(np.argmin(counts))
        raise _one_sided(str(labels[code]), np.flatnonzero(codes == code), names, len(labels))
    return min(n_splits, *counts)


def grouped_folds(
    y: ArrayLike,
    groups: ArrayLike,
    n_splits: int = 5,
    seed: int = 0,
    *,
    names: Sequence[str | None] | None = None,
    strata: Sequence[str | None] | None = None,
) -> list[Split]:
    """Cross-validation folds that keep every group whole, class shares alike, every class on both sides of each.

    Parameters
    ----------
    y, groups : n class labels and n group numbers.
    n_splits : folds; see ``affordable_splits`` for how many the data can bear.
    seed : the same seed gives the same folds.
    names : n subject ids, for the message of an error.
    strata : n names of what else should be spread over the folds as far as whole groups allow, sources for one.

    Returns
    -------
    ``n_splits`` splits; each row is in the test part of exactly one of them.

    Raises
    ------
    SplitError : a class has fewer groups than folds, or no way to deal the groups out was found.
    """
    codes, labels = _codes(y)
    ids = np.unique(np.asarray(groups), return_inverse=True)[1]
    affordable = affordable_splits(y, groups, n_splits, names=names)
    if n_splits < 2 or affordable < n_splits:
        raise SplitError(
            f"cannot make {n_splits} folds by subject",
            found=f"a class with {affordable} subjects" if n_splits >= 2 else "",
            expected=f"2 to {affordable_splits(y, groups, len(ids))} folds",
        )
    holds = np.zeros((ids.max() + 1, len(labels)), bool)
    holds[ids, codes] = True
    spread = codes
    if strata is not None:
        spread = _codes([f"{stratum}\0{code}" for stratum, code in zip(strata, codes.tolist(), strict=True)])[0]
    for fold in _candidates(spread, ids, n_splits, seed):
        in_every_fold = [np.bincount(fold[column], minlength=n_splits).all() for column in holds.T]
        if all(in_every_fold):
            return _splits(fold[ids], n_splits, np.asarray(groups, np.intp))
    raise SplitError(
        f"cannot make {n_splits} folds by subject with every class in each",
        found=f"{len(holds)} subjects with several classes each, dealt out in {_SHUFFLES + _DEALS} ways",
        do="Ask for fewer folds with --splits, or leave the rarest class out with --classes.",
    )


def random_folds(y: ArrayLike, groups: ArrayLike, n_splits: int, seed: int) -> list[Split]:
    """Folds by image, whatever group it belongs to.

    They leak, and are here only to show by how much that flatters a result. Parameters and result are those of
    ``grouped_folds``.

    Raises
    ------
    SplitError : a class has fewer cells than folds.
    """
    from sklearn.model_selection import StratifiedKFold

    codes, labels = _codes(y)
    cells = np.bincount(codes, minlength=1)
    if n_splits < 2 or cells.min() < n_splits:
        scarce = f"{cells.min()} cells of '{labels[cells.argmin()]}'" if len(labels) else "no cells"
        raise SplitError(f"cannot make {n_splits} folds", found=scarce, expected="2 folds, and a cell of a class each")
    fold = np.empty(len(codes), np.intp)
    splitter = StratifiedKFold(n_splits, shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(splitter.split(codes, codes)):
        fold[test] = number
    return _splits(fold, n_splits, np.asarray(groups, np.intp))


def leave_one_group_out(groups: ArrayLike) -> list[Split]:
    """One split a group, which alone is tested; ascending by group number."""
    ids = np.asarray(groups, np.intp)
    number = np.unique(ids, return_inverse=True)[1]
    return _splits(number, int(number.max()) + 1, ids)


def leave_one_source_out(sources: Sequence[str | None], groups: ArrayLike) -> list[tuple[str, Split]]:
    """(source, split) by name: each source is tested once, by what is learnt from the others.

    Cells of other sources whose group the tested source shares (an image that two sites have) are left out of
    the training part, so that the split is disjoint by group too.

    Raises
    ------
    SplitError : a cell without a source, or a single source.
    """
    missing = sum(source is None for source in sources)
    known = sorted({source for source in sources if source is not None})
    if missing or len(known) < 2:
        raise SplitError(
            "no source can be left out",
            found=f"{missing} of {len(sources)} cells without a source" if missing else f"{len(known)} sources",
            expected="a source for every cell, and two of them",
            do="Give the table a column 'source'.",
        )
    ids, where = np.asarray(groups, np.intp), np.array(sources, object)
    made = []
    for source in known:
        test = np.flatnonzero(where == source)
        made.append((source, Split(np.flatnonzero((where != source) & ~np.isin(ids, ids[test])), test, ids)))
    return made


def official_folds(fold: Sequence[str | None], groups: ArrayLike) -> OfficialFolds:
    """The folds that came with a data set, mended where a group spans several of them.

    Such a group is moved whole into the fold that holds most of it (of several, the first by name). Whether every
    class is in every fold is as the data set has it.

    Parameters
    ----------
    fold : n names of folds.
    groups : n group numbers.

    Raises
    ------
    SplitError : no rows, a row without a fold, or fewer than two folds.
    """
    if (missing := sum(name is None for name in fold)) or not len(fold):
        raise SplitError(
            "cells without a fold",
            found=f"{missing} of {len(fold)}",
            expected="a fold for every cell",
            do="Give the table a column 'fold', or take another --split.",
        )
    names, own = np.unique(np.array(fold, str), return_inverse=True)
    ids = np.asarray(groups, np.intp)
    where = np.unique(ids, return_inverse=True)[1]
    rows = np.zeros((where.max() + 1, len(names)), np.intp)
    np.add.at(rows, (where, own), 1)
    chosen = rows.argmax(axis=1)[where]  # argmax takes the first of equals, and the names are sorted
    kept, number = np.unique(chosen, return_inverse=True)  # a fold may have lost all its rows
    if len(kept) < 2:
        raise SplitError(
            "the folds of the data set cannot be kept apart by subject",
            found=f"{len(names)} folds, {len(kept)} after whole subjects were moved together",
            expected="at least two",
        )
    return OfficialFolds(
        names=tuple(str(names[at]) for at in kept),
        splits=tuple(_splits(number, len(kept), ids)),
        moved=np.flatnonzero(chosen != own),
    )


def _candidates(codes: NDArray[np.intp], ids: NDArray[np.intp], n_splits: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Yield intp (groups,) fold numbers: first those with the most even class shares, then any that cover classes."""
    from sklearn.model_selection import StratifiedGroupKFold

    holds = np.zeros((ids.max() + 1, codes.max() + 1), bool)
    holds[ids, codes] = True
    rng = np.random.default_rng(seed)
    # scikit-learn refuses where no class has a cell a fold, and warns where one has not; strata may be that small.
    for attempt in range(_SHUFFLES if np.bincount(codes).max() >= n_splits else 0):
        # The first shuffle is that of the seed itself: the folds anyone gets from scikit-learn.
        state = seed if attempt == 0 else int(rng.integers(2**31))
        fold = np.empty(len(holds), np.intp)
        splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=state)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            for number, (_, test) in enumerate(splitter.split(codes, codes, ids)):
                fold[ids[test]] = number
        yield fold
    for _ in range(_DEALS):
        yield _deal(holds, n_splits, rng)


def _deal(holds: NDArray[np.bool_], n_splits: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Deal groups out class by class, the scarcest first, each to the fold with the fewest groups of that class."""
    fold = np.full(len(holds), -1)
    for code in np.argsort(holds.sum(axis=0), kind="stable"):
        for group in rng.permutation(np.flatnonzero(holds[:, code] & (fold < 0))):
            of_class = np.bincount(fold[holds[:, code] & (fold >= 0)], minlength=n_splits)
            in_all = np.bincount(fold[fold >= 0], minlength=n_splits)
            fold[group] = np.lexsort((in_all, of_class))[0]
    return fold


def _splits(fold: NDArray[np.intp], n_splits: int, groups: NDArray[np.intp]) -> list[Split]:
    return [Split(np.flatnonzero(fold != at), np.flatnonzero(fold == at), groups) for at in range(n_splits)]


def _codes(y: ArrayLike) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """(intp (n,) class numbers, the classes); labels become text, so that mixed types still sort."""
    labels, codes = np.unique(np.asarray(y).astype(str), return_inverse=True)
    return codes, labels


def _one_sided(label: str, rows: NDArray[np.intp], names: Sequence[str | None] | None, classes: int) -> SplitError:
    """The error for a class of a single group, whose cells are ``rows``."""
    subjects = list(dict.fromkeys(name for row in rows if names is not None and (name := names[row]) is not None))
    if subjects:
        some = f"subject {subjects[0]}" if len(subjects) == 1 else f"subjects {_few(subjects)}, who share images"
        found = f"every '{label}' cell belongs to {some}"
        do = f"Add cells of a second subject, or leave '{label}' out with --classes."
    else:
        found = f"there is only one '{label}' cell" if len(rows) == 1 else f"every '{label}' cell is in one group"
        do = f"Add cells, or leave '{label}' out with --classes."
    every = "both classes" if classes == 2 else "every class"
    return SplitError(
        f"one-sided class '{label}'", found=f"{found}, so no split by subject has {every} on both sides.", do=do
    )


# ---- the guard ------------------------------------------------------------------------------------------------------


def leaked_groups(split: Split) -> NDArray[np.intp]:
    """intp: the groups that are on both sides, ascending; none in a split by group."""
    return np.intersect1d(split.groups[split.train], split.groups[split.test])


def assert_disjoint(
    split: Split,
    *,
    subjects: Sequence[Identity | None],
    keys: Sequence[str],
    paths: Sequence[str | Path],
    also: Mapping[str, Sequence[Hashable | None]] | None = None,
    do: str = "Split by group: fusion.data.groups.merge_groups, then grouped_folds.",
) -> None:
    """Refuse a split that has a subject, an image or a group on both sides; ask this before every fit.

    Parameters
    ----------
    subjects, keys : n subjects (``fusion.data.subjects.identities``, None where unknown) and n content hashes.
    paths : n names of images, for the message.
    also : what else must not be on both sides, by its name in the plural; n ids each, None where there is none.
    do : what to do about it, for the message.

    Raises
    ------
    LeakageError : names up to three of the subjects and of the test images concerned.
    """
    told: dict[str, Sequence[Hashable | None]] = {"subjects": subjects, "images": keys, **(also or {})}
    both = {word: _on_both_sides(split, ids) for word, ids in told.items()}
    groups = {int(group) for group in leaked_groups(split)}
    if not groups and not any(both.values()):
        return
    leaked = [
        row
        for row in split.test
        if split.groups[row] in groups or any(told[word][row] in ids for word, ids in both.items() if ids)
    ]
    found = [f"{len(ids)} {word} on both sides" for word, ids in both.items() if ids]
    found += [f"{len(groups)} groups on both sides"] if groups else []
    found += [
        f"{word} {_few(sorted(map(format_subject, both[word])))}"
        for word in ("subjects", "group ids")
        if both.get(word)
    ]
    found += [f"files {_few([str(paths[row]) for row in leaked])}"]
    raise LeakageError(
        f"{len(leaked)} of {len(split.test)} test images are no test at all",
        found="; ".join(found),
        expected="every subject, and every image under any name, in training or in test but not in both",
        do=do,
    )


def _on_both_sides(split: Split, ids: Sequence[Hashable]) -> set[Any]:
    return ({ids[row] for row in split.train} & {ids[row] for row in split.test}) - {None}


def _few(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
