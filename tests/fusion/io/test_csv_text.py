"""CSV that a spreadsheet shows and does not run."""

import csv
from io import StringIO

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.io.csv_text import csv_bytes, csv_rows, harmless


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1", "-", "-inf"])
def test_what_a_spreadsheet_would_run_is_made_text(text):
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1", "+0.5", "-1e-05", "cell.bmp", "a=b", "", "'quoted", "1-2"])
def test_numbers_and_names_stay_as_they_are(text):
    assert harmless(text) == text


@given(st.lists(st.text(max_size=8), min_size=1, max_size=6), st.sampled_from(["name", "=x", "p_@a"]))
def test_no_cell_of_a_table_begins_a_formula(texts, column):
    frame = pd.DataFrame({column: texts, "value": range(len(texts))})
    before = frame.copy()
    for content in (csv_bytes(frame), csv_rows([[column, "value"], *zip(texts, range(len(texts)), strict=True)])):
        for row in csv.reader(StringIO(content.decode(), newline="")):
            for cell in row:
                assert cell == harmless(cell)
    pd.testing.assert_frame_equal(frame, before)


def test_a_missing_text_stays_missing():
    frame = pd.DataFrame({"name": ["=a", None], "label": pd.Series([None, "b"], dtype=object), "p": [0.5, -1.0]})
    assert csv_bytes(frame) == b"name,label,p\n'=a,,0.5\n,b,-1.0\n"
