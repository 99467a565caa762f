"""What lies under examples/ runs as it is."""

import os
import runpy
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedGroupKFold, cross_validate

import fusion
from fusion.evaluation.result_of_scores import result_of_scores
from fusion.evaluation.scores import Scores
from tests.builders import comparisons
from tests.builders.images import ROOT
from tests.documentation import notebooks

EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
#: The notebook that is run every time; the others are where there is time.
QUICK = "explain_one_cell"


@pytest.fixture(scope="module")
def exported(synthetic, synthetic_store, tmp_path_factory):
    """A table as fusion extract exports it, with missing values in it."""
    file = tmp_path_factory.mktemp("exported") / "cells.parquet"
    extractors = [fusion.extractor("colour"), fusion.extractor("morphology")]
    found = fusion.measure(fusion.load(synthetic), extractors, fusion.FeatureStore(synthetic_store), jobs=1)
    found.save(file)
    return file


def test_the_pipeline_runs_from_the_command_line(exported):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "pipeline.py", exported],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *folds, mean = done.stdout.splitlines()
    assert len(folds) == 3
    assert all(line.startswith("balanced accuracy ") and "fuse__pca" in line for line in folds)
    assert 0 <= float(mean.removeprefix("mean ")) <= 1


def test_the_pipeline_judges_as_scikit_learn_does_when_it_routes_the_groups_itself(exported):
    import sklearn

    example = runpy.run_path(str(EXAMPLES / "pipeline.py"))
    table = pd.read_parquet(exported)
    ours = [score for score, _ in example["judge"](table)]
    X, y, groups = table.drop(columns=example["HEAD"]), table["label"], table["group"]
    with sklearn.config_context(enable_metadata_routing=True):
        theirs = cross_validate(
            example["search"](),
            X,
            y,
            params={"groups": groups},
            cv=StratifiedGroupKFold(3),
            scoring="balanced_accuracy",
        )
    assert np.allclose(ours, theirs["test_score"])


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[] if p.stem == QUICK else pytest.mark.slow) for p in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs_from_top_to_bottom_and_shows_what_is_stored_with_it(path, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # what it synthesises goes with the test
    stored = nbformat.read(path, as_version=4)
    run = notebooks.run(path, tmp_path)
    cells = [(old, new) for old, new in zip(stored.cells, run.cells, strict=True) if old.cell_type == "code"]
    for old, new in cells:
        # Figures of an earlier version are not shown; another machine may round the last digit of another one.
        assert [notebooks.kinds(output) for output in old.outputs] == [
            notebooks.kinds(output) for output in new.outputs
        ]
        assert "error" not in {output.output_type for output in old.outputs}
    shown = [output for _, new in cells for output in new.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert any("text/html" in output.get("data", {}) for output in shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_names_no_folder_and_no_kernel_of_whoever_ran_it(path):
    notebook = nbformat.read(path, as_version=4)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any(cell.metadata for cell in notebook.cells)
    assert "/tmp" not in path.read_text()


def test_scores_of_scikit_learn_alone_get_the_figures_that_ablate_would_give_them(tmp_path):
    example = runpy.run_path(str(EXAMPLES / "judge_scores.py"))
    cells = comparisons.cells(subjects=16, each=4)
    table = pd.DataFrame(cells.X, columns=cells.columns).assign(subject=cells.subjects, label=cells.y)
    table.to_csv(tmp_path / "cells.csv", index=False)
    words = [sys.executable, EXAMPLES / "judge_scores.py", tmp_path / "cells.csv", tmp_path / "scores.csv"]
    done = subprocess.run(words, capture_output=True, text=True)  # Fusion is not on its path
    assert done.returncode == 0, done.stderr
    judged = fusion.judge(tmp_path / "scores.csv", positive="all")
    # The same scores as the comparison of Fusion's own models would hand them to its judgement.
    rows = pd.read_csv(tmp_path / "scores.csv", dtype={"score": str})
    entries = []
    for name in example["MODELS"]:
        proba, fold = np.full((2, len(cells), 2), np.nan), np.full((2, len(cells)), -1, np.intp)
        for row in rows[rows["entry"] == name].itertuples():
            proba[row.repeat, row.cell] = float(row.score), 1 - float(row.score)
            fold[row.repeat, row.cell] = row.fold
        entries.append(Scores((name,), "", proba, fold))
    own = result_of_scores("ablate", cells, ["all", "hem"], "all", entries)
    pd.testing.assert_frame_equal(judged.to_frame(), own.to_frame(), check_exact=True)
    pd.testing.assert_frame_equal(judged.differences(), own.differences(), check_exact=True)
    assert judged.best() == own.best()
