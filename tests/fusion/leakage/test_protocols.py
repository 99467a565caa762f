"""Every kind of split keeps subjects and images apart, over a thousand C-NMC-shaped trees and the known traps."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fusion.data.dataset import load_dataset
from fusion.data.feature_table import FeatureTable
from fusion.data.groups import merge_groups
from fusion.data.subjects import identities
from fusion.data.units import units_of
from fusion.errors import UsageError
from fusion.leakage.grouped_splits import LeakageError, SplitError, leave_one_group_out
from fusion.leakage.protocols import KINDS, external_plan, leaking_subjects, make_plan
from tests.builders.groups import components
from tests.builders.images import paint, write_image

HONEST = sorted(set(KINDS) - {"random"})


@st.composite
def cnmc_trees(draw):
    """What a C-NMC tree can look like: ALL subjects by number, healthy ones 'H..' or 'h..', three folds, and identical
    files inside a subject, under two subjects, and across folds."""
    ids = [str(at) for at in range(1, draw(st.integers(2, 7)) + 1)]
    ids += [f"{letter}{at}" for at in range(1, draw(st.integers(1, 4)) + 1) for letter in "hH"]
    rows = []
    for at, subject in enumerate(ids):
        home = draw(st.integers(0, 2))
        for cell in range(draw(st.integers(1, 5))):
            rows.append([subject, f"{at}-{cell}", "hem" if subject[0] in "hH" else "all", str(home)])
    for _ in range(draw(st.integers(0, 6))):  # a file copied over another one, in whatever subject and fold
        source, target = (draw(st.integers(0, len(rows) - 1)) for _ in range(2))
        rows[target][1] = rows[source][1]
    return rows


def table(rows, subjects_known=True, sources=()):
    subjects, keys, y, folds = (tuple(column) for column in zip(*rows, strict=True))
    return FeatureTable(
        X=np.empty((len(rows), 0), np.float32),
        columns=(),
        names=tuple(f"UID_{s}_{at}.bmp" for at, s in enumerate(subjects)),
        keys=keys,
        image_keys=keys,
        y=y,
        subjects=subjects,
        folds=folds,
        groups=merge_groups(identities(subjects, sources) if sources else subjects, keys),
        subjects_known=subjects_known,
        sources=sources,
    )


def assert_apart(plan, cells):
    for round_ in plan.rounds:
        tested = np.concatenate([split.test for split in round_])
        assert len(np.unique(tested)) == len(tested)
        for split in round_:
            assert len(split.test)
            assert not set(split.train.tolist()) & set(split.test.tolist())
            for ids in (cells.identities, cells.image_keys, cells.groups.tolist()):
                assert {ids[row] for row in split.train} & {ids[row] for row in split.test} <= {None}
            assert set(np.array(cells.y)[split.train]) == set(cells.y)


def assert_keeps_its_promise(kind, rows, n_splits, repeats, seed):
    # Two sites, by turns whatever the subject: its id under the other one is another subject.
    cells = table(
        rows, sources=tuple("east" if at % 3 else "west" for at in range(len(rows))) if "source" in kind else ()
    )
    try:
        plan = make_plan(cells, kind, n_splits, repeats, seed)
    except SplitError:
        assume(False)
    assert_apart(plan, cells)
    assert len(plan.rounds) == (repeats if kind in ("grouped", "source-stratified", "monte-carlo") else 1)
    tested = Counter(int(row) for _, split in plan.splits for row in split.test)
    if kind == "monte-carlo":
        assert [len(round_) for round_ in plan.rounds] == [1] * repeats
    else:
        assert tested == dict.fromkeys(range(len(cells)), len(plan.rounds))
    for _, split in plan.splits:
        # No cell is lost, but for those of other sources that share a group with the one that is tested.
        of_tested = np.isin(cells.groups, cells.groups[split.test])
        is_lost = ~np.isin(np.arange(len(cells)), [*split.train, *split.test])
        assert not (is_lost & ~of_tested).any()
        assert kind == "leave-one-source-out" or not is_lost.any()


TREES = {
    "rows": cnmc_trees(),
    "n_splits": st.integers(2, 4),
    "repeats": st.integers(1, 3),
    "seed": st.integers(0, 2**32 - 1),
}


@pytest.mark.parametrize("kind", HONEST)
@given(**TREES)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_no_split_of_any_kind_leaks_and_every_cell_is_tested_as_often_as_promised(kind, rows, n_splits, repeats, seed):
    assert_keeps_its_promise(kind, rows, n_splits, repeats, seed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", HONEST)
@given(**TREES)
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_over_a_thousand_trees_no_split_leaks(kind, rows, n_splits, repeats, seed):
    assert_keeps_its_promise(kind, rows, n_splits, repeats, seed)


@given(rows=cnmc_trees())
@settings(max_examples=250, deadline=None)
def test_groups_are_merged_where_images_are_shared_and_nowhere_else(rows):
    cells = table(rows)
    expected = components(cells.subjects, cells.image_keys)
    pairs = set(zip(cells.groups.tolist(), expected.tolist(), strict=True))
    assert len(pairs) == len(set(expected.tolist())) == len(set(cells.groups.tolist()))


@given(rows=cnmc_trees(), seed=st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_a_random_split_is_allowed_to_leak_and_says_how_much(rows, seed):
    cells = table(rows)
    try:
        plan = make_plan(cells, "random", 2, 1, seed)
    except SplitError:
        assume(False)
    torn = {
        int(group)
        for split in plan.rounds[0]
        for group in set(cells.groups[split.train].tolist()) & set(cells.groups[split.test].tolist())
    }
    assert leaking_subjects(plan) == len(torn)


def plain(n_subjects=12, cells=3):
    return [
        [f"{'H' if at % 2 else ''}{at}", f"{at}-{cell}", "hem" if at % 2 else "all", str(at % 3)]
        for at in range(n_subjects)
        for cell in range(cells)
    ]


def test_the_first_round_does_not_depend_on_how_many_follow_and_rounds_differ():
    cells = table(plain())
    one, three = (make_plan(cells, "grouped", 3, repeats, 5) for repeats in (1, 3))
    for a, b in zip(one.rounds[0], three.rounds[0], strict=True):
        assert_array_equal(a.test, b.test)
    assert len({tuple(round_[0].test.tolist()) for round_ in three.rounds}) == 3


def test_every_subject_is_left_out_once():
    cells = table(plain())
    plan = make_plan(cells, "leave-one-subject-out", 5, 1, 0)
    assert len(plan.splits) == 12
    for _, split in plan.splits:
        assert len({cells.subjects[row] for row in split.test}) == 1
    assert_array_equal([len(split.test) for split in leave_one_group_out([5, 5, 2])], [1, 2])
    with pytest.raises(SplitError, match="no subject can be left out"):
        make_plan(table(plain(), subjects_known=False), "leave-one-subject-out", 5, 1, 0)


def test_monte_carlo_tests_a_share_of_the_subjects_each_time_and_says_who_was_never_drawn():
    cells = table(plain(20))
    plan = make_plan(cells, "monte-carlo", 5, 40, 0)
    assert [len(round_) for round_ in plan.rounds] == [1] * 40
    assert plan.test_share() == pytest.approx(0.2, abs=0.05)
    drawn = Counter(cells.subjects[row] for _, split in plan.splits for row in split.test)
    assert len(drawn) == 20
    assert "drawn for no test" in make_plan(cells, "monte-carlo", 5, 2, 0).notes[0]


def test_official_folds_are_mended_with_a_word_on_what_was_moved():
    rows = plain()
    # The image of subject 0 (fold 0) is also one of subject 4's (fold 1), as 94 images of C-NMC are.
    rows[12][1] = rows[0][1]
    plan = make_plan(table(rows), "official", 5, 1, 0)
    (moved,) = [note for note in plan.notes if "another fold" in note]
    assert moved.startswith("3 cells of 1 groups are tested in another fold than the data set puts them in")
    assert "subjects 0 and 4" in moved
    assert not [note for note in make_plan(table(plain()), "official", 5, 1, 0).notes if "another fold" in note]
    one_class = [[s, k, y, "0" if y == "all" else "1"] for s, k, y, _ in plain()]
    with pytest.raises(SplitError, match="fold '0' cannot be tested"):
        make_plan(table(one_class), "official", 5, 1, 0)


def test_a_source_with_a_class_of_its_own_tells_which_classes_can_be_judged():
    labels = ["a", "b", "a", "b", "c", "a", "b", "d"]
    rows = [[str(at), str(at), label, "0"] for at, label in enumerate(labels)]
    with pytest.raises(SplitError) as refused:
        make_plan(table(rows, sources=("east",) * 2 + ("south",) * 3 + ("west",) * 3), "leave-one-source-out", 5, 1, 0)
    assert refused.value.what == "source 'south' cannot be tested"
    assert refused.value.do == "Judge the classes that two sources have: --classes a,b."


def test_fewer_folds_than_asked_are_noted():
    plan = make_plan(table(plain(6)), "grouped", 5, 1, 0)
    assert len(plan.splits) == 3
    assert "3 folds instead of 5: 'all' has no more subjects" in plan.notes[0]


# ---- an external test set -------------------------------------------------------------------------------------------


def test_an_external_test_set_is_learnt_from_by_no_one():
    train = table(plain(6))
    test = table([[f"9{s}", f"9{k}", y, fold] for s, k, y, fold in plain(4)])
    plan, groups = external_plan(train, test)
    ((_, split),) = plan.splits
    assert_array_equal(split.train, np.arange(18))
    assert_array_equal(split.test, np.arange(18, 30))
    assert len(np.unique(groups)) == 10


@pytest.mark.parametrize(("column", "words"), [(0, "1 subjects on both sides"), (1, "1 images on both sides")])
def test_an_external_test_set_that_shares_a_subject_or_an_image_is_refused(column, words):
    train = table(plain(6))
    rows = [[f"9{s}", f"9{k}", y, fold] for s, k, y, fold in plain(4)]
    rows[0][column] = plain(6)[0][column]
    with pytest.raises(LeakageError) as caught:
        external_plan(train, table(rows))
    assert words in caught.value.found


def test_an_external_class_that_nothing_is_learnt_of_is_refused():
    with pytest.raises(SplitError, match="classes that nothing is learnt of"):
        external_plan(table(plain(4)), table([["9", "9", "cll", "0"]]))


# ---- traps seen in published work -----------------------------------------------------------------------------------


def test_one_class_spelt_two_ways_is_refused(tmp_path):
    # A disk that ignores case shows one folder under both names: every image would be in 'HEM' and in 'hem'.
    for at in range(4):
        for label in ("HEM", "hem", "all"):
            write_image(tmp_path / label / f"{at}.png", paint(at + 10 * (label == "all")))
    with pytest.raises(UsageError, match="may be one label spelt in several ways") as asked:
        load_dataset(tmp_path)
    assert asked.value.found == "'HEM' and 'hem'"
    # Who does not need labels is not asked, and no plan is made of what he has read.
    rows = plain()
    rows[0][2] = rows[0][2].upper()
    with pytest.raises(SplitError, match="differ only in upper and lower case"):
        make_plan(table(rows), "grouped", 2, 1, 0)


def test_a_file_that_is_there_twice_stays_on_one_side_and_is_counted(tmp_path):
    for at in range(8):
        write_image(tmp_path / f"{at}.png", paint(at))
    for at in (0, 1):  # the same file under another name, and for the second under another subject
        (tmp_path / f"{at} again.png").write_bytes((tmp_path / f"{at}.png").read_bytes())
    lines = [f"{at}.png,{'all' if at % 2 else 'hem'},{at}" for at in range(8)]
    (tmp_path / "cells.csv").write_text(
        "\n".join(["path,label,subject", *lines, "0 again.png,hem,0", "1 again.png,all,99"])
    )
    cells = units_of(load_dataset(tmp_path / "cells.csv"))
    assert len(set(cells.groups.tolist())) == 8
    for kind in ("grouped", "monte-carlo", "leave-one-subject-out"):
        plan = make_plan(cells, kind, 2, 2, 0)
        assert_apart(plan, cells)
        assert "2 cells are copies of others" in plan.notes[-1]


def test_cells_of_one_image_are_no_copies_of_each_other(tmp_path):
    lines = []
    for at in range(4):
        write_image(tmp_path / f"{at}.png", paint(at, side=96, radius=20))
        for cell in range(2):  # each with a label and a mask of its own
            mask = np.zeros((96, 96, 3), np.uint8)
            mask[30 : 60 + at, 10 + 40 * cell : 40 + 40 * cell] = 255
            write_image(tmp_path / f"{at}-{cell}.png", mask)
            lines.append(f"{at}.png,{'all' if cell else 'hem'},{at},{at}-{cell}.png")
    (tmp_path / "cells.csv").write_text("\n".join(["path,label,subject,mask", *lines]))
    plan = make_plan(units_of(load_dataset(tmp_path / "cells.csv")), "grouped", 2, 1, 0)
    assert plan.notes == ()
    # Image and masks under other names, once more: copies, and of one the label is another.
    for name in ("3.png", "3-0.png", "3-1.png"):
        (tmp_path / f"again-{name}").write_bytes((tmp_path / name).read_bytes())
    lines += ["again-3.png,hem,3,again-3-0.png", "again-3.png,hem,3,again-3-1.png"]
    (tmp_path / "cells.csv").write_text("\n".join(["path,label,subject,mask", *lines]))
    notes = make_plan(units_of(load_dataset(tmp_path / "cells.csv")), "grouped", 2, 1, 0).notes
    assert notes[0].startswith("2 cells are copies of others")
    assert notes[1].startswith("1 images have several labels")


def test_an_image_with_two_labels_is_told():
    rows = plain()
    rows[3][1] = rows[0][1]  # subject H1's image is that of subject 0, with the other label
    notes = make_plan(table(rows), "grouped", 3, 1, 0).notes
    assert any("1 images have several labels" in note for note in notes)


def test_an_augmented_copy_goes_where_its_original_goes(tmp_path):
    # Copies have other bytes and, in a table made by hand, often other subjects: the group says whose copy it is.
    lines = []
    for at in range(8):
        rgb = paint(at, side=128, radius=50)
        label = "all" if at % 2 else "hem"
        for name, image in ((f"{at}.png", rgb), (f"{at}_flip.png", rgb[:, ::-1]), (f"{at}_turn.png", np.rot90(rgb))):
            write_image(tmp_path / name, np.ascontiguousarray(image))
            lines.append(f"{name},{label},{at}")
    (tmp_path / "cells.csv").write_text("\n".join(["path,label,group", *lines]))
    cells = units_of(load_dataset(tmp_path / "cells.csv"))
    assert len(set(cells.image_keys)) == 24
    assert len(set(cells.groups.tolist())) == 8
    for kind in ("grouped", "monte-carlo"):
        assert_apart(make_plan(cells, kind, 3, 2, 0), cells)


def test_h3_and_H3_are_two_subjects_and_3_and_13_and_H3_are_three():
    rows = [["h3", "a", "hem", "0"], ["H3", "b", "hem", "0"], ["3", "c", "all", "0"], ["13", "d", "all", "0"]]
    assert len(set(table(rows).groups.tolist())) == 4
