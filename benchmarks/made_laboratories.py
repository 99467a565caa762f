"""Cells of a real laboratory as other microscopes, cameras and releases show them, asked of models of the others.

    python -m benchmarks.made_laboratories ../shared/data/four-types.csv --of barcelona
    python -m benchmarks.made_laboratories cells.csv --of barcelona --changes black,grey --classifiers logreg
    python -m benchmarks.made_laboratories cells.csv --of barcelona --changes grey --learn-from changed,own
    python -m benchmarks.made_laboratories cells.csv --of barcelona --network mobilenetv2_100.safetensors

The table has ``path``, ``label`` and ``source``; masks are found. Every change makes a laboratory of its own, new to a
model by ``configs/robust.yaml`` (``configs/robust-network.yaml`` for a network) of all other laboratories, of one of
them alone, of all of them changed alike, or, in folds, of its own cells. Balanced accuracy, with 95% intervals over
cells; for models of one laboratory the mean, with least and most.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.real_laboratories import Laboratories, network_steps, steps
from fusion.images.decoding import decode_image
from fusion.images.segmentation.segment import segment_cell
from fusion.learning.recipe import recipe_of
from fusion.learning.run import Run
from fusion.settings.commands import AblateConfig
from fusion.workflows.loading import Inputs, load_training_cells

Image = NDArray[np.uint8]
Change = Callable[[Image], Image]

#: Pixels a side of the image that a cell which was cut out lies in, as in C-NMC; a larger cell is shown to its box.
CUT_OUT = 450


# ---- changes --------------------------------------------------------------------------------------------------------


def _cut_out(level: int) -> Change:
    def cut_out(rgb: Image) -> Image:
        mask = segment_cell(rgb)
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        cell = np.where(mask[..., None], rgb, np.uint8(level))[y : y + height, x : x + width]
        above, left = (max(0, CUT_OUT - side) // 2 for side in (height, width))
        below, right = max(0, CUT_OUT - height) - above, max(0, CUT_OUT - width) - left
        return np.asarray(
            cv2.copyMakeBorder(cell, above, below, left, right, cv2.BORDER_CONSTANT, value=[level] * 3), np.uint8
        )

    return cut_out


def _cropped(rgb: Image) -> Image:
    x, y, width, height = cv2.boundingRect(segment_cell(rgb).view(np.uint8))
    aside, above = width // 4, height // 4
    return rgb[max(0, y - above) : y + height + above, max(0, x - aside) : x + width + aside]


def _resized(factor: float) -> Change:
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return lambda rgb: np.asarray(cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=way), np.uint8)


def _stained(*factors: float) -> Change:
    """Optical densities of red, green and blue over the lightest twentieth of the image, times these."""

    def stained(rgb: Image) -> Image:
        white = np.percentile(rgb, 95, axis=(0, 1))
        return _bytes(white * (np.maximum(rgb, 1) / white) ** np.array(factors))

    return stained


def _lit(*factors: float) -> Change:
    return lambda rgb: _bytes(rgb * np.array(factors))


def _gamma(rgb: Image) -> Image:
    return _bytes(255 * (rgb / 255) ** 1.8)


def _blurred(rgb: Image) -> Image:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), 2), np.uint8)


def _noisy(rgb: Image) -> Image:
    rng = np.random.default_rng(int(rgb.sum()))
    return _bytes(rgb + rng.normal(0, 12, rgb.shape))


def _compressed(rgb: Image) -> Image:
    data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    return decode_image(data.tobytes())


def _vignetted(rgb: Image) -> Image:
    y, x = (np.linspace(-1, 1, side) for side in rgb.shape[:2])
    return _bytes(rgb * (1 - 0.25 * (y[:, None] ** 2 + x**2))[..., None])


def _out_of_line(rgb: Image) -> Image:
    return _bytes(rgb * np.linspace(1, 0.75, rgb.shape[1])[None, :, None])


def _grey(rgb: Image) -> Image:
    return np.asarray(cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def _bytes(values: NDArray[Any]) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


#: What is done to every image of a laboratory.
CHANGES: dict[str, Change] = {
    "as it is": lambda rgb: rgb,
    "black": _cut_out(0),
    "white": _cut_out(255),
    "half": _resized(1 / 2),
    "a third": _resized(1 / 3),
    "1.5 times": _resized(1.5),
    "twice": _resized(2),
    "cropped": _cropped,  # to the cell and a quarter of it around
    "half the stain": _stained(0.5, 0.5, 0.5),
    "1.6 of the stain": _stained(1.6, 1.6, 1.6),
    "bluer stain": _stained(1.2, 0.8, 0.6),
    "yellow light": _lit(1, 1, 0.75),
    "less light": _lit(0.6, 0.6, 0.6),
    "gamma": _gamma,
    "blur": _blurred,
    "noise": _noisy,  # of 12 grey levels
    "jpeg": _compressed,  # of quality 30
    "vignetting": _vignetted,  # half of the light at the corners
    "lamp out of line": _out_of_line,  # three quarters of the light at one side
    "grey": _grey,
}


# ---- laboratories ---------------------------------------------------------------------------------------------------


def draw(table: Path, of: str, changes: Sequence[str], others: bool, folder: Path, every: int = 1) -> Path:
    """A table of the other laboratories as they are, and of every so many cells of this one with each change.

    With ``others`` all of the others once more with each change. Images that lie in ``folder`` are not drawn again.

    Returns
    -------
    Path of the table; source of a changed cell is ``SOURCE, CHANGE``.
    """
    with table.open(newline="") as file:
        rows = [{name: row[name] for name in ("path", "label", "source")} for row in csv.DictReader(file)]
    found = [{**row, "path": str((table.parent / row["path"]).resolve())} for row in rows if row["source"] != of]
    for change in changes:
        own = [at for at, row in enumerate(rows) if row["source"] == of][::every]
        also = [at for at, row in enumerate(rows) if row["source"] != of and others and change != "as it is"]
        for at in own + also:
            path = (folder / change / f"{at:04}.png").resolve()
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                rgb = CHANGES[change](decode_image((table.parent / rows[at]["path"]).read_bytes()))
                path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))[1].tobytes())
            found.append({**rows[at], "path": str(path), "source": f"{rows[at]['source']}, {change}"})
    whole = folder / "cells.csv"
    with whole.open("w", newline="") as file:
        writer = csv.DictWriter(file, found[0])
        writer.writeheader()
        writer.writerows(found)
    return whole


_Figure = tuple[str, Mapping[str, float]]


def judge(cells: Laboratories, of: str, changes: Sequence[str], learn_from: Sequence[str]) -> list[_Figure]:
    """The figures of every change, by the name of what is learnt from."""
    others = sorted(source for source in set(cells.sources) if ", " not in source)
    tests = [cells.rows(f"{of}, {change}") for change in changes]
    found: list[_Figure] = []
    if "others" in learn_from:
        for change, rows, proba in zip(changes, tests, cells.scores(cells.rows(*others), *tests), strict=True):
            found.append((f"{change}, by the others", cells.judged(rows, proba)))
    if "one" in learn_from:
        each = [cells.scores(cells.rows(other), *tests) for other in others]
        for at, (change, rows) in enumerate(zip(changes, tests, strict=True)):
            values = [cells.judged(rows, scores[at])["value"] for scores in each]
            mean = {"value": float(np.mean(values)), "low": min(values), "high": max(values)}
            found.append((f"{change}, by one alone", mean))
    for change, rows in zip(changes, tests, strict=True):
        if "changed" in learn_from and change != "as it is":
            train = cells.rows(*(f"{other}, {change}" for other in others))
            found.append((f"{change}, by the others changed alike", cells.judged(rows, cells.scores(train, rows)[0])))
        if "own" in learn_from:
            found.append((f"{change}, own folds", cells.judged(rows, cells.held_out(rows))))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--of", required=True, help="the laboratory whose cells are changed")
    parser.add_argument("--changes", default=",".join(CHANGES), help=f"of: {', '.join(CHANGES)}")
    parser.add_argument("--learn-from", default="others", help="of: others, one, changed, own")
    parser.add_argument("--step", default="robust", help="of those of benchmarks.real_laboratories")
    parser.add_argument("--every", type=int, default=1, help="of the cells that are changed, every Nth")
    parser.add_argument("--features", default="morphology,texture,colour")
    parser.add_argument("--classifiers", default="logreg,svm,xgb")
    parser.add_argument("--network", type=Path, default=None, help="weights: configs/robust-network.yaml alone")
    parser.add_argument("--images", type=Path, default=None, help="where changed images are kept")
    parser.add_argument("--store", type=Path, default=None)
    parser.add_argument("--run", type=Path, default=None, help="where trainings of networks are kept, to go on with")
    options = parser.parse_args(arguments)
    changes, learn_from = options.changes.split(","), options.learn_from.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        images = options.images or Path(scratch) / "images"
        images.mkdir(parents=True, exist_ok=True)
        data = draw(options.data, options.of, changes, "changed" in learn_from, images, options.every)
        common = {"data": data, "output": Path(scratch) / "none", "store": options.store}
        robust = {**steps()[options.step], "features": options.features.split(",")}
        entries = [(classifier, robust) for classifier in options.classifiers.split(",")]
        if options.network is not None:
            entries = [("neural", network_steps(options.network)["robust-network"])]
        for classifier, settings in entries:
            config = AblateConfig(compare=[classifier], **common, **settings)
            recipe = recipe_of(config, classifier, config.blocks)
            study = Inputs.of(config).of_recipes([recipe]).measure(load_training_cells(config), config).study
            cells = Laboratories(study, recipe, Run((options.run or Path(scratch)) / classifier))
            print(f"\n{classifier}", flush=True)
            for name, figure in judge(cells, options.of, changes, learn_from):
                print(f"  {name:45s} {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]", flush=True)


if __name__ == "__main__":
    main()
