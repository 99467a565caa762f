"""How a long command says how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

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
