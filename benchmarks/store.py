"""Reading one block of features back: our store against raw NumPy, joblib.Memory, HDF5, zarr and Parquet.

    python benchmarks/store.py [--cells 10661] [--features 1786] [--repeats 7]

All hold the same float32 numbers, are read in turns in this one process with the files in the operating system's
cache, and must end with the same array in memory. What is not installed is left out (`pip install h5py zarr`). Ours
also finds the rows by content key, and checks the sum of every byte when it is opened, which the others do not; a
store that is open already has done so.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from fusion.features.store import FeatureStore
from fusion.features.store_maintenance import compact
from fusion.io.files import file_checksum, sha256

#: Cells that an extraction writes at once; see ``fusion.features.extraction``.
FLUSH = 512

Read = Callable[[], np.ndarray]


def ours(folder: Path, keys: list[str], names: list[str], X: np.ndarray, *, is_merged: bool, is_open: bool) -> Read:
    """The feature store as an extraction has left it or after a merge, opened and checked anew at every read or not."""
    store = FeatureStore(folder)
    for start in range(0, len(keys), FLUSH):
        rows = dict(zip(keys[start : start + FLUSH], X[start : start + FLUSH], strict=True))
        store.write("block", "version", names, rows)
    if is_merged:
        compact(store, "block", "version")

    def read() -> np.ndarray:
        block = (store if is_open else FeatureStore(folder)).open("block", "version", names)
        return block.rows(block.find(keys))

    return read


def numpy_memmap(folder: Path, X: np.ndarray) -> Read:
    """The bytes as they are: the floor."""
    X.tofile(folder / "raw")
    return lambda: np.array(np.memmap(folder / "raw", np.float32, "r", shape=X.shape))


def checked(folder: Path, X: np.ndarray) -> Read:
    """A check of the raw file and the copy: what no reader that checks every byte can be faster than."""
    read = numpy_memmap(folder, X)

    def check_and_read() -> np.ndarray:
        file_checksum(folder / "raw")
        return read()

    return check_and_read


def joblib_memory(folder: Path, X: np.ndarray) -> Read:
    """What scikit-learn users reach for."""
    import joblib

    np.save(folder / "source.npy", X)
    measure = joblib.Memory(folder / "joblib", verbose=0).cache(np.load)
    measure(folder / "source.npy")
    return lambda: measure(folder / "source.npy")


def hdf5(folder: Path, X: np.ndarray) -> Read:
    """One contiguous data set."""
    import h5py

    with h5py.File(folder / "h5", "w") as file:
        file["X"] = X

    def read() -> np.ndarray:
        with h5py.File(folder / "h5") as file:
            return file["X"][:]

    return read


def zarr_array(folder: Path, X: np.ndarray) -> Read:
    """Chunks and compression as zarr chooses them."""
    import zarr

    zarr.save_array(str(folder / "zarr"), X)
    return lambda: np.asarray(zarr.open_array(str(folder / "zarr"), mode="r")[:])


def parquet(folder: Path, names: list[str], X: np.ndarray) -> Read:
    """A column for each feature, as tables are exported."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(dict(zip(names, X.T, strict=True))), folder / "parquet")
    return lambda: pq.read_table(folder / "parquet").to_pandas().to_numpy(np.float32)


def contestants(root: Path, keys: list[str], names: list[str], X: np.ndarray) -> Iterator[tuple[str, Read]]:
    """Name and reader of everything that is installed."""
    makers: dict[str, Callable[[Path], Read]] = {
        "numpy memmap": lambda folder: numpy_memmap(folder, X),
        "fusion, checked": lambda folder: ours(folder, keys, names, X, is_merged=False, is_open=False),
        "fusion, merged, checked": lambda folder: ours(folder, keys, names, X, is_merged=True, is_open=False),
        "fusion, open": lambda folder: ours(folder, keys, names, X, is_merged=False, is_open=True),
        "numpy memmap, checked": lambda folder: checked(folder, X),
        "joblib.Memory": lambda folder: joblib_memory(folder, X),
        "HDF5": lambda folder: hdf5(folder, X),
        "zarr": lambda folder: zarr_array(folder, X),
        "Parquet": lambda folder: parquet(folder, names, X),
    }
    for name, make in makers.items():
        folder = root / name.replace(" ", "-")
        folder.mkdir()
        try:
            yield name, make(folder)
        except ModuleNotFoundError as missing:
            print(f"{name}: {missing.name} is not installed", file=sys.stderr)


def main() -> None:
    """Print one line for each contestant, and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_661)
    parser.add_argument("--features", type=int, default=1_786)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    X = np.random.default_rng(0).normal(size=(given.cells, given.features)).astype(np.float32)
    keys = [sha256(str(at).encode()) for at in range(given.cells)]
    names = [f"f{at:04}" for at in range(given.features)]
    with tempfile.TemporaryDirectory() as root:
        readers = dict(contestants(Path(root), keys, names, X))
        wall: dict[str, list[float]] = {name: [] for name in readers}
        work: dict[str, list[float]] = {name: [] for name in readers}
        for repeat in range(given.repeats + 1):
            for name, read in readers.items():
                started, worked = time.perf_counter(), time.process_time()
                found = read()
                if repeat:  # the first round fills the caches
                    wall[name].append(time.perf_counter() - started)
                    work[name].append(time.process_time() - worked)
                assert np.array_equal(found, X), name
                del found
    floor = statistics.median(wall["numpy memmap"])
    result = {}
    print(f"{given.cells} x {given.features} float32, {X.nbytes / 1e6:.0f} MB, {platform.machine()}, median of reads")
    for name in readers:
        middle, processor = statistics.median(wall[name]), statistics.median(work[name])
        result[name] = {
            "seconds": round(middle, 4),
            "processor": round(processor, 4),
            "ratio": round(middle / floor, 2),
        }
        print(f"{name:22} {1000 * middle:8.1f} ms {middle / floor:6.2f}x   processor {1000 * processor:8.1f} ms")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
