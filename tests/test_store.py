"""What is written is read back bit for bit, and what was damaged is never read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fusion.store import FeatureStore, StoreError
from fusion.upkeep import held, verify

NAMES = ["a", "b", "c"]


def rows(*keys, seed=0):
    rng = np.random.default_rng(seed)
    return {key: rng.normal(size=3).astype(np.float32) for key in keys}


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "features-of-a-test")


def test_rows_and_faults_come_back(store):
    written = rows("k1", "k2")
    written["k2"][1] = np.nan
    store.write("texture", "f1", NAMES, written, {"k3": "no cell"})
    read, faults = store.read("texture", "f1", ["k1", "k2", "k3", "k4"], NAMES)
    assert set(read) == {"k1", "k2"}
    for key in read:
        assert_array_equal(read[key], written[key])
    assert faults == {"k3": "no cell"}


def test_another_fingerprint_or_other_names_are_another_feature(store):
    store.write("texture", "f1", NAMES, rows("k1"))
    assert store.read("texture", "f2", ["k1"], NAMES) == ({}, {})
    assert store.read("colour", "f1", ["k1"], NAMES) == ({}, {})
    assert store.read("texture", "f1", ["k1"], ["a", "b", "d"]) == ({}, {})


def test_a_cell_measured_after_all_is_no_fault(store):
    store.write("texture", "f1", NAMES, {}, {"k1": "no cell"})
    store.write("texture", "f1", NAMES, rows("k1"))
    read, faults = store.read("texture", "f1", ["k1"], NAMES)
    assert (set(read), faults) == ({"k1"}, {})


def test_the_same_rows_again_are_the_same_shard(store):
    for _ in range(2):
        store.write("texture", "f1", NAMES, rows("k1"))
    assert len(store.shards("texture", "f1")) == 1


def test_nothing_to_write_writes_nothing(store):
    store.write("texture", "f1", NAMES, {})
    assert not store.root.exists()


@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(tmp_path_factory, at, bit):
    store = FeatureStore(tmp_path_factory.mktemp("flipped"))
    store.write("texture", "f1", NAMES, rows("k1", "k2"))
    store.write("texture", "f1", NAMES, rows("k3", seed=1))
    shard = store.shards("texture", "f1")[0]
    content = bytearray(shard.read_bytes())
    content[int(at * len(content))] ^= 1 << bit
    shard.write_bytes(content)
    intact = store.read("texture", "f1", ["k1", "k2", "k3"], NAMES)[0]
    expected = rows("k1", "k2") | rows("k3", seed=1)
    assert len(intact) in {1, 2}
    for key, row in intact.items():
        assert_array_equal(row, expected[key])
    (aside,) = verify(store)[1]
    assert aside.read_bytes() == bytes(content)
    assert verify(store) == (1, [])


def test_a_store_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="--store"):
        FeatureStore(tmp_path / "file").write("texture", "f1", NAMES, rows("k1"))


def test_a_write_that_fails_leaves_nothing_behind(store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="no space left"):
        store.write("texture", "f1", NAMES, rows("k1"))
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_what_is_held_is_listed(store):
    store.write("texture", "f1", NAMES, rows("k1"))
    store.write("colour", "f2", NAMES, rows("k1"))
    assert [(h.extractor, h.fingerprint, h.shards) for h in held(store)] == [("colour", "f2", 1), ("texture", "f1", 1)]
