"""docs/architecture.md and docs/extending.md say of the house what is so."""

import configparser
import re

from tests.builders.images import ROOT
from tests.documentation.refusals_table import table

PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_table_of_refusals_is_that_of_the_code():
    _, _, below = PAGE.partition("## What does not go together")
    shown = [line for line in below.splitlines() if line.startswith("|")]
    assert shown == table(), "python -m tests.documentation.refusals_table prints what belongs there"


def test_the_floors_are_those_of_the_contract():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    contract = re.findall(r"[\w.]+", setup["importlinter:contract:floors"]["layers"])
    _, _, below = PAGE.partition("\n## Floors")
    rows = re.findall(r"^\| (`.+?`) \|", below.partition("\n## ")[0], re.MULTILINE)
    assert re.findall(r"[\w.]+", " ".join(rows)) == contract


def test_every_file_and_folder_that_is_named_exists():
    named = re.findall(r"`((?:fusion|extractors|classifiers)/[\w/.]*)`", PAGE)
    assert len(named) > 20
    assert not [path for path in named if not (ROOT / path).exists()]


def test_the_drawing_has_every_stop_of_the_road():
    stops = re.findall(r"^(\d+)\. \*\*(.+?)\.\*\*", PAGE, re.MULTILINE)
    drawn = re.findall(r'class="label"[^>]*>(\d+) (\w+)<', (ROOT / "docs" / "architecture.svg").read_text())
    assert [(number, name.lower()) for number, name in stops] == drawn


def test_every_optional_protocol_is_told_to_those_who_extend():
    from fusion.plugins import classifiers, extractors, networks
    from fusion.plugins.extractors import Learnable

    modules = (extractors, classifiers, networks)
    own = [each for of in modules for each in vars(of).values() if getattr(each, "__module__", "") == of.__name__]
    protocols = {each.__name__ for each in own if getattr(each, "_is_protocol", False) or each is Learnable}
    # Of these an author writes a whole one, or is given one.
    asked = protocols - {"Extractor", "Classifier", "Parts", "TrainingLog", "Watch"}
    page = (ROOT / "docs" / "extending.md").read_text().partition("## What a plug-in may do beyond that")[2]
    assert set(re.findall(r"`([A-Z]\w+)`", page)) == asked
