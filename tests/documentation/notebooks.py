"""The notebooks of examples/, run and stored with what they show: ``python -m tests.documentation.notebooks``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def run(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with what it shows when it is run in ``folder``, by this checkout."""
    notebook = nbformat.read(path, as_version=4)
    os.environ |= {"PYTHONPATH": str(ROOT), "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": folder}},
        coalesce_streams=True,  # a busy machine sends what a cell prints in several pieces
    )
    return client.execute()


def kinds(output: nbformat.NotebookNode) -> tuple[str, ...]:
    """Of what kind an output is, and as what it can be shown."""
    return (output.output_type, *sorted(output.get("data", {})))


def store(path: Path) -> None:
    """Run a notebook and write it with its outputs, and with nothing of where and when it ran."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = folder
        notebook = run(path, Path(folder))
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for each in NOTEBOOKS:
        store(each)
