"""Standard output that is closed, full or of another encoding, and signals: one line, and never "a bug in Fusion"."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.builders.command_line import assert_refused, fusion
from tests.builders.images import ROOT, paint, write_image

pytestmark = pytest.mark.skipif(os.name == "nt", reason="has neither a shell nor /dev/full")

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")


def shell(line, folder, **environment):
    """A line of sh, in which $F is the command; what it printed as bytes."""
    command = f'F="{sys.executable} -m fusion"; {line}'
    given = {**os.environ, "PYTHONPATH": str(ROOT), "FUSION_CACHE": str(folder / "store"), **environment}
    return subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, env=given)


def assert_told(done, code, *words):
    message = done.stderr.decode()
    assert done.returncode == code, message
    assert "bug" not in message
    assert "Traceback" not in message
    assert "Exception ignored" not in message
    for word in words:
        assert word in message, message


@needs_full
@pytest.mark.parametrize("command", ["cache ls", "--help", "extract --help", "plugins --json", "settings extract"])
def test_a_full_disk_behind_standard_output_is_one_line(command, tmp_path):
    done = shell(f"$F {command} >/dev/full", tmp_path)
    assert_told(done, 1, "cannot print", "no space left on device")


@pytest.mark.parametrize("command", ["cache ls", "--help"])
def test_closed_streams_are_told_before_the_work(command, tmp_path):
    assert_told(shell(f"$F {command} >&-", tmp_path), 1, "standard output is closed")
    assert_told(shell(f"$F {command} <&- >&- 2>&-", tmp_path), 1)
    assert shell(f"$F {command} <&- 2>&- >out", tmp_path).returncode == 0
    assert (tmp_path / "out").stat().st_size > 0


def test_letters_that_an_encoding_lacks_are_written_out(tmp_path):
    for at, name in enumerate(("ŁŃ", "b", "\u202eevil", "new\nline")):
        write_image(tmp_path / "cells" / name / f"{at}.png", paint(at))
    done = shell("$F inspect cells; $F inspect cells --json; $F inspect ŁŃ", tmp_path, PYTHONIOENCODING="cp1252")
    assert_told(done, 2, "\\u0141\\u0143")
    assert b"\\u0141\\u0143" in done.stdout
    assert b"\\u202eevil" in done.stdout
    done = shell("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $F inspect cells", tmp_path)
    assert_told(done, 0)


def test_what_a_terminal_would_obey_is_written_out(tmp_path):
    image = write_image(tmp_path / "c.png", paint(1))
    (tmp_path / "t.csv").write_text(f"path,label\n{image},\x1b[2Jred\x1b]0;title\x07\n")
    for words in (("inspect", tmp_path / "t.csv"), ("extract", tmp_path / "t.csv", "--features", "\x1b[2Jx")):
        done = fusion(*words)
        assert "\x1b" not in done.output
        assert "\x07" not in done.output
        assert "\\x1b[2J" in done.output


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    done = shell("{ $F settings; echo $? >code; } | head -c 10 >/dev/null", tmp_path)
    assert_told(done, 0)
    assert (tmp_path / "code").read_text().strip() == "141"


def test_a_full_disk_under_an_output_is_one_line(class_folders, monkeypatch):
    import errno

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere/table.csv")

    monkeypatch.setattr("fusion.workflows.extract.run_extract", full)
    refused = fusion("extract", class_folders)
    assert_refused(refused, 1, "somewhere/table.csv", "no space left on device", "Free some space")
    assert "bug" not in refused.stderr


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_end_as_ctrl_c_does_wherever_they_meet_the_command(number, tmp_path):
    """In the middle of no work in particular: reading a pipe that nobody writes to."""
    code = (
        "import sys, time, cli, fusion.workflows.inspect as workflow\n"
        "def wait(*_):\n    print('at work', flush=True)\n    time.sleep(60)\n"
        "workflow.inspect = wait\n"
        "sys.argv = ['fusion', 'inspect', '.']\ncli.main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "at work\n"
        started = time.monotonic()
        process.send_signal(getattr(signal, number))
        _, message = process.communicate(timeout=30)
    assert (process.returncode, time.monotonic() - started < 10) == (130, True)
    assert message == "interrupted; what was measured is kept, the same command goes on from there\n"


def test_nohup_is_heard(tmp_path):
    code = "import signal, cli; from fusion.cli._standard_streams import take_signals; take_signals()\n"
    code += "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, signal.getsignal(signal.SIGTERM))"
    done = subprocess.run(["nohup", sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("True <function")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extractors: " + "[" * 5000 + "]" * 5000, "nested more than 32 levels deep"),
        ("extractors: " + "{a: " * 5000 + "1" + "}" * 5000, "nested more than 32 levels deep"),
        ("".join(f"{'  ' * at}k:\n" for at in range(500)), "nested more than 32 levels deep"),
        ("seed: " + "9" * 6000, "cannot be read"),
        ("seed: 4294967296", "4294967295 or less"),
        ("jobs: " + "9" * 4000, "1024"),
        ("seed: !!binary xyz", "base64"),
    ],
)
def test_settings_out_of_all_bounds_are_one_line(text, words, class_folders, tmp_path):
    (tmp_path / "s.yaml").write_text(text)
    refused = fusion("extract" if "seed" not in text else "inspect", class_folders, "--config", tmp_path / "s.yaml")
    assert_refused(refused, 2, words)
    assert "bug" not in refused.stderr
    assert len(refused.stderr) < 600
