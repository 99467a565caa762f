"""How a long command says how far it is, and beforehand how long it will take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

#: Called with (stage, done, to do, faults so far). Stages are "reading", "measuring", "fitting", "judging", and the
#: names of trainings, which come as a ``Stage`` with its detail.
Progress = Callable[[str, int, int, int], None]


class Stage(str):
    """The name of a stage, and what there is to say of it now; it is equal to the name alone.

    Attributes
    ----------
    detail : the epoch of a network, its loss and its score, say; "" for nothing.

    Examples
    --------
    >>> Stage("fold 1 of 5", "epoch 2 of 20, loss 0.41") == "fold 1 of 5"
    True
    """

    detail: str

    def __new__(cls, name: str, detail: str) -> Self:
        """A name with its detail."""
        stage = super().__new__(cls, name)
        stage.detail = detail
        return stage


def detail_of(stage: str) -> str:
    """What there is to say of a stage now; "" for nothing."""
    return stage.detail if isinstance(stage, Stage) else ""


@dataclass(frozen=True)
class Forecast:
    """What a stage is expected to take, before it is spent. An extrapolation of what was timed, not a promise.

    Attributes
    ----------
    stage : as progress calls it.
    work : what is done, in words: "fitting 375 models".
    seconds : by the clock.
    processes : that share the work.
    timed : what the seconds are extrapolated from, in words.
    parts : what they are made of, with the seconds of each.
    grows_by : bytes that the store will hold more.
    left_out : what is not counted, in words: "25 networks, whose epochs tell"; "" for nothing.
    """

    stage: str
    work: str
    seconds: float
    processes: int
    timed: str
    parts: tuple[tuple[str, float], ...] = ()
    grows_by: int = 0
    left_out: str = ""

    def __str__(self) -> str:
        where = f"on {self.processes} processes" if self.processes > 1 else "on one process"
        parts = ", ".join(f"{name} {duration_in_words(seconds)}" for name, seconds in self.parts)
        of = f": {parts}" if len(self.parts) > 1 else ""
        growth = f"; the store grows by about {self.grows_by / 1e6:,.1f} MB" if self.grows_by else ""
        left_out = f"; not counted: {self.left_out}" if self.left_out else ""
        return f"{self.work}: about {duration_in_words(self.seconds)} {where}{of} (from {self.timed}){growth}{left_out}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "stage": self.stage,
            "work": self.work,
            "seconds": round(self.seconds, 1),
            "processes": self.processes,
            "timed": self.timed,
            "parts": {name: round(seconds, 1) for name, seconds in self.parts},
            "grows_by": self.grows_by,
            "left_out": self.left_out,
        }


@runtime_checkable
class HearsForecasts(Protocol):
    """A progress that also shows what a stage is expected to take."""

    def forecast(self, forecast: Forecast) -> None:
        """Hear of a stage that begins."""
        ...


def tell_forecast(progress: Progress | None, make: Callable[[], Forecast | None]) -> None:
    """Tell whoever listens for forecasts; none is made where nobody does."""
    if isinstance(progress, HearsForecasts) and (forecast := make()) is not None:
        progress.forecast(forecast)


def duration_in_words(seconds: float) -> str:
    """``9 s``, ``1 min 20 s``, ``2 h 5 min``.

    Examples
    --------
    >>> duration_in_words(80)
    '1 min 20 s'
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
