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
from tests.builders.images import ROOT

EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # what it synthesises goes with the test
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert any("text/html" in output.get("data", {}) for output in shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
