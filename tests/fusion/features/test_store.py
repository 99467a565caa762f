"""What is written is read back bit for bit, and what was damaged is never read."""

import contextlib
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fusion.features.store import FeatureStore, ShardDamaged, StoreError, open_shard
from fusion.features.store_maintenance import collect_garbage, compact, held, tidy, verify
from fusion.features.store_manifest import list_files
from fusion.io.files import checksum, file_checksum

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


def test_float16_numbers_take_half_the_room_and_come_back_as_float32_bit_for_bit(store):
    names = [f"e{at}" for at in range(1000)]
    rng = np.random.default_rng(0)
    numbers = {f"k{at}": rng.normal(size=1000).astype(np.float16).astype(np.float32) for at in range(20)}
    numbers["k3"][7] = np.nan
    for fingerprint, kind in (("whole", np.float32), ("half", np.float16)):
        store.write("cnn", fingerprint, names, numbers, {"bad": "no cell"}, kept_as=kind)
        read, faults = store.read("cnn", fingerprint, [*numbers, "bad"], names)
        assert faults == {"bad": "no cell"}
        for key, row in numbers.items():
            assert read[key].dtype == np.float32
            assert_array_equal(read[key], row)
    whole, half = (store.shards("cnn", fingerprint)[0].stat().st_size for fingerprint in ("whole", "half"))
    assert whole - half == pytest.approx(21 * 1000 * 2, abs=128)  # the fault's row of nothing counts too


def test_merging_leaves_float16_numbers_what_they_are(store):
    for seed in range(3):
        store.write("cnn", "half", NAMES, {f"k{seed}": np.full(3, 0.5 + seed, np.float32)}, kept_as=np.float16)
    compact(store, "cnn", "half")
    (shard,) = store.shards("cnn", "half")
    assert open_shard(shard).values.dtype == np.float16
    assert_array_equal(open_shard(shard).values[:, 0], [0.5, 1.5, 2.5])


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


def test_a_flipped_bit_in_any_byte_is_found(store):
    store.write("texture", "f1", NAMES, rows("k1"), {"k2": "no cell"})
    (shard,) = store.shards("texture", "f1")
    content = shard.read_bytes()
    for at in range(len(content)):
        shard.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        with pytest.raises(ShardDamaged):
            open_shard(shard)
    shard.write_bytes(content)
    assert open_shard(shard) is not None


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


def test_shards_lie_on_the_disk_before_they_have_their_name(store, monkeypatch):
    """The order in which a power cut must find things: folders, then bytes, then the name, then the folder again."""
    calls = []

    def recorded(name, what):
        original = getattr(what, name)

        def call(*given, **more):
            result = original(*given, **more)
            subject = given[0]
            if name == "fsync":
                subject = Path(f"/proc/self/fd/{given[0]}").readlink()
            calls.append((name, str(subject), str(given[1]) if name == "replace" else ""))
            return result

        monkeypatch.setattr(what, name, call)

    for name, what in (("fsync", os), ("replace", Path), ("mkdir", Path)):
        recorded(name, what)
    store.write("texture", "f1", NAMES, rows("k1"))
    monkeypatch.undo()
    (shard,) = store.shards("texture", "f1")
    order = {(name, subject): at for at, (name, subject, _) in enumerate(calls)}
    (renaming,) = [at for at, (name, _, target) in enumerate(calls) if name == "replace" and target == str(shard)]
    partial = calls[renaming][1]
    assert order["fsync", partial] < renaming < order["fsync", str(shard.parent)]
    made = [subject for name, subject, _ in calls if name == "mkdir"]
    assert str(shard.parent) in made
    for folder in made:
        assert order["mkdir", folder] < order["fsync", str(Path(folder).parent)] < renaming


@pytest.mark.parametrize("lost_after", range(6))
def test_a_power_cut_at_any_step_of_a_write_leaves_a_whole_shard_or_none(lost_after, store, monkeypatch):
    """What has not been synchronised may be empty after a power cut; here it is."""
    store.write("texture", "f1", NAMES, rows("k1"))
    step, fsync, replace = 0, os.fsync, Path.replace

    def cut(handle_or_path, *target):
        nonlocal step
        step += 1
        if step > lost_after:
            raise OSError(5, "Input/output error")
        return replace(handle_or_path, *target) if target else fsync(handle_or_path)

    monkeypatch.setattr("os.fsync", cut)
    monkeypatch.setattr("pathlib.Path.replace", cut)
    with contextlib.suppress(StoreError):
        store.write("texture", "f1", NAMES, rows("k2", seed=1))
    monkeypatch.undo()
    read, _ = FeatureStore(store.root).read("texture", "f1", ["k1", "k2"], NAMES)
    assert_array_equal(read["k1"], rows("k1")["k1"])
    if "k2" in read:
        assert lost_after >= 2  # synchronised, then renamed
        assert_array_equal(read["k2"], rows("k2", seed=1)["k2"])
    assert verify(store)[1] == []


