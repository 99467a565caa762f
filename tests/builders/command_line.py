"""The command line as a test types it."""

from click.testing import CliRunner

import cli


def fusion(*words):
    """The command line with these words, in this process."""
    return CliRunner().invoke(cli.fusion, [str(word) for word in words])


def assert_refused(result, code, *words):
    """A command ended with this code, with these words on standard error and nothing else to read."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr
    assert result.stdout == ""
