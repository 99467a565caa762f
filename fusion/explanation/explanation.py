"""Why a model calls a cell what it calls it: what speaks for and against, in the field's words.

Pure: a model and a cell in, plain values and arrays out. Drawing is in ``reports.explanation_figure``, files are
written by ``workflows.explain``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.bundles.inference import judge_study
from fusion.bundles.model_bundle import ModelBundle
from fusion.errors import UsageError
from fusion.explanation._attribution import Attribution, attribute
from fusion.explanation._feature_groups import GroupShare as GroupShare
from fusion.explanation._feature_groups import choose_named, group_shares
from fusion.explanation._spatial_attribution import SpatialAttribution, attribute_to_pixels
from fusion.feature_transforms.block_columns import block_slices
from fusion.image_transforms.dataset_transforms import cells_as_trained
from fusion.images.cell import Cell, CellError
from fusion.io.files import printable
from fusion.learning.study import Study
from fusion.plugins.classifiers import MindsSources
from fusion.plugins.extractors import Describing, Description, RollsOut, SpatialExtractor
from fusion.plugins.networks import ExplainsImages, TakesImages
from fusion.settings.commands import MapBy

#: Features shown for and against: more than a dozen in all nobody reads.
TOP = 6

#: Letters of a unit that is said with a value; a longer one is a definition.
_UNIT = 16

#: Words of a feature's name that are abbreviations, and are written so.
_ABBREVIATIONS = {
    word.lower(): word for word in ("GLCM", "GLRLM", "GLSZM", "LBP", "TAS", "FFT", "HSV", "LUV", "NGTDM", "GLDM", "PCA")
}


@dataclass(frozen=True)
class Reason:
    """One feature that speaks for or against a class in one cell.

    Attributes
    ----------
    column : ``block.feature``.
    words : the feature's name as one says it.
    definition, unit : as the extractor describes it, "" where it does not.
    value : of this cell, NaN where undefined.
    contribution : above 0 for the class, below 0 against it; in the unit of the model's score.
    medians, below : for each class, the median of its training cells, and the share of them whose value is below; NaN
        where there is none.
    group : what it is filed under, see ``Description``.
    agreement : what people see that it agrees with, "" where that was not measured.
    spreads : for each class the values that 5, 25, 50, 75 and 95% of its training cells lie below.
    """

    column: str
    words: str
    definition: str
    unit: str
    value: float
    contribution: float
    medians: tuple[float, ...]
    below: tuple[float, ...]
    group: str = ""
    agreement: str = ""
    spreads: tuple[tuple[float, ...], ...] = ()

    @property
    def block(self) -> str:
        """The block that the feature belongs to."""
        return self.column.rpartition(".")[0]

    @property
    def sentence(self) -> str:
        """Name, value and unit, where the unit is a word or two."""
        if np.isnan(self.value):
            return f"{self.words} undefined"
        unit = "" if self.unit == "none" else self.unit.partition(",")[0]
        return f"{self.words} = {number(self.value)}" + (f" {unit}" if 0 < len(unit) <= _UNIT else "")

    def held_to(self, classes: Sequence[str]) -> str:
        """How the value compares with the training cells of each class: "above 92% of 'hem', below 60% of 'all'"."""
        return ", ".join(
            f"above {_percent(share)} of '{label}'" if share >= 0.5 else f"below {_percent(1 - share)} of '{label}'"
            for label, share in zip(classes, self.below, strict=True)
            if not np.isnan(share)
        )

    def usual(self, classes: Sequence[str]) -> str:
        """The classes' medians: "medians hem 1.02, all 1.2"."""
        known = [f"{c} {number(m)}" for c, m in zip(classes, self.medians, strict=True) if not np.isnan(m)]
        return f"medians {', '.join(known)}" if known else ""


