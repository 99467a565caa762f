"""Arrow arrays made without pyarrow's own way there, against it."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.io import arrow_arrays


@settings(deadline=None)  # pyarrow imports pandas on its first
@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=20))
def test_texts_are_pyarrows(values):
    assert arrow_arrays.texts(values).equals(pa.array(values, pa.string()))
    arrow_arrays.texts(values).validate(full=True)


@settings(deadline=None)  # pyarrow imports pandas on its first
@given(st.lists(st.binary(max_size=5), max_size=20))
def test_blobs_are_pyarrows(values):
    assert arrow_arrays.blobs(values).equals(pa.array(values, pa.binary()))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, np.intp])
def test_numbers_are_pyarrows_and_come_back(dtype):
    values = np.arange(12).astype(dtype)[::3]
    made = arrow_arrays.numbers(values)
    assert made.equals(pa.array(values))
    np.testing.assert_array_equal(arrow_arrays.values(made[1:3]), values[1:3], strict=True)
    pieces = pa.chunked_array([made[:1], made[:0], made[1:]])
    np.testing.assert_array_equal(arrow_arrays.values(pieces), values, strict=True)
    assert len(arrow_arrays.values(pa.chunked_array([], made.type))) == 0


def test_a_number_that_is_none_stays_one():
    assert np.isnan(arrow_arrays.values(arrow_arrays.numbers(np.array([np.nan, 1])))[0])
    assert arrow_arrays.numbers(np.array([np.nan])).null_count == 0


def test_an_extraction_does_without_pandas_and_scipy(tmp_path):
    """It takes half a second to import, which is what a small run takes altogether."""
    work = f"""
import sys
from pathlib import Path
import fusion
from fusion.synthetic.cells import SyntheticDesign
root = Path({str(tmp_path)!r})
fusion.synthesize(root / "cells", SyntheticDesign(subjects=4, cells_per_subject=1))
for _ in range(2):  # measured, then found
    store = fusion.FeatureStore(root / "store")
    found = fusion.measure(fusion.load(root / "cells"), [fusion.extractor("morphology")], store, jobs=1)
assert found.reused == {{"morphology": 4}}, found.reused
assert "pandas" not in sys.modules
assert "scipy.linalg" not in sys.modules  # a quarter of a second
"""
    ran = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
