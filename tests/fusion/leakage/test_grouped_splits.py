"""No split by group leaks, whatever the subjects and duplicates; what cannot be split is said in words."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fusion.data.groups import merge_groups, merged_subjects
from fusion.leakage.grouped_splits import (
    LeakageError,
    Split,
    SplitError,
    affordable_splits,
    assert_disjoint,
    grouped_folds,
    leaked_groups,
    official_folds,
    random_folds,
)
from tests.builders.groups import components

# Few ids, so that subjects and images repeat; 'h1' beside 'H1', as C-NMC has them.
SUBJECTS = st.sampled_from([None, *(f"{letter}{at}" for at in range(1, 8) for letter in "hH")])
KEYS = st.integers(0, 60).map("k{}".format)
GROUPS = st.sampled_from([None, None, None, "a", "b", "H1"])
ROWS = st.tuples(SUBJECTS, KEYS, GROUPS, st.sampled_from("ab"), st.sampled_from("0123"))
TREES = st.lists(ROWS, min_size=1, max_size=60)


def columns(tree):
    return tuple(list(column) for column in zip(*tree, strict=True))


def assert_leaks_nothing(splits, subjects, keys, groups):
    for split in splits:
        assert len(split.train)
        assert len(split.test)
        for ids in (subjects, keys, groups.tolist(), range(len(keys))):
            shared = {ids[row] for row in split.train} & {ids[row] for row in split.test}
            assert shared <= {None}
        assert_array_equal(np.sort(np.concatenate([split.train, split.test])), np.arange(len(keys)))
        assert leaked_groups(split).size == 0
        assert_disjoint(split, subjects=subjects, keys=keys, paths=keys)
    tested = np.concatenate([split.test for split in splits])
    assert_array_equal(np.sort(tested), np.arange(len(keys)))


# ---- groups ---------------------------------------------------------------------------------------------------------


@given(TREES)
@settings(max_examples=300, deadline=None)
def test_groups_are_exactly_the_connected_components(tree):
    subjects, keys, groups, *_ = columns(tree)
    merged = merge_groups(subjects, keys, groups)
    expected = components(subjects, keys, groups)
    assert len(set(zip(merged.tolist(), expected.tolist(), strict=True))) == len(set(expected)) == len(set(merged))
    first = np.unique(merged, return_index=True)[1]
    assert_array_equal(merged[np.sort(first)], np.arange(len(first)))


def test_subjects_that_share_an_image_are_one_group():
    groups = merge_groups(subjects=["20", "21", "22"], keys=["a", "a", "b"])
    assert groups[0] == groups[1] != groups[2]


def test_sharing_reaches_through_others():
    assert_array_equal(merge_groups(["1", "2", "2", "3", "4"], ["a", "a", "b", "b", "c"]), [0, 0, 0, 0, 1])


def test_case_tells_subjects_apart_and_unknown_subjects_are_not_one():
    assert_array_equal(merge_groups(["h3", "H3", None, None], ["a", "b", "c", "d"]), [0, 1, 2, 3])
    assert_array_equal(merge_groups(None, ["a", "b", "a"]), [0, 1, 0])


def test_an_extra_group_joins_subjects_but_ids_of_different_kinds_do_not():
    assert_array_equal(merge_groups(["1", "2", "3"], ["a", "b", "c"], ["g", "g", None]), [0, 0, 1])
    assert_array_equal(merge_groups(["x", "y"], ["y", "k"], ["k", "x"]), [0, 1])


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="2 ids for 1"):
        merge_groups(["1", "2"], ["a"])


def test_merged_subjects_name_who_shares_images():
    assert merged_subjects(["1", "2", "3", "3", None], ["a", "a", "b", "b", "a"]) == [["1", "2"]]
    assert merged_subjects(["1", "2"], ["a", "b"]) == []


# ---- splits ---------------------------------------------------------------------------------------------------------


@given(TREES, st.integers(2, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_grouped_folds_never_leak(tree, n_splits, seed):
    subjects, keys, extra, y, _ = columns(tree)
    groups = merge_groups(subjects, keys, extra)
    y = np.array(y)
    try:
        affordable = affordable_splits(y, groups, n_splits)
    except SplitError:
        assume(False)
    splits = grouped_folds(y, groups, affordable, seed)
    assert len(splits) == affordable
    assert_leaks_nothing(splits, subjects, keys, groups)
    for split in splits:
        assert set(y[split.train]) == set(y[split.test]) == {"a", "b"}


@given(TREES)
@settings(max_examples=300, deadline=None)
def test_official_folds_never_leak_and_move_as_little_as_they_can(tree):
    subjects, keys, extra, _, fold = columns(tree)
    groups = merge_groups(subjects, keys, extra)
    try:
        official = official_folds(fold, groups)
    except SplitError:
        assume(False)
    assert_leaks_nothing(official.splits, subjects, keys, groups)
    given_fold = np.array(fold)
    tested = np.empty(len(fold), object)
    for name, split in zip(official.names, official.splits, strict=True):
        tested[split.test] = name
    assert_array_equal(official.moved, np.flatnonzero(tested != given_fold))
    for group in np.unique(groups):
        names, counts = np.unique(given_fold[groups == group], return_counts=True)
        assert set(tested[groups == group]) == {names[counts.argmax()]}


@pytest.mark.parametrize("seed", range(20))
def test_every_class_is_found_a_place_when_greedy_balancing_misses_one(seed):
    # Cell-type data: each subject holds common cells and a few of several rare types.
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, 400, size=12)
    groups = np.repeat(np.arange(12), sizes)
    y = np.full(len(groups), "neutrophil", object)
    for at in range(6):
        holders = rng.choice(12, size=4, replace=False)
        for group in holders:
            y[rng.choice(np.flatnonzero(groups == group))] = f"rare{at}"
    n_splits = affordable_splits(y, groups, 3)
    for split in grouped_folds(y, groups, n_splits, seed):
        assert set(y[split.train]) == set(y[split.test]) == set(y)


def test_folds_follow_the_seed_and_nothing_else():
    groups, y = np.repeat(np.arange(20), 3), np.repeat(["all", "hem"], 30)
    first, again, other = (grouped_folds(y, groups, 5, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a.test, b.test) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a.test, b.test) for a, b in zip(first, other, strict=True))
    relabelled = grouped_folds(y, groups * 7 + 100, 5, 0)
    assert all(np.array_equal(a.test, b.test) for a, b in zip(first, relabelled, strict=True))


def test_folds_are_those_of_scikit_learn_where_it_covers_every_class():
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.repeat(np.arange(30), np.arange(1, 31))
    y = np.where(groups % 3 == 0, "hem", "all")
    expected = StratifiedGroupKFold(5, shuffle=True, random_state=7).split(y, y, groups)
    for split, (train, test) in zip(grouped_folds(y, groups, 5, 7), expected, strict=True):
        assert_array_equal(split.train, train)
        assert_array_equal(split.test, test)


def test_random_folds_are_stratified_and_leak():
    groups, y = np.repeat(np.arange(10), 10), np.repeat(["all", "hem"], 50)
    splits = random_folds(y, groups, 5, 0)
    assert_array_equal(np.sort(np.concatenate([split.test for split in splits])), np.arange(100))
    for split in splits:
        assert (y[split.test] == "all").sum() == 10
        assert len(leaked_groups(split)) > 5


def test_fewer_groups_than_folds_is_the_callers_business():
    groups, y = np.array([0, 1, 2, 3, 4, 5]), np.array(["a", "a", "a", "b", "b", "b"])
    assert affordable_splits(y, groups, 5) == 3
    assert affordable_splits(y, groups, 2) == 2
    with pytest.raises(SplitError, match="cannot make 5 folds") as caught:
        grouped_folds(y, groups, 5)
    assert "2 to 3 folds" in str(caught.value)
    with pytest.raises(SplitError, match="cannot make 1 folds"):
        grouped_folds(y, groups, 1)
    with pytest.raises(SplitError, match="3 cells of 'a'"):
        random_folds(y, groups, 4, 0)


def test_a_class_of_one_subject_is_explained():
    y, groups, names = ["all", "all", "hem", "hem"], [0, 1, 2, 2], ["1", "2", "H6", "H6"]
    with pytest.raises(SplitError) as caught:
        grouped_folds(y, groups, 2, names=names)
    error = caught.value
    assert error.exit_code == 2
    assert error.what == "one-sided class 'hem'"
    assert error.found == (
        "every 'hem' cell belongs to subject H6, so no split by subject has both classes on both sides."
    )
    assert error.do == "Add cells of a second subject, or leave 'hem' out with --classes."


@pytest.mark.parametrize(
    ("y", "groups", "names", "message"),
    [
        ("aabc", [0, 1, 2, 3], None, "there is only one 'b' cell, so no split by subject has every class"),
        ("aab", [0, 1, 2], [None] * 3, "there is only one 'b' cell"),
        ("aabb", [0, 1, 2, 2], None, "every 'b' cell is in one group"),
        ("aabb", [0, 1, 2, 2], ["1", "2", "3", "4"], "belongs to subjects 3, 4, who share images"),
        ("aa", [0, 1], None, "every cell is 'a'"),
        ("", [], None, "no cells"),
    ],
)
def test_what_cannot_be_split_is_said_in_words(y, groups, names, message):
    with pytest.raises(SplitError) as caught:
        affordable_splits(list(y), groups, 5, names=names)
    assert message in str(caught.value)


def test_impossible_folds_are_refused_after_a_bounded_search():
    # Three classes, each in two of three subjects: with two folds, one class always lies on one side.
    with pytest.raises(SplitError, match="every class in each"):
        grouped_folds(list("abbcca"), [0, 0, 1, 1, 2, 2], 2)


def test_official_folds_move_a_subject_whole():
    official = official_folds(["2", "1", "1", "2", "1", "2"], [0, 0, 0, 1, 2, 2])
    assert official.names == ("1", "2")
    assert_array_equal(official.splits[0].test, [0, 1, 2, 4, 5])  # the tie of group 2 goes to the first name
    assert_array_equal(official.splits[1].test, [3])
    assert_array_equal(official.moved, [0, 5])


def test_official_folds_need_two_folds_and_no_gaps():
    for fold in (["1", None, "2"], []):
        with pytest.raises(SplitError, match="without a fold"):
            official_folds(fold, range(len(fold)))
    for fold, groups in ((["1", "1"], [0, 1]), (["1", "2"], [0, 0])):
        with pytest.raises(SplitError, match="cannot be kept apart"):
            official_folds(fold, groups)


# ---- the guard ------------------------------------------------------------------------------------------------------


def test_the_guard_names_subjects_and_files():
    split = Split(np.array([0, 1, 2, 3, 4]), np.array([5, 6, 7, 8, 9]), np.arange(10))
    subjects = ["1", "2", "3", "4", "5", "1", "2", "3", "4", "9"]
    with pytest.raises(LeakageError) as caught:
        assert_disjoint(split, subjects=subjects, keys=list("abcdefghij"), paths=[f"{at}.bmp" for at in range(10)])
    assert caught.value.exit_code == 1
    assert "4 of 5 test images" in str(caught.value)
    assert "subjects 1, 2, 3 and 1 more; files 5.bmp, 6.bmp, 7.bmp and 1 more" in caught.value.found


def test_the_guard_sees_an_image_under_two_names_and_a_group_of_two_subjects():
    split = Split(np.array([0, 1]), np.array([2, 3]), np.arange(4))
    with pytest.raises(LeakageError, match=r"1 images on both sides; files copy.bmp"):
        assert_disjoint(split, subjects=[None] * 4, keys=["a", "b", "a", "c"], paths=["0", "1", "copy.bmp", "3"])
    together = Split(np.array([0, 1]), np.array([2, 3]), np.array([0, 1, 1, 2]))
    with pytest.raises(LeakageError, match="1 groups on both sides"):
        assert_disjoint(together, subjects=["1", "2", "3", "4"], keys=list("abcd"), paths=list("0123"))


def test_unknown_subjects_do_not_trip_the_guard():
    split = Split(np.array([0, 1]), np.array([2, 3]), np.arange(4))
    assert_disjoint(split, subjects=[None] * 4, keys=list("abcd"), paths=list("abcd"))
    assert leaked_groups(split).size == 0
