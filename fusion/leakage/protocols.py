"""Every kind of split by its name, each one checked by the guard before anything is fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.groups import merge_groups
from fusion.data.subjects import check_spelling, identities
from fusion.data.units import Units
from fusion.leakage import grouped_splits
from fusion.leakage.grouped_splits import Split, SplitError


@dataclass(frozen=True, eq=False)
class Plan:
    """What is learnt from and what is judged, and what had to be changed to make it fair.

    Attributes
    ----------
    kind : one of ``KINDS``, or "external".
    rounds : splits by round; within a round no cell is tested twice.
    notes : what the user should know, one line each.
    """

    kind: str
    rounds: tuple[tuple[Split, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> list[tuple[int, Split]]:
        """(round, split) in the order in which they are fitted."""
        return [(at, split) for at, splits in enumerate(self.rounds) for split in splits]

    def test_share(self) -> float:
        """Mean share of the cells taking part that a split tests."""
        shares = [len(split.test) / (len(split.test) + len(split.train)) for _, split in self.splits]
        return float(np.mean(shares))


def make_plan(table: Units, kind: str, n_splits: int, repeats: int, seed: int) -> Plan:
    """Splits of one kind over all units of the table.

    Parameters
    ----------
    kind : "grouped": ``repeats`` times ``n_splits`` folds that keep groups whole. "monte-carlo": ``repeats`` times one
        such fold of a fresh deal is tested. "leave-one-subject-out": each group is tested once. "official": the folds
        of the data set, mended where a group spans several. "leave-one-source-out": each source is tested once.
        "source-stratified": as "grouped", with every source in every fold as far as whole groups allow. "random":
        ``repeats`` times folds by image, which leak and are here to show by how much.
    n_splits, repeats, seed : the first round of a seed is the same whatever ``repeats`` is.

    Raises
    ------
    SplitError : these cells cannot be split so.
    LeakageError : a subject or image would be on both sides of a split that is not random.
    """
    y = np.array(table.y, dtype=object)
    _refuse_twin_labels(sorted(set(table.y), key=str))
    rounds, notes = KINDS[kind](table, y, n_splits, _seeds(seed, repeats))
    plan = Plan(kind, tuple(tuple(part) for part in rounds), (*notes, *_listed_twice(table)))
    if kind != "random":
        check(plan, table)
    return plan


def external_plan(
    train: Units,
    test: Units,
    *,
    other_cohort: bool = False,
    near: Mapping[str, int] | None = None,
    allow_leakage: bool = False,
) -> tuple[Plan, NDArray[np.intp]]:
    """All of one table to learn from, all of the other to judge, as a plan over both, the training part first.

    Parameters
    ----------
    other_cohort : the test's people are others than those of training, whatever names they share.
    near : image -> number of its set of near-duplicates, over both tables.
    allow_leakage : take what is in both all the same; ``leaking_subjects`` then counts it, for a stamp.

    Returns
    -------
    the plan, and intp (n,) groups over both tables.

    Raises
    ------
    SplitError : a class is tested that nothing is learnt of.
    LeakageError : a subject, a group, an image or a near-duplicate of one is in both, and ``allow_leakage`` is off.
    UsageError : names in both that may be one name spelt twice.
    """
    if unknown := sorted(set(map(str, test.y)) - set(map(str, train.y))):
        raise SplitError("the external test has classes that nothing is learnt of", found=", ".join(unknown))
    ids = _ids_of_both(train, test, other_cohort=other_cohort)
    image_keys = (*train.image_keys, *test.image_keys)
    sets = [None if near is None else near.get(key) for key in image_keys]
    # Groups of each table as they are, distinguished by a letter: what joins them must be one of these.
    own = [f"{letter}{g}" for letter, table in (("a", train), ("b", test)) for g in table.groups]
    groups = merge_groups(ids["subject"], image_keys, own, ids["group"], sets)
    split = Split(np.arange(len(train)), np.arange(len(train), len(train) + len(test)), groups)
    names = (*train.names, *test.names)
    if allow_leakage:
        return Plan("external", ((split,),)), groups
    grouped_splits.assert_disjoint(
        split,
        subjects=ids["subject"],
        keys=image_keys,
        paths=names,
        also={"group ids": ids["group"], "sets of near-duplicates": sets},
        do="Take them out of one of both. If the subjects or groups are others of the same names, say --other-cohort, "
        "or give both tables a column 'source'. To have them judged all the same, stamped: --allow-leakage.",
    )
    return Plan("external", ((split,),)), groups


def external_plan_of_subjects(
    plan: Plan, groups: NDArray[np.intp], train: Units, test: Units
) -> tuple[Plan, NDArray[np.intp]]:
    """The external plan of cells, and their groups, as those of the subjects that the cells are of.

    Parameters
    ----------
    plan, groups : of the cells of both tables; see ``external_plan``.
    train, test : the subjects, whose ``cells`` are rows of the cells' tables.
    """
    moved = sum(map(len, train.cells))
    first = [*(int(rows[0]) for rows in train.cells), *(int(rows[0]) + moved for rows in test.cells)]
    own = groups[first]
    split = Split(np.arange(len(train)), np.arange(len(train), len(train) + len(test)), own)
    return Plan(plan.kind, ((split,),), plan.notes), own


def _ids_of_both(train: Units, test: Units, *, other_cohort: bool) -> dict[str, list[Any]]:
    """Subjects and groups of both tables by what tells them apart; None where there is none."""
    sources = (*train.sources, *test.sources)
    told = {"subject": (*train.subjects, *test.subjects), "group": (*train.group_ids, *test.group_ids)}
    ids: dict[str, list[Any]] = {}
    for column, names in told.items():
        if not other_cohort:
            check_spelling(column, names, sources, "training and test together")
        # Of another cohort, people are told apart by the table they are in, too.
        ids[column] = [
            (at >= len(train), who) if other_cohort and who is not None else who
            for at, who in enumerate(identities(names, sources))
        ]
    return ids


def check(plan: Plan, table: Units) -> None:
    """Ask the guard about every split."""
    for _, split in plan.splits:
        grouped_splits.assert_disjoint(split, subjects=table.identities, keys=table.image_keys, paths=table.names)


def leaking_subjects(plan: Plan) -> int:
    """How many groups are on both sides of a split of the plan."""
    return len({int(group) for _, split in plan.splits for group in grouped_splits.leaked_groups(split)})


_Made = tuple[list[list[Split]], list[str]]
_Maker = Callable[[Units, NDArray[np.object_], int, Sequence[int]], _Made]


def _grouped(table: Units, y: NDArray[np.object_], n_splits: int, seeds: Sequence[int]) -> _Made:
    affordable, notes = _affordable(table, y, n_splits)
    made = [
        grouped_splits.grouped_folds(y, table.groups, affordable, seed, names=table.subject_names) for seed in seeds
    ]
    return made, notes


def _random(table: Units, y: NDArray[np.object_], n_splits: int, seeds: Sequence[int]) -> _Made:
    affordable, notes = _affordable(table, y, n_splits)
    return [grouped_splits.random_folds(y, table.groups, affordable, seed) for seed in seeds], notes


def _monte_carlo(table: Units, y: NDArray[np.object_], n_splits: int, seeds: Sequence[int]) -> _Made:
    rounds, notes = _grouped(table, y, n_splits, seeds)
    # Folds differ in size by what groups allow; the chosen one must not always be the largest.
    chosen = [
        [folds[np.random.default_rng(seed).integers(len(folds))]] for folds, seed in zip(rounds, seeds, strict=True)
    ]
    tested = len(set().union(*(set(part[0].test.tolist()) for part in chosen)))
    if tested < len(table):
        notes.append(f"{len(table) - tested} of {len(table)} cells were drawn for no test in {len(seeds)} rounds.")
    return chosen, notes


def _leave_one_out(table: Units, y: NDArray[np.object_], n_splits: int, seeds: Sequence[int]) -> _Made:
    if table.unit == "image":
        raise SplitError("no subject can be left out", found="cells without subjects", expected="a subject each")
    grouped_splits.affordable_splits(y, table.groups, n_splits, names=table.subject_names)
    return [grouped_splits.leave_one_group_out(table.groups)], []


def _source_stratified(table: Units, y: NDArray[np.object_], n_splits: int, seeds: Sequence[int]) -> _Made:
    if None in table.sources:
        raise SplitError(
            "sources cannot be spread over folds", found="cells without a source", expected="a source each"
        )
    affordable, notes = _affordable(table, y, n_splits)
    made = [
        grouped_splits.grouped_folds(y, table.groups, affordable, seed, names=table.subject_names, strata=table.sources)
        for seed in seeds
    ]
    return made, notes


def _leave_one_source_out(table: Units, y: NDArray[np.object_], n_splits: int, seeds: Sequence[int]) -> _Made:
    made = grouped_splits.leave_one_source_out(table.sources, table.groups)
    notes = []
    for source, split in made:
        if missing := sorted(set(y[split.test]) - set(y[split.train]), key=str):
            sources = {label: len({table.sources[at] for at in np.flatnonzero(y == label)}) for label in set(y)}
            shared = ",".join(sorted(label for label, count in sources.items() if count > 1))
            raise SplitError(
                f"source '{source}' cannot be tested",
                found=f"no {', '.join(missing)} cell is in the other sources",
                do=f"Judge the classes that two sources have: --classes {shared}." if shared.count(",") else "",
            )
        if left_out := len(table) - len(split.train) - len(split.test):
            notes.append(
                f"{left_out} cells are not learnt from where source '{source}' is tested: it shares their subjects, "
                "images or groups."
            )
    return [[split for _, split in made]], notes


def _official(table: Units, y: NDArray[np.object_], n_splits: int, seeds: Sequence[int]) -> _Made:
    official = grouped_splits.official_folds(table.folds, table.groups)
    for name, split in zip(official.names, official.splits, strict=True):
        if missing := sorted(set(y) - set(y[split.train]), key=str):
            raise SplitError(
                f"fold '{name}' cannot be tested", found=f"no {', '.join(missing)} cell is in the other folds"
            )
    return [list(official.splits)], _moved(table, official)


def _moved(table: Units, official: grouped_splits.OfficialFolds) -> list[str]:
    """What had to be moved to keep groups whole, with the subjects concerned."""
    if not len(official.moved):
        return []
    groups = set(table.groups[official.moved].tolist())
    members: dict[int, dict[str, None]] = {}
    for group, subject in zip(table.groups.tolist(), table.subject_names, strict=True):
        if group in groups and subject is not None:
            members.setdefault(group, {})[subject] = None
    named = [" and ".join(ids) if len(ids) <= 3 else f"{len(ids)} subjects" for ids in members.values() if ids]
    who = (
        f" (subjects {'; '.join(named[:3])}{f'; and {len(named) - 3} more' if len(named) > 3 else ''})" if named else ""
    )
    return [
        f"{len(official.moved)} cells of {len(groups)} groups are tested in another fold than the data set puts them "
        f"in, since a group that shares subjects or images must stay together{who}."
    ]


#: Names of the kinds that ``make_plan`` takes.
KINDS: Mapping[str, _Maker] = {
    "grouped": _grouped,
    "monte-carlo": _monte_carlo,
    "leave-one-subject-out": _leave_one_out,
    "leave-one-source-out": _leave_one_source_out,
    "source-stratified": _source_stratified,
    "official": _official,
    "random": _random,
}


def _affordable(table: Units, y: NDArray[np.object_], n_splits: int) -> tuple[int, list[str]]:
    affordable = grouped_splits.affordable_splits(y, table.groups, n_splits, names=table.subject_names)
    if affordable == n_splits:
        return affordable, []
    scarce = min(sorted(set(table.y), key=str), key=lambda label: len(np.unique(table.groups[y == label])))
    return affordable, [f"{affordable} folds instead of {n_splits}: '{scarce}' has no more subjects than that."]


def _seeds(seed: int, repeats: int) -> list[int]:
    """The seed itself, then others derived from it."""
    more = np.random.SeedSequence(seed).generate_state(max(0, repeats - 1))
    return [seed, *(int(state) for state in more)]


def _refuse_twin_labels(labels: Sequence[str | None]) -> None:
    """'HEM' and 'hem' are one class spelt twice, and on a disk that ignores case one folder read twice."""
    spelt: dict[str, list[str]] = {}
    for label in labels:
        spelt.setdefault(str(label).casefold(), []).append(str(label))
    if twins := [" and ".join(names) for names in spelt.values() if len(names) > 1]:
        raise SplitError(
            "classes that differ only in upper and lower case",
            found="; ".join(twins),
            do="Spell each class one way; an image listed under both would be judged against itself.",
        )


def _listed_twice(table: Units) -> list[str]:
    """Notes on cells that are there several times: they stay in one group, and still count several times."""
    labels: dict[str, set[str]] = {}
    for key, label in zip(table.cell_ids, table.y, strict=True):
        labels.setdefault(key, set()).add(str(label))
    extra, torn = len(table) - len(labels), sum(len(found) > 1 for found in labels.values())
    notes = []
    if extra:
        cells = (
            "1 cell is a copy of another: it stays" if extra == 1 else f"{extra} cells are copies of others: they stay"
        )
        notes.append(f"{cells} on the same side of every split, and each is counted.")
    if torn:
        notes.append(f"{torn} images have several labels: no classifier can be right about both.")
    return notes
