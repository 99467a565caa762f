"""A new site of one class alone: taken for all classes unless it is said which it has; and what is said is repeated."""

from dataclasses import replace

import numpy as np
import pytest

from fusion.bundles.inference import ask, predict_cells
from fusion.bundles.model_bundle import load_model
from fusion.bundles.new_sites import contradicted, state_classes
from fusion.errors import UsageError
from fusion.feature_transforms.harmonisation import Harmoniser
from fusion.images.cell import read_cell
from fusion.reports import html_report
from fusion.settings.commands import (
    AblateConfig,
    AdaptConfig,
    EvaluateConfig,
    ExplainConfig,
    PredictConfig,
    TrainConfig,
)
from fusion.workflows.ablate import ablate
from fusion.workflows.evaluate import evaluate
from fusion.workflows.new_site.adaptation import adapt_model
from fusion.workflows.predict import predict
from fusion.workflows.train import train
from tests.builders.images import paint, write_image

SAID = "new: said to have 'b' and no other class"


def site(folder, name, labels, scale):
    """Cells of these labels as a table; those of b are larger, and a site's are all so many times as large."""
    rows = []
    for at, label in enumerate(labels):
        rng = np.random.default_rng([ord(name[0]), at])
        radius = scale * (12 + 6 * "ab".index(label) + rng.normal())
        write_image(folder / f"{name}-{at:03d}.png", paint(7000 * ord(name[0]) + at, side=110, radius=radius))
        rows.append(f"{name}-{at:03d}.png,{label},{name}{at},{name}")
    table = folder / f"{name}.csv"
    table.write_text("path,label,subject,source\n" + "\n".join(rows) + "\n")
    return table


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sites")
    mix = {"method": "standard", "transductive": True, "mix": "estimated"}
    more = {"data": site(folder, "home", "ab" * 24, 1.0), "features": ["morphology"], "classifier": "logreg", "jobs": 1}
    train(TrainConfig(**more, splits=3, output=folder / "model", store=folder / "store", harmonise=mix))
    new, south = (site(folder, *cells).read_text() for cells in (("new", "b" * 48, 1.6), ("south", "ab" * 8, 1.2)))
    (folder / "both.csv").write_text(new + south.partition("\n")[2])
    return folder


def asked(home, folder, model="model", **more):
    given = {"model": home / model, "data": home / "both.csv", "store": home / "store", "jobs": 1, **more}
    return evaluate(EvaluateConfig(**given, output=folder))


def right(result):
    proba = result.scores[0].proba[0]
    new = np.array(result.cells.sources) == "new"
    return float((np.array(result.classes)[proba.argmax(axis=1)] == np.array(result.cells.y))[new].mean())


def test_cells_of_a_class_are_told_where_it_is_said_and_each_site_is_described_once(home, tmp_path, monkeypatch):
    describe, described = Harmoniser._of_new_source, []
    monkeypatch.setattr(Harmoniser, "_of_new_source", lambda *given: described.append(given[1]) or describe(*given))
    plain = asked(home, tmp_path / "plain")
    said = asked(home, tmp_path / "said", site_classes={"new": ["b"]})
    assert right(plain) < 0.7 < 0.95 < right(said)
    assert described == ["new", "south"] * 2
    assert SAID in said.stamps
    assert any(stamp.startswith("new: may have one or two classes alone") for stamp in plain.stamps)
    assert not any("may have one" in stamp for stamp in said.stamps)
    wrong = state_classes(load_model(home / "model"), {"new": ["a"]}, ["new"])
    assert contradicted(wrong, said.cells) == [
        "new: 48 of its 48 cells are labelled as none of the classes that it is said to have"
    ]
    assert not contradicted(state_classes(wrong, {"new": ["b"]}, ["new"]), said.cells)


