"""What each command can be told: one checked model a command, from defaults, a YAML file and the command line.

The same model is written back as ``config.yaml`` beside every result, so that a result can be made again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from fusion.errors import UsageError, did_you_mean
from fusion.places import is_url, place
from fusion.setting import settings_of


class ConfigError(UsageError):
    """A configuration file or option holds something that the command does not take."""


def _listed(value: Any) -> Any:
    """``a,b`` as a list, which is how lists are typed on a command line."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _each(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


Names = Annotated[
    list[str],
    BeforeValidator(_listed),
    WithJsonSchema({"type": ["array", "string"], "items": {"type": "string"}}),
]

#: A folder or file that may lie in an object store; all other paths are of this machine.
Place = Annotated[Path, BeforeValidator(lambda value: place(value) if isinstance(value, str | Path) else value)]

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+\Z")

#: The blocks that need nothing but the picture.
HANDCRAFTED = ("morphology", "texture", "colour")


def _is_network(block: str) -> bool:
    return block.partition(".")[0] == "cnn"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_here(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a URL where only a path of this machine will do: it would be taken for a folder named "s3:"."""
        field = cls.model_fields[str(info.field_name)]
        is_plain = (field.annotation is Path and not field.metadata) or Path in get_args(field.annotation)
        if is_plain and any(is_url(each) for each in _each(value) if isinstance(each, str | Path)):
            raise ValueError("a path of this machine; URLs are for data and store")
        return value


class TrackedSettings(_Settings):
    """Where a result is told of, beside its files."""

    # Not written back: it is not part of what makes the result, and a server's address may hold a password.
    mlflow: str | None = Field(
        None, exclude=True, description="log settings, figures and files to MLflow as well: its tracking URI"
    )


class DataSettings(_Settings):
    """Which cells."""

    data: Place = Field(description="a C-NMC tree, a folder of class folders, or a CSV/Parquet table")
    part: Literal["train", "preliminary", "final", "all"] | None = Field(None, description="part of a C-NMC release")
    classes: Names = Field([], description="only these classes")
    folds: Names = Field([], description="only these folds")
    sources: Names = Field([], description="only these sources")
    source: str | None = Field(None, description="source of all cells whose data set names none")
    store: Place | None = Field(None, description="feature store; default $FUSION_CACHE or the cache folder")


class SightSettings(_Settings):
    """What networks are shown, as an embedding (``cnn``) and end to end (``neural``)."""

    input: Literal["cell", "cell-on-grey", "field"] | None = Field(
        None,
        description="what a network is shown: the cell cut out on black (default), on grey, or with what is around it",
    )

    def _seeing(self, given: Mapping[str, Any], place: str) -> dict[str, Any]:
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


class FeatureSettings(SightSettings):
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
        """Names of what looks at pictures."""
        return [block for block in self.blocks if _is_network(block)]

    def extractor(self, name: str) -> dict[str, Any]:
        """The parameters of an extractor by the name of its block."""
        given = self.extractors.get(name, {})
        return self._seeing(given, f"extractors.{name}") if _is_network(name) else dict(given)


class ReinhardTarget(_Settings):
    """Mean and spread of L (0 to 100), a and b that the pixels of a cell are brought to."""

    mean: tuple[float, float, float] = Field(description="of L, a and b")
    spread: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field(description="standard deviations of L, a and b")


class NormaliseSettings(_Settings):
    """What pixels are changed by before they are measured; see ``fusion.normalisation``. By default nothing."""

    white_balance: bool = Field(False, description="make the light even by empty glass, where any is seen")
    reinhard: Path | ReinhardTarget | None = Field(
        None, description="bring the stain of every cell to that of a picture of a cell, or to mean and spread in Lab"
    )
    scale: Literal["none", "um_per_px", "red-cells", "median-size"] = Field(
        "none", description="pixels of one length, stated or told by red cells; or one median cell for all sources"
    )
    # A blast of 13 micrometres is 64 pixels across: coarse enough that most laboratories' pictures are made smaller.
    um_per_px: float = Field(
        0.2, ge=0.01, le=10, description="um_per_px, red-cells: micrometres on the side of every pixel afterwards"
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


class HarmoniseSettings(_Settings):
    """What features are changed by before they are fused; see ``fusion.harmonisation``. By default nothing."""

    method: Literal["none", "standard", "quantile"] = Field(
        "none", description="take out of features what only tells the source"
    )
    transductive: bool = Field(False, description="describe a new source by its cells that are judged; stamped")


class JitterSettings(_Settings):
    """Varied copies of training cells that models learn from too; see ``fusion.jitter``. By default none."""

    copies: int = Field(0, ge=0, le=20, description="of every training cell, to learn from beside it; 0 is none")
    of: Literal["source", "cell"] = Field(
        "source",
        description="one draw for all cells of a source and copy, as if of another laboratory; or each its own",
    )
    stain: float = Field(
        0.2, ge=0, le=1, description="standard deviation of optical density, of all channels and again of each"
    )
    brightness: float = Field(0.1, ge=0, lt=1, description="largest change of the light either way, as a share")
    scale: float = Field(0.2, ge=0, le=0.9, description="largest change of size either way, as a share")
    blur: float = Field(1.0, ge=0, le=20, description="largest sigma of a Gaussian, pixels")
    noise: float = Field(3.0, ge=0, le=100, description="largest standard deviation of noise, grey levels")
    jpeg: int = Field(70, ge=0, le=100, description="lowest quality of a JPEG that copies go through; 0 or 100 is none")
    outline: float = Field(0.05, ge=0, le=0.5, description="largest change of outlines, as a share of the radius")

    @model_validator(mode="after")
    def _varies(self) -> JitterSettings:
        how_far = (self.stain, self.brightness, self.scale, self.blur, self.noise, self.jpeg % 100, self.outline)
        if self.copies and not any(how_far):
            raise ValueError("something that copies differ by: all of stain, brightness, scale .. are 0")
        return self


class FitSettings(SightSettings):
    """How layer and classifiers are fitted and judged."""

    classifiers: dict[str, dict[str, Any]] = Field({}, description="parameters of classifiers by name")
    layer: dict[str, Any] = Field({}, description="parameters of the fusion layer")
    normalise: NormaliseSettings = Field(NormaliseSettings(), description="how pixels are changed before measuring")
    harmonise: HarmoniseSettings = Field(HarmoniseSettings(), description="how features are changed before fusing")
    stability: float | None = Field(
        None, gt=0, le=1, description="leave out features that tell training sources apart: least share that does not"
    )
    jitter: JitterSettings = Field(JitterSettings(), description="varied copies of training cells, to learn from too")
    splits: int = Field(5, ge=2, le=1000, description="folds of the cross-validation")
    positive: str | None = Field(None, description="class that sensitivity is about")
    search: bool = Field(False, description="choose the classifiers' parameters by folds inside each training part")
    trials: int = Field(
        0, ge=0, le=10_000, description="search by so many trials of optuna (an extra); 0 is by a small grid"
    )
    calibrate: Literal["none", "temperature", "isotonic"] = Field(
        "none", description="make probabilities mean what they say, by held-out scores of the training part"
    )
    threshold: str | None = Field(
        None,
        description="from which probability a cell is positive, chosen inside the training part: balanced-accuracy, "
        "sensitivity:SHARE, or a number; default the most probable class",
    )
    bootstrap: int = Field(2000, ge=100, le=1_000_000, description="replicates behind every interval")
    seed: int = Field(0, ge=0, description="seed of every random choice")

    def params(self, classifier: str) -> dict[str, Any]:
        """The parameters of a classifier by name."""
        searched = {"search": True} if self.search or self.trials else {}
        tried = {"trials": self.trials} if self.trials else {}
        return {**searched, **tried, **self.given(classifier)}

    def given(self, classifier: str) -> dict[str, Any]:
        """The parameters of a classifier as they were given, with what a network is shown."""
        found = dict(self.classifiers.get(classifier, {}))
        if classifier == "neural" and self.input is not None:
            found["network"] = self._seeing(found.get("network", {}), "classifiers.neural.network")
        return found

    @property
    def minds_sources(self) -> bool:
        """Whether the sources of cells have a say in a fit."""
        return self.harmonise.method != "none" or self.stability is not None


class InspectConfig(DataSettings):
    """fusion inspect"""

    splits: int = Field(5, ge=2, le=1000, description="folds of the random split whose leaks are counted")
    overlays: Path | None = Field(None, description="folder for contact sheets of the outlines found")
    # Four sheets of 24: as many as one looks at.
    overlay_cells: int = Field(96, ge=0, description="cells on the contact sheets, spread evenly; 0 draws all")
    shift: bool = Field(False, description="measure the cells, and tell how far each source lies from the others")
    output: Path | None = Field(None, description="with shift: folder for a drawing of the sources side by side")
    jobs: int = Field(0, ge=0, description="worker processes of overlays and shift; 0 is one a core")
    seed: int = Field(0, ge=0, description="seed of the choice of cells on the contact sheets")


class ExtractConfig(DataSettings, FeatureSettings):
    """fusion extract"""

    export: Path | None = Field(None, description="write the table as .parquet, .csv or .h5ad")
    faults: Path | None = Field(None, description="write the skipped images as CSV: file, stage, reason")
    # Not written back: where cells were measured is not part of what they are.
    scheduler: str | None = Field(None, exclude=True, description="address of a Dask scheduler, whose workers measure")
    log: Path | None = Field(None, description="add what happens to this file, one JSON object a line")


class TrainConfig(DataSettings, FeatureSettings, FitSettings, TrackedSettings):
    """fusion train"""

    classifier: str = Field("svm", description="svm, xgb, logreg, neural, or a plug-in")
    # Not written back: where trees were grown is not part of what they are.
    scheduler: str | None = Field(None, exclude=True, description="xgb: address of a Dask scheduler that grows trees")
    holdout: bool = Field(False, description="judge on one of the folds alone, where fitting on all costs too much")
    resume: bool = Field(False, description="neural: go on with a training that was interrupted")
    show_batch: Path | None = Field(None, description="neural: draw what the network is shown, as .png, then train")
    show_attention: Path | None = Field(None, description="neural: draw where the trained network looks, as .png")
    tensorboard: Path | None = Field(None, description="neural: folder for loss and score of every epoch")
    cnn_crossfit: bool = Field(
        False, description="train the network behind cnn anew in every fold, as classifiers.neural says"
    )
    allow_leakage: bool = Field(False, description="take networks that have learnt from these cells; stamped")
    output: Path = Field(description="folder of the model")

    @property
    def blocks(self) -> list[str]:
        """The chosen blocks; none for "none", where a classifier looks at pictures alone."""
        return [] if self.features == ["none"] else super().blocks

    def params(self, classifier: str) -> dict[str, Any]:
        """The parameters of a classifier by name; one that trains on a cluster is told which."""
        return {**super().params(classifier), **({"scheduler": self.scheduler} if self.scheduler else {})}

    @property
    def networks(self) -> list[str]:
        """Names of what looks at pictures."""
        return [*super().networks, *(["neural"] if self.classifier == "neural" else [])]


class EvaluateConfig(DataSettings):
    """fusion evaluate"""

    model: Path = Field(description="folder of a model")
    output: Path = Field(description="folder of the result")
    jobs: int = Field(0, ge=0, description="worker processes; 0 is one a core")
    bootstrap: int = Field(2000, ge=100, le=1_000_000, description="replicates behind every interval")
    allow_leakage: bool = Field(False, description="score cells and subjects the model was trained on; stamped")
    seed: int = Field(0, ge=0, description="seed of the bootstrap")


class PredictConfig(_Settings):
    """fusion predict"""

    model: Path = Field(description="folder of a model")
    images: list[Place] = Field(min_length=1, description="images, folders or tables")
    csv: Path | None = Field(None, description="write the predictions as CSV")
    parquet: Path | None = Field(None, description="write the predictions as Parquet")
    explain: Path | None = Field(None, description="folder to explain every cell in, as fusion explain does")
    source: str | None = Field(None, description="source of all cells for which none is named")
    store: Place | None = Field(None, description="feature store; default $FUSION_CACHE or the cache folder")
    jobs: int = Field(0, ge=0, description="worker processes; 0 is one a core")


class ExplainConfig(_Settings):
    """fusion explain"""

    model: Path = Field(description="folder of a model")
    images: list[Place] = Field(min_length=1, description="images, folders or tables")
    output: Path = Field(description="folder for the figures and the page")
    top: int = Field(6, ge=1, le=50, description="features shown for a class, and as many against it")
    data: Place | None = Field(None, description="the training data, to show the cells most like each")
    source: str | None = Field(None, description="source of all cells for which none is named")
    store: Place | None = Field(None, description="feature store; default $FUSION_CACHE or the cache folder")
    jobs: int = Field(0, ge=0, description="worker processes; 0 is one a core")


class ServeConfig(_Settings):
    """fusion serve"""

    model: Path = Field(description="folder of a model")
    host: str = Field("127.0.0.1", min_length=1, description="where to listen; beyond loopback it is open to others")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes any free one")
    source: str | None = Field(None, description="source of all cells that are sent")
    files: int = Field(64, ge=1, le=1000, description="images in a request, at most")
    file_mb: int = Field(32, ge=1, le=1024, description="megabytes of an image, at most")
    request_mb: int = Field(64, ge=1, le=4096, description="megabytes of a request, at most")
    megapixels: int = Field(16, ge=1, le=67, description="million pixels of an image; of a request four times that")
    timeout: float = Field(60.0, gt=0, le=3600, description="seconds that a request may take")


class AblateConfig(DataSettings, FeatureSettings, FitSettings, TrackedSettings):
    """fusion ablate"""

    # The chosen names; parameters by name are in ``classifiers``, as for fusion train.
    compare: Names = Field(["svm", "xgb", "logreg"], description="classifiers to compare")
    split: Literal[
        "grouped", "source-stratified", "leave-one-source-out", "leave-one-subject-out", "official", "monte-carlo",
        "random",
    ] = Field("grouped", description="how cells are dealt; 'random' leaks, and is stamped so")  # fmt: skip
    subsets: Names = Field(
        [],
        description="sets of blocks: all, sampled, alone, leave-one-out, or named ones, a+b,c; default all of up to 6 "
        "blocks, else sampled",
    )
    repeats: int | None = Field(
        None, ge=1, le=1000, description="how often folds are dealt; default 1, for monte-carlo 20"
    )
    in_source: bool = Field(
        True, description="leave-one-source-out: also judge cells among their own, and tell the drop"
    )
    show_leak: bool = Field(False, description="also report by how much a random split would flatter")
    test: Place | None = Field(None, description="an external test set: learn from all of data, judge on this")
    test_part: Literal["train", "preliminary", "final", "all"] | None = Field(
        None, description="part of the external test set"
    )
    near_duplicates: int = Field(
        0, ge=0, le=64, description="keep pictures together whose hashes differ in at most so many of 256 bits"
    )
    cnn_crossfit: bool = Field(
        False, description="train the network behind cnn anew in every split, as classifiers.neural says"
    )
    allow_leakage: bool = Field(False, description="take networks that have learnt from these cells; stamped")
    prevalence: float = Field(0.5, gt=0, lt=1, description="share of positives for which PPV and NPV are told")
    memory_gb: float | None = Field(None, gt=0, description="for shared distances; default half the machine's memory")
    # Above, distances of one block are 3 GB, and an exact machine of a thousand columns takes a quarter of an hour.
    exact_up_to: int = Field(
        20_000, ge=0, description="training cells above which machines go by landmarks (Nystroem), stamped approximate"
    )
    output: Path = Field(description="folder of the result")

    @property
    def rounds(self) -> int:
        """How often folds are dealt."""
        return self.repeats or (20 if self.split == "monte-carlo" else 1)


class CompareConfig(_Settings):
    """fusion compare"""

    results: list[Path] = Field(min_length=2, description="folders of results on the same cells")
    output: Path | None = Field(None, description="write the comparison as .csv")
    bootstrap: int = Field(2000, ge=100, le=1_000_000, description="replicates behind every interval")
    seed: int = Field(0, ge=0, description="seed of the bootstrap")


class ExportConfig(_Settings):
    """fusion export"""

    model: Path = Field(description="folder of a model")
    onnx: Path = Field(description="file to write, as .onnx")
    check: Place | None = Field(None, description="images, a folder or a table on which file and model are compared")
    store: Place | None = Field(None, description="feature store; default $FUSION_CACHE or the cache folder")
    jobs: int = Field(0, ge=0, description="worker processes; 0 is one a core")


class SynthesizeConfig(_Settings):
    """fusion synthesize"""

    output: Path = Field(description="folder to make")
    subjects: int = Field(24, description="half of them leukaemic")
    cells: int = Field(20, ge=1, description="cells of each subject")
    class_effect: float = Field(1.0, ge=0, description="multiplies the difference between the classes")
    subject_effect: float = Field(1.0, ge=0, description="multiplies the difference between subjects")
    folds: int = Field(3, ge=1, description="folds of whole subjects")
    laboratories: int = Field(
        0, ge=0, description="laboratories with other stains and cameras, each with these subjects"
    )
    jobs: int = Field(0, ge=0, description="worker processes; 0 is one a core")
    seed: int = Field(0, ge=0, description="seed of every random choice; same seed, same bytes")


class DemoConfig(_Settings):
    """fusion demo"""

    output: Path = Field(Path("fusion-demo"), description="folder to work in")
    # Enough subjects for five folds with both classes in each, few enough cells to be done in two minutes.
    subjects: int = Field(24, description="half of them leukaemic")
    cells: int = Field(20, ge=1, description="cells of each subject")
    bootstrap: int = Field(2000, ge=100, le=1_000_000, description="replicates behind every interval")
    jobs: int = Field(0, ge=0, description="worker processes; 0 is one a core")
    seed: int = Field(0, ge=0, description="seed of every random choice")


Config = TypeVar("Config", bound=BaseModel)


def build_config(
    kind: type[Config], *, file: Path | None = None, settings: Sequence[str] = (), options: Mapping[str, Any]
) -> Config:
    """A checked configuration: options of the command line over ``--set`` over the file over the defaults.

    Parameters
    ----------
    kind : the command's model.
    file : YAML.
    settings : ``key=value`` texts; dots lead into nested settings, values are read as YAML. A parameter of an extractor
        is ``extractors.FAMILY.PARAMETER``, or ``extractors.FAMILY.NAME.PARAMETER`` where the block has a name.
    options : nested plain values; None means not given.

    Raises
    ------
    ConfigError : unknown key, wrong value, unreadable or dangerous YAML.
    """
    merged: dict[str, Any] = {} if file is None else read_yaml(file)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError("--set takes key=value", found=setting)
        _merge(merged, _nest(_keys(key), parse_yaml(value, f"--set {key}")))
    _merge(merged, _given(options))
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        raise _refusal(kind, error, file) from error


def _refusal(kind: type[BaseModel], error: ValidationError, file: Path | None) -> ConfigError:
    """What is wrong first, and where it was given."""
    errors = error.errors()
    # An unknown key may be why another is missing: it is the one to name.
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return ConfigError(f"no '{where}' given", do="Give it on the command line, or in a --config file.")
    source = f" in {file}" if file and where.partition(".")[0] in read_yaml(file) else ""
    found = str(first["input"])[:100] if isinstance(first["input"], Path) else repr(first["input"])[:100]
    if first["type"] == "extra_forbidden":
        return ConfigError(
            f"unknown setting '{where}'{source}",
            found=found,
            expected=", ".join(_fields(kind, first["loc"][:-1])),
            do=did_you_mean(where, [setting.key for setting in settings_of(kind)]) or "fusion settings lists them all.",
        )
    # Pydantic's own words before what is expected.
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return ConfigError(f"wrong setting '{where}'{source}", found=found, expected=expected)


def _fields(kind: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """Names of the settings that there are at a place within a model."""
    for name in place:
        nested = getattr(kind.model_fields.get(str(name)), "annotation", None)
        if not (isinstance(nested, type) and issubclass(nested, BaseModel)):
            break
        kind = nested
    return list(kind.model_fields)


def write_config(config: BaseModel) -> str:
    """YAML that ``build_config`` reads back to the same configuration."""
    import yaml

    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file; see ``parse_yaml``."""
    try:
        content = parse_yaml(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}", found=str(error)) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file} holds no settings", found=type(content).__name__, expected="key: value lines")
    return content


