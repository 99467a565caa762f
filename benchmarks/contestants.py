"""One contestant of ``benchmarks/handcrafted.py``: measures the cells of a file and prints how long it took.

    python contestants.py NAME CELLS.npz REPEATS

Runs in a process of its own, and for most peers in an environment of their own: nothing but NumPy is imported before a
contestant starts, so that its memory is its own. Prints one JSON object.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Image:
    """A cropped cell: uint8 (H, W, 3), and bool (H, W) for the cell and its nucleus."""

    rgb: np.ndarray
    mask: np.ndarray
    nucleus: np.ndarray

    @property
    def grey(self) -> np.ndarray:
        """uint8 (H, W), the luma that all contestants without colour are given."""
        return np.rint(self.rgb @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


#: Of scikit-image's regionprops, those that are one number and no position.
SHAPES = (
    "area",
    "area_bbox",
    "area_convex",
    "axis_major_length",
    "axis_minor_length",
    "eccentricity",
    "equivalent_diameter_area",
    "euler_number",
    "extent",
    "feret_diameter_max",
    "orientation",
    "perimeter",
    "solidity",
)

NYXUS_BASIC = ("*BASIC_MORPHOLOGY*", "*ALL_GLCM*", "*ALL_INTENSITY*")

#: Measures one cell and says how many values came out.
Measure = Callable[[Image], int]


def fusion(*families: str, **params: Mapping[str, Any]) -> Measure:
    """Our families, as ``fusion extract`` calls them; parameters of a family by its name."""
    # A script's own folder is on the path, not that of the code it belongs to.
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import cv2

    from fusion.images.cell import Cell
    from fusion.plugins.registry import build_extractor

    cv2.setNumThreads(1)
    extractors = [build_extractor(family, params.get(family)) for family in families]

    def measure(cell_image: Image) -> int:
        cell = Cell(cell_image.rgb, cell_image.mask, cell_image.nucleus)
        return sum(extractor.extract([cell]).size for extractor in extractors)

    return measure


def scikit_image_loop(*, every_region: bool) -> Measure:
    """What a careful user of scikit-image and mahotas writes: cropped, background kept out by hand.

    Of the cell only, or of every region that our families measure: cell, nucleus, and the cytoplasm's colour.
    """
    import mahotas
    from scipy import stats
    from skimage import color, feature, measure

    def shape(mask: np.ndarray) -> Iterator[float]:
        region = measure.regionprops(mask.astype(np.uint8))[0]
        for name in SHAPES:
            yield float(region[name])
        perimeter = measure.perimeter_crofton(mask, 4)
        yield perimeter
        yield 4 * np.pi * region.area / perimeter**2
        yield from region.moments_hu
        yield from mahotas.features.zernike_moments(mask, region.axis_major_length / 2, degree=8)

    def texture(grey: np.ndarray, mask: np.ndarray) -> Iterator[float]:
        levels = np.where(mask, grey // 8 + 1, 0).astype(np.uint8)
        for distance in (1, 2, 4):
            yield from mahotas.features.haralick(levels, ignore_zeros=True, distance=distance, return_mean_ptp=True)
        for points, radius in ((8, 1), (16, 2), (24, 3)):
            patterns = feature.local_binary_pattern(grey, points, radius, method="uniform")[mask]
            yield from np.histogram(patterns, bins=np.arange(points + 3), density=True)[0]
        yield from mahotas.features.pftas(np.where(mask, grey, 0))

    def colour(rgb: np.ndarray, mask: np.ndarray) -> Iterator[float]:
        pixels = rgb[mask]
        for values in np.concatenate([pixels, color.rgb2hsv(pixels), color.rgb2lab(pixels)], axis=1).T:
            yield from (values.mean(), values.std(), stats.skew(values), stats.kurtosis(values))
            yield from np.percentile(values, [5, 25, 50, 75, 95])

    def measure_image(image: Image) -> int:
        solid = [image.mask, image.nucleus] if every_region else [image.mask]
        coloured = [*solid, image.mask & ~image.nucleus] if every_region else solid
        values = [value for mask in solid for value in (*shape(mask), *texture(*cropped(image.grey, mask)))]
        return len(values) + sum(len(list(colour(image.rgb, mask))) for mask in coloured)

    def cropped(grey: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        box = measure.regionprops(mask.astype(np.uint8))[0].slice
        return grey[box], mask[box]

    return measure_image


def nyxus(*groups: str, every_region: bool = False) -> Measure:
    """Groups of nyxus' features in grey, in one thread: of the cell only, or of the nucleus too."""
    from nyxus import Nyxus

    everything = Nyxus(list(groups), n_feature_calc_threads=1)

    def measure(cell_image: Image) -> int:
        grey, values = cell_image.grey.astype(np.uint32), 0
        for mask in (cell_image.mask, cell_image.nucleus) if every_region else (cell_image.mask,):
            table = everything.featurize(grey, mask.astype(np.uint32))
            values += len(table.columns) - 4  # two names of images, the label and the time
        return values

    return measure


