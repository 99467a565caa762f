"""What is measured once stays measured; one bad cell costs one cell."""

import json
import os
import signal
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fusion.data._file_index import FileIndex
from fusion.data.dataset import load_dataset, write_faults
from fusion.errors import UsageError
from fusion.features.extraction import extract
from fusion.features.store import FeatureStore, open_shard
from fusion.images.cell import CellError
from fusion.io.content_hash import positions
from fusion.io.event_log import EventLog
from tests.builders.images import paint, write_image

measured: list[str] = []


@dataclass(frozen=True)
class Brightness:
    """An extractor that remembers how often it was asked, and trips where it is told to."""

    name: ClassVar[str] = "brightness"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = False
    gain: float = 1.0
    trips_above: float = 1e9
    answers: str = "numbers"

    def feature_names(self):
        return ["mean", "area"]

    def extract(self, cells):
        rows = [(self.gain * cell.rgb[cell.mask].mean(), cell.mask.sum()) for cell in cells]
        measured.extend(self.name for _ in cells)
        if any(area > self.trips_above for _, area in rows):
            raise ZeroDivisionError("an extractor's own bug")
        if self.answers == "inf":
            rows = [(np.inf, 1.0) for _ in rows]
        return np.array(rows, np.float64 if self.answers == "float64" else np.float32).reshape(-1, 2)


@dataclass(frozen=True)
class Network(Brightness):
    """The same, run in batches in the main process."""

    name: ClassVar[str] = "network"
    in_main_process: ClassVar[bool] = True


@dataclass(frozen=True)
class Rounded(Brightness):
    """One that promises float16 numbers, and may not keep its word."""

    half: bool = True
    keeps_its_word: bool = True

    def extract(self, cells):
        rows = super().extract(cells)
        return rows.astype(np.float16).astype(np.float32) if self.half and self.keeps_its_word else rows


@pytest.fixture(autouse=True)
def nothing_measured_yet():
    measured.clear()


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "measured")


def run(root, store, *extractors, **options):
    return extract(load_dataset(root), list(extractors), store, jobs=1, **options)


def test_every_cell_has_every_block(class_folders, store):
    found = run(class_folders, store, Brightness(), Network())
    assert found.table.columns == ("brightness.mean", "brightness.area", "network.mean", "network.area")
    assert found.table.blocks == {"brightness": slice(0, 2), "network": slice(2, 4)}
    assert found.table.X.dtype == np.float32
    assert_array_equal(found.table.X[:, :2], found.table.X[:, 2:])
    assert found.table.y == ("blast",) * 3 + ("normal",) * 3
    assert found.computed == {"brightness": 6, "network": 6}


def test_run_again_computes_nothing(class_folders, store):
    first = run(class_folders, store, Brightness(), Network())
    measured.clear()
    second = run(class_folders, store, Brightness(), Network())
    assert measured == []
    assert second.reused == {"brightness": 6, "network": 6}
    assert_array_equal(first.table.X, second.table.X)


def test_one_new_image_computes_one(class_folders, store):
    run(class_folders, store, Brightness())
    measured.clear()
    write_image(class_folders / "blast" / "new.png", paint(77))
    assert len(run(class_folders, store, Brightness()).table) == 7
    assert measured == ["brightness"]


def test_changed_parameters_compute_that_extractor_only(class_folders, store):
    run(class_folders, store, Brightness(), Network())
    measured.clear()
    found = run(class_folders, store, Brightness(gain=2.0), Network())
    assert set(measured) == {"brightness"}
    assert_array_equal(found.table.X[:, 0], 2 * found.table.X[:, 2])


def test_float16_cells_are_stored_as_such_and_never_serve_a_float32_request(class_folders, store):
    half = run(class_folders, store, Rounded(gain=1 / 3))
    measured.clear()
    whole = run(class_folders, store, Rounded(gain=1 / 3, half=False))
    assert len(measured) == 6
    assert {shard.values.dtype.name for shard in all_shards(store)} == {"float16", "float32"}
    assert (half.table.X != whole.table.X).any()
    assert_array_equal(half.table.X, whole.table.X.astype(np.float16))
    measured.clear()
    assert_array_equal(run(class_folders, store, Rounded(gain=1 / 3)).table.X, half.table.X)
    assert measured == []