def parse_yaml(text: str, source: str) -> Any:
    """Plain values from YAML, without aliases (they can grow to any size) and without a key given twice.

    Raises
    ------
    ConfigError : names ``source`` and the line.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.MarkedYAMLError(problem="an alias (*name)", problem_mark=self.peek_event().start_mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if str(key.value) in seen:
                    raise yaml.MarkedYAMLError(problem=f"'{key.value}' twice", problem_mark=key.start_mark)
                seen.add(str(key.value))
            return super().construct_mapping(node, deep)

    # YAML 1.1 takes 1e-4 for text, since it has no point.
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))

    try:
        return yaml.load(text, Loader)  # a SafeLoader: builds plain values only
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"line {line} of {source} is not a setting", found=str(error.problem)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not YAML", found=" ".join(str(error).split())) from error


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _keys(key: str) -> list[str]:
    """The keys that a dotted one leads through: a block that has a name of its own, ``cnn.b3``, is one key."""
    keys = key.split(".")
    if keys[0] == "extractors" and len(keys) == 4:
        return [keys[0], ".".join(keys[1:3]), keys[3]]
    return keys


def _nest(keys: Sequence[str], value: Any) -> dict[str, Any]:
    return {keys[0]: value if len(keys) == 1 else _nest(keys[1:], value)}


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that were given; a nested mapping counts if anything in it was."""
    nested = {key: _given(value) if isinstance(value, Mapping) else value for key, value in options.items()}
    return {key: value for key, value in nested.items() if value is not None and value != {} and value != ()}
