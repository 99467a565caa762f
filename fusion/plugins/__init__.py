"""The protocols that plug-ins keep, and how plug-ins are found.

An extractor, a classifier or a segmenter is any class registered under an entry point: docs/extending.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.plugins.classifiers import Attends as Attends
    from fusion.plugins.classifiers import Classifier as Classifier
    from fusion.plugins.classifiers import Contributes as Contributes
    from fusion.plugins.classifiers import FitsDistances as FitsDistances
    from fusion.plugins.classifiers import GrowsFaster as GrowsFaster
    from fusion.plugins.classifiers import HasLandmarks as HasLandmarks
    from fusion.plugins.classifiers import HasScheduler as HasScheduler
    from fusion.plugins.classifiers import HasSearch as HasSearch
    from fusion.plugins.classifiers import HasTrialRows as HasTrialRows
    from fusion.plugins.classifiers import HoldsOut as HoldsOut
    from fusion.plugins.classifiers import Linear as Linear
    from fusion.plugins.classifiers import MindsSources as MindsSources
    from fusion.plugins.classifiers import Parts as Parts
    from fusion.plugins.classifiers import ReadsBatches as ReadsBatches
    from fusion.plugins.classifiers import ScoresHeldOutBags as ScoresHeldOutBags
    from fusion.plugins.classifiers import Searches as Searches
    from fusion.plugins.classifiers import TakesBags as TakesBags
    from fusion.plugins.classifiers import ToOnnx as ToOnnx
    from fusion.plugins.extractors import Describing as Describing
    from fusion.plugins.extractors import Description as Description
    from fusion.plugins.extractors import Extractor as Extractor
    from fusion.plugins.extractors import HasDoubts as HasDoubts
    from fusion.plugins.extractors import HasEncoder as HasEncoder
    from fusion.plugins.extractors import HasIdentity as HasIdentity
    from fusion.plugins.extractors import HasInput as HasInput
    from fusion.plugins.extractors import HasParameterGroups as HasParameterGroups
    from fusion.plugins.extractors import HasProvenance as HasProvenance
    from fusion.plugins.extractors import HasWeights as HasWeights
    from fusion.plugins.extractors import HidesRegions as HidesRegions
    from fusion.plugins.extractors import Learnable as Learnable
    from fusion.plugins.extractors import NeedsRedCells as NeedsRedCells
    from fusion.plugins.extractors import Precomputed as Precomputed
    from fusion.plugins.extractors import RollsOut as RollsOut
    from fusion.plugins.extractors import SpatialExtractor as SpatialExtractor
    from fusion.plugins.extractors import StoredAsHalf as StoredAsHalf
    from fusion.plugins.networks import ExplainsImages as ExplainsImages
    from fusion.plugins.networks import HasHistory as HasHistory
    from fusion.plugins.networks import LearnsBlock as LearnsBlock
    from fusion.plugins.networks import NetworkToOnnx as NetworkToOnnx
    from fusion.plugins.networks import TakesImages as TakesImages
    from fusion.plugins.networks import TrainingLog as TrainingLog
    from fusion.plugins.networks import Watch as Watch
    from fusion.plugins.registry import CLASSIFIERS as CLASSIFIERS
    from fusion.plugins.registry import EXTRACTORS as EXTRACTORS
    from fusion.plugins.registry import SEGMENTERS as SEGMENTERS
    from fusion.plugins.registry import PluginError as PluginError
    from fusion.plugins.registry import build_classifier as build_classifier
    from fusion.plugins.registry import build_extractor as build_extractor
    from fusion.plugins.registry import build_segmenter as build_segmenter
    from fusion.plugins.registry import classifier_class as classifier_class
    from fusion.plugins.registry import fingerprint as fingerprint
    from fusion.plugins.registry import identity as identity
    from fusion.plugins.registry import kind_of as kind_of
    from fusion.plugins.registry import learner_of as learner_of
    from fusion.plugins.registry import names as names
    from fusion.plugins.registry import parameters as parameters
    from fusion.plugins.registry import plugin_class as plugin_class
    from fusion.plugins.registry import points as points
    from fusion.plugins.registry import registered as registered
    from fusion.plugins.registry import stored_as as stored_as
    from fusion.plugins.segmenters import Segmenter as Segmenter

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "classifiers": [
            "Attends",
            "Classifier",
            "Contributes",
            "FitsDistances",
            "GrowsFaster",
            "HasLandmarks",
            "HasScheduler",
            "HasSearch",
            "HasTrialRows",
            "HoldsOut",
            "Linear",
            "MindsSources",
            "Parts",
            "ReadsBatches",
            "ScoresHeldOutBags",
            "Searches",
            "TakesBags",
            "ToOnnx",
        ],
        "extractors": [
            "Describing",
            "Description",
            "Extractor",
            "HasDoubts",
            "HasEncoder",
            "HasIdentity",
            "HasInput",
            "HasParameterGroups",
            "HasProvenance",
            "HasWeights",
            "HidesRegions",
            "Learnable",
            "NeedsRedCells",
            "Precomputed",
            "RollsOut",
            "SpatialExtractor",
            "StoredAsHalf",
        ],
        "networks": [
            "ExplainsImages",
            "HasHistory",
            "LearnsBlock",
            "NetworkToOnnx",
            "TakesImages",
            "TrainingLog",
            "Watch",
        ],
        "registry": [
            "CLASSIFIERS",
            "EXTRACTORS",
            "PluginError",
            "SEGMENTERS",
            "build_classifier",
            "build_extractor",
            "build_segmenter",
            "classifier_class",
            "fingerprint",
            "identity",
            "kind_of",
            "learner_of",
            "names",
            "parameters",
            "plugin_class",
            "points",
            "registered",
            "stored_as",
        ],
        "segmenters": ["Segmenter"],
    },
)
