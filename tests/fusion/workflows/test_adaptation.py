"""A model at a site where cells are twice as large: what a few labelled cells bring, and which to label."""

import csv

import numpy as np
import pytest

from fusion.analysis.adaptation.curve import draw_labelled
from fusion.analysis.adaptation.steps import choose_cells
from fusion.bundles.model_bundle import load_model
from fusion.data.dataset import load_dataset
from fusion.errors import UsageError
from fusion.leakage.grouped_splits import LeakageError
from fusion.settings.commands import AdaptConfig, EvaluateConfig, PredictConfig, TrainConfig
from fusion.workflows.evaluate import evaluate
from fusion.workflows.new_site.adaptation import adapt_model
from fusion.workflows.predict import predict
from fusion.workflows.train import train
from tests.builders.images import paint, write_image
from tests.builders.sites import site


def learn_home(folder, name, **settings):
    """A model of the site where cells are small."""
    train(
        TrainConfig(
            data=site(folder, 40, 1, 1.0),
            features=["morphology"],
            classifier="logreg",
            splits=3,
            output=folder / name,
            store=folder / "store",
            jobs=1,
            **settings,
        )
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A model of one site, and the folder where all lies."""
    folder = tmp_path_factory.mktemp("sites")
    learn_home(folder, "model")
    return folder


def common(home):
    return {"model": home / "model", "store": home / "store", "jobs": 1}


def test_a_few_labels_mend_a_model_and_labelled_cells_are_not_judged(home):
    data = site(home, 60, 2, 1.8)
    found = adapt_model(AdaptConfig(data=data, k=[5, 20, 100], output=home / "adapted", **common(home)))
    five, twenty = found.curve
    assert (five["k"], twenty["k"]) == (5, 20)
    assert twenty["judged"] <= 60 - 40
    assert twenty["balanced_accuracy"]["as it is"]["value"] < 0.7
    assert twenty["balanced_accuracy"]["chosen"]["value"] > 0.9
    assert "Too few labelled cells to show 100 of each class" in " ".join(found.notes)
    assert found.step != "as it is"
    judged = evaluate(
        EvaluateConfig(
            model=home / "adapted", data=site(home, 24, 3, 1.8), output=home / "result", store=home / "store", jobs=1
        )
    )
    assert judged.figures[0]["image"]["balanced_accuracy"]["value"] > 0.9
    adapted = load_model(home / "adapted")
    assert adapted.facts["adapted"]["cells"] == 60
    with pytest.raises(LeakageError):  # what it was adapted by is no test
        evaluate(EvaluateConfig(model=home / "adapted", data=data, output=home / "no", store=home / "store", jobs=1))


def test_without_labels_it_says_which_cells_to_label_and_takes_the_table_back(home):
    data = site(home, 30, 4, 1.8, labelled=0)
    with pytest.raises(UsageError, match=r"no cell of .* is labelled"):  # nine tell of no site what is usual there
        adapt_model(AdaptConfig(data=site(home, 9, 8, 1.8, labelled=0), output=home / "none", **common(home)))
    found = adapt_model(AdaptConfig(data=data, k=[3], to_label=home / "to-label.csv", **common(home)))
    assert len(found.to_label) == 6
    assert found.curve == []
    with (home / "to-label.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["to_label"] for row in rows] == ["yes"] * 6 + [""] * 24
    for row in rows[:6]:
        row["label"] = "ab"[int(row["path"][-7:-4]) % 2]
    with (home / "to-label.csv").open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    again = load_dataset(home / "to-label.csv", store=home / "store")
    assert sum(label is not None for label in again.each("label")) == 6
    assert set(again.each("source")) == {"new"}
    found = adapt_model(AdaptConfig(data=home / "to-label.csv", k=[1], to_label=home / "next.csv", **common(home)))
    assert sum(found.labelled.values()) == 6
    with (home / "next.csv").open() as file:
        assert all(not row["label"] for row in csv.DictReader(file) if row["to_label"])


def test_without_labels_a_harmonising_model_keeps_what_the_site_looks_like(home):
    learn_home(home, "harmonising", harmonise={"method": "standard", "transductive": True})
    data, few = site(home, 40, 5, 1.8, labelled=0), site(home, 4, 6, 1.8)
    asked = {"store": home / "store", "jobs": 1}
    found = adapt_model(AdaptConfig(model=home / "harmonising", data=data, output=home / "at-home", **asked))
    assert (found.sites, found.step) == ({"new": 40}, "")
    lost = predict(PredictConfig(model=home / "harmonising", images=[few], **asked))
    kept = predict(PredictConfig(model=home / "at-home", images=[few], **asked))
    assert any("not harmonised" in note for note in lost.notes)
    assert any("the 40 cells of new that the model was adapted by" in note for note in kept.notes)
    assert lost.predicted != list("abab")
    assert kept.predicted == list("abab")
    # As the model itself describes the site by the same cells, to the last bit.
    both = [predict(PredictConfig(model=home / name, images=[data], **asked)) for name in ("harmonising", "at-home")]
    np.testing.assert_array_equal(both[0].proba, both[1].proba)
    assert found.usual == {"new": 40}
    assert "new: out of distribution is what lies further away than 99% of 40 cells" in found.lines()
    assert any(note.startswith("what is out of distribution is told by the 40 cells of new") for note in kept.notes)
    with pytest.raises(UsageError, match=r"10 or more of a site that the model does not know"):
        adapt_model(AdaptConfig(model=home / "at-home", data=data, output=home / "again", **asked))


def test_without_labels_a_model_that_harmonises_nothing_keeps_what_is_usual_there(home):
    data = site(home, 40, 9, 2.6, labelled=0)
    found = adapt_model(AdaptConfig(data=data, output=home / "usual", **common(home)))
    assert (found.step, found.sites, found.usual) == ("", {}, {"new": 40})
    assert any("as it was: only what is out of distribution" in note for note in found.notes)
    before, after = (
        predict(PredictConfig(model=home / name, images=[data], store=home / "store", jobs=1))
        for name in ("model", "usual")
    )
    np.testing.assert_array_equal(before.proba, after.proba)
    assert before.distance.max() > 1
    assert after.distance.max() <= 1
    assert any(note.startswith("what is out of distribution is told by the 40 cells of new") for note in after.notes)
    with pytest.raises(UsageError, match=r"10 or more of a site that the model does not know"):
        adapt_model(AdaptConfig(data=data, output=home / "again", **common(home) | {"model": home / "usual"}))


def test_a_model_that_scales_by_site_keeps_how_large_its_cells_are(home):
    learn_home(home, "scaling", normalise={"scale": "median-size", "diameter": 36})
    data, few = site(home, 40, 7, 1.8, labelled=0), home / "one-size.csv"
    few.write_text("\n".join(data.read_text().splitlines()[:1] + data.read_text().splitlines()[2:9:2]) + "\n")
    asked = {"store": home / "store", "jobs": 1}
    found = adapt_model(AdaptConfig(model=home / "scaling", data=data, output=home / "scaled", **asked))
    assert (found.sizes, found.sites) == ({"new": 40}, {})
    assert "new: pixels scaled by 40 cells, and those of further ones by the same" in found.lines()
    every = predict(PredictConfig(model=home / "scaling", images=[data], **asked))
    kept, lost = (predict(PredictConfig(model=home / name, images=[few], **asked)) for name in ("scaled", "scaling"))
    rows = [every.table.names.index(name) for name in kept.table.names]
    np.testing.assert_array_equal(kept.proba, every.proba[rows])
    assert not np.array_equal(lost.proba, kept.proba)  # by four cells of one class alone
    assert "pixels scaled by the 40 cells of new that the model was adapted by" in kept.notes


def test_cells_of_labelled_subjects_are_not_judged():
    groups = np.repeat(np.arange(12), 10)
    codes = (groups % 2).astype(np.intp)
    labelled, judged = draw_labelled(codes, groups, 5, 0)
    assert np.bincount(codes[labelled]).tolist() == [5, 5]
    assert not set(groups[labelled]) & set(groups[judged])
    assert draw_labelled(codes, groups, 55, 0) is None


def test_cells_to_label_are_unsure_and_different():
    rng = np.random.default_rng(0)
    fused = np.vstack([rng.normal(0, 0.01, (30, 2)), rng.normal((5, 0), 0.01, (30, 2)), [[0, 9]]])
    p = np.concatenate([np.full(30, 0.99), np.linspace(0.5, 0.6, 30), [0.55]])
    chosen = choose_cells(np.column_stack([p, 1 - p]), fused, 2)
    assert set(chosen.tolist()) == {30, 60}


def clinic(folder, patients, seed, scale, labelled=None):
    """Patients of three cells, of one size or the other; of those beyond ``labelled`` nothing is told."""
    rows = []
    for at in range(patients):
        label = ("ill" if at % 2 else "well") if labelled is None or at < labelled else ""
        for cell in range(3):
            rng = np.random.default_rng([seed, at, cell])
            name = f"{seed}-{at:03d}-{cell}.png"
            radius = scale * (12 + 6 * (at % 2) + rng.normal())
            write_image(folder / name, paint(10_000 * seed + 10 * at + cell, side=110, radius=radius))
            rows.append(f"{name},{label},P{seed}-{at},{'home' if scale == 1 else 'new'}")
    table = folder / f"{seed}.csv"
    table.write_text("path,subject_label,subject,source\n" + "\n".join(rows) + "\n")
    return table


@pytest.fixture(scope="module")
def home_of_patients(tmp_path_factory):
    """A model of patients of one site, which harmonises, and the folder where all lies."""
    folder = tmp_path_factory.mktemp("clinics")
    train(
        TrainConfig(
            data=clinic(folder, 16, 1, 1.0),
            unit="subject",
            features=["morphology"],
            classifier="logreg",
            splits=3,
            output=folder / "model",
            store=folder / "store",
            jobs=1,
            harmonise={"method": "standard", "transductive": True},
        )
    )
    return folder


def test_labelled_patients_are_the_units_and_are_not_judged(home_of_patients):
    folder = home_of_patients
    data = clinic(folder, 16, 2, 1.8)
    found = adapt_model(AdaptConfig(data=data, k=[3, 9], output=folder / "adapted", **common(folder)))
    (three,) = found.curve
    assert (three["k"], three["judged"]) == (3, 10)
    assert set(three["balanced_accuracy"]) == {"as it is", "recalibrated", "refitted", "chosen"}
    assert (found.labelled, found.sites) == ({"ill": 8, "well": 8}, {"new": 48})
    assert "Too few labelled patients to show 9 of each class" in " ".join(found.notes)
    assert "patients of each class" in found.table()[0]
    adapted = load_model(folder / "adapted")
    assert (adapted.unit, adapted.facts["adapted"]["patients"]) == ("subject", 16)
    with pytest.raises(LeakageError):
        evaluate(EvaluateConfig(model=folder / "adapted", data=data, output=folder / "no", store=folder / "store"))


def test_without_labels_a_model_of_patients_keeps_its_site_and_says_whom_to_label(home_of_patients):
    folder = home_of_patients
    data, one = clinic(folder, 12, 3, 1.8, labelled=0), clinic(folder, 2, 4, 1.8)
    asked = {"model": folder / "model", "store": folder / "store", "jobs": 1}
    found = adapt_model(AdaptConfig(data=data, k=[2], output=folder / "at-home", to_label=folder / "next.csv", **asked))
    assert (found.sites, found.step, len(found.to_label)) == ({"new": 36}, "", 4)
    with (folder / "next.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["to_label"] for row in rows] == ["yes"] * 12 + [""] * 24
    assert {f"{row['subject']} of new" for row in rows[:12]} == set(found.to_label)
    for row in rows[:12:3]:  # one row of a patient says it
        row["subject_label"] = "ill" if int(row["subject"].partition("-")[2]) % 2 else "well"
    with (folder / "next.csv").open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    again = adapt_model(AdaptConfig(data=folder / "next.csv", k=[1], **asked))
    assert sum(again.labelled.values()) == 4
    models = (folder / "model", folder / "at-home")
    # Two patients describe no site; with what it looks like each is judged by itself.
    few = [predict(PredictConfig(model=name, images=[one], store=folder / "store", jobs=1)) for name in models]
    assert [any("not harmonised" in note for note in each.notes) for each in few] == [True, False]
    assert few[1].predicted == ["well", "ill"]
    both = [predict(PredictConfig(model=name, images=[data], store=folder / "store", jobs=1)) for name in models]
    np.testing.assert_array_equal(both[0].proba, both[1].proba)
    assert found.usual == {"new": 36}
    with pytest.raises(UsageError, match=r"5 or more patients of a site that the model does not know"):
        adapt_model(AdaptConfig(data=data, output=folder / "again", **asked | {"model": folder / "at-home"}))
