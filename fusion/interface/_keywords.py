"""Settings as keywords of a function: one function a workflow, its help made of the settings' own descriptions."""

from __future__ import annotations

import inspect
import re
import tempfile
import textwrap
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from fusion.errors import ConfigError, UsageError, did_you_mean
from fusion.evaluation.results import Result, check_result_folder
from fusion.interface.progress_display import default_progress
from fusion.io.output_files import write_output
from fusion.progress import Progress
from fusion.settings.key import settings_of
from fusion.settings.loading import build_config
from fusion.settings.outputs import place_for_tables

Found = TypeVar("Found")

#: What is given by position, and beside the settings: name -> type and meaning.
_PARAMETERS = {
    "data": (
        "path or DataFrame",
        "A C-NMC tree, a folder of class folders, a table, or its DataFrame with a column ``path``.",
    ),
    "model": ("path, ModelBundle or Trained", "A model, or its folder."),
    "images": ("path, list of paths, or DataFrame", "Images, folders or tables."),
    "result": ("path or Result, optional", "A result to plan by, its folder, or a table of scores."),
    "results": ("list of paths or Results", "Results, or their folders."),
    "config": ("str, path or mapping, optional", "A recipe by its name, a YAML file, or what stands in one."),
    "progress": (
        "callable or bool, optional",
        "Called with (stage, done, total, faults); by default shown in notebooks and terminals, False for never.",
    ),
}

_RAISES = "FusionError\n    What the command line would say, in the same words."

#: The heading of a section of a docstring.
_SECTION = re.compile(r"\n(Returns|Raises|Examples)\n-+\n")

#: Width of the help of a function, as pydoc shows it.
_WIDTH = 100


def run_workflow(
    model: type[BaseModel],
    workflow: Callable[[Any, Progress | None], Found],
    places: Mapping[str, Any],
    settings: Mapping[str, Any],
    config: Path | str | Mapping[str, Any] | None,
    progress: Progress | bool | None,
) -> Found:
    """Call a workflow with settings that are given as keywords, or as a whole.

    Parameters
    ----------
    model : the workflow's settings.
    places : what is given by position, by the settings' names: one of them may be a ``model``, or a table.
    settings : the keywords.
    config : a recipe by its name, a YAML file, or what stands in one.
    progress : a function to tell, True or None for what suits the place, False for nothing.

    Raises
    ------
    ConfigError : as on the command line.
    """
    first = next(iter(places.values()), None)
    if isinstance(first, model):
        if settings or config is not None or sum(each is not None for each in places.values()) > 1:
            raise UsageError(
                f"{model.__name__} and keywords beside it",
                found=", ".join([*settings, *(["config"] if config is not None else [])]) or "a second argument",
                do=f"Give either a {model.__name__}, or keywords.",
            )
        return _with_progress(workflow, first, progress)
    if isinstance(config, Mapping):
        settings, config = {**config, **settings}, None
    given = {name: value for name, value in {**places, **settings}.items() if value is not None}
    _check_names(model, given)
    folder = tempfile.TemporaryDirectory(prefix="fusion-")
    try:
        place, prefix = place_for_tables(model, given.get("output"), Path(folder.name))
        kept = _Kept(place, prefix, Path(folder.name), force=bool(given.get("force")))
        given = {name: kept.plain(name, value) for name, value in given.items()}
        output = model.model_fields.get("output")
        if output is not None and output.is_required() and "output" not in given:
            given["output"] = Path(folder.name) / "output"
        file = None if config is None else Path(config)
        settings_of_run = build_config(model, file=file, options=given)
        kept.write()
        found = _with_progress(workflow, settings_of_run, progress)
    except BaseException:
        folder.cleanup()
        raise
    # What was found may read from its folder later: weights of a network, tables of a result.
    weakref.finalize(found, folder.cleanup)
    return found


def _with_progress(
    workflow: Callable[[Any, Progress | None], Found], config: Any, progress: Progress | bool | None
) -> Found:
    if progress is False:
        return workflow(config, None)
    if callable(progress):
        return workflow(config, progress)
    shown, end = default_progress()
    try:
        return workflow(config, shown)
    finally:
        end()


def _check_names(model: type[BaseModel], given: Mapping[str, Any]) -> None:
    known = list(model.model_fields)
    for name in given:
        if name not in known:
            raise UsageError(
                f"unknown setting '{name}'",
                expected="" if did_you_mean(name, known) else ", ".join(known),
                do=did_you_mean(name, known)
                or f"help(fusion.{model.__name__.removesuffix('Config').lower()}) tells what each is.",
            )


