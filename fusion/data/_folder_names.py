"""What folders are called that hold parts of a data set, people, sites, all images, or what was put aside."""

from __future__ import annotations

import re
from collections.abc import Sequence


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


_PARTS = {
    **dict.fromkeys(("train", "training", "trn", "entrenamiento", "treinamento", "treino", "addestramento"), "train"),
    **dict.fromkeys(("apprentissage", "entrainement", "обучение", "训练集"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "validacion", "validacao", "validazione"), "validation"),
    **dict.fromkeys(("validierung", "валидация", "验证集"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "eval", "evaluation", "prueba", "pruebas", "teste"), "test"),
    **dict.fromkeys(("тест", "测试集"), "test"),
}
#: What may stand behind the name of a part: train_images, TestA, training-set 2.
_OF_PART = re.compile(r"(?P<part>.+?)(images|imgs|data|daten|set|files|cells|samples|folder)?(\d|[ab])?")

FOLD = re.compile(r"(?:fold|cv|split)[ _-]*(?P<fold>\w+)", re.IGNORECASE)
OF_SUBJECTS = re.compile(
    r"(patients?|pat|pt|subjects?|subj|sub|cases?|donors?|person|proband)[ _-]*\w{0,12}|[ps][ _-]?\d+"
    r"|(paciente|paziente|patienten|pacjent|пациент|患者|病人)[ _-]*\w{0,12}",
    re.IGNORECASE,
)
OF_GROUPS = re.compile(
    r"(slides?|smear|sample|specimen|scan|wsi|group|praparat|probe|lame|frottis|muestra)[ _-]*\w{0,12}", re.IGNORECASE
)
OF_SOURCES = re.compile(
    r"(site|center|centre|hospital|lab|laboratory|clinic|scanner|batch|klinik|labor)[ _-]*\w{0,12}", re.IGNORECASE
)
#: Names of which no class has one: days, numbers that a program has drawn, and those of DICOM.
_DRAWN = re.compile(
    r"(19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d\w{0,9}|(?=.*\d)(?=.*[a-f])[0-9a-f]{7,}(-[0-9a-f]{4,})*|\d+(\.\d+){3,}",
    re.IGNORECASE,
)

CONTAINERS = _words(
    "images image img imgs pictures photos data dataset cells crops raw bmp png jpg tif tiff files input inputs",
    "original originals jpegimages jpeg bilder imagenes imagens immagini",
)
#: Images of the same cells once more, as programs call the folders that they put them into.
AGAIN = CONTAINERS | _words(
    "processed augmented aug normalized normalised overlay overlays enhanced preprocessed resized cropped grey gray",
    "contours output outputs results heatmaps predictions preview previews thumbnails thumbs labels annotations gt",
)
#: What a folder is called that was copied, or made out of another one.
_COPY = re.compile(
    r"(?:copy of |augmented |aug_)?(?P<name>.+?)(?:[ _-]+(?:copy|kopie|copie|old|new|backup|bak|aug|augmented|flipped"
    r"|rotated|resized|cropped|normali[sz]ed|processed|enhanced|synthetic|gan|v\d+)| ?\(\d+\))*( \d+)?",
    re.IGNORECASE,
)
ASIDE = _words(
    "unlabeled unlabelled unsorted excluded discarded rejected trash todo tmp temp backup old figures plots docs",
    "screenshots logs notebooks scripts venv thumbnails thumbs previews heatmaps overlays predictions annotations",
)


def part_of(name: str) -> str | None:
    """The part of a data set that a folder of this name is, None for none."""
    match = _OF_PART.fullmatch(bare(name))
    return _PARTS.get(bare(name)) or (_PARTS.get(match["part"]) if match else None)


def is_part(name: str) -> bool:
    """Whether it is called like a part of a data set, or like a fold of one."""
    return part_of(name) is not None or (FOLD.fullmatch(name) is not None and re.search(r"\d", name) is not None)


def is_someone(name: str) -> bool:
    """Whether it is called like a person, a slide or a site."""
    return any(p.fullmatch(name) and re.search(r"\d", name) for p in (OF_SUBJECTS, OF_GROUPS, OF_SOURCES))


def are_numbers(names: Sequence[str]) -> bool:
    """Whether they are numbers, and none that classes are counted by: 0, 1, 2 or 1, 2, 3."""
    if not names or not all(name.isdecimal() for name in names):
        return False
    numbers = sorted(map(int, names))
    is_padded = any(len(name) > 1 and name[0] == "0" for name in names)
    return is_padded or numbers[0] > 1 or numbers != list(range(numbers[0], numbers[0] + len(numbers)))


def are_drawn(names: Sequence[str]) -> bool:
    """Whether they are days, or ids that a program has drawn."""
    return len(names) > 1 and all(_DRAWN.fullmatch(name) for name in names)


def is_copy(top: str, tops: Sequence[str]) -> bool:
    """Whether it is called like something made out of another of these folders."""
    match = _COPY.fullmatch(top)
    return match is not None and match["name"] != top and match["name"] in tops


def bare(name: str) -> str:
    """Letters and digits alone, lower-case."""
    return re.sub(r"[\W_]", "", name.lower())
