"""The terminal screens of docs/tour.md, made anew: every command of the page that shows what it prints is run.

    python -m benchmarks.readme_figures --only screens --wbc segmentation_WBC --weights mobilenetv2_100.safetensors

What tells of progress and of expected time is left out, as it is another at every run. Where a screen of the page
leaves lines out ("..."), so does the new one: it keeps as many of the first lines, and then what begins with the same
words.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fusion.cli._line_breaks import break_lines

ROOT = Path(__file__).parents[1]

#: Columns of the terminal that is shown; the page's indentation makes them 112.
WIDTH = 108

#: What a line left out is shown as.
LEFT_OUT = "..."

#: "measuring cells: 300 in 8 s", "fitting models: 1,002 of 1,200, .. left", "measuring 300 cells: about 40 s on ..".
_PROGRESS = re.compile(r"^[a-z][^:]*: ([\d,]+ (in|of) |about \d|under )")

#: Words of a line by which it is found again in a new screen.
_ANCHOR = 4


def write_screens(page: Path, folder: Path) -> list[str]:
    """Run the commands that show what they print, and put what they print now into their place.

    Parameters
    ----------
    page : a page of the documentation.
    folder : where they are run, with a home folder beside it, whose feature store is empty at first; results that
        earlier runs have left there go.

    Returns
    -------
    The commands whose screens have changed.
    """
    shutil.rmtree(folder.parent / "home", ignore_errors=True)
    lines, made, changed = page.read_text().splitlines(), [], []
    at = 0
    while at < len(lines):
        command, after = _command_at(lines, at)
        shown = list(_shown(lines, after)) if command.startswith("fusion ") else []
        if not shown:
            made.append(lines[at])
            at += 1
            continue
        new = abridge(run_command(command, folder), shown)
        if new != shown:
            changed.append(command)
        made += [*lines[at:after], *(f"    {line}" for line in new)]
        at = after + len(shown)
    page.write_text("\n".join(made) + "\n")
    return changed


def _command_at(lines: Sequence[str], at: int) -> tuple[str, int]:
    """The command that begins in this line and the number of the line after it; "" where none does."""
    if not lines[at].startswith("    $ "):
        return "", at + 1
    command, after = lines[at].removeprefix("    $ "), at + 1
    while command.endswith("\\"):
        command, after = command.removesuffix("\\") + lines[after].strip(), after + 1
    return command, after


def _shown(lines: Sequence[str], at: int) -> Iterator[str]:
    """What the page shows of a command's output, which ends at the next command and at the block's end."""
    for line in lines[at:]:
        if not line.startswith("    ") or line.startswith(("    $ ", "    > ")):
            return
        yield line[4:]


def run_command(command: str, folder: Path) -> list[str]:
    """The lines that a ``fusion`` command prints, its notes and warnings among them, wrapped as a terminal does."""
    if written := re.search(r"-o (\S+)", command):
        forget_finished(folder / written[1])
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    known = {name: value for name, value in os.environ.items() if name != "FUSION_CACHE"}
    program = f'fusion() {{ {sys.executable} -m fusion "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-c", program + command],
        cwd=folder,
        env={**known, "HOME": str(home), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode not in (0, 3):
        raise SystemExit(f"{command}\n{done.stdout}")
    said = (line.rstrip() for line in done.stdout.replace(str(home), "~").splitlines())
    kept = [line for line in said if not tells_progress(line)]
    return break_lines("\n".join(kept), WIDTH).splitlines()


def tells_progress(line: str) -> bool:
    """Whether a line says how far a stage has come or what it is expected to take, and so is another at every run."""
    return _PROGRESS.match(line) is not None


def forget_finished(folder: Path) -> None:
    """Delete a result, a model or a page of an earlier run; what was stopped has none of them yet, and goes on."""
    if any((folder / name).is_file() for name in ("result.json", "model.json", "explanations.html")):
        shutil.rmtree(folder)


def abridge(lines: Sequence[str], shown: Sequence[str]) -> list[str]:
    """What is kept of a new screen, by what the old one has kept.

    >>> abridge(["a b 1", "c 2", "d 3", "model in m"], ["a b 0", "...", "model in old"])
    ['a b 1', '...', 'model in m']
    """
    first, *others = _parts(shown)
    if not others:
        return list(lines)
    whole = _sentences(lines)
    kept = whole[: len(_sentences(first))]
    for part in others:
        kept.append([LEFT_OUT])
        for sentence in _sentences(part):
            words = sentence[0].split()[:_ANCHOR]
            found = [each for each in whole if each[0].split()[: len(words)] == words]
            # Of names and figures the first words differ: those of one word less are looked for.
            while not found and len(words) > 1:
                words = words[:-1]
                found = [each for each in whole if each[0].split()[: len(words)] == words]
            if not found:
                raise SystemExit(f"no line begins as '{sentence[0]}' any more")
            kept.append(found[0])
    return [line for sentence in kept for line in sentence]


def _parts(lines: Sequence[str]) -> list[list[str]]:
    """The lines between those that stand for lines left out."""
    parts: list[list[str]] = [[]]
    for line in lines:
        if line == LEFT_OUT:
            parts.append([])
        else:
            parts[-1].append(line)
    return parts


def _sentences(lines: Sequence[str]) -> list[list[str]]:
    """Each line with those that go on from it."""
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("  ") and found:
            found[-1].append(line)
        else:
            found.append([line])
    return found
