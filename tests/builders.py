"""What several test modules build, ask and check in the same words."""

import numpy as np
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


def rings(n=240, groups=24, seed=0):
    """A ring around a disc: no plane parts them. Groups of ten cells."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    angle, away = rng.uniform(0, 2 * np.pi, n), np.where(y, 1.6, 0.6) + rng.normal(0, 0.25, n)
    X = np.column_stack([away * np.cos(angle), away * np.sin(angle), rng.normal(0, 0.5, (n, 4))])
    return X, y, np.repeat(np.arange(groups), n // groups)
