"""Settings out of defaults, a YAML file and the command line."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fusion.errors import ConfigError
from fusion.io.run_inputs import protect
from fusion.settings._base import Settings
from fusion.settings._refusal import refusal
from fusion.settings.recipes import find_recipe

_REPLACED = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp")}
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d*)\Z")
# YAML 1.1 takes 1e-4 for text, since it has no point.
_FLOAT = re.compile(r"([-+]?((\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(inf|Inf|INF))|\.(nan|NaN|NAN))\Z")

#: What a file of settings may hold in place of them, in words.
_KINDS = {str: "text", list: "a list", type(None): "nothing", int: "a number", float: "a number"}

#: Levels of settings within settings: those that there are need five.
_DEEPEST = 32

Config = TypeVar("Config", bound=BaseModel)


def build_config(
    kind: type[Config], *, file: Path | None = None, settings: Sequence[str] = (), options: Mapping[str, Any]
) -> Config:
    """A checked configuration: options of the command line over ``--set`` over the file over the defaults.

    Parameters
    ----------
    kind : the command's model.
    file : YAML, or the name of a recipe that comes with Fusion.
    settings : ``key=value`` texts; dots lead into nested settings, values are read as YAML. A parameter of an extractor
        is ``extractors.FAMILY.PARAMETER``, or ``extractors.FAMILY.NAME.PARAMETER`` where the block has a name.
    options : nested plain values; None means not given.

    Raises
    ------
    ConfigError : unknown key, wrong value, unreadable or dangerous YAML.
    """
    file = None if file is None else find_recipe(file)
    merged: dict[str, Any] = {} if file is None else read_yaml(file)
    protect([file])
    asked: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError("--set takes key=value", found=setting, expected="as in --set splits=10")
        _merge(asked, _nest(_keys(key), parse_yaml(value, f"--set {key}")))
    _merge(asked, _given(options))
    _merge(merged, asked)
    try:
        config = kind.model_validate(merged)
    except ValidationError as error:
        raise refusal(
            kind, error, "" if file is None else str(file), merged if file is None else read_yaml(file)
        ) from error
    _check_useful(config, asked)
    return config


def _check_useful(config: BaseModel, asked: Mapping[str, Any]) -> None:
    """ConfigError for what was asked for in so many words and does nothing. What is usual may stand there: whoever
    keeps settings keeps all."""
    if not isinstance(config, Settings):
        return
    for own in (vars(each).get("only_with", {}) for each in type(config).__mro__):
        for key, (other, how) in own.items():
            first, _, rest = key.partition(".")
            usual, value = type(config).model_fields[first].default, _at(asked, key)
            usual = operator.attrgetter(rest)(usual) if rest else usual
            if value not in (None, usual) and operator.attrgetter(other)(config) in (None, False, "none"):
                raise ConfigError(
                    f"{key} does nothing by itself",
                    found=f"{value}, without {other}",
                    do=f"Add {how}, or leave it out.",
                )


def _at(values: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def write_config(config: BaseModel) -> str:
    """YAML that ``build_config`` reads back to the same configuration."""
    import yaml

    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file; see ``parse_yaml``."""
    try:
        content = parse_yaml(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}", found=str(error)) from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{file} holds no settings", found=_KINDS.get(type(content), "other YAML"), expected="key: value lines"
        )
    return content


def parse_yaml(text: str, source: str) -> Any:
    """Plain values from YAML, without aliases (they can grow to any size) and without a key given twice.

    Raises
    ------
    ConfigError : names ``source`` and the line.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.MarkedYAMLError(problem="an alias (*name)", problem_mark=self.peek_event().start_mark)
            if self.depth == _DEEPEST:
                problem = f"nested more than {_DEEPEST} levels deep"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.peek_event().start_mark)
            self.depth += 1
            try:
                return super().compose_node(parent, index)
            finally:
                self.depth -= 1

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if str(key.value) in seen:
                    raise yaml.MarkedYAMLError(problem=f"'{key.value}' twice", problem_mark=key.start_mark)
                seen.add(str(key.value))
            return super().construct_mapping(node, deep)

    # YAML 1.1 takes 010 for eight, 1:30 for ninety, 1_000 for a thousand and 2020-01-01 for a date: as names of folds
    # and classes they are none, and where a number is meant pydantic reads it.
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in _REPLACED]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))

    try:
        return yaml.load(text, Loader)  # a SafeLoader: builds plain values only
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = str(error.problem)
        raise ConfigError(
            f"line {line} of {source} is not a setting",
            found="a tab" if "'\\t'" in problem else problem,
            expected="key: value, spaces and no tabs in front, and a value that holds a colon in quotes",
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not YAML", found=" ".join(str(error).split())) from error
    except ValueError as error:  # Python reads no number of more than 4,300 digits
        found = " ".join(str(error).split("; ", maxsplit=1)[0].split())
        raise ConfigError(f"{source} holds a value that cannot be read", found=found[:200]) from error


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _keys(key: str) -> list[str]:
    """The keys that a dotted one leads through: a block that has a name of its own, ``cnn.b3``, is one key."""
    keys = key.split(".")
    if keys[0] == "extractors" and len(keys) == 4:
        return [keys[0], ".".join(keys[1:3]), keys[3]]
    return keys


def _nest(keys: Sequence[str], value: Any) -> dict[str, Any]:
    return {keys[0]: value if len(keys) == 1 else _nest(keys[1:], value)}


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that were given; a nested mapping counts if anything in it was."""
    nested = {key: _given(value) if isinstance(value, Mapping) else value for key, value in options.items()}
    return {key: value for key, value in nested.items() if value is not None and value != {} and value != ()}
