"""The gallery that the demo ends with: its cells and its model, through every command that shows something."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.evaluation.headline import best_sentences
from fusion.evaluation.results import Result
from fusion.learning.predictions import Predictions
from fusion.progress import Progress
from fusion.reports.gallery import Scene, write_gallery
from fusion.settings.commands import ExplainConfig, InspectConfig
from fusion.workflows.explain import Explained, explain
from fusion.workflows.inspect import Inspection, inspect
from fusion.workflows.train import Trained

#: Cells on the contact sheet of the gallery: one sheet.
_CELLS = 24

#: Commands that the gallery does not run: what they are for, and how they are called.
_OTHERS = (
    ("Scores of anybody, judged as our own", "fusion judge {out}/comparison/scores.parquet --positive all -o judged"),
    ("Two results on the same cells, entry against entry", "fusion compare {out}/comparison judged"),
    ("How many subjects a study needs", "fusion plan {out}/comparison"),
    ("A page to drop images on", "fusion serve {out}/model"),
)


@dataclass(frozen=True)
class Shown:
    """What the demo has made.

    Attributes
    ----------
    out, cells : its folder, and the one of its cells.
    honest, leaky : the comparison on subjects not seen, and the one by a random split.
    few, found : some images, and what the model says of them.
    """

    out: Path
    cells: Path
    honest: Result
    leaky: Result
    trained: Trained
    few: Sequence[Path]
    found: Predictions

    def address(self, path: Path) -> str:
        """Of a file, from the page."""
        return Path(os.path.relpath(path, self.out)).as_posix()


def make_gallery(made: Shown, progress: Progress | None = None) -> Path:
    """Draw contours, explain a few cells, and write ``gallery.html`` into the demo's folder."""
    out = made.out
    looked = inspect(InspectConfig(data=made.cells, overlays=out / "overlays", overlay_cells=_CELLS), progress)
    asked = ExplainConfig(model=out / "model", images=list(made.few), output=out / "why", store=out / "store", jobs=1)
    why = explain(asked, progress)
    others = [Scene(title, words.format(out=out)) for title, words in _OTHERS]
    page = out / "gallery.html"
    write_gallery(page, [_data(made, looked), *_results(made), *_answers(made, why), *others])
    return page


def _data(made: Shown, looked: Inspection) -> Scene:
    sheets = () if looked.overlays is None else looked.overlays.sheets
    return Scene(
        "What was read, and what will be measured",
        f"fusion inspect {made.cells} --overlays {made.out}/overlays",
        tuple(looked.lines()),
        tuple((made.address(sheet), "Cells with the contours of cell and nucleus") for sheet in sheets),
    )


def _results(made: Shown) -> list[Scene]:
    """The two comparisons and the model."""
    out, bundle, result = made.out, made.trained.bundle, made.trained.result
    return [
        Scene(
            "Which features tell the classes apart",
            f"fusion ablate --config {out}/comparison/config.yaml -o comparison-again",
            tuple(best_sentences(made.honest)),
            (("comparison/comparison.png", "Balanced accuracy of every set of blocks with its interval"),),
            "comparison/report.html",
        ),
        Scene(
            "What a random split would have claimed",
            f"fusion ablate --config {out}/leaky/config.yaml -o leaky-again",
            (*made.leaky.stamps, *best_sentences(made.leaky)),
            page="leaky/report.html",
        ),
        Scene(
            "One entry, fitted on all cells",
            f"fusion train --config {out}/model/config.yaml -o model-again",
            (
                *result.stamps,
                f"{' + '.join(bundle.features)}, {bundle.classifier}: fitted on all {len(result.cells)} cells",
            ),
        ),
    ]


def _answers(made: Shown, why: Explained) -> list[Scene]:
    """What the model says of a few images, and why."""
    images, found = " ".join(map(str, made.few)), made.found
    lines = [
        f"{name}: {label}, " + ", ".join(f"{each} {p:.3f}" for each, p in zip(found.classes, row, strict=True))
        for name, label, row in zip(found.table.names, found.predicted, found.proba, strict=True)
    ]
    return [
        Scene("What the model says of images", f"fusion predict {made.out}/model {images}", tuple(lines)),
        Scene(
            "Why it says so",
            f"fusion explain {made.out}/model {images} -o {made.out}/why",
            images=tuple((made.address(one.png), f"{one.found.name}: {one.found.verdict}") for one in why.shown[:1]),
            page=made.address(why.page),
        ),
    ]
