"""What a person sees on the terminal: progress and messages on standard error, results on standard output."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fusion.cli._line_breaks import fit, width_of
from fusion.errors import FusionError
from fusion.interface.progress_display import ProgressBars, ProgressLines
from fusion.io.files import shown
from fusion.progress import detail_of

if TYPE_CHECKING:
    from fusion.data.dataset import Fault
    from fusion.evaluation.results import Result
    from fusion.io.event_log import EventLog
    from fusion.learning.predictions import Predictions
    from fusion.progress import Forecast

#: Faults and comparisons shown one by one; the rest is counted. A screen holds about twice as many lines.
_SHOWN = 20

#: Seconds between two lines of the log about one stage.
_LOGGED_EVERY = 5.0

#: Columns of an output that has no width of its own: more than any table needs.
_UNBOUNDED = 400


class PrintError(FusionError):
    """Standard output takes nothing more. What was to be written into files has been."""


@contextmanager
def printing() -> Iterator[None]:
    """A block that prints results: a disk that is full is told as what it is.

    Raises
    ------
    PrintError : standard output cannot be written. BrokenPipeError stays one: nobody reads any more.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise PrintError(
            "cannot print the result",
            found=str(error.strerror or error).lower(),
            do="Lead standard output elsewhere; files named by options are written.",
        ) from error


