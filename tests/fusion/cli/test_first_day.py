"""What goes wrong on a first day, and the one line that says what to do."""

import pytest

from tests.builders.command_line import assert_refused, fusion
from tests.builders.images import paint, write_image


@pytest.fixture
def here(class_folders, tmp_path, monkeypatch):
    """A working folder with cells, a table of one class, a text, a folder of settings gone wrong, and old outputs."""
    monkeypatch.chdir(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in sorted((tmp_path / "cells").rglob("*.png"))]
    rows = "".join(f"{name},all,s{at % 3}\n" for at, name in enumerate(names))
    (tmp_path / "Cells.csv").write_text("path,label,subject\n" + rows)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "prose.yaml").write_text("take the usual settings\n")
    (tmp_path / "typo.yaml").write_text("feature: [colour]\n")
    (tmp_path / "tab.yaml").write_text("\tsplits: 3\n")
    (tmp_path / "colon.yaml").write_text("data: cells: mine\n")
    for folder, files in (("result", ("result.json", "scores.parquet")), ("model", ("model.json", "config.yaml"))):
        for name in files:
            write_image(tmp_path / folder / "comparison.png", paint(1))
            (tmp_path / folder / name).write_text("{}")
    return tmp_path


OUT = ("-o", "out")

MISTAKES = {
    "a path mistyped": (("train", "cels", *OUT), "no such file or folder: cels", "Did you mean 'cells'?"),
    "no ending": (("inspect", "Cells"), "no such file or folder", "Did you mean 'Cells.csv'"),
    "the wrong case": (("inspect", "cells.CSV"), "no such file or folder", "Did you mean 'Cells.csv'?"),
    "a text": (("inspect", "notes.txt"), "notes.txt is not a data set", "a folder, an image, or a .csv"),
    "a result as data": (("inspect", "result"), "result is a result, not a data set", "fusion.Result.load"),
    "a model as data": (("train", "model", *OUT), "model is a model, not a data set", "fusion predict MODEL IMAGES"),
    "one class": (("train", "Cells.csv", *OUT), "nothing to compare", "6 labelled images, all 'all'"),
    "a list with blanks": (("train", "cells", *OUT, "--features", "colour", "texture"), "(texture)", "commas (A,B)"),
    "no -o": (("train", "cells", "out"), "(out)", "-o FOLDER"),
    "blanks around =": (("train", "cells", *OUT, "--set", "splits", "=", "3"), "(= 3)", "KEY=VALUE"),
    "no block": (("train", "cells", *OUT, "--features", ""), "wrong setting 'features'", "morphology,texture"),
    "two classifiers": (("train", "cells", *OUT, "--classifier", "svm,xgb"), "'svm,xgb'", "ablate --classifiers"),
    "a word for a number": (("train", "cells", *OUT, "--set", "splits=three"), "'three'", "a whole number"),
    "a number too low": (("train", "cells", *OUT, "--set", "splits=1"), "found: 1", "expected: 2 or more"),
    "a key alone": (("train", "cells", *OUT, "--set", "splits="), "wrong setting 'splits'", "found: nothing"),
    "a word for a parameter": (("train", "cells", *OUT, "--set", "classifiers.svm.C=big"), "C is 'big'", "a number"),
    "a tab": (
        ("train", "cells", *OUT, "--config", "tab.yaml"),
        "line 1 of tab.yaml",
        "found: a tab",
        "no tabs in front",
    ),
    "two colons": (("train", "cells", *OUT, "--config", "colon.yaml"), "a value that holds a colon in quotes"),
    "the same result twice": (("compare", "result", "./result"), "result is to be compared with itself"),
    "a demo beside cells": (("demo", "."), "cells is there already, and no demo has made it"),
    "prose for settings": (("train", "cells", *OUT, "--config", "prose.yaml"), "holds no settings", "found: text"),
    "a key mistyped": (("train", "cells", *OUT, "--config", "typo.yaml"), "in typo.yaml", "Did you mean 'features'?"),
    "no file to write": (("export", "model"), "no 'onnx' given", "as --onnx FILE"),
    "nothing to plan by": (("plan", "nowhere"), "nowhere holds no result", "no file nowhere/scores.parquet"),
    "a demo over a file": (("demo", "notes.txt"), "cannot write notes.txt"),
    "no folds": (("ablate", "cells", *OUT, "--split", "official", "--features", "colour"), "a column 'fold'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_a_first_day_is_told_with_what_to_do(mistake, here, own_store):
    words, *told = MISTAKES[mistake]
    before = sorted(here.rglob("*"))
    assert_refused(fusion(*words), 2, *told)
    assert sorted(path for path in here.rglob("*") if own_store not in (path, *path.parents)) == before


def test_help_is_a_command_too():
    assert fusion("help").stdout == fusion("--help").stdout
    assert fusion("help", "train").stdout == fusion("train", "--help").stdout
    assert "Did you mean 'train'?" in fusion("help", "trian").stderr


def test_a_long_list_of_settings_is_not_told_in_an_error():
    refused = fusion("train", "cells", *OUT, "--set", "splts=3")
    assert_refused(refused, 2, "unknown setting 'splts'", "'splits'", "fusion settings")
    assert max(map(len, refused.stderr.splitlines())) < 120
