"""Which steps do not go together, why, and what to do instead: one table for every command.

What is not listed here works, in every command: ``tests/test_pairs.py`` runs each pair on a few cells, and
docs/architecture.md shows the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fusion.errors import UsageError
from fusion.learning.bags.mean_of_cells import takes_bags
from fusion.learning.recipe import Recipe
from fusion.plugins import registry
from fusion.plugins.classifiers import ReadsBatches, ScoresHeldOutBags
from fusion.plugins.extractors import Precomputed
from fusion.plugins.networks import TakesImages


@dataclass(frozen=True)
class Refusal:
    """A step that another one cannot do with.

    Attributes
    ----------
    step, other : both, as a user would name them.
    holds : whether a recipe asks for both.
    reason, remedy : one sentence each; in both, ``{}`` stands for the classifier's name, and in ``reason``, ``{steps}``
        for the steps that need held-out scores and ``{setting}`` for what keeps the features out of memory.
    """

    step: str
    other: str
    holds: Callable[[Recipe], bool]
    reason: str
    remedy: str


def _reads_batches(recipe: Recipe) -> bool:
    return bool(batches_setting(recipe))


def batches_setting(recipe: Recipe) -> str:
    """The parameter by which the classifier keeps features out of memory, "" where it does not.

    Raises
    ------
    UsageError : it is set to what cannot be, an address that is none for example.
    """
    classifier = replace(recipe, unit="cell").build()
    return classifier.batches_by() if isinstance(classifier, ReadsBatches) else ""


def _scores_held_out_bags(recipe: Recipe) -> bool:
    """Whether a classifier of patients scores some of its training patients by models that have not met them."""
    built = recipe.build()
    return isinstance(built, ScoresHeldOutBags) and built.scores_held_out


def _has_precomputed(recipe: Recipe) -> bool:
    """Whether a block's numbers were computed elsewhere."""
    families = {name.partition(".")[0] for name in recipe.blocks} & set(registry.names(registry.EXTRACTORS))
    return any(issubclass(registry.plugin_class(registry.EXTRACTORS, family), Precomputed) for family in families)


def _batches(step: str, holds: Callable[[Recipe], bool]) -> Refusal:
    return Refusal(
        "external memory, cluster",
        step,
        lambda recipe: _reads_batches(recipe) and holds(recipe),
        f"{{setting}} keeps the features out of memory, which does not go with: {step}",
        "Leave one of them out.",
    )


def _patients(step: str, holds: Callable[[Recipe], bool], reason: str, remedy: str) -> Refusal:
    return Refusal("patients", step, lambda recipe: recipe.unit == "subject" and holds(recipe), reason, remedy)


#: In the order in which they are asked about.
REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        "threshold",
        "costs",
        lambda recipe: recipe.threshold is not None and bool(recipe.costs),
        "--threshold and costs are two rules by which a class is predicted",
        "Leave one of them out: with costs, the rule that costs least is learnt.",
    ),
    Refusal(
        "classifier of images",
        "harmonise",
        lambda recipe: recipe.takes_images and recipe.harmonise.method != "none",
        "harmonise is for features, and classifier '{}' learns from the images themselves",
        "Normalise the images, or take --cnn-crossfit under another classifier.",
    ),
    Refusal(
        "classifier of images",
        "stability",
        lambda recipe: recipe.takes_images and recipe.stability is not None,
        "stability is for features, and classifier '{}' learns from the images themselves",
        "Normalise the images, or take --cnn-crossfit under another classifier.",
    ),
    Refusal(
        "classifier of images",
        "augment",
        lambda recipe: recipe.takes_images and recipe.augment.per_cell > 0,
        "classifier '{}' augments images itself",
        "Set classifiers.{}.augmentation instead.",
    ),
    Refusal(
        "classifier of images",
        "calibrate, threshold, costs",
        lambda recipe: recipe.takes_images and not recipe.decision.is_nothing,
        "--calibrate, --threshold and costs would train classifier '{}' six times over",
        "Leave them out, or train a network by --cnn-crossfit and --set nested=true under another classifier.",
    ),
    Refusal(
        "classifier of images",
        "search",
        lambda recipe: recipe.takes_images and recipe.searches,
        "a search would train classifier '{}' once for each of its trials",
        "Leave --search out, or search with another classifier.",
    ),
    Refusal(
        "classifier of images",
        "learnt embedding",
        lambda recipe: recipe.takes_images and bool(recipe.learnt),
        "classifier '{}' sees the images itself, and is trained in every fold as it is",
        "Leave --cnn-crossfit out, and its block too.",
    ),
    Refusal(
        "classifier of images",
        "late fusion",
        lambda recipe: recipe.takes_images and recipe.fuse != "weighted",
        "classifier '{}' fuses images and blocks inside its network",
        "Leave --fuse out, or set classifiers.{}.network.fusion.",
    ),
    Refusal(
        "learnt embedding",
        "augment",
        lambda recipe: bool(recipe.learnt) and recipe.augment.per_cell > 0,
        "--cnn-crossfit does not learn from augmented cells",
        "Leave one of them out, or set the network's own augmentation.",
    ),
    Refusal(
        "features of one's own",
        "augment",
        lambda recipe: recipe.augment.per_cell > 0 and _has_precomputed(recipe),
        "features that were computed elsewhere are not known of augmented cells",
        "Leave --own or augment out.",
    ),
    Refusal(
        "learnt embedding",
        "search",
        lambda recipe: bool(recipe.learnt) and recipe.searches,
        "a search inside the training part would choose by cells that the block's network has met",
        "Leave one of them out.",
    ),
    Refusal(
        "learnt embedding",
        "calibrate, threshold, costs, late fusion, an SVM's own sigmoid",
        lambda recipe: bool(recipe.learnt) and not recipe.nested and bool(recipe.held_out_steps()),
        "{steps} needs held-out scores inside the training part, whose cells the block's network has met",
        "Take --set nested=true, which trains a network for every fold inside as well (six times the time), or leave "
        "it out: logreg and xgb have none of their own.",
    ),
    Refusal(
        "learnt embedding",
        "classifier of patients",
        lambda recipe: bool(recipe.learnt) and _scores_held_out_bags(recipe),
        "classifier '{}' scores patients inside the training part, whose cells the block's network has met",
        "Take logreg or xgb, or pool with --set classifiers.pool.cell_labels=false.",
    ),
    _batches("search", lambda recipe: recipe.searches),
    _batches("calibrate, threshold, costs", lambda recipe: not recipe.decision.is_nothing),
    _batches("harmonise", lambda recipe: recipe.harmonise.method != "none"),
    _batches("stability", lambda recipe: recipe.stability is not None),
    _batches("augment", lambda recipe: recipe.augment.per_cell > 0),
    _batches("learnt embedding", lambda recipe: bool(recipe.learnt)),
    _batches("late fusion", lambda recipe: recipe.fuse == "late"),
    Refusal(
        "classifier of patients",
        "cells as units",
        lambda recipe: recipe.unit == "cell" and takes_bags(recipe.build()),
        "classifier '{}' learns from patients, bags of cells, and the units are cells",
        "Say --unit subject, or take a classifier of cells.",
    ),
    _patients(
        "classifier of images",
        lambda recipe: recipe.takes_images,
        "classifier '{}' learns from images of cells that have labels of their own",
        "Take its embedding: --features cnn, with --classifier mil.",
    ),
)


