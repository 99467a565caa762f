"""One checked model of settings a command.

Defaults, a YAML file and the command line become one frozen value; an unknown key is refused. Nothing heavy is
imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.settings.commands import AblateConfig as AblateConfig
    from fusion.settings.commands import CompareConfig as CompareConfig
    from fusion.settings.commands import DemoConfig as DemoConfig
    from fusion.settings.commands import EvaluateConfig as EvaluateConfig
    from fusion.settings.commands import ExplainConfig as ExplainConfig
    from fusion.settings.commands import ExportConfig as ExportConfig
    from fusion.settings.commands import ExtractConfig as ExtractConfig
    from fusion.settings.commands import InspectConfig as InspectConfig
    from fusion.settings.commands import LearnConfig as LearnConfig
    from fusion.settings.commands import LoadConfig as LoadConfig
    from fusion.settings.commands import PlanConfig as PlanConfig
    from fusion.settings.commands import PredictConfig as PredictConfig
    from fusion.settings.commands import ServeConfig as ServeConfig
    from fusion.settings.commands import SynthesizeConfig as SynthesizeConfig
    from fusion.settings.commands import TrainConfig as TrainConfig
    from fusion.settings.data import DataSettings as DataSettings
    from fusion.settings.features import FeatureSettings as FeatureSettings
    from fusion.settings.key import Setting as Setting
    from fusion.settings.key import choices as choices
    from fusion.settings.key import core as core
    from fusion.settings.key import settings_of as settings_of
    from fusion.settings.learning import AugmentSettings as AugmentSettings
    from fusion.settings.learning import FitSettings as FitSettings
    from fusion.settings.learning import HarmoniseSettings as HarmoniseSettings
    from fusion.settings.learning import NormaliseSettings as NormaliseSettings
    from fusion.settings.learning import ReinhardTarget as ReinhardTarget
    from fusion.settings.loading import build_config as build_config
    from fusion.settings.loading import read_yaml as read_yaml
    from fusion.settings.loading import write_config as write_config
    from fusion.settings.plugin_parameters import parameters_of as parameters_of

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "commands": [
            "AblateConfig",
            "CompareConfig",
            "PlanConfig",
            "DemoConfig",
            "EvaluateConfig",
            "ExplainConfig",
            "ExportConfig",
            "ExtractConfig",
            "InspectConfig",
            "LoadConfig",
            "LearnConfig",
            "PredictConfig",
            "ServeConfig",
            "SynthesizeConfig",
            "TrainConfig",
        ],
        "data": ["DataSettings"],
        "features": ["FeatureSettings"],
        "key": ["Setting", "choices", "core", "settings_of"],
        "learning": ["AugmentSettings", "FitSettings", "HarmoniseSettings", "NormaliseSettings", "ReinhardTarget"],
        "loading": ["build_config", "read_yaml", "write_config"],
        "plugin_parameters": ["parameters_of"],
    },
)
