"""What is in a data set before anyone measures it: counts, unreadable files, identical images, leaks to come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from fusion.analysis.shortcuts.audit import ShortcutAudit, audit_shortcuts
from fusion.analysis.source_shift import Shift, shifts
from fusion.analysis.source_shift import lines as shift_lines
from fusion.data.dataset import Dataset, Fault, Sample, check_usable, fault_row
from fusion.data.groups import merged_subjects
from fusion.data.patients.unreadable_patients import note_unreadable_patients
from fusion.data.registers.public_datasets import Recognition, recognise
from fusion.data.subjects import format_subject, identities
from fusion.errors import UsageError
from fusion.evaluation.results import Result
from fusion.features.extraction import extract
from fusion.features.store import FeatureStore
from fusion.io.json_values import without_nan
from fusion.plugins.registry import build_extractor
from fusion.progress import Progress
from fusion.reports.contact_sheets import Overlays, draw_dataset
from fusion.reports.sources_side_by_side import draw_sources
from fusion.settings.commands import InspectConfig
from fusion.settings.features import HANDCRAFTED
from fusion.settings.outputs import one_run_of
from fusion.workflows.audits.labels import AuditedLabels, audit_cells
from fusion.workflows.file_survey import FileSurvey, survey
from fusion.workflows.loading import read_dataset

#: Groups of identical images that are named one by one.
_SHOWN = 5

#: Names of a kind that are counted one by one in a line; of more the line says how many there are.
_NAMED = 12

#: Where the classes of a layout come from.
_CLASSES_FROM = {
    "cnmc": "names of C-NMC's files",
    "class folders": "the folder that an image lies in",
    "table": "the table",
}


@dataclass(frozen=True)
class Inspection:
    """Counts and findings of one data set.

    Attributes
    ----------
    classes, subjects, folds, sources : name -> number of images; unknown ones are not counted.
    identical : groups of two or more images with the same content, each a list of names.
    across : how many of those groups span several "subjects", "folds" or "labels".
    files : formats, sizes and bits of the images, and what the masks draw.
    groups : number of groups that no split takes apart.
    merged_subjects : subject ids that share an image, and are one group in every split.
    leak : what a random split into ``splits`` folds would do; see ``_leak``.
    shifts : how far each source lies from the others, where that was asked for.
    overlays : the contact sheets that were drawn, None where none were asked for.
    sources_drawn : the image of the sources side by side, likewise.
    public : the public data sets that it is, or has images of.
    shortcuts : whether what is no part of the cells tells their class, None where that was not asked for.
    labels : which of them may be wrong, likewise.
    """

    dataset: Dataset
    classes: dict[str, int]
    subjects: dict[str, int]
    folds: dict[str, int]
    sources: dict[str, int]
    identical: list[list[str]]
    across: dict[str, int]
    merged_subjects: list[list[str]]
    leak: dict[str, Any]
    files: FileSurvey
    groups: int
    overlays: Overlays | None = None
    shifts: tuple[Shift, ...] = ()
    sources_drawn: Path | None = None
    public: tuple[Recognition, ...] = ()
    shortcuts: ShortcutAudit | None = None
    labels: AuditedLabels | None = None

    def __repr__(self) -> str:
        return f"Inspection({self.dataset!r}; lines() tells what was found)"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(chr(10).join(self.lines()))}</pre>"

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Unreadable images, and those drawn in which there is no measurable cell."""
        drawn = self.overlays.faults if self.overlays else ()
        known = {fault.path for fault in drawn}
        return self.dataset.faults + drawn + tuple(fault for fault in self.files.faults if fault.path not in known)

    @property
    def summary(self) -> str:
        """``480 images (cnmc) of 24 subjects``."""
        subjects = f"of {_many(len(self.subjects), 'subject')}" if self.subjects else "of unknown subjects"
        return f"{_many(len(self.dataset), 'image')} ({self.dataset.layout}) {subjects}"

    def lines(self) -> list[str]:
        """What a person should know: counts, identical images, subjects that share some, leaks, sheets."""
        lines = [
            f"by {title}: {_counted(counts)}"
            for title, counts in (
                ("class", self.classes),
                ("source", self.sources),
                ("fold", self.folds),
                ("subject", self.subjects),
            )
            if counts
        ]
        if self.subject_classes:
            lines.append(f"subjects by their own label: {_counted(self.subject_classes)}")
        dataset = self.dataset
        lines += note_unreadable_patients(dataset.faults, dataset.each("subject"), dataset.each("source"))
        if self.dataset.layout == "table":
            lines.append(f"columns read: path, {', '.join(self.columns) or 'and no other'}")
        if self.classes:
            lines.append(f"classes are read from {_CLASSES_FROM[self.dataset.layout]}")
        lines += self.files.lines()
        for each in self.public:
            lines.append(each.sentence)
            lines += [f"  known trap: {trap}" for trap in each.card.traps]
        across = ", ".join(f"{count} across {word}" for word, count in self.across.items() if count)
        groups = f"{_many(len(self.identical), 'group')} of identical images" if self.identical else ""
        lines.append((groups or "no identical images") + (f" ({across})" if across else ""))
        lines += [f"  {' = '.join(names)}" for names in self.identical[:_SHOWN]]
        if len(self.identical) > _SHOWN:
            lines.append(f"  and {len(self.identical) - _SHOWN} more; all of them with --json")
        lines += [
            f"subjects {', '.join(subjects)} share images: one group in every split"
            for subjects in self.merged_subjects[:_SHOWN]
        ]
        if len(self.merged_subjects) > _SHOWN:
            lines.append(f"and {len(self.merged_subjects) - _SHOWN} more groups of such subjects; all with --json")
        lines.append(self._groups_line())
        lines += self._leak_lines()
        lines += self.shortcuts.lines() if self.shortcuts else []
        lines += self.labels.lines() if self.labels else []
        lines += shift_lines(self.shifts)
        lines += [f"sources side by side in {self.sources_drawn}"] if self.sources_drawn is not None else []
        if self.overlays is not None:
            drawn = self.overlays
            lines.append(
                f"contours of {drawn.drawn} of {_many(drawn.images, 'image')} on "
                f"{_many(len(drawn.sheets), 'sheet')} in {drawn.folder}"
                + ("" if drawn.drawn == drawn.images else "; all of them with --set overlay_cells=0")
            )
        return lines

    @property
    def columns(self) -> list[str]:
        """What is known of the cells beside their paths, by the names of a table's columns."""
        attributes = {"mask": "mask_path"}
        names = ("label", "subject", "group", "fold", "mask", "um_per_px", "source", "subject_label")
        return [name for name in names if any(v is not None for v in self.dataset.each(attributes.get(name, name)))]

    @property
    def subject_classes(self) -> dict[str, int]:
        """Subjects by the label that they have themselves (``subject_label``)."""
        own = {(each.identity, each.subject_label) for each in self.dataset.samples if each.subject_label is not None}
        return _count(label for who, label in own if who is not None)

    def _groups_line(self) -> str:
        """How many groups a split deals, and what makes them."""
        marks = [
            ("subject", any(self.subjects)),
            ("the column group", any(group is not None for group in self.dataset.each("group"))),
            ("identical images", bool(self.identical) or self.files.several[0] > 0),
        ]
        made = [mark for mark, is_there in marks if is_there]
        by = f", by {' and '.join(made)}" if made else ": nothing says which images belong together"
        return f"{_many(self.groups, 'group')} that no split takes apart{by}"

    def _leak_lines(self) -> list[str]:
        leaks = []
        if self.subjects and self.leak["subjects"]:
            leaks.append(f"test {self.leak['test_share']:.0%} of them on a subject seen in training")
        if self.identical:
            leaks.append(f"part {_many(round(self.leak['identical_pairs']), 'pair')} of identical images")
        leak = " and ".join(leaks)
        return [f"a random {self.leak['folds']}-fold split of images would {leak}"] if leak else []

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``fusion inspect --json``."""
        return {
            "layout": self.dataset.layout,
            "columns": self.columns,
            "classes_from": _CLASSES_FROM.get(self.dataset.layout),
            "samples": len(self.dataset),
            "classes": self.classes,
            "subjects": self.subjects,
            "subject_classes": self.subject_classes,
            "folds": self.folds,
            "sources": self.sources,
            "identical": self.identical,
            "identical_across": self.across,
            "merged_subjects": self.merged_subjects,
            "groups": self.groups,
            "files": self.files.to_json(),
            "random_split": self.leak,
            "unreadable": [fault_row(fault, self.dataset.root) for fault in self.dataset.faults],
            "refused_masks": [fault_row(fault, self.dataset.root) for fault in self.files.faults],
            "overlays": self.overlays and self._overlays_to_json(self.overlays),
            "notes": list(self.dataset.notes),
            "public_datasets": [
                {**each.card.to_json(), "recognised_by": each.by, "images": each.images} for each in self.public
            ],
            **({"shortcuts": without_nan(self.shortcuts.to_json())} if self.shortcuts else {}),
            **({"labels": without_nan(self.labels.to_json())} if self.labels else {}),
            **({"shifts": without_nan([shift.to_json() for shift in self.shifts])} if self.shifts else {}),
            **({"sources_drawn": str(self.sources_drawn)} if self.sources_drawn is not None else {}),
        }

    def _overlays_to_json(self, overlays: Overlays) -> dict[str, Any]:
        return {
            "sheets": [str(path) for path in overlays.sheets],
            "drawn": overlays.drawn,
            "without_cell": [fault_row(fault, self.dataset.root) for fault in overlays.faults],
        }


@one_run_of
def inspect(config: InspectConfig, progress: Progress | None = None) -> Inspection:
    """Read every image of a data set once and say what is in it; draw contact sheets where they are asked for.

    Raises
    ------
    DatasetError : nothing that can be read.
    OverlayError : the sheets cannot be written.
    UsageError : a folder for an image of the sources, and no question about them.
    """
    _check_output(config)
    # All parts of a release, unless one was asked for: leaks between them are what one wants to know.
    part = config.part or ("all" if config.data.is_dir() else None)
    dataset = read_dataset(config.model_copy(update={"part": part}), progress)
    check_usable(len(dataset), dataset.faults)
    dataset = dataset.select(config.classes, config.folds, config.sources)
    samples = dataset.samples
    # Cells of one image that have a mask each are no copies of each other.
    same = [at for at in _identical(dataset.image_ids()) if len({samples[each].path for each in at}) > 1]
    names = dataset.names
    return Inspection(
        dataset=dataset,
        classes=_count(sample.label for sample in samples),
        subjects=_count(None if (who := sample.identity) is None else format_subject(who) for sample in samples),
        folds=_count(sample.fold for sample in samples),
        sources=_count(sample.source for sample in samples),
        identical=[[names[at] for at in members] for members in same],
        across=_across(samples, same),
        merged_subjects=merged_subjects(
            identities([s.subject for s in samples], [s.source for s in samples]), dataset.image_ids()
        ),
        leak=_leak(samples, dataset, config.splits),
        files=survey(dataset, _told(progress, "looking at files")),
        groups=len(set(dataset.groups().tolist())),
        overlays=_draw(config, dataset, progress),
        shortcuts=_shortcuts(config, dataset, progress),
        labels=_labels(config, dataset, progress),
        shifts=_shifts(config, dataset, progress),
        sources_drawn=_sources_drawn(config, dataset, progress),
        public=tuple(recognise(dataset)),
    )


def _check_output(config: InspectConfig) -> None:
    if config.output is not None and not (config.shift or config.labels):
        raise UsageError(
            "-o is for the sources side by side, or for labels", do="Add --shift or --labels, or take --overlays."
        )
    if config.labels is not None and config.output is None:
        raise UsageError("--labels writes a table to correct by", do="Say where: -o FOLDER.")


def _labels(config: InspectConfig, dataset: Dataset, progress: Progress | None) -> AuditedLabels | None:
    if config.labels is None or config.output is None:
        return None
    result = Result.load(config.labels)
    # Of anybody's scores with a row a subject nobody knows whether they are of its one cell: names tell.
    is_of_cells = result.command == "judge" and set(dataset.names).issuperset(result.cells.names)
    if result.judged == "subject" and not is_of_cells:
        from fusion.workflows.audits.patients import audit_patients  # learns; counting does not

        return audit_patients(result, dataset, config, config.output, progress)
    return audit_cells(result, config.labels, dataset, config.output, progress)


def _identical(images: Sequence[str]) -> list[list[int]]:
    """Positions of images with the same content, wherever there are several."""
    by_content: dict[str, list[int]] = {}
    for at, image in enumerate(images):
        by_content.setdefault(image, []).append(at)
    return [members for members in by_content.values() if len(members) > 1]


def _across(samples: Sequence[Sample], same: Sequence[Sequence[int]]) -> dict[str, int]:
    """How many groups of identical images span several subjects, folds, labels, and sources where any is named."""
    of: dict[str, Callable[[Sample], object]] = {"subjects": lambda sample: sample.identity}
    if any(sample.source for sample in samples):
        of["sources"] = lambda sample: sample.source
    of |= {"folds": lambda sample: sample.fold, "labels": lambda sample: sample.label}
    return {
        word: sum(len({asked(samples[at]) for at in members}) > 1 for members in same) for word, asked in of.items()
    }


def _shortcuts(config: InspectConfig, dataset: Dataset, progress: Progress | None) -> ShortcutAudit | None:
    if not config.audit:
        return None
    return audit_shortcuts(dataset, config.seed, config.jobs, _told(progress, "auditing"))


def _shifts(config: InspectConfig, dataset: Dataset, progress: Progress | None) -> tuple[Shift, ...]:
    if not config.shift:
        return ()
    extractors = [build_extractor(name) for name in HANDCRAFTED]
    found = extract(dataset, extractors, FeatureStore(config.store), jobs=config.jobs, progress=progress)
    return tuple(shifts(found.table, config.seed))


def _sources_drawn(config: InspectConfig, dataset: Dataset, progress: Progress | None) -> Path | None:
    if config.output is None or not config.shift:
        return None
    return draw_sources(dataset, config.output, seed=config.seed, progress=_told(progress))


def _told(progress: Progress | None, what: str = "drawing") -> Callable[[int, int, int], None]:
    def tell(done: int, total: int, faults: int) -> None:
        if progress is not None:
            progress(what, done, total, faults)

    return tell


def _draw(config: InspectConfig, dataset: Dataset, progress: Progress | None) -> Overlays | None:
    if config.overlays is None:
        return None
    return draw_dataset(
        dataset, config.overlays, limit=config.overlay_cells, seed=config.seed, progress=_told(progress)
    )


def _leak(samples: Sequence[Sample], dataset: Dataset, splits: int) -> dict[str, Any]:
    """What splitting images at random into ``splits`` equal folds would do.

    ``subjects``: groups of two or more labelled images, which will nearly all stand on both sides. ``test_share``:
    expected share of test images with an image of the same group in training, 1 - (1/k)**(m-1) for a group of m
    images (each of the others falls into the same fold with probability 1/k). ``identical_pairs``: expected number
    of identical pairs that are torn apart, a share 1 - 1/k of all.
    """
    groups = dataset.groups()
    labelled = [at for at, sample in enumerate(samples) if sample.label is not None]
    sizes = Counter(int(groups[at]) for at in labelled)
    content = Counter(samples[at].image_id for at in labelled if not samples[at].shares_image)
    pairs = sum(count * (count - 1) // 2 for count in content.values())
    exposed = sum(size * (1 - splits ** -(size - 1)) for size in sizes.values())
    return {
        "folds": splits,
        "subjects": sum(size > 1 for size in sizes.values()),
        "test_share": exposed / len(labelled) if labelled else 0.0,
        "identical_pairs": pairs * (1 - 1 / splits),
    }


def _counted(counts: dict[str, int]) -> str:
    """``all 24, hem 24``; of many names how many there are, and of how many images each."""
    if len(counts) <= _NAMED:
        return ", ".join(f"{name} {count}" for name, count in counts.items())
    numbers = sorted(counts.values())
    each = str(numbers[0]) if numbers[0] == numbers[-1] else f"{numbers[0]} to {numbers[-1]}"
    return f"{len(counts)} of {each} images, half of them of {numbers[len(numbers) // 2]} or more; all with --json"


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _count(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(value for value in values if value is not None).items(), key=lambda kv: _natural(kv[0])))


def _natural(name: str) -> tuple[str, int, str]:
    """Sort key that puts H2 before H10."""
    digits = "".join(character for character in name if character.isdigit())
    return name.rstrip("0123456789"), int(digits or 0), name
