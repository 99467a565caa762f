"""Synthetic cells: the tree looks like C-NMC, the truth is true, and the effects are the ones asked for."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose

from fusion.data.readers import read_listing
from fusion.errors import UsageError
from fusion.synthetic.cells import (
    TRUTH_COLUMNS,
    SyntheticDesign,
    SyntheticError,
    draw_cell,
    draw_subjects,
    moment_axes,
    synthesize,
)
from fusion.synthetic.rendering import CellTraits, correlation_length, paint_cell

SMALL = SyntheticDesign(subjects=4, cells_per_subject=2)
CELL = CellTraits(
    area_px=28_000,
    elongation=1.1,
    contour_irregularity=0.015,
    nucleus_ratio=0.83,
    texture_scale_px=6.5,
    chromatin_contrast=0.075,
    nucleoli=0,
    stain_darkness=1.0,
    stain_hue=0.0,
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Odd in every number: 4 malignant and 3 healthy subjects in 3 folds."""
    return synthesize(tmp_path_factory.mktemp("tree"), SyntheticDesign(subjects=7, cells_per_subject=3, seed=1))


def truth_of(tree: Path) -> list[dict[str, str]]:
    with (tree / "truth.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def image(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def content(tree: Path) -> dict[str, bytes]:
    return {path.relative_to(tree).as_posix(): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def painted(traits: CellTraits, seed: int = 0):
    return paint_cell(traits, np.random.default_rng(seed))


# ---- the same design, the same files --------------------------------------------------------------------------------


def test_files_depend_on_the_design_only(tmp_path):
    alone = content(synthesize(tmp_path / "alone", SMALL))
    shared = content(synthesize(tmp_path / "shared", SMALL, jobs=2))
    other = content(synthesize(tmp_path / "other", replace(SMALL, seed=1)))
    assert alone == shared
    assert alone.keys() == other.keys()
    assert all(alone[name] != other[name] for name in alone)


def test_no_two_cells_are_the_same(tree):
    images = [path.read_bytes() for path in tree.rglob("*.bmp")]
    assert len(set(images)) == len(images) == 21


# ---- the tree -------------------------------------------------------------------------------------------------------


def test_tree_and_names_are_those_of_cnmc(tree):
    pattern = re.compile(
        r"fold_[012]/(?:all/UID_[1-9]\d*_[1-9]\d*_[1-9]\d*_all|hem/UID_H[1-9]\d*_[1-9]\d*_[1-9]\d*_hem)\.bmp"
    )
    names = set(content(tree)) - {"truth.csv"}
    assert [name for name in names if not pattern.fullmatch(name)] == []
    assert names == {row["path"] for row in truth_of(tree)}


def test_more_than_ten_cells_of_a_subject_have_names_of_their_own(tmp_path):
    tree = synthesize(tmp_path / "tree", replace(SMALL, cells_per_subject=12))
    assert len(list(tree.rglob("*.bmp"))) == 4 * 12


def test_each_subject_has_one_fold_and_each_fold_both_classes(tree):
    folds, labels = defaultdict(set), defaultdict(set)
    for row in truth_of(tree):
        folds[row["subject"]].add(row["fold"])
        labels[row["fold"]].add(row["label"])
    assert set(folds) == {"1", "2", "3", "4", "H1", "H2", "H3"}
    assert all(len(of_subject) == 1 for of_subject in folds.values())
    assert labels == {fold: {"all", "hem"} for fold in "012"}


def test_fewer_folds_where_a_class_has_too_few_subjects(tmp_path):
    three_and_two = SyntheticDesign(subjects=5, cells_per_subject=1, folds=3)
    tree = synthesize(tmp_path / "tree", three_and_two)
    folders = [path.parent.relative_to(tree).as_posix() for path in tree.rglob("*.bmp")]
    assert sorted(folders) == ["fold_0/all", "fold_0/all", "fold_0/hem", "fold_1/all", "fold_1/hem"]


def test_fusion_reads_the_tree_and_its_truth_alike(tree):
    folder, table = read_listing(tree), read_listing(tree / "truth.csv")
    assert (folder.layout, table.layout) == ("cnmc", "table")
    listed, rows = folder.entries, table.entries
    facts = [sorted((entry.path, entry.label, entry.subject, entry.fold) for entry in some) for some in (listed, rows)]
    assert facts[0] == facts[1]
    assert len(listed) == 21


# ---- the images ---------------------------------------------------------------------------------------------------


def test_images_are_cut_out_cells_on_exact_black(tree):
    for row in truth_of(tree):
        assert (tree / row["path"]).stat().st_size == 608_454
        rgb = image(tree / row["path"])
        assert rgb.shape == (450, 450, 3)
        brightness = rgb.sum(axis=2, dtype=int)
        mask = brightness > 0
        assert mask.sum() == int(row["cell_area_px"])
        assert brightness[mask].min() >= 26
        assert cv2.connectedComponents(mask.view(np.uint8), connectivity=4)[0] == 2
        assert cv2.connectedComponents((~mask).view(np.uint8), connectivity=8)[0] == 2  # no hole
        assert_allclose(np.argwhere(mask).mean(axis=0), 225, atol=25)


def test_cells_are_as_dark_and_purple_as_real_ones(tree):
    # Two real cells have means of (73, 32, 81) and (68, 30, 75); a stain may lean 15 grey levels away from them.
    means = [rgb[rgb.any(axis=2)].mean(axis=0) for rgb in map(image, tree.rglob("*.bmp"))]
    assert_allclose(np.mean(means, axis=0), (71, 33, 79), atol=5)
    assert_allclose(means, np.tile((71, 33, 79), (len(means), 1)), atol=20)


def test_no_stain_is_darker_than_any_real_cell():
    cell = painted(replace(CELL, stain_darkness=4.0))
    assert cell.rgb[cell.mask].sum(axis=1, dtype=int).min() >= 26


@pytest.mark.parametrize("area_px", [9_000, 28_000, 10_000_000])
def test_every_cell_fits_its_image(area_px):
    cell = painted(replace(CELL, area_px=area_px, elongation=1.6, contour_irregularity=0.08))
    frame = np.concatenate([cell.mask[0], cell.mask[-1], cell.mask[:, 0], cell.mask[:, -1]])
    assert not frame.any()
    assert cell.mask.sum() >= 9_000 * 0.99


# ---- the truth ------------------------------------------------------------------------------------------------------


def test_truth_has_the_columns_that_are_documented(tree):
    assert list(truth_of(tree)[0]) == list(TRUTH_COLUMNS)
    assert list(TRUTH_COLUMNS)[:4] == ["path", "label", "subject", "fold"]


def test_cells_get_the_areas_asked_for():
    cell = painted(CELL)
    assert_allclose(cell.mask.sum(), CELL.area_px, rtol=0.005)
    assert_allclose(cell.nucleus.sum() / cell.mask.sum(), CELL.nucleus_ratio, rtol=0.005)
    assert not (cell.nucleus & ~cell.mask).any()


def test_axes_are_those_of_scikit_image(tree):
    measure = pytest.importorskip("skimage.measure")
    for row in truth_of(tree):
        region = measure.regionprops(image(tree / row["path"]).any(axis=2).astype(np.uint8))[0]
        axes = float(row["major_axis_px"]), float(row["minor_axis_px"])
        assert_allclose(axes, (region.axis_major_length, region.axis_minor_length), rtol=1e-5)


def test_axes_of_a_smooth_cell_are_its_ellipse():
    mask = painted(replace(CELL, elongation=1.44, contour_irregularity=0.0)).mask
    diameter = 2 * np.sqrt(CELL.area_px / np.pi)
    assert_allclose(moment_axes(mask), (diameter * 1.2, diameter / 1.2), rtol=0.003)


def test_an_irregular_contour_departs_from_its_ellipse():
    solidity = []
    for irregularity in (0.0, 0.02, 0.06):
        mask = painted(replace(CELL, contour_irregularity=irregularity)).mask
        contour = max(cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
        solidity.append(cv2.contourArea(contour) / cv2.contourArea(cv2.convexHull(contour)))
    assert solidity[0] > solidity[1] > solidity[2]


@pytest.mark.parametrize("sigma", [2.0, 4.0])
def test_correlation_length_of_blurred_noise_is_twice_its_sigma(sigma):
    # A Gaussian filter of s gives the autocorrelation exp(-(r / 2s)^2).
    noise = cv2.GaussianBlur(np.random.default_rng(0).standard_normal((1200, 1200)), (0, 0), sigma)
    disc = np.hypot(*np.indices(noise.shape) - 599.5) < 590
    assert_allclose(correlation_length(noise, disc), 2 * sigma, rtol=0.02)


def test_correlation_length_ignores_what_is_outside_the_mask():
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.standard_normal((300, 300)), (0, 0), 3)
    disc = np.hypot(*np.indices(noise.shape) - 149.5) < 100
    elsewhere = np.where(disc, noise, rng.normal(50, 10, noise.shape))
    assert_allclose(correlation_length(elsewhere, disc), correlation_length(noise, disc), rtol=1e-9)


def test_chromatin_has_the_scale_asked_for():
    for scale in (4.5, 9.0):
        measured = [painted(replace(CELL, texture_scale_px=scale), seed).texture_scale_px for seed in range(8)]
        assert_allclose(np.mean(measured), scale, rtol=0.05)  # one cell lies some 3% off


def test_nucleus_and_texture_can_be_measured_from_the_pixels(tree):
    """With no more than Otsu's threshold, and the autocorrelation of green along rows and columns."""
    filters = pytest.importorskip("skimage.filters")
    errors = []
    for row in truth_of(tree):
        rgb = image(tree / row["path"])
        mask, green = rgb.any(axis=2), cv2.medianBlur(rgb[..., 1], 3)
        nucleus = mask & (green <= filters.threshold_otsu(green[mask]))
        ratio = nucleus.sum() / mask.sum()
        errors.append(
            (
                ratio / float(row["nucleus_ratio"]) - 1,
                texture_scale(rgb, nucleus) / float(row["texture_scale_px"]) - 1,
            )
        )
    assert (np.median(np.abs(errors), axis=0) < 0.03).all()


def texture_scale(rgb: np.ndarray, nucleus: np.ndarray) -> float:
    inside = cv2.erode(nucleus.view(np.uint8), np.ones((9, 9), np.uint8)) > 0
    values = np.log(np.maximum(rgb[..., 1], 1).astype(float))
    values = np.where(inside, values - values[inside].mean(), 0)
    lags = np.arange(1, 25)
    covariance = np.mean(
        [
            [(values * np.roll(values, lag, axis)).sum() / (inside & np.roll(inside, lag, axis)).sum() for lag in lags]
            for axis in (0, 1)
        ],
        axis=0,
    )
    # At lag 0 the sensor's noise is on top: what it would be without follows from a parabola through the logarithms.
    start = np.exp((4 * np.log(covariance[0]) - np.log(covariance[1])) / 3)
    below = int(np.argmax(covariance < start / np.e))
    return float(np.interp(-start / np.e, -covariance[below - 1 : below + 1], lags[below - 1 : below + 1]))


def test_nucleoli_are_brighter_than_the_chromatin_around_them():
    without, with_four = painted(CELL), painted(replace(CELL, nucleoli=4))
    assert (without.nucleus == with_four.nucleus).all()
    green = [cell.rgb[cell.nucleus][:, 1].mean() for cell in (without, with_four)]
    assert green[1] > green[0] + 0.5


# ---- the effects ----------------------------------------------------------------------------------------------------


def test_without_a_class_effect_the_label_changes_nothing():
    design = replace(SMALL, class_effect=0.0)
    subject = draw_subjects(design)[0]
    traits = [draw_cell(design, replace(subject, label=label), np.random.default_rng(3)) for label in ("all", "hem")]
    assert traits[0] == traits[1]


def test_the_class_effect_moves_the_classes_apart():
    distances = []
    for effect in (0.5, 1.0, 2.0):
        design = replace(SMALL, class_effect=effect)
        subject = draw_subjects(design)[0]
        malignant, healthy = (
            draw_cell(design, replace(subject, label=label), np.random.default_rng(3)) for label in ("all", "hem")
        )
        assert malignant.nucleus_ratio > healthy.nucleus_ratio
        assert malignant.contour_irregularity > healthy.contour_irregularity
        distances.append(np.log(malignant.area_px / healthy.area_px))
    assert_allclose(distances, np.array([0.5, 1, 2]) * distances[1], rtol=1e-6)


def test_subjects_shift_all_their_cells_alike(tree):
    shifts = defaultdict(set)
    names = [name for name in TRUTH_COLUMNS if name.startswith("subject_shift_")]
    for row in truth_of(tree):
        shifts[row["subject"]].add(tuple(row[name] for name in names))
    assert {"subject_shift_stain_hue", "subject_shift_stain_darkness", "subject_shift_area"} <= set(names)
    assert all(len(of_subject) == 1 for of_subject in shifts.values())
    assert len(set.union(*shifts.values())) == len(shifts)


def test_the_subject_effect_scales_every_shift():
    none, once, twice = (draw_subjects(replace(SMALL, subject_effect=effect)) for effect in (0.0, 1.0, 2.0))
    assert all(shift == 0 for subject in none for shift in subject.shifts.values())
    assert any(shift != 0 for subject in once for shift in subject.shifts.values())
    for one, two in zip(once, twice, strict=True):
        assert two.shifts == {trait: 2 * shift for trait, shift in one.shifts.items()}


def test_huge_effects_still_make_cells():
    design = replace(SMALL, class_effect=1e6, subject_effect=1e6)
    for subject in draw_subjects(design):
        cell = paint_cell(draw_cell(design, subject, np.random.default_rng(0)), np.random.default_rng(0))
        assert cell.nucleus.any()
        assert cell.rgb[cell.mask].sum(axis=1, dtype=int).min() >= 26


@pytest.mark.slow
@pytest.mark.parametrize(("subject_effect", "least", "most"), [(1.0, 0.05, 0.3), (0.0, -0.03, 0.03)])
def test_a_split_that_ignores_subjects_flatters_as_far_as_subjects_differ(subject_effect, least, most):
    model_selection = pytest.importorskip("sklearn.model_selection")
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    features, labels, subjects = simple_features(SyntheticDesign(subject_effect=subject_effect))
    model = make_pipeline(StandardScaler(), SVC(C=3))
    by_subject = model_selection.StratifiedGroupKFold(5, shuffle=True, random_state=0)
    by_cell = model_selection.StratifiedKFold(5, shuffle=True, random_state=0)
    score = {
        name: balanced_accuracy_score(labels, model_selection.cross_val_predict(model, features, labels, cv=folds))
        for name, folds in (
            ("subjects", by_subject.split(features, labels, subjects)),
            ("cells", by_cell.split(features, labels)),
        )
    }
    assert least <= score["cells"] - score["subjects"] <= most
    if subject_effect:
        assert 0.7 <= score["subjects"] <= 0.92


def simple_features(design: SyntheticDesign) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area, colour, and contrast of green and of red at three scales: what anyone would try first."""
    rows, labels, subjects = [], [], []
    for subject in draw_subjects(design):
        for number in range(design.cells_per_subject):
            rng = np.random.default_rng((subject.index, number))
            cell = paint_cell(draw_cell(design, subject, rng), rng)
            pixels = cell.rgb[cell.nucleus].astype(float)
            texture = [
                np.std((cell.rgb - cv2.GaussianBlur(cell.rgb, (0, 0), sigma).astype(float))[cell.nucleus], axis=0)
                for sigma in (1, 2, 4)
            ]
            area, ratio = np.log(cell.mask.sum()), cell.nucleus.sum() / cell.mask.sum()
            rows.append(
                np.concatenate([[area, ratio], moment_axes(cell.mask), pixels.mean(0), pixels.std(0), *texture])
            )
            labels.append(subject.label)
            subjects.append(subject.name)
    return np.array(rows), np.array(labels), np.array(subjects)


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_an_occupied_folder_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=re.escape(str(tmp_path))) as refusal:
        synthesize(tmp_path, SMALL)
    assert "mine.txt" in refusal.value.found
    assert content(tmp_path) == {"mine.txt": b"mine"}


def test_a_file_is_no_folder_to_write_to(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UsageError, match="taken"):
        synthesize(file, SMALL)
    with pytest.raises(SyntheticError, match="cannot write"):
        synthesize(file / "below", SMALL)
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subjects", 3),
        ("cells_per_subject", 0),
        ("folds", 0),
        ("seed", -1),
        ("class_effect", -0.1),
        ("subject_effect", float("nan")),
        ("subject_effect", float("inf")),
    ],
)
def test_an_impossible_design_is_refused(name, value):
    with pytest.raises(UsageError, match=name) as refusal:
        replace(SMALL, **{name: value})
    assert str(value) in refusal.value.found
    assert refusal.value.expected


def test_an_interrupted_tree_has_no_truth(tmp_path):
    def stop(done: int, total: int) -> None:
        assert total == 8
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "tree", SMALL, progress=stop)
    assert len(list((tmp_path / "tree").rglob("*.bmp"))) == 3
    assert not (tmp_path / "tree" / "truth.csv").exists()


def test_progress_counts_every_cell(tmp_path):
    calls = []
    synthesize(tmp_path / "tree", SMALL, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 8) for done in range(1, 9)]


def test_making_cells_needs_no_learning_library():
    heavy = "{'torch', 'sklearn', 'skimage', 'timm', 'joblib', 'scipy'}"
    code = f"import sys, fusion.synthetic.cells; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
