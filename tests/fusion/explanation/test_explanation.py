"""Why a cell is called what it is called: reasons that masking confirms, figures, a page, and what a network sees."""

import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.testing import assert_allclose
from scipy.special import logit

import cli
from fusion.bundles.model_bundle import load_model
from fusion.explanation._attribution import attribute
from fusion.explanation.explanation import Reason, explain_cell, number
from fusion.images.cell import read_cell
from fusion.reports.distribution_strip import distribution_strip
from fusion.reports.explanation_figure import explanation_figure, map_overlay
from fusion.reports.explanation_page import page_text
from fusion.reports.explanation_rows import grouped, shown_classes, strip_range
from fusion.reports.result_figures import render
from fusion.settings.commands import PredictConfig, TrainConfig
from fusion.workflows.predict import predict
from fusion.workflows.train import train
from tests.builders.images import paint, write_image

NETWORK = {
    "network": {
        "backbone": "test_efficientnet",
        "weights": "random",
        "size": 32,
        "drop_path": 0.0,
        "head": [16],
        "head_dropout": [0.0, 0.0],
    },
    "training": {"epochs": 1, "batch_size": 16, "patience": 0},
}


def fusion(*words):
    return CliRunner().invoke(cli.fusion, [str(word) for word in words])


@pytest.fixture(scope="module")
def models(population, synthetic, trees, synthetic_store, tmp_path_factory):
    """A model folder of every classifier; "fine" are trees of 256 bins."""
    root = tmp_path_factory.mktemp("models")
    # Asking an SVM about 1,163 variants of 200 cells would take a minute.
    features = {"svm": ["morphology"], "neural": ["morphology", "colour"]}

    def made(name):
        if name == "xgb":
            return trees
        if not (root / name).exists():
            train(
                TrainConfig(
                    data=synthetic if name == "neural" else population,
                    output=root / name,
                    classifier="xgb" if name == "fine" else name,
                    features=features.get(name),
                    splits=2,
                    store=synthetic_store,
                    jobs=1,
                    # Of 32 bins a feature's median often lies in one with the cell's own value: masking moves nothing.
                    classifiers={"neural": {"neural": NETWORK}, "fine": {"xgb": {"max_bin": 256}}}.get(name, {}),
                )
            )
        return root / name

    return made


@pytest.fixture
def image(fresh):
    return sorted(fresh.rglob("*.bmp"))[0]


def top_features(bundle, found):
    """Row, class, and the strongest feature with its contribution, of every predicted cell."""
    for row, predicted in zip(found.table.X, found.predicted, strict=True):
        said = attribute(bundle.model, found.table.blocks, row, bundle.reference.typical, predicted)
        top = int(np.abs(said.columns).argmax())
        yield row, bundle.classes.index(predicted), top, said.columns[top]


@pytest.mark.parametrize(
    "name", ["fine", pytest.param("logreg", marks=pytest.mark.slow), pytest.param("svm", marks=pytest.mark.slow)]
)
def test_masking_the_top_feature_moves_the_score_as_said(models, fresh, synthetic_store, name):
    """Where one feature parts the classes, its median lies in the gap between them, and masking by it may move nothing
    at all for a tree: so few cells and blocks that this is common (142 of 200 for two blocks) are not asked here."""
    bundle = load_model(models(name))
    found = predict(PredictConfig(model=models(name), images=[fresh], store=synthetic_store))
    assert len(found) == 200
    moved = 0
    for row, at, top, contribution in top_features(bundle, found):
        masked = row.copy()
        masked[top] = bundle.reference.typical[top]
        before, after = bundle.model.predict_proba(np.stack([row, masked]))[:, at]
        moved += (after < before) if contribution > 0 else (after > before)
    assert moved >= 0.95 * 200


