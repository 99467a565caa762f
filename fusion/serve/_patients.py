"""A model of patients, served: the images of one request are the cells of one patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.responses import JSONResponse, Response

from fusion.bundles.inference import judge_study
from fusion.bundles.model_bundle import ModelBundle
from fusion.explanation.patient_explanation import PatientExplanation, cells_of_half, explain_patients, known_values
from fusion.image_transforms.dataset_transforms import cells_as_trained
from fusion.learning.predictions import Predictions
from fusion.learning.study import Study
from fusion.reports.explanation_page import fitted
from fusion.reports.patient_page import cells_shown, patient_page
from fusion.serve._answers import attachment, format_fault, promised_of, rules_of, thumbnail
from fusion.serve._uploads import Found, Limits, RequestError, Upload, find_cells, shown_name

#: Images of a request at least, all cells of a patient come in one; and seconds for them at least: on one core of ours
#: a thousand are measured in half a minute, and what each of them adds is found in another.
CELLS, SECONDS = 1000, 300.0


@dataclass(frozen=True, eq=False)
class Patient:
    """One patient that was judged.

    Attributes
    ----------
    found : the images of the request.
    predicted : of the patient alone, and the faults.
    explained : what each cell adds; its ``names`` are places in ``found``.
    """

    found: Sequence[Found]
    predicted: Predictions
    explained: PatientExplanation

    @property
    def places(self) -> list[int]:
        """Of each judged cell the place of its image."""
        return [int(name) for name in self.explained.names]


def judge_patient(
    bundle: ModelBundle,
    uploads: Sequence[Upload],
    limits: Limits,
    source: str | None,
    check: Callable[[], None],
    name: str = "patient",
) -> Patient:
    """What a model of patients says of the cells in all uploads together.

    Raises
    ------
    RequestError : 422, there is no cell that can be measured, or a zip file has a folder for each of several patients.
    """
    _check_one_patient(uploads)
    red_cells = bundle.normaliser is not None and bundle.normaliser.scale == "red-cells"
    found = find_cells(uploads, limits, check, red_cells=red_cells)
    places = [at for at, one in enumerate(found) if one.cell is not None]
    shown, adapted = cells_as_trained(bundle.normaliser, [one.cell for one in found if one.cell is not None], source)
    study = Study.of_cells(shown, [str(at) for at in places], bundle.blocks, bundle.transforms, source)
    if not len(study):
        first = next((f"{one.name}: {one.reason}" for one in found if one.cell is None), "")
        raise RequestError(422, "no cell of this patient can be judged", found=first or study.faults[0].reason)
    check()
    count = len(study)
    whose = replace(
        study.table, subjects=(name,) * count, subjects_known=True, groups=np.zeros(count, np.intp), group_ids=()
    )
    predicted = judge_study(bundle, replace(study, table=whose), Path(), adapted)
    (explained,) = explain_patients(bundle, predicted)
    return Patient(found, predicted, explained)


def _check_one_patient(uploads: Sequence[Upload]) -> None:
    """RequestError where images of a zip file lie in several folders: whether they are of one patient is unknown."""
    folders = sorted({upload.folder for upload in uploads if upload.folder is not None})
    if len(folders) > 1:
        named = [shown_name(folder) if folder else "its top" for folder in folders[:3]]
        names = ", ".join(named) + (", ..." if len(folders) > 3 else "")
        raise RequestError(
            422,
            "the zip file has images in several folders, and a request is one patient",
            found=f"{len(folders)}: {names}",
            do="Send the images of each patient in a zip file of their own, in one folder or none.",
        )


def patient_values(judged: Patient, bundle: ModelBundle, *, images: bool) -> dict[str, Any]:
    """The answer as plain values; with ``images`` those cells carry theirs that a page shows."""
    explained, predicted = judged.explained, judged.predicted
    shown = cells_shown(explained)
    wanted = {at for places in shown.values() for at in places} if images else set()
    attention, without = explained.attention, known_values(explained.without)
    cells = [
        {
            "index": place,
            "name": judged.found[place].name,
            "adds": float(explained.adds[at]),
            "without": without[at],
            "attention": None if attention is None else float(attention[at]),
            "in_training": bundle.provenance.has_image(*judged.found[place].keys),
            **({"image": thumbnail(cell)} if at in wanted and (cell := judged.found[place].cell) is not None else {}),
        }
        for at, place in enumerate(judged.places)
    ]
    (outside,) = predicted.out_of_distribution
    told = predicted.to_json()
    return {
        **rules_of(told),
        "patient": {
            "class": explained.predicted,
            "probability": dict(zip(explained.classes, explained.proba, strict=True)),
            "out_of_distribution": outside,
            "distance": explained.distance,
            **promised_of(told["predictions"][0]),
            "cells": len(cells),
            "base": explained.base,
            "half": cells_of_half(explained.adds),
        },
        "cells": cells,
        "shown": {kind: [judged.places[at] for at in places] for kind, places in shown.items()},
        "faults": patient_faults(judged),
        "notes": predicted.notes,
    }


def patient_faults(judged: Patient) -> list[dict[str, Any]]:
    """The images that tell nothing of the patient, and why."""
    found = judged.found
    faults = [format_fault(at, one.name, one.stage, one.reason) for at, one in enumerate(found) if one.cell is None]
    for fault in judged.predicted.faults:
        at = int(fault.path.name)
        faults.append(format_fault(at, found[at].name, fault.stage, fault.reason))
    return sorted(faults, key=lambda fault: fault["index"])


def patient_explanation(judged: Patient, form: str) -> Response:
    """What each cell adds, as JSON or as the page of ``fusion explain``.

    Raises
    ------
    RequestError : 422, another form.
    """
    names = tuple(judged.found[place].name for place in judged.places)
    explained = replace(judged.explained, names=names)
    if form == "json":
        return JSONResponse(explained.to_json())
    if form != "html":
        raise RequestError(422, "a patient is explained as json or html", found=form)
    shown = {at for places in cells_shown(explained).values() for at in places}
    images = {
        at: fitted(cell.rgb) for at in sorted(shown) if (cell := judged.found[judged.places[at]].cell) is not None
    }
    page = patient_page([explained], [images])
    return attachment(page.encode(), "text/html; charset=utf-8", explained.name, "html")