@dataclass(frozen=True, eq=False)
class Explanation:
    """One cell and why it was predicted as it was.

    Attributes
    ----------
    name, cell : which cell.
    classes, proba : probability of each class, calibrated where the model is.
    predicted : the predicted class, which reasons are for or against.
    attribution : what each feature and block adds, and how that was found.
    reasons : the features that add most for (first) and against ``predicted``, the strongest first in each.
    attention : float32 (H, W) in [0, 1] over ``cell.rgb``, what a network looks at for ``predicted``; None without one.
    spatial : where a deep block has what it adds for and against ``predicted``; None without one.
    distance : from the training cells, see ``fusion.learning.novelty``: above 1 the cell is out of distribution. None
        if not
    known.
    rolled_out : whether ``attention`` is a transformer's attention rollout, which is the same for every class.
    groups : what each group of features adds, the strongest first; of each block they sum to what the block adds.
    label : what the cell is labelled, None where nobody says so.
    """

    name: str
    cell: Cell
    classes: tuple[str, ...]
    proba: tuple[float, ...]
    predicted: str
    attribution: Attribution
    reasons: tuple[Reason, ...]
    attention: NDArray[np.float32] | None
    spatial: SpatialAttribution | None
    distance: float | None
    rolled_out: bool = False
    groups: tuple[GroupShare, ...] = ()
    label: str | None = None

    def reasons_of(self, share: GroupShare) -> tuple[Reason, ...]:
        """The features of a group that are named: those that agree with pathologists first, then the strongest."""
        own = [reason for reason in self.reasons if (reason.block, reason.group) == (share.block, share.name)]
        return tuple(sorted(own, key=lambda reason: (not reason.agreement, -abs(reason.contribution))))

    @property
    def speaks_for(self) -> tuple[Reason, ...]:
        """Reasons for the predicted class."""
        return tuple(reason for reason in self.reasons if reason.contribution > 0)

    @property
    def speaks_against(self) -> tuple[Reason, ...]:
        """Reasons not to."""
        return tuple(reason for reason in self.reasons if reason.contribution < 0)

    @property
    def verdict(self) -> str:
        """The class and how sure the model is, in one line."""
        said = f"{self.predicted}, probability {self.proba[self.classes.index(self.predicted)]:.3f}"
        return f"not judged (nearest to {said})" if self.warning else f"predicted {said}"

    @property
    def map_caption(self) -> str:
        """What the map beside the cell shows, "" where there is none."""
        if self.rolled_out:
            return "where the encoder's features come from (attention rollout), whatever the class"
        if self.attention is not None:
            return f"where the network looks for {self.predicted}: brighter and warmer"
        if self.spatial is not None:
            return f"where {self.spatial.block} speaks for {self.predicted} (blue), and against it (orange)"
        return ""

    @property
    def warning(self) -> str:
        """Why the cell is not judged, which must be said before anything else; "" where it is."""
        if self.label is not None and self.label not in self.classes:
            known = ", ".join(self.classes)
            return f"Not judged: labelled '{self.label}', a class that the model was never taught. It knows {known}."
        if self.distance is None or self.distance <= 1:
            return ""
        far = f"{self.distance:.1f} times as far from the training cells as is usual"
        return f"Not judged: out of distribution, {far}. The class means little."

    def to_json(self) -> dict[str, Any]:
        """Plain values: everything but images."""
        found = self.attribution

        def plain(value: float) -> float | None:
            return None if np.isnan(value) else float(value)

        return {
            "name": self.name,
            "class": self.predicted,
            "probability": dict(zip(self.classes, self.proba, strict=True)),
            "distance": self.distance,
            "out_of_distribution": None if self.distance is None else self.distance > 1,
            "not_judged": self.warning,
            "score": found.score,
            "base": found.base,
            "blocks": dict(found.blocks),
            "groups": [
                {"block": share.block, "group": share.name, "value": share.value, "all_other_features": share.rest}
                for share in self.groups
            ],
            "method": found.method,
            "limits": found.limits,
            "map": None
            if self.spatial is None
            else {"block": self.spatial.block, "values": self.spatial.values.tolist()},
            "features": [
                {
                    "feature": reason.column,
                    "group": reason.group,
                    "words": reason.words,
                    "definition": reason.definition,
                    "unit": reason.unit,
                    "value": plain(reason.value),
                    "contribution": reason.contribution,
                    "median": dict(zip(self.classes, map(plain, reason.medians), strict=True)),
                    "below": dict(zip(self.classes, map(plain, reason.below), strict=True)),
                }
                for reason in self.reasons
            ],
        }


