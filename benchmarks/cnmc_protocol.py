"""C-NMC's whole protocol on two cores: where the hours of ``fusion ablate --config cnmc`` go, before and after.

    OMP_NUM_THREADS=1 python -m benchmarks.cnmc_protocol --before CHECKOUT

Fifteen sets of four blocks (morphology, texture, colour, a network's 1,536 channels) under svm, xgb and logreg, five
folds dealt five times: 1,125 fits of some 8,500 cells. They would take an hour; timed is a sample, in processor seconds
on one thread, each part in a process of its own:

- logreg: all fifteen sets in one split of the 25, as ``run_fits`` makes them, scaled blocks shared;
- svm: three sets in one split, distances shared: what the first takes with the distances of all blocks, and what each
  further one takes, whichever blocks it is of;
- xgb: five fits, each block by itself and all four. The time of a fit is a line over its columns (fitted to the
  five), which gives those of the other ten sets; and the balanced accuracy of all four on the fold held out, whose
  subjects are others;
- measuring: 32 synthetic images of 450 x 450, eight of them by the network;
- figures: 45 entries on random scores of all cells, as ``judge`` computes them.

Every time is then multiplied by how often the protocol does it, and halved for two cores where the work is dealt to
both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Columns of the blocks.
BLOCKS = {"morphology": 155, "texture": 606, "colour": 409, "cnn": 1536}

CELLS, GROUPS, FOLDS, REPEATS = 10_661, 66, 5, 5

#: Sets of an SVM's split that are timed, and all of them.
_SVMS, _SETS = 3, 15

#: Images that are measured, and embedded.
_IMAGES, _EMBEDDED = 32, 8


def matrix(cells: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.str_], NDArray[np.intp]]:
    """float32 (cells, 2704) with directions in common, class and subject effects; labels, and groups of cells."""
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(GROUPS, size=cells))
    y = groups % 3 == 0  # two of three are leukaemic
    parts = []
    for width in BLOCKS.values():
        latent = rng.normal(size=(cells, 40)) + rng.normal(0, 0.4, (GROUPS, 40))[groups]
        latent[:, :6] += 0.35 * y[:, None]
        parts.append(latent @ rng.normal(size=(40, width)) / 6 + rng.normal(size=(cells, width)))
    return np.hstack(parts).astype(np.float32), np.where(y, "hem", "all"), groups


def fits_of(classifier: str, cells: int) -> Any:
    """The fits of one classifier in one split of five, over all sets of blocks."""
    from fusion.analysis.block_subsets import block_subsets
    from fusion.data.feature_table import FeatureTable
    from fusion.leakage.protocols import make_plan
    from fusion.learning.fits import Fits
    from fusion.learning.recipe import recipe_of
    from fusion.learning.run import Run
    from fusion.learning.study import Study
    from fusion.settings.commands import AblateConfig

    X, y, groups = matrix(cells)
    names = tuple(f"{at}.bmp" for at in range(cells))
    ids = tuple(f"S{group}" for group in groups)
    table = FeatureTable(
        X=X,
        columns=tuple(f"{name}.{at}" for name, width in BLOCKS.items() for at in range(width)),
        names=names,
        keys=names,
        image_keys=names,
        y=tuple(y.tolist()),
        subjects=ids,
        folds=(None,) * cells,
        groups=groups,
        subjects_known=True,
    )
    settings = AblateConfig(data="cells", output=Path("unused"))
    split = make_plan(table, "grouped", FOLDS, 1, 0).rounds[0][0]
    recipes = tuple(recipe_of(settings, classifier, names) for names in block_subsets(list(BLOCKS)))
    return Fits(Study(table), (split,), recipes, Run(Path("unused"), memory=8e9))


def fitted(numbers: Sequence[int], load: Any) -> Iterator[Any]:
    """The fits of these recipes in the one split."""
    from fusion.learning import fits

    try:
        from fusion.learning.fit_batches import run_fits
    except ImportError:  # a build of before
        run_fits = vars(fits)["run_fits"]
    return run_fits([fits.Fit(number, 0) for number in numbers], load)


def linear_part(cells: int) -> dict[str, float]:
    """Seconds of all sets in one split."""
    load = fits_of("logreg", cells)
    return {"split": timed(lambda: list(fitted(range(len(load.recipes)), load)))}


def kernel_part(cells: int) -> dict[str, float]:
    """Seconds of three sets in one split: of the first, with the distances of all blocks, and of one more."""
    load = fits_of("svm", cells)
    sizes = [len(recipe.blocks) for recipe in load.recipes]
    asked = sorted(range(len(sizes)), key=lambda at: (-sizes[at], at))[:_SVMS]
    begin, ends = time.process_time(), []
    for _ in fitted(asked, load):
        ends.append(time.process_time() - begin)
    return {"first": ends[0], "more": (ends[-1] - ends[0]) / (len(ends) - 1)}


def tree_part(cells: int) -> dict[str, float]:
    """Seconds of five fits, by columns."""
    load = fits_of("xgb", cells)
    asked = [at for at, recipe in enumerate(load.recipes) if len(recipe.blocks) in (1, len(BLOCKS))]
    found: dict[str, float] = {}
    for at in asked:
        begin = time.process_time()
        (last,) = fitted([at], load)
        found[str(sum(BLOCKS[name] for name in load.recipes[at].blocks))] = time.process_time() - begin
    truth = np.array(load.study.table.y)[load.splits[0].test]
    called = np.array(load.study.classes)[last.proba.argmax(axis=1)]  # of the last, all four
    recalls = [np.mean(called[truth == label] == label) for label in load.study.classes]
    return {**found, "accuracy": float(np.mean(recalls))}


def measuring_part() -> dict[str, float]:
    """Seconds for each image of reading and measuring, and of the network."""
    from fusion.images.cell import read_cell
    from fusion.plugins import registry
    from fusion.synthetic.cells import SyntheticDesign, synthesize

    families = [registry.build_extractor(name, {}) for name in ("morphology", "texture", "colour")]
    network = registry.build_extractor("cnn", {"weights": "random", "view": 450})
    with tempfile.TemporaryDirectory() as folder:
        tree = synthesize(Path(folder) / "cells", SyntheticDesign(subjects=4, cells_per_subject=_IMAGES // 4, folds=1))
        files = sorted(tree.rglob("*.bmp"))

        def measure() -> None:
            for file in files:
                cell = read_cell(file)
                for family in families:
                    family.extract([cell])

        def embed() -> None:
            network.extract([read_cell(file) for file in files[:_EMBEDDED]])

        for work in (measure, embed):  # once beforehand: loops are compiled, the network is built
            work()
        return {"measure": timed(measure) / len(files), "embed": timed(embed) / _EMBEDDED}


def judging_part(cells: int) -> dict[str, float]:
    """Seconds of the figures of 45 entries on random scores."""
    from fusion.evaluation.result_of_scores import result_of_scores
    from fusion.evaluation.scores import Scores

    load = fits_of("logreg", cells)
    table, rng = load.study.table, np.random.default_rng(0)
    told = rng.normal(size=(45, REPEATS, cells)) + 0.8 * (np.array(table.y) == "all")
    fold = np.stack([rng.permutation(GROUPS)[table.groups] % FOLDS for _ in range(REPEATS)])
    share = 1 / (1 + np.exp(-told))
    entries = [Scores((f"set {at}",), "svm", np.stack([each, 1 - each], axis=2), fold) for at, each in enumerate(share)]
    return {"all": timed(lambda: result_of_scores("ablate", table, ("all", "hem"), "all", entries))}


def timed(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def part(name: str, cells: int) -> dict[str, float]:
    """One part's seconds, and the peak memory of its process in GB."""
    found = {
        "xgb": lambda: tree_part(cells),
        "svm": lambda: kernel_part(cells),
        "logreg": lambda: linear_part(cells),
        "measuring": measuring_part,
        "figures": lambda: judging_part(cells),
    }[name]()
    return {**found, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def measured(name: str, cells: int, source: Path) -> dict[str, float]:
    """A part, in a process of its own, by this checkout."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        words = [sys.executable, "-P", __file__, "--part", name, "--file", file, "--cells", cells]
        environment = {**os.environ, "PYTHONPATH": str(source)}
        subprocess.run([str(word) for word in words], check=True, cwd=source, env=environment)
        return dict(json.loads(file.read_text()))


def seconds_of_trees(found: dict[str, float]) -> float:
    """Seconds of all fifteen sets in one split: five were timed, the others lie on a line over their columns."""
    widths = np.array([int(name) for name in found if name.isdigit()])
    slope, offset = np.polyfit(widths, [found[str(width)] for width in widths], 1)
    # Each block is in eight of the fifteen sets.
    return float(slope * 8 * sum(BLOCKS.values()) + 15 * offset)


def hours(name: str, found: dict[str, float], cells: int) -> float:
    """Processor hours of the whole protocol that a part stands for."""
    splits = FOLDS * REPEATS
    seconds = {
        "measuring": lambda: cells * (found["measure"] + found["embed"]),
        "figures": lambda: found["all"],
        "xgb": lambda: splits * seconds_of_trees(found),
        "svm": lambda: splits * (found["first"] + (_SETS - 1) * found["more"]),
        "logreg": lambda: splits * found["split"],
    }[name]()
    return seconds / 3600


def sample_of(name: str, found: dict[str, float]) -> str:
    """What was timed, in words."""
    if name == "measuring":
        return f"{1e3 * found['measure']:.1f} and {1e3 * found['embed']:.0f} ms an image, handcrafted and network"
    if name == "figures":
        return f"45 entries, five repeats, whole: {found['all']:.0f} s"
    if name == "xgb":
        fits = ", ".join(f"{width}: {found[width]:.1f}" for width in sorted(found, key=len) if width.isdigit())
        accuracy = f"balanced accuracy of the last {found['accuracy']:.3f}"
        return f"five fits of 375, seconds by columns {fits}; {accuracy}"
    if name == "svm":
        return (
            f"{_SVMS} of 15 sets in one split of 25: the first {found['first']:.1f} s, each more {found['more']:.1f} s"
        )
    return f"all 15 sets in one split of 25: {found['split']:.0f} s"


PARTS = ("measuring", "svm", "xgb", "logreg", "figures")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--before", type=Path, help="checkout of an earlier version")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of " + ", ".join(PARTS))
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        given.file.write_text(json.dumps(part(given.part, given.cells)))
        return
    sources = {"now": Path(__file__).parents[1]} | ({"before": given.before.resolve()} if given.before else {})
    print("| part | build | timed | processor hours | hours on two cores | peak, GB |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for name in given.parts.split(","):
        for build, source in sources.items():
            found = measured(name, given.cells, source)
            whole = hours(name, found, given.cells)
            halved = whole if name == "figures" else whole / 2
            row = f"| {name} | {build} | {sample_of(name, found)} | {whole:.2f} | {halved:.2f} | {found['peak']:.1f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
