"""The page of patients: of each the cells that its class rests on, with everything it shows inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.explanation.patient_explanation import PatientExplanation, cells_of_half, known_values
from fusion.reports.png import png_data_uri

#: Cells that are shown of each order: what a reader compares at one look.
SHOWN = 8


class LikeCell(NamedTuple):
    """The training cell most like one that is shown: uint8 RGB of it, its patient's class and its patient."""

    image: NDArray[np.uint8]
    label: str | None
    subject: str | None


def cells_shown(found: PatientExplanation) -> dict[str, list[int]]:
    """Places of the cells that the page shows: those that speak for the class, against it, and those looked at most."""
    order = np.argsort(-found.adds, kind="stable")
    chosen = {
        "for": [int(at) for at in order[:SHOWN] if found.adds[at] > 0],
        "against": [int(at) for at in order[::-1][:SHOWN] if found.adds[at] < 0],
    }
    if found.attention is not None:
        chosen["attention"] = [int(at) for at in np.argsort(-found.attention, kind="stable")[:SHOWN]]
    return chosen


def patient_page(
    explanations: Sequence[PatientExplanation],
    images: Sequence[Mapping[int, NDArray[np.uint8]]],
    likes: Sequence[Mapping[int, LikeCell]] = (),
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    images : for each patient, place of a cell -> uint8 RGB of it; a cell without one is named only.
    likes : likewise the training cell most like each; () where none are compared.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fusion.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    beside = likes or [{}] * len(explanations)
    rows = [_row(found, own, like) for found, own, like in zip(explanations, images, beside, strict=True)]
    attends = any(found.attention is not None for found in explanations)
    return environment.get_template("patients.html").render(rows=rows, compares=any(beside), attends=attends)


def _row(
    found: PatientExplanation, images: Mapping[int, NDArray[np.uint8]], likes: Mapping[int, LikeCell]
) -> dict[str, Any]:
    uris = {at: png_data_uri(image) for at, image in images.items()}
    reach = float(np.abs(found.adds).max(initial=0.0)) or 1.0
    most = 1.0 if found.attention is None else float(found.attention.max())
    without = known_values(found.without)

    def cells(places: Sequence[int]) -> list[dict[str, Any]]:
        return [
            {
                "name": found.names[at],
                "image": uris.get(at),
                "like": None if at not in likes else (png_data_uri(likes[at].image), *likes[at][1:]),
                "adds": float(found.adds[at]),
                "share": 100 * abs(float(found.adds[at])) / reach,
                "without": without[at],
                "attention": None if found.attention is None else float(found.attention[at]),
                "look": 0.0 if found.attention is None else 100 * float(found.attention[at]) / most,
            }
            for at in places
        ]

    chosen = cells_shown(found)
    return {
        "found": found,
        "half": cells_of_half(found.adds),
        "for": cells(chosen["for"]),
        "against": cells(chosen["against"]),
        "attention": cells(chosen.get("attention", [])),
        "sum": float(found.adds.sum()),
        "of_predicted": found.proba[found.classes.index(found.predicted)],
    }
