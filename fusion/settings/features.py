"""What is measured of every cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from fusion.errors import ConfigError
from fusion.settings._base import Names, Settings

#: The blocks that need nothing but the image.
HANDCRAFTED = ("morphology", "texture", "colour")


def _is_network(block: str) -> bool:
    return block.partition(".")[0] == "cnn"


class InputSettings(Settings):
    """What networks are shown, as an embedding (``cnn``) and end to end (``neural``)."""

    input: Literal["cell", "cell-on-grey", "field"] | None = Field(
        None,
        description="what a network is shown: the cell cut out on black (default), on grey, or with what is around it",
    )

    def _with_input(self, given: Mapping[str, Any], place: str) -> dict[str, Any]:
        """Parameters of a network with ``input`` among them; ConfigError where they say otherwise at ``place``."""
        if self.input is None:
            return dict(given)
        if given.get("input") not in (None, self.input):
            raise ConfigError(
                f"--input and {place}.input disagree",
                found=f"{self.input} and {given['input']}",
                do="Give one of them.",
            )
        return {**given, "input": self.input}


class FeatureSettings(InputSettings):
    """Which measurements."""

    features: Names = Field(
        [], description="blocks; default morphology,texture,colour, and what of cnn has settings, so weights too"
    )
    extractors: dict[str, dict[str, Any]] = Field(
        {}, description="parameters of extractors by FAMILY, or by FAMILY.NAME, a block of its own: cnn.b3, cnn.vgg16"
    )
    jobs: int = Field(0, ge=0, description="worker processes; 0 is one a core")

    @property
    def blocks(self) -> list[str]:
        """The chosen blocks, defaults filled in, each once."""
        chosen = self.features or [*HANDCRAFTED, *(name for name in self.extractors if _is_network(name))]
        return list(dict.fromkeys(chosen))

    @property
    def networks(self) -> list[str]:
        """Names of what looks at images."""
        return [block for block in self.blocks if _is_network(block)]

    def extractor(self, name: str) -> dict[str, Any]:
        """The parameters of an extractor by the name of its block."""
        given = self.extractors.get(name, {})
        return self._with_input(given, f"extractors.{name}") if _is_network(name) else dict(given)
