"""How long measuring will take, and by how much the store will grow, told when a few cells are measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from fusion.features.cell_measurement import Measured
from fusion.plugins.extractors import Extractor
from fusion.plugins.registry import stored_as
from fusion.progress import Forecast

#: Cells below which there is nothing to tell: they are measured in a second or two.
_WORTH_TELLING = 100

#: Bytes of a cell's key in a shard, and of a feature's name beside its characters.
_KEY, _QUOTES = 68, 4


class MeasuringForecast:
    """Hears of measured cells until it can tell what the others will take.

    Parameters
    ----------
    total : cells to measure.
    lacking : cells that lack each extractor.
    processes : that measure; 1 where a network in this process has the last word.
    flush : cells that are written at once, each time with the names of all features.
    clock : seconds.
    """

    def __init__(
        self,
        total: int,
        lacking: Sequence[tuple[Extractor, int]],
        processes: int,
        flush: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._total, self._lacking, self._flush, self._clock = total, lacking, flush, clock
        self._has_network = any(extractor.in_main_process for extractor, count in lacking if count)
        self._processes = 1 if self._has_network else processes
        self._done, self._last = 0, clock()
        self._is_told = total < _WORTH_TELLING

    def hear(self, measured: Sequence[Measured]) -> Forecast | None:
        """The forecast, once; None before it can be made, and afterwards.

        Of cells measured by processes the median tells: in the first one loops are compiled. Networks wait for their
        second batch, since the first one builds them.
        """
        now = self._clock()
        passed, self._last = now - self._last, now
        is_first, self._done = not self._done, self._done + len(measured)
        if self._is_told or not measured or (self._has_network and is_first):
            return None
        self._is_told = True
        each = passed / len(measured) if self._has_network else statistics.median(one.seconds for one in measured)
        left = self._total - self._done
        return Forecast(
            "measuring",
            f"measuring {left:,} more cells",
            left * each / self._processes,
            self._processes,
            f"{len(measured)} cells timed",
            grows_by=self.bytes_more(),
        )

    def bytes_more(self) -> int:
        """Bytes that all cells to measure take in the store."""
        total = 0.0
        for extractor, count in self._lacking:
            names = extractor.feature_names()
            shared = sum(len(name) + _QUOTES for name in names) * -(-count // self._flush)
            total += count * (np.dtype(stored_as(extractor)).itemsize * len(names) + _KEY) + shared
        return round(total)
