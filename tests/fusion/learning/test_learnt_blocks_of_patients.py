"""Networks learnt anew in every split of patients: none has met a cell of a patient that it is judged by."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from extractors.cnn.extractor import Embedding
from fusion.data.dataset import load_dataset
from fusion.data.patients.patient_labels import label_by_subject
from fusion.errors import UsageError
from fusion.features.store import FeatureStore
from fusion.leakage.grouped_splits import LeakageError
from fusion.leakage.protocols import make_plan
from fusion.leakage.provenance import training_overlap
from fusion.learning.learn import learn
from fusion.learning.learnt_blocks import embed_splits, learnt_blocks
from fusion.learning.recipe import recipe_of
from fusion.learning.run import Run
from fusion.learning.study import Study
from fusion.reports import html_report
from fusion.settings.commands import AblateConfig, EvaluateConfig, TrainConfig
from fusion.workflows.ablate import ablate
from fusion.workflows.evaluate import evaluate
from fusion.workflows.loading import subjects_of
from fusion.workflows.train import train
from tests.builders.images import paint, write_image
from tests.builders.networks import crossfit_settings, listen_to_networks

pytestmark = pytest.mark.usefixtures("one_thread")

PATIENTS, EACH = 12, 5

#: What a result says whose networks learn by patients' labels, and one by cells' own.
BY_PATIENTS, BY_CELLS = "learns every cell by its subject's class", "learns from labelled cells, each by its own label"


def write_cohort(folder, first=0, patients=PATIENTS):
    """Patients of five cells: of the ill four are large ones, which a column ``label`` calls blasts."""
    rows = []
    for patient in range(first, first + patients):
        for at in range(EACH):
            is_blast = patient % 2 == 1 and at < EACH - 1
            seed = 100 * patient + at
            write_image(folder / f"{seed}.png", paint(seed, radius=24 if is_blast else 14))
            rows.append([f"{seed}.png", f"P{patient}", ("well", "ill")[patient % 2], ("normal", "blast")[is_blast]])
    table = pd.DataFrame(rows, columns=["path", "subject", "subject_label", "label"])
    table.to_csv(folder / "told.csv", index=False)
    table.drop(columns="label").to_csv(folder / "cells.csv", index=False)
    return folder


@pytest.fixture(autouse=True)
def pages(monkeypatch):
    """None: they are drawn elsewhere, and take longer than all else here."""
    monkeypatch.setattr(html_report, "write_report", lambda *given: None)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


def settings(*given, **more):
    return crossfit_settings(*given, unit="subject", **more)


@pytest.fixture
def view(cohort, store, request):
    """The patients with the images of their cells, the block that is learnt, and folds by patient."""
    (block,) = learnt_blocks(AblateConfig(**settings(cohort / "cells.csv", cohort / "nowhere", store)))
    dataset = label_by_subject(load_dataset(cohort / getattr(request, "param", "cells.csv"), store=store))
    cells = Study.of(dataset, [], [block.network.input_transform()], FeatureStore(store), jobs=1)
    study = subjects_of(cells, dataset)
    (folds,) = make_plan(study.table, "grouped", 2, 1, 0).rounds
    return study, block, folds


@pytest.fixture
def heard(monkeypatch):
    return listen_to_networks(monkeypatch)


def test_a_network_meets_the_cells_of_training_patients_alone(view, heard, tmp_path):
    """Said by what reaches its training: their images, their patients' labels, and their patients as groups."""
    study, block, folds = view
    embed_splits(block, study, folds, Run(tmp_path))
    (images,) = study.images.values()
    for (rows, labels, groups), fold in zip(heard.trainings, folds, strict=True):
        cells = np.concatenate([study.table.cells[at] for at in fold.train])
        assert_array_equal(rows, images.rows[cells])
        assert_array_equal(labels, np.repeat(np.array(study.table.y)[fold.train], EACH))
        assert_array_equal(groups, np.repeat(study.table.groups[fold.train], EACH))
        held = np.concatenate([study.table.cells[at] for at in fold.test])
        assert not set(rows) & set(images.rows[held])


@pytest.mark.parametrize("view", ["told.csv"], indirect=True)
def test_cells_are_learnt_by_their_own_labels_where_these_are_of_two_classes(view, heard, tmp_path):
    study, block, _ = view
    everyone = study.everyone
    block.fit(study, everyone, Run(tmp_path), "network", tmp_path / "one")
    rows, labels, _ = heard.trainings[0]
    assert len(rows) == PATIENTS * EACH
    assert sorted(set(labels)) == ["blast", "normal"]
    assert (labels == "blast").sum() == PATIENTS * (EACH - 1) // 2
    assert not block.stamps(study, [everyone])
    assert BY_CELLS in block.describe(study, [everyone])
    own = study.table.X.labels.copy()
    own[np.flatnonzero(own == "blast")[:-9]] = None  # of nine blasts a network learns nothing
    few = replace(study, table=replace(study.table, X=replace(study.table.X, labels=own)))
    block.fit(few, everyone, Run(tmp_path), "network", tmp_path / "other")
    assert sorted(set(heard.trainings[1].labels)) == ["ill", "well"]
    assert len(heard.trainings[1].images) == PATIENTS * EACH
    assert BY_PATIENTS in block.stamps(few, [everyone])[0]
    assert BY_CELLS not in block.describe(few, [everyone])


