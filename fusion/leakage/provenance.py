"""What a network has been trained on, as hashes that travel with its weights; and refusing to judge it on that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusion.data.dataset import Dataset, Sample
from fusion.data.subjects import recognises, remembered
from fusion.io.files import sha256
from fusion.leakage.grouped_splits import LeakageError
from fusion.plugins import HasProvenance

#: Hexadecimal digits of an image's hash that are kept: no two images of the world will meet in 128 bits.
_DIGITS = 32


def trained_on(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """Hashes of the images, subjects and other groups of these samples, sorted; no id of a subject is kept."""
    return {
        "images": sorted({sample.image_key[:_DIGITS] for sample in samples}),
        "subjects": sorted(
            {
                one
                for sample in samples
                if sample.subject is not None
                for one in remembered(sample.subject, sample.source)
            }
        ),
        "groups": sorted({_group_hash(sample.group) for sample in samples if sample.group is not None}),
    }


def training_overlap(provenance: Mapping[str, Sequence[str]], dataset: Dataset) -> list[int]:
    """Positions of samples whose image, subject or group was trained on, or that share a group with one.

    A group is what must not stand on both sides of a split: a subject, and all subjects that share an image with it.
    """
    images, subjects, groups = (set(provenance.get(name, ())) for name in ("images", "subjects", "groups"))
    numbers = dataset.groups()
    tainted = {
        number
        for number, sample in zip(numbers, dataset.samples, strict=True)
        if sample.image_key[:_DIGITS] in images
        or recognises(subjects, sample.subject, sample.source)
        or (sample.group is not None and _group_hash(sample.group) in groups)
    }
    return [at for at, number in enumerate(numbers) if number in tainted]


def check_unseen(learners: Sequence[tuple[str, Any]], dataset: Dataset, *, allow: bool) -> list[str]:
    """Stamps for a result on this data set; none where nothing has learnt from its cells or subjects.

    Extractors and classifiers that have learnt before say from what by a method ``provenance``.

    Parameters
    ----------
    learners : each with its name: of the block, or of the classifier.

    Raises
    ------
    LeakageError : one has, and ``allow`` is off.
    """
    stamps = []
    for name, learner in learners:
        stored = learner.provenance() if isinstance(learner, HasProvenance) else None
        overlap = training_overlap(stored, dataset) if stored else []
        if not overlap:
            continue
        if not allow:
            raise LeakageError(
                f"the network behind '{name}' was trained on cells of this data set",
                found=f"{len(overlap)} of {len(dataset)} images, such as "
                + ", ".join(dataset.name_of(dataset.samples[at]) for at in overlap[:3]),
                do="Take other weights or other subjects (--folds), or say --allow-leakage and have it stamped.",
            )
        stamps.append(
            f"leaky: the network behind '{name}' was trained on {len(overlap)} of these images or on their subjects"
        )
    return stamps


def _group_hash(group: str) -> str:
    return sha256(f"fusion group {group}".encode())[:16]
