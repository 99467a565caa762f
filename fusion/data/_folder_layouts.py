"""What the folders above images mean: classes, folds, subjects, containers, or nothing that can be certain.

A layout is a list of roles, one a level: ``label``, or ``fold/label``. Where the folders themselves say one, it is
taken; where more than one can be meant, the run stops and shows them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.data._dataset_error import DatasetError
from fusion.data._folder_names import (
    AGAIN,
    ASIDE,
    CONTAINERS,
    FOLD,
    OF_GROUPS,
    OF_SOURCES,
    OF_SUBJECTS,
    are_drawn,
    are_numbers,
    bare,
    is_copy,
    is_part,
    is_someone,
    part_of,
)
from fusion.io.files import printable

#: What a level of folders can be: columns of a table, or nothing.
ROLES = ("label", "subject", "group", "source", "fold", "-")

#: Folders from the data set down to an image, the first one first.
Place = tuple[str, ...]

_COUNTED = re.compile(r"(\D*)(\d{1,7})")
#: More classes than this whose names are numbers are people or slides.
_NUMBERED = 20
_SHOWN = 4


@dataclass(frozen=True)
class Layout:
    """Roles of the levels of folders, and what should be known about them."""

    roles: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the data set is called: images have labels by it, or none."""
        return "class folders" if "label" in self.roles else "folder"

    def facts(self, place: Place) -> dict[str, Any]:
        """What the folders above an image say of it, by the fields of ``Listed``."""
        found: dict[str, Any] = {role: name for role, name in zip(self.roles, place, strict=False) if role != "-"}
        if fold := found.get("fold"):
            match = FOLD.fullmatch(fold)
            found["fold"] = match["fold"] if match else fold
            if part := part_of(fold):
                found["part"] = part
        return found


class Unclear(DatasetError):
    """The folders can mean more than one thing."""


def parse_layout(text: str) -> tuple[str, ...]:
    """The roles that ``folders`` names: ``subject/label``; "none" is no role at all.

    Raises
    ------
    DatasetError : a role that there is not, or one twice.
    """
    roles = () if text == "none" else tuple(role.strip() for role in text.split("/"))
    named = [role for role in roles if role != "-"]
    strange = [role for role in named if role not in ROLES]
    if strange or len(set(named)) < len(named):
        raise DatasetError(
            f"--folders {text}",
            found=f"'{strange[0]}'" if strange else "one of them twice",
            expected=f"none, or one of {', '.join(ROLES)} for each level of folders, as in subject/label",
        )
    return roles


def find_layout(root: Path, folders: Mapping[Place, int], said: str | None, table: Path | None) -> Layout:
    """What the folders mean.

    Parameters
    ----------
    root : for messages.
    folders : number of images right in each folder.
    said : as the user says it; None where the folders are to tell.
    table : a table that lies among them, and may say it better.

    Raises
    ------
    Unclear : more than one reading is possible; the message shows them.
    DatasetError : images both beside and inside the folders, or roles that do not fit.
    """
    if said is not None:
        roles = parse_layout(said)
        deepest = max(map(len, folders))
        if len(roles) > deepest:
            raise DatasetError(
                f"--folders {said} names more levels than {root} has", found=str(deepest), expected=str(len(roles))
            )
        return Layout(roles)
    if set(folders) == {()}:
        return Layout(())
    if () in folders:
        raise DatasetError(
            f"images both beside and inside the class folders of {root}",
            found=f"{folders[()]} loose, beside {_listed({place[0] for place in folders if place})}",
            do="Move them into a class folder, list the images in a table, or say what the folders are: "
            "--folders label, or --folders none.",
        )
    return _layout_from_names(root, folders, table)


