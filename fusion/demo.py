"""The main job once, on synthetic cells with known truth: measure, compare, show the leak, train, predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.ablation import ablate
from fusion.config import HANDCRAFTED, AblateConfig, PredictConfig, TrainConfig
from fusion.extraction import Progress
from fusion.prediction import predict
from fusion.report import interval
from fusion.results import Result
from fusion.synthetic import SyntheticDesign, synthesize
from fusion.training import train

#: Enough subjects for five folds with both classes in each, few enough cells to be done in two minutes.
SUBJECTS, CELLS = 24, 20


@dataclass(frozen=True)
class Story:
    """What the demo found: lines for a person, figures for a machine."""

    lines: list[str]
    figures: Mapping[str, Any]


def run_demo(out: Path, *, seed: int = 0, jobs: int = 0, progress: Progress | None = None) -> Story:
    """Run the whole way in ``out``; run again, it reuses the cells and the features it finds there.

    Raises
    ------
    UsageError : ``out`` holds something else than a demo.
    """
    cells, store = out / "cells", out / "store"
    design = SyntheticDesign(subjects=SUBJECTS, cells_per_subject=CELLS, seed=seed)
    if not (cells / "truth.csv").is_file():
        synthesize(cells, design, _painting(progress), jobs=jobs)
    chosen: dict[str, Any] = {"data": cells, "store": store, "seed": seed, "jobs": jobs, "features": list(HANDCRAFTED)}
    honest = ablate(AblateConfig(output=out / "comparison", **chosen), progress)
    best = honest.scores[honest.ranked()[0]]
    again = {**chosen, "features": list(best.features)}
    leaky = ablate(AblateConfig(output=out / "leaky", split="random", compare=[best.classifier], **again), progress)
    train(TrainConfig(output=out / "model", classifier=best.classifier, **again), progress)
    sample = sorted(cells.rglob("*.bmp"))[:: SUBJECTS * CELLS // 3][:3]
    found = predict(PredictConfig(model=out / "model", images=sample, store=store, jobs=jobs), progress)
    return _tell(out, honest, leaky, [f"{n} is {c}" for n, c in zip(found.table.names, found.predicted, strict=True)])


def _tell(out: Path, honest: Result, leaky: Result, predictions: list[str]) -> Story:
    top, leak = honest.ranked()[0], _of_same(honest, leaky)
    figure = honest.figures[top]["image"]["balanced_accuracy"]
    flattered = leaky.figures[leak]["image"]["balanced_accuracy"]
    alone = {
        scores.features[0]: max(
            honest.figures[at]["image"]["balanced_accuracy"]["value"]
            for at, other in enumerate(honest.scores)
            if other.features == scores.features
        )
        for scores in honest.scores
        if len(scores.features) == 1
    }
    ranking = ", ".join(f"{name} {value:.3f}" for name, value in sorted(alone.items(), key=lambda item: -item[1]))
    best = honest.scores[top]
    lines = [
        f"{len(honest.cells)} synthetic cells of {SUBJECTS} subjects; {len(honest.scores)} fair comparisons.",
        f"Best on unseen subjects: {'+'.join(best.features)}, {best.classifier}: balanced accuracy {interval(figure)}.",
        f"One block alone, best classifier each: {ranking}.",
        f"The same by a random split of pictures: {interval(flattered)}: {flattered['value'] - figure['value']:+.3f}, "
        "because it meets the same subjects again.",
        f"Look at {out / 'comparison' / 'report.html'}; use the model with: fusion predict {out / 'model'} IMAGE",
    ]
    figures = {
        "grouped": dict(figure),
        "random": dict(flattered),
        "best": {"features": list(best.features), "classifier": best.classifier},
        "alone": alone,
        "predictions": predictions,
        "report": str(out / "comparison" / "report.html"),
    }
    return Story(lines, figures)


def _of_same(honest: Result, leaky: Result) -> int:
    best = honest.scores[honest.ranked()[0]]
    return next(at for at, scores in enumerate(leaky.scores) if scores.features == best.features)


def _painting(progress: Progress | None) -> Any:
    return None if progress is None else lambda done, total: progress("painting", done, total, 0)
