"""Options out of settings: type, choices, default and help are those of the settings' own descriptions.

A command's file names the keys that it shows as options; every other key of its settings is reached by ``--set``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic import BaseModel

from fusion.cli.completion import complete_plugins, complete_recipe, complete_setting
from fusion.cli.runner import Manner, run
from fusion.io.remote_path import as_path
from fusion.io.run_inputs import one_run
from fusion.settings.key import Setting, choices, core, settings_of
from fusion.settings.loading import build_config

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.data.dataset import Fault

Config = TypeVar("Config", bound=BaseModel)


class _PathType(click.ParamType):
    """A path, or the URL of a place in an object store. Which options take a URL is the settings' to say."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path, or a ``Remote``."""
        return as_path(value)


PATH = _PathType()

#: Type of a setting -> what the command line reads it as, and how its value is called in the help.
_KINDS: dict[Any, tuple[click.ParamType | type, str]] = {
    Path: (PATH, "PATH"),
    int: (int, "N"),
    float: (float, "X"),
    str: (str, "TEXT"),
}


@dataclass(frozen=True)
class Shown:
    """A key that is shown as an option, or as an argument.

    Attributes
    ----------
    key : as ``--set`` takes it.
    flag : where the option is not called as the key is.
    metavar : how its value is called in the help, where not by its type.
    is_argument, is_required, takes_many : of an argument: given by its position; at all events; any number of them.
    """

    key: str
    flag: str = ""
    metavar: str | None = None
    is_argument: bool = False
    is_required: bool = False
    takes_many: bool = False

    @property
    def name(self) -> str:
        """Name of the parameter within click."""
        return self.key.replace(".", "__")


def option(key: str, flag: str = "", *, metavar: str | None = None) -> Shown:
    """A key as an option."""
    return Shown(key, flag, metavar)


def argument(key: str, *, is_required: bool = False, takes_many: bool = False) -> Shown:
    """A key as an argument."""
    return Shown(key, is_argument=True, is_required=is_required, takes_many=takes_many)


class Argument(click.Argument):
    """An argument that has a line in the help, as options have."""

    def __init__(self, *words: Any, meaning: str, **rest: Any) -> None:
        super().__init__(*words, **rest)
        self.meaning = meaning


#: How words that no argument takes were likely meant.
_FOR_WORDS_TOO_MANY = (
    "A list is one word with commas (A,B), a setting one word (KEY=VALUE), "
    "and what is written has an option (-o FOLDER)."
)


