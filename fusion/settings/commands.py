"""What each command takes: one checked model a command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from fusion.settings._base import (
    MAX_JOBS,
    MAX_SEED,
    Lists,
    LocalOrRemotePath,
    Names,
    Numbers,
    OnlyWith,
    Outputs,
    Pairs,
    Settings,
)
from fusion.settings.data import MASK_LEVELS, DataSettings, ReadingSettings, Unit
from fusion.settings.features import OWN, FeatureSettings
from fusion.settings.learning import (
    ComparisonSettings,
    CostSettings,
    FitSettings,
    Fuse,
    JudgementSettings,
    PromiseSettings,
    SubgroupSettings,
    TrackedSettings,
)
from fusion.settings.mask_levels import MaskLevelsText
from fusion.settings.threshold_text import given_thresholds

#: Files of a result's folder under names that a user may have given, too.
RESULT_FILES = ("result.json", "config.yaml", "table.csv", "table.tex", "scores.parquet", "report.html", "methods.md")


def _of_no_rule(value: Any) -> Any:
    if isinstance(value, str) and value.partition(":")[0] in ("balanced-accuracy", "sensitivity"):
        raise ValueError(
            "a number; a rule is followed inside training parts, by fusion train and ablate: on the cells that are "
            "judged it would flatter"
        )
    if value is not None and given_thresholds(str(value)) is None:
        raise ValueError("a number between 0 and 1 for two classes, or CLASS:SHARE,.. for each")
    return None if value is None else str(value)


#: A threshold for cells that are judged, not learnt from.
Threshold = Annotated[str | None, BeforeValidator(_of_no_rule)]


#: What is stated of new sites.
SITE_CLASSES: Any = Field(
    {},
    description="classes that the cells of a new source are of, where not of all: NAME=A,B, the only ones that it is "
    "compared with; for models that estimate the mix of classes",
)


class LoadConfig(DataSettings):
    """fusion.load"""


class InspectConfig(DataSettings):
    """fusion inspect"""

    output_folders: ClassVar[Outputs] = {"overlays": (), "output": ()}
    only_with: ClassVar[OnlyWith] = {"overlay_cells": ("overlays", "--overlays FOLDER")}

    splits: int = Field(5, ge=2, le=1000, description="folds of the random split whose leaks are counted")
    overlays: Path | None = Field(None, description="folder for contact sheets of the contours found")
    # Four sheets of 24: as many as one looks at.
    overlay_cells: int = Field(
        96, ge=0, le=1_000_000, description="cells on the contact sheets, spread evenly; 0 draws all"
    )
    audit: bool = Field(
        False,
        description="look for shortcuts: whether background, marks, light, focus, size, format, camera or order tell "
        "the class",
    )
    shift: bool = Field(False, description="measure the cells, and tell how far each source lies from the others")
    labels: Path | None = Field(
        None,
        description="folder of a result on these cells or patients, by whose held-out scores labels that may be wrong "
        "are found",
    )
    output: Path | None = Field(
        None, description="with shift: folder for a drawing of the sources side by side; with labels: for the table"
    )
    jobs: int = Field(0, ge=0, le=MAX_JOBS, description="worker processes of audit and shift; 0 is one a core")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of the choice of cells, and of the audit's folds")


class SegmentConfig(DataSettings):
    """fusion segment"""

    output_folders: ClassVar[Outputs] = {"output": ("cells.csv",)}

    output: Path = Field(description="folder for masks and the table of cells")
    segmenter: str = Field("rules", description="what finds the cells: rules, or a plug-in; fusion plugins lists all")
    segmenters: dict[str, dict[str, Any]] = Field({}, description="parameters of segmenters by NAME")

    @model_validator(mode="after")
    def _are_of_the_segmenter(self) -> Self:
        if others := sorted(set(self.segmenters) - {self.segmenter}):
            raise ValueError(f"segmenters: parameters of {', '.join(others)}, which finds no cell here")
        return self


class ExtractConfig(DataSettings, FeatureSettings):
    """fusion extract"""

    output_files: ClassVar[Outputs] = {"export": (".parquet", ".csv", ".h5ad"), "faults": (".csv",), "log": ()}

    export: Path | None = Field(None, description="write the table as .parquet, .csv or .h5ad")
    faults: Path | None = Field(None, description="write the skipped images as CSV: file, stage, reason")
    # Not written back: where cells were measured is not part of what they are.
    scheduler: str | None = Field(None, exclude=True, description="address of a Dask scheduler, whose workers measure")
    log: Path | None = Field(None, description="add what happens to this file, one JSON object a line")


class LearnConfig(DataSettings, FeatureSettings, FitSettings, TrackedSettings):
    """What commands that learn have in common."""

    output_folders: ClassVar[Outputs] = {"output": RESULT_FILES}
    only_with: ClassVar[OnlyWith] = {"nested": ("cnn_crossfit", "--cnn-crossfit")}

    unit: Unit | None = Field(
        None,
        description="what is learnt and judged: cell, or subject, a bag of cells with one label, which is the table's "
        "subject_label, else that of its cells; default subject where a table has subject_label and no label",
    )
    cnn_crossfit: bool = Field(
        False,
        description="train the network behind a block (cnn) anew in every training part, by settings of its classifier",
    )
    nested: bool = Field(
        False,
        description="with cnn_crossfit: train networks inside each training part too, for what needs held-out scores "
        "there (an SVM's sigmoid, calibrate, threshold); six times the networks",
    )
    near_duplicates: int = Field(
        0, ge=0, le=64, description="keep images together whose hashes differ in at most so many of 256 bits"
    )
    allow_leakage: bool = Field(
        False, description="take networks that have learnt from these cells, and subjects that --test shares; stamped"
    )
    output: Path = Field(description="folder of the result, or of the model")

    @property
    def blocks(self) -> list[str]:
        """The chosen blocks; none for "none", where a classifier looks at images alone."""
        if self.features == ["none"]:
            return [name for name in self.extractors if name.startswith(("own.", "control."))]
        return super().blocks

    @property
    def judges(self) -> list[str]:
        """Names of the classifiers."""
        raise NotImplementedError


EXACT_UP_TO = Field(
    20_000,
    ge=0,
    description="training cells above which SVMs go by landmarks (Nystroem), stamped approximate: exact ones of 20,000 "
    "hold 6 GB",
)


class TrainConfig(LearnConfig):
    """What ``fusion train`` takes; ``fusion settings train`` says what each key means.

    Examples
    --------
    >>> TrainConfig(data="cells", output="model").classifier
    'svm'
    """

    output_files: ClassVar[Outputs] = {"show_batch": (".png",), "show_attention": (".png",)}
    output_folders: ClassVar[Outputs] = {"output": (), "tensorboard": (), "report": RESULT_FILES}
    writes_model: ClassVar[bool] = True

    classifier: str = Field("svm", description="name of a classifier: svm, xgb, logreg, neural, or a plug-in")
    fuse: Fuse = Field(
        "weighted",
        description="how blocks are fused: weighted (equal weights, then one row) or concatenate (one row as it is), "
        "both before the classifier; or late, by scores of a classifier of each block",
    )
    exact_up_to: int = EXACT_UP_TO
    # Not written back: where trees were grown is not part of what they are.
    scheduler: str | None = Field(
        None, exclude=True, description="for trees: address of a Dask scheduler whose workers grow them"
    )
    holdout: bool = Field(False, description="judge on one of the folds alone, where fitting on all costs too much")
    resume: bool = Field(False, description="go on with the training of a network that was interrupted")
    show_batch: Path | None = Field(None, description="draw what the network is shown, as .png, then train it")
    show_attention: Path | None = Field(None, description="draw where the trained network looks, as .png")
    tensorboard: Path | None = Field(None, description="of a network: folder for loss and score of every epoch")
    # Not written back: who runs the configuration again would write over it.
    report: Path | None = Field(
        None,
        exclude=True,
        description="folder for the figures of the held-out cells: page, tables and scores; a model holds none of them",
    )
    force: bool = Field(
        False, exclude=True, description="replace a model that is in output, a result that is in report"
    )

    @property
    def judges(self) -> list[str]:
        """The classifier."""
        return [self.classifier]

    def params(self, classifier: str) -> dict[str, Any]:
        """The parameters of a classifier by name; one that trains on a cluster is told which."""
        return {**super().params(classifier), **({"scheduler": self.scheduler} if self.scheduler else {})}


class EvaluateConfig(DataSettings, PromiseSettings, SubgroupSettings, CostSettings):
    """What ``fusion evaluate`` takes; ``fusion settings evaluate`` says what each key means.

    Examples
    --------
    >>> EvaluateConfig(model="model", data="new cells", output="result").allow_leakage
    False
    """

    output_folders: ClassVar[Outputs] = {"output": RESULT_FILES}
    only_with: ClassVar[OnlyWith] = {"stress_cells": ("stress", "--stress")}

    model: Path = Field(description="folder of a model")
    output: Path = Field(description="folder of the result")
    site_classes: Lists = SITE_CLASSES
    own: Pairs = OWN
    jobs: int = Field(0, ge=0, le=MAX_JOBS, description="worker processes; 0 is one a core")
    allow_leakage: bool = Field(False, description="score cells and subjects the model was trained on; stamped")
    near_duplicates: int = Field(
        0,
        ge=0,
        le=64,
        description="refuse images whose hashes differ in at most so many of 256 bits from one trained on; the model "
        "must have been trained with it",
    )
    other_cohort: bool = Field(
        False, description="these are other people than those of training, whatever names they share"
    )
    prevalence: float = Field(0.5, gt=0, lt=1, description="share of positives for which PPV and NPV are reported")
    threshold: Threshold = Field(
        None,
        description="from which probability a cell is predicted positive, or CLASS:SHARE,.. for each of more than two "
        "classes; default the model's own rule",
    )
    stress: bool = Field(
        False,
        description="also judge cells, or patients, as worse images show them: blur, noise, light, stain, JPEG, scale",
    )
    stress_cells: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="cells that are stressed, each measured a dozen times; 0 stresses all; default 200, and 2000 where "
        "patients are judged, as many of each",
    )
    force: bool = Field(False, exclude=True, description="replace a result that is in output")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of draws")


class AdaptConfig(DataSettings):
    """fusion adapt"""

    output_files: ClassVar[Outputs] = {"to_label": (".csv",)}
    output_folders: ClassVar[Outputs] = {"output": ()}
    writes_model: ClassVar[bool] = True

    model: Path = Field(description="folder of a model")
    k: Numbers = Field([5, 20, 100], description="labelled cells, or patients, of each class to show what they bring")
    output: Path | None = Field(None, description="folder of the adapted model")
    to_label: Path | None = Field(
        None, description="write what to label next, as .csv that is DATA again: the largest k for each class"
    )
    site_classes: Lists = SITE_CLASSES
    own: Pairs = OWN
    jobs: int = Field(0, ge=0, le=MAX_JOBS, description="worker processes; 0 is one a core")
    force: bool = Field(False, exclude=True, description="replace a model that is in output")
    allow_leakage: bool = Field(False, description="adapt to cells and subjects the model was trained on")
    other_cohort: bool = Field(
        False, description="these are other people than those of training, whatever names they share"
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of the draws of labelled cells")

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if not self.k or min(self.k) < 1:
            raise ValueError("k: numbers of cells from 1 on, as 5,20,100")
        return self


class PredictConfig(ReadingSettings, PromiseSettings):
    """What ``fusion predict`` takes; ``fusion settings predict`` says what each key means.

    Examples
    --------
    >>> len(PredictConfig(model="model", images=["cell.bmp"]).images)
    1
    """

    output_files: ClassVar[Outputs] = {"csv": (".csv",), "parquet": (".parquet",)}
    output_folders: ClassVar[Outputs] = {"explain": ()}

    model: Path = Field(description="folder of a model")
    images: list[LocalOrRemotePath] = Field(min_length=1, description="images, folders or tables")
    csv: Path | None = Field(None, description="write the predictions as CSV")
    parquet: Path | None = Field(None, description="write the predictions as Parquet")
    explain: Path | None = Field(None, description="folder to explain every cell in, as fusion explain does")
    mask_levels: MaskLevelsText | None = MASK_LEVELS
    source: str | None = Field(None, description="source of all cells for which none is named")
    site_classes: Lists = SITE_CLASSES
    store: LocalOrRemotePath | None = Field(
        None, description="feature store; default $FUSION_CACHE or the cache folder"
    )
    own: Pairs = OWN
    jobs: int = Field(0, ge=0, le=MAX_JOBS, description="worker processes; 0 is one a core")


#: What an explanation's map of a deep block is found by.
MapBy = Literal["shapley", "rollout"]


class ExplainConfig(ReadingSettings):
    """fusion explain"""

    output_folders: ClassVar[Outputs] = {"output": ("explanations.html",)}

    model: Path = Field(description="folder of a model")
    images: list[LocalOrRemotePath] = Field(min_length=1, description="images, folders or tables")
    output: Path = Field(description="folder for the figures and the page")
    top: int = Field(6, ge=1, le=50, description="features shown for a class, and as many against it")
    map: MapBy = Field(
        "shapley",
        description="the map of a deep block: shapley, where it has what it adds; or rollout, which patches a "
        "transformer attends to, whatever the class",
    )
    data: LocalOrRemotePath | None = Field(None, description="the training data, to show the cells most like each")
    mask_levels: MaskLevelsText | None = MASK_LEVELS
    source: str | None = Field(None, description="source of all cells for which none is named")
    site_classes: Lists = SITE_CLASSES
    store: LocalOrRemotePath | None = Field(
        None, description="feature store; default $FUSION_CACHE or the cache folder"
    )
    own: Pairs = OWN
    jobs: int = Field(0, ge=0, le=MAX_JOBS, description="worker processes; 0 is one a core")


class ServeConfig(Settings):
    """fusion serve"""

    model: Path = Field(description="folder of a model")
    host: str = Field("127.0.0.1", min_length=1, description="where to listen; beyond loopback it is open to others")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes any free one")
    source: str | None = Field(None, description="source of all cells that are sent")
    site_classes: Lists = SITE_CLASSES
    files: int = Field(64, ge=1, le=1000, description="images in a request, at most")
    file_mb: int = Field(32, ge=1, le=1024, description="megabytes of an image, at most")
    request_mb: int = Field(64, ge=1, le=4096, description="megabytes of a request, at most")
    megapixels: int = Field(16, ge=1, le=67, description="million pixels of an image; of a request four times that")
    timeout: float = Field(60.0, gt=0, le=3600, description="seconds that a request may take")


#: What a comparison can be controlled by.
CONTROLS = ("random", "colour", "size")

#: How often folds are dealt: by one deal the luck of the folds is taken for that of the feature sets.
REPEATS = 5


class AblateConfig(LearnConfig, ComparisonSettings):
    """What ``fusion ablate`` takes; ``fusion settings ablate`` says what each key means.

    Examples
    --------
    >>> AblateConfig(data="cells", features="morphology,colour", output="result").blocks
    ['morphology', 'colour']
    """

    only_with: ClassVar[OnlyWith] = {"test_part": ("test", "--test DATA"), "other_cohort": ("test", "--test DATA")}

    # The chosen names; parameters by name are in ``classifiers``, as for fusion train.
    compare: Names = Field(
        ["svm", "xgb", "logreg"], description="classifiers to compare: svm, xgb, logreg, neural, or plug-ins"
    )
    force: bool = Field(False, exclude=True, description="replace a result that is in output")
    split: Literal[
        "grouped",
        "source-stratified",
        "leave-one-source-out",
        "leave-one-subject-out",
        "official",
        "monte-carlo",
        "random",
    ] = Field("grouped", description="how cells are dealt; 'random' leaks, and is stamped so")
    subsets: Names = Field(
        [],
        description="sets of blocks: all, sampled, alone, leave-one-out, or named ones, a+b,c; default all of up to 6 "
        "blocks, else sampled",
    )
    fuse: Names = Field(
        ["weighted"],
        description="ways of fusing blocks to compare: weighted, concatenate, late; see fusion settings train",
    )
    repeats: int | None = Field(
        None, ge=1, le=1000, description="how often folds are dealt; default 5, for monte-carlo 20"
    )
    site_classes: Lists = SITE_CLASSES
    in_source: bool = Field(
        True, description="leave-one-source-out: also judge cells by models that know their source, and tell the drop"
    )
    control: Names = Field(
        [],
        description="controls as entries of their own: random (an untrained network as the first cnn), colour (mean "
        "colour), size (area), or none; default random where a pretrained cnn is compared",
    )
    show_leak: bool = Field(False, description="also report by how much a random split would flatter")
    audit: bool = Field(
        False, description="also look for shortcuts: whether what is no part of the cells tells their class"
    )
    test: LocalOrRemotePath | None = Field(
        None, description="an external test set: learn from all of data, judge on this"
    )
    test_part: Literal["train", "validation", "test", "preliminary", "final", "all"] | None = Field(
        None, description="part of the external test set"
    )
    other_cohort: bool = Field(False, description="test holds other people than data, whatever names they share")
    exact_up_to: int = EXACT_UP_TO
    memory_gb: float | None = Field(None, gt=0, description="for shared distances; default half the machine's memory")
    # Above, distances of one block are 3 GB, and an exact SVM of a thousand columns takes a quarter of an hour.

    @model_validator(mode="after")
    def _with_known_fusions(self) -> Self:
        if not self.fuse or (unknown := [name for name in self.fuse if name not in get_args(Fuse)]):
            known = ", ".join(get_args(Fuse))
            raise ValueError(f"fuse: one or more of {known}, not {unknown[0] if self.fuse else 'nothing'}")
        return self

    @model_validator(mode="after")
    def _with_controls(self) -> Self:
        """Controls are blocks ``control.KIND``, each with the parameters of what it controls."""
        if unknown := [kind for kind in self.control if kind not in (*CONTROLS, "none")]:
            raise ValueError(f"control: {', '.join(CONTROLS)} or none, not {unknown[0]}")
        network = self._pretrained_network()
        asked = self.control or (["random"] if network is not None and not self.cnn_crossfit else [])
        if "random" in asked and network is None:
            raise ValueError("control: random is of a pretrained network behind a block, and there is none")
        known: dict[str, dict[str, Any]] = {f"control.{kind}": {"kind": kind} for kind in asked if kind != "none"}
        if "control.random" in known:
            known["control.random"]["network"] = json.dumps(network, sort_keys=True)
        if known:
            object.__setattr__(self, "extractors", {**self.extractors, **known})
        return self

    def _pretrained_network(self) -> dict[str, Any] | None:
        """Parameters of the first block whose network's weights are not random; None without one."""
        from fusion.plugins import registry
        from fusion.plugins.extractors import HasWeights

        for block in self.blocks:
            family = block.partition(".")[0]
            if family not in registry.names(registry.EXTRACTORS):
                continue  # refused where blocks are built
            if isinstance(registry.plugin_class(registry.EXTRACTORS, family), HasWeights):
                shared = {"weights": self.weights, "backbone": self.backbone, "input": self.input}
                own = {name: value for name, value in shared.items() if value is not None}
                own |= self.extractors.get(block, {})
                if own.get("weights") != "random":
                    return own
        return None

    @property
    def judges(self) -> list[str]:
        """The classifiers that are compared."""
        return self.compare

    @property
    def rounds(self) -> int:
        """How often folds are dealt."""
        return self.repeats or (20 if self.split == "monte-carlo" else REPEATS)


