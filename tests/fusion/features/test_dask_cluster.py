"""A Dask cluster: the same table as on this machine, whoever dies in the middle."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

from classifiers.boosting import BoostedTreesClassifier
from fusion.data.dataset import load_dataset
from fusion.errors import FusionError, UsageError
from fusion.features import dask_cluster
from fusion.features.extraction import extract
from fusion.features.store import FeatureStore
from fusion.settings.commands import TrainConfig
from fusion.workflows.train import train
from tests.builders.images import paint, write_image

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
def images(tmp_path):
    """Ninety cells, one image that is none, and one without a cell."""
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


def test_a_cluster_gives_the_same_table_and_faults(images, tmp_path, threads):
    blocks = Brightness(), Network()
    far = run(images, tmp_path / "far", *blocks, scheduler=threads)
    same(far, run(images, tmp_path / "near", *blocks))
    assert len(far) == 90
    assert sorted(fault.path.name for fault in far.faults) == ["black.png", "broken.png"]


def test_paths_mean_the_same_in_whatever_folder_a_worker_was_started(images, tmp_path, threads, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = load_dataset("cells")
    samples = [(sample, frozenset({"brightness"})) for sample in dataset.samples]
    assert {sample.path.is_absolute() for sample, _ in dask_cluster.everywhere(samples)} == {True}
    assert len(extract(dataset, [Brightness()], FeatureStore(tmp_path / "s"), scheduler=threads)) == 90


def test_tasks_are_taken_no_faster_than_results(threads):
    taken = []
    with dask_cluster.connect(threads) as client:
        results = dask_cluster.run(
            client, double, ([taken.append(at) or at] for at in range(1000)), lost, lambda: False
        )
        assert [next(results) for _ in range(20)] == [[2 * at] for at in range(20)]
        results.close()
    assert len(taken) <= 20 + 2 * dask_cluster._AHEAD


def test_when_asked_to_stop_what_is_at_work_is_finished(threads):
    done = []
    with dask_cluster.connect(threads) as client:
        for results in dask_cluster.run(client, double, ([at] for at in range(1000)), lost, lambda: len(done) >= 5):
            done.append(results)
    assert done == [[2 * at] for at in range(len(done))]
    assert 5 <= len(done) <= 5 + 2 * dask_cluster._AHEAD


def test_a_worker_with_another_version_is_refused(images, tmp_path, threads, monkeypatch):
    monkeypatch.setattr(dask_cluster, "_fingerprint_here", lambda extractor: "another")
    with pytest.raises(dask_cluster.ClusterError, match="cannot measure") as caught:
        run(images, tmp_path / "s", scheduler=threads)
    assert "brightness is another version" in str(caught.value)


def test_no_scheduler_and_no_address_are_said_clearly(monkeypatch):
    monkeypatch.setattr(dask_cluster, "_PATIENCE", 1.0)
    with pytest.raises(dask_cluster.ClusterError, match="no Dask scheduler answers"):
        dask_cluster.connect("tcp://127.0.0.1:1")
    for nonsense in ("nonsense://here", "foo", "tcp://here", "127.0.0.1:8786"):
        with pytest.raises(UsageError, match="no address"):
            dask_cluster.connect(nonsense)


def test_a_scheduler_without_workers_is_said_clearly(monkeypatch):
    monkeypatch.setattr(dask_cluster, "_PATIENCE", 1.0)
    alone = {"cls": distributed.Scheduler, "options": {"dashboard": False}}
    with distributed.SpecCluster({}, scheduler=alone) as empty, pytest.raises(FusionError, match="has no worker"):
        dask_cluster.connect(empty.scheduler_address)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills with signals")
def test_a_worker_killed_in_the_middle_costs_nothing(images, tmp_path, processes):
    expected = run(images, tmp_path / "near")
    dying = Brightness(dies_once=str(tmp_path / "died"))
    found = run(images, tmp_path / "far", dying, scheduler=processes)
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
def test_handcrafted_features_are_the_same_byte_for_byte(images, tmp_path, processes):
    from fusion.plugins.registry import build_extractor

    blocks = [build_extractor(name) for name in ("morphology", "texture", "colour")]
    same(run(images, tmp_path / "far", *blocks, scheduler=processes), run(images, tmp_path / "near", *blocks))


def double(task):
    return [2 * item for item in task]


def lost(item):
    return f"lost {item}"


@pytest.fixture(scope="module")
def problem():
    """Cells of two classes that overlap, of few distinct values, so that any sketch of them is exact; some missing."""
    draws = np.random.default_rng(0)
    y = draws.integers(0, 2, 4000)
    X = draws.integers(0, 20, (4000, 12)).astype(np.float32)
    X[:, :4] += 3 * y[:, None]
    X[draws.random(X.shape) < 0.02] = np.nan
    return X[:2000], y[:2000], X[2000:], y[2000:]


class Pieces:
    def __init__(self, X, size):
        self.X, self.size, self.shape = X, size, X.shape

    def batches(self):
        return (self.X[at : at + self.size] for at in range(0, len(self.X), self.size))


@pytest.mark.parametrize("classes", [2, 3])
def test_without_draws_the_workers_grow_the_trees_that_grow_here(processes, problem, classes):
    X, y, new, _ = problem
    y = y + (np.nan_to_num(X[:, 5]) > 15) * (classes == 3)
    given = {"n_estimators": 30, "subsample": 1.0, "colsample_bytree": 1.0}
    here = BoostedTreesClassifier(**given).fit(X, y)
    there = BoostedTreesClassifier(**given, scheduler=processes).fit(Pieces(X, 300), y)
    # Sums of gradients are the same but for their order, in single precision.
    assert_allclose(there.predict_proba(new), here.predict_proba(new), atol=2e-5)
    given_a_matrix = BoostedTreesClassifier(**given, scheduler=processes).fit(X, y)
    assert_allclose(given_a_matrix.predict_proba(new), here.predict_proba(new), atol=2e-5)


def test_with_draws_the_workers_grow_trees_as_good_as_those_grown_here(processes, problem):
    X, y, new, true = problem
    here = BoostedTreesClassifier(n_estimators=100).fit(X, y).predict_proba(new)[:, 1]
    other = BoostedTreesClassifier(n_estimators=100, random_state=1).fit(X, y).predict_proba(new)[:, 1]
    there = BoostedTreesClassifier(n_estimators=100, scheduler=processes).fit(Pieces(X, 300), y)
    found = there.predict_proba(new)[:, 1]
    assert np.abs(found - here).mean() < 1.5 * np.abs(other - here).mean()
    assert roc_auc_score(true, found) == pytest.approx(roc_auc_score(true, here), abs=0.01)


def test_a_model_grown_on_a_cluster_is_saved_without_its_address(processes, problem, tmp_path):
    X, y, new, _ = problem
    model = BoostedTreesClassifier(n_estimators=5, scheduler=processes).fit(X, y)
    model.save(tmp_path)
    assert processes not in (tmp_path / "classifier.json").read_text()
    assert_array_equal(BoostedTreesClassifier.load(tmp_path).predict_proba(new), model.predict_proba(new))


def test_training_on_a_cluster_refuses_what_training_here_refuses(processes, problem):
    X, y, _, _ = problem
    model = BoostedTreesClassifier(n_estimators=2, scheduler=processes)
    with pytest.raises(ValueError, match="one class"):
        model.fit(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match="infinity"):
        model.fit(Pieces(np.where(np.isnan(X), np.inf, X), 400), y)
    with pytest.raises(ValueError, match="search needs all cells in memory, and scheduler"):
        BoostedTreesClassifier(search=True, scheduler=processes).fit(X, y)
    with pytest.raises(ValueError, match="external_memory is of this machine"):
        BoostedTreesClassifier(external_memory=True, scheduler=processes).fit(X, y)


def test_fusion_train_grows_trees_on_a_cluster(processes, synthetic, synthetic_store, tmp_path):
    def trained(name, **options):
        given = {"n_estimators": 20, "subsample": 1.0, "colsample_bytree": 1.0}
        return train(
            TrainConfig(
                data=synthetic,
                store=synthetic_store,
                features=["morphology"],
                classifier="xgb",
                splits=2,
                classifiers={"xgb": given},
                output=tmp_path / name,
                jobs=1,
                **options,
            )
        )

    here, there = trained("here"), trained("there", scheduler=processes)
    assert_allclose(there.result.scores[0].proba, here.result.scores[0].proba, atol=2e-5)
    written = [path for path in (tmp_path / "there").rglob("*") if path.is_file()]
    assert written
    assert not any(processes.encode() in path.read_bytes() for path in written)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheduler": "somewhere"}, "no address of a scheduler"),
        ({"scheduler": "tcp://127.0.0.1:1", "classifier": "svm"}, "a classifier that a cluster trains"),
        ({"scheduler": "tcp://127.0.0.1:1", "search": True}, "scheduler keeps the features out of memory"),
    ],
)
def test_training_on_a_cluster_is_refused_before_anything_is_measured(options, words, synthetic, tmp_path):
    given = {"classifier": "xgb", **options}
    with pytest.raises(UsageError, match=words):
        train(TrainConfig(data=synthetic, features=["morphology"], output=tmp_path / "model", **given))


def test_workers_that_cannot_grow_trees_are_told_in_one_line(processes, problem, monkeypatch):
    X, y, _, _ = problem

    def breaks(*_, **__):
        raise RuntimeError("no xgboost\non this worker")

    monkeypatch.setattr("xgboost.dask.train", breaks)
    with pytest.raises(FusionError, match="cannot grow the trees") as caught:
        BoostedTreesClassifier(scheduler=processes).fit(X, y)
    assert "RuntimeError: no xgboost on this worker" in str(caught.value)
