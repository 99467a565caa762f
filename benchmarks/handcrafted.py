"""Our handcrafted families against their peers, on the same cells, in one run, one core each; prints Markdown.

    python benchmarks/handcrafted.py                       everything, the better part of an hour
    python benchmarks/handcrafted.py --quick               a few minutes
    python benchmarks/handcrafted.py --parts peers --sizes 450 --peers nyxus
    python benchmarks/handcrafted.py --parts growth --cells 100,1000

Peers other than scikit-image and mahotas are installed by pip into environments of their own in a temporary folder; one
that does not install or does not run is reported, and the rest goes on. Nothing here asserts how fast anything is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from fusion.images.cell import Cell, read_cell  # noqa: E402  # the code beside this script, not what is installed
from fusion.synthetic.cells import SyntheticDesign, synthesize  # noqa: E402

#: Side of the image; the cell in it fills about half of it, as in C-NMC.
SIZES = (120, 300, 450, 1024)
OURS = (
    "fusion",
    "fusion morphology",
    "fusion texture",
    "fusion colour",
    "fusion, families of the loop",
    "fusion, shape, GLCM and colour",
)
#: Each contestant of the peers, and what of ours has as much and more.
LOOPS = {
    "scikit-image + mahotas": "fusion, families of the loop",
    "scikit-image + mahotas, cell only": "fusion, families of the loop",
}
CONTESTANTS = {
    "nyxus": {
        "nyxus, shape, GLCM and intensity": "fusion, shape, GLCM and colour",
        "nyxus, shape, GLCM and intensity, cell only": "fusion, shape, GLCM and colour",
        "nyxus, all, cell only": "fusion",
    },
    "cp_measure": {"cp_measure": "fusion"},
    "pyradiomics": {"pyradiomics": "fusion"},
}
#: Arguments of pip, one call each.
PEERS = {
    "nyxus": [["nyxus"]],
    "cp_measure": [["cp-measure"]],
    # Its setup needs NumPy and does not say so.
    "pyradiomics": [["numpy", "setuptools", "wheel", "versioneer", "cython"], ["--no-build-isolation", "pyradiomics"]],
}
#: One thread, whatever a library would take.
ONE_CORE = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA")}
#: A process between us and the command line tells how much memory its largest descendant took, what processor time all
#: took together, and how long that was, less its own start.
WATCH = """
import resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
seconds = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime, seconds)
sys.exit(code)
"""
PARTS = ("peers", "growth", "workers")


def main() -> None:
    options = _options()
    print("# Handcrafted features: speed\n")
    print(
        f"{platform.machine()}, {_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}.\n",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="fusion-benchmark-") as folder:
        work = Path(folder)
        if "peers" in options.parts:
            compare_peers(work, options.sizes, options.peers, options.images, options.repeats)
        if "growth" in options.parts:
            show_growth(work, options.cells)
        if "workers" in options.parts:
            show_workers(work, options.workers_cells, options.jobs, options.repeats)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--quick", action="store_true", help="fewer cells, sizes and repeats")
    parser.add_argument("--parts", type=_names(PARTS), default=PARTS, help=f"of {','.join(PARTS)}")
    parser.add_argument("--sizes", type=_numbers, help="sides of the images in pixels")
    parser.add_argument("--peers", type=_names((*PEERS, "none")), default=tuple(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--images", type=int, help="cells per size for the peers")
    parser.add_argument("--repeats", type=int, help="times each cell is measured; the fastest counts")
    parser.add_argument("--cells", type=_numbers, help="sizes of the data sets for growth")
    parser.add_argument("--workers-cells", type=int, help="size of the data set for workers")
    parser.add_argument("--jobs", type=_numbers, help="numbers of workers")
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    every = {
        "sizes": ((120, 450), SIZES),
        "images": (2, 6),
        "repeats": (2, 3),
        "cells": ((50, 100), (100, 1000, 10_000)),
        "workers_cells": (100, 1000),
        "jobs": ((1, 2), tuple(jobs for jobs in (1, 2, 4, 8, 16) if jobs <= max(2, cores))),
    }
    for name, (quick, full) in every.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    return options


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _names(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        if unknown := set(text.split(",")) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
        return tuple(text.split(","))

    return parse


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


# ---- against the peers ----------------------------------------------------------------------------------------------


def compare_peers(work: Path, sizes: Sequence[int], peers: Sequence[str], images: int, repeats: int) -> None:
    """One table a size: time, values, ratio to ours, memory."""
    tree = synthesize(work / "cells", SyntheticDesign(subjects=4, cells_per_subject=-(-images // 4), folds=1))
    sources = sorted(tree.rglob("*.bmp"))
    sources = [sources[at * len(sources) // images] for at in range(images)]  # of both classes
    interpreters = dict.fromkeys((*OURS, *LOOPS), sys.executable)
    compared = dict(LOOPS)
    for peer in peers:
        if peer in PEERS and (interpreter := _environment(work, peer)) is not None:
            interpreters |= dict.fromkeys(CONTESTANTS[peer], interpreter)
            compared |= CONTESTANTS[peer]
    for size in sizes:
        cells = [resized(read_cell(source), size) for source in sources]
        path = write_cells(work / f"cells_{size}.npz", cells)
        area = np.mean([np.count_nonzero(cell.mask) for cell in cells])
        print(f"\n## Images of {size}x{size}: {len(cells)} cells of {area:,.0f} pixels on average, processor time\n")
        print("| | ms per cell | values | µs per value | times as long | as | peak MB | first call, s |")
        print("| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |", flush=True)
        taken: dict[str, float] = {}
        for name, interpreter in interpreters.items():
            found = _run_contestant(interpreter, name, path, repeats)
            if isinstance(found, str):
                print(f"| {name} | {found} | | | | | | |", flush=True)
                continue
            taken[name] = found["ms"]
            ours = compared.get(name, "")
            ratio = f"{found['ms'] / taken[ours]:.1f}" if ours in taken else ""
            each = 1e3 * found["ms"] / found["values"]
            row = f"| {name} | {found['ms']:.2f} | {found['values']} | {each:.1f} | {ratio} | {ours} "
            print(f"{row}| {found['peak_mb']:.0f} | {found['first_s']:.2f} |", flush=True)


def resized(cell: Cell, side: int) -> Cell:
    """The cell as it would be in an image of ``side`` instead of 450 pixels."""
    height, width = (max(1, round(length * side / 450)) for length in cell.mask.shape)
    way = cv2.INTER_AREA if side < 450 else cv2.INTER_CUBIC
    nearest = (
        cv2.resize(part.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        for part in (cell.mask, cell.nucleus)
    )
    mask, nucleus = (part.astype(bool) for part in nearest)
    rgb = cv2.resize(cell.rgb, (width, height), interpolation=way)
    return Cell(np.where(mask[..., None], rgb, 0).astype(np.uint8), mask, nucleus)


def write_cells(path: Path, cells: Sequence[Cell]) -> Path:
    """For ``contestants.load``."""
    parts = ("rgb", "mask", "nucleus")
    np.savez(path, **{f"{part}_{at}": getattr(cell, part) for at, cell in enumerate(cells) for part in parts})
    return path


def _environment(work: Path, peer: str) -> str | None:
    """The interpreter of a fresh environment with a peer in it; None, and a line saying why, where it fails."""
    folder = work / f"environment_{peer}"
    venv.create(folder, with_pip=True)
    python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    for arguments in PEERS[peer]:
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"{peer} does not install here: {_last_line(done.stderr)}\n", flush=True)
            return None
    return python


def _run_contestant(interpreter: str, name: str, cells: Path, repeats: int) -> dict | str:
    """What the contestant printed, or the last line of its complaint."""
    command = [interpreter, str(HERE / "contestants.py"), name, str(cells), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | ONE_CORE)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else _last_line(done.stderr)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and "notice" not in line]
    return lines[-1].strip().replace("|", "/") if lines else "no message"


# ---- the command line, end to end -----------------------------------------------------------------------------------


def show_growth(work: Path, numbers: Sequence[int]) -> None:
    """``fusion extract`` with one worker on more and more cells."""
    print("\n## Growth with the number of cells: `fusion extract`, 450x450, one worker\n")
    print("| cells | s | cells per s | of processor | ms per cell | of processor | peak MB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for number in numbers:
        run = _extract(work, number, 1)
        rates = f"{run.cells / run.seconds:.1f} | {run.cells / run.processor:.1f}"
        times = f"{1e3 * run.seconds / run.cells:.1f} | {1e3 * run.processor / run.cells:.1f}"
        print(f"| {run.cells:,} | {run.seconds:.1f} | {rates} | {times} | {run.peak_mb:.0f} |", flush=True)


def show_workers(work: Path, number: int, jobs: Sequence[int], repeats: int) -> None:
    """``fusion extract`` on the same cells with more and more workers; of several runs the fastest."""
    print(f"\n## Workers: `fusion extract --features morphology,texture,colour`, {number:,} cells of 450x450\n")
    print("| workers | s | cells per s | per core | per s of processor | peak MB of the largest process |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for workers in jobs:
        run = min(_extract(work, number, workers) for _ in range(repeats))
        rate = run.cells / run.seconds
        rates = f"{rate:.1f} | {rate / min(workers, os.cpu_count() or 1):.1f} | {run.cells / run.processor:.1f}"
        print(f"| {workers} | {run.seconds:.1f} | {rates} | {run.peak_mb:.0f} |", flush=True)


class Run(NamedTuple):
    """One ``fusion extract``: seconds by the clock and of processor, megabytes of the largest process, cells."""

    seconds: float
    processor: float
    peak_mb: float
    cells: int


def _extract(work: Path, number: int, jobs: int) -> Run:
    """``fusion extract`` into a fresh store."""
    tree = work / f"tree_{number}"
    if not tree.exists():
        synthesize(tree, SyntheticDesign(subjects=4, cells_per_subject=max(1, number // 4)), jobs=0)
    command = [sys.executable, "-m", "fusion", "extract", str(tree), "--features", "morphology,texture,colour"]
    command += ["--jobs", str(jobs), "--json", "--quiet"]
    with tempfile.TemporaryDirectory(dir=work) as store:
        environment = os.environ | ONE_CORE | {"FUSION_CACHE": store}
        # Where it is set, each start compiles every module anew, which says nothing of ours.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        watched = [sys.executable, "-c", WATCH, *command]
        done = subprocess.run(watched, cwd=HERE.parent, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"fusion extract failed: {_last_line(done.stderr)}")
    peak, processor, seconds = done.stdout.split()[-3:]
    megabytes = int(peak) * (1 if sys.platform == "darwin" else 1024) / 1e6
    return Run(float(seconds), float(processor), megabytes, 4 * max(1, number // 4))


if __name__ == "__main__":
    main()
