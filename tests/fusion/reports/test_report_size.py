"""The page stays one that can be mailed: 45 entries on as many cells as C-NMC's training part has."""

from pathlib import Path

import numpy as np
import pytest

from fusion.analysis.cell_map import cell_map
from fusion.data.dataset import Fault, Sample
from fusion.data.feature_table import FeatureTable
from fusion.evaluation.result_of_scores import result_of_scores
from fusion.evaluation.scores import Scores
from fusion.reports import html_report
from tests.builders.images import paint, write_image

CELLS, SUBJECTS, ENTRIES, LIMIT = 10_661, 73, 45, 5_000_000


def cells():
    subject = np.arange(CELLS) % SUBJECTS
    X = np.random.default_rng(0).normal(size=(CELLS, 8)).astype(np.float32)
    names = tuple(f"fold_{at % 3}/all/UID_{at % SUBJECTS}_{at}_1_all.bmp" for at in range(CELLS))
    return FeatureTable(
        X=X,
        columns=tuple(f"{'ab'[at // 4]}.f{at}" for at in range(8)),
        names=names,
        keys=names,
        image_keys=names,
        y=tuple("all" if at % 2 else "hem" for at in subject),
        subjects=tuple(str(at) for at in subject),
        folds=(None,) * CELLS,
        groups=subject.astype(np.intp),
        subjects_known=True,
    )


@pytest.mark.slow
def test_a_page_of_45_entries_on_10661_cells_is_below_5_mb(tmp_path):
    table, rng = cells(), np.random.default_rng(1)
    truth = np.array(table.y) == "all"
    # An image that fills its square, and is harder to compress than a cell is: grain on every pixel.
    painted = paint(side=300, radius=140)
    grain = painted + rng.normal(0, 12, painted.shape) * (painted > 0)
    image = write_image(tmp_path / "cell.png", grain.clip(0, 255).astype(np.uint8))
    entries = []
    for at in range(ENTRIES):
        p = np.clip(0.5 + 0.15 * rng.normal(size=CELLS) + 0.12 * np.where(truth, 1, -1), 0.001, 0.999)
        blocks = tuple(f"block{number}" for number in range(9) if at >> number & 1) or ("none",)
        entries.append(Scores(blocks, f"classifier{at % 3}", np.stack([p, 1 - p], axis=1), table.groups % 5))
    result = result_of_scores("ablate", table, ("all", "hem"), "all", entries)
    result.facts.update(
        {
            "data": str(tmp_path),
            "images": CELLS,
            "groups": SUBJECTS,
            "unit": "subject",
            "classes": {"all": int(truth.sum()), "hem": int((~truth).sum())},
            "split": {"kind": "grouped", "folds": 5},
        }
    )
    result.findings["cell_map"] = cell_map(table, np.arange(CELLS))
    object.__setattr__(result, "faults", tuple(Fault(Path(name), "read", "cut short") for name in table.names[:500]))
    places = {name: Sample(image, name, name) for name in table.names}
    page = html_report.page(result, html_report.draw(result), places)
    assert page.count("data:image/jpeg") == 300
    assert len(page.encode()) < LIMIT
    print(f"{len(page.encode()) / 1e6:.2f} MB")
