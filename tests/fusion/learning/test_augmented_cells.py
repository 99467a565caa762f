"""Augmented cells are learnt from and have no other part; those of test cells have none at all."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal

import cli
from fusion.bundles.model_bundle import load_model
from fusion.data.dataset import load_dataset
from fusion.data.feature_table import AugmentedCells
from fusion.errors import UsageError
from fusion.feature_transforms.harmonisation import Harmoniser
from fusion.feature_transforms.stable_features import Selection, repeatability, selection_notes, stability
from fusion.features.blocks import Block
from fusion.features.cell_measurement import Measure
from fusion.features.extraction import extract
from fusion.features.store import FeatureStore
from fusion.image_transforms import augmentation
from fusion.image_transforms.augmentation import AugmentedAdjustment
from fusion.image_transforms.dataset_transforms import as_trained, normalise
from fusion.images.cell import CellError, make_cell, read_cell
from fusion.leakage.grouped_splits import Split, affordable_splits, grouped_folds
from fusion.leakage.protocols import make_plan
from fusion.learning import fit_batches, fits
from fusion.learning._training_rows import TrainingRows
from fusion.learning.augmented_cells import (
    augmentation_notes,
    augmented_cells,
    augmented_dataset,
    check_sources,
)
from fusion.learning.decision.calibration import fit_calibration
from fusion.learning.decision.thresholds import FOLDS
from fusion.learning.fused_model import fuse
from fusion.learning.learn import fit_on
from fusion.learning.study import Study
from fusion.plugins.registry import build_classifier
from fusion.reports import html_report
from fusion.settings.commands import AblateConfig, TrainConfig
from fusion.settings.learning import AugmentSettings, FitSettings, NormaliseSettings
from fusion.synthetic.cells import SyntheticDesign, synthesize
from fusion.workflows import loading
from fusion.workflows.ablate import ablate
from fusion.workflows.ablation_plan import _checkpoint
from fusion.workflows.train import train
from tests.builders.comparisons import fits_of, fitted, recipe
from tests.builders.images import paint, write_image
from tests.builders.tables import table_of

rng = np.random.default_rng(5)


def augmented_table_of(are_sources=True, sources=1):
    """Cells of ``test_thresholds`` with two augmented cells each, moved as a site would and a little
    each by itself."""
    table = table_of()
    moved = [table.X + shift + rng.normal(0, 0.3, table.X.shape) for shift in (1.5, -1.0)]
    augmented = AugmentedCells(np.array(moved, np.float32), np.ones((2, len(table)), bool), are_sources)
    return replace(table, sources=tuple(f"lab_{group // 2 % sources}" for group in table.groups), augmented=augmented)


def halves(table):
    return Split(np.flatnonzero(table.groups >= 6), np.flatnonzero(table.groups < 6), table.groups)


def as_one(part: TrainingRows, classifier, **more):
    return fuse(
        part.X, part.y, part.groups, {"a": slice(0, 6)}, classifier, sources=part.sources, cells=part.cells, **more
    )


def fit(table, rows, classifier, **given):
    """The model of these cells, as every command learns it."""
    return fit_on(Study(table), rows, recipe(table, classifier, **given))


# ---- what is learnt from -------------------------------------------------------------------------------------------


def test_augmented_cells_lie_below_their_cells_with_their_labels_and_groups():
    table = augmented_table_of()
    table.augmented.there[0, 70] = False
    rows = np.array([100, 70, 3])
    part = TrainingRows.of(table, rows)
    assert part.cells.tolist() == [0, 1, 2, 0, 2, 0, 1, 2]
    assert_array_equal(part.X, np.vstack([table.X[rows], table.augmented.X[0][[100, 3]], table.augmented.X[1][rows]]))
    assert_array_equal(part.y, np.array(table.y)[rows][part.cells])
    assert_array_equal(part.groups, table.groups[rows][part.cells])
    assert list(part.sources) == ["lab_0"] * 3 + ["lab_0~1"] * 2 + ["lab_0~2"] * 3
    same = TrainingRows.of(replace(table, augmented=replace(table.augmented, are_sources=False)), rows)
    assert list(same.sources) == ["lab_0"] * 8


def test_blocks_and_rows_are_chosen_in_augmented_cells_too():
    table = replace(augmented_table_of(), columns=("a.0", "a.1", "b.0", "b.1", "b.2", "b.3"))
    chosen = table.select(["b"]).take(np.array([5, 2]))
    assert_array_equal(chosen.augmented.X, table.augmented.X[:, [5, 2], 2:])
    with pytest.raises(ValueError, match="augmented cells of a feature table"):
        replace(table, augmented=replace(table.augmented, X=table.augmented.X[:, :5]))


@pytest.mark.parametrize("classifier", ["svm", "xgb", "logreg"])
def test_a_model_learns_from_augmented_cells(classifier):
    table = augmented_table_of()
    split, settings = halves(table), {"classifiers": {"xgb": {"n_estimators": 20}}}
    rows = split.train
    stacked = np.vstack([table.X[rows], *table.augmented.X[:, rows]])
    by_hand = fuse(
        stacked,
        np.tile(np.array(table.y)[rows], 3),
        np.tile(table.groups[rows], 3),
        {"a": slice(0, 6)},
        classifier,
        params=recipe(table, classifier, **settings).params,
    )
    found = fitted(table, split, classifier, **settings)[0]
    assert_array_equal(found, by_hand.predict_proba(table.X[split.test]))
    assert np.abs(found - fitted(replace(table, augmented=None), split, classifier, **settings)[0]).max() > 0.01


@pytest.mark.parametrize("of", ["source", "cell"])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"harmonise": {"method": "standard", "transductive": True}},
        {"harmonise": {"method": "quantile"}, "stability": 0.1},
        {"calibrate": "temperature", "threshold": "balanced-accuracy"},
        {"search": True},
    ],
    ids=["plain", "harmonised", "chosen", "finished", "searched"],
)
def test_augmented_cells_and_labels_of_test_cells_change_no_bit(of, given):
    table = augmented_table_of(of == "source", sources=2)
    split = halves(table)
    honest, threshold, chosen = fitted(table, split, "logreg", **given)
    turned = np.array(table.y, object)
    turned[split.test] = np.where(turned[split.test] == "all", "hem", "all")
    planted = replace(table.augmented, X=table.augmented.X.copy(), there=table.augmented.there.copy())
    planted.X[:, split.test] = 1e3 * rng.normal(size=(2, len(split.test), 6))
    planted.there[1, split.test[::2]] = False
    lied, lied_cut, lied_chosen = fitted(replace(table, y=tuple(turned), augmented=planted), split, "logreg", **given)
    assert honest.tobytes() == lied.tobytes()
    assert_array_equal([threshold, *chosen.values()], [lied_cut, *lied_chosen.values()])
    planted.X[:, split.train[::2]] *= -2  # so that the test could fail
    assert honest.tobytes() != fitted(replace(table, augmented=planted), split, "logreg", **given)[0].tobytes()


@pytest.mark.parametrize("method", ["logistic", "temperature", "isotonic"])
def test_calibration_asks_cells_alone_and_models_of_other_groups(method):
    """By hand: every fold's cells by a model of the others' cells and copies, all scaled as the training part is."""
    table = augmented_table_of()
    rows = halves(table).train
    part, labels, groups = TrainingRows.of(table, rows), np.array(table.y)[rows], table.groups[rows]
    scaled = as_one(part, "logreg").layer.transform(part.X)
    proba = np.empty((len(rows), 2))
    for fold in grouped_folds(labels, groups, affordable_splits(labels, groups, FOLDS), 0):
        learnt = np.isin(part.cells, fold.train)
        classifier = build_classifier("logreg").fit(scaled[learnt], part.y[learnt], part.groups[learnt])
        proba[fold.test] = classifier.predict_proba(scaled[fold.test])
    by_hand = fit_calibration(method, proba, (labels == "hem").astype(int))
    model = fit(table, rows, "logreg", calibrate=method)
    before, after = (calibration.apply(proba) for calibration in (by_hand, model.calibration))
    assert_allclose(after, before, atol=1e-9)


def test_augmented_cells_are_sites_of_their_own_in_training_and_none_that_a_cell_can_be_from():
    table = augmented_table_of()
    rows = halves(table).train
    settings = {"harmonise": {"method": "standard", "transductive": True}}
    model = fit(table, rows, "logreg", **settings)
    part = TrainingRows.of(table, rows)
    whole = Harmoniser.fit(part.X, part.y, part.sources, method="standard", transductive=True)
    assert list(whole.maps) == ["lab_0", "lab_0~1", "lab_0~2"]
    assert list(model.harmoniser.maps) == ["lab_0"]
    assert_array_equal(model.harmonised(table.X[:40], ["lab_0"] * 40), whole.transform(table.X[:40], ["lab_0"] * 40))
    # Moved by 1.5, the first augmented cells are back where their cells are: what is learnt from is of one kind.
    back = whole.transform(part.X, part.sources)
    assert np.abs(back[part.cells] - back).mean() < 0.35 < np.abs(part.X[part.cells] - part.X).mean()
    beside = fit(replace(table, augmented=replace(table.augmented, are_sources=False)), rows, "logreg", **settings)
    assert list(beside.harmoniser.maps) == ["lab_0"]


def test_a_source_that_is_named_as_a_copy_is_refused():
    settings = AugmentSettings(per_cell=2)
    check_sources(["north", "north~3", None], settings)
    check_sources(["north", "north~2"], AugmentSettings(per_cell=2, per="cell"))
    with pytest.raises(UsageError, match="north~2") as raised:
        check_sources(["north", "north~2"], settings)
    assert "augment.per=cell" in str(raised.value)


@pytest.mark.parametrize("classifier", ["svm", "logreg"])
@pytest.mark.parametrize(
    "given",
    [
        {"augment": {"per_cell": 2}},
        {"augment": {"per_cell": 2}, "calibrate": "isotonic"},
        {"calibrate": "temperature", "threshold": "balanced-accuracy"},
        {"harmonise": {"method": "standard"}, "threshold": "0.4"},
        {"stability": 0.3},
    ],
    ids=lambda given: "+".join(given),
)
def test_fits_share_what_they_have_in_common_with_every_option(classifier, given, monkeypatch):
    table = augmented_table_of()
    table = table if "augment" in given else replace(table, augmented=None)
    table, split = replace(table, columns=("a.0", "a.1", "a.2", "b.0", "b.1", "b.2")), halves(table)
    monkeypatch.setattr(fits, "_WORTH_SHARING", 1)
    whole = recipe(table, classifier, **given)
    recipes = [replace(whole, blocks=blocks) for blocks in (("a", "b"), ("a",), ("b",))]
    load = fits_of(table, [split], recipes, memory=1e12)
    assert load.shared[classifier] == ("distances" if classifier == "svm" else "scaling")
    found = {each.fit: each for each in fit_batches.run_fits([fits.Fit(at, 0) for at in range(3)], load)}
    for fit, shared in found.items():
        alone = fit_batches.score(fit, load)
        assert_allclose(shared.proba, alone.proba, atol=2e-3)
        assert_allclose(shared.threshold, alone.threshold, atol=2e-3)


def test_what_sees_labels_inside_is_learnt_anew_and_not_shared():
    table = replace(augmented_table_of(), augmented=None, columns=("a.0", "a.1", "a.2", "b.0", "b.1", "b.2"))
    whole = recipe(table, "logreg", stability=0.3, calibrate="isotonic")
    load = fits_of(table, [halves(table)], [whole, replace(whole, blocks=("a",))], memory=1e12)
    assert load.shared["logreg"] == "nothing"


# ---- stability between a cell and its augmented versions
# ------------------------------------------------------------------------


def noted(least=0.7, sources="one"):
    """Three features: the cell's own in all its augmented versions, noise, and one that augmented cells move as a site
    would."""
    cells, kind = 200, np.arange(200) % 2
    own = rng.normal(size=cells) + 2 * kind
    X = np.vstack(
        [np.column_stack([own + 0.2 * rng.normal(size=cells), rng.normal(size=cells), own + 3 * at]) for at in range(3)]
    )
    y, of = np.tile(np.where(kind, "all", "hem"), 3), np.tile(np.arange(cells), 3)
    names = [sources] * cells + ["one~1"] * cells + ["one~2"] * cells
    return X, y, names, of, Selection.fit(X, y, names, least, of)


def by_hand(X, y, cells):
    """ICC(1) of cells within classes, every cell with as many rows: mean squares of a one-way analysis of variance."""
    each = np.array([X[cells == cell] for cell in np.unique(cells)])  # (cells, rows)
    labels = np.array([y[cells == cell][0] for cell in np.unique(cells)])
    means, size = each.mean(axis=1), each.shape[1]
    squares = sum(((means[labels == label] - means[labels == label].mean()) ** 2).sum() for label in set(labels))
    between = size * squares / (len(means) - len(set(labels)))
    within = each.var(axis=1, ddof=1).mean()
    return max((between - within) / (between + (size - 1) * within), 0)


def test_repeatability_is_the_intraclass_correlation_of_a_cell_with_its_augmented_cells():
    X, y, _, cells, _ = noted()
    found = repeatability(X, y, cells)
    assert found == pytest.approx([by_hand(column, y, cells) for column in X.T], rel=1e-9)
    assert found[0] > 0.9
    assert found[1] < 0.2
    # What tells the class alone is not repeatable within it.
    kind = (y == "all") * 5.0 + rng.normal(size=len(y))
    assert repeatability(kind[:, None], y, cells)[0] < 0.2
    order = rng.permutation(len(y))
    assert repeatability(X[order], y[order], cells[order]).tobytes() == found.tobytes()


def test_undefined_values_are_left_out_and_what_cannot_be_told_leaves_nothing_out():
    X, y, _, cells, _ = noted()
    holed = X.copy()
    holed[cells < 60, 0] = np.nan  # all rows of some cells
    rest = cells >= 60
    assert repeatability(holed, y, cells)[0] == pytest.approx(by_hand(X[rest, 0], y[rest], cells[rest]), rel=1e-9)
    holed = X.copy()
    holed[400:450, 0] = np.nan  # an augmented cell of some
    assert repeatability(holed, y, cells)[0] == pytest.approx(repeatability(X, y, cells)[0], abs=0.02)
    none = np.column_stack([np.full(len(y), 7.0), np.full(len(y), np.nan)])
    assert np.isnan(repeatability(none, y, cells)).all()
    assert np.isnan(repeatability(X[:200], y[:200], cells[:200])).all()


def test_with_one_source_augmented_cells_alone_say_what_is_left_out():
    *_, selection = noted()
    assert np.isnan(selection.stability).all()
    assert selection.kept.tolist() == [True, False, False]
    notes = selection_notes([selection], ["own", "noise", "moved"])
    assert "only augmented cells have a say" in notes[0]
    assert "2 of 3 features left out, since they differ between a cell and its augmented versions (most: " in notes[1]


def test_features_satisfy_both_where_there_are_sources():
    X, y, names, cells, _ = noted()
    names = ["one", "one", "two", "two"] * 50 + names[200:]
    place = np.array([name == "two" for name in names[:200]])[cells] * 6.0
    X = np.column_stack([X[:, :2], X[:, 0] + place])
    selection = Selection.fit(X, y, names, 0.7, cells)
    assert selection.kept.tolist() == [True, False, False]
    assert selection.repeatability[2] > 0.9 > 0.3 > selection.stability[2]
    assert_array_equal(
        selection.stability, stability(X[:200], y[:200], names[:200])
    )  # augmented cells are no sources here
    again = Selection.from_json(json.loads(json.dumps(selection.to_json())))
    assert_array_equal(again.kept, selection.kept)
    assert again.repeatability.tobytes() == selection.repeatability.tobytes()


def test_a_model_does_not_learn_from_what_differs_between_augmented_cells_once_they_are_harmonised():
    """What moves all augmented cells alike is taken out by harmonising, and kept; noise is not."""
    X, y, names, cells, _ = noted()
    more = {"harmonise": FitSettings(harmonise={"method": "standard"}).harmonise, "stability": 0.7}
    model = fuse(X, y, cells, {"a": slice(0, 3)}, "logreg", sources=names, cells=cells, **more)
    assert model.selection.kept.tolist() == [True, False, True]
    changed = X[:200].copy()
    changed[:, 1] += 50
    assert_array_equal(model.predict_proba(changed, names[:200]), model.predict_proba(X[:200], names[:200]))


# ---- from images --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Glance:
    """Stands in for a family that takes longer to measure: size, and mean and spread of the colours of a cell."""

    name: ClassVar[str] = "colour"
    version: ClassVar[str] = "glance"
    in_main_process: ClassVar[bool] = False

    def feature_names(self):
        return ["size", *(f"{what}_{channel}" for what in ("mean", "spread") for channel in "rgb")]

    def extract(self, cells):
        inside = [cell.rgb[cell.mask] for cell in cells]
        return np.array([[len(of), *of.mean(axis=0), *of.std(axis=0)] for of in inside], np.float32)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    design = SyntheticDesign(subjects=6, cells_per_subject=2, laboratories=2, seed=2)
    return synthesize(tmp_path_factory.mktemp("laboratories") / "out", design, jobs=1)


@pytest.fixture(scope="module")
def common(tmp_path_factory):
    return {"store": tmp_path_factory.mktemp("store"), "jobs": 1}


def measured_by(store, extractors):
    return lambda which: extract(which, extractors, store, jobs=1).table


@pytest.mark.parametrize("per", ["source", "cell"])
def test_a_copy_is_the_same_whatever_the_other_cells_are(tree, common, per):
    store, settings = FeatureStore(common["store"]), AugmentSettings(per_cell=2, per=per)
    everyone = load_dataset(tree / "truth.csv", store=common["store"])
    measure = measured_by(store, [Glance()])
    table = measure(everyone)
    both = augmented_cells(everyone, table, settings, 3, measure)
    assert both.there.all()
    assert both.are_sources == (per == "source")
    one = everyone.select(sources=["lab_2"])
    rows = np.flatnonzero(np.array(table.sources, object) == "lab_2")
    alone = augmented_cells(one, measure(one), settings, 3, measure)
    assert_array_equal(alone.X, both.X[:, rows])
    reused = extract(augmented_dataset(everyone, settings, 3, 2), [Glance()], store, jobs=1).reused
    assert reused == {"colour": len(everyone)}  # found in the store again
    for one, other in ((both.X[0], both.X[1]), (both.X[0], table.X)):
        assert np.nanmax(np.abs(one - other)) > 0
    assert not np.array_equal(augmented_cells(everyone, table, settings, 4, measure).X, both.X, equal_nan=True)


@pytest.mark.parametrize("per", ["source", "cell"])
def test_augmented_cells_are_varied_first_and_then_normalised(tree, common, per):
    store, settings = FeatureStore(common["store"]), AugmentSettings(per_cell=1, per=per)
    measure = measured_by(store, [Glance()])
    everyone = load_dataset(tree / "truth.csv", store=common["store"])
    shown = normalise(everyone, NormaliseSettings(scale="median-size", diameter=40), store, jobs=1)

    def as_shown(which):
        return as_trained(shown.normaliser, which, store, jobs=1)[0]

    table = measure(shown.dataset)
    found = augmented_cells(everyone, table, settings, 0, lambda which: measure(as_shown(which)))
    by_hand = as_shown(augmented_dataset(everyone, settings, 0, 1))
    assert all(isinstance(sample.adjustment, AugmentedAdjustment) for sample in by_hand.samples)
    assert_array_equal(found.X[0], measure(by_hand).X)
    # An augmented cell of one source is brought to the size that cells have; one that stays in it keeps its own size.
    plain = {sample.source: sample.adjustment.zoom for sample in shown.dataset.samples}
    zooms = {sample.source: sample.adjustment.adjustment.zoom for sample in by_hand.samples}
    assert set(zooms) == ({f"{name}~1" for name in plain} if per == "source" else set(plain))
    assert (zooms == plain) == (per == "cell")


def comparison(tree, common, folder, data, **more):
    steps = {"reinhard": {"mean": [55, 30, -25], "spread": [15, 8, 8]}, "scale": "um_per_px"}
    return AblateConfig(
        **{
            "data": tree / data,
            "output": folder,
            "features": ["colour"],
            "compare": ["logreg"],
            "split": "leave-one-source-out",
            "augment": {"per_cell": 1},
            "normalise": steps,
            "splits": 2,
            **common,
            **more,
        }
    )


@pytest.fixture
def compared(monkeypatch):
    """Runs ``ablate`` with a family that is measured at once, and without its page."""
    glance = Block("colour", Glance())
    monkeypatch.setattr(loading, "build_blocks", lambda config: [glance])
    monkeypatch.setattr(html_report, "write_report", lambda *given: None)
    return ablate


@pytest.mark.parametrize("pixels", [True, False], ids=["normalised", "as they are"])
def test_pixels_and_labels_of_the_judged_source_reach_nothing_that_is_fitted(tree, common, compared, tmp_path, pixels):
    """Planted: other images and labels in lab_2 but for one cell, which is judged as before to the last bit."""
    more = {"harmonise": {"method": "standard"}, "stability": 0.5} | ({} if pixels else {"normalise": {}})
    honest = compared(comparison(tree, common, tmp_path / "a", "truth.csv", **more))
    rows = pd.read_csv(tree / "truth.csv", dtype=str)
    kept = rows.index[rows["source"] == "lab_2"][4]
    for at in rows.index[rows["source"] == "lab_2"]:
        if at != kept:
            noise = np.random.default_rng(at).integers(40, 200, (64, 64, 3), dtype=np.uint8)
            mask = np.zeros((64, 64, 3), np.uint8)
            mask[20:44, 20:44], mask[28:36, 28:36] = 128, 255
            rows.loc[at, "path"] = str(write_image(tmp_path / "planted" / f"{at}.png", noise))
            rows.loc[at, "mask"] = str(write_image(tmp_path / "planted" / f"{at}-mask.png", mask))
            rows.loc[at, "label"] = {"all": "hem", "hem": "all"}[rows.loc[at, "label"]]
    rows.to_csv(tree / "planted.csv", index=False)
    lied = compared(comparison(tree, common, tmp_path / "b", "planted.csv", **more))
    name = rows.loc[kept, "path"]
    one, two = (
        result.scores[0].proba[0, [str(each).endswith(name) for each in result.cells.names]]
        for result in (honest, lied)
    )
    assert one.shape == (1, 2)
    assert one.tobytes() == two.tobytes()
    lied_about = lied.scores[0].proba[0] != honest.scores[0].proba[0]
    assert lied_about.any()
    assert any(note.startswith("augment: models learn from one augmented version") for note in honest.notes)
    assert honest.findings["cross_site"]["rows"]  # folds inside a source learn from augmented cells too


@pytest.mark.parametrize("normalise", [{}, {"scale": "median-size", "diameter": 40}], ids=["as they are", "normalised"])
def test_an_external_test_set_has_no_augmented_cells(tree, common, compared, tmp_path, normalise):
    rows = pd.read_csv(tree / "truth.csv", dtype=str)
    for number in (1, 2):
        rows[rows["source"] == f"lab_{number}"].to_csv(tree / f"lab_{number}.csv", index=False)
    more = {"normalise": normalise, "split": "grouped", "test": tree / "lab_2.csv"}
    plain, augmented_rows = (
        compared(
            comparison(tree, common, tmp_path / str(augmented), "lab_1.csv", augment={"per_cell": augmented}, **more)
        )
        for augmented in (0, 2)
    )
    assert len(augmented_rows.cells) == len(plain.cells)
    assert augmented_rows.scores[0].proba.shape == plain.scores[0].proba.shape
    assert not np.array_equal(augmented_rows.scores[0].proba, plain.scores[0].proba, equal_nan=True)
    first, second = (Study(table_of(seed)) for seed in (0, 1))
    some = AugmentedCells(np.ones((2, 192, 6), np.float32), np.ones((2, 192), bool), True)
    both = Study.pair(first.with_augmented(some), second, np.arange(384))
    assert both.table.augmented.there.tolist() == [[True] * 192 + [False] * 192] * 2


def test_a_copy_in_which_no_cell_is_found_is_left_out_and_told_of(tmp_path, monkeypatch):
    """Without masks cells are looked for in the varied images; here those of one size show none."""
    sides = [70 if at == 3 else 64 for at in range(6)]
    for at, side in enumerate(sides):
        write_image(tmp_path / "cells" / ("all", "hem")[at % 2] / f"{at}.png", paint(at, side=side))

    def blind(rgb, *rest, **more):
        if len(rgb) == 70:
            raise CellError("no cell found in the image")
        return make_cell(rgb, *rest, **more)

    monkeypatch.setattr(augmentation, "make_cell", blind)
    settings = AugmentSettings(per_cell=2, scale=0)
    everyone, measure = load_dataset(tmp_path / "cells"), measured_by(FeatureStore(tmp_path / "store"), [Glance()])
    table = measure(everyone)
    augmented = augmented_cells(everyone, table, settings, 3, measure)
    (lost,) = [row for row, name in enumerate(table.names) if name.endswith("3.png")]
    assert np.argwhere(~augmented.there).tolist() == [[0, lost], [1, lost]]
    whole = TrainingRows.of(replace(table, augmented=augmented), np.arange(6))
    assert len(whole.X) == 16
    assert not np.isnan(whole.X).any()
    table = replace(table, augmented=augmented)
    assert any("up to 2 augmented cells" in note for note in augmentation_notes(settings, table, [np.arange(6)]))
    assert len(augmentation_notes(settings, table, [np.setdiff1d(np.arange(6), [lost])])) == 1


def test_a_given_mask_is_taken_and_no_cell_looked_for(tree, common, monkeypatch):
    monkeypatch.setattr(augmentation, "make_cell", lambda *given, **more: pytest.fail("a cell was looked for"))
    everyone = load_dataset(tree / "truth.csv", store=common["store"]).select(sources=["lab_2"])
    augmented = augmented_dataset(everyone, AugmentSettings(per_cell=1), 9, 1)
    (sample, *_) = augmented.samples
    (row,) = Measure((Glance(),), frozenset())([(sample, frozenset(["colour"]))])
    cell = sample.adjustment.apply(read_cell(sample.path, sample.mask_path, sample.um_per_px))
    assert_array_equal(row.rows["colour"], Glance().extract([cell])[0])


def test_a_checkpoint_is_of_its_augmentation(tree, common, tmp_path):
    table = augmented_table_of()
    settings = comparison(tree, common, tmp_path, "truth.csv", split="grouped")
    plan = make_plan(table, "grouped", 2, 1, 0)
    names = set()
    for how in ({"per_cell": 0}, {"per_cell": 2}, {"per_cell": 2, "per": "cell"}):
        given = settings.model_copy(update={"augment": AugmentSettings(**how)})
        names.add(_checkpoint(Study(table), plan, given, []).folder)
    moved = replace(table.augmented, X=table.augmented.X + 1)
    names.add(_checkpoint(Study(replace(table, augmented=moved)), plan, settings, []).folder)
    assert len(names) == 4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"classifier": "neural"}, "augments images itself"),
        ({"cnn_crossfit": True, "features": ["cnn"]}, "--cnn-crossfit does not learn from augmented cells"),
        ({"classifier": "xgb", "classifiers": {"xgb": {"external_memory": True}}}, "keeps the features out of memory"),
    ],
)
def test_what_does_not_go_with_augmented_cells_is_refused_in_one_line(tree, common, tmp_path, given, words):
    with pytest.raises(UsageError, match=words):
        train(TrainConfig(data=tree / "truth.csv", output=tmp_path / "m", augment={"per_cell": 1}, **common, **given))
    assert not (tmp_path / "m").exists()


def test_a_look_at_leaks_learns_from_augmented_cells_on_both_sides_of_the_comparison(tree, common, compared, tmp_path):
    given = {"split": "grouped", "show_leak": True, "normalise": {}}
    plain, augmented = (
        compared(comparison(tree, common, tmp_path / str(n), "truth.csv", augment={"per_cell": n}, **given))
        for n in (0, 1)
    )
    for split in ("random", "grouped"):
        values = [found.findings["leak"]["rows"][0]["auroc"][split] for found in (plain, augmented)]
        assert values[0] != values[1]


def test_a_classifier_of_images_is_refused(tree, common, tmp_path):
    with pytest.raises(UsageError, match="augments images itself"):
        ablate(comparison(tree, common, tmp_path / "a", "truth.csv", split="grouped", compare=["logreg", "neural"]))
    assert not (tmp_path / "a").exists()


def test_the_command_line_trains_on_augmented_cells_and_predicts_without(tree, common, tmp_path):
    def fusion(*words):
        done = CliRunner().invoke(cli.fusion, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.stdout

    given = (
        "train",
        tree / "truth.csv",
        "--classifier",
        "svm",
        "--features",
        "morphology",
        "--splits",
        2,
        "--set",
        "sources=lab_1",
        "--set",
        f"store={common['store']}",
        "--set",
        "jobs=1",
        "--json",
    )
    plain = json.loads(fusion(*given, "-o", tmp_path / "plain"))
    message = json.loads(fusion(*given, "--set", "augment.per_cell=2", "-o", tmp_path / "m"))
    assert message["results"][0]["image"] != plain["results"][0]["image"]
    assert message["results"][0]["n_images"] == plain["results"][0]["n_images"] == 12
    assert any("2 augmented cells" in note for note in message["notes"])
    kept = json.loads((tmp_path / "m" / "model.json").read_text())["facts"]["facts"]["augment"]
    assert AugmentSettings(**kept) == AugmentSettings(per_cell=2)
    models = [load_model(tmp_path / name) for name in ("plain", "m")]
    assert models[0].provenance == models[1].provenance
    assert models[0].novelty.threshold == models[1].novelty.threshold
    image = next((tree / "lab_2").rglob("*.png"), None) or next((tree / "lab_2").rglob("*.bmp"))
    (row,) = json.loads(fusion("predict", tmp_path / "m", image, "--json"))["predictions"]
    assert sum(row["probability"].values()) == pytest.approx(1)
