"""A newcomer's first day: the wheel in a fresh environment, README top to bottom, then both tutorials, no line changed.

``make newcomer`` runs it on every Python of 3.11 to 3.13 that it finds, ``--python PROGRAM`` on others. What a page
takes as given, a table or a tree of C-NMC, are synthetic cells of that shape, and random weights where published ones
lie once they have been fetched; what needs others from the internet is named and not run. The checkout is what the
pages are read from; it is on no path of the commands.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.documentation import commands  # noqa: E402
from tests.documentation.stand_ins import NEEDS_WEIGHTS  # noqa: E402

PAGES = ("README.md", "docs/tutorial.md", "docs/cnmc.md")
VERSIONS = ("3.11", "3.12", "3.13")


def find_interpreters() -> list[Path]:
    """One program of each version that is on the path or among pyenv's."""
    found = []
    for version in VERSIONS:
        pyenv = sorted(
            Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python")
        )
        on_path = shutil.which(f"python{version}")
        candidates = [*map(str, reversed(pyenv)), *([on_path] if on_path else [])]
        works = (each for each in candidates if _version(each).startswith(version))
        found += [Path(each) for each in works][:1]
    return found


def _version(python: str) -> str:
    done = subprocess.run(
        [python, "-c", "import platform; print(platform.python_version())"], capture_output=True, text=True
    )
    return done.stdout.strip()


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout, as pip builds it, out of a copy."""
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return next(folder.glob("*.whl"))


def install(python: Path, wheel: Path, folder: Path, *, light: bool) -> Path:
    """An environment with the wheel and what it needs; the folder of its programs."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    binaries = folder / ".venv" / ("Scripts" if os.name == "nt" else "bin")
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(binaries / "python")]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    if light:
        subprocess.run([*uv, *constraints, "--requirement", str(ROOT / "requirements-light.txt")], check=True)
        subprocess.run([*uv, "--no-deps", str(wheel)], check=True)
    else:
        subprocess.run([*uv, *constraints, str(wheel)], check=True)
    return binaries


def follow(page: Path, binaries: Path, folder: Path, *, light: bool) -> list[str]:
    """Do what a page says; a line for each step that failed."""
    folder.mkdir(parents=True)
    python = binaries / "python"
    subprocess.run([python, ROOT / "tests" / "documentation" / "stand_ins.py", folder, page], check=True, cwd=folder)
    todo = commands.steps(page.read_text())
    if not light:
        todo = [
            commands.Step(step.kind, step.line, _in_place_of_make(step.text)) if step.kind == "command" else step
            for step in todo
        ]
    for step in todo:
        if step.not_run:
            print(f"  not run, {step.not_run}: {step.text.splitlines()[0]}")
        elif light and NEEDS_WEIGHTS in step.text:
            print(f"  not run, needs PyTorch: {step.text.splitlines()[0]}")
    todo = [step for step in todo if not (light and NEEDS_WEIGHTS in step.text)]
    return commands.run(todo, folder, binaries)


def _in_place_of_make(command: str) -> str:
    """``make demo`` makes an environment, which is here already, and runs this in it."""
    return "fusion demo fusion-demo\n" if command.strip() == "make demo" else command


def main() -> int:
    """Follow the pages on every interpreter; 1 where a step failed or there was none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", type=Path, help="an interpreter; may be given several times")
    parser.add_argument("--light", action="store_true", help="without PyTorch, as docs/install.md has it")
    parser.add_argument("--page", action="append", choices=PAGES, help="not all of them")
    asked = parser.parse_args()
    pythons = asked.python or find_interpreters()
    failed = not pythons
    print(f"interpreters: {', '.join(map(str, pythons)) or 'none of ' + ', '.join(VERSIONS)}")
    with tempfile.TemporaryDirectory(prefix="newcomer-") as room:
        wheel = build_wheel(Path(room))
        for number, python in enumerate(pythons):
            folder = Path(room) / str(number)
            started = time.monotonic()
            binaries = install(python, wheel, folder, light=asked.light)
            print(f"Python {_version(str(python))}: {wheel.name} installed in {time.monotonic() - started:.0f} s")
            for page in asked.page or PAGES:
                started = time.monotonic()
                wrong = follow(ROOT / page, binaries, folder / Path(page).stem / "page", light=asked.light)
                print(f"  {page}: {'FAILED' if wrong else 'every command runs'}, {time.monotonic() - started:.0f} s")
                print("".join(f"\n{each}\n" for each in wrong), end="")
                failed |= bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
