"""What is measured once stays measured; one bad cell costs one cell."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fusion.cells import CellError
from fusion.datasets import load_dataset
from fusion.extraction import extract
from fusion.store import FeatureStore
from tests.conftest import paint, write_image

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


def test_one_new_picture_computes_one(class_folders, store):
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


def test_a_moved_or_renamed_picture_is_known_again(class_folders, store):
    run(class_folders, store, Brightness())
    measured.clear()
    class_folders.rename(class_folders.with_name("elsewhere"))
    assert len(run(class_folders.with_name("elsewhere"), store, Brightness()).table) == 6
    assert measured == []


def test_the_same_picture_twice_is_measured_once(class_folders, store):
    write_image(class_folders / "normal" / "copy.png", paint(0, radius=22))
    found = run(class_folders, store, Brightness())
    assert len(found.table) == 7
    assert len(measured) == 6


def test_a_black_picture_is_skipped_counted_and_not_tried_again(class_folders, store, monkeypatch):
    write_image(class_folders / "blast" / "black.png", np.zeros((64, 64, 3), np.uint8))
    for _ in range(2):
        found = run(class_folders, store, Brightness(), Network())
        assert len(found.table) == 6
        (fault,) = found.faults
        assert (fault.path.name, fault.stage) == ("black.png", "cell")
        assert "fully black" in fault.reason
        monkeypatch.setattr("fusion.measuring.make_cell", lambda *_: pytest.fail("tried again"))


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


def test_a_file_that_changes_under_our_hands_is_not_stored_under_the_old_key(class_folders, store):
    dataset = load_dataset(class_folders)
    write_image(dataset.samples[0].path, paint(123))
    found = extract(dataset, [Brightness()], store, jobs=1)
    assert len(found.table) == 5
    assert "changed" in found.faults[0].reason
    assert len(run(class_folders, store, Brightness()).table) == 6


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
    monkeypatch.setattr("fusion.extraction.PREPARATION", "another segmentation")
    run(class_folders, store, Brightness())
    assert len(measured) == 12


def test_workers_give_the_same_bytes_in_the_same_order(synthetic, tmp_path):
    from fusion.plugins import build_extractor

    extractors = [build_extractor("morphology"), build_extractor("texture"), build_extractor("colour")]
    # Two subjects' cells would be below the worth of a worker: all 60 are taken.
    dataset = load_dataset(synthetic)
    alone = extract(dataset, extractors, FeatureStore(tmp_path / "alone"), jobs=1)
    together = extract(dataset, extractors, FeatureStore(tmp_path / "together"), jobs=2)
    assert alone.table.names == together.table.names
    assert alone.table.X.tobytes() == together.table.X.tobytes()


def test_progress_ends_at_the_total(class_folders, store):
    seen = []
    run(class_folders, store, Brightness(), progress=lambda *news: seen.append(news))
    assert seen[-1] == ("measuring", 6, 6, 0)


def test_a_fault_crosses_from_a_worker_with_its_words():
    import pickle

    error = pickle.loads(pickle.dumps(CellError("what", found="this", do="Do that.")))
    assert str(error) == "what\n  found: this\n  Do that."


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