def possible_recipes(recipes: Sequence[Recipe]) -> tuple[list[Recipe], list[str]]:
    """The recipes of a comparison whose steps go together, and notes on the others.

    A classifier that cannot learn from some of the sets of blocks is compared on the others.

    Raises
    ------
    UsageError : a classifier that can learn from none of its sets.
    """
    kept = [recipe for recipe in recipes if refusal_of(recipe) is None]
    notes: dict[tuple[str, str], list[str]] = {}
    for recipe in recipes:
        if (refusal := refusal_of(recipe)) is None:
            continue
        if recipe.classifier not in {one.classifier for one in kept}:
            check_recipes([recipe])
        reason = f"{_sentence(refusal, recipe)}. {refusal.remedy.format(recipe.classifier)}"
        notes.setdefault((recipe.classifier, reason), []).append("+".join(recipe.features))
    return kept, [f"{name} is not compared on {_listed(sets)}: {reason}" for (name, reason), sets in notes.items()]


def _listed(sets: Sequence[str]) -> str:
    return ", ".join(sets[:3]) + (f" and {len(sets) - 3} more" if len(sets) > 3 else "")


def refusal_of(recipe: Recipe) -> Refusal | None:
    """The first pair of its steps that do not go together; None where all do."""
    return next((refusal for refusal in REFUSALS if refusal.holds(recipe)), None)


def _sentence(refusal: Refusal, recipe: Recipe) -> str:
    steps, setting = " and ".join(recipe.held_out_steps()), batches_setting(recipe)
    return refusal.reason.format(recipe.classifier, steps=steps, setting=setting)


def check_recipes(recipes: Sequence[Recipe]) -> None:
    """UsageError for the first pair of steps that do not go together; before anything is read."""
    for recipe in recipes:
        if not recipe.features:
            raise UsageError(
                f"classifier '{recipe.classifier}' learns from features, and there are none",
                do="Choose some (--features), or a classifier that learns from the images themselves (neural).",
            )
        if recipe.fuse == "late" and len(recipe.blocks) < 2 and not recipe.takes_images:
            raise UsageError(
                "late fusion is of two blocks or more",
                found=", ".join(recipe.blocks),
                do="Add a block to --features, or leave --fuse out.",
            )
        if (refusal := refusal_of(recipe)) is not None:
            raise UsageError(
                _sentence(refusal, recipe),
                found=recipe.name.replace("/", " on "),
                do=refusal.remedy.format(recipe.classifier),
            )


def check_processes(recipe: Recipe, count: int) -> None:
    """UsageError for what several processes cannot do together."""
    if count > 1 and (not isinstance(recipe.build(), TakesImages) or recipe.learnt):
        what = "a learnt block" if recipe.learnt else f"classifier '{recipe.classifier}'"
        raise UsageError(
            f"{what} is trained by one process",
            found=f"{count} processes, started by torchrun",
            do="Take a classifier of images, or start fusion by itself.",
        )
