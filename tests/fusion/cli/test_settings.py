"""Options are the settings' own descriptions, every key is listed, and an unknown one is answered with near ones."""

import dataclasses
import json
import subprocess
import sys

import click
import jsonschema
import pytest
from click.testing import CliRunner
from pydantic import BaseModel

import cli
from fusion.cli.group import COMMANDS
from fusion.errors import UsageError, did_you_mean
from fusion.plugins import registry
from fusion.settings.key import settings_of, type_in_words
from fusion.settings.loading import read_yaml
from fusion.settings.plugin_parameters import documented, parameters_of
from fusion.workflows.settings_reference import COMMANDS as MODELS
from fusion.workflows.settings_reference import reference
from tests.builders.images import ROOT

#: Libraries that take longer to import than a reader waits for a help text.
HEAVY = ("numpy", "torch", "sklearn", "pandas", "cv2", "scipy", "pyarrow", "xgboost", "skimage", "matplotlib")


def command_of(name):
    return cli.fusion.get_command(click.Context(cli.fusion), name)


def run(*words):
    return CliRunner().invoke(cli.fusion, [str(word) for word in words])


def imported_by(*words):
    """Which heavy libraries, and whether pydantic, a command has imported when it is done."""
    code = (
        "import sys\n"
        "from fusion.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"sys.stderr.write(' '.join(m for m in {(*HEAVY, 'pydantic')!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout
    return done.stderr.split()


# ---- the help --------------------------------------------------------------------------------------------------------


def test_the_list_of_commands_imports_nothing_but_itself():
    assert imported_by("--help") == []


@pytest.mark.parametrize("name", ["train", "cache", "settings"])
def test_the_help_of_a_command_imports_the_settings_and_nothing_heavy(name):
    assert set(imported_by(name, "--help")) <= {"pydantic"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name):
    assert command_of(name).name == name
    assert COMMANDS[name] == command_of(name).help.partition("\n")[0]


def test_a_clone_has_a_door_and_an_installation_no_module_named_cli():
    done = subprocess.run([sys.executable, "cli.py", "--version"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("fusion, version")
    setup = (ROOT / "setup.cfg").read_text()
    assert "py_modules" not in setup
    assert "fusion = fusion.cli:main" in setup


# ---- options ---------------------------------------------------------------------------------------------------------


def test_every_model_of_settings_is_a_commands():
    assert {name: command_of(name).settings for name in COMMANDS if command_of(name).settings} == MODELS


@pytest.mark.parametrize("name", MODELS)
def test_an_option_says_what_its_setting_says(name):
    command = command_of(name)
    known = {setting.key: setting for setting in settings_of(MODELS[name])}
    params = {param.name: param for param in command.params}
    for shown in command.shown:
        if shown.key not in known:
            continue
        setting, param = known[shown.key], params[shown.name]
        text = param.meaning if shown.is_argument else param.help
        assert text.lower().startswith(setting.meaning.lower()), shown.key
        if setting.default_in_words and not isinstance(setting.default, bool):
            assert text.endswith(f"[default: {setting.default_in_words}]")


@pytest.mark.parametrize("name", MODELS)
def test_an_option_that_is_not_given_leaves_the_settings_to_the_file(name):
    command = command_of(name)
    required = [param.name for param in command.params if param.required]
    given = command.make_context(name, ["x"] * len(required)).params
    shown = {shown.name for shown in command.shown} - set(required)
    assert {given[name] for name in shown} <= {None, ()}


@pytest.mark.parametrize("name", MODELS)
def test_an_option_that_is_no_setting_is_a_parameter_of_a_plugin(name):
    every = {setting.key for setting in reference(name).settings}
    assert {shown.key for shown in command_of(name).shown} <= every


def test_the_choices_of_an_option_are_those_of_its_setting():
    (calibrate,) = [param for param in command_of("train").params if param.name == "calibrate"]
    assert list(calibrate.type.choices) == ["none", "logistic", "temperature", "isotonic"]


# ---- fusion settings -------------------------------------------------------------------------------------------------


def fields_of(model, within=""):
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from fields_of(nested, f"{within}{name}.")
        else:
            yield f"{within}{name}"


@pytest.mark.parametrize("name", MODELS)
def test_every_key_of_a_command_is_listed_with_type_and_meaning(name):
    found = {row["key"]: row for row in json.loads(run("settings", name, "--json").stdout)}
    assert set(fields_of(MODELS[name])) - {"extractors", "classifiers", "segmenters", "layer"} <= set(found)
    for row in found.values():
        assert row["command"] == name
        assert row["type"]
        assert row["meaning"], row["key"]


def test_every_parameter_of_every_plugin_is_listed():
    keys = {setting.key for setting in reference("ablate").parameters}
    for group, word in ((registry.EXTRACTORS, "extractors"), (registry.CLASSIFIERS, "classifiers")):
        for name in registry.names(group):
            for parameter in registry.parameters(group, name):
                assert any(f"{key}.".startswith(f"{word}.{name}.{parameter}.") for key in keys), (name, parameter)
    assert {"classifiers.neural.training.epochs", "extractors.texture.levels", "layer.pca"} <= keys


def test_a_key_is_shown_with_type_default_and_meaning():
    shown = run("settings", "extract").stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("extractors.texture.levels ")]
    assert line.split(None, 3)[1:3] == ["int", "32"]
    assert "grey levels" in line
    (line,) = [line for line in shown.splitlines() if line.startswith("data ")]
    assert "has to be given" in line


def test_without_a_command_all_of_them_are_listed_and_plugins_once():
    shown = run("settings").stdout
    for name in MODELS:
        assert f"fusion {name}\n" in shown
    assert len([line for line in shown.splitlines() if line.startswith("classifiers.svm.C ")]) == 1


def test_a_plugin_that_does_not_import_is_named_and_the_others_are_listed(monkeypatch):
    whole = registry.plugin_class

    def broken(group, name):
        if name == "svm":
            raise registry.PluginError("plug-in 'svm' does not import")
        return whole(group, name)

    monkeypatch.setattr(registry, "plugin_class", broken)
    message = run("settings", "train")
    assert message.exit_code == 0
    assert "plug-in 'svm' does not import" in message.stderr
    assert "classifiers.svm.C" not in message.stdout
    assert "classifiers.logreg.C" in message.stdout


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("splits", "int from 2 to 1000"),
        ("calibrate", "none | logistic | temperature | isotonic"),
        ("data", "path or URL"),
        ("output", "path"),
        ("features", "list of str"),
        ("prevalence", "float above 0 below 1"),
        ("memory_gb", "float above 0"),
    ],
)
def test_types_are_said_in_words(key, words):
    (setting,) = [setting for setting in settings_of(MODELS["ablate"]) if setting.key == key]
    assert setting.type == words


def test_types_of_plugins_are_said_in_words():
    assert type_in_words(tuple[int, ...]) == "list of int"
    assert type_in_words(float | str | None) == "float or str"
    assert type_in_words(dict[str, float]) == "mapping"


def test_docstrings_of_other_peoples_estimators_are_read():
    from sklearn.linear_model import LogisticRegression

    found = {setting.key: setting for setting in parameters_of(LogisticRegression, "x")}
    assert found["x.C"].meaning.startswith("Inverse of regularization strength")
    assert (found["x.C"].default, found["x.max_iter"].default) == (1.0, 100)
    assert set(LogisticRegression().get_params()) == {key.removeprefix("x.") for key in found}


def test_both_ways_of_writing_a_parameter_down_are_read():
    text = """A thing.

    Parameters
    ----------
    levels : grey levels that are counted,
        2 to 256.
    C : float, default=1.0
        Penalty of a violation.
    low, high : int
        Bounds.

    Attributes
    ----------
    size : side in pixels.

    Raises
    ------
    ValueError : a value outside.
    """
    assert documented("\n".join(line.removeprefix("    ") for line in text.splitlines())) == {
        "levels": "grey levels that are counted, 2 to 256.",
        "C": "Penalty of a violation.",
        "low": "Bounds.",
        "high": "Bounds.",
        "size": "side in pixels.",
    }


def test_a_parameter_without_a_default_is_said_to_be_needed():
    @dataclasses.dataclass(frozen=True)
    class Given:
        """Something.

        Parameters
        ----------
        must : this has to be given.
        """

        must: int

    (setting,) = parameters_of(Given, "x")
    assert (setting.is_required, setting.default, setting.meaning) == (True, None, "this has to be given.")


# ---- the JSON schema -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema():
    done = run("settings", "ablate", "--json-schema")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(found)
    return found


def test_every_file_in_configs_keeps_to_the_schema(schema):
    files = sorted((ROOT / "configs").glob("*.yaml"))
    assert files
    for file in files:
        jsonschema.validate(read_yaml(file), schema)


@pytest.mark.parametrize(
    "given",
    [
        {"seeds": 1},
        {"splits": 1},
        {"calibrate": "softly"},
        {"classifiers": {"svm": {"D": 1}}},
        {"classifiers": {"neural": {"training": {"epochs": "many"}}}},
        {"extractors": {"smell": {}}},
    ],
)
def test_an_editor_is_told_what_a_command_would_refuse(schema, given):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(given, schema)


def test_lists_may_be_typed_with_commas(schema):
    jsonschema.validate({"features": "colour,texture", "classes": ["all"]}, schema)


def test_a_schema_is_of_one_command():
    refused = run("settings", "--json-schema")
    assert refused.exit_code == 2
    assert "of one command" in refused.stderr


# ---- unknown keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("train", "x", "-o", "m", "--set", "sed=1"), "'seed'"),
        (("train", "x", "-o", "m", "--set", "stabilty=0.5"), "'stability'"),
        (("train", "x", "-o", "m", "--set", "normalise.whitebalance=true"), "'normalise.white_balance'"),
        (("train", "x", "-o", "m", "--set", "white_balance=true"), "'normalise.white_balance'"),
        (("extract", "x", "--set", "extractors.texture.level=8"), "'levels'"),
        (("settings", "abalte"), "'ablate'"),
        (("abalte", "x"), "'ablate'"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(words, near, class_folders):
    message = run(*[class_folders if word == "x" else word for word in words])
    assert message.exit_code == 2
    assert f"Did you mean {near}" in message.stderr


def test_an_unknown_key_in_a_file_is_answered_with_the_nearest(tmp_path):
    (tmp_path / "c.yaml").write_text("data: x\nclasifier: xgb\n")
    message = run("train", "--config", tmp_path / "c.yaml", "-o", tmp_path / "m")
    assert message.exit_code == 2
    assert "Did you mean 'classifier'" in message.stderr
    assert "c.yaml" in message.stderr


def test_an_unknown_parameter_of_a_network_is_answered_with_the_nearest():
    from classifiers.neural.estimator import NeuralClassifier

    classifier = NeuralClassifier(training={"epoch": 3})
    with pytest.raises(ValueError, match="Did you mean 'epochs'"):
        classifier._settings()


def test_an_unknown_plugin_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'logreg'"):
        registry.build_classifier("logrec")


def test_a_key_that_lies_elsewhere_is_told_where_and_a_strange_one_nothing():
    assert did_you_mean("blur", ["colour", "augment.blur"]) == "Did you mean 'augment.blur'?"
    assert did_you_mean("c", ["C", "gamma"]) == "Did you mean 'C'?"
    assert did_you_mean("zzz", ["C", "gamma"]) == ""