def _layout_from_names(root: Path, folders: Mapping[Place, int], table: Path | None) -> Layout:
    tops = sorted({place[0] for place in folders})
    if len(tops) == 1 and bare(tops[0]) in CONTAINERS:
        below = {place[1:]: count for place, count in folders.items()}
        if set(below) == {()}:
            return Layout(("-",), (f"{tops[0]} is taken for a folder of images, not for a class.",))
        if () not in below:
            inner = _layout_from_names(root / tops[0], below, table)
            note = f"{tops[0]} is the only folder of {root}: the folders in it are read as {'/'.join(inner.roles)}."
            return Layout(("-", *inner.roles), (note, *inner.notes))
    filled = _filled_folders(tops, folders)
    if all(map(is_part, tops)) and not filled and _are_classes(folders):
        return Layout(("fold", "label"), (f"{_listed(tops)} are read as folds, the folders in them as classes.",))
    why = _order_of_files(tops) or _origin_of_cells(tops) or _hollow_folders(tops, filled)
    if why:
        raise _unclear(root, folders, why, table)
    deep = sorted({"/".join(place) for place in folders if len(place) > 1})
    note = f"folders inside class folders are part of their class: {_listed(deep)}."
    return Layout(("label",), (note,) if deep else ())


def _filled_folders(tops: Iterable[str], folders: Mapping[Place, int]) -> set[str]:
    """Those of the uppermost folders that hold images themselves, or in one folder that is there for nothing else."""
    # all/images/1.png is an image of all: nothing else is there.
    inside = {top: {place[1:] for place in folders if place[0] == top} for top in tops}
    return {
        top
        for top, below in inside.items()
        if () in below or (len(below) == 1 and all(len(place) == 1 and bare(place[0]) in CONTAINERS for place in below))
    }


def _are_classes(folders: Mapping[Place, int]) -> bool:
    """Whether the second level is one of classes: the same names below several folders, and none that means more."""
    below: dict[str, set[str]] = {}
    for place in folders:
        below.setdefault(place[0], set()).add(place[1])
    names = set().union(*below.values())
    plain = not any(is_part(name) or bare(name) in AGAIN or is_someone(name) for name in names)
    shared = set.intersection(*below.values())
    holds = all(place[:2] in folders for place in folders)
    return plain and holds and len(names) > 1 and bool(shared)


def check_not_mirrored(
    root: Path,
    stems: Mapping[str, Sequence[str]],
    are_masks: Mapping[str, bool],
    table: Path | None,
    folders: Mapping[Place, int],
) -> None:
    """Refuse classes that hold the same images twice, as images and their masks or as images before and after a step.

    Parameters
    ----------
    stems : of every class its files' names, without endings.
    are_masks : of every class whether some of its files are of two or three grey levels, as masks are.

    Raises
    ------
    Unclear : two of them have the same names, and these or the images say that they are no two classes.
    """
    names = sorted(stems)
    sets = {name: set(stems[name]) for name in names}
    for at, one in enumerate(names):
        for other in names[at + 1 :]:
            shared = sets[one] & sets[other]
            if len(shared) < 2 or len(shared) < 0.8 * min(len(sets[one]), len(sets[other])):
                continue
            again = {bare(one), bare(other)} & AGAIN
            differ = are_masks.get(one, False) != are_masks.get(other, False)
            if again or differ or not _is_counted(shared):
                why = f"{one} and {other} have {len(shared)} file names in common, such as {printable(min(shared))}"
                raise _unclear(root, folders, why, table)


def _is_counted(stems: Iterable[str]) -> bool:
    """Whether names are those of a counter, which begins anew in every folder."""
    matches = [_COUNTED.fullmatch(stem) for stem in stems]
    if any(match is None for match in matches):
        return False
    prefixes = {match[1] for match in matches if match}
    numbers = [int(match[2]) for match in matches if match]
    return len(prefixes) == 1 and max(numbers) - min(numbers) < 2 * len(numbers)


# ---- why the uppermost folders may not be classes, "" where nothing speaks against it --------------------------------


def _order_of_files(tops: Sequence[str]) -> str:
    """They are called like what keeps files in order: parts of a data set, copies, containers."""
    if parts := [top for top in tops if is_part(top)]:
        return f"{_listed(parts)} are called like parts of a data set, not like classes"
    if aside := [top for top in tops if bare(top) in ASIDE or is_copy(top, tops)]:
        return f"{_listed(aside)} is called like what was copied or put aside, not like a class"
    if len(tops) > 1 and (plain := [top for top in tops if bare(top) in CONTAINERS]):
        return f"{_listed(plain)} is called like a folder of all images, not like a class"
    return ""


