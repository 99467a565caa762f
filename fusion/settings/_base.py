"""What all settings have in common: unknown keys are refused, and lists may be written with commas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, WithJsonSchema, field_validator

from fusion.io.remote_path import as_path, is_url


def _listed(value: Any) -> Any:
    """``a,b`` as a list, which is how lists are typed on a command line."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _each(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


Names = Annotated[
    list[str],
    BeforeValidator(_listed),
    WithJsonSchema({"type": ["array", "string"], "items": {"type": "string"}}),
]

#: A folder or file that may lie in an object store; all other paths are of this machine.
LocalOrRemotePath = Annotated[
    Path, BeforeValidator(lambda value: as_path(value) if isinstance(value, str | Path) else value)
]


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_here(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a URL where only a path of this machine will do: it would be taken for a folder named "s3:"."""
        field = cls.model_fields[str(info.field_name)]
        is_plain = (field.annotation is Path and not field.metadata) or Path in get_args(field.annotation)
        if is_plain and any(is_url(each) for each in _each(value) if isinstance(each, str | Path)):
            raise ValueError("a path of this machine; URLs are for data and store")
        return value