def test_not_knowing_a_trees_top_feature_moves_the_score_as_said(models, population, fresh, synthetic_store):
    """Not known is any value that training cells have: this is what tree SHAP means by leaving a feature out."""
    bundle = load_model(models("xgb"))
    known = predict(PredictConfig(model=models("xgb"), images=[population], store=synthetic_store)).table.X
    found = predict(PredictConfig(model=models("xgb"), images=[fresh], store=synthetic_store))
    moved = 0
    for row, at, top, contribution in top_features(bundle, found):
        unknown = np.repeat(row[None], len(known), axis=0)
        unknown[:, top] = known[:, top]
        before, after = (logit(bundle.model.predict_proba(X)[:, at]).mean() for X in (row[None], unknown))
        moved += (after < before) if contribution > 0 else (after > before)
    assert moved >= 0.95 * 200


def test_an_explanation_in_memory_is_that_of_the_command(models, image, tmp_path):
    done = fusion("explain", models("xgb"), image, "-o", tmp_path / "why", "--json")
    assert done.exit_code == 0, done.stderr
    (message,) = json.loads(done.stdout)["explanations"]
    held = explain_cell(load_model(models("xgb")), read_cell(image), image.name).to_json()
    assert {name: message[name] for name in held} == held
    assert sum(message["blocks"].values()) + message["base"] == pytest.approx(message["score"], abs=1e-5)
    p = message["probability"][message["class"]]
    assert np.log(p / (1 - p)) == pytest.approx(message["score"], abs=1e-3)


def test_reasons_are_in_words_with_definition_value_and_training_cells(models, image, population, synthetic_store):
    bundle = load_model(models("logreg"))
    found = explain_cell(bundle, read_cell(image), "cell")
    assert len(found.speaks_for) >= 1
    assert len(found.speaks_against) >= 1
    assert len(found.reasons) <= 12
    strengths = [reason.contribution for reason in found.speaks_for]
    assert strengths == sorted(strengths, reverse=True)
    table = predict(PredictConfig(model=models("logreg"), images=[population], store=synthetic_store)).table
    labels = np.array(table.y)
    for reason in found.reasons:
        assert "_" not in reason.words
        assert reason.definition
        values = table.X[:, table.columns.index(reason.column)]
        for label, median, below in zip(found.classes, reason.medians, reason.below, strict=True):
            own = values[(labels == label) & ~np.isnan(values)]
            assert median == pytest.approx(np.median(own), rel=1e-5)
            # Quantiles are 2.5% apart.
            assert below == pytest.approx(np.mean(own < reason.value) + 0.5 * np.mean(own == reason.value), abs=0.035)


def test_a_value_is_said_as_one_would_say_it():
    reason = Reason(
        "morphology.nucleus_area", "nucleus area", "Pixels.", "pixels", 15234.0, 0.4, (9000.0, np.nan), (0.924, np.nan)
    )
    assert reason.sentence == "nucleus area = 15234 pixels"
    assert reason.held_to(["hem", "all"]) == "above 92% of 'hem'"
    assert reason.usual(["hem", "all"]) == "medians hem 9000"
    low = replace(reason, value=np.nan, below=(0.004, 0.4))
    assert low.sentence == "nucleus area undefined"
    assert low.held_to(["hem", "all"]) == "below more than 99% of 'hem', below 60% of 'all'"
    assert [number(v) for v in (0, 0.00001234, 1.3149, 1234567.0, -999.6)] == [
        "0",
        "1.23e-05",
        "1.31",
        "1.23e+06",
        "-1e+03",
    ]


def test_the_limits_of_what_was_asked_stand_on_the_figure(models, image):
    found = explain_cell(load_model(models("svm")), read_cell(image), "cell")
    drawn = render(explanation_figure(found), "svg").decode()
    text = " ".join(re.sub(r"<[^>]*>", " ", drawn).split())
    assert "Approximate: groups are taken in a few orders" in text
    assert "add up to the score" in text


def test_the_same_explanation_gives_the_same_figure(models, image):
    found = explain_cell(load_model(models("xgb")), read_cell(image), "cell $x$")
    first, second = (render(explanation_figure(found), "svg") for _ in range(2))
    assert first == second
    assert b"cell $x$" in first


