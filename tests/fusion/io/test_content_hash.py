"""Content keys are found in each other exactly, by whatever way is the cheaper one."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.io import content_hash
from fusion.io.content_hash import as_arrow, distinct, positions

DIGESTS = [hashlib.sha256(bytes([at])).hexdigest() for at in range(40)]

#: Two different keys whose first digits fold into one number: the second eight make up for what the first eight differ.
ALIKE = ["0" * 64, "0" * 63 + "1"]

texts = st.lists(st.sampled_from(DIGESTS), max_size=60) | st.lists(st.sampled_from([*DIGESTS[:5], *ALIKE, "short", ""]))


def chunked(values: list[str], cut: int) -> pa.ChunkedArray:
    """The values in pieces, some of them empty, some seen through a slice."""
    whole = pa.array(["before", *values], pa.string())[1:]
    return pa.chunked_array([whole[:cut], whole[:0], whole[cut:]], pa.string())


@settings(deadline=None)
@given(texts, texts, st.integers(0, 60), st.integers(0, 60))
def test_positions_are_those_of_the_first_occurrence(wanted, among, cut, other_cut):
    expected = [among.index(key) if key in among else -1 for key in wanted]

    assert positions(chunked(wanted, cut), chunked(among, other_cut)).tolist() == expected


def test_content_keys_are_found_by_sorting_and_other_texts_by_arrow():
    digests = as_arrow(DIGESTS)

    assert content_hash._by_sorting(digests.take([3, 5]), digests).tolist() == [3, 5]
    assert content_hash._by_sorting(as_arrow(["short"]), digests) is None
    assert content_hash._by_sorting(as_arrow(ALIKE), as_arrow(ALIKE)) is None


def test_distinct_tells_first_places_and_which_is_whose():
    places, which = distinct(as_arrow([DIGESTS[1], DIGESTS[0], DIGESTS[1]]))

    assert np.array_equal(places, [0, 1])
    assert np.array_equal(which, [0, 1, 0])
