"""What a command writes, looked at before it begins: hours of work must not end at a file that cannot be written."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from pydantic import BaseModel

from fusion.errors import UsageError
from fusion.io.files import printable
from fusion.io.output_files import check_output_file, check_output_folder
from fusion.io.remote_path import Remote
from fusion.io.run_inputs import one_run, protect
from fusion.settings._base import Settings, at_home

_Answer = TypeVar("_Answer")
_Config = TypeVar("_Config", bound=Settings)
_Rest = ParamSpec("_Rest")


def one_run_of(
    workflow: Callable[Concatenate[_Config, _Rest], _Answer],
) -> Callable[Concatenate[_Config, _Rest], _Answer]:
    """A workflow, given its settings first, that refuses outputs it could not write and writes over no input."""

    @functools.wraps(workflow)
    def run(config: _Config, /, *rest: _Rest.args, **named: _Rest.kwargs) -> _Answer:
        with one_run():
            check_outputs(config)
            return workflow(config, *rest, **named)

    return run


def place_for_tables(model: type[BaseModel], output: Path | str | None, temporary: Path) -> tuple[Path, str]:
    """Folder, and begin of the name, of tables that a workflow is given in memory: in the result that it writes, beside
    the model, else in a temporary folder."""
    if output is None or not issubclass(model, Settings) or "output" not in model.output_folders:
        return temporary, ""
    folder = Path(at_home(output))
    if model.writes_model:
        return folder.parent, f"{folder.name}-"
    return (folder if model.output_folders["output"] else temporary), ""


def check_outputs(config: Settings) -> None:
    """Refuse outputs that could not be written, that are read in the same run, or that are the same file twice.

    Raises
    ------
    UsageError : names the option and the file.
    """
    written = {*config.output_files, *config.output_folders}
    inputs = [path for name in type(config).model_fields if name not in written for path in _paths(config, name)]
    protect([*inputs, *getattr(config, "own", {}).values()])
    files = [(name, path) for name in config.output_files for path in _paths(config, name)]
    folders = [(name, path) for name in config.output_folders for path in _paths(config, name)]
    for name, path in files:
        check_output_file(path, _option(name), config.output_files[name])
    for name, path in folders:
        is_model = config.writes_model and name == "output"
        check_output_folder(path, _option(name), config.output_folders[name], is_replaced=is_model)
    for (first, path), (second, other) in itertools.combinations([*files, *folders], 2):
        if path.resolve() == other.resolve() and (first in config.output_files or second in config.output_files):
            raise UsageError(f"{_option(first)} and {_option(second)} name the same file", found=printable(path))
    _keep_model_whole([*files, *folders], [*_paths(config, "model")])
    if config.writes_model:
        others = [(name, path) for name, path in [*files, *folders] if name != "output"]
        _keep_model_whole(others, [*_paths(config, "output")], itself=True)


def _paths(config: Settings, name: str) -> Iterator[Path]:
    """The paths of this machine that a setting holds."""
    value = getattr(config, name, None)
    for each in value if isinstance(value, list | tuple) else (value,):
        if isinstance(each, Path) and not isinstance(each, Remote):
            yield each


def _option(name: str) -> str:
    return "-o" if name == "output" else f"--{name.replace('_', '-')}"


def _keep_model_whole(outputs: list[tuple[str, Path]], models: list[Path], *, itself: bool = False) -> None:
    """Refuse outputs inside the folder of a model: with a file more it would be no model any longer.

    Parameters
    ----------
    itself : refuse the folder, too.
    """
    for model in models:
        whole = model.resolve()
        for name, path in outputs:
            found = path.resolve()
            if whole in found.parents or (itself and whole == found):
                raise UsageError(
                    f"{_option(name)} {printable(path)} lies in the folder of the model {printable(model)}",
                    do="Choose another folder: a model holds no other files than its own.",
                )
