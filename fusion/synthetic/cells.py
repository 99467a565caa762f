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

#: What ``synthesize`` writes last, in ``TRUTH_COLUMNS``: where it is missing, the tree is incomplete.
TRUTH_FILE = "truth.csv"


class SyntheticError(FusionError):
    """The images could not be written."""


@dataclass(frozen=True)
class SyntheticDesign:
    """Which cells to make. With the same libraries, the same design makes the same files, byte for byte.

    Attributes
    ----------
    subjects : how many, at least 4; half of them malignant, the odd one too.
    cells_per_subject : how many images of each, at least 1.
    seed : any whole number from 0.
    class_effect : factor on all differences between the class means; 0 makes the labels meaningless.
    subject_effect : factor on all differences between subjects of a class; 0 makes them interchangeable.
    sites : 0 for cells as C-NMC shows them; else so many sites (see ``fusion.synthetic.laboratories``),
        each with subjects of its own, who go by the same ids everywhere.
    folds : how many folders ``fold_0``, ``fold_1``, ..., at least 1. There are no more of them than the smaller class
        has subjects, so that each holds both classes.

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

    def __post_init__(self) -> None:
        # 2 subjects a class: with one, no split by subject has the class on both sides.
        for name, least in (("subjects", 4), ("cells_per_subject", 1), ("folds", 1), ("seed", 0), ("laboratories", 0)):
            if (value := getattr(self, name)) < least:
                reason = ", 2 of each class" if name == "subjects" else ""
                raise UsageError(
                    f"{name} is too small for synthetic cells", found=str(value), expected=f"{least} at least{reason}"
                )
        for name in ("class_effect", "subject_effect"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise UsageError(f"{name} is out of range", found=str(value), expected="0 (no effect) or above")


@dataclass(frozen=True)
class Subject:
    """One synthetic person: ``shifts`` holds, for each trait of ``POPULATION``, the distance from the class mean."""

    index: int
    name: str
    label: str
    fold: int
    shifts: Mapping[str, float]


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


def draw_subjects(design: SyntheticDesign) -> list[Subject]:
    """The subjects of a design: malignant ones "1", "2", ..., healthy ones "H1", ..., dealt out to folds in turn."""
    healthy = design.subjects // 2
    malignant = design.subjects - healthy
    folds = min(design.folds, healthy)
    subjects = []
    for index in range(design.subjects):
        is_malignant = index < malignant
        place = index if is_malignant else index - malignant
        rng = np.random.default_rng(np.random.SeedSequence(design.seed, spawn_key=(index,)))
        shifts = {
            trait: design.subject_effect * spread.between_subjects * rng.normal()
            for trait, spread in POPULATION.items()
        }
        name, label = (f"{place + 1}", MALIGNANT) if is_malignant else (f"H{place + 1}", HEALTHY)
        subjects.append(Subject(index, name, label, place % folds, shifts))
    return subjects


def draw_cell(design: SyntheticDesign, subject: Subject, rng: np.random.Generator) -> CellTraits:
    """The traits of one cell of a subject."""
    # Half the difference to each side of the middle.
    side = design.class_effect * (0.5 if subject.label == MALIGNANT else -0.5)
    traits = {}
    for trait, spread in POPULATION.items():
        shift = side * spread.between_classes + subject.shifts[trait] + spread.between_cells * rng.normal()
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

#: Columns of ``truth.csv`` and what they hold. The first four make the file a table that Fusion reads as a data set.
TRUTH_COLUMNS: Mapping[str, str] = {
    "path": "of the image, relative to this file, with slashes",
    "label": "'all' or 'hem'",
    "subject": "as in the file name",
    "fold": "as in the folder name",
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
    ``truth.csv`` has the columns ``LABORATORY_COLUMNS`` too: who gives the folder as
    a data set has it read by this table, since the tree names no source.

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
        _refuse_occupied(out)
        total = design.subjects * design.cells_per_subject * max(1, design.laboratories)
        rows = []
        for row in _make_cells(out, design, jobs):
            rows.append(row)
            if progress is not None:
                progress(len(rows), total)
        write_output(
            out / TRUTH_FILE, _as_csv(rows, [*TRUTH_COLUMNS, *(LABORATORY_COLUMNS if design.laboratories else ())])
        )
    except OSError as error:
        raise SyntheticError(f"cannot write synthetic cells to {out}", found=error.strerror or str(error)) from error
    return out


def _refuse_occupied(out: Path) -> None:
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


def _make_cells(out: Path, design: SyntheticDesign, jobs: int) -> Iterator[dict[str, object]]:
    """Rows of the truth, in the order of sites, subjects and cells whoever painted them."""
    tasks: list[tuple[Any, ...]] = []
    laboratories: list[Laboratory | None] = [*draw_laboratories(design.laboratories, design.seed)]
    for laboratory in laboratories or [None]:
        # Each site has people of its own: another seed, distinguished by its place.
        own = design if laboratory is None else replace(design, seed=laboratory.seed)
        tasks += [
            (out, own, subject, number, laboratory)
            for subject in draw_subjects(own)
            for number in range(design.cells_per_subject)
        ]
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
    traits = draw_cell(design, subject, rng)
    if laboratory is not None:
        return _photograph(out, laboratory, subject, number, traits, rng)
    painted = paint_cell(traits, rng)
    # Ten cells an image, as a field of a smear may hold.
    name = f"UID_{subject.name}_{number // 10 + 1}_{number % 10 + 1}_{subject.label}.bmp"
    path = Path(f"fold_{subject.fold}", subject.label, name)
    write_output(out / path, cv2.imencode(".bmp", cv2.cvtColor(painted.rgb, cv2.COLOR_RGB2BGR))[1].tobytes())
    return _truth(path, subject, traits, painted)


def _photograph(
    out: Path, laboratory: Laboratory, subject: Subject, number: int, traits: CellTraits, rng: np.random.Generator
) -> dict[str, object]:
    """Paint one cell as a site shows it, write image and mask; what is true of it."""
    shot = photograph(stain_cell(traits, rng), laboratory, rng)
    name = f"UID_{subject.name}_{number // 10 + 1}_{number % 10 + 1}_{subject.label}"
    path = Path(laboratory.name, f"fold_{subject.fold}", subject.label, f"{name}.{laboratory.ending}")
    mask = Path(laboratory.name, "masks", f"{name}.png")
    write_output(out / path, shot.encoded)
    write_output(out / mask, shot.encoded_mask)
    row = _truth(path, subject, traits, shot.painted)
    mine = {"source": laboratory.name, "mask": mask.as_posix(), "um_per_px": UM_PER_PX / laboratory.scale}
    return row | mine | {f"laboratory_{name}": value for name, value in laboratory.facts().items()}


def _truth(path: Path, subject: Subject, traits: CellTraits, painted: PaintedCell) -> dict[str, object]:
    cell_area, nucleus_area = int(painted.mask.sum()), int(painted.nucleus.sum())
    major, minor = moment_axes(painted.mask)
    row: dict[str, object] = {
        "path": path.as_posix(),
        "label": subject.label,
        "subject": subject.name,
        "fold": subject.fold,
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
