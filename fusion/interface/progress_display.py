"""How far a long command is: bars in a terminal, a line in a notebook, lines now and then anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from fusion.progress import Forecast, Progress, detail_of, duration_in_words

if TYPE_CHECKING:
    from rich.console import Console

#: What the words of a stage mean to somebody who has not written them; the training parts of networks name themselves.
STAGES = {
    "reading": "reading files",
    "measuring": "measuring cells",
    "fitting": "fitting models",
    "judging": "computing figures",
}

#: Seconds between two lines of one stage where there is no terminal.
_EVERY = 30.0

#: Seconds between two pictures in a notebook: more often is only flicker.
_REDRAW = 0.2


@dataclass
class Pace:
    """How far one stage has come and how long it will take, by the clock since its first step."""

    begun: float
    at_first: int
    shown: float = field(default=-float("inf"))

    def rate(self, done: int, now: float) -> float:
        """Steps a second; 0 where nothing is known yet. What was done at once when it began (found in the store)
        tells nothing."""
        passed = now - self.begun
        return (done - self.at_first) / passed if passed > 0 and done > self.at_first else 0.0

    def seconds_left(self, done: int, total: int, now: float) -> float | None:
        """Of this stage; None where nothing is known yet."""
        rate = self.rate(done, now)
        return (total - done) / rate if rate > 0 else None


class ProgressLines:
    """A line when a stage ends, and every half minute while it lasts: for logs and pipes.

    Parameters
    ----------
    write : is given each line.
    clock : seconds, as ``time.monotonic`` tells them.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._paces: dict[tuple[str, int], Pace] = {}

    def __call__(self, stage: str, done: int, total: int, faults: int) -> None:
        """Hear of a step; it has the shape of ``fusion.progress.Progress``."""
        now = self._clock()
        pace = self._paces.get((stage, total))
        if pace is None:
            pace = self._paces[stage, total] = Pace(now, done, now)
        detail = f"; {said}" if (said := detail_of(stage)) else ""
        is_last = done >= total
        if not is_last and now - pace.shown < _EVERY:
            return
        pace.shown = now
        name, skipped = STAGES.get(stage, stage), f", {faults:,} skipped" if faults else ""
        if is_last:
            del self._paces[stage, total]
            self._write(f"{name}: {total:,} in {duration_in_words(now - pace.begun)}{skipped}{detail}")
            return
        left = pace.seconds_left(done, total, now)
        ahead = "" if left is None else f", {pace.rate(done, now):.3g}/s, {duration_in_words(left)} left"
        self._write(f"{name}: {done:,} of {total:,}{skipped}{ahead}{detail}")


class ProgressBars:
    """A bar a stage, in a terminal.

    Parameters
    ----------
    console : where they are drawn.
    """

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._console = console
        self._bars = Bars(
            TextColumn("{task.description:>17}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[faults]}"),
            TextColumn("{task.fields[detail]}"),
            console=console,
        )
        self._tasks: dict[tuple[str, int], Any] = {}
        self._is_shown = False

    def __call__(self, stage: str, done: int, total: int, faults: int) -> None:
        """Hear of a step."""
        if not self._is_shown:
            self._bars.start()
            self._is_shown = True
        known = self._tasks.get((stage, total))
        if known is None:
            known = self._bars.add_task(STAGES.get(stage, stage), total=total, faults="", rate="", detail="")
            self._tasks[stage, total] = known
        task = self._bars.tasks[known]
        speed = task.finished_speed or task.speed
        self._bars.update(
            known,
            completed=done,
            faults=f"[yellow]{faults} skipped" if faults else "",
            rate="" if speed is None else f"{speed:.1f}/s",
            detail=detail_of(stage),
        )

    def forecast(self, forecast: Forecast) -> None:
        """Say what a stage is expected to take, above its bar."""
        self._console.print(str(forecast), markup=False)

    def end(self) -> None:
        """Leave the bars as they are; what is printed from now on stands below them."""
        if self._is_shown:
            self._bars.stop()
            self._is_shown = False


class NotebookProgress:
    """One line below the cell of a notebook, drawn again as the work goes on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        from IPython.display import HTML, display

        self._html, self._clock = HTML, clock
        self._handle = display(HTML(""), display_id=True)
        self._paces: dict[tuple[str, int], Pace] = {}

    def __call__(self, stage: str, done: int, total: int, faults: int) -> None:
        """Hear of a step."""
        now = self._clock()
        pace = self._paces.setdefault((stage, total), Pace(now, done))
        if done < total and now - pace.shown < _REDRAW:
            return
        pace.shown = now
        self._handle.update(self._html(self.markup(stage, done, total, faults, pace, now)))

    def forecast(self, forecast: Forecast) -> None:
        """Say what a stage is expected to take, until its first step."""
        self._handle.update(self._html(escape(str(forecast))))

    @staticmethod
    def markup(stage: str, done: int, total: int, faults: int, pace: Pace, now: float) -> str:
        """The line as HTML."""
        left = pace.seconds_left(done, total, now)
        words = [f"{escape(STAGES.get(stage, stage))} {done:,} of {total:,}"]
        words += [f"{faults:,} skipped"] if faults else []
        words += [f"{duration_in_words(left)} left"] if left is not None and done < total else []
        words += [escape(said)] if (said := detail_of(stage)) else []
        return f'<progress max="{total}" value="{done}"></progress> {", ".join(words)}'


def in_notebook() -> bool:
    """Whether a notebook shows what is displayed."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def default_progress() -> tuple[Progress | None, Callable[[], None]]:
    """What shows the progress of a call where the caller has not said, and what ends it: a line in a notebook, bars
    in a terminal, nothing elsewhere."""
    if in_notebook():
        return NotebookProgress(), lambda: None
    if sys.stderr is not None and sys.stderr.isatty():
        from rich.console import Console

        bars = ProgressBars(Console(stderr=True, highlight=False))
        return bars, bars.end
    return None, lambda: None
