"""Data and store in object stores: the same bytes as on this machine, and every failure told in one line."""

import os
import pickle
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem

from cli import fusion
from fusion.data._file_index import FileIndex
from fusion.data.dataset import load_dataset
from fusion.errors import UsageError
from fusion.features import store_maintenance
from fusion.features.extraction import extract
from fusion.features.store import FeatureStore, StoreError
from fusion.images.decoding import ImageError, read_bytes
from fusion.io import remote_path
from fusion.io.remote_path import Remote, RemotePathError, as_path, is_url, join
from fusion.plugins.registry import build_extractor
from fusion.settings.commands import ExtractConfig, TrainConfig
from fusion.settings.loading import build_config
from tests.builders.images import ROOT, paint, write_image


class Flaky(MemoryFileSystem):
    """A store in memory whose network fails where a test says so."""

    protocol = "flaky"
    store: dict = {}  # noqa: RUF012  # as its parent has it
    pseudo_dirs = [""]  # noqa: RUF012
    broken: set = set()  # noqa: RUF012
    is_down = False

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("flaky://"))

    def _connect(self, path):
        if self.is_down:
            raise RuntimeError("no route to host\nnor any other")
        if PurePosixPath(path).name in self.broken:
            raise RuntimeError("connection reset")

    def info(self, path, **options):
        self._connect("")
        return super().info(path, **options)

    def ls(self, path, detail=True, **options):
        self._connect("")
        return super().ls(path, detail=detail, **options)

    def cat_file(self, path, start=None, end=None, **options):
        self._connect(path)
        return super().cat_file(path, start, end, **options)

    def pipe_file(self, path, value, mode="overwrite", **options):
        self._connect(path)
        return super().pipe_file(path, value, mode, **options)


fsspec.register_implementation("flaky", Flaky)


@pytest.fixture(autouse=True)
def empty_stores(monkeypatch):
    """No test sees objects of another."""
    for kind in (MemoryFileSystem, Flaky):
        monkeypatch.setattr(kind, "store", {})
        monkeypatch.setattr(kind, "pseudo_dirs", [""])
    monkeypatch.setattr(Flaky, "broken", set())
    monkeypatch.setattr(Flaky, "is_down", False)


def upload(folder: Path, url: str) -> Path:
    """The files of a folder as objects below the URL."""
    for file in folder.rglob("*"):
        if file.is_file():
            (as_path(url) / file.relative_to(folder).as_posix()).write_bytes(file.read_bytes())
    return as_path(url)


def measured(data, store):
    return extract(
        load_dataset(data, store=as_path(store)), [build_extractor("morphology")], FeatureStore(store), jobs=1
    )


def run(*arguments):
    return CliRunner().invoke(fusion, list(map(str, arguments)))


def test_a_url_is_a_path_like_any_other():
    cells = as_path("s3://bucket/cells")
    image = cells / "all" / "a b.png"
    assert str(image) == os.fspath(image) == image.as_posix() == "s3://bucket/cells/all/a b.png"
    assert (image.name, image.stem, image.suffix) == ("a b.png", "a b", ".png")
    assert str(image.parent.parent) == str(cells)
    assert image.is_relative_to(cells)
    assert image.relative_to(cells).parts == ("all", "a b.png")
    assert as_path(bytes(image).decode()) == image == image.absolute() == image.resolve()
    assert str(pickle.loads(pickle.dumps(image))) == str(image)
    assert str(as_path("local:///folder/a")) == "local:///folder/a"


def test_what_is_of_this_machine_stays_a_plain_path():
    for text in ("cells", "/cells/a.png", "c:/cells", "a:b", "file:///cells"):
        assert not is_url(text)
        assert not isinstance(as_path(text), Remote)
    assert as_path("file:///cells/a.png") == Path("/cells/a.png")
    assert join(as_path("s3://b/tables"), "a.png") == as_path("s3://b/tables/a.png")
    assert join(Path("tables"), "s3://b/a.png") == as_path("s3://b/a.png")
    assert not isinstance(join(as_path("s3://b/tables"), "/cells/a.png"), Remote)


