"""What a command writes, looked at before it begins: hours of work must not end at a file that cannot be written."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from fusion.errors import UsageError
from fusion.io.files import printable
from fusion.io.output_files import check_output_file, check_output_folder
from fusion.io.remote_path import Remote
from fusion.io.run_inputs import file_identity, one_run, protect
from fusion.settings._base import Settings

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
        check_output_folder(path, _option(name), config.output_folders[name])
    for (first, path), (second, other) in itertools.combinations([*files, *folders], 2):
        if path.resolve() == other.resolve() and (first in config.output_files or second in config.output_files):
            raise UsageError(f"{_option(first)} and {_option(second)} name the same file", found=printable(path))
    _keep_model_whole([*files, *folders], _paths(config, "model"))


def _paths(config: Settings, name: str) -> Iterator[Path]:
    """The paths of this machine that a setting holds."""
    value = getattr(config, name, None)
    for each in value if isinstance(value, list | tuple) else (value,):
        if isinstance(each, Path) and not isinstance(each, Remote):
            yield each


def _option(name: str) -> str:
    return "-o" if name == "output" else f"--{name.replace('_', '-')}"


def _keep_model_whole(outputs: list[tuple[str, Path]], models: Iterator[Path]) -> None:
    """Refuse outputs inside the folder of the model that is used: with a file more it would be no model any longer."""
    for model in models:
        whole = file_identity(model)
        for name, path in outputs:
            if whole is not None and any(file_identity(parent) == whole for parent in path.absolute().parents):
                raise UsageError(
                    f"{_option(name)} {printable(path)} lies in the folder of the model {printable(model)}",
                    do="Choose another folder: a model holds no other files than its own.",
                )
