"""The register of encoders, and the guard against contamination: what a pretrained network may have met before.

A network that was pretrained on the images it is judged on has an advantage that no split takes away. Self-supervised
pretraining sees no labels, and still the embedding is made for these very images.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from fusion.data.dataset import Dataset
from fusion.data.registers.public_datasets import Recognition, recognise
from fusion.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Encoder:
    """A pretrained network that has a short name.

    Attributes
    ----------
    name : in the register.
    backbone : as ``--backbone`` takes it: a timm model with its tag, or a repository of the hub.
    millions : parameters.
    size : side in pixels of its images.
    licence : of the weights.
    pretrained_on : in words.
    met : public data sets (``fusion datasets``) that its makers name as what it learnt from.
    sure : whether that list is whole, as far as its source says.
    source : paper.
    judged : public data sets on which its makers judged it, and by which they may have chosen how it was made.
    blood : whether it was pretrained on images of blood.
    remark : what else is known of its pretraining.
    unverified : facts above that were not read at their source.
    """

    name: str
    backbone: str
    millions: int
    size: int
    licence: str
    pretrained_on: str
    met: tuple[str, ...]
    sure: bool
    source: str
    judged: tuple[str, ...] = ()
    blood: bool = False
    remark: str = ""
    unverified: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """Its name without the size: all sizes have met the same."""
        return self.name.rpartition("-")[0] or self.name

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}


@functools.cache
def encoders() -> Mapping[str, Encoder]:
    """The register: name -> encoder."""
    text = resources.files("fusion.leakage").joinpath("encoders.yaml").read_text(encoding="utf-8")
    stated = yaml.safe_load(text)
    families = stated.pop("families")
    found = {}
    for name, values in stated.items():
        family = families.get(values.pop("like", None), {})
        whole: dict[str, Any] = {**family, **values}
        whole["unverified"] = [*family.get("unverified", []), *values.get("unverified", [])]
        listed: dict[str, Any] = {key: tuple(value) for key, value in whole.items() if isinstance(value, list)}
        found[name] = Encoder(name, **{**whole, **listed})
    return found


def encoder(name: str) -> Encoder:
    """An encoder by name; UsageError for a name that is not in the register."""
    known = encoders()
    if name not in known:
        raise UsageError(
            f"no encoder '{name}' in the register", expected=", ".join(known), do=did_you_mean(name, known)
        )
    return known[name]


def encoder_of(*hints: str | None) -> str | None:
    """Which encoder a network is, by what is said of it: a name of the register, its backbone, or a file or folder that
    is called after a family. None where nothing is recognised."""
    for hint in hints:
        if not hint:
            continue
        for each in encoders().values():
            if hint in (each.name, each.backbone, each.backbone.removeprefix("hf-hub:")):
                return each.name
    for hint in hints:
        for family in ("dinobloom", "reddino"):
            if hint and family in hint.lower():
                return f"{family}-s"
    return None


def contamination_stamps(block: str, name: str, dataset: Dataset) -> list[str]:
    """What must be read with figures of an encoder's features on these images; none where there is nothing to fear.

    Parameters
    ----------
    block : name of the block, or of the classifier, that the encoder is behind.
    name : of the encoder.
    dataset : the images that are judged.
    """
    one = encoder(name)
    found = recognise(dataset)
    reasons: dict[str, list[Recognition]] = {}
    for each in found:
        if each.card.name in one.met:
            reasons.setdefault("which its makers name", []).append(each)
        elif each.card.name in one.judged:
            reasons.setdefault("on which its makers judged it as they made it", []).append(each)
        elif one.blood and not one.sure:
            reasons.setdefault("which may be among them", []).append(each)
    if one.blood and not one.sure and not found:
        return [
            f"contamination unknown: block '{block}' is {one.family}, pretrained on {one.pretrained_on}; nothing says "
            "whether these cells are public (dataset: NAME, see fusion datasets)"
        ]
    return [_stamp(block, one, some, how) for how, some in reasons.items()]


def _stamp(block: str, one: Encoder, found: Sequence[Recognition], how: str) -> str:
    which = ", ".join(f"{each.card.name} ({_BY[each.by]})" for each in found)
    smallest = next(each.name for each in encoders().values() if each.family == one.family)
    return (
        f"contamination possible: block '{block}' is {one.family}, pretrained on {one.pretrained_on}, and these cells "
        f"are of {which}, {how} [{one.source}; fusion encoders {smallest}]"
    )


#: How a data set was recognised.
_BY = {"declared": "as declared", "content": "by the content of its images", "names": "by the names of its files"}
