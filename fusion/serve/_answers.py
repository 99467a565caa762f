"""What is answered, as plain values: numbers, words, and images that a page carries with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from fastapi.responses import Response
from numpy.typing import NDArray

from fusion.bundles.model_bundle import ModelBundle
from fusion.explanation.explanation import Explanation, Reason
from fusion.images.cell import Cell
from fusion.plugins.classifiers import Attends
from fusion.reports.contact_sheets import brightening, contour_lines, with_contours
from fusion.reports.explanation_page import map_square
from fusion.reports.explanation_rows import shown_classes, strip_range
from fusion.reports.png import png_data_uri

#: Side in pixels of a cell's image in the table, and at most of the one to be looked at closely.
_SMALL, _LARGE = 144, 960

#: A cell's line lies as far outside of the cell as this part of the image's side, at least a pixel: a nucleus that
#: fills the cell keeps its own.
_APART = 1 / 120

#: Letters of an explanation's file name that are taken from the image's.
_STEM = 60


def format_fault(at: int, name: str, stage: str, reason: str) -> dict[str, Any]:
    """One image without an answer."""
    return {"index": at, "name": name, "stage": stage, "reason": reason}


def rules_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """How classes are predicted, of what ``fusion predict --json`` tells."""
    return {part: told[part] for part in ("classes", "calibrated", "threshold", "costs", "promises") if part in told}


def promised_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is promised of one prediction, by a model that promises."""
    return {promise: row[promise] for promise in ("set", "referred") if promise in row}


def thumbnail(cell: Cell) -> str:
    """A ``data:`` address of the cell with its contours, square, on what is around it."""
    square = _square(cell)
    return png_data_uri(with_contours(square.rgb, square, _SMALL))


def explanation_values(found: Explanation) -> dict[str, Any]:
    """What the page shows of an explanation: the values, said in words, and images."""
    plain = found.to_json()
    for feature, reason in zip(plain["features"], found.reasons, strict=True):
        feature |= {
            "block": reason.block,
            "sentence": reason.sentence,
            "held_to": reason.held_to(found.classes),
            "usual": reason.usual(found.classes),
            "strip": _strip(reason, found),
        }
    return plain | {
        "verdict": found.verdict,
        "warning": found.warning,
        "score_unit": "log-odds" if len(found.classes) == 2 else "score",
        **_layers(found.cell),
        "attention": png_data_uri(map_square(found)) if found.map_caption else None,
        "map_caption": found.map_caption,
    }


def _strip(reason: Reason, found: Explanation) -> dict[str, Any] | None:
    """Where the training cells lie, class by class, and the ends of an axis for them and this cell; None if unknown."""
    classes = shown_classes(found)
    ends = strip_range(reason, classes)
    if ends is None:
        return None
    known = [at for at in classes if not np.isnan(reason.spreads[at]).any()]
    return {"ends": ends, "spreads": {found.classes[at]: reason.spreads[at] for at in known}}


def _layers(cell: Cell) -> dict[str, Any]:
    """The cell's image as it is, the factor that makes a dark one visible, and both contours as points of the image."""
    square = _square(cell)
    side = len(square.rgb)
    if side > _LARGE:
        rgb, mask, nucleus = (
            cv2.resize(each, (_LARGE, _LARGE), interpolation=cv2.INTER_AREA)
            for each in (square.rgb, 255 * square.mask.astype(np.uint8), 255 * square.nucleus.astype(np.uint8))
        )
        square, side = Cell(np.asarray(rgb, np.uint8), mask > 127, nucleus > 127), _LARGE
    outwards = max(1, round(_APART * side))

    def points(mask: NDArray[np.bool_], outwards: int = 0) -> list[list[list[int]]]:
        return [line.tolist() for line in contour_lines(mask, outwards)]

    return {
        "image": png_data_uri(square.rgb),
        "side": side,
        "brightening": brightening(square),
        "contours": {"cell": points(square.mask, outwards), "nucleus": points(square.nucleus)},
    }


def _square(cell: Cell) -> Cell:
    """The cell in a square; what is added has the colour of the image's edge."""
    height, width = cell.mask.shape
    long = max(height, width)
    before = (long - height) // 2, (long - width) // 2
    around = [(at, long - size - at) for at, size in zip(before, (height, width), strict=True)]
    border = np.concatenate([cell.rgb[0], cell.rgb[-1], cell.rgb[:, 0], cell.rgb[:, -1]])
    rgb = np.empty((long, long, 3), np.uint8)
    rgb[:] = np.median(border, axis=0)
    rgb[before[0] : before[0] + height, before[1] : before[1] + width] = cell.rgb
    mask, nucleus = (np.pad(each, around) for each in (cell.mask, cell.nucleus))
    return replace(cell, rgb=rgb, mask=mask, nucleus=nucleus, origin=(0, 0))


def model_facts(bundle: ModelBundle, name: str) -> dict[str, Any]:
    """What the model is."""
    return {
        "name": name,
        "unit": bundle.unit,
        "classifier": bundle.label,
        "blocks": [block.name for block in bundle.blocks],
        "classes": bundle.classes,
        "positive": bundle.positive,
        "calibrated": bundle.model.calibration is not None,
        "training_images": len(bundle.provenance.images),
        **(_facts_of_patients(bundle) if bundle.unit == "subject" else {}),
    }


def _facts_of_patients(bundle: ModelBundle) -> dict[str, Any]:
    """How many patients a model has learnt from, those among them by whom it was adapted; whether it looks at cells."""
    adapted = bundle.facts.get("adapted", {}).get("patients", 0)
    return {
        "training_patients": int(bundle.facts["facts"]["images"]) + int(adapted),
        "attends": isinstance(bundle.model.classifier, Attends),
    }


def attachment(content: bytes, media_type: str, name: str, ending: str) -> Response:
    """A file to be saved, named after the image in letters that any header and file system takes."""
    stem = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "_" for letter in name)
    disposition = f'attachment; filename="{stem[:_STEM]}-explained.{ending}"'
    return Response(content, media_type=media_type, headers={"Content-Disposition": disposition})