def _origin_of_cells(tops: Sequence[str]) -> str:
    """They are called like what cells come from: people, slides, sites, or many numbers."""
    for pattern, what in ((OF_SUBJECTS, "people"), (OF_GROUPS, "slides"), (OF_SOURCES, "sites")):
        like = [top for top in tops if pattern.fullmatch(top) and re.search(r"\d", top)]
        if like and (what == "people" or len(like) * 2 >= len(tops)):
            return f"{_listed(like)} are called like {what}, not like classes"
    if are_numbers(tops) or (len(tops) > _NUMBERED and all(top.isdigit() for top in tops)):
        return f"{_listed(tops)} are numbers, as people and slides have them"
    if are_drawn(tops):
        return f"{_listed(tops)} are days or ids, as people and slides have them"
    return ""


def _hollow_folders(tops: Sequence[str], filled: set[str]) -> str:
    hollow = [top for top in tops if top not in filled]
    return f"{_listed(hollow)} {'hold' if len(hollow) > 1 else 'holds'} no image, but folders" if hollow else ""


# ---- messages -------------------------------------------------------------------------------------------------------


def _unclear(root: Path, folders: Mapping[Place, int], why: str, table: Path | None) -> Unclear:
    readings = [f"--folders {'/'.join(roles) or 'none'} ({_meaning(roles, folders)})" for roles in _readings(folders)]
    use = f"{table} lists images too: give it as DATA. Or say" if table is not None else "Say"
    return Unclear(
        f"what the folders of {root} mean is not certain",
        found=why,
        expected="one level of folders that hold images, each a class",
        do=f"{use} which is meant: {', or '.join(readings)}. For - there may be subject, group, source or fold.",
    )


def _readings(folders: Mapping[Place, int]) -> list[tuple[str, ...]]:
    """The roles that are possible, the likeliest first."""
    levels = [sorted({place[at] for place in folders if len(place) > at}) for at in range(max(map(len, folders)))]
    likely = _likely_roles(levels)
    free = [at for at, role in enumerate(likely) if not role]
    if free:
        # A level of classes has few names, which come again below all others.
        best = min(free, key=lambda at: (len(levels[at]) < 2, len(levels[at]), at))
        likely = ["label" if at == best else role or "-" for at, role in enumerate(likely)]
    nested = [["label", "subject"]] if _are_someones(folders) else []
    found = [*nested, likely, ["label"], ["-", "label"] if len(levels) > 1 else []]
    return list(dict.fromkeys(map(_without_blank_end, found)))[:3]


def _are_someones(folders: Mapping[Place, int]) -> bool:
    """Whether the second of two levels may be people, each of one class: more names than there are above them, nearly
    all of them below one alone."""
    if any(len(place) != 2 for place in folders):
        return False
    tops, below = {place[0] for place in folders}, {place[1] for place in folders}
    return 2 * len(tops) <= len(below) and len(folders) <= 1.2 * len(below)


def _likely_roles(levels: Sequence[Sequence[str]]) -> list[str]:
    """The role that each level's names tell, every role once; "" where they tell none."""
    likely: list[str] = []
    for names in levels:
        role = _role_of(names)
        likely.append("" if role in likely and role != "-" else role)
    return likely


def _without_blank_end(roles: Sequence[str]) -> tuple[str, ...]:
    end = max((at for at, role in enumerate(roles, 1) if role != "-"), default=0)
    return tuple(roles[:end])


def _role_of(names: Sequence[str]) -> str:
    """The role that the names of a level tell; "" where they tell none."""
    if all(map(is_part, names)):
        return "fold"
    for pattern, role in ((OF_SUBJECTS, "subject"), (OF_GROUPS, "group"), (OF_SOURCES, "source")):
        if sum(bool(pattern.fullmatch(name) and re.search(r"\d", name)) for name in names) * 2 >= len(names):
            return role
    return "-" if all(bare(name) in AGAIN for name in names) else ""


def _meaning(roles: Sequence[str], folders: Mapping[Place, int]) -> str:
    """``classes all, hem; 3 subjects``."""
    said = []
    for at, role in enumerate(roles):
        names = Counter(place[at] for place in folders if len(place) > at)
        if role == "label":
            said.append(f"{'classes' if len(names) > 1 else 'class'} {_listed(sorted(names))}")
        elif role != "-":
            said.append(f"{len(names)} {role}{'s' if len(names) > 1 else ''}")
    return "; ".join(said) or "no labels"


def _listed(names: Iterable[str]) -> str:
    every = [printable(name) for name in sorted(names)]
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