def cp_measure() -> Measure:
    """All of CellProfiler's measurements of one object in grey, by cp_measure."""
    from cp_measure.bulk import get_core_measurements

    measurements = get_core_measurements()

    def measure(cell_image: Image) -> int:
        labels, grey = cell_image.mask.astype(np.int32), cell_image.grey / 255
        return sum(len(measurement(labels, grey)) for measurement in measurements.values())

    return measure


def pyradiomics() -> Measure:
    """Shape, first-order and the five texture families of pyradiomics, of the cell in grey, in 2-D."""
    import logging

    import SimpleITK as sitk
    from radiomics import featureextractor, setVerbosity

    setVerbosity(logging.ERROR)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    extractor = featureextractor.RadiomicsFeatureExtractor(binWidth=8, force2D=True, additionalInfo=False)
    extractor.disableAllFeatures()
    for family in ("shape2D", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm"):
        extractor.enableFeatureClassByName(family)

    def measure(cell_image: Image) -> int:
        image, mask = (
            sitk.GetImageFromArray(part[None].astype(np.int32)) for part in (cell_image.grey, cell_image.mask)
        )
        return len(extractor.execute(image, mask))

    return measure


CONTESTANTS: dict[str, Callable[[], Measure]] = {
    "fusion": lambda: fusion("morphology", "texture", "colour"),
    "fusion morphology": lambda: fusion("morphology"),
    "fusion texture": lambda: fusion("texture"),
    "fusion colour": lambda: fusion("colour"),
    # What the peers below it have, and of ours no more than that.
    "fusion, families of the loop": lambda: fusion(
        "morphology", "texture", "colour", texture={"methods": ("glcm", "lbp", "tas")}
    ),
    "scikit-image + mahotas": lambda: scikit_image_loop(every_region=True),
    "scikit-image + mahotas, cell only": lambda: scikit_image_loop(every_region=False),
    "fusion, shape, GLCM and colour": lambda: fusion("morphology", "texture", "colour", texture={"methods": ("glcm",)}),
    "nyxus, shape, GLCM and intensity": lambda: nyxus(*NYXUS_BASIC, every_region=True),
    "nyxus, shape, GLCM and intensity, cell only": lambda: nyxus(*NYXUS_BASIC),
    "nyxus, all, cell only": lambda: nyxus("*ALL*"),
    "cp_measure": cp_measure,
    "pyradiomics": pyradiomics,
}


def load(path: Path) -> list[Image]:
    """The images that ``handcrafted.write_cells`` wrote."""
    with np.load(path) as arrays:
        return [
            Image(*(arrays[f"{part}_{at}"] for part in ("rgb", "mask", "nucleus"))) for at in range(len(arrays) // 3)
        ]


def main(name: str, path: str, repeats: str) -> None:
    images = load(Path(path))
    measure = CONTESTANTS[name]()
    started = time.perf_counter()
    values = measure(images[0])  # compiles, or loads what was compiled
    first = time.perf_counter() - started
    # Processor time, and of each cell the least of several times: what else the machine does can only add to it, and a
    # library that starts threads of its own is charged for them.
    milliseconds = [1e3 * _least_seconds(measure, image, int(repeats)) for image in images]
    # On Linux in KiB, on macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    result = {"ms": float(np.mean(milliseconds)), "values": values, "first_s": first, "peak_mb": peak / 1e6}
    print(json.dumps(result))


def _least_seconds(measure: Measure, image: Image, repeats: int) -> float:
    """Of at least ``repeats`` times, and of as many as fit into a tenth of a second."""
    seconds: list[float] = []
    while len(seconds) < repeats or sum(seconds) < 0.1:
        started = time.process_time()
        measure(image)
        seconds.append(time.process_time() - started)
    return min(seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
