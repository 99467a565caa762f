"""Parameters of the chosen blocks' extractors: each its own, and what an option gives to all that take it."""

from __future__ import annotations

from typing import Any

from fusion.errors import UsageError, did_you_mean
from fusion.plugins import registry
from fusion.plugins.extractors import HasInput, HasWeights
from fusion.settings.commands import LearnConfig
from fusion.settings.features import HANDCRAFTED, FeatureSettings, with_parameter


def extractor_params(config: FeatureSettings, block: str) -> dict[str, Any]:
    """The parameters of the extractor behind a block, by the block's name.

    Raises
    ------
    UsageError : no extractor of the block's family.
    ConfigError : ``--weights``, ``--backbone`` or ``--input`` disagrees with the block's own.
    """
    kind, place = extractor_class(block), f"extractors.{block}"
    params = dict(config.extractors.get(block, {}))
    if isinstance(kind, HasWeights):
        params = with_parameter(params, "weights", config.weights, "--weights", place)
        params = with_parameter(params, "backbone", config.backbone, "--backbone", place)
    if isinstance(kind, HasInput):
        params = with_parameter(params, kind.input_parameter, config.input, "--input", place)
    return params


def check_options_of_networks(config: FeatureSettings) -> None:
    """UsageError for ``--weights``, ``--backbone`` or ``--input`` where nothing that is chosen takes it."""
    chosen = ", ".join(config.blocks) or "no features"
    extractors = [extractor_class(block) for block in config.blocks]
    judges = config.judges if isinstance(config, LearnConfig) else []
    networks = [name for name in judges if isinstance(registry.plugin_class(registry.CLASSIFIERS, name), HasInput)]
    for name, value in (("weights", config.weights), ("backbone", config.backbone)):
        if value is not None and not any(isinstance(kind, HasWeights) for kind in extractors):
            own = [f"That of classifier '{one}' is told by --set {_setting(one, name)}={value}." for one in networks]
            raise UsageError(
                f"--{name} is of a network behind a block, and there is none",
                found=chosen,
                do=" ".join(["Add cnn to --features.", *own]),
            )
    if config.input is None or any(isinstance(kind, HasInput) for kind in extractors):
        return
    if not networks:
        raise UsageError(
            "--input is what a network is shown, and there is none",
            found=chosen,
            do="Add cnn to --features, or take --classifier neural.",
        )


def _setting(classifier: str, name: str) -> str:
    """The key of a setting of a classifier's network, which stands beside that of what it is shown."""
    kind = registry.plugin_class(registry.CLASSIFIERS, classifier)
    assert isinstance(kind, HasInput)
    return f"classifiers.{classifier}.{kind.input_parameter.rpartition('.')[0]}.{name}"


def parts_of_handcrafted() -> list[str]:
    """The parts that a handcrafted family can be divided into, as they are asked for: ``texture.glcm``."""
    named: dict[str, None] = {}
    for family in HANDCRAFTED:
        for feature in registry.build_extractor(family).feature_names():
            named |= dict.fromkeys(f"{family}.{word}" for word in feature.split("_")[:2])
    return list(named)


def extractor_class(block: str) -> type:
    """The class of the extractor behind a block.

    Raises
    ------
    UsageError : no extractor of the block's family; what is a part of a known one is told as that.
    """
    family = block.partition(".")[0]
    if family not in (known := registry.names(registry.EXTRACTORS)):
        meant = did_you_mean(family, known) or did_you_mean(block, parts_of_handcrafted())
        raise UsageError(f"unknown feature block '{block}'", expected=", ".join(known), do=meant)
    return registry.plugin_class(registry.EXTRACTORS, family)