def test_no_text_lies_over_another_with_many_long_classes(models, image):
    """As text about six classes of 25 letters once did, across the image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    found = explain_cell(load_model(models("xgb")), read_cell(image), "a/folder/of/many/cells/a-cell-with-a-name.bmp")
    classes = tuple(f"{kind} of the third kind" for kind in ("band", "basophil", "blast", "metamyelocyte", "monocyte"))
    many = replace(
        found,
        classes=(found.predicted, *classes),
        proba=(0.5, *(0.1,) * 5),
        reasons=tuple(
            replace(reason, medians=(1.23456e-5,) * 6, below=(0.999,) * 6, spreads=reason.spreads[:1] * 6)
            for reason in found.reasons
        ),
    )
    for one in (found, many):
        figure = explanation_figure(one)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        cell, *_, strips, _ = figure.axes
        boxes = [text.get_window_extent(renderer) for text in strips.texts]
        shown, rest = grouped(one)
        others = sum(bool(group.reasons and group.share.others) for group in shown)
        assert len(boxes) == len(shown) + len(one.reasons) + others + bool(rest)
        assert min(box.x0 for box in boxes) > cell.get_window_extent(renderer).x1
        for above, below in itertools.pairwise(boxes):
            assert above.y0 >= below.y1 - 1
        heading, line, research = (text.get_window_extent(renderer) for text in figure.texts[:3])
        assert heading.x1 < research.x0
        assert line.y1 <= min(heading.y0, research.y0)
        assert line.x1 < figure.bbox.x1


def test_figures_and_page_are_written_for_every_cell(models, fresh, tmp_path):
    (tmp_path / "text.png").write_text("I am a text")
    images = sorted(fresh.rglob("*.bmp"))[:2]
    done = fusion("explain", models("xgb"), *images, tmp_path / "text.png", "-o", tmp_path / "why")
    assert done.exit_code == 3, done.stderr
    assert "1 image skipped" in done.stderr
    names = sorted(path.name for path in (tmp_path / "why").iterdir())
    stems = [f"{at:04d}-{path.stem}" for at, path in enumerate(images, 1)]
    assert names == sorted([*(f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")), "explanations.html"])
    page = (tmp_path / "why" / "explanations.html").read_text()
    assert "http" not in page
    assert page.count("<section>") == 2
    for name in stems:
        assert f'href="{name}.svg"' in page
    assert page.count('alt="The cell') == 2


def test_predict_explains_on_the_way(models, image, tmp_path):
    message = fusion("predict", models("xgb"), image, "--explain", tmp_path / "one", "--json")
    assert message.exit_code == 0, message.stderr
    assert len(json.loads(message.stdout)["predictions"]) == 1
    fusion("explain", models("xgb"), image, "-o", tmp_path / "two")
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / at).iterdir()} for at in ("one", "two"))
    assert first == second
    assert len(first) == 3


def test_a_strange_cell_is_warned_of_on_figure_and_page(models, tmp_path):
    outside = write_image(tmp_path / "disc.png", paint(1))
    done = fusion("explain", models("xgb"), outside, "-o", tmp_path / "why")
    assert done.exit_code == 0, done.stderr
    page, figure = (tmp_path / "why" / name for name in ("explanations.html", "0001-disc.svg"))
    assert "<b>Not judged:</b> out of distribution" in page.read_text()
    assert "Not judged: out of distribution" in figure.read_text()
    assert "not judged (nearest to" in done.stdout


def test_cells_that_are_not_judged_come_first_and_a_class_never_taught_is_one_reason(models, image):
    bundle = load_model(models("xgb"))
    known = explain_cell(bundle, read_cell(image), "known")
    untaught = replace(known, name="untaught", label="platelet")
    assert known.warning == ""
    assert "labelled 'platelet', a class that the model was never taught" in untaught.warning
    assert untaught.to_json()["not_judged"] == untaught.warning
    page = page_text([(known, "", ()), (untaught, "", ())])
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert headings == ["untaught", "known"]
    assert "1 of them is not judged and stands first" in page
    assert page.count('class="doubtful"') == 1


def test_a_folder_called_by_a_slide_is_no_class_and_a_table_s_label_is_one(models, image, tmp_path):
    for folder in ("slide1", "slide2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.bmp").write_bytes(image.read_bytes())
    (tmp_path / "table.csv").write_text("path,label\nslide1/slide1.bmp,platelet\n")
    for given, judged in ((tmp_path, True), (tmp_path / "table.csv", False)):
        done = fusion("explain", models("xgb"), given, "-o", tmp_path / f"why{judged}", "--json")
        assert done.exit_code == 0, done.stderr
        assert all((one["not_judged"] == "") == judged for one in json.loads(done.stdout)["explanations"])


@pytest.mark.parametrize("name", ["xgb", "svm", "logreg", "neural"])
def test_features_groups_and_blocks_add_up_whatever_the_classifier(models, image, name):
    found = explain_cell(load_model(models(name)), read_cell(image), "cell")
    for block, value in found.attribution.blocks.items():
        own = [share for share in found.groups if share.block == block]
        assert sum(share.value for share in own) == pytest.approx(value, abs=1e-5)
    assert found.attribution.base + sum(share.value for share in found.groups) == pytest.approx(
        found.attribution.score, abs=1e-5
    )
    for share in found.groups:
        told = sum(reason.contribution for reason in found.reasons_of(share))
        assert told + share.rest == pytest.approx(share.value, abs=1e-9)
    assert sum(len(found.reasons_of(share)) for share in found.groups) == len(found.reasons)
    assert {share.name for share in found.groups} >= {"nuclear shape", "cell size", "N:C ratio"}


def test_no_stain_of_histology_is_named_on_a_blood_smear(models, image):
    found = explain_cell(load_model(models("logreg")), read_cell(image), "cell", top=50)
    page = re.sub(r'"data:image[^"]*"', "", page_text([(found, "", ())])).lower()
    assert not re.search(r"\bdab\b|haematoxylin|_dab_", page)
    assert "all other features" in page


def test_a_strip_has_every_class_and_this_cell_in_its_place(models, image):
    found = explain_cell(load_model(models("xgb")), read_cell(image), "cell")
    reason = next(reason for reason in found.reasons if not np.isnan(reason.value))
    low, high = strip_range(reason, shown_classes(found))
    assert low < reason.value < high
    strip = distribution_strip(reason, found)
    for label in found.classes:
        assert f">{label}</text>" in strip
    own = float(re.findall(r'd="M([\d.]+) 1V', strip)[0])
    medians = [float(x) for x in re.findall(r'd="M([\d.]+) [\d.]+V', strip)][: len(found.classes)]
    for x, spread in zip(medians, reason.spreads, strict=True):
        assert (own - x) * (reason.value - spread[2]) >= 0
    assert f'aria-label="this cell is {reason.held_to(found.classes)}"'.replace("'", "&#x27;") in strip


def test_the_nearest_training_cells_are_shown_where_the_data_are(models, population, image, tmp_path, synthetic_store):
    own = sorted(population.rglob("*.bmp"))[3]
    done = fusion(
        "explain",
        models("logreg"),
        image,
        own,
        "-o",
        tmp_path / "why",
        "--data",
        population,
        "--store",
        synthetic_store,
        "--json",
    )
    assert done.exit_code == 0, done.stderr
    known = {str(path.relative_to(population)) for path in population.rglob("*.bmp")}
    for message in json.loads(done.stdout)["explanations"]:
        assert len(message["nearest"]) == 5
        assert {one["name"] for one in message["nearest"]} < known
        away = [one["distance"] for one in message["nearest"]]
        assert away == sorted(away)
        assert away[0] > 0  # a cell is not its own neighbour
    assert (tmp_path / "why" / "explanations.html").read_text().count("A training cell of class") == 10


def test_data_without_any_training_cell_are_refused(models, fresh, image, tmp_path):
    done = fusion("explain", models("xgb"), image, "-o", tmp_path / "why", "--data", fresh)
    assert done.exit_code == 2
    assert "none of the cells that the model learnt from" in done.stderr


def test_a_folder_that_cannot_be_written_is_said_so_first(models, image, tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = fusion("explain", models("xgb"), image, "-o", tmp_path / "file")
    assert done.exit_code == 2
    assert "cannot write" in done.stderr
    assert str(tmp_path / "file") in done.stderr


@pytest.mark.parametrize("command", [["explain", "-o"], ["predict", "--explain"]])
@pytest.mark.parametrize("names", [["notes.txt"], ["0001-cell.png", "0002-cell.png"]])
def test_explanations_are_not_written_among_other_files(models, image, tmp_path, command, names):
    for name in names:
        (tmp_path / name).write_text("mine")
    verb, option = command
    done = fusion(verb, models("xgb"), image, option, tmp_path)
    assert done.exit_code == 2
    assert f"{tmp_path} holds other files than explanations" in done.stderr
    assert names[0] in done.stderr
    assert option in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_explanations_of_an_earlier_run_are_replaced(models, fresh, image, tmp_path):
    images = sorted(fresh.rglob("*.bmp"))[:2]
    assert fusion("explain", models("xgb"), *images, "-o", tmp_path / "why").exit_code == 0
    (tmp_path / "why" / "explanations.html").unlink()  # as where it was stopped
    assert fusion("explain", models("xgb"), image, "-o", tmp_path / "why").exit_code == 0
    stem = f"0001-{image.stem}"
    names = sorted(path.name for path in (tmp_path / "why").iterdir())
    assert names == [f"{stem}.png", f"{stem}.svg", "explanations.html"]


# ---- a network ------------------------------------------------------------------------------------------------------


def test_a_network_shows_where_it_looks_and_what_its_blocks_add(models, image):
    torch.set_num_threads(1)
    bundle = load_model(models("neural"))
    found = explain_cell(bundle, read_cell(image), "cell")
    assert found.attention.shape == found.cell.mask.shape
    assert map_overlay(found).shape == found.cell.rgb.shape
    assert set(found.attribution.blocks) == {"morphology", "colour"}
    p = found.proba[found.classes.index(found.predicted)]
    assert found.attribution.score == pytest.approx(np.log(p / (1 - p)), abs=1e-4)
    assert found.attribution.base + sum(found.attribution.blocks.values()) == pytest.approx(found.attribution.score)
    assert render(explanation_figure(found), "png")[:4] == b"\x89PNG"
    assert "coarse" in found.attribution.limits


def test_a_network_of_images_alone_shows_its_map(synthetic, synthetic_store, image, tmp_path):
    settings = {"neural": NETWORK}
    given = {"data": synthetic, "store": synthetic_store, "splits": 2, "jobs": 1, "holdout": True}
    train(TrainConfig(output=tmp_path / "m", classifier="neural", features=["none"], classifiers=settings, **given))
    found = explain_cell(load_model(tmp_path / "m"), read_cell(image), "cell")
    assert found.reasons == ()
    assert found.distance is None
    assert found.attribution.blocks == {}
    assert found.attention.max() <= 1
    assert "where the network looks" in render(explanation_figure(found), "svg").decode()
    message = fusion("predict", tmp_path / "m", image)
    assert message.exit_code == 0, message.stderr
    assert "unknown" in message.stdout


def test_asking_a_network_about_variants_of_one_cell_is_asking_it_about_so_many_cells(models, image):
    from fusion.data.classifier_inputs import CellInputs

    classifier = load_model(models("neural")).model.classifier
    blocks, start = {}, 0
    for name, width in classifier.blocks_.items():
        blocks[name], start = slice(start, start + width), start + width
    X = np.random.default_rng(0).normal(size=(7, start)).astype(np.float32)
    X[2, 5] = np.nan
    seen = classifier.input_transform()([read_cell(image)])
    expected = classifier.predict_proba(CellInputs(X, blocks, seen, np.zeros(7, np.intp)))
    assert_allclose(classifier.predict_proba_variants(seen[0], X), expected, atol=1e-6)
