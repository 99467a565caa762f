"""Values of pyradiomics on one image, for ``test_pyradiomics.py``: pyradiomics does not install on every Python.

    python tests/oracles/pyradiomics_values.py > tests/oracles/pyradiomics.json

in an environment with pyradiomics 3, its one import beside NumPy.
"""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

BIN_WIDTH = 8
FAMILIES = ("shape2D", "firstorder", "glcm", "glrlm", "glszm")


def image() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Grey values from 0 and a lopsided mask, of 48 x 56 pixels; made of whole numbers, the same on every machine."""
    y, x = np.mgrid[:48, :56]
    rough = (y * y * 7 + x * x * 13 + x * y * 29) % 97
    smooth = (np.abs(y - 20) * np.abs(x - 30)) // 4 + 2 * y
    grey = ((rough // 2 + smooth) % 240).astype(np.uint8)
    mask = ((y - 22) ** 2 * 3 + (x - 27) ** 2 * 2 < 1100) & ~((y > 25) & (x > 33) & (x < 38))
    grey[~mask] = 255
    # pyradiomics counts bins from the region's darkest pixel: with a 0 in it, it has the bins of 0 .. 255.
    grey[22, 27] = 0
    return grey, mask


def main() -> None:
    import radiomics
    import SimpleITK as sitk
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    grey, mask = image()
    extractor = RadiomicsFeatureExtractor(binWidth=BIN_WIDTH, force2D=True, additionalInfo=False)
    extractor.disableAllFeatures()
    for family in FAMILIES:
        extractor.enableFeatureClassByName(family)
    images = (sitk.GetImageFromArray(part[None].astype(np.int32)) for part in (grey, mask))
    values = extractor.execute(*images)
    found = {name.removeprefix("original_"): float(value) for name, value in values.items()}
    print(json.dumps({"pyradiomics": radiomics.__version__, "values": found}, indent=1))


if __name__ == "__main__":
    main()