@pytest.mark.parametrize("layout", ["cnmc", "class folders"])
def test_data_and_store_elsewhere_give_the_bytes_of_this_machine(layout, synthetic, class_folders, tmp_path):
    folder = synthetic if layout == "cnmc" else class_folders
    upload(folder, "memory://cells")
    here, there = measured(folder, tmp_path / "here"), measured("memory://cells", "memory://kept/store")
    assert there.dataset.layout == here.dataset.layout == layout
    assert there.dataset.names == here.dataset.names
    here.save(tmp_path / "here.parquet")
    there.save(tmp_path / "there.parquet")
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
    shards = [name for name in MemoryFileSystem.store if name.endswith(".arrow") and "/features/" in name]
    assert sorted(map(os.path.basename, shards)) == sorted(
        p.name for p in (tmp_path / "here/features").rglob("*.arrow")
    )


def test_a_second_run_reads_no_image_again_even_on_another_machine(class_folders, tmp_path, monkeypatch):
    upload(class_folders, "memory://cells")
    for name in MemoryFileSystem.store:  # settled: not changed within the last seconds
        MemoryFileSystem.store[name].created = MemoryFileSystem.store[name].created.replace(year=2020)
    measured("memory://cells", "memory://store")
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "of another machine"))
    monkeypatch.setattr("fusion.data._file_index.read_bytes", lambda path: pytest.fail(f"{path} is read again"))
    again = measured("memory://cells", "memory://store")
    assert again.computed == {"morphology": 0}
    assert len(again) == 6


def test_a_changed_object_is_read_again(class_folders):
    upload(class_folders, "memory://cells")
    before = load_dataset("memory://cells", store=as_path("memory://store"))
    as_path("memory://cells/blast/0.png").write_bytes((class_folders / "normal/1.png").read_bytes())
    after = load_dataset("memory://cells", store=as_path("memory://store"))
    assert before.samples[0].key != after.samples[0].key
    assert after.samples[0].key == next(s.key for s in after.samples if s.path.name == "1.png")


def test_a_table_names_images_and_masks_here_and_elsewhere(class_folders, tmp_path):
    upload(class_folders, "memory://cells")
    mask = write_image(tmp_path / "mask.png", np.full((64, 64, 3), 255, np.uint8))
    as_path("memory://cells/masks/0.png").write_bytes(mask.read_bytes())
    rows = [
        "path,label,mask",
        "blast/0.png,a,masks/0.png",
        f"{class_folders / 'normal' / '1.png'},b,",
        "memory://cells/normal/3.png,b,",
    ]
    as_path("memory://cells/table.csv").write_bytes("\n".join(rows).encode())
    there = load_dataset("memory://cells/table.csv")
    assert [str(sample.path) for sample in there.samples] == [
        "memory://cells/blast/0.png",
        str(class_folders / "normal" / "1.png"),
        "memory://cells/normal/3.png",
    ]
    assert str(there.samples[0].mask_path) == "memory://cells/masks/0.png"
    (tmp_path / "table.csv").write_text("path,label\nmemory://cells/normal/3.png,b\n")
    assert load_dataset(tmp_path / "table.csv").samples[0].key == there.samples[2].key


