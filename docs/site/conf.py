"""How Sphinx builds the documentation site: ``make docs``. Pages are those of ``docs/``; API and settings are written
from the code each time."""

from __future__ import annotations

import inspect
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

project = "Fusion"
author = copyright = "The Fusion authors"
version = release = version_of("fusion-cells")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "numpydoc",
]
html_theme = "pydata_sphinx_theme"
html_title = "Fusion"
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "navbar_align": "left",
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
}
html_sidebars = {"index": []}
exclude_patterns = ["site", "_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
autosummary_generate = True
numpydoc_show_class_members = False
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
# Links of pages that are read in a clone too: to folders and files that are no pages.
# Docstrings inherited from scikit-learn refer to its own pages, too.
suppress_warnings = ["myst.xref_missing", "myst.header", "ref.ref"]
nitpicky = False


def _write_settings(folder: Path) -> None:
    """A page a command, from what ``fusion settings`` lists."""
    from fusion.workflows.settings_reference import COMMANDS, reference

    folder.mkdir(parents=True, exist_ok=True)
    for command in COMMANDS:
        found = reference(command)
        lines = [f"# fusion {command}", ""]
        lines += [
            f"Every key that `fusion {command}` takes, by `--set KEY=VALUE` or in a file for `--config`. In Python"
        ]
        lines += ["the keys before the first dot are keywords."]
        for title, settings in (("Its own", found.own), ("Parameters of the layer and of plug-ins", found.parameters)):
            if settings:
                lines += ["", f"## {title}", "", "| key | type | default | meaning |", "| --- | --- | --- | --- |"]
                lines += [_settings_row(each) for each in settings]
        (folder / f"{command}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    index = ["# Settings", "", "Every key of every command, with type, default and meaning.", ""]
    index += ["```{toctree}", *COMMANDS, "```", ""]
    (folder / "index.md").write_text("\n".join(index), encoding="utf-8")


def _settings_row(setting: Any) -> str:
    """A key as a row of a table."""
    default = f"`{setting.default_in_words}`" if setting.default_in_words else ""
    meaning = " ".join(setting.meaning.split()).replace("|", "\\|")
    kind = setting.type.replace("|", "or")
    return f"| `{setting.key}` | {kind} | {'has to be given' if setting.is_required else default} | {meaning} |"


def _write_api(folder: Path) -> None:
    """The list of public names, by what they are."""
    import fusion

    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in fusion.__all__ if not name.startswith("_")]
    kinds: dict[str, list[str]] = {"Functions": [], "Classes": [], "Settings": []}
    for name in names:
        found: Any = getattr(fusion, name)
        is_settings = name.endswith("Config")
        kinds["Settings" if is_settings else "Classes" if inspect.isclass(found) else "Functions"].append(name)
    lines = ["API reference", "=============", ""]
    lines += ["All of it is ``import fusion``; what costs time to import is loaded when it is first used.", ""]
    for title, members in kinds.items():
        lines += [
            title,
            "-" * len(title),
            "",
            ".. currentmodule:: fusion",
            "",
            ".. autosummary::",
            "   :toctree: api",
            "",
        ]
        lines += [*(f"   {name}" for name in members), ""]
    (folder / "api.rst").write_text("\n".join(lines), encoding="utf-8")


def setup(app: Any) -> None:
    """Write the generated pages before anything is looked for."""
    generated = Path(app.srcdir) / "generated"
    _write_settings(generated / "settings")
    _write_api(generated)
