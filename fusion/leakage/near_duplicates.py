"""Images that are nearly the same: turned, mirrored, brightened or saved anew, so that no content hash joins them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.data.dataset import Dataset
from fusion.data.groups import connected
from fusion.images.cell import CellError, decode_image, read_bytes
from fusion.io.content_hash import hash_content
from fusion.progress import Progress

#: Side of the small grey image, and of the square of its low frequencies that the hash is made of.
_SIDE, _FREQUENCIES = 64, 16

#: Brightness up to which a pixel is background, as in C-NMC's black images. JPEG leaves waves around a cell on black:
#: of real cells on black saved at quality 75 all are found again by 40 (median 4 bits), and by 8 none (87 bits).
_BLACK = 40

#: Bits of a hash.
_BITS = _FREQUENCIES**2

#: Rows of the distance matrix at a time: 512 rows by 10,000 images are 20 MB.
_CHUNK = 512


def image_hash(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The image's perceptual hash under its 8 turns and mirrorings.

    The box around what is not black, as a grey square; of its cosine transform the 16 x 16 lowest frequencies, each a
    bit that says whether it is above their median. The box makes the hash blind to black margins, and 256 bits tell
    cells apart that all are dark discs. After Zauner (2010), Implementation and Benchmarking of Perceptual Image Hash
    Functions, which takes 8 x 8.

    Returns
    -------
    bool (8, 256): the bits for each of the 8 images, the image itself first.
    """
    grey = rgb.max(axis=2)
    seen = grey > _BLACK
    if seen.any():
        rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
        grey = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    small = cv2.resize(np.ascontiguousarray(grey), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    turned = [np.rot90(image, quarter) for image in (small, small[:, ::-1]) for quarter in range(4)]
    return np.stack([_bits(np.ascontiguousarray(image)) for image in turned])


def near_pairs(hashes: NDArray[np.bool_], threshold: int) -> list[tuple[int, int, int]]:
    """Pairs of images that differ in at most ``threshold`` of 256 bits under some turn or mirroring.

    Parameters
    ----------
    hashes : bool (n, 8, 256), of ``image_hash``.

    Returns
    -------
    (first, second, bits) with first < second, in order.
    """
    # Bits as -1 and 1: a product then is equal bits minus different ones, exact in float32, and a matrix product fast.
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    pairs = []
    for start in range(0, len(hashes), _CHUNK):
        rows = signs[start : start + _CHUNK, 0]
        alike = np.max([rows @ signs[:, turn].T for turn in range(hashes.shape[1])], axis=0)
        nearest = ((_BITS - alike) / 2).astype(np.intp)
        for row, other in np.argwhere(nearest <= threshold):
            if start + row < other:
                pairs.append((int(start + row), int(other), int(nearest[row, other])))
    return pairs


def near_known(hashes: NDArray[np.bool_], known: Collection[str], threshold: int) -> NDArray[np.bool_]:
    """bool (n,): which of bool (n, 8, 256) differ in at most ``threshold`` bits from any of ``known``, hexadecimal."""
    bits = np.array([np.unpackbits(np.frombuffer(bytes.fromhex(one), np.uint8)) for one in known], bool)
    is_near: NDArray[np.bool_] = np.zeros(len(hashes), bool)
    for start in range(0, len(bits), _CHUNK):
        signs = np.where(bits[start : start + _CHUNK], np.float32(1), np.float32(-1)).T
        for turn in range(hashes.shape[1]):
            alike = np.where(hashes[:, turn], np.float32(1), np.float32(-1)) @ signs
            is_near |= ((_BITS - alike) / 2 <= threshold).any(axis=1)
    return is_near


@dataclass(frozen=True, eq=False)
class HashedImages:
    """The different images of data sets with their perceptual hashes.

    Attributes
    ----------
    keys : n images, by ``Sample.image_id``; those that cannot be read are left out.
    names : n file names.
    hashes : bool (n, 8, 256), see ``image_hash``.
    """

    keys: tuple[str, ...]
    names: tuple[str, ...]
    hashes: NDArray[np.bool_]

    @property
    def digits(self) -> list[str]:
        """The hash of every image as it stands, 64 hexadecimal digits: what ``near_known`` takes."""
        return [np.packbits(hash_[0]).tobytes().hex() for hash_ in self.hashes]

    def sets(self, threshold: int) -> tuple[dict[str, int], list[str]]:
        """Image -> number of its set, for images in a set of two or more; and notes that name some of the pairs."""
        if not self.keys:
            return {}, []
        pairs = near_pairs(self.hashes, threshold)
        joined = connected(len(self.keys), [pair[:2] for pair in pairs])
        return {self.keys[at]: int(joined[at]) for pair in pairs for at in pair[:2]}, _notes(
            self.names, pairs, threshold
        )


def near_duplicates(
    dataset: Dataset, threshold: int, progress: Progress | None = None
) -> tuple[dict[str, int], list[str]]:
    """``HashedImages.sets`` of one data set."""
    return hash_images([dataset], progress).sets(threshold)


def hash_images(datasets: Sequence[Dataset], progress: Progress | None = None) -> HashedImages:
    """Decode and hash every different image of these data sets."""
    images = {sample.image_id: sample for dataset in datasets for sample in dataset.samples}
    hashes, keys, names = [], [], []
    for done, (key, sample) in enumerate(images.items(), start=1):
        try:
            content = read_bytes(sample.path)
            if hash_content(content) != sample.image_key:
                continue  # it has changed since it was listed; extraction will report it
            hashes.append(image_hash(decode_image(content)))
        except CellError:  # likewise
            continue
        keys.append(key)
        names.append(sample.path.name)
        if progress is not None:
            progress("hashing", done, len(images), 0)
    return HashedImages(tuple(keys), tuple(names), np.array(hashes, bool).reshape(-1, 8, _BITS))


def _notes(names: Sequence[str], pairs: Sequence[tuple[int, int, int]], threshold: int) -> list[str]:
    if not pairs:
        return [f"No two different images are within {threshold} of 256 bits of each other."]
    shown = "; ".join(f"{names[a]} and {names[b]} ({bits} bits)" for a, b, bits in pairs[:5])
    more = f" and {len(pairs) - 5} more" if len(pairs) > 5 else ""
    return [
        f"{len(pairs)} pairs of different images are within {threshold} of 256 bits of each other, and stay on one "
        f"side of every split: {shown}{more}."
    ]


def _bits(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    low = cv2.dct(image)[:_FREQUENCIES, :_FREQUENCIES].ravel()
    # The first coefficient is the mean brightness: it says nothing about what is shown.
    above = low > np.median(low[1:])
    above[0] = False
    return above
