"""Patients whose labels are wrong are found, their cells speak against them, and the corrected table runs."""

import csv
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fusion.analysis.label_audit import audit_labels
from fusion.errors import UsageError
from fusion.evaluation.results import Result
from fusion.reports import html_report
from fusion.settings.commands import AblateConfig, InspectConfig
from fusion.workflows.ablate import ablate
from fusion.workflows.audits import patients as audited
from fusion.workflows.audits import speaking_cells as speaking
from fusion.workflows.inspect import inspect
from tests.builders.images import paint, write_image

PATIENTS, EACH = 14, 4

#: Patients with the label of the others, and two of different classes who have an image in common.
WRONG, TWINS = ("P2", "P5"), ("P8", "P11")


def write_cohort(folder):
    """Patients of four cells, three of which are large where they are ill; their classes in a table of patients."""
    cells, people = [], []
    for patient in range(PATIENTS):
        is_ill = patient % 2 == 1
        for at in range(EACH):
            seed = 100 * patient + at
            write_image(folder / f"{seed}.png", paint(seed, side=80, radius=24 if is_ill and at else 13))
            cells.append([f"{seed}.png", f"P{patient}", "north"])
        label = ("well", "ill")[is_ill != (f"P{patient}" in WRONG)]
        people.append([f"P{patient}", label, 20 + patient])
    (folder / "twin.png").write_bytes((folder / "800.png").read_bytes())
    cells.append(["twin.png", TWINS[1], "north"])
    pd.DataFrame(cells, columns=["path", "subject", "source"]).to_csv(folder / "cells.csv", index=False)
    pd.DataFrame(people, columns=["id", "diagnosis", "age"]).to_csv(folder / "people.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """The cohort, how it is read, and a comparison on it."""
    folder = write_cohort(tmp_path_factory.mktemp("cohort"))
    read = {
        "data": folder / "cells.csv",
        "patients": folder / "people.csv",
        "patient_columns": {"subject": "id", "label": "diagnosis"},
        "store": folder / "store",
        "jobs": 1,
    }
    given = {"features": ["morphology"], "compare": ["logreg", "pool"], "repeats": 1, "splits": 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html_report, "write_report", lambda *given: None)
        ablate(AblateConfig(**read, **given, unit="subject", output=folder / "result"))
    return folder, read


def rows_of(table):
    with table.open() as file:
        return list(csv.DictReader(file))


def test_the_way_from_patients_in_doubt_to_a_corrected_table(cohort, tmp_path, monkeypatch):
    folder, read = cohort
    out = tmp_path / "audit"
    drawn = []
    tile = audited._tile
    monkeypatch.setattr(audited, "_tile", lambda *given: drawn.append(given[1:]) or tile(*given))
    found = inspect(InspectConfig(**read, labels=folder / "result", output=out)).labels
    named = [one.name for one in found.audit.suspects]
    assert sorted(named[:2]) == sorted(f"{one} of north" for one in TWINS)
    assert sorted(named[2:4]) == sorted(f"{one} of north" for one in WRONG)
    assert len(named) <= 5
    assert found.audit.two_labels == 2
    assert found.audit.confident.high >= len(WRONG) / PATIENTS
    # Of each, six tiles: the large cells of the ill one that is called well, and none of its small one.
    (mine,) = [one for one in found.audit.suspects if one.name == f"{WRONG[1]} of north"]
    assert (mine.label, mine.suggestion) == ("well", "ill")
    own = [(cell, title) for cell, title in drawn if title.startswith(f"{mine.name}, well: ill")]
    assert [cell for cell, _ in own][-1] == "500.png"
    assert {cell for cell, _ in own[:3]} == {"501.png", "502.png", "503.png"}
    assert [cell for cell, _ in drawn[:2]] in (["800.png", "twin.png"], ["twin.png", "800.png"])
    assert [path.name for path in found.sheets] == ["overlays-001.png", "overlays-002.png"][: len(found.sheets)]
    # The table has a row a patient, with what else was said of it; corrected by hand, it runs.
    rows = rows_of(out / "patients.csv")
    assert len(rows) == PATIENTS
    assert {row["subject"]: row["age"] for row in rows}["P3"] == "23"
    for row in rows:
        if row["subject"] in WRONG:
            row["label"] = row["suggestion"]
    pd.DataFrame(rows).to_csv(out / "patients.csv", index=False)
    monkeypatch.setattr(html_report, "write_report", lambda *given: None)
    given = {"data": out / "cells.csv", "patients": out / "patients.csv", "unit": "subject", "by": ["age"]}
    given |= {"store": read["store"], "jobs": 1, "features": ["morphology"], "compare": ["logreg"], "repeats": 1}
    again = ablate(AblateConfig(**given, splits=3, output=tmp_path / "again"))
    assert dict(zip(again.cells.subjects, again.cells.y, strict=True)) == {
        f"P{patient}": ("well", "ill")[patient % 2] for patient in range(PATIENTS)
    }
    # What was corrected is not written over.
    with pytest.raises(UsageError, match=r"found: 2 rows whose label(.*\n)*.*give it with --patients"):
        inspect(InspectConfig(**read, labels=folder / "result", output=out))


def test_a_patient_whose_label_is_emptied_is_left_out(cohort, tmp_path, monkeypatch):
    folder, read = cohort
    inspect(InspectConfig(**read, labels=folder / "result", output=tmp_path / "audit"))
    frame = pd.read_csv(tmp_path / "audit" / "patients.csv")
    frame.loc[frame["subject"] == WRONG[0], "label"] = None
    frame.to_csv(tmp_path / "audit" / "patients.csv", index=False)
    monkeypatch.setattr(html_report, "write_report", lambda *given: None)
    given = {"data": tmp_path / "audit" / "cells.csv", "patients": tmp_path / "audit" / "patients.csv"}
    given |= {"store": read["store"], "jobs": 1, "features": ["morphology"], "compare": ["logreg"], "repeats": 1}
    result = ablate(AblateConfig(**given, unit="subject", splits=3, output=tmp_path / "again"))
    assert set(result.cells.subjects) == {f"P{patient}" for patient in range(PATIENTS)} - {WRONG[0]}


def test_no_cell_is_told_by_a_model_that_has_met_its_patient(cohort, tmp_path, monkeypatch):
    folder, read = cohort
    learn, met = speaking.learn, []

    def listening(study, units, *more):
        met.append(units)
        assert study.table.are_subjects
        return learn(study, units, *more)

    monkeypatch.setattr(speaking, "learn", listening)
    alone, asked = speaking._cells_alone, []
    monkeypatch.setattr(speaking, "_cells_alone", lambda study, rows: asked.append(rows) or alone(study, rows))
    inspect(InspectConfig(**read, labels=folder / "result", output=tmp_path / "audit"))
    assert asked
    for learnt, scored in zip(met, asked, strict=True):
        assert not set(learnt) & set(scored)


def test_a_result_on_other_patients_is_refused(cohort, tmp_path):
    folder, read = cohort
    fewer = tmp_path / "fewer.csv"
    frame = pd.read_csv(folder / "cells.csv")
    frame["path"] = [str(folder / path) for path in frame["path"]]
    frame[frame["subject"] != "P3"].to_csv(fewer, index=False)
    with pytest.raises(UsageError, match=r"1 of its 14 patients are not in the data, such as P3 of north"):
        inspect(InspectConfig(**{**read, "data": fewer}, labels=folder / "result", output=tmp_path / "audit"))


def test_scores_of_anybody_are_audited_without_cells_that_speak(cohort, tmp_path, monkeypatch):
    """A result of judge names no features: the table is written, and only cells alike are drawn."""
    folder, read = cohort
    copy = tmp_path / "result"
    copy.mkdir()
    for name in ("result.json", "scores.parquet", "config.yaml"):
        (copy / name).write_bytes((folder / "result" / name).read_bytes())
    content = json.loads((copy / "result.json").read_text())
    (copy / "result.json").write_text(json.dumps({**content, "command": "judge"}))
    drawn = []
    tile = audited._tile
    monkeypatch.setattr(audited, "_tile", lambda *given: drawn.append(given[1]) or tile(*given))
    found = inspect(InspectConfig(**read, labels=copy, output=tmp_path / "audit")).labels
    assert len(found.audit.suspects) >= 4
    assert set(drawn) == {"800.png", "twin.png"}


def test_a_wrong_label_of_whom_every_entry_is_right_is_seen(cohort):
    """What the share of patients of whom every entry is right promises, done to each of them by the same scores."""
    result = Result.load(cohort[0] / "result")
    plain = audit_labels(result)
    right = 0
    for at, label in enumerate(result.cells.y):
        y = list(result.cells.y)
        y[at] = next(each for each in result.classes if each != label)
        found = audit_labels(replace(result, cells=replace(result.cells, y=tuple(y))))
        said = {one.name: one.reasons[-1] for one in found.suspects}
        right += said.get(result.cells.names[at], "").startswith("every entry says otherwise")
    assert plain.unit == "subject"
    assert right / len(result.cells) == pytest.approx(plain.always_right["value"])
    assert 0 < right < len(result.cells)
    assert plain.lift == pytest.approx(right / plain.always_wrong)
    assert np.isfinite(plain.always_right["low"])
    assert any(line.strip().startswith("every entry is right about") for line in plain.lines())
