"""What fusion evaluate refuses, what it believes, and what it says of it."""

import numpy as np
import pytest

from fusion.errors import ConfigError, UsageError
from fusion.leakage.grouped_splits import LeakageError
from fusion.settings.commands import EvaluateConfig, TrainConfig
from fusion.workflows.evaluate import evaluate
from fusion.workflows.train import train
from tests.builders.images import paint, write_image


def table(folder, images, names, column="subject"):
    """A table of these images, of two classes by turns, and of these subjects or groups."""
    rows = []
    for at, (rgb, name) in enumerate(zip(images, names, strict=True)):
        write_image(folder / f"{at}.png", rgb)
        rows.append(f"{at}.png,{'ab'[at % 2]},{name}")
    (folder / "t.csv").write_text(f"path,label,{column}\n" + "\n".join(rows) + "\n")
    return folder / "t.csv"


def cells(seeds):
    return [paint(seed, radius=20 - 5 * (seed % 2)) for seed in seeds]


@pytest.fixture(scope="module", params=["subject", "group"])
def model(request, tmp_path_factory):
    """A model of eight people or groups, who are called 0 to 7; where, and what they are called by."""
    folder = tmp_path_factory.mktemp(request.param)
    data = table(folder / "cells", cells(range(16)), [str(at % 8) for at in range(16)], request.param)
    settings = {"features": ["colour"], "classifier": "logreg", "splits": 2, "near_duplicates": 8}
    train(TrainConfig(data=data, output=folder / "model", store=folder / "store", **settings))
    return folder / "model", request.param


def test_names_and_images_are_told_apart(model, tmp_path):
    folder, column = model
    common = {"model": folder}
    others = table(tmp_path / "others", cells(range(100, 116)), [f"0{at % 8}" for at in range(16)], column)
    with pytest.raises(LeakageError, match=r"no image is the same(\n.*)*--other-cohort"):
        evaluate(EvaluateConfig(data=others, output=tmp_path / "1", **common))
    for number, said in enumerate(({"other_cohort": True}, {"source": "elsewhere"})):
        result = evaluate(EvaluateConfig(data=others, output=tmp_path / f"said {number}", **common, **said))
        assert not any(stamp.startswith("leaky") for stamp in result.stamps)
        assert any(note.startswith("Taken for other people") for note in result.notes)
        assert result.unit == column
    result = evaluate(EvaluateConfig(data=others, output=tmp_path / "2", allow_leakage=True, **common))
    assert any("of the same names" in stamp for stamp in result.stamps)
    own = table(tmp_path / "own", cells(range(8)), [f"new {at}" for at in range(8)], column)
    with pytest.raises(LeakageError, match="8 are the same image"):
        evaluate(EvaluateConfig(data=own, output=tmp_path / "3", other_cohort=True, **common))


def test_near_duplicates_of_training_images_are_refused_where_asked(model, tmp_path):
    folder, column = model
    turned = [np.rot90(rgb).copy() for rgb in cells(range(4))]
    data = table(tmp_path / "turned", turned, [f"new {at}" for at in range(4)], column)
    config = EvaluateConfig(model=folder, data=data, output=tmp_path / "1", near_duplicates=8)
    with pytest.raises(LeakageError, match="0 are the same image, 4 nearly"):
        evaluate(config)


def test_a_model_that_keeps_no_hashes_says_so(tmp_path):
    data = table(tmp_path / "cells", cells(range(8)), [str(at) for at in range(8)])
    settings = {"features": ["colour"], "classifier": "logreg", "splits": 2}
    train(TrainConfig(data=data, output=tmp_path / "model", **settings))
    other = table(tmp_path / "others", cells(range(50, 58)), [f"new {at}" for at in range(8)])
    with pytest.raises(UsageError, match="no perceptual hashes"):
        evaluate(EvaluateConfig(model=tmp_path / "model", data=other, output=tmp_path / "1", near_duplicates=8))


def test_threshold_and_prevalence_are_settings_as_in_train_and_ablate(model, tmp_path):
    folder, column = model
    others = table(tmp_path / "others", cells(range(100, 116)), [f"new {at % 8}" for at in range(16)], column)
    common = {"model": folder, "data": others}
    usual = evaluate(EvaluateConfig(output=tmp_path / "1", **common))
    assert usual.kind == "models"  # a model that is there, on subjects it has not met
    moved = evaluate(EvaluateConfig(output=tmp_path / "2", threshold=1e-9, prevalence=0.1, **common))
    figures = moved.figures[0]["image"]
    assert (figures["sensitivity"]["value"], figures["specificity"]["value"]) == (1, 0)
    assert figures["ppv"]["value"] == pytest.approx(0.1)
    assert figures["auroc"]["value"] == usual.figures[0]["image"]["auroc"]["value"]
    with pytest.raises(ConfigError) as refused:
        EvaluateConfig(output=tmp_path / "3", threshold="balanced-accuracy", **common)
    assert "a rule is followed inside training parts" in refused.value.expected
