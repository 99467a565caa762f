"""The plan of the house: who may import whom, and what importing costs."""

import ast
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from tests.builders.images import ROOT


def test_the_contract_of_imports_is_kept():
    """Floors, circles, private modules, plug-ins by entry point only: see [importlinter] in setup.cfg."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def modules() -> list[Path]:
    return [path for room in ("fusion", "extractors", "classifiers") for path in sorted((ROOT / room).rglob("*.py"))]


def test_no_folder_has_more_modules_than_one_can_see_at_once():
    folders = Counter(path.parent for path in modules() if path.name != "__init__.py")
    assert {str(folder): count for folder, count in folders.items() if count > 20} == {}


def test_inside_the_house_modules_are_imported_never_the_faces_of_packages():
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                package = ROOT.joinpath(*node.module.split("."))
                if (package / "__init__.py").is_file():
                    for alias in node.names:
                        inside = package / alias.name
                        assert inside.with_suffix(".py").is_file() or inside.is_dir(), f"{path}:{node.lineno}"


def faces() -> list[str]:
    found = [path.parent.relative_to(ROOT) for path in modules() if path.name == "__init__.py"]
    return [".".join(folder.parts) for folder in found if "lazy_names(" in (ROOT / folder / "__init__.py").read_text()]


@pytest.mark.parametrize("package", faces())
def test_a_package_hands_on_what_its_face_says(package):
    tree = ast.parse((ROOT.joinpath(*package.split(".")) / "__init__.py").read_text())
    typed = [
        (node.module, alias.asname)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    face = import_module(package)
    assert sorted(name for _, name in typed) == dir(face) == face.__all__
    for module, name in typed:
        assert getattr(face, name) is getattr(import_module(module), name)


#: Floor of each room; a room imports only from floors below it, and its own.
FLOORS = {"fusion": 1, "extractors": 2, "classifiers": 3, "cli": 4}


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
    from fusion.settings.commands import AblateConfig
    from fusion.settings.loading import build_config

    files = sorted((ROOT / "configs").glob("*.yaml"))
    assert files
    for file in files:
        build_config(AblateConfig, file=file, options={"data": "cells", "output": "result"})


def test_measuring_waits_for_no_library_of_learning():
    code = (
        "import sys, fusion.workflows.extract, fusion.workflows.inspect\n"
        "print(*(name for name in ('torch', 'sklearn', 'scipy', 'timm', 'xgboost', 'skimage') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
