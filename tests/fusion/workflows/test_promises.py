"""Promises along the whole way: asked of train, kept by the model, told by predict, evaluate and judge."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient

import fusion
from fusion.bundles.model_bundle import load_model
from fusion.errors import UsageError
from fusion.evaluation.promises import model_scales
from fusion.evaluation.promises.held_out import Asked
from fusion.serve.app import create_app
from fusion.synthetic.cells import SyntheticDesign, synthesize
from tests.builders.requests import HOME, sent


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("promises")
    cells = synthesize(folder / "cells", SyntheticDesign(subjects=20, cells_per_subject=2))
    with pytest.MonkeyPatch.context() as patch:  # or 20 subjects are known by heart, and nothing is scaled
        patch.setattr(model_scales, "_BY_HEART", 100.0)
        fusion.train(
            cells,
            features=["colour"],
            classifier="logreg",
            output=folder / "model",
            sets=0.8,
            risk="sensitivity:0.8",
            risk_confidence=0.0,
            store=folder / "store",
        )
    return folder


@pytest.fixture(scope="module")
def others(trained):
    return synthesize(trained / "others", SyntheticDesign(subjects=6, cells_per_subject=2, seed=1))


def test_a_result_says_how_promises_hold_on_held_out_subjects(trained):
    facts = json.loads((trained / "model" / "model.json").read_bytes())["facts"]
    found = facts["findings"]["promises"]
    assert (found["level"], found["sensitivity"], found["confidence"]) == (0.8, 0.8, 0.0)
    assert [row["subjects"] for row in found["sets"]["subjects"]["classes"]] == [10, 10]
    assert found["risk"]["positives"] == 10


def test_a_model_keeps_scores_of_folds_as_they_are_for_a_risk_and_on_its_own_scale_for_sets(trained):
    own = load_model(trained / "model").promises.own
    facts = json.loads((trained / "model" / "model.json").read_bytes())["facts"]
    rows = facts["findings"]["promises"]
    assert own.risk_threshold("all", Asked(sensitivity=0.8, confidence=0.0)) == rows["risk"]["threshold"]
    for at, (row, scores) in enumerate(zip(rows["sets"]["subjects"]["classes"], own.unscaled, strict=True)):
        assert len(own.subjects[at]) == len(scores) == row["subjects"] == 10
        assert row["threshold"] in scores
        assert own.subjects[at] != scores


def test_predict_tells_a_set_of_every_cell_and_refers_subjects(trained, others):
    found = fusion.predict(trained / "model", [others], store=trained / "store")
    frame = found.to_frame()
    assert set(frame["set"]) <= {"all", "hem", "all|hem", ""}
    one = frame["set"].isin(["all", "hem"])
    assert (frame["referred"] == (~one | frame["out_of_distribution"].astype(bool))).all()
    for each in found.by_subject:
        assert each.referred == (not each.ruled_out)
    told = found.to_json()
    assert told["promises"] == {"level": 0.8, "sensitivity": 0.8, "confidence": 0.0}
    assert {"set", "ruled_out", "referred"} <= set(told["subjects"][0])
    assert any("80% of new cells" in line for line in found.notes)


def test_another_level_is_asked_of_the_same_model(trained, others):
    low, high = (
        fusion.predict(trained / "model", [others], sets=level, store=trained / "store") for level in (0.6, 0.9)
    )
    assert all({*a} <= {*b} for a, b in zip(low.sets, high.sets, strict=True))
    assert low.by_subject[0].ruled_out is None
    with pytest.raises(UsageError, match="too few subjects"):
        fusion.predict(trained / "model", [others], sets=0.95, store=trained / "store")


def test_evaluate_and_judge_tell_what_was_covered(trained, others):
    result = fusion.evaluate(
        trained / "model", others, output=trained / "result", other_cohort=True, store=trained / "store"
    )
    rows = result.findings["promises"]["sets"]["cells"]["classes"]
    assert [row["subjects"] for row in rows] == [3, 3]
    scores = pd.read_parquet(trained / "result" / "scores.parquet")
    with pytest.raises(UsageError, match="9 at least"):
        fusion.judge(scores, sets=0.9)
    assert fusion.judge(scores, sets=0.5).findings["promises"]["level"] == 0.5


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"sets": 0.5}, "A set of one class is an answer"),
        ({"risk": "sensitivity:0.5", "risk_confidence": 0.0}, "are ruled out, all others referred"),
    ],
)
def test_the_page_tells_what_was_asked_for_and_no_more(trained, others, tmp_path, asked, said):
    fusion.evaluate(
        trained / "model", others, output=tmp_path / "result", other_cohort=True, store=trained / "store", **asked
    )
    page = (tmp_path / "result" / "report.html").read_text()
    assert "Promises" in page
    for text in ("A set of one class is an answer", "are ruled out, all others referred"):
        assert (text in page) == (text == said)
    methods = (tmp_path / "result" / "methods.md").read_text()
    assert ("Conformal sets" in methods) == ("sets" in asked)
    assert ("risk control" in methods) == ("risk" in asked)


def test_what_cannot_be_promised_is_refused_before_anything_is_learnt(trained):
    with pytest.raises(UsageError, match="59 at least"):
        fusion.train(
            trained / "cells", features=["colour"], output=trained / "none", risk="sensitivity:0.95", store="/nowhere"
        )
    with pytest.raises(UsageError, match="too few subjects"):
        fusion.train(
            trained / "cells",
            features=["colour"],
            classifier="logreg",
            output=trained / "none",
            sets=0.8,
            holdout=True,
            store=trained / "store",
        )
    assert not (trained / "none").exists()


def test_a_subject_half_of_whose_cells_are_no_cells_is_referred_first(trained, others):
    found = fusion.predict(trained / "model", [others], store=trained / "store")
    odd = replace(found, distance=np.full(len(found), 2.0))
    assert all(each.referred and not each.ruled_out for each in odd.by_subject)
    assert all(odd.referred)


def test_the_page_answers_with_the_sets_and_referrals_of_predict(trained, others):
    told = fusion.predict(trained / "model", [others], store=trained / "store").to_json()
    images = sorted(others.rglob("*.bmp"))[:6]
    files = sent(*(image.read_bytes() for image in images), names=[image.name for image in images])
    with TestClient(create_app(load_model(trained / "model")), base_url=HOME) as client:
        answer = client.post("/api/predict", files=files).json()
    assert answer["promises"] == told["promises"] == {"level": 0.8, "sensitivity": 0.8, "confidence": 0.0}
    by_name = {Path(row["name"]).name: (row["set"], row["referred"]) for row in told["predictions"]}
    assert {row["name"]: (row["set"], row["referred"]) for row in answer["predictions"]} == {
        image.name: by_name[image.name] for image in images
    }
