"""Where `fusion predict` spends its time: on synthetic cells, by a model of boosted trees on several blocks.

    python benchmarks/prediction.py [--cells 1000] [--backbone NAME] [--folder DIR]

The cells are new to model and store. One process and one thread: what is timed is work, not waiting for other workers.
With `--backbone` the model is a hybrid of handcrafted blocks and a network's embedding (weights are drawn, which costs
the same time as trained ones); without, of handcrafted blocks alone, where everything around them weighs more. Each
stage's own time is that of its calls without the stages inside them, so that the shares sum to 1.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2

from fusion.bundles import inference
from fusion.bundles.model_bundle import ModelBundle
from fusion.features import cell_measurement
from fusion.features.store import FeatureStore
from fusion.learning.novelty import Novelty
from fusion.plugins import registry
from fusion.settings.commands import PredictConfig, TrainConfig
from fusion.synthetic.cells import SyntheticDesign, synthesize
from fusion.workflows.predict import predict
from fusion.workflows.train import train

#: Subjects and cells of the training part: enough for the default trees to be as deep as they get.
SUBJECTS, CELLS = 12, 10


class Clock:
    """Own time of stages that call one another."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside: list[float] = []

    def watch(self, owner: Any, attribute: str, stage: str) -> None:
        """Count the time of this function or method as that of ``stage``."""
        setattr(owner, attribute, self.timed(getattr(owner, attribute), stage))

    def timed(self, function: Callable, stage: str) -> Callable:
        """The function, its own time added to that of the stage."""

        @functools.wraps(function)
        def run(*given: Any, **named: Any) -> Any:
            started = time.perf_counter()
            self._inside.append(0.0)
            try:
                return function(*given, **named)
            finally:
                spent = time.perf_counter() - started
                self.seconds[stage] = self.seconds.get(stage, 0.0) + spent - self._inside.pop()
                if self._inside:
                    self._inside[-1] += spent

        return run


def measure(folder: Path, cells: int, backbone: str | None) -> dict[str, float]:
    """Stage -> seconds of one prediction of so many new cells."""
    per_subject = 10
    design = SyntheticDesign(subjects=max(4, cells // per_subject), cells_per_subject=per_subject, seed=5)
    fresh = synthesize(folder / "fresh", design)
    known = synthesize(folder / "known", SyntheticDesign(subjects=SUBJECTS, cells_per_subject=CELLS, seed=6))
    features = ["morphology", "texture", "colour", *(["cnn"] if backbone else [])]
    settings = {"cnn": {"weights": "random", "backbone": backbone}} if backbone else {}
    train(
        TrainConfig(
            data=known,
            output=folder / "model",
            classifier="xgb",
            features=features,
            extractors=settings,
            splits=2,
            store=folder / "store",
            jobs=1,
        )
    )
    clock = Clock()
    for name in features:
        clock.watch(type(registry.build_extractor(name, settings.get(name))), "extract", f"extractor {name}")
    clock.watch(cell_measurement, "_cell", "decoding and segmentation")
    clock.watch(inference, "collect", "listing, hashing and checking files")
    clock.watch(ModelBundle, "load", "loading the model")
    clock.watch(FeatureStore, "write", "writing the store")
    clock.watch(ModelBundle, "predict_proba", "fusion layer and classifier")
    clock.watch(Novelty, "distance", "distance from the training cells")
    config = PredictConfig(model=folder / "model", images=[fresh], store=folder / "store", jobs=1)
    found = clock.timed(predict, "all else")(config)
    assert len(found) == cells, f"{len(found)} cells judged"
    return clock.seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cells", type=int, default=1000, help="a multiple of 10, at least 40")
    parser.add_argument("--backbone", help="a timm model; without it there is no network among the blocks")
    parser.add_argument("--folder", type=Path, help="work here, and leave it")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    if given.backbone:
        import torch

        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        seconds = measure(given.folder or Path(temporary), given.cells, given.backbone)
    total = sum(seconds.values())
    print(f"{given.cells} cells, one thread, {platform.machine()}, Python {platform.python_version()}\n")
    print("| stage | s | ms a cell | share |\n|---|---|---|---|")
    for stage, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"| {stage} | {spent:.2f} | {1000 * spent / given.cells:.2f} | {spent / total:.1%} |")
    inside = sum(spent for stage, spent in seconds.items() if stage.startswith("extractor"))
    print(f"| **all** | {total:.2f} | {1000 * total / given.cells:.2f} | inside extractors {inside / total:.1%} |")


if __name__ == "__main__":
    main()
