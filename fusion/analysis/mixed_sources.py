"""Sources whose images are of two kinds, and show cells as different as those of two sites: two names may be missing.

Features are harmonised by the names of sources. Two laboratories under one name are brought to the others by a map of
neither. Whether a source is two is asked where its files say so: where some are of another format than the others, or
of one size and the others are not. Cells of both kinds that are of one class are then compared; in one laboratory they
are alike, whatever its files are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fusion.bundles.model_bundle import ModelBundle
from fusion.data.dataset import Dataset, Sample
from fusion.data.feature_table import FeatureTable
from fusion.feature_transforms.harmonisation import FAR
from fusion.images.decoding import CellError, read_bytes
from fusion.images.file_headers import read_header
from fusion.learning.predictions import Predictions
from fusion.metrics.class_shares import LEAST_CELLS

#: Cells of a source whose files are looked at: of a kind that a tenth are of, ten are among them.
_CELLS = 100

#: The least share of a kind.
_SHARE = 0.1

#: Cells of a class on either side from which it counts, and what all classes have to weigh: four cells against four,
#: say.
_LEAST_OF_CLASS, _LEAST_WEIGHT = 2, 2.0


def mixed_sources(dataset: Dataset, table: FeatureTable, classes: Sequence[object]) -> list[str]:
    """Stamps of sources that may be two; none for a table of subjects, or without features.

    Parameters
    ----------
    dataset : the images.
    table : their cells, measured; cells of other images are left out.
    classes : n labels, or what was predicted.
    """
    if table.are_subjects or not table.columns:
        return []
    names = np.array([source or "" for source in table.sources], object)
    labels = np.array([str(label) for label in classes], object)
    places = {key: at for at, key in enumerate(dataset.each("key"))}
    is_here = np.array([key in places for key in table.keys], bool)
    stamps = []
    for name in sorted(set(names.tolist())):
        of = np.flatnonzero((names == name) & is_here)
        if len(of) < 2 * LEAST_CELLS:
            continue
        rows = of[np.linspace(0, len(of) - 1, min(len(of), _CELLS)).astype(np.intp)]
        samples = [dataset.samples[places[table.keys[row]]] for row in rows.tolist()]
        X = np.asarray(table.X[rows], np.float64)
        found = [(difference(X, is_one, labels[rows]), kind, int(is_one.sum())) for kind, is_one in _kinds(samples)]
        far, kind, count = max(found, default=(0.0, "", 0))
        if far > FAR:
            stamps.append(
                f"{name or 'cells without a source'}: {count} of {len(rows)} images looked at are {kind}, and show "
                f"cells of a class {far:.1f} standard deviations from those of the others, as those of two sites are. "
                "If they are of two sites, name each in the column 'source': two under one name are harmonised wrongly"
            )
    return stamps


def with_mixed_sources(bundle: ModelBundle, dataset: Dataset, found: Predictions) -> Predictions:
    """What a model says of images, with the stamps of sources that may be two, where it harmonises by source."""
    if bundle.model.harmoniser is None or not len(found):
        return found
    return replace(found, remarks=(*found.remarks, *mixed_sources(dataset, found.table, found.predicted)))


def _kinds(samples: Sequence[Sample]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """What some of the files are and the others are not, and which are."""
    formats, sizes = [], []
    for sample in samples:
        try:
            header = read_header(read_bytes(sample.path))
            formats.append(header.format)
            sizes.append(f"{header.width} x {header.height}")
        except CellError:  # gone since it was measured
            formats.append("")
            sizes.append("")
    least = max(LEAST_CELLS, int(np.ceil(_SHARE * len(samples))))
    commonest = Counter(sizes).most_common(1)[0][0]
    for values, value, what in (
        *((formats, each, each) for each in sorted(set(formats))),
        (sizes, commonest, f"of {commonest} pixels"),
    ):
        is_one = np.array([each == value for each in values])
        if value and least <= is_one.sum() <= len(samples) - least:
            yield what, is_one


def difference(X: NDArray[np.float64], is_one: NDArray[np.bool_], classes: NDArray[np.object_]) -> float:
    """How far cells of one kind lie from those of the other, classes kept apart.

    In standard deviations of a feature among cells of a kind and class: the root mean square over features of the
    difference of means, less what chance makes of it; 0 where no class has enough cells of both.

    Parameters
    ----------
    X : float64 (n, d), NaN where a feature is undefined.
    is_one : bool (n,).
    classes : n labels.
    """
    centred, gaps, weights = X.copy(), [], []
    for label in sorted(set(classes.tolist())):
        of = [np.flatnonzero((classes == label) & (is_one == side)) for side in (True, False)]
        if min(map(len, of)) < _LEAST_OF_CLASS:
            centred[np.concatenate(of)] = np.nan
            continue
        means = []
        for own in of:
            known = ~np.isnan(X[own])
            means.append(np.where(known, X[own], 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
            centred[own] -= means[-1]
        gaps.append(means[0] - means[1])
        weights.append(len(of[0]) * len(of[1]) / (len(of[0]) + len(of[1])))
    if sum(weights) < _LEAST_WEIGHT:
        return 0.0
    known = ~np.isnan(centred)
    spread = np.sqrt((np.where(known, centred, 0.0) ** 2).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
    varies = spread > 1e-9
    # One feature that hardly varies tells no more than one that lies ten standard deviations off.
    off = np.clip(np.average(gaps, axis=0, weights=weights)[varies] / spread[varies], -10, 10)
    return float(np.sqrt(max((off**2).sum() / max(varies.sum(), 1) - 1 / sum(weights), 0.0)))
