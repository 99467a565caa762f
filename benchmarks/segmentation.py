"""How well cells and nuclei are found where people have drawn them, how fast, and what goes wrong.

    python -m benchmarks.segmentation DATA [--worst FOLDER] [--perturb]
    python -m benchmarks.segmentation DATA --before CHECKOUT [--every N]

DATA is a table with columns path and mask (0 background, 128 cytoplasm, 255 nucleus; stray values go to the nearest).
Dice is 2 |A and B| / (|A| + |B|), averaged over images. The peer is what one writes in ten minutes: three-class Otsu
on green (scikit-image) for the nucleus and GrabCut (OpenCV) around it for the cell, timed in the same run on one core.

With an earlier version every Nth image of DATA, a table or folder that needs no masks, is segmented by both, in turns
of a process each: processor time of the cell alone and with its nucleus, and how far their masks agree.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.data.readers import read_listing
from fusion.images.cell import Cell, decode_image, make_cell, read_bytes
from fusion.images.masks import read_mask
from fusion.images.segmentation.segment import segment_cell, segment_nucleus
from fusion.reports.contact_sheets import Tile, with_contours, write_sheets

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Masks = tuple[Mask, Mask]


class Drawn(NamedTuple):
    """An image and what a person drew: cell and nucleus."""

    name: str
    rgb: Image
    cell: Mask
    nucleus: Mask


class Score(NamedTuple):
    """Dice of cell and nucleus, and the milliseconds it took."""

    cell: float
    nucleus: float
    milliseconds: float


def ours(rgb: Image) -> Masks:
    cell = segment_cell(rgb)
    return cell, segment_nucleus(rgb, cell)


def prototype(rgb: Image) -> Masks:
    """The peer. Lobes of a tenth of the largest blob are kept; GrabCut may look one nucleus diameter around."""
    from skimage.filters import threshold_multiotsu

    green = rgb[..., 1]
    low, high = threshold_multiotsu(green, 3)
    opened = cv2.morphologyEx((green <= low).view(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    areas = stats[:, cv2.CC_STAT_AREA] * (np.arange(len(stats)) > 0)
    nucleus = (areas > 0.1 * areas.max())[labels]
    if not nucleus.any():
        return nucleus, nucleus
    reach = 2 * int(np.sqrt(nucleus.sum() / np.pi)) + 1
    around = cv2.dilate(nucleus.view(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))) > 0
    guess = np.full(green.shape, cv2.GC_BGD, np.uint8)
    guess[around] = cv2.GC_PR_BGD
    guess[around & (green <= high)] = cv2.GC_PR_FGD
    guess[nucleus] = cv2.GC_FGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), guess, (0, 0, 0, 0), *models, 3, cv2.GC_INIT_WITH_MASK)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(((guess == 1) | (guess == 3)).view(np.uint8))
    return labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax(), nucleus


def read_drawn(data: Path) -> list[Drawn]:
    """Every image of a table that has a mask."""
    found = []
    for entry in read_listing(data).entries:
        if entry.mask_path is not None:
            mask = read_mask(read_bytes(entry.mask_path))
            rgb = decode_image(read_bytes(entry.path))
            assert mask.nucleus is not None  # there is nothing to compare with otherwise
            found.append(Drawn(entry.path.name, rgb, mask.cell, mask.nucleus))
    return found


def dice(found: Mask, drawn: Mask) -> float:
    both = int(found.sum()) + int(drawn.sum())
    return 2 * int((found & drawn).sum()) / both if both else 1.0


def score(segment: Callable[[Image], Masks], drawn: Drawn) -> Score:
    start = time.perf_counter()
    cell, nucleus = segment(drawn.rgb)
    took = 1000 * (time.perf_counter() - start)
    return Score(dice(cell, drawn.cell), dice(nucleus, drawn.nucleus), took)


# ---- other sites, imitated -----------------------------------------------------------------------------------


def resized(factor: float) -> Callable[[Drawn], Drawn]:
    def change(drawn: Drawn) -> Drawn:
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        rgb = cv2.resize(drawn.rgb, None, fx=factor, fy=factor, interpolation=method)
        masks = [
            cv2.resize(mask.astype(np.float32), rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR) > 0.5
            for mask in (drawn.cell, drawn.nucleus)
        ]
        return Drawn(drawn.name, np.asarray(rgb, np.uint8), *masks)

    return change


def recoloured(change: Callable[[NDArray[np.float64]], NDArray]) -> Callable[[Drawn], Drawn]:
    """``change`` takes and gives light, 0 to 1."""
    return lambda drawn: drawn._replace(rgb=(255 * np.clip(change(drawn.rgb / 255), 0, 1)).astype(np.uint8))


def compressed(drawn: Drawn) -> Drawn:
    content = cv2.imencode(".jpg", cv2.cvtColor(drawn.rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
    return drawn._replace(rgb=decode_image(content.tobytes()))


PERTURBATIONS: dict[str, Callable[[Drawn], Drawn]] = {
    "scaled x0.6": resized(0.6),
    "scaled x1.5": resized(1.5),
    "scaled x3": resized(3),
    "warm light": recoloured(lambda light: light * (1, 0.95, 0.7)),
    "cold light": recoloured(lambda light: light * (0.75, 0.9, 1)),
    "dim light": recoloured(lambda light: light * 0.6),
    "gamma 0.6": recoloured(lambda light: light**0.6),
    "gamma 1.6": recoloured(lambda light: light**1.6),
    "blurred 1.5 px": lambda drawn: drawn._replace(rgb=np.asarray(cv2.GaussianBlur(drawn.rgb, (0, 0), 1.5), np.uint8)),
    "JPEG quality 40": compressed,
}


# ---- an earlier version --------------------------------------------------------------------------------------------

#: Turns that each version has; the quickest of an image counts.
_TURNS = 3


def segment_files(files: list[Path], found: Path) -> None:
    """Masks of every image, and the milliseconds of the cell alone and of both, kept as .npz."""
    took, masks = np.empty((len(files), 2)), {}
    for name in (files[0], *files):  # what is loaded on first use is not timed
        rgb = decode_image(read_bytes(name))
        begin = time.process_time()
        cell = segment_cell(rgb)
        at_cell = time.process_time()
        nucleus = segment_nucleus(rgb, cell)
        at = files.index(name)
        took[at] = 1000 * (at_cell - begin), 1000 * (time.process_time() - begin)
        masks |= {f"cell{at}": cell, f"nucleus{at}": nucleus}
    np.savez_compressed(found, took=took, **masks)


def compare(files: list[Path], before: Path) -> None:
    """Segment by both versions in turns, each time in a process of its own."""
    builds = {"now": Path(__file__).resolve().parents[1], "before": before.resolve()}
    took: dict[str, list[NDArray]] = {name: [] for name in builds}
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "files.txt"
        listing.write_text("\n".join(str(file.resolve()) for file in files))
        for _ in range(_TURNS):
            for name, source in builds.items():
                words = [sys.executable, "-P", __file__, str(listing), "--child", f"{folder}/{name}.npz"]
                environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
                subprocess.run(words, check=True, cwd=source, env=environment)
                took[name].append(np.load(f"{folder}/{name}.npz")["took"])
        ours, theirs = (np.load(f"{folder}/{name}.npz") for name in builds)
        milliseconds = {name: np.min(turns, axis=0).mean(axis=0) for name, turns in took.items()}
        times = milliseconds["before"] / milliseconds["now"]
        print(f"{len(files)} images, processor milliseconds an image, the quickest of {_TURNS} turns")
        for at, what in enumerate(("cell", "cell and nucleus")):
            now, earlier = milliseconds["now"][at], milliseconds["before"][at]
            print(f"{what:<17} now {now:6.2f}   before {earlier:6.2f}   {times[at]:.2f} times")
        for what in ("cell", "nucleus"):
            same = np.array([dice(ours[f"{what}{at}"], theirs[f"{what}{at}"]) for at in range(len(files))])
            print(f"{what:<17} Dice with before {same.mean():.4f}, below .95 in {(same < 0.95).mean():.1%}")


# ---- the report -----------------------------------------------------------------------------------------------------


def report(name: str, scores: list[Score]) -> None:
    cell, nucleus, took = np.array(scores).T
    print(
        f"{name:<18} nucleus {nucleus.mean():.4f} (worst {nucleus.min():.2f})   cell {cell.mean():.4f} "
        f"(worst {cell.min():.2f})   {np.median(took):6.1f} ms"
    )


def write_worst(images: list[Drawn], scores: list[Score], folder: Path) -> list[Path]:
    """A sheet of the ten images with the least Dice of cell or nucleus: each as drawn, and beside it as found."""
    worst = np.argsort([min(found.cell, found.nucleus) for found in scores], kind="stable")[:10]
    tiles = []
    for at in worst:
        drawn, found = images[at], scores[at]
        title = f"cell {found.cell:.2f}, nucleus {found.nucleus:.2f}"
        by_hand = Cell(drawn.rgb, drawn.cell, drawn.nucleus & drawn.cell)
        tiles.append(Tile(with_contours(drawn.rgb, by_hand), "drawn by hand", drawn.name))
        tiles.append(Tile(with_contours(drawn.rgb, make_cell(drawn.rgb)), title, drawn.name))
    return write_sheets(folder, tiles, len(tiles))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="table with columns path and mask")
    parser.add_argument("--worst", type=Path, metavar="FOLDER", help="write the worst ten as a contact sheet here")
    parser.add_argument("--perturb", action="store_true", help="also every third image as others would have taken it")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="checkout of an earlier version")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="of DATA, with --before")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    if given.child is not None:
        segment_files([Path(line) for line in given.data.read_text().splitlines()], given.child)
        return
    if given.before is not None:
        compare([entry.path for entry in read_listing(given.data).entries][:: given.every], given.before)
        return
    images = read_drawn(given.data)
    ours(images[0].rgb), prototype(images[0].rgb)  # what is loaded on first use is not timed
    scores, peers = [], []
    for drawn in images:  # taking turns, so that both meet the same load
        scores.append(score(ours, drawn))
        peers.append(score(prototype, drawn))
    print(f"{len(images)} images, mean Dice and median time")
    report("fusion", scores)
    report("  even rows", scores[::2])
    report("  odd rows", scores[1::2])
    report("Otsu + GrabCut", peers)
    ratios = [peer.milliseconds / own.milliseconds for peer, own in zip(peers, scores, strict=True)]
    print(f"fusion takes 1/{np.median(ratios):.1f} of the time of Otsu + GrabCut")
    if given.perturb:
        for name, change in PERTURBATIONS.items():
            report(name, [score(ours, change(drawn)) for drawn in images[::3]])
    if given.worst is not None:
        for path in write_worst(images, scores, given.worst):
            print(f"worst ten in {path}")


if __name__ == "__main__":
    main()
