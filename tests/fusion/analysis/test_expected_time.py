"""What a comparison will take is told before it is spent, and changes nothing that is learnt."""

from dataclasses import replace

import pytest
from numpy.testing import assert_array_equal

from fusion.analysis import expected_time
from fusion.analysis.expected_time import forecast_fits
from fusion.leakage.protocols import make_plan
from fusion.learning import fit_batches, fits
from fusion.learning.fit_batches import run_fits
from fusion.learning.fits import Fit
from fusion.progress import Forecast, tell_forecast
from tests.builders.comparisons import cells, fits_of, recipe


class Clock:
    """Seconds that fits take by a law, and nothing else."""

    def __init__(self, monkeypatch, law):
        self.now, self.fitted, self.law = 0.0, [], law
        score = fit_batches.score

        def timed(fit, load):
            rows, columns = (
                len(load.splits[fit.split].train),
                len(load.study.select(load.recipes[fit.recipe].blocks).columns),
            )
            self.fitted.append(rows)
            self.now += self.law(rows, columns)
            return score(fit, load)

        monkeypatch.setattr(fit_batches, "score", timed)

    def __call__(self):
        return self.now


def comparison(classifier, subjects=200, splits=5):
    table = cells(subjects=subjects, each=10)
    parts = [split for _, split in make_plan(table, "grouped", splits, 1, 0).splits]
    whole = recipe(table, classifier, **({"classifiers": {"xgb": {"n_estimators": 2}}} if classifier == "xgb" else {}))
    sets = [replace(whole, blocks=blocks) for blocks in (("a",), ("b",), ("a", "b"))]
    return fits_of(table, parts, sets)


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setattr(expected_time, "_WORTH_TELLING", 0)
    monkeypatch.setattr(expected_time, "_SOON", 0.0)


def test_time_in_proportion_to_cells_and_columns_is_told_as_it_will_be(monkeypatch, told):
    clock = Clock(monkeypatch, lambda rows, columns: 0.2 + 0.001 * rows * columns)
    load = comparison("xgb")
    forecast = forecast_fits(load, clock=clock)
    spent_on_trials, few = clock.now, list(clock.fitted)
    clock.now = 0.0
    list(run_fits([Fit(number, at) for number in range(3) for at in range(5)], load))
    assert forecast.seconds == pytest.approx(clock.now / forecast.processes, rel=0.1)
    assert spent_on_trials < 0.1 * clock.now
    assert max(few) <= 0.25 * len(load.splits[0].train)
    assert "15 fits" in forecast.parts[0][0]


def test_trees_that_many_cells_have_grown_in_stages_are_timed_so(monkeypatch, told):
    load = comparison("xgb")
    load = replace(
        load,
        recipes=tuple(replace(one, params={"n_estimators": 2, "staged_from": 1000}) for one in load.recipes),
    )
    asked = []
    clock = Clock(monkeypatch, lambda rows, columns: 0.2 + 0.001 * rows * columns)
    timed = fit_batches.score

    def half_in_stages(fit, load):
        staged = load.recipes[fit.recipe].build().stages(len(load.splits[fit.split].train)) > 1
        asked.append(staged)
        before = clock.now
        found = timed(fit, load)
        clock.now -= (clock.now - before) / 2 if staged else 0
        return found

    monkeypatch.setattr(fit_batches, "score", half_in_stages)
    forecast = forecast_fits(load, clock=clock)
    assert len(load.splits[0].train) > 1000
    clock.now = 0.0
    list(run_fits([Fit(number, at) for number in range(3) for at in range(5)], load))
    assert all(asked)
    assert forecast.seconds * forecast.processes == pytest.approx(clock.now, rel=0.1)


def test_time_in_the_square_of_cells_is_told_of_an_svm(monkeypatch, told):
    clock = Clock(monkeypatch, lambda rows, columns: 0.1 + 1e-6 * rows**2)
    load = replace(comparison("svm", subjects=100), sharing={"svm": "nothing"})
    forecast = forecast_fits(load, clock=clock)
    rows = len(load.splits[0].train)
    assert forecast.seconds * forecast.processes == pytest.approx(15 * (0.1 + 1e-6 * rows**2), rel=0.1)


def test_a_trial_changes_no_score(told):
    load = comparison("logreg", subjects=40)
    every = [Fit(number, at) for number in range(3) for at in range(5)]
    before = {found.fit: found.proba for found in run_fits(every, load)}
    assert isinstance(forecast_fits(load), Forecast)
    for found in run_fits(every, load):
        assert_array_equal(found.proba, before[found.fit])


def test_what_is_done_at_once_is_not_told():
    assert forecast_fits(comparison("logreg", subjects=12)) is None


def test_a_forecast_says_what_it_is_made_of():
    forecast = Forecast(
        "fitting",
        "fitting 375 models",
        2400,
        2,
        "fits of 400 and 1,600 cells timed",
        (("svm, 75 fits", 1500), ("xgb, 300 fits", 900)),
    )
    assert str(forecast) == (
        "fitting 375 models: about 40 min 0 s on 2 processes: svm, 75 fits 25 min 0 s, xgb, 300 fits 15 min 0 s "
        "(from fits of 400 and 1,600 cells timed)"
    )


def test_no_forecast_is_made_where_nobody_listens():
    tell_forecast(lambda *step: pytest.fail("a forecast is no step"), lambda: pytest.fail("a trial for nobody"))
    tell_forecast(None, lambda: pytest.fail("a trial for nobody"))


def test_blocks_that_are_learnt_are_counted_as_others(told):
    load = comparison("logreg", subjects=40)
    rows = tuple(load.study.table.X[:, :4].copy() for _ in load.splits)
    recipes = tuple(replace(one, blocks=(*one.blocks, "cnn")) for one in load.recipes)
    learnt = replace(load, recipes=(*load.recipes, *recipes), embedded={"cnn": rows})
    assert "30 fits" in forecast_fits(learnt).parts[0][0]


def test_networks_that_no_trial_stands_for_are_said_to_be_left_out(monkeypatch, told):
    load = comparison("logreg", subjects=40)
    assert "not counted" not in str(forecast_fits(load))
    monkeypatch.setattr(fits.Fits, "is_for_workers", lambda own, fit: fit.recipe > 0)
    forecast = forecast_fits(load)
    assert "10 fits" in forecast.parts[0][0]
    assert str(forecast).endswith("; not counted: 5 networks, whose epochs tell")