def test_train_and_predict_by_url(class_folders, tmp_path):
    for at in range(6, 24):
        label = ("blast", "normal")[at % 2]
        write_image(class_folders / label / f"{at}.png", paint(at, radius=22 - 6 * (at % 2)))
    upload(class_folders, "memory://cells")
    common = ["--features", "morphology", "--classifier", "logreg", "--splits", "2", "-q"]
    there = run("train", "memory://cells", "--store", "memory://store", "-o", tmp_path / "m", *common)
    assert there.exit_code == 0, there.output
    assert '"data": "memory://cells"' in (tmp_path / "m" / "model.json").read_text()
    predicted = run("predict", tmp_path / "m", "memory://cells/blast/0.png", "--csv", tmp_path / "p.csv", "-q")
    assert predicted.exit_code == 0, predicted.output
    here = run("predict", tmp_path / "m", class_folders / "blast" / "0.png", "--csv", tmp_path / "h.csv", "-q")
    assert here.exit_code == 0, here.output
    assert (tmp_path / "p.csv").read_text().split(",")[-3:] == (tmp_path / "h.csv").read_text().split(",")[-3:]


@pytest.mark.slow
def test_processes_share_data_and_store_elsewhere(tmp_path):
    for seed in range(100):
        write_image(tmp_path / "cells" / f"{seed:02}.png", paint(seed, side=40, radius=6 + seed % 12))
    data, store = f"local://{tmp_path}/cells", f"local://{tmp_path}/kept"
    command = [sys.executable, "-m", "fusion", "extract", "--features", "colour", "--jobs", "2", "-q"]
    there = ["--store", store, "--export", tmp_path / "there.csv"]
    here = ["--store", tmp_path / "here", "--export", tmp_path / "here.csv"]
    subprocess.run([*command, data, *there], cwd=ROOT, check=True)
    subprocess.run([*command, tmp_path / "cells", *here], cwd=ROOT, check=True)
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert list((tmp_path / "kept" / "features").rglob("*.arrow"))


def test_no_local_run_imports_fsspec(class_folders):
    code = (
        "import sys; from fusion.data.dataset import load_dataset; from fusion.features.extraction import extract; "
        "from fusion.plugins import build_extractor; from fusion.features.store import FeatureStore; "
        f"extract(load_dataset({str(class_folders)!r}), [build_extractor('colour')], FeatureStore(), jobs=1); "
        "print('fsspec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_network_error_on_one_image_is_a_fault_and_tried_again(class_folders, monkeypatch):
    upload(class_folders, "flaky://cells")
    for name in Flaky.store:
        Flaky.store[name].created = Flaky.store[name].created.replace(year=2020)
    monkeypatch.setattr(Flaky, "broken", {"2.png"})
    found = measured("flaky://cells", "flaky://store")
    assert [(fault.path.name, fault.stage) for fault in found.faults] == [("2.png", "read")]
    assert found.faults[0].reason == "cannot be read: runtimeerror: connection reset"
    assert len(found) == 5
    monkeypatch.setattr(Flaky, "broken", set())
    assert len(measured("flaky://cells", "flaky://store")) == 6


def test_an_object_that_vanishes_is_a_fault(class_folders):
    upload(class_folders, "memory://cells")
    dataset = load_dataset("memory://cells")
    as_path("memory://cells/blast/2.png").unlink()
    found = extract(dataset, [build_extractor("morphology")], FeatureStore(), jobs=1)
    assert [str(fault) for fault in found.faults] == [
        "memory://cells/blast/2.png: cannot be read: no such file or directory"
    ]


@dataclass(frozen=True)
class Patient:
    """An extractor that takes its time: until another image has been asked for."""

    name: ClassVar[str] = "patient"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = False
    others: ClassVar[threading.Event] = threading.Event()

    def feature_names(self):
        return ["area"]

    def extract(self, cells):
        assert self.others.wait(20)
        return np.array([[cell.mask.sum()] for cell in cells], np.float32)


def test_images_are_fetched_while_those_before_them_are_measured(class_folders, own_store, monkeypatch):
    dataset = load_dataset(upload(class_folders, "memory://cells"))
    fetched = []

    def fetch(path):
        fetched.append(path)
        if len(fetched) > 1:
            Patient.others.set()
        return read_bytes(path)

    monkeypatch.setattr("fusion.features.cell_measurement.read_bytes", fetch)
    found = extract(dataset, [Patient()], FeatureStore(own_store), jobs=1)
    assert not found.faults
    assert sorted(fetched) == sorted(sample.path for sample in dataset.samples)
    here = extract(load_dataset(class_folders), [Patient()], FeatureStore(own_store.parent / "other"), jobs=1)
    np.testing.assert_array_equal(found.table.X, here.table.X)


def test_an_image_too_large_is_not_fetched(class_folders, monkeypatch):
    upload(class_folders, "memory://cells")
    monkeypatch.setattr("fusion.data._file_index.MAX_BYTES", 10)
    monkeypatch.setattr("fusion.data._file_index.read_bytes", lambda path: pytest.fail(f"{path} is fetched"))
    assert {fault.reason for fault in load_dataset("memory://cells").faults} == {
        "too large for an image of a cell (0 MB)"
    }


def test_a_store_that_is_down_ends_the_run_with_one_line(class_folders, monkeypatch):
    upload(class_folders, "flaky://cells")
    monkeypatch.setattr(Flaky, "is_down", True)
    with pytest.raises(RemotePathError, match="cannot list flaky://cells"):
        load_dataset("flaky://cells")
    with pytest.raises(StoreError, match="cannot write to the feature store flaky://store") as caught:
        FeatureStore("flaky://store").write("a", "1", ["f"], {"k": np.zeros(1, np.float32)})
    assert "no route to host nor any other" in str(caught.value)
    done = run("extract", "flaky://cells", "--features", "morphology")
    assert done.exit_code == 1
    assert done.output.splitlines()[:2] == [
        "fusion extract: cannot list flaky://cells",
        "  found: RuntimeError: no route to host nor any other",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["inspect", "memory://nothing"], 2, "no such file or folder: memory://nothing"),
        (["inspect", "foo://bucket"], 2, "nothing is known of foo:// places"),
        (["train", "memory://cells", "-o", "memory://model"], 2, "wrong setting 'output'"),
        (["predict", "s3://bucket/model", "cells"], 2, "wrong setting 'model'"),
        (["extract", "cells", "--export", "s3://bucket/t.csv"], 2, "wrong setting 'export'"),
    ],
)
def test_wrong_use_is_told(arguments, code, words):
    done = run(*arguments)
    assert done.exit_code == code
    assert words in done.output
    assert "Traceback" not in done.output