class Screen:
    """Progress bars, notes and tables; a context in which progress is shown.

    Parameters
    ----------
    as_json : the result is printed by ``json`` alone, tables are left out.
    quiet : neither progress nor notes.
    log : is told of every note, stage and skipped image.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, log: EventLog | None = None) -> None:
        self.as_json, self.quiet, self._event_log = as_json, quiet, log
        self._logged: dict[str, float] = {}
        self._forecasts: list[Forecast] = []
        # A file or a pipe has no width to fit into; 80 columns, which rich takes then, would tear figures apart.
        width = None if width_of(sys.stdout) is not None else _UNBOUNDED
        self._out = _Console(highlight=False, soft_wrap=True, width=width)
        self._err = _Console(stderr=True, highlight=False, soft_wrap=True)
        # A terminal is drawn upon; a file or a pipe is told now and then.
        self._bars = ProgressBars(self._err) if self._err.is_terminal and not quiet else None
        self._lines = ProgressLines(self._say)
        self._log = _Messages(self)
        self.progress = _Progress(self)

    def __enter__(self) -> Self:
        logging.getLogger("fusion").addHandler(self._log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_bars()
        logging.getLogger("fusion").removeHandler(self._log)

    def _end_bars(self) -> None:
        """Leave the bars as they are; what is printed from now on stands below them."""
        if self._bars is not None:
            self._bars.end()

    def show_progress(self, stage: str, done: int, total: int, faults: int) -> None:
        """Show how far a stage has come."""
        self._log_progress(stage, done, total, faults)
        if self._bars is not None:
            self._bars(stage, done, total, faults)
        elif not self.quiet:
            self._lines(stage, done, total, faults)

    def _log_progress(self, stage: str, done: int, total: int, faults: int) -> None:
        now = time.monotonic()
        if self._event_log is None or (done < total and now - self._logged.get(stage, -_LOGGED_EVERY) < _LOGGED_EVERY):
            return
        self._logged[stage] = now
        said = {"detail": detail} if (detail := detail_of(stage)) else {}
        self._event_log("progress", stage=str(stage), done=done, total=total, skipped=faults, **said)

    def _log_text(self, event: str, text: str) -> None:
        if self._event_log is not None:
            self._event_log(event, text=text)

    def show_forecast(self, forecast: Forecast) -> None:
        """Say what a stage is expected to take; the log and ``json`` have it too."""
        self._forecasts.append(forecast)
        if self._event_log is not None:
            self._event_log("expected", **forecast.to_json())
        self._say(str(forecast))

    def note(self, text: str) -> None:
        """A remark on standard error."""
        self._log_text("note", text)
        self._say(text)

    def _say(self, text: str) -> None:
        if not self.quiet:
            self._tell(text)

    def notes(self, texts: Iterable[str]) -> None:
        """Remarks on standard error."""
        for text in texts:
            self.note(text)

    def warn(self, text: str) -> None:
        """A remark that must not be missed: shown even when quiet."""
        self._log_text("warning", text)
        self._tell(text, style="yellow")

    def _tell(self, text: str, style: str = "") -> None:
        with suppress(OSError):  # a terminal that was closed hears nothing more, and the work goes on
            self._err.print(Text(fit(shown(text), sys.stderr), style=style))

    def line(self, text: str = "") -> None:
        """A line of the result."""
        if not self.as_json:
            self._end_bars()
            with printing():
                self._out.print(Text(fit(shown(text), sys.stdout)))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
        """A table of the result. Columns of numbers are never broken or cut; words go on in the next line."""
        if self.as_json:
            return
        self._end_bars()
        body = [list(row) for row in rows]
        if title:
            self.line(title)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for at, name in enumerate(columns):
            numbers = bool(body) and all(row[at][:1].isdigit() for row in body)
            table.add_column(
                Text(shown(name)), justify="right" if numbers else "left", no_wrap=numbers, overflow="fold"
            )
        for row in body:
            table.add_row(*(Text(shown(value)) for value in row))
        with printing():
            self._out.print(table, soft_wrap=False)

    def result(self, result: Result) -> None:
        """Stamps, notes, and the figures of every entry, best first; subjects only where they are known."""
        from fusion.evaluation.headline import (
            best_sentences,
            cautions,
            class_sentences,
            kind_sentence,
            primary_sentences,
            subject_weighted_sentence,
            subjects_sentence,
        )
        from fusion.evaluation.results import describe_split

        for stamp in result.stamps:
            self.warn(stamp)
        self.notes(result.notes)
        if result.without_subjects:
            self.note(result.without_subjects)
        for caution in cautions(result):
            self.warn(caution)
        dealt = f"Held-out {result.judged}s, {describe_split(result.facts)}"
        title = f"{dealt}. 95% intervals by {result.unit}. {kind_sentence(result)}"
        if len(result.scores) == 1:
            self._one_entry(result, title)
        else:
            self._entries(result, title)
        best = result.ranked()[0]
        told = [*class_sentences(result, best), subjects_sentence(result), subject_weighted_sentence(result, best)]
        for sentence in (*told, *best_sentences(result), *primary_sentences(result)):
            if sentence:
                self.line(sentence)

    def _one_entry(self, result: Result, title: str) -> None:
        from fusion.evaluation.headline import left_out_metrics
        from fusion.evaluation.result_tables import METRICS
        from fusion.evaluation.results import LABELS, interval
        from fusion.evaluation.scores import entry_name

        levels = {"image": f"{result.judged} by {result.judged}", "subject": f"{result.unit} by {result.unit}"}
        if result.unit == "image" or result.without_subjects or result.judged == "subject":
            del levels["subject"]  # the same figures again, or none
        (scores,), (figures,) = result.scores, result.figures
        told = [metric for metric in METRICS if metric not in left_out_metrics(figures)]
        rows = [[LABELS[m], *(interval(figures[level][m]) for level in levels)] for m in told]
        self.table([f"{entry_name(scores)}", *levels.values()], rows, title)

    def _entries(self, result: Result, title: str) -> None:
        from fusion.evaluation.results import LABELS, interval

        ranked = result.ranked()
        # Entries of other programs have a name and no classifier of ours.
        names = {"features": [" + ".join(result.scores[at].features) for at in ranked]}
        if any(scores.classifier for scores in result.scores):
            names["classifier"] = [result.scores[at].classifier for at in ranked]
        else:
            names = {"entry": names["features"]}
        metrics = {result.main_metric: result.main_label}
        if result.only_class is None:
            metrics["auroc"] = LABELS["auroc"]
        figures = [[interval(result.figures[at]["image"][metric]) for at in ranked] for metric in metrics]
        rows = [list(row) for row in zip(*names.values(), *figures, strict=True)][:_SHOWN]
        self.table([*names, *metrics.values()], rows, title)
        if len(ranked) > _SHOWN:
            self.line(f"and {len(ranked) - _SHOWN} more in table.csv")

    def predictions(self, found: Predictions, files: Mapping[str, Path | None]) -> None:
        """Every cell, in a table or in these files by kind; every subject; and what has to be known about them.

        Raises
        ------
        PredictionError : there is none; faults have been shown.
        UsageError : a file cannot be written.
        """
        from fusion.learning.predictions import cell_rows, subject_rows

        for kind, path in files.items():
            if path is not None:
                found.save(path, kind)
                self.line(f"{len(found)} predictions written to {path}")
        if len(found) and not any(files.values()):
            self.table(*cell_rows(found))
        # A model of patients has judged them already, one a row.
        if (subjects := found.by_subject) and found.cells is None:
            self.line()
            self.table(*subject_rows(found, subjects))
        self.json(found.to_json())
        if not len(found):
            self.faults(found.faults)
        found.check()
        self.notes(found.notes)

    def json(self, value: Any) -> None:
        """The result for a machine, with what its stages were expected to take."""
        if self.as_json:
            if self._forecasts and isinstance(value, dict):
                value = {**value, "expected": [forecast.to_json() for forecast in self._forecasts]}
            self.write(json.dumps(value, indent=1))

    def write(self, text: str) -> None:
        """A result that is for a machine in any case, as it stands."""
        self._end_bars()
        with printing():
            sys.stdout.write(text + "\n")

    def flush(self) -> None:
        """Print what waits to be printed."""
        with printing():
            sys.stdout.flush()

    def faults(self, faults: Sequence[Fault]) -> None:
        """The images that were skipped, counted and named."""
        if not faults:
            return
        self.warn(f"{len(faults)} image{'s' if len(faults) > 1 else ''} skipped:")
        for fault in faults:
            self._log_text("skipped", str(fault))
        for fault in faults[:_SHOWN]:
            self._tell(f"  {fault}")
        if len(faults) > _SHOWN:
            self._tell(f"  and {len(faults) - _SHOWN} more; all of them with --json")


def size_in_words(count: int) -> str:
    """Bytes as megabytes."""
    return f"{count / 1e6:.1f} MB"


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let whoever runs the command know; rich would end the process as one that failed."""
        raise  # called where the error was caught


class _Progress:
    """What a workflow tells of: it has the shape of ``fusion.progress.Progress``, and hears forecasts."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def __call__(self, stage: str, done: int, total: int, faults: int) -> None:
        self._screen.show_progress(stage, done, total, faults)

    def forecast(self, forecast: Forecast) -> None:
        self._screen.show_forecast(forecast)


class _Messages(logging.Handler):
    """Warnings of the library, one line each, above the progress bar."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        show = self._screen.warn if record.levelno >= logging.WARNING else self._screen.note
        show(record.getMessage())
