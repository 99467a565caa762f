"""What tables and settings say is what a training does: folds by number, a cell of nobody, names in two tables."""

import csv
import json

import pytest

from tests.builders.command_line import fusion

QUICK = ("--features", "colour", "--classifier", "xgb", "--splits", "2", "--json")


@pytest.fixture
def listed(synthetic, tmp_path):
    """Writes the synthetic cells as a table; ``change`` edits a row."""

    def write(name="cells.csv", change=lambda at, row: row):
        rows = [
            {
                "path": str(path),
                "label": path.parent.name,
                "subject": path.name.split("_")[1],
                "fold": path.parents[1].name[-1],
            }
            for path in sorted(synthetic.rglob("*.bmp"))
        ]
        rows = [change(at, row) for at, row in enumerate(rows)]
        with (tmp_path / name).open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
        return tmp_path / name

    return write


def train(*words):
    done = fusion("train", *words)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("text", ["folds: [0, 1]", "folds:\n- 0\n- '1'", "folds: ['0', '1']"])
def test_folds_that_yaml_takes_for_numbers_are_those_of_that_name(text, listed, synthetic_store, tmp_path):
    (tmp_path / "s.yaml").write_text(f"{text}\nthreshold: 0.5\n")
    table = listed()
    found = train(
        table,
        "--config",
        tmp_path / "s.yaml",
        *QUICK,
        "--store",
        synthetic_store,
        "-o",
        tmp_path / "m",
        "--positive",
        "all",
    )
    with table.open() as file:
        chosen = sum(row["fold"] in ("0", "1") for row in csv.DictReader(file))
    assert 0 < chosen < 60
    assert found["facts"]["images"] == chosen


def test_a_cell_without_a_subject_is_one_of_its_own_and_the_others_stay_known(listed, synthetic_store, tmp_path):
    def forget(at, row):
        return row | {"subject": "" if at == 7 else row["subject"]}

    found = train(listed(change=forget), *QUICK, "--store", synthetic_store, "-o", tmp_path / "m")
    assert found["facts"]["unit"] == "subject"
    assert found["facts"]["groups"] == 11
    assert "1 cell names no subject and counts as one of its own." in found["notes"]
    assert found["stamps"] == []


def test_people_of_the_judged_are_known_where_those_of_training_are_not(listed, synthetic_store, tmp_path):
    def nameless(at, row):
        return {**row, "subject": ""}

    def half(at, row):
        return row if at % 2 else row | {"label": ""}

    def other_half(at, row):
        return nameless(at, row) if at % 2 == 0 else row | {"label": "", "subject": ""}

    learnt, judged = listed("learnt.csv", other_half), listed("judged.csv", half)
    given = (
        "--features",
        "colour",
        "--classifiers",
        "xgb",
        "--json",
        "--store",
        synthetic_store,
    )
    done = fusion("ablate", learnt, "--test", judged, *given, "-o", tmp_path / "r")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["facts"]["unit"] == "subject"
    assert found["facts"]["groups"] == 10
    assert found["stamps"] == ["subjects partly unknown: 30 of 60 cells name none, and each counts as its own"]
