"""A Dask cluster: the same table as on this machine, whoever dies in the middle."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fusion import cluster
from fusion.datasets import load_dataset
from fusion.errors import FusionError, UsageError
from fusion.extraction import extract
from fusion.store import FeatureStore
from tests.conftest import paint, write_image

distributed = pytest.importorskip("distributed")


@dataclass(frozen=True)
class Brightness:
    """Measures little, and kills the process it runs in where it is told to."""

    name: ClassVar[str] = "brightness"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = False
    dies_once: str = ""
    dies_of_area: int = -1

    def feature_names(self):
        return ["mean", "area"]

    def extract(self, cells):
        if self.dies_once and not Path(self.dies_once).exists():
            Path(self.dies_once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if any(cell.mask.sum() == self.dies_of_area for cell in cells):
            os.kill(os.getpid(), signal.SIGKILL)
        return np.array([(cell.rgb[cell.mask].mean(), cell.mask.sum()) for cell in cells], np.float32)


@dataclass(frozen=True)
class Network(Brightness):
    """The same, in batches in the process that asked."""

    name: ClassVar[str] = "network"
    in_main_process: ClassVar[bool] = True


@pytest.fixture(scope="module")
def threads():
    """Two workers that are threads of this process: quick, and all but death is as on real ones."""
    with distributed.LocalCluster(
        2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as workers:
        yield workers.scheduler_address


@pytest.fixture(scope="module")
def processes():
    with distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as workers:
        yield workers.scheduler_address


@pytest.fixture
def pictures(tmp_path):
    """Ninety cells, one picture that is none, and one without a cell."""
    for seed in range(90):
        write_image(tmp_path / "cells" / f"{seed:02}.png", paint(seed, side=40, radius=6 + seed % 12))
    (tmp_path / "cells" / "broken.png").write_bytes(b"no picture")
    write_image(tmp_path / "cells" / "black.png", np.zeros((40, 40, 3), np.uint8))
    return tmp_path / "cells"


def run(root, store, *extractors, **options):
    return extract(load_dataset(root), list(extractors or [Brightness()]), FeatureStore(store), jobs=1, **options)


def same(found, expected):
    assert found.table.names == expected.table.names
    assert_array_equal(found.table.X, expected.table.X)
    assert found.faults == expected.faults


def test_a_cluster_gives_the_same_table_and_faults(pictures, tmp_path, threads):
    blocks = Brightness(), Network()
    far = run(pictures, tmp_path / "far", *blocks, scheduler=threads)
    same(far, run(pictures, tmp_path / "near", *blocks))
    assert len(far) == 90
    assert sorted(fault.path.name for fault in far.faults) == ["black.png", "broken.png"]


def test_paths_mean_the_same_in_whatever_folder_a_worker_was_started(pictures, tmp_path, threads, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = load_dataset("cells")
    samples = [(sample, frozenset({"brightness"})) for sample in dataset.samples]
    assert {sample.path.is_absolute() for sample, _ in cluster.everywhere(samples)} == {True}
    assert len(extract(dataset, [Brightness()], FeatureStore(tmp_path / "s"), scheduler=threads)) == 90


def test_tasks_are_taken_no_faster_than_results(threads):
    taken = []
    with cluster.connect(threads) as client:
        results = cluster.run(client, double, ([taken.append(at) or at] for at in range(1000)), lost, lambda: False)
        assert [next(results) for _ in range(20)] == [[2 * at] for at in range(20)]
        results.close()
    assert len(taken) <= 20 + 2 * cluster._AHEAD


def test_when_asked_to_stop_what_is_at_work_is_finished(threads):
    done = []
    with cluster.connect(threads) as client:
        for results in cluster.run(client, double, ([at] for at in range(1000)), lost, lambda: len(done) >= 5):
            done.append(results)
    assert done == [[2 * at] for at in range(len(done))]
    assert 5 <= len(done) <= 5 + 2 * cluster._AHEAD


def test_a_worker_with_another_version_is_refused(pictures, tmp_path, threads, monkeypatch):
    monkeypatch.setattr(cluster, "_fingerprint_here", lambda extractor: "another")
    with pytest.raises(cluster.ClusterError, match="cannot measure") as caught:
        run(pictures, tmp_path / "s", scheduler=threads)
    assert "brightness is another version" in str(caught.value)


def test_no_scheduler_and_no_address_are_said_clearly(monkeypatch):
    monkeypatch.setattr(cluster, "_PATIENCE", 1.0)
    with pytest.raises(cluster.ClusterError, match="no Dask scheduler answers"):
        cluster.connect("tcp://127.0.0.1:1")
    for nonsense in ("nonsense://here", "foo", "tcp://here", "127.0.0.1:8786"):
        with pytest.raises(UsageError, match="no address"):
            cluster.connect(nonsense)


def test_a_scheduler_without_workers_is_said_clearly(monkeypatch):
    monkeypatch.setattr(cluster, "_PATIENCE", 1.0)
    alone = {"cls": distributed.Scheduler, "options": {"dashboard": False}}
    with distributed.SpecCluster({}, scheduler=alone) as empty, pytest.raises(FusionError, match="has no worker"):
        cluster.connect(empty.scheduler_address)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills with signals")
def test_a_worker_killed_in_the_middle_costs_nothing(pictures, tmp_path, processes):
    expected = run(pictures, tmp_path / "near")
    dying = Brightness(dies_once=str(tmp_path / "died"))
    found = run(pictures, tmp_path / "far", dying, scheduler=processes)
    assert (tmp_path / "died").exists()
    same(found, expected)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills with signals")
def test_a_cell_that_kills_every_worker_is_lost_alone(tmp_path, processes):
    for seed in range(6):
        write_image(tmp_path / "cells" / f"{seed}.png", paint(seed, side=40, radius=6 + seed))
    areas = run(tmp_path / "cells", tmp_path / "near").table.X[:, 1]
    found = run(tmp_path / "cells", tmp_path / "far", Brightness(dies_of_area=int(areas[3])), scheduler=processes)
    assert [fault.path.name for fault in found.faults] == ["3.png"]
    assert "died of it" in found.faults[0].reason
    assert_array_equal(found.table.X[:, 1], np.delete(areas, 3))


@pytest.mark.slow
def test_handcrafted_features_are_the_same_byte_for_byte(pictures, tmp_path, processes):
    from fusion.plugins import build_extractor

    blocks = [build_extractor(name) for name in ("morphology", "texture", "colour")]
    same(run(pictures, tmp_path / "far", *blocks, scheduler=processes), run(pictures, tmp_path / "near", *blocks))


def double(task):
    return [2 * item for item in task]


def lost(item):
    return f"lost {item}"