class Command(click.Command):
    """A command whose help tells its arguments, too.

    Attributes
    ----------
    settings : the model that its options are taken from; None for a command that has no settings.
    shown : the keys among its options and arguments.
    """

    settings: type[BaseModel] | None = None
    shown: tuple[Shown, ...] = ()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does it; a word too many is answered with what it was likely meant for."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if "unexpected extra argument" not in error.message:
                raise
            raise click.UsageError(f"{error.message}. {_FOR_WORDS_TOO_MANY}", ctx) from error

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write arguments, then options."""
        message = [(each.make_metavar(ctx), each.meaning) for each in self.params if isinstance(each, Argument)]
        if message:
            with formatter.section("Arguments"):
                formatter.write_dl(message)
        super().format_options(ctx, formatter)


#: What every command takes.
COMMON: tuple[click.Parameter, ...] = (
    click.Option(["as_json", "--json"], is_flag=True, help="Machine-readable result on standard output."),
    click.Option(["--debug"], is_flag=True, help="Show where an error comes from."),
    click.Option(["-q", "--quiet"], is_flag=True, help="No progress, no notes."),
    click.Option(["-v", "--verbose"], is_flag=True, help="Tell more."),
)
LOG = click.Option(["--log"], type=PATH, metavar="JSONL", help="Add what happens to this file, one JSON object a line.")
# Keys that several commands show.
READING = (
    option("columns", metavar="OURS=THEIRS"),
    option("ignore_columns", metavar="A,B"),
    option("folders", metavar="ROLE/ROLE"),
    option("patients", metavar="TABLE"),
    option("patient_columns", metavar="OURS=THEIRS"),
)
DATA = (
    argument("data"),
    "part",
    option("class_names", metavar="OURS=THEIRS"),
    option("classes", metavar="A,B"),
    option("folds", metavar="A,B"),
    *READING,
    option("mask_levels", metavar="ROLE=VALUE,..."),
)
OWN = option("own", metavar="NAME=FILE,..")
FEATURES = (
    option("features", metavar="A,B"),
    option("weights", metavar="W"),
    option("backbone", metavar="NAME"),
    OWN,
    "input",
)
OUTPUT = option("output", "-o/--output")
MODEL = argument("model", is_required=True)
IMAGES = argument("images", is_required=True, takes_many=True)
MASK_LEVELS = option("mask_levels", metavar="ROLE=VALUE,...")
SPLITS = option("splits", metavar="K")
THRESHOLD = option("threshold", metavar="RULE")
SOURCE = option("source", metavar="NAME")
SITE_CLASSES = option("site_classes", metavar="NAME=A,B")
POSITIVE = option("positive", metavar="CLASS")
SETS = option("sets", metavar="LEVEL")
RISK = option("risk", metavar="RULE")
PRIMARY = option("primary", metavar="A,B")
MARGIN = option("margin", metavar="X")
MLFLOW = option("mlflow", metavar="URI")


def command(
    model: type[Config], *keys: str | Shown
) -> Callable[[Callable[[Screen, Config], Sequence[Fault] | None]], Command]:
    """A command with settings, out of a function that is given them checked."""
    shown = tuple(option(key) if isinstance(key, str) else key for key in keys)

    def make(function: Callable[[Screen, Config], Sequence[Fault] | None]) -> Command:
        def work(screen: Screen, *, config_file: Path | None, set_texts: tuple[str, ...], **given: Any) -> Any:
            options = _nested(shown, given)
            with one_run():
                return function(screen, build_config(model, file=config_file, settings=set_texts, options=options))

        made = _command(function, work, [*parameters(model, shown), *_config_options(model)])
        made.settings, made.shown = model, shown
        return made

    return make


def _config_options(model: type[BaseModel]) -> list[click.Parameter]:
    """The options by which a command with settings is given any of them."""
    return [
        click.Option(
            ["config_file", "--config"],
            type=PATH,
            metavar="NAME|FILE",
            help="A recipe by its name, or a YAML file with settings.",
            shell_complete=complete_recipe,
        ),
        click.Option(
            ["set_texts", "--set"],
            multiple=True,
            metavar="KEY=VALUE",
            help="One setting, as in the YAML file; fusion settings lists all.",
            shell_complete=complete_setting(model),
        ),
    ]


def plain_command(*params: click.Parameter) -> Callable[[Callable[..., Sequence[Fault] | None]], Command]:
    """A command without settings, which only looks at what is there: its function is given the parameters by name."""

    def make(function: Callable[..., Sequence[Fault] | None]) -> Command:
        return _command(function, function, list(params))

    return make


def _command(
    function: Callable[..., Any], work: Callable[..., Sequence[Fault] | None], params: list[click.Parameter]
) -> Command:
    name = function.__name__
    has_log = any(each.name == "log" for each in params)  # which is told of every image, too

    def callback(as_json: bool, debug: bool, quiet: bool, verbose: bool, **given: Any) -> None:
        log = given.get("log") if has_log else given.pop("log")
        run(name, lambda screen: work(screen, **given), Manner(as_json, debug, quiet, verbose, log))

    common = COMMON if has_log else (*COMMON, LOG)
    return Command(name, params=[*params, *common], help=function.__doc__, callback=callback)


def parameters(model: type[BaseModel], shown: Sequence[Shown]) -> list[click.Parameter]:
    """The parameters of a command that shows these keys of its settings."""
    known = {setting.key: setting for setting in settings_of(model)}
    return [_parameter(each, known[each.key]) for each in shown]


def _parameter(shown: Shown, setting: Setting) -> click.Parameter:
    if shown.is_argument:
        return Argument(
            [shown.name],
            type=PATH,
            required=shown.is_required,
            nargs=-1 if shown.takes_many else 1,
            meaning=meaning(setting),
        )
    flags = shown.flag.split("/") if shown.flag else [f"--{shown.key.replace('_', '-')}"]
    offered = complete_plugins(shown.key)
    return click.Option([shown.name, *flags], help=meaning(setting), shell_complete=offered, **_reading(shown, setting))


def _reading(shown: Shown, setting: Setting) -> dict[str, Any]:
    """How click is to read an option. Not given is None, whatever the default: a YAML file may say otherwise."""
    kind = core(setting.annotation)
    if kind is bool:
        return {"is_flag": True, "default": None}
    if allowed := choices(kind):
        return {"type": click.Choice(allowed)}
    read_as, metavar = _KINDS.get(kind, _KINDS[str])
    return {"type": read_as, "metavar": shown.metavar or metavar}


def meaning(setting: Setting) -> str:
    """A setting's description as a sentence, and its default."""
    first, rest = setting.meaning[:1], setting.meaning[1:]
    # "neural: draw what it sees" begins with a name.
    is_name = setting.meaning.partition(" ")[0].endswith(":")
    sentence = f"{first if is_name else first.upper()}{rest}."
    default = "" if isinstance(setting.default, bool) else setting.default_in_words
    return f"{sentence}  [default: {default}]" if default else sentence


def _nested(shown: Sequence[Shown], given: dict[str, Any]) -> dict[str, Any]:
    """Values by the names of parameters as ``build_config`` takes them: nested by the dots of their keys."""
    options: dict[str, Any] = {}
    for each in shown:
        *levels, last = each.key.split(".")
        value, below = given[each.name], options
        for level in levels:
            below = below.setdefault(level, {})
        below[last] = (list(value) or None) if isinstance(value, tuple) else value
    return options
