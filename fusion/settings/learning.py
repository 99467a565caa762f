"""How models are fitted and judged, and where their figures are tracked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from fusion.settings._base import MAX_SEED, Names, OnlyWith, Settings, as_text
from fusion.settings.data import PIXEL_UM
from fusion.settings.features import InputSettings


def _by_name(value: Any) -> Any:
    if isinstance(value, str | list | tuple):
        raise ValueError(
            "parameters by classifier, as {'svm': {'C': 1}}; which classifiers there are to be is said by 'classifier' "
            "of train and 'compare' of ablate"
        )
    return value


#: Parameters of plug-ins by their names.
Parameters = Annotated[dict[str, dict[str, Any]], BeforeValidator(_by_name)]

#: How blocks are fused: before a classifier, or after one of each.
Fuse = Literal["weighted", "concatenate", "late"]


class TrackedSettings(Settings):
    """Where a result is logged, beside its files."""

    # Not written back: it is not part of what makes the result, and a server's address may hold a password.
    mlflow: str | None = Field(
        None, exclude=True, description="log settings, figures and files to MLflow as well: its tracking URI"
    )


class ReinhardTarget(Settings):
    """Mean and spread of L (0 to 100), a and b that the pixels of a cell are brought to."""

    mean: tuple[float, float, float] = Field(description="of L, a and b")
    spread: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field(description="standard deviations of L, a and b")


class NormaliseSettings(Settings):
    """What pixels are changed by before they are measured; see ``fusion.image_transforms.normaliser``. By default
    nothing.
    """

    white_balance: bool = Field(False, description="make the light even by empty glass, where any is seen")
    reinhard: Path | ReinhardTarget | None = Field(
        None, description="bring the stain of every cell to that of an image of a cell, or to mean and spread in Lab"
    )
    scale: Literal["none", "um_per_px", "red-cells", "median-size"] = Field(
        "none", description="pixels of one length, stated, or measured by red cells; or one median cell for all sources"
    )
    # A blast of 13 micrometres is 64 pixels across: coarse enough that most sites' images are made smaller.
    um_per_px: float = Field(
        0.2,
        ge=PIXEL_UM[0],
        le=PIXEL_UM[1],
        description="um_per_px, red-cells: micrometres on the side of every pixel afterwards",
    )
    diameter: float | None = Field(
        None, ge=8, le=512, description="median-size: diameter in pixels that the median cell of a source is brought to"
    )
    background: Literal["keep", "black", "grey"] = Field("keep", description="what is around the cell")

    @model_validator(mode="after")
    def _diameter_is_of_median_size(self) -> NormaliseSettings:
        if (self.diameter is not None) != (self.scale == "median-size"):
            raise ValueError(f"a diameter for scale: median-size, and for no other; scale is {self.scale}")
        return self

    @property
    def is_nothing(self) -> bool:
        """Whether no pixel is changed."""
        plain = self.reinhard is None and self.scale == "none" and self.background == "keep"
        return plain and not self.white_balance

    @property
    def steps(self) -> dict[str, Any]:
        """Plain values for ``Normaliser.fit``."""
        return self.model_dump()


class HarmoniseSettings(Settings):
    """What features are changed by before they are fused; see ``fusion.feature_transforms.harmonisation``. By default
    nothing.
    """

    method: Literal["none", "standard", "quantile"] = Field(
        "none", description="take out of features what only tells the source"
    )
    transductive: bool = Field(False, description="describe a new source by its cells that are judged; stamped")
    mix: Literal["equal", "estimated"] = Field(
        "equal",
        description="of a new source's classes: supposed to be equal, or estimated where its cells tell it, and each "
        "moved towards where it was learnt; needs transductive",
    )

    @model_validator(mode="after")
    def _mix_is_of_judged_cells(self) -> HarmoniseSettings:
        if self.mix == "estimated" and not self.transductive:
            raise ValueError("mix: estimated describes a new source by its cells, which transductive: true allows")
        return self


class AugmentSettings(Settings):
    """Augmented training cells that models learn from too; see ``fusion.image_transforms.augmentation``. By
    default none.
    """

    per_cell: int = Field(0, ge=0, le=20, description="of every training cell, to learn from beside it; 0 is none")
    per: Literal["source", "cell"] = Field(
        "source",
        description="one draw for all cells of a source and version, as if of another site; or each its own",
    )
    stain: float = Field(
        0.2, ge=0, le=1, description="standard deviation of optical density, of all channels and again of each"
    )
    brightness: float = Field(0.1, ge=0, lt=1, description="largest change of the light either way, as a share")
    scale: float = Field(0.2, ge=0, le=0.9, description="largest change of size either way, as a share")
    blur: float = Field(1.0, ge=0, le=20, description="largest sigma of a Gaussian, pixels")
    noise: float = Field(3.0, ge=0, le=100, description="largest standard deviation of noise, grey levels")
    jpeg: int = Field(
        70, ge=0, le=100, description="lowest quality of a JPEG that augmented cells go through; 0 or 100 is none"
    )
    contour: float = Field(0.05, ge=0, le=0.5, description="largest change of contours, as a share of the radius")

    @model_validator(mode="after")
    def _varies(self) -> AugmentSettings:
        how_far = (self.stain, self.brightness, self.scale, self.blur, self.noise, self.jpeg % 100, self.contour)
        if self.per_cell and not any(how_far):
            raise ValueError("something that augmented cells differ by: all of stain, brightness, scale .. are 0")
        return self


def _of_two_classes(value: Any) -> Any:
    """Costs by true and predicted class; YAML reads names such as 1 as numbers."""
    if not isinstance(value, dict):
        return value
    named = {str(as_text(true)): row for true, row in value.items()}
    found = {
        true: {str(as_text(predicted)): cost for predicted, cost in row.items()} if isinstance(row, dict) else row
        for true, row in named.items()
    }
    if right := [true for true, row in found.items() if isinstance(row, dict) and true in row]:
        raise ValueError(f"costs of mistakes; '{right[0]}' predicted as '{right[0]}' is none")
    return found


#: What mistakes cost: true class -> predicted class -> cost.
CostsByClass = Annotated[
    dict[str, dict[str, Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]]], BeforeValidator(_of_two_classes)
]


class JudgementSettings(Settings):
    """How scores are judged."""

    positive: str | None = Field(None, description="class that sensitivity is about")
    prevalence: float = Field(0.5, gt=0, lt=1, description="share of positives for which PPV and NPV are reported")


class PromiseSettings(Settings):
    """What is promised of new cells and subjects, at which level; see ``fusion.evaluation.promises``."""

    only_with: ClassVar[OnlyWith] = {"risk_confidence": ("risk", "--risk sensitivity:SHARE")}

    sets: float | None = Field(
        None,
        ge=0.5,
        lt=1,
        description="sets of classes that hold the true one of so many new cells, and new subjects, of every class",
    )
    risk: str | None = Field(
        None,
        pattern=r"^sensitivity:0?\.\d+$",
        description="sensitivity:SHARE: rule out subjects so that at least this share of the positive ones is found; "
        "all others are referred",
    )
    risk_confidence: float = Field(
        0.95, ge=0, lt=1, description="in which share of trainings the risk is held; 0 on average over them"
    )


class ComparisonSettings(Settings):
    """What is asked of a comparison before anybody sees it."""

    primary: Names = Field(
        [], description="the comparison named beforehand: two entries, A,B, each as features,classifier or in short"
    )
    margin: float | None = Field(
        None, gt=0, lt=1, description="of balanced accuracy: test equivalence and non-inferiority of the primary pair"
    )


class SubgroupSettings(Settings):
    """Whose figures are told apart."""

    by: Names = Field(
        [],
        description="figures of subgroups, by columns of the table (source, subject's sex, scanner), the worst named; "
        "numbers are put into thirds",
    )


class CostSettings(Settings):
    """What mistakes cost."""

    costs: CostsByClass = Field(
        {},
        description="what mistakes cost, by true class, then predicted one (costs.all.hem=5); others 1. The class of "
        "the least expected cost is predicted, and the mean cost told",
    )


class FitSettings(InputSettings, JudgementSettings, PromiseSettings, SubgroupSettings, CostSettings):
    """How layer and classifiers are fitted and judged."""

    only_with: ClassVar[OnlyWith] = {
        "harmonise.transductive": ("harmonise.method", "--set harmonise.method=standard or quantile")
    }

    classifiers: Parameters = Field({}, description="parameters of classifiers by name")
    layer: dict[str, Any] = Field({}, description="parameters of the fusion layer")
    normalise: NormaliseSettings = Field(NormaliseSettings(), description="how pixels are changed before measuring")
    harmonise: HarmoniseSettings = Field(HarmoniseSettings(), description="how features are changed before fusing")
    stability: float | None = Field(
        None, gt=0, le=1, description="leave out features that tell training sources apart: least share that does not"
    )
    augment: AugmentSettings = Field(AugmentSettings(), description="augmented training cells, to learn from too")
    splits: int = Field(5, ge=2, le=1000, description="folds of the cross-validation")
    search: bool = Field(False, description="choose the classifiers' parameters by folds inside each training part")
    trials: int = Field(
        0, ge=0, le=10_000, description="search by so many trials of optuna (an extra); 0 is by a small grid"
    )
    calibrate: Literal["none", "logistic", "temperature", "isotonic"] = Field(
        "none",
        description="make probabilities mean what they say, by held-out scores of the training part: by intercept "
        "and slope, by a temperature (no intercept), or by steps",
    )
    threshold: str | None = Field(
        None,
        description="by which probability a cell is predicted, chosen inside the training part: balanced-accuracy, "
        "or of two classes sensitivity:SHARE; or given: a number for two classes, CLASS:SHARE,.. for each of more; "
        "default the most probable class",
    )
    bootstrap: int = Field(
        2000,
        ge=100,
        le=1_000_000,
        description="samples of subjects behind the best of many, corrected; without a pick it does nothing",
    )
    null: int = Field(
        0,
        ge=0,
        le=10_000,
        description="learn so many times anew by labels permuted by subject: what the whole road scores by chance",
    )
    learning_curve: bool = Field(
        False, description="also learn the best entry from a quarter, a half and three quarters of the subjects"
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of every random choice")

    def params(self, classifier: str) -> dict[str, Any]:
        """The parameters of a classifier by name, and how it is to search."""
        searched = {"search": True} if self.search or self.trials else {}
        tried = {"trials": self.trials} if self.trials else {}
        return {**searched, **tried, **self.classifiers.get(classifier, {})}

    @property
    def minds_sources(self) -> bool:
        """Whether the sources of cells have a say in a fit."""
        return self.harmonise.method != "none" or self.stability is not None
