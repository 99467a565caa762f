"""Workflows as functions: data first, settings as keywords, errors as on the command line."""

import pydoc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fusion
from fusion.errors import ConfigError, FusionError, UsageError
from fusion.settings.commands import AblateConfig, TrainConfig
from fusion.settings.key import settings_of

QUICK = {"features": ["morphology"], "jobs": 1}


@pytest.fixture
def store(synthetic_store):
    return {"store": synthetic_store}


def listed(root: Path) -> pd.DataFrame:
    """The synthetic cells as a table in memory."""
    files = sorted(root.rglob("UID_*.bmp"))
    parts = [file.stem.split("_") for file in files]
    return pd.DataFrame(
        {"path": [str(file) for file in files], "label": [part[-1] for part in parts], "subject": [p[1] for p in parts]}
    )


def test_keywords_are_the_settings_and_nothing_is_left_behind(synthetic, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = fusion.train(synthetic, classifier="logreg", splits=3, output=None, **QUICK, **store)
    assert list(tmp_path.iterdir()) == []
    assert trained.bundle.classes == ["all", "hem"]
    assert repr(trained.bundle) == "ModelBundle(morphology, logreg: all, hem)"
    assert repr(trained) == f"Trained({trained.bundle!r}; {trained.result!r})"
    assert len(repr(trained)) < 200
    assert all("<table" in each._repr_html_() for each in (trained, trained.bundle, trained.result, trained.dataset))
    assert len(trained.result.cells) == 60
    trained.bundle.save(str(tmp_path / "kept"))
    assert len(fusion.predict(tmp_path / "kept", synthetic / "fold_0", **store).to_frame()) > 0


def test_keywords_and_a_config_object_are_the_same_run(synthetic, store, tmp_path):
    settings = {"compare": ["logreg"], "splits": 3, "repeats": 1, **QUICK, **store}
    one = fusion.ablate(synthetic, output=tmp_path / "one", **settings)
    other = fusion.ablate(AblateConfig(data=synthetic, output=tmp_path / "other", **settings))
    assert (one.scores[0].proba == other.scores[0].proba).all()


def test_a_table_in_memory_is_data(synthetic, store):
    frame = listed(synthetic)
    assert len(fusion.inspect(frame, **store).dataset) == len(frame)
    assert len(fusion.extract(frame, **QUICK, **store)) == len(frame)


def test_a_table_in_memory_is_kept_where_the_configuration_names_it(synthetic, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = {"compare": ["logreg"], "splits": 2, "repeats": 1, **QUICK, **store}
    fusion.ablate(listed(synthetic), output="result", **asked)
    assert f"data: {Path('result', 'data.parquet')}\n" in (tmp_path / "result" / "config.yaml").read_text()
    fusion.ablate(config="result/config.yaml", output="again")
    scores = [(tmp_path / name / "scores.parquet").read_bytes() for name in ("result", "again")]
    assert scores[0] == scores[1]
    with pytest.raises(ConfigError, match="holds a result already"):
        fusion.ablate(listed(synthetic).iloc[:40], output="result", **asked)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    with pytest.raises(ConfigError, match="holds no result"):
        fusion.ablate(listed(synthetic), output="thesis", **asked)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_a_model_has_the_table_in_memory_beside_it(synthetic, store, tmp_path):
    asked = {"classifier": "logreg", "splits": 2, **QUICK, **store}
    one = fusion.train(listed(synthetic), output=tmp_path / "m", **asked)
    other = fusion.train(config=tmp_path / "m" / "config.yaml", output=tmp_path / "n")
    assert (one.result.scores[0].proba == other.result.scores[0].proba).all()
    assert {path.name for path in tmp_path.iterdir()} == {"m", "n", "m-data.parquet"}
    with pytest.raises(ConfigError, match=r"m-data\.parquet is there already"):
        fusion.train(listed(synthetic).iloc[:40], output=tmp_path / "m", **asked)


def test_what_is_at_hand_is_given_as_it_is(synthetic, store, tmp_path):
    """Models, results, columns of a table and settings, where the command line has their paths."""
    asked = {"classifier": "logreg", "splits": 2, **QUICK}
    trained = fusion.train(synthetic, config=asked, **store)
    paths = listed(synthetic).path.head(3)
    trained.bundle.save(tmp_path / "m")
    by_path = fusion.predict(tmp_path / "m", list(paths), **store).proba
    for model in (trained, trained.bundle):
        assert (fusion.predict(model, paths, **store).proba == by_path).all()
    judged = fusion.evaluate(trained, synthetic, allow_leakage=True, output=tmp_path / "r", **store)
    again = fusion.evaluate(config=tmp_path / "r" / "config.yaml", output=tmp_path / "s")
    assert (judged.scores[0].proba == again.scores[0].proba).all()
    compared = fusion.compare([judged, again])
    assert (compared.to_frame().balanced_accuracy_value == 0).all()
    assert len(repr(compared)) < 200
    with pytest.raises(UsageError, match="an array of 2 x 8 x 8 x 3"):
        fusion.predict(trained, np.zeros((2, 8, 8, 3), np.uint8))
    frame = listed(synthetic).rename(columns={"subject": "patient"})
    loaded = fusion.load(frame, columns={"subject": "patient"}, classes=["hem"], **store)
    assert (loaded.classes, len(loaded), loaded.subjects_known) == (["hem"], 30, True)
    assert loaded.samples[0].read_cell().rgb.ndim == 3
    with pytest.raises(ConfigError, match="expected: a path"):
        fusion.train(12)
    with pytest.raises(ConfigError, match="too few values of 'results'"):
        fusion.compare(str(tmp_path / "r"))


def test_a_new_site_a_plan_and_masks_are_functions_too(synthetic, store, tmp_path):
    trained = fusion.train(synthetic, classifier="logreg", splits=2, **QUICK, **store)
    adapted = fusion.adapt(
        trained, listed(synthetic), k=[2], allow_leakage=True, jobs=1, output=tmp_path / "m", **store
    )
    assert [row["k"] for row in adapted.curve] == [2]
    assert fusion.load_model(tmp_path / "m").classes == trained.bundle.classes
    assert fusion.plan(trained.result, difference=0.1).spreads.subjects == {"all": 5, "hem": 5}
    segmented = fusion.segment(listed(synthetic).head(2), output=tmp_path / "masks")
    assert len(fusion.load(segmented.table)) == 2


def test_a_loaded_result_of_cells_that_are_nobodys_is_by_image_though_two_are_the_same(class_folders, store, tmp_path):
    (class_folders / "blast" / "copy.png").write_bytes((class_folders / "blast" / "0.png").read_bytes())
    asked = {"compare": ["logreg"], "splits": 2, "repeats": 1, **QUICK, **store}
    told = fusion.ablate(class_folders, output=tmp_path / "r", **asked)
    assert told.unit == fusion.Result.load(tmp_path / "r").unit == "image"


def test_a_recipe_is_taken_by_its_name(synthetic, store):
    result = fusion.ablate(synthetic, config="quickstart", repeats=1, compare=["logreg"], **QUICK, **store)
    assert {scores.classifier for scores in result.scores} == {"logreg"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"classifer": "xgb"}, "unknown setting 'classifer'"),
        ({"splits": 1}, "wrong setting 'splits'"),
        ({"features": ["textur"]}, "unknown feature block 'textur'"),
        ({"config": "cnm"}, "no recipe 'cnm'"),
        ({"classifiers": ["svm", "xgb"]}, "'compare' of ablate"),
    ],
)
def test_errors_are_those_of_the_command_line(synthetic, settings, words):
    with pytest.raises(FusionError, match=words):
        fusion.train(synthetic, **settings)


