"""The command line: parse, call one function of ``fusion``, print.

Nothing heavy is imported before a command runs: ``fusion --help`` must answer at once.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fusion.errors import FusionError, UsageError
from fusion.memory import collect_rarely
from fusion.places import place

if TYPE_CHECKING:
    from fusion.datasets import Fault
    from fusion.display import Screen

#: Exit codes: done, failed, wrong use, finished with skipped inputs, interrupted, reader went away.
DONE, FAILED, MISUSED, SKIPPED, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 130, 141

Command = TypeVar("Command", bound=Callable[..., Any])


class _Place(click.ParamType):
    """A path, or the URL of a place in an object store. Which options take a URL is the settings' to say."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path, or a ``Remote``."""
        return place(value)


PATH = _Place()


class _Group(click.Group):
    """Commands in the order in which one needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="fusion-cells", prog_name="fusion")
def fusion() -> None:
    """What tells a leukaemic cell from a healthy one, compared under splits that cannot leak.

    DATA is a C-NMC 2019 tree, a folder of class folders, or a CSV/Parquet table with a column 'path' and any of
    label, subject, source, group, fold, mask, um_per_px. It may be a URL: s3://bucket/cells.

    Exit codes: 0 done, 1 failed, 2 wrong use, 3 done but some pictures were skipped.
    """


def options(*decorators: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several click options as one decorator, shown in the order given."""

    def add(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return add


DATA = options(
    click.argument("data", type=PATH, required=False),
    click.option(
        "--part", type=click.Choice(["train", "preliminary", "final", "all"]), help="Part of a C-NMC release."
    ),
    click.option("--classes", metavar="A,B", help="Only these classes."),
    click.option("--folds", metavar="A,B", help="Only these folds."),
)
FEATURES = options(
    click.option("--features", metavar="A,B", help="Blocks  [default: morphology,texture,colour; cnn with --weights]."),
    click.option("--weights", metavar="W", help="For cnn: a .safetensors file, 'pretrained', or 'random'."),
    click.option("--backbone", metavar="NAME", help="For cnn: any timm model  [default: tf_efficientnetv2_b3]."),
    click.option(
        "--input",
        type=click.Choice(["cell", "cell-on-grey", "field"]),
        help="What a network is shown, cnn and neural: the cell cut out, or what is around it too  [default: cell].",
    ),
)
JOBS = click.option("--jobs", type=int, metavar="N", help="Worker processes  [default: one a core].")
STORE = click.option(
    "--store", type=PATH, help="Feature store, a folder or URL  [default: $FUSION_CACHE, else the cache folder]."
)
SEED = click.option("--seed", type=int, metavar="N", help="Seed of every random choice  [default: 0].")
SPLITS = click.option("--splits", type=int, metavar="K", help="Folds of the cross-validation  [default: 5].")
SEARCH = click.option(
    "--search", is_flag=True, default=None, help="Choose the classifiers' parameters inside each training part."
)
CALIBRATE = click.option(
    "--calibrate",
    type=click.Choice(["none", "temperature", "isotonic"]),
    help="Make probabilities mean what they say, by held-out scores of the training part  [default: none].",
)
THRESHOLD = click.option(
    "--threshold",
    metavar="RULE",
    help="From which probability a cell is positive, chosen inside the training part: balanced-accuracy, "
    "sensitivity:SHARE, or a number  [default: the most probable class].",
)
POSITIVE = click.option("--positive", metavar="CLASS", help="Class that sensitivity is about  [default: all].")
MLFLOW = click.option("--mlflow", metavar="URI", help="Log settings, figures and files to MLflow as well.")

CROSSFIT = click.option(
    "--cnn-crossfit", is_flag=True, default=None, help="Train cnn's network anew in every fold: classifiers.neural."
)
KNOWING = click.option(
    "--allow-leakage", is_flag=True, default=None, help="Take networks that know these cells; stamped."
)


def command(*decorators: Callable[[Any], Any]) -> Callable[[Command], click.Command]:
    """A subcommand with the options every command takes, run so that errors end in one clear message."""

    def make(function: Command) -> click.Command:
        @functools.wraps(function)
        def run(**given: Any) -> None:
            common = {name: given.pop(name) for name in ("as_json", "debug", "quiet", "verbose")}
            _run(function, given, **common)

        return fusion.command(name=function.__name__)(options(*decorators, *_COMMON)(run))

    return make


#: For commands that have settings: all but those which only look at what is there.
CONFIG = options(
    click.option("--config", "file", type=PATH, help="YAML file with settings."),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting, as in the YAML file."),
)
_COMMON = (
    click.option("--json", "as_json", is_flag=True, help="Machine-readable result on standard output."),
    click.option("--debug", is_flag=True, help="Show where an error comes from."),
    click.option("-q", "--quiet", is_flag=True, help="No progress, no notes."),
    click.option("-v", "--verbose", is_flag=True, help="Tell more."),
)


def _run(
    function: Callable[..., Any], given: dict[str, Any], *, as_json: bool, debug: bool, quiet: bool, verbose: bool
) -> None:
    from fusion import processes
    from fusion.display import Screen

    is_first = processes.is_first()
    quiet = quiet or not is_first
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING
    logging.getLogger("fusion").setLevel(level)
    screen = Screen(as_json=as_json, quiet=quiet)
    try:
        if processes.count() > 1 and function.__name__ != "train":
            raise UsageError(
                "only fusion train works in several processes",
                found=f"{processes.count()}, started by torchrun",
                do="Start fusion by itself.",
            )
        with screen:
            faults = function(screen, **given)
        screen.faults(faults or ())
        sys.stdout.flush()
    except FusionError as error:
        if debug:
            raise
        if not is_first and isinstance(error, UsageError):  # the same in all processes, and said once
            processes.let_first_speak()
        else:
            click.echo(f"fusion {function.__name__}: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("interrupted; what was measured is kept, the same command goes on from there", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader has gone; leave without another attempt to write to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except Exception as error:
        if debug or isinstance(error, click.ClickException):
            raise
        click.echo(
            f"fusion {function.__name__}: {type(error).__name__}: {error}\n"
            "  This is a bug in Fusion. Run the command again with --debug and report what it prints.",
            err=True,
        )
        sys.exit(FAILED)
    sys.exit(SKIPPED if faults else DONE)


def _cnn(weights: str | None, backbone: str | None) -> dict[str, Any]:
    return {"cnn": {"weights": weights, "backbone": backbone}}


def _cells(faults: int) -> str:
    return f"{faults} skipped" if faults else "none skipped"


@command(
    click.argument("out", type=PATH, required=False),
    click.option("--subjects", type=int, metavar="N", help="Half of them leukaemic  [default: 24]."),
    click.option("--cells", type=int, metavar="N", help="Cells of each subject  [default: 20]."),
    click.option("--laboratories", type=int, metavar="K", help="K laboratories, each with other stain and camera."),
    click.option("--class-effect", type=float, metavar="X", help="Multiplies the classes' differences  [default: 1]."),
    click.option("--subject-effect", type=float, metavar="X", help="Multiplies the subjects' differences."),
    SEED,
    JOBS,
    CONFIG,
)
def synthesize(screen: Screen, file: Path | None, settings: tuple[str, ...], *, out: Path | None, **given: Any) -> None:
    """Make a C-NMC-shaped data set with known truth in OUT."""
    from fusion.config import SynthesizeConfig, build_config
    from fusion.synthetic import SyntheticDesign, synthesize

    config = build_config(SynthesizeConfig, file=file, settings=settings, options={"output": out, **given})
    design = SyntheticDesign(
        subjects=config.subjects,
        cells_per_subject=config.cells,
        seed=config.seed,
        class_effect=config.class_effect,
        subject_effect=config.subject_effect,
        folds=config.folds,
        laboratories=config.laboratories,
    )
    synthesize(config.output, design, lambda done, total: screen.progress("painting", done, total, 0), jobs=config.jobs)
    count = config.subjects * config.cells * max(1, config.laboratories)
    each = f" in each of {config.laboratories} laboratories" if config.laboratories else ""
    screen.line(f"{count} cells of {config.subjects} subjects{each} in {config.output}, truth in truth.csv")
    screen.json({"output": str(config.output), "cells": count, "subjects": config.subjects})


@command(
    DATA,
    click.option("--overlays", type=PATH, help="Write contact sheets of the outlines found here."),
    click.option("--shift", is_flag=True, default=None, help="Tell how far each source lies from the others."),
    click.option("-o", "--output", type=PATH, help="With --shift: draw the sources side by side in this folder."),
    JOBS,
    STORE,
    SEED,
    CONFIG,
)
def inspect(screen: Screen, file: Path | None, settings: tuple[str, ...], **given: Any) -> tuple[Fault, ...]:
    """Count classes and subjects, find bad files and leaks.

    Prints counts by class, subject and fold, unreadable files, identical pictures (also across subjects, folds and
    labels), and what a random split would leak.
    """
    from fusion.config import InspectConfig, build_config
    from fusion.inspection import inspect

    config = build_config(InspectConfig, file=file, settings=settings, options=given)
    found = inspect(config, screen.progress)
    _notes(screen, found.dataset.notes)
    screen.line(f"{config.data}: {found.summary}")
    for line in found.lines():
        screen.line(f"  {line}")
    screen.json(found.to_json())
    return found.faults


@command(
    DATA,
    FEATURES,
    click.option("--export", type=PATH, help="Write the table (.parquet, .csv or .h5ad)."),
    click.option("--faults", type=PATH, metavar="CSV", help="Write the skipped pictures: file, stage, reason."),
    click.option("--scheduler", metavar="ADDR", help="Measure on a Dask cluster: tcp://host:port."),
    click.option("--log", type=PATH, metavar="JSONL", help="Add what happens to this file, one JSON object a line."),
    JOBS,
    STORE,
    CONFIG,
)
def extract(
    screen: Screen, file: Path | None, settings: tuple[str, ...], *, weights: str | None, backbone: str | None,
    **given: Any,
) -> tuple[Fault, ...]:  # fmt: skip
    """Measure every cell once and keep the features in the store.

    Stopped by Ctrl-C, killed, or out of disk, it goes on where it was: run the same command again.
    """
    from fusion.config import ExtractConfig, build_config
    from fusion.datasets import write_faults
    from fusion.errors import UsageError
    from fusion.journal import Journal
    from fusion.parts import build_blocks, extract_blocks
    from fusion.results import fault_row
    from fusion.store import FeatureStore
    from fusion.table import check_export
    from fusion.training import read_dataset

    options = {**given, "extractors": _cnn(weights, backbone)}
    config = build_config(ExtractConfig, file=file, settings=settings, options=options)
    if config.export is not None:
        check_export(config.export)
    chosen = build_blocks(config)
    if parts := [block.name for block in chosen if block.part]:
        raise UsageError("families are measured and kept whole", found=", ".join(parts), do="Name the family alone.")
    journal = Journal(config.log) if config.log is not None else None
    dataset = read_dataset(config, screen.progress).select(config.classes, config.folds, config.sources)
    _notes(screen, dataset.notes)
    store = FeatureStore(config.store)
    found = extract_blocks(
        dataset, chosen, store,
        jobs=config.jobs, scheduler=config.scheduler, progress=screen.progress, journal=journal,
    )  # fmt: skip
    if config.export is not None:
        found.save(config.export)
    if config.faults is not None:
        write_faults(config.faults, found.faults, dataset.root)
    blocks = found.widths
    screen.table(
        ["block", "features", "measured now", "from the store"],
        [[name, str(width), str(found.computed[name]), str(found.reused[name])] for name, width in blocks.items()],
    )
    screen.line(f"{len(found)} cells, {_cells(len(found.faults))}; store {store.root}")
    if config.export is not None:
        screen.line(f"table written to {config.export}")
    screen.json(
        {
            "cells": len(found),
            "blocks": blocks,
            "computed": found.computed,
            "reused": found.reused,
            "store": str(store.root),
            "export": str(config.export) if config.export else None,
            "faults": [fault_row(fault, dataset.root) for fault in found.faults],
        }
    )
    return found.faults


@command(
    DATA,
    click.option("--classifier", metavar="NAME", help="svm, xgb, logreg, neural, or a plug-in  [default: svm]."),
    FEATURES,
    click.option("-o", "--output", type=PATH, help="Folder of the model."),
    SPLITS,
    click.option("--scheduler", metavar="ADDR", help="xgb: grow the trees on a Dask cluster: tcp://host:port."),
    click.option("--holdout", is_flag=True, default=None, help="Judge on one of the folds alone."),
    click.option("--resume", is_flag=True, default=None, help="neural: go on with an interrupted training."),
    click.option("--show-batch", type=PATH, metavar="PNG", help="neural: draw what the network sees, then train."),
    click.option("--show-attention", type=PATH, metavar="PNG", help="neural: draw where the trained network looks."),
    click.option("--tensorboard", type=PATH, metavar="DIR", help="neural: write loss and score of every epoch."),
    CROSSFIT,
    KNOWING,
    SEARCH,
    CALIBRATE,
    THRESHOLD,
    POSITIVE,
    MLFLOW,
    JOBS,
    STORE,
    SEED,
    CONFIG,
)
def train(
    screen: Screen, file: Path | None, settings: tuple[str, ...], *, weights: str | None, backbone: str | None,
    **given: Any,
) -> tuple[Fault, ...]:  # fmt: skip
    """Judge a classifier on held-out subjects, fit it, save it.

    The figures come from folds by subject; the model saved in OUTPUT is then fitted on all cells. neural trains the
    whole network on the pictures; --features none leaves the handcrafted blocks out.
    """
    from fusion.config import TrainConfig, build_config
    from fusion.processes import is_first
    from fusion.training import train

    options = {**given, "extractors": _cnn(weights, backbone)}
    config = build_config(TrainConfig, file=file, settings=settings, options=options)
    trained = train(config, screen.progress)
    if not is_first():
        return trained.result.faults
    screen.result(trained.result)
    screen.line(f"model in {config.output}, fitted on all {len(trained.result.cells)} cells")
    screen.json({"model": str(config.output), **trained.result.to_json(trained.dataset.root)})
    return trained.result.faults


@command(
    click.argument("model", type=PATH, required=False),
    DATA,
    click.option("-o", "--output", type=PATH, help="Folder of the result."),
    click.option("--allow-leakage", is_flag=True, default=None, help="Score cells the model was trained on; stamped."),
    JOBS,
    STORE,
    SEED,
    CONFIG,
)
def evaluate(screen: Screen, file: Path | None, settings: tuple[str, ...], **given: Any) -> tuple[Fault, ...]:
    """Score labelled cells of new subjects with a MODEL.

    Refuses cells and subjects that the model was trained on.
    """
    from fusion.config import EvaluateConfig, build_config
    from fusion.prediction import evaluate

    config = build_config(EvaluateConfig, file=file, settings=settings, options=given)
    result = evaluate(config, screen.progress)
    screen.result(result)
    screen.line(f"page {config.output / 'report.html'}, figures, scores.parquet, table.csv and result.json")
    screen.json(result.to_json(place(result.facts["data"])))
    return result.faults


@command(
    click.argument("model", type=PATH),
    click.argument("images", type=PATH, nargs=-1, required=True),
    click.option("--csv", type=PATH, help="Write the predictions as CSV."),
    click.option("--parquet", type=PATH, help="Write the predictions as Parquet."),
    click.option("--explain", type=PATH, metavar="DIR", help="Explain every cell there, as fusion explain does."),
    JOBS,
    STORE,
    CONFIG,
)
def predict(
    screen: Screen, file: Path | None, settings: tuple[str, ...], *, images: tuple[Path, ...], **given: Any
) -> tuple[Fault, ...]:
    """Class and probability of every cell in IMAGES.

    IMAGES are pictures, folders of pictures, C-NMC trees or tables, in any number. Where subjects are known, each is
    also called as a whole: by the mean probability of its cells, and by their majority.
    """
    from fusion.config import PredictConfig, build_config
    from fusion.prediction import predict

    options = {"images": list(images), **given}
    config = build_config(PredictConfig, file=file, settings=settings, options=options)
    found = predict(config, screen.progress)
    screen.predictions(found, {"csv": config.csv, "parquet": config.parquet})
    if config.explain is not None:
        screen.note(f"page {config.explain / 'explanations.html'}, and a figure a cell beside it")
    return found.faults


@command(
    click.argument("model", type=PATH),
    click.argument("images", type=PATH, nargs=-1, required=True),
    click.option("-o", "--output", type=PATH, help="Folder for the figures and the page."),
    click.option("--data", type=PATH, help="The training data, to show the cells most like each."),
    click.option("--top", type=int, metavar="N", help="Features shown for a class, and as many against  [default: 6]."),
    JOBS,
    STORE,
    CONFIG,
)
def explain(
    screen: Screen, file: Path | None, settings: tuple[str, ...], *, images: tuple[Path, ...], **given: Any
) -> tuple[Fault, ...]:
    """Show why a MODEL calls each cell in IMAGES what it does.

    A figure a cell (SVG and PNG), and one page: outlines, where a network looks, the features that speak for and
    against, with the training cells' values, and what each block adds.
    """
    from fusion.config import ExplainConfig, build_config
    from fusion.explaining import explain

    options = {"images": list(images), **given}
    config = build_config(ExplainConfig, file=file, settings=settings, options=options)
    explained = explain(config, screen.progress)
    for note in explained.predictions.notes:
        screen.note(note)
    for each in explained.shown:
        screen.line(f"{each.found.name}: {each.found.verdict}")
    screen.line(f"page {explained.page}, and a figure a cell beside it")
    screen.json({"page": str(explained.page), "explanations": [each.to_json() for each in explained.shown]})
    return explained.faults


@command(
    click.argument("model", type=PATH),
    click.option("--host", metavar="ADDRESS", help="Where to listen  [default: 127.0.0.1, this machine only]."),
    click.option("--port", type=int, metavar="N", help="0 takes any free one  [default: 8000]."),
    CONFIG,
)
def serve(screen: Screen, file: Path | None, settings: tuple[str, ...], **given: Any) -> None:
    """A page and an API on this machine that show what a MODEL says of pictures.

    Nothing that is sent is stored. Runs until interrupted; needs the extra 'serve'.
    """
    from importlib.util import find_spec

    from fusion.config import ServeConfig, build_config
    from fusion.errors import UsageError

    config = build_config(ServeConfig, file=file, settings=settings, options=given)
    if not all(map(find_spec, ("fastapi", "uvicorn", "python_multipart", "prometheus_client"))):
        raise UsageError(
            "fusion serve needs FastAPI, uvicorn and prometheus-client", do="pip install 'fusion-cells[serve]'."
        )
    from fusion.serving import serve

    serve(config, lambda address: screen.line(f"{address}  (stop with Ctrl+C)"))


@command(
    DATA,
    click.option("--classifiers", "compare", metavar="A,B", help="Classifiers  [default: svm,xgb,logreg]."),
    FEATURES,
    click.option(
        "--subsets",
        metavar="RULE",
        help="Sets of blocks: all, alone, leave-one-out, sampled, or named ones: a+b,c  [default: all, above 6 blocks "
        "sampled].",
    ),
    click.option("-o", "--output", type=PATH, help="Folder of the result."),
    click.option(
        "--split",
        type=click.Choice(
            [
                "grouped",
                "source-stratified",
                "leave-one-source-out",
                "leave-one-subject-out",
                "official",
                "monte-carlo",
                "random",
            ]
        ),
        help="'random' leaks, and is stamped so  [default: grouped].",
    ),
    SPLITS,
    click.option("--repeats", type=int, metavar="R", help="Deal the folds R times  [default: 1; monte-carlo: 20]."),
    SEARCH,
    CALIBRATE,
    THRESHOLD,
    click.option("--show-leak", is_flag=True, default=None, help="Tell by how much a random split would flatter."),
    click.option("--test", type=PATH, metavar="DATA", help="Learn from all of DATA, judge on this external test set."),
    click.option("--test-part", type=click.Choice(["train", "preliminary", "final", "all"]), help="Part of the test."),
    CROSSFIT,
    KNOWING,
    POSITIVE,
    MLFLOW,
    JOBS,
    STORE,
    SEED,
    CONFIG,
)
def ablate(
    screen: Screen, file: Path | None, settings: tuple[str, ...], *, weights: str | None, backbone: str | None,
    **given: Any,
) -> tuple[Fault, ...]:  # fmt: skip
    """Compare all subsets of feature blocks on held-out cells.

    Every subset of the blocks with every classifier, on the same folds by subject.
    """
    from fusion.ablation import ablate
    from fusion.config import AblateConfig, build_config
    from fusion.differences import finding_lines

    options = {**given, "extractors": _cnn(weights, backbone)}
    config = build_config(AblateConfig, file=file, settings=settings, options=options)
    result = ablate(config, screen.progress)
    screen.result(result)
    for line in finding_lines(result):
        screen.line(line)
    screen.line(f"page {config.output / 'report.html'}, figures, table.csv, table.tex, scores.parquet, result.json")
    screen.json(result.to_json(place(result.facts["data"])))
    return result.faults


@command(
    click.argument("results", type=PATH, nargs=-1),
    click.option("-o", "--output", type=PATH, help="Write the comparison (.csv)."),
    SEED,
    CONFIG,
)
def compare(
    screen: Screen, file: Path | None, settings: tuple[str, ...], *, results: tuple[Path, ...], **given: Any
) -> None:
    """Compare two or more RESULTS on the same cells.

    Entries that every result has (same features, same classifier) are compared with those of the first; where there
    are none, the best with the best. Differences are those of the first result minus another.
    """
    from fusion.comparison import compare_results
    from fusion.config import CompareConfig, build_config
    from fusion.files import write_atomically

    options = {"results": list(results), **given}
    config = build_config(CompareConfig, file=file, settings=settings, options=options)
    found = compare_results(config)
    _notes(screen, found.notes)
    screen.table(found.columns, found.lines(), found.title)
    if config.output is not None:
        write_atomically(config.output, found.to_frame().to_csv(index=False).encode())
        screen.line(f"written to {config.output}")
    screen.json(found.to_json())


@command(
    click.argument("model", type=PATH),
    click.option("--onnx", type=PATH, metavar="F", help="File to write."),
    click.option("--check", type=PATH, metavar="DATA", help="Compare file and model on these cells too."),
    JOBS,
    STORE,
    CONFIG,
)
def export(screen: Screen, file: Path | None, settings: tuple[str, ...], **given: Any) -> tuple[Fault, ...]:
    """Write MODEL as one ONNX file.

    From the feature table to the probability; for neural, from the picture that the network sees. The file is run
    beside the model and is not written where their probabilities differ. docs/export.md tells inputs and outputs.
    """
    from fusion.config import ExportConfig, build_config
    from fusion.export import export_onnx

    config = build_config(ExportConfig, file=file, settings=settings, options=given)
    found = export_onnx(config, screen.progress)
    for check in found.differences:
        screen.line(
            f"{check.rows} cells of {check.on}: probabilities differ by up to {check.probability:.1e}, "
            f"{check.labels} called otherwise"
        )
    for way, values in (("in", found.inputs), ("out", found.outputs)):
        for name, kind in values.items():
            screen.line(f"  {way}  {name}: {kind}")
    screen.line(f"{_size(found.size_bytes)} written to {found.path}")
    screen.json(found.to_json())
    return found.faults


@command(click.argument("out", type=PATH, required=False), SEED, JOBS, CONFIG)
def demo(screen: Screen, file: Path | None, settings: tuple[str, ...], *, out: Path | None, **given: Any) -> None:
    """Run the whole way on synthetic cells, offline.

    Synthesise, measure, compare, show a leak, train and predict in OUT  [default: fusion-demo]: two minutes on two
    cores.
    """
    from fusion.config import DemoConfig, build_config
    from fusion.demo import run_demo

    config = build_config(DemoConfig, file=file, settings=settings, options={"output": out, **given})
    story = run_demo(config, screen.progress)
    for line in story.lines:
        screen.line(line)
    screen.json({"lines": story.lines, **story.figures})


@command()
def plugins(screen: Screen) -> None:
    """List installed extractors and classifiers."""
    from fusion.plugins import CLASSIFIERS, EXTRACTORS, registered

    rows = [
        [name, group.rpartition(".")[2].rstrip("s"), target, origin]
        for group in (EXTRACTORS, CLASSIFIERS)
        for name, target, origin in registered(group)
    ]
    screen.table(["name", "kind", "class", "from"], rows)
    screen.json([dict(zip(("name", "kind", "class", "from"), row, strict=True)) for row in rows])


@command(click.argument("action", type=click.Choice(["ls", "verify", "compact", "gc"])), STORE)
def cache(screen: Screen, *, action: str, store: Path | None) -> None:
    """List (ls), check (verify), merge (compact) or sweep out (gc) the feature store.

    verify reads every shard and sets aside those that are no longer as they were written: the next extract measures
    their cells again. compact merges small shards. gc deletes features of extractor versions that this Fusion no
    longer computes, damaged shards, and what killed processes left behind.
    """
    from fusion import upkeep
    from fusion.store import FeatureStore, StoreError

    features = FeatureStore(store)
    if action == "ls":
        held = list(upkeep.held(features))
        screen.table(
            ["extractor", "version", "fingerprint", "cells", "no cell", "shards", "size"],
            [
                [h.extractor, h.version, h.fingerprint, str(h.cells), str(h.faults), str(h.shards), _size(h.size_bytes)]
                for h in held
            ],
        )
        screen.line(f"{len(held)} extractor versions in {features.root}")
        screen.json([{**vars(h), "version": h.version} for h in held])
    elif action == "verify":
        count, damaged = upkeep.verify(features)
        screen.json({"shards": count, "damaged": [str(path) for path in damaged]})
        if damaged:
            raise StoreError(
                f"{len(damaged)} of {count} shards in {features.root} were damaged",
                found=", ".join(path.name for path in damaged[:3]),
                do=f"They now lie in {damaged[0].parent}; the next extract measures their cells again.",
            )
        screen.line(f"{count} shards in {features.root}, all as they were written")
    elif action == "compact":
        before, after = upkeep.compact_all(features)
        screen.line(f"{before} shards in {features.root} are now {after}")
        screen.json({"before": before, "after": after})
    else:
        removed, freed = upkeep.collect_garbage(features)
        for line in removed:
            screen.line(line)
        screen.line(f"{_size(freed)} freed in {features.root}")
        screen.json({"removed": removed, "freed": freed})


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _notes(screen: Screen, notes: tuple[str, ...]) -> None:
    for note in notes:
        screen.note(note)


def main() -> None:
    """Entry point of the ``fusion`` command."""
    collect_rarely()
    fusion(prog_name="fusion")


if __name__ == "__main__":
    main()
