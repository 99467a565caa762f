"""One key that a command takes: its type, default and meaning in words, read off the model that checks it."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

#: Attribute of a bound in a field's metadata -> how it reads.
_BOUNDS = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}


@dataclass(frozen=True)
class Setting:
    """One key.

    Attributes
    ----------
    key : as ``--set`` takes it: dots lead into nested settings.
    annotation : its type with all bounds.
    default : plain value; None where there is none, or where it depends on others.
    meaning : what it says, in words.
    is_required : whether there is no default.
    """

    key: str
    annotation: Any
    default: Any
    meaning: str
    is_required: bool = False

    @property
    def type(self) -> str:
        """Its type in words."""
        return type_in_words(self.annotation)

    @property
    def default_in_words(self) -> str:
        """Its default as one would type it; "" where there is none to type."""
        return value_in_words(self.default)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        from pydantic_core import to_jsonable_python

        default = to_jsonable_python(self.default)
        required = {"required": True} if self.is_required else {}
        return {"key": self.key, "type": self.type, "default": default, "meaning": self.meaning, **required}


def settings_of(model: type[BaseModel], within: str = "") -> Iterator[Setting]:
    """Every key of a model, those of nested models among them."""
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from settings_of(nested, f"{within}{name}.")
        else:
            yield _setting(f"{within}{name}", field)


def _setting(key: str, field: FieldInfo) -> Setting:
    metadata = tuple(field.metadata)
    annotation = Annotated[(field.annotation, *metadata)] if metadata else field.annotation
    is_required = field.is_required()
    return Setting(key, annotation, None if is_required else field.default, field.description or "", is_required)


def core(annotation: Any) -> Any:
    """A type without its bounds, and without None where that is an alternative."""
    if get_origin(annotation) is Annotated:
        return core(get_args(annotation)[0])
    if is_union(annotation):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return core(kinds[0]) if len(kinds) == 1 else annotation
    return annotation


def is_union(annotation: Any) -> bool:
    """Whether a type is one of several."""
    return get_origin(annotation) in (Union, types.UnionType)


def choices(annotation: Any) -> tuple[str, ...]:
    """The texts that a type is limited to; none where it is not."""
    found = core(annotation)
    return tuple(map(str, get_args(found))) if get_origin(found) is Literal else ()


def type_in_words(annotation: Any) -> str:
    """A type as a reader knows it: "int from 2 to 1000", "none | temperature", "path or URL"."""
    kind, bounds = core(annotation), _bounds(annotation)
    if choices(kind):
        return " | ".join(choices(kind))
    return " ".join([_name(kind, is_place=_is_place(annotation)), *bounds])


def _name(kind: Any, *, is_place: bool) -> str:
    if kind is Path:
        return "path or URL" if is_place else "path"
    if is_union(kind):
        return " or ".join(type_in_words(each) for each in get_args(kind) if each is not type(None))
    if get_origin(kind) in (list, tuple, Sequence):
        items = list(dict.fromkeys(type_in_words(each) for each in get_args(kind) if each is not Ellipsis))
        return f"list of {', '.join(items)}"
    if get_origin(kind) is not None and hasattr(get_origin(kind), "keys"):
        return "mapping"
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _metadata(annotation: Any) -> tuple[Any, ...]:
    """What is noted on a type, or on the alternatives that it is made of."""
    if get_origin(annotation) is Annotated:
        kind, *noted = get_args(annotation)
        return (*noted, *_metadata(kind))
    return tuple(note for kind in get_args(annotation) for note in _metadata(kind)) if is_union(annotation) else ()


def _is_place(annotation: Any) -> bool:
    return any(isinstance(note, BeforeValidator) for note in _metadata(annotation))


def _bounds(annotation: Any) -> list[str]:
    return [
        f"{word} {getattr(note, name)}"
        for name, word in _BOUNDS.items()
        for note in _metadata(annotation)
        if getattr(note, name, None) is not None
    ]


def value_in_words(value: Any) -> str:
    """A value as one would type it: lists with commas; "" for None and for what is empty."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        is_nested = any(isinstance(each, list | tuple) for each in value)
        return json.dumps(value) if is_nested else ",".join(map(value_in_words, value))
    return "" if value is None or value == {} else str(value)
