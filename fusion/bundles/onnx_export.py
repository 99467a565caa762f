"""A model as one ONNX file: from features, or images, to probabilities; checked against the original.

What cuts the cell out and measures it stays with Fusion: the file begins where the feature table (or the image that
the network sees) begins; that of a model of patients with the rows of one patient's cells, however many. Its
metadata say what the columns are and how images are taken.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.bundles.inference import by_subject
from fusion.bundles.model_bundle import ModelBundle, load_model
from fusion.bundles.onnx_graph import FEATURES, IMAGES, NETWORK_OUTPUT, Graph
from fusion.data.classifier_inputs import CellInputs
from fusion.data.dataset import Fault, fault_row, load_dataset
from fusion.data.patients.bags import Bags, split_rows
from fusion.errors import FusionError, UsageError
from fusion.features.store import FeatureStore
from fusion.image_transforms.dataset_transforms import as_trained
from fusion.io.output_files import write_output
from fusion.learning.bags.mean_of_cells import MeanOfCells
from fusion.learning.decision.calibration import Calibration
from fusion.learning.decision.late_fusion import LEAST, LateFusion
from fusion.learning.fused_model import FusedModel
from fusion.learning.study import Study
from fusion.plugins.classifiers import HasTrialRows, MindsSources, ToOnnx
from fusion.plugins.networks import NetworkToOnnx, TakesImages
from fusion.progress import Progress
from fusion.settings.commands import ExportConfig
from fusion.settings.data import Unit
from fusion.settings.outputs import one_run_of

if TYPE_CHECKING:
    from fusion.feature_transforms.fusion_layer import FusionLayer

#: Names of the outputs.
PROBABILITY, LABEL = "probability", "label"

#: Largest difference of a probability before calibration at which a file is written: from features by the rounding of
#: 32 bits, of a network by what other kernels make of the same convolutions. Where a calibration rises steeply it makes
#: more of either, and as much more is allowed.
TOLERANCE, NETWORK_TOLERANCE = 1e-5, 1e-4

#: Rows of the trial that needs no data; of patients the cells of each.
_TRIAL = 512
_TRIAL_PATIENTS = np.array([1, 1, 2, 3, 4, 5, 7, 10, 15, 16, 25, 60, 150, 500])

#: A protobuf cannot be larger.
_MAX_BYTES = (1 << 31) - 1

#: Fusion's own: logarithms of probabilities are taken no further, as in ``fusion.learning.decision.calibration``.
_LEAST = 1e-12


class ExportError(FusionError):
    """A model that has no ONNX form, or whose ONNX form gives other numbers."""


@dataclass(frozen=True)
class Difference:
    """How far the file is from the model.

    Attributes
    ----------
    on : what was asked: "a trial", or the name of the data.
    unit : what was judged, "cell" or "subject".
    rows : how many of these.
    probability : the largest difference of any probability.
    labels : how many of these are predicted as another class.
    is_within : whether the difference is one of rounding: see ``TOLERANCE``.
    """

    on: str
    unit: Unit
    rows: int
    probability: float
    labels: int
    is_within: bool


@dataclass(frozen=True)
class Exported:
    """What was written: its size, inputs and outputs with type and shape, and how far it is from the model."""

    path: Path
    size_bytes: int
    inputs: dict[str, str]
    outputs: dict[str, str]
    differences: tuple[Difference, ...]
    faults: tuple[Fault, ...]
    root: Path

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "onnx": str(self.path),
            "bytes": self.size_bytes,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "differences": [dataclasses.asdict(difference) for difference in self.differences],
            "faults": [fault_row(fault, self.root) for fault in self.faults],
        }


@one_run_of
def export_onnx(config: ExportConfig, progress: Progress | None = None) -> Exported:
    """Write the model as ONNX, after running both on a trial and, where some is given, on data.

    Raises
    ------
    UsageError : the extra ``onnx`` is not installed.
    ExportError : the classifier has no ONNX form, or the file's numbers are not the model's; nothing is written.
    BundleError, FusionError : the model or the data cannot be read.
    """
    check_packages()
    bundle = load_model(config.model)
    model, trial = build(bundle)
    if model.ByteSize() > _MAX_BYTES:
        raise ExportError(f"{config.model} is too large for ONNX", found=f"{model.ByteSize() >> 20} MB")
    content = model.SerializeToString()
    session = _session(content)
    asked = trial if bundle.transforms or isinstance(trial, Bags) else trial.X
    checks = [_compare("a trial", session, trial, bundle, lambda model: model.model.predict_proba(asked))]
    faults: tuple[Fault, ...] = ()
    root = Path()
    if config.check is not None:
        found, root = _measured(config, config.check, bundle, progress)
        faults = found.faults
        if len(found):
            judged = by_subject(found) if bundle.unit == "subject" else found
            asked_of = _inputs(judged, bundle)
            on = str(config.check)
            checks.append(_compare(on, session, asked_of, bundle, lambda model: model.predict_proba(judged)))
    for check in checks:
        if not check.is_within:
            raise ExportError(
                f"the ONNX form of {config.model} gives other probabilities than the model",
                found=f"up to {check.probability:.2g} on {check.on}",
                do="Nothing was written; report this.",
            )
    write_output(config.onnx, content)
    inputs, outputs = _format_values(session.get_inputs()), _format_values(session.get_outputs())
    return Exported(config.onnx, len(content), inputs, outputs, tuple(checks), faults, root)


def _measured(config: ExportConfig, data: Path, bundle: ModelBundle, progress: Progress | None) -> tuple[Study, Path]:
    """The cells of ``check`` as ``predict`` measures them, whatever is there, labelled or not; and the data's root."""
    part = "all" if data.is_dir() else None
    dataset = load_dataset(
        data, part=part, reading=config, needs_labels=False, mask_levels=config.mask_levels, store=config.store
    )
    store = FeatureStore(config.store)
    shown, _ = as_trained(bundle.normaliser, dataset, store, jobs=config.jobs, progress=progress)
    found = Study.of(shown, bundle.blocks, bundle.transforms, store, jobs=config.jobs, progress=progress)
    return found, dataset.root


