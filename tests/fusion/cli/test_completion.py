"""What a shell offers at Tab."""

import os
import subprocess
import sys

import pytest

from tests.builders.images import ROOT


def offered(words):
    """The completions of the last word, as bash asks for them."""
    environment = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    environment["_FUSION_COMPLETE"] = "bash_complete"
    done = subprocess.run(
        [sys.executable, "-c", "from fusion.cli import main; main()"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fusion ab", "ablate"),
        ("fusion train --set near", "near_duplicates="),
        ("fusion train --set extractors.texture.lev", "extractors.texture.levels="),
        ("fusion ablate --config cn", "cnmc"),
        ("fusion ablate --features morphology,te", "morphology,texture"),
        ("fusion train --classifier lo", "logreg"),
    ],
)
def test_names_and_keys_are_completed(words, expected):
    assert expected in offered(words)
