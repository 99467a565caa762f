"""What stands on the terminal: figures whole, progress only where someone looks, warnings always."""

import json
import logging

import pytest

from fusion.cli.console import Screen

ROWS = [["morphology + texture + colour + cnn", "svm", "0.910 [0.875, 0.942]"], ["texture", "xgb", "0.821 [0.7, 0.9]"]]


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")


def test_a_figure_is_never_torn_and_words_go_on_below(narrow, capsys):
    Screen().table(["features", "classifier", "balanced accuracy"], ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 50
    assert any("0.910 [0.875, 0.942]" in line for line in lines)
    assert "cnn" in " ".join(lines)


def test_a_pipe_gets_every_row_in_one_line(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    Screen().table(["features", "classifier", "balanced accuracy"], [["x" * 200, "svm", "0.5"]])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_pipe_gets_no_bars(capsys):
    with Screen() as screen:
        screen.progress("measuring", 1, 2, 0)
        screen.line("done")
    message = capsys.readouterr()
    assert (message.out, message.err) == ("done\n", "")


def test_json_is_all_there_is_on_standard_output(capsys):
    with Screen(as_json=True) as screen:
        screen.line("a line")
        screen.table(["a"], [["1"]])
        screen.json({"a": 1})
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_quiet_hides_notes_but_no_warning(capsys):
    log = logging.getLogger("fusion")
    with Screen(quiet=True) as screen:
        screen.note("a note")
        screen.warn("leaky")
        log.warning("damaged")
    assert capsys.readouterr().err.split() == ["leaky", "damaged"]
    assert not log.handlers
