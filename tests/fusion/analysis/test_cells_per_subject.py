"""How many cells are enough: spreads found again, shares by exact probability, and what is planned by them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm

from fusion.analysis.cells_per_subject import CELLS, MarginSpread, assumed_spread, cells_enough, margin_spreads
from fusion.settings.commands import PlanConfig
from fusion.workflows.plan import plan_study
from tests.builders.command_line import fusion
from tests.builders.results import result


def test_spreads_of_unequal_subjects_are_found_again():
    rng = np.random.default_rng(0)
    size = rng.integers(2, 40, 2000)
    subjects = np.repeat(np.arange(2000), size)
    margins = 0.3 + 0.5 * rng.normal(size=2000)[subjects] + 0.8 * rng.normal(size=len(subjects))
    (found,) = margin_spreads(margins, ["all"] * len(subjects), subjects).values()
    assert_allclose((found.mean, found.between, found.within), (0.3, 0.5, 0.8), atol=0.04)
    assert (found.subjects, found.cells) == (2000, len(subjects))


def test_of_subjects_that_do_not_differ_enough_cells_are_always_right():
    assert MarginSpread(0.1, 0.0, 1.0).share_right(math.inf) == 1
    assert_allclose(MarginSpread(0.1, 0.0, 1.0).share_right(100), norm.cdf(1.0))
    assert_allclose(MarginSpread(0.1, 0.1, 1.0).share_right(1e9), norm.cdf(1.0), atol=1e-6)


def test_a_class_without_two_subjects_of_several_cells_tells_nothing():
    assert margin_spreads(np.ones(3), ["a", "a", "b"], np.array([0, 1, 2])) == {}


def test_an_assumed_spread_has_the_accuracy_and_the_correlation_that_are_assumed():
    spread, rng = assumed_spread(0.8, 0.3), np.random.default_rng(1)
    margins = spread.mean + spread.between * rng.normal(size=(20_000, 1)) + spread.within * rng.normal(size=(20_000, 2))
    assert_allclose((margins > 0).mean(), 0.8, atol=0.01)
    assert_allclose(np.corrcoef(margins.T)[0, 1], 0.3, atol=0.02)


def test_more_cells_help_to_a_ceiling_and_more_subjects_narrow_the_interval():
    found = cells_enough({"all": assumed_spread(0.75, 0.3), "hem": assumed_spread(0.85, 0.1)})
    values = [row["balanced_accuracy"] for row in found["rows"]]
    assert values == sorted(values)
    assert values[-1] < found["ceiling"] <= 1
    at = {row["cells"]: row["balanced_accuracy"] for row in found["rows"]}
    assert [row["cells"] for row in found["rows"]] == list(CELLS)
    assert at[10] < found["ceiling"] - 0.01 < at[100]
    for row in found["rows"]:
        widths = list(row["half_width"].values())
        assert widths == sorted(widths, reverse=True)
    of_200 = 1.96 * math.sqrt((0.75 * 0.25 + 0.85 * 0.15) / 200) / 2
    assert_allclose(found["rows"][0]["half_width"]["200"], of_200, rtol=0.02)


@pytest.fixture(scope="module")
def pilot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pilot")
    result().save(folder, folder)
    return folder


def test_a_plan_tells_how_many_cells_of_a_subject_are_enough(pilot):
    done = fusion("plan", pilot, "--json")
    found = json.loads(done.stdout)["cells"]
    assert set(found["spreads"]) == {"all", "hem"}
    assert found["spreads"]["all"]["subjects"] == 8
    assert 0.5 < found["rows"][0]["balanced_accuracy"] <= found["ceiling"]
    assert f"{found['enough']} cells of a subject" in fusion("plan", pilot).stdout


def test_a_pilot_may_be_a_table_of_scores(pilot):
    folder, table = (plan_study(PlanConfig(result=path)) for path in (pilot, pilot / "scores.parquet"))
    assert folder.cells == table.cells
    assert folder.needed == table.needed


def test_one_entry_is_planned_by_with_an_assumed_correlation(tmp_path):
    import pandas as pd

    result().save(tmp_path / "all", tmp_path)
    frame = pd.read_parquet(tmp_path / "all" / "scores.parquet")
    one = frame[(frame["features"] == "colour") & (frame["classifier"] == "svm")]
    one.drop(columns="predicted").to_csv(tmp_path / "one.csv", index=False)
    found = plan_study(PlanConfig(result=tmp_path / "one.csv"))
    assert "against one that correlates 0.66 with it" in found.notes[0]
    closer = plan_study(PlanConfig(result=tmp_path / "one.csv", between_sets=0.9))
    for name, value in found.spreads.deviations.items():
        assert_allclose(closer.spreads.deviations[name] / value, math.sqrt(0.1 / 0.34))
