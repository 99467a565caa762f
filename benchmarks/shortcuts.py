"""How often the shortcut audit warns where nothing tells the class, and how strong a shortcut has to be to be found.

    python -m benchmarks.shortcuts --times 100
    python -m benchmarks.shortcuts --times 20 --planted

Traces are drawn that know nothing of the class, alike within subjects by a stated share, as a slide's background is for
all cells of a patient. An audit should warn of anything at all in at most 5 of 100. With ``--planted`` one of them
knows something: a word (format, camera, source, sampling of chrominance) is that of the class in a stated share of
subjects, a number (background, border, size, table of JPEG, place in the order) lies by stated standard deviations
apart.
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


#: Shares of subjects whose word is that of their class, and standard deviations between the classes' numbers.
WORDS, NUMBERS = (0.6, 0.7, 0.8, 0.9, 1.0), (0.5, 1.0, 1.5, 2.0)

#: Probes that tell by words, and by numbers.
OF_WORDS, OF_NUMBERS = ("source", "compression"), ("background", "border")


def plant(
    traces: dict[str, NDArray[np.float64]],
    labels: NDArray[Any],
    groups: NDArray[np.intp],
    probe: str,
    strength: float,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """The traces, one of which tells the class by as much; see ``WORDS`` and ``NUMBERS``."""
    rng = np.random.default_rng([seed, 1])
    is_first = labels == labels[0]
    X = traces[probe].copy()
    if probe in OF_WORDS:
        keeps = (rng.random(groups.max() + 1) < strength)[groups]
        X = np.stack([is_first == keeps, is_first != keeps], axis=1).astype(float)
    else:
        X[:, 0] += strength * is_first
    return {**traces, probe: X}


def report_planted(times: int) -> None:
    """How often each planted shortcut is found, in data sets of 60 subjects of a cell and of 40 of ten."""
    print("subjects  cells  probe        strength  found")
    for design in (DESIGNS[0], DESIGNS[2]):
        for probe in (*OF_WORDS, *OF_NUMBERS):
            for strength in WORDS if probe in OF_WORDS else NUMBERS:
                found = 0
                for seed in range(times):
                    traces, labels, groups = draw_traces(seed, *design)
                    planted = plant(traces, labels, groups, probe, strength, seed)
                    found += probe in {one.name for one in judge_traces(planted, labels, groups).shortcuts}
                print(f"{design[0]:8d}  {design[1]:5d}  {probe:12s} {strength:8.1f}  {found} of {times}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--planted", action="store_true", help="how strong a shortcut has to be, not false alarms")
    options = parser.parse_args(arguments)
    if options.planted:
        report_planted(options.times)
        return
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
