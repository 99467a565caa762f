"""Cells with known truth, laid out like C-NMC 2019: for trying Fusion out, and for proving its measurements.

Every cell is drawn from a population with class effects (what a classifier should learn) and subject effects (what it
learns by mistake when the cells of one subject stand on both sides of a split). The numbers are chosen for a task about
as hard as the real one: on new subjects a classifier of simple features reaches a balanced accuracy of about 0.8, and
under a split that ignores subjects it seems to reach 0.9.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fusion.errors import FusionError, UsageError
from fusion.io.output_files import write_output
from fusion.synthetic.laboratories import FACTS, UM_PER_PX, Laboratory, draw_laboratories, photograph
from fusion.synthetic.rendering import CellTraits, Mask, PaintedCell, paint_cell, stain_cell

#: The two classes of C-NMC: acute lymphoblastic leukaemia, and healthy ("hem").
MALIGNANT, HEALTHY = "all", "hem"

#: Every class that a design may have, in the order in which it takes them: C-NMC's, acute myeloid leukaemia, chronic
#: lymphocytic leukaemia.
CLASSES = (HEALTHY, MALIGNANT, "aml", "cll")

#: What ``synthesize`` writes last, in ``TRUTH_COLUMNS``: where it is missing, the tree is incomplete.
TRUTH_FILE = "truth.csv"


class SyntheticError(FusionError):
    """The images could not be written."""


@dataclass(frozen=True)
class SyntheticDesign:
    """Which cells to make. With the same libraries, the same design makes the same files, byte for byte.

    Attributes
    ----------
    subjects : how many, at least 2 of a class; as many of each class, and what is over malignant.
    cells_per_subject : how many images of each, at least 1; the median, where there is a spread.
    seed : any whole number from 0.
    class_effect : factor on all differences between the class means; 0 makes the labels meaningless.
    subject_effect : factor on all differences between subjects of a class; 0 makes them interchangeable.
    sites : 0 for cells as C-NMC shows them; else so many sites (see ``fusion.synthetic.laboratories``),
        each with subjects of its own, who go by the same ids everywhere.
    folds : how many folders ``fold_0``, ``fold_1``, ..., at least 1. There are no more of them than the smaller class
        has subjects, so that each holds every class.
    classes : the first so many of ``CLASSES``, 2 to 4.
    witness_rate : share, above 0, of a malignant subject's cells that are malignant (witnesses of what it has), the
        median over subjects; its other cells are healthy ones. 1 is C-NMC's shape: all cells of a subject are of its
        class.
    witness_spread : standard deviation between subjects of that share's logit.
    cells_spread : standard deviation between subjects of the logarithm of their number of cells.
    age_gap : years by which malignant subjects are older on average; below 0, younger.
    age_effect : by how many standard deviations between subjects the traits of all cells move towards malignant ones
        with a standard deviation of age (15 years): with a gap of ages, age is a confounder.

    Raises
    ------
    UsageError : a value out of these ranges.
    """

    subjects: int = 24
    cells_per_subject: int = 20
    seed: int = 0
    class_effect: float = 1.0
    subject_effect: float = 1.0
    folds: int = 3
    laboratories: int = 0
    classes: int = 2
    witness_rate: float = 1.0
    witness_spread: float = 0.5
    cells_spread: float = 0.0
    age_gap: float = 0.0
    age_effect: float = 0.0

    def __post_init__(self) -> None:
        if not 2 <= self.classes <= len(CLASSES):
            raise UsageError(
                "classes is out of range",
                found=str(self.classes),
                expected=f"2 to {len(CLASSES)}: {', '.join(CLASSES)}",
            )
        # 2 subjects a class: with one, no split by subject has the class on both sides.
        least = {"subjects": 2 * self.classes, "cells_per_subject": 1, "folds": 1, "seed": 0, "laboratories": 0}
        for name, value in least.items():
            if (found := getattr(self, name)) < value:
                reason = ", 2 of each class" if name == "subjects" else ""
                raise UsageError(
                    f"{name} is too small for synthetic cells", found=str(found), expected=f"{value} at least{reason}"
                )
        for name in ("class_effect", "subject_effect", "witness_spread", "cells_spread", "age_effect"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise UsageError(f"{name} is out of range", found=str(value), expected="0 (no effect) or above")
        if not 0 < self.witness_rate <= 1:
            raise UsageError(
                "witness_rate is out of range", found=str(self.witness_rate), expected="above 0, 1 at most"
            )
        if not math.isfinite(self.age_gap):
            raise UsageError("age_gap is out of range", found=str(self.age_gap), expected="years")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, the healthy one first."""
        return CLASSES[: self.classes]

    @property
    def has_rare_cells(self) -> bool:
        """Whether subjects hold cells of several classes."""
        return self.witness_rate < 1


