"""Every command in README and docs runs, and every option in them exists."""

import itertools
import re
import shlex
import subprocess
import sys

import click
import numpy as np
import pytest

import cli
from tests.builders.images import ROOT
from tests.documentation import commands
from tests.documentation.commands import Step, steps
from tests.documentation.stand_ins import shorten_recipes, stand_in

PAGES = [path for path in commands.pages() if steps(path.read_text())]

#: Pages that take longer than some seconds are run by make docs-test.
QUICK = {"extending.md"}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


# ---- the reader of pages ---------------------------------------------------------------------------------------------


def test_commands_are_found_in_every_kind_of_block():
    page = """
Text with `fusion no-command`.

    $ fusion inspect cells
    cells: 3 images
    $ for s in a b; do
          echo $s; done

and

    make demo    # said without a prompt

```sh
# a remark
ON="one
two"
fusion extract cells \\
    --jobs 1
```

```console
$ fusion plugins
name  kind
```

```python title="a/b.py"
x = 1
```

1. In a list

        fusion inspect more -o \\
            here

```python excerpt
print(unknown)
```

```python
print(2)
```
"""
    found = steps(page)
    assert [(step.kind, step.text.strip()) for step in found] == [
        ("command", "fusion inspect cells"),
        ("command", "for s in a b; do\n      echo $s; done"),
        ("command", "make demo    # said without a prompt"),
        ("command", 'ON="one\ntwo"'),
        ("command", "fusion extract cells \\\n    --jobs 1"),
        ("command", "fusion plugins"),
        ("file", "x = 1"),
        ("command", "fusion inspect more -o \\\n    here"),
        ("python", "print(2)"),
    ]
    assert found[0].line == 4
    assert found[6].title == "a/b.py"


def test_a_step_that_fails_is_reported_with_its_line_and_the_others_run(tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    failed = commands.run(
        [
            Step("command", 1, "WORD=kept"),
            Step("command", 2, "echo it went wrong; false"),
            Step("file", 3, "print('from a file')\n", "sub/script.py"),
            Step("command", 4, 'python sub/script.py > said && test "$WORD" = kept'),
            Step("python", 5, "raise SystemExit(3)\n"),
            Step("command", 6, "make everything"),
        ],
        folder,
    )
    assert [message.splitlines()[0] for message in failed] == [
        "line 2: echo it went wrong; false",
        "line 5: raise SystemExit(3)",
    ]
    assert "exit code 1" in failed[0]
    assert "it went wrong" in failed[0]
    assert (folder / "said").read_text() == "from a file\n"


# ---- the pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_on_a_page_exists(page):
    """Parsed, not run: the quick share of what ``make docs-test`` does."""
    for step in steps(page.read_text()):
        for line in step.text.replace("\\\n", " ").splitlines():
            if step.kind != "command" or not line.startswith("fusion ") or "$" in line:
                continue
            _, name, *words = shlex.split(re.split(r"\s(?:[|>;]|&&)", line)[0], comments=True)
            command = cli.fusion.get_command(click.Context(cli.fusion), name)
            assert command is not None, f"{name_of(page)}, line {step.line}: no command {name}"
            try:
                command.make_context(name, list(words))
            except click.exceptions.Exit:
                assert {"--help", "-h"} & set(words)
            except click.ClickException as error:
                pytest.fail(f"{name_of(page)}, line {step.line}: {error.format_message()}")


@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=[] if p.name in QUICK else pytest.mark.slow) for p in PAGES], ids=name_of
)
def test_every_command_on_a_page_runs(page, tmp_path):
    todo = steps(page.read_text())
    folder = tmp_path / "page"
    folder.mkdir()
    stand_in(folder, page.read_text())
    shorten_recipes(folder)
    for step in todo:
        if step.not_run:
            print(f"not run, {step.not_run}: {step.text.splitlines()[0]}")
    if all(step.not_run for step in todo):
        pytest.skip("; ".join(sorted({step.not_run for step in todo})))
    failed = commands.run(todo, folder)
    assert not failed, "\n\n".join(failed)


def test_the_stand_ins_are_cells_of_the_named_classes(tmp_path):
    from fusion.data.dataset import load_dataset

    stand_in(tmp_path, "seg-wbc-1/labels.csv")
    found = load_dataset(tmp_path / "seg-wbc-1" / "labels.csv")
    counts = np.unique([sample.label for sample in found.samples], return_counts=True)
    assert dict(zip(*map(list, counts), strict=True))["neutrophil"] == 10
    assert not found.faults


def test_every_page_is_reached_from_the_front_of_the_site():
    """A page that no list names is on disk and not in the documentation."""
    reached, todo = set(), ["index"]
    while todo:
        page = todo.pop()
        if page in reached or not (ROOT / "docs" / f"{page}.md").is_file():
            continue
        reached.add(page)
        lists = re.findall(r"```\{toctree\}\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text(), re.DOTALL)
        todo += [
            line for each in lists for line in each.split("\n") if line and line[0] != ":" and "generated" not in line
        ]
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} == reached


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    words = ["-q", "--fail-on-warning", "--keep-going", "-c", "docs/site", "docs", str(tmp_path / "site")]
    done = subprocess.run([sys.executable, "-m", "sphinx", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "generated" / "api" / "fusion.train.html").is_file()


@pytest.mark.parametrize("page", commands.pages(), ids=lambda page: page.stem)
def test_every_column_of_a_table_has_a_head(page):
    """An empty one tells nothing to those who hear a table."""
    lines = page.read_text().splitlines()
    for head, rule in itertools.pairwise(lines):
        if head.startswith("|") and re.fullmatch(r"\|[\s:|-]+\|", rule):
            assert all(cell.strip() for cell in head.strip()[1:-1].split("|")), head
