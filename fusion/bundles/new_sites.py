"""Sites that a model was not trained in: described once by the cells that are judged, and what is stated of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fusion.bundles.model_bundle import ModelBundle
from fusion.data.feature_table import FeatureTable
from fusion.data.patients.bags import Bags
from fusion.errors import UsageError, did_you_mean
from fusion.feature_transforms.harmonisation import FAR, Harmoniser
from fusion.learning.bags.harmonised_bags import describe_bags
from fusion.metrics.class_shares import LEAST_CELLS

#: Cells that tell whether they are of the site whose name they bear.
_ENOUGH = 2000

#: Share of a block's features from which a site is stamped where all of its cells are alike in them. Of four real
#: laboratories, all their cells, those of one type, or ten, the most has 0.08; without their colours, 0.28.
_MOST_SILENT = 0.2


def state_classes(
    bundle: ModelBundle,
    stated: Mapping[str, Sequence[str]],
    sources: Sequence[str | None],
    chosen: Sequence[str] = (),
) -> ModelBundle:
    """The model, by which new sites are described as having these classes and no others.

    Parameters
    ----------
    stated : by site, labels.
    sources : the site of each cell that is judged, or of some.
    chosen : labels that the cells which are judged were chosen by, so that new sites of which nothing is stated have
        no others; where the model asks which classes a site has, and () for cells that were not chosen.

    Raises
    ------
    UsageError : the model does not ask which classes a site has, or has no such class; no cell is of the site; or the
        model knows what the site looks like already.

    Examples
    --------
    >>> state_classes(load_model("model"), {"north": ["lymphocyte"]}, ["north"])  # doctest: +SKIP
    """
    harmoniser = bundle.model.harmoniser
    if harmoniser is None or harmoniser.mix is None:
        if not stated:
            return bundle
        raise UsageError(
            "--site-classes is for models that estimate a new site's mix of classes",
            found="a model that does not ask which classes a site has",
            do="Leave it out, or train with --config robust.",
        )
    for name, labels in stated.items():
        _check_site(harmoniser, name, sources)
        if unknown := [label for label in labels if label not in harmoniser.classes]:
            raise UsageError(
                f"--site-classes {name}: the model has no such class",
                found=unknown[0],
                expected=", ".join(harmoniser.classes),
                do=did_you_mean(unknown[0], harmoniser.classes),
            )
    if bundle.unit == "cell" and chosen and not set(harmoniser.classes) <= set(chosen):
        stated = {**dict.fromkeys(harmoniser.unknown(sources), chosen), **stated}
    if not stated:
        return bundle
    present = {name: np.isin(harmoniser.classes, labels) for name, labels in stated.items()}
    return _with_harmoniser(bundle, harmoniser.stating(present))


def _check_site(harmoniser: Harmoniser, name: str, sources: Sequence[str | None]) -> None:
    """UsageError for a site that cannot be told anything of."""
    if name in harmoniser.maps:
        raise UsageError(
            f"--site-classes {name}: the model knows what this site looks like",
            found=f"{name} among the sites that it was trained in or adapted to",
            expected="a new site",
            do="Leave it out; a model that was adapted is told so by fusion adapt.",
        )
    there = sorted({source or "" for source in sources})
    if name not in there:
        raise UsageError(
            f"--site-classes {name}: no cell is of this site",
            found=", ".join(each or "cells without a site" for each in there) or "no cell",
            do=did_you_mean(name, there) or "Name the site of cells that name none with --source NAME.",
        )


def describe_sites(bundle: ModelBundle, table: FeatureTable) -> ModelBundle:
    """The model with what describes the new sites among measured cells, or their subjects: they are described once.

    Whatever it is asked afterwards of cells of these sites is asked by all of them.
    """
    harmoniser = bundle.model.harmoniser
    if harmoniser is None or not harmoniser.transductive:
        return bundle
    if isinstance(table.X, Bags):
        return _with_harmoniser(bundle, describe_bags(harmoniser, table.X, table.sources))
    return _with_harmoniser(bundle, harmoniser.describing(table.X, table.sources))


def _with_harmoniser(bundle: ModelBundle, harmoniser: Harmoniser) -> ModelBundle:
    return replace(bundle, model=replace(bundle.model, harmoniser=harmoniser))


def class_notes(harmoniser: Harmoniser, sources: Sequence[str | None]) -> list[str]:
    """Stamps of which classes sites have that were not trained in: what is stated, told by their cells, or in doubt.

    Parameters
    ----------
    harmoniser : with what describes the new sites, see ``describe_sites``.
    """
    stamps = []
    for name in sorted({source or "" for source in sources}):
        own = harmoniser.site(name)
        if own is None or harmoniser.mix is None or "present" not in own:
            continue
        who, has = name or "cells without a source", own["present"] > 0
        if name in harmoniser.stated:
            stamps.append(f"{who}: said to have {_listed(harmoniser, has)} and no other class")
            continue
        if not has.all():
            stamps.append(f"{who}: taken to lack the class {_listed(harmoniser, ~has)}, by where its cells lie")
        if harmoniser.mix.may_have_few_classes(own):
            call = "--site-classes " + (f"{name}=A,B" if name else "NAME=A,B, and the site's name with --source NAME")
            stamps.append(
                f"{who}: may have one or two classes alone, since its cells lie in no clusters; many of them are then "
                f"taken for others. If so, say which classes it has with {call}"
            )
    return stamps


def misnamed(bundle: ModelBundle, cells: FeatureTable) -> list[str]:
    """Stamps of known sites under whose name cells are judged that look like another site's."""
    harmoniser = bundle.model.harmoniser
    if harmoniser is None:
        return []
    names, stamps = np.array([source or "" for source in cells.sources], object), []
    for name in sorted(set(names.tolist()) & harmoniser.maps.keys()):
        of = np.flatnonzero(names == name)
        if len(of) < LEAST_CELLS:
            continue
        far = harmoniser.displacement(np.asarray(cells.X[of[:: -(-len(of) // _ENOUGH)]]), name)
        if far > FAR:
            stamps.append(
                f"{name or 'cells without a source'}: {len(of)} cells are harmonised as those of the site that the "
                f"model knows by this name, and look like another one's: they lie {far:.1f} standard deviations from "
                f"them (cells of one site below {FAR:.1f}). If they are another site's, give it a name of its own: in "
                "the table, or by --source NAME where none is named"
            )
    return stamps


def silent_blocks(bundle: ModelBundle, cells: FeatureTable) -> list[str]:
    """Stamps of sites all of whose cells are alike in many features of a block, as grey images are in colours."""
    harmoniser = bundle.model.harmoniser
    if harmoniser is None:
        return []
    names, stamps = np.array([source or "" for source in cells.sources], object), []
    for name in sorted(set(names.tolist())):
        of = np.flatnonzero(names == name)
        if len(of) < LEAST_CELLS:
            continue
        silent = harmoniser.silent(cells.X[of[:: -(-len(of) // _ENOUGH)]])
        for block, columns in cells.blocks.items():
            if silent[columns].mean() > _MOST_SILENT:
                who, own = name or "cells without a source", silent[columns]
                stamps.append(
                    f"{who}: {own.sum()} of {len(own)} features of '{block}' are alike in all {len(of)} cells and "
                    "differ in training (grey images, say, have no colours): types told by them are judged badly here. "
                    "Learn from such images"
                )
    return stamps


def contradicted(bundle: ModelBundle, cells: FeatureTable) -> list[str]:
    """Stamps of sites some of whose cells are labelled as what they are said not to have."""
    harmoniser = bundle.model.harmoniser
    if harmoniser is None or bundle.unit == "subject":  # what patients are labelled their cells need not be
        return []
    stamps = []
    for name, present in harmoniser.stated.items():
        own = [label for label, source in zip(cells.y, cells.sources, strict=True) if (source or "") == name]
        has = {None, *np.array(harmoniser.classes)[present]}
        if others := sum(label not in has for label in own):
            stamps.append(
                f"{name}: {others} of its {len(own)} cells are labelled as none of the classes that it is said to have"
            )
    return stamps


def fewer_labels(bundle: ModelBundle, cells: FeatureTable) -> list[str]:
    """Stamps of new sites whose cells are labelled as some of the classes alone, but were compared with others, too.

    Labels are not looked at when a site is described; nobody has said that it has no other class.
    """
    harmoniser = bundle.model.harmoniser
    if harmoniser is None or harmoniser.mix is None or bundle.unit == "subject":
        return []
    stamps = []
    for name in harmoniser.unknown(cells.sources):
        own = {str(label) for label, source in zip(cells.y, cells.sources, strict=True) if (source or "") == name}
        labelled, site = np.isin(harmoniser.classes, sorted(own)), harmoniser.site(name)
        if labelled.all() or name in harmoniser.stated or site is None or "present" not in site:
            continue
        if np.array_equal(site["present"] > 0, labelled):
            continue
        classes = ",".join(np.array(harmoniser.classes)[labelled])
        call = f"--site-classes {name}={classes}" if name else f"--source NAME --site-classes NAME={classes}"
        stamps.append(
            f"{name or 'cells without a source'}: labelled as {_listed(harmoniser, labelled)} alone, and compared with "
            f"training cells of other classes as well, so that some are taken for these. If it has no others: {call}"
        )
    return stamps


def _listed(harmoniser: Harmoniser, present: NDArray[np.bool_]) -> str:
    return ", ".join(f"'{label}'" for label in np.array(harmoniser.classes)[present])