def of_three(home, folder):
    """Cells of a third class beside those of a and b, and a model of all three."""
    rows = ["path,label,subject,source"]
    for at, label in enumerate("abc" * 16):
        rng = np.random.default_rng([7, at])
        radius = {"a": 9, "b": 15, "c": 21}[label] + rng.normal()
        write_image(folder / f"three-{at}.png", paint(900_000 + at, side=110, radius=radius))
        rows.append(f"three-{at}.png,{label},t{at},three")
    (folder / "three.csv").write_text("\n".join(rows) + "\n")
    mix = {"method": "standard", "transductive": True, "mix": "estimated"}
    more = {"features": ["morphology"], "classifier": "logreg", "jobs": 1, "splits": 2}
    data = {"data": folder / "three.csv", "store": home / "store"}
    train(TrainConfig(**data, **more, output=folder / "model", harmonise=mix))
    return folder / "model"


def test_cells_that_are_chosen_by_class_are_of_no_other(home, tmp_path):
    model = of_three(home, tmp_path)
    common = {"model": model, "data": site(tmp_path, "new", "ab" * 16, 1.0)}
    chosen = asked(home, tmp_path / "chosen", **common, classes=["a", "b"])
    assert "new: said to have 'a', 'b' and no other class" in chosen.stamps
    given = {"images": [common["data"]], "model": model, "store": home / "store", "jobs": 1}
    stated = predict(PredictConfig(**given, site_classes="new=a,b"))
    np.testing.assert_allclose(stated.proba, chosen.scores[0].proba[0], atol=1e-12)
    # What is stated of a site goes before, every class chosen says nothing, and no known site is touched.
    bundle = load_model(model)
    said = state_classes(bundle, {"new": ["c"]}, ["new", "three", None], ["a", "b"]).model.harmoniser.stated
    assert {name: has.tolist() for name, has in said.items()} == {"new": [False, False, True], "": [True, True, False]}
    assert state_classes(bundle, {}, ["new"], ["a", "b", "c"]) is bundle
    unharmonised = replace(bundle, model=replace(bundle.model, harmoniser=None))
    assert state_classes(unharmonised, {}, ["new"], ["a", "b"]) is unharmonised


def test_what_is_said_counts_wherever_a_model_is_asked_and_is_kept_by_adapt(home, tmp_path):
    common = {"model": home / "model", "store": home / "store", "jobs": 1, "site_classes": "new=b"}
    found = predict(PredictConfig(images=[home / "new.csv"], **common))
    assert SAID in found.notes
    shown = ask(load_model(home / "model"), ExplainConfig(images=[home / "new.csv"], output=tmp_path / "why", **common))
    np.testing.assert_array_equal(shown[1].proba, found.proba)
    paths = [home / f"new-{at:03d}.png" for at in range(48)]
    bundle = state_classes(load_model(home / "model"), {"new": ["b"]}, ["new"])
    message = predict_cells(bundle, [read_cell(path) for path in paths], found.table.names, "new")
    np.testing.assert_allclose(message.proba, found.proba, atol=1e-12)

    unlabelled = home / "unlabelled.csv"
    unlabelled.write_text((home / "new.csv").read_text().replace(",b,", ",,"))
    adapted = adapt_model(AdaptConfig(data=unlabelled, output=tmp_path / "kept", **common))
    assert SAID in adapted.notes
    given = {"images": paths[:1], "source": "new", "store": home / "store", "jobs": 1}
    alone = predict(PredictConfig(model=tmp_path / "kept", **given))
    np.testing.assert_allclose(alone.proba[0], found.proba[0], atol=1e-12)
    assert SAID in alone.notes
    with pytest.raises(UsageError, match="the model knows what this site looks like"):
        predict(PredictConfig(model=tmp_path / "kept", **given, site_classes="new=b"))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"new": ["c"]}, "--site-classes new: the model has no such class"),
        ({"home": ["a"]}, "--site-classes home: the model knows what this site looks like"),
        ({"north": ["a"]}, "--site-classes north: no cell is of this site"),
    ],
)
def test_what_cannot_be_said_is_refused(home, said, why):
    bundle = load_model(home / "model")
    with pytest.raises(UsageError, match=why):
        state_classes(bundle, said, ["new", None])
    plain = replace(bundle, model=replace(bundle.model, harmoniser=None))
    with pytest.raises(UsageError, match="for models that estimate a new site's mix of classes"):
        state_classes(plain, {"new": ["a"]}, ["new"])


