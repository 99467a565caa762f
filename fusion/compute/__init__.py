"""Processes, memory, and being asked to stop.

A pool of workers whose results keep their order, several processes under torchrun, memory given back to the system,
and a first Ctrl-C that lets what is at work finish.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion.lazy_names import lazy_names

if TYPE_CHECKING:
    from fusion.compute.graceful_stop import Stop as Stop
    from fusion.compute.memory import collect_rarely as collect_rarely
    from fusion.compute.memory import give_back as give_back
    from fusion.compute.torch_processes import is_first as is_first

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "graceful_stop": ["Stop"],
        "memory": ["collect_rarely", "give_back"],
        "torch_processes": ["is_first"],
    },
)