def test_a_shard_copied_from_another_extractor_is_not_read(store):
    store.write("texture", "f1", NAMES, rows("k1"))
    (shard,) = store.shards("texture", "f1")
    elsewhere = store.folder("texture", "f2")
    elsewhere.mkdir()
    shutil.copy(shard, elsewhere)
    assert store.read("texture", "f2", ["k1"], NAMES) == ({}, {})
    assert verify(store) == (2, [])


def test_a_shard_of_a_later_format_is_left_alone(store, monkeypatch):
    with monkeypatch.context() as later:
        later.setattr("fusion.features.store.FORMAT", "fusion-shard-99")
        store.write("texture", "f1", NAMES, rows("k1"))
    assert store.read("texture", "f1", ["k1"], NAMES) == ({}, {})
    assert verify(store) == (1, [])


def test_rows_are_mapped_from_the_file_and_outlive_it(store):
    store.write("texture", "f1", NAMES, rows("k1", "k2"))
    block = FeatureStore(store.root).open("texture", "f1", NAMES)
    (shard,) = store.shards("texture", "f1")
    assert str(shard) in Path("/proc/self/maps").read_text()
    shard.unlink()
    assert_array_equal(block.rows(block.find(["k2", "k1"])), np.stack([rows("k1", "k2")[key] for key in ("k2", "k1")]))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells no resident size of files")
def test_what_has_been_read_takes_no_memory_once_let_go_and_is_read_again(store):
    def mapped():
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile"))
        return int(line.split()[1]) << 10

    X = np.random.default_rng(0).normal(size=(8000, 1000)).astype(np.float32)
    names, keys = [f"f{at}" for at in range(1000)], [f"k{at}" for at in range(8000)]
    store.write("wide", "f1", names, dict(zip(keys, X, strict=True)))
    before, files = mapped(), len(list(Path("/proc/self/fd").iterdir()))
    block = FeatureStore(store.root).open("wide", "f1", names)
    assert (
        len(list(Path("/proc/self/fd").iterdir())) == files
    )  # thousands of shards are held, and a thousand files may be open
    assert mapped() - before < X.nbytes / 4
    at = block.find(keys)
    assert_array_equal(block.rows(at), X)
    assert mapped() - before > X.nbytes / 2
    block.release_pages()
    assert mapped() - before < X.nbytes / 4
    assert_array_equal(block.rows(at), X)


def test_a_shard_is_checked_once_and_new_ones_are_seen(store, monkeypatch):
    checked = []
    original = file_checksum
    monkeypatch.setattr("fusion.features.store.file_checksum", lambda path: checked.append(path) or original(path))
    reader = FeatureStore(store.root)
    for at in range(3):
        store.write("texture", "f1", NAMES, rows(f"k{at}", seed=at))
        assert len(reader.read("texture", "f1", ["k0", "k1", "k2"], NAMES)[0]) == at + 1
    assert len(checked) == len(set(checked)) == 3


def test_merging_keeps_every_row_once_and_the_first_of_two(store):
    for at in range(5):
        store.write("texture", "f1", NAMES, rows("k0", f"k{at}", seed=at), {f"bad{at}": "no cell", "k1": "no cell"})
    keys = ["k0", "k1", "k2", "k3", "k4", "bad0", "bad4"]
    before = store.read("texture", "f1", keys, NAMES)
    assert compact(store, "texture", "f1") == (5, 1)
    after = FeatureStore(store.root).read("texture", "f1", keys, NAMES)
    assert after[1] == before[1] == {"bad0": "no cell", "bad4": "no cell"}
    assert after[0].keys() == before[0].keys()
    for key, row in before[0].items():
        assert_array_equal(after[0][key], row)
    assert compact(store, "texture", "f1") == (1, 1)


def test_a_merge_that_cannot_be_written_takes_nothing_away(store, monkeypatch):
    for at in range(3):
        store.write("texture", "f1", NAMES, rows(f"k{at}", seed=at))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("os.fsync", full)
        with pytest.raises(StoreError, match="no space left"):
            compact(store, "texture", "f1")
    assert len(store.shards("texture", "f1")) == 3


