"""Classifiers of cells that judge patients learn the same from cells that lie elsewhere, and do not hold them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from classifiers.boosting import BoostedTreesClassifier
from classifiers.linear import LogisticClassifier
from classifiers.svm import SupportVectorClassifier
from fusion.data.patients import bags as bags_module
from fusion.data.patients import cells_elsewhere
from fusion.data.patients.bags import Bags
from fusion.learning.bags.mean_of_cells import MeanOfCells
from tests.builders.patients import patients

#: Cells that are read at a time.
BATCH = 50


class Elsewhere:
    """Rows that are read by their numbers, and how many at once."""

    def __init__(self, cells):
        self.cells, self.shape, self.most = cells, cells.shape, 0

    def __len__(self):
        return len(self.cells)

    def __getitem__(self, rows):
        self.most = max(self.most, len(rows))
        return self.cells[rows]


@pytest.mark.parametrize(
    ("classifier", "is_whole"),
    [
        (lambda: LogisticClassifier(), False),
        (lambda: LogisticClassifier(search=True), False),
        (lambda: BoostedTreesClassifier(staged_from=100, n_estimators=14), False),
        (lambda: BoostedTreesClassifier(external_memory=True, staged_from=100, n_estimators=14), False),
        (lambda: BoostedTreesClassifier(n_estimators=5), False),
        (lambda: SupportVectorClassifier(), True),
    ],
    ids=["logreg", "logreg, search", "trees in stages", "trees outside", "few trees", "svm"],
)
def test_cells_elsewhere_make_the_model_of_cells_in_memory(classifier, is_whole, monkeypatch):
    for module in (bags_module, cells_elsewhere):
        monkeypatch.setattr(module, "BATCH_CELLS", BATCH)
    table = patients(patients=20, each=10)
    held, cells, y = table.X, Elsewhere(np.asarray(table.X.cells)), np.array(table.y)
    elsewhere = Bags(cells, held.rows)
    expected = MeanOfCells(classifier()).fit(held, y, np.arange(20)).predict_proba(held)
    found = MeanOfCells(classifier()).fit(elsewhere, y, np.arange(20))
    assert (cells.most > BATCH) == is_whole
    assert_allclose(found.predict_proba(elsewhere), expected, rtol=0, atol=1e-9)


def test_cells_of_three_classes_and_cells_that_are_no_numbers(monkeypatch):
    monkeypatch.setattr(cells_elsewhere, "BATCH_CELLS", BATCH)
    held, y = patients(patients=21, each=10).X, np.arange(21) % 3
    cells = np.array(held.cells)
    expected = LogisticClassifier().fit(cells, y[held.owners])
    found = LogisticClassifier().fit(Bags(Elsewhere(cells), held.rows).ordered, y[held.owners])
    assert_allclose(found.coef_, expected.coef_, rtol=0, atol=1e-9)
    assert_allclose(found.intercept_, expected.intercept_, rtol=0, atol=1e-9)
    cells[77, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        LogisticClassifier().fit(Bags(Elsewhere(cells), held.rows).ordered, y[held.owners])
    with pytest.raises(ValueError, match="one class"):
        LogisticClassifier().fit(Bags(Elsewhere(cells), held.rows).ordered, np.zeros(210))