def check_packages() -> None:
    """UsageError where the extra ``onnx`` is not installed."""
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            "fusion export needs ONNX", found=f"no package {', '.join(missing)}", do="pip install 'fusion-cells[onnx]'"
        )


def _inputs(study: Study, bundle: ModelBundle) -> CellInputs | Bags:
    """What a model takes of cells, or of patients."""
    if isinstance(study.table.X, Bags):
        return study.table.X
    for transform in bundle.transforms:
        return study.inputs(transform, list(study.table.blocks), study.everyone)
    return CellInputs(study.table.X, study.table.blocks)


def build(bundle: ModelBundle) -> tuple[Any, CellInputs | Bags]:
    """The ``onnx.ModelProto`` of a model, and made-up cells, or patients, to try it on.

    Raises
    ------
    ExportError : the classifier has no ONNX form, or the model harmonises features.
    """
    import onnx

    fused, columns = bundle.model, len(bundle.columns)
    classifier: object = fused.classifier
    if isinstance(classifier, MindsSources) and classifier.judges_together:
        raise ExportError(
            "a network whose batch norms are those of the cells it judges has no ONNX form",
            do="Train with batch_statistics: training.",
        )
    if fused.harmoniser is not None:
        raise ExportError(
            "a model that harmonises features has no ONNX form",
            found=f"harmonise: method: {fused.harmoniser.method}",
            expected="features that are taken as they are, whatever site they are from",
            do="Train without harmonise.",
        )
    about = {
        "columns": json.dumps(list(bundle.columns)),
        "classes": json.dumps(bundle.classes),
        "unit": bundle.unit,
    }
    trial: CellInputs | Bags
    if isinstance(classifier, TakesImages) and isinstance(classifier, NetworkToOnnx):
        content, trial = classifier.to_onnx_network(columns)
        graph, proba = Graph(onnx.load_from_string(content)), NETWORK_OUTPUT
        if trial.source is not None:
            transform: Any = classifier.input_transform()  # a dataclass by protocol
            about["images"] = json.dumps(dataclasses.asdict(transform))
    elif not isinstance(classifier, TakesImages) and _has_onnx_form(fused):
        graph = Graph()
        rows = graph.input(FEATURES, np.float32, ("n", columns))
        proba = _classify(graph, rows, fused)
        trial = _trial(bundle)
    else:
        raise ExportError(
            f"classifier '{bundle.classifier}' has no ONNX form",
            expected="one with to_onnx, as those that come with Fusion have",
        )
    _calibrate_and_threshold(graph, proba, bundle)
    return graph.model(about), trial


def _has_onnx_form(fused: FusedModel) -> bool:
    classifier = fused.classifier
    if isinstance(classifier, LateFusion):
        return all(map(_has_onnx_form, classifier.members.values()))
    return isinstance(_of_cells(classifier), ToOnnx)


def _of_cells(classifier: object) -> object:
    """The classifier itself, or the one of cells whose mean over a patient's cells is the patient's."""
    return classifier.classifier if isinstance(classifier, MeanOfCells) else classifier


def _classify(graph: Graph, rows: str, fused: FusedModel) -> str:
    """float64 (n, K): what layer and classifier give, or the pool of those of each block; (1, K) of a patient."""
    classifier = fused.classifier
    if isinstance(classifier, LateFusion):
        return _pool(graph, rows, classifier)
    own = _of_cells(classifier)
    assert isinstance(own, ToOnnx)  # as asked before
    proba = own.to_onnx(graph, rows if fused.layer is None else _fuse(graph, rows, fused.layer))
    return graph.add("ReduceMean", proba, axes=[0], keepdims=1) if isinstance(classifier, MeanOfCells) else proba


