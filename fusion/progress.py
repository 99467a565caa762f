"""How a long command says how far it is."""

from __future__ import annotations

from collections.abc import Callable

#: Called with (stage, done, to do, faults so far); the stages are "reading", "measuring" and "fitting".
Progress = Callable[[str, int, int, int], None]