def test_a_protocol_that_is_not_installed_names_its_extra(monkeypatch):
    def absent(protocol):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", absent)
    remote_path.filesystem.cache_clear()
    with pytest.raises(UsageError, match=r"fusion-cells\[s3\]"):
        load_dataset("s3://bucket/cells")
    with pytest.raises(UsageError, match=r"fusion-cells\[gs\]"):
        load_dataset("gs://bucket/cells")
    remote_path.filesystem.cache_clear()


def test_settings_take_urls_for_data_and_store_alone():
    config = build_config(ExtractConfig, options={"data": "s3://b/cells", "store": "gs://b/store"})
    assert (str(config.data), str(config.store)) == ("s3://b/cells", "gs://b/store")
    with pytest.raises(UsageError, match="'output'"):
        build_config(TrainConfig, options={"data": "s3://b/cells", "output": "s3://b/model"})


@pytest.fixture
def stored(class_folders):
    """The one shard of a store in memory, with the features of six cells."""
    upload(class_folders, "memory://cells")
    measured("memory://cells", "memory://store")
    (shard,) = (name for name in MemoryFileSystem.store if "/features/" in name)
    return as_path(f"memory:/{shard}")


def flip(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def test_a_damaged_object_is_found_and_its_cells_measured_again(stored):
    flip(stored)
    count, damaged = store_maintenance.verify(FeatureStore("memory://store"))
    assert count == 1
    assert [str(path).startswith("memory://store/quarantine/morphology-") for path in damaged] == [True]
    assert not stored.exists()
    again = measured("memory://cells", "memory://store")
    assert again.computed == {"morphology": 6}
    assert store_maintenance.verify(FeatureStore("memory://store")) == (1, [])


def test_a_damaged_object_is_never_read(stored, tmp_path, monkeypatch):
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "of another machine"))
    flip(stored)
    assert measured("memory://cells", "memory://store").computed == {"morphology": 6}


