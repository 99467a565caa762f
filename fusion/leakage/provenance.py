"""What a model or a network has been trained on, as hashes that travel with it; and refusing to judge it on that.

The same image and a subject of the same name are two findings: an image is the same wherever it is met, a name is the
same person only where both are of one source. Who says that his cells are another cohort is believed about the names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from fusion.data.dataset import Dataset, Sample
from fusion.data.subjects import format_subject, recognises, remembered
from fusion.leakage.encoders import contamination_stamps
from fusion.leakage.grouped_splits import LeakageError
from fusion.plugins.extractors import HasDoubts, HasEncoder, HasProvenance

#: Hexadecimal digits of an image's hash that are kept: no two images of the world will meet in 128 bits.
_DIGITS = 32


@dataclass(frozen=True)
class Provenance:
    """Hashes of what was trained on; no id of a subject or group is kept.

    Attributes
    ----------
    images, pixels : of the images' bytes, and of their decoded pixels where these tell them (see
        ``fusion.images.decoding.pixel_key``).
    subjects, groups : see ``fusion.data.subjects.remembered``.
    perceptual : perceptual hashes of the images, where near-duplicates were looked for; see
        ``fusion.leakage.near_duplicates``.
    """

    images: frozenset[str] = frozenset()
    pixels: frozenset[str] = frozenset()
    subjects: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    perceptual: frozenset[str] = frozenset()

    @classmethod
    def of(cls, samples: Iterable[Sample], perceptual: Iterable[str] = ()) -> Self:
        """The provenance of a model that learns from these samples."""
        images, pixels, subjects, groups = set(), set(), set(), set()
        for sample in samples:
            images.add(sample.image_key[:_DIGITS])
            pixels |= {sample.pixel_key[:_DIGITS]} if sample.pixel_key is not None else set()
            subjects |= remembered(sample.subject, sample.source)
            groups |= remembered(sample.group, sample.source)
        return cls(*map(frozenset, (images, pixels, subjects, groups, perceptual)))

    @classmethod
    def from_json(cls, values: Mapping[str, Sequence[str]]) -> Self:
        """From ``to_json``; what an earlier version has not kept is empty."""
        return cls(*(frozenset(values.get(name, ())) for name in cls.__dataclass_fields__))

    def to_json(self) -> dict[str, list[str]]:
        """Plain values, sorted."""
        return {name: sorted(getattr(self, name)) for name in self.__dataclass_fields__}

    def has_image(self, *keys: str | None) -> bool:
        """Whether an image with any of these hashes, of bytes or of pixels, was trained on."""
        short = {key[:_DIGITS] for key in keys if key is not None}
        return not (short.isdisjoint(self.images) and short.isdisjoint(self.pixels))

    def has_name(self, sample: Sample, *, declared: bool = False) -> bool:
        """Whether its subject or its group was trained on, as far as names tell; see ``recognises``."""
        return recognises(self.subjects, sample.subject, sample.source, declared=declared) or recognises(
            self.groups, sample.group, sample.source, declared=declared
        )


@dataclass(frozen=True)
class Cohort:
    """What is said of the people in a data set, beside what its table says.

    Attributes
    ----------
    is_other : none of them was trained on, whatever they are called.
    declared : the source of all cells that name none, None where nothing is said: one that is not the source of
        training is another one, even where training named none.
    """

    is_other: bool = False
    declared: str | None = None


@dataclass(frozen=True)
class Overlap:
    """Positions of the samples of a data set that were trained on.

    Attributes
    ----------
    images : their image was.
    names : their image was not, but a subject or group of that name.
    rows : both of these, and what shares a group with them, ascending.
    nearly : how many of ``images`` are not the same image as one trained on, but a near-duplicate.
    """

    images: tuple[int, ...] = ()
    names: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    nearly: int = 0

    def with_near(self, near: Sequence[int], dataset: Dataset) -> Overlap:
        """The same with the samples whose image is nearly one that was trained on, itself among them or not."""
        more = set(near) - set(self.images)
        if not more:
            return self
        names = [at for at in self.names if at not in more]
        return replace(_overlap(sorted({*self.images, *more}), names, dataset), nearly=len(more))

    def stamp(self, who: str) -> str:
        """What must be read with figures on these samples."""
        if self.images:
            return f"leaky: {who} was trained on {len(self.rows)} of these images or on their subjects"
        return f"leaky: {who} was trained on subjects or groups of the same names as {len(self.rows)} of these images"


def trained_on(samples: Iterable[Sample]) -> dict[str, list[str]]:
    """``Provenance`` of these samples as plain values, for what keeps it with its weights."""
    return Provenance.of(samples).to_json()


def find_overlap(provenance: Provenance, dataset: Dataset, cohort: Cohort | None = None) -> Overlap:
    """Samples whose image, subject or group was trained on, or that share a group with one.

    A group is what must not stand on both sides of a split: a subject, and all subjects that share an image with it.
    """
    cohort = cohort or Cohort()
    images, names = [], []
    for at, sample in enumerate(dataset.samples):
        if provenance.has_image(sample.image_key, sample.pixel_key):
            images.append(at)
        elif not cohort.is_other:
            is_declared = cohort.declared is not None and sample.source == cohort.declared
            if provenance.has_name(sample, declared=is_declared):
                names.append(at)
    return _overlap(images, names, dataset)


def _overlap(images: Sequence[int], names: Sequence[int], dataset: Dataset) -> Overlap:
    if not images and not names:
        return Overlap()
    numbers = dataset.groups()
    tainted = set(numbers[[*images, *names]].tolist())
    rows = tuple(at for at, number in enumerate(numbers.tolist()) if number in tainted)
    return Overlap(tuple(images), tuple(names), rows)


def cohort_notes(provenance: Provenance, dataset: Dataset, cohort: Cohort) -> list[str]:
    """What was believed about people whose names are those of training; none where there are none."""
    if not cohort.is_other and cohort.declared is None:
        return []
    learnt = find_overlap(provenance, dataset).names
    kept = set(find_overlap(provenance, dataset, cohort).names)
    if not (others := [at for at in learnt if at not in kept]):
        return []
    said = "--other-cohort" if cohort.is_other else f"source {cohort.declared}"
    return [
        f"Taken for other people than those of training, as {said} says, though their names are the same: "
        f"{_names(dataset, others)} ({len(others)} images)."
    ]


def training_overlap(provenance: Mapping[str, Sequence[str]], dataset: Dataset) -> list[int]:
    """``Overlap.rows`` for provenance as plain values."""
    return list(find_overlap(Provenance.from_json(provenance), dataset).rows)


def refusal(who: str, overlap: Overlap, dataset: Dataset) -> LeakageError:
    """The error that says what ``who`` was trained on: images, or subjects of the same names."""
    leave = "Take other subjects (--folds), or say --allow-leakage and have it stamped on the result."
    named = [dataset.name_of(dataset.samples[at]) for at in (overlap.images or overlap.names)[:3]]
    subjects = _names(dataset, overlap.rows if overlap.images else overlap.names)
    if overlap.images:
        return LeakageError(
            f"{who} was trained on cells of this data set",
            found=f"{len(overlap.rows)} of {len(dataset)} images: "
            f"{len(overlap.images) - overlap.nearly} are the same image"
            + (f", {overlap.nearly} nearly the same" if overlap.nearly else "")
            + f", such as {', '.join(named)}"
            + (f"; {subjects}" if subjects else ""),
            do=leave,
        )
    return LeakageError(
        f"{who} was trained on subjects or groups of the same names as here; no image is the same",
        found=f"{subjects}, of {len(overlap.names)} images, such as {', '.join(named)}",
        expected="other people under other names, or a source that tells them apart",
        do="If they are other people of the same names, say --other-cohort, or name their source, --source NAME. "
        f"If they are the same: {leave[0].lower()}{leave[1:]}",
    )


def check_unseen(
    learners: Sequence[tuple[str, object]], dataset: Dataset, *, allow: bool, cohort: Cohort | None = None
) -> list[str]:
    """Stamps for a result on this data set; none where nothing has learnt from its cells or subjects.

    Extractors and classifiers that have learnt before say from what by a method ``provenance``.

    Parameters
    ----------
    learners : each with its name: of the block, or of the classifier.
    cohort : what is said of the people in the data set.

    Raises
    ------
    LeakageError : one has, and ``allow`` is off.
    """
    stamps = [
        f"block '{name}': {doubts}"
        for name, learner in learners
        if isinstance(learner, HasDoubts) and (doubts := learner.doubts(dataset))
    ]
    for name, learner in learners:
        known = learner.encoder() if isinstance(learner, HasEncoder) else None
        stamps += contamination_stamps(name, known, dataset) if known is not None else []
    for name, learner in learners:
        stored = learner.provenance() if isinstance(learner, HasProvenance) else None
        overlap = find_overlap(Provenance.from_json(stored), dataset, cohort) if stored else Overlap()
        if not overlap.rows:
            continue
        if not allow:
            raise refusal(f"the network behind '{name}'", overlap, dataset)
        stamps.append(overlap.stamp(f"the network behind '{name}'"))
    return stamps


def _names(dataset: Dataset, rows: Sequence[int]) -> str:
    """``subjects 1, 3``, and groups where there are some; the first five of each."""
    samples = [dataset.samples[at] for at in rows]
    listed = []
    for word, names in (
        ("subjects", {format_subject(who) for sample in samples if (who := sample.identity) is not None}),
        ("groups", {sample.group for sample in samples if sample.group is not None}),
    ):
        if names:
            first = sorted(map(str, names))[:5]
            listed.append(f"{word} {', '.join(first)}{', ...' if len(names) > 5 else ''}")
    return "; ".join(listed)
