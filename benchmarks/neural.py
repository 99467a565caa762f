"""Our training, embedding and data path against plain timm and torch, same images, one run; prints Markdown.

    python benchmarks/neural.py                            a small network at 128 pixels, some minutes
    python benchmarks/neural.py --backbone tf_efficientnetv2_b3 --size 300 --batch 32
    python benchmarks/neural.py --device cuda              precisions and layouts of a GPU: benchmarks/gpu.py
    python benchmarks/neural.py --parts embedding

The plain loop is what a script for one training would say: timm's model, images from a DataLoader that decodes and
resizes them in every epoch, cross-entropy, AdamW. Contestants take turns, and the median of their turns counts. Nothing
here asserts how fast anything is.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402

from classifiers.neural.augmentation import Augmentation, augment  # noqa: E402
from classifiers.neural.estimator import NeuralClassifier  # noqa: E402
from extractors.cnn import onnx_backend  # noqa: E402
from extractors.cnn.extractor import Embedding  # noqa: E402
from fusion.data.dataset import load_dataset  # noqa: E402
from fusion.features.image_cache import read_images  # noqa: E402
from fusion.synthetic.cells import SyntheticDesign, synthesize  # noqa: E402

PARTS = ("training", "data", "embedding")


def main() -> None:
    options = _options()
    warnings.simplefilter("ignore")
    logging.getLogger("fusion").setLevel(logging.ERROR)  # random weights: speed is all that is asked
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    device = options.device
    where = torch.cuda.get_device_name() if device == "cuda" else f"{options.threads} of {os.cpu_count()} cores"
    print("# The network: speed\n")
    print(f"{options.backbone}, {options.size} pixels, batches of {options.batch}, {options.cells} synthetic cells;")
    print(f"{where}, {platform.machine()}, torch {torch.__version__}, timm {timm.__version__}. Images per second.\n")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FUSION_CACHE"] = folder
        design = SyntheticDesign(subjects=max(8, options.cells // 20), cells_per_subject=20)
        cells = load_dataset(synthesize(Path(folder) / "cells", design, jobs=1), store=Path(folder))
        files = [sample.path for sample in cells.samples][: options.cells]
        model = _classifier(options, epochs=1)
        images = np.asarray(read_images(cells, model.input_transform(), Path(folder), jobs=1).images)[: len(files)]
        labels = np.array([sample.label for sample in cells.samples])[: len(files)]
        if "training" in options.parts:
            _training(options, files, images, labels)
        if "data" in options.parts:
            _data(options, files, images)
        if "embedding" in options.parts:
            _embedding(options, images)


def _classifier(options: argparse.Namespace, epochs: int) -> NeuralClassifier:
    network = {"backbone": options.backbone, "weights": "random", "size": options.size, "attention": False}
    network |= {"drop_path": 0.0, "dropout": 0.0, "head": [], "head_dropout": [0.0], "view": 450}
    training = {"epochs": epochs, "batch_size": options.batch, "loss": "cross_entropy", "validation": 0.0}
    training |= {"sampling": "natural", "schedule": "constant", "learning_rate": 1e-4, "clip": 0.0, "patience": 0}
    varied = {"flip_horizontal": True, "rotation": 0.0, "brightness": 0.0, "contrast": 0.0}
    return NeuralClassifier(network=network, training=training, augmentation=varied, device=options.device)


def _training(options: argparse.Namespace, files: Sequence[Path], images: Any, labels: Any) -> None:
    """One epoch each, in turns: the same network, batch, loss, optimiser, and a flip as the only variation."""
    codes = np.unique(labels, return_inverse=True)[1]

    def ours() -> float:
        model = _classifier(options, epochs=2)
        # The second epoch alone: building the network, and the first steps of an allocator, are no training.
        steps: list[float] = []
        model.fit(images, labels, watch=lambda *_: steps.append(time.perf_counter()))
        half = len(steps) // 2
        return len(images) / (steps[-1] - steps[half - 1])

    def plain() -> float:
        model = timm.create_model(options.backbone, num_classes=2).to(options.device).train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
        loader = torch.utils.data.DataLoader(
            _Files(files, codes, options.size), options.batch, shuffle=True, num_workers=options.workers
        )
        for epoch in range(2):
            start = time.perf_counter()
            for x, y in loader:
                optimiser.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(x.to(options.device)), y.to(options.device))
                loss.backward()
                optimiser.step()
                loss.item()
            took = time.perf_counter() - start
            del epoch
        return len(files) / took

    _table("Training", {"fusion": ours, "timm in a plain loop": plain}, "timm in a plain loop", options.turns)


class _Files(torch.utils.data.Dataset):
    """Images read, shrunk, flipped and normalised one by one, as scripts do."""

    def __init__(self, files: Sequence[Path], codes: Any, size: int) -> None:
        self.files, self.codes, self.size = files, codes, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> tuple[Any, int]:
        content = np.fromfile(self.files[at], np.uint8)
        rgb = cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        x = torch.from_numpy(cv2.resize(rgb, (self.size,) * 2, interpolation=cv2.INTER_AREA)).permute(2, 0, 1)
        x = (x.float() / 255 - 0.5) / 0.25
        return (x.flip(2) if torch.rand(()) < 0.5 else x), int(self.codes[at])


def _data(options: argparse.Namespace, files: Sequence[Path], images: Any) -> None:
    """Everything up to what the backbone takes, and the backbone's forward pass alone."""
    backbone = Embedding(backbone=options.backbone, weights="random", size=options.size, device=options.device).network
    batches = [np.arange(at, min(at + options.batch, len(files))) for at in range(0, len(files), options.batch)]
    how, draw = Augmentation(), torch.Generator().manual_seed(0)

    def read() -> float:
        start = time.perf_counter()
        for _ in torch.utils.data.DataLoader(_Files(files, np.zeros(len(files)), options.size), options.batch):
            pass
        return len(files) / (time.perf_counter() - start)

    def mapped() -> float:
        start = time.perf_counter()
        for rows in batches:
            backbone.normalise(backbone.scale(images[rows]))
        _wait(options.device)
        return len(files) / (time.perf_counter() - start)

    def varied() -> float:
        start = time.perf_counter()
        for rows in batches:
            backbone.normalise(augment(backbone.scale(images[rows]), how, draw, is_black=True))
        _wait(options.device)
        return len(files) / (time.perf_counter() - start)

    def forward() -> float:
        x = backbone.prepare(images[batches[0]])
        with torch.inference_mode():
            start = time.perf_counter()
            for _ in batches:
                backbone(x)
            _wait(options.device)
        return len(batches) * len(x) / (time.perf_counter() - start)

    entries = {
        "files, one by one": read,
        "the image cache": mapped,
        "the image cache, published augmentation": varied,
        "forward pass alone": forward,
    }
    _table("The data path alone", entries, "forward pass alone", options.turns)