def test_a_damaged_copy_on_this_machine_is_fetched_anew(stored, own_store):
    (copy,) = (own_store / "fetched").rglob("*.arrow")
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-1])
    assert measured("memory://cells", "memory://store").computed == {"morphology": 0}
    assert copy.read_bytes() == whole


def test_a_store_elsewhere_is_listed_merged_and_swept(class_folders, own_store):
    upload(class_folders, "memory://cells")
    store = FeatureStore("memory://store")
    for at in range(3):
        store.write("absent", "1", ["f"], {f"k{at}": np.full(1, at, np.float32)}, about={"version": "1"})
    (held,) = store_maintenance.held(store)
    assert (held.cells, held.shards) == (3, 3)
    assert held.size_bytes > 0
    reader = FeatureStore("memory://store")
    block = reader.open("absent", "1", ["f"])
    assert store_maintenance.compact_all(store) == (3, 1)
    assert block.rows(block.find(["k2", "k0"])).ravel().tolist() == [2, 0]
    assert reader.open("absent", "1", ["f"]).find(["k0", "k1", "k2"]).min() >= 0
    assert len(list((own_store / "fetched").rglob("*.arrow"))) == 1
    removed, freed = store_maintenance.collect_garbage(store)
    assert removed == ["copies of 1 shards on this machine"]
    assert freed > 0
    for action, words in (("ls", "1 extractor versions"), ("verify", "all as they were written")):
        done = run("cache", action, "--store", "memory://store")
        assert done.exit_code == 0
        assert words in done.output


def test_reading_bytes_of_an_object_tells_why_not():
    with pytest.raises(ImageError, match="cannot be read: no such file or directory"):
        read_bytes(as_path("memory://nothing/a.png"))


def test_an_index_elsewhere_that_is_damaged_is_made_anew(class_folders):
    upload(class_folders, "memory://cells")
    for name in MemoryFileSystem.store:
        MemoryFileSystem.store[name].created = MemoryFileSystem.store[name].created.replace(year=2020)
    index = as_path("memory://store/index.arrow")
    paths = [str(path) for path in as_path("memory://cells/blast").glob("*.png")]
    first = FileIndex(index)
    first.look_up(paths)
    assert FileIndex(index).look_up(paths) == first.look_up(paths)
    index.write_bytes(b"damaged")
    second = FileIndex(index)
    second.look_up(paths)
    assert (first.files_read, second.files_read) == (3, 3)


def test_workers_of_a_cluster_read_urls(tmp_path):
    distributed = pytest.importorskip("distributed")
    for seed in range(40):
        write_image(tmp_path / "cells" / f"{seed:02}.png", paint(seed, side=40, radius=6 + seed % 12))
    here = measured(tmp_path / "cells", tmp_path / "here").table
    with distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as workers:
        dataset = load_dataset(f"local://{tmp_path}/cells")
        there = extract(
            dataset,
            [build_extractor("morphology")],
            FeatureStore(f"local://{tmp_path}/kept"),
            jobs=1,
            scheduler=workers.scheduler_address,
        ).table
    assert there.names == here.names
    assert there.X.tobytes() == here.X.tobytes()


