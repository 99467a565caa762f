"""Whatever is done to files, the features served are those of their bytes, and the store's rows those of their keys."""

import os
import shutil
import sys
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from fusion.data.dataset import content_key, load_dataset
from fusion.features.extraction import extract
from fusion.features.store import FeatureStore, open_shard
from fusion.features.store_maintenance import held
from fusion.features.store_recheck import recheck
from fusion.images.cell import read_cell
from fusion.io.content_hash import hash_content
from fusion.plugins.registry import build_extractor
from tests.builders.images import paint, write_image

#: Steps of one history, and how many cells there are.
STEPS, CELLS = 8, 3

#: CLOCK_REALTIME_COARSE, by which Linux tells the times of files; Python has no name for it.
CLOCK = 5

needs_clock = pytest.mark.skipif(sys.platform != "linux", reason="the clock of files is not known")


@dataclass(frozen=True)
class Sums:
    """A measurement that two different cells do not share."""

    name: ClassVar[str] = "sums"
    version: ClassVar[str] = "1"
    in_main_process: ClassVar[bool] = False

    def feature_names(self):
        return ("colour", "area")

    def extract(self, cells):
        return np.array([[cell.rgb[cell.mask].mean(), cell.mask.sum()] for cell in cells], np.float32)


def wait_for_the_clock():
    """Until a file that is changed from now on has another ctime than one that was changed before."""
    now = time.clock_gettime_ns(CLOCK)
    while time.clock_gettime_ns(CLOCK) == now:
        pass


class Folder:
    """Three images with a mask each, backups of both, and what may be done to them."""

    def __init__(self, root, rng):
        self.root, self.rng = root, rng
        self.backups = root.parent / "backups"
        root.mkdir(parents=True, exist_ok=True)
        self.backups.mkdir()
        self.images = [root / f"{at}.bmp" for at in range(CELLS)]
        self.masks = [root / f"{at}-mask.bmp" for at in range(CELLS)]
        for at, file in enumerate([*self.images, *self.masks]):
            self.write(file, at)
            shutil.copy2(file, self.backups / file.name)
        rows = [f"{image.name},{mask.name}" for image, mask in zip(self.images[1:], self.masks[1:], strict=True)]
        (root.parent / "cells.csv").write_text(
            "path,mask\ncells/0.bmp,\n" + "".join(f"cells/{row.replace(',', ',cells/')}\n" for row in rows)
        )

    def write(self, file, seed):
        """All files of a kind have one size, as C-NMC's have."""
        rgb = paint(seed, side=32, radius=8 + seed % 5)
        write_image(file, np.where(rgb > 0, 255, 0).astype(np.uint8) if file in self.masks else rgb)

    def step(self):
        kind = [self.images, self.masks][self.rng.integers(2)]
        one, other = (kind[at] for at in self.rng.choice(CELLS, 2, replace=False))
        wait_for_the_clock()
        match self.rng.integers(6):
            case 0:
                self.write(one, int(self.rng.integers(40)))
            case 1:  # written anew, at the old time
                status = one.stat()
                self.write(one, int(self.rng.integers(40)))
                os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))
            case 2:  # exchanged by mv
                aside = self.root / "aside"
                one.rename(aside)
                other.rename(one)
                aside.rename(other)
            case 3:  # cp -p
                shutil.copy2(other, one)
            case 4:  # restored by mv from a copy with its time
                shutil.copy2(self.backups / one.name, self.root / "aside")
                (self.root / "aside").replace(one)
            case 5:  # touch -r
                status = other.stat()
                os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))

    def cells(self):
        """Key and measurement of every cell, from the bytes that are there."""
        for at, image in enumerate(self.images):
            mask = self.masks[at] if at else None
            key = content_key(hash_content(image.read_bytes()), mask and hash_content(mask.read_bytes()))
            yield key, Sums().extract([read_cell(image, mask)])[0]


def live(root, seed):
    """One history; what each key has been measured as, by our own reading."""
    folder, store = Folder(root / "cells", np.random.default_rng(seed)), FeatureStore(root / "store")
    measured = {}
    for _ in range(STEPS):
        for _ in range(folder.rng.integers(1, 4)):
            folder.step()
        wait_for_the_clock()
        expected = list(folder.cells())
        measured |= expected
        found = extract(load_dataset(root / "cells.csv", store=store.root), [Sums()], store, jobs=1)
        assert found.table.keys == tuple(key for key, _ in expected)
        np.testing.assert_array_equal(found.table.X, [row for _, row in expected])
    for path in store.shards("sums", next((root / "store" / "features" / "sums").iterdir()).name):
        shard = open_shard(path)
        for key, row in zip(shard.keys.to_pylist(), shard.values, strict=True):
            np.testing.assert_array_equal(row, measured[key])


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


@needs_clock
@pytest.mark.parametrize("histories", [10, pytest.param(1000, marks=pytest.mark.slow)])
def test_features_are_those_of_the_bytes_whatever_is_done_to_files(histories, tmp_path, monkeypatch):
    # Every file is remembered at once: what tells a change is the stamp alone.
    monkeypatch.setattr("fusion.data._file_index._SETTLED_NS", -(10**9))
    for seed in range(histories):
        live(tmp_path / str(seed), seed)
        shutil.rmtree(tmp_path / str(seed))


def test_a_row_under_a_wrong_key_is_found_by_measuring_once_more(tmp_path, store, monkeypatch):
    monkeypatch.setattr("fusion.data._file_index._SETTLED_NS", -(10**9))
    folder = Folder(tmp_path / "cells", np.random.default_rng(0))
    dataset = load_dataset(tmp_path / "cells.csv", store=store.root)
    morphology = build_extractor("morphology")
    extract(dataset, [morphology], store, jobs=1)
    assert (recheck(store).measured, recheck(store).differing) == (CELLS, ())
    (version,) = held(store)
    row = np.zeros(len(morphology.feature_names()), np.float32)
    shutil.rmtree(store.folder("morphology", version.fingerprint))
    spoilt = {sample.key: row for sample in dataset.samples}
    names = morphology.feature_names()
    store.write("morphology", version.fingerprint, names, spoilt, about=version.about)
    found = recheck(FeatureStore(store.root))
    assert len(found.differing) == found.measured == CELLS
    assert len(found.set_aside) == 1
    assert extract(dataset, [morphology], FeatureStore(store.root), jobs=1).computed == {"morphology": CELLS}
    folder.images[0].unlink()
    assert recheck(FeatureStore(store.root)).untraced == 1
