"""The recipes that come with Fusion: files for ``--config`` that are found by name."""

from __future__ import annotations

import re
from pathlib import Path

from fusion.errors import ConfigError, did_you_mean

#: Where they lie: inside the installed package, or beside it in a clone.
_FOLDERS = (Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "configs")


def recipe_files() -> dict[str, Path]:
    """Every recipe by its name, ``cnmc`` for ``cnmc.yaml``, in the order of the names.

    Examples
    --------
    >>> "cnmc" in recipe_files()
    True
    """
    folder = next((each for each in _FOLDERS if each.is_dir()), None)
    return {} if folder is None else {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def find_recipe(name: Path) -> Path:
    """The file that ``--config`` means: a path to one that is there, else a recipe by its name.

    Parameters
    ----------
    name : ``mine.yaml``, ``folder/mine.yaml``, or ``cnmc`` for a recipe that comes with Fusion.

    Raises
    ------
    ConfigError : neither.

    Examples
    --------
    >>> find_recipe(Path("cnmc")).name
    'cnmc.yaml'
    """
    if name.is_file() or len(name.parts) != 1:
        return name
    known = recipe_files()
    # "cnmc.yaml" is what somebody types who has read of configs/cnmc.yaml and stands elsewhere.
    if found := known.get(name.stem if name.suffix in (".yaml", ".yml") else name.name):
        return found
    if name.suffix:
        return name
    raise ConfigError(
        f"no recipe '{name}', and no file of that name",
        expected=f"a YAML file, or one of {', '.join(known)}",
        do=did_you_mean(str(name), known) or "fusion configs lists them.",
    )


def first_lines(file: Path) -> tuple[str, str]:
    """The command that a recipe is for, and what it is, out of the comment that it begins with.

    Returns
    -------
    the command as typed, and the first sentence of the text below it.
    """
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    commands = [line for line in lines if line.startswith("fusion ")]
    text = " ".join(line for line in lines if not line.startswith("fusion "))
    sentence = re.split(r"(?<=\.)\s+(?=[A-Z])", text, maxsplit=1)[0]  # "et al. 2018" goes on
    return (commands[0] if commands else ""), sentence
