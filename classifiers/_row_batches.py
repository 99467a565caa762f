"""Rows that are read some at a time, where a classifier would be given a matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Batched(Protocol):
    """A matrix whose rows can be had some at a time."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def batches(self) -> Iterator[NDArray[np.float32]]: ...