def explain_cell(
    bundle: ModelBundle, cell: Cell, name: str, source: str | None = None, *, top: int = TOP
) -> Explanation:
    """Measure a cell in memory and explain what the model makes of it.

    ``source`` is the site it is from; a model that normalises or harmonises by site cannot learn what a new
    one is like from one cell (see ``predict_cells`` for many).

    Raises
    ------
    CellError : an extractor cannot measure it.

    Examples
    --------
    >>> cell = load("cells").samples[0].read_cell()  # doctest: +SKIP
    >>> explain_cell(load_model("model"), cell, "a cell").predicted  # doctest: +SKIP
    """
    (cell,), _ = cells_as_trained(bundle.normaliser, [cell], source)
    found = Study.of_cells([cell], [name], bundle.blocks, bundle.transforms, source)
    if found.faults:
        raise CellError(found.faults[0].reason)
    judged = judge_study(bundle, found, Path())
    distance = None if judged.distance is None else float(judged.distance[0])
    return explain_measured(
        bundle, cell, name, judged.table.X[0], judged.proba[0], judged.predicted[0], distance, top=top
    )


def explain_measured(
    bundle: ModelBundle,
    cell: Cell,
    name: str,
    features: NDArray[np.float32],
    proba: NDArray[np.float64],
    predicted: str,
    distance: float | None,
    *,
    top: int = TOP,
    map_by: MapBy = "shapley",
    label: str | None = None,
) -> Explanation:
    """Explain what a model has made of a cell.

    Parameters
    ----------
    cell : as the model measured it, normalised where it does that.
    features : float32 (d,), harmonised where the model does that: see ``Predictions.table``.
    proba, predicted, distance : what it said, see ``fusion.learning.predictions``.
    top : features shown for, and as many against.
    map_by : "shapley", where a deep block has what it adds; or "rollout", which patches a transformer's features come
        from, whatever the class.
    label : what the cell is labelled; of a class that the model was not taught it is not judged.

    Raises
    ------
    UsageError : a network whose batch norms are those of the cells beside it: no cell by itself explains what it says.
    """
    classifier = bundle.model.classifier
    _check_judges_alone(classifier)
    blocks = block_slices(bundle.columns)
    known = bundle.reference
    typical = np.full(len(features), np.nan, np.float32) if known is None else known.typical
    image = classifier.input_transform()([cell])[0] if isinstance(classifier, TakesImages) else None
    found = attribute(bundle.model, blocks, features, typical, predicted, image)
    about = descriptions(bundle)
    named = choose_named(found.columns, about, top)
    groups = group_shares(bundle.model, blocks, features, typical, found, [each.group for each in about], named, image)
    spatial = rolled = None
    if map_by == "rollout":
        rolled = _rollout(bundle, cell)
    elif image is None and known is not None:
        spatial = attribute_to_pixels(bundle.model, bundle.blocks, blocks, cell, features, known, found)
        if spatial is not None:
            found = replace(found, limits=f"{found.limits} {spatial.limits}")
    return Explanation(
        name=printable(name),
        cell=cell,
        classes=tuple(bundle.classes),
        proba=tuple(float(p) for p in proba),
        predicted=predicted,
        attribution=found,
        reasons=_reasons(bundle, features, about, groups),
        attention=_attention(classifier, cell, features, predicted) if rolled is None else rolled,
        spatial=spatial,
        rolled_out=rolled is not None,
        distance=distance,
        groups=groups,
        label=label,
    )


