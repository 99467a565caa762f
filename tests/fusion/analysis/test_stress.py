"""What worse images do to figures and features, and a page that shows it."""

import numpy as np
import pytest

from fusion.analysis.repeatability import REPEATABLE, agreement_of_features
from fusion.analysis.stress import STRESSES
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


def patients(folder, first, count, each=3):
    """A table of patients whose cells differ by their size, all of one patient a little."""
    rows = []
    for patient in range(first, first + count):
        for cell in range(each):
            seed = 1000 * patient + cell
            radius = 14 + 9 * (patient % 2) + np.random.default_rng(seed).normal()
            write_image(folder / f"{seed}.png", paint(seed, side=72, radius=radius))
            rows.append(f"{seed}.png,P{patient},{('well', 'ill')[patient % 2]}")
    table = folder / f"patients-{first}.csv"
    table.write_text("path,subject,subject_label\n" + "\n".join(rows) + "\n")
    return table


@pytest.fixture(scope="module")
def of_patients(tmp_path_factory):
    """A model of patients, and other patients."""
    folder = tmp_path_factory.mktemp("patients")
    common = {"store": folder / "store", "jobs": 1}
    given = {"features": ["morphology"], "classifier": "logreg", "splits": 3, "unit": "subject", **common}
    train(TrainConfig(data=patients(folder, 0, 8), output=folder / "model", **given))
    return {"model": folder / "model", "data": patients(folder, 100, 8), "other_cohort": True, **common}


def test_patients_are_judged_by_every_stress_with_intervals_over_patients(of_patients, tmp_path):
    result = evaluate(EvaluateConfig(**of_patients, output=tmp_path / "result", stress=True))
    found = result.findings["stress"]
    assert (found["unit"], found["patients"], found["cells"], found["all_cells"]) == ("subject", 8, 24, 24)
    rows = {row["stress"]: row for row in found["rows"]}
    assert list(rows) == ["none", *STRESSES]
    # All cells are there: without stress it is what the result itself says, and what is measured twice is the same.
    plain = rows["none"]
    assert plain["balanced_accuracy"]["value"] == result.figures[0]["image"]["balanced_accuracy"]["value"]
    assert (plain["agreement"]["value"], plain["score"]["value"]) == (1, pytest.approx(1))
    assert plain["blocks"]["morphology"]["median"]["value"] == pytest.approx(1)
    light, scale = (rows[name]["blocks"]["morphology"]["median"] for name in ("light, 10% less", "scale, 25% larger"))
    assert light["value"] > 0.95 > scale["value"]
    assert scale["low"] < scale["value"] < scale["high"]
    assert rows["scale, 20% smaller"]["score"]["value"] < rows["light, 10% less"]["score"]["value"]
    page = (tmp_path / "result" / "report.html").read_text()
    assert "The same 8 patients, by the same 24 cells" in page
    assert "Every patient is judged by a part of its cells" not in page
    assert page.count('<figcaption class="soft">') == len(rows)
    assert "Under 12 stresses of 8 patients (24 cells)" in " ".join(analysis_lines(result))


def test_of_fewer_cells_every_patient_keeps_as_many_and_cells_in_the_store_tell_the_same(
    of_patients, tmp_path, monkeypatch
):
    given = {**of_patients, "stress": True, "stress_cells": 16}
    held = evaluate(EvaluateConfig(**given, output=tmp_path / "held")).findings["stress"]
    assert (held["patients"], held["cells"], held["all_cells"]) == (8, 16, 24)
    page = (tmp_path / "held" / "report.html").read_text()
    assert "Every patient is judged by a part of its cells here, 16 of 24" in page
    monkeypatch.setattr("fusion.learning.study.HELD", 100)
    stored = evaluate(EvaluateConfig(**given, output=tmp_path / "stored")).findings["stress"]
    for one, other in zip(held["rows"], stored["rows"], strict=True):
        if one["stress"] != "none":  # which is itself up to rounding, and has no interval worth the name
            assert one["score"] == pytest.approx(other["score"], nan_ok=True)
            median = one["blocks"]["morphology"]["median"]
            assert median == pytest.approx(other["blocks"]["morphology"]["median"], nan_ok=True)
