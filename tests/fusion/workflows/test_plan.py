"""``fusion plan``: by a pilot or by assumptions."""

import json

import pytest

from fusion.settings.commands import PlanConfig
from fusion.workflows.plan import plan_study
from tests.builders.command_line import assert_refused, fusion
from tests.builders.results import result


@pytest.fixture(scope="module")
def pilot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pilot")
    result().save(folder, folder)
    return folder


def test_a_pilot_tells_how_many_subjects_a_difference_needs(pilot):
    found = json.loads(fusion("plan", pilot, "--difference", 0.1, "--json").stdout)
    assert found["pilot_subjects"] == {"all": 8, "hem": 8}
    assert found["detectable"][0]["subjects"] == {"all": 8, "hem": 8}
    # What eight of each can find is more than .1, and .1 needs more than eight.
    assert found["detectable"][0]["difference"] > 0.1
    assert 8 < found["needed"]["all"] < found["cautious"]["all"]
    smallest = [row["difference"] for row in found["detectable"][1:]]
    assert smallest == sorted(smallest, reverse=True)


def test_two_entries_may_be_named(pilot):
    every = plan_study(PlanConfig(result=pilot))
    named = plan_study(PlanConfig(result=pilot, entries=["svm/colour", "svm/texture+colour"]))
    assert "svm/colour against svm/texture+colour" in named.notes[0]
    assert named.spreads.deviations != every.spreads.deviations


def test_without_a_pilot_it_says_what_it_assumes():
    done = fusion("plan", "--subjects", "47,26", "--difference", 0.1)
    assert done.exit_code == 0, done.stderr
    assert "47 positive + 26 negative" in done.stdout
    assert "assumed: 0.85 of the cells of a class recognised, 100 cells a subject" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--subjects", "47"], "a number for each of positive, negative"),
        (["--subjects", "47,1"], "two or more of each class"),
        (["--entries", "a,b"], "no result"),
        (["nowhere"], "holds no result"),
    ],
)
def test_wrong_use_is_told(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = fusion("plan", *words)
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    if said != "no result":
        assert said in done.stderr


def test_an_entry_that_is_not_there_is_told_with_those_that_are(pilot):
    assert_refused(fusion("plan", pilot, "--entries", "svm/texture,svm/absent"), 2, "svm/absent", "svm/colour")
