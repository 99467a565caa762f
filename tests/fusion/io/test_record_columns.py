"""Records kept as columns are the records that were put in."""

import inspect
import pickle
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.io.record_columns import Columns


@dataclass(frozen=True)
class Record:
    path: Path
    key: str | None
    label: str | None = None
    size: float | None = None


NAMES = (
    st.binary(min_size=1, max_size=8)
    .filter(lambda name: not {0, 47} & set(name))
    .map(lambda name: name.decode("utf-8", "surrogateescape"))
)
RECORDS = st.lists(
    st.builds(
        Record,
        NAMES.map(Path),
        st.none() | st.text(st.characters(exclude_characters="\0"), max_size=5),
        st.none() | st.text(max_size=3),
        st.none() | st.floats(0.1, 1),
    )
)


def columns(records):
    return Columns(Record, iter(records), paths=["path"], texts=["key"])


@given(RECORDS)
def test_every_record_comes_back_in_its_place(records):
    kept = columns(records)
    assert len(kept) == len(records)
    assert list(kept) == records
    assert kept == records
    assert [kept[at] for at in range(-len(records), 0)] == records
    assert list(kept[1::2]) == records[1::2]
    assert list(kept.column("label")) == [record.label for record in records]
    assert list(kept.written("path")) == [str(record.path) for record in records]
    assert pickle.loads(pickle.dumps(kept)) == records


def test_there_is_nothing_beyond_the_last():
    kept = columns([Record(Path("a"), "k")])
    for at in (1, -2):
        with pytest.raises(IndexError):
            kept[at]
    assert kept != [Record(Path("a"), "other")]
    assert kept != []


def test_a_million_records_take_little_more_than_their_letters():
    count, letters = 20_000, len("/data/cells/UID_00000.png") + 32
    tracemalloc.start()
    try:
        kept = columns(Record(Path(f"/data/cells/UID_{at:05}.png"), f"{at:064x}", "all") for at in range(count))
        held = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, inspect.getfile(Columns))])
    finally:
        tracemalloc.stop()
    assert kept[12_345] == Record(Path("/data/cells/UID_12345.png"), f"{12_345:064x}", "all")
    # By the columns alone: Python's table of names, which paths go through, may grow at the same time.
    taken = sum(trace.size for trace in held.traces)
    assert taken / count < 1.5 * letters + 16  # two ends of 8 bytes, and room to grow