def _embedding(options: argparse.Namespace, images: Any) -> None:
    by = {
        engine: Embedding(
            backbone=options.backbone, weights="random", size=options.size, device=options.device, engine=engine
        )
        for engine in ("torch", *(["onnx"] if options.device == "cpu" and onnx_backend.is_installed() else []))
    }

    plain = timm.create_model(options.backbone, num_classes=0).to(options.device).eval()
    backbone = by["torch"].network

    def eager(batch: Any) -> Any:
        with torch.inference_mode():
            return plain(backbone.prepare(batch).contiguous()).cpu().numpy()

    def run(embed: Callable[[Any], Any]) -> Callable[[], float]:
        embed(images[:2])  # loads, exports

        def embedded() -> float:
            start = time.perf_counter()
            for at in range(0, len(images), 16):
                embed(images[at : at + 16])
            return len(images) / (time.perf_counter() - start)

        return embedded

    entries = {"torch eager, as timm creates it": run(eager)}
    entries |= {f"fusion, {name}": run(extractor.embed) for name, extractor in by.items()}
    _table("Embedding", entries, "torch eager, as timm creates it", options.turns)
    if "onnx" in by:
        some = images[:32]
        print(f"Largest difference: {np.abs(by['onnx'].embed(some) - by['torch'].embed(some)).max():.1e}\n")


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _table(title: str, entries: Mapping[str, Callable[[], float]], reference: str, turns: int) -> None:
    found: dict[str, list[float]] = {name: [] for name in entries}
    for _ in range(turns):
        for name, run in entries.items():
            found[name].append(run())
    median = {name: statistics.median(values) for name, values in found.items()}
    print(f"| {title} | images/s | times {reference} |\n| --- | ---: | ---: |")
    for name, value in median.items():
        print(f"| {name} | {value:.1f} | {value / median[reference]:.2f} |")
    print(flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--cells", type=int, default=160)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode for the plain loop")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--parts", default=",".join(PARTS), type=lambda text: text.split(","))
    options = parser.parse_args()
    if unknown := sorted(set(options.parts) - set(PARTS)):
        parser.error(f"unknown parts: {', '.join(unknown)}")
    return options


if __name__ == "__main__":
    main()
