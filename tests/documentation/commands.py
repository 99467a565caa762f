"""The commands in README and docs, taken out of the pages and run as a reader would run them.

A fenced block marked ``sh`` is commands, all of it. In other fenced blocks, and in indented ones, lines that begin with
``$ `` are. A block marked ``python`` is run too, unless it says ``excerpt``; one with ``title="FILE"`` is written to
that file. Everything of a page happens in one folder and one shell, in order.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Commands that are not run, and why.
NOT_RUN = (
    (r"^make\b", "makes an environment of its own, which continuous integration does"),
    (r"^(uv )?pip install (?!\./)", "would change what is installed"),
    (r"^git (clone|push|pull)\b", "needs a network"),
    (r"^fusion serve\b", "runs until it is stopped; the tests of the page start it"),
    (r"^fusion .*(--weights pretrained|--config (backbones|braga|dinobloom|prellberg|resnet))", "fetches weights"),
    # A network starts from published weights unless told otherwise, here or in a variable of the page.
    (r"^fusion (?=.*(--classifiers? (\S*,)?neural|--config mobilenetv2-cpu))(?!.*(weights=|\$))", "fetches weights"),
    (r"--scheduler\b|^torchrun\b", "needs other machines"),
    (r"\b(s3|gs)://", "needs a bucket"),
)

#: Folder beside a page's own where published weights are looked for first.
HUB_CACHE = "hub"

_FENCE = re.compile(r"^```(?P<language>\w*)[ ]*(?:title=\"(?P<title>[^\"]+)\")?.*$")

#: First words of an indented line without a prompt that is a command all the same.
_PROGRAMS = ("make", "fusion", "pip", "python", "cd", "git")


@dataclass(frozen=True)
class Step:
    """One thing that a reader does: run a command or some Python, or save a file.

    Attributes
    ----------
    kind : "command", "python" or "file".
    line : where it begins on its page, from 1.
    text : the command, the code, or the file's content.
    title : name of the file.
    """

    kind: str
    line: int
    text: str
    title: str = ""

    @property
    def not_run(self) -> str:
        """Why it is not run; "" where it is."""
        reasons = (why for pattern, why in NOT_RUN if re.search(pattern, self.text, re.DOTALL))
        return next(reasons, "") if self.kind == "command" else ""


def pages() -> list[Path]:
    """README and every page under docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def steps(text: str) -> list[Step]:
    """What a page tells its reader to do, in order."""
    found: list[Step] = []
    for number, language, title, lines in _blocks(text.splitlines()):
        content = "\n".join(lines) + "\n"
        if title:
            found.append(Step("file", number, content, title))
        elif language == "python":
            found.append(Step("python", number, content))
        else:
            is_shell = language in ("sh", "bash", "shell")
            found += _commands(number, lines, all_of_it=is_shell, is_fenced=language != "indented")
    return found


def _blocks(lines: list[str]) -> Iterator[tuple[int, str, str, list[str]]]:
    """(number of its first line, language, title, lines) of every block; indented ones are of language "indented"."""
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        start = at + 1
        if fence:
            while start < len(lines) and not lines[start].startswith("```"):
                start += 1
            if not lines[at].endswith(" excerpt"):
                yield at + 2, fence["language"], fence["title"] or "", lines[at + 1 : start]
            at = start + 1
        elif lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip()):
            while start < len(lines) and (lines[start].startswith("    ") or not lines[start].strip()):
                start += 1
            # A block in a list stands further in.
            yield at + 1, "indented", "", textwrap.dedent("\n".join(lines[at:start])).split("\n")
            at = start
        else:
            at += 1


def _commands(number: int, lines: list[str], *, all_of_it: bool, is_fenced: bool) -> Iterator[Step]:
    """Commands of a block: one goes on until the shell finds it whole."""
    at = 0
    has_prompts = any(line.startswith("$ ") for line in lines)
    while at < len(lines):
        line, start = lines[at], at
        at += 1
        is_bare = not is_fenced and not has_prompts and line.partition(" ")[0] in _PROGRAMS
        if not line.strip() or line.lstrip().startswith("#") or not (all_of_it or line.startswith("$ ") or is_bare):
            continue
        command = line.removeprefix("$ ")
        while at < len(lines) and not _is_whole(command):
            command += "\n" + lines[at].removeprefix("> ")
            at += 1
        yield Step("command", number + start, command)


def _is_whole(command: str) -> bool:
    if command.endswith("\\"):
        return False
    return subprocess.run(["bash", "-n", "-c", command], stderr=subprocess.DEVNULL).returncode == 0


def run(todo: list[Step], folder: Path, installed: Path | None = None) -> list[str]:
    """Do it all in ``folder``; one message for each step that failed.

    Parameters
    ----------
    installed : folder of the programs of an installation; without one the checkout is what runs.
    """
    binaries, packages, store = folder.parent / "bin", folder.parent / "site-packages", folder.parent / "store"
    if installed is None:
        _programs_of_checkout(binaries)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(installed or binaries), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(packages)] if installed else [str(ROOT), str(packages)]),
        "FUSION_CACHE": str(store),
        "HF_HUB_CACHE": str(folder.parent / HUB_CACHE),
        # Pages run side by side: threads of one would wait for those of the other.
        "OMP_NUM_THREADS": "1",
        # What a page installs goes into a folder of the test, offline.
        "PIP_TARGET": str(packages),
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    script = []
    for at, step in enumerate(todo):
        if step.not_run:
            continue
        script.append(f"printf '\\n@begin {at}\\n'")
        if step.kind == "file":
            content = folder.parent / f"step-{at}"
            content.write_text(step.text)
            target = shlex.quote(step.title)
            script.append(f'mkdir -p "$(dirname {target})" && cp {shlex.quote(str(content))} {target}')
        elif step.kind == "python":
            content = folder.parent / f"step-{at}.py"
            content.write_text(step.text)
            script.append(f"python {shlex.quote(str(content))}")
        else:
            script.append(step.text)
        script.append(f"printf '\\n@end {at} %d\\n' $?")
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    ended = {int(at): int(code) for at, code in re.findall(r"^@end (\d+) (\d+)$", done.stdout, re.MULTILINE)}
    failed = []
    for at, step in enumerate(todo):
        if not step.not_run and ended.get(at) != 0:
            said = done.stdout.partition(f"@begin {at}\n")[2].partition(f"@end {at} ")[0].strip()
            failed.append(f"line {step.line}: {step.text.strip()}\n  exit code {ended.get(at)}\n  {said[-1500:]}")
    return failed


def _programs_of_checkout(binaries: Path) -> None:
    binaries.mkdir(exist_ok=True)
    for name, module in (("fusion", "fusion"), ("pip", "pip"), ("python", "")):
        program = f"{sys.executable} -m {module}" if module else sys.executable
        (binaries / name).write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        (binaries / name).chmod(0o755)
