"""What `fusion predict` of a single cell costs beside the import of the libraries that it cannot do without.

    OMP_NUM_THREADS=1 python -m benchmarks.startup [--turns 10]

Models of handcrafted blocks, by boosted trees and by an SVM, of 160 synthetic cells; one new cell each time, so that it
is measured. Processor time (user and system) and peak memory of whole processes, in turns with
``python -c "import numpy, cv2, xgboost"``: medians. Compiled loops are on disk, as they are from the second run on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

#: The yardstick.
_LIBRARIES = [sys.executable, "-c", "import numpy, cv2, xgboost"]


def prepare(folder: Path, images: int) -> None:
    """The models, and new cells. In a process of its own: what a process grew to before it became another counts."""
    import cv2

    from fusion.io.files import write_atomically
    from fusion.settings.commands import TrainConfig
    from fusion.synthetic.cells import SyntheticDesign, synthesize
    from fusion.workflows.train import train

    cells = synthesize(folder / "cells", SyntheticDesign(subjects=16, cells_per_subject=10, folds=1))
    blocks, store = ["morphology", "texture", "colour"], folder / "store"
    for classifier in ("xgb", "svm"):
        output = folder / classifier
        train(TrainConfig(data=cells, features=blocks, classifier=classifier, output=output, store=store, jobs=1))
    image = cv2.imread(str(next(cells.rglob("*.bmp"))))
    for number in range(images):
        image[0, 0] = number  # another image, which no store holds
        write_atomically(folder / f"{number}.png", cv2.imencode(".png", image)[1].tobytes())


def cost(words: list[str]) -> tuple[float, float]:
    """Processor seconds and peak megabytes of a process.

    Raises
    ------
    RuntimeError : it failed.
    """
    # Modules are compiled once, as after any installation.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    assert process.stderr is not None
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(process.stderr.read().decode())
    process.stderr.close()
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--prepare", help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(given.prepare or name)
        if given.prepare:
            prepare(folder, given.turns + 1)
            return
        words = [sys.executable, "-m", "benchmarks.startup", "--prepare", name, "--turns", str(given.turns)]
        subprocess.run(words, check=True)
        costs: dict[str, list[tuple[float, float]]] = {"libraries": [], "xgb": [], "svm": []}
        for turn in range(given.turns + 1):
            for what, found in costs.items():
                predict = [sys.executable, "-m", "fusion", "predict", str(folder / what), str(folder / f"{turn}.png")]
                store = str(folder / f"store-{what}")  # the cell is new to it
                found.append(cost(_LIBRARIES if what == "libraries" else [*predict, "--store", store]))
        base = median(seconds for seconds, _ in costs["libraries"][1:])
        for what, found in costs.items():  # the first turn compiles, and reads libraries from disk
            seconds, peak = (median(values) for values in zip(*found[1:], strict=True))
            print(f"{what:<10} {seconds:5.2f} s   {seconds / base:4.2f} times the libraries   {peak:4.0f} MB")


if __name__ == "__main__":
    main()
