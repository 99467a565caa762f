"""The methods of a result in the sentences of a paper, told from the result alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fusion.evaluation.headline import (
    best_sentences,
    cautions,
    class_sentences,
    kind_sentence,
    primary_sentences,
    subjects_sentence,
)
from fusion.evaluation.results import Result, describe_split, interval
from fusion.evaluation.scores import entry_name
from fusion.versions import versions

#: How a setting's value reads in a sentence.
_CALIBRATIONS = {
    "logistic": "by intercept and slope (logistic recalibration)",
    "temperature": "by a temperature, which has no intercept",
    "isotonic": "by isotonic regression",
}

#: Ways to an interval, as ``metrics.judgement`` calls them.
_WAYS = {
    "jackknife": "a jackknife over {unit}s within class on the logit scale, with Student's t and Satterthwaite's "
    "degrees of freedom",
    "exact": "Clopper and Pearson's exact bounds on {unit}s where nothing varied",
}


def methods_sentences(result: Result) -> dict[str, str]:
    """What was done, by what it is about: text of whole sentences, "" where there is nothing to say.

    Returns
    -------
    "aim", "data", "exclusions", "partition", "features", "preparation", "classifiers", "decision", "metrics",
    "intervals", "comparisons", "analyses", "performance", "cautions" and "software", in the order of a paper.

    Examples
    --------
    >>> methods_sentences(Result.load("comparison"))["partition"]  # doctest: +SKIP
    'Cells were held out for judging: 5 folds by subject, 5 times over. Seed 0.'
    """
    asked = yaml.safe_load(result.config) or {}
    return {
        "aim": _aim(result),
        "data": _data(result),
        "exclusions": _exclusions(result),
        "partition": _partition(result),
        "features": _features(result, asked),
        "preparation": _preparation(asked),
        "classifiers": _classifiers(result, asked),
        "decision": _decision(result, asked),
        "metrics": _metrics(result),
        "intervals": _intervals(result),
        "comparisons": _comparisons(result),
        "analyses": _analyses(result),
        "performance": _performance(result),
        "cautions": " ".join([*(f"{stamp[0].upper()}{stamp[1:]}." for stamp in result.stamps), *cautions(result)]),
        "software": f"{', '.join(f'{name} {version}' for name, version in versions().items())}.",
    }


def _aim(result: Result) -> str:
    *others, last = (f"'{name}'" for name in result.classes)
    apart = f"{', '.join(others)} and {last} {result.judged}s apart"
    if len(result.scores) > 1:
        return f"{len(result.scores)} entries were compared by how well they tell {apart}."
    name = entry_name(result.scores[0])
    judged = "a trained model" if result.facts["split"]["kind"] == "external" else "one way of building a model"
    return f"{judged[0].upper()}{judged[1:]} ({name}) was judged by how well it tells {apart}."


def _data(result: Result) -> str:
    facts = result.facts
    who = "unknown subjects" if facts["unit"] == "image" else f"{facts['groups']} {facts['unit']}s"
    if result.judged == "subject":
        who = f", each by all of its cells ({facts['cells']} together)," if "cells" in facts else ""
    else:
        who = f" of {who}"
    lines = [f"{facts['images']} {result.judged}s{who} were judged ({_counted(facts['classes'])})."]
    lines.append(subjects_sentence(result))
    if "learnt_from" in facts:
        other = facts["learnt_from"]
        of = "" if result.judged == "subject" else f" of {other['groups']} {facts['unit']}s"
        lines.append(f"They were learnt from {other['images']} other {result.judged}s{of}.")
    if "sources" in facts:
        named = {name or "unknown": count for name, count in facts["sources"].items()}
        lines.append(f"{result.judged.title()}s by source: {_counted(named)}.")
    return _text(lines)


def _exclusions(result: Result) -> str:
    stages = Counter(fault.stage for fault in result.faults)
    skipped = f"{len(result.faults)} images were skipped ({_counted(stages)}); each is named in result.json."
    return _text([skipped if stages else "No image was skipped.", *result.notes])


def _partition(result: Result) -> str:
    how = describe_split(result.facts)
    seed = f" Seed {result.facts['seed']}." if "seed" in result.facts else ""
    return f"{result.judged.title()}s were held out for judging: {how}.{seed}"


def _features(result: Result, asked: Mapping[str, Any]) -> str:
    sizes = result.facts.get("columns", {})
    if not sizes:
        return ""
    lines = [f"Feature blocks: {', '.join(f'{name} ({count} values)' for name, count in sizes.items())}."]
    if asked.get("weights"):
        lines.append(f"Weights of the network behind a block: {asked['weights']}.")
    if asked.get("cnn_crossfit"):
        lines.append("That network was trained anew in every training part.")
    sets = dict.fromkeys(" + ".join(scores.features) for scores in result.scores)
    if len(sets) > 1:
        lines.append(f"{len(sets)} feature sets: {'; '.join(sets)}.")
    return _text(lines)


def _preparation(asked: Mapping[str, Any]) -> str:
    if "features" not in asked:  # scores from elsewhere, and models, which bring their own
        return ""
    lines = ["Whatever is fitted to features (medians, scales, projections) was learnt inside each training part."]
    normalise, harmonise, augment = (asked.get(name) or {} for name in ("normalise", "harmonise", "augment"))
    images = [
        "white balance" if normalise.get("white_balance") else "",
        "Reinhard's stain normalisation" if normalise.get("reinhard") else "",
        f"scaling by {normalise['scale']}" if normalise.get("scale", "none") != "none" else "",
    ]
    if any(images):
        lines.append(f"Images were normalised: {', '.join(filter(None, images))}.")
    if harmonise.get("method", "none") != "none":
        mix = (
            ", a new source's mix of classes estimated, and each class moved towards where it was learnt"
            if harmonise.get("mix") == "estimated"
            else ""
        )
        lines.append(f"Features of sources were harmonised: {harmonise['method']}{mix}.")
    if augment.get("per_cell"):
        lines.append(f"Each training cell was joined by {augment['per_cell']} augmented ones.")
    return _text(lines)


def _classifiers(result: Result, asked: Mapping[str, Any]) -> str:
    names = dict.fromkeys(scores.classifier for scores in result.scores if scores.classifier)
    if not names:
        return ""
    lines = [f"Classifiers: {', '.join(names)}."]
    given = {name: values for name, values in (asked.get("classifiers") or {}).items() if values}
    for name, values in given.items():
        lines.append(f"Parameters of {name}: {', '.join(f'{key} {value}' for key, value in values.items())}.")
    if asked.get("search"):
        lines.append("Parameters were chosen by folds of whole groups inside each training part.")
    if asked.get("trials"):
        lines.append(f"{asked['trials']} settings a training part were tried.")
    if "late" in (asked.get("fuse") or ()):
        lines.append(
            "Late fusion: a classifier of each block, whose log-probabilities were pooled by weights of 0 or more, "
            "learnt in each training part from scores of cells held out by group."
        )
    return _text(lines)


def _decision(result: Result, asked: Mapping[str, Any]) -> str:
    lines, unit = [], result.judged
    if "calibrate" in asked:
        way = _CALIBRATIONS.get(asked["calibrate"])
        learnt = f"recalibrated {way}, by held-out scores of each training part" if way else "not recalibrated"
        lines.append(f"Probabilities were {learnt}.")
    limits = {
        float(limit)
        for scores in result.scores
        if scores.threshold is not None
        for limit in scores.threshold[scores.fold >= 0]
    }
    if any(scores.costs is not None for scores in result.scores):
        by = ", by a rule learnt in each training part" if "calibrate" in asked else ""
        lines.append(f"A {unit} was predicted to be of the class with the least expected cost (Elkan 2001){by}.")
    elif not limits:
        lines.append(f"A {unit} was predicted to be of its most probable class.")
    else:
        between = f"{min(limits):.3f}" if len(limits) == 1 else f"{min(limits):.3f} to {max(limits):.3f}"
        rule = "least cost" if asked.get("costs") and "calibrate" in asked else asked.get("threshold")
        by = f" (rule: {rule}, learnt in each training part)" if isinstance(rule, str) else ""
        lines.append(f"A {unit} was predicted '{result.positive}' from a probability of {between}{by}.")
    if costs := result.findings.get("costs"):
        names, rows = costs["classes"], costs["matrix"]
        stated = ", ".join(
            f"{true} predicted as {predicted} {cost:g}"
            for true, row in zip(names, rows, strict=True)
            for predicted, cost in zip(names, row, strict=True)
            if predicted != true
        )
        lines.append(f"Costs of mistakes: {stated}.")
    return _text(lines)


def _metrics(result: Result) -> str:
    if result.only_class is not None:
        own = f"Share of the {result.judged}s of {result.only_class} that were predicted as such"
        return _text(
            [f"{own}, Brier score and log loss", *class_sentences(result, result.ranked()[0]), result.without_subjects]
        )
    about = (
        f"Sensitivity is about '{result.positive}'."
        if result.positive
        else "Sensitivity and specificity are means over classes, one against the rest."
    )
    prevalence = result.figures[0].get("prevalence", 0.5)
    return _text(
        [
            f"Balanced accuracy, AUROC (pairs of {result.judged}s that one model has scored), sensitivity, "
            "specificity, F1, MCC, AUPRC, PPV and NPV, Brier score, log loss, calibration intercept, slope and error.",
            about,
            f"PPV and NPV are at a prevalence of {prevalence}.",
            result.without_subjects,
        ]
    )


def _intervals(result: Result) -> str:
    used = {figure["method"] for held in result.figures for figure in held["image"].values()}
    used |= {figure["method"] for held in result.figures for figure in held["subject"].values()}
    ways = [way.format(unit=result.unit) for name, way in _WAYS.items() if name in used]
    taken = f"Intervals are 95%, by {result.unit}: {' and '.join(ways)}." if ways else "There are no intervals."
    return _text([taken, kind_sentence(result)])


def _comparisons(result: Result) -> str:
    if len(result.scores) < 2:
        return ""
    primary = primary_sentences(result)
    none = [] if primary else ["No comparison was named beforehand."]
    lines = [
        f"Entries were compared by how their difference varies over the same {result.judged}s; those not told from "
        "the best hold the truly best ones (joint step-up test, family-wise error 5%), and the best is corrected for "
        "having been picked (BBC-CV)."
    ]
    return _text([*primary, *none, *lines])


def _analyses(result: Result) -> str:
    found, lines = result.findings, []
    if splits := found.get("splits"):
        best = result.scores[result.ranked()[0]]
        row = next(
            one for one in splits if (tuple(one["features"]), one["classifier"]) == (best.features, best.classifier)
        )
        if row["folds"]["count"]:
            least, median, most = (row["folds"][part] for part in ("least", "median", "most"))
            lines.append(
                f"Balanced accuracy of the best was {least:.3f} to {most:.3f} in single test parts (median "
                f"{median:.3f})."
            )
    if null := found.get("null"):
        lines.append(f"Chance: labels permuted by {result.unit}, {null['permutations']} times through the whole road.")
    if curve := found.get("learning_curve"):
        lines.append(f"Learning curve over {result.unit}s: {len(curve['points'])} sizes of training part.")
    if by := [one["by"] for one in found.get("subgroups", ())]:
        lines.append(f"Subgroups by {', '.join(by)}.")
    if "leak" in found:
        lines.append("The optimistic bias of a random split was estimated on the same cells.")
    if "cross_site" in found:
        lines.append("What is lost on a source that was not learnt from was estimated.")
    return _text([*lines, *_promises(found.get("promises", {}))])


def _promises(promised: Mapping[str, Any]) -> list[str]:
    """What is promised of new cells and subjects, by which method."""
    lines = []
    if "sets" in promised:
        lines.append(
            f"Conformal sets, for each class by itself and with the subject as the unit, hold the true class of "
            f"{promised['level']:.0%} of new {' and '.join(promised['sets'])}."
        )
    if "risk" in promised:
        lines.append(
            f"A threshold was chosen by risk control to refer at least {promised['sensitivity']:.0%} of new subjects "
            f"of {promised['risk']['positive']}."
        )
    return lines


def _performance(result: Result) -> str:
    if lines := best_sentences(result):
        return _text(lines)
    figures = result.figures[result.ranked()[0]]["image"]
    told = _PERFORMANCE if result.only_class is None else {result.main_metric: result.main_label}
    listed = (f"{name} {interval(figures[metric])}" for metric, name in told.items())
    return f"{result.judged.title()} by {result.judged}: {', '.join(listed)}."


_PERFORMANCE = {
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _text(lines: Sequence[str]) -> str:
    """Sentences as one text; each ends with a full stop."""
    return " ".join(line if line.endswith(".") else f"{line}." for line in lines if line)