def test_a_config_made_by_hand_refuses_in_our_words():
    with pytest.raises(ConfigError, match="wrong setting 'splits'"):
        TrainConfig(data="cells", output="model", splits=1)
    with pytest.raises(ConfigError, match=r"wrong setting 'normalise\.scale'"):
        TrainConfig(data="cells", output="model", normalise={"scale": "by eye"})


def test_a_config_and_keywords_beside_it_are_refused(synthetic, tmp_path):
    with pytest.raises(UsageError, match="keywords beside it"):
        fusion.train(TrainConfig(data=synthetic, output=tmp_path / "m"), classifier="xgb")


@pytest.mark.parametrize(
    ("name", "model"), [("train", "TrainConfig"), ("ablate", "AblateConfig"), ("predict", "PredictConfig")]
)
def test_help_tells_every_setting(name, model):
    text = pydoc.plain(pydoc.render_doc(getattr(fusion, name)))
    for setting in settings_of(getattr(fusion, model)):
        if setting.key in ("data", "model", "images"):  # the first arguments, in words of their own
            continue
        assert setting.key in text
        assert " ".join(setting.meaning.split()[:3]) in " ".join(text.split())


def test_progress_goes_to_whom_it_is_given(class_folders, tmp_path):
    heard = []
    fusion.extract(class_folders, progress=lambda *step: heard.append(step), store=tmp_path / "new", **QUICK)
    assert ("measuring", 6, 6, 0) in heard
