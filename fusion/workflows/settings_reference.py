"""Every key that a command takes, the parameters of installed plug-ins among them: ``fusion settings``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

from fusion.errors import UsageError, did_you_mean
from fusion.plugins import registry
from fusion.settings.commands import (
    AblateConfig,
    AdaptConfig,
    CompareConfig,
    DemoConfig,
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    ExtractConfig,
    InspectConfig,
    JudgeConfig,
    PlanConfig,
    PredictConfig,
    SegmentConfig,
    ServeConfig,
    SynthesizeConfig,
    TrainConfig,
)
from fusion.settings.key import Setting, settings_of
from fusion.settings.plugin_parameters import parameters_of

#: Command -> the model of its settings.
COMMANDS: dict[str, type[BaseModel]] = {
    "synthesize": SynthesizeConfig,
    "inspect": InspectConfig,
    "segment": SegmentConfig,
    "extract": ExtractConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "adapt": AdaptConfig,
    "predict": PredictConfig,
    "explain": ExplainConfig,
    "serve": ServeConfig,
    "ablate": AblateConfig,
    "judge": JudgeConfig,
    "compare": CompareConfig,
    "plan": PlanConfig,
    "export": ExportConfig,
    "demo": DemoConfig,
}

#: Key whose values are parameters by plug-in -> where such plug-ins are registered.
_PLUGINS = {"extractors": registry.EXTRACTORS, "classifiers": registry.CLASSIFIERS, "segmenters": registry.SEGMENTERS}

#: Parameters of the fusion layer that no one sets: which columns make a block follows from --features, and which are
#: emphasised from their descriptions.
_NOT_SET = ("layer.blocks", "layer.emphasised")


@dataclass(frozen=True)
class Reference:
    """What a command takes.

    Attributes
    ----------
    command : its name.
    own : keys of its own.
    parameters : of the fusion layer, and of every installed plug-in that it may use.
    faults : plug-ins that could not be asked, and why.
    """

    command: str
    own: tuple[Setting, ...]
    parameters: tuple[Setting, ...]
    faults: tuple[str, ...]

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All of them."""
        return self.own + self.parameters

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values, one mapping a key."""
        return [{"command": self.command, **setting.to_json()} for setting in self.settings]

    def to_json_schema(self) -> dict[str, Any]:
        """A JSON schema of a file for ``--config``; nothing is required of it, since options add to it."""
        title = f"Settings of fusion {self.command}"
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **_schema(self.settings)}


def reference(command: str) -> Reference:
    """What a command takes. It imports the plug-ins, which may take seconds.

    Raises
    ------
    UsageError : no command of this name has settings.
    """
    if command not in COMMANDS:
        known = list(COMMANDS)
        raise UsageError(f"no settings of '{command}'", expected=", ".join(known), do=did_you_mean(command, known))
    # What has to be given stands first.
    keys = sorted(settings_of(COMMANDS[command]), key=lambda setting: not setting.is_required)
    names = {setting.key for setting in keys}
    faults: list[str] = []
    parameters = [*_layer()] if "layer" in names else []
    for key in _PLUGINS:
        if key in names:
            parameters += _of_plugins(key, faults)
    own = tuple(setting for setting in keys if setting.key not in {*_PLUGINS, "layer"})
    return Reference(command, own, tuple(parameters), tuple(faults))


def _layer() -> Iterator[Setting]:
    from fusion.feature_transforms.fusion_layer import FusionLayer

    for setting in parameters_of(FusionLayer, "layer"):
        if setting.key not in _NOT_SET:
            yield setting


def _of_plugins(key: str, faults: list[str]) -> list[Setting]:
    found: list[Setting] = []
    for name in registry.names(_PLUGINS[key]):
        try:
            found += parameters_of(registry.plugin_class(_PLUGINS[key], name), f"{key}.{name}")
        except (registry.PluginError, UsageError) as error:
            # A stranger's, or a network where there is no torch; what the others take is told all the same.
            faults.append(str(error))
    return found


def _schema(settings: Iterable[Setting], within: str = "") -> dict[str, Any]:
    """A JSON schema of the keys below ``within``, dots made levels."""
    levels: dict[str, list[Setting]] = {}
    for setting in settings:
        levels.setdefault(setting.key.removeprefix(within).partition(".")[0], []).append(setting)
    properties = {
        name: _leaf(below[0]) if below[0].key == within + name else _schema(below, f"{within}{name}.")
        for name, below in levels.items()
    }
    schema = {"type": "object", "additionalProperties": False, "properties": properties}
    if within == "extractors.":  # a named instance takes what its family takes
        schema["patternProperties"] = {rf"^{name}\.[A-Za-z0-9_-]+$": part for name, part in properties.items()}
    return schema


def _leaf(setting: Setting) -> dict[str, Any]:
    try:
        schema = TypeAdapter(setting.annotation).json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError):  # a plug-in's type of its own: anything goes
        schema = {}
    known = setting.to_json()
    default = {} if known["default"] is None else {"default": known["default"]}
    return {**schema, "description": setting.meaning, **default}
