"""Learning rates over the steps of a training, and over the depth of the network.

Every rate is a plain function of the step: a training that goes on after an interruption has nothing to restore.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from torch import nn

from classifiers.neural.network import Network

SCHEDULES = ("onecycle", "cosine", "constant")

#: Of the one cycle (Smith and Topin 2019; defaults of torch's OneCycleLR): share of the steps on the way up, the peak
#: over the start, the start over the end, and the first momentum's range, which runs the other way.
RISING, START, END, MOMENTUM = 0.3, 25.0, 1e4, (0.85, 0.95)


def rate(schedule: str, step: int, steps: int, warmup: float) -> float:
    """The share of the peak rate at a step from 0 to ``steps - 1``.

    "onecycle" rises by half a cosine from 1/25 over 30% of the steps, then falls to 1/250,000. "cosine" rises in a
    straight line over the share ``warmup`` of the steps, then falls to 0 by half a cosine. "constant" rises likewise
    and stays.
    """
    if schedule == "onecycle":
        at, rising = _cycle(step, steps)
        return _half_cosine(1 / START, 1.0, at) if rising else _half_cosine(1.0, 1 / (START * END), at)
    rise = warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    if schedule == "constant":
        return 1.0
    return _half_cosine(1.0, 0.0, (step - rise) / max(1.0, steps - rise))


def first_momentum(schedule: str, step: int, steps: int) -> float:
    """AdamW's first beta: it falls and rises against the rate of the one cycle, and is 0.9 otherwise."""
    if schedule != "onecycle":
        return 0.9
    low, high = MOMENTUM
    at, rising = _cycle(step, steps)
    return _half_cosine(high, low, at) if rising else _half_cosine(low, high, at)


def _cycle(step: int, steps: int) -> tuple[float, bool]:
    """How far the present half of the cycle is done, and whether it is the first."""
    turn = RISING * steps - 1
    if step <= turn:
        return step / turn if turn > 0 else 1.0, True
    return (step - turn) / max(steps - 1 - turn, 1e-9), False


def _half_cosine(start: float, end: float, at: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(at, 1.0)))


# ---- over the depth -------------------------------------------------------------------------------------------------

#: Names of the groups that have a rate of their own, in the order in which rates are given.
DEPTHS = ("early", "late", "head")


def depth_of_parameters(network: Network) -> dict[str, str]:
    """Parameter name -> "early" or "late" half of the backbone's stages, or "head", all that comes after it."""
    early = set() if network.backbone is None else set(_early(network.backbone.backbone))

    def depth(name: str) -> str:
        inner = name.removeprefix("backbone.backbone.")
        return "head" if inner == name else "early" if inner in early else "late"

    return {name: depth(name) for name, _ in network.named_parameters()}


def peak_rates(learning_rate: float | tuple[float, ...]) -> Mapping[str, float]:
    """Depth -> its peak rate, from one for all or three: early, late, head.

    Raises
    ------
    ValueError : another number of rates, or one that is not above 0.
    """
    rates = learning_rate if isinstance(learning_rate, tuple) else (learning_rate,) * len(DEPTHS)
    if len(rates) != len(DEPTHS) or not all(value > 0 for value in rates):
        raise ValueError(f"learning_rate is one number above 0, or {len(DEPTHS)}: {', '.join(DEPTHS)}")
    return dict(zip(DEPTHS, rates, strict=True))


def _early(backbone: nn.Module) -> Iterator[str]:
    """Parameters of the first half of the stages, as timm itself groups them."""
    from timm.models import group_parameters

    stages = group_parameters(backbone, backbone.group_matcher(coarse=True), reverse=True)  # type: ignore[operator]
    count = max(stages.values(), default=0) + 1
    return (name for name, stage in stages.items() if stage < count / 2)