def _check_judges_alone(classifier: object) -> None:
    """UsageError for a network that judges all cells together."""
    if isinstance(classifier, MindsSources) and classifier.judges_together:
        raise UsageError(
            "a network whose batch norms are those of all cells it judges cannot be explained cell by cell",
            found="batch_statistics: source",
        )


def _attention(
    classifier: object, cell: Cell, features: NDArray[np.float32], predicted: str
) -> NDArray[np.float32] | None:
    """Where a network of images looks for the class; None where nothing can show it."""
    if not (isinstance(classifier, TakesImages) and isinstance(classifier, ExplainsImages) and classifier.has_map()):
        return None
    return classifier.attention_map(cell, target=predicted, features=features)


def _rollout(bundle: ModelBundle, cell: Cell) -> NDArray[np.float32]:
    """float32 (H, W) over ``cell.rgb`` of the first block whose network can be rolled out.

    Raises
    ------
    UsageError : the model has none.
    """
    for block in bundle.blocks:
        extractor = block.extractor
        if isinstance(extractor, RollsOut) and isinstance(extractor, SpatialExtractor):
            return extractor.resample_to_cell(extractor.rollout(cell), cell)
    raise UsageError(
        "attention rollout is of a transformer behind a block, and this model has none",
        found=", ".join(block.name for block in bundle.blocks) or "no blocks",
        do="Leave map=rollout out.",
    )


def _reasons(
    bundle: ModelBundle,
    features: NDArray[np.float32],
    about: Sequence[Description],
    groups: Sequence[GroupShare],
) -> tuple[Reason, ...]:
    """The features that are named: those that add most, then those that take most, the strongest first in each."""
    known = bundle.reference
    told = {at: (value, share.name) for share in groups for at, value in share.named.items()}
    nothing = (np.nan,) * len(bundle.classes)
    reasons = []
    for at, (contribution, group) in sorted(told.items(), key=lambda each: (each[1][0] < 0, -abs(each[1][0]))):
        value = float(features[at])
        reasons.append(
            Reason(
                bundle.columns[at],
                about[at].words or format_subject(about[at].name),
                about[at].definition,
                about[at].unit,
                value,
                contribution,
                nothing if known is None else tuple(known.medians(at).tolist()),
                nothing if known is None else tuple(known.shares_below(at, value).tolist()),
                group,
                about[at].agreement,
                () if known is None else tuple(map(tuple, known.spreads(at).tolist())),
            )
        )
    return tuple(reasons)


def descriptions(bundle: ModelBundle) -> list[Description]:
    """What the extractors say of every column; its bare name where one says nothing.

    A channel of a network is never named alone: its number says nothing.
    """
    networks = {block.name for block in bundle.blocks if isinstance(block.extractor, SpatialExtractor)}
    known = {
        f"{block.name}.{about.name}": about
        for block in bundle.blocks
        if isinstance(block.extractor, Describing)
        for about in block.extractor.describe()
    }
    found = []
    for column in bundle.columns:
        block, _, name = column.rpartition(".")
        found.append(known.get(column) or Description(name, "", is_quoted=block not in networks))
    return found


def number(value: float) -> str:
    """Three significant digits, and a power of ten only where there would be more than five zeros."""
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _percent(share: float) -> str:
    # Quantiles tell nothing about the last half percent, and no cell is beyond all that there will ever be.
    return "more than 99%" if share > 0.995 else f"{share:.0%}"


def format_subject(feature: str) -> str:
    """A feature's name as one says it: "nucleus_glcm_contrast_d1_mean" is "nucleus GLCM contrast d1 mean"."""
    return " ".join(_ABBREVIATIONS.get(word, word) for word in feature.split("_"))