class JudgeConfig(JudgementSettings, PromiseSettings, ComparisonSettings, SubgroupSettings, CostSettings):
    """fusion judge"""

    output_folders: ClassVar[Outputs] = {"output": RESULT_FILES}

    scores: Path = Field(description="a CSV or Parquet table, one row a scored cell")
    output: Path = Field(description="folder of the result")
    threshold: Threshold = Field(
        None,
        description="from which probability a cell is predicted positive, or CLASS:SHARE,.. for each of more than two "
        "classes, for all rows; default the most probable",
    )
    force: bool = Field(False, exclude=True, description="replace a result that is in output")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of every random choice")


class CompareConfig(Settings):
    """fusion compare"""

    output_files: ClassVar[Outputs] = {"output": (".csv",)}

    results: list[Path] = Field(min_length=2, description="folders of results on the same cells")
    output: Path | None = Field(None, description="write the comparison as .csv")


class PlanConfig(Settings):
    """fusion plan"""

    result: Path | None = Field(
        None, description="a result to plan by, its folder or a table of scores; default by what is assumed"
    )
    entries: Names = Field(
        [], description="two entries of the result, as svm/morphology+texture; default the best against all others"
    )
    difference: float = Field(0.05, gt=0, lt=1, description="of balanced accuracy, to be found")
    power: float = Field(0.8, ge=0.1, lt=1, description="probability that it is found")
    subjects: Numbers = Field(
        [], description="subjects of each class, which also tell the shares; default those of the result, or equal"
    )
    # Without a result. Where the correlations are from is said in docs/evaluation.md.
    accuracy: float = Field(0.85, gt=0, lt=1, description="assumed: share of a class's cells that is recognised")
    cells: float = Field(100, ge=1, description="assumed: cells of a subject")
    within_subject: float = Field(
        0.2, ge=0, le=1, description="assumed: correlation of whether two cells of a subject are recognised"
    )
    between_sets: float = Field(
        0.66, ge=0, lt=1, description="assumed: correlation of what both sets recognise of a subject"
    )
    training_variance: float = Field(
        0.6, ge=0, le=5, description="what training on other subjects adds to the variance, as a share"
    )


