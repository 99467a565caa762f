"""The main job once, on synthetic cells with known truth: measure, compare, show a leak, train, predict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from fusion.errors import UsageError
from fusion.evaluation.headline import best_sentences, kind_sentence
from fusion.evaluation.results import Result, describe_split
from fusion.evaluation.scores import entry_name
from fusion.io.output_files import write_output
from fusion.learning.predictions import Predictions
from fusion.progress import Progress
from fusion.settings.commands import AblateConfig, DemoConfig, PredictConfig, TrainConfig
from fusion.settings.features import HANDCRAFTED
from fusion.settings.loading import read_yaml
from fusion.settings.outputs import one_run_of
from fusion.synthetic.cells import TRUTH_FILE, SyntheticDesign, synthesize
from fusion.workflows.ablate import ablate
from fusion.workflows.demo.gallery import Shown, make_gallery
from fusion.workflows.predict import predict
from fusion.workflows.train import train

#: What is compared: blocks, one of which is learnt anew in every split, and parameters of classifiers.
RECIPE = Path(__file__).with_name("demo.yaml")


@dataclass(frozen=True)
class Story:
    """What the demo found: lines for a person, figures for a machine."""

    lines: list[str]
    figures: Mapping[str, Any]


@one_run_of
def run_demo(config: DemoConfig, progress: Progress | None = None) -> Story:
    """Run the whole way in ``config.output``; run again, it reuses the cells and the features it finds there.

    Raises
    ------
    UsageError : the folder holds something else, or cells of other settings, or too few subjects are asked for.
    """
    out = config.output
    cells = _cells(config, progress)
    shared: dict[str, Any] = {"data": cells, "store": out / "store", "seed": config.seed, "jobs": config.jobs}
    recipe = read_yaml(RECIPE)
    judged = {**shared, "features": list(HANDCRAFTED)}
    judged["classifiers"] = recipe["classifiers"]
    crossfit_settings = {"features": recipe["features"], "cnn_crossfit": True}
    dealt = {**judged, **crossfit_settings}
    honest = ablate(AblateConfig(output=out / "comparison", force=True, **dealt), progress)
    # Dealt once: it shows what a leak does, and nobody goes by its figures.
    leaky = ablate(AblateConfig(output=out / "leaky", force=True, split="random", repeats=1, **judged), progress)
    best = honest.scores[honest.ranked()[0]]
    chosen = {**judged, "features": list(best.features), "classifier": best.classifier}
    if set(best.features) - set(HANDCRAFTED):  # one fold is judged again, not all five: each costs a network
        chosen = {**chosen, **crossfit_settings, "features": list(best.features), "holdout": True}
    trained = train(TrainConfig(output=out / "model", report=out / "model-report", force=True, **chosen), progress)
    images = sorted(cells.rglob("*.bmp"))
    few = images[:: max(1, len(images) // 3)][:3]
    found = predict(PredictConfig(model=out / "model", images=few, store=out / "store", jobs=config.jobs), progress)
    gallery = make_gallery(Shown(out, cells, honest, leaky, trained, few, found), progress)
    return _tell(config, honest, leaky, found, gallery)


def _cells(config: DemoConfig, progress: Progress | None) -> Path:
    """The folder of synthetic cells, painted now unless an earlier run has left the same there."""
    cells, note = config.output / "cells", config.output / "cells.yaml"
    design = SyntheticDesign(subjects=config.subjects, cells_per_subject=config.cells, seed=config.seed)
    if cells.exists() and not note.is_file():
        raise UsageError(
            f"{cells} is there already, and no demo has made it", do="Choose another folder, or move this one away."
        )
    if not (cells / TRUTH_FILE).is_file():
        synthesize(cells, design, _painting(progress), jobs=config.jobs)
        write_output(note, yaml.safe_dump(asdict(design), sort_keys=False).encode())
    held = read_yaml(note)
    if held != asdict(design):
        raise UsageError(
            f"{config.output} holds a demo of other cells",
            found=", ".join(f"{key} {value}" for key, value in held.items() if value != asdict(design).get(key)),
            expected=", ".join(f"{key} {value}" for key, value in asdict(design).items() if value != held.get(key)),
            do="Choose another folder, or delete this one.",
        )
    return cells


def _tell(config: DemoConfig, honest: Result, leaky: Result, found: Predictions, gallery: Path) -> Story:
    """What was compared, what is best once it was picked, each block alone, what a leak does, and where to look."""
    out = config.output
    best = honest.findings["best"]
    top = honest.ranked()[0]
    values = [figures["image"]["balanced_accuracy"]["value"] for figures in honest.figures]
    flattered = [figures["image"]["balanced_accuracy"]["value"] for figures in leaky.figures]
    # What a leak does is shown by the handcrafted blocks alone, and one split's winner may be another's loser.
    by_entry = {(s.features, s.classifier): value for s, value in zip(honest.scores, values, strict=True)}
    fair = [by_entry[s.features, s.classifier] for s in leaky.scores]
    crowned = leaky.ranked()[0]
    optimism = sum(flattered) / len(flattered) - sum(fair) / len(fair)
    alone = {
        scores.features[0]: max(
            v for other, v in zip(honest.scores, values, strict=True) if other.features == scores.features
        )
        for scores in honest.scores
        if len(scores.features) == 1
    }
    ranking = ", ".join(f"{name} {value:.3f}" for name, value in sorted(alone.items(), key=lambda item: -item[1]))
    lines = [
        f"{len(honest.cells)} synthetic cells of {config.subjects} subjects, {len(values)} comparisons of feature sets "
        f"and classifiers, {describe_split(honest.facts)}, judged on subjects they had not seen.",
        " ".join([*best_sentences(honest), kind_sentence(honest)]),
        f"Each block alone, with its best classifier: {ranking}.",
        f"A random split of the images has an optimistic bias of {optimism:+.3f} on average; it would have crowned "
        f"{entry_name(leaky.scores[crowned])} with {flattered[crowned]:.3f}, which on unseen subjects has "
        f"{fair[crowned]:.3f}.",
        f"Look at {out / 'comparison' / 'report.html'} and, for what each command shows, at {gallery}; ask the model: "
        f"fusion predict {out / 'model'} IMAGE",
    ]
    figures = {
        "best": {"features": list(honest.scores[top].features), "classifier": honest.scores[top].classifier, **best},
        "alone": alone,
        "optimism": optimism,
        "predictions": dict(zip(found.table.names, found.predicted, strict=True)),
        "report": str(out / "comparison" / "report.html"),
        "gallery": str(gallery),
        "model": str(out / "model"),
    }
    return Story(lines, figures)


def _painting(progress: Progress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress("painting", done, total, 0)
