"""A subject is its source and its id: what is the same person, what is not, and what must be taken for one."""

import numpy as np
import pytest

from fusion.data.dataset import load_dataset
from fusion.data.feature_table import FeatureTable
from fusion.data.groups import merge_groups
from fusion.data.subjects import identities, recognises, remembered
from fusion.features.extraction import extract
from fusion.features.store import FeatureStore
from fusion.leakage.grouped_splits import LeakageError, SplitError
from fusion.leakage.protocols import external_plan, make_plan
from fusion.leakage.provenance import trained_on, training_overlap
from fusion.plugins.registry import build_extractor


def table(rows):
    """A table of (source, subject, image, label)."""
    sources, subjects, keys, y = (tuple(column) for column in zip(*rows, strict=True))
    return FeatureTable(
        X=np.empty((len(rows), 0), np.float32),
        columns=(),
        names=tuple(f"{at}.bmp" for at in range(len(rows))),
        keys=keys,
        image_keys=keys,
        y=y,
        subjects=subjects,
        folds=(None,) * len(rows),
        groups=merge_groups(identities(subjects, sources), keys),
        subjects_known=True,
        sources=sources,
    )


def two_laboratories():
    return table(
        [
            (source, subject, f"{source}-{subject}-{cell}", "all" if int(subject) % 2 else "hem")
            for source in ("east", "west")
            for subject in ("1", "2", "3", "4", "5", "6")
            for cell in range(3)
        ]
    )


def test_the_same_id_of_two_sources_is_two_subjects():
    cells = two_laboratories()
    assert len(np.unique(cells.groups)) == 12
    assert cells.take(np.array([0, 18])).identities == [("east", "1"), ("west", "1")]


def test_an_id_without_a_source_could_be_of_any():
    ids = identities(["7", "7", "8", None], ["east", None, "west", None])
    assert ids == ["7", "7", ("west", "8"), None]
    assert merge_groups(ids[:3], ["a", "b", "c"]).tolist() == [0, 0, 1]


def test_sources_and_ids_are_not_glued_together():
    assert len(set(identities(["b c", "c"], ["a", "a b"]))) == 2
    assert not remembered("b c", "a") & remembered("c", "a b")


@pytest.mark.parametrize(
    ("learnt", "judged", "is_known"),
    [
        (("1", "east"), ("1", "east"), True),
        (("1", "east"), ("1", "west"), False),
        (("1", "east"), ("1", None), True),
        (("1", None), ("1", "west"), True),
        (("1", None), ("1", None), True),
        (("1", None), ("2", None), False),
        (("1", "east"), (None, "east"), False),
    ],
)
def test_a_model_recognises_its_subjects_by_source_and_id(learnt, judged, is_known):
    assert recognises(remembered(*learnt), *judged) is is_known


def test_leaving_a_source_out_tests_each_source_once_and_shares_nothing():
    cells = two_laboratories()
    (splits,) = make_plan(cells, "leave-one-source-out", 5, 1, 0).rounds
    assert [{cells.sources[row] for row in split.test} for split in splits] == [{"east"}, {"west"}]
    assert all(len(split.train) + len(split.test) == len(cells) for split in splits)


def test_an_image_that_two_sources_have_is_never_learnt_from_where_it_is_tested():
    rows = [(s, i, k, y) for s, i, k, y in zip(*_columns(two_laboratories()), strict=True)]
    rows[20] = (*rows[20][:2], rows[0][2], rows[20][3])  # an image of west's subject 1 is one of east's
    cells = table(rows)
    plan = make_plan(cells, "leave-one-source-out", 5, 1, 0)
    for split in plan.rounds[0]:
        assert not {cells.image_keys[row] for row in split.train} & {cells.image_keys[row] for row in split.test}
        assert not set(cells.groups[split.train]) & set(cells.groups[split.test])
        assert len(split.train) == 15
    assert any("3 cells are not learnt from" in note for note in plan.notes)


