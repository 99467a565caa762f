"""A page of what each command shows: the command, what it prints, the images that it leaves, and a way to its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.io.output_files import write_output


@dataclass(frozen=True)
class Scene:
    """One command and what it shows.

    Attributes
    ----------
    title : what it is for.
    command : as it is typed.
    lines : what it prints.
    images : address of each, relative to the page, and what it shows.
    page : address of a page that it leaves, "" for none.
    """

    title: str
    command: str
    lines: tuple[str, ...] = ()
    images: tuple[tuple[str, str], ...] = ()
    page: str = ""


def write_gallery(file: Path, scenes: Sequence[Scene]) -> None:
    """Write the page; images and pages stay where they are.

    Raises
    ------
    OSError : the disk is full or the folder cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fusion.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    write_output(file, environment.get_template("gallery.html").render(scenes=scenes).encode())
