"""Synthetic cells without images: their traits as features, for simulations that need many patients in little time.

The same people and the same population as the painted cells have (``fusion.synthetic.cells``): a trait of a cell is
drawn from what its class, its subject and it alone add up to, and nothing is painted or measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.synthetic.cells import CLASS_MEANS, HEALTHY, POPULATION, SyntheticDesign, draw_subjects

if TYPE_CHECKING:
    import pandas as pd

#: Stream of random numbers of cells that are not painted, beside those of people, which are numbered from 0.
_OF_TRAITS = 1 << 21


@dataclass(frozen=True, eq=False)
class DrawnTraits:
    """n cells of several subjects, and what is true of them.

    Attributes
    ----------
    X : float32 (n, d), each trait's distance from the middle of the classes on the scale where effects add up, in
        standard deviations between the cells of a subject; then columns of noise.
    columns : d names ``traits.area``, ..., ``noise.0``, ...
    labels : n classes of the cells.
    subjects, subject_labels : n names of the cells' subjects, and what these have.
    ages : float64 (n,), years of the cells' subjects.
    folds : intp (n,), the fold of each subject.
    """

    X: NDArray[np.float32]
    columns: tuple[str, ...]
    labels: NDArray[np.str_]
    subjects: NDArray[np.str_]
    subject_labels: NDArray[np.str_]
    ages: NDArray[np.float64]
    folds: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.labels)

    def to_frame(self) -> pd.DataFrame:
        """DataFrame: label, subject, subject_label, subject_age, fold, then the features."""
        import pandas as pd

        head = {
            "label": self.labels,
            "subject": self.subjects,
            "subject_label": self.subject_labels,
            "subject_age": self.ages,
            "fold": self.folds,
        }
        return pd.concat([pd.DataFrame(head), pd.DataFrame(self.X, columns=list(self.columns))], axis=1)


def draw_traits(design: SyntheticDesign, noise: int = 0) -> DrawnTraits:
    """The cells of a design as features, none of them painted: 100,000 cells take a tenth of a second.

    Parameters
    ----------
    design : which cells; sites are not drawn.
    noise : columns that tell nothing, standard normal.

    Examples
    --------
    >>> drawn = draw_traits(SyntheticDesign(subjects=10, cells_per_subject=50, witness_rate=0.2))
    >>> drawn.X.shape, sorted(set(drawn.labels.tolist()))
    ((500, 9), ['all', 'hem'])
    """
    subjects = draw_subjects(design)
    rng = np.random.default_rng(np.random.SeedSequence(design.seed, spawn_key=(_OF_TRAITS,)))
    counts = np.array([subject.cells for subject in subjects])
    row = np.repeat(np.arange(len(subjects)), counts)
    rates = np.array([subject.witness_rate for subject in subjects])
    own = np.array([subject.label for subject in subjects])
    labels = np.where(rng.random(len(row)) < rates[row], own[row], HEALTHY)
    spreads = list(POPULATION.values())
    apart, within = (np.array([getattr(one, name) for one in spreads]) for name in ("between_classes", "between_cells"))
    means = {
        label: design.class_effect * apart * np.array([CLASS_MEANS[label][trait] for trait in POPULATION])
        for label in design.labels
    }
    of_class = np.stack([means[label] for label in design.labels])[_codes(labels, design.labels)]
    of_subject = np.array([[subject.shifts[trait] for trait in POPULATION] for subject in subjects])[row]
    # Nucleoli vary as a Poisson number does, on the logarithm's scale by about one.
    scale = np.where(within > 0, within, 1.0)
    values = (of_class + of_subject) / scale + rng.standard_normal((len(row), len(spreads)))
    names = [f"traits.{trait.removesuffix('_px')}" for trait in POPULATION]
    return DrawnTraits(
        X=np.column_stack([values, rng.standard_normal((len(row), noise))]).astype(np.float32),
        columns=(*names, *(f"noise.{at}" for at in range(noise))),
        labels=labels,
        subjects=np.array([subject.name for subject in subjects])[row],
        subject_labels=own[row],
        ages=np.array([subject.age for subject in subjects])[row],
        folds=np.array([subject.fold for subject in subjects])[row],
    )


def _codes(labels: NDArray[np.str_], classes: tuple[str, ...]) -> NDArray[np.intp]:
    """intp (n,): the number of each label among the classes."""
    order = np.argsort(classes)
    return order[np.searchsorted(np.array(classes)[order], labels)]