def _columns(cells):
    return cells.sources, cells.subjects, cells.keys, cells.y


def test_source_stratified_folds_hold_every_source_and_no_subject_twice():
    cells = two_laboratories()
    for seed in range(5):
        (splits,) = make_plan(cells, "source-stratified", 3, 1, seed).rounds
        for split in splits:
            assert {cells.sources[row] for row in split.test} == {"east", "west"}
            assert not set(cells.groups[split.train]) & set(cells.groups[split.test])


@pytest.mark.parametrize("kind", ["leave-one-source-out", "source-stratified"])
def test_cells_without_a_source_are_not_guessed_at(kind):
    cells = two_laboratories()
    unknown = table([(None, *row) for row in zip(*_columns(cells)[1:], strict=True)])
    with pytest.raises(SplitError, match="without a source"):
        make_plan(unknown, kind, 3, 1, 0)


def test_an_external_test_may_use_the_same_ids_under_another_source_only():
    cells = two_laboratories()
    east, west = cells.take(np.arange(18)), cells.take(np.arange(18, 36))
    plan, _ = external_plan(east, west)
    assert len(plan.rounds[0][0].test) == 18
    anonymous = table([(None, *row) for row in zip(*_columns(west)[1:], strict=True)])
    with pytest.raises(LeakageError):
        external_plan(east, anonymous)


@pytest.fixture
def listed(tmp_path, write_photograph):
    lines = ["path,label,subject,source"]
    for at, source in enumerate(("east", "east", "west", "")):
        write_photograph(tmp_path / f"{at}.png", at)
        lines.append(f"{at}.png,{'all' if at % 2 else 'hem'},1,{source}")
    (tmp_path / "cells.csv").write_text("\n".join(lines))
    return tmp_path / "cells.csv"


@pytest.fixture
def write_photograph():
    import cv2

    def write(path, seed):
        # Round: a square on black is what a field with black bars around it looks like.
        inside = np.hypot(*(np.mgrid[:40, :40] - 19.5)) < 13
        image = np.random.default_rng(seed).integers(60, 120, (40, 40, 3)) * inside[..., None]
        path.write_bytes(cv2.imencode(".png", image.astype(np.uint8))[1].tobytes())

    return write


def test_a_table_names_sources_and_none_is_guessed(listed, tmp_path):
    dataset = load_dataset(listed, store=tmp_path / "store")
    assert [sample.source for sample in dataset.samples] == ["east", "east", "west", None]
    assert [s.source for s in dataset.with_source("north").samples] == ["east", "east", "west", "north"]
    assert len(dataset.select(sources=["west"])) == 1


@pytest.mark.parametrize("ending", ["parquet", "csv", "h5ad"])
def test_sources_survive_an_export(listed, tmp_path, ending):
    import pandas as pd

    dataset = load_dataset(listed, store=tmp_path / "store")
    found = extract(dataset, [build_extractor("morphology")], FeatureStore(tmp_path / "store"), jobs=1)
    found.save(tmp_path / f"table.{ending}")
    if ending == "h5ad":
        import anndata

        sources = anndata.read_h5ad(tmp_path / "table.h5ad").obs["source"].astype(object)
    else:
        read = pd.read_parquet if ending == "parquet" else pd.read_csv
        sources = read(tmp_path / f"table.{ending}")["source"]
    assert [None if pd.isna(s) else s for s in sources] == ["east", "east", "west", None]


def test_weights_remember_subjects_by_source(listed, tmp_path):
    dataset = load_dataset(listed, store=tmp_path / "store").select(sources=["east", "west"])
    east, west = dataset.select(sources=["east"]), dataset.select(sources=["west"])
    assert training_overlap(trained_on(east.samples), west) == []
    assert training_overlap(trained_on(east.samples), east) == [0, 1]
    assert training_overlap(trained_on(east.samples), west.with_source(None)) == []
