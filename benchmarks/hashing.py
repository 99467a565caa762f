"""What it costs to be sure of every image: hashes and checks as shares of ``extract``; prints Markdown.

    python benchmarks/hashing.py [--cells 200] [--repeats 5]

The cells are synthetic images as C-NMC has them: 450 x 450, 24 bits, BMP. Each run begins with an empty store and
reads, checks and measures every image in this process. Shares are of processor time, so that other work on the machine
counts on both sides; the median of the repeats is shown. "measured bytes" is the hash of what is about to be measured,
which every run pays; "all hashes" has those of files and pixels too, which a run pays for files that it does not know;
"all checks" is all that is done to a file before it is measured: reading, hashing, decoding it once.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from fusion.data import _file_index, dataset  # noqa: E402  # the code beside this script, not what is installed
from fusion.features import cell_measurement, extraction  # noqa: E402
from fusion.features.store import FeatureStore  # noqa: E402
from fusion.images import decoding  # noqa: E402
from fusion.plugins.registry import build_extractor  # noqa: E402
from fusion.synthetic.cells import SyntheticDesign, synthesize  # noqa: E402

SETS = (("colour",), ("morphology",), ("morphology", "texture", "colour"))


class Clock:
    """Processor time of what goes through functions that it has wrapped, in whatever thread."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, function: Callable[..., str]) -> Callable[..., str]:
        """The same function, timed."""

        def timed(*parts: bytes | memoryview) -> str:
            started = time.thread_time()
            found = function(*parts)
            self.seconds += time.thread_time() - started
            return found

        return timed


def run(cells: Path, features: Sequence[str]) -> tuple[float, float, float, float]:
    """Processor seconds of an extraction into an empty store: in all, for measured bytes, all hashes, all checks."""
    measured, others = Clock(), Clock()
    clocks = ((cell_measurement, measured), (_file_index, others), (decoding, others))
    originals = [module.hash_content for module, _ in clocks]
    for module, clock in clocks:
        module.hash_content = clock.wrap(module.hash_content)
    try:
        with tempfile.TemporaryDirectory() as store:
            started = time.process_time()
            loaded = dataset.load_dataset(cells, store=Path(store))
            checked = time.process_time()
            blocks = [build_extractor(name) for name in features]
            extraction.extract(loaded, blocks, FeatureStore(Path(store)), jobs=1)
            total = time.process_time() - started
    finally:
        for (module, _), original in zip(clocks, originals, strict=True):
            module.hash_content = original
    return total, measured.seconds, measured.seconds + others.seconds, checked - started + measured.seconds


def main() -> None:
    """Print one line for each set of features."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fusion-hashing-") as work:
        cells = Path(work) / "cells"
        synthesize(cells, SyntheticDesign(subjects=4, cells_per_subject=max(1, given.cells // 4)))
        count = len(list(cells.rglob("*.bmp")))
        run(cells, SETS[-1])  # compiles loops
        print(f"{count} images\n")
        print("| features | ms a cell | measured bytes | all hashes | all checks |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for features in SETS:
            runs = [run(cells, features) for _ in range(given.repeats)]
            each = 1000 * statistics.median(one[0] for one in runs) / count
            shares = [statistics.median(one[at] / one[0] for one in runs) for at in (1, 2, 3)]
            print(f"| {', '.join(features)} | {each:.2f} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")


if __name__ == "__main__":
    main()
