"""What a wheel holds: our packages, the recipes, and nothing that shadows anybody's module."""

import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes

import pytest

from tests.builders.images import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel as pip builds it, of what git would hand out."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("fusion", "extractors", "classifiers", "configs", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "cli.py"):
        shutil.copy(ROOT / name, source / name)
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(target)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(target.glob("*.whl"))


def run_installed(folder, *words, cwd):
    """``python -m fusion`` of an unpacked wheel, far from any clone."""
    return subprocess.run(
        [sys.executable, "-m", "fusion", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


def test_a_wheel_has_our_packages_and_no_other_name_at_its_top(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"fusion", "extractors", "classifiers"}
    assert {f"{top}/py.typed" for top in ("fusion", "extractors", "classifiers")} <= set(names)


def test_a_wheel_has_every_recipe(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if name.startswith("fusion/configs/")} == {
        f"fusion/configs/{file.name}" for file in (ROOT / "configs").glob("*.yaml")
    }


def test_metadata_tell_who_and_where_to_read_on(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = message_from_bytes(archive.read(next(n for n in archive.namelist() if n.endswith("/METADATA"))))
    assert metadata["Author"]
    assert metadata.get_all("Project-URL")
    assert "MIT" in (metadata["License-Expression"], metadata["License"])


def test_recipes_of_an_installation_are_found_by_name_from_anywhere(wheel, tmp_path):
    folder = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(folder)
    done = run_installed(folder, "configs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()[1:] if line[:1].strip()} >= {"cnmc", "quickstart"}
    refusal = run_installed(folder, "ablate", "absent", "--config", "quickstart", "-o", "out", cwd=tmp_path)
    assert refusal.returncode == 2
    assert "no such file or folder: absent" in refusal.stderr