def test_a_damaged_shard_is_not_merged_away(store):
    for at in range(3):
        store.write("texture", "f1", NAMES, rows(f"k{at}", seed=at))
    damaged = store.shards("texture", "f1")[1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    compact(store, "texture", "f1")
    assert damaged in store.shards("texture", "f1")
    assert verify(store)[0] == 2


def test_a_merge_between_listing_and_opening_goes_unnoticed(store, monkeypatch):
    for at in range(3):
        store.write("texture", "f1", NAMES, rows(f"k{at}", seed=at))
    reader, listing = FeatureStore(store.root), FeatureStore.shards

    def stale(self, *version):
        paths = listing(self, *version)
        if self is reader and len(paths) > 1:
            compact(store, "texture", "f1")
        return paths

    monkeypatch.setattr(FeatureStore, "shards", stale)
    assert set(reader.read("texture", "f1", ["k0", "k1", "k2"], NAMES)[0]) == {"k0", "k1", "k2"}


def test_many_small_shards_are_merged_without_being_asked(store, monkeypatch):
    monkeypatch.setattr("fusion.features.store_maintenance.MANY", 4)
    for at in range(6):
        store.write("texture", "f1", NAMES, rows(f"k{at}", seed=at))
        tidy(store, "texture", "f1")
    assert len(store.shards("texture", "f1")) == 2
    assert len(store.read("texture", "f1", [f"k{at}" for at in range(6)], NAMES)[0]) == 6


def test_sweeping_out_takes_what_nobody_can_use(store):
    from fusion.images.cell import PREPARATION
    from fusion.plugins import registry

    version = registry.build_extractor("colour").version
    now = {"version": version, "preparation": PREPARATION}
    for fingerprint, about in (("now", now), ("old", {**now, "version": "0"}), ("cut", {**now, "preparation": "0"})):
        store.write("colour", fingerprint, NAMES, rows("k1"), about=about)
    store.write("strange", "f1", NAMES, rows("k1"), about={"version": "0"})
    old, new, mine = (f".partial-{name}" for name in ("0123456789abcdef", "fedcba9876543210", "notes"))
    for name in (old, new, mine):
        (store.root / "features" / name).touch()
        if name != new:
            os.utime(store.root / "features" / name, (0, 0))
    removed, freed = collect_garbage(store)
    assert len(removed) == 3
    assert freed > 0
    assert [(h.extractor, h.fingerprint) for h in held(store)] == [("colour", "now"), ("strange", "f1")]
    assert {path.name for path in store.root.rglob(".partial-*")} == {new, mine}
    assert not store.folder("colour", "old").exists()


def test_sweeping_out_leaves_the_users_files_wherever_they_lie(store):
    """A store may lie in a folder with other things, under the very names that its own files have."""
    from fusion.plugins import registry

    about = {"version": "0", "preparation": "0"}
    assert registry.build_extractor("colour").version != "0"
    store.write("colour", "old", NAMES, rows("k1"), about=about)
    (shard,) = store.shards("colour", "old")
    mine = [
        store.root / name
        for name in (
            "quarantine/letter.txt",
            "quarantine/colour-old-0123456789abcdef0123456789abcdef.arrow",
            "images/scan.npy",
            "images/0123456789abcdef0123456789abcdef.npy",
            "onnx/network.onnx",
            "pictures/photo.npy",
            ".partial-thesis",
            "features/colour/old/notes.txt",
            "features/colour/old/mine.arrow",
            "fetched/colour/old/table.arrow",
            "unrelated/.partial-0123456789abcdef",
        )
    ]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"irreplaceable")
        os.utime(path, (0, 0))
    assert verify(store) == (1, [])
    removed, _ = collect_garbage(store)
    assert len(removed) == 1
    assert not shard.exists()
    assert [path for path in mine if path.read_bytes() != b"irreplaceable"] == []


def test_sweeping_out_takes_images_and_exports_that_will_not_be_opened_again(store):
    import json
    from importlib.metadata import version

    from fusion.images.cell import PREPARATION

    def put(folder, name, about, age=0.0):
        path = store.root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        list_files(store.root, path, path.with_suffix(".json"))
        path.write_bytes(b"some bytes")
        if about is not None:
            path.with_suffix(".json").write_text(json.dumps(about))
        if age:
            os.utime(path, (0, 0))

    put("images", "now.npy", {"preparation": PREPARATION})
    put("images", "earlier-note.npy", {"sha256": "0"})
    put("images", "being-written.npy", None)
    put("images", "alone.npy", None, age=1)
    put("images", "old.npy", {"preparation": "0"})
    put("onnx", "now.onnx", {"versions": {"numpy": version("numpy")}})
    put("onnx", "old.onnx", {"versions": {"numpy": "0.1"}})
    put("onnx", "gone.onnx", {"versions": {"no-such-package-here": "1"}})
    removed, freed = collect_garbage(store)
    assert len(removed) == 4
    assert freed > 40
    left = {path.name for folder in ("images", "onnx") for path in (store.root / folder).iterdir()}
    assert left == {"now.npy", "now.json", "earlier-note.npy", "earlier-note.json", "being-written.npy", "now.onnx"}


def test_what_is_held_is_listed(store):
    store.write("texture", "f1", NAMES, rows("k1"))
    store.write("colour", "f2", NAMES, rows("k1"))
    assert [(h.extractor, h.fingerprint, h.shards) for h in held(store)] == [("colour", "f2", 1), ("texture", "f1", 1)]


