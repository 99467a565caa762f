"""What all settings have in common: unknown keys are refused, and lists may be written with commas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from fusion.io.remote_path import as_path, is_url
from fusion.settings._refusal import refusal


def _listed(value: Any) -> Any:
    """``a,b`` as a list, which is how lists are typed on a command line; a number stands for its digits."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [as_text(each) for each in value] if isinstance(value, list | tuple) else [as_text(value)]


def as_text(value: Any) -> Any:
    """A number where text is meant, as YAML makes one of ``1``, with its digits; all that isn't a number as it is.

    Raises
    ------
    ValueError : true or false, which may have been written in ten ways.
    """
    if isinstance(value, bool):
        # A ValueError, as pydantic tells no other.
        raise ValueError("text; YAML reads yes, no, on, off, true and false as truth values: put it in quotes")
    return str(value) if isinstance(value, int | float) else value


def at_home(value: Any) -> Any:
    """A path below ``~`` with the home folder in its place, as a shell would have put it; of parameters, each such."""
    if isinstance(value, dict):
        return {
            key: at_home(each) if isinstance(each, dict) or str(each)[:2] == "~/" else each
            for key, each in value.items()
        }
    if not isinstance(value, str | Path) or not str(value).startswith("~"):
        return value
    try:
        home = Path(value).expanduser()
        return str(home) if isinstance(value, str) else home
    except RuntimeError:  # nobody's home: a file may be called so
        return value


def _each(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


Names = Annotated[
    list[str],
    BeforeValidator(_listed),
    WithJsonSchema({"type": ["array", "string"], "items": {"type": "string"}}),
]


Numbers = Annotated[
    list[int],
    BeforeValidator(_listed),
    WithJsonSchema({"type": ["array", "string", "integer"], "items": {"type": "integer"}}),
]


def _paired(value: Any) -> Any:
    """``a=b,c=d`` as a mapping."""
    if not isinstance(value, str):
        return {key: as_text(each) for key, each in value.items()} if isinstance(value, dict) else value
    pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
    if unpaired := [name for name, equals, _ in pairs if not equals]:
        raise ValueError(f"pairs, as in subject=patient_id; '{unpaired[0].strip()}' has no =")
    return {name.strip(): other.strip() for name, _, other in pairs}


Pairs = Annotated[
    dict[str, str],
    BeforeValidator(_paired),
    WithJsonSchema({"type": ["object", "string"], "additionalProperties": {"type": "string"}}),
]


def _lists_by_name(value: Any) -> Any:
    """``a=b,c,d=e`` as a mapping of lists: what has no = belongs to the name before it."""
    if isinstance(value, dict):
        found = {str(as_text(name)): _listed(each) for name, each in value.items()}
    elif isinstance(value, str):
        found = {}
        for part in filter(None, map(str.strip, value.split(","))):
            name, equals, first = part.partition("=")
            if equals and name.strip() in found:
                raise ValueError(f"each name once; '{name.strip()}' is there twice")
            if equals:
                found[name.strip()] = [first.strip()] if first.strip() else []
            elif found:
                found[next(reversed(found))].append(part)
            else:
                raise ValueError(f"names and what each has, as in NAME=A,B; '{part}' follows no NAME=")
    else:
        return value
    if empty := [name for name, each in found.items() if not name or not each]:
        raise ValueError(f"names and what each has, as in NAME=A,B; '{empty[0]}=' lacks one of both")
    return found


Lists = Annotated[
    dict[str, list[str]],
    BeforeValidator(_lists_by_name),
    WithJsonSchema(
        {
            "type": ["object", "string"],
            "additionalProperties": {"type": ["array", "string"], "items": {"type": "string"}},
        }
    ),
]

#: A folder or file that may lie in an object store; all other paths are of this machine.
LocalOrRemotePath = Annotated[
    Path, BeforeValidator(lambda value: as_path(at_home(value)) if isinstance(value, str | Path) else value)
]


#: Above, libraries refuse a seed.
MAX_SEED = 2**32 - 1

#: No machine has so many cores; each worker takes memory before it does anything.
MAX_JOBS = 1024

#: Settings that name what is written -> see ``Settings``.
Outputs = Mapping[str, tuple[str, ...]]

#: Settings that need another one -> that one, and how it is given; see ``Settings``.
OnlyWith = Mapping[str, tuple[str, str]]


if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


class _PlainErrors(ModelMetaclass):
    """A model that is made by hand refuses in our words; within ``model_validate`` pydantic keeps its own, which say
    where in nested settings they are."""

    def __call__(cls, *args: Any, **values: Any) -> Any:
        try:
            return super().__call__(*args, **values)
        except ValidationError as error:
            raise refusal(cast(type[BaseModel], cls), error, "", values) from error


class Settings(BaseModel, metaclass=_PlainErrors):
    """Checked settings; ConfigError for what they do not take."""

    # A command builds the validator of its own settings, not those of all commands.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, defer_build=True)

    #: Settings that name a file to write -> endings that its name may have, none for any; and those that name a folder
    #: to write into -> files there that would replace others.
    output_files: ClassVar[Outputs] = {}
    output_folders: ClassVar[Outputs] = {}
    #: Settings that do nothing where another one is not given: key -> the other, and how it is given.
    only_with: ClassVar[OnlyWith] = {}
    #: Whether ``output`` is the folder of a model, which holds no other files than its own.
    writes_model: ClassVar[bool] = False

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """Text of what YAML takes for a number, ``~`` as the home folder, and no URL where only a path of this machine
        will do: it would be taken for a folder named "s3:".
        """
        field = cls.model_fields[str(info.field_name)]
        if field.annotation in (str, str | None):
            return as_text(value)
        is_plain = (field.annotation is Path and not field.metadata) or Path in get_args(field.annotation)
        if not is_plain:
            return at_home(value) if isinstance(value, dict) else value
        if any(is_url(each) for each in _each(value) if isinstance(each, str | Path)):
            raise ValueError("a path of this machine; URLs are for data and store")
        return [at_home(each) for each in value] if isinstance(value, list | tuple) else at_home(value)
