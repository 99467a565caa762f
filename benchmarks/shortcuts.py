"""How often the shortcut audit warns where nothing tells the class.

    python -m benchmarks.shortcuts --times 100

Traces are drawn that know nothing of the class, alike within subjects by a stated share, as a slide's background is for
all cells of a patient. An audit should warn of anything at all in at most 5 of 100.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.analysis.shortcuts.audit import judge_traces

#: Subjects, cells of each, the share of a trace's variance that lies between subjects, classes.
DESIGNS = ((60, 1, 0.0, 2), (16, 20, 0.8, 2), (40, 10, 0.7, 2), (24, 4, 1.0, 3), (80, 1, 0.0, 4), (300, 1, 0.0, 2))


def draw_traces(
    seed: int, subjects: int, cells: int, share: float, classes: int
) -> tuple[dict[str, NDArray[np.float64]], NDArray[Any], NDArray[np.intp]]:
    """Traces by probe, labels and groups of one data set without shortcuts."""
    rng = np.random.default_rng([seed, subjects])
    groups = np.repeat(np.arange(subjects), cells)
    labels = np.array([f"c{at % classes}" for at in range(subjects)], object)[groups]
    traces = {
        name: np.sqrt(share) * rng.normal(size=(subjects, width))[groups]
        + np.sqrt(1 - share) * rng.normal(size=(len(groups), width))
        for name, width in {"background": 7, "border": 11, "compression": 3}.items()
    }
    traces["image size"] = rng.integers(0, 3, (len(groups), 2)).astype(float)
    traces["source"] = np.eye(3)[rng.integers(0, 3, subjects)][groups]
    return traces, labels, groups


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    options = parser.parse_args(arguments)
    print("subjects  cells  between  classes  audits with an alarm")
    for design in DESIGNS:
        alarms = sum(bool(judge_traces(*draw_traces(seed, *design)).shortcuts) for seed in range(options.times))
        subjects, cells, share, classes = design
        print(
            f"{subjects:8d}  {cells:5d}  {share:7.1f}  {classes:7d}  {alarms / options.times:.1%} ({alarms} of "
            f"{options.times})",
            flush=True,
        )


if __name__ == "__main__":
    main()
