"""``fusion adapt``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.cli.options import DATA, OUTPUT, OWN, SITE_CLASSES, SOURCE, argument, command, option
from fusion.settings.commands import AdaptConfig

if TYPE_CHECKING:
    from fusion.cli.console import Screen
    from fusion.data.dataset import Fault


@command(
    AdaptConfig,
    argument("model"),
    *DATA,
    SOURCE,
    SITE_CLASSES,
    option("k", "-k", metavar="N,N"),
    OUTPUT,
    "force",
    option("to_label", metavar="CSV"),
    OWN,
    "other_cohort",
    "allow_leakage",
    "jobs",
    "store",
    "seed",
)
def adapt(screen: Screen, config: AdaptConfig) -> tuple[Fault, ...]:
    """Bring a MODEL to a new site by a few labelled cells, or patients, of it.

    Tells what labels bring, by cells of each class, on cells that nobody labelled, and writes the model that the
    labelled cells of DATA chose: the cheapest that helps of recalibrating it, describing the site, refitting its head
    and, of a network, fine-tuning. Without a label, a model that harmonises new sites (--config robust, --config
    robust-network) keeps what this one looks like, and can then judge its cells one by one; any other with features
    keeps how far its cells lie. --to-label writes which to label next: those it is least sure of, no two alike.
    """
    from fusion.workflows.new_site.adaptation import adapt_model

    found = adapt_model(config, screen.progress)
    screen.notes(found.notes)
    for line in found.lines():
        screen.line(line)
    if found.curve:
        screen.table(*found.table())
    screen.json(found.to_json())
    return found.faults
