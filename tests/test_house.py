"""The plan of the house: who may import whom, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

#: Floor of each room; a room imports only from floors below it, and its own.
FLOORS = {"fusion": 1, "extractors": 2, "classifiers": 3, "cli": 4}


def modules(room: str) -> list[Path]:
    return [ROOT / "cli.py"] if room == "cli" else sorted((ROOT / room).rglob("*.py"))


def imported_rooms(module: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found & FLOORS.keys()


@pytest.mark.parametrize("room", FLOORS)
def test_a_room_imports_only_from_floors_below_it(room):
    assert modules(room)
    for module in modules(room):
        above = {other for other in imported_rooms(module) if FLOORS[other] > FLOORS[room]}
        assert not above, f"{module} imports {above}"


def test_the_command_line_imports_neither_extractors_nor_classifiers():
    for module in (ROOT / "cli.py", *(ROOT / "fusion" / "cli").glob("*.py")):
        assert imported_rooms(module) == {"fusion"}


def test_importing_fusion_costs_nothing():
    code = "import sys, fusion; print(*(m for m in ('numpy', 'torch', 'sklearn', 'pandas', 'cv2') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_public_name_is_there():
    import fusion

    for name in fusion.__all__:
        assert getattr(fusion, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = fusion.absent


def test_every_config_in_the_box_is_one_that_its_command_takes():
    from fusion.config import AblateConfig, build_config

    files = sorted((ROOT / "configs").glob("*.yaml"))
    assert files
    for file in files:
        build_config(AblateConfig, file=file, options={"data": "cells", "output": "result"})