@dataclass(frozen=True)
class Subject:
    """One synthetic person.

    Attributes
    ----------
    index, name, fold : which one, and where it lies.
    label : its class: what the person has, whatever one of its cells is.
    shifts : for each trait of ``POPULATION``, the distance of its cells from the mean of their class.
    cells : how many it has.
    witness_rate : share of them that is of its class, in expectation; the others are healthy ones.
    age : in years.
    """

    index: int
    name: str
    label: str
    fold: int
    shifts: Mapping[str, float]
    cells: int
    witness_rate: float = 1.0
    age: float = 40.0


# ---- the population -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TraitSpread:
    """How a trait is spread, on a scale where effects add up: its logarithm, its logit, or itself.

    Attributes
    ----------
    middle : half-way between the class means, in the trait's own unit.
    between_classes : malignant mean less healthy mean, on the scale.
    between_subjects, between_cells : standard deviations, on the scale.
    scale : "log" for what cannot be negative, "logit" for a fraction, "linear".
    least, most : limits in the trait's own unit, where a cell would stop looking like one.
    """

    middle: float
    between_classes: float
    between_subjects: float
    between_cells: float
    scale: str
    least: float
    most: float


#: Malignant cells are larger and less regular, with a fuller nucleus, finer and fainter chromatin, more nucleoli and a
#: slightly redder, paler stain. Subjects differ most in what slides differ in, the stain, and in chromatin.
#: Middles follow real images; the spreads were tuned together, over several seeds, until a classifier of simple
#: features did as the first lines of this file say.
POPULATION: Mapping[str, TraitSpread] = {
    # 33,000 and 24,000 pixels on average; the two real cells we know have 45,500 and 20,400.
    "area_px": TraitSpread(28_000, 0.32, 0.10, 0.20, "log", 9_000, 75_000),
    "elongation_excess": TraitSpread(0.11, 0.4, 0.0, 0.5, "log", 0.01, 0.6),
    "contour_irregularity": TraitSpread(0.016, 0.55, 0.0, 0.4, "log", 0.002, 0.08),
    "nucleus_ratio": TraitSpread(0.84, 0.3, 0.08, 0.22, "logit", 0.65, 0.94),
    "texture_scale_px": TraitSpread(6.4, -0.14, 0.08, 0.06, "log", 3.5, 14),
    "chromatin_contrast": TraitSpread(0.075, -0.13, 0.12, 0.08, "log", 0.03, 0.13),
    # The mean number a cell; each cell's own is Poisson.
    "nucleoli": TraitSpread(0.6, 1.5, 0.0, 0.0, "log", 0.0, 5),
    "stain_darkness": TraitSpread(1.0, -0.02, 0.05, 0.02, "log", 0.75, 1.2),
    "stain_hue": TraitSpread(0.0, -0.03, 0.07, 0.02, "linear", -0.3, 0.3),
}


#: Where each trait of a class lies between the class means of ``POPULATION``, from -0.5, healthy, to 0.5, malignant.
#: Myeloblasts are larger, with more cytoplasm and nucleoli and a ragged contour; cells of chronic lymphocytic leukaemia
#: are small and round, nearly all nucleus, with coarse, clumped chromatin.
CLASS_MEANS: Mapping[str, Mapping[str, float]] = {
    HEALTHY: dict.fromkeys(POPULATION, -0.5),
    MALIGNANT: dict.fromkeys(POPULATION, 0.5),
    "aml": {
        **dict.fromkeys(POPULATION, 0.5),
        "area_px": 0.9,
        "contour_irregularity": 0.9,
        "nucleus_ratio": -1.2,
        "nucleoli": 0.9,
        "texture_scale_px": 0.9,
    },
    "cll": {
        **dict.fromkeys(POPULATION, -0.5),
        "area_px": -1.0,
        "nucleus_ratio": 0.7,
        "nucleoli": -1.0,
        "texture_scale_px": -1.2,
        "chromatin_contrast": -1.2,
    },
}

#: Mean and standard deviation of age, in years, and the limits of it.
_AGE, _AGES_APART, _YOUNGEST, _OLDEST = 40.0, 15.0, 0.0, 100.0