# ---- shards that fit their name and are none ------------------------------------------------------------------------


def forge(store, change):
    """Change the bytes of the only shard, and name it so that its checksum fits again."""
    (path,) = store.shards("texture", "f1")
    content = change(path.read_bytes())
    path.unlink()
    forged = path.with_name(f"{checksum(content)}.arrow")
    forged.write_bytes(content)
    return forged


def rewritten(content, change):
    """The bytes with other columns or metadata, as Arrow writes them."""
    table = pa.ipc.open_file(content).read_all()
    changed = change(table)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, changed.schema) as writer:
        for batch in changed.to_batches():
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def offsets(content):
    """Where the offsets of the keys lie: they begin with 0, 2, 4, as all keys have two letters."""
    return content.index(np.array([0, 2, 4], np.int32).tobytes())


def with_offset(value, at=1):
    def change(content):
        start = offsets(content) + 4 * at
        return content[:start] + np.int32(value).tobytes() + content[start + 4 :]

    return change


def as_column(name, values):
    return lambda table: table.set_column(table.schema.get_field_index(name), name, values)


FORGERIES = {
    "a negative offset": with_offset(-(2**31)),
    "an offset far away": with_offset(2**31 - 1),
    "offsets that fall": with_offset(9),
    "a last offset too large": with_offset(2**30, at=3),
    "not Arrow": lambda content: b"ARROW1\0\0" + bytes(200) + b"ARROW1",
    "cut short": lambda content: content[: len(content) // 2],
    "another type of numbers": lambda content: rewritten(
        content, as_column("features", pa.array([[1.0, 2.0, 3.0]] * 3, pa.list_(pa.float64(), 3)))
    ),
    "lists of any length": lambda content: rewritten(
        content, as_column("features", pa.array([[1.0], [2.0], [3.0]], pa.list_(pa.float32())))
    ),
    "another width": lambda content: rewritten(
        content, as_column("features", pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2)))
    ),
    "numbers as keys": lambda content: rewritten(content, as_column("key", pa.array([1, 2, 3]))),
    "a key that is missing": lambda content: rewritten(content, as_column("key", pa.array(["k1", None, "k3"]))),
    "a fault of a measured cell": lambda content: rewritten(content, as_column("fault", pa.array(["no", None, "no"]))),
    "two batches": lambda content: rewritten(content, lambda table: pa.concat_tables([table, table])),
    "no batch": lambda content: rewritten(content, lambda table: table[:0]),
    "more measured than there are": lambda content: rewritten(
        content, lambda table: table.replace_schema_metadata({**table.schema.metadata, b"measured": b"4"})
    ),
    "fewer than none measured": lambda content: rewritten(
        content, lambda table: table.replace_schema_metadata({**table.schema.metadata, b"measured": b"-1"})
    ),
    "facts that are none": lambda content: rewritten(
        content, lambda table: table.replace_schema_metadata({**table.schema.metadata, b"facts": b"[" * 100_000})
    ),
    "names that are numbers": lambda content: rewritten(
        content,
        lambda table: table.replace_schema_metadata(
            {
                **table.schema.metadata,
                b"facts": table.schema.metadata[b"facts"].replace(b'["a", "b", "c"]', b"[1, 2, 3]"),
            }
        ),
    ),
    "compressed": lambda content: compressed(content),
}


def compressed(content):
    table = pa.ipc.open_file(content).read_all()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("name", FORGERIES)
def test_a_shard_that_fits_its_name_and_is_none_is_named_and_passed_over(name, store, caplog):
    store.write("texture", "f1", NAMES, rows("k1", "k2"), {"k3": "no cell"})
    forged = forge(store, FORGERIES[name])
    reader = FeatureStore(store.root)
    assert reader.read("texture", "f1", ["k1", "k2", "k3"], NAMES) == ({}, {})
    assert f"{forged} is damaged" in caplog.text
    assert len(caplog.records) == 1
    assert [path.name for path in verify(store)[1]] == [f"texture-f1-{forged.name}"]


@pytest.mark.skipif(os.name == "nt", reason="has no pipes")
def test_what_is_no_file_is_named_and_passed_over(store, caplog):
    store.write("texture", "f1", NAMES, rows("k1"))
    folder = store.folder("texture", "f1")
    os.mkfifo(folder / f"{'0' * 32}.arrow")
    (folder / f"{'1' * 32}.arrow").mkdir()
    (folder / f"{'2' * 32}.arrow").symlink_to("/dev/zero")
    (folder / "mine.arrow").write_bytes(b"of the user")
    assert list(FeatureStore(store.root).read("texture", "f1", ["k1"], NAMES)[0]) == ["k1"]
    assert caplog.text.count("not a regular file") == 3