def test_an_extractor_that_breaks_its_promise_of_float16_is_told(class_folders, store):
    found = run(class_folders, store, Rounded(gain=1 / 3, keeps_its_word=False))
    assert len(found) == 0
    assert {"float16" in fault.reason for fault in found.faults} == {True}


def all_shards(store):
    return [open_shard(path) for path in store.root.rglob("features/*/*/*.arrow")]


def test_a_moved_or_renamed_image_is_known_again(class_folders, store):
    run(class_folders, store, Brightness())
    measured.clear()
    class_folders.rename(class_folders.with_name("elsewhere"))
    assert len(run(class_folders.with_name("elsewhere"), store, Brightness()).table) == 6
    assert measured == []


def test_cells_of_a_damaged_shard_are_measured_again_and_are_all_there(class_folders, store):
    expected = run(class_folders, store, Brightness()).table.X
    (shard,) = store.root.glob("features/*/*/*.arrow")
    shard.write_bytes(shard.read_bytes()[:-1])
    found = run(class_folders, FeatureStore(store.root), Brightness())
    assert found.computed == {"brightness": 6}
    assert found.faults == ()
    assert_array_equal(found.table.X, expected)


def test_the_same_image_twice_is_measured_once(class_folders, store):
    write_image(class_folders / "normal" / "copy.png", paint(0, radius=22))
    found = run(class_folders, store, Brightness())
    assert len(found.table) == 7
    assert len(measured) == 6


def test_a_black_image_is_skipped_counted_and_not_tried_again(class_folders, store, monkeypatch):
    write_image(class_folders / "blast" / "black.png", np.zeros((64, 64, 3), np.uint8))
    for _ in range(2):
        found = run(class_folders, store, Brightness(), Network())
        assert len(found.table) == 6
        (fault,) = found.faults
        assert (fault.path.name, fault.stage) == ("black.png", "cell")
        assert "fully black" in fault.reason
        monkeypatch.setattr("fusion.features.cell_measurement.make_cell", lambda *_: pytest.fail("tried again"))


def test_an_extractor_that_trips_costs_the_cells_it_trips_on(class_folders, store):
    found = run(class_folders, store, Brightness(), Network(trips_above=1000))
    assert found.table.y == ("normal",) * 3
    assert [fault.stage for fault in found.faults] == ["extract"] * 3
    assert "network: ZeroDivisionError: an extractor's own bug" in found.faults[0].reason
    measured.clear()
    repaired = run(class_folders, store, Brightness(), Network(trips_above=1e6))
    assert len(repaired.table) == 6
    assert set(measured) == {"network"}


@pytest.mark.parametrize(("answers", "reason"), [("inf", "mean is infinite"), ("float64", "promised float32")])
def test_an_extractor_that_breaks_the_protocol_is_caught(answers, reason, class_folders, store):
    found = run(class_folders, store, Brightness(answers=answers))
    assert len(found.table) == 0
    assert reason in found.faults[0].reason


@pytest.mark.parametrize("is_masked", [False, True])
def test_a_file_that_changes_under_our_hands_is_not_stored_under_the_old_key(is_masked, tmp_path, store, monkeypatch):
    """Whatever is remembered of a file: what is measured is hashed, and what was remembered wrongly is forgotten."""
    monkeypatch.setattr("fusion.data._file_index._SETTLED_NS", -(10**9))
    for at in range(6):
        write_image(tmp_path / f"{at}.png", paint(at))
        write_image(tmp_path / f"{at}-mask.png", np.where(paint(0)[..., 0] > 0, 255, 0).astype(np.uint8))
    rows = [f"{at}.png,{f'{at}-mask.png' if is_masked else ''},{'ab'[at % 2]}" for at in range(6)]
    (tmp_path / "t.csv").write_text("path,mask,label\n" + "\n".join(rows) + "\n")
    dataset = load_dataset(tmp_path / "t.csv")
    # As on a file system whose stamps tell nothing of this change.
    monkeypatch.setattr(FileIndex, "_find", lambda index, names, stamps: positions(names, index._known["path"]))
    if is_masked:
        cell = paint(0)[..., 0] > 0
        write_image(tmp_path / "0-mask.png", np.where(cell & np.roll(cell, 3, 0), 255, 0).astype(np.uint8))
    else:
        write_image(tmp_path / "0.png", paint(123))
    found = extract(dataset, [Brightness()], store, jobs=1)
    assert len(found.table) == 5
    assert "changed" in found.faults[0].reason
    assert len(run(tmp_path / "t.csv", store, Brightness()).table) == 6


