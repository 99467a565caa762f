"""Settings come from defaults, file, --set and options, in that order, and are checked."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import ConfigError, UsageError
from fusion.features.blocks import build_blocks
from fusion.features.extractor_parameters import extractor_params
from fusion.learning.recipe import classifier_params, recipe_of
from fusion.settings.commands import AblateConfig, EvaluateConfig, ExtractConfig, InspectConfig, TrainConfig
from fusion.settings.loading import build_config, parse_yaml, write_config


def test_the_nearer_word_wins(tmp_path):
    (tmp_path / "c.yaml").write_text("data: from-file\nseed: 1\nsplits: 3\nclassifiers: {svm: {C: 1e-2, gamma: 0.5}}\n")
    config = build_config(
        TrainConfig,
        file=tmp_path / "c.yaml",
        settings=["seed=2", "classifiers.svm.C=1e-4"],
        options={"data": Path("typed"), "output": Path("m"), "seed": None, "splits": 4},
    )
    assert (config.data, config.seed, config.splits) == (Path("typed"), 2, 4)
    assert config.classifiers == {"svm": {"C": 0.0001, "gamma": 0.5}}


def test_lists_are_typed_with_commas():
    config = build_config(ExtractConfig, options={"data": "x", "features": "texture, colour,texture"})
    assert config.blocks == ["texture", "colour"]


def test_default_blocks_take_in_the_network_once_it_has_weights():
    assert build_config(ExtractConfig, options={"data": "x"}).blocks == ["morphology", "texture", "colour"]
    weights = {"cnn": {"weights": "w.safetensors", "backbone": None}}
    config = build_config(ExtractConfig, options={"data": "x", "extractors": weights})
    assert config.blocks == ["morphology", "texture", "colour", "cnn"]
    assert config.extractors == {"cnn": {"weights": "w.safetensors"}}


def test_what_is_written_is_read_back_the_same(tmp_path):
    config = build_config(AblateConfig, options={"data": "x", "output": "o", "layer": {"pca": 0.95}, "seed": 7})
    (tmp_path / "config.yaml").write_text(write_config(config))
    assert build_config(AblateConfig, file=tmp_path / "config.yaml", options={}) == config


@pytest.mark.parametrize(
    ("kind", "setting", "other"),
    [
        (EvaluateConfig, "stress_cells=8", {"stress": True}),
        (EvaluateConfig, "risk_confidence=0", {"risk": "sensitivity:0.9"}),
        (TrainConfig, "risk_confidence=0.9", {"risk": "sensitivity:0.9"}),
        (TrainConfig, "nested=true", {"cnn_crossfit": True, "features": "cnn"}),
        (TrainConfig, "harmonise.transductive=true", {"harmonise": {"method": "standard"}}),
        (AblateConfig, "test_part=final", {"test": "y"}),
        (AblateConfig, "other_cohort=true", {"test": "y"}),
        (InspectConfig, "overlay_cells=5", {"overlays": "o"}),
    ],
)
def test_what_does_nothing_by_itself_is_refused_where_it_is_asked_for_and_read_where_it_is_kept(
    kind, setting, other, tmp_path
):
    places = {"data": "x", "model": "m", "output": "o"}
    options = {name: place for name, place in places.items() if name in kind.model_fields}
    key = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=f"{key} does nothing by itself"):
        build_config(kind, settings=[setting], options=options)
    config = build_config(kind, settings=[setting], options={**options, **other})
    if kind is EvaluateConfig:
        unused = config.model_copy(update={"stress": False, "risk": None})
        (tmp_path / "kept.yaml").write_text(write_config(unused))
        assert build_config(kind, file=tmp_path / "kept.yaml", options={}) == unused
    usual = build_config(kind, options=options).model_dump(mode="json")
    assert build_config(kind, options=usual).model_dump(mode="json") == usual


@pytest.mark.parametrize("given", [{"settings": ["features=[]"]}, {"options": {"features": []}}])
def test_no_blocks_are_asked_for_by_none_and_not_by_an_empty_list(given):
    asked = {"settings": [], **given, "options": {"data": "x", "output": "o", **given.get("options", {})}}
    with pytest.raises(ConfigError, match="none leaves the handcrafted ones out"):
        build_config(TrainConfig, **asked)


@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        ({"output": "o"}, [], "no 'data' given"),
        ({"data": "x", "output": "o"}, ["colour=red"], "unknown setting 'colour'"),
        ({"data": "x", "output": "o"}, ["splits=one"], "wrong setting 'splits'"),
        ({"data": "x", "output": "o"}, ["splits=1"], "wrong setting 'splits'"),
        ({"data": "x", "output": "o"}, ["splits"], "key=value"),
        ({"data": "x", "output": "o", "split": "sideways"}, [], "wrong setting 'split'"),
    ],
)
def test_wrong_settings_are_named(options, settings, message):
    with pytest.raises(ConfigError, match=message):
        build_config(AblateConfig, settings=settings, options=options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x\n", "alias"),
        ("a: 1\nb: 2\na: 3\n", "line 3"),
        ("a: {b: 1, b: 2}\n", "twice"),
        ("a: [1\n", "line 2"),
        ("!!python/object/apply:os.system ['true']", "line 1"),
    ],
)
def test_dangerous_or_broken_yaml_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "c.yaml")


def test_a_file_that_holds_no_settings(tmp_path):
    (tmp_path / "c.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="no settings"):
        build_config(ExtractConfig, file=tmp_path / "c.yaml", options={"data": "x"})
    with pytest.raises(ConfigError, match="cannot read"):
        build_config(ExtractConfig, file=tmp_path / "gone.yaml", options={"data": "x"})


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_a_clear_error(text):
    with suppress(ConfigError):
        parse_yaml(text, "x")


def test_an_unknown_setting_within_others_is_told_what_there_is_at_its_place():
    with pytest.raises(ConfigError) as raised:
        build_config(TrainConfig, settings=["normalise.stain=vahadane"], options={"data": "x", "output": "o"})
    assert "unknown setting 'normalise.stain'" in str(raised.value)
    assert "white_balance" in raised.value.expected
    assert "features" not in raised.value.expected


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("augment.per_cell=99", "20 or less"),
        ("harmonise.method=ours", "'none', 'standard' or 'quantile'"),
    ],
)
def test_what_a_setting_is_expected_to_be_is_said_without_more_words(setting, expected):
    with pytest.raises(ConfigError) as raised:
        build_config(TrainConfig, settings=[setting], options={"data": "x", "output": "o"})
    assert raised.value.expected == expected


def test_input_reaches_every_network_that_there_is():
    config = build_config(
        TrainConfig, options={"data": "d", "output": "o", "features": "cnn", "classifier": "neural", "input": "field"}
    )
    assert extractor_params(config, "cnn") == {"input": "field"}
    assert classifier_params(config, "neural") == {"network": {"input": "field"}}
    assert classifier_params(config, "svm") == {}


@pytest.mark.parametrize(
    ("place", "ask"),
    [
        ("extractors.cnn", lambda config: extractor_params(config, "cnn")),
        ("classifiers.neural.network", lambda config: classifier_params(config, "neural")),
    ],
)
def test_input_that_disagrees_with_a_networks_own_is_refused(place, ask):
    given = {"data": "d", "output": "o", "input": "field"}
    same, other = (
        build_config(TrainConfig, settings=[f"{place}.input={value}"], options=given) for value in ("field", "cell")
    )
    ask(same)
    with pytest.raises(ConfigError, match=f"--input and {place}.input disagree"):
        ask(other)


def test_input_without_a_network_is_refused():
    config = build_config(TrainConfig, options={"data": "d", "output": "o", "features": "colour", "input": "field"})
    with pytest.raises(UsageError, match="--input is what a network is shown, and there is none"):
        build_blocks(config)


@pytest.mark.parametrize(
    ("line", "key", "expected"),
    [
        ("folds: [0, 1]", "folds", ["0", "1"]),
        ("folds: 1", "folds", ["1"]),
        ("folds: [007, 1:30, 2020-01-01, 1_000]", "folds", ["007", "1:30", "2020-01-01", "1_000"]),
        ("classes: [1, all, 2.5]", "classes", ["1", "all", "2.5"]),
        ("threshold: 0.5", "threshold", "0.5"),
        ("positive: 1", "positive", "1"),
        ("positive: '1'", "positive", "1"),
        ("source: 010", "source", "010"),
        ("seed: 010", "seed", 10),
    ],
)
def test_numbers_where_text_is_meant_are_taken_as_they_are_written(line, key, expected, tmp_path):
    (tmp_path / "c.yaml").write_text(line + "\n")
    config = build_config(TrainConfig, file=tmp_path / "c.yaml", options={"data": "cells", "output": "m"})
    assert getattr(config, key) == expected
    (tmp_path / "again.yaml").write_text(write_config(config))
    assert build_config(TrainConfig, file=tmp_path / "again.yaml", options={}) == config
    name, _, value = line.partition(": ")
    assert build_config(TrainConfig, settings=[f"{name}={value}"], options={"data": "cells", "output": "m"}) == config


@pytest.mark.parametrize("line", ["positive: yes", "positive: off", "classes: [no, yes]", "source: true", "folds: no"])
def test_a_truth_value_where_text_is_meant_is_refused(line, tmp_path):
    (tmp_path / "c.yaml").write_text(line + "\n")
    with pytest.raises(ConfigError, match="put it in quotes"):
        build_config(TrainConfig, file=tmp_path / "c.yaml", options={"data": "cells", "output": "m"})


def test_the_home_folder_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "c.yaml").write_text(
        "data: ~/cells\noutput: ~/m\nstore: ~/s\ntensorboard: ~\n"
        "extractors: {cnn: {weights: ~/w.safetensors}}\nnormalise: {reinhard: ~/one.png}\n"
    )
    config = build_config(TrainConfig, file=tmp_path / "c.yaml", options={})
    assert (config.data, config.output, config.store) == (tmp_path / "cells", tmp_path / "m", tmp_path / "s")
    assert config.tensorboard is None
    assert extractor_params(config, "cnn")["weights"] == str(tmp_path / "w.safetensors")
    assert config.normalise.reinhard == tmp_path / "one.png"
    assert TrainConfig(data="~nobody-of-this-name", output="m").data == Path("~nobody-of-this-name")


def test_an_unknown_key_of_the_layer_is_refused_before_anything_is_read_with_the_nearest():
    config = TrainConfig(data="nowhere", output="m", layer={"wieghts": "equal"})
    with pytest.raises(UsageError, match=r"unknown setting 'layer\.wieghts'") as raised:
        recipe_of(config, "logreg", ["texture"])
    assert "layer.weights" in str(raised.value)