#: Streams of random numbers beside those of a subject's and a cell's traits: of what a subject is, and what a cell is.
_OF_PERSON, _OF_KIND = 1, 2


def draw_subjects(design: SyntheticDesign) -> list[Subject]:
    """The subjects of a design: malignant ones "1", "2", ..., healthy ones "H1", ..., dealt out to folds in turn."""
    healthy, *diseases = design.labels
    least = design.subjects // design.classes
    over = design.subjects - least * design.classes
    counts = {label: least + (at < over) for at, label in enumerate(diseases)} | {healthy: least}
    folds = min(design.folds, least)
    labels = [(label, place) for label, count in counts.items() for place in range(count)]
    subjects = []
    for index, (label, place) in enumerate(labels):
        rng = np.random.default_rng(np.random.SeedSequence(design.seed, spawn_key=(index,)))
        shifts = {
            trait: design.subject_effect * spread.between_subjects * rng.normal()
            for trait, spread in POPULATION.items()
        }
        name = f"H{place + 1}" if label == healthy else f"{index + 1}"
        subjects.append(_person(design, Subject(index, name, label, place % folds, shifts, design.cells_per_subject)))
    return subjects


def _person(design: SyntheticDesign, subject: Subject) -> Subject:
    """The subject with its age, its number of cells and its share of witnesses."""
    rng = np.random.default_rng(np.random.SeedSequence(design.seed, spawn_key=(subject.index, 0, _OF_PERSON)))
    years, cells, rate = rng.normal(size=3)
    is_healthy = subject.label == HEALTHY
    mean = _AGE + design.age_gap * (-0.5 if is_healthy else 0.5)
    age = min(max(mean + _AGES_APART * years, _YOUNGEST), _OLDEST)
    older = design.age_effect * (age - _AGE) / _AGES_APART
    shifts = {
        trait: shift + older * math.copysign(spread.between_subjects, spread.between_classes)
        for (trait, shift), spread in zip(subject.shifts.items(), POPULATION.values(), strict=True)
    }
    count = max(1, round(design.cells_per_subject * math.exp(min(design.cells_spread * cells, 20.0))))
    share = 1.0 if not design.has_rare_cells else _shifted(design.witness_rate, design.witness_spread * rate, "logit")
    return replace(subject, shifts=shifts, cells=count, witness_rate=0.0 if is_healthy else share, age=age)


def draw_label(design: SyntheticDesign, subject: Subject, number: int) -> str:
    """Class of one cell of a subject: the subject's own, or healthy where it is no witness."""
    if not design.has_rare_cells or subject.label == HEALTHY:
        return subject.label
    rng = np.random.default_rng(np.random.SeedSequence(design.seed, spawn_key=(subject.index, number, _OF_KIND)))
    return subject.label if rng.random() < subject.witness_rate else HEALTHY


def draw_cell(
    design: SyntheticDesign, subject: Subject, rng: np.random.Generator, label: str | None = None
) -> CellTraits:
    """The traits of one cell of a subject, of its class or of the one that is said."""
    means = CLASS_MEANS[subject.label if label is None else label]
    traits = {}
    for trait, spread in POPULATION.items():
        between = design.class_effect * means[trait] * spread.between_classes
        shift = between + subject.shifts[trait] + spread.between_cells * rng.normal()
        traits[trait] = min(max(_shifted(spread.middle, shift, spread.scale), spread.least), spread.most)
    nucleoli = min(int(rng.poisson(traits.pop("nucleoli"))), 4)  # a fifth would not find room
    return CellTraits(elongation=1 + traits.pop("elongation_excess"), nucleoli=nucleoli, **traits)


def _shifted(middle: float, shift: float, scale: str) -> float:
    if scale == "log":
        # A shift of 20 is beyond any limit, and exp of a few hundred would overflow.
        return middle * math.exp(min(shift, 20.0))
    if scale == "logit":
        return 1 / (1 + math.exp(min(-shift, 20.0)) * (1 - middle) / middle)
    return middle + shift


# ---- files ----------------------------------------------------------------------------------------------------------

