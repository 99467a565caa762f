"""Steps that bring a network to a new site: its probabilities, its head, or all of it by labelled cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.adaptation.site_cells import HeadInputs, SiteCells
from fusion.data.classifier_inputs import CellInputs
from fusion.learning.decision.calibration import fit_calibration
from fusion.learning.fused_model import FusedModel
from fusion.plugins.networks import AdaptsToSites

_Floats = NDArray[np.float64]
_Rows = NDArray[np.intp]

#: The cheapest first. "refitted": a new head on what the network sees, which stays as it is; "fine-tuned": from there a
#: few epochs more of all that learnt in it (Kumar et al. 2022, ICLR: a head first, for a random one spoils the rest).
NETWORK_STEPS = ("as it is", "recalibrated", "refitted", "fine-tuned")


def at_home(model: FusedModel, cells: SiteCells) -> tuple[FusedModel, dict[str, int]]:
    """The model with what it can keep of a new site without labels, and by how many cells.

    A network of which batch norms are the site's is made at home in one: two sites have two sets of norms, and it has
    one.
    """
    network = model.classifier
    if not isinstance(network, AdaptsToSites):
        return model, {}
    sites = network.new_sites(cells.sources)
    if len(sites) != 1:
        return model, {}
    ((name, rows),) = sites.items()
    return replace(model, classifier=network.at_site(cells.rows(rows))), {name: len(rows)}


def with_head_inputs(model: FusedModel, cells: SiteCells) -> SiteCells:
    """The cells with what the model's head is given of each, where it can be adapted."""
    network = model.classifier
    if not isinstance(network, AdaptsToSites) or not len(cells.codes):
        return cells
    return replace(cells, given=HeadInputs(network, network.head_inputs(cells.X)))


def adapt_network(model: FusedModel, cells: SiteCells, labelled: _Rows, step: str) -> FusedModel:
    """The model after one of ``NETWORK_STEPS``, by the labels of these cells and no others."""
    if step == "as it is":
        return model
    if step == "recalibrated":
        plain = predict_network(replace(model, calibration=None), cells, labelled)
        return replace(model, calibration=fit_calibration("logistic", plain, cells.codes[labelled]))
    assert cells.given is not None
    assert isinstance(model.classifier, AdaptsToSites)
    labels = np.array(model.classes, object)[cells.codes[labelled]]
    network = model.classifier.with_refitted_head(cells.given.rows[labelled], labels)
    if step == "fine-tuned":
        network = network.fine_tuned(cells.rows(labelled), labels)
    # A threshold was the other head's, and so was the calibration.
    return replace(model, classifier=network, calibration=None, threshold=None)


def predict_network(model: FusedModel, cells: SiteCells, rows: _Rows) -> _Floats:
    """float64 (m, classes) of these cells; images are looked at again only by a network that sees otherwise."""
    network, given = model.classifier, cells.given
    if given is not None and isinstance(network, AdaptsToSites) and network.sees_as(given.network):
        return model.decision.calibrate(network.judge_head_inputs(given.rows[rows]))
    inputs = cells.rows(rows)
    assert isinstance(inputs, CellInputs)
    return model.predict_proba(inputs)
