"""Killed, filled up, and run eight times at once, an extract ends with every cell's features once, exactly."""

import collections
import json
import os
import signal
import subprocess
import sys

import pytest

from fusion.features.store import FeatureStore
from fusion.features.store_maintenance import compact_all, held, verify
from fusion.io.files import is_partial
from tests.builders.images import ROOT
from tests.builders.runs import FEATURES, words, words_of_learning

pytestmark = pytest.mark.skipif(os.name == "nt", reason="forks")


def long_form(*commands):
    """300 strikes of each command, in pieces that take minutes."""
    return [pytest.param(name, 100, seed, marks=pytest.mark.slow) for name in commands for seed in range(3)]


def keys_by_shard(store):
    """How often each key lies in the store."""
    from fusion.features.store import open_shard

    shards = [open_shard(path) for path in sorted((store / "features").rglob("*.arrow"))]
    return collections.Counter(key for shard in shards for key in shard.keys.to_pylist())


@pytest.mark.parametrize("times", [10, pytest.param(300, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_goes_on_where_it_was(times, cells, tmp_path, undisturbed, forked):
    store, table = tmp_path / "store", tmp_path / "t.csv"
    answer, last_code = forked(
        "kill",
        tmp_path / "log",
        calm=words(cells, tmp_path / "calm"),
        words=words(cells, store),
        store=str(store),
        times=times,
        seed=times,
        last=words(cells, store, "--export", table),
    )
    assert answer > times / 4
    assert last_code == 0, (tmp_path / "log").read_text()
    assert table.read_bytes() == undisturbed
    assert verify(FeatureStore(store))[1] == []


@pytest.mark.parametrize(("command", "times", "seed"), [("train", 4, 4), *long_form("train", "ablate")])
def test_learning_killed_at_any_moment_gives_the_same_in_the_end(command, times, seed, cells, tmp_path, forked):
    store, output, calm = tmp_path / "store", tmp_path / "output", tmp_path / "calm"
    (tmp_path / "mine.txt").write_text("mine")
    line = words_of_learning(command, cells, store, output)
    answer, last_code = forked(
        "kill",
        tmp_path / "log",
        calm=words_of_learning(command, cells, tmp_path / "calm-store", calm),
        words=line,
        store=str(store),
        times=times,
        seed=seed,
        model=str(output) if command == "train" else None,
        last=line,
    )
    assert answer > times / 4
    assert last_code == 0, (tmp_path / "log").read_text()
    assert verify(FeatureStore(store))[1] == []
    assert (tmp_path / "mine.txt").read_text() == "mine"
    beside = {path.name for path in tmp_path.iterdir() if not is_partial(path.name)}
    assert beside == {"store", "output", "calm", "calm-store", "mine.txt", "log"}
    assert_same_results(output, calm)


@pytest.mark.parametrize(
    ("command", "times", "seed"), [("extract", 6, 6), ("train", 6, 6), *long_form("extract", "train", "ablate")]
)
def test_struck_at_any_call_a_command_loses_nothing(command, times, seed, cells, tmp_path, struck):
    """Killed, or a disk full, failing or interrupted, at any call that changes a file."""
    store, output, log = tmp_path / "store", tmp_path / "output", tmp_path / "log"
    (tmp_path / "mine.txt").write_text("mine")

    def line(store, output):
        if command == "extract":
            return words(cells, store, "--export", output / "table.csv")
        return words_of_learning(command, cells, store, output)

    for folder in (output, tmp_path / "calm") if command == "extract" else ():
        folder.mkdir()
    (codes, most), last_code = struck(
        "strike",
        log,
        calm=line(tmp_path / "calm-store", tmp_path / "calm"),
        words=line(store, output),
        store=str(store),
        times=times,
        seed=seed,
        model=str(output) if command == "train" else None,
        last=line(store, output),
    )
    assert last_code == 0, log.read_text()
    assert most > 20
    assert codes["-9"] > times / 5
    assert codes.keys() <= {"-9", "0", "1"}, (codes, log.read_text())
    assert "Traceback" not in log.read_text()
    assert "bug in Fusion" not in log.read_text()
    assert verify(FeatureStore(store))[1] == []
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert_same_results(output, tmp_path / "calm")


def assert_same_results(output, calm):
    """The folders hold the same files, those of numbers to the last bit, beside what a kill left half-written."""
    found, expected = (
        {
            path.name: path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not is_partial(path.name)
        }
        for folder in (output, calm)
    )
    assert found.keys() == expected.keys()
    for name in ("scores.parquet", "table.csv", "logreg.safetensors", "layer.safetensors", "novelty.safetensors"):
        assert found.get(name) == expected.get(name), name


def test_eight_at_once_over_overlapping_cells_give_one_table(cells, tmp_path, undisturbed, forked):
    store, table, images = tmp_path / "store", tmp_path / "t.csv", sorted(cells.rglob("*.png"))
    runs = []
    for part in range(8):
        folder = tmp_path / f"part{part}"
        for image in images[part * 6 : part * 6 + 22]:
            link = folder / image.relative_to(cells)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(image)
        runs.append(words(folder, store))
    last = words(cells, store, "--export", table)
    answer, last_code = forked("together", tmp_path / "log", runs=runs, last=last)
    assert (answer, last_code) == ([0] * 8, 0), (tmp_path / "log").read_text()
    assert table.read_bytes() == undisturbed
    assert [h.cells for h in held(FeatureStore(store))] == [64]
    before, after = compact_all(FeatureStore(store))
    assert before > after == 1
    assert set(keys_by_shard(store).values()) == {1}
    assert verify(FeatureStore(store)) == (1, [])
    found = main_process_table(cells, store, tmp_path / "merged.csv")
    assert found == undisturbed


def test_merging_while_eight_write_loses_nothing(cells, tmp_path, undisturbed, forked):
    store, table = tmp_path / "store", tmp_path / "t.csv"
    command = [sys.executable, "-c", MERGE_FOR_EVER, str(store)]
    merging = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        last = words(cells, store, "--export", table)
        answer, last_code = forked("together", tmp_path / "log", runs=[words(cells, store)] * 8, last=last)
    finally:
        merging.send_signal(signal.SIGTERM)
        _, complaints = merging.communicate(timeout=60)
    assert (merging.returncode, complaints) == (-signal.SIGTERM, "")
    assert (answer, last_code) == ([0] * 8, 0), (tmp_path / "log").read_text()
    assert table.read_bytes() == undisturbed
    assert verify(FeatureStore(store))[1] == []


def main_process_table(cells, store, path):
    """The table as this process reads it out of the store."""
    from fusion.data.dataset import load_dataset
    from fusion.features.extraction import extract
    from fusion.plugins.registry import build_extractor

    found = extract(load_dataset(cells), [build_extractor(name) for name in FEATURES], FeatureStore(store))
    assert found.computed == dict.fromkeys(FEATURES, 0)
    found.save(path)
    return path.read_bytes()


MERGE_FOR_EVER = """
import sys
from fusion.features.store import FeatureStore
from fusion.features.store_maintenance import compact_all
while True:
    compact_all(FeatureStore(sys.argv[1]))
"""


@pytest.mark.parametrize("size", [1000, 4000])
def test_a_full_disk_is_told_and_leaves_nothing_half_written(size, cells, tmp_path, undisturbed, forked):
    store, table = tmp_path / "store", tmp_path / "t.csv"
    last = words(cells, store, "--export", table)
    answer, last_code = forked("full", tmp_path / "log", words=words(cells, store), size=size, last=last)
    message = (tmp_path / "log").read_text()
    assert (answer, last_code) == (1, 0)
    assert "cannot write to the feature store" in message
    assert "Traceback" not in message
    assert list(tmp_path.rglob(".partial-*")) == []
    assert verify(FeatureStore(store))[1] == []
    assert table.read_bytes() == undisturbed


@pytest.mark.parametrize(("signals", "code"), [(["SIGINT"], 130), (["SIGTERM"], 130), (["SIGINT", "SIGINT"], 130)])
def test_asked_to_stop_it_keeps_what_it_measured_and_goes_on_from_there(
    signals, code, cells, tmp_path, undisturbed, forked
):
    store, table, log = tmp_path / "store", tmp_path / "t.csv", tmp_path / "events.jsonl"
    answer, last_code = forked(
        "interrupt",
        tmp_path / "log",
        words=words(cells, store, "--log", log),
        store=str(store),
        signals=signals,
        last=words(cells, store, "--export", table),
    )
    message = (tmp_path / "log").read_text()
    assert (answer, last_code) == (130, 0), message
    assert "what was measured is kept" in message
    assert table.read_bytes() == undisturbed
    assert verify(FeatureStore(store)) == (len(list(store.rglob("*.arrow"))) - 1, [])  # one of them is the index
    events = [json.loads(line) for line in log.read_text().splitlines()]
    written = sum(event["cells"] for event in events if event["event"] == "written")
    assert 0 < written < 64
    if signals != ["SIGINT", "SIGINT"]:
        assert [event["done"] for event in events if event["event"] == "stopped"] == [written]