def test_what_was_measured_before_an_interrupt_is_kept(tmp_path, store):
    for at in range(40):
        write_image(tmp_path / "cells" / "ab"[at % 2] / f"{at}.png", paint(at))

    def stop(stage, done, total, faults):
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cells", store, Brightness(), progress=stop)
    before = len(measured)
    assert before < 40
    run(tmp_path / "cells", store, Brightness())
    assert len(measured) == 40


def test_a_different_preparation_of_cells_is_another_feature(class_folders, store, monkeypatch):
    run(class_folders, store, Brightness())
    monkeypatch.setattr("fusion.features.extraction.PREPARATION", "another segmentation")
    run(class_folders, store, Brightness())
    assert len(measured) == 12


def test_workers_give_the_same_bytes_in_the_same_order(synthetic, tmp_path):
    from fusion.plugins.registry import build_extractor

    extractors = [build_extractor("morphology"), build_extractor("texture"), build_extractor("colour")]
    # Two subjects' cells would be below the worth of a worker: all 60 are taken.
    dataset = load_dataset(synthetic)
    alone = extract(dataset, extractors, FeatureStore(tmp_path / "alone"), jobs=1)
    together = extract(dataset, extractors, FeatureStore(tmp_path / "together"), jobs=2)
    assert alone.table.names == together.table.names
    assert alone.table.X.tobytes() == together.table.X.tobytes()


@dataclass(frozen=True)
class Deadly(Brightness):
    """Dies as a library does that runs into foreign memory, on cells that are small."""

    name: ClassVar[str] = "deadly"

    def extract(self, cells):
        if any(cell.mask.sum() < 300 for cell in cells):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().extract(cells)


@pytest.mark.skipif(os.name == "nt", reason="kills with a signal")
def test_an_image_that_kills_its_worker_costs_that_image_only(tmp_path, store):
    for at in range(120):
        write_image(tmp_path / "cells" / "ab"[at % 2] / f"{at:03}.png", paint(at, radius=20 if at != 61 else 8))
    found = extract(load_dataset(tmp_path / "cells"), [Deadly(), Network()], store, jobs=2)
    assert len(found) == 119
    (fault,) = found.faults
    assert (fault.path.name, fault.stage) == ("061.png", "extract")
    assert "worker process died" in fault.reason


