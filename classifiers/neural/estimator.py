"""The end-to-end network as a scikit-learn classifier, of images, of feature blocks, or of both."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import TypeAdapter, ValidationError
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from classifiers.neural import _few_labels, _network_files
from classifiers.neural._adapters import add_adapters, merge_adapters
from classifiers.neural._batch_norm_adaptation import check_moments, moments_of, new_sources, statistics_of
from classifiers.neural._blocks import block_sizes
from classifiers.neural._sampling import keep_back
from classifiers.neural._trainer import (
    Lesson,
    Log,
    Trainer,
    Training,
    Watch,
    identity,
    predict,
    predict_variants,
    return_to_rest,
)
from classifiers.neural.augmentation import Augmentation
from classifiers.neural.network import Design, Network, describe
from extractors.cnn.backbone import (
    Backbone,
    embed_in_batches,
    gives_map,
    load_backbone,
    save_backbone,
    untrained_backbone,
)
from extractors.cnn.extractor import TRAINED_ON
from extractors.cnn.input_transform import InputTransform
from extractors.cnn.network_config import RANDOM
from fusion.bundles.bundle_files import BundleError, refuse_others
from fusion.compute import torch_processes
from fusion.data.classifier_inputs import CellInputs
from fusion.errors import FusionError, UsageError, did_you_mean
from fusion.images.cell import Cell
from fusion.io.strict_json import parse_json

#: The one block of features that come as a plain matrix.
_UNNAMED = "features"

#: Files of a stored network: the backbone, which is a weights file for the extractor ``cnn`` too; all other tensors;
#: plain values.
BACKBONE_FILE, LAYERS, FACTS = "backbone.safetensors", "layers.safetensors", "network.json"

#: What names of ``moments_`` begin with among the tensors.
MOMENTS = "moments."

Settings = TypeVar("Settings", Design, Training, Augmentation)


class NeuralClassifier(ClassifierMixin, BaseEstimator):
    """A backbone with attention, a fusion layer for handcrafted blocks, and a head, trained together.

    By default the published recipe: EfficientNetV2-B3 with squeeze and excitation, focal loss, one cycle of AdamW.

    Parameters
    ----------
    network : settings of ``network.Design``.
    training : settings of ``trainer.Training``.
    augmentation : settings of ``augmentation.Augmentation``.
    turns : rotations, equally far apart, that a prediction is the mean over.
    batch_statistics : "training"; or "source": ten or more cells of a site that was not learnt from are judged by
        batch norms with their own means and spreads, brought to those of the training cells; see docs/neural.md.
    device : "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps". Of several processes each takes its own.
    threads : of a CPU while it is trained; None leaves it to torch. Small images are quickest on one: where other
        work shares the cores, two threads wait for each other longer than they work.
    random_state : seed of every random choice. On a CPU, and with as many threads, the same seed gives the same bits.

    Attributes
    ----------
    classes_ : the labels.
    network_ : the trained ``Network``.
    history_ : loss and validation macro F1 of every epoch.
    trained_parameters_ : how many values training could change.
    moments_ : what its batch norms are given for training cells; only of ``batch_statistics`` "source".
    """

    name: ClassVar[str] = "neural"
    prepares: ClassVar[str] = "raw"
    input_parameter: ClassVar[str] = "network.input"
    parameter_groups: ClassVar[Mapping[str, type]] = {
        "network": Design,
        "training": Training,
        "augmentation": Augmentation,
    }

    def __init__(
        self,
        network: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        augmentation: Mapping[str, Any] | None = None,
        turns: int = 1,
        batch_statistics: str = "training",
        device: str = "auto",
        threads: int | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.network = network
        self.training = training
        self.augmentation = augmentation
        self.turns = turns
        self.batch_statistics = batch_statistics
        self.device = device
        self.threads = threads
        self.random_state = random_state

    # ---- scikit-learn ------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: ArrayLike | CellInputs,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        *,
        watch: Watch | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        log: Log | None = None,
    ) -> Self:
        """Train on n cells and n labels; what is kept back to stop by is whole groups.

        Parameters
        ----------
        X : ``CellInputs``; or uint8 (n, S, S, 3), images as ``input_transform`` takes them; or float (n, d), features
            alone, for which there is no backbone. NaN marks what is undefined.
        watch : informed of every step.
        checkpoint : folder in which every epoch is kept, so that a training that was interrupted can go on.
        resume : go on from what is in ``checkpoint``, if there is anything.
        log : informed of every epoch, by number and values.

        Raises
        ------
        ValueError : a single class, settings that make no sense, or images of another size.
        WeightsError, UsageError : weights that cannot be had, a backbone that cannot do what is asked.
        CheckpointError : what is in ``checkpoint`` belongs to another training.
        """
        if y is None:
            raise ValueError("a classifier requires y to be passed, but the target y is None")
        design, how, variation = self._settings()
        inputs, labels = self._inputs(X, y)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("a classifier needs at least two classes; the data hold one class only")
        self.blocks_ = block_sizes(inputs.blocks)
        self.sources_ = sorted({"" if source is None else source for source in inputs.sources or (None,)})
        self.input_transform_ = None if inputs.source is None else self.input_transform()
        self._check_images(inputs)
        seed = 0 if self.random_state is None else int(self.random_state)
        train, held = keep_back(codes, groups, how.validation, seed)
        self.network_ = self._untrained_network(design, how, inputs, train, seed)
        lesson = Lesson(inputs, codes, len(self.classes_), train, held, self._is_black, self.turns)
        trainer = Trainer(self.network_, lesson, how, variation, seed, design.auxiliary)
        keep = None
        if checkpoint is not None:
            what = {"settings": (design, how, variation), "seed": seed, "turns": self.turns}
            keep = _keeping(checkpoint, trainer, lesson, what, resume=resume)
        self.trained_parameters_ = trainer.trained
        with _threads(self.threads):
            self.history_ = trainer.run(watch, keep, log).history
            if self.network_.backbone is not None:
                merge_adapters(self.network_.backbone.backbone)
            if self.batch_statistics == "source":
                self.moments_ = moments_of(self.network_, inputs, 4 * how.batch_size)
        self.provenance_ = {} if inputs.source is None else (design.extractor().provenance() or {})
        return self

    def predict_proba(self, X: ArrayLike | CellInputs) -> NDArray[np.float64]:
        """float64 (n, classes); X as in ``fit``, with the same blocks."""
        check_is_fitted(self)
        inputs, _ = self._inputs(X, None)
        if block_sizes(inputs.blocks) != self.blocks_ or (inputs.source is None) != (self.input_transform_ is None):
            raise ValueError(
                f"the network was fitted on {_describe_inputs(self.blocks_, self.input_transform_)}, and is asked "
                f"about "
                f"{_describe_inputs(block_sizes(inputs.blocks), inputs.source)}"
            )
        self._check_images(inputs)
        batch = 4 * self._settings()[1].batch_size
        is_black = self._is_black
        new = {} if self.batch_statistics == "training" else new_sources(self._sources(inputs), self.sources_)
        if not new:
            return predict(self.network_, inputs, batch, self.turns, is_black)
        proba = np.empty((len(inputs), len(self.classes_)))
        rest = np.setdiff1d(np.arange(len(inputs)), np.concatenate(list(new.values())))
        if len(rest):
            proba[rest] = predict(self.network_, inputs.take(rest), batch, self.turns, is_black)
        for rows in new.values():
            own = inputs.take(rows)
            with statistics_of(self.network_, own, batch, self.moments_):
                proba[rows] = predict(self.network_, own, batch, self.turns, is_black)
        return proba

    @property
    def judges_together(self) -> bool:
        """Whether cells of a new source are judged by batch norms of their own."""
        return self.batch_statistics != "training"

    def notes(self, sources: Sequence[str | None]) -> list[str]:
        """Stamps for a result on cells of these sources."""
        check_is_fitted(self)
        new = {} if self.batch_statistics == "training" else new_sources(sources, self.sources_)
        if not new:
            return []
        cells = sum(len(rows) for rows in new.values())
        who = ", ".join(name or "cells without a source" for name in new)
        return [f"transductive: batch norms by {cells} cells that are judged here, without labels ({who})"]

    # ---- another site ------------------------------------------------------------------------------------------------

    def head_inputs(self, X: CellInputs) -> NDArray[np.float32]:
        """float32 (n, turns, w): what the head is given of each cell, by the batch norms as they are."""
        check_is_fitted(self)
        self._check_images(X)
        return _few_labels.head_inputs(self.network_, X, 4 * self._settings()[1].batch_size, self.turns, self._is_black)

    def judge_head_inputs(self, given: NDArray[np.float32]) -> NDArray[np.float64]:
        """float64 (n, classes) of what ``head_inputs`` gave."""
        return _few_labels.judge_head_inputs(self.network_, given)

    def sees_as(self, other: object) -> bool:
        """Whether both share all that comes before the head."""
        return isinstance(other, NeuralClassifier) and other.network_.fuse is self.network_.fuse

    def with_refitted_head(self, given: NDArray[np.float32], y: ArrayLike) -> Self:
        """The same network with a head of one layer, by logistic regression on what ``head_inputs`` gave of labelled
        cells; see ``_few_labels``."""
        design = _few_labels.without_hidden_layers(self._settings()[0])
        codes = np.searchsorted(self.classes_, np.asarray(y))
        network = _few_labels.with_refitted_head(self.network_, design, self.blocks_, given, codes)
        head = {"head": list(design.head), "head_dropout": list(design.head_dropout)}
        twin = self._twin(network).set_params(network={**(self.network or {}), **head})
        if self.batch_statistics == "source":
            norms = {name for name, _ in network.named_modules()}
            twin.moments_ = {at: value for at, value in self.moments_.items() if at.rpartition(".")[0] in norms}
        return twin

    def fine_tuned(self, X: CellInputs, y: ArrayLike) -> Self:
        """A copy of the network after a few epochs more on labelled cells, see ``_few_labels.fine_tuning``."""
        check_is_fitted(self)
        design, how, variation = self._settings()
        inputs, labels = self._inputs(X, y)
        seed = 0 if self.random_state is None else int(self.random_state)
        codes = np.searchsorted(self.classes_, labels)
        twin = self._twin(copy.deepcopy(self.network_))
        backbone = None if twin.network_.backbone is None else twin.network_.backbone.backbone
        if backbone is not None and how.tune == "lora":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                add_adapters(backbone, how.lora_rank, how.lora_alpha)
            twin.network_.to(_device(self.device))
        everyone, nobody = np.arange(len(codes)), np.empty(0, np.intp)
        lesson = Lesson(inputs, codes, len(self.classes_), everyone, nobody, self._is_black, self.turns)
        trainer = Trainer(twin.network_, lesson, _few_labels.fine_tuning(how), variation, seed, design.auxiliary)
        with _threads(self.threads):
            twin.history_ = [*self.history_, *trainer.run().history]
            if backbone is not None:
                merge_adapters(backbone)
            if self.batch_statistics == "source":
                twin.moments_ = moments_of(twin.network_, inputs, 4 * how.batch_size)
        return twin

    def new_sites(self, sources: Sequence[str | None]) -> dict[str, NDArray[np.intp]]:
        """Rows of each site whose cells would be judged by batch norms of their own."""
        return new_sources(sources, self.sources_) if self.judges_together else {}

    def at_site(self, X: CellInputs) -> Self:
        """A copy whose batch norms have the means and spreads of these cells: those of this site are judged one by one,
        too, and those of all others, of training ones as well, by norms of their own where there are enough."""
        batch = 4 * self._settings()[1].batch_size
        with statistics_of(self.network_, X, batch, self.moments_):
            twin = self._twin(copy.deepcopy(self.network_))
        twin.sources_ = sorted({source or "" for source in self._sources(X)})
        twin.moments_ = moments_of(twin.network_, X, batch)
        return twin

    def predict_proba_variants(self, image: NDArray[np.uint8], X: NDArray[np.float32]) -> NDArray[np.float64]:
        """float64 (n, classes) for n rows of features of the cell in one image, uint8 (S, S, 3); see ``explain``.

        As ``predict_proba`` gives it, but the backbone, which takes nearly all the time, looks once.
        """
        check_is_fitted(self)
        is_black = self.input_transform_ is not None and self.input_transform_.background == "black"
        return predict_variants(self.network_, image, X, 4 * self._settings()[1].batch_size, self.turns, is_black)

    def predict(self, X: ArrayLike | CellInputs) -> NDArray:
        """The most probable class of each row."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def gates(self, X: ArrayLike | CellInputs) -> dict[str, NDArray[np.float32]]:
        """Part name -> float32 (n,) in [0, 1]: how far "image" and every block were let through.

        Raises
        ------
        ValueError : the network's fusion is not "gated", or has a single part.
        """
        from classifiers.neural._trainer import features

        check_is_fitted(self)
        inputs, _ = self._inputs(X, None)
        self._check_images(inputs)
        found: dict[str, list[NDArray[np.float32]]] = {}
        with torch.inference_mode():
            for start in range(0, len(inputs), 32):
                rows = np.arange(start, min(start + 32, len(inputs)))
                backbone = self.network_.backbone
                images = None if backbone is None else backbone.prepare(inputs.images(rows))
                for name, gate in self.network_(features(self.network_, inputs, rows), images).gates.items():
                    found.setdefault(name, []).append(gate.float().cpu().numpy())
        if not found:
            raise ValueError("this network has no gates: its fusion is not 'gated', or it has one part only")
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def attention_maps(
        self, X: ArrayLike | CellInputs, method: str = "layer-cam", target: object = None
    ) -> NDArray[np.float32]:
        """float32 (n, S, S) in [0, 1] over the images: where the network looks; see ``attention.METHODS``.

        ``target`` is the label whose evidence is shown, None the one that the network finds in each cell.

        Raises
        ------
        ValueError : an unknown method or label, or a network without a feature map.
        """
        from classifiers.neural._attention import attention_maps
        from classifiers.neural._trainer import features

        check_is_fitted(self)
        inputs, _ = self._inputs(X, None)
        self._check_images(inputs)
        if self.network_.backbone is None or not self.network_.backbone.has_map:
            raise ValueError("there is no feature map to look at: no images, or a backbone of tokens")
        known = list(self.classes_)
        if target is not None and target not in known:
            raise ValueError(f"the network knows no class {target!r}, only {', '.join(map(str, known))}")
        number = None if target is None else known.index(target)
        found = []
        for start in range(0, len(inputs), 16):
            rows = np.arange(start, min(start + 16, len(inputs)))
            X_rows = features(self.network_, inputs, rows)
            found.append(attention_maps(self.network_, inputs.images(rows), X_rows, method, number))
        return np.concatenate(found)

    def attention_map(
        self, cell: Cell, target: object = None, method: str = "layer-cam", features: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """float32 (H, W) in [0, 1] over ``cell.rgb``: where the network looks for a class; 0 where it sees nothing.

        Parameters
        ----------
        cell : what it is asked about; its input transform takes the image.
        target : label whose evidence is shown; None is the one that the network finds.
        method : one of ``attention.METHODS``.
        features : float (d,) of this cell, the blocks side by side as in ``fit``; None leaves all of them missing.

        Raises
        ------
        ValueError : as ``attention_maps`` does.
        """
        check_is_fitted(self)
        stops = np.cumsum([0, *self.blocks_.values()]).tolist()
        X = np.full((1, stops[-1]), np.nan, np.float32)
        if features is not None:
            X[0] = np.asarray(features, np.float32)
        blocks = {name: slice(*ends) for name, ends in zip(self.blocks_, pairwise(stops), strict=True)}
        input_transform = self.input_transform()
        (attention,) = self.attention_maps(CellInputs(X, blocks, input_transform([cell])), method, target)
        return input_transform.resample_to_cell(attention, cell)

    def embed(self, inputs: CellInputs) -> NDArray[np.float32]:
        """float32 (n, channels): what the backbone sees, as the extractor ``cnn`` gives it for these weights."""
        check_is_fitted(self)
        backbone = self.network_.backbone
        if backbone is None:
            raise ValueError("a network without images embeds none")

        def images(some: slice) -> NDArray[np.uint8]:
            return inputs.images(np.arange(some.start, some.stop))

        # The extractor's own number at a time, so that both give the same bits.
        return embed_in_batches(backbone.embed, images, len(inputs), backbone.images_a_pass)[0]

    # ---- what the spine asks -----------------------------------------------------------------------------------------

    @classmethod
    def params_for_block(cls, block: str, own: Mapping[str, Any], extractor: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters of the network behind a block, from its own and those of the block's extractor.

        Raises
        ------
        UsageError : batch norms by the cells that are judged: a block is what a network sees with its own.
        """
        if own.get("batch_statistics", "training") != "training":
            raise UsageError(
                f"block '{block}' is what a network sees with its own batch norms",
                found=f"batch_statistics: {own['batch_statistics']}",
                do="Take --classifier neural, or harmonise the block.",
            )
        device = {"device": extractor["device"]} if "device" in extractor else {}
        # Batch size and engine are of embedding alone.
        attention = {name: value for name, value in extractor.items() if name not in ("device", "batch_size", "engine")}
        return {**own, **device, "network": {**own.get("network", {}), **attention}}

    def identity(self) -> dict[str, Any]:
        """Plain values that a training depends on beside its cells: settings, and what the weights to start from are.

        Raises
        ------
        ValueError, FusionError : settings or weights that cannot be used.
        """
        design, how, variation = self._settings()
        start = {"weights": RANDOM} if design.weights == RANDOM else design.extractor().identity()
        network = {**dataclasses.asdict(design), "weights": ""}  # not where they lie: ``start`` says what they are
        training, variations = dataclasses.asdict(how), dataclasses.asdict(variation)
        return {"network": network, "training": training, "augmentation": variations, "start": start}

    def write_backbone(self, path: Path) -> dict[str, Any]:
        """Write the backbone as a weights file, and return the parameters of the extractor ``cnn`` that sees by it."""
        check_is_fitted(self)
        backbone = self.network_.backbone
        if backbone is None:
            raise ValueError("a network without images has no backbone to write")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_backbone(backbone, path, self.provenance_ or None, self.input_transform_)
        return {"weights": str(path), "attention": backbone.backbone_config.attention}

    def input_transform(self) -> InputTransform:
        """How a cell becomes the image that the network sees; checks all settings on the way.

        Raises
        ------
        ValueError, FusionError : settings or weights that cannot be used.
        """
        if "network_" in vars(self) and self.input_transform_ is not None:
            return self.input_transform_
        design, _, _ = self._settings()
        return design.extractor().input_transform

    def has_map(self) -> bool:
        """Whether there will be a feature map whose attention can be shown; needs no weights."""
        return gives_map(self._settings()[0].extractor().backbone_config)

    def provenance(self) -> dict[str, list[str]] | None:
        """Hashes of what it, or before it is fitted its weights, have learnt from; None where nothing is known."""
        if "provenance_" in vars(self):
            return self.provenance_ or None
        return self._settings()[0].extractor().provenance()

    def encoder(self) -> str | None:
        """Name of the encoder that it starts from in ``fusion encoders``; None where that is not known."""
        return self._settings()[0].extractor().encoder()

    def remember(self, provenance: Mapping[str, Sequence[str]]) -> None:
        """Keep hashes of what was trained on, beside those that the weights came with; they travel with the
        backbone."""
        check_is_fitted(self)
        both = {name: set(self.provenance_.get(name, ())) | set(provenance.get(name, ())) for name in TRAINED_ON}
        self.provenance_ = {name: sorted(values) for name, values in sorted(both.items())}

    def describe(self) -> str:
        """The number of parameters, by part, and how many of them were trained."""
        check_is_fitted(self)
        tune = self._settings()[1].tune
        told = f"; {self.trained_parameters_ / 1e6:.2f} M trained (tune: {tune})" if tune != "all" else ""
        return describe(self.network_) + told

    def show_batch(self, inputs: CellInputs, labels: Sequence[str]) -> NDArray[np.uint8]:
        """uint8 RGB (height, width, 3): cells as the network is shown them, and augmented as in training."""
        from classifiers.neural._training_sheets import batch_sheet

        _, _, variation = self._settings()
        seed = 0 if self.random_state is None else int(self.random_state)
        return batch_sheet(inputs, labels, variation, seed, is_black=self.input_transform().background == "black")

    def show_attention(self, inputs: CellInputs, labels: Sequence[str]) -> NDArray[np.uint8]:
        """uint8 RGB (height, width, 3): some cells, and by every method where the network looks in them."""
        from classifiers.neural._attention import METHODS
        from classifiers.neural._training_sheets import attention_sheet, spread

        chosen = spread(labels, 0 if self.random_state is None else int(self.random_state))
        some = inputs.take(chosen)
        maps = {method: self.attention_maps(some, method) for method in METHODS}
        notes = [f"{labels[at]}, taken for {label}" for at, label in zip(chosen, self.predict(some), strict=True)]
        return attention_sheet(some.images(np.arange(len(some))), maps, notes)

    def to_onnx_network(self, columns: int) -> tuple[bytes, CellInputs]:
        """The network as an ONNX file, and made-up cells to try it on; see ``_onnx_form``."""
        from classifiers.neural._onnx_form import network_to_onnx

        check_is_fitted(self)
        return network_to_onnx(
            self.network_, self.turns, columns, None if self.input_transform_ is None else self.input_transform_.size
        )

    def save(self, folder: Path) -> None:
        """Write ``backbone.safetensors``, ``layers.safetensors`` and ``network.json``."""
        check_is_fitted(self)
        import safetensors.torch

        backbone = self.network_.backbone
        if backbone is not None:
            save_backbone(backbone, folder / BACKBONE_FILE, self.provenance_ or None, self.input_transform_)
        layers = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.network_.state_dict().items()
            if not name.startswith("backbone.")
        }
        moments = getattr(self, "moments_", {})
        layers |= {f"{MOMENTS}{name}": tensor.cpu().contiguous() for name, tensor in moments.items()}
        (folder / LAYERS).write_bytes(safetensors.torch.save(layers))
        facts = {
            "classes": self.classes_.tolist(),
            "blocks": self.blocks_,
            "input_transform": None if self.input_transform_ is None else dataclasses.asdict(self.input_transform_),
            "history": self.history_,
            "provenance": self.provenance_,
            "sources": self.sources_,
            "trained_parameters": self.trained_parameters_,
            "params": self.get_params(),
        }
        (folder / FACTS).write_text(json.dumps(facts, indent=1, default=list))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises
        ------
        BundleError : a file is missing, damaged, a pickle in disguise, or holds other tensors than this network has.
        """
        try:
            refuse_others(folder, (BACKBONE_FILE, LAYERS, FACTS))
            facts = parse_json((folder / FACTS).read_bytes())
            model = cls(**facts["params"])
            design, _, _ = model._settings()
            layers, _ = _network_files.read_tensors(folder / LAYERS)
            model.classes_, model.blocks_ = np.asarray(facts["classes"]), dict(facts["blocks"])
            for at, columns in enumerate(model.blocks_.values()):  # before anything as large as they say is made
                if f"fuse.scales.{at}.centre" in layers and layers[f"fuse.scales.{at}.centre"].shape != (columns,):
                    raise BundleError(f"{folder} names blocks of another width than its tensors have")
            model.input_transform_ = (
                None if facts["input_transform"] is None else InputTransform(**facts["input_transform"])
            )
            backbone = None
            if model.input_transform_ is not None:
                backbone = load_backbone(
                    weights=str(folder / BACKBONE_FILE),
                    attention=design.attention,
                    dropout=design.dropout,
                    drop_path=design.drop_path,
                ).on(model.device)
            network = Network(design, backbone, model.blocks_, len(model.classes_))
            own = (
                {}
                if backbone is None
                else {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
            )
            if model.batch_statistics == "source":
                stored = [name for name in layers if name.startswith(MOMENTS)]
                model.moments_ = {name.removeprefix(MOMENTS): layers.pop(name) for name in stored}
                check_moments(model.moments_, network)
            _network_files.fill(network, {**layers, **own}, folder / LAYERS)
            return_to_rest(network)
            model.network_ = network.to(_device(model.device))
            model.history_, model.provenance_ = facts["history"], facts["provenance"]
            model.trained_parameters_ = int(facts["trained_parameters"])
            model.sources_ = [str(name) for name in facts["sources"]]
        except BundleError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, FusionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BundleError(f"{folder} holds no network that can be trusted", found=reason) from error
        return model

    # ---- the work ----------------------------------------------------------------------------------------------------

    @property
    def _is_black(self) -> bool:
        return self.input_transform_ is None or self.input_transform_.background == "black"

    def _twin(self, network: Network) -> Self:
        """The same in all but the network."""
        twin = copy.copy(self)
        twin.network_ = network
        return twin

    def _settings(self) -> tuple[Design, Training, Augmentation]:
        """The three parts, checked; ValueError in one line."""
        if not 1 <= self.turns <= 64:
            raise ValueError(f"turns must be 1 to 64, not {self.turns}")
        if self.batch_statistics not in ("training", "source"):
            raise ValueError(f"batch_statistics must be training or source, not {self.batch_statistics!r}")
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise ValueError(f"threads must be 1 to 1024, not {self.threads}")
        return (
            _checked(Design, "network", self.network),
            _checked(Training, "training", self.training),
            _checked(Augmentation, "augmentation", self.augmentation),
        )

    def _inputs(self, X: ArrayLike | CellInputs, y: ArrayLike | None) -> tuple[CellInputs, NDArray[Any]]:
        is_fit = y is not None
        if isinstance(X, CellInputs):
            if np.isinf(X.X).any():
                raise ValueError("features must not be infinite")
            return X, np.asarray(y)
        if getattr(X, "ndim", 0) == 4:
            images = np.asarray(X)
            if images.dtype != np.uint8 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
                raise ValueError(f"images are uint8 (n, S, S, 3), not {images.dtype} {images.shape}")
            return CellInputs(np.empty((len(images), 0), np.float32), {}, images), np.asarray(y)
        table: NDArray[np.float32]
        if is_fit:
            table, y = validate_data(self, X, y, dtype=np.float32, ensure_all_finite="allow-nan")
        else:
            table = validate_data(self, X, dtype=np.float32, ensure_all_finite="allow-nan", reset=False)
        return CellInputs(table, {_UNNAMED: slice(0, table.shape[1])}), np.asarray(y)

    def _untrained_network(
        self, design: Design, how: Training, inputs: CellInputs, train: NDArray[np.intp], seed: int
    ) -> Network:
        """The network before its first step, on the device, with the scales of the training cells' blocks."""
        backbone = None if inputs.source is None else self._backbone_module(design, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Network(design, backbone, self.blocks_, len(self.classes_))
            if backbone is not None and how.tune == "lora":
                add_adapters(backbone.backbone, how.lora_rank, how.lora_alpha)
        network.learn_scales(inputs.X[train])
        return network.to(_device(self.device))

    def _sources(self, inputs: CellInputs) -> Sequence[str | None]:
        return inputs.sources or (None,) * len(inputs)

    def _check_images(self, inputs: CellInputs) -> None:
        if (
            self.input_transform_ is not None
            and inputs.source is not None
            and inputs.source.shape[1] != self.input_transform_.size
        ):
            side = inputs.source.shape[1]
            raise ValueError(
                f"the network takes images of {self.input_transform_.size} pixels, not {side}: take them by its "
                f"input transform"
            )

    def _backbone_module(self, design: Design, seed: int) -> Backbone:
        extractor = design.extractor()
        backbone_config = extractor.backbone_config
        device = _device(self.device)
        if design.weights == RANDOM:
            return untrained_backbone(backbone_config, seed, dropout=design.dropout, drop_path=design.drop_path).on(
                device
            )
        return extractor.load(seed=seed, dropout=design.dropout, drop_path=design.drop_path).on(device)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _checked(kind: type[Settings], word: str, given: Mapping[str, Any] | None) -> Settings:
    values = dict(given or {})
    known = [f.name for f in dataclasses.fields(kind)]
    if unknown := sorted(set(values) - set(known)):
        near = did_you_mean(unknown[0], known)
        raise ValueError(
            f"unknown setting of {word}: {', '.join(unknown)}; known are {', '.join(known)}. {near}".strip()
        )
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        where = ((".".join(map(str, e["loc"])), e["msg"]) for e in error.errors())
        raise ValueError("; ".join(f"{word}.{at}: {text}" if at else text for at, text in where)) from error


def _device(name: str) -> str:
    if torch_processes.count() > 1:
        return str(torch_processes.join(name).device)
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device '{name}' cannot be used", found=str(error).splitlines()[0], do="Take cpu.") from error
    return chosen


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _describe_inputs(blocks: Mapping[str, int], images: object) -> str:
    parts = [*(["images"] if images is not None else []), *(f"{name} ({d})" for name, d in blocks.items())]
    return ", ".join(parts) or "nothing"


def _keeping(
    folder: Path, trainer: Trainer, lesson: Lesson, settings: Mapping[str, Any], *, resume: bool
) -> Callable[[Trainer], None] | None:
    """What keeps every epoch in the folder, None in all processes but the first; ``resume`` goes on from there.

    Raises
    ------
    CheckpointError : what is in the folder belongs to another training.
    """
    name = identity({**settings, "torch": torch.__version__, "processes": torch_processes.count()}, lesson)
    if resume:
        _network_files.read_checkpoint(folder, trainer, name)
    if not torch_processes.is_first():
        return None
    return lambda trained: _network_files.write_checkpoint(folder, trained, name)
