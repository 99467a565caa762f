"""How many files a feature store has at any scale: a simulation of its writers, and the measured cost of a shard.

    python benchmarks/shards.py [--features 1786] [--shards 1000] [--quick]

Simulated is what ``fusion extract`` does: every writer (an extract with its worker processes) writes a shard every
``fusion.features.extraction.FLUSH`` cells or ``FLUSH_SECONDS``, whichever is first, and merges what is small when it
ends, if that is much. Measured are, on true shards of one cell each: a listing, opening with every byte checked,
opening again. What a plan needs follows from both: files, bytes, mappings (a process may have 65,530 on Linux), the
time to open.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from fusion.features.extraction import FLUSH, FLUSH_SECONDS
from fusion.features.store import FeatureStore
from fusion.features.store_maintenance import MANY, SHARD_BYTES, SMALL_BYTES
from fusion.io.files import file_checksum, sha256

#: Bytes of a cell beside its features: its key and Arrow's bookkeeping.
KEY_BYTES = 72

#: Bytes of a shard beside its cells, without the names of the features: schema, sums, padding.
HEAD_BYTES = 2000

#: Bytes of a feature's name in a shard.
NAME_BYTES = 32


@dataclass(frozen=True)
class Plan:
    """Cells of ``features`` float32 numbers, measured by ``writers`` side by side, each with ``rate`` cells a second.

    Every writer ends after ``run`` cells and is started again on others, until all are measured.
    """

    cells: int
    features: int
    writers: int
    rate: float
    run: int
    flush: int = FLUSH
    flush_seconds: float = FLUSH_SECONDS
    is_merged: bool = True


@dataclass(frozen=True)
class Outcome:
    """Shards and bytes at the end; most shards at any moment; how many bytes were written in all, merges included."""

    shards: int
    size: int
    most: int
    written: int


def simulate(plan: Plan) -> Outcome:
    """Writers start at even distances in time, so that their ends, and with them the merges, do not coincide."""
    each = 4 * plan.features + KEY_BYTES
    head = HEAD_BYTES + NAME_BYTES * plan.features
    # As many as come together in the time between two writes, and one at least, however slow a writer is.
    at_once = max(1, min(plan.flush, int(plan.rate * plan.flush_seconds), plan.run))
    small: list[int] = []  # cells in each shard that a merge would take
    full, full_cells, most, written, left = 0, 0, 0, 0, plan.cells
    done = [at * plan.run // plan.writers for at in range(plan.writers)]
    while left:
        for writer in range(plan.writers):
            count = min(at_once, left, plan.run - done[writer])
            if not count:
                break
            left -= count
            done[writer] += count
            written += head + count * each
            if head + count * each < SMALL_BYTES:
                small.append(count)
            else:
                full, full_cells = full + 1, full_cells + count
            most = max(most, full + len(small))
            if done[writer] == plan.run or not left:
                done[writer] = 0
                if plan.is_merged and len(small) > MANY:
                    merged = _merged(small, each, head)
                    most = max(most, full + len(small) + 1)  # the first merged shard is there before its parts go
                    written += sum(head + cells * each for cells in merged)
                    small = [cells for cells in merged if head + cells * each < SMALL_BYTES]
                    large = [cells for cells in merged if head + cells * each >= SMALL_BYTES]
                    full, full_cells = full + len(large), full_cells + sum(large)
    shards = full + len(small)
    return Outcome(shards, shards * head + (full_cells + sum(small)) * each, most, written)


def _merged(small: list[int], each: int, head: int) -> list[int]:
    """Cells of the shards that these become: parts whose files together stay below one shard's size."""
    merged, cells, size = [], 0, 0
    for count in small:
        if cells and size + head + count * each > SHARD_BYTES:
            merged.append(cells)
            cells, size = 0, 0
        cells, size = cells + count, size + head + count * each
    return [*merged, cells]


def measure(shards: int, features: int) -> dict[str, float]:
    """Milliseconds for each shard of a true store: writing (fsync included), listing, opening, opening again; and
    "check", seconds for every gigabyte whose sum is checked, from the operating system's cache."""
    names = [f"feature_{at:05}" for at in range(features)]
    row = np.zeros(features, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(folder)
        started = time.perf_counter()
        for at in range(shards):
            store.write("block", "version", names, {sha256(str(at).encode()): row})
        taken = {"write": time.perf_counter() - started}
        reader = FeatureStore(folder)
        for what, do in (
            ("list", lambda: reader.shards("block", "version")),
            ("open", lambda: reader.open("block", "version", names)),
            ("open again", lambda: reader.open("block", "version", names)),
        ):
            started = time.perf_counter()
            do()
            taken[what] = time.perf_counter() - started
        file = Path(folder) / "bytes"
        file.write_bytes(bytes(SHARD_BYTES))
        file_checksum(file)
        started = time.perf_counter()
        file_checksum(file)
        each_gigabyte = (time.perf_counter() - started) / SHARD_BYTES * 1e9
    return {**{what: 1000 * seconds / shards for what, seconds in taken.items()}, "check": each_gigabyte}


def main() -> None:
    """Print the measured costs, and a table of plans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=1786)
    parser.add_argument("--shards", type=int, default=1000, help="true shards that are measured")
    parser.add_argument("--quick", action="store_true", help="up to a million cells")
    given = parser.parse_args()
    cost = measure(given.shards, given.features)
    each = ", ".join(f"{what} {value:.3f}" for what, value in cost.items() if what != "check")
    print(f"{given.shards} shards of one cell, ms a shard: {each}; check {cost['check']:.2f} s a GB")
    print("\n| cells | writers | cells/s each | merged | shards | most at once | TB | written, TB | s to open |")
    print("| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for cells in (100_000, 1_000_000) if given.quick else (100_000, 1_000_000, 10_000_000, 1_000_000_000):
        for writers, rate in ((1, 50.0), (100, 50.0), (100, 2.0)):
            for is_merged in (False, True):
                run = min(1_000_000, max(1, cells // writers))
                found = simulate(Plan(cells, given.features, writers, rate, run, is_merged=is_merged))
                seconds = found.shards * cost["open"] / 1000 + found.size / 1e9 * cost["check"]
                print(
                    f"| {cells:,} | {writers} | {rate:g} | {'yes' if is_merged else 'no'} | {found.shards:,} "
                    f"| {found.most:,} | {found.size / 1e12:.4f} | {found.written / 1e12:.4f} | {seconds:,.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
