"""One command on several processes: torchrun starts them, accelerate binds them, and the first alone has a say.

A process that was started by itself is the first of one, and everything here then does nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from fusion.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

#: The others wait as long as the first has to measure cells: days, where the default of ten minutes would end the run.
_PATIENCE = timedelta(days=30)

#: The first may load its libraries more slowly, and no launcher may be there to end who waits.
_SPEAKING_SECONDS = 20.0


def count() -> int:
    """How many processes train together; 1 for a process that no launcher has started."""
    if "RANK" not in os.environ or "LOCAL_RANK" not in os.environ:
        return 1
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def is_first() -> bool:
    """Whether this process writes files and talks to people."""
    return rank() == 0


def let_first_speak() -> None:
    """Wait to be ended: the launcher ends all processes as soon as one has failed, and the first has to say why."""
    time.sleep(_SPEAKING_SECONDS)


@functools.cache
def join(device: str) -> Accelerator:
    """Meet the other processes, each on a device of its own.

    Parameters
    ----------
    device : "auto", "cpu" or "cuda": where all of them train.

    Raises
    ------
    UsageError : a single GPU by its number, which several processes cannot each have; or fewer GPUs than processes.
    """
    import torch
    from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"device '{device}' is for one process", found=f"{count()} processes", expected="auto, cpu or cuda"
        )
    on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    own = int(os.environ["LOCAL_RANK"])
    if not on_cpu and own >= torch.cuda.device_count():
        raise UsageError(
            "more processes than GPUs",
            found=f"{torch.cuda.device_count()} GPUs for {os.environ.get('LOCAL_WORLD_SIZE', count())} processes",
            do="Start torchrun with one process a GPU, or take device cpu.",
        )
    accelerator = Accelerator(
        device_placement=False,
        mixed_precision="no",  # the trainer chooses it for every training, accelerate once for a process
        cpu=on_cpu,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=_PATIENCE),
            DistributedDataParallelKwargs(),  # which the trainer sets for every network
        ],
    )
    atexit.register(accelerator.end_training)
    return accelerator


@contextlib.contextmanager
def first_alone(device: str) -> Iterator[None]:
    """What is inside runs in the first process, and when it is done in the others, which find its work in the store."""
    if count() == 1:
        yield
        return
    with join(device).main_process_first():
        yield