@pytest.fixture(scope="module")
def bucket():
    """A bucket of a server on this machine that speaks the protocol of S3, and settings by which it is found."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'fusion-cells[s3]'")
    server = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]'")
    with pytest.MonkeyPatch.context() as patch:
        running = server.ThreadedMotoServer("127.0.0.1", port=0)
        running.start()
        host, port = running.get_host_and_port()
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "someone"),
            ("AWS_SECRET_ACCESS_KEY", "something"),
        ):
            patch.setenv(name, value)
        remote_path.filesystem.cache_clear()
        fsspec.filesystem("s3", use_listings_cache=False).mkdir("bucket")
        yield "s3://bucket"
        running.stop()
    remote_path.filesystem.cache_clear()


def test_s3_gives_the_bytes_of_this_machine(bucket, synthetic, tmp_path):
    upload(synthetic, f"{bucket}/cells")
    here = measured(synthetic, tmp_path / "here")
    there = measured(f"{bucket}/cells", f"{bucket}/store")
    here.save(tmp_path / "here.csv")
    there.save(tmp_path / "there.csv")
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    again = measured(f"{bucket}/cells", f"{bucket}/store")
    assert again.computed == {"morphology": 0}
    assert store_maintenance.verify(FeatureStore(f"{bucket}/store")) == (1, [])
    flip(next(as_path(f"{bucket}/store/features").glob("*/*/*.arrow")))
    assert len(store_maintenance.verify(FeatureStore(f"{bucket}/store"))[1]) == 1
    assert measured(f"{bucket}/cells", f"{bucket}/store").computed == {"morphology": len(here)}


@pytest.mark.slow
def test_s3_by_the_command_line_and_by_worker_processes(bucket, tmp_path):
    for seed in range(100):
        write_image(tmp_path / "more" / f"{seed:02}.png", paint(seed, side=40, radius=6 + seed % 12))
    upload(tmp_path / "more", f"{bucket}/more")
    command = [sys.executable, "-m", "fusion", "extract", "--features", "colour", "--jobs", "2", "-q"]
    there = [f"{bucket}/more", "--store", f"{bucket}/store", "--export", tmp_path / "there.csv"]
    here = [tmp_path / "more", "--store", tmp_path / "here", "--export", tmp_path / "here.csv"]
    subprocess.run([*command, *there], cwd=ROOT, check=True)
    subprocess.run([*command, *here], cwd=ROOT, check=True)
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


@pytest.mark.slow
def test_s3_tells_a_missing_bucket_a_missing_server_and_missing_credentials(bucket):
    def message(**settings):
        url = settings.pop("url", f"{bucket}/cells")
        environment = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true", **settings}
        environment = {name: value for name, value in environment.items() if value}
        command = [sys.executable, "-m", "fusion", "inspect", url]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    missing = message(url="s3://no-such-bucket/cells")
    assert missing.returncode == 2
    assert "no such file or folder: s3://no-such-bucket/cells" in missing.stderr
    for settings, words in (
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "Unable to locate credentials"),
    ):
        done = message(**settings)
        assert done.returncode == 1
        assert f"cannot list {bucket}/cells" in done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_the_labels_of_a_table_beside_the_data_are_read_where_they_may_be(class_folders, monkeypatch):
    names = sorted(path.name for path in (class_folders / "blast").glob("*.png"))
    upload(class_folders / "blast", "flaky://release/prelim")
    rows = [f"UID_{at}_1_1_all.png,{name},1" for at, name in enumerate(names)]
    as_path("flaky://release/prelim_labels.csv").write_bytes("\n".join(["Patient_ID,new_names,labels", *rows]).encode())
    as_path("flaky://release/prelim/empty.csv").write_bytes(b"")
    dataset = load_dataset("flaky://release/prelim")
    assert dataset.layout == "cnmc"
    assert [(sample.label, sample.subject) for sample in dataset.samples] == [("all", "0"), ("all", "1"), ("all", "2")]

    listed = Flaky.ls

    def denied(self, path, detail=True, **options):
        if self._strip_protocol(path) == "/release":
            raise PermissionError("not ours to list")
        return listed(self, path, detail=detail, **options)

    monkeypatch.setattr(Flaky, "ls", denied)
    assert {sample.label for sample in load_dataset("flaky://release/prelim").samples} == {None}