class ExportConfig(ReadingSettings):
    """fusion export"""

    output_files: ClassVar[Outputs] = {"onnx": (".onnx",)}

    model: Path = Field(description="folder of a model")
    onnx: Path = Field(description="file to write, as .onnx")
    check: LocalOrRemotePath | None = Field(
        None, description="images, a folder or a table on which file and model are compared"
    )
    mask_levels: MaskLevelsText | None = MASK_LEVELS
    store: LocalOrRemotePath | None = Field(
        None, description="feature store; default $FUSION_CACHE or the cache folder"
    )
    jobs: int = Field(0, ge=0, le=MAX_JOBS, description="worker processes; 0 is one a core")


class SynthesizeConfig(Settings):
    """fusion synthesize"""

    output_folders: ClassVar[Outputs] = {"output": ()}

    output: Path = Field(description="folder to make")
    subjects: int = Field(24, le=100_000, description="as many of each class")
    cells: int = Field(20, ge=1, le=100_000, description="cells of each subject")
    cells_spread: float = Field(
        0.0, ge=0, le=3, description="standard deviation between subjects of the logarithm of that number"
    )
    classes: int = Field(2, ge=2, le=4, description="healthy, acute lymphoblastic, acute myeloid, chronic lymphocytic")
    witness_rate: float = Field(
        1.0, gt=0, le=1, description="share of a leukaemic subject's cells that are leukaemic, the others healthy"
    )
    witness_spread: float = Field(
        0.5, ge=0, le=10, description="standard deviation between subjects of that share's logit"
    )
    age_gap: float = Field(0.0, ge=-100, le=100, description="years by which leukaemic subjects are older on average")
    age_effect: float = Field(
        0.0, ge=0, le=10, description="how far 15 years move the traits of all cells towards leukaemic ones"
    )
    real_cells: Path | None = Field(
        None, description="make no images: patients out of the labelled cells of this data set, as a table"
    )
    witnesses: Names = Field([], description="real_cells: classes of cells that only the ill have, each an illness")
    normal: Names = Field([], description="real_cells: classes of the other cells; default all others")
    class_effect: float = Field(1.0, ge=0, description="multiplies the difference between the classes")
    subject_effect: float = Field(1.0, ge=0, description="multiplies the difference between subjects")
    folds: int = Field(3, ge=1, le=10_000, description="folds of whole subjects")
    laboratories: int = Field(
        0, ge=0, le=1000, description="sites with other stains and cameras, each with these subjects"
    )
    jobs: int = Field(0, ge=0, le=MAX_JOBS, description="worker processes; 0 is one a core")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of every random choice; same seed, same bytes")


class DemoConfig(Settings):
    """fusion demo"""

    output_folders: ClassVar[Outputs] = {"output": ()}

    output: Path = Field(Path("fusion-demo"), description="folder to work in")
    # Enough subjects for five folds with both classes in each, few enough cells to be done in two minutes.
    subjects: int = Field(24, le=100_000, description="half of them leukaemic")
    cells: int = Field(20, ge=1, le=100_000, description="cells of each subject")
    jobs: int = Field(0, ge=0, le=MAX_JOBS, description="worker processes; 0 is one a core")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of every random choice")