@dataclass(frozen=True)
class _Kept:
    """Where what is given in memory (tables, models, results) is written to, for the workflow to read.

    The configuration that a result or a model keeps names its data: what it names must still be there when it is run
    again. A result holds the table, or the model that was judged; a model, which holds no other files than its own, has
    the table beside it.
    """

    folder: Path
    prefix: str
    temporary: Path
    force: bool
    waiting: dict[Path, Callable[[Path], None]] = field(default_factory=dict)

    def plain(self, name: str, value: Any) -> Any:
        """A value as a YAML file would have it; a table becomes a Parquet file, which waits to be written.

        Raises
        ------
        UsageError : pixels, where paths are meant.
        """
        if hasattr(value, "to_parquet") and hasattr(value, "columns"):
            file = self.folder / f"{self.prefix}{name}.parquet"
            self.waiting[file] = partial(_write_table, _parquet(value), force=self.force)
            return file
        if hasattr(value, "tolist") and hasattr(value, "ndim"):  # of NumPy, or a column of a table
            if value.ndim > 1:
                raise UsageError(
                    f"{name}: an array of {' x '.join(map(str, value.shape))}",
                    expected="paths",
                    do="fusion.predict_cells judges cells in memory.",
                )
            value = value.tolist()
        if isinstance(value, list | tuple | set):
            return [self.plain(f"{name}-{at}", each) for at, each in enumerate(value)]
        return self._saved(name, value)

    def _saved(self, name: str, value: Any) -> Any:
        """The folder of a model or result that is given itself; all else as it is."""
        if isinstance(value, str | Path | int | float | Mapping):
            return value
        from fusion.bundles.model_bundle import ModelBundle
        from fusion.workflows.train import Trained

        if isinstance(value, Trained):
            value = value.bundle
        if isinstance(value, ModelBundle):
            folder = self.folder / name
            self.waiting[folder] = value.save
            return folder
        if isinstance(value, Result):
            self.waiting[self.temporary / name] = partial(value.save, root=Path())
            return self.temporary / name
        return value

    def write(self) -> None:
        """Write it all, where the run itself may write.

        Raises
        ------
        ConfigError : there is something else.
        """
        if not self.waiting:
            return
        if self.folder != self.temporary and not self.prefix:
            check_result_folder(self.folder, force=self.force)
        for path, write in self.waiting.items():
            write(path)


def _write_table(content: bytes, file: Path, *, force: bool) -> None:
    """Write a table, but not over another one.

    Raises
    ------
    ConfigError : there is another one, and ``force`` is off.
    """
    if not force and file.exists() and file.read_bytes() != content:
        raise ConfigError(
            f"{file} is there already, and holds something else",
            do="Choose another output, or replace what is there with force=True.",
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_output(file, content)


def _parquet(frame: Any) -> bytes:
    """A DataFrame as the content of a Parquet file; its paths are those of the working folder."""
    absolute = frame.copy()
    for column in ("path", "mask"):
        if column in absolute:
            absolute[column] = [_absolute(each) for each in absolute[column]]
    sink = BytesIO()
    absolute.to_parquet(sink, index=False)
    return sink.getvalue()


def _absolute(path: Any) -> Any:
    """A path from the working folder, as in a script; URLs and missing values as they are."""
    is_path = isinstance(path, str | Path) and str(path) and "://" not in str(path)
    return str(Path(path).absolute()) if is_path else path


def with_settings(model: type[BaseModel]) -> Callable[[Callable[..., Found]], Callable[..., Found]]:
    """Have a function's help and signature show every setting of a model."""

    def document(function: Callable[..., Found]) -> Callable[..., Found]:
        own = inspect.signature(function)
        fixed = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        taken = {each.name for each in fixed}
        keywords = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=_default(field), annotation=field.annotation
            )
            for name, field in model.model_fields.items()
            if name not in taken
        ]
        ordered = sorted([*fixed, *keywords], key=lambda each: each.kind)
        function.__signature__ = own.replace(parameters=ordered)  # type: ignore[attr-defined]
        function.__doc__ = _documentation(function.__doc__ or "", model, [each.name for each in fixed])
        return function

    return document


def _default(field: Any) -> Any:
    """What stands in the signature: a plain default, None for what has to be given or has settings of its own."""
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return default if isinstance(default, str | int | float | list) else None


def _documentation(text: str, model: type[BaseModel], own: Sequence[str]) -> str:
    """A docstring with its parameters, the settings among them, before what it returns, and what all raise after it."""
    lines = []
    for at, name in enumerate(own):
        kind, meaning = _PARAMETERS[name]
        lines += [f"{name} : {kind}" + ("" if at else f", or a whole {model.__name__}"), *_indented(meaning)]
    others = []
    for setting in settings_of(model):
        if setting.key not in own:
            default = f", default={setting.default_in_words}" if setting.default_in_words else ""
            others += [f"{setting.key} : {setting.type}{default}", *_indented(f"{setting.meaning}.")]
    summary, *parts = _SECTION.split(inspect.cleandoc(text))
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    sections = {
        "Parameters": "\n".join(lines),
        "Other Parameters": "\n".join(others),
        "Returns": sections["Returns"],
        "Raises": "\n".join(filter(None, [sections.get("Raises", "").rstrip(), _RAISES])),
        "Examples": sections["Examples"],
    }
    return "\n\n".join(
        [summary.rstrip(), *(f"{name}\n{'-' * len(name)}\n{body.rstrip()}" for name, body in sections.items())]
    )


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH - 8, initial_indent="    ", subsequent_indent="    ")