def test_a_journal_tells_what_happened(class_folders, store, tmp_path):
    write_image(class_folders / "blast" / "black.png", np.zeros((64, 64, 3), np.uint8))
    (class_folders / "blast" / "empty.png").touch()
    event_log = EventLog(tmp_path / "log" / "events.jsonl")
    run(class_folders, store, Brightness(), event_log=event_log)
    run(class_folders, store, Brightness(), event_log=event_log)
    event_log.close()
    events = [json.loads(line) for line in (tmp_path / "log" / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == [
        "start",
        "fault",
        "fault",
        "written",
        "end",
        "start",
        "fault",
        "end",
    ]
    first, empty, black, written, end = events[:5]
    assert (first["images"], first["to_measure"]) == (7, {"brightness": 7})
    assert (empty["stage"], black["stage"]) == ("read", "cell")
    assert (written["cells"], written["faults"]) == (6, 1)
    assert (end["cells"], end["faults"], end["computed"]) == (6, 2, {"brightness": 6})
    assert events[-1]["computed"] == {"brightness": 0}
    with pytest.raises(UsageError, match="cannot write the log"):
        EventLog(class_folders)


def test_what_was_skipped_is_written_as_a_table(class_folders, store, tmp_path):
    import pandas as pd

    (class_folders / "blast" / 'a, "b"\n.png').touch()
    found = run(class_folders, store, Brightness())
    write_faults(tmp_path / "faults.csv", found.faults, class_folders)
    (row,) = pd.read_csv(tmp_path / "faults.csv").to_dict("records")
    assert row == {"file": 'blast/a, "b"\\n.png', "stage": "read", "reason": "the file is empty"}
    write_faults(tmp_path / "faults.csv", (), class_folders)
    assert (tmp_path / "faults.csv").read_text().split() == ["file,stage,reason"]


def test_cells_are_written_every_so_many_and_every_so_often(class_folders, store, monkeypatch):
    monkeypatch.setattr("fusion.features.extraction._TASK", 1)
    monkeypatch.setattr("fusion.features.extraction.FLUSH", 4)
    writes = []
    original = FeatureStore.write
    monkeypatch.setattr(FeatureStore, "write", lambda *given: writes.append(len(given[4])) or original(*given))
    run(class_folders, store, Brightness())
    assert writes == [4, 2]
    writes.clear()
    monkeypatch.setattr("fusion.features.extraction.FLUSH_SECONDS", 0.0)
    run(class_folders, store, Brightness(gain=2.0))
    assert writes[:6] == [1] * 6


def test_a_table_written_piece_by_piece_is_the_table(class_folders, store, tmp_path, monkeypatch):
    found = run(class_folders, store, Brightness(), Network())
    for suffix in (".csv", ".parquet"):
        found.table.save(tmp_path / f"whole{suffix}")
        with monkeypatch.context() as small:
            small.setattr("fusion.features.extraction._EXPORTED", 4)
            found.save(tmp_path / f"pieces{suffix}")
    import pandas as pd

    assert (tmp_path / "pieces.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    whole, pieces = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("whole", "pieces"))
    pd.testing.assert_frame_equal(whole, pieces)


def test_progress_ends_at_the_total(class_folders, store):
    seen = []
    run(class_folders, store, Brightness(), progress=lambda *news: seen.append(news))
    assert seen[-1] == ("measuring", 6, 6, 0)


def test_a_fault_crosses_from_a_worker_with_its_words():
    import pickle

    error = pickle.loads(pickle.dumps(CellError("what", found="this", do="Do that.")))
    assert str(error) == "what\n  found: this\n  Do that."


def test_anndata_says_of_every_cell_who_it_is_and_of_every_feature_its_block_and_unit(class_folders, store, tmp_path):
    from extractors.morphology.extractor import Morphology

    found = run(class_folders, store, Morphology(), Network())
    found.save(tmp_path / "cells.h5ad")
    import anndata

    cells = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert_array_equal(cells.X, found.table.X)
    assert cells.X.dtype == np.float32
    assert tuple(cells.obs_names) == found.table.names
    assert tuple(cells.obs["label"]) == found.table.y
    assert tuple(cells.obs["key"]) == found.table.keys
    assert tuple(cells.var_names) == found.table.columns
    assert list(cells.var["block"].unique()) == ["morphology", "network"]
    assert cells.var["unit"]["morphology.cell_area"] == "pixels squared"
    assert cells.var["unit"][found.table.columns[-1]] == ""


def test_without_anndata_it_says_what_to_install(class_folders, store, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"fusion-cells\[anndata\]"):
        run(class_folders, store, Brightness()).save(tmp_path / "cells.h5ad")


def test_a_table_keeps_rows_and_columns_together(class_folders, store, tmp_path):
    table = run(class_folders, store, Brightness(), Network()).table
    part = table.select(["network"]).take(np.array([4, 0]))
    assert part.names == (table.names[4], table.names[0])
    assert_array_equal(part.X, table.X[[4, 0], 2:])
    with pytest.raises(ValueError, match="disagree"):
        replace(table, y=table.y[1:])
    table.save(tmp_path / "t.parquet")
    table.save(tmp_path / "t.csv")
    import pandas as pd

    parquet, csv = pd.read_parquet(tmp_path / "t.parquet"), pd.read_csv(tmp_path / "t.csv")
    assert list(parquet.columns) == list(csv.columns)
    assert_array_equal(parquet[list(table.columns)].to_numpy(np.float32), table.X)
    assert_array_equal(csv[list(table.columns)].to_numpy(np.float32), table.X)
