"""Time and memory of ``fusion extract`` on more and more small cells, and of a run that has nothing to do.

    python benchmarks/growth.py [--cells 1000,100000] [--features morphology]

The images are 32 x 32 with a drawn cell of its own each. Memory is the largest resident size of the largest
process; one worker measures in the process itself. The first run on a machine compiles loops: a run on 100 cells, which
is not shown, does so here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]

WATCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def draw(folder: Path, count: int) -> None:
    """Images of dark cells with a darker nucleus on black, in fifty subjects of two classes."""
    draws = np.random.default_rng(0)
    folder.mkdir()
    for at in range(count):
        image = np.zeros((32, 32, 3), np.uint8)
        radius = int(draws.integers(8, 13))
        cv2.circle(image, (16, 16), radius, (150, 90, 160), -1)
        cv2.circle(image, (15 + at % 3, 16), radius - 3, (110, 40, 90), -1)
        noise = draws.integers(0, 24, image.shape, np.uint8)
        cell = np.where(image > 0, image + noise, 0).astype(np.uint8)
        name = f"UID_{at % 50}_{at}_1_{'all' if at % 2 else 'hem'}.png"
        if not cv2.imwrite(str(folder / name), cell):
            raise OSError(f"cannot write {folder / name}")


def extract(folder: Path, store: Path, features: str) -> tuple[float, float]:
    """Seconds and megabytes of one ``fusion extract``."""
    command = [sys.executable, "-m", "fusion", "extract", str(folder), "--features", features, "--jobs", "1", "--quiet"]
    environment = os.environ | {"FUSION_CACHE": str(store)}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"fusion extract failed: {done.stderr}")
    peak = int(done.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024)
    return time.perf_counter() - started, peak / 1e6


def main() -> None:
    """Print one line for each number of cells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=lambda text: [int(part) for part in text.split(",")], default=[1000, 100_000])
    parser.add_argument("--features", default="morphology")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fusion-growth-") as work:
        draw(Path(work) / "first", 100)
        extract(Path(work) / "first", Path(work) / "first-store", given.features)
        print("| cells | s | ms per cell | peak MB | s, nothing to do | peak MB |")
        print("| ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
        for count in given.cells:
            folder, store = Path(work) / f"cells{count}", Path(work) / f"store{count}"
            draw(folder, count)
            seconds, peak = extract(folder, store, given.features)
            idle, idle_peak = extract(folder, store, given.features)
            each = 1000 * seconds / count
            print(f"| {count:,} | {seconds:.1f} | {each:.2f} | {peak:.0f} | {idle:.1f} | {idle_peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
