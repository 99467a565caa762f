"""How a model is made: plain values in the order in which the steps are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusion.errors import UsageError, did_you_mean
from fusion.evaluation.scores import IMAGE
from fusion.features.blocks import agreed_columns, build_blocks
from fusion.learning.bags.mean_of_cells import for_unit
from fusion.learning.decision.calibration import Method
from fusion.learning.decision.thresholds import DecisionSettings
from fusion.metrics.decision_costs import Costs
from fusion.plugins import registry
from fusion.plugins.classifiers import Classifier, HasSearch, HoldsOut
from fusion.plugins.extractors import HasInput
from fusion.plugins.networks import TakesImages
from fusion.settings.commands import LearnConfig
from fusion.settings.data import Unit
from fusion.settings.features import with_parameter
from fusion.settings.learning import AugmentSettings, Fuse, HarmoniseSettings


@dataclass(frozen=True)
class Recipe:
    """One way of building a model.

    Attributes
    ----------
    blocks : feature blocks that it learns from.
    classifier, params : the registered classifier, and its parameters.
    takes_images : whether the classifier is given the cells' images as well.
    learnt : those of ``blocks`` whose network is trained anew in every training part.
    nested : train networks inside each training part too, for whatever needs held-out scores there.
    augment : augmented cells to learn from beside the training cells.
    site_classes : by site, the classes that its cells are stated to be of, where it is judged and was not learnt from.
    harmonise, stability : how features are changed, and which are then left out, before they are fused.
    layer : parameters of the fusion layer.
    fuse : how blocks come together: "weighted" or "concatenate", into one row that a classifier is given; or "late", by
        the scores of a classifier of each.
    calibrate, threshold, costs, positive : what is put on top of the fitted model, and the class that the threshold is
        of.
    searches : whether the classifier is to choose parameters by folds inside the training part.
    seed : of every random choice.
    unit : what is labelled: a cell, or a subject, which is a bag of cells.
    """

    blocks: tuple[str, ...]
    classifier: str
    params: Mapping[str, Any] = field(default_factory=dict)
    takes_images: bool = False
    learnt: tuple[str, ...] = ()
    nested: bool = False
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    harmonise: HarmoniseSettings = field(default_factory=HarmoniseSettings)
    site_classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    stability: float | None = None
    layer: Mapping[str, Any] = field(default_factory=dict)
    fuse: Fuse = "weighted"
    calibrate: Method = "none"
    threshold: str | None = None
    costs: Costs = field(default_factory=dict)
    positive: str | None = None
    searches: bool = False
    seed: int = 0
    unit: Unit = "cell"

    @property
    def features(self) -> tuple[str, ...]:
        """What is learnt from, as results name it."""
        return (*((IMAGE,) if self.takes_images else ()), *self.blocks)

    @property
    def label(self) -> str:
        """What results call the classifier: ``svm``, or ``svm-late`` where blocks are fused in another way."""
        return entry_label(self.classifier, self.fuse)

    @property
    def name(self) -> str:
        """What its scores are kept under: ``svm/morphology+texture``."""
        return f"{self.label}/{'+'.join(self.features)}"

    @property
    def decision(self) -> DecisionSettings:
        """Calibration, and the rule by which classes are predicted."""
        return DecisionSettings(self.calibrate, self.threshold, self.costs)

    @property
    def minds_sources(self) -> bool:
        """Whether the sources of cells have a say in a fit."""
        return self.harmonise.method != "none" or self.stability is not None

    @property
    def is_shareable(self) -> bool:
        """Whether fits of a split may share scaled blocks and distances with other recipes.

        A step that sees labels is learnt anew for every fold that calibration and threshold hold out: there is then
        nothing to share between them. The weights of late fusion are such a step, and so is stability for these. Nor is
        there between bags of cells, or where the blocks of a recipe say together which classes a new site has.
        """
        see_labels = [self.stability is not None, self.decision.learns, self.fuse == "late"]
        return self.unit == "cell" and self.harmonise.mix == "equal" and sum(see_labels) < 2

    def build(self) -> Classifier:
        """The unfitted classifier, as it is asked of these units; raises as ``registry.build_classifier`` does."""
        return for_unit(build_seeded(self.classifier, self.params, self.seed), self.unit)

    def held_out_steps(self) -> list[str]:
        """The steps that need held-out scores inside a training part, in words."""
        steps = {
            f"classifier {self.classifier}": isinstance(self.build(), HoldsOut),
            "late fusion": self.fuse == "late",
            "calibrate": self.calibrate != "none",
            "threshold": self.threshold is not None and self.decision.learns,
            "costs": bool(self.costs),
        }
        return [name for name, needs in steps.items() if needs]


def emphasised_columns(config: LearnConfig) -> dict[str, list[int]]:
    """Of each chosen block, which of its columns ``layer.emphasis`` is about; nothing where it is not asked for."""
    asked = config.layer.get("emphasis") is not None and config.blocks
    return agreed_columns(build_blocks(config), config.blocks) if asked else {}


def recipe_of(
    config: LearnConfig,
    classifier: str,
    blocks: Sequence[str],
    learnt: Sequence[str] = (),
    fuse: Fuse = "weighted",
    emphasised: Mapping[str, Sequence[int]] | None = None,
) -> Recipe:
    """The recipe that a command's settings ask for, with this classifier on these blocks.

    Parameters
    ----------
    learnt : blocks that are learnt anew in every training part, of which those among ``blocks`` count.
    fuse : how the blocks are fused.
    emphasised : ``emphasised_columns`` of these settings, where many recipes share them.
    """
    check_layer(config.layer)
    params = classifier_params(config, classifier)
    layer = dict(config.layer)
    if emphasised is None:
        emphasised = emphasised_columns(config)
    if own := {name: columns for name, columns in emphasised.items() if name in blocks}:
        layer["emphasised"] = own
    return Recipe(
        blocks=tuple(blocks),
        classifier=classifier,
        params=params,
        takes_images=isinstance(registry.build_classifier(classifier, params), TakesImages),
        learnt=tuple(name for name in blocks if name in learnt),
        nested=config.nested,
        augment=config.augment,
        harmonise=config.harmonise,
        stability=config.stability,
        layer={**layer, "weights": "none"} if fuse == "concatenate" else layer,
        fuse=fuse,
        calibrate=config.calibrate,
        threshold=config.threshold,
        costs=config.costs,
        positive=config.positive,
        searches=bool(config.search or config.trials or params.get("search")),
        seed=config.seed,
        unit=config.unit or "cell",
    )


def entry_label(classifier: str, fuse: Fuse) -> str:
    """What results call a classifier whose blocks are fused in this way.

    Examples
    --------
    >>> entry_label("svm", "late")
    'svm-late'
    """
    return classifier if fuse == "weighted" else f"{classifier}-{fuse}"


def classifier_params(config: LearnConfig, classifier: str) -> dict[str, Any]:
    """The parameters that a command's settings ask for, of the classifier of this name.

    Raises
    ------
    UsageError : no classifier of this name, or a search by one that has none.
    ConfigError : ``--input`` disagrees with its own.
    """
    given = network_params(config, classifier)
    if not (config.search or config.trials):
        return _with_input(config, classifier, config.params(classifier))
    built = registry.build_classifier(classifier, given)
    if isinstance(built, HasSearch):
        return _with_input(config, classifier, config.params(classifier))
    if isinstance(built, TakesImages):
        return given  # whose search is refused with all else that does not go together
    raise UsageError(
        f"--search is for classifiers that choose parameters by folds, and '{classifier}' does not",
        found=f"--classifier {classifier}",
        do="Leave --search out, or search with another classifier.",
    )


def network_params(config: LearnConfig, classifier: str) -> dict[str, Any]:
    """The parameters that were given for a classifier, with what it is shown where it looks at images.

    Raises
    ------
    ConfigError : ``--input`` disagrees with its own.
    """
    return _with_input(config, classifier, config.classifiers.get(classifier, {}))


def _with_input(config: LearnConfig, classifier: str, params: Mapping[str, Any]) -> dict[str, Any]:
    kind = registry.plugin_class(registry.CLASSIFIERS, classifier)
    if not isinstance(kind, HasInput):
        return dict(params)
    return with_parameter(params, kind.input_parameter, config.input, "--input", f"classifiers.{classifier}")


def check_layer(layer: Mapping[str, Any]) -> None:
    """UsageError for what is no parameter of the fusion layer, or follows from the blocks."""
    if not layer:
        return
    from fusion.feature_transforms.fusion_layer import FusionLayer  # which brings scikit-learn with it

    known = sorted(set(FusionLayer().get_params()) - {"blocks", "emphasised"})
    if unknown := [name for name in layer if name not in known]:
        raise UsageError(
            f"unknown setting 'layer.{unknown[0]}'",
            found=repr(layer[unknown[0]])[:100],
            expected=", ".join(known),
            do=did_you_mean(f"layer.{unknown[0]}", [f"layer.{name}" for name in known]),
        )


def check_image_settings(name: str, classifier: TakesImages) -> None:
    """UsageError for settings that a classifier of images refuses, as far as they can be checked without data."""
    try:
        classifier.input_transform()
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"wrong setting of classifier '{name}'", found=reason) from error


def build_seeded(name: str, params: Mapping[str, Any], seed: int) -> Classifier:
    """The registered classifier with ``seed`` as its random state, if it has one and ``params`` do not set it."""
    takes_seed = "random_state" in registry.parameters(registry.CLASSIFIERS, name)
    return registry.build_classifier(name, {"random_state": seed, **params} if takes_seed else params)
