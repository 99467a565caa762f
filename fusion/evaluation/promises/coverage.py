"""How promises hold: what sets cover of held-out subjects of each class, what a risk misses, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.promises.held_out import KINDS, Asked, HeldOut, OwnScores
from fusion.metrics import conformal


def promise_rows(
    held: HeldOut, asked: Asked, positive: str | None, seed: int, given: OwnScores | None = None
) -> dict[str, Any]:
    """How promises hold on held-out subjects, as plain values.

    Parameters
    ----------
    given : what the promises rest on; None for the scores of the other test parts, for each.

    Returns
    -------
    "level", "sensitivity", "confidence" as asked; "sets": for "cells" and "subjects" what is covered of each class, and
    how large sets are; "risk": what was missed and referred.
    """
    whole = given or held.own_scores(seed)
    parts = [None] if given is not None else sorted(set(held.folds.tolist()))
    if given is None and len(parts) == 1:  # one model has scored all: there is no other part to learn thresholds from
        held, parts = _by_subject(held), sorted(set(held.subjects.tolist()))
    own = {part: given or held.own_scores(seed, without=part) for part in parts}
    found: dict[str, Any] = dict(asked.to_json())
    if asked.level is not None:
        # Where subjects are scored as a whole, their one row is no cell.
        is_whole = bool(len(held.means)) and len(np.unique(held.subjects)) == len(held.subjects)
        found["sets"] = {
            kind: _set_rows(held, kind, asked.level, own, whole) for kind in KINDS[is_whole:] if whole.of(kind)
        }
    if asked.sensitivity is not None and positive is not None:
        found["risk"] = _risk_row(held, asked, positive, own, whole)
    return found


def _by_subject(held: HeldOut) -> HeldOut:
    """The same, each subject a test part of its own."""
    numbers = np.unique(held.subjects)
    whole = numbers if len(held.means) else np.empty(0, np.intp)
    return replace(held, folds=held.subjects, subject_folds=whole)


def _set_rows(
    held: HeldOut, kind: str, level: float, own: Mapping[int | None, OwnScores], whole: OwnScores
) -> dict[str, Any]:
    is_cells = kind == "cells"
    proba, codes, folds, subjects = (
        (held.proba, held.codes, held.folds, held.subjects)
        if is_cells
        else (held.means, held.subject_codes, held.subject_folds, np.arange(len(held.means)))
    )
    inside = np.zeros(proba.shape, bool)
    for part, scores in own.items():
        rows = np.full(len(proba), True) if part is None else folds == part
        inside[rows] = conformal.in_set(proba[rows], scores.thresholds(kind, level))
    covered, size = inside[np.arange(len(codes)), codes], inside.sum(axis=1)
    rows = [
        {"class": name, "threshold": threshold, **_coverage(covered[codes == code], subjects[codes == code])}
        for code, (name, threshold) in enumerate(zip(held.classes, whole.thresholds(kind, level), strict=True))
    ]
    return {
        "classes": rows,
        "one": float((size == 1).mean()),
        "several": float((size > 1).mean()),
        "none": float((size == 0).mean()),
        "one_and_wrong": float(((size == 1) & ~covered).mean()),
    }


def _coverage(covered: NDArray[np.bool_], subjects: NDArray[np.intp]) -> dict[str, Any]:
    """Mean over subjects of the share that is covered, with an interval over subjects."""
    from scipy.stats import beta, t

    _, at = np.unique(subjects, return_inverse=True)
    size = np.bincount(at)
    shares = np.bincount(at, covered) / size
    n = len(shares)
    if not n:
        return {"subjects": 0, "coverage": math.nan, "low": math.nan, "high": math.nan}
    value = float(shares.mean())
    if np.isin(shares, (0, 1)).all():  # Clopper and Pearson (1934), Biometrika 26:404-413
        count = round(value * n)
        low = float(beta.ppf(0.025, count, n - count + 1)) if count else 0.0
        high = float(beta.ppf(0.975, count + 1, n - count)) if count < n else 1.0
    else:
        wide = float(t.ppf(0.975, n - 1) * shares.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
        low, high = max(0.0, value - wide), min(1.0, value + wide)
    return {"subjects": n, "coverage": value, "low": low, "high": high}


def _risk_row(
    held: HeldOut, asked: Asked, positive: str, own: Mapping[int | None, OwnScores], whole: OwnScores
) -> dict[str, Any]:
    column = held.classes.index(positive)
    ruled_out = np.zeros(len(held.means), bool)
    for part, scores in own.items():
        rows = np.full(len(held.means), True) if part is None else held.subject_folds == part
        ruled_out[rows] = held.means[rows, column] < scores.risk_threshold(positive, asked)
    is_positive = held.subject_codes == column
    found = _coverage(~ruled_out[is_positive], np.flatnonzero(is_positive))
    return {
        "positive": positive,
        "threshold": whole.risk_threshold(positive, asked),
        "positives": int(is_positive.sum()),
        "found": {name: found[name] for name in ("coverage", "low", "high")},
        "referred": float((~ruled_out).mean()) if len(ruled_out) else math.nan,
        "negatives_referred": float((~ruled_out[~is_positive]).mean()) if (~is_positive).any() else math.nan,
    }


def asked_of(found: Mapping[str, Any]) -> Asked:
    """What was asked for, of ``promise_rows``."""
    return Asked(found.get("level"), found.get("sensitivity"), found["confidence"])


def promise_lines(found: Mapping[str, Any]) -> list[str]:
    """What a terminal shows of ``promise_rows``."""
    lines = []
    for kind, sets in found.get("sets", {}).items():
        covered = ", ".join(
            f"{row['coverage']:.3f} of '{row['class']}' ({row['subjects']} subjects)"
            for row in sets["classes"]
            if row["subjects"]
        )
        lines.append(
            f"Sets of level {found['level']:g} for {kind} hold the true class of {covered}; "
            f"{sets['one']:.0%} are one class, {sets['several']:.0%} several, {sets['none']:.0%} none."
        )
    if risk := found.get("risk"):
        held = asked_of(found).held
        parts = [
            f"To find {found['sensitivity']:g} of '{risk['positive']}' {held}, {risk['referred']:.0%} of subjects are "
            "referred"
        ]
        if not math.isnan(risk["negatives_referred"]):  # of subjects of one class there are no others, or none to find
            parts.append(f", {risk['negatives_referred']:.0%} of the others")
        if risk["positives"]:
            parts.append(f"; {risk['found']['coverage']:.3f} of {risk['positives']} are found")
        lines.append(f"{''.join(parts)}.")
    return lines