def test_no_label_of_a_held_out_patient_has_a_say_in_what_its_fits_are_given(view, tmp_path):
    study, block, folds = view
    one, other = embed_splits(block, study, folds, Run(tmp_path / "a"))
    turned = np.array(study.table.y, object)
    turned[folds[0].test] = np.where(turned[folds[0].test] == "ill", "well", "ill")
    lied = replace(study, table=replace(study.table, y=tuple(turned)))
    one_again, other_again = embed_splits(block, lied, folds, Run(tmp_path / "b"))
    assert_array_equal(one, one_again)
    assert np.abs(other - other_again).max() > 1e-3


def test_the_block_is_the_same_for_cells_and_for_the_bags_they_are_in(view, tmp_path):
    """In memory, and where cells are read from the store: columns of each patient's own cells."""
    study, block, _ = view
    (found,) = embed_splits(block, study, [make_plan(study.table, "grouped", 2, 1, 0).rounds[0][0]], Run(tmp_path))
    wide = study.with_block("cnn", found)
    assert_array_equal(wide.table.X.cells, found)
    assert_array_equal(wide.cells.X, found)

    class Stored:
        shape = (len(found), 0)

        def __len__(self):
            return len(found)

        def __getitem__(self, rows):
            return np.empty((len(rows), 0), np.float32)

    stored = Stored()
    apart = replace(
        study,
        table=replace(study.table, X=replace(study.table.X, cells=stored)),
        cells=replace(study.cells, X=stored),
    ).with_block("cnn", found)
    assert_array_equal(apart.table.X[[3]].stacked, found[study.table.cells[3]])
    assert_array_equal(apart.table.X[:, [2, 0]][[3]].stacked, found[study.table.cells[3]][:, [2, 0]])


def test_a_model_of_patients_keeps_its_network_and_asks_it(cohort, store, tmp_path):
    trained = train(TrainConfig(**settings(cohort / "cells.csv", tmp_path / "m", store, classifier="logreg")))
    assert trained.result.facts["judged"] == "subject"
    assert any(BY_PATIENTS in stamp for stamp in trained.result.stamps)
    assert not (tmp_path / "m.unfinished").exists()
    network = trained.bundle.blocks[-1].extractor
    assert isinstance(network, Embedding)
    dataset = load_dataset(cohort / "cells.csv", store=store)
    assert len(training_overlap(network.provenance(), dataset)) == len(dataset)
    given = {"model": tmp_path / "m", "output": tmp_path / "r", "store": store}
    with pytest.raises(LeakageError):
        evaluate(EvaluateConfig(**given, data=cohort / "cells.csv"))
    new = write_cohort(tmp_path / "new", 100, 4)
    result = evaluate(EvaluateConfig(**given, data=new / "cells.csv", other_cohort=True))
    assert np.isfinite(result.scores[0].proba).all()
    assert len(result.cells) == 4


def test_patients_are_compared_on_the_block_with_measured_ones(cohort, store, tmp_path):
    given = settings(cohort / "told.csv", tmp_path / "r", store, repeats=1, compare=["logreg", "pool"])
    given["classifiers"] = {**given["classifiers"], "pool": {"cell_labels": False}}
    result = ablate(AblateConfig(**given))
    assert [entry.features for entry in result.scores][::2] == [("colour",), ("cnn",), ("colour", "cnn")]
    assert all(np.isfinite(entry.proba).all() for entry in result.scores)
    assert any(BY_CELLS in note for note in result.notes)
    assert not any(BY_PATIENTS in stamp for stamp in result.stamps)
    alone = {**given, "features": ["colour"], "cnn_crossfit": False, "output": tmp_path / "s"}
    for one, other in zip(result.scores[:2], ablate(AblateConfig(**alone)).scores, strict=True):
        assert_array_equal(one.proba, other.proba)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"compare": ["svm"]}, "classifier svm needs held-out scores"),
        ({"compare": ["logreg"], "threshold": "balanced-accuracy"}, "threshold needs held-out scores"),
        ({"compare": ["mil"], "nested": True}, "scores patients inside the training part"),
        ({"compare": ["pool"]}, "scores patients inside the training part"),
    ],
)
def test_a_step_that_scores_patients_whom_the_network_has_met_is_refused(cohort, store, tmp_path, step, words):
    with pytest.raises(UsageError, match=words):
        ablate(AblateConfig(**settings(cohort / "cells.csv", tmp_path / "r", store, features=["cnn"], **step)))


@pytest.mark.parametrize("asked", [{}, {"threshold": "balanced-accuracy"}], ids=["svm", "logreg under a threshold"])
def test_inner_networks_have_met_no_patient_whom_they_score(view, heard, tmp_path, asked):
    """Told by what reaches the training of every network, and by the embeddings that are scored themselves."""
    study, _, folds = view
    given = {"nested": True, "positive": "ill", "features": ["cnn"], **asked}
    config = AblateConfig(**settings("cells", tmp_path, tmp_path, **given))
    recipe = replace(recipe_of(config, "logreg" if asked else "svm", ["cnn"], ["cnn"]), positive="ill")
    learn(study, folds[0].train, recipe, Run(tmp_path), learnt=learnt_blocks(config))

    owner = np.empty(len(study.cells), int)
    for at, own in enumerate(study.table.cells):
        owner[own] = at
    (images,) = study.images.values()
    trained = [set(owner[np.isin(images.rows, one.images)].tolist()) for one in heard.trainings]
    assert trained[0] == set(folds[0].train.tolist())  # the model's own network; no held-out score is from it
    assert {frozenset(units) for units, _ in heard.embedded} == set(map(frozenset, trained[1:]))
    assert len(heard.parts) == len(heard.embedded) >= 3
    for inner in heard.inner():
        assert {owner[cell] for cell in inner.learnt} == inner.met
        assert inner.met < trained[0]
        assert not {owner[cell] for cell in inner.scored} & inner.met
