"""What worse images do to figures and features, and a page that shows it."""

import numpy as np
import pytest

from fusion.analysis.stress import REPEATABLE, STRESSES, agreement_of_features
from fusion.evaluation.analysis_lines import analysis_lines
from fusion.settings.commands import EvaluateConfig, TrainConfig
from fusion.workflows.evaluate import evaluate
from fusion.workflows.train import train
from tests.builders.images import paint, write_image


def test_agreement_of_a_worked_example():
    # Shrout and Fleiss (1979), table 2, judges 1 and 2, by sums of squares.
    first = np.array([[9.0], [6], [8], [7], [10], [6]])
    second = np.array([[2.0], [1], [4], [1], [5], [2]])
    cells, judges = (first + second) / 2, np.array([first.mean(), second.mean()])
    grand = judges.mean()
    between = 2 * ((cells - grand) ** 2).sum() / 5
    of_judges = 6 * ((judges - grand) ** 2).sum()
    error = sum(((x - cells - m + grand) ** 2).sum() for x, m in zip((first, second), judges, strict=True)) / 5
    expected = (between - error) / (between + error + 2 * (of_judges - error) / 6)
    assert agreement_of_features(first, second)[0] == pytest.approx(expected)
    assert agreement_of_features(first, first)[0] == pytest.approx(1)
    # A shift keeps the order, and is no agreement; what does not vary, or is unknown, has none.
    assert agreement_of_features(first, first + 5)[0] < REPEATABLE
    assert np.isnan(agreement_of_features(np.full((6, 1), np.nan), second)[0])
    assert np.isnan(agreement_of_features(np.ones((6, 1)), np.ones((6, 1)))[0])


def test_evaluate_tells_what_stress_does_and_shows_it(tmp_path):
    tables = []
    for name, cells in (("learnt", 24), ("new", 16)):
        rows = []
        for at in range(cells):
            radius = 14 + 7 * (at % 2) + np.random.default_rng([cells, at]).normal()
            write_image(tmp_path / f"{name}-{at}.png", paint(100 * cells + at, side=72, radius=radius))
            rows.append(f"{name}-{at}.png,{'ab'[at % 2]}")
        tables.append(tmp_path / f"{name}.csv")
        tables[-1].write_text("path,label\n" + "\n".join(rows) + "\n")
    common = {"store": tmp_path / "store", "jobs": 1}
    train(
        TrainConfig(
            data=tables[0],
            features=["morphology"],
            classifier="logreg",
            splits=3,
            output=tmp_path / "model",
            **common,
        )
    )
    stages = []
    result = evaluate(
        EvaluateConfig(
            model=tmp_path / "model", data=tables[1], output=tmp_path / "result", stress=True, stress_cells=8, **common
        ),
        lambda stage, *_: stages.append(stage),
    )
    assert set(STRESSES) <= set(stages)
    found = result.findings["stress"]
    assert found["cells"] == 8
    rows = {row["stress"]: row for row in found["rows"]}
    assert list(rows) == ["none", *STRESSES]
    assert rows["none"]["blocks"]["morphology"] == {"median": pytest.approx(1), "repeatable": 1}
    assert rows["none"]["agreement"] == 1
    # Shape hardly minds light; sizes in pixels mind the scale.
    light, scale = (rows[name]["blocks"]["morphology"]["median"] for name in ("light, 10% less", "scale, 25% larger"))
    assert light > 0.95 > scale
    page = (tmp_path / "result" / "report.html").read_text()
    assert "Under stress" in page
    assert page.count('<figcaption class="soft">') == len(rows)
    assert page.count("data:image/png;base64") >= 2 * len(rows)
    assert "Under 12 stresses of 8 cells" in " ".join(analysis_lines(result))