def test_cells_of_another_site_under_a_known_name_are_stamped(home, tmp_path):
    table = home / "misnamed.csv"
    table.write_text((home / "new.csv").read_text().replace(",new\n", ",home\n"))
    common = {"model": home / "model", "store": home / "store", "jobs": 1}
    wrong = predict(PredictConfig(images=[table], **common))
    assert any(note.startswith("home: 48 cells are harmonised as those of the site") for note in wrong.notes)
    for right in (home / "new.csv", home / "home.csv"):
        assert not any("another one's" in note for note in predict(PredictConfig(images=[right], **common)).notes)
    adapted = adapt_model(AdaptConfig(data=table, other_cohort=True, **common))
    assert any("look like another one's" in note for note in adapted.notes)


@pytest.fixture(scope="module")
def three_sites(home, tmp_path_factory):
    """Two sites of both classes and one of b alone, whose cells are larger; and how they are compared."""
    east = site(home, "east", "ab" * 12, 1.2).read_text().partition("\n")[2]
    new = (home / "new.csv").read_text().partition("\n")[2]
    (home / "three-sites.csv").write_text((home / "home.csv").read_text() + east + new)
    mix = {"method": "standard", "transductive": True, "mix": "estimated"}
    return {
        "data": home / "three-sites.csv",
        "store": home / "store",
        "jobs": 1,
        "features": ["morphology"],
        "compare": ["logreg"],
        "in_source": False,
        "split": "leave-one-source-out",
        "harmonise": mix,
    }


def test_a_site_that_is_left_out_is_judged_by_the_classes_that_it_is_said_to_have(three_sites, tmp_path, monkeypatch):
    monkeypatch.setattr(html_report, "write_report", lambda *given: None)
    plain = ablate(AblateConfig(**three_sites, output=tmp_path / "plain"))
    said = ablate(AblateConfig(**three_sites, site_classes={"new": ["b"]}, output=tmp_path / "said"))
    assert right(plain) < 0.8 < 0.95 < right(said)
    assert SAID in said.stamps
    assert any(stamp.startswith("new: labelled as 'b' alone, and compared with") for stamp in plain.stamps)
    assert not any(stamp.startswith("new: labelled") for stamp in said.stamps)
    # No other site is described otherwise, and what is said is the site's own, as evaluate has it.
    others = np.array(plain.cells.sources) != "new"
    np.testing.assert_array_equal(plain.scores[0].proba[0][others], said.scores[0].proba[0][others])
    wrong = ablate(AblateConfig(**three_sites, site_classes={"new": ["a"]}, output=tmp_path / "wrong"))
    assert "new: 48 of its 48 cells are labelled as none of these classes" in wrong.stamps


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"site_classes": {"new": ["c"]}}, "--site-classes new: no cell is of this class"),
        ({"site_classes": {"north": ["a"]}}, "--site-classes north: no split leaves this site out"),
        ({"site_classes": {"new": ["b"]}, "split": "grouped"}, "--site-classes new: no split leaves this site out"),
        ({"site_classes": {"new": ["b"]}, "harmonise": {"method": "standard"}}, "for models that estimate"),
    ],
)
def test_what_has_no_say_in_a_comparison_is_refused(three_sites, tmp_path, more, why):
    with pytest.raises(UsageError, match=why):
        ablate(AblateConfig(**{**three_sites, **more}, output=tmp_path / "result"))