#: Columns of ``truth.csv`` and what they hold. The first five make the file a table that Fusion reads as a data set.
TRUTH_COLUMNS: Mapping[str, str] = {
    "path": "of the image, relative to this file, with slashes",
    "label": "class of the cell, 'hem', 'all', 'aml' or 'cll'",
    "subject": "as in the file name",
    "fold": "as in the folder name",
    "subject_label": "class of the subject: that of all its cells, or of its witnesses, of which there may be none",
    "subject_age": "of the subject, in years",
    "subject_witness_rate": "share of the subject's cells that are of its class, in expectation",
    "cell_area_px": "pixels of the cell, counted",
    "nucleus_area_px": "pixels of the nucleus, counted",
    "nucleus_ratio": "nucleus_area_px / cell_area_px",
    "major_axis_px": "long axis of the ellipse with the second moments of the cell's pixels, as in regionprops",
    "minor_axis_px": "short axis of that ellipse",
    "texture_scale_px": "distance at which the autocorrelation of this nucleus' stain (chromatin and nucleoli, blurred "
    "by the camera, without shading and noise) has fallen to 1/e",
    "contour_irregularity": "root mean square of the contour's distance from the ellipse it was drawn around, as a "
    "fraction of the ellipse's radius, over all directions from the cell's middle",
    "nucleoli": "how many there are",
    **{
        f"subject_shift_{trait.removesuffix('_px')}": f"what the subject adds to its class mean of {trait}, on the "
        f"{spread.scale} scale; the same for all its cells"
        for trait, spread in POPULATION.items()
        if spread.between_subjects
    },
}


#: Columns that ``truth.csv`` has beside these where there are sites.
LABORATORY_COLUMNS: Mapping[str, str] = {
    "source": "the site",
    "mask": "of the mask, relative to this file: 0 background, 128 cytoplasm, 255 nucleus",
    "um_per_px": "micrometres on the side of a pixel",
    **{f"laboratory_{name}": what for name, what in FACTS.items()},
}


def synthesize(
    out: Path, design: SyntheticDesign, progress: Callable[[int, int], None] | None = None, jobs: int = 1
) -> Path:
    """Write a C-NMC-shaped tree of synthetic cells, and the truth about each.

    ``OUT/fold_0/all/UID_1_1_1_all.bmp`` is cell 1 of image 1 of subject 1; subjects never span folds. ``truth.csv``
    (``TRUTH_COLUMNS``) comes last. With sites, each has a folder with such a tree in it, masks beside it, and
    ``truth.csv`` has the columns ``LABORATORY_COLUMNS`` too. Who gives the folder as a data set has it read by this
    table where the tree does not tell all: where there are sites, subjects with cells of several classes, or more
    classes than C-NMC's two.

    Parameters
    ----------
    out : a folder that is empty or does not exist.
    design : which cells.
    progress : called with (cells done, cells in all) after each cell.
    jobs : processes to paint in; 0 takes one a core. The files do not depend on it.

    Returns
    -------
    ``out``.

    Raises
    ------
    UsageError : there is something in ``out``, or it is a file.
    SyntheticError : ``out`` cannot be written, or the disk is full.

    Examples
    --------
    >>> from pathlib import Path
    >>> from fusion.synthetic.cells import SyntheticDesign
    >>> synthesize(Path("made"), SyntheticDesign(subjects=6, cells_per_subject=2))  # doctest: +SKIP
    """
    try:
        check_vacant(out)
        tasks = _tasks(out, design)
        rows = []
        for row in _make_cells(tasks, jobs):
            rows.append(row)
            if progress is not None:
                progress(len(rows), len(tasks))
        write_output(
            out / TRUTH_FILE, _as_csv(rows, [*TRUTH_COLUMNS, *(LABORATORY_COLUMNS if design.laboratories else ())])
        )
    except OSError as error:
        raise SyntheticError(f"cannot write synthetic cells to {out}", found=error.strerror or str(error)) from error
    return out


def check_vacant(out: Path) -> None:
    """UsageError unless ``out`` is an empty folder or does not exist."""
    if out.is_dir():
        first = min((entry.name for entry in out.iterdir()), default=None)
        found = None if first is None else f"a folder with {first} in it"
    else:
        found = "a file" if out.exists() else None
    if found is not None:
        raise UsageError(
            f"{out} is taken",
            found=found,
            expected="an empty folder, or a name not in use",
            do="Choose another folder, or delete what is in this one.",
        )


def _tasks(out: Path, design: SyntheticDesign) -> list[tuple[Any, ...]]:
    """Every cell that is to be made: the arguments of ``_make_cell``, by site, subject and number."""
    tasks: list[tuple[Any, ...]] = []
    laboratories: list[Laboratory | None] = [*draw_laboratories(design.laboratories, design.seed)]
    for laboratory in laboratories or [None]:
        # Each site has people of its own: another seed, distinguished by its place.
        own = design if laboratory is None else replace(design, seed=laboratory.seed)
        tasks += [
            (out, own, subject, number, laboratory) for subject in draw_subjects(own) for number in range(subject.cells)
        ]
    return tasks