def _pool(graph: Graph, rows: str, late: LateFusion) -> str:
    """float64 (n, K): what ``LateFusion.predict_proba`` gives, up to a constant that a softmax does not mind."""
    margins = graph.constant(late.intercepts[None])
    for (name, member), weight in zip(late.members.items(), late.weights, strict=True):
        part = late.columns[name]
        own = graph.add("Gather", rows, np.arange(part.start, part.stop), axis=1)
        logs = graph.add("Log", graph.add("Max", _classify(graph, own, member), np.array(LEAST)))
        margins = graph.add("Add", margins, graph.add("Mul", logs, np.array(weight)))
    return graph.add("Softmax", margins, axis=1)


#: What a layer's state holds of a block, see ``FusionLayer.state``.
_BLOCK_ARRAYS = ("columns", "informative", "fill", "centre", "spread", "mean", "factor")


def _fuse(graph: Graph, rows: str, layer: FusionLayer) -> str:
    """float64 (n, d_out): what ``FusionLayer.transform`` gives, in the same steps."""
    state = layer.state()
    blocks = []
    for at, weight in enumerate(state["weights"]):
        part = {name: state[f"{at}.{name}"] for name in _BLOCK_ARRAYS}
        x = graph.cast(graph.add("Gather", rows, part["columns"].astype(np.int64), axis=1), np.float64)
        x = graph.add("Where", graph.add("IsNaN", x), part["fill"], x)
        x = graph.add("Div", graph.add("Sub", x, part["centre"]), part["spread"])
        if layer.clip is not None and layer.scale != "none":
            x = graph.add("Clip", x, np.array(-layer.clip, np.float64), np.array(layer.clip, np.float64))
        x = graph.add("Where", part["informative"], x, np.array(0.0))
        if (part["factor"] != 1).any():
            x = graph.add("Mul", x, part["factor"])
        components = state.get(f"{at}.components")
        if components is not None:
            x = graph.add("MatMul", graph.add("Sub", x, part["mean"]), np.ascontiguousarray(components.T))
        blocks.append(graph.add("Mul", x, np.array(weight)))
    return graph.add("Concat", *blocks, axis=1)


def _calibrate_and_threshold(graph: Graph, proba: str, bundle: ModelBundle) -> None:
    """Calibration, and the predicted class, as the model says."""
    fused, classes = bundle.model, bundle.classes
    if fused.calibration is not None:
        proba = _calibrate(graph, proba, fused.calibration)
    if fused.costs is not None:
        # Summed as numpy does: a product of matrices may differ in the last bit, and so where two classes tie.
        parts = [
            graph.add("Mul", graph.add("Gather", proba, np.array([at]), axis=1), np.ascontiguousarray(row[None]))
            for at, row in enumerate(fused.costs)
        ]
        total = parts[0]
        for part in parts[1:]:
            total = graph.add("Add", total, part)
        column = graph.add("ArgMin", total, axis=1, keepdims=0)
    elif fused.threshold is None or bundle.positive is None:
        column = graph.add("ArgMax", proba, axis=1, keepdims=0)
    else:
        positive = classes.index(bundle.positive)
        score = graph.add("Gather", proba, np.array(positive), axis=1)
        is_positive = graph.add("GreaterOrEqual", score, np.array(fused.threshold, np.float64))
        column = graph.add("Where", is_positive, np.array(positive), np.array(1 - positive))
    graph.output(graph.cast(proba, np.float32), PROBABILITY, np.float32, ("n", len(classes)))
    graph.output(graph.add("Gather", graph.constant(np.array(classes)), column), LABEL, np.str_, ("n",))


def _calibrate(graph: Graph, proba: str, calibration: Calibration) -> str:
    """float64 (n, K): what ``Calibration.apply`` gives."""
    if not calibration.knots:
        logs = graph.add("Log", graph.add("Max", proba, np.array(_LEAST)))
        scaled = graph.add("Mul", logs, np.array(calibration.slopes))
        return graph.add("Softmax", graph.add("Add", scaled, np.array(calibration.intercepts)), axis=1)
    columns = [1] if len(calibration.knots) == 1 else range(len(calibration.knots))
    mapped = [
        _interpolate(graph, graph.add("Gather", proba, np.array([column]), axis=1), *map(np.array, knots))
        for column, knots in zip(columns, calibration.knots, strict=True)
    ]
    if len(mapped) == 1:
        return graph.add("Concat", graph.add("Sub", np.array(1.0), mapped[0]), mapped[0], axis=1)
    together = graph.add("Concat", *mapped, axis=1)
    return graph.add("Div", together, graph.add("ReduceSum", together, np.array([1]), keepdims=1))


