"""What the name of a table's column says that it is, in the languages and spellings that hospitals write.

No list is complete. What no list has is still named as not used; and an id of any kind that comes again and again, as
no id of an image does, is asked about whatever it is an id of.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

#: What a column can be, by the name that it has or that ``columns`` gives it.
COLUMNS = ("path", "label", "subject", "group", "fold", "mask", "um_per_px", "source", "subject_label")


def _plain(name: str) -> str:
    """Letters without their accents, ``µ`` as ``u``."""
    plain = unicodedata.normalize("NFKD", name.replace("µ", "u").replace("μ", "u"))
    return "".join(character for character in plain if not unicodedata.combining(character))


def _words(*lines: str) -> list[str]:
    return [_plain(word).lower() for line in lines for word in line.split()]


_WORDS_OF = {
    "subject": _words(
        "subject subj patient pat patients pts donor case person individual participant proband volunteer mrn pid ptid",
        "medicalrecord medrec mrn animal mouse rat dog child infant kid newborn hospitalno hospitalnumber",
        "patienten patientin patientinnen fall spender probandin",  # German
        "sujet malade donneur dossier patiente individu",  # French
        "paciente caso donante sujeto individuo",  # Spanish
        "paziente donatore soggetto",  # Italian
        "doente utente doador sujeito",  # Portuguese
        "patiënt pasient pasientnummer pasjent deltaker potilas pacjent pacient beteg paciens hasta pasien",
        "ασθενης асеннис пациент пациентка больной пацієнт хворий пацијент",
        "患者 病人 病例 病案 住院 症例 被験者 受试者 환자 대상자 مريض المريض रोगी ผู้ป่วย benhnhan חולה",
    ),
    "group": _words(
        "group grp slide smear specimen sample biopsy accession wsi tissue aspirate studyinstance seriesinstance",
        "praparat objekttrager ausstrich probe proben",  # German
        "lame frottis echantillon prelevement",  # French
        "muestra frotis portaobjetos laminilla",  # Spanish
        "campione vetrino striscio",  # Italian
        "amostra esfregaco lamina",  # Portuguese
        "monster preparaat uitstrijkje prove naytelasi probka szkielko vzorek minta ornek",
        "образец стекло мазок зразок",
        "样本 標本 检体 検体 切片 玻片 涂片 슬라이드 검체",
    ),
    "label": _words("label class", "标签 类别 ラベル クラス 레이블 라벨 метка класс мітка клас"),
    "source": _words(
        "source site center centre hospital clinic lab laboratory institution institute",
        "klinik krankenhaus labor standort klinikum",
        "hopital laboratoire laboratorio ospedale centro clinica sykehus ziekenhuis szpital",
        "医院 병원 больница лаборатория",
    ),
    "fold": _words("fold cvfold kfold"),
    "mask": _words("mask maske masque mascara maschera"),
    "path": _words(
        "path file filename filepath image img picture photo imagepath imagefile imagename imgpath",
        "pfad datei dateiname bild bilddatei chemin fichier ruta archivo imagen percorso caminho arquivo imagem",
    ),
}
#: Word -> what a column of this name looks like.
_LOOKS = {word: role for role, words in _WORDS_OF.items() for word in words}
#: What may be beside such a word in a name, and changes nothing.
_BESIDE = frozenset(
    _words("id ids no nr num number name names code key uid uuid hash pseudonym pseudo anon anonymized anonymised"),
).union(
    _words("identifier identificador identifiant identificativo numero nummer num n kennung nro номер 编号 号 番号")
)
_BESIDE_PATHS = frozenset(["path", "file", "filename", "image", "img"])
#: Ends of a name written as one word that change nothing either.
_ENDS = re.compile(r"(ids?|no|nr|num|number|nummer|numero|names?|code|identifier|kennung)$")
#: A column of one of these names looks like the label only where there is no other.
_LOOSE_LABELS = frozenset(
    _words(
        "diagnosis target category celltype type truth groundtruth outcome dx annotation y cls gt tag diagnose",
        "klasse zelltyp classe clase etiquette etiqueta etichetta rotulo diagnostico diagnostic diagnosi klasa trida",
        "diagnostique luokka sinif typcellule tipocelular tipocelula diagnoz диагноз 诊断 診断 진단",
    )
)
_SPLITS = frozenset(["split", "partition", "subset", "set", "phase"])
_SPLIT_VALUES = frozenset(
    ["train", "training", "trn", "test", "testing", "tst", "val", "valid", "validation", "dev", "holdout", "eval"]
)
#: Columns that are masks where their values are names of images.
_DRAWN = frozenset(_words("seg segm segmentation segmentations annotation roi contour gt groundtruth outline overlay"))
_MICROMETRES = re.compile(r"(um|mu|micron|micrometer|micrometre)s?(per|/)?(px|pixel|pix)s?|mpp|(pixel|px)size\w{0,12}")
#: What comes again and again by id and says nothing of where a cell is from.
_NO_ORIGIN = frozenset(
    _words(
        "image img picture photo file row cell nucleus object crop patch tile box bbox region roi contour instance",
        "annotator annotation labeler labeller rater reader expert user observer reviewer operator author",
        "stain dye scanner device camera microscope lens model version protocol kit reagent lot",
        "class label category type fold split color colour page line frame channel task project index batch",
        "visit day week replicate repeat grade stage score level count version room ward",
    )
)
#: What numbers are given to, in a table of cells.
_NUMBERED = frozenset(
    _words("cell nucleus object image img picture file row crop patch tile frame roi region instance")
)
_IMAGE_NAMES = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg", ".gif", ".webp")
#: Words beside others that make an id of them, and those that are ids of people by themselves.
_OF_IDS = frozenset(
    _words("id ids uid uuid no nr number nummer numero num identifier identificador hash kennung 编号 番号")
)
_WHOSE = frozenset(_words("pseudonym pseudo anon anonymized anonymised identifier identificador identifiant uuid"))
#: Of the rows, so many have the id of another one where ids are asked about.
_REPEATED = 0.25


def looks_like(name: str) -> str | None:
    """Which column of ours a name is another spelling of, None where it is none: ``Patient_ID`` is the subject."""
    words = _split(name)
    if _MICROMETRES.fullmatch("".join(words)):
        return "um_per_px"
    bare = [word for word in words if word not in _BESIDE]
    for spelling in ("".join(bare), "".join(words)):
        found = _look(spelling) or _look(_ENDS.sub("", spelling))
        if found:
            return None if found == "path" and not _BESIDE.isdisjoint({*words} - {"name", "names"}) else found
    if bare and _look("".join(word for word in bare if word not in _BESIDE_PATHS)) == "mask":
        return "mask"
    if words in (["id"], ["ids"], ["uid"]):
        return "subject"
    return None


def is_numbering(name: str) -> bool:
    """Whether a column is called as what numbers cells or images, in the order of folders as a rule: ``cell_id``."""
    words = _split(name)
    return words[-1:] in [[end] for end in ("id", "ids", "idx", "uid", "uuid")] or (
        words[:1] != words[-1:] and {*words[:-1]} <= _NUMBERED and words[-1] in {"no", "nr", "num", "number", "index"}
    )


def may_be_label(name: str) -> bool:
    """Whether a column is called as labels are, be it loosely: ``CellType``, ``dx``, ``Klasse``."""
    words = _split(name)
    bare = [word for word in words if word not in _BESIDE]
    return any("".join(part) in _LOOSE_LABELS for part in (words, bare))


def role_unused(name: str, column: Sequence[str | None], used: Iterable[str]) -> str | None:
    """What a column that is not used looks like, by its name and by its values (None where nothing is known).

    Parameters
    ----------
    used : columns of ours that the table has.
    """
    plain, taken = "".join(_split(name)), set(used)
    if not _DRAWN.isdisjoint(_split(name)) and "mask" not in taken and _are_images(column):
        return "mask"
    if plain in _LOOSE_LABELS:
        return None if not taken.isdisjoint({"label", "subject_label"}) else "label"
    if plain in _SPLITS:
        words = {value.lower() for value in column if value is not None}
        return "fold" if words and words <= _SPLIT_VALUES and "fold" not in taken else None
    role = looks_like(name)
    if role == "path" or (plain in {"id", "ids", "uid"} and not {"subject", "group"}.isdisjoint(taken)):
        return None
    return role or ("group" if _is_repeated_id(name, column) else None)


def _split(name: str) -> list[str]:
    """Words of a name, lower-case: ``PatientID`` and ``patient_id`` are two each; scripts without case are whole."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+", _plain(name))]


def _look(spelling: str) -> str | None:
    return _LOOKS.get(spelling) or _LOOKS.get(spelling.removesuffix("s")) or _LOOKS.get(spelling.removesuffix("es"))


def _are_images(column: Sequence[str | None]) -> bool:
    """Whether the values that are known are names of image files."""
    known = [value for value in column if value is not None]
    return bool(known) and all(PurePosixPath(value).suffix.lower() in _IMAGE_NAMES for value in known)


def _is_repeated_id(name: str, column: Sequence[str | None]) -> bool:
    """Whether a column is called an id, and many rows share theirs with another."""
    words = _split(name)
    bare = [word for word in words if word not in _BESIDE]
    is_id = not _OF_IDS.isdisjoint(words) and _NO_ORIGIN.isdisjoint(bare) if bare else not _WHOSE.isdisjoint(words)
    if not is_id:
        return False
    known = [value for value in column if value is not None]
    return len(set(known)) > 1 and len(known) - len(set(known)) >= _REPEATED * len(known)