def _make_cells(tasks: list[tuple[Any, ...]], jobs: int) -> Iterator[dict[str, object]]:
    """Rows of the truth, in the order of the tasks whoever painted them."""
    if jobs == 1:
        return (_make_cell(*task) for task in tasks)
    import joblib

    workers = jobs or joblib.cpu_count()
    made = joblib.Parallel(n_jobs=workers, return_as="generator")(joblib.delayed(_make_cell)(*task) for task in tasks)
    return iter(made)


def _make_cell(
    out: Path, design: SyntheticDesign, subject: Subject, number: int, laboratory: Laboratory | None = None
) -> dict[str, object]:
    """Draw, paint and write one cell; what is true of it."""
    rng = np.random.default_rng(np.random.SeedSequence(design.seed, spawn_key=(subject.index, number)))
    label = draw_label(design, subject, number)
    traits = draw_cell(design, subject, rng, label)
    # Ten cells an image, as a field of a smear may hold.
    name = f"UID_{subject.name}_{number // 10 + 1}_{number % 10 + 1}_{label}"
    if laboratory is not None:
        return _photograph(out, laboratory, subject, label, name, traits, rng)
    painted = paint_cell(traits, rng)
    path = Path(f"fold_{subject.fold}", label, f"{name}.bmp")
    write_output(out / path, cv2.imencode(".bmp", cv2.cvtColor(painted.rgb, cv2.COLOR_RGB2BGR))[1].tobytes())
    return _truth(path, subject, label, traits, painted)


def _photograph(
    out: Path,
    laboratory: Laboratory,
    subject: Subject,
    label: str,
    name: str,
    traits: CellTraits,
    rng: np.random.Generator,
) -> dict[str, object]:
    """Paint one cell as a site shows it, write image and mask; what is true of it."""
    shot = photograph(stain_cell(traits, rng), laboratory, rng)
    path = Path(laboratory.name, f"fold_{subject.fold}", label, f"{name}.{laboratory.ending}")
    mask = Path(laboratory.name, "masks", f"{name}.png")
    write_output(out / path, shot.encoded)
    write_output(out / mask, shot.encoded_mask)
    row = _truth(path, subject, label, traits, shot.painted)
    mine = {"source": laboratory.name, "mask": mask.as_posix(), "um_per_px": UM_PER_PX / laboratory.scale}
    return row | mine | {f"laboratory_{name}": value for name, value in laboratory.facts().items()}


def _truth(path: Path, subject: Subject, label: str, traits: CellTraits, painted: PaintedCell) -> dict[str, object]:
    cell_area, nucleus_area = int(painted.mask.sum()), int(painted.nucleus.sum())
    major, minor = moment_axes(painted.mask)
    row: dict[str, object] = {
        "path": path.as_posix(),
        "label": label,
        "subject": subject.name,
        "fold": subject.fold,
        "subject_label": subject.label,
        "subject_age": subject.age,
        "subject_witness_rate": subject.witness_rate,
        "cell_area_px": cell_area,
        "nucleus_area_px": nucleus_area,
        "nucleus_ratio": nucleus_area / cell_area,
        "major_axis_px": major,
        "minor_axis_px": minor,
        "texture_scale_px": painted.texture_scale_px,
        "contour_irregularity": traits.contour_irregularity,
        "nucleoli": traits.nucleoli,
    }
    shifts = {f"subject_shift_{trait.removesuffix('_px')}": shift for trait, shift in subject.shifts.items()}
    return row | {column: shift for column, shift in shifts.items() if column in TRUTH_COLUMNS}


def moment_axes(mask: Mask) -> tuple[float, float]:
    """Long and short axis, in pixels, of the ellipse with the same second central moments as the pixels' centres.

    Four times the square roots of the eigenvalues of the pixels' covariance, as ``skimage.measure.regionprops`` has it.
    """
    moments = cv2.moments(mask.view(np.uint8), binaryImage=True)
    xx, yy, xy = (moments[name] / moments["m00"] for name in ("mu20", "mu02", "mu11"))
    minor, major = np.linalg.eigvalsh([[xx, xy], [xy, yy]])
    return 4 * math.sqrt(major), 4 * math.sqrt(minor)


def _as_csv(rows: list[dict[str, object]], columns: list[str]) -> bytes:
    """UTF-8 with plain line ends; six digits are more than any measurement of these cells can have."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()})
    return text.getvalue().encode()