def _interpolate(graph: Graph, x: str, steps: NDArray[np.float64], heights: NDArray[np.float64]) -> str:
    """float64 (n, 1): the broken line through the knots, level beyond them, as a sum of what each piece adds."""
    if len(steps) == 1:
        return graph.add("Add", graph.add("Mul", x, np.array(0.0)), heights[:1])
    width = np.diff(steps)
    within = graph.add("Max", graph.add("Sub", x, steps[:-1]), np.array(0.0))
    share = graph.add("Div", graph.add("Min", within, width), width)
    return graph.add("Add", graph.add("MatMul", share, np.diff(heights)[:, None]), heights[:1])


# ---- the check -------------------------------------------------------------------------------------------------------


def _trial(bundle: ModelBundle) -> CellInputs | Bags:
    """Cells, or patients of one and of many, that nobody has seen."""
    draw, columns = np.random.default_rng(0), len(bundle.columns)
    if bundle.unit == "cell":
        return CellInputs(_made_up(bundle.model, _TRIAL, columns, draw), {})
    rows = _made_up(bundle.model, int(_TRIAL_PATIENTS.sum()), columns, draw)
    return Bags(rows, split_rows(_TRIAL_PATIENTS))


def _made_up(fused: FusedModel, count: int, columns: int, draw: np.random.Generator) -> NDArray[np.float32]:
    """float32 (count, d): rows around those that the model was fitted on, one value in twenty missing."""
    classifier: object = _of_cells(fused.classifier)
    if isinstance(classifier, LateFusion):
        X: NDArray[Any] = np.zeros((count, columns), np.float32)
        for name, member in classifier.members.items():
            part = classifier.columns[name]
            X[:, part] = _made_up(member, count, part.stop - part.start, draw)
        return np.asarray(X, np.float32)
    if fused.layer is None and isinstance(classifier, HasTrialRows):
        X = classifier.trial_rows(count, draw)
    else:
        X = draw.normal(size=(count, columns))
        if fused.layer is not None:
            state = fused.layer.state()
            for at in range(len(state["weights"])):
                own = state[f"{at}.columns"]
                X[:, own] = X[:, own] * state[f"{at}.spread"] + state[f"{at}.centre"]
    X = np.asarray(X, np.float32)
    X[draw.random(X.shape) < 0.05] = np.nan
    return X


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: what it would have liked better is of no use to anyone here
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _runs(inputs: CellInputs | Bags, names: set[str]) -> Iterator[dict[str, NDArray[Any]]]:
    """What the file is given: cells some at a time, and the cells of one patient at a time."""
    if isinstance(inputs, Bags):
        for own in inputs.rows:
            yield {FEATURES: np.asarray(inputs.cells[own], np.float32)}
        return
    for start in range(0, len(inputs), _TRIAL):
        rows = np.arange(start, min(start + _TRIAL, len(inputs)))
        given: dict[str, NDArray[Any]] = {FEATURES: inputs.X[rows]} if FEATURES in names else {}
        yield given | ({IMAGES: inputs.images(rows)} if IMAGES in names else {})


def _compare(
    on: str,
    session: Any,
    inputs: CellInputs | Bags,
    bundle: ModelBundle,
    judge: Callable[[ModelBundle], NDArray[np.float64]],
) -> Difference:
    """Run file and model on the same cells or patients; ``judge`` asks a model for the probabilities of these."""
    found, labels = [], []
    for given in _runs(inputs, {value.name for value in session.get_inputs()}):
        proba, label = session.run([PROBABILITY, LABEL], given)
        found.append(proba)
        labels += list(label)
    expected = judge(bundle)
    difference = np.abs(np.concatenate(found) - expected)
    tolerance = NETWORK_TOLERANCE if bundle.transforms else TOLERANCE
    allowed = np.full_like(difference, tolerance)
    if (calibration := bundle.model.calibration) is not None:
        plain = judge(replace(bundle, model=replace(bundle.model, calibration=None)))
        for column in range(plain.shape[1]):
            for side in (-tolerance, tolerance):
                moved = plain.copy()
                moved[:, column] = np.clip(moved[:, column] + side, 0, 1)
                allowed = np.maximum(allowed, np.abs(calibration.apply(moved) - expected))
    positive = None if bundle.positive is None else bundle.classes.index(bundle.positive)
    predicted_labels = [bundle.classes[at] for at in bundle.model.decision.predicted(expected, positive)]
    others = sum(a != b for a, b in zip(labels, predicted_labels, strict=True))
    return Difference(
        on, bundle.unit, len(inputs), float(difference.max()), others, bool((difference <= allowed).all())
    )


def _format_values(values: Any) -> dict[str, str]:
    return {value.name: f"{value.type} {value.shape}" for value in values}
