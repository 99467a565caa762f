"""Every public name has an example, and every example runs."""

import doctest
import inspect

import cv2
import pytest

import fusion
from tests.documentation.test_documentation import stand_in

NAMES = [name for name in fusion.__all__ if not name.startswith("_")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the examples take as given: cells as a folder and as a table, other cells, a model."""
    from fusion.synthetic.cells import SyntheticDesign, synthesize

    folder = tmp_path_factory.mktemp("place")
    stand_in(folder, "C-NMC_training_data cells.csv")
    (folder / "C-NMC_training_data").rename(folder / "cells")
    table = (folder / "cells.csv").read_text()
    (folder / "cells.csv").write_text(table.replace("C-NMC_training_data/", "cells/"))
    (folder / "C-NMC_training_data").symlink_to(folder / "cells")
    synthesize(folder / "new cells", SyntheticDesign(subjects=6, cells_per_subject=4, seed=9), jobs=1)
    fusion.train(
        folder / "cells", classifier="logreg", features=["morphology"], output=folder / "model", store=folder / "store"
    )
    for name in ("with-colour", "without"):
        fusion.evaluate(
            folder / "model", folder / "new cells", other_cohort=True, output=folder / name, store=folder / "store"
        )
    some, other, *_ = sorted((folder / "new cells").rglob("*.bmp"))
    (folder / "cell.bmp").write_bytes(some.read_bytes())
    for name, image in (("a.png", some), ("b.png", other)):
        assert cv2.imwrite(str(folder / name), cv2.imread(str(image)))
    rows = [f"{at // 3},{'all' if at < 12 else 'hem'},{(25 - at + 7 * (at % 3)) / 40}" for at in range(24)]
    (folder / "scores.csv").write_text("subject,label,score\n" + "\n".join(rows) + "\n")
    return folder


def examples(name):
    """The lines of code in the docstring of a public name."""
    text = inspect.getdoc(getattr(fusion, name)) or ""
    return [example.source for example in doctest.DocTestParser().get_examples(text)]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_an_example(name):
    assert examples(name), f"fusion.{name} has no example in its docstring"


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_public_name_runs(name, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setenv("FUSION_CACHE", str(place / "store"))
    found = {"fusion": fusion, **{each: getattr(fusion, each) for each in NAMES}}
    for source in examples(name):
        exec(compile(source, f"fusion.{name}", "single"), found)
