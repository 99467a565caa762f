"""What is measured of every cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fusion.errors import ConfigError
from fusion.settings._base import MAX_JOBS, Names, Pairs, Settings, at_home

#: The blocks that need nothing but the image.
HANDCRAFTED = ("morphology", "texture", "colour")


def with_parameter(params: Mapping[str, Any], path: str, value: object, option: str, place: str) -> dict[str, Any]:
    """Parameters of a plug-in with one more, which an option gives for all that take it; None is not given.

    Parameters
    ----------
    path : of the parameter, dots leading into mappings: ``network.input``.
    option, place : as the user would write them, for what is refused.

    Raises
    ------
    ConfigError : the parameters say otherwise.
    """
    if value is None:
        return dict(params)
    name, _, rest = path.partition(".")
    if rest:
        return {**params, name: with_parameter(params.get(name) or {}, rest, value, option, f"{place}.{name}")}
    if params.get(name) not in (None, value):
        raise ConfigError(
            f"{option} and {place}.{name} disagree",
            found=f"{value} and {params[name]}",
            do="Give one of them.",
        )
    return {**params, name: value}


#: What names of blocks begin with that stand beside the chosen ones, and take no one's place.
_BESIDE = ("own.", "control.")

#: Of every command that measures cells, or is given measured ones.
OWN: Any = Field(
    {},
    description="features computed elsewhere, as blocks own.NAME: a .parquet, .csv, .h5ad or .npz a block, its rows "
    "keyed by path, file name or sha256 of the image",
)


class InputSettings(Settings):
    """What networks are shown, be it for a block or end to end."""

    input: Literal["cell", "cell-on-grey", "field"] | None = Field(
        None,
        description="what a network is shown: the cell cut out on black (default), on grey, or with what is around it",
    )


class FeatureSettings(InputSettings):
    """Which measurements."""

    features: Names | None = Field(
        None,
        description="blocks; default morphology,texture,colour, with weights or a backbone cnn, and others that have "
        "settings",
    )
    extractors: dict[str, dict[str, Any]] = Field(
        {}, description="parameters of extractors by FAMILY, or by FAMILY.NAME, a block of its own: cnn.b3, cnn.vgg16"
    )
    weights: str | None = Field(
        None, description="of networks behind blocks (cnn): a .safetensors file, 'pretrained', or 'random'"
    )
    backbone: str | None = Field(
        None,
        description="of networks behind blocks (cnn): any timm model; default that of the weights file, else "
        "tf_efficientnetv2_b3",
    )
    own: Pairs = OWN
    jobs: int = Field(0, ge=0, le=MAX_JOBS, description="worker processes; 0 is one a core")

    @model_validator(mode="after")
    def _with_own(self) -> Self:
        """A file of features of one's own is the parameter of a block of its own, ``own.NAME``."""
        given = {f"own.{name}": file for name, file in self.own.items()}
        known = {
            block: with_parameter(self.extractors.get(block, {}), "file", file, "--own", f"extractors.{block}")
            for block, file in given.items()
        }
        if known:
            object.__setattr__(self, "extractors", {**self.extractors, **known})
        return self

    @field_validator("features", mode="before")
    @classmethod
    def _some(cls, value: Any) -> Any:
        if value == [] or (isinstance(value, str) and not value.strip(" ,")):
            raise ValueError("at least one block, as in morphology,texture; none leaves the handcrafted ones out")
        return value

    @field_validator("weights")
    @classmethod
    def _file_at_home(cls, value: str | None) -> str | None:
        return None if value is None else str(at_home(value))

    @property
    def blocks(self) -> list[str]:
        """The chosen blocks, defaults filled in, each once."""
        named = [name for name in self.extractors if name.partition(".")[0] not in HANDCRAFTED]
        networks = [name for name in named if not name.startswith(_BESIDE)]
        owned = [name for name in named if name.startswith(_BESIDE)]
        if self.features == ["none"] and owned:
            return owned
        chosen = self.features or [*HANDCRAFTED, *(networks or self._of_weights())]
        return list(dict.fromkeys([*chosen, *owned]))

    def _of_weights(self) -> list[str]:
        """The families that ``weights`` and ``backbone`` are parameters of, where one of them is given."""
        if self.weights is None and self.backbone is None:
            return []
        from fusion.plugins import registry
        from fusion.plugins.extractors import HasWeights

        known = registry.names(registry.EXTRACTORS)
        return [name for name in known if isinstance(registry.plugin_class(registry.EXTRACTORS, name), HasWeights)]
