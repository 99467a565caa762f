"""What stands on the terminal: figures whole, progress only where someone looks, warnings always."""

import json
import logging

import pytest
from click.testing import CliRunner

import cli
from fusion.cli.console import Screen
from fusion.cli.runner import tell

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


def test_a_line_is_broken_between_words_and_goes_on_further_in(narrow, capsys):
    path = "a/folder/that/is/longer/than/the/terminal/is/wide/image.png"
    screen = Screen()
    screen.line("  pixels: 120 x 120 (224); 112 x 116 (12); and 26 more")
    screen.note(f"{path}: cannot be read, and is left out of it all")
    message = capsys.readouterr()
    assert message.out == "  pixels: 120 x 120 (224); 112 x 116 (12); and 26\n    more\n"
    assert message.err == f"{path}:\n  cannot be read, and is left out of it all\n"


def test_an_error_is_broken_as_all_lines_are(narrow, capsys):
    tell("fusion train: nothing\n  found: words that go on for longer than a line of it")
    lines = ["fusion train: nothing", "  found: words that go on for longer than a line", "    of it"]
    assert capsys.readouterr().err.splitlines() == lines


def test_a_pipe_gets_every_line_whole(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    Screen().line("word " * 99 + "end")
    assert len(capsys.readouterr().out.splitlines()) == 1


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


def test_every_command_can_add_what_happens_to_a_file(synthetic, synthetic_store, tmp_path):
    log = tmp_path / "log.jsonl"
    ran = CliRunner().invoke(
        cli.fusion, ["inspect", str(synthetic), "--set", f"store={synthetic_store}", "--log", str(log)]
    )
    assert ran.exit_code == 0, ran.output
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in (events[0], events[-1])] == ["begin", "end"]
    assert events[-1]["exit_code"] == 0
    refused = CliRunner().invoke(cli.fusion, ["inspect", "absent", "--log", str(log)])
    assert refused.exit_code == 2
    assert json.loads(log.read_text().splitlines()[-1])["exit_code"] == 2


def test_a_log_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path):
    ran = CliRunner().invoke(cli.fusion, ["inspect", "absent", "--log", str(tmp_path)])
    assert ran.exit_code == 2
    assert "cannot write the log" in ran.output


def test_without_a_terminal_a_stage_is_told_in_a_line(capsys):
    with Screen() as screen:
        screen.progress("measuring", 0, 1200, 0)
        screen.progress("measuring", 1200, 1200, 2)
    assert "measuring cells: 1,200 in 0 s, 2 skipped" in capsys.readouterr().err
